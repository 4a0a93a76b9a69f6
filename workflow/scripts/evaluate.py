r"""Measure a trained network, or several that have one teacher, on the test split.

Inputs: checkpoints, prepared data, and for metrics that compare with a teacher the predictions
that this script wrote for it; without them such metrics are left out. Outputs for each network:
metrics (.json), each with what tables need to know of it, accuracy by class, confusion matrix,
counts, speed and size; and predictions (.npz: logits N x K, labels and predicted classes, in the
order of the test split, and each metric that has a value for each image, so that models can be
compared image by image; where a metric is of training images, their logits and labels too).

Example:
    python workflow/scripts/evaluate.py --data results/data/digits.npz \
        --checkpoint results/digits/kd/seed_0/checkpoint.pt \
        --teacher-predictions results/digits/teacher/seed_0/predictions.npz \
        --metric top1_accuracy --metric teacher_agreement smallest_difference=2 \
        --metrics metrics.json --predictions predictions.npz --device cpu
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distillation.data.dataset import Dataset, read_dataset
from distillation.device import describe_device, images_per_pass, prepare_device
from distillation.measuring.accuracy import confusion_matrix, latency, predict
from distillation.measuring.answers import (
    Answers,
    BySplit,
    arrays_of,
    read_answers,
    spread,
)
from distillation.metrics import measure_metric
from distillation.networks import count_multiply_accumulates, count_parameters
from distillation.record.checkpoint import load_checkpoint
from distillation.record.files import replacing
from distillation.record.provenance import PACKAGES, describe_step
from distillation.settings.arguments import (
    Parser,
    add_flags,
    add_networks,
    add_plugin,
    check_counts,
    run,
    taken,
)
from distillation.settings.measures import Evaluation
from distillation.settings.training import Machine

# As messages name the images of a split.
KINDS: dict[str, str] = {"test": "test", "train": "training"}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(__doc__)
    flag = parser.add_argument
    flag("--data", type=Path, required=True, help="prepared data, .npz")
    add_networks(parser, {"metrics": ".json", "predictions": ".npz"})
    flag("--teacher-predictions", type=Path, help="predictions of the students' teacher, .npz")
    add_plugin(parser, "--metric", "metrics", several=True, required=True)
    add_flags(parser, Evaluation)
    add_flags(parser, Machine)
    return parser.parse_args(argv)


def count_by_class(logits: Tensor, labels: Tensor, dataset: Dataset) -> dict[str, Any]:
    """Return accuracy by class, a fraction, and the confusion matrix."""
    confusion = confusion_matrix(logits, labels)
    per_class = (confusion.diagonal().double() / confusion.sum(dim=1)).tolist()
    return {
        # A class without a test image has no accuracy: null, as JSON knows no NaN.
        "per_class_accuracy": {
            name: None if np.isnan(value) else value
            for name, value in zip(dataset.class_names, per_class, strict=True)
        },
        "confusion_matrix": confusion.tolist(),
    }


def read_teacher(path: Path, answers: BySplit) -> dict[str, Tensor]:
    """Return the teacher's logits (N, K) of the same images, by split.

    Raises:
        ValueError: the predictions are of other images or classes, or aren't finite.
    """
    found = read_answers(path)
    as_here = " with the same labels, by the same --metric and --training-images"
    for split, (logits, labels) in answers.items():
        theirs = found.get(split)
        if theirs is None:
            raise ValueError(f"{path}: has no predictions of training images; expected{as_here}")
        if theirs.logits.shape != logits.shape or not theirs.labels.equal(labels):
            raise ValueError(
                f"{path}: predictions of other images or classes; found "
                f"{tuple(theirs.logits.shape)}, expected {tuple(logits.shape)} of "
                f"{KINDS[split]} images"
                + (as_here if split == "train" else " with the same labels")
            )
        check_finite(path, split, theirs.logits)
    return {split: each.logits for split, each in found.items()}


def check_finite(path: Path, split: str, logits: Tensor) -> None:
    """Refuse logits (N, K) of a file's network that aren't finite; raise `ValueError`."""
    if wrong := int((~logits.isfinite()).any(dim=1).sum()):
        raise ValueError(
            f"{path}: logits of {wrong:,} of {len(logits):,} {KINDS[split]} images hold NaN or "
            f"infinity; allowed: finite numbers"
        )


def main(argv: list[str] | None = None) -> None:
    """Evaluate the networks and write metrics and predictions of each."""
    arguments = parse_args(argv)
    networks = arguments.checkpoint
    check_counts(arguments, len(networks), "metrics", "predictions")
    device = prepare_device(arguments.device, arguments.threads)
    dataset = read_dataset(arguments.data)
    for files in zip(networks, arguments.metrics, arguments.predictions, strict=True):
        evaluate(*files, arguments, dataset, device)


def evaluate(
    checkpoint: Path,
    metrics: Path,
    predictions: Path,
    arguments: argparse.Namespace,
    dataset: Dataset,
    device: torch.device,
) -> None:
    """Evaluate a network and write its metrics and predictions."""
    model, content = load_checkpoint(checkpoint, dataset, device)
    asked = taken(Evaluation, arguments)
    statistics = content["mean"], content["std"]
    at_once = images_per_pass(asked.batch_size, dataset.image_size, device)
    test = dataset.test.to(device)
    answers: dict[str, Answers] = {}
    started = time.perf_counter()
    logits = predict(model, test, *statistics, at_once).cpu()
    seconds = time.perf_counter() - started
    answers["test"] = Answers(logits, dataset.test.labels)
    if any(settings.split == "train" for settings in arguments.metric.values()):
        seen = spread(dataset.train, asked.training_images).to(device)
        found = predict(model, seen, *statistics, at_once).cpu()
        answers["train"] = Answers(found, seen.labels.cpu())
    for split, each in answers.items():
        check_finite(checkpoint, split, each.logits)
    path = arguments.teacher_predictions
    teacher = read_teacher(path, answers) if path else {}
    measured = {
        name: found
        for name, settings in arguments.metric.items()
        if teacher or not settings.needs_teacher
        if (found := measure_metric(name, settings, answers, teacher))
    }
    used = [("networks", family) for family in content["network"]]
    used += [("metrics", name) for name in measured]
    results = {
        "images": len(logits),
        "held_out": dataset.held_out,
        "metrics": {name: metric.entry for name, metric in measured.items()},
        **count_by_class(*answers["test"], dataset),
        "parameters": count_parameters(model),
        "multiply_accumulates": count_multiply_accumulates(
            model, dataset.image_size, dataset.channels
        ),
        "inference_images_per_second": len(logits) / seconds,
        "latency_milliseconds": latency(model, test, *statistics),
        "checkpoint_bytes": checkpoint.stat().st_size,
        "provenance": describe_step(
            arguments,
            (*PACKAGES, "scipy"),
            used,
            data_sha256=dataset.sha256,
            **describe_device(device),
        ),
        "training_provenance": content["provenance"],
    }
    per_image = {name: metric.per_image for name, metric in measured.items()}
    with (
        replacing(metrics) as text,
        replacing(predictions) as archive,
        archive.open("wb") as file,
    ):
        text.write_text(json.dumps(results, indent=2) + "\n")
        np.savez_compressed(
            file, allow_pickle=False, **arrays_of(answers),
            predictions=logits.argmax(dim=1).numpy(),
            **{name: values for name, values in per_image.items() if values is not None},
        )  # fmt: skip
    told = [
        f"{each['label']} {each['value']:.{each['decimals']}f} {each['unit']}".rstrip()
        for each in results["metrics"].values()
    ]
    print(f"{checkpoint}: {', '.join(told)}", flush=True)


if __name__ == "__main__":
    run(main)
