r"""Turn a source of images into one archive of arrays, and a description of it.

Formats: digits (embedded), cifar10, cifar100, fashion_mnist (official archives, downloaded or
from --source), image_folder (--source with train/<class>/*.png|jpg and test/<class>/*).
Outputs: an .npz with train_images, test_images (uint8, N x H x W x C), train_labels, test_labels,
class_names, mean and std of the training split per channel (grey levels, 0 to 255), for digits
also train_masks and test_masks; and a .json with source, counts, sha256, mean and std.
With --validation-fraction the test split is a held-out part of the training split.

Example:
    python workflow/scripts/prepare_data.py --format image_folder --source my_images \
        --image-size 32 --channels 3 --fit crop --archive my_images.npz \
        --description my_images.json
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import get_args

import numpy as np
from sklearn.model_selection import train_test_split

from distillation.arguments import LARGEST_SEED, Parser, number, picked, run
from distillation.arrays import digest_arrays
from distillation.digits import Construction, make_digits
from distillation.files import replacing
from distillation.image_folder import Fit, read_image_folder
from distillation.provenance import PACKAGES, describe_step

FORMATS = ("digits", "cifar10", "cifar100", "fashion_mnist", "image_folder")
# The flags without which a format can't be read.
NEEDED = {
    "digits": [
        "image_size", "digit_size", "clutter_pieces", "clutter_size", "train_placements",
        "test_placements", "test_fraction", "seed",
    ],
    "fashion_mnist": ["channels"],
    "image_folder": ["source", "image_size", "channels", "fit"],
}  # fmt: skip


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line and check that the format has the flags that it needs."""
    parser = Parser(__doc__)
    flag = parser.add_argument
    flag("--format", choices=FORMATS, required=True, help="of the source")
    flag("--archive", type=Path, required=True, help="output, .npz")
    flag("--description", type=Path, required=True, help="output, .json")
    flag("--source", help="folder, or address of the official archives")
    flag("--image-size", type=number(int, 8), help="side in pixels, from 8")
    flag("--channels", type=int, choices=(1, 3), help="1 is grey, 3 is RGB")
    flag("--fit", choices=get_args(Fit), help="image_folder: how images become square")
    flag("--digit-size", type=number(int, 8), help="digits: side of the digit in pixels, from 8")
    flag("--clutter-pieces", type=number(int, 0), help="digits: pieces per image, from 0")
    flag("--clutter-size", type=number(int, 1), help="digits: side of a piece in pixels, from 1")
    flag("--train-placements", type=number(int, 1), help="digits: images per training digit")
    flag("--test-placements", type=number(int, 1), help="digits: images per test digit")
    flag("--test-fraction", type=number(float, 0.05, 0.95), help="digits: 0.05 to 0.95")
    flag("--seed", type=number(int, 0, LARGEST_SEED), help="digits: of split and placements")
    flag(
        "--validation-fraction", type=number(float, 0.01, 0.99),
        help="of the training images of each class, in the test split's place; not of digits",
    )  # fmt: skip
    flag("--validation-seed", type=number(int, 0, LARGEST_SEED), help="of which images these are")
    arguments = parser.parse_args(argv)
    for name in NEEDED.get(arguments.format, []):
        if getattr(arguments, name) is None:
            parser.error(f"--format {arguments.format} needs --{name.replace('_', '-')}")
    if (arguments.validation_fraction is None) != (arguments.validation_seed is None):
        parser.error("--validation-fraction and --validation-seed: one is given; allowed: both")
    if arguments.format == "digits" and arguments.validation_fraction is not None:
        # A digit stands in several training images, on both sides of a split of images.
        parser.error("--validation-fraction is given with --format digits; allowed: other formats")
    return arguments


def read_arrays(arguments: argparse.Namespace) -> dict[str, np.ndarray]:
    """Read the source in its format."""
    if arguments.format == "digits":
        return make_digits(picked(Construction, arguments))
    if arguments.format == "image_folder":
        return read_image_folder(
            arguments.source, arguments.image_size, arguments.channels, arguments.fit
        )
    # Imported here: torchvision takes seconds, which the other formats need not wait for.
    from distillation.archives import read_official

    # Unpacked archives are large: beside the output there is room, in /tmp there may be none.
    arguments.archive.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=arguments.archive.parent, prefix=".") as folder:
        return read_official(arguments.format, arguments.source, arguments.channels, Path(folder))


def hold_out(arrays: dict[str, np.ndarray], fraction: float, seed: int) -> dict[str, np.ndarray]:
    """Put a part of the training images in the test split's place; the test images are left out.

    Settings are chosen on it, so that the test split decides nothing. Both parts keep their order.

    Args:
        arrays: class_names, and images and labels of both splits.
        fraction: of the training images of each class.
        seed: of which images these are.

    Raises:
        ValueError: a class would have no image in one of the parts.
    """
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
    held = {"class_names": names}
    for split, part in zip(("train", "test"), map(np.sort, parts), strict=True):
        held |= {f"{split}_{kind}": arrays[f"train_{kind}"][part] for kind in ("images", "labels")}
    return held


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


def main(argv: list[str] | None = None) -> None:
    """Read the source and write archive and description."""
    arguments = parse_args(argv)
    arrays = read_arrays(arguments)
    if arguments.validation_fraction is not None:
        arrays = hold_out(arrays, arguments.validation_fraction, arguments.validation_seed)
    arrays["mean"], arrays["std"] = statistics(arrays["train_images"])
    names = arrays["class_names"].tolist()
    description = {
        "format": arguments.format,
        "source": arguments.source,
        "classes": len(names),
        "class_names": names,
        "images": {
            split: {
                "count": len(arrays[f"{split}_labels"]),
                "shape": list(arrays[f"{split}_images"].shape[1:]),
                "per_class": np.bincount(arrays[f"{split}_labels"], minlength=len(names)).tolist(),
            }
            for split in ("train", "test")
        },
        "mean": arrays["mean"].tolist(),
        "std": arrays["std"].tolist(),
        "sha256": digest_arrays(arrays),
        "provenance": describe_step(arguments, PACKAGES),
    }
    with replacing(arguments.archive) as archive, replacing(arguments.description) as text:
        np.savez_compressed(archive, allow_pickle=False, **arrays)
        text.write_text(json.dumps(description, indent=2) + "\n")
    counts = description["images"]
    print(
        f"{arguments.archive}: {counts['train']['count']:,} training and "
        f"{counts['test']['count']:,} test images of {len(names)} classes, "
        f"{counts['train']['shape']}",
        flush=True,
    )


if __name__ == "__main__":
    run(main)
