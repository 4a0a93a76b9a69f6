r"""Collapse a network's stages into attention maps, for a fixed choice of test images.

Inputs: a checkpoint and prepared data. Output: an .npz with the chosen images (M x H x W x C,
uint8), their indices in the test split, labels and class names, the network's title, the number of
its stages, and for each collapse and each stage s, counted from 1, the maps <collapse>_<s>
(M x H_s x W_s, float32, not normalised).
The choice is balanced over the classes and depends on data and --seed alone, so the maps of all
networks show the same images.

Example:
    python workflow/scripts/extract_attention.py --data results/data/digits.npz \
        --checkpoint results/digits/at/seed_0/checkpoint.pt --attention attention.npz \
        --images-per-class 1 --seed 0 --device cpu
"""

import argparse
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from distillation.data.dataset import normalise, read_dataset
from distillation.device import prepare_device
from distillation.networks import Network
from distillation.numerics import Collapse, collapse_channels
from distillation.record.checkpoint import load_checkpoint
from distillation.record.files import replacing
from distillation.settings.arguments import (
    Parser,
    add_flags,
    add_networks,
    check_counts,
    run,
    taken,
)
from distillation.settings.measures import AttentionImages
from distillation.settings.training import Machine

# Images per pass: stages of all channels are large.
BATCH = 128
COLLAPSES = get_args(Collapse)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(__doc__)
    flag = parser.add_argument
    flag("--data", type=Path, required=True, help="prepared data, .npz")
    add_networks(parser, {"attention": ".npz"})
    add_flags(parser, AttentionImages)
    add_flags(parser, Machine)
    return parser.parse_args(argv)


def choose_images(
    labels: np.ndarray, class_names: list[str], images_per_class: int, seed: int
) -> np.ndarray:
    """Return indices of `images_per_class` random images of each class, class by class.

    Raises:
        ValueError: a class has fewer images.
    """
    generator = np.random.default_rng(seed)
    chosen = []
    for label, name in enumerate(class_names):
        candidates = np.flatnonzero(labels == label)
        if len(candidates) < images_per_class:
            raise ValueError(
                f"images_per_class is {images_per_class}; allowed: at most {len(candidates)}, "
                f"the number of test images of class {name}"
            )
        chosen.append(np.sort(generator.choice(candidates, images_per_class, replace=False)))
    return np.concatenate(chosen)


def main(argv: list[str] | None = None) -> None:
    """Extract the maps and write them."""
    arguments = parse_args(argv)
    check_counts(arguments, len(arguments.checkpoint), "attention")
    chosen = taken(AttentionImages, arguments)
    device = prepare_device(arguments.device, arguments.threads)
    dataset = read_dataset(arguments.data)
    labels, names = dataset.test.labels.numpy(), dataset.class_names
    indices = choose_images(labels, names, chosen.images_per_class, chosen.seed)
    images = dataset.test.images[indices]
    for checkpoint, output in zip(arguments.checkpoint, arguments.attention, strict=True):
        model, content = load_checkpoint(checkpoint, dataset, device)
        maps = extract(model, normalise(images.to(device), content["mean"], content["std"]))
        with replacing(output) as archive, archive.open("wb") as file:
            np.savez_compressed(
                file, allow_pickle=False, images=images.numpy(), indices=indices,
                labels=labels[indices], class_names=np.array(names),
                title=np.array(content["title"]), stages=np.array(len(maps) // len(COLLAPSES)),
                **maps,
            )  # fmt: skip
        print(f"{output}: maps of {len(indices)} images", flush=True)


def extract(model: Network, images: Tensor) -> dict[str, np.ndarray]:
    """Return the maps (N, H, W) of normalised images (N, C, H, W), by <collapse>_<stage>."""
    parts: dict[str, list[np.ndarray]] = {}
    for batch in images.split(BATCH):
        with torch.inference_mode():
            stages = model(batch).stages
        for collapse in COLLAPSES:
            for number, stage in enumerate(stages, start=1):
                part = collapse_channels(stage, collapse).cpu().numpy()
                parts.setdefault(f"{collapse}_{number}", []).append(part)
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


if __name__ == "__main__":
    run(main)
