r"""Draw the curves, accuracies, attention maps and confusion matrices of one experiment.

Inputs: metrics.json, history.csv and attention.npz of every trained model, and a matplotlib style.
Output: a folder with each figure as PNG and SVG:
    curves_teacher, curves_baseline   loss and accuracy over the epochs
    curves_students                   AT term, KD term, total and accuracy over the epochs
    curves_test                       accuracy and cross-entropy on the test split over the epochs
    accuracy                          test accuracy of each seed
    attention_<collapse>[_overlay]    maps of teacher and students at each group, one seed
    confusion                         confusion matrices, all seeds together

Example:
    python workflow/scripts/render_figures.py --title "Cluttered digits" \
        --run teacher 0 t/metrics.json t/history.csv t/attention.npz \
        --run kd 0 kd/metrics.json kd/history.csv kd/attention.npz \
        --style workflow/scripts/figures.mplstyle --figures figures --dpi 150
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from distillation.arguments import Parser, number, run
from distillation.arrays import read_arrays
from distillation.drawing import add_title
from distillation.files import replacing_folder
from distillation.results import (
    Run,
    add_run_flags,
    by_model,
    colours,
    label,
    read_runs,
)

COLLAPSES = {
    "mean_square": "mean of squares",
    "sum_square": "sum of squares",
    "sum": "plain sum",
    "sum_absolute": "sum of absolute values",
    "max_square": "maximum of squares",
}
GROUPS = (1, 2, 3)
# Rows of an attention figure that fit on a page.
MOST_IMAGES = 10
# Classes whose names fit beside a confusion matrix.
MOST_NAMES = 20
# Sizes in an attention figure, in pixels of the mosaic: a cell, the gap to the next, the gap more
# before each group, and an inch.
CELL, GAP, GROUP_GAP, INCH = 64, 4, 12, 68
# Letters of a model's name that don't fit above its column.
LONG_NAME = 9
# Share of the map's colour in an overlay.
OVERLAY = 0.6

Groups = dict[str, list[Run]]
Maps = dict[str, dict[str, np.ndarray]]
Column = Callable[[Run], pd.Series]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(__doc__)
    add_run_flags(parser, "ATTENTION")
    flag = parser.add_argument
    flag("--title", required=True, help="of the experiment")
    flag("--style", type=Path, required=True, help="matplotlib style sheet")
    flag("--figures", type=Path, required=True, help="output folder, replaced as a whole")
    flag("--dpi", type=number(int, 50, 600), required=True, help="of the PNG files, 50 to 600")
    return parser.parse_args(argv)


def draw_curves(axes: Axes, groups: Groups, column: Column, palette: dict[str, str]) -> None:
    """Draw the mean over seeds of a history column, shaded from the lowest to the highest seed."""
    for model, group in groups.items():
        epochs = group[0].history["epoch"]
        values = np.stack([column(run).to_numpy() for run in group])
        # A run of one epoch has no line to show.
        marker = "o" if len(epochs) == 1 else None
        axes.plot(
            epochs, values.mean(axis=0), color=palette[model], marker=marker, label=label(model)
        )
        if len(group) > 1:
            axes.fill_between(
                epochs, values.min(axis=0), values.max(axis=0),
                color=palette[model], alpha=0.2, linewidth=0,
            )  # fmt: skip
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def named(name: str, factor: float = 1) -> Column:
    """Make the reader of a history column, times `factor`."""
    return lambda run: pd.Series(run.history[name]) * factor


def attention_term(run: Run) -> pd.Series:
    """Return beta times the sum of the attention-transfer losses of the groups."""
    return run.history.filter(regex="^attention_").sum(axis=1) * run.history["beta"]


def distillation_term(run: Run) -> pd.Series:
    """Return alpha times the distillation loss."""
    return run.history["distillation"] * run.training["arguments"]["alpha"]


def having(groups: Groups, prefix: str) -> Groups:
    """Return the models whose history has a column that begins with `prefix`."""
    return {
        model: group
        for model, group in groups.items()
        if group[0].history.columns.str.startswith(prefix).any()
    }


def curve_figure(
    panels: list[tuple[str, str, Groups, Column]], title: str, palette: dict[str, str]
) -> Figure:
    """Draw panels (title, y label, models, column) side by side, or in two rows from four on."""
    rows = 2 if len(panels) > 3 else 1
    columns = -(-len(panels) // rows)
    figure, grid = plt.subplots(rows, columns, figsize=(5.2 * columns, 3.9 * rows), squeeze=False)
    shown: dict[str, Artist] = {}
    for axes, (name, unit, groups, column) in zip(grid.flat, panels, strict=False):
        draw_curves(axes, groups, column, palette)
        axes.set(title=name, ylabel=unit)
        handles, names = axes.get_legend_handles_labels()
        shown |= dict(zip(names, handles, strict=True))
        if not groups:
            axes.text(0.5, 0.5, "no method has this term", transform=axes.transAxes, ha="center")
    seeds = max(len(group) for *_, groups, _ in panels for group in groups.values())
    spread = "; line: mean over seeds, band: lowest to highest" if seeds > 1 else ""
    add_title(figure, title + spread)
    if len(shown) > 1:
        order = [name for name in map(label, palette) if name in shown]
        handles = [shown[name] for name in order]
        figure.legend(handles, order, loc="outside lower center", ncols=len(order))
    return figure


def all_curves(groups: Groups, title: str, palette: dict[str, str]) -> dict[str, Figure]:
    """Draw the curve figures."""
    students = {model: group for model, group in groups.items() if model != "teacher"}
    alone = {"teacher": groups["teacher"]} if "teacher" in groups else {}
    accuracy = named("train_accuracy", 100)
    figures = {}
    for model, group in (alone | {m: g for m, g in students.items() if m == "baseline"}).items():
        one = {model: group}
        both = [
            ("Loss (cross-entropy)", "nats", one, named("loss")),
            ("Training accuracy", "%", one, accuracy),
        ]
        figures[f"curves_{model}"] = curve_figure(both, f"{title}: {label(model)}", palette)
    figures["curves_students"] = curve_figure(
        [
            ("AT term, beta x AT loss", "", having(students, "attention_"), attention_term),
            ("KD term, alpha x T² x KL", "nats", having(students, "distill"), distillation_term),
            ("Total loss (differs in kind between methods)", "", students, named("loss")),
            ("Training accuracy", "%", students, accuracy),
        ],
        f"{title}: students",
        palette,
    )  # fmt: skip
    figures["curves_test"] = curve_figure(
        [
            ("Test accuracy", "%", groups, named("test_accuracy", 100)),
            ("Test cross-entropy", "nats", groups, named("test_cross_entropy")),
        ],
        f"{title}: test split",
        palette,
    )
    return figures


def accuracy_figure(groups: Groups, title: str, palette: dict[str, str]) -> Figure:
    """Draw test accuracy: a dot for each seed, a bar at the mean."""
    figure, axes = plt.subplots(figsize=(1.5 + 1.2 * len(groups), 4.2))
    for position, (model, group) in enumerate(groups.items()):
        values = [100 * run.metrics["top1_accuracy"] for run in group]
        mean = float(np.mean(values))
        axes.hlines(mean, position - 0.25, position + 0.25, color=palette[model], linewidth=3)
        axes.plot([position] * len(values), values, "o", color=palette[model], alpha=0.6)
        axes.annotate(
            f"{mean:.1f}", (position + 0.3, mean), va="center", color=palette[model], fontsize=10
        )
    axes.set_xticks(range(len(groups)), [f"{label(m)}\nn = {len(g)}" for m, g in groups.items()])
    axes.set_xlim(-0.5, len(groups) - 0.3)
    axes.set(ylabel="test accuracy, %", title=f"{title}\ndot: one seed, bar: mean")
    axes.grid(axis="x", visible=False)
    return figure


def draw_cell(image: np.ndarray, values: np.ndarray | None, overlay: bool) -> np.ndarray:
    """Return one cell of an attention figure, (CELL, CELL, 3), uint8.

    Args:
        image: (S, S, C), uint8.
        values: a map (H, W), drawn from its own least to its own largest value; None draws the
            image alone.
        overlay: draw the map, smoothed, over the image, else alone, pixel by pixel.
    """
    scale = (CELL, CELL)
    plain = Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).convert("RGB")
    picture = np.asarray(plain.resize(scale, Image.Resampling.NEAREST))
    if values is None:
        return picture
    span = values.max() - values.min()
    # A constant map has nothing to show: it is drawn as its lowest colour.
    scaled = (values - values.min()) / (span if span > 0 else 1)
    method = Image.Resampling.BICUBIC if overlay else Image.Resampling.NEAREST
    enlarged = np.asarray(Image.fromarray(scaled.astype(np.float32)).resize(scale, method))
    coloured = plt.get_cmap()(enlarged.clip(0, 1), bytes=True)[..., :3]
    if not overlay:
        return coloured
    return np.rint(OVERLAY * coloured + (1 - OVERLAY) * picture).astype(np.uint8)


def draw_mosaic(
    maps: Maps,
    collapse: str,
    overlay: bool,
    shown: np.ndarray,
    columns: list[tuple[int, str | None]],
) -> tuple[np.ndarray, list[int]]:
    """Return the mosaic of an attention figure, (H, W, 3) in uint8, and its columns' left edges.

    Args:
        maps: for each model the arrays of its attention.npz.
        collapse: which maps.
        overlay: draw the maps over the images.
        shown: indices of the images, one row each.
        columns: group and model of each column; group 0, without a model, is the image.
    """
    images = next(iter(maps.values()))["images"]
    pitch = CELL + GAP
    lefts = [position * pitch + group * GROUP_GAP for position, (group, _) in enumerate(columns)]
    mosaic = np.full((len(shown) * pitch, lefts[-1] + pitch, 3), 255, dtype=np.uint8)
    for row, index in enumerate(shown):
        for left, (group, model) in zip(lefts, columns, strict=True):
            values = None if model is None else maps[model][f"{collapse}_{group}"][index]
            cell = draw_cell(images[index], values, overlay)
            mosaic[row * pitch : row * pitch + CELL, left : left + CELL] = cell
    return mosaic, lefts


def attention_figure(maps: Maps, collapse: str, overlay: bool, title: str) -> Figure:
    """Draw images (rows) against groups and models (columns); see `draw_mosaic`."""
    first = next(iter(maps.values()))
    # Spread over the classes where there are more images than rows.
    shown = np.linspace(0, len(first["images"]) - 1, min(MOST_IMAGES, len(first["images"])))
    shown = np.unique(shown.astype(int))
    columns: list[tuple[int, str | None]] = [(0, None)]
    columns += [(group, model) for group in GROUPS for model in maps]
    mosaic, lefts = draw_mosaic(maps, collapse, overlay, shown, columns)
    height, width = mosaic.shape[:2]
    names = [str(first["class_names"][first["labels"][index]]) for index in shown]
    # In inches, at the size of the letters below.
    beside = 0.8 + 0.11 * max(map(len, names))
    heads = ["image" if model is None else label(model) for _, model in columns]
    heads = [head if len(head) < LONG_NAME else head.replace("_", "_\n") for head in heads]
    # In points: room for as many lines as the longest head has.
    above = 17 * max(1 + head.count("\n") for head in heads)
    figure, axes = plt.subplots(figsize=(width / INCH + beside, height / INCH + 1.8 + above / 72))
    axes.imshow(mosaic, interpolation="none")
    # What height is left over belongs to the heads above.
    axes.set_anchor("S")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    # The figure is wide, and shown on a page that isn't.
    axes.tick_params(length=0, labelsize=14)
    axes.xaxis.tick_top()
    axes.set_xticks([left + CELL / 2 for left in lefts], heads)
    axes.set_yticks([row * (CELL + GAP) + CELL / 2 for row in range(len(shown))], names)
    for group in GROUPS:
        inside = [left for left, column in zip(lefts, columns, strict=True) if column[0] == group]
        side = first[f"{collapse}_{group}"].shape[1]
        axes.annotate(
            f"Group {group}, {side} x {side}", ((inside[0] + inside[-1] + CELL) / 2, 0),
            xytext=(0, above + 14), textcoords="offset points", ha="center", fontsize=18,
        )  # fmt: skip
    head = f"{title}: attention by {COLLAPSES[collapse]} over channels, each map on its own scale"
    axes.set_title(head, pad=above + 42, fontsize=20)
    return figure


def confusion_figure(groups: Groups, title: str) -> Figure:
    """Draw a confusion matrix per model, in percent of a label's images, seeds added up.

    Colours follow the square root of the share, or the few confusions couldn't be seen.
    """
    names = list(next(iter(groups.values()))[0].metrics["per_class_accuracy"])
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
        axes.set(title=label(model), xlabel="predicted")
        axes.grid(visible=False)
    grid[0, 0].set_ylabel("label")
    figure.colorbar(
        grid[0, 0].images[0], ax=list(grid.flat), label="% of the label's images", shrink=0.7
    )
    add_title(figure, f"{title}: confusion matrices, all seeds")
    return figure


def all_figures(
    runs: list[Run], attention: list[str], title: str
) -> dict[str, Callable[[], dict[str, Figure]]]:
    """Return makers of the figures, so that only a few are open at a time."""
    groups = by_model(runs)
    palette = colours(list(groups))
    maps: Maps = {}
    for run_, file in zip(runs, attention, strict=True):
        if run_.model not in maps:
            needed = ("images", "indices", "labels", "class_names")
            maps[run_.model] = read_arrays(Path(file), needed)
            if not np.array_equal(maps[run_.model]["indices"], maps[runs[0].model]["indices"]):
                raise ValueError(f"{file}: holds maps of other images than {attention[0]}")
    makers: dict[str, Callable[[], dict[str, Figure]]] = {
        "curves": lambda: all_curves(groups, title, palette),
        "accuracy": lambda: {"accuracy": accuracy_figure(groups, title, palette)},
        "confusion": lambda: {"confusion": confusion_figure(groups, title)},
    }
    for collapse in COLLAPSES:
        for overlay in (False, True):
            name = f"attention_{collapse}" + ("_overlay" if overlay else "")
            makers[name] = lambda collapse=collapse, overlay=overlay, name=name: {
                name: attention_figure(maps, collapse, overlay, title)
            }
    return makers


def main(argv: list[str] | None = None) -> None:
    """Draw all figures into one folder."""
    arguments = parse_args(argv)
    mpl.use("Agg")
    plt.style.use(arguments.style)
    runs = read_runs(arguments)
    makers = all_figures(runs, [values[4] for values in arguments.runs], arguments.title)
    with replacing_folder(arguments.figures) as folder:
        for maker in makers.values():
            for name, figure in maker().items():
                figure.savefig(folder / f"{name}.png", dpi=arguments.dpi)
                # No date, so that the same results give the same bytes.
                figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
                plt.close(figure)
    print(f"{arguments.figures}: {len(list(arguments.figures.glob('*.png')))} figures", flush=True)


if __name__ == "__main__":
    run(main)
