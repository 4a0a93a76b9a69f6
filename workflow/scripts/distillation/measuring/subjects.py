"""The networks whose attention is measured, and their untrained controls."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, cast, get_args

import torch

from distillation.data.dataset import Dataset
from distillation.networks import (
    GammaInit,
    Network,
    build_network,
    initialise,
    stage_shapes,
)
from distillation.settings.base import NetworkSettings
from distillation.settings.plugins import chosen
from distillation.stages import Pair, pair_stages
from distillation.training.norms import estimate_norms


@dataclass(frozen=True)
class Subject:
    """A network that is measured.

    `stages` is their number; `partners` has, for those stages that are compared with one, that of
    the teacher; `control` is the method of its untrained control, or empty. Stages count from 1.
    """

    method: str
    seed: int
    title: str
    model: Network
    stages: int
    control: str = ""
    partners: dict[int, int] = field(default_factory=dict)


class Source(NamedTuple):
    """Where a network comes from: its method, the seed of its training, and its checkpoint."""

    method: str
    seed: int
    checkpoint: Path


# Returns the network of a checkpoint, and the checkpoint's content.
Load = Callable[[Path], tuple[Network, dict[str, Any]]]


def read_subjects(
    sources: list[Source], teacher: Network | None, taught: list[str], norm_images: int,
    dataset: Dataset, load: Load,
) -> list[Subject]:  # fmt: skip
    """Return the networks, and after them the untrained controls.

    Networks of one architecture whose parameters were drawn alike share a control, which is called
    untrained_ and the first of their methods. A network whose provenance doesn't tell has none.

    Args:
        sources: of the networks.
        teacher: what the taught are compared with, or None.
        taught: methods.
        norm_images: training images for the batch norm of the controls.
        dataset: what the networks were trained on.
        load: reads a checkpoint.

    Raises:
        FileNotFoundError, ValueError: a checkpoint can't be read, or isn't what its source says; a
            method is named twice or isn't known; there are taught without teacher.
    """
    check_taught(taught, [source.method for source in sources], teacher)
    subjects: list[Subject] = []
    controls: dict[tuple[str, Start], Subject] = {}
    for method, seed, path in sources:
        model, content = load(path)
        if (own := content["provenance"].get("seed")) not in (seed, None):
            raise ValueError(f"{path}: is of seed {own}, expected {seed}")
        stages = len(stage_shapes(model, dataset.image_size, dataset.channels))
        subject = Subject(method, seed, content["title"], model, stages)
        if teacher is not None and method in taught:
            subject = replace(subject, partners=find_partners(model, teacher, dataset))
        if start := start_of(content):
            key = (json.dumps(content["network"], sort_keys=True), start)
            control = controls.get(key) or replace(subject, method=f"untrained_{method}")
            # Those of one architecture that are taught have the same.
            controls[key] = replace(control, partners=control.partners or subject.partners)
            subject = replace(subject, control=control.method)
        subjects.append(subject)
    names = [subject.method for subject in (*subjects, *controls.values())]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"network: {min(twice)} is named twice; allowed: each method once")
    for (network, start), control in controls.items():
        device = next(control.model.parameters()).device
        model = untrained_network(json.loads(network), start, dataset, norm_images, device)
        subjects.append(replace(control, model=model))
    return subjects


def check_taught(taught: list[str], methods: list[str], teacher: Network | None) -> None:
    """Refuse methods that are taught but aren't there, or have no teacher."""
    if unknown := {*taught} - {*methods}:
        raise ValueError(
            f"taught: found {', '.join(sorted(unknown))}; allowed: {', '.join(methods)}"
        )
    if taught and teacher is None:
        raise ValueError("taught is given without teacher; allowed: both or none")


def find_partners(student: Network, teacher: Network, dataset: Dataset) -> dict[int, int]:
    """Return the teacher's stage for each of the student's that has one of equal size, from 1."""
    size, channels = dataset.image_size, dataset.channels
    pair = Pair(*(stage_shapes(model, size, channels) for model in (student, teacher)))
    if not {shape[1:] for shape in pair.student} & {shape[1:] for shape in pair.teacher}:
        return {}
    return {match.student + 1: match.teacher + 1 for match in pair_stages(pair, "by_size")}


class Start(NamedTuple):
    """What a network's parameters were drawn from."""

    seed: int
    gamma_init: GammaInit


def start_of(content: dict[str, Any]) -> Start | None:
    """Return what a checkpoint's training began from, or None where its provenance doesn't tell."""
    seed, arguments = (content["provenance"].get(name) for name in ("seed", "arguments"))
    gamma = arguments.get("gamma_init") if isinstance(arguments, dict) else None
    known = type(seed) is int and gamma in get_args(GammaInit)
    return Start(seed, gamma) if known else None  # type: ignore[arg-type]


def untrained_network(
    network: dict[str, Any], start: Start, dataset: Dataset, images: int, device: torch.device
) -> Network:
    """Return the network that a run started from, drawn as it draws it, in evaluation mode.

    Weights of a file aren't read. Its batch norm knows random training images, at most `images` in
    all.

    Args:
        network: family and settings, as a checkpoint has them.
        start: of the run; its seed draws the images as well.
        dataset: what the run was trained on.
        images: number of training images.
        device: where the network is to run.
    """
    ((family, settings),) = chosen("networks", network, "network").items()
    model = build_network(
        family, cast(NetworkSettings, settings), len(dataset.class_names), dataset.channels
    )
    initialise(model, start.gamma_init, torch.Generator().manual_seed(start.seed))
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    estimate_norms(model, dataset, start.seed, images)
    return model
