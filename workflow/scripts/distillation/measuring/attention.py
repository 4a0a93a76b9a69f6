"""Measures of attention maps: what they look like, where they lie, what they agree with.

Letters: N images, C channels, H x W positions of a map, S x S pixels of an image. Maps are
(N, H, W) in float64, 0 or above; a measure returns one value per image, (N,), and doesn't depend on
the scale of the maps. What isn't defined for an image is NaN and is to be left out of means: shares
of a map of zeros, a rank correlation with a map that is the same everywhere, the place of an object
whose mask is empty.
"""

from functools import cache
from typing import Literal

import numpy as np
import torch
from scipy import ndimage, special
from torch.nn import functional

BorderPart = Literal["ring", "top", "bottom", "left", "right"]

# Weights of red, green and blue in grey. ITU-R BT.601-7, section 2.5.1.
LUMA = (0.299, 0.587, 0.114)
# Standard deviation of the prior at the centre, of a map's side: two thirds of it lie in the middle
# half of each side, where photographers put objects (Tatler 2007, Journal of Vision 7(14):4).
CENTRE_SPREAD = 0.25


def shares(maps: np.ndarray) -> np.ndarray:
    """Return each position's share of its map's sum, (N, H, W) -> (N, H * W); of zeros: NaN."""
    flat = maps.reshape(len(maps), -1)
    return _ratio(flat, flat.sum(axis=1, keepdims=True))


def unit_vectors(maps: np.ndarray) -> np.ndarray:
    """Flatten maps and give them unit L2 length, (N, H, W) -> (N, H * W); of zeros: NaN."""
    flat = maps.reshape(len(maps), -1)
    return _ratio(flat, np.linalg.norm(flat, axis=1, keepdims=True))


def rank_vectors(maps: np.ndarray) -> np.ndarray:
    """Return centred ranks of unit length, (N, H, W) -> (N, H * W); of a constant map: NaN.

    Equal values share the mean of their ranks. The inner product of two such vectors is Spearman's
    rank correlation.
    """
    flat = maps.reshape(len(maps), -1)
    count = flat.shape[1]
    order = np.argsort(flat, axis=1)
    ordered = np.take_along_axis(flat, order, axis=1)
    differs = ordered[:, 1:] != ordered[:, :-1]
    # Of each place in the order, the first and the last one with its value. (scipy.stats ranks as
    # well, but takes longer to import than a test split to rank.)
    places, edge = np.arange(count), np.ones((len(flat), 1), dtype=bool)
    first = np.maximum.accumulate(np.where(np.hstack([edge, differs]), places, 0), axis=1)
    last = np.where(np.hstack([differs, edge]), places, count)[:, ::-1]
    last = np.minimum.accumulate(last, axis=1)[:, ::-1]
    centred = np.empty(flat.shape)
    # The mean of the places is exact, so the ranks of a constant map are exactly 0.
    np.put_along_axis(centred, order, (first + last - (count - 1)) / 2, axis=1)
    return _ratio(centred, np.linalg.norm(centred, axis=1, keepdims=True))


def normalised_entropy(maps: np.ndarray) -> np.ndarray:
    """Return H / log(HW) with H = -sum of p log p, p the shares: 0 (one position) to 1 (uniform).

    Source: Shannon 1948; divided by its largest value, as Pielou's evenness is (1966).
    A map of one position has none: NaN.
    """
    return _ratio(_entropy(maps), np.log(maps[0].size))


def effective_area(maps: np.ndarray) -> np.ndarray:
    """Return exp(H) / HW, H as in `normalised_entropy`: 1 / HW (one position) to 1 (uniform).

    exp(H) is the number of positions of a uniform map with that entropy (Hill 1973, number of
    order 1).
    """
    return np.exp(_entropy(maps)) / maps[0].size


def gini(maps: np.ndarray) -> np.ndarray:
    """Return Gini's coefficient: 0 (uniform) to 1 - 1 / HW (one position).

    With x sorted upwards, i from 1 and n = HW: sum of (2 i - n - 1) x_i / (n * sum of x).
    Source: Hurley and Rickard 2009, "Comparing Measures of Sparsity", arXiv 0811.4706.
    """
    ordered = np.sort(shares(maps), axis=1)
    count = ordered.shape[1]
    return ordered @ (2 * np.arange(1, count + 1) - count - 1) / count


def peak_over_mean(maps: np.ndarray) -> np.ndarray:
    """Return the maximum over the mean: 1 (uniform) to HW (one position)."""
    return shares(maps).max(axis=1) * maps[0].size


