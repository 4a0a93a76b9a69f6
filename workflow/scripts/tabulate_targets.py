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
import shutil
from collections.abc import Callable
from contextlib import suppress
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
from distillation.device import describe_device, images_per_pass, prepare_device
from distillation.networks import Network
from distillation.record.checkpoint import load_teacher, weights_digest
from distillation.record.files import replacing
from distillation.record.provenance import PACKAGES, describe_step, fingerprint
from distillation.settings.arguments import Parser, add_flags, run
from distillation.settings.training import VIEWS, Border, Engine, Machine, Protocol
from distillation.training.precision import Picked, pick


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(__doc__)
    flag = parser.add_argument
    flag("--data", type=Path, required=True, help="prepared data, .npz")
    flag("--checkpoint", type=Path, required=True, help="the teacher, .pt")
    flag("--targets", type=Path, required=True, help="output, .npz")
    flag("--resume", type=Path, help="folder of the views that are done; removed at the end")
    add_flags(parser, Protocol, *VIEWS, "batch_size")
    add_flags(parser, Machine)
    add_flags(parser, Engine, "precision")
    return parser.parse_args(argv)


def tabulate_view(
    teacher: Network,
    dataset: Dataset,
    padding: int,
    border: Border,
    view: int,
    batch_size: int,
    picked: Picked,
) -> Tensor:
    """Return the teacher's logits (N, K) of a view of all images, in float16.

    Raises:
        FloatingPointError: one isn't finite.
    """
    images, side = dataset.train.images, 2 * padding + 1
    mirrored, place = divmod(view, side**2)
    offset = torch.tensor([divmod(place, side)], device=images.device)
    flipped = torch.tensor([bool(mirrored)], device=images.device)
    logits = []
    for batch in images.split(batch_size):
        offsets, flips = offset.expand(len(batch), 2), flipped.expand(len(batch))
        seen = augment(batch, padding, border, offsets, flips)
        inputs = normalise(seen, dataset.mean, dataset.std)
        with torch.inference_mode(), picked.autocast(images.device):
            logits.append(teacher(inputs).logits.half())
    # Once for all: each copy waits for a GPU.
    found = torch.cat(logits).cpu()
    if not found.isfinite().all():
        raise FloatingPointError(f"a logit of view {view + 1} is not finite in float16")
    return found


def tabulate(views: int, ask: Callable[[int], Tensor], kept: Path | None) -> np.ndarray:
    """Return the logits (N, V, K) of all views, numbered by view_number.

    Args:
        views: V.
        ask: gives the logits (N, K) of a view.
        kept: folder in which each view is kept as soon as it is known, and found by a later run.
    """
    found = []
    for view in range(views):
        file = kept and kept / f"{view}.npy"
        if file and file.is_file():
            found.append(np.load(file))
            continue
        found.append(ask(view).numpy())
        if file:
            with replacing(file) as temporary:
                np.save(temporary, found[-1])
        print(f"view {view + 1} of {views}", flush=True)
    return np.stack(found, axis=1)


def pick_once(
    arguments: argparse.Namespace, teacher: Network, data: Dataset, kept: Path | None
) -> tuple[Picked, str]:
    """Return the precision that the teacher runs in, and why: that of a run that goes on."""
    file = kept and kept / "picked.json"
    if file and file.is_file():
        picked = Picked(**json.loads(file.read_text()))
        return picked, f"{picked.words}, going on"
    batch = normalise(data.train.images[: arguments.batch_size], data.mean, data.std)
    asked = Engine(precision=arguments.precision, compile="off", graph="off")
    [(picked, chosen)] = pick(asked, teacher, batch, [0])
    if file:
        with replacing(file) as temporary:
            temporary.write_text(json.dumps(asdict(picked)))
    return picked, chosen


def main(argv: list[str] | None = None) -> None:
    """Run the teacher on all views and write its logits."""
    arguments = parse_args(argv)
    device = prepare_device(arguments.device, arguments.threads)
    dataset = read_dataset(arguments.data)
    check_padding(arguments.padding, dataset)
    teacher, content = load_teacher(arguments.checkpoint, dataset, device)
    data = dataset.to(device)
    [family] = content["network"]
    step = describe_step(
        arguments, PACKAGES, [("networks", family)], data_sha256=dataset.sha256,
        teacher=content["provenance"], teacher_sha256=weights_digest(teacher),
        **describe_device(device),
    )  # fmt: skip
    kept = arguments.resume and arguments.resume / fingerprint(step)[:16]
    picked, chosen = pick_once(arguments, teacher, data, kept)
    step["engine"] = asdict(picked)
    images, views = len(dataset.train.labels), count_views(arguments.padding, arguments.flip)
    size = 2 * views * images * len(dataset.class_names) / 1e6
    print(
        f"{arguments.targets}: {views:,} views of {images:,} images, {views * images:,} passes of "
        f"the teacher, {size:,.1f} MB, {chosen}",
        flush=True,
    )

    def ask(view: int) -> Tensor:
        padding, border = arguments.padding, arguments.crop_border
        at_once = images_per_pass(arguments.batch_size, data.image_size, device)
        return tabulate_view(teacher, data, padding, border, view, at_once, picked)

    logits = tabulate(views, ask, kept)
    with replacing(arguments.targets) as targets, targets.open("wb") as file:
        np.savez(
            file, allow_pickle=False, logits=logits, provenance=json.dumps(step),
            **{name: getattr(arguments, name) for name in VIEWS},
        )  # fmt: skip
    if kept:
        shutil.rmtree(kept, ignore_errors=True)
        # What is kept for other settings stays.
        with suppress(OSError):
            kept.parent.rmdir()


if __name__ == "__main__":
    run(main)
