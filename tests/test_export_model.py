"""Exported programs and folders: they are what the checkpoint is, or they aren't written."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

import export_model
from distillation.data.dataset import Dataset, Split, normalise
from distillation.measuring.accuracy import predict
from distillation.networks import Network
from distillation.record.checkpoint import load_checkpoint, read_folder, save_checkpoint
from made import NETWORKS, PROVENANCE, make_model, mistake
from shell import ENVIRONMENT, ROOT, code_blocks, run_in_shell, section, shell_commands

CPU = torch.device("cpu")
SCRIPT = ROOT / "workflow/scripts/export_model.py"
HISTORY = "epoch,test_accuracy\n1,0.5\n2,0.875\n"


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


def description(digits: Dataset) -> dict[str, object]:
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
    files = {"network.json": ""}
    torch.export.load(tmp_path / "program.pt2", extra_files=files)
    described = json.loads(files["network.json"])
    provenance = described.pop("export_provenance")
    assert described == description(digits)
    assert provenance["arguments"] == {"image_size": 12, "device": "cpu", "threads": 1}
    assert provenance["packages"] == {"torch": torch.__version__.partition("+")[0]}


def to_folder(checkpoint: Path, folder: Path, *more: str) -> list[str]:
    """Return the flags of an export to a folder."""
    flags = arguments(checkpoint, folder)
    flags[flags.index("--program")] = "--folder"
    return [*flags, *more]


def test_folder_is_the_checkpoint(checkpoint: Path, tmp_path: Path, digits: Dataset) -> None:
    """A folder has the weights bit for bit, what describes them, and a card with the accuracy."""
    (tmp_path / "history.csv").write_text(HISTORY)
    folder = tmp_path / "folder"
    for _ in range(2):
        export_model.main(to_folder(checkpoint, folder, "--history", str(tmp_path / "history.csv")))
    assert content(folder) == {"model.safetensors", "network.json", "README.md"}
    described = json.loads((folder / "network.json").read_text())
    assert described.pop("export_provenance")["plugins"].keys() == {"networks.wrn"}
    assert described == description(digits)
    expected, saved = load_checkpoint(checkpoint, digits, CPU)
    model, read = read_folder(folder)
    assert not model.training
    torch.testing.assert_close(model.state_dict(), expected.state_dict(), rtol=0, atol=0)
    assert {**saved, "state": None}.items() <= {**read, "state": None}.items()
    card = (folder / "README.md").read_text()
    for text in ("# WRN-10-1", "| Epochs | 5 |", "| 87.50 % |", "12 x 12 pixels, 1 channel(s)"):
        assert text in card
    # What the card says of loading it.
    code = code_blocks(card, "python").replace("this folder", str(folder))
    given = "import torch; images, mean, std = torch.ones(2, 1, 12, 12), 0, 1\n"
    done = subprocess.run(
        [sys.executable, "-c", f"{given}{code}\nprint(*logits.shape)"],
        cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "2 10\n"


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
        ("network.json", lambda _: b"{", "not readable as JSON"),
        ("network.json", lambda _: b"[]", "found no map"),
        (
            "network.json",
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
    checkpoint: Path, tmp_path: Path, digits: Dataset
) -> None:
    """What the script writes is a program for torch alone, and tells nothing of folders here."""
    away = tmp_path / "away"
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *arguments(checkpoint, away / "program.pt2")],
        cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "logits differ from the checkpoint's by" in done.stdout
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


@pytest.mark.parametrize(
    "spoil",
    [
        lambda model: model.get_parameter("classifier.bias").data[3].add_(0.01),
        lambda model: model.get_buffer("norm.running_var").mul_(1.01),
        # Batch norm takes the statistics of each batch.
        lambda model: model.train(),
        lambda model: model.get_parameter("classifier.weight").data[0].fill_(torch.nan),
    ],
    ids=["weight", "statistics", "mode", "number"],
)
def test_program_that_disagrees_is_not_written(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[Network], object],
) -> None:  # fmt: skip
    """A program of other weights, statistics or mode is an error, and leaves what was there."""
    program = tmp_path / "program.pt2"
    program.write_text("earlier")
    export = export_model.export

    def export_another(_: Network, *rest: object) -> torch.export.ExportedProgram:
        other = make_model()[0]
        spoil(other)
        return export(other, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(export_model, "export", export_another)
    with pytest.raises(ValueError, match=r"program\.pt2: not written.* allowed: 1e-05"):
        export_model.main(arguments(checkpoint, program))
    assert program.read_text() == "earlier"
    assert content(tmp_path) == {"checkpoint.pt", "program.pt2"}


def test_program_that_cannot_run_is_noticed(tmp_path: Path, digits: Dataset) -> None:
    """A program that runs on batches of two alone, or is cut off, doesn't pass the check."""
    model, program = make_model()[0], tmp_path / "program.pt2"
    statistics = {"mean": digits.mean, "std": digits.std, "channels": 1}
    torch.export.save(export_model.export(model, statistics, 12), program)
    assert export_model.largest_difference(program, model, statistics, 12) <= export_model.TOLERANCE
    program.write_bytes(program.read_bytes()[:-1000])
    with pytest.raises(ValueError, match="can't be read or run"):
        export_model.largest_difference(program, model, statistics, 12)
    pixels = export_model.Pixels(model, digits.mean, digits.std)
    torch.export.save(torch.export.export(pixels, (digits.test.images[:2],)), program)
    with pytest.raises(ValueError, match="can't be read or run"):
        export_model.largest_difference(program, model, statistics, 12)


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
        ({"--program": ""}, ["nothing to write; allowed: --program, --folder, or both"]),
        ({"--history": "file"}, ["file: not the table of a training"]),
    ],
)
def test_mistake(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], fragments: list[str],
) -> None:  # fmt: skip
    """A mistake ends with 1 and one line that names it, and leaves nothing, hidden or not."""
    (tmp_path / "file").write_text("epoch\n1\n")
    (tmp_path / "folder.pt2").mkdir()
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
    tmp_path: Path, digits: Dataset, copy_project: Callable[[Path], Path]
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
    (checkpoint.parent / "history.csv").write_text(HISTORY)
    for command in commands:
        run_in_shell(folder, command)
    kept = "torch.save({'images': images, 'logits': logits, 'exported': exported}, 'kept.pt')"
    subprocess.run(
        [sys.executable, "-c", f"{code}\n{kept}\n"], cwd=folder, env=ENVIRONMENT, check=True
    )
    found = torch.load(folder / "kept.pt", weights_only=True)
    model, _ = load_checkpoint(checkpoint, digits, CPU)
    with torch.no_grad():
        expected = model(normalise(found["images"], digits.mean, digits.std)).logits
    limit = 1e-5 * expected.abs().max().item()
    for name in ("logits", "exported"):
        torch.testing.assert_close(found[name].detach(), expected, rtol=0, atol=limit)
