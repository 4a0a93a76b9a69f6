"""Divergence: how far are the student's probabilities from its teacher's?"""

from typing import ClassVar

from pydantic import Field
from torch import Tensor
from torch.nn import functional

from distillation.settings.base import MetricSettings


class Settings(MetricSettings):
    """Mean over the images of KL(teacher || student) at temperature 1, in nats."""

    label: ClassVar[str] = "KL from the teacher"
    unit: ClassVar[str] = "nats"
    decimals: ClassVar[int] = 4
    higher_is_better: ClassVar[bool | None] = False
    needs_teacher: ClassVar[bool] = True
    reason: ClassVar[str] = (
        "about three times by how much runs of one method differ (0.005 nats on CIFAR-10)"
    )

    smallest_difference: float = Field(0.02, gt=0, description="of interest, in nats")


def measure(logits: Tensor, labels: Tensor, teacher_logits: Tensor) -> Tensor:  # noqa: ARG001
    """Return the divergence of each image, (N,)."""
    own, target = (functional.log_softmax(each.double(), 1) for each in (logits, teacher_logits))
    return functional.kl_div(own, target, reduction="none", log_target=True).sum(dim=1)
