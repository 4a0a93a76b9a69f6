"""What train_teacher and train_student share: their flags, and a run from data to files."""

import argparse
import csv
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from distillation.arguments import LARGEST_SEED, number, picked
from distillation.checkpoint import load_checkpoint, save_checkpoint
from distillation.data import Dataset, check_padding, read_dataset
from distillation.device import describe_device, prepare_device
from distillation.engine import Compile, Precision, pick_engine
from distillation.files import only_run_in, replacing, replacing_folder
from distillation.models import (
    GammaInit,
    PaddingMode,
    WideResNet,
    count_multiply_accumulates,
    count_parameters,
    initialise,
)
from distillation.provenance import PACKAGES, describe_step, fingerprint
from distillation.state import Row
from distillation.targets import read_targets
from distillation.training import Protocol, Schedule, Weights, fit

# Columns of the history as TensorBoard shows them: what stands before the stroke is a section of
# its page.
TAGS = {
    "train_accuracy": "accuracy/train",
    "test_accuracy": "accuracy/test",
    "cross_entropy": "cross_entropy/train",
    "test_cross_entropy": "cross_entropy/test",
    "loss": "loss/total",
    "distillation": "loss/distillation",
    "learning_rate": "schedule/learning_rate",
    "beta": "schedule/beta",
    "seconds": "speed/seconds",
    "images_per_second": "speed/images_per_second",
}


def add_training_flags(parser: argparse.ArgumentParser) -> None:
    """Add files, network, protocol and machine; what config.yaml says of a training."""
    flag = parser.add_argument
    flag("--data", type=Path, required=True, help="prepared data, .npz")
    flag("--checkpoint", type=Path, required=True, help="output: the network, .pt")
    flag("--history", type=Path, required=True, help="output: a row per epoch, .csv")
    flag("--tensorboard", type=Path, help="output: folder of TensorBoard events")
    flag("--resume", type=Path, help="state between epochs; removed at the end")
    flag(
        "--time-limit", type=number(float, 0),
        help="minutes from now; stop after the epoch after which another might not fit, "
        "for a later run to go on from --resume (default: no limit)",
    )  # fmt: skip
    flag("--depth", type=number(int, 10), required=True, help="6 n + 4 layers")
    flag("--width", type=number(int, 1), required=True, help="factor on the channels, from 1")
    padding_mode = {"choices": get_args(PaddingMode), "default": "zeros"}
    flag("--padding-mode", **padding_mode, help="of the convolutions (default: %(default)s)")
    seed = number(int, 0, LARGEST_SEED)
    flag("--seed", type=seed, required=True, help="of initialisation, order and views")
    flag("--device", choices=("cpu", "cuda"), required=True, help="where to train")
    flag("--threads", type=number(int, 1), default=1, help="of torch on a CPU; can change sums")
    precision = {"choices": get_args(Precision), "default": "float32"}
    flag("--precision", **precision, help="of the networks; auto: what pays (default: %(default)s)")
    compile_ = {"choices": get_args(Compile), "default": "off"}
    flag("--compile", **compile_, help="the networks; auto: where it pays (default: %(default)s)")
    add_protocol_flags(parser)


def add_protocol_flags(parser: argparse.ArgumentParser) -> None:
    """Add a flag for each field of Protocol."""
    flag = parser.add_argument
    switch = argparse.BooleanOptionalAction
    flag("--epochs", type=number(int, 1), required=True, help="passes over the training split")
    flag("--batch-size", type=number(int, 2), required=True, help="images per step, from 2")
    flag("--schedule", choices=get_args(Schedule), required=True, help="of the learning rate")
    flag("--learning-rate", type=number(float, above=0), required=True, help="peak, above 0")
    flag(
        "--milestones", type=number(int, 1), nargs="*", default=[],
        help="schedule step: epochs, counted from 1, at whose start the learning rate drops",
    )  # fmt: skip
    flag(
        "--learning-rate-decay", type=number(float, 0, 1), default=0.2,
        help="schedule step: factor at each drop, 0 to 1 (default: %(default)s)",
    )  # fmt: skip
    flag(
        "--reset-momentum", action=switch, default=False,
        help="schedule step: forget the momentum at each drop",
    )  # fmt: skip
    flag(
        "--rise", type=number(float, 0, 0.99), default=0.3,
        help="schedule one_cycle: rising fraction of the run, 0 to 0.99 (default: %(default)s)",
    )  # fmt: skip
    flag("--momentum", type=number(float, 0, 0.999), required=True, help="of SGD, 0 to 0.999")
    flag("--nesterov", action=switch, default=False, help="Nesterov momentum")
    flag("--weight-decay", type=number(float, 0), required=True, help="L2 factor, from 0")
    flag("--padding", type=number(int, 0), required=True, help="pixels of random shift, from 0")
    flag("--flip", action=switch, default=False, help="mirror half of the images")
    flag("--gamma-init", choices=get_args(GammaInit), required=True, help="of batch norm")


def prepare_run(arguments: argparse.Namespace) -> tuple[Dataset, torch.device]:
    """Check protocol and device, set threads and determinism, and read the data.

    Raises:
        ValueError, FileNotFoundError: something asked for isn't there, or the two don't fit.
    """
    if arguments.time_limit is not None and not arguments.resume:
        raise ValueError("time_limit is given without resume, from which a later run would go on")
    device = prepare_device(arguments.device, arguments.threads)
    if arguments.nesterov and not arguments.momentum:
        raise ValueError("nesterov is on, but momentum is 0; allowed: momentum above 0")
    dataset = read_dataset(arguments.data)
    check_padding(arguments.padding, dataset)
    if len(dataset.train.labels) % arguments.batch_size == 1:
        raise ValueError(
            f"batch_size is {arguments.batch_size}, which leaves a last batch of 1 of the "
            f"{len(dataset.train.labels)} training images; batch norm needs at least 2"
        )
    return dataset, device


