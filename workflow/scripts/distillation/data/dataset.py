"""Prepared data: read, check, and turn into views.

Images stay uint8 in memory, (N, H, W, C); a batch is cropped, flipped and normalised in a few
tensor operations on the device that trains.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from distillation.data.arrays import digest_arrays, read_arrays
from distillation.settings.training import Border

ARRAYS = (
    "train_images",
    "train_labels",
    "test_images",
    "test_labels",
    "class_names",
    "mean",
    "std",
)


@dataclass(frozen=True)
class Split:
    """Images (N, H, W, C) as uint8 and labels (N,) as int64, on one device."""

    images: Tensor
    labels: Tensor

    def to(self, device: torch.device) -> "Split":
        """Return the split on `device`."""
        return Split(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True)
class Dataset:
    """Both splits, the names of the K classes, and the training split's statistics.

    `mean` and `std` are per channel, in grey levels from 0 to 255; `sha256` is that of the arrays;
    `held_out` tells whether the test split is of held-out training images.
    """

    train: Split
    test: Split
    class_names: list[str]
    mean: list[float]
    std: list[float]
    sha256: str
    held_out: bool = False

    def to(self, device: torch.device) -> "Dataset":
        """Return the data set with both splits on `device`."""
        return replace(self, train=self.train.to(device), test=self.test.to(device))

    @property
    def image_size(self) -> int:
        """Side of the square images, in pixels."""
        return self.train.images.shape[1]

    @property
    def channels(self) -> int:
        """Number of channels of the images, 1 or 3."""
        return self.train.images.shape[3]


def read_dataset(path: Path) -> Dataset:
    """Read an archive that prepare_data wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not such an archive; nothing in it is unpickled.
    """
    arrays = read_arrays(path, ARRAYS)
    check_arrays(arrays, path)
    return Dataset(
        train=Split(torch.from_numpy(arrays["train_images"]), _labels(arrays["train_labels"])),
        test=Split(torch.from_numpy(arrays["test_images"]), _labels(arrays["test_labels"])),
        class_names=[str(name) for name in arrays["class_names"]],
        mean=arrays["mean"].tolist(),
        std=arrays["std"].tolist(),
        sha256=digest_arrays(arrays),
        held_out=bool(arrays.get("held_out", False)),
    )


def check_arrays(arrays: dict[str, np.ndarray], path: Path) -> None:
    """Raise ValueError, which names `path`, if types, shapes or ranges don't fit together."""

    def expect(holds: bool, name: str, words: str) -> None:
        array = arrays[name]
        if not holds:
            values = f" {array.tolist()}" * (0 < array.size <= 4)
            raise ValueError(
                f"{path}: {name} is {array.dtype} {array.shape}{values}; expected {words}"
            )

    names = arrays["class_names"]
    expect(names.ndim == 1 and names.dtype.kind == "U", "class_names", "a list of texts")
    expect(len({*names.tolist()}) == len(names) > 1, "class_names", "two or more, none twice")
    classes, shape = len(names), arrays["train_images"].shape[1:]
    for split in ("train", "test"):
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
        square = images.ndim == 4 and images.shape[1] == images.shape[2]
        square = square and images.shape[3] > 0
        expect(square and images.dtype == np.uint8, f"{split}_images", "uint8 (N, H, H, C)")
        expect(
            len(images) > 0 and images.shape[1:] == shape,
            f"{split}_images",
            f"one or more of {shape}",
        )
        whole = labels.dtype.kind in "iu" and labels.shape == images.shape[:1]
        expect(whole, f"{split}_labels", f"whole numbers ({len(images)},), one for each image")
        inside = labels.min() >= 0 and labels.max() < classes
        expect(inside, f"{split}_labels", f"numbers from 0 to {classes - 1}, of the classes")
    for name, least in (("mean", -np.inf), ("std", 0)):
        array = arrays[name]
        one_each = array.dtype.kind == "f" and array.shape == shape[-1:]
        expect(one_each, name, f"a number for each of {shape[-1]} channels")
        finite = np.isfinite(array).all() and (array > least).all()
        expect(bool(finite), name, f"finite numbers{' above 0' * (name == 'std')}")
    if "held_out" in arrays:
        told = arrays["held_out"].dtype == np.bool_ and not arrays["held_out"].shape
        expect(told, "held_out", "one truth value")


