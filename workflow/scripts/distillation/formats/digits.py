"""Cluttered, translated digits, made from scikit-learn's 1,797 real handwritten ones.

The construction is that of Mnih et al. 2014 (arXiv 1406.6247, section 4.2, "cluttered translated
MNIST"): a digit at a random place on a larger canvas, among pieces of other digits. It gives a
task that needs no download, isn't saturated by small networks, and knows where its object is.
"""

import math
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
from PIL import Image
from pydantic import Field, model_validator
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from distillation.settings.base import Seed, Sizes
from distillation.settings.data import HoldOutSettings

# scikit-learn's handwritten digits.
DIGITS = 1797
# Grey levels of the 8 x 8 originals, 0 to 16; scikit-learn's documentation of load_digits.
DIGIT_LEVELS = 16
# A pixel belongs to the object where the enlarged digit is above this grey level of 255: a
# quarter of the full scale, below which the enlargement's soft rim lies.
MASK_LEVEL = 64


class Settings(HoldOutSettings):
    """Cluttered, translated digits, made on the spot.

    Held out are digits, before anything is drawn: a digit stands in several images, and would be
    on both sides.
    """

    splits_itself: ClassVar[bool] = True
    masks: ClassVar[Literal["stored", "above_zero", "none"]] = "stored"

    image_size: int = Field(ge=8, le=128, multiple_of=4, description="side of the image in pixels")
    digit_size: int = Field(ge=8, le=128, description="side in pixels, at most image_size")
    clutter_pieces: int = Field(ge=0, le=100, description="pieces of other digits per image")
    clutter_size: int = Field(ge=1, le=128, description="side in pixels, at most digit_size")
    train_placements: int = Field(ge=1, le=100, description="images per training digit")
    test_placements: int = Field(
        ge=1, le=100,
        description="images per test digit; intervals take each for one of its own, so 1 where "
        "something is concluded",
    )  # fmt: skip
    test_fraction: float = Field(ge=0.05, le=0.95, description="of the 1,797 digits")
    seed: Seed = Field(description="of split and placements")

    @model_validator(mode="after")
    def pieces_fit(self) -> Self:
        """Refuse a digit that doesn't fit on the canvas, or a piece into a digit."""
        for name, limit in (("digit_size", "image_size"), ("clutter_size", "digit_size")):
            value, most = getattr(self, name), getattr(self, limit)
            if value > most:
                raise ValueError(f"{name} is {value}; allowed: at most {limit}, {most}")
        return self

    def read_sizes(self) -> Sizes:
        """Return counts and shape of the images that are made."""
        return self.divided_sizes()

    def divided_sizes(self) -> Sizes:
        """Return counts and shape of the images before any training images are left out."""
        test = DIGITS * self.test_fraction
        train = DIGITS - test
        if self.held_out:
            test = train * self.held_out[0]
            train -= test
        return Sizes(
            train=math.ceil(train * self.train_placements),
            test=math.ceil(test * self.test_placements),
            side=self.image_size,
            channels=1,
            classes=10,
        )


def read(settings: Settings, folder: Path, threads: int) -> dict[str, np.ndarray]:  # noqa: ARG001
    """Return the arrays of both splits, with masks that are True on the digit.

    Digits are split, stratified by class, before anything is drawn, so no handwriting of the test
    split, whole or in pieces, is in the training split. Held-out digits are training digits that
    take the test split's place. The same settings give the same arrays.
    """
    pixels, labels = (np.asarray(array) for array in load_digits(return_X_y=True))
    images = pixels.reshape(-1, 8, 8)
    digits = np.stack([enlarge(image, settings.digit_size) for image in images])
    train, test = divided(np.arange(len(digits)), labels, settings.test_fraction, settings.seed)
    if settings.held_out:
        train, test = divided(train, labels, *settings.held_out)
    splits = (
        ("train", train, settings.train_placements),
        ("test", test, settings.test_placements),
    )
    arrays = {"class_names": np.unique(labels).astype(str)}
    for number, (split, indices, placements) in enumerate(splits):
        generator = np.random.default_rng([settings.seed, number])
        chosen = np.repeat(indices, placements)
        drawn = [place(index, digits, indices, settings, generator) for index in chosen]
        arrays[f"{split}_images"] = np.stack([image for image, _ in drawn])[..., None]
        arrays[f"{split}_masks"] = np.stack([mask for _, mask in drawn])
        arrays[f"{split}_labels"] = labels[chosen].astype(np.int64)
    return arrays


def divided(
    indices: np.ndarray, labels: np.ndarray, fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Divide indices of digits, stratified by class; the second part is the fraction."""
    first, second = train_test_split(
        indices, test_size=fraction, stratify=labels[indices], random_state=seed
    )
    return np.asarray(first), np.asarray(second)


def enlarge(image: np.ndarray, size: int) -> np.ndarray:
    """Enlarge an 8 x 8 digit (0 to 16) to (size, size) in uint8 (0 to 255), bicubic."""
    levels = np.rint(image * (255 / DIGIT_LEVELS)).astype(np.uint8)
    return np.asarray(Image.fromarray(levels).resize((size, size), Image.Resampling.BICUBIC))


def place(
    index: int,
    digits: np.ndarray,
    others: np.ndarray,
    settings: Settings,
    generator: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw digit `index` among pieces of `others`; return image and mask, both (S, S).

    Where strokes overlap, the brighter one is seen.
    """
    canvas = np.zeros((settings.image_size, settings.image_size), dtype=np.uint8)
    candidates = others[others != index]
    piece = settings.clutter_size
    for _ in range(settings.clutter_pieces):
        digit = digits[generator.choice(candidates)]
        row, column = generator.integers(settings.digit_size - piece + 1, size=2)
        draw(canvas, digit[row : row + piece, column : column + piece], generator)
    mask = np.zeros(canvas.shape, dtype=bool)
    corner = draw(canvas, digits[index], generator)
    mask[corner] = digits[index] > MASK_LEVEL
    return canvas, mask


def draw(
    canvas: np.ndarray, patch: np.ndarray, generator: np.random.Generator
) -> tuple[slice, slice]:
    """Draw `patch` into `canvas` at a random place inside it and return the place."""
    size = len(patch)
    row, column = generator.integers(len(canvas) - size + 1, size=2)
    where = (slice(row, row + size), slice(column, column + size))
    canvas[where] = np.maximum(canvas[where], patch)
    return where
