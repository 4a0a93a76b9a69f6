"""Exported programs and folders: they are what the checkpoint is, or they aren't written."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import safetensors.torch
import torch
import yaml
from safetensors import safe_open

import export_model
from distillation.data.dataset import Dataset, Split, normalise
from distillation.export import programs
from distillation.export.known import Known
from distillation.export.programs import ONNX, TOLERANCE, Pixels, largest_difference, read_program
from distillation.measuring.accuracy import predict
from distillation.networks import Network, build_network
from distillation.record.checkpoint import load_checkpoint, read_folder, save_checkpoint
from distillation.settings.base import NetworkSettings
from distillation.settings.plugins import chosen
from made import NETWORKS, PROVENANCE, make_model, mistake
from shell import ROOT, code_blocks, run_in_shell, section, shell_commands

CPU = torch.device("cpu")
# Files of an evaluation, of data and of a comparison, as they stand beside a checkpoint.
ENTRY = {"label": "Test accuracy", "unit": "%", "decimals": 2}
MEASURED = {
    "images": 400,
    "held_out": False,
    "metrics": {"top1_accuracy": {"value": 87.5, **ENTRY}, "error": {"value": 3.25, **ENTRY}},
    "training_provenance": PROVENANCE,
}
COMPARISON = "method,reference,sentence\nat_kd,kd,One\nkd,baseline,Two\nat_kd,baseline,Three\n"
needs_onnx = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ONNX)), reason="`make onnx` installs what this needs"
)


def with_channels(dataset: Dataset, channels: int) -> Dataset:
    """Return grey images as images of several channels, each with a mean and deviation of its own.

    A program that mixed the channels up, or left one out, would give other logits.
    """
    scales = torch.tensor([1.0, 0.6, 0.3])[:channels]
    train, test = (
        Split((split.images.float() * scales).byte(), split.labels)
        for split in (dataset.train, dataset.test)
    )
    pixels = train.images.double().flatten(0, 2)
    mean, std = pixels.mean(dim=0).tolist(), pixels.std(dim=0).tolist()
    return replace(dataset, train=train, test=test, mean=mean, std=std)


def arguments(checkpoint: Path, program: Path, image_size: int = 12) -> list[str]:
    """Return the flags of an export."""
    return [
        *("--checkpoint", str(checkpoint), "--program", str(program)),
        *("--image-size", str(image_size), "--device", "cpu"),
    ]


@pytest.fixture
def checkpoint(tmp_path: Path, digits: Dataset) -> Path:
    """Return a checkpoint of WRN-10-1 on the digits."""
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, *make_model(), digits, PROVENANCE)
    return path


FILES = ("model.safetensors", "config.json", "README.md")


def content(folder: Path) -> set[str]:
    """Return the names of all that is in a folder, hidden or not."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


@pytest.mark.parametrize(("title", "channels"), [("WRN-10-1", 1), ("WRN-16-2", 3), ("resnet8", 3)])
def test_program_gives_the_logits_of_the_evaluation(
    tmp_path: Path, digits: Dataset, title: str, channels: int
) -> None:
    """Given images as they are stored, a program returns what evaluate.py computes from them."""
    dataset = with_channels(digits, channels)
    checkpoint, program = tmp_path / "checkpoint.pt", tmp_path / "program.pt2"
    save_checkpoint(checkpoint, *make_model(title, channels), dataset, PROVENANCE)
    export_model.main(arguments(checkpoint, program))
    model, _ = load_checkpoint(checkpoint, dataset, CPU)
    expected = predict(model, dataset.test, dataset.mean, dataset.std, 40)
    limit = 1e-5 * expected.abs().max().item()
    run = torch.export.load(program).module()
    images = dataset.test.images
    for given in (images, images.float()):
        for size in (1, 2, 7, 40):
            found = torch.cat([run(batch) for batch in given.split(size)])
            torch.testing.assert_close(found, expected, rtol=0, atol=limit)


