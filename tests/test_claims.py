"""Claims about attention: each verdict follows from the numbers that decide it, from no other."""

import io
from collections.abc import Callable

import pandas as pd
import pytest

from distillation.claims import (
    Claim,
    Relation,
    Verdict,
    combined,
    judge,
    judge_pair,
    relation,
)
from distillation.measurements import BEFORE, Interval, Key, check_one_experiment, envelopes
from measured import HALF, STEP, STUDENT_SEEDS, STUDENTS, Changes, comparison, networks

METHODS = ("teacher", *STUDENTS)
NAMES = ("concentration", "border", "object", "abstraction", "transfer")
HOLDS, PART, NOT, OPEN = "holds", "holds in part", "does not hold", "can't be said"
# How far a seed's interval reaches beyond the value of the first seed.
REACH = HALF + STEP * max(STUDENT_SEEDS)


def judged(changes: Changes | None = None, students: tuple[str, ...] = STUDENTS) -> list[Claim]:
    """Return the claims about an experiment in which all hold but for the changes."""
    table = pd.concat(networks(changes, students=students), ignore_index=True)
    values = envelopes(table, BEFORE, "mean_square")
    attentive = [method for method in students if method != "baseline"]
    return judge(values, ("teacher", *students), attentive)


def everywhere(metric: str, value: float | None, group: int = 3) -> dict[Key, float | None]:
    """Return the change of a value of every network."""
    return {Key(method, metric, group): value for method in METHODS}


def results(claim: Claim) -> list[Verdict]:
    """Return the result of each criterion."""
    return [criterion.result for criterion in claim.criteria]


def test_all_hold() -> None:
    """Numbers that were built so that every claim holds make every claim hold."""
    claims = judged()
    assert [claim.name for claim in claims] == list(NAMES)
    assert [claim.verdict for claim in claims] == [HOLDS] * 5
    assert all(each.result == HOLDS for claim in claims for each in claim.explanations)


# Of each criterion: claim, criterion, and changes by which it just holds, just doesn't, and can't
# be judged. The values that it is compared with are those of measured.py.
EDGE = HALF + REACH
CROSSINGS: dict[str, tuple[str, int, Callable[[float | None], Changes], float, float]] = {
    # The teacher has one seed: its intervals reach HALF to both sides.
    "teacher's area, group 1": (
        "concentration", 0, lambda x: {Key("teacher", "effective_area", 1): x},
        0.1 + 2 * HALF + 0.001, 0.1 + 2 * HALF - 0.001,
    ),
    "teacher's area, group 2": (
        "concentration", 0, lambda x: {Key("teacher", "effective_area", 2): x},
        0.1 + 2 * HALF + 0.001, 0.1 + 2 * HALF - 0.001,
    ),
    "untrained teacher's area": (
        "concentration", 0, lambda x: {Key("teacher", "effective_area", 3, untrained=True): x},
        0.1 + 2 * HALF + 0.001, 0.1 + 2 * HALF - 0.001,
    ),
    # 0.25 is half of a map's width by half of its height.
    "teacher's area, a point": (
        "concentration", 1, lambda x: {Key("teacher", "effective_area", 3): x},
        0.25 - HALF - 0.001, 0.25 - HALF + 0.001,
    ),
    "students' area": (
        "concentration", 2,
        lambda x: {Key(m, "effective_area", 3): x for m in STUDENTS},
        0.1 + 2 * HALF + 0.001, 0.1 + 2 * HALF - 0.001,
    ),
    "border": (
        "border", 0, lambda x: everywhere("border", x), 1 + HALF + 0.001, 1 + HALF - 0.001,
    ),
    "object's energy": (
        "object", 0, lambda x: everywhere("object_energy", x),
        1 - REACH - 0.001, 1 + HALF + 0.001,
    ),
    "pointing game": (
        "object", 1, lambda x: everywhere("pointing_game", x),
        0.3 - EDGE - 0.001, 0.3 + EDGE + 0.001,
    ),
    "overlap with the object": (
        "object", 2, lambda x: everywhere("object_iou", x),
        0.2 - EDGE - 0.001, 0.2 + EDGE + 0.001,
    ),
    "image-dependence": (
        "abstraction", 0, lambda x: everywhere("image_dependence", x),
        0.6 - EDGE - 0.001, 0.6 - 2 * HALF + 0.001,
    ),
    "Sobel correlation": (
        "abstraction", 1, lambda x: everywhere("sobel_spearman", x),
        0.5 - EDGE - 0.001, 0.5 - 2 * HALF + 0.001,
    ),
    "deletion": (
        "abstraction", 2, lambda x: everywhere("deletion_minus_random", x),
        HALF + 0.001, -REACH - 0.001,
    ),
    "cosine against the baseline": (
        "transfer", 0, lambda x: {Key(m, "teacher_cosine", 3): x for m in STUDENTS[1:]},
        0.6 + EDGE + 0.001, 0.6 + EDGE - 0.001,
    ),
    "cosine against other images": (
        "transfer", 1,
        lambda x: {Key(m, "teacher_cosine_shuffled", 3): x for m in STUDENTS[1:]},
        0.9 - EDGE - 0.001, 0.9 - 2 * HALF + 0.001,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CROSSINGS)
def test_verdict_flips(name: str) -> None:
    """A criterion flips when its decisive number crosses, and no other criterion does."""
    claim, position, change, within, beyond = CROSSINGS[name]

    def of(changes: Changes) -> tuple[list[Verdict], Verdict]:
        found = judged(changes)[NAMES.index(claim)]
        return results(found), found.verdict

    others = len(judged()[NAMES.index(claim)].criteria) - 1
    assert of(change(within)) == ([HOLDS] * (others + 1), HOLDS)
    flipped = [HOLDS] * (others + 1)
    flipped[position] = NOT
    assert of(change(beyond)) == (flipped, PART if others else NOT)


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("object's energy", 1 - HALF + 0.001, 1 + HALF - 0.001),
        ("pointing game", 0.3 - 2 * HALF + 0.001, 0.3 + 2 * HALF - 0.001),
        ("overlap with the object", 0.2 - 2 * HALF + 0.001, 0.2 + 2 * HALF - 0.001),
        ("deletion", -HALF + 0.001, HALF - 2 * STEP - 0.001),
    ],
)
def test_overlap_proves_no_denial(name: str, least: float, most: float) -> None:
    """That there is no difference isn't shown by intervals that overlap: it can't be said."""
    claim, position, change, _, _ = CROSSINGS[name]
    for value in (least, most):
        found = judged(change(value))[NAMES.index(claim)]
        assert results(found)[position] == OPEN
        assert found.verdict == OPEN


