"""Comparisons of methods: what the numbers become, in rows and in words."""

import math
from argparse import Namespace

import numpy as np
import pytest
import scipy.stats

from distillation.comparison import Comparison, Pair, compare, compare_seeds, describe, tabulate

SETTINGS = Namespace(confidence=0.95, power=0.8, resamples=500, bootstrap_seed=0)
IMAGES = 400


def a_pair(method: str, reference: str, differences: list[int]) -> Pair:
    """Return a pair that in seed number i is right on that many more of 400 images."""
    reference_right = np.zeros((len(differences), IMAGES), dtype=bool)
    reference_right[:, :200] = True
    method_right = reference_right.copy()
    for seed, more in enumerate(differences):
        # It gains 10 images more than that, and loses 10.
        method_right[seed, :10] = False
        method_right[seed, 200 : 210 + more] = True
    return Pair(method, reference, list(range(len(differences))), method_right, reference_right)


def row(**changes: object) -> Comparison:
    """Return a comparison of five seeds that found a difference."""
    values = {
        "method": "at_kd", "reference": "baseline", "seeds": 5, "difference": 0.41, "low": 0.12,
        "high": 0.70, "p_value": 0.01, "p_holm": 0.03, "detectable": 0.35, "images_low": 0.1,
        "images_high": 0.8, "verdict": "above",
    }  # fmt: skip
    return Comparison(**(values | changes))  # type: ignore[arg-type]


def test_numbers_of_a_pair() -> None:
    """Difference, interval and p-value are those of the paired t test of the seeds' accuracies."""
    more = [4, 6, 8, 5]
    pair = a_pair("kd", "baseline", more)
    (found,) = compare([pair], SETTINGS)
    points = 100 * np.array(more) / IMAGES
    test = scipy.stats.ttest_rel(points, np.zeros(4))
    assert found.seeds == 4
    assert found.difference == pytest.approx(points.mean())
    assert (found.low, found.high) == pytest.approx(tuple(test.confidence_interval(0.95)))
    assert found.p_value == found.p_holm == pytest.approx(test.pvalue)
    assert found.verdict == "above"
    # Over images alone: 10 of 400 lost, 10 and more gained, the same in most seeds.
    assert found.images_low < found.difference < found.images_high


def test_holm_is_over_all_pairs() -> None:
    """The same pair beside three others has its p-value times four."""
    pair = a_pair("kd", "baseline", [4, 6, 8, 5])
    others = [a_pair(name, "baseline", [-1, 1, 2, -3]) for name in ("at", "at_kd", "soft")]
    alone, among = compare([pair], SETTINGS)[0], compare([pair, *others], SETTINGS)[0]
    assert among.p_value == alone.p_value
    assert among.p_holm == pytest.approx(4 * alone.p_value)


def test_seeds_are_compared_one_by_one() -> None:
    """Each seed has the images that one method alone is right on, and McNemar's test of them."""
    table = compare_seeds([a_pair("kd", "baseline", [4, 20])])
    assert table["only_method_correct"].tolist() == [14, 30]
    assert table["only_reference_correct"].tolist() == [10, 10]
    assert table["difference"].tolist() == pytest.approx([1, 5])
    expected = [scipy.stats.binomtest(10, 24).pvalue, scipy.stats.binomtest(10, 40).pvalue]
    assert table["mcnemar_p_value"].tolist() == pytest.approx(expected)


def test_no_pairs() -> None:
    """Where nothing is compared the tables have their columns and no row."""
    assert compare([], SETTINGS) == []
    assert list(tabulate([])) == list(tabulate([row()]))
    assert list(compare_seeds([])) == list(compare_seeds([a_pair("kd", "at", [1])]))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {},
            "AT+KD is above the baseline by 0.41 points, 95 % interval 0.12 to 0.70, 5 seeds",
        ),
        (
            {"difference": -0.41, "low": -0.7, "high": -0.12, "verdict": "below"},
            "AT+KD is below the baseline by 0.41 points, 95 % interval of the difference -0.70 to "
            "-0.12, 5 seeds",
        ),
        (
            {"reference": "kd", "seeds": 3, "difference": 0.1, "low": -0.25, "high": 0.45,
             "p_value": 0.4, "p_holm": 0.8, "verdict": "not_distinguishable"},
            "AT+KD is not distinguishable from KD with 3 seeds: difference 0.10 points, 95 % "
            "interval -0.25 to 0.45; a true difference under 0.35 points would be missed in more "
            "than 20 % of such experiments",
        ),
        (
            {"p_value": 0.03, "p_holm": 0.12, "verdict": "not_distinguishable"},
            "AT+KD is not distinguishable from the baseline with 5 seeds: difference 0.41 points, "
            "95 % interval 0.12 to 0.70, which excludes 0, but not after Holm's correction for 4 "
            "pairs (p = 0.12); a true difference under 0.35 points would be missed in more than "
            "20 % of such experiments",
        ),
        (
            {"seeds": 1, "low": math.nan, "high": math.nan, "p_value": math.nan,
             "p_holm": math.nan, "detectable": math.nan, "verdict": "one_seed"},
            "With one seed nothing can be said about other seeds: in this one the difference "
            "between AT+KD and the baseline is 0.41 points; on the test images alone its 95 % "
            "interval is 0.10 to 0.80",
        ),
    ],
)  # fmt: skip
def test_verdict_in_words(changes: dict[str, object], sentence: str) -> None:
    """Each verdict is said in one sentence, with its numbers and what they can't show."""
    assert describe(row(**changes), 4, 0.95, 0.8) == sentence
