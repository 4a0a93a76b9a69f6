"""Claims about attention: each verdict follows from the numbers that decide it, from no other."""

from collections.abc import Callable, Sequence

import pandas as pd
import pytest

from distillation.reporting.claims import Claim, Relation, Verdict, combined, compare, judge
from distillation.reporting.intervals import Interval
from distillation.reporting.measurements import (
    BEFORE,
    POINTS,
    Key,
    check_measurements,
    envelopes,
    methods_of,
    with_controls,
)
from measured import HALF, STEP, STUDENT_SEEDS, STUDENTS, Changes, controls, networks

METHODS = ("teacher", *STUDENTS)
NAMES = ("concentration", "border", "object", "abstraction", "transfer")
HOLDS, PART, NOT, OPEN = "holds", "holds in part", "does not hold", "can't be said"
# How far a seed's interval reaches beyond the value of the first seed.
REACH = HALF + STEP * max(STUDENT_SEEDS)


def gathered(
    tables: Sequence[pd.DataFrame], students: tuple[str, ...] = STUDENTS
) -> list[pd.DataFrame]:
    """Return tables with the controls given to their methods."""
    return [with_controls(table, controls(students)) for table in tables]


def judge_tables(
    tables: Sequence[pd.DataFrame],
    students: tuple[str, ...] = STUDENTS,
    attentive: Sequence[str] | None = None,
) -> dict[str, Claim]:
    """Return the claims about an experiment by name."""
    table = pd.concat(gathered(tables, students))
    learning = [m for m in students if m != "baseline"] if attentive is None else attentive
    methods = methods_of(table, {}, ["teacher"])
    claims = judge(envelopes(table, BEFORE, "mean_square"), methods, learning)
    return {claim.name: claim for claim in claims}


def judged(changes: Changes | None = None) -> dict[str, Claim]:
    """Return the claims about an experiment in which all hold but for the changes."""
    return judge_tables(networks(changes))


def each(methods: Sequence[str], metric: str) -> Callable[[float | None], Changes]:
    """Return what makes the changes of a value of the last stage of several networks."""
    return lambda value: {Key(method, metric, 3): value for method in methods}


def results(claim: Claim) -> list[Verdict]:
    """Return the result of each criterion."""
    return [criterion.result for criterion in claim.criteria]


def test_all_hold() -> None:
    """Numbers that were built so that every claim holds make every claim hold."""
    claims = judged()
    assert {name: claim.verdict for name, claim in claims.items()} == dict.fromkeys(NAMES, HOLDS)
    assert all(each.result == HOLDS for claim in claims.values() for each in claim.explanations)


