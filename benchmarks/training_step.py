r"""Time the training step of this project against a textbook loop, side by side.

The textbook loop is written out below as tutorials write it: a torchvision data set with PIL
transforms in a DataLoader, float32, NCHW, eager, a reading of the loss at each step. Ours is the
loop that trains (distillation/training.py). Both get the same images, networks and protocol, and
take turns; images are noise, since speed doesn't depend on what they show.

    python benchmarks/training_step.py --device cpu --threads 1 --json speeds.json
"""

import argparse
import itertools
import json
import os
import platform
import re
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# What torch's profiler logs of itself would stand among the results; it is read at the import.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import VisionDataset

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow/scripts"))

from distillation.arguments import Parser, number, run
from distillation.data import Dataset, Split, count_views
from distillation.device import describe_device, prepare_device
from distillation.engine import Engine, Networks, pick_engine
from distillation.files import replacing
from distillation.losses import attention_transfer, knowledge_distillation
from distillation.models import WideResNet, count_multiply_accumulates, initialise
from distillation.provenance import git
from distillation.state import EpochSums
from distillation.training import Protocol, Weights, train_epoch

CLASSES, SIZE, BATCH, IMAGES = 10, 32, 128, 2048
MEAN, STD = [125.3, 123.0, 113.9], [63.0, 62.1, 66.7]
PROTOCOL = Protocol(
    epochs=1000, batch_size=BATCH, schedule="cosine", learning_rate=0.1, milestones=[],
    learning_rate_decay=0.2, reset_momentum=False, rise=0.3, momentum=0.9, nesterov=False,
    weight_decay=5e-4, padding=4, flip=True, gamma_init="ones",
)  # fmt: skip
KD = Weights(alpha=0.9, temperature=4.0)
AT_KD = Weights(alpha=0.9, temperature=4.0, beta=1000.0)
# Student, teacher (depths; both of width 2), objective, whether the teacher is a table.
ARMS: dict[str, tuple[int, int | None, Weights, bool]] = {
    "teacher (WRN-40-2)": (40, None, Weights(), False),
    "baseline (WRN-16-2)": (16, None, Weights(), False),
    "KD": (16, 40, KD, False),
    "KD from a table": (16, 40, KD, True),
    "AT+KD": (16, 40, AT_KD, False),
}

# What the operations of a step are called by torch's profiler, by kind; the rest is "other".
KINDS = {
    "convolution": "conv",
    "batch norm": "batch_norm",
    "ReLU": "clamp_min|threshold_backward|relu",
    "addition": "aten::add",
    "copies and casts": "aten::copy_",
}


def make_network(depth: int, device: torch.device) -> WideResNet:
    """Return a fresh network of width 2."""
    model = WideResNet(depth, 2, CLASSES, 3)
    initialise(model, "ones", torch.Generator().manual_seed(depth))
    return model.to(device)


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
    arm: str, images: np.ndarray, labels: np.ndarray, device: torch.device, workers: int
) -> Iterator[None]:
    """Train as a tutorial does, without end; yield after each step."""
    depth, teacher_depth, weights, _ = ARMS[arm]
    loader = DataLoader(Images(images, labels), BATCH, shuffle=True, num_workers=workers)
    student = make_network(depth, device).train()
    teacher = make_network(teacher_depth, device).eval() if teacher_depth else None
    optimizer = torch.optim.SGD(student.parameters(), 0.1, momentum=0.9, weight_decay=5e-4)
    running = 0.0
    while True:
        for batch, batch_labels in loader:
            inputs, targets = batch.to(device), batch_labels.to(device)
            logits, features = student(inputs)
            loss = (1 - weights.alpha) * functional.cross_entropy(logits, targets)
            if teacher is not None:
                with torch.no_grad():
                    teacher_logits, teacher_features = teacher(inputs)
                divergence = knowledge_distillation(logits, teacher_logits, weights.temperature)
                loss = loss + weights.alpha * divergence
                if weights.beta:
                    groups = attention_transfer(features, teacher_features)
                    loss = loss + weights.beta * groups.sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            running += loss.item()
            yield


