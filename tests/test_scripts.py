"""The scripts as programs: files and flags in, files and an exit status out."""

import csv
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import train_student
from distillation.data.arrays import digest_arrays
from distillation.data.dataset import read_dataset
from distillation.record.checkpoint import load_checkpoint
from distillation.record.digest import code_digest
from distillation.training.run import Student
from jobs import MODELS as RUNS
from jobs import SEEDS, assert_same_checkpoint
from made import mistake
from shell import ROOT

SCRIPTS = ROOT / "workflow/scripts"
NAMES = sorted(path.stem for path in SCRIPTS.glob("*.py"))

Done = subprocess.CompletedProcess[str]
RunScript = Callable[..., Done]

# Those of tiny.yaml.
DIGITS = [
    "--format", "digits", "image_size=12", "digit_size=8", "clutter_pieces=1", "clutter_size=4",
    "train_placements=1", "test_placements=1", "test_fraction=0.8", "seed=0",
]  # fmt: skip
SPLITS = {"train": 359, "test": 1438}
TRAINING = [
    "--network", "wrn", "depth=10", "width=1", "--epochs", "1", "--batch-size", "64",
    "--schedule", "one_cycle", "--padding", "1", "--no-flip", "--gamma-init", "ones",
    "--seed", "0", "--precision", "float32", "--compile", "off",
]  # fmt: skip
KD = ["--term", "labels", "weight=0.1", "--term", "kd", "weight=0.9"]
AT = ["--term", "at", "weight=1000"]
# By model of the finished run its folder, and the weights of its terms.
MODELS: dict[str, tuple[str, dict[str, float]]] = {
    "teacher": ("tiny/teacher/seed_0", {"labels": 1}),
    "baseline": ("tiny/baseline/seed_1", {"labels": 1}),
    "kd": ("tiny/kd/seed_1", {"labels": 0.1, "kd": 0.9}),
    "at_kd": ("tiny/at_kd/seed_0", {"labels": 0.1, "kd": 0.9, "at": 1000}),
    "fading_at": ("tiny/fading_at/seed_0", {"labels": 1, "at": 1}),
    "hint": ("pictures/hint/seed_0", {"labels": 1, "hint": 1}),
    "pictures' teacher": ("pictures/teacher/seed_0", {"labels": 1}),
}
# In the config's order.
PAIRS = [*((name, "baseline") for name in ("kd", "at_kd", "fading_at")), ("at_kd", "kd")]


def of_run(model: str, *names: str) -> list[str]:
    """Return --run with the files called `names` of a model of the finished run."""
    return ["--run", model, "0", *(f"{{results}}/tiny/{model}/seed_0/{name}" for name in names)]


