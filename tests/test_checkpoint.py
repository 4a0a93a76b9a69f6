"""Checkpoints: written and read whole, and never trusted."""

import contextlib
import io
import pickle
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distillation.checkpoint import load_checkpoint, save_checkpoint
from distillation.data import Dataset, normalise
from distillation.models import WideResNet, initialise

CPU = torch.device("cpu")
PROVENANCE = {"seed": 3, "arguments": {"learning_rate": 0.1, "milestones": [1, 2]}, "commit": None}


def make_model() -> WideResNet:
    """Return a network whose running statistics have seen something."""
    model = WideResNet(10, 1, 10, 1)
    generator = torch.Generator().manual_seed(0)
    initialise(model, "uniform", generator)
    model.train()(torch.randn(32, 1, 12, 12, generator=generator))
    return model


@pytest.fixture
def checkpoint(tmp_path: Path, digits: Dataset) -> Path:
    """Return a checkpoint trained on the digits."""
    path = tmp_path / "folder" / "checkpoint.pt"
    save_checkpoint(path, make_model(), digits, PROVENANCE)
    return path


def refusal(path: Path, dataset: Dataset) -> str:
    """Return the message of the ValueError that loading raises, which names the file."""
    with pytest.raises(ValueError, match=re.escape(str(path))) as caught:
        load_checkpoint(path, dataset, CPU)
    return str(caught.value)


