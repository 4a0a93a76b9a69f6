"""Knowledge distillation: the student's softened outputs follow the teacher's.

Source: Hinton et al. 2015, "Distilling the Knowledge in a Neural Network", arXiv 1503.02531.
"""

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor
from torch.nn import functional

from distillation import terms
from distillation.logits import standardised
from distillation.networks import Outputs
from distillation.numerics import at_least_float32
from distillation.settings.base import TermSettings
from distillation.stages import Pair

Reduction = Literal["batchmean", "legacy_2017"]


class Settings(TermSettings):
    """Knowledge distillation, T^2 * KL(teacher || student) at temperature T."""

    label: ClassVar[str] = "KD"
    needs: ClassVar[Literal["nothing", "logits", "stages"]] = "logits"

    temperature: float = Field(
        4, gt=0, description="T, by which logits are divided; 4 in arXiv 1612.03928, section 4.1"
    )
    reduction: Literal["batchmean", "legacy_2017"] = Field(
        "batchmean", description="of the KL; legacy_2017 is 2 / K of batchmean"
    )
    standardise: bool = Field(
        False,
        description="logits of each image to mean 0 and standard deviation 1 first; with weight 9 "
        "and temperature 2 in arXiv 2403.01427's code",
    )

    def check_pair(self, pair: Pair) -> None:
        """Refuse to standardise the logits of two classes; raise `ValueError`."""
        pair.check_standardised("kd", self.standardise)


class Term(terms.Term):
    """See `knowledge_distillation`; of logits as `standardised` gives them, if so chosen."""

    def __init__(self, settings: Settings, pair: Pair) -> None:  # noqa: ARG002 each term has it
        super().__init__()
        self.settings = settings

    def forward(self, student: Outputs, teacher: Outputs, labels: Tensor) -> Tensor:  # noqa: ARG002
        """Return the term of a batch, a scalar."""
        settings, both = self.settings, (student.logits, teacher.logits)
        own, other = map(standardised, both) if settings.standardise else both
        return knowledge_distillation(own, other, settings.temperature, settings.reduction)


def knowledge_distillation(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float,
    reduction: Reduction = "batchmean",
) -> Tensor:
    """Return the distillation term of Hinton et al. 2015 (arXiv 1503.02531), a scalar.

    With p = softmax(teacher / T) and q = softmax(student / T):

    - batchmean: T^2 * mean over N of sum over K of p * (log p - log q);
    - legacy_2017: 2 * T^2 * mean over N and K of the same terms, the weight that the code of the
      attention-transfer paper had until July 2018: 2 / K of `batchmean`.

    Args:
        student_logits: (N, K).
        teacher_logits: (N, K); no gradient flows into them.
        temperature: T > 0.
        reduction: see above.

    Raises:
        ValueError: the shapes differ, or `reduction` is unknown.
    """
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(
            f"logits of student and teacher differ in shape: "
            f"{tuple(student_logits.shape)} and {tuple(teacher_logits.shape)}"
        )
    log_student = functional.log_softmax(at_least_float32(student_logits) / temperature, dim=1)
    log_teacher = functional.log_softmax(
        at_least_float32(teacher_logits.detach()) / temperature, dim=1
    )
    divergence = functional.kl_div(log_student, log_teacher, reduction="sum", log_target=True)
    images, classes = student_logits.shape
    if reduction == "batchmean":
        return temperature**2 * divergence / images
    if reduction == "legacy_2017":
        return 2 * temperature**2 * divergence / (images * classes)
    raise ValueError(f"reduction is {reduction!r}; allowed: batchmean, legacy_2017")
