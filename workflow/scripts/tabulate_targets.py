r"""Write a teacher's logits for every view of every training image that the augmentation can make.

Inputs: prepared data and a teacher's checkpoint. Output: an .npz with logits (N x V x K, float16: N
training images, V views, K classes), the augmentation they belong to, and provenance. A student
with distillation alone then costs what one without a teacher costs.

Example:
    python workflow/scripts/tabulate_targets.py --data results/data/digits.npz \
        --checkpoint results/digits/teacher/seed_0/checkpoint.pt --targets targets.npz \
        --padding 0 --no-flip
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from distillation.data.dataset import (
    Dataset,
    augment,
    check_padding,
    count_views,
    normalise,
    read_dataset,
)
from distillation.device import describe_device, prepare_device
from distillation.networks import Network
from distillation.record.checkpoint import load_teacher
from distillation.record.files import replacing
from distillation.record.provenance import PACKAGES, describe_step
from distillation.settings.arguments import Parser, add_flags, run
from distillation.settings.training import Engine, Machine, Protocol
from distillation.training.precision import Picked, pick


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(__doc__)
    flag = parser.add_argument
    flag("--data", type=Path, required=True, help="prepared data, .npz")
    flag("--checkpoint", type=Path, required=True, help="the teacher, .pt")
    flag("--targets", type=Path, required=True, help="output, .npz")
    add_flags(parser, Protocol, "padding", "flip", "batch_size")
    add_flags(parser, Machine)
    add_flags(parser, Engine, "precision")
    return parser.parse_args(argv)


def tabulate(
    teacher: Network, dataset: Dataset, padding: int, flip: bool, batch_size: int, picked: Picked
) -> Tensor:
    """Return the teacher's logits (N, V, K) of all views, in float16, numbered by view_number."""
    images = dataset.train.images
    side = 2 * padding + 1
    table = torch.empty(
        len(images), count_views(padding, flip), len(dataset.class_names), dtype=torch.float16
    )
    for view in range(table.shape[1]):
        mirrored, place = divmod(view, side**2)
        offset = torch.tensor([divmod(place, side)], device=images.device)
        flipped = torch.tensor([bool(mirrored)], device=images.device)
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size]
            seen = augment(batch, padding, offset.expand(len(batch), 2), flipped.expand(len(batch)))
            inputs = normalise(seen, dataset.mean, dataset.std)
            with torch.inference_mode(), picked.autocast(images.device):
                logits = teacher(inputs).logits
            table[start : start + batch_size, view] = logits.half().cpu()
        if not table[:, view].isfinite().all():
            raise FloatingPointError(f"a logit of view {view + 1} is not finite in float16")
        print(f"view {view + 1} of {table.shape[1]}", flush=True)
    return table


def main(argv: list[str] | None = None) -> None:
    """Run the teacher on all views and write its logits."""
    arguments = parse_args(argv)
    device = prepare_device(arguments.device, arguments.threads)
    dataset = read_dataset(arguments.data)
    check_padding(arguments.padding, dataset)
    teacher, content = load_teacher(arguments.checkpoint, dataset, device)
    data = dataset.to(device)
    batch = normalise(data.train.images[: arguments.batch_size], data.mean, data.std)
    asked = Engine(precision=arguments.precision, compile="off", graph="off")
    picked, chosen = pick(asked, teacher, batch, 0)
    images, views = len(dataset.train.labels), count_views(arguments.padding, arguments.flip)
    classes = len(dataset.class_names)
    print(
        f"{arguments.targets}: {views:,} views of {images:,} images, {views * images:,} passes of "
        f"the teacher, {2 * views * images * classes / 1e6:,.1f} MB, {chosen}",
        flush=True,
    )
    [family] = content["network"]
    step = describe_step(
        arguments, PACKAGES, [("networks", family)], data_sha256=dataset.sha256,
        **describe_device(device),
    ) | {"engine": asdict(picked), "teacher": content["provenance"]}  # fmt: skip
    logits = tabulate(
        teacher, data, arguments.padding, arguments.flip, arguments.batch_size, picked
    )
    with replacing(arguments.targets) as targets:
        np.savez(
            targets, allow_pickle=False, logits=logits.numpy(), padding=arguments.padding,
            flip=arguments.flip, provenance=json.dumps(step),
        )  # fmt: skip


if __name__ == "__main__":
    run(main)
