"""Statistics of comparisons: against hand-made numbers, and by simulation of what they promise."""

import math
import warnings

import numpy as np
import pytest
import scipy.stats

from distillation.reporting.intervals import (
    Mean,
    bootstrap_mean,
    detectable_difference,
    holm,
    level_decided,
    mcnemar,
    mean_over_seeds,
    mean_over_seeds_and_images,
)
from distillation.reporting.judgement import judge

NOTHING = (pytest.approx(math.nan, nan_ok=True),) * 2


def test_mean_over_seeds_is_students() -> None:
    """The interval of a mean over seeds is the one-sample t test's."""
    values = np.random.default_rng(0).normal(3, 2, 6)
    mean = mean_over_seeds(values)
    expected = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.9)
    assert mean.interval(0.9) == pytest.approx((values.mean(), *expected))
    assert mean.estimate(0.95)[3:] == pytest.approx(tuple(expected))


def test_seeds_and_images_by_hand() -> None:
    """Of two seeds and three images the mean squares are 6, 32 and 2: (6 + 32 - 2) / 6."""
    values = np.array([[1.0, 4.0, 7.0], [1.0, 6.0, 11.0]])
    # Means of seeds 4 and 6, of images 1, 5 and 9.
    mean = mean_over_seeds_and_images(values)
    seeds, images, rest = 6.0, 32.0, 2.0
    assert mean.value == pytest.approx(5)
    assert mean.error == pytest.approx(math.sqrt((seeds + images - rest) / 6))
    assert mean.freedom == pytest.approx((seeds + images - rest) / seeds)


def test_images_that_tell_nothing_leave_the_interval_over_seeds() -> None:
    """Where images of a seed are all alike, the interval is that over seeds alone."""
    by_seed = np.array([1.0, 2.0, 4.0])
    found = mean_over_seeds_and_images(np.repeat(by_seed[:, None], 50, axis=1))
    assert found == pytest.approx(mean_over_seeds(by_seed))


@pytest.mark.parametrize("values", [[1.0], [1.0, 1.0], [0.1, 0.2 - 0.1, 0.3 - 0.2]])
def test_nothing_is_said_without_a_spread(values: list[float]) -> None:
    """One seed, or the same value in all seeds, gives no error, judgement or warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for mean in (
            mean_over_seeds(values),
            mean_over_seeds_and_images(np.array(values)[:, None] + np.arange(5.0) - 2),
        ):
            assert mean.value == pytest.approx(np.mean(values))
            assert mean[1:] == NOTHING
            assert judge(mean.estimate(0.95), 0.5, "above") == "can't be said"
            assert math.isnan(level_decided(mean, 0.5))
            assert math.isnan(detectable_difference(mean, 0.95, 0.8))


@pytest.mark.parametrize("value", [-1.3, -0.6, -0.2, 0.0, 0.3, 0.7, 0.9, 2.0])
@pytest.mark.parametrize("error", [0.05, 0.2, 1.0])
def test_p_value_of_a_judgement(value: float, error: float) -> None:
    """It is at most a level where, and only where, the intervals of that level show something."""
    mean = Mean(value, error, 3.7)
    for level in (0.01, 0.05, 0.2):
        estimate = mean.estimate(1 - level)
        shown = [judge(estimate, 0.5, asks) for asks in ("above", "below", "equal")]
        assert (level_decided(mean, 0.5) <= level) == ("shown" in shown)


def test_holm_by_hand() -> None:
    """The smallest of four is taken times 4, the next times 3, never below the one before."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == pytest.approx([1, 1])
    assert len(holm([])) == 0
    # What couldn't be tested weighs on the others as what found nothing.
    assert holm([math.nan, 0.01]) == pytest.approx([math.nan, 0.02], nan_ok=True)


def test_mcnemar_by_hand() -> None:
    """1 against 6 images: twice the chance of at most 1 head in 7 throws of a coin."""
    assert mcnemar(1, 6) == pytest.approx(2 * (1 + 7) / 2**7)
    assert mcnemar(6, 1) == mcnemar(1, 6)
    assert mcnemar(5, 5) == mcnemar(0, 0) == 1


def test_bootstrap_is_the_percentile_of_resampled_means() -> None:
    """The interval is, to within the draws, the quantiles of means of images drawn anew."""
    generator = np.random.default_rng(1)
    values = generator.normal(0, 1, 50)
    means = generator.choice(values, (20000, 50)).mean(axis=1)
    expected = (values.mean(), *np.quantile(means, [0.05, 0.95]))
    assert bootstrap_mean(values, 0.9, 20000, 3) == pytest.approx(expected, abs=0.01)
    assert bootstrap_mean(values, 0.9, 500, 3) == bootstrap_mean(values, 0.9, 500, 3)
    assert bootstrap_mean(np.full(20, 5.0), 0.95, 200, 0) == (5, 5, 5)


@pytest.mark.parametrize(("seeds", "power"), [(3, 0.8), (5, 0.95)])
def test_detectable_difference_is_found_as_often_as_said(seeds: int, power: float) -> None:
    """A true difference of that size is found, with the right sign, with that probability."""
    generator = np.random.default_rng(seeds)
    true = detectable_difference(Mean(0, 0.3 / seeds**0.5, seeds - 1), 0.95, power)
    drawn = generator.normal(true, 0.3, (1000, seeds))
    found = np.mean([mean_over_seeds(values).interval(0.95).low > 0 for values in drawn])
    assert found == pytest.approx(power, abs=4 * math.sqrt(power * (1 - power) / 1000))
