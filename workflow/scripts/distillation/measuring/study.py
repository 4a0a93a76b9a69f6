"""Which networks' attention is measured side by side, on which data, with what settings.

A value is named by the network's method, the maps that it is of (stage, collapse and point) and the
metric. Letters: see measuring/attention.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from distillation.data.dataset import Dataset, normalise
from distillation.device import images_per_pass
from distillation.measuring.bootstrap import PoissonBootstrap
from distillation.measuring.subjects import Subject
from distillation.networks import Network
from distillation.numerics import Collapse, collapse_channels
from distillation.settings.measures import AttentionMeasures

# A stage's raw output, as attention transfer takes it, and after what follows it in the network.
POINTS = BEFORE, AFTER = "before_activation", "after_activation"
# What is drawn at random, each from the seed and its place here: no two share their numbers.
DRAWS = ("order", "noise_images", "cells")


class Key(NamedTuple):
    """Which maps of a network: the stage, from 1, how channels collapse, and the point."""

    stage: int
    collapse: str
    point: str


Maps = dict[Key, np.ndarray]


class Name(NamedTuple):
    """What a value is: whose, of which maps, which metric."""

    method: str
    key: Key
    metric: str


# Of each value, that of an image or a vector, which its mean over images is computed from.
Values = dict[Name, np.ndarray]
Sums = PoissonBootstrap[Name]


@dataclass(frozen=True)
class Study:
    """What is measured: which networks, beside which teacher, on which data, with what settings."""

    subjects: list[Subject]
    teacher: Network | None
    dataset: Dataset
    masks: np.ndarray | None
    settings: AttentionMeasures
    device: torch.device

    @property
    def at_once(self) -> int:
        """Images of a pass."""
        side = self.dataset.image_size
        return images_per_pass(self.settings.batch_size, side, self.device)

    def normalise(self, images: Tensor) -> Tensor:
        """Map images (N, S, S, C) to what the networks take, on their device."""
        return normalise(images.to(self.device), self.dataset.mean, self.dataset.std)

    def maps(self, model: Network, images: Tensor, method: str) -> Maps:
        """Return the maps that the settings name, see `take_maps`."""
        return take_maps(model, images, self.settings.collapses, method)

    def generator(self, what: str) -> np.random.Generator:
        """Return the source of one of the DRAWS."""
        return np.random.default_rng([self.settings.bootstrap_seed, DRAWS.index(what)])


@torch.inference_mode()
def take_maps(model: Network, images: Tensor, collapses: Sequence[Collapse], method: str) -> Maps:
    """Return the maps of all stages, collapses and points, in float64.

    Raises:
        FloatingPointError: a map isn't finite; the network's method is named.
    """
    stages = model(images).stages
    maps = {}
    for place, outputs in enumerate(zip(stages, model.activated(stages), strict=True), 1):
        for collapse in collapses:
            for point, output in zip(POINTS, outputs, strict=True):
                found = collapse_channels(output, collapse).cpu().numpy()
                if not np.isfinite(found).all():
                    raise FloatingPointError(
                        f"{method}: maps of stage {place}, {collapse}, aren't finite"
                    )
                maps[Key(place, collapse, point)] = found.astype(np.float64)
    return maps
