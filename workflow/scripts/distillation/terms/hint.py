"""Hints: a regressor on one of the student's stages predicts the teacher's.

Source: Romero et al. 2015, "FitNets: Hints for Thin Deep Nets", arXiv 1412.6550, equation 3. As in
Tian et al. 2020 (arXiv 1910.10699) the hint is a term beside the labels through the whole training,
not a stage of training of its own. The regressor is a 1 x 1 convolution alone, onto the teacher's
stage before the activation that follows; that of their code ends in batch norm and ReLU, and its
target is after the activation, so that their weight is of a loss on another scale.
"""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from distillation import terms
from distillation.networks import Outputs
from distillation.numerics import at_least_float32
from distillation.settings.base import TermSettings
from distillation.stages import Pair
from distillation.terms import pooled


class Settings(TermSettings):
    """Hint (FitNets): mean squared error of one stage, through a regressor that trains too."""

    label: ClassVar[str] = "Hint"
    needs: ClassVar[Literal["nothing", "logits", "stages"]] = "stages"

    weight: float = Field(
        100,
        ge=0,
        description="factor of the term in the total; 100 in arXiv 1910.10699's code, of a "
        "regressor that ends in batch norm and ReLU",
    )
    stage: int = Field(2, ge=1, description="of both networks, counted from 1")
    seed: int = Field(0, ge=0, le=2**32 - 1, description="of the regressor's first weights")

    def check_pair(self, pair: Pair) -> None:
        """Refuse networks one of which lacks the stage; raise `ValueError`."""
        for whose, shapes in (("student", pair.student), ("teacher", pair.teacher)):
            if self.stage > len(shapes):
                raise ValueError(
                    f"hint: stage is {self.stage}, but the {whose} has {len(shapes)}; allowed: "
                    f"1 to {len(shapes)}"
                )


class Term(terms.Term):
    """Mean over N, C, H and W of (regressor(student) - teacher)^2; the larger map is pooled."""

    def __init__(self, settings: Settings, pair: Pair) -> None:
        super().__init__()
        self.place = settings.stage - 1
        own, other = pair.student[self.place], pair.teacher[self.place]
        self.regressor = nn.Conv2d(own.channels, other.channels, 1)
        # A generator of its own, so that the student begins as it does without this term.
        generator = torch.Generator().manual_seed(settings.seed)
        nn.init.kaiming_normal_(self.regressor.weight, nonlinearity="linear", generator=generator)
        nn.init.zeros_(self.regressor.bias)  # type: ignore[arg-type]
        self.note = (
            f"Hint regresses stage {settings.stage}, {own.channels} to {other.channels} channels"
        )

    def forward(self, student: Outputs, teacher: Outputs, labels: Tensor) -> Tensor:  # noqa: ARG002
        """Return the term of a batch, a scalar."""
        own, other = student.stages[self.place], teacher.stages[self.place].detach()
        own, other = pooled(own, other), pooled(other, own)
        predicted = self.regressor(at_least_float32(own).to(self.regressor.weight.dtype))
        return functional.mse_loss(at_least_float32(predicted), at_least_float32(other))
