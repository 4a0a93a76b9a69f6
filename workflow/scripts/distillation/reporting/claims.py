"""Claims about attention maps, judged from measured values; no verdict is written by hand.

A comparison is a difference with an interval, judged against the smallest difference of interest by
`judgement.judge`; a criterion needs all its comparisons, a claim all its criteria and methods.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from distillation.reporting.attention_words import Margin, margin_of
from distillation.reporting.judgement import Asks, Estimate, Outcome, judge, together
from distillation.reporting.measurements import (
    ALPHA,
    BASELINE,
    EARLY,
    LATE,
    Key,
    Methods,
    Values,
    check_column,
    difference,
    every_stage,
    students_of,
)
from distillation.reporting.results import TEACHER
from distillation.reporting.trained import check_has, read_table

OPEN: Outcome = "can't be said"
OPPOSITE: dict[Outcome, Outcome] = {"shown": "refuted", "refuted": "shown", OPEN: OPEN}
# What the verdict of compare_methods.py on a pair says of "the first is below the second".
PAIRS: dict[str, Outcome] = {
    "below": "shown", "above": "refuted", "equivalent": "refuted", "open": OPEN, "one_seed": OPEN,
}  # fmt: skip
# What is read of its comparison.csv.
PAIR = ("method", "reference", "verdict", "sentence", "smallest_difference", "difference", "low",
        "high", "low_90", "high_90")  # fmt: skip
# The value of an even map, and of a map that looks at an object no more than chance would.
EVEN = 1.0
# The effective area under which a map is called a point: half of the map's width by half of its
# height. The notes give no bound; this one is ours and generous, a single cell of 8 x 8 has 1 / 64.
POINT = 0.25

# A metric and a stage: a column of a table.
Column = tuple[str, int]
# What is compared: a measured value, of each method its own or one for all, or a fixed value.
Operand = Callable[[str], Key] | Key | float


class Comparison(NamedTuple):
    """What a difference shows; where it is of one network, which can't tell, what of that alone.

    Without an estimate, a value wasn't measured.
    """

    outcome: Outcome
    estimate: Estimate | None = None
    alone: str = ""


@dataclass(frozen=True)
class Criterion:
    """What must be so for a claim to be shown, and what was found for each network.

    `denied`: it is shown where not all of the comparisons are.
    """

    words: str
    margin: float
    comparisons: dict[str, tuple[Comparison, ...]]
    denied: bool = False

    def of(self, method: str) -> Outcome:
        """Return whether a network meets the criterion."""
        found = together(each.outcome for each in self.comparisons[method])
        return OPPOSITE[found] if self.denied else found

    @property
    def result(self) -> Outcome:
        """Whether all networks that it is about meet the criterion."""
        return together(self.of(method) for method in self.comparisons)


@dataclass(frozen=True)
class Claim:
    """A claim, the criteria that decide it, and what explains it without deciding it.

    `tables` has the columns that a reader needs, one sequence for each table; `alpha` is the level
    at which its comparisons were judged.
    """

    name: str
    sentence: str
    criteria: list[Criterion]
    tables: Sequence[Sequence[Column]] = ()
    explanations: Sequence[Criterion] = ()
    notes: list[str] = field(default_factory=list)
    alpha: float = ALPHA

    @property
    def verdict(self) -> Outcome:
        """Whether the claim is shown."""
        return together(criterion.result for criterion in self.criteria)


def own(metric: str, stage: int = LATE, untrained: bool = False) -> Operand:
    """Return a metric of each method, of late maps unless told."""
    return lambda method: Key(method, metric, stage, untrained)


@dataclass(frozen=True)
class Judge:
    """What was measured, what difference matters, and the level at which is judged."""

    values: Values
    methods: Methods
    margins: Mapping[str, Margin]
    alpha: float = ALPHA

    def criterion(
        self, words: str, about: Iterable[str], metric: str, asks: Asks, right: Sequence[Operand],
        general: bool = False, untrained: bool = False, denied: bool = False,
    ) -> Criterion:  # fmt: skip
        """Compare late maps of each method with each of `right`; `general`: about all teachers."""
        margin = margin_of(metric, self.margins).value
        found = {
            method: tuple(
                self.compare(Key(method, metric, LATE, untrained), asks, margin, each, general)
                for each in right
            )
            for method in about
        }
        return Criterion(words, margin, found, denied)

    def compare(
        self, key: Key, asks: Asks, margin: float, right: Operand, general: bool
    ) -> Comparison:
        """Judge one comparison; the first stage and the last aren't compared where they are one."""
        place = right(key.method) if callable(right) else right
        left = self.values.get(key)
        reference = self.values.get(place) if isinstance(place, Key) else place
        if left is None or reference is None or left is reference:
            return Comparison(OPEN)
        shared = isinstance(place, Key) and place.method == TEACHER
        if (mean := difference(left, reference, shared)) is None:
            return Comparison(OPEN)
        estimate = mean.estimate(1 - self.alpha)
        outcome = judge(estimate, margin, asks)
        if general and one_teacher(self.values):
            return Comparison(OPEN, estimate, f"this teacher alone: {outcome}")
        if len(left.seeds) == 1 and key.method != TEACHER:
            return Comparison(OPEN, estimate, f"this network alone: {outcome}")
        return Comparison(outcome, estimate)

    def stages(self, metric: str) -> list[Column]:
        """Return columns of a metric in each stage that some method has."""
        return [(metric, stage) for stage in every_stage(self.methods)]


