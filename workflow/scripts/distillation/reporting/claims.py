"""Claims about attention maps, judged from measured values; no verdict is written by hand.

One comparison is judged by `compare`, a criterion method by method, a claim criterion by criterion,
the last two by `combined`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Literal, NamedTuple

from distillation.reporting.intervals import Interval
from distillation.reporting.measurements import (
    BASELINE,
    EARLY,
    LATE,
    Key,
    Methods,
    Values,
    every_stage,
    students_of,
)
from distillation.reporting.results import TEACHER
from distillation.reporting.trained import check_has, read_table

Verdict = Literal["holds", "holds in part", "does not hold", "can't be said"]
Relation = Literal["above", "below", "overlap", "no numbers", "not told apart", "one seed"]
# What a criterion asks for, and what each relation says of it; any other says nothing. An overlap
# shows no difference: that fails a criterion that asks for one, and is no proof for one that denies
# one, as intervals of a few images overlap too.
Wanted = Literal["above", "below", "not above", "not below"]
DECIDES: dict[Wanted, dict[Relation, Verdict]] = {
    "above": {"above": "holds", "below": "does not hold", "overlap": "does not hold"},
    "below": {"below": "holds", "above": "does not hold", "overlap": "does not hold"},
    "not above": {"below": "holds", "above": "does not hold"},
    "not below": {"above": "holds", "below": "does not hold"},
}
# What the verdict of compare_methods.py on a pair says of the first's result.
PAIR_RELATIONS: dict[str, Relation] = {
    "above": "above",
    "below": "below",
    "not_distinguishable": "not told apart",
    "one_seed": "one seed",
}
# What is read of its comparison.csv.
PAIR = ("method", "reference", "verdict", "sentence")
# The value of an even map, and of a map that looks at an object no more than chance would.
ONE = Interval(1, 1, 1)
# The difference between two things that are alike.
ZERO = Interval(0, 0, 0)
# The effective area under which a map is called a point: half of the map's width by half of its
# height. The notes give no bound; this one is ours and generous, a single cell of 8 x 8 has 1 / 64.
POINT = Interval(0.25, 0.25, 0.25)
SIDES = ("top", "bottom", "left", "right")


class Comparison(NamedTuple):
    """How a value stands to another, and whether that is as a criterion asks."""

    relation: Relation
    verdict: Verdict


@dataclass(frozen=True)
class Criterion:
    """What must be so for a claim to hold, and what was found for each network that it is about."""

    words: str
    comparisons: dict[str, tuple[Comparison, ...]]

    def of(self, method: str) -> Verdict:
        """Return whether a network meets the criterion: whether all its comparisons do."""
        found = {each.verdict for each in self.comparisons[method]}
        if "does not hold" in found:
            return "does not hold"
        return "holds" if found == {"holds"} else "can't be said"

    @property
    def result(self) -> Verdict:
        """Whether the networks meet the criterion."""
        return combined(map(self.of, self.comparisons))


# A metric and a stage: a column of a table.
Column = tuple[str, int]


@dataclass(frozen=True)
class Claim:
    """A claim, the criteria that decide it, and what explains it without deciding it.

    `tables` has the columns that a reader needs, one sequence for each table.
    """

    name: str
    sentence: str
    criteria: list[Criterion]
    tables: Sequence[Sequence[Column]] = ()
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


def compare(left: Interval | None, right: Interval | None, wanted: Wanted) -> Comparison:
    """Judge one comparison: the rule of all claims about maps.

    One value is above another only where their intervals don't touch; else they overlap. With
    itself, as the first stage with the last where there is one, a value isn't compared.
    """
    if left is None or right is None or left is right:
        return judged("no numbers", wanted)
    if left.low > right.high:
        return judged("above", wanted)
    return judged("below" if left.high < right.low else "overlap", wanted)


def judged(relation: Relation, wanted: Wanted) -> Comparison:
    """Return a relation with what it says of the one that is wanted."""
    return Comparison(relation, DECIDES[wanted].get(relation, "can't be said"))


# What is compared: keys of measured values and fixed values, the same for all methods or for each.
Operands = Sequence[Key | Interval] | Callable[[str], Sequence[Key | Interval]]


def criterion(
    values: Values,
    about: Iterable[str],
    left: Operands,
    wanted: Wanted,
    right: Operands,
    words: str,
) -> Criterion:
    """Compare each of the values `left` with each of the values `right`, for each method."""

    def found(operands: Operands, method: str) -> list[Interval | None]:
        keys = operands(method) if callable(operands) else operands
        return [values.get(key) if isinstance(key, Key) else key for key in keys]

    return Criterion(
        words,
        {
            method: tuple(
                compare(*pair, wanted)
                for pair in product(found(left, method), found(right, method))
            )
            for method in about
        },
    )


def own(metric: str, stage: int = LATE, untrained: bool = False) -> Operands:
    """Return the key of a metric, for each method its own; of late maps unless told."""
    return lambda method: [Key(method, metric, stage, untrained)]


def last_stage(*metrics: str) -> list[Column]:
    """Return columns of metrics in the last stage."""
    return [(metric, LATE) for metric in metrics]


def all_stages(metric: str, methods: Methods) -> list[Column]:
    """Return columns of a metric in each stage that some method has."""
    return [(metric, stage) for stage in every_stage(methods)]


def judge_collapse(values: Values, methods: Methods) -> Claim:
    """Judge whether the teacher's last map is a point, and the students' are not."""
    area = "effective_area"
    earlier = [Key(TEACHER, area, stage) for stage in range(1, methods[TEACHER].stages)]
    return Claim(
        "concentration",
        "The teacher's last map has collapsed to a point, while the students' are still looking.",
        [
            criterion(values, [TEACHER], own(area), "below",
                [*earlier, Key(TEACHER, area, untrained=True)],
                "The teacher's effective area in the last stage is below that of all its earlier "
                "stages, and of the last stage of its untrained control."),
            criterion(values, [TEACHER], own(area), "below", [POINT],
                "The teacher's effective area in the last stage is that of a point: below "
                f"{POINT.value}, half of the map's width by half of its height."),
            criterion(values, students_of(methods), own(area), "above", [Key(TEACHER, area)],
                "The student's effective area in the last stage is above the teacher's."),
        ],
        (all_stages(area, methods), last_stage("entropy", "gini", "peak_over_mean")),
    )  # fmt: skip


def judge_border(values: Values, methods: Methods) -> Claim:
    """Judge whether late maps fall on the border, and whether that is the padding's doing."""
    return Claim(
        "border",
        "Late maps: attention falls on borders.",
        [
            criterion(values, methods, own("border"), "above", [ONE],
                "The border ratio in the last stage is above 1, that of an even map."),
        ],
        (
            [*all_stages("border", methods), *last_stage("border_constant", "border_noise")],
            last_stage(*(f"border_{side}" for side in SIDES)),
        ),
        [
            criterion(values, methods,
                lambda m: [Key(m, "border_constant"), Key(m, "border", untrained=True)],
                "above", [ONE],
                "It is the padding's doing: the ratio is above 1 on an input that is constant, "
                "where there is nothing to look at, and in the untrained control. Known mechanism: "
                "zero padding with stride 2 (Alsallakh et al., Mind the Pad, ICLR 2021)."),
        ],
        uneven_sides(values, methods),
    )  # fmt: skip