def write_known(folder: Path, training: dict[str, object], side: int = 12) -> list[str]:
    """Write what is known of a network beside its checkpoint, and return the flags that give it."""
    values = np.repeat([100.0, 0.0], [350, 50])
    np.savez(folder / "predictions.npz", top1_accuracy=values)
    data = {
        "format": "image_folder",
        "images": {"train": {"count": 1000}, "test": {"count": 400, "shape": [side, side, 1]}},
        "held_out": False,
        "sha256": training.get("data_sha256"),
        "provenance": {"arguments": {"format": {"image_folder": {"source": "/home/me/birds"}}}},
    }
    measured = MEASURED | {"training_provenance": training}
    (folder / "metrics.json").write_text(json.dumps(measured))
    (folder / "data.json").write_text(json.dumps(data))
    (folder / "comparison.csv").write_text(COMPARISON)
    return [
        *("--metrics", str(folder / "metrics.json")),
        *("--predictions", str(folder / "predictions.npz")),
        *("--data-description", str(folder / "data.json")),
        *("--comparison", str(folder / "comparison.csv"), "--method", "at_kd"),
    ]


def described(digits: Dataset) -> dict[str, object]:
    """Return what is to be said of the checkpoint, but for the provenance of the export."""
    return {
        "network": NETWORKS["WRN-10-1"],
        "title": "WRN-10-1",
        "channels": 1,
        "class_names": digits.class_names,
        "mean": digits.mean,
        "std": digits.std,
        "image_size": 12,
        "provenance": PROVENANCE,
    }


def test_program_describes_itself(checkpoint: Path, tmp_path: Path, digits: Dataset) -> None:
    """A program holds class names, network, normalisation, size and both provenances."""
    export_model.main(arguments(checkpoint, tmp_path / "program.pt2"))
    files = {"config.json": ""}
    torch.export.load(tmp_path / "program.pt2", extra_files=files)
    found = json.loads(files["config.json"])
    provenance = found.pop("export_provenance")
    assert found == described(digits)
    assert provenance["arguments"] == {"image_size": 12, "device": "cpu", "threads": 1}
    assert provenance["packages"]["torch"] == torch.__version__.partition("+")[0]


def to_folder(checkpoint: Path, folder: Path, *more: str) -> list[str]:
    """Return the flags of an export to a folder."""
    flags = arguments(checkpoint, folder)
    flags[flags.index("--program")] = "--folder"
    return [*flags, *more]


def to_onnx(checkpoint: Path, program: Path) -> list[str]:
    """Return the flags of an export to ONNX."""
    flags = arguments(checkpoint, program)
    flags[flags.index("--program")] = "--onnx"
    return flags


def test_folder_is_the_checkpoint(
    checkpoint: Path, tmp_path: Path, digits: Dataset, forks: dict[str, str]
) -> None:
    """A folder has the weights bit for bit, what describes them, and a card whose code runs."""
    folder = tmp_path / "folder"
    for _ in range(2):
        export_model.main(to_folder(checkpoint, folder))
    assert content(folder) == {*FILES}
    found = json.loads((folder / "config.json").read_text())
    assert found.pop("export_provenance")["plugins"].keys() == {"networks.wrn"}
    assert found == described(digits)
    expected, saved = load_checkpoint(checkpoint, digits, CPU)
    model, read = read_folder(folder)
    assert not model.training
    torch.testing.assert_close(model.state_dict(), expected.state_dict(), rtol=0, atol=0)
    assert {**saved, "state": None}.items() <= {**read, "state": None}.items()
    card = (folder / "README.md").read_text()
    code = code_blocks(card, "python").replace("this folder", str(folder))
    given = "import torch; images, mean, std = torch.ones(2, 1, 12, 12), 0, 1\n"
    (tmp_path / "code.py").write_text(f"{given}{code}\nprint(*logits.shape)\n")
    assert run_in_shell(ROOT, f"python {tmp_path}/code.py", forks) == "2 10\n"


