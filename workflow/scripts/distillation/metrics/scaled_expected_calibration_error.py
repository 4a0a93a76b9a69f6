"""Expected calibration error after temperature scaling: what one number can't put right.

Source: Guo et al. 2017, arXiv 1706.04599.
"""

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from distillation.measuring.calibration import calibration_error, scale_temperature
from distillation.settings.base import MetricSettings


class Settings(MetricSettings):
    """Calibration error with each half's temperature fitted on the other half of the images."""

    label: ClassVar[str] = "Expected calibration error, temperature-scaled"
    unit: ClassVar[str] = "%"
    decimals: ClassVar[int] = 2
    higher_is_better: ClassVar[bool | None] = False
    reason: ClassVar[str] = "as without scaling, so that both can be held against each other"

    smallest_difference: float = Field(1, gt=0, description="of interest, in points")


def measure(logits: Tensor, labels: Tensor, teacher_logits: Tensor | None) -> Tensor:  # noqa: ARG001
    """Return it in percent, a scalar."""
    return calibration_error(scale_temperature(logits, labels), labels)
