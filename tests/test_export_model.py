"""Exported programs: they give what the checkpoint's network gives, or they aren't written."""

import json
import pickle
import runpy
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import export_model
from distillation.checkpoint import load_checkpoint, save_checkpoint
from distillation.data import Dataset, Split, normalise
from distillation.evaluation import predict
from distillation.models import WideResNet, initialise
from shell import (
    ENVIRONMENT,
    README,
    ROOT,
    code_blocks,
    run_in_shell,
    section,
    shell_commands,
)

CPU = torch.device("cpu")
SCRIPT = ROOT / "workflow/scripts/export_model.py"
PROVENANCE = {"seed": 3, "commit": None, "arguments": {"epochs": 5}}


def make_model(depth: int = 10, width: int = 1, channels: int = 1, seed: int = 0) -> WideResNet:
    """Return a network whose running statistics have seen something."""
    model = WideResNet(depth, width, 10, channels)
    generator = torch.Generator().manual_seed(seed)
    initialise(model, "uniform", generator)
    model.train()(torch.randn(32, channels, 12, 12, generator=generator))
    return model.eval()


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
    save_checkpoint(path, make_model(), digits, PROVENANCE)
    return path


@pytest.fixture
def mistake(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable:
    """Return a function that runs the script, which must fail, and returns the line it says."""

    def run(*flags: str) -> str:
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *flags])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        # Python itself prints a text that a program ends with, and takes 1 as its status.
        said = end.value.code if isinstance(end.value.code, str) else capsys.readouterr().err
        assert isinstance(end.value.code, str) or end.value.code == 1
        (line,) = said.splitlines()
        return line

    return run


def content(folder: Path) -> set[str]:
    """Return the names of all that is in a folder, hidden or not."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("depth", "width"), [(10, 1), (16, 2)])
def test_program_gives_the_logits_of_the_evaluation(
    tmp_path: Path, digits: Dataset, depth: int, width: int, channels: int
) -> None:
    """Given images as they are stored, a program returns what evaluate.py computes from them."""
    dataset = with_channels(digits, channels)
    checkpoint, program = tmp_path / "checkpoint.pt", tmp_path / "program.pt2"
    save_checkpoint(checkpoint, make_model(depth, width, channels), dataset, PROVENANCE)
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


def test_program_describes_itself(checkpoint: Path, tmp_path: Path, digits: Dataset) -> None:
    """A program holds class names, architecture, normalisation, size and both provenances."""
    export_model.main(arguments(checkpoint, tmp_path / "program.pt2"))
    files = {"network.json": ""}
    torch.export.load(tmp_path / "program.pt2", extra_files=files)
    described = json.loads(files["network.json"])
    provenance = described.pop("provenance")
    assert described == {
        "class_names": digits.class_names,
        "architecture": {"depth": 10, "width": 1, "classes": 10, "channels": 1},
        "mean": digits.mean,
        "std": digits.std,
        "image_size": 12,
        "training_provenance": PROVENANCE,
    }
    assert provenance["arguments"] == {"image_size": 12, "device": "cpu", "threads": 1}
    assert provenance["packages"] == {"torch": torch.__version__.partition("+")[0]}


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


def spoil_weight(model: WideResNet) -> None:
    """Change one of the classifier's biases a little."""
    model.classifier.bias.data[3] += 0.01


def spoil_statistics(model: WideResNet) -> None:
    """Change what the last batch norm divides by."""
    statistics = model.norm.running_var
    assert isinstance(statistics, Tensor)
    statistics *= 1.01


def spoil_mode(model: WideResNet) -> None:
    """Let batch norm take the statistics of each batch."""
    model.train()


def spoil_number(model: WideResNet) -> None:
    """Make a weight that isn't a number."""
    model.classifier.weight.data[0, 0] = torch.nan


