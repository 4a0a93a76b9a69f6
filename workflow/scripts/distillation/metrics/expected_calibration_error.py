"""Expected calibration error: is a network as often right as it is confident?

Source: Guo et al. 2017, arXiv 1706.04599.
"""

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from distillation.measuring.calibration import calibration_error
from distillation.settings.base import MetricSettings


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
    """Return it in percent, a scalar."""
    return calibration_error(logits, labels)
