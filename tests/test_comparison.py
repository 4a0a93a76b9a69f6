"""Comparisons of methods: which contrasts are made, what is judged of each, and its words."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats

import compare_methods
from distillation.reporting.comparison import (
    Finding,
    compare,
    compare_seeds,
    measure_fidelity,
)
from distillation.reporting.comparison_text import describe, p_text
from distillation.reporting.contrasts import Contrast, make_contrasts
from distillation.reporting.intervals import mean_over_seeds_and_images
from distillation.reporting.metric import Metric, value_of
from distillation.reporting.results import Results
from distillation.reporting.trained import Run
from distillation.settings.base import checked
from distillation.settings.reports import Comparison
from made_up import TERMS, a_run, write_runs
from shell import ROOT

SETTINGS = checked(Comparison, {"resamples": 500})
ACCURACY = Metric("top1_accuracy", "Test accuracy", "%", 2, 0.5, True)
LABELS = {"at_kd": "AT+KD", "kd": "KD", "at": "AT", "baseline": "Baseline"}


def planted(true: float, seeds: int, deviation: float = 0.1, images: int = 10_000) -> Contrast:
    """Return a contrast that lies around a true difference, in points, on images right or wrong."""
    generator = np.random.default_rng(seeds)
    by_image = np.zeros((seeds, images))
    for values, more in zip(by_image, generator.normal(true, deviation, seeds), strict=True):
        # So many more images than it loses does the method gain.
        values[: 3 * images // 100] = -100
        values[-round(images / 100 * (3 + more)) :] = 100
    by_seed = by_image.mean(axis=1)
    units = [[place] for place in range(seeds)]
    return Contrast("kd", "baseline", "difference", [*range(seeds)], by_seed, by_image, 1, units)


@pytest.mark.parametrize(
    ("true", "seeds", "deviation", "verdict"),
    [
        (1.5, 5, 0.1, "above"), (-1.5, 5, 0.1, "below"), (0.0, 5, 0.1, "equivalent"),
        (0.5, 5, 0.1, "open"), (1.5, 3, 0.9, "open"), (0.0, 3, 0.9, "open"), (3, 1, 0, "one_seed"),
    ],
)  # fmt: skip
def test_planted_differences(true: float, seeds: int, deviation: float, verdict: str) -> None:
    """A large difference is shown, none is equivalent, and what seeds can't tell stays open."""
    contrast = planted(true, seeds, deviation)
    assert contrast.by_image is not None
    (found,) = compare([contrast], 0.5, SETTINGS)
    assert found.verdict == verdict
    said = verdict in ("above", "below", "equivalent")
    assert found.outcome == ("shown" if said else "can't be said")
    assert found.images_low < found.difference < found.images_high
    expected = mean_over_seeds_and_images(contrast.by_image).estimate(0.95)
    ends = (found.difference, found.low, found.high, found.low_90, found.high_90)
    assert ends == pytest.approx(expected, nan_ok=True)
    # Below five seeds nothing is said of what would have been missed.
    assert math.isnan(found.detectable) == (seeds < 5)


def test_holm_is_over_all_contrasts() -> None:
    """The same contrast beside three that say nothing has its p-value times four."""
    contrast = planted(1.5, 5)
    others = [planted(0.5, 5) for _ in range(3)]
    (alone,) = compare([contrast], 0.5, SETTINGS)
    among = compare([contrast, *others], 0.5, SETTINGS)[0]
    assert among.p_value == alone.p_holm
    assert among.p_holm == pytest.approx(4 * alone.p_value)


