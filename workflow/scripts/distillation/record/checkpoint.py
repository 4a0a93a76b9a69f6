"""Checkpoints that describe themselves, read without running anything in them.

A checkpoint is a map of: format; network, its family and settings; title, its name in tables;
channels of the images; state, the weights; mean and std, by which images are normalised;
class_names; provenance. An exported folder holds the same as safetensors and JSON.
"""

import io
import json
import pickle
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Self

import torch
from pydantic import Field, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from distillation.data.arrays import digest_arrays
from distillation.data.dataset import Dataset
from distillation.networks import Network, build_network
from distillation.record.files import EXPORTED, replacing
from distillation.settings import plugins
from distillation.settings.base import NetworkSettings, Settings, checked

FORMAT = "attention-transfer-pipeline checkpoint 2"
# Written until networks had families: WRN's settings, with classes and channels, as `architecture`.
FORMAT_1 = "attention-transfer-pipeline checkpoint 1"
# Numbers that a network may have beyond those of its file, and how many a tensor counts for at
# least: enough to name what differs, and nothing that takes a second to build.
ROOM = 10_000_000
LEAST = 10_000
# Of a mean or standard deviation, in grey levels: far beyond any.
LARGEST = 1e6


class Content(Settings):
    """What a checkpoint holds, of whatever format."""

    network: dict[str, Any] = Field(description="a family and its settings")
    channels: int = Field(ge=1, description="of the images")
    state: dict[str, Any] = Field(description="the weights by name")
    mean: list[Annotated[float, Field(gt=-LARGEST, lt=LARGEST)]] = Field(description="by channel")
    std: list[Annotated[float, Field(gt=0, lt=LARGEST)]] = Field(description="by channel")
    class_names: list[str] = Field(min_length=2, description="in order")
    provenance: dict[str, Any]

    @model_validator(mode="after")
    def one_for_each_channel(self) -> Self:
        """Refuse a mean or standard deviation of other channels."""
        if not len(self.mean) == len(self.std) == self.channels:
            found = f"{len(self.mean)} in mean and {len(self.std)} in std"
            raise ValueError(f"found {found}; allowed: {self.channels}, one for each channel")
        return self


def save_checkpoint(
    path: Path,
    model: nn.Module,
    network: Mapping[str, NetworkSettings],
    dataset: Dataset,
    provenance: dict[str, Any],
) -> None:
    """Write weights and what describes them, whole or not at all; `network`: family -> settings."""
    ((family, settings),) = network.items()
    content = {
        "format": FORMAT,
        "network": {family: settings.plain()},
        "title": settings.title,
        "channels": dataset.channels,
        "state": {name: tensor.cpu() for name, tensor in model.state_dict().items()},
        "mean": dataset.mean,
        "std": dataset.std,
        "class_names": dataset.class_names,
        # Equal texts are one object in some runs and several in others, which pickle tells apart:
        # through JSON, the same content gives the same bytes.
        "provenance": json.loads(json.dumps(provenance)),
    }
    save_plain(path, content)


