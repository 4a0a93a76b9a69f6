"""Claims about attention: each verdict follows from the numbers that decide it, from no other."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from distillation.reporting.claims import Claim, judge_claims, one_teacher
from distillation.reporting.judgement import Outcome
from distillation.reporting.measurements import (
    BEFORE,
    POINTS,
    Key,
    Sample,
    Values,
    check_measurements,
    difference,
    methods_of,
    samples,
    with_controls,
)
from distillation.settings.base import checked
from distillation.settings.reports import SmallestDifferences
from measured import HALF, MAPS, SEEDS, STEP, STUDENTS, Changes, controls, networks

METHODS = ("teacher", *STUDENTS)
NAMES = ("concentration", "border", "object", "abstraction", "transfer")
SHOWN, REFUTED, OPEN = "shown", "refuted", "can't be said"
LEAST = checked(SmallestDifferences, {})
IMAGES = {"": 1000, "deletion": 50, "insertion": 50}


def gathered(
    tables: Sequence[pd.DataFrame], students: tuple[str, ...] = STUDENTS
) -> list[pd.DataFrame]:
    """Return tables with the controls given to their methods."""
    return [with_controls(table, controls(students)) for table in tables]


def sampled(
    tables: Sequence[pd.DataFrame], students: tuple[str, ...] = STUDENTS, **how: str
) -> Values:
    """Return the values of the maps that are judged."""
    asked: Any = {"point": BEFORE, "collapse": "mean_square"} | how
    few = [t.loc[t["collapse"].eq(asked["collapse"]) | ~t["metric"].isin(MAPS)] for t in tables]
    return samples(pd.concat(gathered(few, students)), images=IMAGES, **asked)


def judge_tables(
    tables: Sequence[pd.DataFrame],
    students: tuple[str, ...] = STUDENTS,
    attentive: Sequence[str] | None = None,
) -> dict[str, Claim]:
    """Return the claims about an experiment by name."""
    learning = [m for m in students if m != "baseline"] if attentive is None else attentive
    few = [table.loc[table["metric"] == "entropy"] for table in tables]
    methods = methods_of(pd.concat(gathered(few, students)), {}, ["teacher"])
    claims = judge_claims(sampled(tables, students), methods, learning, LEAST)
    return {claim.name: claim for claim in claims}


def judged(changes: Changes | None = None, **how: Any) -> dict[str, Claim]:
    """Return the claims about an experiment in which all are shown but for the changes."""
    return judge_tables(networks(changes, **how))


def results(claim: Claim) -> list[Outcome]:
    """Return the result of each criterion."""
    return [criterion.result for criterion in claim.criteria]


def test_all_shown() -> None:
    """Numbers that were built so that every claim is shown show every claim."""
    claims = judged()
    assert {name: claim.verdict for name, claim in claims.items()} == dict.fromkeys(NAMES, SHOWN)


# Of each criterion, by claim and place: whose value, and the value at which the difference is the
# smallest one of interest; 1 if above it the criterion is met, -1 if below. What it is compared
# with is in measured.py.
EDGES: dict[tuple[str, int], tuple[Sequence[str], str, float, int]] = {
    ("concentration", 0): (["teacher"], "effective_area_pooled", 0.45, -1),
    ("concentration", 2): (["teacher"], "effective_area", 0.2, -1),
    ("concentration", 3): (STUDENTS, "effective_area", 0.15, 1),
    ("border", 0): (METHODS, "border", 1.1, 1),
    ("object", 0): (METHODS, "object_energy", 1.4, -1),
    ("object", 1): (METHODS, "pointing_game", 0.55, -1),
    ("object", 2): (METHODS, "object_iou", 0.35, -1),
    ("abstraction", 0): (METHODS, "image_dependence_pooled", 0.55, -1),
    ("abstraction", 1): (METHODS, "sobel_spearman_pooled", 0.45, -1),
    ("abstraction", 2): (METHODS, "deletion_minus_random", -0.02, 1),
    ("abstraction", 3): (METHODS, "deletion_blur_minus_random", -0.02, 1),
    ("transfer", 0): (STUDENTS[1:], "teacher_spearman", 0.35, 1),
    ("transfer", 1): (STUDENTS[1:], "teacher_spearman_shuffled", 0.55, -1),
}


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize(
    ("step", "expected"), [(0.04, SHOWN), (0, OPEN), (-0.04, REFUTED), (None, OPEN)]
)
def test_planted_difference(place: int, step: float | None, expected: Outcome) -> None:
    """A criterion is shown, open or refuted as its decisive number says, and no other changes.

    A value that one seed of a method lacks isn't made up.
    """
    edges = {claim: edge for (claim, position), edge in EDGES.items() if position == place}
    changes: dict[Any, float | None] = {
        Key(method, metric, 3): None if step is None else edge + sign * step
        for about, metric, edge, sign in edges.values()
        for method in about
    }
    tables = networks(changes)
    claims = judge_tables(tables if step is not None else [*networks()[:2], tables[2]])
    for name in edges:
        found = results(claims[name])
        assert (found[place], claims[name].verdict) == (expected, expected)
        # Where a value is gone, what else it decides is open too.
        others = {SHOWN} if step is not None else {SHOWN, OPEN}
        assert {*found[:place], *found[place + 1 :]} <= others


def test_controls_of_the_object() -> None:
    """A map falls on objects only if no control does as well; without one, it can't be said."""
    high: Changes = {Key(method, "object_energy", 3): 2.0 for method in METHODS}
    assert results(judged(high)["object"]) == [REFUTED, SHOWN, SHOWN]
    as_the_centre: Changes = {Key(method, "object_energy_centre", 3): 2.0 for method in METHODS}
    assert results(judged({**high, **as_the_centre})["object"]) == [SHOWN] * 3
    lacking = {Key(method, "object_energy_other", 3): None for method in METHODS}
    assert results(judged({**high, **lacking})["object"]) == [OPEN, SHOWN, SHOWN]