def train_and_save(
    arguments: argparse.Namespace, weights: Weights, teacher: Path | None, targets: Path | None
) -> None:
    """Train a network as the arguments say and write checkpoint, history and events.

    The teacher is a checkpoint, or given by the table of its targets.

    Raises:
        ValueError, OSError, FloatingPointError, KeyboardInterrupt: see the functions called.
    """
    time_is_up = time_keeper(arguments.time_limit)
    dataset, device = prepare_run(arguments)
    provenance = describe_step(
        arguments, PACKAGES, data_sha256=dataset.sha256, **describe_device(device)
    )
    taught_by: WideResNet | Tensor | None = None
    if teacher is not None:
        taught_by, provenance["teacher"] = load_teacher(teacher, dataset, device)
    if targets is not None:
        table = read_targets(targets, dataset, arguments.padding, arguments.flip)
        taught_by = table.logits.to(device)
        provenance["teacher"] = table.provenance.pop("teacher")
        provenance["teacher_targets"] = table.provenance
    protocol = picked(Protocol, arguments)
    model = WideResNet(
        arguments.depth, arguments.width, len(dataset.class_names), dataset.channels,
        arguments.padding_mode,
    )  # fmt: skip
    initialise(model, protocol.gamma_init, torch.Generator().manual_seed(arguments.seed))
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    engine, chosen = pick_engine(
        arguments.precision, arguments.compile, device,
        training_operations(model, dataset, protocol.epochs),
    )  # fmt: skip
    provenance["engine"] = asdict(engine)

    def report(line: str) -> None:
        print(f"{arguments.checkpoint.parent}: {line}", flush=True)

    with only_run_in(arguments.checkpoint.parent), stop_at_signals() as stop_asked:
        report(
            f"WRN-{arguments.depth}-{arguments.width}, {count_parameters(model):,} parameters, "
            f"{len(dataset.train.labels):,} images, {arguments.device}, "
            f"{arguments.threads} thread(s), {chosen}"
        )
        history = fit(
            model, dataset.to(device), protocol, weights, taught_by, arguments.seed,
            arguments.resume, fingerprint(provenance), report, stop_asked, engine, time_is_up,
        )  # fmt: skip
        save_checkpoint(arguments.checkpoint, model, dataset, provenance)
        write_history(arguments.history, history)
        if arguments.tensorboard:
            write_events(arguments.tensorboard, history)
        if arguments.resume:
            arguments.resume.unlink(missing_ok=True)


def load_teacher(
    path: Path, dataset: Dataset, device: torch.device
) -> tuple[WideResNet, dict[str, Any]]:
    """Read a teacher's checkpoint; return the network in evaluation mode, and its provenance.

    Raises:
        ValueError, FileNotFoundError: it can't be read, or was trained on other data.
    """
    model, content = load_checkpoint(path, dataset, device)
    if (content["mean"], content["std"]) != (dataset.mean, dataset.std):
        raise ValueError(f"{path}: trained on data with another mean or standard deviation")
    return model, content["provenance"]


def training_operations(model: WideResNet, dataset: Dataset, epochs: int) -> float:
    """Return the floating-point operations of a training, without those of a teacher.

    A multiply-accumulate is two, and the backward pass costs twice the forward pass.
    """
    image = 6 * count_multiply_accumulates(model, dataset.image_size)
    return image * len(dataset.train.labels) * epochs


def time_keeper(
    limit: float | None, clock: Callable[[], float] = time.monotonic
) -> Callable[[], bool]:
    """Make the function that tells, at each epoch's end, whether another might not fit.

    An epoch is taken to last as long as the longest so far, with what came before the first.

    Args:
        limit: minutes from now; None: no limit.
        clock: seconds from any moment on.
    """
    started = clock()
    ends = [started]

    def time_is_up() -> bool:
        ends.append(clock())
        longest = max(end - start for start, end in pairwise(ends))
        return limit is not None and ends[-1] + longest > started + 60 * limit

    return time_is_up


@contextmanager
def stop_at_signals() -> Iterator[Callable[[], bool]]:
    """Turn SIGTERM and SIGINT into a wish to stop; yield the function that tells whether there is.

    A signal that the process was told to ignore (nohup) stays ignored.
    """
    received = []
    numbers = [
        number for number in (signal.SIGTERM, signal.SIGINT)
        if signal.getsignal(number) is not signal.SIG_IGN
    ]  # fmt: skip
    before = {
        number: signal.signal(number, lambda number, _: received.append(number))
        for number in numbers
    }
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def write_history(path: Path, history: list[Row]) -> None:
    """Write one row per epoch as CSV; accuracies are fractions, times seconds."""
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(history[0]))
        writer.writeheader()
        writer.writerows(history)


def tag(column: str) -> str:
    """Return the tag of a column of the history: section/curve."""
    return f"loss/{column}" if column.startswith("attention_") else TAGS[column]


def write_events(folder: Path, history: list[Row]) -> None:
    """Write the history as TensorBoard events into a folder, which is replaced as a whole.

    Their times are those of the epochs' ends, as if the run had trained without a break until now.
    """
    # Imported here: it takes a second, which --help and bad flags need not wait for.
    from torch.utils.tensorboard.writer import SummaryWriter

    with replacing_folder(folder) as temporary, SummaryWriter(str(temporary)) as writer:
        clock = time.time() - sum(row["seconds"] for row in history)
        for row in history:
            clock += row["seconds"]
            for name, value in row.items():
                if name != "epoch":
                    writer.add_scalar(tag(name), value, int(row["epoch"]), walltime=clock)
