"""The results of one experiment, read for tables and figures."""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

# How the four arms are written in tables and figures; other methods go by their own name.
LABELS = {"teacher": "Teacher", "baseline": "Baseline", "kd": "KD", "at": "AT", "at_kd": "AT+KD"}

# What tables and figures rely on.
METRICS = (
    "images", "top1_accuracy", "per_class_accuracy", "confusion_matrix", "parameters", "provenance",
    "training_provenance",
)  # fmt: skip
COLUMNS = (
    "epoch", "beta", "loss", "cross_entropy", "train_accuracy", "test_accuracy",
    "test_cross_entropy", "seconds",
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One trained model: which it is, its metrics.json and its history.csv."""

    model: str
    seed: int
    metrics: dict[str, Any]
    history: pd.DataFrame

    @property
    def weights(self) -> dict[str, Any]:
        """The arguments that it was trained with."""
        return self.metrics["training_provenance"]["arguments"]


def label(model: str) -> str:
    """Return the name of a model as people read it."""
    return LABELS.get(model, model)


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
    try:
        table = pd.read_csv(history)
    except ValueError as error:
        raise ValueError(f"{history}: damaged: {error}") from error
    absent = [name for name in COLUMNS if name not in table]
    if absent or table.empty:
        raise ValueError(f"{history}: lacks {', '.join(absent) or 'epochs'}; training writes them")
    trained = content["training_provenance"].get("seed")
    if trained != int(seed):
        raise ValueError(f"{metrics}: is of seed {trained}, expected {seed}")
    return Run(model, int(seed), content, table)


def check_one_experiment(runs: list[Run]) -> None:
    """Refuse runs that can't be compared.

    Raises:
        ValueError: two runs are of one model and seed, or runs were made from different data.
    """
    names = [(run.model, run.seed) for run in runs]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name[0]}, seed {name[1]}, is given twice")
    digests = {run.metrics["provenance"]["data_sha256"] for run in runs}
    digests |= {run.metrics["training_provenance"]["data_sha256"] for run in runs}
    if len(digests) > 1:
        raise ValueError(f"the runs were made from different data: {', '.join(sorted(digests))}")


def by_model(runs: list[Run]) -> dict[str, list[Run]]:
    """Group runs by model, in the order in which models first appear."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.model, []).append(run)
    return groups


def add_run_flag(parser: argparse.ArgumentParser, *more: str) -> None:
    """Add --run, given once for each trained model: name, seed, metrics, history, and `more`."""
    names = ("MODEL", "SEED", "METRICS", "HISTORY", *more)
    parser.add_argument(
        "--run", action="append", nargs=len(names), metavar=names, required=True, dest="runs",
        help="a trained model and its files; once for each, in the order of the columns",
    )  # fmt: skip
