"""Curves of training: means over seeds, epoch by epoch."""

from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from distillation.reporting.drawing import add_title
from distillation.reporting.metric import first_of
from distillation.reporting.quantities import weighted_name
from distillation.reporting.results import Results
from distillation.reporting.trained import Run

Groups = dict[str, list[Run]]
Column = Callable[[Run], pd.Series]
# Title, name of the y axis, models and what of each is drawn.
Panel = tuple[str, str, Groups, Column]


def draw_curves(axes: Axes, groups: Groups, column: Column, results: Results) -> None:
    """Draw the mean over seeds of a history column, shaded from the lowest to the highest seed."""
    for model, group in groups.items():
        epochs, colour = group[0].history["epoch"], results.palette[model]
        values = np.stack([column(run).to_numpy() for run in group])
        # A run of one epoch has no line to show.
        marker = "o" if len(epochs) == 1 else None
        axes.plot(
            epochs, values.mean(axis=0), color=colour, marker=marker, label=results.labels[model]
        )
        if len(group) > 1:
            axes.fill_between(
                epochs, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.2,
                linewidth=0,
            )  # fmt: skip
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def named(name: str, factor: float = 1) -> Column:
    """Make the reader of a history column, times `factor`."""
    return lambda run: pd.Series(run.history[name]) * factor


def weighted(term: str) -> Column:
    """Make the reader of a term as the total holds it."""
    return lambda run: pd.Series(run.history[term] * run.history[f"{term}_weight"])


def curve_figure(panels: list[Panel], title: str, results: Results) -> Figure:
    """Draw panels side by side, or in rows of two or three from four on."""
    columns = min(len(panels), 2 if len(panels) == 4 else 3)
    rows = -(-len(panels) // columns)
    figure, grid = plt.subplots(rows, columns, figsize=(5.2 * columns, 3.9 * rows), squeeze=False)
    shown: dict[str, Artist] = {}
    for axes, (name, unit, groups, column) in zip(grid.flat, panels, strict=False):
        draw_curves(axes, groups, column, results)
        axes.set(title=name, ylabel=unit)
        handles, names = axes.get_legend_handles_labels()
        shown |= dict(zip(names, handles, strict=True))
    for axes in list(grid.flat)[len(panels) :]:
        axes.set_visible(False)
    seeds = max((len(group) for *_, groups, _ in panels for group in groups.values()), default=1)
    spread = "; line: mean over seeds, band: lowest to highest" if seeds > 1 else ""
    add_title(figure, title + spread)
    if len(shown) > 1:
        order = [name for name in results.labels.values() if name in shown]
        handles = [shown[name] for name in order]
        figure.legend(handles, order, loc="outside lower center", ncols=len(order))
    return figure


def all_curves(results: Results) -> dict[str, Figure]:
    """Draw the curve figures; a model that was trained elsewhere has no curves."""
    trained = {
        model: group for model, group in results.groups.items() if not group[0].history.empty
    }
    students = {model: group for model, group in trained.items() if model in results.students}
    accuracy = named("train_accuracy", 100)
    figures = {}
    for model, group in trained.items():
        # Of those that have no teacher, totals are of one kind.
        if not group[0].training.get("teacher"):
            one = {model: group}
            panels = [
                ("Loss (total)", "nats", one, named("loss")),
                ("Training accuracy", "%", one, accuracy),
            ]
            figures[f"curves_{model}"] = curve_figure(
                panels, f"{results.title}: {results.labels[model]}", results
            )
    terms: list[Panel] = []
    for term in first_of(run.terms for group in students.values() for run in group):
        having = {model: group for model, group in students.items() if term in group[0].terms}
        terms.append((weighted_name(term), "", having, weighted(term)))
    figures["curves_students"] = curve_figure(
        [
            *terms,
            ("Total loss (differs in kind between methods)", "", students, named("loss")),
            ("Training accuracy", "%", students, accuracy),
        ],
        f"{results.title}: students",
        results,
    )
    split = "held-out training images" if results.held_out else "test split"
    figures["curves_test"] = curve_figure(
        [
            (results.worded("Test accuracy"), "%", trained, named("test_accuracy", 100)),
            (results.worded("Test cross-entropy"), "nats", trained, named("test_cross_entropy")),
        ],
        f"{results.title}: {split}",
        results,
    )
    return figures
