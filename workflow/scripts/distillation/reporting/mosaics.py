"""Attention maps beside their images, as one picture of cells."""

import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from distillation.data.arrays import read_arrays
from distillation.reporting.drawing import broken
from distillation.reporting.results import Results
from distillation.reporting.trained import check_has

# Rows of an attention figure that fit on a page.
MOST_IMAGES = 10
# Sizes in an attention figure, in pixels of the mosaic: a cell, the gap to the next, the gap more
# before each stage, and an inch.
CELL, GAP, STAGE_GAP, INCH = 64, 4, 12, 68
# Letters of a model's name that fit above its column.
LONG_NAME = 9
# Share of the map's colour in an overlay.
OVERLAY = 0.6

Maps = dict[str, dict[str, np.ndarray]]
# Stage and model; stage 0, without a model, is the image.
Place = tuple[int, str | None]


def read_maps(results: Results, files: list[str]) -> Maps:
    """Read the arrays of attention.npz of the first seed of each model.

    Raises:
        FileNotFoundError, ValueError: see `read_arrays`.
        ValueError: two models have maps of different images or collapses, or one lacks a stage.
    """
    maps: Maps = {}
    for run, file in zip(results.runs, files, strict=True):
        if run.model in maps:
            continue
        arrays = read_arrays(Path(file), ("images", "indices", "labels", "class_names", "stages"))
        maps[run.model] = arrays
        first = maps[results.runs[0].model]
        if not np.array_equal(arrays["indices"], first["indices"]):
            raise ValueError(f"{file}: holds maps of other images than {files[0]}")
        needed = [f"{name}_{stage}" for name in collapses(first) for stage in stages(arrays)]
        check_has(f"{file}:", arrays, needed, "; extract_attention.py writes them")
    return maps


def collapses(arrays: dict[str, np.ndarray]) -> list[str]:
    """Return how channels were collapsed into the maps of a model."""
    return [name.removesuffix("_1") for name in arrays if name.endswith("_1")]


def stages(arrays: dict[str, np.ndarray]) -> range:
    """Return the stages of a model, from 1."""
    return range(1, int(arrays["stages"]) + 1)


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
    maps: Maps, collapse: str, overlay: bool, shown: np.ndarray, columns: list[Place]
) -> tuple[np.ndarray, list[int]]:
    """Return the mosaic of an attention figure, (H, W, 3) in uint8, and its columns' left edges.

    Args:
        maps: for each model the arrays of its attention.npz.
        collapse: which maps.
        overlay: draw the maps over the images.
        shown: indices of the images, one row each.
        columns: what is drawn in each.
    """
    images = next(iter(maps.values()))["images"]
    pitch = CELL + GAP
    lefts = [position * pitch + stage * STAGE_GAP for position, (stage, _) in enumerate(columns)]
    mosaic = np.full((len(shown) * pitch, lefts[-1] + pitch, 3), 255, dtype=np.uint8)
    for row, index in enumerate(shown):
        for left, (stage, model) in zip(lefts, columns, strict=True):
            values = None if model is None else maps[model][f"{collapse}_{stage}"][index]
            cell = draw_cell(images[index], values, overlay)
            mosaic[row * pitch : row * pitch + CELL, left : left + CELL] = cell
    return mosaic, lefts


def attention_figure(maps: Maps, collapse: str, overlay: bool, results: Results) -> Figure:
    """Draw images (rows) against stages and the models that have them; see `draw_mosaic`."""
    first = next(iter(maps.values()))
    # Spread over the classes where there are more images than rows.
    count = len(first["images"])
    shown = np.unique(np.linspace(0, count - 1, min(MOST_IMAGES, count)).astype(int))
    by_stage = {
        stage: [model for model, arrays in maps.items() if stage in stages(arrays)]
        for stage in max((stages(arrays) for arrays in maps.values()), key=len)
    }
    columns: list[Place] = [(0, None)]
    columns += [(stage, model) for stage, models in by_stage.items() for model in models]
    mosaic, lefts = draw_mosaic(maps, collapse, overlay, shown, columns)
    height, width = mosaic.shape[:2]
    how = collapse.replace("_square", " of squares").replace("_absolute", " of absolute values")
    head = f"{results.title}: attention, {how} over channels, each map on its own scale"
    names = [str(first["class_names"][first["labels"][index]]) for index in shown]
    # In inches, at the size of the letters below.
    beside = 0.8 + 0.11 * max(map(len, names))
    heads = ["image" if model is None else results.labels[model] for _, model in columns]
    heads = [broken(head, LONG_NAME) for head in heads]
    # In points: room for as many lines as the longest head has.
    above = 17 * max(1 + head.count("\n") for head in heads)
    figure_width = width / INCH + beside
    # Letters of 20 points are somewhat more than half as wide.
    title = "\n".join(textwrap.wrap(head, int(figure_width * 72 / 12)))
    room = above / 72 + 1.6 + 0.35 * title.count("\n")
    figure, axes = plt.subplots(figsize=(figure_width, height / INCH + room))
    axes.imshow(mosaic, interpolation="none")
    # What height is left over belongs to the heads above.
    axes.set(anchor="S")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    # The figure is wide, and shown on a page that isn't.
    axes.tick_params(length=0, labelsize=14)
    axes.xaxis.tick_top()
    axes.set_xticks([left + CELL / 2 for left in lefts], heads)
    axes.set_yticks([row * (CELL + GAP) + CELL / 2 for row in range(len(shown))], names)
    for stage, models in by_stage.items():
        inside = [left for left, column in zip(lefts, columns, strict=True) if column[0] == stage]
        shapes = [maps[model][f"{collapse}_{stage}"].shape[1:] for model in models]
        sides = " or ".join(dict.fromkeys(f"{h} x {w}" for h, w in shapes))
        axes.annotate(
            f"Stage {stage}\n{sides}", ((inside[0] + inside[-1] + CELL) / 2, 0),
            xytext=(0, above + 14), textcoords="offset points", ha="center", fontsize=18,
        )  # fmt: skip
    # With y, or matplotlib would move it by the height of the heads once more.
    axes.set_title(title, pad=above + 64, y=1, fontsize=20)
    return figure
