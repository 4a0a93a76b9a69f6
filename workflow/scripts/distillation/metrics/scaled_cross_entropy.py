"""Cross-entropy after temperature scaling: what is left when confidence is put right.

Source: Guo et al. 2017, arXiv 1706.04599.
"""

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from distillation.measuring.calibration import cross_entropies, scale_temperature
from distillation.settings.base import MetricSettings


class Settings(MetricSettings):
    """Cross-entropy with each half's temperature fitted on the other half of the images."""

    label: ClassVar[str] = "Test cross-entropy, temperature-scaled"
    unit: ClassVar[str] = "nats"
    decimals: ClassVar[int] = 4
    higher_is_better: ClassVar[bool | None] = False
    reason: ClassVar[str] = "as without scaling, so that both can be held against each other"

    smallest_difference: float = Field(0.02, gt=0, description="of interest, in nats")


def measure(logits: Tensor, labels: Tensor, teacher_logits: Tensor | None) -> Tensor:  # noqa: ARG001
    """Return it in nats, a scalar: an image's own value would depend on other images."""
    return cross_entropies(scale_temperature(logits, labels), labels).mean()
