"""Brier score after temperature scaling: what is left when confidence is put right.

Source: Guo et al. 2017, arXiv 1706.04599.
"""

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from distillation.measuring.calibration import brier_scores, scale_temperature
from distillation.settings.base import MetricSettings


class Settings(MetricSettings):
    """Brier score with each half's temperature fitted on the other half of the images."""

    label: ClassVar[str] = "Test Brier score, temperature-scaled"
    unit: ClassVar[str] = ""
    decimals: ClassVar[int] = 4
    higher_is_better: ClassVar[bool | None] = False
    reason: ClassVar[str] = "as without scaling, so that both can be held against each other"

    smallest_difference: float = Field(0.01, gt=0, description="of interest, a number")


def measure(logits: Tensor, labels: Tensor, teacher_logits: Tensor | None) -> Tensor:  # noqa: ARG001
    """Return the score, a scalar: an image's own value would depend on other images."""
    return brier_scores(scale_temperature(logits, labels), labels).mean()
