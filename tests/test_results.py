"""Runs that are put into one table: those of one config are taken, any others are refused."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import fields, replace
from typing import Any

import pandas as pd
import pytest

from distillation.results import WEIGHTS, Run, check_one_experiment, colours
from distillation.training import Weights

TEACHER = {
    "arguments": {"depth": 16, "width": 1, "epochs": 3, "batch_size": 32},
    "seed": 0,
    "code_digest": "code of the teacher's training",
    "data_sha256": "data",
    "packages": {"torch": "2.15.0"},
    "commit": "a",
}
STUDENT = TEACHER | {
    "arguments": {"depth": 10, "width": 1, "epochs": 2, "batch_size": 32, "alpha": 0.0},
    "code_digest": "code of the students' training",
}
EVALUATION = {
    "arguments": {"batch_size": 128},
    "code_digest": "code of the evaluation",
    "data_sha256": "data",
}


def a_run(model: str, seed: int, training: dict[str, Any]) -> Run:
    """Return a run with a history as long as its training says."""
    metrics = {"provenance": EVALUATION, "training_provenance": training | {"seed": seed}}
    epochs = training["arguments"]["epochs"]
    return Run(model, seed, deepcopy(metrics), pd.DataFrame({"epoch": range(epochs)}))


@pytest.fixture
def runs() -> list[Run]:
    """Return a teacher, and two seeds of a baseline and of a method that has the teacher."""
    kd = deepcopy(STUDENT) | {"teacher": TEACHER}
    kd["arguments"] |= {"alpha": 0.9}
    students = [("baseline", STUDENT), ("kd", kd)]
    return [
        a_run("teacher", 0, TEACHER),
        *(a_run(model, seed, training) for model, training in students for seed in (0, 1)),
    ]


def set_argument(step: str, name: str, value: object) -> Callable[[Run], object]:
    """Make the change of an argument of training or evaluation."""
    return lambda run: run.metrics[step]["arguments"].update({name: value})


def set_field(step: str, name: str, value: object) -> Callable[[Run], object]:
    """Make the change of another field of the provenance."""
    return lambda run: run.metrics[step].update({name: value})


def test_colours_differ() -> None:
    """The four arms and eight methods more are told apart by colour, whatever they are called."""
    models = ["teacher", "baseline", "at_1", "kd", "at", "at_kd", *"abcdefg"]
    found = colours(models)
    assert len({found[model].lower() for model in models}) == len(models)


def test_one_config_is_taken(runs: list[Run]) -> None:
    """Students that differ in weights, seed, commit and package versions belong together."""
    runs[4].training.update(commit="b", dirty=True, packages={"torch": "2.16.0"})
    check_one_experiment(runs, {})


def test_training_of_ones_own(runs: list[Run]) -> None:
    """A method differs from the others in what is its own, and in nothing else."""
    for run in runs[3:]:
        set_argument("training_provenance", "batch_size", 64)(run)
    kd_first = runs[:1] + runs[3:] + runs[1:3]
    for order in (runs, kd_first):
        check_one_experiment(order, {"kd": ["batch_size"]})
    other = deepcopy(runs[1])
    set_argument("training_provenance", "batch_size", 128)(other)
    for order in (runs, kd_first):
        with pytest.raises(ValueError, match="batch_size 32, of at, seed 0, 128"):
            check_one_experiment(
                [*order, replace(other, model="at", seed=0)], {"kd": ["batch_size"]}
            )
    for own in ({}, {"kd": ["width"]}, {"baseline": ["width"]}):
        with pytest.raises(ValueError, match="batch_size 32, of kd, seed 0, 64"):
            check_one_experiment(runs, own)
    set_argument("training_provenance", "batch_size", 128)(runs[4])
    with pytest.raises(ValueError, match="batch_size 64, of kd, seed 1, 128"):
        check_one_experiment(runs, {"kd": ["batch_size"]})


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"at": ["batch_size"]}, "found 'at'; allowed: baseline, kd"),
        ({"teacher": ["batch_size"]}, "found 'teacher'; allowed: baseline, kd"),
        ({"kd": ["batch_sise"]}, "kd: found 'batch_sise'; allowed: alpha, batch_size"),
        ({"kd": ["code_digest"]}, "kd: found 'code_digest'"),
    ],
)
def test_own_training_of_nothing(runs: list[Run], own: dict[str, list[str]], said: str) -> None:
    """A method that isn't there and an argument that trainings don't have are named."""
    with pytest.raises(ValueError, match=f"^--own-training.*{said}"):
        check_one_experiment(runs, own)


@pytest.mark.parametrize(
    ("changed", "change", "said"),
    [
        ([4], set_argument("training_provenance", "alpha", 0.5), "alpha 0.9"),
        ([3, 4], set_argument("training_provenance", "batch_size", 64), "batch_size 32"),
        ([2], set_argument("training_provenance", "width", 2), "width 1"),
        ([2], set_argument("training_provenance", "momentum", 0.9), "momentum None"),
        ([3, 4], set_field("training_provenance", "code_digest", "other"), "code_digest"),
        ([0], set_field("training_provenance", "data_sha256", "other"), "data_sha256"),
        ([1, 2, 3, 4], set_field("training_provenance", "data_sha256", "other"), "data_sha256"),
        ([3], set_argument("provenance", "batch_size", 64), "batch_size 128"),
        ([3], set_field("provenance", "code_digest", "other"), "code_digest"),
        ([3], set_field("provenance", "data_sha256", "other"), "data_sha256"),
        ([4], set_field("training_provenance", "teacher", TEACHER | {"seed": 1}), "teacher"),
        ([0], set_argument("training_provenance", "depth", 22), "teacher"),
        ([1, 2, 3, 4], set_argument("training_provenance", "epochs", 3), "2 epochs"),
    ],
)
def test_another_config_is_refused(
    runs: list[Run], changed: list[int], change: Callable[[Run], object], said: str
) -> None:
    """A difference in what decides a result is refused in a line that names it."""
    for number in changed:
        change(runs[number])
    with pytest.raises(ValueError, match=said) as error:
        check_one_experiment(runs, {})
    assert "\n" not in str(error.value)


def test_run_given_twice(runs: list[Run]) -> None:
    """A model and seed count once."""
    with pytest.raises(ValueError, match="kd, seed 1, is given twice"):
        check_one_experiment([*runs, runs[-1]], {})


def test_weights_are_those_of_the_training() -> None:
    """What the students of an experiment may differ in are the weights, all of them."""
    assert set(WEIGHTS) == {field.name for field in fields(Weights)}
