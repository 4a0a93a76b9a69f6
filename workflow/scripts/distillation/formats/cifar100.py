"""CIFAR-100 (Krizhevsky 2009), from its official archive."""

from pathlib import Path

import numpy as np
from torchvision.datasets import CIFAR100

from distillation.data.archives import cifar_archives, read_official
from distillation.settings.base import Sizes
from distillation.settings.data import OfficialSettings


class Settings(OfficialSettings):
    """CIFAR-100: 60,000 RGB images of 32 x 32 pixels in 100 classes."""

    def source_sizes(self) -> Sizes:
        """Return counts and shape of the images."""
        return Sizes(train=50_000, test=10_000, side=32, channels=3, classes=100)


def read(settings: Settings, folder: Path, threads: int) -> dict[str, np.ndarray]:  # noqa: ARG001
    """Return the arrays of both splits; for errors see `fetch_archives`."""
    return read_official(CIFAR100, cifar_archives(CIFAR100), settings.source, folder, folder)
