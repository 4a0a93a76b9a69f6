"""Teachers that the user brings: they become what a training writes, or are refused."""

import contextlib
import csv
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import models

import export_model
import import_teacher
from distillation.data.dataset import Dataset, normalise, read_dataset
from distillation.networks import count_parameters
from distillation.record.checkpoint import load_teacher, read_folder, save_checkpoint
from distillation.record.digest import source_digest
from made import NETWORKS, PROVENANCE, make_model, mistake
from shell import ENVIRONMENT, ROOT, code_blocks, section, shell_commands

CPU = torch.device("cpu")
FLAGS = ["--network", "wrn", "depth=10", "width=1"]


@pytest.fixture
def data(tmp_path: Path, digits: Dataset) -> Path:
    """Return the digits as prepared data."""
    path = tmp_path / "data.npz"
    write_data(path, digits, digits.class_names)
    return path


def write_data(path: Path, digits: Dataset, names: list[str], channels: int = 1) -> None:
    """Write prepared data with the digits' images."""
    splits = {"train": digits.train, "test": digits.test}
    arrays = {
        f"{name}_images": split.images.numpy().repeat(channels, axis=3)
        for name, split in splits.items()
    } | {f"{name}_labels": split.labels.numpy() for name, split in splits.items()}
    statistics = {"mean": digits.mean * channels, "std": digits.std * channels}
    np.savez(path, allow_pickle=False, class_names=np.array(names), **arrays, **statistics)


def as_checkpoint(path: Path, digits: Dataset) -> Path:
    """Bring a checkpoint."""
    save_checkpoint(path / "teacher.pt", *make_model(), digits, PROVENANCE)
    return path / "teacher.pt"


def as_state(path: Path, digits: Dataset) -> Path:  # noqa: ARG001 as the other two
    """Bring a plain state dict."""
    torch.save(make_model()[0].state_dict(), path / "teacher.pt")
    return path / "teacher.pt"


def as_folder(path: Path, digits: Dataset) -> Path:
    """Bring an exported folder."""
    checkpoint = as_checkpoint(path, digits)
    flags = ["--checkpoint", str(checkpoint), "--image-size", "12", "--device", "cpu"]
    export_model.main([*flags, "--folder", str(path / "exported")])
    return path / "exported"


def arguments(folder: Path, source: Path, *more: str) -> list[str]:
    """Return the flags of an import."""
    out = folder / "out"
    paths = {
        "--data": folder / "data.npz", "--source": source,
        "--checkpoint": out / "checkpoint.pt", "--history": out / "history.csv",
    }  # fmt: skip
    return [*(str(text) for pair in paths.items() for text in pair), "--seed", "7", *more]


@pytest.mark.parametrize(
    ("bring", "more"),
    [(as_checkpoint, []), (as_checkpoint, FLAGS), (as_folder, []), (as_state, FLAGS)],
)
def test_teacher_is_what_was_brought(
    tmp_path: Path, data: Path, digits: Dataset, bring: Callable[[Path, Dataset], Path],
    more: list[str],
) -> None:  # fmt: skip
    """Of every form a teacher comes the same network, with a training's record and its source's."""
    source = bring(tmp_path, digits)
    import_teacher.main(arguments(tmp_path, source, *more))
    dataset = read_dataset(data)
    model, content = load_teacher(tmp_path / "out" / "checkpoint.pt", dataset, CPU)
    torch.testing.assert_close(model.state_dict(), make_model()[0].state_dict(), rtol=0, atol=0)
    assert content["network"] == NETWORKS["WRN-10-1"]
    provenance = content["provenance"]
    assert provenance["arguments"] == {"network": NETWORKS["WRN-10-1"], "term": {}, "epochs": 0}
    assert provenance["plugins"].keys() == {"networks.wrn"}
    assert provenance.get("source") == (None if bring is as_state else PROVENANCE)
    expected = {
        "seed": 7,
        "network_title": "WRN-10-1",
        "engine": {"precision": "float32", "compiled": False},
        "data_sha256": dataset.sha256,
        "source_sha256": source_digest(source),
        "device": "cpu",
    }
    assert expected.items() <= provenance.items()
    with (tmp_path / "out" / "history.csv").open(newline="") as file:
        (header,) = csv.reader(file)
    assert header[:4] == ["epoch", "learning_rate", "loss", "cross_entropy"]


