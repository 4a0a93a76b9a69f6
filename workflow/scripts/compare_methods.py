r"""Compare methods in pairs: is one better than the other, and how sure is that?

Inputs: metrics.json, history.csv and predictions.npz of every trained model, and a matplotlib
style. Outputs, in points (percent of the test images) unless said otherwise:
    comparison (.csv)   of each pair the mean difference over seeds, its interval and p-value, the
                        interval over test images, what would have been found, a verdict in words
    seeds (.csv)        of each pair and seed the difference and McNemar's test
    fidelity (.csv)     of each student agreement with the teacher (percent) and KL (nats)
    markdown (.md)      all of it for reading, with how it was computed
    page (.html)        the same with the figure, as one file
    figure (.png, .svg) differences and agreement with their intervals
Seeds are paired by number: as far as their trainings are the same, they share initialisation, data
order and augmentation.

Example:
    python workflow/scripts/compare_methods.py --title "Cluttered digits" \
        --run baseline 0 b0/metrics.json b0/history.csv b0/predictions.npz \
        --run baseline 1 b1/metrics.json b1/history.csv b1/predictions.npz \
        --run at 0 a0/metrics.json a0/history.csv a0/predictions.npz \
        --run at 1 a1/metrics.json a1/history.csv a1/predictions.npz \
        --pair at baseline --confidence 0.95 --power 0.8 --resamples 10000 --bootstrap-seed 0 \
        --style workflow/scripts/figures.mplstyle --dpi 150 \
        --comparison comparison.csv --seeds comparison_seeds.csv --fidelity fidelity.csv \
        --markdown comparison.md --page comparison.html \
        --figure comparison.png --figure-svg comparison.svg
"""

import argparse
import math
import textwrap
from collections import Counter
from itertools import chain
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from distillation.arguments import LARGEST_SEED, Parser, number, run
from distillation.arrays import read_arrays
from distillation.comparison import (
    Comparison,
    compare,
    compare_seeds,
    inside,
    make_pairs,
    measure_fidelity,
    p_text,
    points,
    span,
    tabulate,
)
from distillation.drawing import add_title
from distillation.files import replacing
from distillation.pages import page
from distillation.results import (
    Run,
    add_run_flags,
    by_model,
    colours,
    label,
    own_training,
    read_runs,
)
from distillation.tables import table_lines

# Of the figure, in inches: its width, a line of text, and a panel without its rows.
WIDTH, LINE, PANEL = 8, 0.22, 0.75
# Letters of a method's name that stand in one line beside the figure, and of the title above it.
NAME, TITLE = 28, 70
# Where the tracks of a row lie: each seed, the interval over seeds, the one over images.
TRACKS = (-0.24, 0, 0.24)

# What comparison.md says of how it was computed.
METHODS = """\
Top-1 accuracy on the {images} test images, last epoch, never the best. A difference is the method
minus the reference, in points (percent of the test images), mean over seeds; seeds are compared in
pairs, as they share initialisation, data order and augmentation where trainings are the same.

- Over seeds, {level}: paired t test and its interval, for the mean over all seeds, on these test
  images and, where all seeds share it, with this teacher (Student 1908, "The probable error of a
  mean", Biometrika 6; `scipy.stats.ttest_rel`). Nothing is said where there is one seed, or where
  the difference is the same in all.
- p (Holm): adjusted for the number of pairs, {pairs} (Holm 1979, "A simple sequentially rejective
  multiple test procedure", Scandinavian Journal of Statistics 6). The verdict is above or below
  where it is at most {threshold}.
- Detectable: the true difference that so many seeds find with probability {power}, if the
  differences spread as they did here, which few seeds tell roughly; for one pair alone, before
  Holm's correction (Cohen 1988, "Statistical power analysis for the behavioral sciences", chapter
  2, with the noncentral t; `scipy.stats.nct`).
- Over images, {level}: percentile bootstrap, {resamples} draws of the test images, the same for
  both methods and all seeds (Efron and Tibshirani 1993, "An introduction to the bootstrap", section
  13.3; `scipy.stats.bootstrap`). It is about these trained networks on other images of the kind,
  not about other seeds.
- McNemar: exact test in each seed, not corrected, on the images that one of the two alone gets
  right (McNemar 1947, "Note on the sampling error of the difference between correlated proportions
  or percentages", Psychometrika 12; `scipy.stats.binomtest`). It too is about images, not seeds.
- Agreement: share of test images with the teacher's prediction. KL: KL(teacher || student) at
  temperature 1, mean over test images. Student's t interval over seeds, cut at 0 and at 100 %.
  Matching the teacher better need not mean a better student (Stanton et al. 2021, "Does knowledge
  distillation really work?", arXiv 2106.05945).
"""