def read_checkpoint(path: Path) -> tuple[Network, dict[str, Any]]:
    """Rebuild the network of a checkpoint, in evaluation mode, on the CPU.

    Returns:
        The network and the checkpoint's content, whatever its format as that of the latest.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no checkpoint of this project, or is damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such file; train_teacher.py or train_student.py writes it"
        )
    content = load_plain(path)
    if not is_checkpoint(content):
        raise ValueError(f"{path}: not a checkpoint of this project; expected format {FORMAT!r}")
    return rebuild(path, content, path.stat().st_size)


def is_checkpoint(content: Any) -> bool:
    """Tell whether what a file holds calls itself a checkpoint of this project."""
    return isinstance(content, dict) and content.get("format") in (FORMAT, FORMAT_1)


def read_folder(path: Path) -> tuple[Network, dict[str, Any]]:
    """Rebuild the network of an exported folder, as `read_checkpoint` does.

    Raises:
        FileNotFoundError: one of its files isn't there.
        ValueError: one of its files is damaged, or they don't fit together.
    """
    weights, description = (path / name for name in EXPORTED)
    for file in (weights, description):
        if not file.is_file():
            raise FileNotFoundError(f"{file}: no such file; export_model.py --folder writes it")
    try:
        content = json.loads(description.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{description}: not readable as JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(
            f"{description}: found no map; allowed: a map of {', '.join(Content.model_fields)}"
        )
    try:
        content["state"] = load_file(weights)
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise ValueError(f"{weights}: damaged, or not in safetensors' format: {error}") from error
    return rebuild(path, content, weights.stat().st_size)


def load_checkpoint(path: Path, dataset: Dataset, device: torch.device) -> tuple[Network, dict]:
    """Rebuild the network of a checkpoint, in evaluation mode, for the classes of `dataset`.

    Returns:
        The network on `device`, in channels-last memory, and the checkpoint's content.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no checkpoint of this project, is damaged, or its classes or
            channels aren't those of `dataset`.
    """
    model, content = read_checkpoint(path)
    check_fits(path, content, dataset)
    return model.to(device, memory_format=torch.channels_last), content  # type: ignore[call-overload]


def load_teacher(path: Path, dataset: Dataset, device: torch.device) -> tuple[Network, dict]:
    """Rebuild the network of a checkpoint as `load_checkpoint`, for a student on the same images.

    Raises:
        FileNotFoundError, ValueError: as there; or the checkpoint's images were normalised by
            another mean or standard deviation than those of `dataset`.
    """
    model, content = load_checkpoint(path, dataset, device)
    check_normalisation(path, content, dataset)
    return model, content


def weights_digest(model: nn.Module) -> str:
    """Return the sha256 of a network's weights.

    Networks that were trained in the same way may have others: on a GPU of another driver.
    """
    state = model.state_dict()
    return digest_arrays({name: tensor.cpu().numpy() for name, tensor in state.items()})


def check_fits(path: Path, content: dict[str, Any], dataset: Dataset) -> None:
    """Raise ValueError if a network's classes or channels aren't those of the data."""
    if content["class_names"] != dataset.class_names:
        raise ValueError(
            f"{path}: trained for {len(content['class_names'])} classes "
            f"({some(content['class_names'])}), but the data has {len(dataset.class_names)} "
            f"({some(dataset.class_names)})"
        )
    if content["channels"] != dataset.channels:
        raise ValueError(
            f"{path}: trained on {content['channels']} channels, but the data has "
            f"{dataset.channels}"
        )


def check_normalisation(path: Path, content: dict[str, Any], dataset: Dataset) -> None:
    """Raise ValueError if a network's images are normalised otherwise than the data's."""
    if (content["mean"], content["std"]) != (dataset.mean, dataset.std):
        raise ValueError(f"{path}: trained on data with another mean or standard deviation")


def rebuild(path: Path, content: dict[str, Any], size: int) -> tuple[Network, dict[str, Any]]:
    """Check what describes a network, of any format, and build it with its weights.

    Args:
        path: for messages.
        content: see the top of this file.
        size: bytes of the file; what needs far more isn't built.

    Returns:
        The network in evaluation mode, and the content in the latest format.

    Raises:
        ValueError: something is missing, of another type, or doesn't fit.
    """
    if content.get("format") == FORMAT_1:
        content = as_latest(path, content)
    try:
        json.dumps(content.get("provenance"))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: provenance is nothing that JSON can hold: {error}") from error
    known = {name: content[name] for name in Content.model_fields if name in content}
    given = checked(Content, known, f"{path}: content")
    family, settings = plugins.chosen_one("networks", given.network, f"{path}: network")
    classes, channels = len(given.class_names), given.channels
    model = filled(path, {family: settings}, classes, channels, given.state, size)
    # What the settings say, with those that have defaults; not what a file claims.
    own = {"format": FORMAT, "network": {family: settings.plain()}, "title": settings.title}
    return model, content | own | {"channels": channels}


def as_latest(path: Path, content: dict[str, Any]) -> dict[str, Any]:
    """Return the content of format 1 in the latest format."""
    old = content.get("architecture")
    if not isinstance(old, dict) or not {"classes", "channels"} <= old.keys():
        raise ValueError(f"{path}: lacks architecture, a map with classes and channels")
    settings = {name: old[name] for name in old if name not in ("classes", "channels")}
    rest = {name: content[name] for name in content if name != "architecture"}
    names: Any = content.get("class_names")
    if isinstance(names, list) and len(names) != old["classes"]:
        raise ValueError(f"{path}: architecture has not the {len(names)} classes of class_names")
    return rest | {"network": {"wrn": settings}, "channels": old["channels"]}


def filled(
    path: Path,
    network: Mapping[str, NetworkSettings],
    classes: int,
    channels: int,
    state: Any,
    size: int,
) -> Network:
    """Build a network with weights, in evaluation mode.

    Raises:
        ValueError: the weights don't fit it, which names the first that differ, or aren't finite.
    """
    ((family, settings),) = network.items()
    title = f"{settings.title} for {classes} classes and {channels} channel(s)"
    state = tensors_of(path, state)
    refused = f"{path}: its weights don't fit its network {title}"
    try:
        with building_at_most(size + LEAST * len(state) + ROOM):
            model = build_network(family, settings, classes, channels)
    except (RuntimeError, ValueError, TypeError, OverflowError, MemoryError) as error:
        first_line = str(error).partition("\n")[0]
        raise ValueError(f"{refused}, which can't be built for them: {first_line}") from error
    load_weights(path, title, model, state)
    return model.eval()


def tensors_of(path: Path, state: Any) -> dict[str, Tensor]:
    """Return what is to be a state dict, or raise ValueError."""
    if not isinstance(state, dict) or not all(isinstance(each, Tensor) for each in state.values()):
        raise ValueError(f"{path}: holds no map of names to tensors as weights")
    return state


def load_weights(path: Path, title: str, model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put weights into a network, called `title` in messages.

    Raises:
        ValueError: they don't fit it, which names the first that differ, or aren't finite.
    """
    refused = f"{path}: its weights don't fit its network {title}"
    own = model.state_dict()
    differing = {
        "lacks": [name for name in own if name not in state],
        "has, which the network doesn't,": [name for name in state if name not in own],
        "has of another shape or type": [
            f"{name} {tuple(state[name].shape)}, not {tuple(tensor.shape)}"
            for name, tensor in own.items()
            if name in state and unlike(state[name], tensor)
        ],
    }
    if any(differing.values()):
        told = [f"{what} {some(names)}" for what, names in differing.items() if names]
        raise ValueError(f"{refused}: the file {'; '.join(told)}")
    try:
        model.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise ValueError(refused) from error
    for name, tensor in model.state_dict().items():
        if not tensor.isfinite().all():
            raise ValueError(f"{path}: {name} holds NaN or infinity; allowed: finite weights")


