"""The results of one experiment, read for tables and figures."""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

# How the four arms are written in tables and figures; other methods go by their own name.
LABELS = {"teacher": "Teacher", "baseline": "Baseline", "kd": "KD", "at": "AT", "at_kd": "AT+KD"}

# One colour per method everywhere, told apart by the colour-blind.
# Okabe and Ito 2008, "Color Universal Design".
COLOURS = {
    "teacher": "#000000",
    "baseline": "#E69F00",
    "kd": "#0072B2",
    "at": "#009E73",
    "at_kd": "#CC79A7",
}
# For methods that the config adds; from the fifth on of Paul Tol's "muted" scheme (2021, "Colour
# Schemes", SRON/EPS/TN/09-002).
OTHER_COLOURS = (
    "#D55E00", "#56B4E9", "#8C6D31", "#7F7F7F", "#882255", "#332288", "#999933", "#44AA99",
)  # fmt: skip

# What tables and figures rely on.
METRICS = (
    "images", "top1_accuracy", "per_class_accuracy", "confusion_matrix", "parameters", "provenance",
    "training_provenance",
)  # fmt: skip
PROVENANCE = (
    "arguments", "seed", "code_digest", "data_sha256", "packages", "hardware", "commit", "dirty",
)  # fmt: skip
COLUMNS = (
    "epoch", "beta", "loss", "cross_entropy", "train_accuracy", "test_accuracy",
    "test_cross_entropy", "seconds",
)  # fmt: skip