# Flags by script; {results} is the folder of a finished run.
OF_TEACHER, OF_KD = "{results}/tiny/teacher/seed_0", "{results}/tiny/kd/seed_0"
DATA = ["--data", "{results}/data/tiny.npz"]
TEACHER = ["--teacher", f"{OF_TEACHER}/checkpoint.pt"]
TABLED = ["--teacher-targets", f"{OF_TEACHER}/targets.npz"]
PREPARE = ["--archive", "out.npz", "--description", "out.json"]
STUDENT = [
    *(*DATA, *TRAINING, "--checkpoint", "out/checkpoint.pt", "--history", "out/history.csv"),
    *("--tensorboard", "out/tensorboard", "--resume", "resume/out.pt"),
]
STUDENTS = [
    *(*DATA, *TRAINING, *TEACHER, "--student", "baseline", "--student", "kd", "kd"),
    *("--checkpoint", "a/1.pt", "b/1.pt", "--history", "a/1.csv", "b/1.csv"),
    *("--tensorboard", "a/events", "b/events", "--resume", "a/2.pt", "b/2.pt"),
]
EXTRACT = [*DATA, "--checkpoint", f"{OF_KD}/checkpoint.pt", "--attention", "out.npz"]
EVALUATE = [
    *(*EXTRACT[:-2], "--metrics", "out.json", "--predictions", "out.npz"),
    *("--metric", "top1_accuracy", "--metric", "teacher_agreement"),
    *("--teacher-predictions", f"{OF_TEACHER}/predictions.npz"),
]
TABULATE = [
    *(*DATA, "--checkpoint", f"{OF_TEACHER}/checkpoint.pt", "--targets", "out.npz"),
    *("--padding", "1", "--no-flip"),
]
MEASURE = [
    *(*DATA, "--network", "kd", "0", f"{OF_KD}/checkpoint.pt", *TEACHER, "--taught", "kd"),
    *("--object-mask", "stored", "--metrics", "out.csv", "--provenance", "out.json"),
]
TITLE = ["--title", "By hand", "--label", "at_kd", "AT+KD"]
TABLE = [
    *("--csv", "table.csv", "--markdown", "table.md", "--page", "table.html"),
    *("--summary", "summary.json", "--provenance", "provenance.json"),
]
STYLE = ["--dpi", "50", "--style", str(SCRIPTS / "figures.mplstyle")]
FIGURES = [*STYLE, "--figures", "figures", "--digests", "figures.json"]
COMPARE = [
    *(*STYLE, "--resamples", "200", "--comparison", "comparison.csv", "--seeds", "seeds.csv"),
    *("--fidelity", "fidelity.csv", "--markdown", "comparison.md", "--page", "comparison.html"),
    *("--figure", "comparison.png", "--figure-svg", "comparison.svg"),
]
RUN = ("metrics.json", "history.csv")
COMPARED, DRAWN = (*RUN, "predictions.npz"), (*RUN, "attention.npz")


def main_of(name: str) -> Callable[[list[str]], None]:
    """Return the `main` of a script, to be called in this process."""
    return import_module(name).main


def filled(flags: list[str], **places: Path) -> list[str]:
    """Return flags with the folders that they name."""
    return [flag.format(**places) for flag in flags]


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder, in which a script runs."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="session")
def run_script(forks: dict[str, str]) -> RunScript:
    """Return a function that runs a script with flags in a folder, each time in a new process."""
    python = str(shutil.which("python", path=forks["PATH"]))

    def run(folder: Path, name: str, *arguments: str, **places: Path) -> Done:
        flags = filled([*arguments], **places)
        return subprocess.run(
            [python, str(SCRIPTS / name), *flags], cwd=folder, env=forks, text=True, check=False,
            stdin=subprocess.DEVNULL, capture_output=True,
        )  # fmt: skip

    return run


@pytest.fixture(scope="session")
def results(finished: Path) -> Path:
    """Return the folder of a finished run's results, not to be changed."""
    return finished / "results"


def read_rows(file: Path) -> list[dict[str, str]]:
    """Read the rows of a CSV file."""
    return list(csv.DictReader(file.read_text().splitlines()))


def read_json(file: Path) -> Any:
    """Read a JSON file."""
    return json.loads(file.read_text())


def read_archive(file: Path) -> dict[str, np.ndarray]:
    """Read all arrays of an .npz file."""
    with np.load(file, allow_pickle=False) as archive:
        return dict(archive)


@pytest.mark.parametrize("name", NAMES)
def test_help_and_unknown_flags(capsys: pytest.CaptureFixture[str], name: str) -> None:
    """--help prints the docstring and says something of each flag; no other flag is taken."""
    with pytest.raises(SystemExit, match="0"):
        main_of(name)(["--help"])
    said = capsys.readouterr()
    assert (import_module(name).__doc__ or "none").strip() in said.out
    assert not said.err
    entries = ("\n" + said.out.partition("options:\n")[2]).split("\n  -")[1:]
    assert entries
    for entry in entries:
        # The last flag's argument is followed by the text.
        assert len(entry.rpartition("--")[2].split()) > 2, entry
    line = mistake(capsys, main_of(name), ["--no-such-flag=1"])
    # What is missing comes first.
    assert "required: --" in line or "--no-such-flag" in line


