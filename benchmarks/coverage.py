r"""Simulate how often intervals hold the true difference, and judgements err.

Two methods on the same test images, right or wrong on each, for several seeds, with true
differences at which a judgement is hardest: none, and the smallest one of interest. Some images are
contested: methods differ on each with a leaning of the image's own, and of the seed's. How large
all of this is in published studies is what benchmarks/noise.py finds.

    python benchmarks/coverage.py --json docs/benchmarks/coverage.json \
        --markdown docs/benchmarks/coverage.md
"""

import itertools
import json
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import Field

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow/scripts"))

from distillation.record.files import replacing
from distillation.reporting.intervals import (
    holm,
    level_decided,
    mean_over_seeds,
    mean_over_seeds_and_images,
)
from distillation.reporting.judgement import Asks, Estimate, judge
from distillation.reporting.tables import table_lines
from distillation.settings.arguments import Parser, add_flags, run, taken
from distillation.settings.base import Settings

SEEDS, IMAGES = (2, 3, 5, 10), (540, 10_000)
# Of a method's accuracy from seed to seed, in points; its correlation with the other's; and the
# part of the images that is contested.
SPREADS = ((0.1, 0.0, 0.1), (0.3, 0.0, 0.1), (0.5, 0.0, 0.1), (0.5, 0.5, 0.1), (3.0, 0.0, 0.35))
# The strongest leaning of an image to a method; from 0.5 on the image tells who is right, if one.
LEANINGS = (0.3, 0.5, 0.8)
SMALLEST = 0.5
# What each of two methods, and both together, truly add: nothing, and what is hardest to judge.
EFFECTS = {
    "none": (0, 0, 0), "one just beyond": (0.501, 0, 0.501), "one just within": (0.499, 0, 0.499),
    "all just beyond": (0.501,) * 3, "all just within": (0.499,) * 3,
}  # fmt: skip
# Neither, first, second and both, in the questions that are asked of them.
QUESTIONS = ((-1, 1, 0, 0), (-1, 0, 1, 0), (-1, 0, 0, 1), (0, -1, 0, 1), (0, 0, -1, 1),
             (0, -1, 1, 0), (1, -1, -1, 1))  # fmt: skip
# How often each is so, in percent, if intervals hold what they state. A side of an interval of 95 %
# is 2.5, and 3.5 is stated, since with few seeds the degrees of freedom are known roughly.
NOMINAL = {
    "in 95 %": 95, "in 90 %": 90, "seeds alone, in 95 %": 95, "above at delta": 3.5,
    "not above at delta": 3.5, "equal at delta": 5, "above or below at 0": 5,
    "not equal at 0": 5,
}  # fmt: skip


class Simulated(Settings):
    """How much is simulated."""

    trials: int = Field(10_000, ge=10, description="experiments of each kind and true difference")
    seed: int = Field(0, ge=0, description="of all draws")


class Cell(NamedTuple):
    """A kind of experiment: seeds and test images, and what SPREADS and LEANINGS say."""

    seeds: int
    images: int
    deviation: float
    correlation: float
    contested: float
    leaning: float


def draw(true: float, cell: Cell, generator: np.random.Generator) -> np.ndarray:
    """Return differences (S, N) of two methods on each image: -100, 0 or 100 percent.

    Their mean over all seeds and images that there could be is `true`, in points.
    """
    seeds, images, deviation, correlation, part, leaning = cell
    between = deviation * (2 * (1 - correlation)) ** 0.5
    contested = generator.binomial(images, part)
    by_seed = (true + generator.normal(0, between, (seeds, 1))) / (100 * part)
    means = by_seed + generator.uniform(-leaning, leaning, contested)
    differ = np.maximum(np.abs(means), 0.5 if leaning < 0.5 else 0)
    chance = generator.random((seeds, contested))
    found = np.zeros((seeds, images))
    found[:, :contested] = 100.0 * (chance < (differ + means) / 2)
    found[:, :contested] -= 100.0 * (chance > 1 - (differ - means) / 2)
    return found


def simulate(cell: Cell, trials: int, generator: np.random.Generator) -> dict[str, float]:
    """Return how often each of NOMINAL is so, in percent."""
    found = {name: [] for name in NOMINAL}
    for true, _ in itertools.product((0.0, SMALLEST), range(trials)):
        values = draw(true, cell, generator)
        estimate = mean_over_seeds_and_images(values).estimate(0.95)
        alone = mean_over_seeds(values.mean(axis=1)).estimate(0.95)
        found["in 95 %"].append(estimate.low <= true <= estimate.high)
        found["in 90 %"].append(estimate.low_90 <= true <= estimate.high_90)
        found["seeds alone, in 95 %"].append(alone.low <= true <= alone.high)
        above, equal = (judge(estimate, SMALLEST, asks) for asks in ("above", "equal"))
        if true:
            found["above at delta"].append(above == "shown")
            found["not above at delta"].append(above == "refuted")
            found["equal at delta"].append(equal == "shown")
        else:
            either = "shown" in (above, judge(estimate, SMALLEST, "below"))
            found["above or below at 0"].append(either)
            found["not equal at 0"].append(equal == "refuted")
    return {name: round(100 * float(np.mean(each)), 2) for name, each in found.items()}