def one_teacher(values: Values) -> bool:
    """Return whether there is one teacher, which can't tell how others would be."""
    return all(len(each.seeds) == 1 for key, each in values.items() if key.method == TEACHER)


def last_stage(*metrics: str) -> list[Column]:
    """Return columns of metrics in the last stage."""
    return [(metric, LATE) for metric in metrics]


# fmt: off
def judge_collapse(case: Judge) -> Claim:
    """Judge whether a teacher's last map is a point, and the students' are not."""
    area, pooled = "effective_area", "effective_area_pooled"
    earlier = [Key(TEACHER, pooled, each) for each in range(1, case.methods[TEACHER].stages)]
    teacher = partial(case.criterion, about=[TEACHER], asks="below", general=True)
    return Claim(
        "concentration",
        "The teacher's last map has collapsed to a point, while the students' are still looking.",
        [
            teacher("The teacher's effective area in the last stage is below that of all its "
                    "earlier stages, all maps pooled to one size.", metric=pooled, right=earlier),
            teacher("It is below that of the last stage of the untrained control.",
                    metric=area, right=[own(area, LATE, True)]),
            teacher(f"It is that of a point: below {POINT}, half of the map's width by half of its "
                    "height.", metric=area, right=[POINT]),
            case.criterion("The student's effective area in the last stage is above the teacher's.",
                           students_of(case.methods), area, "above", [Key(TEACHER, area)], True),
        ],
        (case.stages(area), last_stage("entropy", "gini", "peak_over_mean")),
    )


def judge_border(case: Judge) -> Claim:
    """Judge whether late maps fall on the border, and whether that is the padding's doing."""
    above = partial(case.criterion, about=case.methods, asks="above", right=[EVEN])
    return Claim(
        "border",
        "Late maps: attention falls on borders.",
        [above("The border ratio in the last stage is above 1, that of an even map.",
               metric="border")],
        ([*case.stages("border"), *last_stage("border_constant", "border_noise")],
         last_stage(*(f"border_{side}" for side in ("top", "bottom", "left", "right")))),
        [
            above("It is the padding's doing: the ratio is above 1 on an input that is constant, "
                  "where there is nothing to look at. Known mechanism: zero padding with stride 2 "
                  "(Alsallakh et al., Mind the Pad, ICLR 2021).", metric="border_constant"),
            above("It is above 1 in the untrained control too.", metric="border", untrained=True),
        ],
    )


def judge_object(case: Judge) -> Claim:
    """Judge whether late maps miss the object.

    A map that falls on objects has more in them than chance, than a fixed prior at the centre, and
    than in the masks of other images; the claim denies that.
    """
    energy = "object_energy"
    words = {energy: "the object's energy ratio is", "pointing_game": "hits of the object are",
             "object_iou": "overlaps with the object are"}
    controls = {
        metric: [f"{metric}_{each}" for each in ("chance", "centre", "other")] for metric in words
    }
    return Claim(
        "object",
        "Late maps: attention does not fall on objects.",
        [
            case.criterion(
                f"In the last stage, {text} not above all of: chance, a fixed prior at the centre, "
                "the masks of other images.", case.methods, metric, "above",
                [EVEN if metric == energy else own(controls[metric][0]),
                 *map(own, controls[metric][1:])], denied=True)
            for metric, text in words.items()
        ],
        ([*case.stages(energy), *last_stage(*controls[energy][1:])],
         *(last_stage(each, *controls[each]) for each in ("pointing_game", "object_iou"))),
        [case.criterion("Training put attention there: the object's energy ratio in the last stage "
                        "is above that of the untrained control.",
                        case.methods, energy, "above", [own(energy, LATE, True)])],
    )


