"""Agreement where the teacher is wrong: does the student copy its mistakes?"""

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from distillation.settings.base import MetricSettings


class Settings(MetricSettings):
    """Percent of the images that the teacher gets wrong to which the student gives its class."""

    label: ClassVar[str] = "Agreement where the teacher is wrong"
    unit: ClassVar[str] = "%"
    decimals: ClassVar[int] = 2
    higher_is_better: ClassVar[bool | None] = None
    needs_teacher: ClassVar[bool] = True
    reason: ClassVar[str] = (
        "three times that of agreement on all images, as a teacher that is wrong on one image of "
        "ten leaves a tenth of them"
    )

    smallest_difference: float = Field(3, gt=0, description="of interest, in points")


def measure(logits: Tensor, labels: Tensor, teacher_logits: Tensor) -> Tensor | None:
    """Return it in percent, a scalar, or None where the teacher is wrong nowhere."""
    teacher = teacher_logits.argmax(dim=1)
    chosen = teacher != labels
    agree = logits.argmax(dim=1)[chosen] == teacher[chosen]
    return 100 * agree.double().mean() if len(agree) else None
