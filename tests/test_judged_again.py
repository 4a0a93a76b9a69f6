"""Studies from before there was one rule, judged by it."""

import json
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

from distillation.reporting.intervals import bootstrap_mean, mean_over_seeds_and_images
from distillation.reporting.judged_again import (
    claim_again,
    earlier_results,
    error_over_images,
    judged_again,
)
from shell import ROOT

LABELS = {"baseline": "Baseline", "kd": "KD", "at": "AT", "at_kd": "AT+KD"}
# What trainings were told, as they were told it then.
USUAL: dict[str, Any] = {
    "epochs": 4, "alpha": 0.0, "temperature": 1.0, "kl_reduction": "batchmean", "beta": 0.0,
    "beta_schedule": "constant", "at_mode": "code", "collapse": "mean_square",
}  # fmt: skip
KD, AT = {"alpha": 0.9, "temperature": 4.0}, {"beta": 1000.0}
FOUR: dict[str, dict[str, Any]] = {"baseline": {}, "kd": KD, "at": AT, "at_kd": KD | AT}
PAIRS = [("kd", "baseline"), ("at", "baseline"), ("at_kd", "baseline"), ("at_kd", "kd")]


def study(
    methods: dict[str, dict[str, Any]], effects: dict[str, float], seed: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, list[dict[str, Any]]], dict[str, np.ndarray]]:
    """Return comparison.csv, history.csv, provenance, and right or wrong (3, 400) in percent.

    Methods are what a training was told beside the usual, effects what is added in points.
    """
    generator = np.random.default_rng(seed)
    common = generator.random(400)
    images, runs, history = {}, {}, []
    for model, told in methods.items():
        add = effects[model] + generator.normal(0, 0.3, (3, 1))
        right = 0.6 * common + 0.4 * generator.random((3, 400)) < 0.5 + add / 100
        images[model] = 100.0 * right
        training: dict[str, Any] = {"arguments": USUAL | told}
        if told.get("alpha") or told.get("beta"):
            training["teacher"] = {"seed": 0}
        else:
            training["arguments"]["teacher"] = None
        runs[model] = [{"model": model, "seed": one, "training": training} for one in range(3)]
        for one, value in enumerate(right.mean(axis=1)):
            history += [(model, one, epoch, value * epoch / 2) for epoch in (1, 2)]
    pairs = []
    for method, reference in PAIRS:
        if {method, reference} <= methods.keys():
            difference = (images[method] - images[reference]).mean(axis=0)
            _, low, high = bootstrap_mean(difference, 0.95, 2000, 0)
            pairs.append((method, reference, low, high))
    columns = ["model", "seed", "epoch", "test_accuracy"]
    found = pd.DataFrame(pairs, columns=["method", "reference", "images_low", "images_high"])
    return found, pd.DataFrame(history, columns=columns), runs, images


def judged(
    methods: dict[str, dict[str, Any]], effects: dict[str, float], seed: int = 0
) -> tuple[dict[str, list[str]], str, dict[str, np.ndarray]]:
    """Return the cells of each contrast of such a study, all that is said, and its images."""
    pairs, history, runs, images = study(methods, effects, seed)
    lines = judged_again(pairs, earlier_results("Study", runs, history, LABELS, held_out=False))
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")][2:]
    return {first: cells for first, *cells in rows}, "\n".join(lines), images


@pytest.mark.parametrize("seed", range(5))
def test_intervals_are_no_narrower_than_those_of_the_rule(seed: int) -> None:
    """What isn't known of single images never makes an interval narrower, in all seven contrasts.

    Differences and seeds are those of the runs, and so is the interaction.
    """
    effects = {"baseline": 0.0, "kd": 4.0, "at": 6.0, "at_kd": 7.0}
    rows, _, images = judged(FOUR, effects, seed)
    kd, at, both, neither = (images[name] for name in ("kd", "at", "at_kd", "baseline"))
    expected = {
        "KD - Baseline": kd - neither, "AT - Baseline": at - neither,
        "AT+KD - Baseline": both - neither, "AT+KD - KD": both - kd, "AT+KD - AT": both - at,
        "AT - KD": at - kd, "Interaction of KD and AT": both - kd - at + neither,
    }  # fmt: skip
    assert rows.keys() == expected.keys()
    for name, values in expected.items():
        seeds, _, difference, wide = rows[name][:4]
        value, least, most = mean_over_seeds_and_images(values).interval(0.95)
        low, high = map(float, wide.split(" to "))
        assert seeds == "3"
        # Written with two decimals, from a bootstrap.
        assert float(difference) == pytest.approx(value, abs=0.006)
        assert low <= least + 0.1
        assert high >= most - 0.1


