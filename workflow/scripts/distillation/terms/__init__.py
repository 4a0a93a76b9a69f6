"""Terms of the objective: one file per term, and what they share.

A term's file has `Settings`, its declaration, and `Term(settings, pair)`, a module whose
`forward(student, teacher, labels)` returns the term of a batch, not weighted: a scalar, or a value
per part, which are added up. What trains with the student are the module's parameters. Letters: N
images, K classes, C channels, H x W positions.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from torch import Tensor, nn
from torch.nn import functional

from distillation.networks import Outputs, Shape
from distillation.settings import plugins
from distillation.settings.base import TermSettings

Pairing = Literal["by_size", "by_index"]


@dataclass(frozen=True)
class Pair:
    """What a term may know of both networks: the shapes of their stages; none without teacher."""

    student: list[Shape]
    teacher: list[Shape]


class Term(nn.Module):
    """A term of the objective; `note` is what it has to say when a training begins."""

    note = ""

    def forward(self, student: Outputs, teacher: Outputs, labels: Tensor) -> Tensor:
        """Return the term of a batch, a scalar or one value per part."""
        raise NotImplementedError


def build_term(name: str, settings: TermSettings, pair: Pair) -> Term:
    """Build the term of a name.

    Raises:
        ValueError: the pair of networks can't serve it.
    """
    return plugins.load("terms", name).Term(settings, pair)


class Match(NamedTuple):
    """A stage of the student and one of the teacher, counted from 0."""

    student: int
    teacher: int


def pair_stages(pair: Pair, how: Pairing) -> list[Match]:
    """Return which stages of student and teacher belong together.

    by_size: those of equal height and width, of several the last of each network; by_index: the
    first with the first and so on, of which the larger is then pooled (see `pooled`).

    Raises:
        ValueError: there are none, or numbers of stages differ by_index.
    """
    if how == "by_index":
        if len(pair.student) != len(pair.teacher):
            raise ValueError(
                f"stages: found {len(pair.student)} of the student and {len(pair.teacher)} of the "
                f"teacher; allowed with by_index: equal numbers"
            )
        return [Match(place, place) for place in range(len(pair.student))]
    sizes = [
        {shape[1:]: place for place, shape in enumerate(shapes)}
        for shapes in (pair.student, pair.teacher)
    ]
    common = [size for size in sizes[0] if size in sizes[1]]
    if not common:
        found = [
            ", ".join(f"{h} x {w}" for _, h, w in shapes) for shapes in (pair.student, pair.teacher)
        ]
        raise ValueError(
            f"stages: the student's have {found[0]} positions, the teacher's {found[1]}; allowed "
            f"with by_size: at least one size in common"
        )
    return [Match(sizes[0][size], sizes[1][size]) for size in common]


def pairing_note(label: str, matches: list[Match], pair: Pair) -> str:
    """Say which stages were paired, counted from 1."""
    parts = [
        f"{match.student + 1} with {match.teacher + 1} ({shape.height} x {shape.width})"
        for match in matches
        for shape in [pair.student[match.student]]
    ]
    return f"{label} pairs stages of student and teacher: {', '.join(parts)}"


def pooled(maps: Tensor, other: Tensor) -> Tensor:
    """Average maps (N, C, H, W) over areas to at most the positions of others; smaller ones stay.

    Where sides aren't multiples of each other, areas are rounded out (torch's adaptive pooling).
    """
    height, width = (
        min(own, other) for own, other in zip(maps.shape[2:], other.shape[2:], strict=True)
    )
    if (height, width) == tuple(maps.shape[2:]):
        return maps
    if maps.shape[2] % height == 0 and maps.shape[3] % width == 0:
        # The same, and its backward pass repeats itself on CUDA.
        size = (maps.shape[2] // height, maps.shape[3] // width)
        return functional.avg_pool2d(maps, size)
    return functional.adaptive_avg_pool2d(maps, (height, width))
