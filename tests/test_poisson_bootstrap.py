"""Streamed means and their intervals, by simulation and against direct computation."""

import math

import numpy as np
import pytest

from distillation.measuring.attention import image_dependence
from distillation.measuring.bootstrap import PoissonBootstrap


def streamed(values: np.ndarray, sizes: list[int], seed: int = 0) -> PoissonBootstrap[str]:
    """Return sums over values that came in batches of some sizes."""
    sums = PoissonBootstrap(50, [seed])
    for batch in np.split(values, np.cumsum(sizes)[:-1]):
        sums.add({"value": batch}, sums.draw(len(batch)))
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
    np.testing.assert_allclose(cut.sums["value",], whole.sums["value",], rtol=0, atol=1e-12)
    np.testing.assert_array_equal(cut.totals["value",], whole.totals["value",])


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
    """NaN counts for nothing: the estimate is that of the images with a value, for each name."""
    values = np.random.default_rng(1).normal(size=(40, 2))
    values[[0, 7, 39], 0] = np.nan
    sums = PoissonBootstrap[str](50, [0])
    for part in (values[:20], values[20:]):
        columns = {"holes": part[:, 0], "vectors": part, "whole": part[:, 1]}
        sums.add(columns, sums.draw(20))
    weights = np.random.default_rng([0]).poisson(1, (40, 50))
    there = ~np.isnan(values[:, 0])
    for name, of, known in (("holes", 0, there), ("whole", 1, there | True), ("vectors", 1, there)):
        chosen = values[known, of]
        means = [np.average(chosen, weights=column[known]) for column in weights.T]
        found = sums.estimate(name, (lambda each: each[:, 1]) if name == "vectors" else None)
        assert found == pytest.approx((chosen.mean(), *np.quantile(means, [0.025, 0.975]))), name


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
    found = streamed(np.array(values), [2]).estimate("value")
    assert found == (pytest.approx(expected, nan_ok=True) if expected else None)


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


@pytest.mark.parametrize("of_means", [True, False])
def test_intervals_cover_what_they_promise(of_means: bool) -> None:
    """About 95 % of the intervals of skewed means, and of image dependence, hold the true value."""
    generator = np.random.default_rng(0)
    # Each image has one of four directions, with these probabilities.
    shares = np.array([0.4, 0.3, 0.2, 0.1])
    true = 1.0 if of_means else 1 - np.square(shares).sum()
    hits = []
    for trial in range(400):
        sums = PoissonBootstrap[str](200, [trial])
        for _ in range(4):
            skewed = generator.exponential(size=100)
            values = skewed if of_means else np.eye(4)[generator.choice(4, 100, p=shares)]
            sums.add({"value": values}, sums.draw(100))
        found = sums.estimate("value", None if of_means else image_dependence)
        assert found is not None
        hits.append(found.low <= true <= found.high)
    # Percentile intervals of skewed values cover a little less, and image dependence and its
    # replicates lean down by 1 / N of the value each.
    errors = (np.mean(hits) - 0.95) / math.sqrt(0.95 * 0.05 / len(hits))
    assert -4 < errors < 3
