"""A teacher's logits for every view of every training image, computed once for all students."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distillation.arrays import read_arrays
from distillation.data import Dataset, augment, count_views, normalise
from distillation.engine import Engine, Networks
from distillation.models import WideResNet

ARRAYS = ("logits", "padding", "flip", "provenance")


@dataclass(frozen=True)
class Targets:
    """Logits (N, V, K) in float16 of N training images in V views, and the teacher's provenance."""

    logits: Tensor
    provenance: dict[str, Any]


def tabulate(
    teacher: WideResNet, dataset: Dataset, padding: int, flip: bool, batch_size: int, engine: Engine
) -> Tensor:
    """Return the teacher's logits (N, V, K) of all views, in float16, numbered by view_number."""
    networks = Networks(teacher, None, engine)
    images = dataset.train.images
    side = 2 * padding + 1
    table = torch.empty(
        len(images), count_views(padding, flip), len(dataset.class_names), dtype=torch.float16
    )
    for view in range(table.shape[1]):
        mirrored, place = divmod(view, side**2)
        offset = torch.tensor([divmod(place, side)], device=images.device)
        flipped = torch.tensor([bool(mirrored)], device=images.device)
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size]
            seen = augment(batch, padding, offset.expand(len(batch), 2), flipped.expand(len(batch)))
            with torch.inference_mode():
                logits, _ = networks.ask_student(normalise(seen, dataset.mean, dataset.std))
            table[start : start + batch_size, view] = logits.half().cpu()
    return table


def read_targets(path: Path, dataset: Dataset, padding: int, flip: bool) -> Targets:
    """Read what tabulate_targets.py wrote, for training on `dataset` with this augmentation.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or of other images, classes or views.
    """
    arrays = read_arrays(path, ARRAYS)
    found = (int(arrays["padding"]), bool(arrays["flip"]))
    if found != (padding, flip):
        raise ValueError(
            f"{path}: of views with padding {found[0]} and flip {found[1]}; expected {padding} and "
            f"{flip}"
        )
    provenance = json.loads(str(arrays["provenance"]))
    if provenance["data_sha256"] != dataset.sha256:
        raise ValueError(f"{path}: of other training images")
    shape = (len(dataset.train.labels), count_views(padding, flip), len(dataset.class_names))
    if arrays["logits"].shape != shape:
        raise ValueError(f"{path}: logits are {arrays['logits'].shape}; expected {shape}")
    return Targets(torch.from_numpy(arrays["logits"]), provenance)
