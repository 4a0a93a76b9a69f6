r"""Write a teacher's logits for every view of every training image that the augmentation can make.

Inputs: prepared data and a teacher's checkpoint. Output: an .npz with logits (N x V x K, float16: N
training images, V views, K classes), the augmentation they belong to, and provenance. A student
with distillation alone then costs what one without a teacher costs.

Example:
    python workflow/scripts/tabulate_targets.py --data results/data/digits.npz \
        --checkpoint results/digits/teacher/seed_0/checkpoint.pt --targets targets.npz \
        --padding 0 --device cpu
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from distillation.arguments import Parser, number, run
from distillation.data import (
    Dataset,
    augment,
    check_padding,
    count_views,
    normalise,
    read_dataset,
)
from distillation.device import describe_device, prepare_device
from distillation.engine import Engine, Networks, Precision, pick_engine
from distillation.files import replacing
from distillation.models import WideResNet
from distillation.provenance import PACKAGES, describe_step
from distillation.runs import load_teacher


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(__doc__)
    flag = parser.add_argument
    flag("--data", type=Path, required=True, help="prepared data, .npz")
    flag("--checkpoint", type=Path, required=True, help="the teacher, .pt")
    flag("--targets", type=Path, required=True, help="output, .npz")
    flag("--padding", type=number(int, 0), required=True, help="pixels of random shift, from 0")
    switch = argparse.BooleanOptionalAction
    flag("--flip", action=switch, default=False, help="images are also mirrored")
    batch = number(int, 1)
    flag("--batch-size", type=batch, default=128, help="images per pass (default: %(default)s)")
    flag("--device", choices=("cpu", "cuda"), required=True, help="where to run")
    flag("--threads", type=number(int, 1), default=1, help="of torch on a CPU")
    precision = {"choices": get_args(Precision), "default": "float32"}
    flag("--precision", **precision, help="of the teacher; auto: what pays (default: %(default)s)")
    return parser.parse_args(argv)


def tabulate(
    teacher: WideResNet, dataset: Dataset, padding: int, flip: bool, batch_size: int, engine: Engine
) -> Tensor:
    """Return the teacher's logits (N, V, K) of all views, in float16, numbered by view_number."""
    networks = Networks(teacher, None, engine)
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
            with torch.inference_mode():
                logits, _ = networks.ask_student(normalise(seen, dataset.mean, dataset.std))
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
    teacher, provenance = load_teacher(arguments.checkpoint, dataset, device)
    engine, chosen = pick_engine(arguments.precision, "off", device, 0)
    images, views = len(dataset.train.labels), count_views(arguments.padding, arguments.flip)
    classes = len(dataset.class_names)
    print(
        f"{arguments.targets}: {views:,} views of {images:,} images, {views * images:,} passes of "
        f"the teacher, {2 * views * images * classes / 1e6:,.1f} MB, {chosen}",
        flush=True,
    )
    step = describe_step(
        arguments, PACKAGES, data_sha256=dataset.sha256, **describe_device(device)
    ) | {"engine": asdict(engine), "teacher": provenance}
    logits = tabulate(
        teacher, dataset.to(device), arguments.padding, arguments.flip, arguments.batch_size, engine
    )
    with replacing(arguments.targets) as targets:
        np.savez(
            targets, allow_pickle=False, logits=logits.numpy(), padding=arguments.padding,
            flip=arguments.flip, provenance=json.dumps(step),
        )  # fmt: skip


if __name__ == "__main__":
    run(main)