# In what the students of one experiment differ: the fields of training.Weights.
WEIGHTS = (
    "alpha", "temperature", "kl_reduction", "beta", "beta_schedule", "at_mode", "collapse",
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One trained model: which it is, its metrics.json and its history.csv."""

    model: str
    seed: int
    metrics: dict[str, Any]
    history: pd.DataFrame

    @property
    def training(self) -> dict[str, Any]:
        """The provenance of its training."""
        return self.metrics["training_provenance"]


def label(model: str) -> str:
    """Return the name of a model as people read it."""
    return LABELS.get(model, model)


def colours(models: list[str]) -> dict[str, str]:
    """Give each model its colour; methods that the config adds take the others in turn."""
    added = [model for model in models if model not in COLOURS]
    return COLOURS | {
        model: OTHER_COLOURS[position % len(OTHER_COLOURS)] for position, model in enumerate(added)
    }


def read_run(model: str, seed: str, metrics: str, history: str) -> Run:
    """Read the files of one run.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged, or `seed` isn't the one of the training.
    """
    if not seed.isdecimal():
        raise ValueError(f"--run {model} {seed}: seed is {seed!r}; allowed: a whole number from 0")
    for file in (metrics, history):
        if not Path(file).is_file():
            raise FileNotFoundError(f"{file}: no such file")
    try:
        content = json.loads(Path(metrics).read_text())
    except ValueError as error:
        raise ValueError(f"{metrics}: damaged: {error}") from error
    missing = [name for name in METRICS if not isinstance(content, dict) or name not in content]
    if missing:
        raise ValueError(f"{metrics}: lacks {', '.join(missing)}; evaluate.py writes them")
    for step, more in (("provenance", ()), ("training_provenance", ("engine",))):
        missing = [name for name in (*PROVENANCE, *more) if name not in content[step]]
        if missing:
            raise ValueError(f"{metrics}: {step} lacks {', '.join(missing)}")
    try:
        table = pd.read_csv(history)
    except ValueError as error:
        raise ValueError(f"{history}: damaged: {error}") from error
    absent = [name for name in COLUMNS if name not in table]
    if absent or table.empty:
        raise ValueError(f"{history}: lacks {', '.join(absent) or 'epochs'}; training writes them")
    trained = content["training_provenance"]["seed"]
    if trained != int(seed):
        raise ValueError(f"{metrics}: is of seed {trained}, expected {seed}")
    return Run(model, int(seed), content, table)


def check_one_experiment(runs: list[Run], own_training: dict[str, list[str]]) -> None:
    """Refuse runs that don't belong to one config, one code and one data set.

    Args:
        runs: all trained models of the experiment.
        own_training: for each method that has some, the arguments of the training in which it may
            differ from the other students.

    Raises:
        ValueError: two runs are of one model and seed; data or evaluation differ; seeds of a model
            were trained in different ways, or students in more than their weights and what is
            their own; a student's teacher isn't among the runs; a history hasn't the epochs of its
            training; `own_training` names what isn't a student, or isn't an argument of training.
    """
    names = [(run.model, run.seed) for run in runs]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name[0]}, seed {name[1]}, is given twice")
    check_same(runs, "training", lambda run: {"data_sha256": run.training["data_sha256"]})
    check_same(runs, "evaluation", lambda run: decisive(run.metrics["provenance"]))
    for group in by_model(runs).values():
        check_same(group, "training", lambda run: decisive(run.training))
    students = [run for run in runs if run.model != "teacher"]
    check_own_training(students, own_training)
    own = {name for names in own_training.values() for name in names}
    check_same(students, "training", lambda run: decisive(run.training, leave_out=(*WEIGHTS, *own)))
    for name in sorted(own):
        others = [run for run in students if name not in own_training.get(run.model, [])]
        check_same(others, "training", lambda run, name=name: {name: arguments_of(run)[name]})
    teachers = [run.training for run in runs if run.model == "teacher"]
    for run in runs:
        if "teacher" in run.training and run.training["teacher"] not in teachers:
            raise ValueError(
                f"the models aren't of one config: {run.model}, seed {run.seed}, learnt from a "
                f"teacher that isn't among them"
            )
        epochs = run.training["arguments"]["epochs"]
        if len(run.history) != epochs:
            raise ValueError(
                f"{run.model}, seed {run.seed}: the history has {len(run.history)} epochs, the "
                f"training {epochs}"
            )


def check_own_training(students: list[Run], own_training: dict[str, list[str]]) -> None:
    """Refuse methods that aren't among the students, and arguments that trainings don't have.

    Raises:
        ValueError: there is one; it is named with what is allowed.
    """
    known = {run.model: arguments_of(run) for run in students}
    for method, names in own_training.items():
        if method not in known:
            raise ValueError(f"--own-training: found {method!r}; allowed: {', '.join(known)}")
        for name in names:
            if name not in known[method]:
                allowed = ", ".join(sorted(known[method]))
                raise ValueError(f"--own-training {method}: found {name!r}; allowed: {allowed}")


def arguments_of(run: Run) -> dict[str, Any]:
    """Return the arguments of a training."""
    return run.training["arguments"]


def decisive(provenance: dict[str, Any], leave_out: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return what the config, the code and the data gave to a step, by name."""
    found = provenance["arguments"] | {
        name: provenance[name] for name in ("code_digest", "data_sha256")
    }
    return {name: value for name, value in found.items() if name not in leave_out}


def check_same(runs: list[Run], what: str, read: Callable[[Run], dict[str, Any]]) -> None:
    """Refuse runs that differ in a value that `read` returns.

    Raises:
        ValueError: two values of one name differ; both are named.
    """
    for run in runs[1:]:
        first, second = read(runs[0]), read(run)
        for name in sorted(first.keys() | second.keys()):
            if first.get(name) != second.get(name):
                raise ValueError(
                    f"the models aren't of one config: {what} of {runs[0].model}, seed "
                    f"{runs[0].seed}, had {name} {first.get(name)!r}, of {run.model}, seed "
                    f"{run.seed}, {second.get(name)!r}"
                )


def by_model(runs: list[Run]) -> dict[str, list[Run]]:
    """Group runs by model, in the order in which models first appear."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.model, []).append(run)
    return groups


def add_run_flags(parser: argparse.ArgumentParser, *more: str) -> None:
    """Add --run, given once for each trained model with its files, and --own-training."""
    names = ("MODEL", "SEED", "METRICS", "HISTORY", *more)
    parser.add_argument(
        "--run", action="append", nargs=len(names), metavar=names, required=True, dest="runs",
        help="a trained model and its files; once for each, in the order of the columns",
    )  # fmt: skip
    parser.add_argument(
        "--own-training", action="append", nargs="+", metavar=("METHOD", "ARGUMENT"), default=[],
        help="a method, and in which arguments its training may differ from the others'",
    )  # fmt: skip


def read_runs(arguments: argparse.Namespace) -> list[Run]:
    """Read the files of all --run, which are of one experiment.

    Raises:
        FileNotFoundError, ValueError: see `read_run` and `check_one_experiment`.
    """
    runs = [read_run(*values[:4]) for values in arguments.runs]
    check_one_experiment(runs, own_training(arguments))
    return runs


def own_training(arguments: argparse.Namespace) -> dict[str, list[str]]:
    """Return what --own-training says, by method."""
    own: dict[str, list[str]] = {}
    for method, *names in arguments.own_training:
        own.setdefault(method, []).extend(names)
    return own
