"""Agreement where the teacher is right: does the student know what it knows?"""

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from distillation.settings.base import MetricSettings


class Settings(MetricSettings):
    """Percent of the images that the teacher gets right which the student gets right too."""

    label: ClassVar[str] = "Agreement where the teacher is right"
    unit: ClassVar[str] = "%"
    decimals: ClassVar[int] = 2
    higher_is_better: ClassVar[bool | None] = True
    needs_teacher: ClassVar[bool] = True
    reason: ClassVar[str] = "as for agreement on all images, most of which a teacher gets right"

    smallest_difference: float = Field(1, gt=0, description="of interest, in points")


def measure(logits: Tensor, labels: Tensor, teacher_logits: Tensor) -> Tensor | None:
    """Return it in percent, a scalar, or None where the teacher is right nowhere."""
    teacher = teacher_logits.argmax(dim=1)
    chosen = teacher == labels
    agree = logits.argmax(dim=1)[chosen] == teacher[chosen]
    return 100 * agree.double().mean() if len(agree) else None
