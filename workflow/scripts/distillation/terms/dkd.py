"""Decoupled distillation: what the teacher says of the label, and of all other classes.

Source: Zhao et al. 2022, "Decoupled Knowledge Distillation", arXiv 2203.08679.
"""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from distillation import terms
from distillation.logits import standardised
from distillation.networks import Outputs
from distillation.numerics import at_least_float32
from distillation.settings.base import TermSettings
from distillation.stages import Pair


class Settings(TermSettings):
    """Decoupled KD: KL of label or not, and KL among the other classes, each with its weight."""

    label: ClassVar[str] = "DKD"
    needs: ClassVar[Literal["nothing", "logits", "stages"]] = "logits"

    warmup_epochs: int = Field(
        20,
        ge=0,
        description="first epochs, in which the weight rises evenly to where it belongs; 20 in "
        "arXiv 2203.08679's code",
    )
    target_weight: float = Field(
        1, ge=0, description="alpha, of label or not; 1 in arXiv 2203.08679"
    )
    other_weight: float = Field(
        8,
        ge=0,
        description="beta, of the other classes; 8 in arXiv 2203.08679's code, which has others "
        "for some pairs of networks",
    )
    temperature: float = Field(
        4, gt=0, description="T, by which logits are divided; 4 in arXiv 2203.08679's code"
    )
    standardise: bool = Field(
        False,
        description="logits of each image to mean 0 and standard deviation 1 first, arXiv "
        "2403.01427",
    )

    def check_pair(self, pair: Pair) -> None:
        """Refuse to standardise the logits of two classes; raise `ValueError`."""
        pair.check_standardised("dkd", self.standardise)


class Term(terms.Term):
    """The parts of `decoupled_distillation`, each with its weight."""

    def __init__(self, settings: Settings, pair: Pair) -> None:  # noqa: ARG002 each term has it
        super().__init__()
        self.settings = settings

    def forward(self, student: Outputs, teacher: Outputs, labels: Tensor) -> Tensor:
        """Return the term of a batch: label or not, the other classes, (2,)."""
        settings, both = self.settings, (student.logits, teacher.logits)
        own, other = map(standardised, both) if settings.standardise else both
        target, others = decoupled_distillation(own, other, labels, settings.temperature)
        return torch.stack([settings.target_weight * target, settings.other_weight * others])


def decoupled_distillation(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Return the two terms of Zhao et al. 2022 (arXiv 2203.08679), scalars, not weighted.

    With p = softmax(logits / T), b = (p_label, 1 - p_label) and r the p of the other K - 1 classes
    over their sum, as in section 3.1:

    - target classes: T^2 * mean over N of KL(b of the teacher || b of the student);
    - other classes: T^2 * mean over N of KL(r of the teacher || r of the student).

    Distillation itself is the first plus the second of each image times (1 - p_label) of the
    teacher. The paper leaves out T^2, its code has it.

    Args:
        student_logits: (N, K).
        teacher_logits: (N, K); no gradient flows into them.
        labels: (N,).
        temperature: T > 0.
    """
    (own, own_others), (other, others) = (
        log_parts(at_least_float32(logits) / temperature, labels)
        for logits in (student_logits, teacher_logits.detach())
    )
    factor = temperature**2 / len(labels)
    # In logarithms to the end: what a certain network leaves to the others has no other number.
    target, among = (
        functional.kl_div(mine, taught, reduction="sum", log_target=True)
        for mine, taught in ((own, other), (own_others, others))
    )
    return factor * target, factor * among


def log_parts(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return log b, (N, 2), and log r, (N, K - 1); see `decoupled_distillation`."""
    places = torch.arange(logits.shape[1] - 1, device=logits.device)
    # The classes before the label, and those after it.
    others = logits.gather(1, places + (places >= labels[:, None]).long())
    label = logits.gather(1, labels[:, None])
    binary = torch.cat([label, others.logsumexp(dim=1, keepdim=True)], dim=1)
    return binary.log_softmax(dim=1), others.log_softmax(dim=1)