def cosine(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the cosine between two stacks of maps: 0 (nowhere both) to 1 (the same).

    1 - cosine is the attention-transfer loss of a stage up to a factor (arXiv 1612.03928).
    """
    return inner(unit_vectors(first), unit_vectors(second))


def spearman(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return Spearman's rank correlation between two stacks of maps: -1 to 1 (the same order)."""
    return inner(rank_vectors(first), rank_vectors(second))


def inner(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the inner products of the rows of two arrays, (N, P) and (N, P) -> (N,)."""
    return np.einsum("np,np->n", first, second)


def image_dependence(mean: np.ndarray) -> tuple[float, np.ndarray]:
    """Return 1 - ||mean over images of q||^2, q the unit vectors of maps, and its gradient.

    0: the same map for every image; its largest value, 1 - 1 / N: no two maps share a position.
    It is the part of the maps' energy that their mean doesn't explain: the mean over images of
    ||q - mean||^2. Its expectation over samples of N images is (1 - 1 / N) times that of all
    images.

    Args:
        mean: the mean of `unit_vectors` over images, (H * W,).
    """
    return 1 - float(mean @ mean), -2 * mean


def relative_energy(maps: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the share of the energy that lies in an area, over the area's share of the map.

    Sum of p * w / mean of w, p the shares: 0 (none there) over 1 (as a uniform map) to 1 / mean
    of w (all there). Without an area: NaN.

    Args:
        maps: (N, H, W).
        weights: w, 0 to 1, of each position in the area, (N, H, W) or (H, W).
    """
    flat = weights.reshape(-1, maps[0].size)
    return _ratio((shares(maps) * flat).sum(axis=1), flat.mean(axis=1))


def border_energy(maps: np.ndarray, part: BorderPart = "ring") -> np.ndarray:
    """Return the `relative_energy` of the one-pixel ring, or of one of its sides.

    A side is the edge row or column; a corner belongs to both of its sides. 1 is uniform; the
    largest value is one over the part's share of the area. Of maps that are all border, as those of
    2 x 2 positions, NaN: whatever they look at, it would be 1.
    Source of the measure's reason: Alsallakh et al., "Mind the Pad", ICLR 2021.
    """
    edges = {"top": np.s_[0], "bottom": np.s_[-1], "left": np.s_[:, 0], "right": np.s_[:, -1]}
    area = np.zeros(maps.shape[1:])
    for side in edges if part == "ring" else (part,):
        area[edges[side]] = 1
    return np.full(len(maps), np.nan) if area.all() else relative_energy(maps, area)


def centre_prior(side: int) -> np.ndarray:
    """Return a map that looks at the centre whatever the image, a Gaussian, (1, side, side)."""
    offsets = (np.arange(side) - (side - 1) / 2) / side
    along = np.exp(-np.square(offsets / CENTRE_SPREAD) / 2)
    return np.outer(along, along)[None]


def object_energy(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Return the `relative_energy` in masks (N, S, S) that are area-averaged to the maps' size.

    The energy-based pointing game of Wang et al. 2020 (Score-CAM, arXiv 1910.01279), over what a
    uniform map scores in it.
    """
    return relative_energy(maps, area_average(masks, maps.shape[1]))


def pointing_game(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Return the share of the mask in the position of a map's maximum: 0 (a miss) to 1 (a hit).

    The maximum is that of the map itself: bilinear enlargement draws peaks into the outer ring,
    72 % of them of random maps. Of several equal maxima the mean is taken.
    Source: Zhang et al. 2016, arXiv 1608.00507; without its margin of 15 pixels.

    Args:
        maps: (N, H, W).
        masks: (N, S, S), bool; S at least H.
    """
    flat, inside = _flat(maps, area_average(masks, maps.shape[1]))
    peaks = flat == flat.max(axis=1, keepdims=True)
    hits = (peaks * inside).sum(axis=1) / peaks.sum(axis=1)
    return np.where((flat.max(axis=1) > 0) & inside.any(axis=1), hits, np.nan)


def pointing_game_chance(masks: np.ndarray, side: int) -> np.ndarray:
    """Return what a position of `side` x `side` drawn at random scores in `pointing_game`."""
    area = area_average(masks, side).reshape(len(masks), -1).mean(axis=1)
    return np.where(area > 0, area, np.nan)


def object_iou(enlarged: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Return the intersection over union of the mask and the k largest pixels of a map: 0 to 1.

    k is the number of the mask's pixels, so both areas are equal. Where equal pixels compete for
    the last of the k places, each is taken by its share. Localisation by a threshold of the map:
    Zhou et al. 2016 (CAM, arXiv 1512.04150); theirs is a fraction of the maximum, equal area leaves
    nothing to choose.

    Args:
        enlarged: maps of the images' size, (N, S, S).
        masks: (N, S, S), bool.
    """
    flat, inside = _flat(enlarged, masks)
    area = inside.sum(axis=1)
    ordered = np.sort(flat, axis=1)
    # Of an empty mask, any threshold: it has no value anyway.
    last = np.take_along_axis(ordered, (flat.shape[1] - np.maximum(area, 1))[:, None], axis=1)
    above, tied = flat > last, flat == last
    share = (area - above.sum(axis=1)) / tied.sum(axis=1)
    common = (above & inside).sum(axis=1) + share * (tied & inside).sum(axis=1)
    return np.where(flat.max(axis=1) > 0, _ratio(common, 2 * area - common, area > 0), np.nan)


def object_iou_chance(masks: np.ndarray) -> np.ndarray:
    """Return what pixels drawn at random would score in `object_iou` on average.

    Of k among n pixels drawn without replacement, a hypergeometric number I is in the mask of k
    pixels: the exact mean of I / (2 k - I).
    """
    pixels = masks[0].size
    areas = masks.reshape(len(masks), -1).sum(axis=1)
    return np.array([_iou_of_random_pixels(pixels, int(area)) for area in areas])


def sobel_magnitude(images: np.ndarray) -> np.ndarray:
    """Return the length of the Sobel gradient of grey images, uint8 (N, S, S, C) -> (N, S, S).

    Colours are weighted as luma; beyond the edges the outermost pixels are repeated, so the edges
    of an image are none in it. Source: Sobel and Feldman 1968.
    """
    grey = images[..., 0].astype(np.float64) if images.shape[-1] == 1 else images @ np.array(LUMA)
    gradients = []
    for along, across in ((1, 2), (2, 1)):
        smooth = ndimage.correlate1d(grey, [1, 2, 1], axis=across, mode="nearest")
        gradients.append(ndimage.correlate1d(smooth, [-1, 0, 1], axis=along, mode="nearest"))
    return np.hypot(*gradients)


def enlarge(maps: np.ndarray, size: int) -> np.ndarray:
    """Enlarge maps bilinearly, (N, H, W) -> (N, size, size); values stand for pixels' centres."""
    return _resized(maps, size, "bilinear", align_corners=False)


def area_average(images: np.ndarray, size: int) -> np.ndarray:
    """Average over areas, (N, S, S) -> (N, size, size); where S is below `size`, repeat.

    Where one isn't a multiple of the other, areas are rounded out to whole pixels (torch's adaptive
    average pooling).
    """
    return _resized(images, size, "area")


def _resized(maps: np.ndarray, size: int, mode: str, **options: bool) -> np.ndarray:
    maps = maps.astype(np.float64, copy=False)
    if maps.shape[1:] == (size, size):
        return maps
    resized = functional.interpolate(
        torch.from_numpy(maps)[:, None], (size, size), mode=mode, **options
    )
    return resized[:, 0].numpy()


def _entropy(maps: np.ndarray) -> np.ndarray:
    """Return -sum of p log p in nats, (N,)."""
    return special.entr(shares(maps)).sum(axis=1)


@cache
def _iou_of_random_pixels(pixels: int, area: int) -> float:
    if not area:
        return np.nan
    common = np.arange(max(0, 2 * area - pixels), area + 1)
    # Of all draws, (area over common) * (pixels - area over area - common) have so many.
    ways = _log_choose(area, common) + _log_choose(pixels - area, area - common)
    probability = np.exp(ways - _log_choose(pixels, area))
    return float(probability @ (common / (2 * area - common)))


def _log_choose(among: int, chosen: np.ndarray | int) -> np.ndarray:
    """Return the logarithm of the binomial coefficient."""
    return -special.betaln(among - chosen + 1, chosen + 1) - np.log1p(among)


def _flat(enlarged: np.ndarray, masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return enlarged.reshape(len(enlarged), -1), masks.reshape(len(masks), -1)


def _ratio(
    above: np.ndarray, below: np.ndarray | float, defined: np.ndarray | None = None
) -> np.ndarray:
    """Divide; where `defined` (default: where `below` isn't 0) is False, NaN."""
    where = np.not_equal(below, 0) if defined is None else defined
    return np.divide(above, below, out=np.full(np.shape(above), np.nan), where=where)
