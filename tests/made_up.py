"""Runs of a small experiment, made up: what training and evaluation would have written of each."""

import json
from collections.abc import Iterable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from distillation.reporting.trained import Run

IMAGES, CLASSES = 40, 4
STEP = {
    "code_digest": "code", "data_sha256": "data", "packages": {"torch": "2.9.0"},
    "hardware": "a computer", "commit": None, "dirty": None,
    "engine": {"precision": "float32", "compiled": False},
}  # fmt: skip
TERMS: dict[str, dict[str, Any]] = {
    "teacher": {"labels": {"weight": 1}},
    "baseline": {"labels": {"weight": 1}},
    "kd": {"labels": {"weight": 0.1}, "kd": {"weight": 0.9, "temperature": 4}},
    "at": {"labels": {"weight": 1}, "at": {"weight": 1000}},
}
METRICS = {
    "top1_accuracy": ("Test accuracy", "%", 2, True),
    "cross_entropy": ("Test cross-entropy", "nats", 4, False),
    "expected_calibration_error": ("Calibration error", "%", 2, False),
    "teacher_agreement": ("Agreement with the teacher", "%", 2, None),
}


def training(model: str, seed: int, epochs: int = 2) -> dict[str, Any]:
    """Return the provenance of a training."""
    network = {"depth": 16 if model == "teacher" else 10, "width": 1}
    found = STEP | {
        "arguments": {
            "network": {"wrn": network}, "term": TERMS[model], "epochs": epochs, "batch_size": 32,
            "threads": 1,
        },
        "seed": seed,
        "network_title": f"WRN-{network['depth']}-1",
        "code_digest": "code of teachers" if model == "teacher" else "code of students",
        "plugins": {"networks.wrn": "wrn"} | {f"terms.{term}": term for term in TERMS[model]},
    }  # fmt: skip
    if model in ("kd", "at"):
        found["teacher"] = training("teacher", 0)
    return deepcopy(found)


def metrics(
    model: str, seed: int, held_out: bool = False
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return metrics.json of a network, and the arrays of predictions.npz."""
    generator = np.random.default_rng([seed, len(model)])
    labels = np.arange(IMAGES) % CLASSES
    predictions = np.where(generator.random(IMAGES) < 0.7, labels, (labels + 1) % CLASSES)
    by_image = {
        "top1_accuracy": 100.0 * (predictions == labels),
        "cross_entropy": generator.random(IMAGES),
    }
    values = {name: float(array.mean()) for name, array in by_image.items()}
    values |= {"expected_calibration_error": 3.0 + seed, "teacher_agreement": 99.0 + seed / 2}
    confusion = np.zeros((CLASSES, CLASSES), dtype=int)
    np.add.at(confusion, (labels, predictions), 1)
    content = {
        "images": IMAGES,
        "metrics": {
            name: {
                "value": values[name], "label": label, "unit": unit, "decimals": decimals,
                "smallest_difference": 0.5, "higher_is_better": better,
            }
            for name, (label, unit, decimals, better) in METRICS.items()
            if model != "teacher" or name != "teacher_agreement"
        },
        "per_class_accuracy": {f"class {number}": 0.5 for number in range(CLASSES)},
        "confusion_matrix": confusion.tolist(),
        "parameters": 1000, "multiply_accumulates": 2_000_000, "held_out": held_out,
        "latency_milliseconds": 1.5, "checkpoint_bytes": 4_000_000,
        "provenance": STEP | {
            "arguments": {"batch_size": 128, "metric": {name: {} for name in METRICS}},
            "seed": None, "plugins": {},
        },
        "training_provenance": training(model, seed),
    }  # fmt: skip
    return content, {"labels": labels, "predictions": predictions} | by_image


def history(model: str, epochs: int = 2) -> pd.DataFrame:
    """Return history.csv of a network."""
    table = pd.DataFrame({"epoch": range(1, epochs + 1)})
    for name in ("loss", "cross_entropy", "test_cross_entropy"):
        table[name] = 2.0 / table["epoch"]
    for name in ("train_accuracy", "test_accuracy"):
        table[name] = 0.25 * table["epoch"]
    for term, settings in TERMS[model].items():
        table[term], table[f"{term}_weight"] = 0.01 * table["epoch"], settings["weight"]
    return table.assign(seconds=10.0)


def a_run(model: str, seed: int) -> Run:
    """Return a run."""
    return Run(model, seed, metrics(model, seed)[0], history(model))


def maps(stages: int) -> dict[str, np.ndarray]:
    """Return the arrays of attention.npz of a network with so many stages."""
    generator = np.random.default_rng(0)
    return {
        "images": generator.integers(0, 256, (CLASSES, 8, 8, 1), dtype=np.uint8),
        "indices": np.arange(CLASSES), "labels": np.arange(CLASSES),
        "class_names": np.array([f"class {number}" for number in range(CLASSES)]),
        "stages": np.array(stages),
    } | {
        f"mean_square_{stage}": generator.random((CLASSES, 16 >> stage, 16 >> stage))
        for stage in range(1, stages + 1)
    }  # fmt: skip


def write_runs(
    folder: Path, models: Iterable[str], archive: str, held_out: bool = False, brought: bool = False
) -> list[str]:
    """Write a teacher of one seed and students of two; return the flags of --run.

    Args:
        folder: to write to.
        models: which.
        archive: the file that each run has beside its metrics and history, "" for none.
        held_out: whether they were measured on held-out images.
        brought: whether the teacher was trained elsewhere.
    """
    flags = ["--title", "Made up", "--label", "kd", "KD"]
    for model in models:
        for seed in (0,) if model == "teacher" else (0, 1):
            content, arrays = metrics(model, seed, held_out)
            table, record = history(model), content["training_provenance"]
            if brought:
                for each in (record, record.get("teacher", {})):
                    if each.get("code_digest") == "code of teachers":
                        each["arguments"] |= {"epochs": 0, "term": {}}
                        each["source_sha256"] = "of a file"
                if model == "teacher":
                    table = table.iloc[:0]
            if archive == "attention.npz":
                arrays = maps(4 if model == "teacher" else 3)
            place = folder / model / f"seed_{seed}"
            place.mkdir(parents=True, exist_ok=True)
            (place / "metrics.json").write_text(json.dumps(content))
            table.to_csv(place / "history.csv", index=False)
            np.savez(place / (archive or "unused.npz"), allow_pickle=False, **arrays)
            files = ["metrics.json", "history.csv", *([archive] if archive else [])]
            flags += ["--run", model, str(seed), *(str(place / name) for name in files)]
    return flags