@contextmanager
def building_at_most(budget: int) -> Iterator[None]:
    """Stop the building of networks, before its memory is used, whose parameters are too many."""
    left = budget

    def count(module: nn.Module, name: str, parameter: Tensor | None) -> None:  # noqa: ARG001
        nonlocal left
        left -= max(0 if parameter is None else parameter.numel(), LEAST)
        if left < 0:
            raise ValueError("it is far larger")

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()


def unlike(tensor: Tensor, expected: Tensor) -> bool:
    """Tell whether a tensor can't take the place of another."""
    return (
        tensor.shape != expected.shape
        or tensor.is_floating_point() != expected.is_floating_point()
        or tensor.is_complex()
    )


def some(names: Sequence[object]) -> str:
    """Return the first three of a list of names."""
    return ", ".join(map(str, names[:3])) + (", ..." if len(names) > 3 else "")


def save_plain(path: Path, content: dict[str, Any]) -> None:
    """Write tensors, numbers and text in torch's format, whole or not at all.

    Raises:
        OSError: there is no room, or no right to write.
    """
    # By way of memory: torch's own writer doesn't say why it can't write.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with replacing(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def load_plain(path: Path) -> Any:
    """Read tensors, numbers and text that torch.save wrote; nothing in the file is ever run.

    Raises:
        OSError: the file can't be read at all, which says nothing about what it holds.
        ValueError: the file is damaged, or holds something else.
    """
    content = io.BytesIO(path.read_bytes())
    try:
        # Of a file that isn't zipped, torch would read the pickle formats of long ago.
        if not zipfile.is_zipfile(content):
            raise ValueError("not an archive as torch.save writes it")
        content.seek(0)
        with warnings.catch_warnings(action="ignore"):
            return torch.load(content, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's own message advises to switch the check off.
        raise ValueError(
            f"{path}: damaged, or not a checkpoint: holds more than tensors, numbers and text"
        ) from error
    # Damage shows in many ways, each an error of its own.
    except Exception as error:
        first_line = str(error).strip().partition("\n")[0]
        raise ValueError(f"{path}: damaged, or not a checkpoint: {first_line}") from error
