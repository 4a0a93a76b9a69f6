"""What the benchmarks train: networks, terms, protocol, and images of noise."""

import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow/scripts"))

from distillation.data.dataset import Dataset, Split, count_views
from distillation.device import describe_device
from distillation.networks import Network, build_network, initialise, stage_shapes
from distillation.record.provenance import git
from distillation.settings.base import NetworkSettings, TermSettings, checked
from distillation.settings.plugins import chosen, declared
from distillation.settings.training import Protocol
from distillation.terms import Pair
from distillation.training.objective import Objective
from distillation.training.precision import Picked
from distillation.training.step import Feed, Step, Together

CLASSES, SIZE, BATCH = 10, 32, 128
# No student's.
TEACHER_SEED = 40
MEAN, STD = [125.3, 123.0, 113.9], [63.0, 62.1, 66.7]
PROTOCOL = checked(
    Protocol,
    {"epochs": 1000, "batch_size": BATCH, "schedule": "cosine", "gamma_init": "ones"},
)


@dataclass(frozen=True)
class Arm:
    """A training: network and teacher as config.yaml names them, terms, whether it has a table."""

    student: dict[str, Any]
    teacher: dict[str, Any] | None = None
    terms: dict[str, Any] = field(default_factory=lambda: {"labels": {}})
    tabled: bool = False


def wrn(depth: int, width: int = 2) -> dict[str, Any]:
    """Return a wide residual network as config.yaml names it."""
    return {"wrn": {"depth": depth, "width": width}}


WRN_40_2, WRN_16_2 = wrn(40), wrn(16)
KD = {"labels": {"weight": 0.1}, "kd": {"weight": 0.9}}
AT_KD = {**KD, "at": {"weight": 1000}}
ARMS = {
    "teacher (WRN-40-2)": Arm(WRN_40_2),
    "baseline (WRN-16-2)": Arm(WRN_16_2),
    "KD": Arm(WRN_16_2, WRN_40_2, KD),
    "KD from a table": Arm(WRN_16_2, WRN_40_2, KD, tabled=True),
    "AT+KD": Arm(WRN_16_2, WRN_40_2, AT_KD),
}


def make_network(
    named: dict[str, Any],
    device: torch.device,
    seed: int = 0,
    memory: torch.memory_format = torch.channels_last,
) -> Network:
    """Return a fresh network, in the layout that trainings use unless told."""
    [(family, values)] = named.items()
    settings = checked(declared("networks", family), values)
    model = build_network(family, cast(NetworkSettings, settings), CLASSES, 3)
    initialise(model, "ones", torch.Generator().manual_seed(seed))
    return model.to(device, memory_format=memory)  # type: ignore[call-overload]


def noise(count: int, side: int, seed: int, device: torch.device) -> Split:
    """Return images of noise with labels at random, on the device."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (count, side, side, 3), generator=generator, dtype=torch.uint8)
    return Split(images, torch.randint(CLASSES, (count,), generator=generator)).to(device)


def make_dataset(train: Split, test: Split) -> Dataset:
    """Return a data set of two splits."""
    return Dataset(train, test, [str(name) for name in range(CLASSES)], MEAN, STD, "")


def make_students(
    arms: list[Arm], dataset: Dataset, picked: Picked, protocol: Protocol = PROTOCOL, seed: int = 0
) -> Together:
    """Return the training steps of arms that share a teacher, as train_student makes them."""
    device, size = dataset.train.images.device, (dataset.image_size, 3)
    teacher, shapes = None, []
    taught = next((arm for arm in arms if arm.teacher), arms[0])
    if taught.tabled:
        views = count_views(protocol.padding, protocol.flip)
        teacher = torch.zeros(len(dataset.train.labels), views, CLASSES, dtype=torch.float16)
        teacher = teacher.to(device)
    elif taught.teacher:
        teacher = make_network(taught.teacher, device, TEACHER_SEED).eval()
        shapes = stage_shapes(teacher, *size)
    feed, steps = Feed(dataset, protocol, teacher, picked), []
    for arm in arms:
        student = make_network(arm.student, device, seed).train()
        pair = Pair(stage_shapes(student, *size), shapes)
        terms = cast(dict[str, TermSettings], chosen("terms", arm.terms, "terms"))
        steps.append(Step(student, Objective(terms, pair, CLASSES).to(device), feed))
    return Together(steps)


def seconds_of(action: Callable[[], object], device: torch.device) -> float:
    """Return how long an action takes, until the device has done it."""
    wait = torch.cuda.synchronize if device.type == "cuda" else bool
    wait()
    started = time.perf_counter()
    action()
    wait()
    return time.perf_counter() - started


def describe_machine(device: torch.device) -> dict[str, str]:
    """Return what figures were measured on, and with."""
    return describe_device(device) | {
        "torch": torch.__version__, "python": platform.python_version(),
        "commit": git("rev-parse", "--short=12", "HEAD") or "unknown",
    }  # fmt: skip
