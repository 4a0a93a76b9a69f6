"""The figure of a comparison: contrasts of methods above, fidelity to the teacher below."""

import textwrap
from functools import partial

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from distillation.reporting.comparison import Compared, fidelity_metrics
from distillation.reporting.comparison_text import reference_name
from distillation.reporting.drawing import add_title
from distillation.reporting.metric import Metric, values_of
from distillation.reporting.results import Results

# Of the figure, in inches: its width, a line of text, and a panel without its rows.
WIDTH, LINE, PANEL = 8, 0.22, 0.75
# Letters of a method's name that stand in one line beside the figure, and of the title above it.
NAME, TITLE = 28, 70
# Where the tracks of a row lie: each seed, the interval over seeds, the one over images.
TRACKS = (-0.24, 0, 0.24)


def draw_row(
    axes: Axes, row: int, values: list[float], mean: float, ends: tuple[float, float], colour: str
) -> None:
    """Draw each seed as a small dot, and their mean with its interval, where there is one."""
    axes.plot(values, [row + TRACKS[0]] * len(values), "o", color=colour, markersize=4, alpha=0.6)
    axes.plot(ends, [row + TRACKS[1]] * 2, color=colour, linewidth=2.6, solid_capstyle="butt")
    axes.plot(mean, row + TRACKS[1], "o", color=colour, markersize=8)


def wrapped(name: str) -> str:
    """Break a long name into lines."""
    return "\n".join(textwrap.wrap(name, NAME))


def name_rows(axes: Axes, names: list[str]) -> None:
    """Write the names beside the rows, the first on top."""
    axes.set(yticks=range(len(names)), yticklabels=names, ylim=(max(1, len(names)) - 0.5, -0.5))
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)


def draw_contrasts(axes: Axes, compared: Compared, names: list[str]) -> None:
    """Draw each contrast with its intervals, and the range that is of no interest."""
    least = compared.metric.smallest_difference
    axes.axvspan(-least, least, color="0.92", zorder=0)
    for position, row in enumerate(compared.findings):
        values = compared.seeds_of(row)["difference"].tolist()
        colour = compared.results.palette[row.method]
        draw_row(axes, position, values, row.difference, (row.low, row.high), colour)
        track = [position + TRACKS[2]] * 2
        axes.plot((row.images_low, row.images_high), track, color=colour, linewidth=1.2)
    if not compared.findings:
        axes.text(0.5, 0.5, "no two methods are compared", transform=axes.transAxes, ha="center")
    axes.axvline(0, color="0.3", linewidth=1)
    what = compared.metric.label[0].lower() + compared.metric.label[1:]
    axes.set_xlabel(f"difference in {what}, {compared.metric.step}".rstrip(", "))
    name_rows(axes, names)


def draw_fidelity(axes: Axes, fidelity: pd.DataFrame, metric: Metric, results: Results) -> None:
    """Draw one measure of how each student matches its teacher."""
    numbers = fidelity[["method", "mean", "low", "high"]].itertuples(index=False)
    for position, (model, mean, *ends) in enumerate(numbers):
        values = values_of(results.groups[model], metric.name)
        draw_row(axes, position, values, mean, (ends[0], ends[1]), results.palette[model])
    axes.set_xlabel(f"{metric.label}, {metric.unit}".rstrip(", "))
    name_rows(axes, [wrapped(results.labels[model]) for model in fidelity["method"]])


def panel_height(names: list[str]) -> float:
    """Return the height of a panel in inches.

    All its rows are as high as the longest name wants, and no lower than their tracks.
    """
    lines = max([2, *(name.count("\n") + 1 for name in names)])
    return PANEL + max(1, len(names)) * LINE * (0.9 + lines)


def draw_figure(compared: Compared) -> Figure:
    """Draw the differences of the pairs above, the first measure of fidelity, if any, below."""
    results, labels, fidelity = compared.results, compared.results.labels, compared.fidelity
    first = [*fidelity_metrics(results).values()][:1]
    pairs = [
        f"{wrapped(labels[row.method])}\nvs {wrapped(reference_name(row, labels))}"
        for row in compared.findings
    ]
    heights = [panel_height(pairs)]
    for metric in first:
        fidelity = fidelity.loc[fidelity["measure"] == metric.name]
        heights.append(panel_height([wrapped(labels[model]) for model in fidelity["method"]]))
    title = "\n".join(textwrap.wrap(results.title, TITLE))
    figure, grid = plt.subplots(
        len(heights), 1, height_ratios=heights, squeeze=False,
        figsize=(WIDTH, sum(heights) + 2 * LINE + LINE * (2 + title.count("\n"))),
    )  # fmt: skip
    draw_contrasts(grid[0, 0], compared, pairs)
    for metric in first:
        draw_fidelity(grid[1, 0], fidelity, metric, results)
    level, line = f"{compared.level} interval", partial(Line2D, [], [], color="0.3")
    handles = [
        line(marker="o", markersize=4, linestyle="", label="one seed"),
        line(marker="o", markersize=8, linewidth=2.6, label=f"mean, {level}"),
        line(linewidth=1.2, label=f"{level} over images alone"),
        Patch(color="0.92", label="of no interest"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    add_title(figure, title)
    return figure