def test_folder_is_read_without_the_project(checkpoint: Path, tmp_path: Path) -> None:
    """The safetensors library alone reads a folder's weights, under torch's names."""
    export_model.main(to_folder(checkpoint, tmp_path / "folder"))
    expected = torch.load(checkpoint, weights_only=True)["state"]
    with safe_open(tmp_path / "folder" / "model.safetensors", framework="numpy") as file:
        assert set(file.keys()) == expected.keys()
        for name, tensor in expected.items():
            np.testing.assert_array_equal(file.get_tensor(name), tensor.numpy())


def metadata_of(card: str) -> tuple[dict, str]:
    """Return a card's metadata and its text."""
    _, metadata, text = card.split("---\n", 2)
    return yaml.safe_load(metadata), text


def test_card_says_what_files_say(tmp_path: Path, digits: Dataset) -> None:
    """The card has task, licence, data, metrics with intervals, teacher, protocol and origin."""
    provenance = PROVENANCE | {
        "arguments": {"epochs": 5, "term": {"labels": {"weight": 0.1}, "kd": {"weight": 0.9}}},
        "data_sha256": "d1" * 32,
        "commit": "c0" * 20,
        "dirty": True,
        "packages": {"torch": "2.9.1"},
        "python": "3.11.0",
        "teacher": {"network_title": "WRN-16-2", "seed": 4, "arguments": {"epochs": 8}},
    }
    save_checkpoint(tmp_path / "checkpoint.pt", *make_model(), digits, provenance)
    flags = [*write_known(tmp_path, provenance), "--license", "cc-by-4.0"]
    export_model.main(to_folder(tmp_path / "checkpoint.pt", tmp_path / "folder", *flags))
    metadata, text = metadata_of((tmp_path / "folder" / "README.md").read_text())
    (index,) = metadata.pop("model-index")
    assert metadata == {
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "knowledge-distillation", "labels", "kd"],
        "license": "cc-by-4.0",
        "datasets": ["birds"],
        "metrics": ["top1_accuracy", "error"],
    }
    assert index["name"] == "WRN-10-1"
    (result,) = index["results"]
    assert result["dataset"] == {"name": "birds", "type": "birds", "split": "test"}
    assert [each["value"] for each in result["metrics"]] == [87.5, 3.25]
    # The normal approximation: 87.5 plus and minus 1.96 times 33.07 / 20, of resampled means.
    low, high = map(float, result["metrics"][0]["name"].split("95 % interval ")[1].split(" to "))
    assert abs(low - 84.26) < 0.3
    assert abs(high - 90.74) < 0.3
    for line in (
        f"| Test accuracy | 87.50 % | {low:.2f} to {high:.2f} |",
        "on 400 test images",
        "| Test accuracy | 3.25 % | - |",
        "- One.",
        "- Three.",
        "| Network | WRN-16-2 |",
        "| Epochs | 8 |",
        "| epochs | 5 |",
        '| term kd | {"weight": 0.9} |',
        "12 x 12 pixels, 1 channel(s)",
        "say nothing about other seeds",
        "| Images | 1,000 train, 400 test |",
        f"| Data, sha256 | {'d1' * 32} |",
        f"| Training: commit | {'c0' * 20}, with uncommitted changes |",
        "| Training: versions | Python 3.11.0, torch 2.9.1 |",
    ):
        assert line in text
    assert "Two" not in text
    assert "/home/me" not in text
    assert "No licence" not in text


def test_card_of_a_network_that_was_brought(tmp_path: Path, digits: Dataset) -> None:
    """Neither it nor a teacher that was brought has epochs that it wasn't trained for here."""
    provenance = PROVENANCE | {
        "arguments": {"epochs": 0},
        "source_sha256": "5a" * 32,
        "teacher": {"arguments": {"epochs": 0}, "source_sha256": "5b" * 32},
    }
    save_checkpoint(tmp_path / "checkpoint.pt", *make_model(), digits, provenance)
    flags = write_known(tmp_path, provenance)
    export_model.main(to_folder(tmp_path / "checkpoint.pt", tmp_path / "folder", *flags))
    text = (tmp_path / "folder" / "README.md").read_text()
    assert "| epochs | trained elsewhere |" in text
    assert "| Epochs | trained elsewhere |" in text
    assert "Measured on 400 test images" in text


