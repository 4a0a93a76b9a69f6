"""The one rule by which every comparison and every claim is judged; docs/statistics.md explains it.

A judgement needs an estimate with its intervals, the smallest difference of interest, fixed before
anything is run, and a question. Three outcomes: what isn't shown isn't refuted by that.
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple

Outcome = Literal["shown", "refuted", "can't be said"]
Asks = Literal["above", "below", "not above", "not below", "equal"]


class Estimate(NamedTuple):
    """A difference with two intervals; ends that can't be computed are NaN, and show nothing.

    `low` and `high` are of 95 %, for assertions and denials, `low_90` and `high_90` of 90 %, for
    equivalence; at another confidence 1 - level they are of 1 - level and of 1 - 2 level.
    """

    value: float
    low: float
    high: float
    low_90: float
    high_90: float


def judge(estimate: Estimate, smallest_difference: float, asks: Asks) -> Outcome:
    """Return whether a difference is as a question asks.

    Above means by more than the smallest difference of interest, below by more than it below 0;
    equal means nearer to 0 than it, by two one-sided tests. A denial is shown where its assertion
    is refuted. If the intervals hold what they state, "shown" is wrong in at most 2.5 % of cases,
    "equal" in 5 %, "refuted" in 2.5 %.
    Source: Schuirmann 1987, "A comparison of the two one-sided tests procedure and the power
    approach for assessing the equivalence of average bioavailability".

    Args:
        estimate: the difference, in the unit of the smallest one.
        smallest_difference: the smallest that is of interest, from 0.
        asks: what is asserted or denied.
    """
    _, low, high, low_90, high_90 = estimate
    least = smallest_difference
    if asks == "equal":
        return outcome(-least < low_90 and high_90 < least, low > least or high < -least)
    if asks in ("below", "not below"):
        low, high = -high, -low
    yes, no = low > least, high < least
    return outcome(no, yes) if asks.startswith("not ") else outcome(yes, no)


def outcome(shown: bool, refuted: bool) -> Outcome:
    """Return the outcome of two tests, at most one of which succeeds."""
    return "shown" if shown else "refuted" if refuted else "can't be said"


def together(outcomes: Iterable[Outcome]) -> Outcome:
    """Return the outcome of a claim of several criteria, all of them necessary, or of none.

    One that is refuted refutes it, and it takes all to show it.
    """
    found = set(outcomes)
    return outcome(found == {"shown"}, "refuted" in found)