@pytest.mark.parametrize("name", CROSSINGS)
def test_missing_numbers(name: str) -> None:
    """A criterion whose numbers are missing can't be said, nor can its claim."""
    claim, position, change, _, _ = CROSSINGS[name]
    found = judged(change(None))[NAMES.index(claim)]
    assert results(found)[position] == OPEN
    assert found.verdict == OPEN


@pytest.mark.parametrize("name", CROSSINGS)
def test_missing_in_one_seed(name: str) -> None:
    """A value that one seed of a method lacks isn't made up from the other seeds."""
    claim, position, change, _, _ = CROSSINGS[name]
    gone = {(*key[:3], key.untrained) for key in change(None)}
    tables = networks()
    last = {str(table["method"].iloc[0]): place for place, table in enumerate(tables)}
    for method, metric, group, untrained in gone:
        table = tables[last[method]]
        here = (table["metric"] == metric) & (table["group"] == group)
        table.loc[here, "untrained" if untrained else "value"] = float("nan")
    values = envelopes(pd.concat(tables), BEFORE, "mean_square")
    found = judge(values, METHODS, STUDENTS[1:])[NAMES.index(claim)]
    assert results(found)[position] == OPEN


def test_some_students() -> None:
    """A criterion that some methods meet and others don't holds in part."""
    claim = judged({Key("kd", "effective_area", 3): 0.1})[0]
    assert [claim.criteria[2].of(method) for method in STUDENTS] == [HOLDS, NOT, HOLDS, HOLDS]
    assert results(claim) == [HOLDS, HOLDS, PART]
    assert claim.verdict == PART


@pytest.mark.parametrize(
    ("metric", "untrained", "claim"),
    [
        ("border_constant", False, "border"),
        ("border", True, "border"),
        ("image_dependence", True, "abstraction"),
    ],
)
def test_explanations_dont_decide(metric: str, untrained: bool, claim: str) -> None:
    """What is told beside a claim follows from its numbers and leaves the verdict as it is."""
    for value, expected in ((0.9, NOT), (None, OPEN)):
        changes: Changes = {Key(method, metric, 3, untrained): value for method in METHODS}
        # Without a trained value there is no row, so only the trained one can be taken away.
        if value is None and untrained:
            continue
        found = judged(changes)[NAMES.index(claim)]
        assert [each.result for each in found.explanations] == [expected]
        assert found.verdict == HOLDS


def test_methods_that_dont_learn_attention() -> None:
    """KD is told beside the methods that learn attention and doesn't decide."""
    table = pd.concat(networks({Key("kd", "teacher_cosine", 3): 0.1}))
    claim = judge(envelopes(table, BEFORE, "mean_square"), METHODS, ["at", "at_kd"])[4]
    assert claim.verdict == HOLDS
    assert [each.relations for each in claim.explanations] == [
        {"kd": ("below",)}, {"kd": ("below",)},
    ]  # fmt: skip


def test_no_method_learns_attention() -> None:
    """Where no student learns attention, it can't be said whether one has the teacher's."""
    values = envelopes(pd.concat(networks()), BEFORE, "mean_square")
    claim = judge(values, METHODS, [])[4]
    assert claim.verdict == OPEN
    assert claim.notes == ["No student of this experiment learns attention."]


