"""Figures of what was measured on attention maps, one for each claim.

Filled markers are trained networks, hollow ones their untrained controls, grey ones what neither is
a method's; lines are intervals.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from distillation.claims import POINT, orders
from distillation.drawing import add_title
from distillation.measurements import GROUPS, Interval, Key, Values, students_of
from distillation.results import label

WIDTH = 8  # inches, so that text is legible at 800 pixels


@dataclass(frozen=True)
class Mark:
    """What is drawn for each method in a panel: which value, and how."""

    name: str
    metric: str
    marker: str
    untrained: bool = False
    # Controls are grey, what belongs to a method has its colour.
    control: bool = False


TRAINED, UNTRAINED = "trained", "untrained control"


def draw_value(
    axes: Axes, place: float, interval: Interval, mark: Mark, colour: str, upright: bool
) -> None:
    """Draw a value as a marker and its interval as a line; untrained networks' are hollow."""
    colour = "0.45" if mark.control else colour
    # Not error bars: an interval of the bootstrap need not hold the value.
    line = axes.vlines if upright else axes.hlines
    line(place, interval.low, interval.high, color=colour, linewidth=1.6)
    at = (place, interval.value) if upright else (interval.value, place)
    face = "white" if mark.untrained else colour
    axes.plot(*at, mark.marker, color=colour, markerfacecolor=face, markersize=6, zorder=3)


def note_if_empty(axes: Axes) -> None:
    """Write into a panel without values that there are none."""
    if not axes.lines:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", va="center")


def draw_by_group(
    axes: Axes, values: Values, methods: Sequence[str], palette: dict[str, str], metric: str
) -> None:
    """Draw a metric over the groups: methods side by side, each control beside its network."""
    step = 0.8 / len(methods)
    marks = [Mark(TRAINED, metric, "o"), Mark(UNTRAINED, metric, "o", untrained=True)]
    for position, method in enumerate(methods):
        for mark in marks:
            for group in GROUPS:
                place = group - 0.4 + step * (position + (0.75 if mark.untrained else 0.25))
                key = Key(method, metric, group, mark.untrained)
                if key in values:
                    draw_value(axes, place, values[key], mark, palette[method], upright=True)
    note_if_empty(axes)
    axes.set_xticks(GROUPS, [f"group {group}" for group in GROUPS])
    axes.set_xlim(0.5, 3.5)
    axes.grid(axis="x", visible=False)
    for between in (1.5, 2.5):
        axes.axvline(between, color="0.9", linewidth=0.8)


