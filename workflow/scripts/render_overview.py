r"""Put several experiments into one table: a row for each, a column for each method.

Inputs: folders of finished experiments, and a table of what others published (data, teacher,
student, method, value, epoch that it is of, source). Outputs: what each method reached at the last
epoch, its difference to the baseline with the interval and verdict of comparison.csv, what the best
test epoch would have said, and the published figure where there is one, as .csv, .md and one
page (.html); and all differences with their intervals, drawn (.png, .svg).

Example:
    python workflow/scripts/render_overview.py \
        --experiment digits digits top1_accuracy results/digits \
        --published docs/results/published_pairs.csv \
        --style workflow/scripts/figures.mplstyle --dpi 150 --csv overview.csv \
        --markdown overview.md --page overview.html --figure overview.png --figure-svg overview.svg
"""

import argparse
from pathlib import Path
from typing import cast

import matplotlib as mpl
import matplotlib.pyplot as plt

from distillation.record.files import replacing
from distillation.reporting.forest import draw_forest
from distillation.reporting.overview import (
    PUBLISHED,
    format_overview,
    read_cells,
    tabulate,
)
from distillation.reporting.pages import page
from distillation.reporting.trained import check_has, read_table
from distillation.settings.arguments import Parser, add_flags, run
from distillation.settings.base import MetricSettings
from distillation.settings.plugins import declared
from distillation.settings.reports import Figures


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(__doc__)
    flag = parser.add_argument
    flag(
        "--experiment", action="append", nargs=4, metavar=("NAME", "DATA", "METRIC", "FOLDER"),
        required=True, dest="experiments",
        help="its name, data set, the metric that its methods are compared by, and results; once "
        "for each",
    )  # fmt: skip
    flag("--published", type=Path, required=True, help="figures of others, .csv")
    flag("--style", type=Path, required=True, help="matplotlib style sheet")
    add_flags(parser, Figures)
    flag("--csv", type=Path, required=True, help="output, .csv")
    flag("--markdown", type=Path, required=True, help="output, .md")
    flag("--page", type=Path, required=True, help="output, .html: markdown and figure")
    flag("--figure", type=Path, required=True, help="output, .png")
    flag("--figure-svg", type=Path, required=True, help="output, .svg")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Read the experiments and write table, text and figure."""
    arguments = parse_args(argv)
    mpl.use("Agg")
    plt.style.use(arguments.style)
    names = sorted({metric for _, _, metric, _ in arguments.experiments})
    if len(names) > 1:
        raise ValueError(f"--experiment: found metrics {', '.join(names)}; allowed: one for all")
    metric = cast(type[MetricSettings], declared("metrics", names[0]))
    published = read_table(arguments.published)
    check_has(f"{arguments.published}:", published, PUBLISHED)
    cells = [
        cell
        for name, data, _, folder in arguments.experiments
        for cell in read_cells(name, data, Path(folder), metric.label, published)
    ]
    text = format_overview(cells, metric)
    figure = draw_forest(cells, metric.label, metric.unit)
    with (
        replacing(arguments.csv) as csv_file,
        replacing(arguments.markdown) as markdown_file,
        replacing(arguments.figure) as png_file,
        replacing(arguments.figure_svg) as svg_file,
        replacing(arguments.page) as page_file,
    ):
        tabulate(cells).to_csv(csv_file, index=False)
        markdown_file.write_text(text)
        figure.savefig(png_file, format="png", dpi=arguments.dpi)
        # No date, so that the same results give the same bytes.
        figure.savefig(svg_file, format="svg", metadata={"Date": None})
        illustrated = f"{text}\n![Differences to the baseline]({png_file.name})\n"
        page_file.write_text(page("Across experiments", illustrated, png_file.parent))
    plt.close(figure)
    print(text, flush=True)


if __name__ == "__main__":
    run(main)