def judge_abstraction(case: Judge) -> Claim:
    """Judge whether late maps depend on the image, its edges and what the network uses less.

    Whether a network without training shows the same fall is told, but doesn't decide: the claim
    is about what late maps are, not about what made them so.
    """
    dependence, sobel, gap = "image_dependence", "sobel_spearman", "deletion_minus_random"
    seen = [each.images for key, each in case.values.items() if key.metric == gap]

    def falls(words: str, metric: str, untrained: bool = False) -> Criterion:
        return case.criterion(words, case.methods, metric, "below",
                              [own(metric, EARLY, untrained)], untrained=untrained)

    return Claim(
        "abstraction",
        "Late maps are too abstract to be read as attention.",
        [
            falls("Maps depend less on the image: image-dependence in the last stage is below the "
                  "first stage, both maps pooled to one size.", f"{dependence}_pooled"),
            falls("Maps follow the image's edges less: the correlation with the Sobel magnitude in "
                  "the last stage is below the first stage, both maps pooled to one size.",
                  f"{sobel}_pooled"),
            case.criterion(
                "To remove what the map of the last stage marks harms the prediction no more than "
                "to remove cells at random: its deletion minus that of a random order, image by "
                "image, is not below 0.", case.methods, gap, "not below", [0.0]),
        ],
        ([(metric, stage) for metric in (dependence, sobel) for stage in (EARLY, LATE)],
         last_stage(gap, "insertion_minus_random"),
         last_stage(*orders("deletion")), last_stage(*orders("insertion"))),
        [falls("It is so without training: image-dependence falls in the untrained control too.",
               f"{dependence}_pooled", untrained=True)],
        [f"Deletion and insertion are of {each:,} images, each with one random order of its cells."
         for each in seen[:1]],
    )


def orders(metric: str) -> tuple[str, ...]:
    """Return deletion or insertion with its controls: the orders in which cells are taken."""
    return (metric, *(f"{metric}_{name}" for name in ("random", "centre", "sobel", "grad_cam")))


def judge_transfer(case: Judge, attentive: Sequence[str]) -> Claim:
    """Judge whether students that learn attention have the teacher's.

    By ranks: the cosine is what attention transfer trains. The methods in `attentive` decide; other
    students, the baseline too, are told beside them.
    """
    ranks, shuffled = "teacher_spearman", "teacher_spearman_shuffled"
    above = partial(case.criterion, metric=ranks, asks="above")

    def criteria(about: Iterable[str]) -> list[Criterion]:
        return [
            above("The student's rank correlation with the teacher in the last stage is above that "
                  "of the baseline.", [each for each in about if each != BASELINE],
                  right=[Key(BASELINE, ranks)]),
            above("It is above its own rank correlation with the teacher's maps of other images.",
                  about, right=[own(shuffled)]),
        ]

    others = [method for method in students_of(case.methods) if method not in attentive]
    return Claim(
        "transfer",
        "The student that learns attention has the teacher's attention.",
        criteria(attentive),
        (case.stages(ranks), case.stages(shuffled),
         last_stage("teacher_cosine", "teacher_cosine_shuffled")),
        criteria(others) if others else [],
        [] if attentive else ["No student of this experiment learns attention."],
    )
# fmt: on


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
    check_column(path, table["verdict"], table["verdict"].isin(list(PAIRS)), ", ".join(PAIRS))
    known = {(row[0], row[1]): row[2:] for row in table[list(PAIR)].itertuples(index=False)}
    missing = ("open", "", math.nan)
    claims = []
    for pair in claimed:
        method, reference = check_students("--claimed-below", pair, methods)
        verdict, sentence, margin, *numbers = known.get((method, reference), missing)
        found = Comparison(PAIRS[verdict], Estimate(*numbers) if numbers else None)
        words = "The difference, over seeds and images, is below minus what is of interest, as "
        words += "comparison.csv judges it."
        names = [methods[each].label for each in pair]
        claim = f"The {names[0]} student comes out below the {names[1]} student."
        note = f"> {sentence}" if numbers else "This pair wasn't compared."
        criteria = [Criterion(words, margin, {method: (found,)})]
        claims.append(Claim("pair", claim, criteria, notes=[note]))
    return claims


def judge_claims(
    values: Values, methods: Methods, attentive: Sequence[str], margins: Mapping[str, Margin]
) -> list[Claim]:
    """Judge the claims about attention maps, in order, with Holm's correction for their number.

    Of P claims those that are decided at ALPHA / P stay so; the others are judged at ALPHA by the
    number of those left, until none is decided.
    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    about_all = (judge_collapse, judge_border, judge_object, judge_abstraction)
    decided: dict[str, Claim] = {}
    while True:
        alpha = ALPHA / max(len(about_all) + 1 - len(decided), 1)
        case = Judge(values, methods, margins, alpha)
        found = [each(case) for each in about_all] + [judge_transfer(case, attentive)]
        claims = [decided.get(claim.name, replace(claim, alpha=alpha)) for claim in found]
        new = {claim.name: claim for claim in claims if claim.verdict != OPEN}
        if len(new) == len(decided):
            return claims
        decided = new
