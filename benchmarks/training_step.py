r"""Time the training step of this project against a textbook loop, side by side.

The textbook loop is written out below as tutorials write it: a torchvision data set with PIL
transforms in a DataLoader, float32, NCHW, eager, a reading of the loss at each step. Ours is the
step that trains (distillation/training). Both get the same images, networks and protocol, and
take turns; images are noise, since speed doesn't depend on what they show.

    python benchmarks/training_step.py --device cpu --threads 1 --json speeds.json
"""

import argparse
import itertools
import json
import os
import re
import resource
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# What torch's profiler logs of itself would stand among the results; it is read at the import.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

import arms
import numpy as np
import torch
from arms import ARMS, BATCH, MEAN, PROTOCOL, SIZE, STD
from PIL import Image
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import VisionDataset

from distillation.data.dataset import Split, normalise
from distillation.device import prepare_device
from distillation.networks import count_multiply_accumulates
from distillation.record.files import replacing
from distillation.reporting.tables import table_line, table_lines
from distillation.settings.arguments import Parser, add_flags, run, taken
from distillation.settings.base import Settings
from distillation.settings.training import Engine, Machine
from distillation.terms.at import attention_transfer
from distillation.terms.kd import knowledge_distillation
from distillation.training.precision import Picked, pick

IMAGES = 2048


class Timing(Settings):
    """How long is timed."""

    workers: int = Field(0, ge=0, description="processes of the textbook's DataLoader")
    batch_size: int = Field(BATCH, ge=2, description="images of a step; few, to try this itself")
    steps: int = Field(4, ge=1, description="in each turn")
    turns: int = Field(7, ge=1, description="of each loop, one after the other")


# What the operations of a step are called by torch's profiler, by kind; the rest is "other".
KINDS = {
    "convolution": "conv",
    "batch norm": "batch_norm",
    "ReLU": "clamp_min|threshold_backward|relu",
    "addition": "aten::add",
    "copies and casts": "aten::copy_",
}


class Images(VisionDataset):
    """Images as torchvision's own data sets give them: one PIL image at a time, transformed."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        steps = [
            transforms.RandomCrop(SIZE, padding=4, padding_mode="reflect"),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize([mean / 255 for mean in MEAN], [std / 255 for std in STD]),
        ]
        super().__init__("", transform=transforms.Compose(steps))
        self.images, self.labels = images, labels

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return an image (C, H, W) and its label."""
        assert self.transform is not None  # noqa: S101 given above
        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])

    def __len__(self) -> int:
        return len(self.labels)


def textbook_steps(
    arm: arms.Arm, split: Split, device: torch.device, workers: int, batch_size: int
) -> Iterator[None]:
    """Train as a tutorial does, without end; yield after each step."""
    images = Images(split.images.numpy(), split.labels.numpy())
    loader = DataLoader(images, batch_size, shuffle=True, num_workers=workers)
    networks = [
        arms.make_network(named, device, memory=torch.contiguous_format)
        for named in (arm.student, arm.teacher)
        if named
    ]
    student, teacher = networks[0].train(), networks[1].eval() if arm.teacher else None
    optimizer = torch.optim.SGD(student.parameters(), 0.1, momentum=0.9, weight_decay=5e-4)
    running = 0.0
    while True:
        for batch, batch_labels in loader:
            inputs, targets = batch.to(device), batch_labels.to(device)
            logits, features = student(inputs)
            loss = arm.terms["labels"].get("weight", 1) * functional.cross_entropy(logits, targets)
            if teacher is not None:
                with torch.no_grad():
                    teacher_logits, teacher_features = teacher(inputs)
                divergence = knowledge_distillation(logits, teacher_logits, 4)
                loss = loss + arm.terms["kd"]["weight"] * divergence
                if "at" in arm.terms:
                    stages = attention_transfer(features, teacher_features)
                    loss = loss + arm.terms["at"]["weight"] * stages.sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            running += loss.item()
            yield


def our_steps(arm: arms.Arm, split: Split, picked: Picked, batch_size: int) -> Iterator[None]:
    """Train as this project does, without end; yield after each step."""
    protocol = PROTOCOL.model_copy(update={"batch_size": batch_size})
    together = arms.make_students([arm], arms.make_dataset(split, split), picked, protocol)
    for epoch in itertools.count(1):
        together.begin(0, epoch)
        for size in together.remaining():
            together(size)
            yield


def convolution_seconds(
    named: dict[str, Any], device: torch.device, dtype: torch.dtype, batch_size: int
) -> float:
    """Return the time of the convolutions of a training step alone, forward and backward."""
    model = arms.make_network(named, device)
    layers: list[tuple[nn.Module, torch.Size]] = []
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(
                lambda layer, inputs, _: layers.append((layer, inputs[0].shape))
            )
    with torch.no_grad():
        model(torch.zeros(batch_size, 3, SIZE, SIZE, device=device))
    total = 0.0
    # A copy: the hooks go on noting.
    for layer, shape in [*layers]:
        layer = layer.to(dtype)
        # The images themselves need no gradient.
        inputs = torch.randn(shape, device=device, dtype=dtype, requires_grad=shape[1] > 3)
        inputs.data = inputs.data.contiguous(memory_format=torch.channels_last)
        gradient = torch.ones_like(layer(inputs))
        total += min(
            arms.seconds_of(lambda: layer(inputs).backward(gradient), device)  # noqa: B023 called here
            for _ in range(4)
        )
    return total


