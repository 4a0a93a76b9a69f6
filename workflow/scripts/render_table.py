r"""Put the results of one experiment into one table.

Inputs: metrics.json and history.csv of every trained model. Outputs: a CSV with a row per quantity
and mean, standard deviation (n - 1) and n for each model; the same as Markdown and as a page
(.html) for reading; a summary (.json: of each model the measures that two versions are compared by,
fractions and nats, means over seeds); and the provenance of all that went into the table (.json).
Training quantities are those of the last epoch, means over its images in training mode.

Example:
    python workflow/scripts/render_table.py --title "Cluttered digits" \
        --run teacher 0 t/metrics.json t/history.csv --run kd 0 kd/metrics.json kd/history.csv \
        --csv table.csv --markdown table.md --page table.html --summary summary.json \
        --provenance provenance.json
"""

import argparse
import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pandas as pd

from distillation.arguments import Parser, run
from distillation.files import replacing
from distillation.pages import page
from distillation.provenance import describe_step
from distillation.results import Run, add_run_flags, by_model, label, read_runs
from distillation.tables import table_lines

# Packages whose version can change the table itself.
PACKAGES = ("numpy", "pandas")

# Fields of metrics.json that the summary has.
SUMMARY = ("top1_accuracy", "cross_entropy", "expected_calibration_error", "teacher_agreement")


def last(name: str, factor: float = 1) -> Callable[[Run], float | None]:
    """Make the reader of a history column's last value, times `factor`."""

    def read(run: Run) -> float | None:
        return float(run.history[name].to_numpy()[-1]) * factor if name in run.history else None

    return read


def metric(name: str, factor: float = 1) -> Callable[[Run], float | None]:
    """Make the reader of a value of metrics.json, times `factor`."""

    def read(run: Run) -> float | None:
        value = run.metrics.get(name)
        return None if value is None else value * factor

    return read


def weighted_distillation(run: Run) -> float | None:
    """Return the distillation term as the last epoch's total holds it: alpha x T^2 x KL."""
    loss = last("distillation")(run)
    return None if loss is None else loss * run.training["arguments"]["alpha"]


def attention_loss(run: Run) -> float | None:
    """Return the attention-transfer loss without beta: the sum over the groups."""
    columns = [name for name in run.history if name.startswith("attention_")]
    return float(run.history[columns].to_numpy()[-1].sum()) if columns else None


def weighted_attention(run: Run) -> float | None:
    """Return the attention-transfer term as the last epoch's total holds it: beta times the sum."""
    loss = attention_loss(run)
    return None if loss is None else loss * float(run.history["beta"].to_numpy()[-1])


@dataclass(frozen=True)
class Row:
    """A row of the table: how it is called, written and read."""

    quantity: str
    unit: str
    decimals: int
    read: Callable[[Run], float | None]
    # Counted, not measured: the same for all seeds.
    counted: bool = False


ROWS = [
    Row("Parameters", "", 0, metric("parameters"), counted=True),
    Row("Multiply-accumulates", "million", 1, metric("multiply_accumulates", 1e-6), counted=True),
    Row("Training loss (total)", "", 4, last("loss")),
    Row("Training cross-entropy", "nats", 4, last("cross_entropy")),
    Row("KD term, alpha x T^2 x KL", "", 4, weighted_distillation),
    Row("AT term, beta x AT loss", "", 4, weighted_attention),
    Row("AT loss", "", 6, attention_loss),
    Row("Training accuracy", "%", 2, last("train_accuracy", 100)),
    Row("Test (validation) accuracy", "%", 2, metric("top1_accuracy", 100)),
    Row("Test top-5 accuracy", "%", 2, metric("top5_accuracy", 100)),
    Row("Test cross-entropy", "nats", 4, metric("cross_entropy")),
    Row("Expected calibration error", "%", 2, metric("expected_calibration_error", 100)),
    Row("Agreement with the teacher", "%", 2, metric("teacher_agreement", 100)),
    Row("KL from the teacher", "nats", 4, metric("teacher_divergence")),
    Row("Training time", "s", 0, lambda run: float(run.history["seconds"].to_numpy().sum())),
]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(__doc__)
    add_run_flags(parser)
    parser.add_argument("--title", required=True, help="of the experiment")
    parser.add_argument("--csv", type=Path, required=True, help="output, .csv")
    parser.add_argument("--markdown", type=Path, required=True, help="output, .md")
    parser.add_argument("--page", type=Path, required=True, help="output, .html")
    parser.add_argument("--summary", type=Path, required=True, help="output, .json")
    parser.add_argument("--provenance", type=Path, required=True, help="output, .json")
    return parser.parse_args(argv)


