"""render_figures.py: all figures are there, and nothing of one is cut off."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

import render_figures
from distillation.reporting.curves import all_curves
from distillation.reporting.drawing import save
from distillation.reporting.mosaics import attention_figure
from distillation.reporting.results import Results, all_labels
from made_up import TERMS, a_run, maps, write_runs
from shell import ROOT

STYLE = ROOT / "workflow/scripts/figures.mplstyle"


def test_all_figures(tmp_path: Path) -> None:
    """Every figure is there as PNG and SVG, of networks of four and three stages."""
    flags = write_runs(tmp_path / "runs", ["teacher", "kd"], "attention.npz")
    folder = tmp_path / "figures"
    outputs = ["--figures", str(folder), "--digests", str(tmp_path / "figures.json")]
    render_figures.main([*flags, "--style", str(STYLE), "--dpi", "50", *outputs])
    names = ["curves_teacher", "curves_students", "curves_test", "metrics", "confusion"]
    names += ["attention_mean_square", "attention_mean_square_overlay"]
    assert {file.name for file in folder.iterdir()} == {
        f"{name}.{suffix}" for name in names for suffix in ("png", "svg")
    }


def test_curves_of_terms() -> None:
    """Each term has a panel with the models that have it; a brought teacher has no curves."""
    runs = [a_run(model, 0) for model in TERMS]
    runs[0] = replace(runs[0], history=runs[0].history.iloc[:0])
    results = Results("Digits", runs, all_labels([*TERMS], {"kd": "KD"}))
    figures = all_curves(results)
    assert set(figures) == {"curves_baseline", "curves_students", "curves_test"}
    shown = {
        axes.get_title(): [line.get_label() for line in axes.lines]
        for axes in figures["curves_students"].axes
        if axes.get_visible()
    }
    students = ["Baseline", "KD", "at"]
    assert shown == {
        "Labels term, weight x Labels": students,
        "KD term, weight x KD": ["KD"],
        "AT term, weight x AT": ["at"],
        "Total loss (differs in kind between methods)": students,
        "Training accuracy": students,
    }
    plt.close("all")


@pytest.mark.parametrize(
    ("repeat", "method", "others"),
    [
        (1, "kd", 6),
        (3, "without_nesterov", 0),
        (3, "learning_rate_of_0_1", 6),
        (1, "equal cost, as dear", 6),
    ],
)
def test_attention_figure_has_room_for_its_heads(repeat: int, method: str, others: int) -> None:
    """Title and heads of an attention figure lie inside of it and don't overlap."""
    models = ["teacher", *["baseline", "kd_2", "at", "at_kd", "fading_at", "soft"][:others], method]
    arrays = maps(3)
    for name in [name for name in arrays if name not in ("class_names", "stages")]:
        arrays[name] = np.concatenate([arrays[name]] * repeat)
    results = Results("Digits", [], all_labels(models, {}))
    with plt.style.context(STYLE):
        figure = attention_figure(dict.fromkeys(models, arrays), "mean_square", False, results)
        figure.canvas.draw()
    [axes] = figure.axes
    assert "attention, mean of squares over" in " ".join(axes.get_title().split())
    title = axes.title.get_window_extent()
    stages = [text.get_window_extent() for text in axes.texts]
    heads = [tick.get_window_extent() for tick in axes.get_xticklabels()]
    assert len(stages) == 3
    assert title.y1 <= figure.bbox.y1
    assert max(box.y1 for box in stages) <= title.y0
    assert max(box.y1 for box in heads) <= min(box.y0 for box in stages)
    assert all(one.x1 <= other.x0 for one, other in pairwise(stages))
    assert all(one.x1 <= other.x0 for one, other in pairwise(heads))
    plt.close(figure)


def test_colours(tmp_path: Path) -> None:
    """A chart has a palette, with its colours; images keep all of theirs."""
    chart, axes = plt.subplots()
    axes.plot([0, 1], color="#0072b2", linewidth=30)
    save(chart, tmp_path / "chart.png", tmp_path / "chart.svg", 100)
    with Image.open(tmp_path / "chart.png") as picture:
        assert picture.mode == "P"
        colours = picture.convert("RGB").getcolors(256) or []
        assert (0, 0x72, 0xB2) in {colour for _, colour in colours}
    figure, axes = plt.subplots()
    axes.imshow(np.arange(1200).reshape(30, 40), cmap="viridis")
    save(figure, tmp_path / "image.png", tmp_path / "image.svg", 100)
    with Image.open(tmp_path / "image.png") as picture:
        assert len(picture.convert("RGB").getcolors(1 << 16) or []) > 256
