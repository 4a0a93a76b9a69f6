"""One table across experiments: a row for each pair of networks, a column for each method."""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

import pandas as pd

from distillation.reporting.quantities import BEST_EPOCH, BEST_MINUS_LAST, commit, hardware, listed
from distillation.reporting.results import TEACHER, held_out_words, label
from distillation.reporting.tables import table_lines
from distillation.reporting.trained import check_has, read_json, read_table
from distillation.settings.base import MetricSettings
from distillation.settings.plugins import declared

# What is read of the files of an experiment, and of figures that others published.
COMPARED = ("method", "reference", "contrast", "difference", "low", "high", "verdict",
            "smallest_difference")  # fmt: skip
PAIR = ("data", "teacher", "student", "method")
PUBLISHED = (*PAIR, "value", "epoch", "source")
NOTHING = {"value": math.nan, "epoch": "", "source": ""}
ENDS = ("mean", "std", "n")
NUMBERS = ("difference", "low", "high", "smallest_difference")
ACCURACY = cast(type[MetricSettings], declared("metrics", "top1_accuracy")).label
# What is shown of a difference; any other verdict of comparison.csv is that nothing is.
SHOWN = ("above", "below", "equivalent")


@dataclass(frozen=True)
class Cell:
    """A method of an experiment; NaN and "" are what it doesn't have.

    Means are over seeds, in the unit of the metric; `best` is the mean of each seed's best test
    epoch, which isn't used. The difference is to the baseline. `pair` stands at the beginning of
    its experiment's row; a method may have another teacher than the experiment.
    """

    experiment: str
    title: str
    pair: str
    teacher: str
    student: str
    method: str
    label: str
    seeds: int
    epochs: int
    mean: float
    deviation: float
    best: float
    difference: float
    low: float
    high: float
    smallest_difference: float
    verdict: str
    held_out: bool
    published: float
    published_epoch: str
    source: str
    data_sha256: str
    hardware: str
    commit: str


def read_cells(
    name: str, data: str, folder: Path, metric: str, published: pd.DataFrame
) -> list[Cell]:
    """Read the methods of a finished experiment from its tables.

    Args:
        name: of the experiment.
        data: name of its data set, as `published` has it.
        folder: its results.
        metric: label of the metric, a row of table.csv; of held-out images, as these are called.
        published: figures of others, with the columns PUBLISHED.

    Raises:
        FileNotFoundError: a table isn't there.
        ValueError: a table lacks a column, or the metric.
    """
    table = read_table(folder / "table.csv").set_index("quantity")
    held_out = held_out_words(BEST_EPOCH) in table.index
    quantity = held_out_words(metric) if held_out else metric
    check_has(f"{folder / 'table.csv'}:", table.T, (quantity,))
    compared = read_table(folder / "comparison.csv")
    check_has(f"{folder / 'comparison.csv'}:", compared, COMPARED)
    compared = compared.query("reference == 'baseline' and contrast == 'difference'")
    findings = {row["method"]: row for row in compared.to_dict("records")}
    content = read_json(folder / "provenance.json")
    about = content["table"]["arguments"]
    runs: dict[str, dict[str, Any]] = {each["model"]: each for each in content["runs"]}
    titles = {model: each["training"]["network_title"] for model, each in runs.items()}
    common = titles.get(TEACHER, "")
    theirs = {tuple(row[key] for key in PAIR): row for row in published.to_dict("records")}
    # Histories know the accuracy of each epoch, and no other metric.
    gain = BEST_MINUS_LAST if metric == ACCURACY else ""
    cells = []
    for model, one in runs.items():
        if one["role"] == "teacher":
            continue
        mean, deviation, seeds = (table.loc[quantity, f"{model}_{end}"] for end in ENDS)
        found = findings.get(model, {})
        numbers = {name: found.get(name, math.nan) for name in NUMBERS}
        teacher, student = titles.get(f"{model}_{TEACHER}", common), titles[model]
        pair = f"{about['title']}: {common} → {student}" if common else about["title"]
        pair += ", on held-out images" * held_out
        value = NOTHING
        # They are accuracies.
        if metric == ACCURACY:
            value = theirs.get((data, teacher, student, model), NOTHING)
        cell = Cell(
            experiment=name, title=about["title"], pair=pair, teacher=teacher, student=student,
            method=model, label=label(model, about["labels"]), seeds=int(seeds),
            epochs=one["training"]["arguments"]["epochs"], mean=mean, deviation=deviation,
            best=mean + table[f"{model}_mean"].get(gain, math.nan),
            verdict=found.get("verdict", ""), held_out=held_out, **numbers,
            published=value["value"], published_epoch=value["epoch"], source=value["source"],
            data_sha256=one["training"]["data_sha256"], hardware=hardware(one["training"]),
            commit=commit(one["training"]),
        )  # fmt: skip
        cells.append(cell)
    return cells


