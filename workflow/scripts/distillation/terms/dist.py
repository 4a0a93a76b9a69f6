"""Distillation by correlation: the student's outputs follow the teacher's up to scale and shift.

Source: Huang et al. 2022, "Knowledge Distillation from A Stronger Teacher", arXiv 2205.10536.
"""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from distillation import terms
from distillation.networks import Outputs
from distillation.numerics import at_least_float32
from distillation.settings.base import TermSettings

# Of their length, below which probabilities less their mean count as none: float32 rounds to 1e-7.
EPSILON = 1e-6


class Settings(TermSettings):
    """DIST: 1 - correlation of the classes of an image, and of the images of a batch in a class."""

    label: ClassVar[str] = "DIST"
    needs: ClassVar[Literal["nothing", "logits", "stages"]] = "logits"

    inter_weight: float = Field(
        2, ge=0, description="beta, of an image's classes; 2 in arXiv 2205.10536 on CIFAR-100"
    )
    intra_weight: float = Field(
        2, ge=0, description="gamma, of a class's images; 2 in arXiv 2205.10536 on CIFAR-100"
    )
    temperature: float = Field(
        4, gt=0, description="tau, by which logits are divided; 4 in arXiv 2205.10536 on CIFAR-100"
    )


class Term(terms.Term):
    """The parts of `correlation_distillation`, each with its weight."""

    def __init__(self, settings: Settings, pair: terms.Pair) -> None:  # noqa: ARG002 each term has it
        super().__init__()
        self.settings = settings

    def forward(self, student: Outputs, teacher: Outputs, labels: Tensor) -> Tensor:  # noqa: ARG002
        """Return the term of a batch: classes of an image, images in a class, (2,)."""
        settings = self.settings
        inter, intra = correlation_distillation(
            student.logits, teacher.logits, settings.temperature
        )
        return torch.stack([settings.inter_weight * inter, settings.intra_weight * intra])


def correlation_distillation(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Return the two terms of Huang et al. 2022 (arXiv 2205.10536), scalars, not weighted.

    With p = softmax(logits / T), (N, K), and r Pearson's correlation of student and teacher:

    - inter-class: T^2 * (1 - mean over N of r over the K classes of an image);
    - intra-class: T^2 * (1 - mean over K of r over the N images in a class).

    T^2 is that of the authors' code. No gradient flows into the teacher. Of two classes the first
    tells only whether both networks prefer the same one, and has no slope.
    """
    student, teacher = (
        (at_least_float32(logits) / temperature).softmax(dim=1)
        for logits in (student_logits, teacher_logits.detach())
    )
    inter, intra = (temperature**2 * (1 - correlation(student, teacher, dim)) for dim in (1, 0))
    return inter, intra


def correlation(one: Tensor, two: Tensor, dim: int) -> Tensor:
    """Return the mean of Pearson's correlations along a dimension.

    What is constant has a correlation of 0, and no slope: as logits in bfloat16 often are equal, it
    would be 1 over next to nothing.
    """
    centred = one - one.mean(dim=dim, keepdim=True)
    other = two - two.mean(dim=dim, keepdim=True)
    varies = centred.norm(dim=dim) > EPSILON * one.norm(dim=dim)
    return torch.where(varies, functional.cosine_similarity(centred, other, dim=dim), 0).mean()
