"""Claims about attention maps, judged from measured values; no verdict is written by hand.

One value is above another only where their intervals don't touch. A criterion is judged method by
method, a claim criterion by criterion, both by `combined`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import pandas as pd

from distillation.measurements import (
    BASELINE,
    EARLY,
    LATE,
    SIDES,
    TEACHER,
    Interval,
    Key,
    Values,
    students_of,
)
from distillation.results import label

Verdict = Literal["holds", "holds in part", "does not hold", "can't be said"]
Relation = Literal["above", "below", "overlap", "no numbers", "not told apart", "one seed"]
# What a criterion asks for, and the relations by which it fails. An overlap shows no difference:
# that fails a criterion that asks for one, and is no proof for one that denies one, as intervals of
# a few images overlap too.
Wanted = Literal["above", "below", "not above", "not below"]
FAILS: dict[Wanted, tuple[Relation, ...]] = {
    "above": ("below", "overlap"),
    "below": ("above", "overlap"),
    "not above": ("above",),
    "not below": ("below",),
}
# Relations that say nothing for or against, where they don't make a criterion fail.
OPEN: tuple[Relation, ...] = ("overlap", "no numbers", "not told apart", "one seed")

# What the verdict of compare_methods.py on a pair says of the first's accuracy.
PAIR_RELATIONS: dict[str, Relation] = {
    "above": "above",
    "below": "below",
    "not_distinguishable": "not told apart",
    "one_seed": "one seed",
}
# The value of an even map, and of a map that looks at an object no more than chance would.
ONE = Interval(1, 1, 1)
# The difference between two things that are alike.
ZERO = Interval(0, 0, 0)
# The effective area under which a map is called a point: half of the map's width by half of its
# height. The notes give no bound; this one is ours and generous, a single cell of 8 x 8 has 1 / 64.
POINT = Interval(0.25, 0.25, 0.25)


@dataclass(frozen=True)
class Criterion:
    """What must be so for a claim to hold, and what was found for each network that it is about.

    `relations` has, for each method, how its value stands to each value that it is compared with;
    a network fails the criterion if one of them is in FAILS, and meets it if none is open either.
    """

    words: str
    wanted: Wanted
    relations: dict[str, tuple[Relation, ...]]

    def of(self, method: str) -> Verdict:
        """Return whether a network meets the criterion."""
        found = set(self.relations[method])
        if found & set(FAILS[self.wanted]):
            return "does not hold"
        return "can't be said" if found & set(OPEN) else "holds"

    @property
    def result(self) -> Verdict:
        """Whether the networks meet the criterion."""
        return combined(map(self.of, self.relations))


@dataclass(frozen=True)
class Claim:
    """A claim, the criteria that decide it, and what explains it without deciding it.

    `tables` names the (metric, group) that a reader needs, one tuple for each table.
    """

    name: str
    sentence: str
    criteria: list[Criterion]
    tables: tuple[tuple[tuple[str, int], ...], ...] = ()
    explanations: list[Criterion] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> Verdict:
        """Whether the claim holds."""
        return combined(criterion.result for criterion in self.criteria)


def combined(results: Iterable[Verdict]) -> Verdict:
    """Return what several results say together.

    All hold: holds; none does: does not hold; some do: holds in part. Where numbers are missing,
    it can't be said, unless the others already make it hold in part, whatever the numbers are.
    """
    found = set(results)
    if "holds in part" in found or {"holds", "does not hold"} <= found:
        return "holds in part"
    if "can't be said" in found or not found:
        return "can't be said"
    return found.pop()


def relation(left: Interval | None, right: Interval | None) -> Relation:
    """Return how a value stands to another; where intervals touch or overlap, neither is above."""
    if left is None or right is None:
        return "no numbers"
    if left.low > right.high:
        return "above"
    return "below" if left.high < right.low else "overlap"


def related(
    values: Values,
    methods: Sequence[str],
    left: Callable[[str], Key],
    *right: Callable[[str], Key | Interval],
) -> dict[str, tuple[Relation, ...]]:
    """Return, for each method, how its value `left` stands to each of its values `right`."""

    def value(key: Key | Interval) -> Interval | None:
        return values.get(key) if isinstance(key, Key) else key

    return {
        method: tuple(relation(value(left(method)), value(each(method))) for each in right)
        for method in methods
    }


def late(metric: str, untrained: bool = False) -> Callable[[str], Key]:
    """Return a maker of the key of a method's late map."""
    return lambda method: Key(method, metric, LATE, untrained)


