r"""Make the page of results from the small files that are kept beside it.

Inputs: a folder with introduction.md, published.csv (figures of others: data, source, quantity,
model, value), one folder per study as publish_results.py makes them, folders with overview.md and
overview.png as render_overview.py makes them, and, where there is something to say about one of
these that no number says, <folder>.md. Output: a Markdown file. It is made of these
files alone, so that it comes out the same wherever it is made. Where a study has its networks'
logits, its numbers are computed from them again, and the page tells which come out otherwise. A
study from before there was one rule for all comparisons is judged again, as far as that can be.

Example:
    python workflow/scripts/render_results.py --folder docs/results --markdown docs/results.md
"""

import argparse
import os
from pathlib import Path

from distillation.measuring.kept import is_kept, measure_kept
from distillation.record.files import replacing
from distillation.reporting.again import Measured, again_lines
from distillation.reporting.studies import PUBLISHED, across_lines, overview, study_lines
from distillation.reporting.study import Study
from distillation.reporting.trained import check_has, read_table
from distillation.settings.arguments import Parser, run


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="of the studies")
    parser.add_argument("--markdown", type=Path, required=True, help="output, .md")
    return parser.parse_args(argv)


def measure_study(study: Study) -> Measured:
    """Return what is measured again of each run of a study; nothing where nothing was kept."""
    runs = [one for group in study.runs.values() for one in group]
    if not any(is_kept(study.folder, one) for one in runs):
        return {}
    return {
        f"{one['model']}, seed {one['seed']}": measure_kept(study.folder, one, runs) for one in runs
    }


def main(argv: list[str] | None = None) -> None:
    """Read the studies and write the page."""
    arguments = parse_args(argv)
    folder = arguments.folder
    studies = [Study(file.parent) for file in folder.glob("*/study.json")]
    if not studies:
        raise FileNotFoundError(f"{folder}: no study; publish_results.py makes them")
    # Last come those by which settings were tried.
    studies.sort(key=lambda study: (study.held_out, study.folder))
    published = read_table(folder / "published.csv")
    check_has(f"{folder / 'published.csv'}:", published, PUBLISHED)
    link = Path(os.path.relpath(folder, arguments.markdown.parent)).as_posix()
    lines = [(folder / "introduction.md").read_text().strip(), "", *overview(studies)]
    for study in studies:
        again = again_lines(study, measure_study(study))
        lines += study_lines(study, published, f"{link}/{study.folder.name}", again)
    for overview_file in sorted(folder.glob("*/overview.md")):
        place = overview_file.parent
        lines += across_lines(place, f"{link}/{place.name}")
    with replacing(arguments.markdown) as file:
        file.write_text("\n".join(lines).rstrip("\n") + "\n")
    print(f"{arguments.markdown}: {len(studies)} studies", flush=True)


if __name__ == "__main__":
    run(main)
