"""Streamed means and their intervals, by simulation and against direct computation."""

import math

import numpy as np
import pytest

from distillation.measuring.attention import image_dependence
from distillation.measuring.bootstrap import (
    GROUPS,
    Estimate,
    PoissonBootstrap,
    Statistic,
    mean_itself,
)

RESAMPLES = 100
ENDS = [0.025, 0.975]


def streamed(
    values: np.ndarray, sizes: list[int], statistic: Statistic = mean_itself, seed: int = 0
) -> Estimate | None:
    """Return the estimate of values that came in batches of some sizes."""
    sums = PoissonBootstrap[str](RESAMPLES, seed)
    for batch in np.split(values, np.cumsum(sizes)[:-1]):
        sums.add({"value": batch, "other": np.zeros(len(batch))})
    return sums.estimates(lambda _: statistic).get("value")


def weights_of(images: int, seed: int = 0) -> np.ndarray:
    """Return the weights of images in all replicates, (RESAMPLES, images)."""
    drawn = np.random.default_rng(seed).poisson(1, (RESAMPLES, GROUPS))
    return drawn[:, np.arange(images) % GROUPS]


@pytest.mark.parametrize("count", [40, GROUPS + 300])
def test_mean_and_interval_equal_a_direct_computation(count: int) -> None:
    """The value is the mean, the ends percentiles of weighted means, without the images of NaN."""
    values = np.random.default_rng(1).normal(3, 2, count)
    values[[0, 7, 39]] = np.nan
    known = ~np.isnan(values)
    means = [np.average(values[known], weights=row[known]) for row in weights_of(count)]
    expected = (values[known].mean(), *np.quantile(means, ENDS))
    assert streamed(values, [30, count - 30]) == pytest.approx(expected)


@pytest.mark.parametrize("sizes", [[1] * 600, [599, 1], [7, 13, 580]])
def test_batches_do_not_matter(sizes: list[int]) -> None:
    """However the stream is cut, each image has the same weights."""
    values = np.random.default_rng(1).normal(size=600)
    assert streamed(values, sizes) == pytest.approx(streamed(values, [600]), abs=1e-12)


def test_seeds_differ() -> None:
    """Two seeds draw different weights, for one mean."""
    values = np.random.default_rng(1).normal(size=40)
    one, other = (streamed(values, [40], seed=seed) for seed in (0, 1))
    assert one
    assert other
    assert one.value == other.value
    assert one.low != other.low


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([np.nan, np.nan], None),
        ([np.nan, 2.5], (2.5, np.nan, np.nan)),
        # Replicates that draw none of a few images are left out of the interval.
        ([1.0, 3.0], (2, 1, 3)),
    ],
)
def test_few_images(values: list[float], expected: tuple[float, ...] | None) -> None:
    """Without a value there is no estimate, and of one image no interval."""
    found = streamed(np.array(values), [2])
    assert found == (pytest.approx(expected, nan_ok=True) if expected else None)


def test_statistics_of_a_mean_of_vectors() -> None:
    """A statistic has its value, and percentiles that are exact to first order in its change."""
    generator = np.random.default_rng(1)
    values = np.vstack([generator.normal(3, 0.01, (40, 3)), [[np.nan, 0, 0]]])
    found = streamed(values, [30, 11], lambda mean: (float(mean @ mean), 2 * mean))
    assert found
    means = np.stack([np.average(values[:40], weights=row[:40], axis=0) for row in weights_of(41)])
    ends = np.quantile(np.square(means).sum(axis=1), ENDS)
    assert found.value == pytest.approx(np.square(values[:40].mean(axis=0)).sum())
    np.testing.assert_allclose(found[1:], ends, atol=0.01 * np.ptp(ends))


@pytest.mark.parametrize("of_means", [True, False])
def test_intervals_cover_what_they_promise(of_means: bool) -> None:
    """About 95 % of the intervals of skewed means, and of image dependence, hold the true value."""
    generator = np.random.default_rng(0)
    # Each image has one of four directions, with these probabilities.
    shares = np.array([0.4, 0.3, 0.2, 0.1])
    true = 1.0 if of_means else 1 - np.square(shares).sum()
    hits = []
    for trial in range(400):
        skewed = generator.exponential(size=400)
        values = skewed if of_means else np.eye(4)[generator.choice(4, 400, p=shares)]
        statistic = mean_itself if of_means else image_dependence
        found = streamed(values, [400], statistic, seed=trial)
        assert found is not None
        hits.append(found.low <= true <= found.high)
    # Percentile intervals of skewed values, of 100 replicates, cover a little less; image
    # dependence leans down by 1 / N of its value.
    errors = (np.mean(hits) - 0.95) / math.sqrt(0.95 * 0.05 / len(hits))
    assert -4 < errors < 3
