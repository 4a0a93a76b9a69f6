"""Expected calibration error: is a network as often right as it is confident?

Source: Guo et al. 2017, arXiv 1706.04599.
"""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from distillation.settings.base import MetricSettings

# arXiv 1706.04599, section 5.
BINS = 15


class Settings(MetricSettings):
    """Mean gap of accuracy and confidence over 15 bins of the confidence, in percent."""

    label: ClassVar[str] = "Expected calibration error"
    unit: ClassVar[str] = "%"
    decimals: ClassVar[int] = 2
    higher_is_better: ClassVar[bool | None] = False
    reason: ClassVar[str] = (
        "about three times by how much runs of one method differ (0.3 points on CIFAR-10)"
    )

    smallest_difference: float = Field(1, gt=0, description="of interest, in points")


def measure(logits: Tensor, labels: Tensor, teacher_logits: Tensor | None) -> Tensor:  # noqa: ARG001
    """Return sum over bins of (images in bin / N) * |accuracy - mean confidence|, a scalar.

    Bins are equal intervals (low, high] of the largest softmax output. Source: equation 3.
    """
    confidences, predictions = functional.softmax(logits.double(), dim=1).max(dim=1)
    gaps = (predictions == labels).double() - confidences
    bins = ((confidences * BINS).ceil().long() - 1).clamp(0, BINS - 1)
    sums = torch.zeros(BINS, dtype=torch.float64).index_add_(0, bins, gaps)
    return 100 * sums.abs().sum() / len(labels)
