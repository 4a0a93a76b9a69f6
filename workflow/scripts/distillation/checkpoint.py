"""Checkpoints that describe themselves, read without running anything in them."""

import io
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from distillation.data import Dataset
from distillation.files import replacing
from distillation.models import WideResNet

FORMAT = "attention-transfer-pipeline checkpoint 1"
CONTENT = ("architecture", "state", "mean", "std", "class_names", "provenance")


def save_checkpoint(
    path: Path, model: WideResNet, dataset: Dataset, provenance: dict[str, Any]
) -> None:
    """Write weights and what describes them, whole or not at all."""
    content = {
        "format": FORMAT,
        "architecture": model.architecture,
        "state": {name: tensor.cpu() for name, tensor in model.state_dict().items()},
        "mean": dataset.mean,
        "std": dataset.std,
        "class_names": dataset.class_names,
        "provenance": provenance,
    }
    save_plain(path, content)


def read_checkpoint(path: Path) -> tuple[WideResNet, dict[str, Any]]:
    """Rebuild the model of a checkpoint, in evaluation mode, on the CPU.

    Returns:
        The model and the checkpoint's content.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no checkpoint of this project, or is damaged.
    """
    content = _read_content(path)
    return _rebuild(path, content).eval(), content


def load_checkpoint(path: Path, dataset: Dataset, device: torch.device) -> tuple[WideResNet, dict]:
    """Rebuild the model of a checkpoint, in evaluation mode, for the classes of `dataset`.

    Returns:
        The model on `device`, in channels-last memory, and the checkpoint's content.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no checkpoint of this project, is damaged, or its classes or
            channels aren't those of `dataset`.
    """
    model, content = read_checkpoint(path)
    if content["class_names"] != dataset.class_names:
        raise ValueError(
            f"{path}: trained for {len(content['class_names'])} classes "
            f"({_shortened(content['class_names'])}), but the data has {len(dataset.class_names)} "
            f"({_shortened(dataset.class_names)})"
        )
    if model.architecture["channels"] != dataset.channels:
        raise ValueError(
            f"{path}: trained on {model.architecture['channels']} channels, "
            f"but the data has {dataset.channels}"
        )
    return model.to(device, memory_format=torch.channels_last), content  # type: ignore[call-overload]


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
        ValueError: the file is damaged, or holds something else.
    """
    try:
        # Of a file that isn't zipped, torch would read the pickle formats of long ago.
        if not zipfile.is_zipfile(path):
            raise ValueError("not an archive as torch.save writes it")
        with warnings.catch_warnings(action="ignore"):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's own message advises to switch the check off.
        raise ValueError(
            f"{path}: damaged, or not a checkpoint: holds more than tensors, numbers and text"
        ) from error
    # Damage shows in many ways, each an error of its own.
    except Exception as error:
        first_line = str(error).strip().partition("\n")[0]
        raise ValueError(f"{path}: damaged, or not a checkpoint: {first_line}") from error


def _read_content(path: Path) -> dict[str, Any]:
    """Read the file and check that it is a checkpoint of this project."""
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such file; train_teacher.py or train_student.py writes it"
        )
    content = load_plain(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{path}: not a checkpoint of this project; expected format {FORMAT!r}")
    missing = [name for name in CONTENT if name not in content]
    if missing:
        raise ValueError(f"{path}: lacks {', '.join(missing)}")
    return content


def _rebuild(path: Path, content: dict[str, Any]) -> WideResNet:
    """Build the network that the content describes, with its weights."""
    try:
        model = WideResNet(**content["architecture"])
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: of another architecture: {error}") from error
    try:
        model.load_state_dict(content["state"])
    except (RuntimeError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path}: its weights don't fit its architecture {content['architecture']}"
        ) from error
    return model


def _shortened(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