Palette = dict[str, str]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(__doc__)
    add_run_flags(parser, "PREDICTIONS")
    flag = parser.add_argument
    flag(
        "--pair", action="append", nargs=2, metavar=("METHOD", "REFERENCE"), default=[],
        dest="pairs", help="compare a model with another; once for each pair, in order",
    )  # fmt: skip
    flag("--title", required=True, help="of the experiment")
    flag(
        "--confidence", type=number(float, 0.5, 0.999), required=True,
        help="of intervals and verdicts, fraction, 0.5 to 0.999",
    )  # fmt: skip
    flag(
        "--power", type=number(float, 0.5, 0.99), required=True,
        help="with which the detectable difference is found, fraction, 0.5 to 0.99",
    )  # fmt: skip
    flag(
        "--resamples", type=number(int, 100, 10**7), required=True,
        help="of the test images in the bootstrap, 100 to 10 million",
    )  # fmt: skip
    seed = number(int, 0, LARGEST_SEED)
    flag("--bootstrap-seed", type=seed, required=True, help="of the draws of test images")
    flag("--style", type=Path, required=True, help="matplotlib style sheet")
    flag("--dpi", type=number(int, 50, 600), required=True, help="of the PNG file, 50 to 600")
    flag("--comparison", type=Path, required=True, help="output, .csv")
    flag("--seeds", type=Path, required=True, help="output, .csv")
    flag("--fidelity", type=Path, required=True, help="output, .csv")
    flag("--markdown", type=Path, required=True, help="output, .md")
    flag("--page", type=Path, required=True, help="output, .html: markdown and figure")
    flag("--figure", type=Path, required=True, help="output, .png")
    flag("--figure-svg", type=Path, required=True, help="output, .svg")
    return parser.parse_args(argv)


def read_right(runs: list[Run], files: list[str]) -> dict[tuple[str, int], np.ndarray]:
    """Return, for each model and seed, which test images it is right on, (N,), booleans.

    Raises:
        FileNotFoundError, ValueError: see `read_arrays`.
        ValueError: predictions aren't those that the metrics were computed from, or the test images
            of two models differ.
    """
    right = {}
    first = None
    for run_, file in zip(runs, files, strict=True):
        arrays = read_arrays(Path(file), ("labels", "predictions"))
        labels, predictions = arrays["labels"], arrays["predictions"]
        expected = np.array(run_.metrics["confusion_matrix"])
        if confusion(labels, predictions, len(expected)) != expected.tolist():
            raise ValueError(
                f"{file}: aren't the predictions of {run_.model}, seed {run_.seed}; its "
                f"metrics.json has another confusion matrix"
            )
        first = labels if first is None else first
        if not np.array_equal(labels, first):
            raise ValueError(f"{file}: predictions of other test images than {files[0]}")
        right[run_.model, run_.seed] = predictions == labels
    return right


def confusion(labels: np.ndarray, predictions: np.ndarray, classes: int) -> list[list[int]] | None:
    """Count images by label and prediction; None where these aren't two lists of classes."""
    for array in (labels, predictions):
        whole = array.ndim == 1 and array.dtype.kind in "iu" and array.size
        if not whole or array.shape != labels.shape or array.min() < 0 or array.max() >= classes:
            return None
    counts = np.bincount(labels * classes + predictions, minlength=classes**2)
    return counts.reshape(classes, classes).tolist()