def uneven_sides(values: Values, methods: Methods) -> list[str]:
    """Say, for each method, which side of its late map has most and which has least."""
    found = []
    for method in methods:
        keys = [Key(method, f"border_{side}") for side in SIDES]
        if all(key in values for key in keys):
            least, *_, most = sorted(keys, key=lambda key: values[key].value)
            names = [key.metric.removeprefix("border_") for key in (most, least)]
            apart = compare(values[most], values[least], "above").verdict == "holds"
            text = " and ".join(names) if apart else "none stands out"
            found.append(f"{methods[method].label} {text}")
    start = "Sides of the map in the last stage with most and with least attention"
    return [f"{start}: {'; '.join(found)}."] if found else []


def judge_object(values: Values, methods: Methods) -> Claim:
    """Judge whether late maps miss the object."""
    return Claim(
        "object",
        "Late maps: attention does not fall on objects.",
        [
            criterion(values, methods, own("object_energy"), "not above", [ONE],
                "The object's energy ratio in the last stage is not above 1: the object gets no "
                "more than its area."),
            criterion(values, methods, own("pointing_game"), "not above",
                own("pointing_game_chance"),
                "The peak in the last stage hits the object no more often than chance."),
            criterion(values, methods, own("object_iou"), "not above", own("object_iou_chance"),
                "The overlap with the object in the last stage is not above chance."),
        ],
        (
            all_stages("object_energy", methods),
            last_stage("pointing_game", "pointing_game_chance", "object_iou", "object_iou_chance"),
        ),
    )  # fmt: skip


def judge_abstraction(values: Values, methods: Methods) -> Claim:
    """Judge whether late maps depend on the image, its edges and what the network uses less.

    Whether a network without training shows the same fall is told, but doesn't decide: the claim
    is about what late maps are, not about what made them so.
    """
    dependence, sobel, gap = "image_dependence", "sobel_spearman", "deletion_minus_random"
    return Claim(
        "abstraction",
        "Late maps are too abstract to be read as attention.",
        [
            criterion(values, methods, own(dependence), "below", own(dependence, EARLY),
                "Maps depend less on the image: image-dependence in the last stage is below the "
                "first stage."),
            criterion(values, methods, own(sobel), "below", own(sobel, EARLY),
                "Maps follow the image's edges less: the correlation with the Sobel magnitude in "
                "the last stage is below the first stage."),
            criterion(values, methods, own(gap), "not below", [ZERO],
                "To remove what the map of the last stage marks harms the prediction no more than "
                "to remove cells at random: its deletion minus that of a random order, image by "
                "image, is not below 0."),
        ],
        (
            [(metric, stage) for metric in (dependence, sobel) for stage in (EARLY, LATE)],
            last_stage(gap, "insertion_minus_random"),
            last_stage(*orders("deletion")),
            last_stage(*orders("insertion")),
        ),
        [
            criterion(values, methods, own(dependence, LATE, True), "below",
                own(dependence, EARLY, True),
                "It is so without training: image-dependence in the last stage is below the first "
                "stage in the untrained control too."),
        ],
    )  # fmt: skip