def test_maps_of_other_sizes() -> None:
    """Effective areas of maps of other sizes aren't compared; maps of few cells are no point."""
    claim = judged({Key("at", "cells", 3): 4})["concentration"]
    assert (results(claim), claim.verdict) == ([SHOWN, SHOWN, SHOWN, OPEN], OPEN)
    assert [claim.criteria[3].of(method) for method in STUDENTS] == [SHOWN, SHOWN, OPEN, SHOWN]
    (found,) = claim.criteria[3].comparisons["at"]
    assert (found.estimate, found.alone) == (None, "maps of 4 and 64 cells")
    few: Changes = {Key(method, "cells", 3): 4 for method in METHODS}
    claim = judged({**few, Key("teacher", "effective_area", 3): 0.3})["concentration"]
    (found,) = claim.criteria[2].comparisons["teacher"]
    assert (found.outcome, found.alone) == (OPEN, "maps of 4 cells")
    # Where they weren't measured, what was published stays as it was.
    unknown: Changes = {Key(method, "cells", 3): None for method in METHODS}
    assert judged(unknown)["concentration"].verdict == SHOWN


def test_one_method_refutes() -> None:
    """A claim about several methods is judged for each, and refuted by one."""
    claim = judged({Key("kd", "effective_area", 3): 0.1})["concentration"]
    assert [claim.criteria[3].of(method) for method in STUDENTS] == [SHOWN, REFUTED, SHOWN, SHOWN]
    assert (results(claim), claim.verdict) == ([SHOWN, SHOWN, SHOWN, REFUTED], REFUTED)


def test_one_teacher() -> None:
    """Of teachers in general one says nothing, but what it shows alone is told."""
    claims = judged(teachers=(0,))
    assert [claim.verdict for claim in claims.values()] == [OPEN, *[SHOWN] * 4]
    for criterion in claims["concentration"].criteria:
        for comparisons in criterion.comparisons.values():
            assert {each.alone for each in comparisons} == {"this teacher alone: shown"}


