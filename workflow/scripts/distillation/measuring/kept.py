"""What is kept of networks beside the code, and their metrics computed from it again.

Of each network that is metrics.json without what other files of a study tell, and the labels and
logits of the test images, and of training images where a metric is of these. Logits are less the
largest of their image, which changes no probability, and in float16: so those that decide are the
closest to 0, where float16 is finest. Where it doesn't reach as far, they are in float32.
Letters: N images, K classes.
"""

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
from torch import Tensor

from distillation.measuring.answers import PREFIXES, read_answers
from distillation.metrics import measure_metric
from distillation.reporting.predictions import confusion
from distillation.reporting.results import TEACHER
from distillation.reporting.trained import read_json
from distillation.settings import plugins
from distillation.settings.base import MetricSettings, checked

FILES = ("metrics.json", "predictions.npz")
# In provenance.json, or computed from the predictions.
LEFT_OUT = ("provenance", "training_provenance", "confusion_matrix")


def keep(network: Path, folder: Path) -> None:
    """Write to a folder what is kept of a network."""
    metrics, predictions = (network / name for name in FILES)
    content = read_json(metrics)
    arrays = {}
    for split, (logits, labels) in read_answers(predictions).items():
        prefix = PREFIXES[split]
        arrays[f"{prefix}logits"] = halved(logits.numpy())
        arrays[f"{prefix}labels"] = labels.numpy().astype(np.min_scalar_type(labels.max().item()))
    folder.mkdir(parents=True)
    kept = {name: value for name, value in content.items() if name not in LEFT_OUT}
    (folder / metrics.name).write_text(json.dumps(kept, indent=2) + "\n")
    np.savez_compressed(folder / predictions.name, allow_pickle=False, **arrays)


def halved(logits: np.ndarray) -> np.ndarray:
    """Return logits (N, K) less the largest of their image, in float16 if that reaches as far.

    A network that hardly learnt may have logits further apart: in float32.
    """
    less = logits - logits.max(axis=1, keepdims=True)
    return less.astype(np.float16 if -less.min() <= np.finfo(np.float16).max else np.float32)


def is_kept(folder: Path, run: dict[str, Any]) -> bool:
    """Tell whether there is anything of a run of provenance.json in a study's folder."""
    return place_of(folder, run).is_dir()


def place_of(folder: Path, run: dict[str, Any]) -> Path:
    """Return where a study's folder has what is kept of a run."""
    return folder / run["model"] / f"seed_{run['seed']}"


def measure_kept(
    folder: Path, run: dict[str, Any], runs: list[dict[str, Any]]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return metrics.json of a run, measured again, and each metric's values (N,) if it has some.

    A metric that there is no more isn't among them.

    Raises:
        FileNotFoundError, ValueError: a file is missing or damaged.
    """
    place, (metrics, predictions) = place_of(folder, run), FILES
    content = read_json(place / metrics)
    answers = read_answers(place / predictions)
    teacher = teacher_of(run, runs)
    taught = read_answers(place_of(folder, teacher) / predictions) if teacher else {}
    theirs: dict[str, Tensor] = {split: each.logits for split, each in taught.items()}
    entries, per_image = {}, {}
    for name in (each for each in content["metrics"] if each in plugins.names("metrics")):
        kind = cast(type[MetricSettings], plugins.declared("metrics", name))
        settings = checked(kind, run["evaluation"]["arguments"]["metric"][name], name)
        if found := measure_metric(name, settings, answers, theirs):
            entries[name] = content["metrics"][name] | {"value": found.entry["value"]}
            if found.per_image is not None:
                per_image[name] = found.per_image
    logits, labels = answers["test"]
    counts = confusion(labels.numpy(), logits.argmax(dim=1).numpy(), logits.shape[1])
    return content | {"metrics": entries, "confusion_matrix": counts}, per_image


def teacher_of(run: dict[str, Any], runs: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the teacher that a run of provenance.json was compared with, if it has one.

    One that learnt from none was compared with the experiment's, of its seed where there are more.
    """
    if run["role"] == "teacher":
        return None
    teachers = [one for one in runs if one["role"] == "teacher"]
    if taught := run["training"].get("teacher"):
        return next(one for one in teachers if one["training"] == taught)
    others = [one for one in teachers if one["model"] == TEACHER]
    same = [one for one in others if one["seed"] == run["seed"]]
    return next(iter(others if len(others) == 1 else same), None)
