"""Streamed means and their intervals, by simulation and against direct computation."""

import math

import numpy as np
import pytest

from distillation.attention import image_dependence
from distillation.poisson_bootstrap import PoissonBootstrap


def streamed(values: np.ndarray, sizes: list[int], seed: int = 0) -> PoissonBootstrap[str]:
    """Return sums over values that came in batches of some sizes."""
    sums = PoissonBootstrap(50, [seed])
    for batch in np.split(values, np.cumsum(sizes)[:-1]):
        sums.add("value", batch, sums.draw(len(batch)))
    return sums


def test_mean_and_interval_equal_a_direct_computation() -> None:
    """The value is the mean; the ends are percentiles of means under Poisson weights."""
    values = np.random.default_rng(1).normal(3, 2, 40)
    found = streamed(values, [40]).estimate("value")
    weights = np.random.default_rng([0]).poisson(1, (40, 50))
    means = [np.average(values, weights=column) for column in weights.T]
    assert found == pytest.approx((values.mean(), *np.quantile(means, [0.025, 0.975])))


@pytest.mark.parametrize("sizes", [[1] * 40, [39, 1], [7, 13, 20]])
def test_batches_do_not_matter(sizes: list[int]) -> None:
    """However the stream is cut, each image has the same weights."""
    values = np.random.default_rng(1).normal(size=40)
    whole, cut = streamed(values, [40]), streamed(values, sizes)
    np.testing.assert_allclose(cut.sums["value"], whole.sums["value"], rtol=0, atol=1e-12)
    np.testing.assert_array_equal(cut.totals["value"], whole.totals["value"])


def test_weights_are_poisson_of_mean_1() -> None:
    """Replicates' weights have mean and variance 1, within five standard errors; row 0 is 1."""
    weights = PoissonBootstrap(100, [3]).draw(500)
    assert weights.shape == (101, 500)
    assert (weights[0] == 1).all()
    drawn, count = weights[1:], 100 * 500
    assert abs(drawn.mean() - 1) < 5 / math.sqrt(count)
    # The fourth central moment of Poisson(1) is 4.
    assert abs(drawn.var() - 1) < 5 * math.sqrt(3 / count)
    assert (drawn == drawn.round()).all()


def test_seeds_differ() -> None:
    """Two seeds draw different weights, one seed the same."""
    one, same, other = (PoissonBootstrap(20, seed).draw(30) for seed in ([0, 1], [0, 1], [0, 2]))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_images_without_a_value_are_left_out() -> None:
    """NaN counts for nothing: mean and interval are those of the images that have a value."""
    values = np.random.default_rng(1).normal(size=40)
    values[[0, 7, 39]] = np.nan
    found = streamed(values, [20, 20]).estimate("value")
    weights = np.random.default_rng([0]).poisson(1, (40, 50))
    there = ~np.isnan(values)
    means = [np.average(values[there], weights=column[there]) for column in weights.T]
    assert found == pytest.approx((np.nanmean(values), *np.quantile(means, [0.025, 0.975])))


def test_nothing_left() -> None:
    """Without any value there is no estimate."""
    assert streamed(np.full(4, np.nan), [2, 2]).estimate("value") is None


def test_one_image_has_no_interval() -> None:
    """A value of one image is given, its interval is not."""
    found = streamed(np.array([np.nan, 2.5]), [2]).estimate("value")
    assert found is not None
    assert found.value == 2.5
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_few_images() -> None:
    """Replicates that draw none of a few images are left out of the interval."""
    found = streamed(np.array([1.0, 3.0]), [2]).estimate("value")
    assert found == pytest.approx((2, 1, 3))


def test_statistics_of_a_mean_of_vectors() -> None:
    """A statistic is taken of each replicate's mean vector; a row with a NaN is left out."""
    values = np.random.default_rng(1).normal(size=(40, 3))
    found = streamed(np.vstack([values, [[np.nan, 0, 0]]]), [30, 11]).estimate(
        "value", lambda means: means.max(axis=1)
    )
    weights = np.random.default_rng([0]).poisson(1, (41, 50))[:40]
    means = [np.average(values, weights=column, axis=0).max() for column in weights.T]
    expected = (values.mean(axis=0).max(), *np.quantile(means, [0.025, 0.975]))
    assert found == pytest.approx(expected)


def coverage(hits: list[bool]) -> float:
    """Return the standard errors by which a share of hits is off 95 %."""
    return (sum(hits) / len(hits) - 0.95) / math.sqrt(0.95 * 0.05 / len(hits))


def test_intervals_of_means_cover_what_they_promise() -> None:
    """Of 95 % intervals of means, about 95 % hold the true mean, also of skewed values."""
    generator = np.random.default_rng(0)
    hits = []
    for trial in range(400):
        sums = PoissonBootstrap(200, [trial])
        for _ in range(4):
            sums.add("value", generator.exponential(size=50), sums.draw(50))
        found = sums.estimate("value")
        assert found is not None
        hits.append(found.low <= 1 <= found.high)
    # Percentile intervals of skewed values cover a little less.
    assert -4 < coverage(hits) < 3


def test_intervals_of_image_dependence_cover_what_they_promise() -> None:
    """The same holds for image dependence, of a distribution whose true value is known."""
    generator = np.random.default_rng(0)
    # Each image has one of four directions, with these probabilities.
    shares = np.array([0.4, 0.3, 0.2, 0.1])
    true = 1 - np.square(shares).sum()
    hits = []
    for trial in range(400):
        sums = PoissonBootstrap(200, [trial])
        for _ in range(4):
            units = np.eye(4)[generator.choice(4, 100, p=shares)]
            sums.add("value", units, sums.draw(100))
        found = sums.estimate("value", image_dependence)
        assert found is not None
        hits.append(found.low <= true <= found.high)
    # Values and replicates lean down by 1 / N of the value each, so a little less again.
    assert -4 < coverage(hits) < 3