def our_steps(
    arm: str, images: np.ndarray, labels: np.ndarray, device: torch.device, engine: Engine
) -> Iterator[None]:
    """Train as this project does, without end; yield after each step."""
    depth, teacher_depth, weights, tabled = ARMS[arm]
    split = Split(torch.from_numpy(images), torch.from_numpy(labels)).to(device)
    dataset = Dataset(split, split, [str(name) for name in range(CLASSES)], MEAN, STD, "")
    student = make_network(depth, device).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    teacher = None
    if tabled:
        teacher = torch.zeros(len(labels), count_views(4, True), CLASSES, dtype=torch.float16)
        teacher = teacher.to(device)
    elif teacher_depth:
        teacher = make_network(teacher_depth, device).eval()
        teacher = teacher.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    networks = Networks(student, teacher, engine)
    optimizer = torch.optim.SGD(
        student.parameters(), 0.1, momentum=0.9, weight_decay=5e-4, fused=True
    )
    for epoch in itertools.count(1):
        sums = EpochSums()
        yield from train_epoch(networks, dataset, PROTOCOL, weights, 0, epoch, optimizer, sums)


def seconds_of(action: Callable[[], object], device: torch.device) -> float:
    """Return how long an action takes, until the device has done it."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    action()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def convolution_seconds(depth: int, device: torch.device, dtype: torch.dtype) -> float:
    """Return the time of the convolutions of a training step alone, forward and backward."""
    model = make_network(depth, device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    layers: list[tuple[nn.Module, torch.Size]] = []
    hooks = [
        layer.register_forward_hook(
            lambda layer, inputs, _: layers.append((layer, inputs[0].shape))
        )
        for layer in model.modules()
        if isinstance(layer, nn.Conv2d)
    ]
    with torch.no_grad():
        model(torch.zeros(BATCH, 3, SIZE, SIZE, device=device))
    for hook in hooks:
        hook.remove()
    total = 0.0
    for layer, shape in layers:
        layer = layer.to(dtype)
        # The images themselves need no gradient.
        inputs = torch.randn(shape, device=device, dtype=dtype, requires_grad=shape[1] > 3)
        inputs.data = inputs.data.contiguous(memory_format=torch.channels_last)
        gradient = torch.ones_like(layer(inputs))
        total += min(
            seconds_of(lambda: layer(inputs).backward(gradient), device)  # noqa: B023 called here
            for _ in range(4)
        )
    return total


def time_by_kind(steps: Iterator[None], count: int) -> dict[str, float]:
    """Return the fraction of the time of `count` steps that each kind of operation takes."""
    with torch.profiler.profile() as profile:
        for _ in range(count):
            next(steps)
    cuda = torch.cuda.is_available()
    seconds = dict.fromkeys([*KINDS, "other"], 0.0)
    for event in profile.key_averages():
        kinds = (kind for kind, names in KINDS.items() if re.search(names, event.key))
        time_ = event.self_device_time_total if cuda else event.self_cpu_time_total
        seconds[next(kinds, "other")] += time_
    return {kind: each / sum(seconds.values()) for kind, each in seconds.items()}


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Return floating-point operations per second of a product of 2048 x 2048 matrices."""
    matrix = torch.ones(2048, 2048, device=device, dtype=dtype)
    return 2 * 2048**3 / min(seconds_of(lambda: matrix @ matrix, device) for _ in range(6))


