r"""Judge what is claimed about attention maps from what was measured, in words and figures.

Inputs: what measure_attention.py wrote for each seed of one experiment, a .csv with its .json
beside it; comparison.csv; the description of the data; and a matplotlib style.
Outputs: all rows in one CSV, as they were read, and its provenance; a Markdown file with values,
differences, criteria and verdict of each claim; a folder with a figure for each claim about maps,
as PNG and SVG; and, if wanted, the Markdown with its figures as one HTML page.
Every verdict is computed from the numbers (distillation/reporting/claims.py).

Example:
    python workflow/scripts/render_claims.py --title "Cluttered digits" \
        --metrics attention/seed_0.csv attention/seed_1.csv --label at AT --attention-methods at \
        --claimed-below at baseline --comparison comparison.csv --data-description digits.json \
        --style workflow/scripts/figures.mplstyle --table attention_metrics.csv \
        --provenance attention_metrics.json --markdown claims.md --page claims.html --figures claims
"""

import argparse
import json
import os
from pathlib import Path
from urllib.parse import quote

import pandas as pd

from distillation.record.files import replacing_folder
from distillation.record.provenance import describe_step
from distillation.reporting import measurements
from distillation.reporting.claim_figures import draw_figures
from distillation.reporting.claim_text import OBJECT_MASKS, describe_data, format_claims
from distillation.reporting.claims import check_students, judge_pairs
from distillation.reporting.drawing import use_style
from distillation.reporting.outputs import add_outputs, written
from distillation.reporting.pages import page
from distillation.reporting.results import BASELINE, add_name_flags
from distillation.settings.arguments import Parser, add_flags, run, scalar
from distillation.settings.base import checked
from distillation.settings.reports import Figures, SmallestDifferences

# Packages whose version can change the table.
PACKAGES = ("pandas",)
OUTPUTS = {
    "table": ".csv: all rows", "provenance": ".json: of the table", "markdown": ".md: the claims",
}  # fmt: skip


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(__doc__)
    flag = parser.add_argument
    flag(
        "--metrics", type=Path, nargs="+", required=True, metavar="FILE",
        help=".csv that measure_attention.py writes, of each seed, with its .json beside it",
    )  # fmt: skip
    flag("--comparison", type=Path, required=True, help="comparison.csv")
    flag("--data-description", type=Path, required=True, help=".json that prepare_data.py writes")
    add_name_flags(parser)
    flag(
        "--attention-methods", nargs="*", metavar="METHOD",
        help="methods that learn attention; default: all students but the baseline",
    )  # fmt: skip
    flag(
        "--claimed-below", nargs=2, action="append", metavar=("METHOD", "REFERENCE"), default=[],
        help="a student that is claimed to come out below another, which is judged too",
    )  # fmt: skip
    flag(
        "--object-mask", choices=sorted(OBJECT_MASKS),
        help="that of measure_attention.py, to be told; default: nothing is told",
    )  # fmt: skip
    flag(
        "--smallest-difference", nargs=2, action="append", metavar=("MEASURE", "VALUE"), default=[],
        help="the smallest difference of interest of a measure, in its unit, in place of our own",
    )  # fmt: skip
    flag("--style", type=Path, required=True, help="matplotlib style sheet")
    add_flags(parser, Figures, "dpi")
    add_outputs(parser, OUTPUTS)
    flag("--page", type=Path, help="output, .html: the claims with their figures; default: none")
    flag("--figures", type=Path, required=True, help="output folder, replaced as a whole")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Judge the claims and write table, provenance, text, figures and page."""
    arguments = parse_args(argv)
    use_style(arguments.style)
    files = [measurements.read_measurements(file) for file in arguments.metrics]
    (head, *others), rows = zip(*(file.text.split("\n", 1) for file in files), strict=True)
    if other := [each for each in others if each != head]:
        raise ValueError(f"--metrics: found the columns {head} and {other[0]}; allowed: alike")
    measurements.check_measurements([file.table for file in files], arguments.teachers)
    table = pd.concat([file.table for file in files], ignore_index=True)
    methods = measurements.methods_of(table, dict(arguments.labels), arguments.teachers)
    others = [each for each in measurements.students_of(methods) if each != BASELINE]
    named = others if arguments.attention_methods is None else arguments.attention_methods
    attentive = check_students("--attention-methods", named, methods)
    pairs = judge_pairs(arguments.comparison, arguments.claimed_below, methods)
    data, count = describe_data(arguments.data_description, arguments.title, arguments.object_mask)
    images = measurements.images_of(files, count)
    given = {name: scalar(value) for name, value in arguments.smallest_difference}
    least = checked(SmallestDifferences, given, "--smallest-difference")
    link = Path(os.path.relpath(arguments.figures, arguments.markdown.parent)).as_posix()
    markdown = format_claims(
        table, images, methods, attentive, least, pairs, arguments.title, data, link
    )
    values = measurements.intervals(
        measurements.samples(table, measurements.BEFORE, measurements.pick_collapse(table), images)
    )
    # Paths are no settings, and what they hold is told by its own provenance.
    settings = argparse.Namespace(**vars(arguments) | {"metrics": None})
    provenance = describe_step(settings, PACKAGES, measurements=[file.provenance for file in files])
    outputs = [*OUTPUTS, *(["page"] if arguments.page else [])]
    with written(arguments, outputs) as output, replacing_folder(arguments.figures) as folder:
        output["table"].write_text("\n".join([head, "".join(rows)]))
        output["provenance"].write_text(json.dumps(provenance, indent=2) + "\n")
        output["markdown"].write_text(markdown)
        draw_figures(folder, values, methods, arguments.title, arguments.dpi)
        if arguments.page:
            # The figures aren't in their place yet.
            here = markdown.replace(f"]({quote(link)}/", "](")
            output["page"].write_text(page(f"{arguments.title}: claims", here, folder))
    print(markdown.partition("\nMeasured on ")[0], flush=True)


if __name__ == "__main__":
    run(main)
