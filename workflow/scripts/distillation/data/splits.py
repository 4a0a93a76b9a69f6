"""Training and test split: held-out images in the test split's place, fewer of them, statistics."""

import math

import numpy as np


def hold_out(arrays: dict[str, np.ndarray], fraction: float, seed: int) -> dict[str, np.ndarray]:
    """Put a part of the training images in the test split's place; the test images are left out.

    Settings are chosen on it, so that the test split decides nothing. Both parts keep their order.

    Args:
        arrays: class_names, and images, labels and any masks of both splits.
        fraction: of the training images of each class.
        seed: of which images these are.

    Raises:
        ValueError: a class would have no image in one of the parts.
    """
    # Imported here: it is slow, and each process that reads images would import it.
    from sklearn.model_selection import train_test_split

    labels, names = arrays["train_labels"], arrays["class_names"]
    refusal = f"validation_fraction {fraction} of {len(labels)} images"
    try:
        parts = train_test_split(
            np.arange(len(labels)), test_size=fraction, stratify=labels, random_state=seed
        )
    except ValueError as error:
        raise ValueError(f"{refusal}: {error}") from error
    for part in parts:
        counts = np.bincount(labels[part], minlength=len(names))
        if not counts.all():
            raise ValueError(
                f"{refusal}: leaves one part without class {names[counts.argmin()]}, which has "
                f"{(labels == counts.argmin()).sum()}; allowed: one or more in each part"
            )
    first, second = map(np.sort, parts)
    train, test = _of_training(arrays, first, "train"), _of_training(arrays, second, "test")
    return {"class_names": names, **train, **test}


def thin_out(arrays: dict[str, np.ndarray], fraction: float, seed: int) -> dict[str, np.ndarray]:
    """Leave a part of the training images, in their order, and all others as they are.

    Args:
        arrays: as for `hold_out`.
        fraction: of the training images of each class, which are left, rounded up.
        seed: of which images these are.
    """
    labels, generator = arrays["train_labels"], np.random.default_rng(seed)
    left = []
    for name in np.unique(labels):
        own = np.flatnonzero(labels == name)
        # Not by one more where the product is above a whole number by rounding alone.
        count = math.ceil(round(fraction * len(own), 9))
        left.append(generator.permutation(own)[:count])
    return arrays | _of_training(arrays, np.sort(np.concatenate(left)), "train")


def _of_training(
    arrays: dict[str, np.ndarray], places: np.ndarray, split: str
) -> dict[str, np.ndarray]:
    """Return some of the training images, with labels and any masks, under a split's name."""
    kinds = (kind for kind in ("images", "labels", "masks") if f"train_{kind}" in arrays)
    return {f"{split}_{kind}": arrays[f"train_{kind}"][places] for kind in kinds}


def statistics(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation per channel of uint8 (N, H, W, C), exactly, (C,) each.

    Raises:
        ValueError: a channel is constant, so it can't be normalised.
    """
    levels = np.arange(256)
    counts = np.stack(
        [np.bincount(images[..., c].ravel(), minlength=256) for c in range(images.shape[3])]
    )
    mean = counts @ levels / counts.sum(axis=1)
    std = np.sqrt(counts @ levels**2 / counts.sum(axis=1) - mean**2)
    if not std.all():
        raise ValueError(f"the training images are constant in a channel; std is {std.tolist()}")
    return mean, std
