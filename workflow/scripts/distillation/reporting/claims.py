"""Claims about attention maps, judged from measured values; no verdict is written by hand.

A comparison is a difference with an interval, judged against the smallest difference of interest by
`judgement.judge`; a criterion needs all its comparisons, a claim all its criteria and methods.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from distillation.reporting.attention_words import margin_of, name_of
from distillation.reporting.judgement import Asks, Estimate, Outcome, judge, together
from distillation.reporting.measurements import (
    ALPHA,
    EARLY,
    LATE,
    Key,
    Methods,
    Values,
    check_column,
    difference,
    students_of,
)
from distillation.reporting.results import BASELINE, TEACHER
from distillation.reporting.trained import check_has, read_table
from distillation.settings.reports import SmallestDifferences

OPEN: Outcome = "can't be said"
OPPOSITE: dict[Outcome, Outcome] = {"shown": "refuted", "refuted": "shown", OPEN: OPEN}
# What the verdict of compare_methods.py on a pair says of "the first is below the second".
PAIRS: dict[str, Outcome] = {
    "below": "shown", "above": "refuted", "equivalent": "refuted", "open": OPEN, "one_seed": OPEN,
}  # fmt: skip
TURNED = {name: name for name in PAIRS} | {"below": "above", "above": "below"}
# What is read of its comparison.csv.
PAIR = ("method", "reference", "verdict", "sentence", "smallest_difference", "difference", "low",
        "high", "low_90", "high_90")  # fmt: skip
# The value of an even map, and of a map that looks at an object no more than chance would.
EVEN = 1.0
# The effective area under which a map is called a point: half of the map's width by half of its
# height. The notes give no bound; this one is ours and generous, a single cell of 8 x 8 has 1 / 64.
POINT = 0.25
# In place of a stage: every one, or in a comparison all before the last.
EACH = 0

# A metric and a stage: a column of a table.
Column = tuple[str, int]


class Question(NamedTuple):
    """What is asked of late maps, in words and as comparisons with `right`, all necessary.

    A key without a method means the network's own value. `untrained`: asked of the controls;
    `general`: about all teachers; `denied`: it is so where not all of the comparisons are.
    """

    words: str
    metric: str
    asks: Asks
    right: Sequence[Key | float]
    about: Literal["all", "teacher", "students", "attentive", "others"] = "all"
    untrained: bool = False
    general: bool = False
    denied: bool = False


class Claimed(NamedTuple):
    """A claim, what decides it, the columns a reader needs, by table, and what explains it."""

    sentence: str
    questions: Sequence[Question]
    tables: Sequence[Sequence[Column]]
    explanations: Sequence[Question] = ()


def own(metric: str, stage: int = LATE, untrained: bool = False) -> Key:
    """Return the key of each network's own value, of late maps unless told."""
    return Key("", metric, stage, untrained)


def late(*metrics: str) -> list[Column]:
    """Return columns of metrics in the last stage."""
    return [(metric, LATE) for metric in metrics]


def orders(metric: str) -> tuple[str, ...]:
    """Return deletion or insertion with its controls: the orders in which cells are taken."""
    return (metric, *(f"{metric}_{name}" for name in ("random", "centre", "sobel", "grad_cam")))


