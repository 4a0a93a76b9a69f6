"""The rows of an experiment's table: what a model counts, learnt and measures.

Training quantities are those of the last epoch, means over its images in training mode.
"""

import math
from collections.abc import Callable, Iterable
from itertools import chain
from statistics import fmean, stdev
from typing import Any, NamedTuple, cast

import pandas as pd

from distillation.reporting.metric import Metric, first_of, metrics_of, value_of
from distillation.reporting.results import Results
from distillation.reporting.tables import table_lines
from distillation.reporting.trained import Run, training_jobs
from distillation.settings import plugins
from distillation.settings.base import TermSettings

Reader = Callable[[Run], float | None]
BEST_EPOCH = "Best test epoch, not used"
BEST_MINUS_LAST = "Best minus last"
# Classes that are read one by one in a table.
MOST_CLASSES = 20


class Row(NamedTuple):
    """A row of the table: how it is called, written and read, and whether all seeds have one."""

    quantity: str
    unit: str
    decimals: int
    read: Reader
    counted: bool = False

    @property
    def head(self) -> str:
        """What stands at its beginning."""
        return f"{self.quantity} ({self.unit})" if self.unit else self.quantity


def rows_of(results: Results) -> list[Row]:
    """Return the rows that the runs have: terms and metrics in order of first appearance."""
    rows = [
        Row("Parameters", "", 0, lambda run: run.metrics["parameters"], True),
        Row("Multiply-accumulates", "million", 1,
            lambda run: run.metrics["multiply_accumulates"] * 1e-6, True),
        Row("Checkpoint", "MB", 1, lambda run: run.metrics["checkpoint_bytes"] * 1e-6, True),
        Row("Training loss (total)", "", 4, last("loss")),
        Row("Training cross-entropy", "nats", 4, last("cross_entropy")),
    ]  # fmt: skip
    for term in first_of(run.terms for run in results.runs):
        rows.append(Row(weighted_name(term), "", 4, last(term, f"{term}_weight")))
        rows.append(Row(f"{term_label(term)} loss", "", 6, last(term)))
    return [
        *rows,
        Row("Training accuracy", "%", 2, last("train_accuracy", factor=100)),
        *map(metric_row, metrics_of(results).values()),
        *best_rows(results),
        Row("Training time", "s", 0, of_history(lambda history: history["seconds"].sum())),
        Row("Latency, one image", "ms", 2, lambda run: run.metrics["latency_milliseconds"]),
    ]


def best_rows(results: Results) -> list[Row]:
    """Return what the best test epoch would have reported, and how much that flatters the last."""

    def gain(history: pd.DataFrame) -> float:
        return history["test_accuracy"].max() - history["test_accuracy"].iloc[-1]

    best = of_history(lambda history: history["test_accuracy"].max(), 100)
    return [
        # Chosen by the test images themselves.
        Row(results.worded(BEST_EPOCH), "%", 2, best),
        Row(BEST_MINUS_LAST, "points", 2, of_history(gain, 100)),
    ]


def of_history(value: Callable[[pd.DataFrame], Any], factor: float = 1) -> Reader:
    """Make the reader of a history's value, times `factor`; a training elsewhere has none."""
    return lambda run: None if run.history.empty else float(value(run.history)) * factor


def last(*names: str, factor: float = 1) -> Reader:
    """Make the reader of the product of columns in the last epoch, if a history has them."""
    read = of_history(lambda history: math.prod(history[name].iloc[-1] for name in names), factor)
    return lambda run: read(run) if {*names} <= {*run.history} else None


def metric_row(metric: Metric) -> Row:
    """Return the row of a metric."""
    return Row(metric.label, metric.unit, metric.decimals, lambda run: value_of(run, metric.name))


def term_label(term: str) -> str:
    """Return what a term is called in tables and figures."""
    return cast(type[TermSettings], plugins.declared("terms", term)).label


def weighted_name(term: str) -> str:
    """Return what the part of a term in the total is called."""
    return f"{term_label(term)} term, weight x {term_label(term)}"


def summarise(row: Row, group: list[Run]) -> tuple[float, float, int]:
    """Return mean, standard deviation (n - 1) and n of a quantity over the seeds of a model.

    A quantity that a model doesn't have has n = 0; a deviation needs two seeds. Both are NaN then.
    """
    values = [value for value in map(row.read, group) if value is not None]
    mean = fmean(values) if values else math.nan
    return mean, stdev(values) if len(values) > 1 else math.nan, len(values)


def build_table(results: Results) -> pd.DataFrame:
    """Return quantity, unit, and <model>_mean, <model>_std, <model>_n for each model."""
    names = [f"{model}_{what}" for model in results.groups for what in ("mean", "std", "n")]
    rows = [
        (
            row.quantity,
            row.unit,
            *chain(*(summarise(row, group) for group in results.groups.values())),
        )
        for row in rows_of(results)
    ]
    return pd.DataFrame(rows, columns=["quantity", "unit", *names])