def rewrite(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the content of a checkpoint in place."""
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)


def test_round_trip_gives_the_same_outputs(checkpoint, digits):
    """A network that is saved and loaded gives bit for bit the same outputs, in evaluation mode."""
    loaded, _ = load_checkpoint(checkpoint, digits, CPU)
    original = make_model().eval()
    original.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = normalise(digits.test.images, digits.mean, digits.std)
    assert not loaded.training
    assert loaded.architecture == original.architecture
    with torch.no_grad():
        torch.testing.assert_close(loaded(images), original(images), rtol=0, atol=0)
    torch.testing.assert_close(loaded.state_dict(), original.state_dict(), rtol=0, atol=0)


def test_round_trip_keeps_what_describes_the_network(checkpoint, digits):
    """Normalisation, classes, architecture and provenance come back as they were given."""
    _, content = load_checkpoint(checkpoint, digits, CPU)
    assert content["mean"] == digits.mean
    assert content["std"] == digits.std
    assert content["class_names"] == digits.class_names
    assert content["architecture"] == {"depth": 10, "width": 1, "classes": 10, "channels": 1}
    assert content["provenance"] == PROVENANCE


def test_saving_leaves_one_file(checkpoint):
    """Beside the checkpoint no temporary file stays."""
    assert [file.name for file in checkpoint.parent.iterdir()] == ["checkpoint.pt"]


def test_missing_checkpoint_is_named(tmp_path, digits):
    """A checkpoint that isn't there raises FileNotFoundError that says who writes it."""
    with pytest.raises(FileNotFoundError, match=r"none\.pt: no such file; train_teacher\.py"):
        load_checkpoint(tmp_path / "none.pt", digits, CPU)


@pytest.mark.parametrize("zipped", [True, False])
def test_planted_pickle_is_not_run(checkpoint, digits, planted, marker, zipped):
    """A checkpoint that holds more than plain data is refused, and nothing in it runs."""
    content = torch.load(checkpoint, weights_only=True) | {"provenance": planted}
    torch.save(content, checkpoint, _use_new_zipfile_serialization=zipped)
    said = refusal(checkpoint, digits)
    assert "not a checkpoint" in said
    # torch's own message advises to load it all the same.
    assert "weights_only" not in said
    assert not marker.exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_planted_bare_pickle_is_not_run(checkpoint, digits, planted, marker, protocol):
    """A pickle named .pt is refused, and nothing in it runs."""
    checkpoint.write_bytes(pickle.dumps(planted, protocol))
    assert "not a checkpoint" in refusal(checkpoint, digits)
    assert not marker.exists()


def test_truncated_checkpoints_are_refused(checkpoint, digits):
    """A checkpoint cut anywhere is refused as damaged."""
    whole = checkpoint.read_bytes()
    lengths = {0, 1, 2, 100, 1000, *range(5000, len(whole), len(whole) // 40), len(whole) - 1}
    for length in sorted(lengths):
        checkpoint.write_bytes(whole[:length])
        assert "damaged" in refusal(checkpoint, digits)


def test_damaged_checkpoints_do_not_crash_the_reader(checkpoint, digits):
    """Whichever byte of the description is damaged, loading succeeds or raises ValueError."""
    whole = checkpoint.read_bytes()
    for position in range(0, 4000, 23):
        damaged = bytearray(whole)
        damaged[position] ^= 0xFF
        checkpoint.write_bytes(damaged)
        with contextlib.suppress(ValueError):
            load_checkpoint(checkpoint, digits, CPU)


def npz_bytes() -> bytes:
    """Return a NumPy archive."""
    buffer = io.BytesIO()
    np.savez(buffer, images=np.zeros(3))
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [b"hello world\n", b"epoch,loss\n1,2.3\n", b'{"seed": 0}\n', b"\x89PNG\r\n\x1a\n", npz_bytes()],
    ids=["text", "csv", "json", "png", "npz"],
)
def test_other_files_are_refused(checkpoint, digits, content):
    """A file of another kind is refused."""
    checkpoint.write_bytes(content)
    refusal(checkpoint, digits)


@pytest.mark.parametrize(
    "content", [[1, 2], {"state": {}}, {"format": "other project 1"}, torch.zeros(3)]
)
def test_other_content_is_refused(checkpoint, digits, content):
    """What torch saved for another purpose is no checkpoint of this project."""
    torch.save(content, checkpoint)
    assert "not a checkpoint of this project" in refusal(checkpoint, digits)


@pytest.mark.parametrize(
    "key", ["format", "architecture", "state", "mean", "std", "class_names", "provenance"]
)
def test_missing_keys_are_refused(checkpoint, digits, key):
    """A checkpoint that lacks one of its parts is refused."""
    rewrite(checkpoint, lambda content: content.pop(key))
    refusal(checkpoint, digits)


def test_other_number_of_classes_is_refused(checkpoint, digits):
    """A network for other classes is refused with both numbers."""
    other = replace(digits, class_names=["cat", "dog"])
    message = refusal(checkpoint, other)
    assert "trained for 10 classes (0, 1, 2, ...), but the data has 2 (cat, dog)" in message


def test_other_names_of_classes_are_refused(checkpoint, digits):
    """As many classes in another order are other classes."""
    refusal(checkpoint, replace(digits, class_names=digits.class_names[::-1]))


def test_other_channels_are_refused(checkpoint, digits):
    """A network for grey images isn't given colours."""
    images = digits.train.images.expand(-1, -1, -1, 3)
    other = replace(digits, train=replace(digits.train, images=images))
    assert "trained on 1 channels, but the data has 3" in refusal(checkpoint, other)


@pytest.mark.parametrize(
    "architecture",
    [{"width": 2}, {"depth": 16}, {"classes": 12}],
    ids=["width", "depth", "classes"],
)
def test_weights_of_another_architecture_are_refused(checkpoint, digits, architecture):
    """Weights that don't fit the stated architecture are refused."""
    rewrite(checkpoint, lambda content: content["architecture"].update(architecture))
    assert "weights don't fit its architecture" in refusal(checkpoint, digits)


@pytest.mark.parametrize("architecture", [{"depth": 11}, {"width": 0}, {"dropout": 1}])
def test_impossible_architectures_are_refused(checkpoint, digits, architecture):
    """An architecture that can't be built is refused by the name of the file."""
    rewrite(checkpoint, lambda content: content["architecture"].update(architecture))
    refusal(checkpoint, digits)


def test_missing_weights_are_refused(checkpoint, digits):
    """A checkpoint that lacks one tensor is refused."""
    rewrite(checkpoint, lambda content: content["state"].pop("stem.weight"))
    assert "weights don't fit its architecture" in refusal(checkpoint, digits)
