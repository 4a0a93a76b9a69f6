"""The stages of two networks, and which belong together; known without torch, for a dry run."""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Pairing = Literal["by_size", "by_index", "last"]


class Shape(NamedTuple):
    """Channels, height and width of a stage."""

    channels: int
    height: int
    width: int


@dataclass(frozen=True)
class Pair:
    """What a term may know of both networks: the shapes of their stages, and the classes.

    Without teacher it has none; nor has either, before a run, where no term reads stages. Classes
    are 0 where their number isn't known yet.
    """

    student: list[Shape]
    teacher: list[Shape]
    classes: int = field(default=0, kw_only=True)

    def check_standardised(self, term: str, standardise: bool) -> None:
        """Refuse logits of two classes, each +-0.7 when standardised; raise `ValueError`."""
        if standardise and self.classes == 2:
            raise ValueError(
                f"{term}: standardise is true with 2 classes, of which it leaves the order alone, "
                "without a slope; allowed: false, or more classes"
            )


class Match(NamedTuple):
    """A stage of the student and one of the teacher, counted from 0."""

    student: int
    teacher: int


def pair_stages(pair: Pair, how: Pairing) -> list[Match]:
    """Return which stages of student and teacher belong together.

    by_size: those of equal height and width, of several the last of each network; by_index: the
    first with the first and so on; last: the last of each network, whatever their sizes.

    Raises:
        ValueError: there are none, or numbers of stages differ by_index.
    """
    counts = len(pair.student), len(pair.teacher)
    if not all(counts):
        raise ValueError(
            f"stages: found {counts[0]} of the student and {counts[1]} of the teacher; allowed: at "
            f"least 1 of each"
        )
    if how == "last":
        return [Match(counts[0] - 1, counts[1] - 1)]
    if how == "by_index":
        if counts[0] != counts[1]:
            raise ValueError(
                f"stages: found {counts[0]} of the student and {counts[1]} of the teacher; allowed "
                f"with by_index: equal numbers"
            )
        return [Match(place, place) for place in range(counts[0])]
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
    """Say which stages were paired, counted from 1, and their sizes."""
    parts = []
    for match in matches:
        own, other = (
            f"{shape.height} x {shape.width}"
            for shape in (pair.student[match.student], pair.teacher[match.teacher])
        )
        sizes = own if own == other else f"{own} and {other}"
        parts.append(f"{match.student + 1} with {match.teacher + 1} ({sizes})")
    return f"{label} pairs stages of student and teacher: {', '.join(parts)}"