def summarise(row: Row, group: list[Run]) -> tuple[float, float, int]:
    """Return mean, standard deviation (n - 1) and n of a quantity over the seeds of a model.

    A quantity that a model doesn't have has n = 0; a deviation needs two seeds. Both are NaN then.
    """
    values = [value for value in map(row.read, group) if value is not None]
    mean = fmean(values) if values else math.nan
    return mean, stdev(values) if len(values) > 1 else math.nan, len(values)


def build_table(runs: list[Run]) -> pd.DataFrame:
    """Return quantity, unit, and <model>_mean, <model>_std, <model>_n for each model."""
    table = []
    for row in ROWS:
        cells: dict[str, object] = {"quantity": row.quantity, "unit": row.unit}
        for model, group in by_model(runs).items():
            names = (f"{model}_mean", f"{model}_std", f"{model}_n")
            cells |= dict(zip(names, summarise(row, group), strict=True))
        table.append(cells)
    return pd.DataFrame(table)


def format_cell(row: Row, mean: float, deviation: float, count: int) -> str:
    """Write mean ± standard deviation; the mean alone of what is counted, or of one seed."""
    if not count:
        return "-"
    if row.counted or count == 1:
        return f"{mean:,.{row.decimals}f}"
    return f"{mean:,.{row.decimals}f} ± {deviation:,.{row.decimals}f}"


def format_markdown(runs: list[Run], title: str) -> str:
    """Write the table as Markdown, with what it was made from."""
    groups = by_model(runs)
    head = [f"{label(model)} (n = {len(group)})" for model, group in groups.items()]
    rows = []
    for row in ROWS:
        name = f"{row.quantity} ({row.unit})" if row.unit else row.quantity
        rows.append(
            [name, *(format_cell(row, *summarise(row, group)) for group in groups.values())]
        )
    lines = [f"# {title}", "", *table_lines(["", *head], rows)]
    epochs = "; ".join(f"{label(model)} {len(group[0].history)}" for model, group in groups.items())
    lines += [
        "",
        f"Mean ± standard deviation over n seeds. Last epoch, never the best. Epochs: {epochs}. "
        f"Test images: {runs[0].metrics['images']:,}. "
        f"Trained on: {listed(run.training['hardware'] for run in runs)}. "
        f"Precision {listed(run.training['engine']['precision'] for run in runs)}. "
        f"torch {listed(run.training['packages']['torch'] for run in runs)}. "
        f"Data sha256 {runs[0].training['data_sha256'][:12]}. "
        f"Commit {listed(commit(run.training) for run in runs)}.",
    ]
    return "\n".join(lines) + "\n"


def listed(values: Iterable[str]) -> str:
    """Return the different values, sorted, with commas between them."""
    return ", ".join(sorted(set(values)))


def commit(provenance: dict[str, Any]) -> str:
    """Return the git commit, shortened, and whether there were uncommitted changes."""
    if provenance["commit"] is None:
        return "unknown"
    return provenance["commit"][:12] + (" with uncommitted changes" if provenance["dirty"] else "")


def summarise_models(runs: list[Run]) -> dict[str, dict[str, float]]:
    """Return, for each model, n, mean measures over seeds and the deviation of the accuracy."""
    summary = {}
    for model, group in by_model(runs).items():
        values = {
            name: [run.metrics[name] for run in group]
            for name in SUMMARY
            if name in group[0].metrics
        }
        summary[model] = {"n": len(group)} | {name: fmean(each) for name, each in values.items()}
        if len(group) > 1:
            summary[model]["top1_accuracy_std"] = stdev(values["top1_accuracy"])
    return summary


def main(argv: list[str] | None = None) -> None:
    """Read the runs and write the table."""
    arguments = parse_args(argv)
    runs = read_runs(arguments)
    table = build_table(runs)
    text = format_markdown(runs, arguments.title)
    provenance = {
        "table": describe_step(argparse.Namespace(title=arguments.title), PACKAGES),
        "runs": [
            {
                "model": run.model,
                "seed": run.seed,
                "training": run.training,
                "evaluation": run.metrics["provenance"],
            }
            for run in runs
        ],
    }
    with (
        replacing(arguments.csv) as csv_file,
        replacing(arguments.markdown) as markdown_file,
        replacing(arguments.page) as page_file,
        replacing(arguments.summary) as summary_file,
        replacing(arguments.provenance) as provenance_file,
    ):
        table.to_csv(csv_file, index=False)
        markdown_file.write_text(text)
        page_file.write_text(page(arguments.title, text))
        summary_file.write_text(json.dumps(summarise_models(runs), indent=2) + "\n")
        provenance_file.write_text(json.dumps(provenance, indent=2) + "\n")
    print(text, flush=True)


if __name__ == "__main__":
    run(main)
