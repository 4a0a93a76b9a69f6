"""Statistics of a difference between methods, over seeds and test images; see docs/statistics.md.

Letters: S seeds, or teachers where there are several, N test images, P questions. Where a value
can't be computed, as an interval from one seed, it is NaN; nothing stands in for it.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special, stats

from distillation.reporting.judgement import Estimate

# Spread, as a fraction of the largest value, below which values differ by rounding alone.
ROUNDING = 1e-12
# Values that one batch of resamples holds, so that memory doesn't grow with their number.
BATCH_VALUES = 2**19


class Interval(NamedTuple):
    """A value and the ends of its interval."""

    value: float
    low: float
    high: float


class Mean(NamedTuple):
    """A mean with its standard error and the degrees of freedom that this is known with."""

    value: float
    error: float
    freedom: float

    def interval(self, confidence: float) -> Interval:
        """Return Student's t interval of a confidence, a fraction."""
        half = self.error * float(special.stdtrit(self.freedom, (1 + confidence) / 2))
        return Interval(self.value, self.value - half, self.value + half)

    def estimate(self, confidence: float) -> Estimate:
        """Return what a judgement needs: intervals of 1 - level and 1 - 2 level."""
        narrow = self.interval(2 * confidence - 1)
        return Estimate(*self.interval(confidence), narrow.low, narrow.high)


def mean_over_seeds(values: ArrayLike) -> Mean:
    """Return the mean of values (S,); from one, or where all are equal, with no error known.

    Source: Student 1908, "The probable error of a mean".
    """
    values = np.asarray(values, dtype=float)
    value = float(values.mean())
    # The deviation of equal values is 0: it says nothing about how others would spread.
    if len(values) < 2 or np.ptp(values) <= ROUNDING * np.abs(values).max():
        return Mean(value, np.nan, np.nan)
    return Mean(value, float(values.std(ddof=1)) / len(values) ** 0.5, len(values) - 1)


def mean_over_seeds_and_images(values: np.ndarray) -> Mean:
    """Return the mean of values (S, N) that holds for other seeds and for other test images.

    All seeds share the images, whose part of the error doesn't fall with S. Seeds crossed with
    images have three mean squares; the variance is that of readers crossed with cases,
    (seeds + max(images - rest, 0)) / (S N).
    Source: Obuchowski and Rockette 1995, "Hypothesis testing of diagnostic accuracy for multiple
    readers and multiple tests"; Hillis 2007, "A comparison of denominator degrees of freedom
    methods for multiple observer ROC analysis". Deviation: Hillis' degrees of freedom are (S - 1)
    over the square of the seeds' share in the variance; the share is not squared here, as with
    three seeds, which tell it roughly, intervals would hold in 92 % of cases, not in 95 %.
    """
    seeds, images = values.shape
    alone = mean_over_seeds(values.mean(axis=1))
    if np.isnan(alone.error):
        return alone
    by_image = values.mean(axis=0)
    rest = values - values.mean(axis=1, keepdims=True) - by_image + alone.value
    between = images * seeds * alone.error**2
    within = (rest**2).sum() / ((seeds - 1) * (images - 1))
    total = between + max(seeds * by_image.var(ddof=1) - within, 0)
    return Mean(alone.value, float(np.sqrt(total / values.size)), (seeds - 1) * total / between)


def level_decided(mean: Mean, smallest_difference: float) -> float:
    """Return the p-value of a judgement: the smallest level at which it says something.

    That is: the difference lies beyond the smallest one of interest, on the side where it was
    found, at half the level; or nearer to 0 than it, by two one-sided tests at the level. Whatever
    the difference is, something false is said in at most that fraction of cases.
    """
    size = abs(mean.value)
    beyond, within = (
        float(special.stdtr(mean.freedom, -distance / mean.error))
        for distance in (size - smallest_difference, smallest_difference - size)
    )
    return min(2 * beyond, within)


def holm(p_values: ArrayLike) -> np.ndarray:
    """Return p-values (P,) adjusted for their number: min(1, max over j <= i of (P - j + 1) p_(j)).

    p_(1) <= p_(2) <= ... are the sorted p-values. NaN, a question that couldn't be tested, stays
    NaN and is counted, as one that found nothing would be.
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


def detectable_difference(mean: Mean, confidence: float, power: float) -> float:
    """Return the true difference from 0 that such a mean finds with probability `power`.

    The smallest one; found means: the interval lies above 0. From a smallest difference of
    interest it is counted on. Power and confidence are fractions from 0.5. NaN where no error is
    known.
    Source: Cohen 1988, "Statistical power analysis for the behavioral sciences", chapter 2;
    scipy.stats.nct.
    """
    if np.isnan(mean.error):
        return np.nan
    threshold = special.stdtrit(mean.freedom, (1 + confidence) / 2)
    # Where the test can't fail unless one of two things of (1 - power) / 2 each happens.
    half = (1 - power) / 2
    spread = stats.chi.isf(half, mean.freedom) / mean.freedom**0.5
    found = optimize.root_scalar(
        lambda value: stats.nct.sf(threshold, mean.freedom, value) - power,
        bracket=(0, threshold * spread + stats.norm.isf(half)),
    )
    return float(found.root * mean.error)