def format_markdown(
    rows: list[Comparison],
    seeds: pd.DataFrame,
    fidelity: pd.DataFrame,
    runs: list[Run],
    settings: argparse.Namespace,
) -> str:
    """Write comparison and fidelity as Markdown, with how they were computed."""
    level = f"{100 * settings.confidence:g} %"
    threshold = f"{1 - settings.confidence:.3g}"
    images = f"{runs[0].metrics['images']:,}"
    head = [
        "", "Seeds", "Difference", f"{level} over seeds", "p", "p (Holm)", "Detectable",
        f"{level} over images", f"McNemar p < {threshold}",
    ]  # fmt: skip
    lines = [f"# {settings.title}: comparison of methods", ""]
    table = []
    for row in rows:
        chosen = (seeds["method"] == row.method) & (seeds["reference"] == row.reference)
        found = (seeds["mcnemar_p_value"][chosen] <= 1 - settings.confidence).sum()
        one = math.isnan(row.low)
        cells = [
            f"{label(row.method)} - {label(row.reference)}", str(row.seeds), points(row.difference),
            "-" if one else span(row.low, row.high), p_text(row.p_value), p_text(row.p_holm),
            "-" if one else points(row.detectable), span(row.images_low, row.images_high),
            f"{found} of {row.seeds} seeds",
        ]  # fmt: skip
        table.append(cells)
    lines += table_lines(head, table) if rows else ["No two methods are compared."]
    lines += ["", *(f"- {row.sentence}." for row in rows), "", *training_note(runs, settings)]
    lines += ["## Fidelity to the teacher", ""]
    lines += [*fidelity_table(fidelity, level), "", "## How it was computed", ""]
    lines.append(
        METHODS.format(
            images=images, level=level, pairs=len(rows), power=f"{100 * settings.power:.3g} %",
            resamples=f"{settings.resamples:,}", threshold=threshold,
        )
    )  # fmt: skip
    return "\n".join(lines)


def training_note(runs: list[Run], settings: argparse.Namespace) -> list[str]:
    """Say in what trainings of students differ, besides their weights.

    That is the precision, which `auto` may pick otherwise on another machine, and what methods have
    of their own.
    """
    students = by_model([run_ for run_ in runs if run_.model != "teacher"])
    lines = []
    for name in ("precision", *sorted(set(chain(*own_training(settings).values())))):
        found = {
            model: " and ".join(sorted({trained_with(name, run_) for run_ in group}))
            for model, group in students.items()
        }
        common = Counter(found.values()).most_common(1)[0][0]
        others = [f"{label(model)} {value}" for model, value in found.items() if value != common]
        if others:
            lines.append(f"- {name}: {', '.join(others)}, others {common}")
        elif " and " in common:
            lines.append(f"- {name}: {common} in all")
    if not lines:
        return []
    return ["Trainings differ, which differences may come from, in", "", *lines, ""]


def trained_with(name: str, run_: Run) -> str:
    """Return a setting of a training; of the precision, what `auto` picked."""
    return str((run_.training["arguments"] | run_.training["engine"])[name])


def fidelity_table(fidelity: pd.DataFrame, level: str) -> list[str]:
    """Write how well each student matches the teacher, a row per student."""
    head = ["", "Seeds", "Agreement, %", level, "KL from the teacher, nats", level]
    rows = []
    for model, group in fidelity.groupby("method", sort=False):
        cells = [label(str(model)), str(group["seeds"].iloc[0])]
        numbers = group[["mean", "low", "high"]].to_numpy().tolist()
        for row, decimals in zip(numbers, (2, 4), strict=True):
            mean, low, high = (f"{value:.{decimals}f}" for value in row)
            cells += [mean, "-" if math.isnan(row[1]) else f"{low} to {high}"]
        rows.append(cells)
    return table_lines(head, rows)


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
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(max(1, len(names)) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)


def draw_pairs(
    axes: Axes, rows: list[Comparison], names: list[str], seeds: pd.DataFrame, palette: Palette
) -> None:
    """Draw the difference of each pair: over seeds, and over test images alone."""
    for position, row in enumerate(rows):
        chosen = (seeds["method"] == row.method) & (seeds["reference"] == row.reference)
        values, colour = seeds["difference"][chosen].tolist(), palette[row.method]
        draw_row(axes, position, values, row.difference, (row.low, row.high), colour)
        track = [position + TRACKS[2]] * 2
        axes.plot((row.images_low, row.images_high), track, color=colour, linewidth=1.2)
    if not rows:
        axes.text(0.5, 0.5, "no two methods are compared", transform=axes.transAxes, ha="center")
    axes.axvline(0, color="0.3", linewidth=1)
    axes.set_xlabel("difference in test accuracy, points")
    name_rows(axes, names)


