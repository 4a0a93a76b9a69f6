"""Figures of what was measured on attention maps, one for each claim.

Rows of panels; in a panel, a row for each method. Filled markers are trained networks, hollow ones
their untrained controls, grey ones what neither is a method's; lines are intervals.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from distillation.reporting.claims import EVEN, POINT, orders
from distillation.reporting.drawing import add_title
from distillation.reporting.intervals import Interval
from distillation.reporting.measurements import LATE, Key, Methods, every_stage, students_of

WIDTH = 8  # inches, so that text is legible at 800 pixels
GREY = "0.45"


class Mark(NamedTuple):
    """What is drawn for each method in a panel: which value, and how."""

    name: str
    metric: str
    marker: str = "o"
    untrained: bool = False
    # Controls are grey, what belongs to a method has its colour.
    control: bool = False


class Panel(NamedTuple):
    """Values of all methods on one axis, with a line at a value that means something."""

    name: str
    marks: Sequence[Mark]
    stage: int = LATE
    line: float | None = None


Rows = list[list[Panel]]
Draw = Callable[[Methods], Rows]


def trained(metric: str, controls: Mapping[str, str] | None = None) -> list[Mark]:
    """Return marks of a metric, of its untrained control, and of grey controls by their names."""
    grey = [
        Mark(name, f"{metric}_{suffix}", marker, control=True)
        for (name, suffix), marker in zip((controls or {}).items(), "x+dv", strict=False)
    ]
    return [Mark("trained", metric), Mark("untrained control", metric, untrained=True), *grey]


def each_stage(
    name: str, marks: Sequence[Mark], methods: Methods, line: float | None = None
) -> list[Panel]:
    """Return a panel for each stage."""
    return [Panel(f"stage {n}: {name}", marks, n, line) for n in every_stage(methods)]


def on_object(_: Methods) -> Rows:
    """Show what the late maps have to do with the object, beside the controls."""
    controls = {"chance": "chance", "fixed centre": "centre", "other images' masks": "other"}
    names = {"object_energy": "energy ratio", "pointing_game": "pointing game", "object_iou": "IoU"}
    return [
        [
            Panel(name, trained(each, controls), line=EVEN if each == "object_energy" else None)
            for each, name in names.items()
        ]
    ]


def abstraction(methods: Methods) -> Rows:
    """Show what ties maps to the image, over the stages, and what removing cells by them does."""
    names = ("by the map", "random", "centre first", "Sobel", "Grad-CAM")
    curves = [
        [
            Mark(name, metric, marker, control=marker != "o")
            for name, metric, marker in zip(names, orders(curve), "ox+dv", strict=True)
        ]
        for curve in ("deletion", "insertion")
    ]
    return [
        each_stage("image-dependence", trained("image_dependence"), methods),
        each_stage("Sobel correlation", trained("sobel_spearman"), methods),
        [Panel("deletion, probability", curves[0]), Panel("insertion, probability", curves[1])],
    ]


def stages(metric: str, name: str, line: float | None = None, **controls: str) -> Draw:
    """Return what shows a metric at each stage, with a line and with grey controls by their names.

    Controls are named by what their metrics end with.
    """
    marks = trained(metric, {words: suffix for suffix, words in controls.items()})
    return lambda methods: [each_stage(name, marks, methods, line)]


# Of each claim: what its figure shows, in words and in panels.
FIGURES: dict[str, tuple[str, Draw]] = {
    "concentration": (
        f"how much of the map has attention, under {POINT} is a point",
        stages("effective_area", "effective area", POINT),
    ),
    "border": (
        "attention on the border, 1 is an even map",
        stages("border", "border ratio", EVEN, constant="constant input", noise="noise"),
    ),
    "object": ("attention on the object, last stage", on_object),
    "abstraction": ("what the maps have to do with image and prediction", abstraction),
    "transfer": (
        "students' maps against the teacher's",
        stages("teacher_spearman", "rank correlation", shuffled="other images"),
    ),
}


def draw_panel(
    axes: Axes, panel: Panel, values: Mapping[Key, Interval], methods: Methods, named: bool
) -> None:
    """Draw several metrics for each method, one method below the other."""
    step = 0.7 / len(panel.marks)
    for position, (name, method) in enumerate(methods.items()):
        for row, mark in enumerate(panel.marks):
            found = values.get(Key(name, mark.metric, panel.stage, mark.untrained))
            if found is None:
                continue
            place = position + step * (row - (len(panel.marks) - 1) / 2)
            look = handle(mark, method.colour)
            if found.low < found.high:
                axes.hlines(place, found.low, found.high, color=look.get_color(), linewidth=1.6)
            look.set_data([found.value], [place])
            axes.add_line(look)
    if not axes.lines:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", va="center")
    elif panel.line is not None:
        axes.axvline(panel.line, color="0.3", linewidth=1, linestyle="--")
    axes.autoscale_view()
    axes.set_yticks(range(len(methods)), [method.label for method in methods.values()])
    axes.tick_params(labelleft=named)
    axes.set_ylim(len(methods) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.set_yticks([n + 0.5 for n in range(len(methods) - 1)], minor=True)
    axes.grid(axis="y", which="minor")
    axes.tick_params(axis="y", which="minor", length=0)
    axes.set_xlabel(panel.name, fontsize="small")


def handle(mark: Mark, colour: str = "0") -> Line2D:
    """Return how a mark looks, without a method's colour unless it is given."""
    colour = GREY if mark.control else colour
    return Line2D(
        [], [], marker=mark.marker, linestyle="none", label=mark.name, markersize=6, color=colour,
        markerfacecolor="white" if mark.untrained else colour, zorder=3,
    )  # fmt: skip


def draw(rows: Rows, values: Mapping[Key, Interval], methods: Methods, title: str) -> Figure:
    """Draw rows of panels below a title, and a legend in rows that fit and are about as long."""
    height = 1 + len(rows) * (0.9 + 0.4 * len(methods))
    figure = plt.figure(figsize=(WIDTH, height + 0.5))
    columns = math.lcm(*map(len, rows))
    grid = figure.add_gridspec(len(rows), columns)
    for place, row in enumerate(rows):
        width = columns // len(row)
        first = None
        for left, panel in enumerate(row):
            # Values of one kind have one scale.
            shared = first if panel.marks == row[0].marks else None
            where = grid[place, left * width : (left + 1) * width]
            axes = figure.add_subplot(where, sharex=shared)
            first = first or axes
            draw_panel(axes, panel, values, methods, named=left == 0)
    add_title(figure, title)
    marks = {mark.name: mark for row in rows for panel in row for mark in panel.marks}
    in_column = math.ceil(len(marks) / math.ceil(len(marks) / 4))
    figure.legend(handles=[*map(handle, marks.values())], loc="outside lower center",
                  ncols=in_column)  # fmt: skip
    return figure


def draw_figures(
    folder: Path, values: Mapping[Key, Interval], methods: Methods, title: str, dpi: int
) -> None:
    """Draw the figure of each claim, as PNG and SVG."""
    for name, (words, rows) in FIGURES.items():
        shown = {each: methods[each] for each in students_of(methods)}
        shown = shown if name == "transfer" else methods
        figure = draw(rows(methods), values, shown, f"{title}: {words}")
        figure.savefig(folder / f"{name}.png", dpi=dpi)
        # No date, so that the same results give the same bytes.
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
        plt.close(figure)