def measure_arm(
    arm: str, arguments: argparse.Namespace, device: torch.device, engine: Engine
) -> dict[str, Any]:
    """Return images/s of both loops, the ratio in each turn, and what the time goes to."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (IMAGES, SIZE, SIZE, 3), dtype=np.uint8)
    labels = generator.integers(0, CLASSES, IMAGES)
    loops = {
        "textbook": textbook_steps(arm, images, labels, device, arguments.workers),
        "ours": our_steps(arm, images, labels, device, engine),
    }
    speeds: dict[str, list[float]] = {name: [] for name in loops}
    for turn in range(arguments.turns + 1):
        for name, steps in loops.items():
            seconds = seconds_of(
                lambda steps=steps: [next(steps) for _ in range(arguments.steps)], device
            )
            # The first turn fills caches and compiles.
            if turn:
                speeds[name].append(arguments.steps * BATCH / seconds)
    depth, teacher_depth, _, tabled = ARMS[arm]
    dtype = getattr(torch, engine.precision)
    speed = statistics.median(speeds["ours"])
    operations = 6 * count_multiply_accumulates(make_network(depth, device), SIZE)
    if teacher_depth and not tabled:
        operations += 2 * count_multiply_accumulates(make_network(teacher_depth, device), SIZE)
    result: dict[str, Any] = {
        "textbook_images_per_second": statistics.median(speeds["textbook"]),
        "images_per_second": speed,
        "ratios": [ours / other for ours, other in zip(*reversed(speeds.values()), strict=True)],
        "share_of_matrix_rate": speed * operations / matrix_rate(device, dtype),
        "time_by_kind": time_by_kind(loops["ours"], arguments.steps),
    }
    if not teacher_depth or tabled:
        limit = BATCH / convolution_seconds(depth, device, dtype)
        result["convolution_limit_images_per_second"] = limit
        result["share_of_convolution_limit"] = speed / limit
    return result


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(__doc__)
    flag = parser.add_argument
    flag("--device", choices=("cpu", "cuda"), default="cpu", help="where to run")
    flag("--threads", type=number(int, 1), default=1, help="of torch on a CPU")
    flag("--workers", type=number(int, 0), default=0, help="processes of the textbook's DataLoader")
    flag("--precision", choices=("auto", "float32", "bfloat16"), default="auto", help="of ours")
    flag("--compile", choices=("on", "off"), default="off", help="ours")
    flag("--steps", type=number(int, 1), default=4, help="of 128 images, in each turn")
    flag("--turns", type=number(int, 1), default=7, help="of each loop, one after the other")
    flag("--arms", nargs="*", choices=list(ARMS), default=list(ARMS), help="what is timed")
    flag("--json", type=Path, help="output: the same as JSON")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Time all arms, print a table and write JSON."""
    arguments = parse_args(argv)
    device = prepare_device(arguments.device, arguments.threads)
    engine, chosen = pick_engine(arguments.precision, arguments.compile, device, 0)
    machine = describe_device(device) | {
        "threads": str(arguments.threads),
        "engine": chosen,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": git("rev-parse", "--short=12", "HEAD") or "unknown",
    }
    print(", ".join(f"{name} {value}" for name, value in machine.items()), flush=True)
    print(
        "| | textbook, images/s | ours, images/s | ratio (spread) | of matrix rate "
        "| of convolution limit |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    arms = {}
    for arm in arguments.arms:
        found = arms[arm] = measure_arm(arm, arguments, device, engine)
        ratios = found["ratios"]
        limit = found.get("share_of_convolution_limit")
        print(
            f"| {arm} | {found['textbook_images_per_second']:,.0f} "
            f"| {found['images_per_second']:,.0f} "
            f"| {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) "
            f"| {found['share_of_matrix_rate']:.0%} | {f'{limit:.0%}' if limit else '-'} |",
            flush=True,
        )
    print("\nShares of the time of our step, by torch's profiler:\n")
    print(f"| | {' | '.join([*KINDS, 'other'])} |\n| --- |{' ---: |' * (len(KINDS) + 1)}")
    for arm, found in arms.items():
        print(
            f"| {arm} | {' | '.join(f'{share:.0%}' for share in found['time_by_kind'].values())} |"
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device)
    print(f"\nPeak memory, all arms in one process: {peak / 1e9:.1f} GB")
    if arguments.json:
        with replacing(arguments.json) as file:
            content = {"machine": machine, "arms": arms, "peak_memory_bytes": peak}
            file.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    run(main)
