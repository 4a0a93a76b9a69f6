"""Means over images with bootstrap intervals, in one pass over the images."""

from collections.abc import Callable, Hashable, Mapping
from itertools import pairwise
from typing import Generic, NamedTuple, TypeVar

import numpy as np

K = TypeVar("K", bound=Hashable)

# Of the intervals.
CONFIDENCE = 0.95


class Estimate(NamedTuple):
    """A value with its interval, whose ends are NaN where fewer than two images had a value."""

    value: float
    low: float
    high: float


class PoissonBootstrap(Generic[K]):
    """Weighted sums of named values under the weights of all replicates.

    Each image has an independent Poisson(1) weight in each replicate, which for many images is what
    drawing them with replacement gives; nothing needs to be known of the images to come, and only
    sums are kept. Sources: Hanley and MacGibbon 2006 (Computer Methods and Programs in Biomedicine
    83); Chamandy et al. 2012, "Estimating Uncertainty for Massive Data Streams".

    An image's weights depend on the seed and on its place in the stream alone: not on how the
    stream is cut into batches, nor on what is measured.

    Args:
        resamples: number of replicates, 1 or above.
        seed: whole numbers from 0.
    """

    def __init__(self, resamples: int, seed: list[int]) -> None:
        self.resamples = resamples
        self.generator = np.random.default_rng(seed)
        # Values that come together are kept together: one product for all of them takes a fraction
        # of the time of many small ones. By their names: (1 + resamples, all their numbers), and
        # the weights of the images that have each of them, (1 + resamples, names).
        self.sums: dict[tuple[K, ...], np.ndarray] = {}
        self.totals: dict[tuple[K, ...], np.ndarray] = {}
        # Of each name: those that it comes with, its place among them, and that of its numbers.
        self.places: dict[K, tuple[tuple[K, ...], int, slice]] = {}

    def draw(self, count: int) -> np.ndarray:
        """Draw the weights of the next `count` images, (1 + resamples, count); row 0 is all 1."""
        drawn = self.generator.poisson(1, (count, self.resamples))
        return np.vstack([np.ones(count), drawn.T])

    def add(self, values: Mapping[K, np.ndarray], weights: np.ndarray) -> None:
        """Add named values, (B,) or (B, P) each, of a batch under weights that `draw` returned.

        Images with a NaN are left out of the value that has it. A name comes with the same others
        each time.
        """
        names = tuple(values)
        rows = [each.reshape(len(each), -1) for each in values.values()]
        widths = [each.shape[1] for each in rows]
        starts = np.cumsum([0, *widths])
        numbers = np.hstack(rows)
        missing = np.logical_or.reduceat(np.isnan(numbers), starts[:-1], axis=1)
        if missing.any():
            numbers[np.repeat(missing, widths, axis=1)] = 0
        sums, totals = weights @ numbers, weights @ ~missing
        if names in self.sums:
            self.sums[names] += sums
            self.totals[names] += totals
        else:
            self.sums[names], self.totals[names] = sums, totals
            ends = pairwise(starts)
            for place, (name, (start, end)) in enumerate(zip(names, ends, strict=True)):
                self.places[name] = names, place, slice(start, end)

    def estimate(
        self, name: K, statistic: Callable[[np.ndarray], np.ndarray] | None = None
    ) -> Estimate | None:
        """Return a mean, or a statistic of it, and its percentile interval; None without values.

        Args:
            name: of values that were added.
            statistic: maps means (R, P) to (R,); without it the values have to be (B,).
        """
        names, place, columns = self.places[name]
        sums, totals = self.sums[names][:, columns], self.totals[names][:, place]
        # Row 0 has every image once.
        count = totals[0]
        if not count:
            return None
        # A replicate may have drawn none of a few images.
        drawn = totals > 0
        means = sums[drawn] / totals[drawn, None]
        values = statistic(means) if statistic else means[:, 0]
        if count < 2 or len(values) < 2:
            return Estimate(float(values[0]), np.nan, np.nan)
        tail = (1 - CONFIDENCE) / 2
        low, high = np.quantile(values[1:], [tail, 1 - tail])
        return Estimate(float(values[0]), float(low), float(high))