def draw_by_method(
    axes: Axes,
    values: Values,
    methods: Sequence[str],
    palette: dict[str, str],
    marks: Sequence[Mark],
    group: int = 3,
) -> None:
    """Draw several metrics for each method, one method below the other."""
    step = 0.7 / len(marks)
    for position, method in enumerate(methods):
        for number_, mark in enumerate(marks):
            key = Key(method, mark.metric, group, mark.untrained)
            if key in values:
                place = position + step * (number_ - (len(marks) - 1) / 2)
                draw_value(axes, place, values[key], mark, palette[method], upright=False)
    note_if_empty(axes)
    axes.set_yticks(range(len(methods)), [label(method) for method in methods])
    axes.set_ylim(len(methods) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    for between in range(1, len(methods)):
        axes.axhline(between - 0.5, color="0.9", linewidth=0.8)


def handles(marks: Sequence[Mark]) -> list[Line2D]:
    """Return what a legend shows for marks, without a method's colour."""
    return [
        Line2D(
            [], [], marker=mark.marker, linestyle="none", label=mark.name, markersize=6,
            color="0.45" if mark.control else "0", markerfacecolor="white" if mark.untrained else
            "0.45" if mark.control else "0",
        )
        for mark in marks
    ]  # fmt: skip


def method_handles(methods: Sequence[str], palette: dict[str, str]) -> list[Line2D]:
    """Return what a legend shows for methods."""
    return [
        Line2D([], [], marker="o", linestyle="none", color=palette[m], label=label(m))
        for m in methods
    ]


def add_legend(figure: Figure, entries: list[Line2D]) -> None:
    """Put a legend below all panels, in rows that fit the width and are about as long."""
    rows = math.ceil(len(entries) / 4)
    columns = math.ceil(len(entries) / rows)
    figure.legend(handles=entries, loc="outside lower center", ncols=columns)


def concentration_figure(
    values: Values, methods: Sequence[str], palette: dict[str, str], title: str
) -> Figure:
    """Draw the effective area over the groups."""
    figure, axes = plt.subplots(figsize=(WIDTH, 4.6))
    draw_by_group(axes, values, methods, palette, "effective_area")
    axes.set_ylabel("effective area, share of the map, 0 to 1")
    axes.set_ylim(0, 1.03)
    axes.axhline(POINT.value, color="0.3", linewidth=1, linestyle="--")
    spread = f"over how much of the map attention is spread, under {POINT.value} is a point"
    add_title(figure, f"{title}: {spread}")
    marks = [Mark(UNTRAINED, "", "o", untrained=True)]
    add_legend(figure, method_handles(methods, palette) + handles(marks))
    return figure


def panels(count: int, methods: Sequence[str]) -> tuple[Figure, list[Axes]]:
    """Make panels side by side that share the names of the methods."""
    figure, grid = plt.subplots(
        1, count, figsize=(WIDTH, 2.2 + 0.5 * len(methods)), sharey=True,
        squeeze=False, gridspec_kw={"wspace": 0.08},
    )  # fmt: skip
    return figure, list(grid.flat)


def border_figure(
    values: Values, methods: Sequence[str], palette: dict[str, str], title: str
) -> Figure:
    """Draw the border ratio on real images, constant input and noise, at each group."""
    figure, grid = panels(3, methods)
    marks = [
        Mark("test images", "border", "o"),
        Mark("constant input", "border_constant", "s"),
        Mark("noise", "border_noise", "^"),
        Mark("test images, untrained control", "border", "o", untrained=True),
    ]
    for axes, group in zip(grid, GROUPS, strict=True):
        draw_by_method(axes, values, methods, palette, marks, group)
        axes.axvline(1, color="0.3", linewidth=1, linestyle="--")
        axes.set(title=f"group {group}", xlabel="border ratio")
    add_title(figure, f"{title}: attention on the border, 1 is an even map")
    add_legend(figure, handles(marks))
    return figure


def object_figure(
    values: Values, methods: Sequence[str], palette: dict[str, str], title: str
) -> Figure:
    """Draw what the late maps have to do with the object, beside chance."""
    figure, grid = panels(3, methods)
    chance = Mark("chance", "", "x", control=True)
    for axes, metric, name in zip(
        grid,
        ("object_energy", "pointing_game", "object_iou"),
        ("energy ratio, 1 is chance", "pointing game, 0 to 1", "IoU at equal area, 0 to 1"),
        strict=True,
    ):
        marks = [Mark(TRAINED, metric, "o"), Mark(UNTRAINED, metric, "o", untrained=True)]
        marks.append(Mark("chance", f"{metric}_chance", "x", control=True))
        draw_by_method(axes, values, methods, palette, marks)
        axes.set_xlabel(name)
        axes.set_xlim(left=0)
        if metric == "object_energy":
            axes.axvline(1, color="0.3", linewidth=1, linestyle="--")
        else:
            axes.set_xlim(right=1.03)
            axes.set_xticks([0, 0.5, 1])
    add_title(figure, f"{title}: attention on the object, group 3")
    add_legend(figure, handles([Mark(TRAINED, "", "o"), Mark(UNTRAINED, "", "o", True), chance]))
    return figure


def abstraction_figure(
    values: Values, methods: Sequence[str], palette: dict[str, str], title: str
) -> Figure:
    """Draw what ties maps to the image, over the groups, and what removing cells by them does."""
    figure = plt.figure(figsize=(WIDTH, 8 + 0.4 * len(methods)))
    grid = figure.add_gridspec(3, 2, height_ratios=[2.8, 2.8, 1 + 0.4 * len(methods)])
    for row, (metric, name) in enumerate(
        [
            ("image_dependence", "image-dependence, 0 to 1"),
            ("sobel_spearman", "Sobel correlation, -1 to 1"),
        ]
    ):
        axes = figure.add_subplot(grid[row, :])
        draw_by_group(axes, values, methods, palette, metric)
        axes.set_ylabel(name)
    markers = ("o", "x", "+", "d", "v")
    names = ("map, group 3", "random", "centre first", "Sobel", "Grad-CAM")
    for position, metric in enumerate(("deletion", "insertion")):
        axes = figure.add_subplot(grid[2, position])
        marks = [
            Mark(name, each, marker, control=marker != "o")
            for each, name, marker in zip(orders(metric), names, markers, strict=True)
        ]
        draw_by_method(axes, values, methods, palette, marks)
        axes.set_xlabel(f"{metric}, probability, 0 to 1")
        axes.tick_params(labelleft=position == 0)
    add_title(figure, f"{title}: what the maps have to do with image and prediction")
    add_legend(
        figure,
        method_handles(methods, palette)
        + handles([Mark(UNTRAINED, "", "o", untrained=True)])
        + handles(
            [
                Mark(f"order: {name}", "", marker, control=marker != "o")
                for name, marker in zip(names, markers, strict=True)
            ]
        ),
    )
    return figure


def transfer_figure(
    values: Values, methods: Sequence[str], palette: dict[str, str], title: str
) -> Figure:
    """Draw the students' cosine with the teacher at each group, beside shuffled images."""
    students = students_of(methods)
    figure, grid = panels(3, students)
    cosine = "teacher_cosine"
    marks = [
        Mark("same image", cosine, "o"),
        Mark("other images (shuffled)", f"{cosine}_shuffled", "x", control=True),
        Mark("same image, untrained control", cosine, "o", untrained=True),
    ]
    for axes, group in zip(grid, GROUPS, strict=True):
        draw_by_method(axes, values, students, palette, marks, group)
        axes.set(title=f"group {group}", xlabel="cosine, 0 to 1")
    add_title(figure, f"{title}: students' maps against the teacher's")
    add_legend(figure, handles(marks))
    return figure


FIGURES = {
    "concentration": concentration_figure,
    "border": border_figure,
    "object": object_figure,
    "abstraction": abstraction_figure,
    "transfer": transfer_figure,
}