def tabulate(cells: list[Cell]) -> pd.DataFrame:
    """Return a row for each method of each experiment."""
    return pd.DataFrame(cells, columns=[field.name for field in fields(Cell)])


def number(value: float, decimals: int, sign: str = "") -> str:
    """Write a number, one that rounds to 0 as 0, or a dash where there is none."""
    return "-" if math.isnan(value) else f"{value:{sign}z.{decimals}f}"


def grid(cells: list[Cell], write: Callable[[Cell], str]) -> list[str]:
    """Write one table: a row for each experiment, a column for each method."""
    rows: dict[str, dict[str, str]] = {}
    for cell in cells:
        # Experiments may have one title and one pair.
        row = rows.setdefault(cell.experiment, {"": cell.pair})
        row[cell.label] = write(cell)
    labels = [*dict.fromkeys(cell.label for cell in cells)]
    lines = [[row.get(name, "-") for name in ("", *labels)] for row in rows.values()]
    return [*table_lines(["", *labels], lines), ""]


def last_epoch(cell: Cell, decimals: int) -> str:
    """Write mean ± deviation at the last epoch, and over how many seeds."""
    spread = "" if math.isnan(cell.deviation) else f" ± {number(cell.deviation, decimals)}"
    return f"{number(cell.mean, decimals)}{spread} (n = {cell.seeds})"


def best_epoch(cell: Cell, decimals: int) -> str:
    """Write what the best test epoch would have said, and by how much that is more."""
    if math.isnan(cell.best):
        return "-"
    return f"{number(cell.best, decimals)} ({number(cell.best - cell.mean, decimals, '+')})"


def to_baseline(cell: Cell, decimals: int) -> str:
    """Write the difference to the baseline with its interval and what is shown of it."""
    if math.isnan(cell.difference):
        return "-"
    said = cell.verdict if cell.verdict in SHOWN else "can't be said"
    difference, low, high = (
        number(value, decimals, "+") for value in (cell.difference, cell.low, cell.high)
    )
    return f"{difference}: {said}" if low == "-" else f"{difference} ({low} to {high}): {said}"


def beside_published(cell: Cell, decimals: int, sources: list[str]) -> str:
    """Write ours and theirs, with the source's number and how theirs was chosen."""
    if math.isnan(cell.published):
        return "-"
    source, theirs = sources.index(cell.source) + 1, number(cell.published, decimals)
    return f"{number(cell.mean, decimals)}; {theirs} ({cell.published_epoch}, {source})"


def made_from(cells: list[Cell]) -> list[str]:
    """Write of each experiment what its students were trained on, how long, and with what."""
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.experiment, []).append(cell)
    rows = [
        [
            group[0].pair, listed(cell.data_sha256[:12] for cell in group),
            listed(str(cell.epochs) for cell in group), listed(cell.hardware for cell in group),
            listed(cell.commit for cell in group),
        ]
        for group in groups.values()
    ]  # fmt: skip
    return table_lines(["", "Data sha256", "Epochs", "Hardware", "Commit"], rows)


def format_overview(cells: list[Cell], metric: type[MetricSettings]) -> str:
    """Write the tables of a metric as Markdown."""

    def table(write: Callable[..., str], *more: Any) -> list[str]:
        return grid(cells, lambda cell: write(cell, metric.decimals, *more))

    named = f"{metric.label}, {metric.unit}".rstrip(", ")
    margins = tabulate(cells)["smallest_difference"].dropna().unique()
    interest = " or ".join(f"{margin:g}" for margin in margins)
    lines = ["# Across experiments", "", f"{named}, at the last epoch: mean ± standard"]
    lines[-1] += " deviation over n seeds."
    lines += ["", *table(last_epoch), "## Differences to the baseline", ""]
    lines += [
        "With the interval over seeds and images measured on that comparison.md of each experiment "
        f"explains. Above and below mean by more than {interest or 'what is of interest'}, "
        "equivalent means nearer than that; each experiment's questions are corrected for their "
        "number, and what isn't shown isn't refuted by that. Where one teacher taught, it is said "
        "of that teacher.",
        "", *table(to_baseline),
    ]  # fmt: skip
    lines += ["## What the best test epoch would have said", ""]
    lines += [
        "Chosen by the images measured on, so not a result; in brackets how much it is above the "
        "last epoch.",
        "", *table(best_epoch),
    ]  # fmt: skip
    sources = [*dict.fromkeys(cell.source for cell in cells if cell.source)]
    if sources:
        lines += ["## Beside what others published", ""]
        lines += ["Ours; theirs, with the epoch that they report and the source.", ""]
        lines += table(beside_published, sources)
        lines += [f"{place}. {source}" for place, source in enumerate(sources, 1)] + [""]
    lines += ["## How it was made", "", *made_from(cells), ""]
    return "\n".join(lines)
