"""Statistics of a comparison of two methods: over seeds, and over test images.

Letters: S seeds, N test images, P pairs of methods. Where a value can't be computed, as an interval
from one seed, it is NaN; nothing stands in for it.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, stats

# Spread, as a fraction of the largest value, below which values differ by rounding alone.
ROUNDING = 1e-12
# Values that one batch of resamples holds, so that memory doesn't grow with their number.
BATCH_VALUES = 2**19


class Interval(NamedTuple):
    """A value and the ends of its interval."""

    value: float
    low: float
    high: float


class PairedTest(NamedTuple):
    """A mean difference with its interval, and the p-value of no difference."""

    difference: Interval
    p_value: float


def all_equal(values: np.ndarray, scale: float) -> bool:
    """Return whether values (S,) differ by no more than the rounding of numbers as large as scale.

    The standard deviation of such values is 0: it says nothing about how others would spread.
    """
    return bool(np.ptp(values) <= ROUNDING * scale)


def t_interval(values: ArrayLike, confidence: float) -> Interval:
    """Return the mean of values (S,) with Student's t interval.

    Its ends are NaN where there is one value, or where all are equal. Confidence is a fraction.
    Source: Student 1908, "The probable error of a mean"; scipy.stats.t.
    """
    values = np.asarray(values, dtype=float)
    mean = float(values.mean())
    if len(values) < 2 or all_equal(values, np.abs(values).max()):
        return Interval(mean, np.nan, np.nan)
    low, high = stats.t.interval(confidence, len(values) - 1, mean, stats.sem(values))
    return Interval(mean, float(low), float(high))


def paired_t(method: ArrayLike, reference: ArrayLike, confidence: float) -> PairedTest:
    """Test whether the mean of `method` (S,) minus `reference` (S,), paired by seed, is 0.

    Two-sided. Where there is one seed, or where the difference is the same in all seeds, the ends
    of its interval and the p-value are NaN.
    Source: Student 1908, "The probable error of a mean"; scipy.stats.ttest_rel.
    """
    method, reference = np.asarray(method, dtype=float), np.asarray(reference, dtype=float)
    mean = float((method - reference).mean())
    scale = max(np.abs(method).max(), np.abs(reference).max())
    if len(method) < 2 or all_equal(method - reference, scale):
        return PairedTest(Interval(mean, np.nan, np.nan), np.nan)
    test = stats.ttest_rel(method, reference)
    low, high = test.confidence_interval(confidence)
    return PairedTest(Interval(mean, float(low), float(high)), float(test.pvalue))


def holm(p_values: ArrayLike) -> np.ndarray:
    """Return p-values (P,) adjusted for their number: min(1, max over j <= i of (P - j + 1) p_(j)).

    p_(1) <= p_(2) <= ... are the sorted p-values. To reject those of at most 5 % errs in any of
    them in at most 5 % of cases, however they depend on each other. NaN, a test that couldn't be
    made, stays NaN and is counted, as one that found nothing would be.
    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    p_values = np.asarray(p_values, dtype=float)
    # NaN is sorted to the end.
    order = np.argsort(p_values)
    factors = np.arange(len(p_values), 0, -1)
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(np.maximum.accumulate(factors * p_values[order]), 1)
    return adjusted


def bootstrap_mean(values: np.ndarray, confidence: float, resamples: int, seed: int) -> Interval:
    """Return the mean of values (N,), N at least 2, with its percentile bootstrap interval.

    The images are drawn with replacement. Of differences between two methods on the same images
    this is the paired bootstrap: a draw takes an image for both. Equal values have an interval of
    no width. Memory doesn't grow with the number of resamples.
    Source: Efron and Tibshirani 1993, "An introduction to the bootstrap", section 13.3;
    scipy.stats.bootstrap.
    """
    ends = stats.bootstrap(
        (values,), np.mean, n_resamples=resamples, batch=max(1, BATCH_VALUES // len(values)),
        confidence_level=confidence, method="percentile", rng=np.random.default_rng(seed),
    ).confidence_interval  # fmt: skip
    return Interval(float(values.mean()), float(ends.low), float(ends.high))


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the p-value of McNemar's exact test, two-sided, 0 to 1.

    Whether two classifiers are right equally often, from the numbers of images on which one of
    them alone is: if so, each such image is a throw of a fair coin. 1 where there is none.
    Source: McNemar 1947, "Note on the sampling error of the difference between correlated
    proportions or percentages"; scipy.stats.binomtest.
    """
    thrown = only_first + only_second
    return float(stats.binomtest(only_first, thrown, 0.5).pvalue) if thrown else 1.0


def detectable_difference(deviation: float, seeds: int, confidence: float, power: float) -> float:
    """Return the true mean difference that a paired t test finds with probability `power`.

    The smallest one, in the unit of `deviation`, the standard deviation (n - 1) of the differences;
    found means: two-sided p at most 1 - confidence, and a difference of the right sign. Power and
    confidence are fractions from 0.5. NaN where the deviation is 0, or there is one seed.
    Source: Cohen 1988, "Statistical power analysis for the behavioral sciences", chapter 2;
    scipy.stats.nct.
    """
    if seeds < 2 or not deviation > 0:
        return np.nan
    freedom = seeds - 1
    threshold = stats.t.isf((1 - confidence) / 2, freedom)
    # Where the test can't fail unless one of two things of (1 - power) / 2 each happens.
    half = (1 - power) / 2
    enough = threshold * stats.chi.isf(half, freedom) / freedom**0.5 + stats.norm.isf(half)
    noncentrality = optimize.root_scalar(
        lambda value: stats.nct.sf(threshold, freedom, value) - power, bracket=(0, enough)
    ).root
    return float(noncentrality * deviation / seeds**0.5)


def judge(difference: float, p_holm: float, seeds: int, confidence: float) -> str:
    """Return what a comparison shows: above, below, not_distinguishable or one_seed.

    Args:
        difference: mean of the method minus the reference.
        p_holm: adjusted p-value; NaN, a test that couldn't be made, shows nothing.
        seeds: how many pairs of runs there are.
        confidence: fraction; 1 - confidence is how often some verdict errs where nothing differs.
    """
    if seeds < 2:
        return "one_seed"
    if not p_holm <= 1 - confidence:
        return "not_distinguishable"
    return "above" if difference > 0 else "below"
