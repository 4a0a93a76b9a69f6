r"""Draw the curves, metrics, attention maps and confusion matrices of one experiment.

Inputs: metrics.json, history.csv and attention.npz of every trained model, and a matplotlib style.
Output: a folder with each figure as PNG and SVG:
    curves_<model>                    of each model without a teacher: loss and accuracy by epoch
    curves_students                   terms as the total holds them, total and accuracy by epoch
    curves_test                       accuracy and cross-entropy on the test split by epoch
    metrics                           every metric of each seed
    attention_<collapse>[_overlay]    maps of teacher and students at each stage, one seed
    confusion                         confusion matrices, all seeds together

Example:
    python workflow/scripts/render_figures.py --title "Cluttered digits" \
        --run teacher 0 t/metrics.json t/history.csv t/attention.npz \
        --run kd 0 kd/metrics.json kd/history.csv kd/attention.npz --label kd KD \
        --style workflow/scripts/figures.mplstyle --figures figures \
        --digests figures.json --dpi 150
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from matplotlib.figure import Figure

from distillation.record.files import replacing, replacing_folder
from distillation.record.folder_digest import file_digest
from distillation.reporting.curves import all_curves
from distillation.reporting.drawing import save, use_style
from distillation.reporting.mosaics import Maps, attention_figure, collapses, read_maps
from distillation.reporting.results import Results, add_run_flags, read_results
from distillation.reporting.scores import confusion_figure, metrics_figure
from distillation.settings.arguments import Parser, add_flags, run
from distillation.settings.reports import Figures


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(__doc__)
    add_run_flags(parser, "ATTENTION")
    add_flags(parser, Figures)
    flag = parser.add_argument
    flag("--style", type=Path, required=True, help="matplotlib style sheet")
    flag("--figures", type=Path, required=True, help="output folder, replaced as a whole")
    flag("--digests", type=Path, required=True, help="output, .json: sha256 of each figure's PNG")
    return parser.parse_args(argv)


def draw_all(results: Results, maps: Maps) -> Iterator[tuple[str, Figure]]:
    """Yield the figures by name, attention maps one at a time, as they are large."""
    yield from all_curves(results).items()
    yield "metrics", metrics_figure(results)
    yield "confusion", confusion_figure(results)
    # Each map has its own scale, on which a sum of squares looks like their mean.
    for collapse in [name for name in collapses(next(iter(maps.values()))) if name != "sum_square"]:
        for end in ("", "_overlay"):
            figure = attention_figure(maps, collapse, bool(end), results)
            yield f"attention_{collapse}{end}", figure


def main(argv: list[str] | None = None) -> None:
    """Draw all figures into one folder."""
    arguments = parse_args(argv)
    use_style(arguments.style)
    results = read_results(arguments)
    maps = read_maps(results, [values[4] for values in arguments.runs])
    with replacing_folder(arguments.figures) as folder, replacing(arguments.digests) as digests:
        for name, figure in draw_all(results, maps):
            save(figure, folder / f"{name}.png", folder / f"{name}.svg", arguments.dpi)
        # By it, and not by the folder's time, Snakemake knows what shows the figures to be stale.
        found = {file.name: file_digest(file) for file in sorted(folder.glob("*.png"))}
        digests.write_text(json.dumps(found, indent=2) + "\n")
    print(f"{arguments.figures}: {len(list(arguments.figures.glob('*.png')))} figures", flush=True)


if __name__ == "__main__":
    run(main)
