"""A teacher's logits for every view of every training image, computed once for all students."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distillation.data.arrays import read_arrays
from distillation.data.dataset import Dataset, count_views

ARRAYS = ("logits", "padding", "flip", "provenance")


def read_targets(
    path: Path, dataset: Dataset, padding: int, flip: bool
) -> tuple[Tensor, dict[str, Any]]:
    """Read what tabulate_targets.py wrote, for training on `dataset` with this augmentation.

    Returns:
        Logits (N, V, K) in float16 of N training images in V views, and the table's provenance.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or of other images, classes or views.
    """
    arrays = read_arrays(path, ARRAYS)
    try:
        found = (int(arrays["padding"].item()), bool(arrays["flip"].item()))
        provenance = json.loads(str(arrays["provenance"]))
        known = {"data_sha256", "teacher"} <= provenance.keys()
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path}: damaged: {error}") from error
    if not known or arrays["logits"].dtype != np.float16:
        raise ValueError(f"{path}: not a table that tabulate_targets.py wrote")
    if found != (padding, flip):
        raise ValueError(
            f"{path}: of views with padding {found[0]} and flip {found[1]}; expected {padding} and "
            f"{flip}"
        )
    if provenance["data_sha256"] != dataset.sha256:
        raise ValueError(f"{path}: of other training images")
    shape = (len(dataset.train.labels), count_views(padding, flip), len(dataset.class_names))
    if arrays["logits"].shape != shape:
        raise ValueError(f"{path}: logits are {arrays['logits'].shape}; expected {shape}")
    return torch.from_numpy(arrays["logits"]), provenance
