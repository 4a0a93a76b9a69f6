"""Similarity-preserving distillation: images that are alike to the teacher are to the student.

Source: Tung and Mori 2019, "Similarity-Preserving Knowledge Distillation", arXiv 1907.09682.
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
from distillation.stages import Pair, pair_stages, pairing_note


class Settings(TermSettings):
    """Similarity-preserving: distance of the similarities of a batch's images, added up."""

    label: ClassVar[str] = "SP"
    needs: ClassVar[Literal["nothing", "logits", "stages"]] = "stages"

    weight: float = Field(
        3000, ge=0, description="factor of the term in the total; 3000 in arXiv 1910.10699's code"
    )
    stages: Literal["last", "by_size", "by_index"] = Field(
        "last", description="how stages are paired: the last two, equal sizes, or in order"
    )

    def check_pair(self, pair: Pair) -> None:
        """Refuse networks without stages that belong together; raise `ValueError`."""
        pair_stages(pair, self.stages)


class Term(terms.Term):
    """See `similarity_preserving`; one part for each pair of stages.

    Stages are taken before the activation that follows them, where the paper's networks (wide
    residual ones) have them; in others the code that published the table's figures takes them
    after it.
    """

    def __init__(self, settings: Settings, pair: Pair) -> None:
        super().__init__()
        self.matches = pair_stages(pair, settings.stages)
        self.note = pairing_note(settings.label, self.matches, pair)

    def forward(self, student: Outputs, teacher: Outputs, labels: Tensor) -> Tensor:  # noqa: ARG002
        """Return the term of a batch, (pairs,)."""
        parts = [
            similarity_preserving(student.stages[match.student], teacher.stages[match.teacher])
            for match in self.matches
        ]
        return torch.stack(parts)


def similarity_preserving(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the similarity-preserving term of a stage, a scalar, not weighted.

    With Q the stage of a network, an image a row, (N, C * H * W), and G = Q Q^T whose rows are
    brought to unit length, it is the mean over N * N of (G_s - G_t)^2: section 3 of arXiv
    1907.09682. Student and teacher may differ in channels and positions. No gradient flows into the
    teacher.
    """
    return functional.mse_loss(similarities(student), similarities(teacher.detach()))


def similarities(stage: Tensor) -> Tensor:
    """Return the similarities of the images of a batch, (N, N), rows of unit length."""
    flat = at_least_float32(stage).flatten(1)
    return functional.normalize(flat @ flat.T, dim=1)
