"""Means over images with bootstrap intervals, in one pass over the images."""

from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from typing import Generic, NamedTuple, TypeVar

import numpy as np

K = TypeVar("K", bound=Hashable)
# Maps a mean (P,) to a number and its gradient (P,).
Statistic = Callable[[np.ndarray], tuple[float, np.ndarray]]

# Of the intervals.
CONFIDENCE = 0.95
# Images beyond this many share their weights with others, so that memory and time don't grow. A
# standard error estimated from so many groups is itself known to 1 / sqrt(2 * 500), or 3 %.
GROUPS = 500


class Estimate(NamedTuple):
    """A value with its interval, whose ends are NaN where fewer than two images had a value."""

    value: float
    low: float
    high: float


def mean_itself(mean: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the statistic that is the mean of single numbers."""
    return float(mean[0]), np.ones(1)


class PoissonBootstrap(Generic[K]):
    """Sums of named values over groups of images, which replicates weigh.

    Image i of the stream is in group i modulo `GROUPS`, up to so many images each alone. A group
    has an independent Poisson(1) weight in each replicate, which for many is what drawing with
    replacement gives, and the same one for all names. Sources: Hanley and MacGibbon 2006 (Computer
    Methods and Programs in Biomedicine 83); Chamandy et al. 2012, "Estimating Uncertainty for
    Massive Data Streams".

    Args:
        resamples: number of replicates, 1 or above.
        seed: a whole number from 0.
    """

    def __init__(self, resamples: int, seed: int) -> None:
        self.resamples, self.seed = resamples, seed
        self.seen: Counter[tuple[K, ...]] = Counter()
        # Values that come together are kept together: (GROUPS, their numbers), and how many images
        # of each group have each of them, (GROUPS, names).
        self.sums: dict[tuple[K, ...], np.ndarray] = {}
        self.counts: dict[tuple[K, ...], np.ndarray] = {}
        self.widths: dict[tuple[K, ...], list[int]] = {}

    def add(self, values: Mapping[K, np.ndarray]) -> None:
        """Add named values, (B,) or (B, P) each, of the next B images.

        Images with a NaN are left out of the value that has it. A name comes with the same others
        each time.
        """
        names = tuple(values)
        rows = [each.reshape(len(each), -1) for each in values.values()]
        missing = np.stack([np.isnan(each).any(axis=1) for each in rows], axis=1)
        widths = [each.shape[1] for each in rows]
        numbers = np.where(np.repeat(missing, widths, axis=1), 0, np.hstack(rows))
        if names not in self.sums:
            self.sums[names] = np.zeros((GROUPS, sum(widths)))
            self.counts[names] = np.zeros((GROUPS, len(names)))
            self.widths[names] = widths
        # So many at a time that no two are in one group.
        for start in range(0, len(numbers), GROUPS):
            part = slice(start, start + GROUPS)
            groups = (self.seen[names] + np.arange(len(numbers[part]))) % GROUPS
            self.sums[names][groups] += numbers[part]
            self.counts[names][groups] += ~missing[part]
            self.seen[names] += len(groups)

    def estimates(self, statistic_of: Callable[[K], Statistic]) -> dict[K, Estimate]:
        """Return of each name a statistic of its mean with its percentile interval.

        Names without values are left out. A statistic is followed to first order from the mean of
        all images (Davison and Hinkley 1997, "Bootstrap methods and their application", section
        2.7.2), which is exact for the mean itself and spares the replicates the P numbers.
        """
        generator = np.random.default_rng(self.seed)
        weights = generator.poisson(1, (self.resamples, GROUPS)).astype(float)
        found: dict[K, Estimate] = {}
        for names, sums in self.sums.items():
            counts = self.counts[names]
            totals = weights @ counts
            parts = np.split(sums, np.cumsum(self.widths[names])[:-1], axis=1)
            centres = []
            for part, count in zip(parts, counts.T, strict=True):
                mean = part.sum(axis=0) / max(count.sum(), 1)
                value, gradient = statistic_of(names[len(centres)])(mean)
                # The sums that are left vary as the statistic does, and are 0 in all.
                centres.append((value, (part - np.outer(count, mean)) @ gradient))
            changes = weights @ np.stack([change for _, change in centres], axis=1)
            for place, (name, (value, _)) in enumerate(zip(names, centres, strict=True)):
                groups = int(np.count_nonzero(counts[:, place]))
                if groups:
                    found[name] = interval(value, changes[:, place], totals[:, place], groups)
        return found


def interval(value: float, changes: np.ndarray, totals: np.ndarray, groups: int) -> Estimate:
    """Return a value with the percentiles of its replicates: changes over what they drew."""
    # A replicate may have drawn none of a few images.
    drawn = totals > 0
    if groups < 2 or not drawn.any():
        return Estimate(value, np.nan, np.nan)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(value + changes[drawn] / totals[drawn], [tail, 1 - tail])
    return Estimate(value, float(low), float(high))
