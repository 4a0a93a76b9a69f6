"""Statistics of comparisons: against hand-made numbers, and by simulation of what they promise."""

import math
import warnings

import numpy as np
import pytest
import scipy.stats

from distillation.reporting.intervals import (
    bootstrap_mean,
    detectable_difference,
    holm,
    judge,
    mcnemar,
    paired_t,
    t_interval,
)


def within_chance(rate: float, expected: float, trials: int) -> bool:
    """Return whether a rate of simulated trials is what chance makes of the expected one (4 sd)."""
    return abs(rate - expected) <= 4 * math.sqrt(expected * (1 - expected) / trials)


def test_paired_t_by_hand() -> None:
    """Mean difference 2, deviation 1, three seeds: t = 2 sqrt(3), and the table's 4.303 at 2 df."""
    found = paired_t([11.0, 12.0, 13.0], [10.0, 10.0, 10.0], 0.95)
    half = 4.302653 / math.sqrt(3)
    assert found.difference == pytest.approx((2, 2 - half, 2 + half), abs=1e-5)
    # With 2 degrees of freedom the distribution function has a closed form.
    t = 2 * math.sqrt(3)
    assert found.p_value == pytest.approx(1 - t / math.sqrt(2 + t**2), rel=1e-9)


def test_t_interval_is_that_of_scipy() -> None:
    """The interval of a mean is the one-sample t test's, around the mean."""
    values = np.random.default_rng(0).normal(3, 2, 6)
    expected = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.9)
    assert t_interval(values, 0.9) == pytest.approx((values.mean(), *expected))


@pytest.mark.parametrize(
    ("method", "reference"),
    [([1.0], [2.0]), ([1.0, 2.0], [0.0, 1.0]), ([0.1, 0.2, 0.3], [0.0, 0.1, 0.2])],
)
def test_nothing_is_said_without_a_spread(method: list[float], reference: list[float]) -> None:
    """One seed, or the same difference in all seeds, gives no interval, no p-value, no warning."""
    found = paired_t(method, reference, 0.95)
    assert found.difference.value == pytest.approx(np.subtract(method, reference).mean())
    assert all(map(math.isnan, (*found.difference[1:], found.p_value)))
    differences = np.subtract(method, reference)
    if len(method) > 1:
        assert math.isnan(detectable_difference(0.0, len(differences), 0.95, 0.8))
    assert math.isnan(detectable_difference(1.0, 1, 0.95, 0.8))


def test_holm_by_hand() -> None:
    """The smallest of four is taken times 4, the next times 3, never below the one before."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == pytest.approx([1, 1])
    assert len(holm([])) == 0


def test_holm_counts_tests_that_could_not_be_made() -> None:
    """A missing p-value stays missing, and weighs on the others as one that found nothing."""
    adjusted = holm([math.nan, 0.01])
    assert math.isnan(adjusted[0])
    assert adjusted[1] == pytest.approx(0.02)


def test_mcnemar_by_hand() -> None:
    """1 against 6 images: twice the chance of at most 1 head in 7 throws of a coin."""
    assert mcnemar(1, 6) == pytest.approx(2 * (1 + 7) / 2**7)
    assert mcnemar(6, 1) == mcnemar(1, 6)
    assert mcnemar(5, 5) == 1
    assert mcnemar(0, 0) == 1


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_coverage_of_the_t_interval(seeds: int) -> None:
    """In 95 % of experiments the interval over seeds has the true difference in it."""
    generator = np.random.default_rng(seeds)
    trials, true = 1500, 0.4
    covered = 0
    for _ in range(trials):
        # What both methods of a seed share, as its order of images, cancels.
        shared = generator.normal(90, 3, seeds)
        method = shared + true + generator.normal(0, 0.2, seeds)
        reference = shared + generator.normal(0, 0.2, seeds)
        _, low, high = paired_t(method, reference, 0.95).difference
        covered += low <= true <= high
    assert within_chance(covered / trials, 0.95, trials)


def test_coverage_of_the_bootstrap() -> None:
    """In 95 % of experiments the interval over images has the true difference in it."""
    generator = np.random.default_rng(0)
    trials, images, chances = 400, 300, (0.1, 0.75, 0.15)
    covered = 0
    for number in range(trials):
        values = generator.choice([-100.0, 0.0, 100.0], images, p=chances)
        _, low, high = bootstrap_mean(values, 0.95, 300, number)
        covered += low <= 100 * (chances[2] - chances[0]) <= high
    assert within_chance(covered / trials, 0.95, trials)


def test_bootstrap_is_the_percentile_of_resampled_means() -> None:
    """The interval is, to within the draws, the quantiles of means of images drawn anew."""
    generator = np.random.default_rng(1)
    values = generator.normal(0, 1, 50)
    means = generator.choice(values, (20000, 50)).mean(axis=1)
    expected = (values.mean(), *np.quantile(means, [0.05, 0.95]))
    assert bootstrap_mean(values, 0.9, 20000, 3) == pytest.approx(expected, abs=0.01)
    assert bootstrap_mean(values, 0.9, 500, 3) == bootstrap_mean(values, 0.9, 500, 3)


def test_bootstrap_of_equal_values() -> None:
    """Values that are all the same have an interval of no width, and no warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert bootstrap_mean(np.full(20, 5.0), 0.95, 200, 0) == (5, 5, 5)


