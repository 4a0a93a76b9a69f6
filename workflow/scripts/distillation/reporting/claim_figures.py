"""Figures of what was measured on attention maps, one for each claim.

Filled markers are trained networks, hollow ones their untrained controls, grey ones what neither is
a method's; lines are intervals.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from distillation.reporting.claims import POINT, orders
from distillation.reporting.drawing import add_title
from distillation.reporting.intervals import Interval
from distillation.reporting.measurements import (
    LATE,
    Key,
    Method,
    Methods,
    Values,
    every_stage,
)
from distillation.reporting.results import TEACHER

WIDTH = 8  # inches, so that text is legible at 800 pixels
GREY = "0.45"


class Mark(NamedTuple):
    """What is drawn for each method in a panel: which value, and how."""

    name: str
    metric: str = ""
    marker: str = "o"
    untrained: bool = False
    # Controls are grey, what belongs to a method has its colour.
    control: bool = False


TRAINED = Mark("trained")
UNTRAINED = Mark("untrained control", untrained=True)
CHANCE = Mark("chance", marker="x", control=True)


def draw_value(
    axes: Axes, place: float, interval: Interval | None, mark: Mark, colour: str, upright: bool
) -> None:
    """Draw a value, if any, as a marker and its interval as a line; untrained ones are hollow."""
    if interval is None:
        return
    colour = GREY if mark.control else colour
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


def draw_by_stage(axes: Axes, values: Values, methods: Methods, metric: str) -> None:
    """Draw a metric over the stages: methods side by side, each control beside its network."""
    step = 0.8 / len(methods)
    stages = every_stage(methods)
    for position, (name, method) in enumerate(methods.items()):
        for mark, shift in ((TRAINED, 0.25), (UNTRAINED, 0.75)):
            for stage in stages:
                place = stage - 0.4 + step * (position + shift)
                interval = values.get(Key(name, metric, stage, mark.untrained))
                draw_value(axes, place, interval, mark, method.colour, upright=True)
    note_if_empty(axes)
    axes.set_xticks(stages, [f"stage {stage}" for stage in stages])
    axes.set_xlim(0.5, len(stages) + 0.5)
    axes.grid(axis="x", visible=False)
    for stage in stages[:-1]:
        axes.axvline(stage + 0.5, color="0.9", linewidth=0.8)


def draw_by_method(
    axes: Axes, values: Values, methods: Methods, marks: Sequence[Mark], stage: int = LATE
) -> None:
    """Draw several metrics for each method, one method below the other."""
    step = 0.7 / len(marks)
    for position, (name, method) in enumerate(methods.items()):
        for row, mark in enumerate(marks):
            place = position + step * (row - (len(marks) - 1) / 2)
            interval = values.get(Key(name, mark.metric, stage, mark.untrained))
            draw_value(axes, place, interval, mark, method.colour, upright=False)
    note_if_empty(axes)
    axes.set_yticks(range(len(methods)), [method.label for method in methods.values()])
    axes.set_ylim(len(methods) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    for between in range(1, len(methods)):
        axes.axhline(between - 0.5, color="0.9", linewidth=0.8)


def handle(mark: Mark, colour: str = "0") -> Line2D:
    """Return what a legend shows for a mark, without a method's colour unless it is given."""
    colour = GREY if mark.control else colour
    return Line2D(
        [], [], marker=mark.marker, linestyle="none", label=mark.name, markersize=6, color=colour,
        markerfacecolor="white" if mark.untrained else colour,
    )  # fmt: skip


def method_handles(methods: Methods) -> list[Line2D]:
    """Return what a legend shows for methods and their untrained controls."""
    trained = [handle(Mark(method.label), method.colour) for method in methods.values()]
    return [*trained, handle(UNTRAINED)]


def finish(figure: Figure, title: str, entries: list[Line2D]) -> Figure:
    """Add the title, and a legend below all panels, in rows that fit and are about as long."""
    add_title(figure, title)
    rows = math.ceil(len(entries) / 4)
    columns = math.ceil(len(entries) / rows)
    figure.legend(handles=entries, loc="outside lower center", ncols=columns)
    return figure


def panels(count: int, methods: Methods) -> tuple[Figure, list[Axes]]:
    """Make panels side by side that share the names of the methods."""
    figure, grid = plt.subplots(
        1, count, figsize=(WIDTH, 2.2 + 0.5 * len(methods)), sharey=True,
        squeeze=False, gridspec_kw={"wspace": 0.08},
    )  # fmt: skip
    return figure, list(grid.flat)


def panel_for_each_stage(
    values: Values, methods: Methods, marks: Sequence[Mark], name: str
) -> tuple[Figure, list[Axes]]:
    """Draw several metrics for each method, in a panel for each stage."""
    stages = every_stage(methods)
    figure, grid = panels(len(stages), methods)
    for axes, stage in zip(grid, stages, strict=True):
        draw_by_method(axes, values, methods, marks, stage)
        axes.set(title=f"stage {stage}", xlabel=name)
    return figure, grid


