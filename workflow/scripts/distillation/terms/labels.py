"""The labels: cross-entropy, with label smoothing if wanted."""

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor
from torch.nn import functional

from distillation import terms
from distillation.networks import Outputs
from distillation.settings.base import TermSettings


class Settings(TermSettings):
    """Cross-entropy with the labels, mean over the images, in nats."""

    label: ClassVar[str] = "Labels"
    needs: ClassVar[Literal["nothing", "logits", "stages"]] = "nothing"

    smoothing: float = Field(
        0, ge=0, le=1,
        description="fraction of the target spread evenly over all classes (Szegedy et al. 2016, "
        "arXiv 1512.00567, section 7)",
    )  # fmt: skip


class Term(terms.Term):
    """Mean over N of the cross-entropy of softmax(student) with the (smoothed) labels."""

    def __init__(self, settings: Settings, pair: terms.Pair) -> None:  # noqa: ARG002 each term has it
        super().__init__()
        self.smoothing = settings.smoothing

    def forward(self, student: Outputs, teacher: Outputs, labels: Tensor) -> Tensor:  # noqa: ARG002
        """Return the term of a batch, a scalar."""
        logits = student.logits
        # In float32 at least: half precision can't tell small probabilities apart.
        logits = logits if logits.dtype.itemsize >= 4 else logits.float()
        return functional.cross_entropy(logits, labels, label_smoothing=self.smoothing)