@pytest.mark.parametrize("spoil", [spoil_weight, spoil_statistics, spoil_mode, spoil_number])
def test_program_that_disagrees_is_not_written(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[WideResNet], None],
) -> None:  # fmt: skip
    """A program of other weights, statistics or mode is an error, and leaves what was there."""
    program = tmp_path / "program.pt2"
    program.write_text("earlier")
    export = export_model.export

    def export_another(_: WideResNet, *rest: object) -> torch.export.ExportedProgram:
        other = make_model()
        spoil(other)
        return export(other, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(export_model, "export", export_another)
    with pytest.raises(ValueError, match=r"program\.pt2: not written.* allowed: 1e-05"):
        export_model.main(arguments(checkpoint, program))
    assert program.read_text() == "earlier"
    assert content(tmp_path) == {"checkpoint.pt", "program.pt2"}


def test_program_for_one_size_of_batch_is_noticed(tmp_path: Path, digits: Dataset) -> None:
    """A program that runs on batches of two alone doesn't pass the check."""
    model = make_model()
    statistics = {"mean": digits.mean, "std": digits.std}
    pixels = export_model.Pixels(model, digits.mean, digits.std)
    traced = torch.export.export(pixels, (digits.test.images[:2],))
    torch.export.save(traced, tmp_path / "program.pt2")
    with pytest.raises(ValueError, match="can't be read or run"):
        export_model.largest_difference(tmp_path / "program.pt2", model, statistics, 12)


def test_truncated_program_is_noticed(tmp_path: Path, digits: Dataset) -> None:
    """A program that is cut off, after it was written whole, doesn't pass the check."""
    model, program = make_model(), tmp_path / "program.pt2"
    statistics = {"mean": digits.mean, "std": digits.std}
    torch.export.save(export_model.export(model, statistics, 12), program)
    assert export_model.largest_difference(program, model, statistics, 12) <= export_model.TOLERANCE
    program.write_bytes(program.read_bytes()[:-1000])
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
        ({"--image-size": "0"}, ["--image-size", "'0'", "at least 1"]),
        ({"--device": "tpu"}, ["--device", "tpu"]),
    ],
)
def test_mistake(
    checkpoint: Path, tmp_path: Path, mistake: Callable[..., str], monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, str], fragments: list[str],
) -> None:  # fmt: skip
    """A mistake ends with 1 and one line that names it, and leaves nothing, hidden or not."""
    (tmp_path / "file").write_text("not a folder")
    (tmp_path / "folder.pt2").mkdir()
    monkeypatch.chdir(tmp_path)
    flags = arguments(checkpoint, Path("program.pt2"))
    settings = dict(zip(flags[::2], flags[1::2], strict=True)) | changes
    before = content(tmp_path)
    line = mistake(*(text for pair in settings.items() for text in pair))
    assert line.startswith("export_model.py: error: ")
    for fragment in fragments:
        assert fragment in line
    assert content(tmp_path) == before


@pytest.mark.parametrize("form", ["pickle", "torch"])
def test_planted_pickle(
    tmp_path: Path, planted: object, marker: Path, mistake: Callable[..., str], form: str
) -> None:
    """A pickle in place of the checkpoint is refused in one line, and what it holds isn't run."""
    checkpoint = tmp_path / "planted.pt"
    if form == "pickle":
        checkpoint.write_bytes(pickle.dumps(planted))
    else:
        torch.save({"format": planted}, checkpoint)
    line = mistake(*arguments(checkpoint, tmp_path / "program.pt2"))
    assert f"{checkpoint}: damaged, or not a checkpoint" in line
    assert not marker.exists()
    assert content(tmp_path) == {"planted.pt"}


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


def test_readme_loads_and_exports_a_checkpoint(
    tmp_path: Path, digits: Dataset, copy_project: Callable[[Path], Path]
) -> None:
    """README's lines, run in a clone, load a checkpoint and its program, with the same logits."""
    text = section(README, "Weights that travel")
    code, commands = code_blocks(text, "python"), shell_commands(text)
    assert "torch.load" in code
    assert any("export_model.py" in command for command in commands)
    folder = copy_project(tmp_path / "clone")
    checkpoint = folder / "results/digits/at_kd/seed_0/checkpoint.pt"
    save_checkpoint(checkpoint, make_model(), digits, PROVENANCE)
    for command in commands:
        run_in_shell(folder, command)
    kept = "torch.save({'images': images, 'logits': logits, 'exported': exported}, 'kept.pt')"
    subprocess.run(
        [sys.executable, "-c", f"{code}\n{kept}\n"], cwd=folder, env=ENVIRONMENT, check=True
    )
    found = torch.load(folder / "kept.pt", weights_only=True)
    model, _ = load_checkpoint(checkpoint, digits, CPU)
    with torch.no_grad():
        expected, _ = model(normalise(found["images"], digits.mean, digits.std))
    limit = 1e-5 * expected.abs().max().item()
    for name in ("logits", "exported"):
        torch.testing.assert_close(found[name].detach(), expected, rtol=0, atol=limit)