def _labels(labels: np.ndarray) -> Tensor:
    return torch.from_numpy(labels.astype(np.int64))


def normalise(images: Tensor, mean: list[float] | Tensor, std: list[float] | Tensor) -> Tensor:
    """Map uint8 (N, H, W, C) to float32 (N, C, H, W), (x - mean) / std, in channels-last memory."""
    shift = torch.as_tensor(mean, dtype=torch.float32, device=images.device)
    scale = torch.as_tensor(std, dtype=torch.float32, device=images.device)
    return ((images.float() - shift) / scale).permute(0, 3, 1, 2)


def augment(images: Tensor, padding: int, border: Border, offsets: Tensor, flips: Tensor) -> Tensor:
    """Crop images from their padded selves and mirror some of them.

    Args:
        images: (N, H, W, C).
        padding: pixels on every side, 0 <= padding < H.
        border: what these are: the image mirrored at its outermost pixels, or zeros.
        offsets: (N, 2) row and column of the crop's corner, 0 to 2 * padding.
        flips: (N,) booleans, True mirrors left and right.

    Returns:
        (N, H, W, C), of the same type.
    """
    size = images.shape[1]
    span = torch.arange(size, device=images.device)
    rows = offsets[:, :1] + span - padding
    columns = torch.where(flips[:, None], span.flip(0), span) + offsets[:, 1:] - padding
    # Reflection without a padded copy: positions beyond an edge count back from it.
    row, column = ((size - 1) - ((size - 1) - each.abs()).abs() for each in (rows, columns))
    index = torch.arange(len(images), device=images.device)[:, None, None]
    seen = images[index, row[:, :, None], column[:, None, :]]
    if border == "reflect":
        return seen
    # Those within the edges are where they were.
    inside = (row == rows)[:, :, None] & (column == columns)[:, None, :]
    return seen * inside[..., None]


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """Return the source of an epoch's order, crops and flips.

    It depends on seed and epoch alone, so all methods of one seed see the same views in the same
    order, and a resumed run goes on as if it had never stopped.
    """
    state = np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


def check_padding(padding: int, dataset: Dataset) -> None:
    """Raise ValueError if images can't be shifted by as many pixels as `padding`."""
    if padding >= dataset.image_size:
        raise ValueError(
            f"padding is {padding}; allowed: less than the images' {dataset.image_size}"
        )


def view_number(padding: int, offsets: Tensor, flips: Tensor) -> Tensor:
    """Number the views of `augment`, 0 to count_views - 1: offsets (N, 2), flips (N,) -> (N,)."""
    side = 2 * padding + 1
    return (flips.long() * side + offsets[:, 0]) * side + offsets[:, 1]


def count_views(padding: int, flip: bool) -> int:
    """Count the views of an image that the augmentation can make."""
    return (2 * padding + 1) ** 2 * (2 if flip else 1)


def draw_epoch(
    count: int, padding: int, flip: bool, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw an epoch's order of N images and the views of `augment`, in that order, on the CPU.

    Returns:
        The images' places in the training split (N,); offsets (N, 2) and flips (N,) of those that
        are shown first, second, ...; without `flip` nothing is mirrored, but the draws are the
        same.
    """
    order = torch.randperm(count, generator=generator)
    offsets = torch.randint(2 * padding + 1, (count, 2), generator=generator)
    flips = torch.randint(2, (count,), generator=generator).bool() & flip
    return order, offsets, flips