def test_students_of_one_teacher_count_once() -> None:
    """With two teachers of three students each, what is compared are two means."""
    contrast = planted(1.5, 6)
    grouped = dataclasses.replace(contrast, units=[[0, 2, 4], [1, 3, 5]], by_image=None)
    (found,) = compare([grouped], 0.5, SETTINGS)
    means = [contrast.by_seed[places].mean() for places in grouped.units]
    expected = scipy.stats.ttest_1samp(means, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx(tuple(expected))


def test_seeds_are_compared_one_by_one() -> None:
    """Each seed has the images that one method alone is right on, and McNemar's test of them."""
    contrast = planted(0.2, 2, 0, images=1000)
    table = compare_seeds([contrast, dataclasses.replace(contrast, contrast="interaction")])
    assert table["method_above"].tolist()[:2] == [32, 32]
    assert table["reference_above"].tolist()[:2] == [30, 30]
    assert table["difference"].tolist() == pytest.approx([0.2] * 4)
    expected = scipy.stats.binomtest(30, 62).pvalue
    assert table["mcnemar_p_value"].tolist() == pytest.approx(
        [expected] * 2 + [math.nan] * 2, nan_ok=True
    )


def arms(seeds: int = 2, teachers: int = 1) -> list[Run]:
    """Return runs of the 2 x 2 design; teachers take seeds in turn."""
    runs = []
    for model, like in {"baseline": "baseline", "kd": "kd", "at": "at", "at_kd": "kd"}.items():
        for seed in range(seeds):
            run = dataclasses.replace(a_run(like, seed), model=model)
            if model == "at_kd":
                run.arguments["term"] = TERMS["kd"] | TERMS["at"] | {"labels": {"weight": 0.1}}
            if "teacher" in run.training:
                run.training["teacher"]["seed"] = seed % teachers
            runs.append(run)
    return runs


def contrasts_of(runs: list[Run], pairs: list[list[str]], **more: Any) -> list[Contrast]:
    """Return the contrasts of runs without images."""
    return make_contrasts(pairs, Results("Made up", runs, LABELS, **more), "top1_accuracy", {})


def test_contrasts_of_a_two_by_two_design() -> None:
    """Both are compared with each, the two with each other, and the interaction is judged."""
    runs = arms()
    found = contrasts_of(runs, [["at_kd", "baseline"], ["kd", "at"]])
    names = [(each.method, each.reference, each.contrast) for each in found]
    assert names == [
        ("at_kd", "baseline", "difference"), ("kd", "at", "difference"),
        ("at_kd", "kd", "difference"), ("at_kd", "at", "difference"),
        ("at_kd", "kd + at", "interaction"),
    ]  # fmt: skip
    neither, first, second, both = (
        np.array([value_of(run, "top1_accuracy") for run in runs if run.model == model])
        for model in ("baseline", "kd", "at", "at_kd")
    )
    assert found[-1].by_seed == pytest.approx(both - first - second + neither)
    assert [each.teachers for each in found] == [1] * 5


def test_an_interaction_that_is_zero_but_for_rounding() -> None:
    """Sums that differ from 0 by rounding alone have no spread between seeds, and no interval."""
    runs = arms(seeds=3)
    for run in runs:
        one, other = 100 * (20 + run.seed) / 37, 100 * (3 + run.seed) / 37
        effect = {"kd": one, "at": other, "at_kd": one + other}.get(run.model, 0)
        run.metrics["metrics"]["top1_accuracy"]["value"] = 10 + effect
    *_, interaction = contrasts_of(runs, [])
    assert interaction.contrast == "interaction"
    assert interaction.by_seed.tolist() == [0, 0, 0]
    (found,) = compare([dataclasses.replace(interaction, by_image=None)], 0.5, SETTINGS)
    assert math.isnan(found.low)
    assert found.outcome == "can't be said"


def test_fidelity_counts_seeds_that_have_a_value() -> None:
    """A measure of the teacher's mistakes has no value where it made none, and counts no seed."""
    runs = [each for each in arms(seeds=3) if each.model != "at_kd"]
    for run in runs:
        if (run.model, run.seed) == ("kd", 1):
            del run.metrics["metrics"]["teacher_agreement"]
    results = Results("Made up", runs, LABELS | {"teacher": "Teacher"})
    found = measure_fidelity(results, 0.95).set_index("method")["seeds"]
    assert found.to_dict() == {"baseline": 3, "kd": 2, "at": 3}


def test_what_is_no_two_by_two_design() -> None:
    """Other settings of a term, another teacher or a training of its own make another method."""
    for place, name, value in (
        (lambda run: run.arguments["term"], "kd", {"weight": 0.9, "temperature": 2}),
        (lambda run: run.training["teacher"], "seed", 7),
    ):
        runs = arms()
        for run in runs:
            if run.model == "at_kd":
                place(run)[name] = value
        assert contrasts_of(runs, []) == []
    assert contrasts_of(arms(), [], own_training={"at_kd": ["epochs"]}) == []


def test_labels_belong_to_a_design() -> None:
    """Both have the labels of one method, where the other's are those of neither."""
    smooth = [
        dataclasses.replace(a_run("baseline", run.seed), model="smooth")
        for run in arms()
        if run.model == "baseline"
    ]
    for run in smooth:
        run.arguments["term"] = {"labels": {"weight": 1, "smoothing": 0.1}}
    # The baseline is neither, whatever stands before it.
    *_, interaction = contrasts_of([*smooth, *arms()], [])
    *_, expected = contrasts_of(arms(), [])
    assert interaction.by_seed.tolist() == expected.by_seed.tolist()
    plain = arms()
    for run in plain:
        if run.model == "kd":
            run.arguments["term"] = TERMS["kd"] | {"labels": {"weight": 1}}
    assert contrasts_of(plain, []) == []
    without = [run for run in [*smooth, *arms()] if run.model != "baseline"]
    assert contrasts_of(without, []) == []


def test_fidelity_of_several_teachers() -> None:
    """Seeds that share a teacher are one value, where there are several teachers."""
    runs = [run for run in arms(6, 3) if run.model == "kd"]
    results = Results("Made up", runs, LABELS)
    (row,) = measure_fidelity(results, 0.95).to_dict("records")
    values = np.array([99 + seed / 2 for seed in range(6)])
    means = [values[[seed, seed + 3]].mean() for seed in range(3)]
    expected = scipy.stats.t.interval(0.95, 2, np.mean(means), scipy.stats.sem(means))
    found = [row[name] for name in ("mean", "low", "high")]
    assert found == pytest.approx([values.mean(), expected[0], min(expected[1], 100)])
    assert row["seeds"] == 6


def test_numbers_agree_with_the_rule() -> None:
    """No p-value is rounded to a level that it is above, no smallest difference to another."""
    texts = [p_text(value) for value in (0.0504, 0.05, 0.058, 0.0496, 0.00001, math.nan)]
    assert texts == ["0.0504", "0.05", "0.058", "0.05", "< 0.0001", "-"]
    found = [ACCURACY.exactly(value) for value in (0.5, 1, 0.125, 0.004)]
    assert found == ["0.50 points", "1.00 points", "0.125 points", "0.004 points"]


def test_teachers_are_counted() -> None:
    """Seeds go together by teacher where there are several; without one there is none to count."""
    found = contrasts_of(arms(4, 2), [["kd", "baseline"]])[0]
    assert (found.teachers, found.units) == (2, [[0, 2], [1, 3]])
    runs = [run for run in arms() if run.model == "baseline"]
    long = [dataclasses.replace(run, model="at") for run in runs]
    found = contrasts_of(runs + long, [["at", "baseline"]])[0]
    assert (found.teachers, found.units) == (0, [[0], [1]])


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([["kd", "kd"]], "--pair kd kd: found one model"),
        ([["kd", "at"]] * 2, "--pair kd at: found it twice"),
        ([["kd", "soft"]], "--pair kd soft: no run of soft; allowed: baseline, kd"),
        ([["kd", "teacher"]], "kd has seeds 0, 1, teacher has 0; allowed: the same"),
    ],
)
def test_pairs_that_cannot_be_compared(pairs: list[list[str]], message: str) -> None:
    """A pair of one model, of unknown ones or of other seeds is refused by name."""
    with pytest.raises(ValueError, match=message):
        contrasts_of([*arms(), a_run("teacher", 0)], pairs)


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
    outputs = {
        name: tmp_path / f"{name}{words.partition(':')[0]}"
        for name, words in compare_methods.OUTPUTS.items()
    }
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
    assert found["sentence"] in text
    # The smallest difference of interest is told with its reason.
    assert "Smallest difference of interest" in text
    assert ("set by the config instead of" in text) == (metric != "top1_accuracy")
    assert "held-out images" in text
    assert "test images" not in text
    # Every epoch is better than the one before.
    assert "| Best minus last (points) | 0.00 | 0.00 ± 0.00 | 0.00 ± 0.00 | 0.00 ± 0.00 |" in text
    fidelity = pd.read_csv(outputs["fidelity"])
    assert fidelity["method"].tolist() == ["baseline", "kd", "at"]
    assert set(fidelity["measure"]) == {"teacher_agreement"}


