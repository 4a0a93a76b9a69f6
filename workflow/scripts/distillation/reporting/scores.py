"""Figures of what was measured on the images: every metric, and what is taken for what."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from distillation.reporting.drawing import add_title, broken, panel_grid
from distillation.reporting.metric import Metric, metrics_of, values_of
from distillation.reporting.results import Results

# Letters of a model's name that fit below its place.
NAME = 11
# Classes whose names fit beside a confusion matrix.
MOST_NAMES = 20


def metrics_figure(results: Results) -> Figure:
    """Draw every metric: a dot for each seed, a bar at the mean."""
    metrics = metrics_of(results)
    # Room for the models, and for the longest title.
    longest = max(len(metric.label) for metric in metrics.values())
    width = max(1.2 + 1.15 * len(results.groups), 0.1 * longest)
    names = [below(results, model) for model in results.groups]
    height = 2.8 + 0.2 * max(name.count("\n") for name in names)
    figure, grid = panel_grid(len(metrics), min(len(metrics), 2), (width, height), 0.6)
    for axes, metric in zip(grid, metrics.values(), strict=True):
        draw_metric(axes, metric, results)
    add_title(figure, f"{results.title}; dot: one seed, bar: mean")
    return figure


def draw_metric(axes: Axes, metric: Metric, results: Results) -> None:
    """Draw a metric of all models that have it."""
    for position, (model, group) in enumerate(results.groups.items()):
        colour = results.palette[model]
        values = values_of(group, metric.name)
        if values:
            mean = float(np.mean(values))
            axes.hlines(mean, position - 0.25, position + 0.25, color=colour, linewidth=3)
            axes.plot([position] * len(values), values, "o", color=colour, alpha=0.6)
            place = (position + 0.3, mean)
            axes.annotate(metric.number(mean), place, va="center", color=colour, fontsize=10)
    names = [below(results, model) for model in results.groups]
    axes.set_xticks(range(len(names)), names)
    axes.set_xlim(-0.5, len(names) - 0.3)
    axes.set(title=metric.label, ylabel=metric.unit)
    axes.grid(axis="x", visible=False)


def below(results: Results, model: str) -> str:
    """Return what stands below a model's place: its name, in lines, and how many seeds it has."""
    return f"{broken(results.labels[model], NAME)}\nn = {len(results.groups[model])}"


def confusion_figure(results: Results) -> Figure:
    """Draw a confusion matrix per model, in percent of a label's images, seeds added up.

    Colours follow the square root of the share, or the few confusions couldn't be seen.
    """
    groups = results.groups
    names = list(results.runs[0].metrics["per_class_accuracy"])
    legible = len(names) <= MOST_NAMES
    # Room for names that stand upright below and lie to the left.
    room = 0.09 * max(map(len, names)) if legible else 0
    figure, grid = plt.subplots(
        1, len(groups), figsize=(3.7 * len(groups) + 0.8 + room, 4.6 + room), squeeze=False,
        sharey=True,
    )  # fmt: skip
    for axes, (model, group) in zip(grid.flat, groups.items(), strict=True):
        counts = np.sum([run.metrics["confusion_matrix"] for run in group], axis=0)
        shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        axes.imshow(shares, cmap="cividis", norm=PowerNorm(0.5, 0, 100))
        if legible:
            axes.set_xticks(range(len(names)), names, rotation=90)
            axes.set_yticks(range(len(names)), names)
        axes.set(title=results.labels[model], xlabel="predicted")
        axes.grid(visible=False)
    grid[0, 0].set_ylabel("label")
    figure.colorbar(
        grid[0, 0].images[0], ax=list(grid.flat), label="% of the label's images", shrink=0.7
    )
    add_title(figure, f"{results.title}: confusion matrices, all seeds")
    return figure
