"""Curves of training: means over seeds, epoch by epoch."""

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from distillation.reporting.drawing import add_title, panel_grid
from distillation.reporting.metric import first_of
from distillation.reporting.quantities import weighted_name
from distillation.reporting.results import Results
from distillation.reporting.trained import Run

Groups = dict[str, list[Run]]
# Columns of the history whose product is drawn, and a factor.
Values = tuple[list[str], float]
# Title, name of the y axis, models and what of each is drawn.
Panel = tuple[str, str, Groups, Values]
LOSS: Values = (["loss"], 1)
# Of the legend, in a row below each panel.
NAMES = 3


def draw_curves(axes: Axes, groups: Groups, drawn: Values, results: Results) -> None:
    """Draw the mean over seeds of what is drawn, shaded from the lowest to the highest seed."""
    columns, factor = drawn
    for model, group in groups.items():
        epochs, colour = group[0].history["epoch"], results.palette[model]
        values = np.stack([run.history[columns].prod(axis=1) * factor for run in group])
        # A run of one epoch has no line to show.
        marker, name = "o" if len(epochs) == 1 else None, results.labels[model]
        axes.plot(epochs, values.mean(axis=0), color=colour, marker=marker, label=name)
        if len(group) > 1:
            low, high = values.min(axis=0), values.max(axis=0)
            axes.fill_between(epochs, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def curve_figure(panels: list[Panel], what: str, results: Results) -> Figure:
    """Draw panels side by side, or in rows of two or three from four on."""
    columns = min(len(panels), 2 if len(panels) == 4 else 3)
    figure, grid = panel_grid(len(panels), columns, (5.2, 3.9))
    shown: dict[str, Artist] = {}
    for axes, (name, unit, groups, drawn) in zip(grid, panels, strict=True):
        draw_curves(axes, groups, drawn, results)
        axes.set(title=name, ylabel=unit)
        handles, names = axes.get_legend_handles_labels()
        shown |= dict(zip(names, handles, strict=True))
    seeds = max((len(group) for *_, groups, _ in panels for group in groups.values()), default=1)
    spread = "; line: mean over seeds, band: lowest to highest" if seeds > 1 else ""
    add_title(figure, f"{results.title}: {what}{spread}")
    if len(shown) > 1:
        order = [name for name in results.labels.values() if name in shown]
        handles = [shown[name] for name in order]
        figure.legend(
            handles, order, loc="outside lower center", ncols=min(len(order), NAMES * columns)
        )
    return figure


def all_curves(results: Results) -> dict[str, Figure]:
    """Draw the curve figures; a model that was trained elsewhere has no curves."""
    trained = {
        model: group for model, group in results.groups.items() if not group[0].history.empty
    }
    students = {model: group for model, group in trained.items() if model in results.students}

    def accuracy(groups: Groups) -> Panel:
        return "Training accuracy", "%", groups, (["train_accuracy"], 100)

    figures = {}
    for model, group in trained.items():
        # Of those that have no teacher, totals are of one kind.
        if not group[0].training.get("teacher"):
            one = {model: group}
            figures[f"curves_{model}"] = curve_figure(
                [("Loss (total)", "nats", one, LOSS), accuracy(one)], results.labels[model], results
            )
    terms: list[Panel] = []
    for term in first_of(run.terms for group in students.values() for run in group):
        having = {model: group for model, group in students.items() if term in group[0].terms}
        terms.append((weighted_name(term), "", having, ([term, f"{term}_weight"], 1)))
    total = ("Total loss (differs in kind between methods)", "", students, LOSS)
    panels = [*terms, total, accuracy(students)]
    figures["curves_students"] = curve_figure(panels, "students", results)
    tested: list[Panel] = [
        (results.worded("Test accuracy"), "%", trained, (["test_accuracy"], 100)),
        (results.worded("Test cross-entropy"), "nats", trained, (["test_cross_entropy"], 1)),
    ]
    split = "held-out training images" if results.held_out else "test split"
    figures["curves_test"] = curve_figure(tested, split, results)
    return figures