def test_one_student_and_no_baseline() -> None:
    """With AT alone, only what needs the baseline can't be said."""
    claims = judged(students=("at",))
    assert [claim.verdict for claim in claims] == [*[HOLDS] * 4, OPEN]
    assert results(claims[4]) == [OPEN, HOLDS]


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [("below", HOLDS), ("above", NOT), ("not_distinguishable", OPEN), ("one_seed", OPEN)],
)
def test_pair(verdict: str, expected: Verdict) -> None:
    """Whether AT+KD is below the baseline follows from the row of this pair, with its sentence."""
    pairs = pd.read_csv(io.StringIO(comparison(verdict, "So it is.")))
    claim = judge_pair(pairs, "at_kd", "baseline")
    assert claim.verdict == expected
    assert claim.notes == ["> So it is."]


def test_pair_that_was_not_compared() -> None:
    """Of a pair without a row, nothing can be said."""
    pairs = pd.read_csv(io.StringIO(comparison())).iloc[:0]
    claim = judge_pair(pairs, "at_kd", "baseline")
    assert claim.verdict == OPEN
    assert claim.notes == ["This pair wasn't compared."]


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        (Interval(3, 2, 4), Interval(1, 0, 1.9), "above"),
        (Interval(3, 2, 4), Interval(1, 0, 2), "overlap"),
        (Interval(1, 0, 2), Interval(3, 2, 4), "overlap"),
        (Interval(1, 0, 1.9), Interval(3, 2, 4), "below"),
        (Interval(1, 0, 9), Interval(3, 2, 4), "overlap"),
        (None, Interval(3, 2, 4), "no numbers"),
        (Interval(3, 2, 4), None, "no numbers"),
    ],
)
def test_relation(left: Interval | None, right: Interval | None, expected: Relation) -> None:
    """A value is above another only where the intervals don't even touch."""
    assert relation(left, right) == expected


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([HOLDS, HOLDS], HOLDS),
        ([NOT, NOT], NOT),
        ([HOLDS, NOT], PART),
        ([PART, HOLDS], PART),
        ([PART, OPEN], PART),
        ([HOLDS, NOT, OPEN], PART),
        ([HOLDS, OPEN], OPEN),
        ([NOT, OPEN], OPEN),
        ([OPEN], OPEN),
        ([], OPEN),
    ],
)
def test_combined(found: list[Verdict], expected: Verdict) -> None:
    """Verdicts add up as `combined` says, in any order."""
    assert combined(found) == expected
    assert combined(reversed(found)) == expected


def test_envelope() -> None:
    """A method's value is the mean of its seeds; its interval holds theirs, and no more."""
    values = envelopes(pd.concat(networks()), BEFORE, "mean_square")
    found = values[Key("at", "teacher_cosine", 1)]
    assert found.value == pytest.approx(0.95 + STEP)
    assert (found.low, found.high) == pytest.approx((0.95 - HALF, 0.95 + REACH))
    found = values[Key("at", "teacher_cosine", 1, untrained=True)]
    assert found.value == pytest.approx(0.6 + STEP)
    assert (found.low, found.high) == pytest.approx((0.6 - HALF, 0.6 + REACH))


def test_value_without_interval() -> None:
    """A value of one image is exact: over seeds it reaches from the smallest to the largest."""
    table = pd.concat(networks(), ignore_index=True)
    constant = table["metric"] == "border_constant"
    table.loc[constant, ["low", "high", "untrained_low", "untrained_high"]] = float("nan")
    values = envelopes(table, BEFORE, "mean_square")
    assert values[Key("teacher", "border_constant")] == Interval(1.4, 1.4, 1.4)
    found = values[Key("at", "border_constant", untrained=True)]
    assert (found.low, found.value, found.high) == pytest.approx((1.4, 1.4 + STEP, 1.4 + 2 * STEP))


def test_deletion_belongs_to_both_points() -> None:
    """After the norm, deletion and its controls are those that were measured, before it."""
    table = pd.concat(networks({Key("at", "deletion", 3): 0.123}))
    for collapse in ("mean_square", "sum_absolute"):
        for point in ("before_norm", "after_norm"):
            values = envelopes(table, point, collapse)
            assert values[Key("at", "deletion")].value == pytest.approx(0.123 + STEP)
            assert values[Key("at", "deletion_random")].value == pytest.approx(0.45 + STEP)


def test_one_experiment() -> None:
    """Teacher first and students of one architecture are taken, anything else is refused."""
    tables = networks()
    check_one_experiment(tables)
    with pytest.raises(ValueError, match="expected: of a teacher"):
        check_one_experiment(tables[1:])
    with pytest.raises(ValueError, match="at_kd, seed 2, is given twice"):
        check_one_experiment([*tables, tables[-1]])
    for column, found in (("model", "WRN-40-2"), ("point", "before_norm"), ("collapse", "sum")):
        others = [*tables[:-1], tables[-1].assign(**{column: found})]
        with pytest.raises(ValueError, match=f"{column} of at_kd, seed 1, .* {found}"):
            check_one_experiment(others)