def test_plain_python_from_another_folder(results: Path, tmp_path: Path) -> None:
    """A script called by its absolute path works in any folder, with nothing installed or set."""
    command = [sys.executable, str(SCRIPTS / "prepare_data.py"), *DIGITS]
    done = subprocess.run(
        [*command, "--archive", "deep/er/digits.npz", "--description", "digits.json"],
        cwd=tmp_path, env={"PATH": os.environ["PATH"]}, text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    arrays = read_archive(tmp_path / "deep/er/digits.npz")
    description, expected = map(read_json, (tmp_path / "digits.json", results / "data/tiny.json"))
    for each in (description, expected):
        # The finished run's copy of the project is no clone.
        for name in ("commit", "dirty"):
            del each["provenance"][name]
    assert description == expected
    assert description["sha256"] == digest_arrays(arrays)
    for split, count in SPLITS.items():
        assert arrays[f"{split}_images"].shape == (count, 12, 12, 1)
        assert description["images"][split]["count"] == count


@pytest.mark.parametrize("model", MODELS)
def test_trained_model(results: Path, model: str) -> None:
    """A training leaves a checkpoint that loads, rows that add up, and events."""
    place, weights = MODELS[model]
    dataset = read_dataset(results / "data" / f"{Path(place).parts[0]}.npz")
    _, saved = load_checkpoint(results / place / "checkpoint.pt", dataset, torch.device("cpu"))
    tiny = place.startswith("tiny")
    assert saved["title"] == ("WRN-10-1" if tiny else "resnet8")
    # What a term trains beside the student stays behind.
    assert not [name for name in saved["state"] if "regressor" in name]
    provenance = saved["provenance"]
    assert provenance["data_sha256"] == dataset.sha256
    assert ("teacher" in provenance) == (len(weights) > 1)
    terms = provenance["arguments"]["term"]
    assert {name: term["weight"] for name, term in terms.items()} == weights
    network = "networks.wrn" if tiny else "networks.resnet"
    assert provenance["plugins"].keys() == {network, *(f"terms.{name}" for name in weights)}
    rows = read_rows(results / place / "history.csv")
    assert [row["epoch"] for row in rows] == ["1", "2"]
    for row in rows:
        total = sum(float(row[f"{name}_weight"]) * float(row[name]) for name in weights)
        assert float(row["loss"]) == pytest.approx(total, rel=1e-5)
    assert list((results / place / "tensorboard").glob("events.*"))


@pytest.mark.parametrize("model", MODELS)
def test_measured_model(results: Path, model: str) -> None:
    """Metrics are those of the predictions and of the training; maps show the same images."""
    place, _ = MODELS[model]
    folder, experiment = results / place, Path(place).parts[0]
    metrics = read_json(folder / "metrics.json")
    predictions = read_archive(folder / "predictions.npz")
    arrays = read_archive(results / "data" / f"{experiment}.npz")
    np.testing.assert_array_equal(predictions["labels"], arrays["test_labels"])
    right = predictions["predictions"] == predictions["labels"]
    accuracy = metrics["metrics"]["top1_accuracy"]["value"]
    assert accuracy == pytest.approx(100 * right.mean())
    assert accuracy == pytest.approx(
        100 * float(read_rows(folder / "history.csv")[-1]["test_accuracy"])
    )
    assert ("teacher_agreement" in metrics["metrics"]) == ("teacher" not in model)
    attention, first = (
        read_archive(each / "attention.npz")
        for each in (folder, results / experiment / "teacher/seed_0")
    )
    np.testing.assert_array_equal(attention["indices"], first["indices"])
    np.testing.assert_array_equal(attention["labels"], np.arange(len(arrays["class_names"])))
    assert [attention[f"mean_square_{stage}"].shape[1] for stage in (1, 2, 3)] == [12, 6, 3]


def test_table_and_its_provenance(results: Path) -> None:
    """The table has what each model's files have, and the provenance of all of them, whole."""
    folder = results / "tiny"
    table = {row["quantity"]: row for row in read_rows(folder / "table.csv")}
    provenance, summary = (read_json(folder / f"{name}.json") for name in ("provenance", "summary"))
    assert provenance["table"]["code_digest"] == code_digest(SCRIPTS / "render_table.py")
    runs = [(run["model"], run["seed"]) for run in provenance["runs"]]
    assert runs == RUNS
    assert list(summary) == [*dict(runs)]
    found: dict[str, list[float]] = {}
    for (model, seed), run in zip(runs, provenance["runs"], strict=True):
        metrics = read_json(folder / model / f"seed_{seed}/metrics.json")
        found.setdefault(model, []).append(metrics["metrics"]["top1_accuracy"]["value"])
        assert run["training"] == metrics["training_provenance"]
        assert run["evaluation"] == metrics["provenance"]
        for step in (run["training"], run["evaluation"]):
            assert step["data_sha256"] == read_json(results / "data/tiny.json")["sha256"]
            assert step["packages"]["torch"] == version("torch")
    for model, values in found.items():
        assert float(table["Test accuracy"][f"{model}_mean"]) == pytest.approx(np.mean(values))


def test_comparison_and_figures(results: Path) -> None:
    """Pairs come first, in order, by what predictions say; figures are in both formats."""
    folder = results / "tiny"
    pairs = read_rows(folder / "comparison.csv")[: len(PAIRS)]
    assert [(row["method"], row["reference"]) for row in pairs] == PAIRS
    for row in pairs:
        one, other = (
            np.mean([
                read_archive(folder / row[name] / f"seed_{seed}/predictions.npz")["top1_accuracy"]
                for seed in SEEDS
            ])
            for name in ("method", "reference")
        )  # fmt: skip
        assert float(row["difference"]) == pytest.approx(one - other, abs=1e-9)
        for name in ("comparison.md", "comparison.html"):
            assert row["sentence"] in (folder / name).read_text()
    # Without Snakemake's hidden mark.
    drawn = {path.name for path in (folder / "figures").glob("[!.]*")}
    assert {Path(name).stem + end for name in drawn for end in (".png", ".svg")} == drawn != set()


@pytest.fixture(scope="session")
def spoilt(
    results: Path, run_script: RunScript, once: Callable[[str, Callable[[Path], object]], Path]
) -> Path:
    """Return a folder of inputs that are wrong in one way each."""

    def make(folder: Path) -> None:
        for name, file, size in (
            ("data.npz", "data/tiny.npz", 9000),
            ("network.pt", "tiny/teacher/seed_0/checkpoint.pt", 5000),
            ("metrics.json", "tiny/kd/seed_0/metrics.json", 500),
        ):
            (folder / name).write_bytes((results / file).read_bytes()[:size])
        metrics = read_json(results / "tiny/kd/seed_0/metrics.json")
        metrics["training_provenance"]["arguments"]["epochs"] = 9
        (folder / "longer.json").write_text(json.dumps(metrics))
        (folder / "odd.csv").write_text("epoch,loss\n1,2.0\n")
        images = read_archive(results / "data/tiny.npz")
        shuffled = images | {"test_labels": np.roll(images["test_labels"], 1)}
        np.savez(folder / "shuffled.npz", allow_pickle=False, **shuffled)
        # Two of the ten classes.
        few = {
            f"{split}_{kind}": images[f"{split}_{kind}"][images[f"{split}_labels"] < 2]
            for split in SPLITS
            for kind in ("images", "labels", "masks")
        } | {"class_names": images["class_names"][:2]}
        np.savez(folder / "few.npz", allow_pickle=False, **images | few)
        flags = [*EVALUATE[:-2], "--data", "shuffled.npz", "--predictions", "predictions.npz"]
        assert run_script(folder, "evaluate.py", *flags, results=results).returncode == 0

    return once("spoilt", make)


KD_TAUGHT = [*STUDENT, *KD, *TEACHER]
TAUGHT, TWO = of_run("teacher", *RUN), [*of_run("teacher", *RUN), *of_run("kd", *RUN)]
FOLDER = ["--format", "image_folder", "image_size=12", "channels=1", "fit=pad"]
TABLED_KD = [*STUDENT, *KD, *TABLED]
DRAW = [*FIGURES, "--title", "x", *TAUGHT]
# Of each script what is wrong: flags, of which the last of a name counts, the end of the flags in
# words, and what the one line must have, split by commas.
MISTAKES = [
    ("prepare_data", [*PREPARE, *FOLDER], "source={spoilt}/no", "{spoilt}/no/train, no such"),
    ("prepare_data", PREPARE, "--format cifar10 source={spoilt}", "{spoilt}, -10-python.tar.gz"),
    ("train_teacher", STUDENT[:-2], "--resum state.pt", "--resum"),
    ("train_teacher", STUDENT[:-2], "--time-limit 60", "time_limit, resume"),
    ("train_teacher", STUDENT, "--data {spoilt}/data.npz", "{spoilt}/data.npz, not a readable"),
    ("train_teacher", STUDENT, "--padding 12", "padding is 12, less than"),
    ("train_teacher", STUDENT, "--momentum 0 --nesterov", "nesterov, momentum 0"),
    ("train_teacher", STUDENT, "--learning-rate 1e30", "loss is, epoch 1, step"),
    ("train_teacher", STUDENT, "--term kd", "--term kd needs a teacher, train_student.py"),
    ("train_student", STUDENT, "--term at", "--term at, --teacher is missing"),
    ("train_student", [*STUDENT, *TEACHER], "", "--teacher is given, no term"),
    ("train_student", [*TABLED_KD, *TEACHER], "", "--teacher-targets, one of them"),
    ("train_student", TABLED_KD, "--term at", "--teacher-targets, logits only"),
    ("train_student", TABLED_KD, "--padding 2", "/targets.npz, padding 1, expected padding 2"),
    ("train_student", TABLED_KD, "--crop-border zeros", "crop_border reflect, crop_border zeros"),
    ("train_student", TABLED_KD, "--data {spoilt}/shuffled.npz", "/targets.npz, other training"),
    ("train_student", KD_TAUGHT, "--teacher {spoilt}/network.pt", "{spoilt}/network.pt, damaged"),
    ("train_students", STUDENTS, "--history a.csv", "--history, found 1; allowed: 2"),
    ("evaluate", EVALUATE, "--data {spoilt}/few.npz", "kd/seed_0/checkpoint.pt, 10 classes, has 2"),
    ("evaluate", EVALUATE, "--teacher-predictions {spoilt}/predictions.npz", "other images"),
    ("extract_attention", EXTRACT, "--images-per-class 1000", "images_per_class is 1000, at most"),
    ("render_table", [*TITLE, *TABLE], "--run kd 0 {spoilt}/metrics.json no.csv", "damaged"),
    ("render_table", [*TITLE, *TABLE, *of_run("kd", RUN[0])], "{spoilt}/odd.csv", "odd.csv, lacks"),
    ("render_table", [*TITLE, *TABLE, *TWO, *of_run("at")],
     "{spoilt}/longer.json {results}/tiny/kd/seed_0/history.csv", "aren't of one config, epochs"),
    ("compare_methods", [*COMPARE, "--title", "x", *of_run("kd", *COMPARED),
                         *of_run("teacher", *COMPARED)], "--pair kd soft", "no run of soft"),
    ("render_figures", DRAW, f"{OF_KD}/attention.npz --style no.mplstyle", "no.mplstyle"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "flags", "end", "said"), MISTAKES)
def test_mistake(
    results: Path, spoilt: Path, work: Path, capsys: pytest.CaptureFixture[str],
    name: str, flags: list[str], end: str, said: str,
) -> None:  # fmt: skip
    """A mistake ends with 1 and one line that names it, and leaves nothing, hidden or not."""
    places = {"results": results, "spoilt": spoilt}
    line = mistake(capsys, main_of(name), filled([*flags, *end.split()], **places))
    for fragment in said.format(**places).split(", "):
        assert fragment in line
    assert not [*work.iterdir()]


# Inputs for each reader that a pickle could be planted for: script, flags, their end in words.
INPUTS = [
    ("prepare_data", [*PREPARE, *FOLDER], "source={pictures}"),
    ("prepare_data", PREPARE, "--format cifar10 source={archives}"),
    ("train_student", KD_TAUGHT, "--data {planted}"),
    ("train_student", KD_TAUGHT, "--teacher {planted}"),
    ("train_student", TABLED_KD, "--teacher-targets {planted}"),
    ("evaluate", EVALUATE, "--teacher-predictions {planted}"),
    ("render_table", [*TITLE, *TABLE], "--run kd 0 {planted} {results}/tiny/kd/seed_0/history.csv"),
    ("render_table", [*TITLE, *TABLE, *of_run("kd", RUN[0])], "{planted}"),
    ("compare_methods", [*COMPARE, "--title", "x", *TAUGHT], "{planted}"),
    ("render_figures", DRAW, "{planted}"),
]


@pytest.mark.parametrize(("name", "flags", "end"), INPUTS)
def test_planted_pickle(
    results: Path, tmp_path: Path, work: Path, planted: object, marker: Path,
    capsys: pytest.CaptureFixture[str], name: str, flags: list[str], end: str,
) -> None:  # fmt: skip
    """A pickle in place of any input is refused in one line, and what it holds isn't run."""
    writers: list[Callable[[Any], object]] = [
        lambda file: pickle.dump(planted, file),
        lambda file: torch.save({"format": planted}, file),
        lambda file: np.savez(file, logits=np.array([planted], dtype=object)),
    ]
    pictures = [f"pictures/{split}/{each}/1.png" for split in ("train", "test") for each in "ab"]
    places = {each: tmp_path / each for each in ("planted", "archives", "pictures")}
    for write in writers:
        for file in ("planted", "archives/cifar-10-python.tar.gz", *pictures):
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            with (tmp_path / file).open("wb") as opened:
                write(opened)
        given = filled([*flags, *end.split()], results=results, **places)
        assert str(tmp_path) in mistake(capsys, main_of(name), given)
        assert not marker.exists()
        assert not [*work.iterdir()]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("train_teacher", STUDENT), ("train_student", KD_TAUGHT), ("train_students", STUDENTS),
        ("evaluate", EVALUATE), ("extract_attention", EXTRACT), ("measure_attention", MEASURE),
        ("tabulate_targets", TABULATE),
    ],
)  # fmt: skip
def test_no_cuda(
    results: Path, work: Path, capsys: pytest.CaptureFixture[str], name: str, flags: list[str]
) -> None:
    """Asked for CUDA where there is none, a script says so and doesn't fall back to the CPU."""
    given = filled([*flags, "--device", "cuda"], results=results)
    assert "device is cuda" in mistake(capsys, main_of(name), given)
    assert not [*work.iterdir()]