def time_by_kind(steps: Iterator[None], count: int) -> dict[str, float]:
    """Return the fraction of the time of `count` steps that each kind of operation takes."""
    with torch.profiler.profile() as profile:
        for _ in range(count):
            next(steps)
    device = "device" if torch.cuda.is_available() else "cpu"
    seconds = dict.fromkeys([*KINDS, "other"], 0.0)
    for event in profile.key_averages():
        kinds = (kind for kind, names in KINDS.items() if re.search(names, event.key))
        seconds[next(kinds, "other")] += getattr(event, f"self_{device}_time_total")
    return {kind: each / sum(seconds.values()) for kind, each in seconds.items()}


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Return floating-point operations per second of a product of 2048 x 2048 matrices."""
    matrix = torch.ones(2048, 2048, device=device, dtype=dtype)
    return 2 * 2048**3 / min(arms.seconds_of(lambda: matrix @ matrix, device) for _ in range(6))


def measure_arm(
    arm: arms.Arm, timing: Timing, device: torch.device, picked: Picked
) -> dict[str, Any]:
    """Return images/s of both loops, the ratio in each turn, and what the time goes to."""
    split, batch_size = arms.noise(IMAGES, SIZE, 0, torch.device("cpu")), timing.batch_size
    loops = {
        "textbook": textbook_steps(arm, split, device, timing.workers, batch_size),
        "ours": our_steps(arm, split.to(device), picked, batch_size),
    }
    speeds: dict[str, list[float]] = {name: [] for name in loops}
    for turn in range(timing.turns + 1):
        for name, steps in loops.items():
            seconds = arms.seconds_of(
                lambda steps=steps: [next(steps) for _ in range(timing.steps)], device
            )
            # The first turn fills caches and compiles.
            if turn:
                speeds[name].append(timing.steps * batch_size / seconds)
    taught = arm.teacher if not arm.tabled else None
    dtype = getattr(torch, picked.precision)
    speed = statistics.median(speeds["ours"])
    operations = 6 * count_multiply_accumulates(arms.make_network(arm.student, device), SIZE, 3)
    if taught:
        operations += 2 * count_multiply_accumulates(arms.make_network(taught, device), SIZE, 3)
    result: dict[str, Any] = {
        "textbook_images_per_second": statistics.median(speeds["textbook"]),
        "images_per_second": speed,
        "ratios": [ours / other for ours, other in zip(*reversed(speeds.values()), strict=True)],
        "share_of_matrix_rate": speed * operations / matrix_rate(device, dtype),
        "time_by_kind": time_by_kind(loops["ours"], timing.steps),
    }
    if not taught:
        limit = batch_size / convolution_seconds(arm.student, device, dtype, batch_size)
        result["convolution_limit_images_per_second"] = limit
        result["share_of_convolution_limit"] = speed / limit
    return result


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(__doc__)
    add_flags(parser, Machine)
    add_flags(parser, Engine)
    add_flags(parser, Timing)
    flag = parser.add_argument
    flag("--arms", nargs="*", choices=list(ARMS), default=list(ARMS), help="what is timed")
    flag("--json", type=Path, help="output: the same as JSON")
    parser.set_defaults(compile="off", graph="off")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Time all arms, print a table and write JSON."""
    arguments = parse_args(argv)
    device = prepare_device(arguments.device, arguments.threads)
    timing = taken(Timing, arguments)
    batch = normalise(arms.noise(timing.batch_size, SIZE, 0, device).images, MEAN, STD)
    student = arms.make_network(arms.WRN_16_2, device)
    [(picked, chosen)] = pick(taken(Engine, arguments), student, batch, [0])
    machine = arms.describe_machine(device) | {"threads": str(arguments.threads), "engine": chosen}
    print(", ".join(f"{name} {value}" for name, value in machine.items()), flush=True)
    columns = ["textbook, images/s", "ours, images/s", "ratio (spread)", "of matrix rate",
               "of convolution limit"]  # fmt: skip
    print(*table_lines(["", *columns], []), sep="\n", flush=True)
    measured, shares = {}, []
    for name in arguments.arms:
        found = measured[name] = measure_arm(ARMS[name], timing, device, picked)
        ratios, limit = found["ratios"], found.get("share_of_convolution_limit")
        cells = [
            name, f"{found['textbook_images_per_second']:,.0f}",
            f"{found['images_per_second']:,.0f}",
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
            f"{found['share_of_matrix_rate']:.0%}", f"{limit:.0%}" if limit else "-",
        ]  # fmt: skip
        print(table_line(cells), flush=True)
        shares.append([name, *(f"{share:.0%}" for share in found["time_by_kind"].values())])
    print("\nShares of the time of our step, by torch's profiler:\n")
    print(*table_lines(["", *KINDS, "other"], shares), sep="\n")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device)
    print(f"\nPeak memory, all arms in one process: {peak / 1e9:.1f} GB")
    if arguments.json:
        content = {"machine": machine, "arms": measured, "peak_memory_bytes": peak}
        with replacing(arguments.json) as file:
            file.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    run(main)
