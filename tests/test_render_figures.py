"""render_figures.py: whatever methods are called, nothing of a figure is cut off."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

import render_figures
from shell import ROOT

SIDES = {1: 8, 2: 4, 3: 2}  # pixels of a map, by group


def maps_of(models: list[str], images: int) -> render_figures.Maps:
    """Return random maps of random images for each model, as in attention.npz."""
    generator = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {
        "images": generator.integers(0, 256, (images, 8, 8, 1), dtype=np.uint8),
        "labels": np.arange(images),
        "class_names": np.array([f"class {number}" for number in range(images)]),
    }
    for group, side in SIDES.items():
        arrays[f"mean_square_{group}"] = generator.random((images, side, side))
    return dict.fromkeys(models, arrays)


@pytest.mark.parametrize("images", [1, 10])
@pytest.mark.parametrize("method", ["kd", "without_nesterov", "learning_rate_of_0_1"])
def test_attention_figure_has_room_for_its_heads(images: int, method: str) -> None:
    """Title and heads of an attention figure lie inside of it and don't overlap."""
    models = ["teacher", "baseline", "kd_2", "at", "at_kd", "fading_at", "soft", method]
    with plt.style.context(ROOT / "workflow/scripts/figures.mplstyle"):
        figure = render_figures.attention_figure(
            maps_of(models, images), "mean_square", False, "Digits"
        )
        figure.canvas.draw()
    [axes] = figure.axes
    title = axes.title.get_window_extent()
    groups = [text.get_window_extent() for text in axes.texts]
    heads = [tick.get_window_extent() for tick in axes.get_xticklabels()]
    assert len(groups) == len(SIDES)
    assert title.y1 <= figure.bbox.y1
    assert max(box.y1 for box in groups) <= title.y0
    assert max(box.y1 for box in heads) <= min(box.y0 for box in groups)
    plt.close(figure)