def test_no_contrasts() -> None:
    """Where nothing is compared the tables have their columns and no row."""
    assert compare([], 0.5, SETTINGS) == []
    assert list(compare_seeds([])) == list(compare_seeds([planted(0, 1)]))


def row(**changes: object) -> Finding:
    """Return a comparison of five seeds that found a difference."""
    values = {
        "method": "at_kd", "reference": "baseline", "contrast": "difference", "seeds": 5,
        "teachers": 1, "difference": 0.91, "low": 0.62, "high": 1.2, "low_90": 0.7, "high_90": 1.1,
        "p_value": 0.01, "p_holm": 0.03, "smallest_difference": 0.5, "outcome": "shown",
        "images_low": 0.6, "images_high": 1.3, "detectable": 0.85, "verdict": "above",
    }  # fmt: skip
    return Finding(**(values | changes))  # type: ignore[arg-type]


MISSED = (
    "; a true difference under 0.85 points would be missed in more than 20 % of such experiments"
)
ONE_SEED = (
    "With one seed nothing can be said about other seeds: in this one, for this teacher, the "
    "difference between AT+KD and the baseline is 0.91 points"
)
NO_IMAGES = {"images_low": math.nan, "images_high": math.nan}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {},
            "AT+KD is above the baseline by more than 0.50 points: difference 0.91 points, 95 % "
            "interval 0.62 to 1.20, 5 seeds, for this teacher",
        ),
        (
            {"verdict": "below", "contrast": "interaction", "reference": "kd + at", "teachers": 3,
             "difference": -0.91, "low": -1.2, "high": -0.62},
            "AT+KD is below the effects of KD and AT added up by more than 0.50 points: difference "
            "-0.91 points, 95 % interval -1.20 to -0.62, 5 seeds of 3 teachers",
        ),
        (
            {"verdict": "equivalent", "difference": 0.2, "low": 0.05, "high": 0.35, "low_90": 0.1,
             "high_90": 0.3},
            "AT+KD is equivalent to the baseline within 0.50 points: difference 0.20 points, 90 % "
            "interval 0.10 to 0.30, 5 seeds, for this teacher; its 95 % interval, 0.05 to 0.35, "
            "excludes 0",
        ),
        (
            {"verdict": "open", "difference": 0.1, "low": -0.4, "p_value": 0.2, "teachers": 0},
            "Whether AT+KD differs from the baseline by more than 0.50 points can't be said: "
            "difference 0.10 points, 95 % interval -0.40 to 1.20, 5 seeds" + MISSED,
        ),
        (
            {"verdict": "open", "p_holm": 0.06, "detectable": math.nan, "seeds": 3},
            "Whether AT+KD differs from the baseline by more than 0.50 points can't be said: "
            "difference 0.91 points, 95 % interval 0.62 to 1.20, 3 seeds, for this teacher; as the "
            "only question it could be, but not after Holm's correction for 4 (p = 0.06)",
        ),
        (
            {"verdict": "open", "low": math.nan, "p_value": math.nan, "seeds": 2} | NO_IMAGES,
            "Whether AT+KD differs from the baseline by more than 0.50 points can't be said: "
            "difference 0.91 points in each of 2 seeds, for this teacher, and without a spread "
            "there is no interval",
        ),
        (
            {"verdict": "one_seed", "seeds": 1},
            f"{ONE_SEED}; on the test images alone its 95 % interval is 0.60 to 1.30",
        ),
        ({"verdict": "one_seed", "seeds": 1} | NO_IMAGES, ONE_SEED),
    ],
)  # fmt: skip
def test_verdict_in_words(changes: dict[str, object], sentence: str) -> None:
    """Each verdict is said in one sentence, with its numbers and what they can't show."""
    assert describe(row(**changes), ACCURACY, SETTINGS, LABELS, 4) == sentence
