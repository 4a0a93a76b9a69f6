"""Means over images with bootstrap intervals, in one pass over the images."""

from collections.abc import Callable, Hashable, Mapping
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
        self.sums: dict[K, np.ndarray] = {}
        self.totals: dict[K, np.ndarray] = {}
        self.counts: dict[K, int] = {}

    def draw(self, count: int) -> np.ndarray:
        """Draw the weights of the next `count` images, (1 + resamples, count); row 0 is all 1."""
        drawn = self.generator.poisson(1, (count, self.resamples))
        return np.vstack([np.ones(count), drawn.T])

    def add(self, values: Mapping[K, np.ndarray], weights: np.ndarray) -> None:
        """Add named values, (B,) or (B, P) each, of a batch under weights that `draw` returned.

        Images with a NaN are left out of the value that has it.
        """
        rows = [each.reshape(len(each), -1) for each in values.values()]
        defined = np.column_stack([~np.isnan(each).any(axis=1) for each in rows])
        filled = [
            np.where(known[:, None], each, 0) for each, known in zip(rows, defined.T, strict=True)
        ]
        # All values in one product, which takes a fraction of the time of many small ones.
        parts = np.cumsum([each.shape[1] for each in rows])[:-1]
        sums = np.split(weights @ np.hstack(filled), parts, axis=1)
        totals, counts = (weights @ defined).T, defined.sum(axis=0)
        for name, each, total, count in zip(values, sums, totals, counts, strict=True):
            if name not in self.sums:
                self.sums[name], self.totals[name] = np.zeros_like(each), np.zeros_like(total)
                self.counts[name] = 0
            self.sums[name] += each
            self.totals[name] += total
            self.counts[name] += int(count)

    def estimate(
        self, name: K, statistic: Callable[[np.ndarray], np.ndarray] | None = None
    ) -> Estimate | None:
        """Return a mean, or a statistic of it, and its percentile interval; None without values.

        Args:
            name: of values that were added.
            statistic: maps means (R, P) to (R,); without it the values have to be (B,).
        """
        if not self.counts[name]:
            return None
        # A replicate may have drawn none of a few images.
        drawn = self.totals[name] > 0
        means = self.sums[name][drawn] / self.totals[name][drawn, None]
        values = statistic(means) if statistic else means[:, 0]
        if self.counts[name] < 2 or len(values) < 2:
            return Estimate(float(values[0]), np.nan, np.nan)
        tail = (1 - CONFIDENCE) / 2
        low, high = np.quantile(values[1:], [tail, 1 - tail])
        return Estimate(float(values[0]), float(low), float(high))