def draw_agreement(
    axes: Axes, fidelity: pd.DataFrame, groups: dict[str, list[Run]], palette: Palette
) -> None:
    """Draw how often each student decides as its teacher does."""
    numbers = fidelity[["mean", "low", "high"]].to_numpy().tolist()
    for position, (model, row) in enumerate(zip(fidelity["method"], numbers, strict=True)):
        values = [100 * run_.metrics["teacher_agreement"] for run_ in groups[model]]
        draw_row(axes, position, values, row[0], (row[1], row[2]), palette[model])
    axes.set_xlabel("agreement with the teacher, %")
    name_rows(axes, [wrapped(label(model)) for model in fidelity["method"]])


def panel_height(names: list[str]) -> float:
    """Return the height of a panel in inches.

    All its rows are as high as the longest name wants, and no lower than their tracks.
    """
    lines = max([2, *(name.count("\n") + 1 for name in names)])
    return PANEL + max(1, len(names)) * LINE * (0.9 + lines)


def draw_figure(
    rows: list[Comparison],
    seeds: pd.DataFrame,
    fidelity: pd.DataFrame,
    groups: dict[str, list[Run]],
    settings: argparse.Namespace,
) -> Figure:
    """Draw the differences of the pairs above, the students' agreement with the teacher below."""
    palette = colours(list(groups))
    agreement = fidelity.loc[fidelity["measure"] == "teacher_agreement"]
    pairs = [f"{wrapped(label(row.method))}\nvs {wrapped(inside(row.reference))}" for row in rows]
    heights = [panel_height(names) for names in (pairs, list(agreement["method"]))]
    title = "\n".join(textwrap.wrap(settings.title, TITLE))
    figure, (above, below) = plt.subplots(
        2, 1, figsize=(WIDTH, sum(heights) + 2 * LINE + LINE * (2 + title.count("\n"))),
        height_ratios=heights,
    )  # fmt: skip
    draw_pairs(above, rows, pairs, seeds, palette)
    draw_agreement(below, agreement, groups, palette)
    level = f"{100 * settings.confidence:g} % interval"
    grey = "0.3"
    handles = [
        Line2D([], [], color=grey, marker="o", markersize=4, linestyle="", label="one seed"),
        Line2D([], [], color=grey, marker="o", markersize=8, linewidth=2.6,
               label=f"mean, {level} over seeds"),
        Line2D([], [], color=grey, linewidth=1.2, label=f"{level} over test images"),
    ]  # fmt: skip
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    add_title(figure, title)
    return figure


def main(argv: list[str] | None = None) -> None:
    """Compare the pairs, and write tables, text and figure."""
    arguments = parse_args(argv)
    mpl.use("Agg")
    plt.style.use(arguments.style)
    runs = read_runs(arguments)
    groups = by_model(runs)
    right = read_right(runs, [values[4] for values in arguments.runs])
    pairs = make_pairs(arguments.pairs, groups, right)
    rows = compare(pairs, arguments)
    seeds = compare_seeds(pairs)
    fidelity = measure_fidelity(groups, arguments.confidence)
    text = format_markdown(rows, seeds, fidelity, runs, arguments)
    figure = draw_figure(rows, seeds, fidelity, groups, arguments)
    with (
        replacing(arguments.comparison) as comparison_file,
        replacing(arguments.seeds) as seeds_file,
        replacing(arguments.fidelity) as fidelity_file,
        replacing(arguments.markdown) as markdown_file,
        replacing(arguments.figure) as png_file,
        replacing(arguments.figure_svg) as svg_file,
        replacing(arguments.page) as page_file,
    ):
        tabulate(rows).to_csv(comparison_file, index=False)
        seeds.to_csv(seeds_file, index=False)
        fidelity.to_csv(fidelity_file, index=False)
        markdown_file.write_text(text)
        figure.savefig(png_file, format="png", dpi=arguments.dpi)
        # No date, so that the same results give the same bytes.
        figure.savefig(svg_file, format="svg", metadata={"Date": None})
        illustrated = f"{text}\n![Differences and agreement]({png_file.name})\n"
        page_file.write_text(page(arguments.title, illustrated, png_file.parent))
    plt.close(figure)
    print(text, flush=True)


if __name__ == "__main__":
    run(main)