@pytest.mark.parametrize("of_it", [True, False, None])
def test_comparison_is_of_the_network(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], of_it: bool | None
) -> None:
    """A comparison of other networks is refused; where nothing tells whose it is, the card does."""
    flags = write_known(tmp_path, PROVENANCE)[-4:]
    if of_it is not None:
        runs = [{"model": "at_kd", "training": PROVENANCE if of_it else {"seed": 4}}]
        (tmp_path / "provenance.json").write_text(json.dumps({"runs": runs}))
    asked = to_folder(checkpoint, tmp_path / "folder", *flags)
    if of_it is False:
        line = mistake(capsys, export_model.main, asked)
        assert "comparison.csv: of other networks" in line
        assert not (tmp_path / "folder").exists()
        return
    export_model.main(asked)
    text = (tmp_path / "folder" / "README.md").read_text()
    assert ("That they are of this network wasn't checked" in text) == (of_it is None)


def test_card_says_what_it_wasnt_told(checkpoint: Path, tmp_path: Path) -> None:
    """Metrics alone don't tell of which size the images were that they are of."""
    flags = write_known(tmp_path, PROVENANCE)
    unknown = "What size of images they are of wasn't told"
    for more, told in ((flags[:2], True), (flags[:6], False)):
        export_model.main(to_folder(checkpoint, tmp_path / "folder", *more))
        assert (unknown in (tmp_path / "folder" / "README.md").read_text()) == told