# fmt: off
AREA, OBJECT, RANKS = "effective_area", "object_energy", "teacher_spearman"
DEPENDENCE, SOBEL, GAP = "image_dependence", "sobel_spearman", "deletion_minus_random"
CELLS = "cells"
# By ranks: the cosine is what attention transfer trains.
TRANSFER = (
    Question("The student's rank correlation with the teacher in the last stage is above that of "
             "the baseline.", RANKS, "above", [Key(BASELINE, RANKS)], "attentive"),
    Question("It is above its own rank correlation with the teacher's maps of other images.",
             RANKS, "above", [own(f"{RANKS}_shuffled")], "attentive"),
)
CLAIMS = {
    "concentration": Claimed(
        "The teacher's last map has collapsed to a point, while the students' are still looking.",
        [Question("The teacher's effective area in the last stage is below that of all its earlier "
                  "stages, all maps pooled to one size.", f"{AREA}_pooled", "below",
                  [own(f"{AREA}_pooled", EACH)], "teacher", general=True),
         Question("It is below that of the last stage of the untrained control.", AREA, "below",
                  [own(AREA, untrained=True)], "teacher", general=True),
         Question(f"It is that of a point: below {POINT}, half of the map's width by half of its "
                  "height.", AREA, "below", [POINT], "teacher", general=True),
         Question("The student's effective area in the last stage is above the teacher's.", AREA,
                  "above", [Key(TEACHER, AREA)], "students", general=True)],
        [[(AREA, EACH)], late("entropy", "gini", "peak_over_mean")],
    ),
    "border": Claimed(
        "Late maps: attention falls on borders.",
        [Question("The border ratio in the last stage is above 1, that of an even map.", "border",
                  "above", [EVEN])],
        [[("border", EACH), *late("border_constant", "border_noise")],
         late("border_top", "border_bottom", "border_left", "border_right")],
        [Question("It is the padding's doing: the ratio is above 1 on an input that is constant, "
                  "where there is nothing to look at. Known mechanism: zero padding with stride 2 "
                  "(Alsallakh et al., Mind the Pad, ICLR 2021).", "border_constant", "above",
                  [EVEN]),
         Question("It is above 1 in the untrained control too.", "border", "above", [EVEN],
                  untrained=True)],
    ),
    # A map that falls on objects has more in them than every control; the claim denies that.
    "object": Claimed(
        "Late maps: attention does not fall on objects.",
        [Question(f"In the last stage, {words} not above all of: chance, a fixed prior at the "
                  "centre, the masks of other images.", metric, "above",
                  [chance, own(f"{metric}_centre"), own(f"{metric}_other")], denied=True)
         for metric, words, chance in (
             (OBJECT, "the object's energy ratio is", EVEN),
             ("pointing_game", "hits of the object are", own("pointing_game_chance")),
             ("object_iou", "overlaps with the object are", own("object_iou_chance")))],
        [[(OBJECT, EACH), *late(f"{OBJECT}_centre", f"{OBJECT}_other")],
         *(late(metric, *(f"{metric}_{control}" for control in ("chance", "centre", "other")))
           for metric in ("pointing_game", "object_iou"))],
        [Question("Training put attention there: the object's energy ratio in the last stage is "
                  "above that of the untrained control.", OBJECT, "above",
                  [own(OBJECT, untrained=True)])],
    ),
    # Whether a network without training shows the same fall doesn't decide: the claim is about what
    # late maps are, not about what made them so.
    "abstraction": Claimed(
        "Late maps are too abstract to be read as attention.",
        [Question("Maps depend less on the image: image-dependence in the last stage is below the "
                  "first stage, both maps pooled to one size.", f"{DEPENDENCE}_pooled", "below",
                  [own(f"{DEPENDENCE}_pooled", EARLY)]),
         Question("Maps follow the image's edges less: the correlation with the Sobel magnitude in "
                  "the last stage is below the first stage, both maps pooled to one size.",
                  f"{SOBEL}_pooled", "below", [own(f"{SOBEL}_pooled", EARLY)]),
         # One for each fill.
         Question("To remove what the map of the last stage marks harms the prediction no more "
                  f"than to remove cells at random: {name_of(GAP)}, image by image, is not below "
                  "0.", GAP, "not below", [0.0])],
        [[(metric, stage) for metric in (DEPENDENCE, SOBEL) for stage in (EARLY, LATE)],
         late(GAP, "insertion_minus_random"), late(*orders("deletion")),
         late(*orders("insertion"))],
        [Question("It is so without training: image-dependence falls in the untrained control too.",
                  f"{DEPENDENCE}_pooled", "below", [own(f"{DEPENDENCE}_pooled", EARLY, True)],
                  untrained=True)],
    ),
    "transfer": Claimed(
        "The student that learns attention has the teacher's attention.",
        TRANSFER,
        [[(RANKS, EACH)], [(f"{RANKS}_shuffled", EACH)],
         late("teacher_cosine", "teacher_cosine_shuffled")],
        [each._replace(about="others") for each in TRANSFER],
    ),
}
# fmt: on


