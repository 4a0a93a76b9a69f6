"""One trained model: its metrics.json and its history.csv, read."""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

# What tables and figures rely on.
METRICS = (
    "images", "metrics", "per_class_accuracy", "confusion_matrix", "parameters",
    "multiply_accumulates", "latency_milliseconds", "checkpoint_bytes", "held_out", "provenance",
    "training_provenance",
)  # fmt: skip
PROVENANCE = (
    "arguments", "seed", "code_digest", "plugins", "data_sha256", "packages", "hardware", "commit",
    "dirty",
)  # fmt: skip
COLUMNS = (
    "epoch", "loss", "cross_entropy", "train_accuracy", "test_accuracy", "test_cross_entropy",
    "seconds",
)  # fmt: skip

# In place of the epochs of a network that was brought.
ELSEWHERE = "trained elsewhere"


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

    @property
    def evaluation(self) -> dict[str, Any]:
        """The provenance of its evaluation."""
        return self.metrics["provenance"]

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of its training."""
        return self.training["arguments"]

    @property
    def terms(self) -> dict[str, Any]:
        """The terms of its objective with their settings, by name."""
        return self.arguments["term"]

    @property
    def epochs(self) -> str:
        """How many epochs it was trained for, or that it was trained elsewhere."""
        return ELSEWHERE if brought(self.training) else str(len(self.history))

    def __str__(self) -> str:
        """Return how messages name it."""
        return f"{self.model}, seed {self.seed}"


def brought(training: Mapping[str, Any]) -> bool:
    """Return whether the provenance of a training is of a network that was trained elsewhere."""
    return "source_sha256" in training


def read_run(model: str, seed: str, metrics: str, history: str) -> Run:
    """Read the files of one run.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged, or `seed` isn't the one of the training.
    """
    if not seed.isdecimal():
        raise ValueError(f"--run {model} {seed}: seed is {seed!r}; allowed: a whole number from 0")
    content, table = read_json(Path(metrics)), read_table(Path(history))
    check_has(f"{metrics}:", content, METRICS, "; evaluate.py writes them")
    for step, more in (("provenance", ()), ("training_provenance", ("engine",))):
        check_has(f"{metrics}: {step}", content[step], (*PROVENANCE, *more))
    for name, entry in content["metrics"].items():
        check_has(f"{metrics}: {name}", entry, ["value"])
        if not math.isfinite(entry["value"]):
            raise ValueError(f"{metrics}: {name} is {entry['value']}; allowed: a finite number")
    arguments = content["training_provenance"]["arguments"]
    check_has(f"{metrics}: arguments of training", arguments, ("network", "term", "epochs"))
    # A network that was trained elsewhere, or not at all, has no epochs here, and terms no values.
    terms = [f"{term}{end}" for term in arguments["term"] for end in ("", "_weight")]
    check_has(
        f"{history}:", table, (*COLUMNS, *terms * bool(arguments["epochs"])),
        "; training writes them",
    )  # fmt: skip
    if table.empty and arguments["epochs"]:
        raise ValueError(f"{history}: lacks epochs; training writes them")
    trained = content["training_provenance"]["seed"]
    if trained != int(seed):
        raise ValueError(f"{metrics}: is of seed {trained}, expected {seed}")
    return Run(model, int(seed), content, table)


def read_json(file: Path) -> Any:
    """Read a JSON file; see `read_file`."""
    return read_file(file, json.load)


def read_table(file: Path, **how: Any) -> pd.DataFrame:
    """Read a CSV file; see `read_file`."""
    return read_file(file, partial(pd.read_csv, **how))


def read_file(file: Path, read: Callable[[Any], Any]) -> Any:
    """Read a file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file")
    try:
        with file.open() as opened:
            return read(opened)
    except ValueError as error:
        raise ValueError(f"{file}: damaged: {error}") from error


def check_has(where: str, found: Any, names: Iterable[str], end: str = "") -> None:
    """Refuse a map or table that lacks one of these names.

    Raises:
        ValueError: it does, or is neither.
    """
    known = found if isinstance(found, dict | pd.DataFrame) else ()
    if missing := [name for name in names if name not in known]:
        raise ValueError(f"{where} lacks {', '.join(missing)}{end}")


def training_jobs(runs: list[Run]) -> list[float]:
    """Return the seconds of each job that trained, whose students all have its times."""
    jobs = {(run.seed, *run.history["seconds"]) for run in runs if not run.history.empty}
    return [sum(seconds) for _, *seconds in jobs]


def by_model(runs: list[Run]) -> dict[str, list[Run]]:
    """Group runs by model, in the order in which models first appear."""
    return {model: [run for run in runs if run.model == model]
            for model in dict.fromkeys(run.model for run in runs)}  # fmt: skip