def said_falsely(estimate: Estimate, true: float) -> bool:
    """Return whether a judgement contradicts the true difference."""
    said: dict[Asks, bool] = {
        "above": true >= SMALLEST, "below": true <= -SMALLEST, "equal": abs(true) <= SMALLEST,
    }  # fmt: skip
    return any(judge(estimate, SMALLEST, asks) == "shown" for asks, so in said.items() if not so)


def false_in_any(effects: tuple[float, float, float], seeds: int, trials: int, seed: int) -> float:
    """Return in how many percent of experiments anything false is said, with Holm's correction."""
    generator = np.random.default_rng(seed)
    wrong, signs = 0, np.array(QUESTIONS)
    for _ in range(trials):
        arms = np.array([0, *effects])[:, None] + generator.normal(0, 0.1, (4, seeds))
        means = [mean_over_seeds(values) for values in signs @ arms]
        adjusted = holm([level_decided(mean, SMALLEST) for mean in means])
        wrong += any(
            p <= 0.05 and said_falsely(mean.estimate(0.95), true)
            for p, mean, true in zip(adjusted, means, signs @ (0, *effects), strict=True)
        )
    return round(100 * wrong / trials, 2)


def written(content: dict) -> str:
    """Write what was found as Markdown: of each number of seeds the least and the most."""
    lines = []
    for seeds in SEEDS:
        cells = [cell for cell in content["cells"] if cell["seeds"] == seeds]
        spans = [(min(c[name] for c in cells), max(c[name] for c in cells)) for name in NOMINAL]
        lines.append([str(seeds), *(f"{low:.1f} to {high:.1f}" for low, high in spans)])
    lines.append(["stated", *(f"{value:g}" for value in NOMINAL.values())])
    family = [
        [str(seeds), *(f"{content['families'][f'{name}, {seeds} seeds']:.1f}" for name in EFFECTS)]
        for seeds in (3, 5)
    ]
    return "\n".join([
        "# Coverage of intervals and false judgements, simulated", "",
        f"Percent of {content['trials']:,} experiments of each kind and true difference, least to "
        f"most over {' and '.join(map(str, IMAGES))} test images, standard deviations of seeds of "
        "0.1 to 3 points, correlated between methods or not, and images that lean to a method "
        f"weakly to strongly; delta is {SMALLEST} points. By chance a share of 95 % is off by "
        f"{content['chance']:.1f} (2 standard errors). Written by benchmarks/coverage.py; "
        "docs/statistics.md says what it means.", "",
        *table_lines(["Seeds", *NOMINAL], lines), "",
        "Percent of experiments of seven questions in which anything false is said, with Holm's "
        "correction, by what methods truly add (delta is 0.5); 5 is stated.", "",
        *table_lines(["Seeds", *EFFECTS], family), "",
    ])  # fmt: skip


def main(argv: list[str] | None = None) -> None:
    """Simulate all of it, and write it."""
    parser = Parser(__doc__)
    add_flags(parser, Simulated)
    parser.add_argument("--json", type=Path, required=True, help="output, .json")
    parser.add_argument("--markdown", type=Path, required=True, help="output, .md")
    arguments = parser.parse_args(argv)
    settings = taken(Simulated, arguments)
    trials, generator = settings.trials, np.random.default_rng(settings.seed)
    cells = []
    for seeds, images, spread, leaning in itertools.product(SEEDS, IMAGES, SPREADS, LEANINGS):
        cell = Cell(seeds, images, *spread, leaning)
        cells.append(cell._asdict() | simulate(cell, trials, generator))
    families = {
        f"{name}, {seeds} seeds": false_in_any(effects, seeds, 2 * trials, settings.seed)
        for seeds in (3, 5)
        for name, effects in EFFECTS.items()
    }
    content = {
        "trials": trials, "seed": settings.seed, "nominal": NOMINAL, "families": families,
        "chance": 200 * (0.95 * 0.05 / (2 * trials)) ** 0.5, "cells": cells,
    }  # fmt: skip
    with replacing(arguments.json) as json_file, replacing(arguments.markdown) as markdown_file:
        json_file.write_text(json.dumps(content, indent=1) + "\n")
        markdown_file.write_text(written(content))
    print(written(content), flush=True)


if __name__ == "__main__":
    run(main)
