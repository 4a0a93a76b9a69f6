"""Studies from before there was one rule, judged by it."""

import numpy as np
import pandas as pd
import pytest

from distillation.reporting.intervals import bootstrap_mean, mean_over_seeds_and_images
from distillation.reporting.judged_again import judged_again


def study(effect: float, generator: np.random.Generator) -> tuple[pd.DataFrame, ...]:
    """Return comparison.csv and comparison_seeds.csv of a pair, and its images, in points."""
    images = 100 * generator.choice([-1, 0, 1], (3, 400), p=[0.1, 0.8, 0.1]) + effect
    images += generator.normal(0, 0.3, (3, 1))
    _, low, high = bootstrap_mean(images.mean(axis=0), 0.95, 2000, 0)
    names = {"method": "kd", "reference": "baseline"}
    pairs = pd.DataFrame([names | {"verdict": "above", "images_low": low, "images_high": high}])
    seeds = pd.DataFrame([names | {"difference": each} for each in images.mean(axis=1)])
    return pairs, seeds, pd.DataFrame(images)


@pytest.mark.parametrize("seed", range(5))
def test_intervals_are_no_narrower_than_those_of_the_rule(seed: int) -> None:
    """What isn't known of single images never makes an interval narrower."""
    pairs, seeds, images = study(2.0, np.random.default_rng(seed))
    row = judged_again(pairs, seeds, 0.5, {"kd": "KD"})[2]
    low, high = map(float, row.split("|")[3].split(" to "))
    _, least, most = mean_over_seeds_and_images(images.to_numpy()).interval(0.95)
    # Written with two decimals, from a bootstrap.
    assert low <= least + 0.1
    assert high >= most - 0.1


@pytest.mark.parametrize(("effect", "verdict"), [(20.0, "above"), (-20.0, "below"), (0.3, "can't")])
def test_verdicts_follow_the_difference(effect: float, verdict: str) -> None:
    """Large planted differences are shown, none is not; what was said at first stands beside."""
    pairs, seeds, _ = study(effect, np.random.default_rng(1))
    row = judged_again(pairs, seeds, 0.5, {"kd": "KD"})[2]
    assert row.startswith("| KD - Baseline |")
    assert row.split("|")[4].strip().startswith(verdict)
    assert row.endswith("| above |")