@pytest.mark.parametrize(("effect", "verdict"), [(30.0, "above"), (-30.0, "below"), (0.3, "can't")])
def test_verdicts_follow_the_difference(effect: float, verdict: str) -> None:
    """Large planted differences are shown, none is not."""
    methods = {"baseline": {}, "kd": KD}
    rows, text, _ = judged(methods, {"baseline": 0.0, "kd": effect})
    assert [*rows] == ["KD - Baseline"]
    assert rows["KD - Baseline"][-1].startswith(verdict)
    assert "corrected for 1 questions" in text


def test_a_teacher_is_named_where_there_was_one() -> None:
    """'For this teacher' is said of a pair if one of the two learnt from a teacher."""
    methods = {"baseline": {}, "kd": {"learning_rate": 0.1}, "at_kd": KD | AT}
    rows, text, _ = judged(methods | {"baseline": {"learning_rate": 0.2}}, dict.fromkeys(FOUR, 0.0))
    assert {name: cells[1] for name, cells in rows.items()} == {
        "KD - Baseline": "0", "AT+KD - Baseline": "1", "AT+KD - KD": "1",
    }  # fmt: skip
    said = {line: "for this teacher" in line for line in text.splitlines() if line[:1] == "-"}
    assert [*said.values()] == [False, True, True]


@pytest.mark.parametrize(
    ("method", "more"), [("at_kd", {"temperature": 2.0}), ("at_kd", {"epochs": 8}), ("at", KD)]
)
def test_what_is_no_design_of_two_methods(method: str, more: dict[str, Any]) -> None:
    """Other settings of a term, or of the training, are another method: nothing is added up."""
    rows, text, _ = judged(FOUR | {method: FOUR[method] | more}, dict.fromkeys(FOUR, 0.0))
    assert len(rows) == len(PAIRS)
    assert "weren't compared then" not in text


def test_contrasts_that_pairs_do_not_make() -> None:
    """The error of a sum of pairs is the sum of theirs; a contrast of others is refused."""
    ends = [("kd", "baseline", 0.0, 1.96), ("at", "baseline", 0.0, 3.92)]
    pairs = pd.DataFrame(ends, columns=["method", "reference", "images_low", "images_high"])
    assert error_over_images({"at": 1, "kd": -1}, pairs) == pytest.approx(1.5, rel=1e-4)
    with pytest.raises(ValueError, match="no sum of pairs is the contrast of at, kd"):
        error_over_images({"at": 1, "kd": -1}, pairs.iloc[:1])


@pytest.mark.parametrize(
    "folder",
    [file.parent for file in ROOT.glob("docs/results/*/comparison.csv")
     if "contrast" not in file.read_text().partition("\n")[0]],
    ids=lambda folder: folder.name,
)  # fmt: skip
def test_published_differences_come_out_again(folder: Any) -> None:
    """Accuracies of the last epoch give the differences of each seed that were published."""
    compared = pd.read_csv(folder / "comparison_seeds.csv")
    runs: dict[str, list[dict[str, Any]]] = {}
    for one in json.loads((folder / "provenance.json").read_text())["runs"]:
        runs.setdefault(one["model"], []).append(one)
    history = pd.read_csv(folder / "history.csv")
    results = earlier_results("Study", runs, history, {name: name for name in runs}, held_out=False)
    value = {(each.model, each.seed): each.metrics["metrics"]["top1_accuracy"]["value"]
             for each in results.runs}  # fmt: skip
    for method, reference, seed, difference in compared.iloc[:, :4].to_numpy():
        assert value[method, seed] - value[reference, seed] == pytest.approx(difference)
    lines = judged_again(pd.read_csv(folder / "comparison.csv"), results)
    taught = {model: "teacher" in group[0]["training"] for model, group in runs.items()}
    for line in lines:
        if found := re.match(r"\| (\S+) - (\S+) \| 3 \| (\d)", line):
            method, reference, teachers = found.groups()
            assert int(teachers) == (taught[method] or taught[reference])


@pytest.mark.parametrize(
    ("border", "verdict"), [(0.5, "Refuted"), (1.5, "Shown"), (1.09, "Can't be said")]
)
def test_a_claim_is_judged_again(border: float, verdict: str) -> None:
    """Whether late maps fall on borders is told from the last group's maps, as for this teacher."""
    rows = [
        (model, method, seed, group, "mean_square", point, metric, value, value - 0.1, value + 0.1)
        for model, method, seeds in (("WRN-40-2", "teacher", 1), ("WRN-16-2", "kd", 3))
        for seed in range(seeds)
        for group, value in ((1, 9.0), (3, border + seed / 100))
        for point, metric in (("before_norm", "border"), ("before_norm", "pointing_game"),
                              ("after_activation", "border"))
    ]  # fmt: skip
    columns = ["model", "method", "seed", "group", "collapse", "point", "metric", "value", "low",
               "high"]  # fmt: skip
    text = "\n".join(claim_again(pd.DataFrame(rows, columns=columns), 10_000, LABELS))
    about = "" if verdict.startswith("Can't") else ", for this teacher"
    assert f"attention falls on borders. **{verdict}{about}.**" in text
    assert text.count("\n| (") == 1
    assert "with 99 % intervals" in text