def test_image_that_does_not_pass(
    tmp_path: Path, digits: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    """A size that is too small for the network is one line."""
    network = cast(
        dict[str, NetworkSettings],
        chosen("networks", {"torchvision": {"model": "squeezenet1_1"}}, "network"),
    )
    model = build_network("torchvision", network["torchvision"], 10, 1)
    save_checkpoint(tmp_path / "checkpoint.pt", model, network, digits, PROVENANCE)
    flags = to_folder(tmp_path / "checkpoint.pt", tmp_path / "folder")
    flags[flags.index("--image-size") + 1] = "8"
    line = mistake(capsys, export_model.main, flags)
    assert "an image of 8 x 8 pixels and 1 channel(s) doesn't pass through it" in line
    assert not (tmp_path / "folder").exists()


def test_data_is_called_as_one_says(checkpoint: Path, tmp_path: Path) -> None:
    """A copy of images is called one on the card."""
    flags = ["--data-name", "CIFAR-10 (JPEG copy)"]
    export_model.main(to_folder(checkpoint, tmp_path / "folder", *flags))
    metadata, _ = metadata_of((tmp_path / "folder" / "README.md").read_text())
    assert metadata["datasets"] == ["CIFAR-10 (JPEG copy)"]


@pytest.mark.parametrize("source", [None, "/mnt/archives"])
def test_data_of_archives_is_called_as_its_format(source: str | None) -> None:
    """Official archives have the name of their format, downloaded or wherever they lie."""
    settings = {"cifar10": {"source": source}}
    data = {"format": "cifar10", "provenance": {"arguments": {"format": settings}}}
    assert Known(data=data).data_name == "cifar10"


def test_card_invents_nothing(checkpoint: Path, tmp_path: Path) -> None:
    """Without other files a card says that metrics and licence aren't known, and lists no data."""
    export_model.main(to_folder(checkpoint, tmp_path / "folder"))
    metadata, text = metadata_of((tmp_path / "folder" / "README.md").read_text())
    assert metadata == {"pipeline_tag": "image-classification", "tags": ["image-classification"]}
    assert "- No metrics were given" in text
    assert "- No licence of the weights was stated" in text
    assert "## Teacher" not in text


def test_folder_that_disagrees_is_not_written(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of which one bit differs is an error, and leaves what was there."""
    export_model.main(to_folder(checkpoint, tmp_path / "folder"))
    before = (tmp_path / "folder" / "model.safetensors").read_bytes()
    save = export_model.save

    def save_another(state: dict[str, torch.Tensor], *rest: object) -> bytes:
        bias = state["classifier.bias"].nextafter(torch.tensor(torch.inf))
        return save(state | {"classifier.bias": bias}, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(export_model, "save", save_another)
    with pytest.raises(ValueError, match="folder: not written, as its weights or logits"):
        export_model.main(to_folder(checkpoint, tmp_path / "folder"))
    assert (tmp_path / "folder" / "model.safetensors").read_bytes() == before
    assert content(tmp_path) == {"checkpoint.pt", "folder", *(f"folder/{name}" for name in FILES)}


def test_folder_of_other_files_is_left(checkpoint: Path, tmp_path: Path) -> None:
    """A folder that holds anything but an export is no place for one."""
    with pytest.raises(ValueError, match=r"holds checkpoint\.pt; allowed: a new folder"):
        export_model.main(to_folder(checkpoint, tmp_path))
    assert content(tmp_path) == {"checkpoint.pt"}


def rewrite(file: Path, change: Callable[[bytes], bytes]) -> None:
    """Change the content of a file."""
    file.write_bytes(change(file.read_bytes()))


def without_stem(weights: bytes) -> bytes:
    """Leave a tensor out."""
    state = safetensors.torch.load(weights)
    del state["stem.weight"]
    return safetensors.torch.save(state)


@pytest.mark.parametrize(
    ("name", "change", "fragment"),
    [
        ("config.json", lambda _: b"{", "not readable as JSON"),
        ("config.json", lambda _: b"[]", "found no map"),
        (
            "config.json",
            lambda text: text.replace(b'"channels": 1', b'"channels": 2'),
            "found 1 in mean and 1 in std; allowed: 2",
        ),
        ("model.safetensors", lambda weights: weights[:-10], "damaged"),
        ("model.safetensors", without_stem, r"lacks stem\.weight"),
    ],
)
def test_damaged_folders_are_refused(
    checkpoint: Path, tmp_path: Path, name: str, change: Callable[[bytes], bytes], fragment: str
) -> None:
    """A folder whose parts are damaged or don't fit is refused by what is wrong."""
    folder = tmp_path / "folder"
    export_model.main(to_folder(checkpoint, folder))
    rewrite(folder / name, change)
    with pytest.raises(ValueError, match=fragment):
        read_folder(folder)


def test_program_runs_without_the_project(
    checkpoint: Path, tmp_path: Path, digits: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the script writes is a program for torch alone, and tells nothing of folders here."""
    away = tmp_path / "away"
    export_model.main(arguments(checkpoint, away / "program.pt2"))
    said = capsys.readouterr()
    assert not said.err
    assert "logits differ from the checkpoint's by" in said.out
    assert content(away) == {"program.pt2"}
    written = (away / "program.pt2").read_bytes()
    assert str(ROOT).encode() not in written
    assert str(tmp_path).encode() not in written
    torch.save(digits.test.images, away / "images.pt")
    code = (
        "import torch; run = torch.export.load('program.pt2').module(); "
        "torch.save(run(torch.load('images.pt')).detach(), 'logits.pt')"
    )
    # -I: neither the folder, nor PYTHONPATH, nor packages of the user's own are looked into.
    subprocess.run([sys.executable, "-I", "-c", code], cwd=away, check=True)
    logits = torch.load(away / "logits.pt", weights_only=True)
    model, _ = load_checkpoint(checkpoint, digits, CPU)
    expected = predict(model, digits.test, digits.mean, digits.std, 40)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)


# What a program may have otherwise than the checkpoint's network.
SPOILS: dict[str, Callable[[Network], object]] = {
    "weight": lambda model: model.get_parameter("classifier.bias").data[3].add_(0.01),
    "statistics": lambda model: model.get_buffer("norm.running_var").mul_(1.01),
    # Batch norm takes the statistics of each batch.
    "mode": lambda model: model.train(),
    "number": lambda model: model.get_parameter("classifier.weight").data[0].fill_(torch.nan),
}


@pytest.mark.parametrize("name", SPOILS)
def test_program_that_disagrees_is_not_written(tmp_path: Path, digits: Dataset, name: str) -> None:
    """A program of other weights, statistics or mode is an error, and leaves what was there."""
    program = tmp_path / "program.pt2"
    program.write_text("earlier")
    (model, _), (other, _) = make_model(), make_model()
    told = described(digits)

    def write(written: Network) -> None:
        run = Pixels(written, digits.mean, digits.std)
        export_model.write_program(
            program, b"now", lambda _: largest_difference(lambda: run, model, told)
        )

    SPOILS[name](other)
    with pytest.raises(ValueError, match=r"program\.pt2: not written.* allowed: 1e-05"):
        write(other)
    assert program.read_text() == "earlier"
    write(model)
    assert program.read_text() == "now"
    assert content(tmp_path) == {"program.pt2"}


def test_disagreement_of_a_real_program(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the script compares with the checkpoint is the program itself, as it was exported."""
    program = tmp_path / "program.pt2"
    program.write_text("earlier")
    export = export_model.export

    def export_another(_: Network, *rest: object) -> torch.export.ExportedProgram:
        other = make_model()[0]
        SPOILS["statistics"](other)
        return export(other, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(export_model, "export", export_another)
    with pytest.raises(ValueError, match=r"program\.pt2: not written.* allowed: 1e-05"):
        export_model.main(arguments(checkpoint, program))
    assert program.read_text() == "earlier"
    assert content(tmp_path) == {"checkpoint.pt", "program.pt2"}


def test_program_that_cannot_run_is_noticed(tmp_path: Path, digits: Dataset) -> None:
    """A program that runs on batches of two alone, or is cut off, doesn't pass the check."""
    model, program = make_model()[0], tmp_path / "program.pt2"
    told = described(digits)

    def difference() -> float:
        return largest_difference(lambda: read_program(program), model, told)

    torch.export.save(programs.export(model, told), program)
    assert difference() <= TOLERANCE
    program.write_bytes(program.read_bytes()[:-1000])
    with pytest.raises(ValueError, match="can't be read or run"):
        difference()
    pixels = Pixels(model, digits.mean, digits.std)
    torch.export.save(torch.export.export(pixels, (digits.test.images[:2],)), program)
    with pytest.raises(ValueError, match="can't be read or run"):
        difference()


@needs_onnx
@pytest.mark.parametrize(("title", "channels"), [("WRN-16-2", 3), ("resnet8", 1)])
def test_onnx_gives_the_logits_of_the_evaluation(
    tmp_path: Path, digits: Dataset, title: str, channels: int
) -> None:
    """onnxruntime, given images as they are stored, returns what evaluate.py computes from them."""
    import onnxruntime  # pyright: ignore[reportMissingImports] one may do without it

    dataset = with_channels(digits, channels)
    checkpoint, program = tmp_path / "checkpoint.pt", tmp_path / "away" / "program.onnx"
    save_checkpoint(checkpoint, *make_model(title, channels), dataset, PROVENANCE)
    export_model.main(to_onnx(checkpoint, program))
    assert content(program.parent) == {"program.onnx"}
    written = program.read_bytes()
    assert str(ROOT).encode() not in written
    assert str(tmp_path).encode() not in written
    session = onnxruntime.InferenceSession(program, providers=["CPUExecutionProvider"])
    told = json.loads(session.get_modelmeta().custom_metadata_map["config.json"])
    assert told["class_names"] == digits.class_names
    assert told["export_provenance"]["packages"].keys() >= {*ONNX}
    model, _ = load_checkpoint(checkpoint, dataset, CPU)
    expected = predict(model, dataset.test, dataset.mean, dataset.std, 40)
    limit = 1e-5 * expected.abs().max().item()
    for size in (1, 40):
        batches = dataset.test.images.split(size)
        parts = [session.run(None, {"images": each.numpy()})[0] for each in batches]
        found = np.concatenate([np.asarray(part) for part in parts])
        np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=limit)


@needs_onnx
def test_onnx_that_disagrees_is_not_written(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An ONNX file of other weights is an error, and leaves nothing."""
    export = export_model.export

    def export_another(_: Network, told: dict[str, object]) -> torch.export.ExportedProgram:
        return export(make_model(seed=1)[0], told)

    monkeypatch.setattr(export_model, "export", export_another)
    with pytest.raises(ValueError, match=r"program\.onnx: not written.* allowed: 1e-05"):
        export_model.main(to_onnx(checkpoint, tmp_path / "program.onnx"))
    assert content(tmp_path) == {"checkpoint.pt"}


@pytest.mark.parametrize("package", ONNX)
def test_onnx_without_its_packages(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], package: str,
) -> None:  # fmt: skip
    """Where a package is missing, one line says which and how it is installed."""
    for name in ONNX:
        monkeypatch.setitem(sys.modules, name, None if name == package else sys)
    line = mistake(capsys, export_model.main, to_onnx(checkpoint, tmp_path / "program.onnx"))
    assert f"--onnx: the package {package} can't be imported" in line
    assert "`make onnx`" in line
    assert content(tmp_path) == {"checkpoint.pt"}


def test_size_of_images_is_free(checkpoint: Path, tmp_path: Path) -> None:
    """Images may have another size than those of the training, an odd one as well."""
    export_model.main(arguments(checkpoint, tmp_path / "program.pt2", image_size=15))
    run = torch.export.load(tmp_path / "program.pt2").module()
    assert run(torch.zeros(3, 15, 15, 1, dtype=torch.uint8)).shape == (3, 10)


@pytest.mark.parametrize(
    ("changes", "fragments"),
    [
        ({"--checkpoint": "none.pt"}, ["none.pt: no such file"]),
        ({"--program": "program.onnx"}, ["--program", "'program.onnx'", "ends in .pt2"]),
        ({"--program": "file/program.pt2"}, ["file"]),
        ({"--program": "folder.pt2"}, ["folder.pt2"]),
        ({"--image-size": "0"}, ["--image-size", "'0'", "from 1"]),
        ({"--program": ""}, ["nothing to write; allowed: --program, --onnx, --folder, or several"]),
        ({"--onnx": "program.pt2"}, ["--onnx", "'program.pt2'", "ends in .onnx"]),
        ({"--metrics": "none.json"}, ["none.json"]),
        ({"--metrics": "file"}, ["file: not readable as JSON"]),
        ({"--metrics": "other.json"}, ["other.json: of another network"]),
        ({"--metrics": "short.json"}, ["short.json: lacks metrics"]),
        ({"--predictions": "predictions.npz"}, ["--predictions without --metrics"]),
        (
            {"--metrics": "metrics.json", "--predictions": "file"},
            ["file: not a readable .npz archive"],
        ),
        (
            {"--metrics": "moved.json", "--predictions": "predictions.npz"},
            ["top1_accuracy is 87.5 there, but 80"],
        ),
        ({"--data-description": "data.json"}, ["data.json: of data with sha256 another"]),
        (
            {"--data-description": "larger.json"},
            ["--image-size: found 12; allowed: 20, that of the images of larger.json"],
        ),
        ({"--method": "kd"}, ["one of --comparison and --method"]),
        ({"--comparison": "comparison.csv", "--method": "x"}, ["'x'", "at_kd, baseline, kd"]),
        ({"--comparison": "file", "--method": "kd"}, ["file: not a comparison"]),
    ],
)
def test_mistake(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], fragments: list[str],
) -> None:  # fmt: skip
    """A mistake ends with 1 and one line that names it, and leaves nothing, hidden or not."""
    (tmp_path / "file").write_text("epoch\n1\n")
    (tmp_path / "folder.pt2").mkdir()
    write_known(tmp_path, PROVENANCE, side=20)
    (tmp_path / "data.json").rename(tmp_path / "larger.json")
    write_known(tmp_path, PROVENANCE)
    metrics = {"top1_accuracy": {"value": 80, **ENTRY}}
    for name, measured in {
        "other.json": MEASURED | {"training_provenance": {"seed": 4}},
        "short.json": {"images": 1, "held_out": False},
        "moved.json": MEASURED | {"metrics": metrics},
    }.items():
        (tmp_path / name).write_text(json.dumps(measured))
    data = json.loads((tmp_path / "data.json").read_text())
    (tmp_path / "data.json").write_text(json.dumps(data | {"sha256": "another"}))
    monkeypatch.chdir(tmp_path)
    flags = arguments(checkpoint, Path("program.pt2"))
    settings = dict(zip(flags[::2], flags[1::2], strict=True)) | changes
    before = content(tmp_path)
    given = [text for pair in settings.items() if pair[1] for text in pair]
    line = mistake(capsys, export_model.main, given)
    for fragment in fragments:
        assert fragment in line
    assert content(tmp_path) == before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
def test_program_for_cuda(checkpoint: Path, tmp_path: Path, digits: Dataset) -> None:
    """A program that is exported for CUDA runs there and gives the network's logits."""
    flags = arguments(checkpoint, tmp_path / "program.pt2")
    export_model.main([*flags[:-1], "cuda"])
    run = torch.export.load(tmp_path / "program.pt2").module()
    model, _ = load_checkpoint(checkpoint, digits, CPU)
    expected = predict(model, digits.test, digits.mean, digits.std, 40)
    found = run(digits.test.images.cuda()).cpu()
    # cuDNN may round to TensorFloat-32 here, which has 10 bits of mantissa.
    limit = 5e-3 * expected.abs().max().item()
    torch.testing.assert_close(found, expected, rtol=0, atol=limit)


def test_page_loads_and_exports_a_checkpoint(
    tmp_path: Path,
    digits: Dataset,
    copy_project: Callable[[Path], Path],
    forks: dict[str, str],
) -> None:
    """The page's lines, run in a clone, load a checkpoint and its program, with the same logits."""
    (text,) = filter(
        None,
        (
            section(page.read_text(), "Weights that travel")
            for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))
        ),
    )
    code, commands = code_blocks(text, "python"), shell_commands(text)
    assert "read_checkpoint" in code
    assert any("export_model.py" in command for command in commands)
    folder = copy_project(tmp_path / "clone")
    checkpoint = folder / "results/digits/at_kd/seed_0/checkpoint.pt"
    save_checkpoint(checkpoint, *make_model(), digits, PROVENANCE)
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    write_known(checkpoint.parent, PROVENANCE, config["data"]["digits"]["image_size"])
    (folder / "results/data").mkdir()
    (checkpoint.parent / "data.json").rename(folder / "results/data/digits.json")
    (checkpoint.parent / "comparison.csv").rename(folder / "results/digits/comparison.csv")
    for command in commands:
        run_in_shell(folder, command, forks)
    kept = "torch.save({'images': images, 'logits': logits, 'exported': exported}, 'kept.pt')"
    (folder / "code.py").write_text(f"{code}\n{kept}\n")
    run_in_shell(folder, "python code.py", forks)
    found = torch.load(folder / "kept.pt", weights_only=True)
    model, _ = load_checkpoint(checkpoint, digits, CPU)
    with torch.no_grad():
        expected = model(normalise(found["images"], digits.mean, digits.std)).logits
    limit = 1e-5 * expected.abs().max().item()
    for name in ("logits", "exported"):
        torch.testing.assert_close(found[name].detach(), expected, rtol=0, atol=limit)
