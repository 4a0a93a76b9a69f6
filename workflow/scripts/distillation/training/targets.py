"""A teacher's logits for every view of every training image, computed once for all students."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distillation.data.arrays import read_arrays
from distillation.data.dataset import Dataset, count_views
from distillation.settings.training import VIEWS, Protocol

ARRAYS = ("logits", *VIEWS, "provenance")


def read_targets(path: Path, dataset: Dataset, protocol: Protocol) -> tuple[Tensor, dict[str, Any]]:
    """Read what tabulate_targets.py wrote, for training on `dataset` by this protocol.

    Returns:
        Logits (N, V, K) in float16 of N training images in V views, and the table's provenance.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or of other images, classes or views.
    """
    arrays = read_arrays(path, ARRAYS)
    try:
        found = {name: arrays[name].item() for name in VIEWS}
        provenance = json.loads(str(arrays["provenance"]))
        known = {"data_sha256", "teacher"} <= provenance.keys()
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path}: damaged: {error}") from error
    if not known or arrays["logits"].dtype != np.float16:
        raise ValueError(f"{path}: not a table that tabulate_targets.py wrote")
    asked = {name: getattr(protocol, name) for name in VIEWS}
    if found != asked:
        words = (", ".join(f"{name} {value}" for name, value in each.items())
                 for each in (found, asked))  # fmt: skip
        raise ValueError(f"{path}: of views with {next(words)}; expected {next(words)}")
    if provenance["data_sha256"] != dataset.sha256:
        raise ValueError(f"{path}: of other training images")
    shape = (
        len(dataset.train.labels),
        count_views(protocol.padding, protocol.flip),
        len(dataset.class_names),
    )
    if arrays["logits"].shape != shape:
        raise ValueError(f"{path}: logits are {arrays['logits'].shape}; expected {shape}")
    return torch.from_numpy(arrays["logits"]), provenance