# Of each criterion: claim, criterion, and changes by which it just holds and just doesn't. The
# values that it is compared with are those of measured.py.
EDGE = HALF + REACH
CROSSINGS: dict[str, tuple[str, int, Callable[[float | None], Changes], float, float]] = {
    # The teacher has one seed: its intervals reach HALF to both sides.
    **{
        f"teacher's area, {name}": (
            "concentration", 0, lambda x, at=place: {Key("teacher", "effective_area", *at): x},
            0.1 + 2 * HALF + 0.001, 0.1 + 2 * HALF - 0.001,
        )
        for name, place in [
            ("stage 1", (1, False)), ("stage 2", (2, False)), ("untrained", (3, True)),
        ]
    },
    # 0.25 is half of a map's width by half of its height.
    "teacher's area, a point": (
        "concentration", 1, each(["teacher"], "effective_area"),
        0.25 - HALF - 0.001, 0.25 - HALF + 0.001,
    ),
    "students' area": (
        "concentration", 2, each(STUDENTS, "effective_area"),
        0.1 + 2 * HALF + 0.001, 0.1 + 2 * HALF - 0.001,
    ),
    "border": ("border", 0, each(METHODS, "border"), 1 + HALF + 0.001, 1 + HALF - 0.001),
    "object's energy": (
        "object", 0, each(METHODS, "object_energy"), 1 - REACH - 0.001, 1 + HALF + 0.001,
    ),
    "pointing game": (
        "object", 1, each(METHODS, "pointing_game"), 0.3 - EDGE - 0.001, 0.3 + EDGE + 0.001,
    ),
    "overlap with the object": (
        "object", 2, each(METHODS, "object_iou"), 0.2 - EDGE - 0.001, 0.2 + EDGE + 0.001,
    ),
    "image-dependence": (
        "abstraction", 0, each(METHODS, "image_dependence"),
        0.6 - EDGE - 0.001, 0.6 - 2 * HALF + 0.001,
    ),
    "Sobel correlation": (
        "abstraction", 1, each(METHODS, "sobel_spearman"),
        0.5 - EDGE - 0.001, 0.5 - 2 * HALF + 0.001,
    ),
    "deletion": (
        "abstraction", 2, each(METHODS, "deletion_minus_random"), HALF + 0.001, -REACH - 0.001,
    ),
    "cosine against the baseline": (
        "transfer", 0, each(STUDENTS[1:], "teacher_cosine"), 0.6 + EDGE + 0.001, 0.6 + EDGE - 0.001,
    ),
    "cosine against other images": (
        "transfer", 1, each(STUDENTS[1:], "teacher_cosine_shuffled"),
        0.9 - EDGE - 0.001, 0.9 - 2 * HALF + 0.001,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CROSSINGS)
def test_verdict_flips(name: str) -> None:
    """A criterion flips when its decisive number crosses, and no other criterion does."""
    claim, position, change, within, beyond = CROSSINGS[name]
    found = judged(change(within))[claim]
    assert {*results(found), found.verdict} == {HOLDS}
    found = judged(change(beyond))[claim]
    flipped = [HOLDS] * len(found.criteria)
    flipped[position] = NOT
    assert (results(found), found.verdict) == (flipped, PART if len(flipped) > 1 else NOT)


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
        found = judged(change(value))[claim]
        assert (results(found)[position], found.verdict) == (OPEN, OPEN)


@pytest.mark.parametrize("name", CROSSINGS)
def test_missing_in_one_seed(name: str) -> None:
    """A value that a seed of a method lacks isn't made up: its criterion and claim stay open."""
    claim, position, change, _, _ = CROSSINGS[name]
    gone = {
        (f"untrained_{method}" if untrained else method, metric, stage)
        for method, metric, stage, untrained in change(None)
    }
    tables = networks()
    place = 0 if {method for method, *_ in gone} <= {"teacher", "untrained_teacher"} else -1
    rows = tables[place][["method", "metric", "stage"]].itertuples(index=False, name=None)
    tables[place] = tables[place].loc[[row not in gone for row in rows]]
    found = judge_tables(tables)[claim]
    assert (results(found)[position], found.verdict) == (OPEN, OPEN)


def test_some_students() -> None:
    """A criterion that some methods meet and others don't holds in part."""
    claim = judged({Key("kd", "effective_area", 3): 0.1})["concentration"]
    assert [claim.criteria[2].of(method) for method in STUDENTS] == [HOLDS, NOT, HOLDS, HOLDS]
    assert (results(claim), claim.verdict) == ([HOLDS, HOLDS, PART], PART)


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
        found = judged({Key(method, metric, 3, untrained): value for method in METHODS})[claim]
        assert [each.result for each in found.explanations] == [expected]
        assert found.verdict == HOLDS


def test_methods_that_dont_learn_attention() -> None:
    """A method that doesn't learn attention is told beside those that do, and doesn't decide."""
    tables = networks({Key("kd", "teacher_cosine", 3): 0.1})
    claim = judge_tables(tables, attentive=["at", "at_kd"])["transfer"]
    assert claim.verdict == HOLDS
    told = [list(each.comparisons.items()) for each in claim.explanations]
    assert told == [[("kd", (("below", NOT),))]] * 2
    claim = judge_tables(tables, attentive=[])["transfer"]
    assert claim.verdict == OPEN
    assert claim.notes == ["No student of this experiment learns attention."]


def test_one_student_and_no_baseline() -> None:
    """With one student alone, only what needs the baseline can't be said."""
    claims = judge_tables(networks(students=("at",)), ("at",))
    assert [claim.verdict for claim in claims.values()] == [*[HOLDS] * 4, OPEN]
    assert results(claims["transfer"]) == [OPEN, HOLDS]


def with_last_stages(tables: list[pd.DataFrame], student: int) -> list[pd.DataFrame]:
    """Return tables in which the students' networks have only their last stages."""
    changed = []
    for table in tables:
        of_teacher = table["method"].isin(["teacher", "untrained_teacher"])
        left = table[~of_teacher & (table["stage"] > 3 - student)]
        left = left.assign(stage=left["stage"] - (3 - student), stages=student)
        changed.append(pd.concat([table[of_teacher], left]))
    return changed


def test_any_number_of_stages() -> None:
    """Last and first stage are each network's own; one that has a single stage has no early one."""
    two = judge_tables(with_last_stages(networks(), 2))
    assert {claim.verdict for claim in two.values()} == {HOLDS}
    columns = [stage for _, stage in two["concentration"].tables[0]]
    assert columns == [1, 2, 3]
    one = judge_tables(with_last_stages(networks(), 1))
    dependence, sobel, deletion = one["abstraction"].criteria
    assert [dependence.of("at"), sobel.of("at"), deletion.of("at")] == [OPEN, OPEN, HOLDS]
    assert dependence.of("teacher") == HOLDS
    assert one["concentration"].verdict == HOLDS


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
    assert compare(left, right, "above").relation == expected


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
    values = envelopes(pd.concat(gathered(networks())), BEFORE, "mean_square")
    for untrained, first in ((False, 0.95), (True, 0.6)):
        found = values[Key("at", "teacher_cosine", 1, untrained)]
        assert found == pytest.approx((first + STEP, first - HALF, first + REACH))
    assert values[Key("at", "teacher_cosine")] == values[Key("at", "teacher_cosine", 3)]


def test_value_without_interval() -> None:
    """A value of one image is exact: over seeds it reaches from the smallest to the largest."""
    table = pd.concat(gathered(networks()), ignore_index=True)
    table.loc[table["metric"] == "border_constant", ["low", "high"]] = float("nan")
    values = envelopes(table, BEFORE, "mean_square")
    assert values[Key("teacher", "border_constant")] == Interval(1.4, 1.4, 1.4)
    found = values[Key("at", "border_constant", untrained=True)]
    assert found == pytest.approx((1.4 + STEP, 1.4, 1.4 + 2 * STEP))


def test_deletion_belongs_to_both_points() -> None:
    """After the activation, deletion and its controls are those that were measured, before it."""
    table = pd.concat(gathered(networks({Key("at", "deletion", 3): 0.123})))
    for collapse in ("mean_square", "sum_absolute"):
        for point in POINTS:
            values = envelopes(table, point, collapse)
            assert values[Key("at", "deletion")].value == pytest.approx(0.123 + STEP)
            assert values[Key("at", "deletion_random")].value == pytest.approx(0.45 + STEP)


def test_one_experiment() -> None:
    """A teacher and students of one architecture are taken, anything else is refused."""
    tables = gathered(networks())
    check_measurements(tables, ["teacher"])
    with pytest.raises(ValueError, match="expected a teacher"):
        check_measurements(tables[1:], ["teacher"])
    with pytest.raises(ValueError, match="baseline, seed 2, is given twice"):
        check_measurements([*tables, tables[-1]], ["teacher"])
    for column, found in (("model", "WRN-40-2"), ("stages", 4), ("point", "x"), ("collapse", "x")):
        others = [*tables[:-1], tables[-1].assign(**{column: found})]
        with pytest.raises(ValueError, match=f"had {column} .*, seed 2, '{found}'"):
            check_measurements(others, ["teacher"])
    own = [table.replace({"method": {"kd": "professor"}}) for table in tables]
    own[-1].loc[own[-1]["method"] == "professor", "model"] = "WRN-40-2"
    with pytest.raises(ValueError, match="of professor, seed 2, 'WRN-40-2'"):
        check_measurements(own, ["teacher", "professor"])
    methods = methods_of(pd.concat(own), {"at": "AT"}, ["teacher", "professor"])
    assert [method.label for method in methods.values()] == ["Teacher", "Baseline", "AT", "at_kd"]