def test_page_brings_a_network_of_torchvision(tmp_path: Path, digits: Dataset) -> None:
    """The page's lines take torchvision's network out of a training, with the same logits."""
    page = section((ROOT / "docs/teachers.md").read_text(), "One that you bring")
    (command,) = shell_commands(page)
    own = models.resnet50(num_classes=10)
    with torch.no_grad():
        # Running statistics that a training would leave, other than those of a new network.
        own.train()(torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    saved = {f"module.{name}": tensor for name, tensor in own.state_dict().items()}
    torch.save({"model": saved, "epoch": 90}, tmp_path / "my_training.pt")
    code = code_blocks(page, "python")
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=ENVIRONMENT, check=True)
    data = tmp_path / "results" / "data" / "birds.npz"
    data.parent.mkdir(parents=True)
    write_data(data, digits, digits.class_names, 3)
    with contextlib.chdir(tmp_path):
        import_teacher.main(shlex.split(command)[2:])
    dataset = read_dataset(data)
    model, _ = load_teacher(tmp_path / "teacher.pt", dataset, CPU)
    images = normalise(dataset.test.images[:8], dataset.mean, dataset.std)
    with torch.inference_mode():
        torch.testing.assert_close(model(images).logits, own.eval()(images), rtol=1e-5, atol=1e-6)


def write_other_data(folder: Path, digits: Dataset, how: str) -> None:
    """Prepare data of other class names, of a class more, or in colour."""
    names = [*digits.class_names, "10"] if how == "number" else digits.class_names
    names = [f"digit {name}" for name in names] if how == "names" else names
    write_data(folder / "data.npz", digits, names, 3 if how == "channels" else 1)


def spoil(folder: Path, how: str) -> None:
    """Change the exported description's mean, a tensor's name, or save something else."""
    if how == "mean":
        file = folder / "exported" / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"mean": [1.0]}))
        return
    state = torch.load(folder / "teacher.pt", weights_only=True)
    if how == "tensors":
        state["head.weight"] = state.pop("classifier.weight")
    torch.save(state if how == "tensors" else {"state_dict": {}}, folder / "teacher.pt")


@pytest.mark.parametrize(
    ("bring", "change", "more", "fragments"),
    [
        (as_checkpoint, "names", [], ["(digit 0, digit 1, digit 2, ...)"]),
        (as_checkpoint, "number", [], ["10 classes", "has 11"]),
        (as_folder, "channels", [], ["exported: trained on 1 channels", "has 3"]),
        (as_folder, "mean", [], ["another mean"]),
        (as_state, "number", FLAGS, ["classifier.weight (10, 64), not (11, 64)"]),
        (as_state, "channels", FLAGS, ["stem.weight (16, 1, 3, 3), not (16, 3, 3, 3)"]),
        (as_state, "tensors", FLAGS, ["lacks classifier.weight", "doesn't, head.weight"]),
        (as_state, "nothing", FLAGS, ["no map of names to tensors"]),
        (as_state, "", [], ["--network"]),
        (as_checkpoint, "", [*FLAGS[:2], "depth=16", "width=1"], ["WRN-10-1", "WRN-16-1"]),
        (lambda *_: Path("none.pt"), "", [], ["none.pt: no such file or folder"]),
        (lambda folder, _: folder, "", [], ["model.safetensors: no such file"]),
    ],
)
def test_mistake(
    tmp_path: Path, data: Path, digits: Dataset, capsys: pytest.CaptureFixture[str],
    bring: Callable[[Path, Dataset], Path], change: str,
    more: list[str], fragments: list[str],
) -> None:  # fmt: skip
    """A teacher that doesn't fit ends with 1 and one line that says why, and nothing is written."""
    source = bring(tmp_path, digits)
    if change in ("names", "number", "channels"):
        write_other_data(tmp_path, digits, change)
    elif change:
        spoil(tmp_path, change)
    assert data.exists()
    line = mistake(capsys, import_teacher.main, arguments(tmp_path, source, *more))
    for fragment in fragments:
        assert fragment in line
    assert not (tmp_path / "out").exists()


def test_planted_pickle_is_not_run(
    tmp_path: Path, data: Path, planted: object, marker: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that holds more than plain data is refused, and nothing in it runs."""
    torch.save({"stem.weight": planted}, data.with_name("teacher.pt"))
    flags = arguments(tmp_path, tmp_path / "teacher.pt", *FLAGS)
    assert "not a checkpoint" in mistake(capsys, import_teacher.main, flags)
    assert not marker.exists()


def test_weights_of_this_repository() -> None:
    """Each folder of weights is read, is the network of its card, and does what the docs say."""
    folders = sorted((ROOT / "docs/weights").iterdir())
    assert folders
    page = " ".join((ROOT / "docs/teachers.md").read_text().split())
    for folder in folders:
        model, content = read_folder(folder)
        card = (folder / "README.md").read_text()
        assert f"| Parameters | {count_parameters(model):,} |" in card
        assert content["provenance"]["dirty"] is False
        assert all(tensor.isfinite().all() for tensor in model.state_dict().values())
        accuracy = re.search(r"\| Test accuracy \| ([\d.]+ %) \|", card)
        assert accuracy
        assert f"weights/{folder.name}" in page
        assert f"a test accuracy of {accuracy[1]} there" in page
    sizes = [file.stat().st_size for folder in folders for file in folder.iterdir()]
    assert sum(sizes) < 25e6