class Comparison(NamedTuple):
    """What a difference shows; where it is of one network, which can't tell, what of that alone.

    Without an estimate, a value wasn't measured, or can't be compared, and `alone` says why.
    """

    outcome: Outcome
    estimate: Estimate | None = None
    alone: str = ""


class Criterion(NamedTuple):
    """What must be so for a claim to be shown, and what was found for each network."""

    words: str
    margin: float
    comparisons: dict[str, list[Comparison]]
    denied: bool = False

    def of(self, method: str) -> Outcome:
        """Return whether a network meets the criterion."""
        found = together(each.outcome for each in self.comparisons[method])
        return OPPOSITE[found] if self.denied else found

    @property
    def result(self) -> Outcome:
        """Whether all networks that it is about meet the criterion."""
        return together(map(self.of, self.comparisons))


@dataclass(frozen=True)
class Claim:
    """A claim, judged at a level; `tables` and `explanations` are as in `Claimed`."""

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


class Judge(NamedTuple):
    """What was measured, who learns attention, what difference matters, and the level."""

    values: Values
    methods: Methods
    attentive: Sequence[str]
    least: SmallestDifferences
    alpha: float = ALPHA

    def criterion(self, asked: Question) -> Criterion:
        """Compare the maps of each method that a question is about, but for those named in it."""
        students = students_of(self.methods)
        about = {
            "all": self.methods, "students": students,
            "teacher": [each for each in self.methods if each == TEACHER],
            "attentive": self.attentive,
            "others": [each for each in students if each not in self.attentive],
        }[asked.about]  # fmt: skip
        margin, found = margin_of(asked.metric, self.least), {}
        for method in about:
            stages = range(1, self.methods[method].stages)
            right: list[Key | float] = []
            for each in asked.right:
                if isinstance(each, Key) and each.stage == EACH:
                    right += [each._replace(stage=stage) for stage in stages]
                else:
                    right.append(each)
            if method not in [each.method for each in right if isinstance(each, Key)]:
                found[method] = [self.compare(method, asked, margin, each) for each in right]
        return Criterion(asked.words, margin, found, asked.denied)

    def compare(
        self, method: str, asked: Question, margin: float, right: Key | float
    ) -> Comparison:
        """Judge one comparison; the first stage and the last aren't compared where they are one."""
        left = self.values.get(Key(method, asked.metric, LATE, asked.untrained))
        shared, reference = False, None
        if isinstance(right, Key):
            right = right._replace(method=right.method or method)
            shared, reference = right.method == TEACHER, self.values.get(right)
        else:
            reference = right
        if left is None or reference is None or left is reference:
            return Comparison(OPEN)
        if asked.metric == AREA and (why := self.unlike(method, right)):
            return Comparison(OPEN, alone=why)
        if (mean := difference(left, reference, shared)) is None:
            return Comparison(OPEN)
        estimate = mean.estimate(1 - self.alpha)
        outcome = judge(estimate, margin, asked.asks)
        if asked.general and one_teacher(self.values):
            return Comparison(OPEN, estimate, f"this teacher alone: {outcome}")
        if len(left.seeds) == 1 and method != TEACHER:
            return Comparison(OPEN, estimate, f"this network alone: {outcome}")
        return Comparison(outcome, estimate)

    def unlike(self, method: str, right: Key | float) -> str:
        """Say why the effective area of a method's last maps can't be compared; "" if it can.

        It depends on the number of cells, so that maps of several sizes differ anyway, and maps of
        few cells are never a point. Where the cells weren't measured, nothing is said.
        """
        key = right if isinstance(right, Key) else Key(method, AREA)
        found = [self.values.get(Key(each, CELLS)) for each in (method, key.method)]
        counts = [value for each in found if each for value, _ in each.seeds.values()]
        least = 0.0 if isinstance(right, Key) else right
        if len({*counts}) > 1 or (counts and least and 1 / counts[0] >= least):
            return f"maps of {' and '.join(f'{each:g}' for each in sorted({*counts}))} cells"
        return ""

    def claim(self, name: str) -> Claim:
        """Judge a claim by its name; what explains it is left out where it is about nobody."""
        sentence, questions, tables, explanations = CLAIMS[name]
        beside, notes = [*map(self.criterion, explanations)], []
        if name == "abstraction":
            metrics = sorted({key.metric for key in self.values} - {GAP})
            gaps = [GAP, *filter(re.compile("deletion_.+_minus_random").fullmatch, metrics)]
            *others, last = questions
            questions = [*others, *(of_gap(last, each) for each in gaps)]
            insertions = [each.replace("deletion", "insertion") for each in gaps]
            tables = [tables[0], late(*gaps, *insertions), *tables[2:]]
            seen = [each.images for key, each in self.values.items() if key.metric == GAP]
            notes = [f"Deletion and insertion are of {each:,} images, each with random orders of "
                     "its own." for each in seen[:1]]  # fmt: skip
        if name == "transfer" and not self.attentive:
            notes = ["No student of this experiment learns attention."]
        told = beside if any(each.comparisons for each in beside) else []
        criteria = [*map(self.criterion, questions)]
        return Claim(name, sentence, criteria, tables, told, notes, self.alpha)


