"""Figures of what was measured on attention maps, one for each claim.

Rows of panels; in a panel, a row for each method. Filled markers are trained networks, hollow ones
their untrained controls, grey ones what neither is a method's; lines are intervals.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from distillation.reporting.claims import EACH, EVEN, POINT, orders
from distillation.reporting.drawing import add_title, save
from distillation.reporting.intervals import Interval
from distillation.reporting.measurements import LATE, Key, Methods, every_stage, students_of

WIDTH = 8  # inches, so that text is legible at 800 pixels
GREY = "0.45"


class Mark(NamedTuple):
    """What is drawn for each method in a panel: which value, and how; controls are grey."""

    name: str
    metric: str
    marker: str = "o"
    untrained: bool = False
    control: bool = False


class Panel(NamedTuple):
    """Values of all methods on one axis, with a line at a value that means something."""

    name: str
    marks: Sequence[Mark]
    stage: int = LATE
    line: float | None = None


Rows = list[list[Panel]]


def trained(metric: str, **controls: str) -> list[Mark]:
    """Return marks of a metric, of its untrained control, and of grey ones by their suffixes."""
    grey = [
        Mark(name, f"{metric}_{suffix}", marker, control=True)
        for (suffix, name), marker in zip(controls.items(), "x+dv", strict=False)
    ]
    return [Mark("trained", metric), Mark("untrained control", metric, untrained=True), *grey]


def in_order(metric: str) -> list[Mark]:
    """Return marks of deletion or insertion, by the map and in the orders that are its controls."""
    names = ("by the map", "random", "centre first", "Sobel", "Grad-CAM")
    looks = zip(names, orders(metric), "ox+dv", strict=True)
    return [Mark(*look, control=look[2] != "o") for look in looks]


CONTROLS = {"chance": "chance", "centre": "fixed centre", "other": "other images' masks"}
# Of each claim: what its figure shows, in words and in rows of panels.
FIGURES: dict[str, tuple[str, Rows]] = {
    "concentration": (
        f"how much of the map has attention, under {POINT} is a point",
        [[Panel("effective area", trained("effective_area"), EACH, POINT)]],
    ),
    "border": (
        "attention on the border, 1 is an even map",
        [[Panel("border ratio", trained("border", constant="constant input", noise="noise"), EACH,
                EVEN)]],
    ),
    "object": (
        "attention on the object, last stage",
        [[Panel("energy ratio", trained("object_energy", **CONTROLS), line=EVEN),
          Panel("pointing game", trained("pointing_game", **CONTROLS)),
          Panel("IoU", trained("object_iou", **CONTROLS))]],
    ),
    "abstraction": (
        "what the maps have to do with image and prediction",
        [[Panel("image-dependence", trained("image_dependence"), EACH)],
         [Panel("Sobel correlation", trained("sobel_spearman"), EACH)],
         [Panel("deletion, probability", in_order("deletion")),
          Panel("insertion, probability", in_order("insertion"))]],
    ),
    "transfer": (
        "students' maps against the teacher's",
        [[Panel("rank correlation", trained("teacher_spearman", shuffled="other images"), EACH)]],
    ),
}  # fmt: skip


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
    """Draw the figure of each claim, as PNG and SVG; a panel of each stage is one for each."""
    for name, (words, rows) in FIGURES.items():
        students = {each: methods[each] for each in students_of(methods)}
        panels = [
            [panel._replace(name=f"stage {stage}: {panel.name}", stage=stage)
             for panel in row for stage in every_stage(methods)] if row[0].stage == EACH else row
            for row in rows
        ]  # fmt: skip
        shown = students if name == "transfer" else methods
        figure = draw(panels, values, shown, f"{title}: {words}")
        save(figure, folder / f"{name}.png", folder / f"{name}.svg", dpi)
