"""Whether the printed numbers of a study come out of what is kept of its networks."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from distillation.reporting.comparison import compare, compare_seeds, measure_fidelity
from distillation.reporting.comparison_text import p_text
from distillation.reporting.contrasts import make_contrasts
from distillation.reporting.metric import find_metric, metrics_of
from distillation.reporting.quantities import format_cell, rows_of, summarise
from distillation.reporting.results import Results
from distillation.reporting.study import Study
from distillation.reporting.tables import table_lines
from distillation.reporting.trained import Run, check_has, read_table
from distillation.settings.base import checked
from distillation.settings.reports import Comparison

NOT_KEPT = (
    "The networks' predictions weren't kept, so the numbers of this study can't be computed again "
    "from what is kept."
)
# The numbers of a contrast, in the metric's unit; p-values; and the contrast of a seed.
AMOUNTS = (
    "difference", "low", "high", "low_90", "high_90", "images_low", "images_high", "detectable",
)  # fmt: skip
ENDS = ("mean", "low", "high")
P_VALUES = ("p_value", "p_holm")
CONTRAST = ("method", "reference", "contrast")
# By run as messages name it: its metrics.json, and of each metric the value for each image.
Measured = Mapping[str, tuple[dict[str, Any], dict[str, np.ndarray]]]


class Number(NamedTuple):
    """A number of a study: which, as it was printed, and as it is now."""

    what: str
    printed: str
    again: str


def again_lines(study: Study, measured: Measured) -> list[str]:
    """Say which printed numbers come out again; `measured` is empty where nothing was kept."""
    if not measured:
        return [NOT_KEPT, ""]
    numbers = [*numbers_of(study, measured)]
    other = [number for number in numbers if number.printed != number.again]
    said = (
        f"Computed again from the logits that are kept of each network, in float16 where it "
        f"reaches: {len(numbers):,} numbers of table, comparison and fidelity, of which "
        f"{len(other):,} are printed otherwise."
    )
    told = [*table_lines(["", "printed", "again"], map(list, other)), ""] if other else []
    return [said, "", *told]


def numbers_of(study: Study, measured: Measured) -> Iterator[Number]:
    """Compute the numbers of table.csv, comparison.csv, comparison_seeds.csv and fidelity.csv."""
    check_has(f"{study.folder / 'study.json'}:", study.about, ("comparison", "own_training"))
    settings = checked(Comparison, study.about["comparison"], "comparison")
    results = read_results(study, measured)
    yield from table_numbers(study, results)
    yield from comparison_numbers(study, results, measured, settings)
    fidelity = measure_fidelity(results, settings.confidence)
    metrics = metrics_of(results)

    def write(row: Any) -> dict[str, str]:
        metric = metrics.get(row["measure"])
        return {name: metric.number(row[name]) for name in ENDS} if metric else {}

    yield from beside(study, "fidelity.csv", fidelity, ("method", "measure"), write)


def read_results(study: Study, measured: Measured) -> Results:
    """Return the runs of a study as tables want them, with metrics as they are computed again."""
    histories = dict([*read_table(study.folder / "history.csv").groupby(["model", "seed"])])
    runs = []
    for one in (one for group in study.runs.values() for one in group):
        model, seed = one["model"], one["seed"]
        record = {"provenance": one["evaluation"], "training_provenance": one["training"]}
        history = histories.get((model, seed), pd.DataFrame())
        # Columns of other models' terms.
        own = history.drop(columns=["model", "seed"], errors="ignore").dropna(axis=1, how="all")
        content, _ = measured[f"{model}, seed {seed}"]
        runs.append(Run(model, seed, content | record, own))
    labels = {model: study.label(model) for model in study.runs}
    teachers = [model for model, group in study.runs.items() if group[0]["role"] == "teacher"]
    own_training = study.about["own_training"]
    return Results(study.about["title"], runs, labels, (*teachers,), own_training)


def table_numbers(study: Study, results: Results) -> Iterator[Number]:
    """Compute the cells of the table; a row that this version doesn't have comes out as a dash."""
    table = read_table(study.folder / "table.csv").set_index("quantity")
    rows = rows_of(results)
    for quantity in table.index.difference([row.quantity for row in rows]):
        yield Number(quantity, "a row", "-")
    for row in rows:
        for model, group in results.groups.items():
            if row.quantity in table.index:
                cells = (table.loc[row.quantity, f"{model}_{end}"] for end in ("mean", "std", "n"))
                printed = format_cell(row, *cells)  # type: ignore[arg-type]  # pandas' scalars
                again = format_cell(row, *summarise(row, group))
                yield Number(f"{row.head}, {results.labels[model]}", printed, again)


def comparison_numbers(
    study: Study, results: Results, measured: Measured, settings: Comparison
) -> Iterator[Number]:
    """Compute each contrast with its intervals, p-values and verdict, and that of each seed."""
    metric = find_metric(results, settings.metric)
    table = read_table(study.folder / "comparison.csv")
    pairs = table.loc[table["contrast"] == "difference", ["method", "reference"]].to_numpy()
    images = {run: each[metric.name] for run, (_, each) in measured.items() if metric.name in each}
    contrasts = make_contrasts(pairs.tolist(), results, metric.name, images)
    findings = compare(contrasts, metric.smallest_difference, settings)

    def write(row: Any) -> dict[str, str]:
        texts = {name: metric.number(row[name]) for name in AMOUNTS}
        texts |= {name: p_text(row[name]) for name in P_VALUES}
        return texts | {"verdict": row["verdict"]}

    found = pd.DataFrame([row._asdict() for row in findings])
    yield from beside(study, "comparison.csv", found, CONTRAST, write)

    def write_seed(row: Any) -> dict[str, str]:
        return {"difference": metric.number(row["difference"])}

    seeds = compare_seeds(contrasts)
    yield from beside(study, "comparison_seeds.csv", seeds, (*CONTRAST, "seed"), write_seed)


def beside(
    study: Study, name: str, found: pd.DataFrame, key: tuple[str, ...],
    write: Callable[[Any], dict[str, str]],
) -> Iterator[Number]:  # fmt: skip
    """Put the numbers of a study's file beside those that were found, row by row."""
    printed, again = (
        {
            f"{name.removesuffix('.csv')}, {' '.join(str(row[part]) for part in key)}, {what}": text
            for _, row in table.iterrows()
            for what, text in write(row).items()
        }
        for table in (read_table(study.folder / name), found)
    )
    for what in printed | again:
        yield Number(what, printed.get(what, "-"), again.get(what, "-"))