def test_one_seed() -> None:
    """Of a method that was trained once nothing is said; what the one network shows is told."""
    criterion = judge_tables(networks()[:1])["border"].criteria[0]
    assert criterion.of("teacher") == SHOWN
    (found,) = criterion.comparisons["at"]
    assert (found.outcome, found.alone) == (OPEN, "this network alone: shown")


def test_levels() -> None:
    """Claims are judged at Holm's levels: the more are decided, the less the others must show."""
    assert {claim.alpha for claim in judged().values()} == {0.01}
    claims = judged({Key("kd", "border", 3): 1.1, Key("kd", "object_energy", 3): 1.4})
    assert [claim.alpha for claim in claims.values()] == [0.01, 0.025, 0.025, 0.01, 0.01]
    # Where 0.01 leaves it open, 0.05 shows it, as all other claims are decided.
    margin = 1.1 + 2.2 * HALF / 1.96 - STEP
    claim = judged({Key("kd", "border", 3): margin})["border"]
    assert (claim.verdict, claim.alpha) == (SHOWN, 0.05)


@pytest.mark.parametrize(
    ("metric", "untrained", "claim", "place"),
    [
        ("border_constant", False, "border", 0),
        ("border", True, "border", 1),
        ("image_dependence_pooled", True, "abstraction", 0),
    ],
)
def test_explanations_dont_decide(metric: str, untrained: bool, claim: str, place: int) -> None:
    """What is told beside a claim follows from its numbers and leaves the verdict as it is."""
    for value, expected in ((0.9, REFUTED), (None, OPEN)):
        found = judged({Key(method, metric, 3, untrained): value for method in METHODS})[claim]
        assert found.explanations[place].result == expected
        assert found.verdict == SHOWN


def test_methods_that_dont_learn_attention() -> None:
    """A method that doesn't learn attention is told beside those that do, and doesn't decide."""
    tables = networks({Key("kd", "teacher_spearman", 3): 0.1})
    claim = judge_tables(tables, attentive=["at", "at_kd"])["transfer"]
    assert claim.verdict == SHOWN
    told = [{name: each.of(name) for name in each.comparisons} for each in claim.explanations]
    assert told == [{"kd": REFUTED}, {"baseline": SHOWN, "kd": REFUTED}]
    claim = judge_tables(tables, attentive=[])["transfer"]
    assert claim.verdict == OPEN
    assert claim.notes == ["No student of this experiment learns attention."]


def test_one_student_and_no_baseline() -> None:
    """With one student alone, only what needs the baseline can't be said."""
    claims = judge_tables(networks(students=("at",)), ("at",))
    assert [claim.verdict for claim in claims.values()] == [*[SHOWN] * 4, OPEN]
    assert results(claims["transfer"]) == [OPEN, SHOWN]


def test_no_teacher() -> None:
    """Without a teacher nothing is said of one, and of maps all that needs none."""
    tables = [
        table.loc[~table["method"].isin(["teacher", "untrained_teacher"])] for table in networks()
    ]
    ours = [table.loc[~table["metric"].str.contains("teacher")] for table in tables]
    claims = judge_tables(ours)
    assert {name: claim.verdict for name, claim in claims.items()} == {
        "concentration": OPEN, "border": SHOWN, "object": SHOWN, "abstraction": SHOWN,
        "transfer": OPEN,
    }  # fmt: skip
    assert results(claims["concentration"]) == [OPEN] * 4
    assert not one_teacher(sampled(tables))


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
    assert {claim.verdict for claim in two.values()} == {SHOWN}
    one = judge_tables(with_last_stages(networks(), 1))
    dependence, sobel, deletion, _ = one["abstraction"].criteria
    assert [dependence.of("at"), sobel.of("at"), deletion.of("at")] == [OPEN, OPEN, SHOWN]
    assert dependence.of("teacher") == SHOWN
    assert one["concentration"].verdict == SHOWN


def sample(values: Sequence[float], error: float = 0, images: int = 100) -> Sample:
    """Return values of seeds from 0, with the same error over images."""
    return Sample({seed: (value, error) for seed, value in enumerate(values)}, images)