def orders(metric: str) -> tuple[str, ...]:
    """Return deletion or insertion with its controls: the orders in which cells are taken."""
    return (metric, *(f"{metric}_{name}" for name in ("random", "centre", "sobel", "grad_cam")))


def judge_transfer(values: Values, methods: Methods, attentive: Sequence[str]) -> Claim:
    """Judge whether students that learn attention have the teacher's.

    Args:
        values: of all methods.
        methods: all of them.
        attentive: the methods that decide; other students but the baseline are told beside them.
    """
    cosine = "teacher_cosine"
    others = [m for m in students_of(methods) if m not in (BASELINE, *attentive)]
    criteria, told = (
        [
            criterion(values, about, own(cosine), "above", [Key(BASELINE, cosine)],
                "The student's cosine with the teacher in the last stage is above the baseline's."),
            criterion(values, about, own(cosine), "above", own(f"{cosine}_shuffled"),
                "It is above its own cosine with the teacher's maps of other images."),
        ]
        for about in (attentive, others)
    )  # fmt: skip
    return Claim(
        "transfer",
        "The student that learns attention has the teacher's attention.",
        criteria,
        (
            all_stages(cosine, methods),
            all_stages(f"{cosine}_shuffled", methods),
            last_stage("teacher_spearman", "teacher_spearman_shuffled"),
        ),
        told if others else [],
        [] if attentive else ["No student of this experiment learns attention."],
    )


def pick_attentive(named: Sequence[str] | None, methods: Methods) -> Sequence[str]:
    """Return the methods that learn attention: those named, or all students but the baseline.

    Raises:
        ValueError: a named method isn't among the students.
    """
    if named is None:
        return [method for method in students_of(methods) if method != BASELINE]
    return check_students("--attention-methods", named, methods)


def check_students(flag: str, named: Sequence[str], methods: Methods) -> Sequence[str]:
    """Return the methods that a flag names; refuse what isn't among the students.

    Raises:
        ValueError: one isn't; it is named with what is allowed.
    """
    students = students_of(methods)
    if unknown := [method for method in named if method not in students]:
        raise ValueError(f"{flag}: found {unknown[0]!r}; allowed: {', '.join(students)}")
    return named


def judge_pairs(path: Path, claimed: Sequence[Sequence[str]], methods: Methods) -> list[Claim]:
    """Judge, of each pair that is claimed, whether the first came out below the second.

    Raises:
        FileNotFoundError: there is no such comparison.csv.
        ValueError: it is damaged, or has a verdict that isn't known; what is claimed to be below
            what isn't among the students.
    """
    table = read_table(path)
    check_has(f"{path}:", table, PAIR)
    if wrong := set(table["verdict"]) - set(PAIR_RELATIONS):
        allowed = ", ".join(sorted(PAIR_RELATIONS))
        raise ValueError(f"{path}: verdict is {wrong.pop()!r}; allowed: {allowed}")
    known: dict[tuple[str, str], tuple[Relation, str]] = {
        (method, reference): (PAIR_RELATIONS[verdict], f"> {sentence}")
        for method, reference, verdict, sentence in table[list(PAIR)].itertuples(index=False)
    }
    claims = []
    for pair in claimed:
        method, reference = check_students("--claimed-below", pair, methods)
        found, note = known.get((method, reference), ("no numbers", "This pair wasn't compared."))
        asked = Criterion(
            "The difference, paired by seeds, is below 0 (the verdict of comparison.csv). Where "
            "seeds don't tell the two apart, or there is one seed, it can't be said.",
            {method: (judged(found, "below"),)},
        )
        names = [methods[each].label for each in pair]
        sentence = f"The {names[0]} student comes out below the {names[1]} student."
        claims.append(Claim("pair", sentence, [asked], notes=[note]))
    return claims


def judge(values: Values, methods: Methods, attentive: Sequence[str]) -> list[Claim]:
    """Judge the claims about attention maps, in order."""
    about_all = (judge_collapse, judge_border, judge_object, judge_abstraction)
    return [
        *(judge_claim(values, methods) for judge_claim in about_all),
        judge_transfer(values, methods, attentive),
    ]