def early(metric: str, untrained: bool = False) -> Callable[[str], Key]:
    """Return a maker of the key of a method's early map."""
    return lambda method: Key(method, metric, EARLY, untrained)


def judge_collapse(values: Values, methods: Sequence[str]) -> Claim:
    """Judge whether the teacher's last map is a point, and the students' are not."""
    area = "effective_area"
    teacher = related(
        values, [TEACHER], late(area),
        early(area), lambda method: Key(method, area, 2), late(area, untrained=True),
    )  # fmt: skip
    point = related(values, [TEACHER], late(area), lambda _: POINT)
    students = related(values, students_of(methods), late(area), lambda _: Key(TEACHER, area))
    return Claim(
        "concentration",
        "The teacher's last map has collapsed to a point, while the students' are still looking.",
        [
            Criterion(
                "The teacher's effective area in group 3 is below that of its group 1, of its "
                "group 2, and of group 3 of its untrained control.", "below", teacher,
            ),
            Criterion(
                f"The teacher's effective area in group 3 is that of a point: below {POINT.value}, "
                "half of the map's width by half of its height.", "below", point,
            ),
            Criterion(
                "The student's effective area in group 3 is above the teacher's.", "above", students
            ),
        ],
        (
            tuple((area, group) for group in (1, 2, 3)),
            tuple((metric, LATE) for metric in ("entropy", "gini", "peak_over_mean")),
        ),
    )  # fmt: skip


def judge_border(values: Values, methods: Sequence[str]) -> Claim:
    """Judge whether late maps fall on the border, and whether that is the padding's doing."""
    constant = related(values, methods, late("border_constant"), lambda _: ONE)
    untrained = related(values, methods, late("border", untrained=True), lambda _: ONE)
    return Claim(
        "border",
        "Late maps: attention falls on borders.",
        [
            Criterion(
                "The border ratio in group 3 is above 1, that of an even map.",
                "above",
                related(values, methods, late("border"), lambda _: ONE),
            )
        ],
        (
            (
                *(("border", group) for group in (1, 2, 3)),
                ("border_constant", 3),
                ("border_noise", 3),
            ),
            tuple((f"border_{side}", LATE) for side in SIDES),
        ),
        [
            Criterion(
                "It is the padding's doing: the ratio is above 1 on an input that is constant, "
                "where there is nothing to look at, and in the untrained control. Known mechanism: "
                "zero padding with stride 2 (Alsallakh et al., Mind the Pad, ICLR 2021).",
                "above",
                {method: constant[method] + untrained[method] for method in methods},
            )
        ],
        uneven_sides(values, methods),
    )


def uneven_sides(values: Values, methods: Sequence[str]) -> list[str]:
    """Say, for each method, which side of its late map has most and which has least."""
    found = []
    for method in methods:
        keys = [Key(method, f"border_{side}") for side in SIDES]
        if all(key in values for key in keys):
            keys.sort(key=lambda key: values[key].value)
            least, most = (key.metric.removeprefix("border_") for key in (keys[0], keys[-1]))
            how = relation(values[keys[-1]], values[keys[0]])
            text = f"{most} and {least}" if how == "above" else "none stands out"
            found.append(f"{label(method)} {text}")
    start = "Sides of the map in group 3 with most and with least attention"
    return [f"{start}: {'; '.join(found)}."] if found else []


def judge_object(values: Values, methods: Sequence[str]) -> Claim:
    """Judge whether late maps miss the object."""

    def against(metric: str, chance: Callable[[str], Key | Interval]) -> dict:
        return related(values, methods, late(metric), chance)

    return Claim(
        "object",
        "Late maps: attention does not fall on objects.",
        [
            Criterion(
                "The object's energy ratio in group 3 is not above 1: the object gets no more than "
                "its area.", "not above", against("object_energy", lambda _: ONE),
            ),
            Criterion(
                "The peak in group 3 hits the object no more often than chance.",
                "not above", against("pointing_game", late("pointing_game_chance")),
            ),
            Criterion(
                "The overlap with the object in group 3 is not above chance.",
                "not above", against("object_iou", late("object_iou_chance")),
            ),
        ],
        (
            tuple(("object_energy", group) for group in (1, 2, 3)),
            tuple(
                (metric, LATE)
                for name in ("pointing_game", "object_iou") for metric in (name, f"{name}_chance")
            ),
        ),
    )  # fmt: skip


