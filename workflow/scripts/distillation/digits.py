"""Cluttered, translated digits, made from scikit-learn's 1,797 real handwritten ones.

The construction is that of Mnih et al. 2014 (arXiv 1406.6247, section 4.2, "cluttered translated
MNIST"): a digit at a random place on a larger canvas, among pieces of other digits. It gives a
task that needs no download, isn't saturated by small networks, and knows where its object is.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

# Grey levels of the 8 x 8 originals, 0 to 16; scikit-learn's documentation of load_digits.
DIGIT_LEVELS = 16
# A pixel belongs to the object where the enlarged digit is above this grey level of 255: a
# quarter of the full scale, below which the enlargement's soft rim lies.
MASK_LEVEL = 64


@dataclass(frozen=True)
class Construction:
    """How the images are made; the keys of a data set of format `digits` in config.yaml."""

    image_size: int
    digit_size: int
    clutter_pieces: int
    clutter_size: int
    train_placements: int
    test_placements: int
    test_fraction: float
    seed: int


def make_digits(construction: Construction) -> dict[str, np.ndarray]:
    """Return the arrays of both splits.

    Digits are split, stratified by class, before anything is drawn, so no handwriting of the test
    split, whole or in pieces, is in the training split. The same construction gives the same
    arrays.

    Returns:
        For each split: images uint8 (N, S, S, 1), labels int64 (N,), masks bool (N, S, S) that are
        True on the digit, and class_names.

    Raises:
        ValueError: a digit or a piece doesn't fit where it is to be placed or cut from.
    """
    check_sizes(construction)
    pixels, labels = (np.asarray(array) for array in load_digits(return_X_y=True))
    images = pixels.reshape(-1, 8, 8)
    digits = np.stack([enlarge(image, construction.digit_size) for image in images])
    train, test = train_test_split(
        np.arange(len(digits)),
        test_size=construction.test_fraction,
        stratify=labels,
        random_state=construction.seed,
    )
    splits = (
        ("train", np.asarray(train), construction.train_placements),
        ("test", np.asarray(test), construction.test_placements),
    )
    arrays = {"class_names": np.unique(labels).astype(str)}
    for number, (split, indices, placements) in enumerate(splits):
        generator = np.random.default_rng([construction.seed, number])
        chosen = np.repeat(indices, placements)
        drawn = [place(index, digits, indices, construction, generator) for index in chosen]
        arrays[f"{split}_images"] = np.stack([image for image, _ in drawn])[..., None]
        arrays[f"{split}_masks"] = np.stack([mask for _, mask in drawn])
        arrays[f"{split}_labels"] = labels[chosen].astype(np.int64)
    return arrays


def check_sizes(construction: Construction) -> None:
    """Raise ValueError if a digit doesn't fit on the canvas, or a piece into a digit."""
    for name, limit in (("digit_size", "image_size"), ("clutter_size", "digit_size")):
        value, most = getattr(construction, name), getattr(construction, limit)
        if value > most:
            raise ValueError(f"{name} is {value}; allowed: at most {limit}, {most}")


def enlarge(image: np.ndarray, size: int) -> np.ndarray:
    """Enlarge an 8 x 8 digit (0 to 16) to (size, size) in uint8 (0 to 255), bicubic."""
    levels = np.rint(image * (255 / DIGIT_LEVELS)).astype(np.uint8)
    return np.asarray(Image.fromarray(levels).resize((size, size), Image.Resampling.BICUBIC))


def place(
    index: int,
    digits: np.ndarray,
    others: np.ndarray,
    construction: Construction,
    generator: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw digit `index` among pieces of `others`; return image and mask, both (S, S).

    Where strokes overlap, the brighter one is seen.
    """
    canvas = np.zeros((construction.image_size, construction.image_size), dtype=np.uint8)
    candidates = others[others != index]
    piece = construction.clutter_size
    for _ in range(construction.clutter_pieces):
        digit = digits[generator.choice(candidates)]
        row, column = generator.integers(construction.digit_size - piece + 1, size=2)
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
