"""Agreement on training images: did the student learn the teacher's answers, or the labels?

Source: Stanton et al. 2021, "Does Knowledge Distillation Really Work?", arXiv 2106.05945, where
students that generalise fail to match their teacher on the images that both were trained on.
"""

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from distillation.settings.base import MetricSettings


class Settings(MetricSettings):
    """Percent of the training images to which student and teacher give one class."""

    label: ClassVar[str] = "Agreement on training images"
    unit: ClassVar[str] = "%"
    decimals: ClassVar[int] = 2
    higher_is_better: ClassVar[bool | None] = True
    needs_teacher: ClassVar[bool] = True
    split: ClassVar[Literal["test", "train"]] = "train"
    reason: ClassVar[str] = "as for agreement on test images"

    smallest_difference: float = Field(1, gt=0, description="of interest, in points")


def measure(logits: Tensor, labels: Tensor, teacher_logits: Tensor) -> Tensor:  # noqa: ARG001
    """Return it in percent, a scalar."""
    return 100 * (logits.argmax(dim=1) == teacher_logits.argmax(dim=1)).double().mean()
