"""What a network answers: logits and labels of the test images, and of some training images.

Letters: N images, K classes. predictions.npz has those of the test images as logits and labels,
those of training images as train_logits and train_labels.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from distillation.data.arrays import read_arrays
from distillation.data.dataset import Split

# What stands before the names of a split's arrays.
PREFIXES: dict[str, str] = {"test": "", "train": "train_"}


class Answers(NamedTuple):
    """Logits (N, K) in float32 and labels (N,) in int64 of a split's images, in their order."""

    logits: Tensor
    labels: Tensor


BySplit = Mapping[str, Answers]


def spread(split: Split, count: int) -> Split:
    """Return that many images of a split, or all where there are fewer, evenly spread over it."""
    chosen = np.linspace(0, len(split.labels) - 1, min(count, len(split.labels))).astype(int)
    return Split(split.images[chosen], split.labels[chosen])


def arrays_of(answers: BySplit) -> dict[str, np.ndarray]:
    """Return the arrays that predictions.npz holds of answers."""
    return {
        f"{PREFIXES[split]}{name}": values.numpy()
        for split, each in answers.items()
        for name, values in each._asdict().items()
    }


def read_answers(path: Path) -> dict[str, Answers]:
    """Read the answers of a network from a file that holds those of the test images at least.

    Raises:
        FileNotFoundError, ValueError: see `read_arrays`.
    """
    arrays = read_arrays(path, ("logits", "labels"))
    return {
        split: Answers(
            torch.from_numpy(arrays[f"{prefix}logits"]).float(),
            torch.from_numpy(arrays[f"{prefix}labels"]).long(),
        )
        for split, prefix in PREFIXES.items()
        if f"{prefix}logits" in arrays and f"{prefix}labels" in arrays
    }
