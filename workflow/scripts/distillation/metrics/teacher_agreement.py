"""Agreement: does the student answer as its teacher does, right or wrong?"""

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from distillation.settings.base import MetricSettings


class Settings(MetricSettings):
    """Percent of the images to which student and teacher give one class."""

    label: ClassVar[str] = "Agreement with the teacher"
    unit: ClassVar[str] = "%"
    decimals: ClassVar[int] = 2
    higher_is_better: ClassVar[bool | None] = True
    needs_teacher: ClassVar[bool] = True
    reason: ClassVar[str] = (
        "about three times by how much runs of one method differ (0.3 points on CIFAR-10)"
    )

    smallest_difference: float = Field(1, gt=0, description="of interest, in points")


def measure(logits: Tensor, labels: Tensor, teacher_logits: Tensor) -> Tensor:  # noqa: ARG001
    """Return 100 or 0 for each image, (N,)."""
    return 100 * (logits.argmax(dim=1) == teacher_logits.argmax(dim=1)).double()
