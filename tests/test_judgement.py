"""The rule of all judgements: assertions, denials, equivalence, and claims of several criteria."""

import math
from typing import get_args

import pytest

from distillation.reporting.judgement import Asks, Estimate, Outcome, judge, together

UNKNOWN = "can't be said"


def around(value: float, half: float) -> Estimate:
    """Return an estimate whose 95 % interval is so wide to each side, and 90 % a fifth less."""
    less = 0.8 * half
    return Estimate(value, value - half, value + half, value - less, value + less)


@pytest.mark.parametrize(
    ("estimate", "outcomes"),
    [
        # Asked of each: above, below, not above, not below, equal.
        (around(1.0, 0.4), ("shown", "refuted", "refuted", "shown", "refuted")),
        (around(-1.0, 0.4), ("refuted", "shown", "shown", "refuted", "refuted")),
        (around(0.0, 0.4), ("refuted", "refuted", "shown", "shown", "shown")),
        # 95 % reaches beyond the smallest difference, 90 % doesn't.
        (around(0.0, 0.6), (UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, "shown")),
        # Not 0, yet perhaps too little to be of interest; and nothing for sure but one side.
        (around(0.5, 0.3), (UNKNOWN, "refuted", UNKNOWN, "shown", UNKNOWN)),
        # Far too wide.
        (around(0.0, 3.0), (UNKNOWN,) * 5),
        # No interval, as of one seed.
        (Estimate(9.0, *[math.nan] * 4), (UNKNOWN,) * 5),
    ],
)
def test_outcomes(estimate: Estimate, outcomes: tuple[Outcome, ...]) -> None:
    """An interval beyond the smallest difference shows or refutes; one across it says nothing."""
    assert tuple(judge(estimate, 0.5, asks) for asks in get_args(Asks)) == outcomes


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        (["shown", "shown"], "shown"),
        (["shown", "refuted", UNKNOWN], "refuted"),
        (["shown", UNKNOWN], UNKNOWN),
        ([], UNKNOWN),
    ],
)
def test_claims_of_several_criteria(outcomes: list[Outcome], expected: Outcome) -> None:
    """One refuted criterion refutes a claim, and only all of them show it."""
    assert together(outcomes) == expected