def format_cell(row: Row, mean: float, deviation: float, count: int) -> str:
    """Write mean ± standard deviation; the mean alone of what is counted, or of one seed."""
    if not count:
        return "-"
    spread = "" if row.counted or count == 1 else f" ± {deviation:,.{row.decimals}f}"
    return f"{mean:,.{row.decimals}f}{spread}"


def format_rows(results: Results, rows: list[Row]) -> list[str]:
    """Write rows as a Markdown table with a column per model."""
    groups, labels = results.groups, results.labels
    head = [f"{labels[model]} (n = {len(group)})" for model, group in groups.items()]
    cells = [
        [row.head, *(format_cell(row, *summarise(row, group)) for group in groups.values())]
        for row in rows
    ]
    return table_lines(["", *head], cells)


def joint_words(runs: list[Run]) -> list[str]:
    """Return the sentence on times of students that trained together, if any did."""
    trained = [run for run in runs if not run.history.empty]
    if len(training_jobs(trained)) == len(trained):
        return []
    return ["Students that trained together have the time of their job, not one of their own."]


def format_table(results: Results) -> str:
    """Write the table as Markdown, with what it was made from."""
    groups, labels, runs = results.groups, results.labels, results.runs
    epochs = "; ".join(f"{labels[model]} {group[0].epochs}" for model, group in groups.items())
    trained = [run.training for run in runs if not run.history.empty]
    split = "Held-out training" if results.held_out else "Test"
    told = [
        "Mean ± standard deviation over n seeds. Last epoch, never the best.",
        f"Epochs: {epochs}.",
        *joint_words(runs),
        f"{split} images: {runs[0].metrics['images']:,}.",
        f"Trained on: {listed(each['hardware'] for each in trained)}.",
        f"Latency on: {listed(run.evaluation['hardware'] for run in runs)}.",
        f"Precision {listed(each['engine']['precision'] for each in trained)}.",
        f"torch {listed(each['packages']['torch'] for each in trained)}.",
        f"Data sha256 {runs[0].training['data_sha256'][:12]}.",
        f"Commit {listed(commit(run.training) for run in runs)}.",
    ]
    table = format_rows(results, rows_of(results))
    lines = [f"# {results.title}", "", *table, "", " ".join(told), "", *format_classes(results), ""]
    return "\n".join(lines)


def format_classes(results: Results) -> list[str]:
    """Write the accuracy of each class, or of many classes those that the first model knows least.

    A class without an image isn't listed.
    """
    first = next(iter(results.groups.values()))
    rows = [class_row(name) for name, accuracy in first[0].metrics["per_class_accuracy"].items()
            if accuracy is not None]  # fmt: skip
    lines = ["## Accuracy by class", "", "Percent of the class's images.", ""]
    if len(rows) > MOST_CLASSES:
        label = results.labels[first[0].model]
        lines[2] += (
            f" Of {len(rows)} classes the {MOST_CLASSES} on which {label} is lowest; metrics.json "
            f"of each network has all."
        )
        rows = sorted(rows, key=lambda row: summarise(row, first)[0])[:MOST_CLASSES]
    return [*lines, *format_rows(results, rows)]


def class_row(name: str) -> Row:
    """Return the row of a class: its accuracy."""

    def read(run: Run) -> float | None:
        fraction = run.metrics["per_class_accuracy"][name]
        return None if fraction is None else 100 * fraction

    return Row(name, "", 2, read)


def listed(values: Iterable[str]) -> str:
    """Return the different values, sorted, with commas between them."""
    return ", ".join(sorted({*values}))


def hardware(provenance: dict[str, Any]) -> str:
    """Return what a network was trained on, with threads and precision."""
    threads = provenance["arguments"]["threads"]
    return f"{provenance['hardware']}, {threads} thread(s), {provenance['engine']['precision']}"


def commit(provenance: dict[str, Any]) -> str:
    """Return the git commit, shortened, and whether there were uncommitted changes."""
    changed = " with uncommitted changes" * bool(provenance["dirty"])
    return provenance["commit"][:12] + changed if provenance["commit"] else "unknown"


def summarise_models(results: Results) -> dict[str, dict[str, float]]:
    """Return of each model n, and of each metric mean and deviation over seeds, in its unit."""
    summary: dict[str, dict[str, float]] = {}
    for model, group in results.groups.items():
        found: dict[str, float] = {"n": len(group)}
        for name, metric in metrics_of(results).items():
            found[name], found[f"{name}_std"], _ = summarise(metric_row(metric), group)
        summary[model] = {name: value for name, value in found.items() if not math.isnan(value)}
    return summary
