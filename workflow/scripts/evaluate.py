r"""Measure a trained network on the test split.

Inputs: a checkpoint, prepared data, and for a student the predictions that this script wrote for
its teacher. Outputs: metrics (.json: accuracies and agreement as fractions, cross-entropy and KL
in nats) and predictions (.npz: logits N x K, labels and predicted classes, in the order of the
test split, so that models can be compared image by image).

Example:
    python workflow/scripts/evaluate.py --data results/data/digits.npz \
        --checkpoint results/digits/kd/seed_0/checkpoint.pt \
        --teacher-predictions results/digits/teacher/seed_0/predictions.npz \
        --metrics metrics.json --predictions predictions.npz --batch-size 128 --device cpu
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from distillation.arguments import Parser, number, run
from distillation.arrays import read_arrays
from distillation.checkpoint import load_checkpoint
from distillation.data import Dataset, read_dataset
from distillation.device import describe_device, prepare_device
from distillation.evaluation import (
    agreement,
    confusion_matrix,
    divergence_from_teacher,
    expected_calibration_error,
    predict,
    top_k_accuracy,
)
from distillation.files import replacing
from distillation.models import count_multiply_accumulates, count_parameters
from distillation.provenance import PACKAGES, describe_step


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(__doc__)
    flag = parser.add_argument
    flag("--data", type=Path, required=True, help="prepared data, .npz")
    flag("--checkpoint", type=Path, required=True, help="the network, .pt")
    flag("--teacher-predictions", type=Path, help="predictions of the student's teacher, .npz")
    flag("--metrics", type=Path, required=True, help="output, .json")
    flag("--predictions", type=Path, required=True, help="output, .npz")
    flag("--batch-size", type=number(int, 1), required=True, help="images per pass, from 1")
    flag("--device", choices=("cpu", "cuda"), required=True, help="where to run")
    flag("--threads", type=number(int, 1), default=1, help="of torch on a CPU")
    return parser.parse_args(argv)


def measure(logits: torch.Tensor, labels: torch.Tensor, dataset: Dataset) -> dict[str, Any]:
    """Return the measures of the predictions alone."""
    confusion = confusion_matrix(logits, labels)
    per_class = (confusion.diagonal().double() / confusion.sum(dim=1)).tolist()
    return {
        "images": len(labels),
        "top1_accuracy": top_k_accuracy(logits, labels, 1),
        "top5_accuracy": top_k_accuracy(logits, labels, 5),
        "cross_entropy": functional.cross_entropy(logits.double(), labels).item(),
        "expected_calibration_error": expected_calibration_error(logits, labels),
        # A class without a test image has no accuracy: null, as JSON knows no NaN.
        "per_class_accuracy": {
            name: None if np.isnan(value) else value
            for name, value in zip(dataset.class_names, per_class, strict=True)
        },
        "confusion_matrix": confusion.tolist(),
    }


def compare_with_teacher(
    path: Path, logits: torch.Tensor, labels: torch.Tensor
) -> dict[str, float]:
    """Return top-1 agreement and KL to the teacher, whose predictions `path` holds.

    Raises:
        ValueError: the predictions are of other images or classes.
    """
    arrays = read_arrays(path, ("logits", "labels"))
    if arrays["logits"].shape != tuple(logits.shape) or not np.array_equal(
        arrays["labels"], labels
    ):
        raise ValueError(
            f"{path}: predictions of other images or classes; found {arrays['logits'].shape}, "
            f"expected {tuple(logits.shape)} with the same labels"
        )
    teacher_logits = torch.from_numpy(arrays["logits"])
    return {
        "teacher_agreement": agreement(logits, teacher_logits),
        "teacher_divergence": divergence_from_teacher(logits, teacher_logits),
    }


def main(argv: list[str] | None = None) -> None:
    """Evaluate the network and write metrics and predictions."""
    arguments = parse_args(argv)
    device = prepare_device(arguments.device, arguments.threads)
    dataset = read_dataset(arguments.data)
    model, content = load_checkpoint(arguments.checkpoint, dataset, device)
    split = dataset.test.to(device)
    started = time.perf_counter()
    logits = predict(model, split, content["mean"], content["std"], arguments.batch_size).cpu()
    seconds = time.perf_counter() - started
    labels = dataset.test.labels
    metrics = measure(logits, labels, dataset)
    if arguments.teacher_predictions:
        metrics |= compare_with_teacher(arguments.teacher_predictions, logits, labels)
    metrics |= {
        "parameters": count_parameters(model),
        "multiply_accumulates": count_multiply_accumulates(model, dataset.image_size),
        "inference_images_per_second": len(labels) / seconds,
        "provenance": describe_step(
            arguments, PACKAGES, data_sha256=dataset.sha256, **describe_device(device)
        ),
        "training_provenance": content["provenance"],
    }
    with replacing(arguments.metrics) as text, replacing(arguments.predictions) as archive:
        text.write_text(json.dumps(metrics, indent=2) + "\n")
        np.savez_compressed(
            archive, allow_pickle=False, logits=logits.numpy(), labels=labels.numpy(),
            predictions=logits.argmax(dim=1).numpy(),
        )  # fmt: skip
    print(
        f"{arguments.checkpoint}: top-1 {metrics['top1_accuracy']:.2%}, "
        f"cross-entropy {metrics['cross_entropy']:.4f}",
        flush=True,
    )


if __name__ == "__main__":
    run(main)
