"""Checkpoints: written and read whole, and never trusted."""

import contextlib
import pickle
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from distillation.data.dataset import Dataset, normalise
from distillation.record.checkpoint import (
    FORMAT,
    FORMAT_1,
    load_checkpoint,
    load_teacher,
    read_checkpoint,
    save_checkpoint,
)
from made import NETWORKS, PROVENANCE, make_model

CPU = torch.device("cpu")


def saved(path: Path, digits: Dataset, title: str = "WRN-10-1") -> Path:
    """Write a checkpoint trained on the digits and return its path."""
    save_checkpoint(path, *make_model(title), digits, PROVENANCE)
    return path


@pytest.fixture
def checkpoint(tmp_path: Path, digits: Dataset) -> Path:
    """Return a checkpoint of WRN-10-1."""
    return saved(tmp_path / "folder" / "checkpoint.pt", digits)


def refusal(path: Path, dataset: Dataset, load: Callable = load_checkpoint) -> str:
    """Return the message of the ValueError that loading raises, one line that names the file."""
    with pytest.raises(ValueError, match=re.escape(str(path))) as caught:
        load(path, dataset, CPU)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def rewrite(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the content of a checkpoint in place."""
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)


def to_format_1(content: dict[str, Any]) -> None:
    """Turn a content into that of the first format, which knew wide residual networks alone."""
    settings = content.pop("network")["wrn"]
    del content["title"]
    content["architecture"] = {
        "depth": settings["depth"], "width": settings["width"], "classes": 10,
        "channels": content.pop("channels"),
    }  # fmt: skip
    content["format"] = FORMAT_1


@pytest.mark.parametrize("title", ["WRN-10-1", "resnet8"])
def test_round_trip(tmp_path, digits, title):
    """A network comes back bit for bit, in evaluation mode, with all that describes it."""
    path = saved(tmp_path / "checkpoint.pt", digits, title)
    loaded, content = load_checkpoint(path, digits, CPU)
    original = make_model(title)[0]
    original.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = normalise(digits.test.images, digits.mean, digits.std)
    assert not loaded.training
    with torch.no_grad():
        torch.testing.assert_close(loaded(images), original(images), rtol=0, atol=0)
    state = content.pop("state")
    torch.testing.assert_close(state, dict(original.state_dict()), rtol=0, atol=0)
    assert content == {
        "format": FORMAT,
        "network": NETWORKS[title],
        "title": title,
        "channels": 1,
        "mean": digits.mean,
        "std": digits.std,
        "class_names": digits.class_names,
        "provenance": PROVENANCE,
    }
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_checkpoints_of_format_1_are_read(checkpoint, digits):
    """A checkpoint of the first format gives the same network and a content of the latest."""
    model, content = load_checkpoint(checkpoint, digits, CPU)
    rewrite(checkpoint, to_format_1)
    old_model, old_content = load_checkpoint(checkpoint, digits, CPU)
    torch.testing.assert_close(old_model.state_dict(), model.state_dict(), rtol=0, atol=0)
    for each in (content, old_content):
        del each["state"]
    assert old_content == content
    rewrite(checkpoint, lambda content: content["architecture"].update(padding_mode="reflect"))
    assert read_checkpoint(checkpoint)[1]["title"] == "WRN-10-1 (reflect)"


def test_missing_checkpoint_is_named(tmp_path, digits):
    """A checkpoint that isn't there raises FileNotFoundError that says who writes it."""
    with pytest.raises(FileNotFoundError, match=r"none\.pt: no such file; train_teacher\.py"):
        load_checkpoint(tmp_path / "none.pt", digits, CPU)


@pytest.mark.parametrize("form", ["zip", "old", *range(pickle.HIGHEST_PROTOCOL + 1)])
def test_planted_pickle_is_not_run(checkpoint, digits, planted, marker, form):
    """A checkpoint that holds more than plain data, or a bare pickle, is refused and never run."""
    if isinstance(form, int):
        checkpoint.write_bytes(pickle.dumps(planted, form))
    else:
        content = torch.load(checkpoint, weights_only=True) | {"provenance": planted}
        torch.save(content, checkpoint, _use_new_zipfile_serialization=form == "zip")
    said = refusal(checkpoint, digits)
    assert "not a checkpoint" in said
    # torch's own message advises to load it all the same.
    assert "weights_only" not in said
    assert not marker.exists()


def test_damaged_checkpoints_do_not_crash_the_reader(checkpoint, digits):
    """Cut anywhere a checkpoint is refused; whichever byte is changed, it loads or is refused."""
    whole = checkpoint.read_bytes()
    lengths = {0, 1, 2, 100, 1000, *range(5000, len(whole), len(whole) // 40), len(whole) - 1}
    for length in sorted(lengths):
        checkpoint.write_bytes(whole[:length])
        assert "damaged" in refusal(checkpoint, digits)
    for position in range(0, 4000, 23):
        damaged = bytearray(whole)
        damaged[position] ^= 0xFF
        checkpoint.write_bytes(damaged)
        with contextlib.suppress(ValueError):
            load_checkpoint(checkpoint, digits, CPU)


@pytest.mark.parametrize("content", [b"hello world\n", b"\x89PNG\r\n\x1a\n"])
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


def test_missing_keys_are_refused(checkpoint, digits):
    """A checkpoint that lacks one of its parts is refused."""
    whole = torch.load(checkpoint, weights_only=True)
    # The title follows from the network.
    for key in whole.keys() - {"title"}:
        torch.save({name: whole[name] for name in whole if name != key}, checkpoint)
        assert "lacks " + key in refusal(checkpoint, digits) or key == "format"


@pytest.mark.parametrize(
    ("key", "value", "fragment"),
    [
        ("mean", [10**400], "content.mean.0: found 1000"),
        ("std", [0.0], "content.std.0: found 0; allowed: a list, each a number above 0"),
        ("std", [float("nan")], "content.std.0: found nan"),
        ("std", [1.0, 2.0], "found 1 in mean and 2 in std; allowed: 1, one for each channel"),
        ("channels", True, "content.channels: found true; allowed: a whole number from 1"),
        ("class_names", ["one"], "found ['one']; allowed: a list of length from 2, each a text"),
        ("provenance", {"seed": torch.zeros(1)}, "JSON"),
        ("state", {"stem.weight": 1}, "no map of names to tensors"),
        ("network", {"wrm": {}}, "unknown key 'wrm'"),
        ("network", {"wrn": {"depth": 11, "width": 1}}, "network.wrn.depth: found 11"),
        ("network", {"wrn": {"depth": 10, "width": 1, "dropout": 1}}, "unknown key 'dropout'"),
        ("network", {}, "network: found none; allowed: one of"),
    ],
)
def test_description_is_checked(checkpoint, digits, key, value, fragment):
    """A description of another type, number or range is refused by what it should be."""
    rewrite(checkpoint, lambda content: content.update({key: value}))
    assert fragment in refusal(checkpoint, digits)


@pytest.mark.parametrize(
    ("network", "fragment"),
    [
        ({"wrn": {"depth": 10, "width": 2}}, "(32, 16, 3, 3)"),
        ({"wrn": {"depth": 16, "width": 1}}, "the file lacks groups.0.1.norm1.weight"),
        ({"resnet": {"depth": 8}}, "the file lacks"),
        ({"wrn": {"depth": 10, "width": 10**6}}, "far larger"),
        ({"wrn": {"depth": 10, "width": 10**30}}, "can't be built"),
        ({"wrn": {"depth": 6 * 10**9 + 4, "width": 1}}, "far larger"),
    ],
)
def test_weights_of_another_network_are_refused(checkpoint, digits, network, fragment):
    """Weights that don't fit the stated network are named, however large that network would be."""
    rewrite(checkpoint, lambda content: content.update(network=network))
    said = refusal(checkpoint, digits)
    assert "weights don't fit its network" in said
    assert fragment in said


@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        (lambda state: state.pop("stem.weight"), "the file lacks stem.weight"),
        (lambda state: state.update(more=torch.zeros(1)), "doesn't, more"),
        (lambda state: state["classifier.bias"].fill_(torch.nan), "classifier.bias holds NaN"),
        (lambda state: state["norm.running_var"].fill_(torch.inf), "norm.running_var holds NaN"),
        (
            lambda state: state.update({"norm.bias": state["norm.bias"].to_sparse()}),
            "weights don't fit",
        ),
        (
            lambda state: state.update({"norm.bias": state["norm.bias"].to(torch.complex64)}),
            "of another shape or type norm.bias",
        ),
    ],
)
def test_weights_are_checked(checkpoint, digits, change, fragment):
    """Weights that are missing, too many, not finite or of another type are named."""
    rewrite(checkpoint, lambda content: change(content["state"]))
    assert fragment in refusal(checkpoint, digits)


def test_network_for_other_data_is_refused(checkpoint, digits):
    """Other classes, in other order as well, and other channels are refused with both numbers."""
    message = refusal(checkpoint, replace(digits, class_names=["cat", "dog"]))
    assert "trained for 10 classes (0, 1, 2, ...), but the data has 2 (cat, dog)" in message
    refusal(checkpoint, replace(digits, class_names=digits.class_names[::-1]))
    images = digits.train.images.expand(-1, -1, -1, 3)
    coloured = replace(digits, train=replace(digits.train, images=images))
    assert "trained on 1 channels, but the data has 3" in refusal(checkpoint, coloured)


def test_teacher_has_the_normalisation_of_the_data(checkpoint, digits):
    """A teacher whose images were normalised otherwise is refused; another network is not."""
    assert load_teacher(checkpoint, digits, CPU)[1]["provenance"] == PROVENANCE
    other = replace(digits, std=[digits.std[0] + 1])
    load_checkpoint(checkpoint, other, CPU)
    assert "another mean or standard deviation" in refusal(checkpoint, other, load_teacher)
