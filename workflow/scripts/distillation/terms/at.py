"""Attention transfer: the student's attention maps follow the teacher's.

Source: Zagoruyko and Komodakis 2017, "Paying More Attention to Attention", arXiv 1612.03928.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from distillation import terms
from distillation.networks import Outputs
from distillation.numerics import Collapse, attention_map
from distillation.settings.base import TermSettings
from distillation.stages import Pair, pair_stages, pairing_note
from distillation.terms import pooled

Mode = Literal["code", "paper"]


class Settings(TermSettings):
    """Attention transfer: distance of the attention maps of paired stages, added up."""

    label: ClassVar[str] = "AT"
    needs: ClassVar[Literal["nothing", "logits", "stages"]] = "stages"

    weight: float = Field(
        1000, ge=0, description="factor of the term in the total; 1000 in arXiv 1612.03928's code"
    )
    mode: Literal["code", "paper"] = Field(
        "code", description="distance: of the paper's code (squares), or of its equation 2"
    )
    collapse: Literal["mean_square", "sum_square", "sum", "sum_absolute", "max_square"] = Field(
        "mean_square", description="how channels become a map"
    )
    stages: Literal["by_size", "by_index"] = Field(
        "by_size",
        description="how stages are paired: equal sizes, or in order with the larger pooled",
    )
    images: Literal["same", "next"] = Field(
        "same",
        description="whose maps the student's follow: the teacher's of the same image, or, as a "
        "control, of the next one in the batch, which tell nothing of the image itself",
    )

    def teaches_attention(self) -> bool:
        """Return whether maps follow the teacher's of the same image, which claims ask about."""
        return self.images == "same"

    def check_pair(self, pair: Pair) -> None:
        """Refuse networks without stages that belong together; raise `ValueError`."""
        pair_stages(pair, self.stages)


class Term(terms.Term):
    """See `attention_transfer`; one part for each pair of stages."""

    def __init__(self, settings: Settings, pair: Pair) -> None:
        super().__init__()
        self.settings = settings
        self.matches = pair_stages(pair, settings.stages)
        self.note = pairing_note(settings.label, self.matches, pair)

    def forward(self, student: Outputs, teacher: Outputs, labels: Tensor) -> Tensor:  # noqa: ARG002
        """Return the term of a batch, (pairs,)."""
        pairs = [
            (student.stages[match.student], teacher.stages[match.teacher]) for match in self.matches
        ]
        if self.settings.stages == "by_index":
            pairs = [(pooled(own, other), pooled(other, own)) for own, other in pairs]
        own, others = zip(*pairs, strict=True)
        if self.settings.images == "next":
            others = [maps.roll(-1, dims=0) for maps in others]
        return attention_transfer(own, others, self.settings.collapse, self.settings.mode)


def attention_transfer(
    student_features: Sequence[Tensor],
    teacher_features: Sequence[Tensor],
    collapse: Collapse = "mean_square",
    mode: Mode = "code",
) -> Tensor:
    """Return the attention-transfer term of each stage, shape (stages,), not weighted.

    With q_s, q_t the maps of `attention_map` (arXiv 1612.03928):

    - code: mean over N and the H * W positions of (q_s - q_t)^2, as the authors' code computes
      it; it equals 2 / (H * W) * (1 - cos(q_s, q_t));
    - paper: 1 / 2 * mean over N of ||q_s - q_t||_2, equation 2 of the paper (a norm, not a
      square; the paper doesn't say how images are reduced, the mean is our choice).

    A weight for one mode means nothing in the other. Student and teacher may differ
    in channels, not in positions. No gradient flows into the teacher.

    Raises:
        ValueError: numbers of stages or positions differ, or an option is unknown.
    """
    if len(student_features) != len(teacher_features):
        raise ValueError(
            f"student and teacher have different numbers of stages: "
            f"{len(student_features)} and {len(teacher_features)}"
        )
    if mode not in ("code", "paper"):
        raise ValueError(f"mode is {mode!r}; allowed: code, paper")
    terms = []
    for student, teacher in zip(student_features, teacher_features, strict=True):
        if student.shape[0] != teacher.shape[0] or student.shape[2:] != teacher.shape[2:]:
            raise ValueError(
                f"feature maps of student and teacher differ in images or positions: "
                f"{tuple(student.shape)} and {tuple(teacher.shape)}"
            )
        difference = attention_map(student, collapse) - attention_map(teacher.detach(), collapse)
        if mode == "code":
            terms.append(difference.square().mean())
        else:
            terms.append(torch.linalg.vector_norm(difference, dim=1).mean() / 2)
    return torch.stack(terms)
