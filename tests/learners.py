"""Small networks that learn real digits, as the scripts train them, for tests of the library."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import torch

from distillation.data.dataset import Dataset
from distillation.networks import Network, build_network, initialise, stage_shapes
from distillation.settings.base import NetworkSettings, TermSettings, checked
from distillation.settings.plugins import chosen, declared
from distillation.settings.training import Protocol
from distillation.terms import Pair
from distillation.training.loop import fit
from distillation.training.objective import Objective
from distillation.training.precision import Picked
from distillation.training.resume import Learner, Row, find
from distillation.training.step import Feed, Step

# 32 images make four steps an epoch, the last one of two images.
STEPS = 4
PROTOCOL = checked(
    Protocol,
    {
        "epochs": 4, "batch_size": 10, "learning_rate": 0.05, "milestones": [3, 4], "padding": 2,
    },
)  # fmt: skip
BASELINE: dict[str, Any] = {"labels": {}}
KD = {"labels": {"weight": 0.1}, "kd": {"weight": 0.9}}
AT = {"labels": {}, "at": {"weight": 100}}
HINT = {"labels": {}, "hint": {"weight": 2}}
ALL = KD | {"at": {"weight": 100, "schedule": "linear"}, "hint": {"weight": 2}}
OTHERS: dict[str, Any] = {name: {} for name in ("labels", "sp", "rkd", "dkd", "dist")}
OTHERS |= {"kd": {"standardise": True}}
METHODS = {"baseline": BASELINE, "kd": KD, "at": AT, "hint": HINT, "all": ALL}
TIMES = ("seconds", "images_per_second")


def changed(protocol: Protocol = PROTOCOL, **changes: Any) -> Protocol:
    """Return a protocol with some settings changed."""
    return checked(Protocol, protocol.model_dump() | changes)


def terms(settings: Mapping[str, Any]) -> dict[str, TermSettings]:
    """Return declarations of terms."""
    return cast(dict[str, TermSettings], chosen("terms", dict(settings), "terms"))


def network(seed: int = 0, width: int = 1) -> Network:
    """Return a fresh network for the digits."""
    settings = checked(declared("networks", "wrn"), {"depth": 10, "width": width})
    model = build_network("wrn", cast(NetworkSettings, settings), 10, 1)
    initialise(model, "uniform", torch.Generator().manual_seed(seed))
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def teacher_network() -> Network:
    """Return a wider network in evaluation mode, whose statistics have seen something."""
    teacher = network(7, width=2)
    teacher.train()(torch.randn(32, 1, 12, 12, generator=torch.Generator().manual_seed(0)))
    return teacher.eval()


def make_feed(
    dataset: Dataset,
    protocol: Protocol = PROTOCOL,
    teacher: Network | torch.Tensor | None = None,
    picked: Picked | None = None,
) -> Feed:
    """Return what students learn from."""
    return Feed(dataset, protocol, teacher, picked or Picked())


def make_step(feed: Feed, settings: Mapping[str, Any], model: Network | None = None) -> Step:
    """Return the step of a student with these terms."""
    model, size = model or network(), (feed.dataset.image_size, 1)
    shapes = stage_shapes(feed.teacher, *size) if isinstance(feed.teacher, Network) else []
    pair = Pair(stage_shapes(model, *size), shapes)
    return Step(model, Objective(terms(settings), pair, 10), feed)


def never() -> bool:
    """Return that there is no wish to stop."""
    return False


def train(
    dataset: Dataset,
    settings: Mapping[str, Any] = BASELINE,
    protocol: Protocol = PROTOCOL,
    *,
    model: Network | None = None,
    teacher: Network | torch.Tensor | None = None,
    seed: int = 0,
    resume: Path | None = None,
    fingerprint: str = "this run",
    report: Callable[[str], None] | None = None,
    stop_asked: Callable[[], bool] = never,
    time_is_up: Callable[[], bool] = never,
) -> tuple[Network, list[Row]]:
    """Train a network and return it with its history; a teacher is made if a term needs one."""
    if teacher is None and len(settings) > 1:
        teacher = teacher_network()
    report = report or [].append
    step = make_step(make_feed(dataset, protocol, teacher), settings, model)
    learner = Learner(step, report, resume, fingerprint)
    if kept := find(resume, fingerprint, report):
        learner.go_on(kept)
    fit([learner], seed, stop_asked, time_is_up)
    return step.student, learner.history


def numbers(history: list[Row]) -> list[Row]:
    """Return a history without what measures time."""
    return [{name: value for name, value in row.items() if name not in TIMES} for row in history]


def assert_same_run(one: tuple[Network, list[Row]], two: tuple[Network, list[Row]]) -> None:
    """Check that two runs ended in the same network, bit for bit, by the same way."""
    torch.testing.assert_close(one[0].state_dict(), two[0].state_dict(), rtol=0, atol=0)
    assert numbers(one[1]) == numbers(two[1])
