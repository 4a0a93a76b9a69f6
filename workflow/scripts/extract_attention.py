r"""Collapse a network's group outputs into attention maps, for a fixed choice of test images.

Inputs: a checkpoint and prepared data. Output: an .npz with the chosen images (M x H x W x C,
uint8), their indices in the test split, labels and class names, and for each collapse and each
group g of the network the maps <collapse>_<g> (M x H_g x W_g, float32, not normalised).
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

from distillation.arguments import LARGEST_SEED, Parser, number, run
from distillation.checkpoint import load_checkpoint
from distillation.data import normalise, read_dataset
from distillation.device import prepare_device
from distillation.files import replacing
from distillation.losses import Collapse, collapse_channels

# Images per pass: features of all channels are large.
BATCH = 128


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(__doc__)
    flag = parser.add_argument
    flag("--data", type=Path, required=True, help="prepared data, .npz")
    flag("--checkpoint", type=Path, required=True, help="the network, .pt")
    flag("--attention", type=Path, required=True, help="output, .npz")
    flag("--images-per-class", type=number(int, 1), required=True, help="test images, from 1")
    flag("--seed", type=number(int, 0, LARGEST_SEED), required=True, help="of the choice of images")
    flag("--device", choices=("cpu", "cuda"), required=True, help="where to run")
    flag("--threads", type=number(int, 1), default=1, help="of torch on a CPU")
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
    device = prepare_device(arguments.device, arguments.threads)
    dataset = read_dataset(arguments.data)
    model, content = load_checkpoint(arguments.checkpoint, dataset, device)
    indices = choose_images(
        dataset.test.labels.numpy(), dataset.class_names, arguments.images_per_class, arguments.seed
    )
    images = dataset.test.images[indices]
    parts: dict[str, list[np.ndarray]] = {}
    for batch in images.split(BATCH):
        with torch.inference_mode():
            _, features = model(normalise(batch.to(device), content["mean"], content["std"]))
        for collapse in get_args(Collapse):
            for group, feature in enumerate(features, start=1):
                part = collapse_channels(feature, collapse).cpu().numpy()
                parts.setdefault(f"{collapse}_{group}", []).append(part)
    maps = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    with replacing(arguments.attention) as archive:
        np.savez_compressed(
            archive, allow_pickle=False, images=images.numpy(), indices=indices,
            labels=dataset.test.labels.numpy()[indices],
            class_names=np.array(dataset.class_names), **maps,
        )  # fmt: skip
    print(f"{arguments.attention}: maps of {len(indices)} images", flush=True)


if __name__ == "__main__":
    run(main)
