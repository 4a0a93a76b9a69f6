r"""Measure how much seeds and test images add to the noise of published differences.

Of each student's difference from the baseline in being right: what benchmarks/coverage.py draws.

    python benchmarks/noise.py docs/results/digits docs/results/resnet14_to_resnet8 \
        docs/results/wrn_16_1_to_resnet8 docs/results/resnet14_to_mobilenet_v2 \
        --markdown docs/benchmarks/noise.md
"""

import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow/scripts"))

from distillation.measuring.answers import read_answers
from distillation.record.files import replacing
from distillation.reporting.tables import table_lines
from distillation.settings.arguments import Parser, run

BASELINE = "baseline"


class Noise(NamedTuple):
    """What differences (S, N) of two methods on each image vary by, in points.

    contested: percent of images on which the two differ; seeds: standard deviation of a seed's
    mean; images: the variance of an image's mean over all seeds that there could be, as a part of
    that of one seed on one image around it.
    """

    contested: float
    seeds: float
    images: float


def noise_of(values: np.ndarray) -> Noise:
    """Return the noise of differences (S, N), S and N at least 2, from the three mean squares."""
    seeds, images = values.shape
    by_seed, by_image = values.mean(axis=1, keepdims=True), values.mean(axis=0)
    rest = values - by_seed - by_image + values.mean()
    within = (rest**2).sum() / ((seeds - 1) * (images - 1))
    between = seeds * by_image.var(ddof=1)
    return Noise(
        contested=100 * float((values != 0).mean()),
        seeds=float(by_seed.std(ddof=1)),
        images=float((between / within - 1) / seeds),
    )


def read_differences(study: Path, method: str) -> np.ndarray:
    """Return differences (S, N) of a published method from the baseline: -100, 0 or 100."""
    found = []
    for folder in sorted((study / method).glob("seed_*")):
        ours, base = (
            read_answers(study / name / folder.name / "predictions.npz")["test"]
            for name in (method, BASELINE)
        )
        right = [(each.logits.argmax(dim=1) == each.labels).numpy() for each in (ours, base)]
        found.append(100.0 * right[0] - 100.0 * right[1])
    return np.array(found)


def main(argv: list[str] | None = None) -> None:
    """Measure the noise of all studies, and write the table."""
    parser = Parser(__doc__)
    parser.add_argument("studies", type=Path, nargs="+", help="folders of published studies")
    parser.add_argument("--markdown", type=Path, required=True, help="output, .md")
    arguments = parser.parse_args(argv)
    lines = []
    for study in arguments.studies:
        trained = sorted(path.parent.name for path in study.glob("*/seed_0"))
        for method in (name for name in trained if name not in (BASELINE, "teacher")):
            values = read_differences(study, method)
            contested, seeds, images = noise_of(values)
            lines.append([
                study.name, method, str(len(values)), f"{values.shape[1]:,}", f"{contested:.0f}",
                f"{seeds:.2f}", f"{images:.2f}",
            ])  # fmt: skip
    head = ["Study", "Student", "Seeds", "Test images", "contested, %", "seeds, points", "images"]
    text = "\n".join([
        "# Noise of published differences from the baseline", "",
        "contested: images on which the two differ, in percent. seeds: standard deviation of a "
        "seed's difference. images: variance of an image's mean over all seeds, as a part of the "
        "variance of one seed around it. Written by benchmarks/noise.py from the predictions "
        "that are kept.", "", *table_lines(head, lines), "",
    ])  # fmt: skip
    with replacing(arguments.markdown) as markdown:
        markdown.write_text(text)
    print(text, flush=True)


if __name__ == "__main__":
    run(main)
