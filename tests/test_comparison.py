"""Comparisons of methods: what the numbers become, in rows and in words."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats

import compare_methods
from distillation.reporting.comparison import Finding, Pair, compare, compare_seeds, tabulate
from distillation.reporting.comparison_text import describe
from distillation.reporting.metric import Metric
from distillation.settings.base import checked
from distillation.settings.reports import Comparison
from made_up import TERMS, write_runs
from shell import ROOT

SETTINGS = checked(Comparison, {"resamples": 500})
ACCURACY = Metric("top1_accuracy", "Test accuracy", "%", 2, True)
LABELS = {"at_kd": "AT+KD", "kd": "KD", "baseline": "Baseline"}
IMAGES = 400
OUTPUTS = {
    "comparison": "csv", "seeds": "csv", "fidelity": "csv", "markdown": "md", "page": "html",
    "figure": "png", "figure-svg": "svg",
}  # fmt: skip


def a_pair(method: str, reference: str, differences: list[int]) -> Pair:
    """Return a pair that in seed number i is right on that many more of 400 images."""
    reference_right = np.zeros((len(differences), IMAGES))
    reference_right[:, :200] = 100
    method_right = reference_right.copy()
    for seed, more in enumerate(differences):
        # It gains 10 images more than that, and loses 10.
        method_right[seed, :10] = 0
        method_right[seed, 200 : 210 + more] = 100
    values = (method_right.mean(axis=1), reference_right.mean(axis=1))
    seeds = list(range(len(differences)))
    return Pair(method, reference, seeds, values, (method_right, reference_right))


def row(**changes: object) -> Finding:
    """Return a comparison of five seeds that found a difference."""
    values = {
        "method": "at_kd", "reference": "baseline", "seeds": 5, "difference": 0.41, "low": 0.12,
        "high": 0.70, "p_value": 0.01, "p_holm": 0.03, "detectable": 0.35, "images_low": 0.1,
        "images_high": 0.8, "verdict": "above",
    }  # fmt: skip
    return Finding(**(values | changes))  # type: ignore[arg-type]


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
    assert table["method_above"].tolist() == [14, 30]
    assert table["reference_above"].tolist() == [10, 10]
    assert table["difference"].tolist() == pytest.approx([1, 5])
    expected = [scipy.stats.binomtest(10, 24).pvalue, scipy.stats.binomtest(10, 40).pvalue]
    assert table["mcnemar_p_value"].tolist() == pytest.approx(expected)


def test_no_pairs() -> None:
    """Where nothing is compared the tables have their columns and no row."""
    assert compare([], SETTINGS) == []
    assert list(tabulate([], [])) == list(tabulate([row()], ["words"]))
    assert list(compare_seeds([])) == list(compare_seeds([a_pair("kd", "at", [1])]))


@pytest.mark.parametrize(
    ("metric", "images", "tested"),
    [
        ("top1_accuracy", True, True),
        ("cross_entropy", True, False),
        ("expected_calibration_error", False, False),
    ],
)
def test_any_metric(tmp_path: Path, metric: str, images: bool, tested: bool) -> None:
    """A metric is compared over images where each has a value, by McNemar's test if one of two."""
    outputs = {name: tmp_path / f"{name}.{suffix}" for name, suffix in OUTPUTS.items()}
    compare_methods.main(
        [
            *write_runs(tmp_path / "runs", TERMS, "predictions.npz", held_out=True),
            *("--pair", "kd", "baseline", "--metric", metric, "--resamples", "100", "--dpi", "50"),
            *("--style", str(ROOT / "workflow/scripts/figures.mplstyle")),
            *(text for name, file in outputs.items() for text in (f"--{name}", str(file))),
        ]
    )
    [found] = pd.read_csv(outputs["comparison"]).to_dict("records")
    assert math.isnan(found["images_low"]) != images
    assert pd.read_csv(outputs["seeds"])["mcnemar_p_value"].notna().tolist() == [tested] * 2
    text = outputs["markdown"].read_text()
    assert ("McNemar" in text) == tested
    assert found["sentence"] in text
    assert "KD is not distinguishable from the baseline" in text
    assert "held-out images" in text
    assert "test images" not in text
    fidelity = pd.read_csv(outputs["fidelity"])
    assert fidelity["method"].tolist() == ["baseline", "kd", "at"]
    assert set(fidelity["measure"]) == {"teacher_agreement"}


def change_one_seed(**more: Any) -> dict[str, Any]:
    """Return the changes of a comparison of one seed."""
    nothing = dict.fromkeys(("low", "high", "p_value", "p_holm", "detectable"), math.nan)
    return {"seeds": 1, "verdict": "one_seed", **nothing, **more}


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
            change_one_seed(),
            "With one seed nothing can be said about other seeds: in this one the difference "
            "between AT+KD and the baseline is 0.41 points; on the test images alone its 95 % "
            "interval is 0.10 to 0.80",
        ),
        (
            change_one_seed(images_low=math.nan, images_high=math.nan),
            "With one seed nothing can be said about other seeds: in this one the difference "
            "between AT+KD and the baseline is 0.41 points",
        ),
    ],
)  # fmt: skip
def test_verdict_in_words(changes: dict[str, object], sentence: str) -> None:
    """Each verdict is said in one sentence, with its numbers and what they can't show."""
    assert describe(row(**changes), ACCURACY, SETTINGS, LABELS, 4) == sentence
