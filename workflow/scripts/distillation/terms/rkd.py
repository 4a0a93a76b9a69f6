"""Relational distillation: images lie to each other for the student as for the teacher.

Source: Park et al. 2019, "Relational Knowledge Distillation", arXiv 1904.05068.
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

# Below which a squared distance counts as none: the root has no finite slope at 0.
EPSILON = 1e-12


class Settings(TermSettings):
    """Relational KD: Huber loss of distances and of angles between the images of a batch."""

    label: ClassVar[str] = "RKD"
    needs: ClassVar[Literal["nothing", "logits", "stages"]] = "stages"

    distance_weight: float = Field(
        25, ge=0, description="of the distances; 25 in arXiv 1904.05068 on CIFAR-100"
    )
    angle_weight: float = Field(
        50, ge=0, description="of the angles; 50 in arXiv 1904.05068 on CIFAR-100"
    )

    def check_pair(self, pair: Pair) -> None:
        """Refuse a network without stages; raise `ValueError`."""
        pair_stages(pair, "last")


class Term(terms.Term):
    """The parts `distance_wise` and `angle_wise`, each with its weight, of the networks' embedding.

    The embedding of an image is the last stage averaged over its positions, (N, C). The paper's is
    what the classifier is given: averaged after the normalisation and activation that follow the
    stage, and in MobileNetV2 and ShuffleNetV2 after a last convolution too. Ours is before these.
    """

    def __init__(self, settings: Settings, pair: Pair) -> None:
        super().__init__()
        self.settings = settings
        self.note = pairing_note(settings.label, pair_stages(pair, "last"), pair)

    def forward(self, student: Outputs, teacher: Outputs, labels: Tensor) -> Tensor:  # noqa: ARG002
        """Return the term of a batch: distances, angles, (2,)."""
        own, other = (
            differences(at_least_float32(stage).mean(dim=(2, 3)))
            for stage in (student.stages[-1], teacher.stages[-1].detach())
        )
        distances = self.settings.distance_weight * distance_wise(own, other)
        angles = self.settings.angle_weight * angle_wise(own, other)
        return torch.stack([distances, angles])


def differences(embedding: Tensor) -> Tensor:
    """Return the difference of each image from each, (N, C) -> (N, N, C)."""
    return embedding[None] - embedding[:, None]


def distance_wise(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the distance-wise term of `differences`, a scalar.

    Mean over N * N of the Huber loss (threshold 1) of ||t_i - t_j|| / mu, student and teacher, with
    mu the mean of a network's distances over pairs of two images: section 3.2.1 of arXiv
    1904.05068, which adds up where the authors' code takes the mean.
    """
    return functional.smooth_l1_loss(relative_distances(student), relative_distances(teacher))


def relative_distances(differences: Tensor) -> Tensor:
    """Return distances, (N, N), over their mean of pairs of two images."""
    images = len(differences)
    squares = differences.square().sum(dim=2)
    distances = torch.where(squares > EPSILON, squares.clamp(min=EPSILON).sqrt(), 0)
    mean = distances.sum() / max(images * (images - 1), 1)
    return distances / mean.clamp(min=EPSILON)


def angle_wise(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the angle-wise term of `differences`, a scalar.

    Mean over N * N * N of the Huber loss (threshold 1) of the cosine of the angle at an image
    between two others, student and teacher: section 3.2.2 of arXiv 1904.05068, which adds up where
    the authors' code takes the mean.
    """
    return functional.smooth_l1_loss(cosines(student), cosines(teacher))


def cosines(differences: Tensor) -> Tensor:
    """Return the cosines of the angles at each image, (N, N, N); 0 of no angle."""
    directions = functional.normalize(differences, dim=2)
    return directions @ directions.transpose(1, 2)
