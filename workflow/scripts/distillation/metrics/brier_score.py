"""Brier score: the squared distance of the probabilities from the truth."""

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from distillation.measuring.calibration import brier_scores
from distillation.settings.base import MetricSettings


class Settings(MetricSettings):
    """Mean over the images of the squared error of all classes' probabilities, 0 to 2."""

    label: ClassVar[str] = "Test Brier score"
    unit: ClassVar[str] = ""
    decimals: ClassVar[int] = 4
    higher_is_better: ClassVar[bool | None] = False
    reason: ClassVar[str] = (
        "as much as if 1 of 200 images turned from certain and wrong to certain and right"
    )

    smallest_difference: float = Field(0.01, gt=0, description="of interest, a number")


def measure(logits: Tensor, labels: Tensor, teacher_logits: Tensor | None) -> Tensor:  # noqa: ARG001
    """Return the score of each image, (N,)."""
    return brier_scores(logits, labels)