def test_failure_keeps_what_was_there(
    results: Path, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A script that fails leaves the outputs of an earlier run as they were."""
    for name in ("out.json", "out.npz"):
        (work / name).write_text("earlier")
    wrong = filled([*EVALUATE, "--teacher-predictions", "nothing.npz"], results=results)
    assert "nothing.npz" in mistake(capsys, main_of("evaluate"), wrong)
    left = {path.name: path.read_text() for path in work.iterdir()}
    assert left == {"out.json": "earlier", "out.npz": "earlier"}


LONGER = [*KD_TAUGHT, *AT, "--epochs", "2"]


@pytest.fixture(scope="module")
def alone(results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a training that nothing stopped."""
    folder = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        train_student.main(filled(LONGER, results=results))
    return folder


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    ("line", "stop"),
    [("WRN-10-1", "in epoch 1 of 2, after step 1"), ("epoch   1/2", "after epoch 1 of 2")],
)
def test_stopped_by_a_signal(
    results: Path, alone: Path, work: Path, monkeypatch: pytest.MonkeyPatch,
    number: int, line: str, stop: str,
) -> None:  # fmt: skip
    """A training that is told to stop says where it does, and goes on to the same bits."""
    flags = filled(LONGER, results=results)

    def report(_: Student, text: str) -> None:
        if text.startswith(line):
            signal.raise_signal(number)

    # A shell has its background jobs ignore SIGINT, and so would what they start.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with monkeypatch.context() as patched:
        patched.setattr(Student, "report", report)
        with pytest.raises(KeyboardInterrupt, match=f"^{stop}$"):
            train_student.main(flags)
    signal.signal(signal.SIGINT, before)
    assert {path.name for path in work.rglob("*.*")} == {"out.pt"}
    train_student.main(flags)
    assert_same_checkpoint(alone / "out/checkpoint.pt", work / "out/checkpoint.pt")
    assert not [*(work / "resume").iterdir()]
