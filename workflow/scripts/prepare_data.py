r"""Turn a source of images into one archive of arrays, and a description of it.

Outputs: an .npz with train_images, test_images (uint8, N x H x W x C), train_labels, test_labels,
class_names, mean and std of the training split per channel (grey levels, 0 to 255), held_out
(whether the test split is a held-out part of the training split), and where the format has masks
of the objects train_masks and test_masks; and a .json with format, counts, sha256, mean and std.

Example:
    python workflow/scripts/prepare_data.py --archive my_images.npz --description my_images.json \
        --format image_folder source=my_images image_size=32 channels=3 fit=crop
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from distillation.data.arrays import digest_arrays
from distillation.data.splits import hold_out, statistics, thin_out
from distillation.record.files import replacing
from distillation.record.provenance import PACKAGES, describe_step
from distillation.settings import plugins
from distillation.settings.arguments import Parser, add_flags, add_plugin, run
from distillation.settings.base import Settings
from distillation.settings.data import HoldOutSettings, Preparation


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(__doc__)
    add_plugin(parser, "--format", "formats", required=True)
    parser.add_argument("--archive", type=Path, required=True, help="output, .npz")
    parser.add_argument("--description", type=Path, required=True, help="output, .json")
    add_flags(parser, Preparation)
    return parser.parse_args(argv)


def prepare(name: str, settings: Settings, folder: Path, threads: int) -> dict[str, np.ndarray]:
    """Read a source in its format and return all arrays of the archive."""
    arrays = plugins.load("formats", name).read(settings, folder, threads)
    held_out = settings.held_out if isinstance(settings, HoldOutSettings) else None
    if isinstance(settings, HoldOutSettings):
        if settings.held_out and not settings.splits_itself:
            arrays = hold_out(arrays, *settings.held_out)
        if settings.kept:
            arrays = thin_out(arrays, *settings.kept)
    mean, std = statistics(arrays["train_images"])
    return arrays | {"mean": mean, "std": std, "held_out": np.array(held_out is not None)}


def describe(name: str, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return what is told of an archive: counts, shapes, classes, statistics and digest."""
    names = arrays["class_names"].tolist()
    return {
        "format": name,
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
        "held_out": bool(arrays["held_out"]),
        "mean": arrays["mean"].tolist(),
        "std": arrays["std"].tolist(),
        "sha256": digest_arrays(arrays),
    }


def main(argv: list[str] | None = None) -> None:
    """Read the source and write archive and description."""
    arguments = parse_args(argv)
    ((name, settings),) = arguments.format.items()
    # Unpacked archives are large: beside the output there is room, in /tmp there may be none. A
    # killed run leaves them, the next one removes them.
    folder = arguments.archive.with_name(f".{arguments.archive.stem}.unpacked")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        arrays = prepare(name, settings, folder, arguments.threads)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    description = describe(name, arrays)
    # By how many processes changes nothing.
    told = argparse.Namespace(format=arguments.format)
    provenance = describe_step(told, PACKAGES, plugins=[("formats", name)])
    with (
        replacing(arguments.archive) as archive,
        replacing(arguments.description) as text,
        archive.open("wb") as file,
    ):
        np.savez_compressed(file, allow_pickle=False, **arrays)
        text.write_text(json.dumps(description | {"provenance": provenance}, indent=2) + "\n")
    train, test = (description["images"][split] for split in ("train", "test"))
    print(
        f"{arguments.archive}: {train['count']:,} training and {test['count']:,} "
        f"{'held-out' if description['held_out'] else 'test'} images of "
        f"{description['classes']} classes, {train['shape']}",
        flush=True,
    )


if __name__ == "__main__":
    run(main)