def judge_abstraction(values: Values, methods: Sequence[str]) -> Claim:
    """Judge whether late maps depend on the image, its edges and what the network uses less.

    Whether a network without training shows the same fall is told, but doesn't decide: the claim
    is about what late maps are, not about what made them so.
    """
    dependence, sobel, gap = "image_dependence", "sobel_spearman", "deletion_minus_random"
    return Claim(
        "abstraction",
        "Late maps are too abstract to be read as attention.",
        [
            Criterion(
                "Maps depend less on the image: image-dependence in group 3 is below group 1.",
                "below", related(values, methods, late(dependence), early(dependence)),
            ),
            Criterion(
                "Maps follow the image's edges less: the correlation with the Sobel magnitude in "
                "group 3 is below group 1.",
                "below", related(values, methods, late(sobel), early(sobel)),
            ),
            Criterion(
                "To remove what the map of group 3 marks harms the prediction no more than to "
                "remove cells at random: its deletion minus that of a random order, image by "
                "image, is not below 0.",
                "not below", related(values, methods, late(gap), lambda _: ZERO),
            ),
        ],
        (
            ((dependence, 1), (dependence, 3), (sobel, 1), (sobel, 3)),
            tuple((f"{name}_minus_random", LATE) for name in ("deletion", "insertion")),
            tuple((name, LATE) for name in orders("deletion")),
            tuple((name, LATE) for name in orders("insertion")),
        ),
        [
            Criterion(
                "It is so without training: image-dependence in group 3 is below group 1 in the "
                "untrained control too.",
                "below",
                related(values, methods, late(dependence, True), early(dependence, True)),
            ),
        ],
    )  # fmt: skip


def orders(metric: str) -> tuple[str, ...]:
    """Return deletion or insertion with its controls: the orders in which cells are taken."""
    return (metric, *(f"{metric}_{name}" for name in ("random", "centre", "sobel", "grad_cam")))


def judge_transfer(values: Values, methods: Sequence[str], attentive: Sequence[str]) -> Claim:
    """Judge whether students that learn attention have the teacher's.

    Args:
        values: of all methods.
        methods: all of them.
        attentive: the methods that decide; other students but the baseline are told beside them.
    """
    cosine = "teacher_cosine"
    others = [m for m in students_of(methods) if m not in (BASELINE, *attentive)]

    def both(chosen: Sequence[str]) -> list[Criterion]:
        return [
            Criterion(
                "The student's cosine with the teacher in group 3 is above the baseline's.",
                "above", related(values, chosen, late(cosine), lambda _: Key(BASELINE, cosine)),
            ),
            Criterion(
                "It is above its own cosine with the teacher's maps of other images.",
                "above", related(values, chosen, late(cosine), late(f"{cosine}_shuffled")),
            ),
        ]  # fmt: skip

    return Claim(
        "transfer",
        "The student that learns attention has the teacher's attention.",
        both(attentive),
        (
            tuple((cosine, group) for group in (1, 2, 3)),
            tuple((f"{cosine}_shuffled", group) for group in (1, 2, 3)),
            tuple((f"teacher_spearman{end}", LATE) for end in ("", "_shuffled")),
        ),
        both(others) if others else [],
        [] if attentive else ["No student of this experiment learns attention."],
    )


def judge_pair(comparison: pd.DataFrame, method: str, reference: str) -> Claim:
    """Judge whether a method came out below its reference, from the row of the pair, if any."""
    rows = comparison[(comparison["method"] == method) & (comparison["reference"] == reference)]
    found: Relation = "no numbers"
    note = "This pair wasn't compared."
    for verdict, sentence in zip(rows["verdict"], rows["sentence"], strict=True):
        found, note = PAIR_RELATIONS[verdict], f"> {sentence}"
    return Claim(
        "pair",
        f"The {label(method)} student comes out below the {label(reference).lower()}.",
        [
            Criterion(
                "The difference in accuracy, paired by seeds, is below 0 (the verdict of "
                "comparison.csv). Where seeds don't tell the two apart, or there is one seed, it "
                "can't be said.",
                "below",
                {method: (found,)},
            )
        ],
        notes=[note],
    )


def judge(values: Values, methods: Sequence[str], attentive: Sequence[str]) -> list[Claim]:
    """Judge the claims about attention maps, in order."""
    return [
        judge_collapse(values, methods),
        judge_border(values, methods),
        judge_object(values, methods),
        judge_abstraction(values, methods),
        judge_transfer(values, methods, attentive),
    ]