def concentration_figure(values: Values, methods: Methods, title: str) -> Figure:
    """Draw the effective area over the stages."""
    figure, axes = plt.subplots(figsize=(WIDTH, 4.6))
    draw_by_stage(axes, values, methods, "effective_area")
    axes.set_ylabel("effective area, share of the map, 0 to 1")
    axes.set_ylim(0, 1.03)
    axes.axhline(POINT.value, color="0.3", linewidth=1, linestyle="--")
    spread = f"over how much of the map attention is spread, under {POINT.value} is a point"
    return finish(figure, f"{title}: {spread}", method_handles(methods))


def border_figure(values: Values, methods: Methods, title: str) -> Figure:
    """Draw the border ratio on real images, constant input and noise, at each stage."""
    marks = [
        Mark("real images", "border"),
        Mark("constant input", "border_constant", "s"),
        Mark("noise", "border_noise", "^"),
        Mark("real images, untrained control", "border", untrained=True),
    ]
    figure, grid = panel_for_each_stage(values, methods, marks, "border ratio")
    for axes in grid:
        axes.axvline(1, color="0.3", linewidth=1, linestyle="--")
    title = f"{title}: attention on the border, 1 is an even map"
    return finish(figure, title, [handle(mark) for mark in marks])


def object_figure(values: Values, methods: Methods, title: str) -> Figure:
    """Draw what the late maps have to do with the object, beside chance."""
    metrics = {
        "object_energy": "energy ratio, 1 is chance",
        "pointing_game": "pointing game, 0 to 1",
        "object_iou": "IoU at equal area, 0 to 1",
    }
    figure, grid = panels(len(metrics), methods)
    for axes, (metric, name) in zip(grid, metrics.items(), strict=True):
        marks = [TRAINED._replace(metric=metric), UNTRAINED._replace(metric=metric)]
        draw_by_method(axes, values, methods, [*marks, CHANCE._replace(metric=f"{metric}_chance")])
        axes.set_xlabel(name)
        axes.set_xlim(left=0)
        if metric == "object_energy":
            axes.axvline(1, color="0.3", linewidth=1, linestyle="--")
        else:
            axes.set_xlim(right=1.03)
            axes.set_xticks([0, 0.5, 1])
    entries = [handle(mark) for mark in (TRAINED, UNTRAINED, CHANCE)]
    return finish(figure, f"{title}: attention on the object, last stage", entries)


def abstraction_figure(values: Values, methods: Methods, title: str) -> Figure:
    """Draw what ties maps to the image, over the stages, and what removing cells by them does."""
    figure = plt.figure(figsize=(WIDTH, 8 + 0.4 * len(methods)))
    grid = figure.add_gridspec(3, 2, height_ratios=[2.8, 2.8, 1 + 0.4 * len(methods)])
    for row, (metric, name) in enumerate(
        [
            ("image_dependence", "image-dependence, 0 to 1"),
            ("sobel_spearman", "Sobel correlation, -1 to 1"),
        ]
    ):
        axes = figure.add_subplot(grid[row, :])
        draw_by_stage(axes, values, methods, metric)
        axes.set_ylabel(name)
    looks = [
        Mark("order: map, last stage"),
        *(
            Mark(f"order: {name}", marker=marker, control=True)
            for name, marker in [
                ("random", "x"), ("centre first", "+"), ("Sobel", "d"), ("Grad-CAM", "v"),
            ]
        ),
    ]  # fmt: skip
    for position, metric in enumerate(("deletion", "insertion")):
        axes = figure.add_subplot(grid[2, position])
        marks = [
            look._replace(metric=each) for look, each in zip(looks, orders(metric), strict=True)
        ]
        draw_by_method(axes, values, methods, marks)
        axes.set_xlabel(f"{metric}, probability, 0 to 1")
        axes.tick_params(labelleft=position == 0)
    title = f"{title}: what the maps have to do with image and prediction"
    return finish(figure, title, method_handles(methods) + [handle(look) for look in looks])


def transfer_figure(values: Values, methods: Methods, title: str) -> Figure:
    """Draw the students' cosine with the teacher at each stage, beside shuffled images."""
    students: dict[str, Method] = {
        name: method for name, method in methods.items() if name != TEACHER
    }
    marks = [
        Mark("same image", "teacher_cosine"),
        Mark("other images (shuffled)", "teacher_cosine_shuffled", "x", control=True),
        Mark("same image, untrained control", "teacher_cosine", untrained=True),
    ]
    figure, _ = panel_for_each_stage(values, students, marks, "cosine, 0 to 1")
    title = f"{title}: students' maps against the teacher's"
    return finish(figure, title, [handle(mark) for mark in marks])


FIGURES = {
    "concentration": concentration_figure,
    "border": border_figure,
    "object": object_figure,
    "abstraction": abstraction_figure,
    "transfer": transfer_figure,
}


def draw_figures(folder: Path, values: Values, methods: Methods, title: str, dpi: int) -> None:
    """Draw the figure of each claim, as PNG and SVG."""
    for name, draw in FIGURES.items():
        figure = draw(values, methods, title)
        figure.savefig(folder / f"{name}.png", dpi=dpi)
        # No date, so that the same results give the same bytes.
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
        plt.close(figure)