def of_gap(asked: Question, metric: str) -> Question:
    """Return the question on deletion with the fill of a metric."""
    return asked._replace(words=asked.words.replace(name_of(GAP), name_of(metric)), metric=metric)


def one_teacher(values: Values) -> bool:
    """Return whether there is one teacher, which can't tell how others would be."""
    seeds = {len(each.seeds) for key, each in values.items() if key.method == TEACHER}
    return seeds == {1}


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
    known: dict[tuple[str, ...], tuple[Outcome, str, float, Estimate | None]] = {}
    rows: list[Any] = table[list(PAIR)].to_numpy().tolist()
    for row in rows:
        method, reference, verdict, sentence, margin, value, low, high, low_90, high_90 = row
        estimate = Estimate(value, low, high, low_90, high_90)
        known[method, reference] = PAIRS[verdict], sentence, margin, estimate
        # What is said of the second beside the first.
        estimate = Estimate(-value, -high, -low, -high_90, -low_90)
        turned = PAIRS[TURNED[verdict]], sentence, margin, estimate
        known.setdefault((reference, method), turned)
    words = "The difference, over seeds and images, is below minus what is of interest, as "
    words += "comparison.csv judges it."
    claims = []
    for pair in claimed:
        asked = (*check_students("--claimed-below", pair, methods),)
        outcome, sentence, margin, estimate = known.get(asked, (OPEN, "", math.nan, None))
        found = Comparison(outcome, estimate)
        first, second = (methods[each].label for each in pair)
        claim = f"The {first} student comes out below the {second} student."
        note = f"> {sentence}" if sentence else "This pair wasn't compared."
        claims.append(Claim("pair", claim, [Criterion(words, margin, {asked[0]: [found]})],
                            notes=[note]))  # fmt: skip
    return claims


def judge_claims(
    values: Values, methods: Methods, attentive: Sequence[str], least: SmallestDifferences
) -> list[Claim]:
    """Judge the claims about attention maps, in order, with Holm's correction for their number.

    Of P claims those that are decided at ALPHA / P stay so; the others are judged at ALPHA by the
    number of those left, until none is decided. The methods in `attentive` learn attention.
    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    decided: dict[str, Claim] = {}
    while True:
        alpha = ALPHA / max(len(CLAIMS) - len(decided), 1)
        judge_one = Judge(values, methods, attentive, least, alpha).claim
        found = {name: decided.get(name) or judge_one(name) for name in CLAIMS}
        new = {name: claim for name, claim in found.items() if claim.verdict != OPEN}
        if len(new) == len(decided):
            return [*found.values()]
        decided = new
