"""Fashion-MNIST (Xiao et al. 2017, arXiv 1708.07747), from its official archives."""

from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field
from torchvision.datasets import FashionMNIST

from distillation.data.archives import read_official
from distillation.settings.base import Sizes
from distillation.settings.data import OfficialSettings


class Settings(OfficialSettings):
    """Fashion-MNIST: 70,000 grey images in 10 classes, padded from 28 x 28 to 32 x 32 pixels."""

    masks: ClassVar[Literal["stored", "above_zero", "none"]] = "above_zero"

    channels: Literal[1, 3] = Field(1, description="1 is grey; 3 repeats it as RGB")

    def source_sizes(self) -> Sizes:
        """Return counts and shape of the images."""
        return Sizes(train=60_000, test=10_000, side=32, channels=self.channels, classes=10)


def read(settings: Settings, folder: Path, threads: int) -> dict[str, np.ndarray]:  # noqa: ARG001
    """Return the arrays of both splits; for errors see `fetch_archives`."""
    archives = [
        (file, md5, [mirror + file for mirror in FashionMNIST.mirrors])
        for file, md5 in FashionMNIST.resources
    ]
    # Where torchvision looks for them.
    place = folder / "FashionMNIST" / "raw"
    arrays = read_official(FashionMNIST, archives, settings.source, folder, place)
    for split in ("train", "test"):
        padded = np.pad(arrays[f"{split}_images"], ((0, 0), (2, 2), (2, 2)))
        arrays[f"{split}_images"] = padded[..., None].repeat(settings.channels, axis=3)
    return arrays
