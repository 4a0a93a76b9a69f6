"""Calibration: how far a classifier's probabilities can be believed, before and after scaling.

Letters: N images, K classes. Logits are (N, K) in floating point, labels (N,) in int64.
Source: Guo et al. 2017, arXiv 1706.04599.
"""

import math
from functools import lru_cache

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import functional

# Section 5.
BINS = 15
# Where a temperature is sought; that of a network which is never wrong has no minimum above 0.
TEMPERATURES = (0.01, 100)
# Of the halves: images that lie side by side may be alike, or of one class.
SEED = 0


def calibration_error(logits: Tensor, labels: Tensor) -> Tensor:
    """Return sum over bins of (images in bin / N) * |accuracy - mean confidence|, in percent.

    Bins are equal intervals (low, high] of the largest softmax output. Source: equation 3.
    """
    confidences, predictions = functional.softmax(logits.double(), dim=1).max(dim=1)
    gaps = (predictions == labels).double() - confidences
    bins = ((confidences * BINS).ceil().long() - 1).clamp(0, BINS - 1)
    sums = torch.zeros(BINS, dtype=torch.float64).index_add_(0, bins, gaps)
    return 100 * sums.abs().sum() / len(labels)


def brier_scores(logits: Tensor, labels: Tensor) -> Tensor:
    """Return sum over classes of (probability - 1 for the label, 0 for others)^2, (N,), 0 to 2.

    Source: Brier 1950, "Verification of forecasts expressed in terms of probability", Monthly
    Weather Review 78, equation 2.
    """
    targets = functional.one_hot(labels, logits.shape[1])
    return (functional.softmax(logits.double(), dim=1) - targets).square().sum(dim=1)


def cross_entropies(logits: Tensor, labels: Tensor) -> Tensor:
    """Return minus the log probability of each image's label, in nats, (N,)."""
    return functional.cross_entropy(logits.double(), labels, reduction="none")


# Several metrics of a network ask for the same; tensors are told apart by identity.
@lru_cache(maxsize=1)
def scale_temperature(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the logits of each half of the images over the temperature that fits the other half.

    So no image has a say in its own temperature. The halves are drawn at random, always the same.
    Source: section 4.2, temperature scaling.

    Raises:
        ValueError: there are fewer than two images.
    """
    if len(labels) < 2:
        raise ValueError(f"temperature scaling: found {len(labels)} test images; allowed: from 2")
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(SEED))
    scaled = logits.to(torch.float64, copy=True)
    halves = order.chunk(2)
    temperatures = [fit_temperature(logits[half], labels[half]) for half in halves]
    for half, temperature in zip(halves, reversed(temperatures), strict=True):
        scaled[half] /= temperature
    return scaled


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """Return the temperature of the least mean cross-entropy.

    That is convex in 1 / temperature, so it has one valley in the logarithm that is searched.
    """
    found = minimize_scalar(
        lambda log: cross_entropies(logits / math.exp(log), labels).mean().item(),
        bounds=[math.log(bound) for bound in TEMPERATURES],
        method="bounded",
    )
    return math.exp(found.x)