@pytest.mark.parametrize("seeds", [3, 5])
def test_false_positives_of_a_whole_comparison(seeds: int) -> None:
    """Where no method helps, at most 5 % of experiments with four pairs have a false verdict."""
    generator = np.random.default_rng(seeds)
    trials, wrong = 800, 0
    for _ in range(trials):
        baseline, kd, at, both = generator.normal(90, 0.2, (4, seeds))
        pairs = [(kd, baseline), (at, baseline), (both, baseline), (both, kd)]
        tests = [paired_t(method, reference, 0.95).p_value for method, reference in pairs]
        verdicts = [
            judge(float((method - reference).mean()), p_holm, seeds, 0.95)
            for (method, reference), p_holm in zip(pairs, holm(tests), strict=True)
        ]
        wrong += any(verdict != "not_distinguishable" for verdict in verdicts)
    rate = wrong / trials
    assert rate <= 0.05 or within_chance(rate, 0.05, trials)
    # A test that never finds anything would pass the line above.
    assert rate > 0.005


@pytest.mark.parametrize(("seeds", "power"), [(2, 0.8), (3, 0.8), (5, 0.95)])
def test_detectable_difference_is_found_as_often_as_said(seeds: int, power: float) -> None:
    """A true difference of that size is found, with the right sign, with that probability."""
    generator = np.random.default_rng(seeds)
    true = detectable_difference(0.3, seeds, 0.95, power)
    trials, found = 1000, 0
    for _ in range(trials):
        differences = generator.normal(true, 0.3, seeds)
        found += paired_t(differences, np.zeros(seeds), 0.95).difference.low > 0
    assert within_chance(found / trials, power, trials)


def test_more_seeds_detect_less() -> None:
    """The detectable difference falls with the number of seeds and grows with their spread."""
    differences = [detectable_difference(1.0, seeds, 0.95, 0.8) for seeds in (2, 3, 5, 20)]
    assert differences == sorted(differences, reverse=True)
    twice = detectable_difference(2.0, 5, 0.95, 0.8)
    assert twice == pytest.approx(2 * detectable_difference(1.0, 5, 0.95, 0.8))


@pytest.mark.parametrize(
    ("difference", "p_holm", "seeds", "verdict"),
    [
        (0.4, 0.049, 5, "above"),
        (-0.4, 0.049, 5, "below"),
        (0.4, 0.051, 5, "not_distinguishable"),
        (0.4, math.nan, 3, "not_distinguishable"),
        (0.4, math.nan, 1, "one_seed"),
    ],
)
def test_verdicts(difference: float, p_holm: float, seeds: int, verdict: str) -> None:
    """The verdict follows from sign, adjusted p-value and number of seeds."""
    assert judge(difference, p_holm, seeds, 0.95) == verdict
