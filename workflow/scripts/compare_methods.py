r"""Compare methods: does one help more than the other, and how sure is that?

Inputs: metrics.json, history.csv and predictions.npz of every trained model, and a matplotlib
style. Outputs, in the unit of the metric (differences of percent in points):
    comparison (.csv)   of each contrast the difference, its intervals over seeds and images, what
                        is shown of it, and that in words
    seeds (.csv)        of each contrast and seed the difference, on how many images each is above
                        the other, and McNemar's test where an image has one of two values
    fidelity (.csv)     of each student what is measured against its teacher
    markdown (.md)      all of it for reading, with how it was computed
    page (.html)        the same with the figure, as one file
    figure (.png, .svg) differences and fidelity with their intervals
Beside the pairs that are given, where two methods and their union are among the students, these are
compared with each other, and the interaction is judged. A metric that has no value for each image
in predictions.npz is compared over seeds alone. Seeds are paired by number: as far as their
trainings are the same, they share initialisation, data order and augmentation. Students of one
teacher count once where there are several teachers. docs/statistics.md has the rule.

Example:
    python workflow/scripts/compare_methods.py --title "Cluttered digits" \
        --run baseline 0 b0/metrics.json b0/history.csv b0/predictions.npz \
        --run baseline 1 b1/metrics.json b1/history.csv b1/predictions.npz \
        --run at 0 a0/metrics.json a0/history.csv a0/predictions.npz \
        --run at 1 a1/metrics.json a1/history.csv a1/predictions.npz \
        --label at AT --pair at baseline --metric top1_accuracy --confidence 0.95 \
        --power 0.8 --resamples 10000 --bootstrap-seed 0 --style workflow/scripts/figures.mplstyle \
        --dpi 150 --comparison comparison.csv --seeds comparison_seeds.csv --fidelity fidelity.csv \
        --markdown comparison.md --page comparison.html \
        --figure comparison.png --figure-svg comparison.svg
"""

import argparse
from pathlib import Path

import pandas as pd

from distillation.reporting.comparison import (
    Compared,
    Finding,
    compare,
    compare_seeds,
    measure_fidelity,
)
from distillation.reporting.comparison_figure import draw_figure
from distillation.reporting.comparison_text import describe, format_comparison
from distillation.reporting.contrasts import make_contrasts
from distillation.reporting.drawing import save, use_style
from distillation.reporting.metric import find_metric
from distillation.reporting.outputs import add_outputs, written
from distillation.reporting.pages import page
from distillation.reporting.predictions import read_images
from distillation.reporting.results import add_run_flags, read_results
from distillation.settings.arguments import Parser, add_flags, run, taken
from distillation.settings.reports import Comparison, Figures

OUTPUTS = {
    "comparison": ".csv", "seeds": ".csv", "fidelity": ".csv", "markdown": ".md",
    "page": ".html: markdown and figure", "figure": ".png", "figure-svg": ".svg",
}  # fmt: skip


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(__doc__)
    add_run_flags(parser, "PREDICTIONS")
    parser.add_argument(
        "--pair", action="append", nargs=2, metavar=("METHOD", "REFERENCE"), default=[],
        dest="pairs", help="compare a model with another; once for each pair, in order",
    )  # fmt: skip
    add_flags(parser, Comparison)
    add_flags(parser, Figures)
    parser.add_argument("--style", type=Path, required=True, help="matplotlib style sheet")
    add_outputs(parser, OUTPUTS)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Compare the methods, and write tables, text and figure."""
    arguments = parse_args(argv)
    settings = taken(Comparison, arguments)
    use_style(arguments.style)
    results = read_results(arguments)
    metric = find_metric(results, settings.metric)
    images = read_images(results, [values[4] for values in arguments.runs], metric.name)
    contrasts = make_contrasts(arguments.pairs, results, metric.name, images)
    findings = compare(contrasts, metric.smallest_difference, settings)
    compared = Compared(
        results, metric, settings, findings, compare_seeds(contrasts),
        measure_fidelity(results, settings.confidence),
    )  # fmt: skip
    sentences = [describe(row, metric, settings, results.labels, len(findings)) for row in findings]
    text = format_comparison(compared, sentences)
    figure = draw_figure(compared)
    with written(arguments, OUTPUTS) as files:
        table = pd.DataFrame(findings, columns=Finding._fields).assign(sentence=sentences)
        table.to_csv(files["comparison"], index=False)
        compared.seeds.to_csv(files["seeds"], index=False)
        compared.fidelity.to_csv(files["fidelity"], index=False)
        files["markdown"].write_text(text)
        png = files["figure"]
        save(figure, png, files["figure-svg"], arguments.dpi)
        illustrated = f"{text}\n![Differences and fidelity]({png.name})\n"
        files["page"].write_text(page(results.title, illustrated, png.parent))
    print(text, flush=True)


if __name__ == "__main__":
    run(main)
