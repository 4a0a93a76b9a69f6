"""Top-5 accuracy: is the label's logit among the five largest?"""

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from distillation.measuring.accuracy import in_top_k
from distillation.settings.base import MetricSettings


class Settings(MetricSettings):
    """Percent of the images whose label is among the five largest logits; of fewer classes, all."""

    label: ClassVar[str] = "Test top-5 accuracy"
    unit: ClassVar[str] = "%"
    decimals: ClassVar[int] = 2
    higher_is_better: ClassVar[bool | None] = True
    reason: ClassVar[str] = (
        "about three times by how much runs of one method differ (0.1 points on CIFAR-10), as for "
        "top-1 accuracy"
    )

    smallest_difference: float = Field(0.3, gt=0, description="of interest, in points")


def measure(logits: Tensor, labels: Tensor, teacher_logits: Tensor | None) -> Tensor:  # noqa: ARG001
    """Return 100 or 0 for each image, (N,)."""
    return 100 * in_top_k(logits, labels, 5).double()