def test_interval_over_seeds_and_images() -> None:
    """A difference has Student's interval over seeds, wider by what the images leave open."""
    left, right = [0.5, 0.7, 0.9], [0.4, 0.4, 0.5]
    gaps = np.subtract(left, right)
    found = difference(sample(left), sample(right))
    assert found == pytest.approx((gaps.mean(), stats.sem(gaps), 2))
    # The errors of both sides add up; a constant has none.
    found = difference(sample(left, 0.02), sample(right, 0.03))
    total = stats.sem(gaps) ** 2 + 0.05**2
    freedom = 2 * total / stats.sem(gaps) ** 2
    assert found == pytest.approx((gaps.mean(), math.sqrt(total), freedom))
    assert difference(sample([0.5], 0.02), 0.4) == pytest.approx((0.1, 0.02, 99))


def test_interval_needs_something_that_varies() -> None:
    """Several networks that don't differ have no interval; one value without error is exact."""
    assert difference(sample([0.5, 0.5]), 0.4) == pytest.approx(
        (0.1, math.nan, math.inf), nan_ok=True
    )
    assert difference(sample([1.5], images=1), 1) == (0.5, 0, math.inf)


def test_networks_of_one_seed_are_compared() -> None:
    """A seed without partner leaves a comparison open; a teacher of one seed is that of all."""
    students, teacher = sample([0.5, 0.7, 0.9]), sample([0.4])
    assert difference(students, teacher) is None
    found = difference(students, teacher, shared=True)
    assert found is not None
    assert found.value == pytest.approx(0.3)
    assert difference(students, sample([0.4, 0.5]), shared=True) is None


@pytest.mark.parametrize("deviation", [0.005, 0.01, 0.04])
def test_interval_holds_the_truth(deviation: float) -> None:
    """With noise of three seeds and of images, 95 % intervals hold the truth in 95 %, about."""
    generator, held, runs = np.random.default_rng(0), 0, 2000
    for _ in range(runs):
        values = 0.3 + generator.normal(0, 0.01) + generator.normal(0, deviation, 3)
        mean = difference(sample([*values], 0.01, 1000))
        assert mean is not None
        interval = mean.interval(0.95)
        held += interval.low < 0.3 < interval.high
    assert held / runs == pytest.approx(0.955, abs=0.02)


def test_samples() -> None:
    """A value has the error of its bootstrap interval, in each seed, and the images it is of."""
    values = sampled(networks())
    found = values[Key("at", "teacher_cosine", 1)]
    assert found.seeds == {seed: pytest.approx((0.95 + STEP * seed, HALF / 1.96)) for seed in SEEDS}
    assert values[Key("at", "teacher_cosine")] is values[Key("at", "teacher_cosine", 3)]
    assert (found.images, values[Key("at", "deletion")].images) == (1000, 50)
    assert values[Key("at", "teacher_cosine", 1, True)].seeds[0][0] == 0.6


def test_value_without_interval() -> None:
    """What a constant input gives is exact; any other value without interval isn't there."""
    tables = networks()
    for table in tables:
        table.loc[table["metric"] == "border", ["low", "high"]] = math.nan
    values = sampled(tables)
    assert values[Key("at", "border_constant")].seeds[0] == (1.4, 0)
    assert Key("at", "border") not in values


def test_deletion_belongs_to_both_points() -> None:
    """After the activation, deletion and its controls are those that were measured, before it."""
    tables = networks({Key("at", "deletion", 3): 0.123})
    for collapse in ("mean_square", "sum_absolute"):
        for point in POINTS:
            values = sampled(tables, point=point, collapse=collapse)
            assert values[Key("at", "deletion")].seeds[1][0] == pytest.approx(0.123 + STEP)
            assert values[Key("at", "deletion_random")].seeds[1][0] == pytest.approx(0.45 + STEP)


def test_one_experiment() -> None:
    """Students of one architecture are taken, with a teacher or without, and nothing else."""
    tables = gathered(networks(teachers=(0,)))
    check_measurements(tables, ["teacher"])
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
