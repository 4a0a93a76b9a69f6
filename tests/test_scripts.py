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
from jobs import assert_same_checkpoint
from made import mistake
from shell import ROOT

SCRIPTS = ROOT / "workflow/scripts"
NAMES = sorted(path.stem for path in SCRIPTS.glob("*.py"))

Done = subprocess.CompletedProcess[str]
RunScript = Callable[..., Done]

DIGITS = [
    "--format", "digits", "image_size=12", "digit_size=8", "clutter_pieces=1", "clutter_size=4",
    "train_placements=1", "test_placements=1", "test_fraction=0.9", "seed=0",
]  # fmt: skip
SPLITS = {"train": 179, "test": 1618}
TRAINING = [
    "--network", "wrn", "depth=10", "width=1", "--epochs", "1", "--batch-size", "64",
    "--schedule", "one_cycle", "--padding", "1", "--no-flip", "--gamma-init", "ones",
    "--seed", "0", "--precision", "float32", "--compile", "off",
]  # fmt: skip
KD = ["--term", "labels", "weight=0.1", "--term", "kd", "weight=0.9"]
AT = ["--term", "at", "weight=1000"]
# Of each method the flags of its terms, and their names and weights.
METHODS: dict[str, tuple[list[str], dict[str, float]]] = {
    "baseline": ([], {"labels": 1}),
    "kd": (KD, {"labels": 0.1, "kd": 0.9}),
    "at": (AT, {"labels": 1, "at": 1000}),
    "at_kd": ([*KD, *AT], {"labels": 0.1, "kd": 0.9, "at": 1000}),
    "hint": (["--term", "hint", "weight=2"], {"labels": 1, "hint": 2}),
}
MODELS = ["teacher", *METHODS]


def trained(folder: str) -> list[str]:
    """Return the flags that name the outputs of a training."""
    return [
        *("--checkpoint", f"{folder}/checkpoint.pt", "--history", f"{folder}/history.csv"),
        *("--tensorboard", f"{folder}/tensorboard", "--resume", f"resume/{folder}.pt"),
    ]


def of_run(model: str, *names: str) -> list[str]:
    """Return --run with the files called `names` of a model of the chain."""
    return ["--run", model, "0", *(f"{{chain}}/{model}/{name}" for name in names)]


# Flags by script; {chain} is the folder in which each ran once.
DATA = ["--data", "{chain}/data/digits.npz"]
TEACHER = ["--teacher", "{chain}/teacher/checkpoint.pt"]
TABLED = ["--teacher-targets", "{chain}/teacher/targets.npz"]
PREPARE = ["--archive", "out.npz", "--description", "out.json"]
STUDENT = [*DATA, *TRAINING, *trained("out")]
STUDENTS = [
    *(*DATA, *TRAINING, *TEACHER, "--student", "baseline", "--student", "kd", "kd"),
    *("--checkpoint", "a/1.pt", "b/1.pt", "--history", "a/1.csv", "b/1.csv"),
    *("--tensorboard", "a/events", "b/events", "--resume", "a/2.pt", "b/2.pt"),
]
EXTRACT = [*DATA, "--checkpoint", "{chain}/kd/checkpoint.pt", "--attention", "out.npz"]
EVALUATE = [
    *(*EXTRACT[:-2], "--metrics", "out.json", "--predictions", "out.npz"),
    *("--metric", "top1_accuracy", "--metric", "teacher_agreement"),
    *("--teacher-predictions", "{chain}/teacher/predictions.npz"),
]
TABULATE = [
    *(*DATA, "--checkpoint", "{chain}/teacher/checkpoint.pt", "--targets", "out.npz"),
    *("--padding", "1", "--no-flip"),
]
MEASURE = [
    *(*DATA, "--network", "kd", "0", "{chain}/kd/checkpoint.pt", *TEACHER, "--taught", "kd"),
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
def chain(run_script: RunScript, once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """Return the folder in which every script ran once, called by hand one after the other."""

    def make(folder: Path) -> None:
        def run(name: str, *arguments: str) -> None:
            done = run_script(folder, name, *arguments, chain=Path())
            assert (done.returncode, done.stderr) == (0, ""), (name, done.stderr)

        def runs(*names: str) -> list[str]:
            return [*TITLE, *(text for model in MODELS for text in of_run(model, *names))]

        files = ["--archive", "data/digits.npz", "--description", "data/digits.json"]
        run("prepare_data.py", *DIGITS, *files)
        run("train_teacher.py", *DATA, *TRAINING, *trained("teacher"))
        run("tabulate_targets.py", *TABULATE, "--targets", "teacher/targets.npz")
        for method, (flags, weights) in METHODS.items():
            teacher = TEACHER if len(weights) > 1 else []
            run("train_student.py", *DATA, *TRAINING, *flags, *teacher, *trained(method))
        for model in MODELS:
            own = ["--checkpoint", f"{model}/checkpoint.pt"]
            flags = EVALUATE[:-2] if model == "teacher" else EVALUATE
            places = [f"{model}/metrics.json", "--predictions", f"{model}/predictions.npz"]
            run("evaluate.py", *flags, *own, "--metrics", *places)
            run("extract_attention.py", *EXTRACT, *own, "--attention", f"{model}/attention.npz")
        run("render_table.py", *TABLE, *runs(*RUN))
        pairs = [text for method in ("baseline", "kd") for text in ("--pair", "at_kd", method)]
        run("compare_methods.py", *COMPARE, *runs(*COMPARED), *pairs)
        run("render_figures.py", *FIGURES, *runs(*DRAWN))

    return once("chain", make)


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


def test_plain_python_from_another_folder(chain: Path, tmp_path: Path) -> None:
    """A script called by its absolute path works in any folder, with nothing installed or set."""
    command = [sys.executable, str(SCRIPTS / "prepare_data.py"), *DIGITS]
    done = subprocess.run(
        [*command, "--archive", "deep/er/digits.npz", "--description", "digits.json"],
        cwd=tmp_path, env={"PATH": os.environ["PATH"]}, text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    arrays = read_archive(tmp_path / "deep/er/digits.npz")
    description = read_json(tmp_path / "digits.json")
    assert description == read_json(chain / "data/digits.json")
    assert description["sha256"] == digest_arrays(arrays)
    for split, count in SPLITS.items():
        assert arrays[f"{split}_images"].shape == (count, 12, 12, 1)
        assert description["images"][split]["count"] == count


@pytest.mark.parametrize("model", MODELS)
def test_trained_model(chain: Path, model: str) -> None:
    """A training leaves a checkpoint that loads, a row that adds up, events, and no state."""
    dataset = read_dataset(chain / "data/digits.npz")
    _, saved = load_checkpoint(chain / model / "checkpoint.pt", dataset, torch.device("cpu"))
    assert saved["title"] == "WRN-10-1"
    # What a term trains beside the student stays behind.
    assert not [name for name in saved["state"] if "regressor" in name]
    provenance, (_, weights) = saved["provenance"], METHODS.get(model, METHODS["baseline"])
    assert provenance["data_sha256"] == dataset.sha256
    assert ("teacher" in provenance) == (len(weights) > 1)
    terms = provenance["arguments"]["term"]
    assert {name: term["weight"] for name, term in terms.items()} == weights
    assert provenance["plugins"].keys() == {"networks.wrn", *(f"terms.{name}" for name in weights)}
    (row,) = read_rows(chain / model / "history.csv")
    assert row["epoch"] == "1"
    total = sum(weight * float(row[name]) for name, weight in weights.items())
    assert float(row["loss"]) == pytest.approx(total, rel=1e-5)
    assert list((chain / model / "tensorboard").glob("events.*"))
    assert not list((chain / "resume").iterdir())


@pytest.mark.parametrize("model", MODELS)
def test_measured_model(chain: Path, model: str) -> None:
    """Metrics are those of the predictions and of the training; maps show the same images."""
    metrics = read_json(chain / model / "metrics.json")
    predictions = read_archive(chain / model / "predictions.npz")
    arrays = read_archive(chain / "data/digits.npz")
    np.testing.assert_array_equal(predictions["labels"], arrays["test_labels"])
    right = predictions["predictions"] == predictions["labels"]
    accuracy = metrics["metrics"]["top1_accuracy"]["value"]
    assert accuracy == pytest.approx(100 * right.mean())
    (row,) = read_rows(chain / model / "history.csv")
    assert accuracy == pytest.approx(100 * float(row["test_accuracy"]))
    assert ("teacher_agreement" in metrics["metrics"]) == (model != "teacher")
    attention, first = (read_archive(chain / each / "attention.npz") for each in (model, "teacher"))
    np.testing.assert_array_equal(attention["indices"], first["indices"])
    np.testing.assert_array_equal(attention["labels"], np.arange(10))
    assert [attention[f"mean_square_{stage}"].shape[1] for stage in (1, 2, 3)] == [12, 6, 3]


def test_table_and_its_provenance(chain: Path) -> None:
    """The table has what each model's files have, and the provenance of all of them, whole."""
    table = {row["quantity"]: row for row in read_rows(chain / "table.csv")}
    provenance, summary = (read_json(chain / f"{name}.json") for name in ("provenance", "summary"))
    assert provenance["table"]["code_digest"] == code_digest(SCRIPTS / "render_table.py")
    assert [run["model"] for run in provenance["runs"]] == list(summary) == MODELS
    for model, run in zip(MODELS, provenance["runs"], strict=True):
        metrics = read_json(chain / model / "metrics.json")
        accuracy = metrics["metrics"]["top1_accuracy"]["value"]
        assert float(table["Test accuracy"][f"{model}_mean"]) == pytest.approx(accuracy)
        assert run["training"] == metrics["training_provenance"]
        assert run["evaluation"] == metrics["provenance"]
        for step in (run["training"], run["evaluation"]):
            assert step["data_sha256"] == read_json(chain / "data/digits.json")["sha256"]
            assert step["packages"]["torch"] == version("torch")
    assert (chain / "table.md").read_text().startswith("# By hand\n")


def test_comparison_and_figures(chain: Path) -> None:
    """Pairs come first, in order, by what predictions say; figures are in both formats."""
    pairs = read_rows(chain / "comparison.csv")[:2]
    assert [row["method"] for row in pairs] == ["at_kd", "at_kd"]
    assert [row["reference"] for row in pairs] == ["baseline", "kd"]
    for row in pairs:
        one, other = (
            read_archive(chain / row[name] / "predictions.npz")["top1_accuracy"].mean()
            for name in ("method", "reference")
        )
        assert float(row["difference"]) == pytest.approx(one - other, abs=1e-9)
        for name in ("comparison.md", "comparison.html"):
            assert row["sentence"] in (chain / name).read_text()
    drawn = {path.name for path in (chain / "figures").iterdir()}
    assert {Path(name).stem + end for name in drawn for end in (".png", ".svg")} == drawn != set()


@pytest.fixture(scope="session")
def spoilt(
    chain: Path, run_script: RunScript, once: Callable[[str, Callable[[Path], object]], Path]
) -> Path:
    """Return a folder of inputs that are wrong in one way each."""

    def make(folder: Path) -> None:
        for name, file, size in (
            ("data.npz", "data/digits.npz", 9000), ("network.pt", "teacher/checkpoint.pt", 5000),
            ("metrics.json", "kd/metrics.json", 500),
        ):  # fmt: skip
            (folder / name).write_bytes((chain / file).read_bytes()[:size])
        metrics = read_json(chain / "kd/metrics.json")
        metrics["training_provenance"]["arguments"]["epochs"] = 9
        (folder / "longer.json").write_text(json.dumps(metrics))
        (folder / "odd.csv").write_text("epoch,loss\n1,2.0\n")
        images = read_archive(chain / "data/digits.npz")
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
        assert run_script(folder, "evaluate.py", *flags, chain=chain).returncode == 0

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
    ("evaluate", EVALUATE, "--data {spoilt}/few.npz", "kd/checkpoint.pt, 10 classes, has 2"),
    ("evaluate", EVALUATE, "--teacher-predictions {spoilt}/predictions.npz", "other images"),
    ("extract_attention", EXTRACT, "--images-per-class 1000", "images_per_class is 1000, at most"),
    ("render_table", [*TITLE, *TABLE], "--run kd 0 {spoilt}/metrics.json no.csv", "damaged"),
    ("render_table", [*TITLE, *TABLE, *of_run("kd", RUN[0])], "{spoilt}/odd.csv", "odd.csv, lacks"),
    ("render_table", [*TITLE, *TABLE, *TWO, *of_run("at")],
     "{spoilt}/longer.json {chain}/kd/history.csv", "aren't of one config, epochs"),
    ("compare_methods", [*COMPARE, "--title", "x", *of_run("kd", *COMPARED),
                         *of_run("teacher", *COMPARED)], "--pair kd soft", "no run of soft"),
    ("render_figures", DRAW, "{chain}/kd/attention.npz --style no.mplstyle", "no.mplstyle"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "flags", "end", "said"), MISTAKES)
def test_mistake(
    chain: Path, spoilt: Path, work: Path, capsys: pytest.CaptureFixture[str],
    name: str, flags: list[str], end: str, said: str,
) -> None:  # fmt: skip
    """A mistake ends with 1 and one line that names it, and leaves nothing, hidden or not."""
    places = {"chain": chain, "spoilt": spoilt}
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
    ("render_table", [*TITLE, *TABLE], "--run kd 0 {planted} {chain}/kd/history.csv"),
    ("render_table", [*TITLE, *TABLE, *of_run("kd", RUN[0])], "{planted}"),
    ("compare_methods", [*COMPARE, "--title", "x", *TAUGHT], "{planted}"),
    ("render_figures", DRAW, "{planted}"),
]


@pytest.mark.parametrize(("name", "flags", "end"), INPUTS)
def test_planted_pickle(
    chain: Path, tmp_path: Path, work: Path, planted: object, marker: Path,
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
        given = filled([*flags, *end.split()], chain=chain, **places)
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
    chain: Path, work: Path, capsys: pytest.CaptureFixture[str], name: str, flags: list[str]
) -> None:
    """Asked for CUDA where there is none, a script says so and doesn't fall back to the CPU."""
    given = filled([*flags, "--device", "cuda"], chain=chain)
    assert "device is cuda" in mistake(capsys, main_of(name), given)
    assert not [*work.iterdir()]


def test_failure_keeps_what_was_there(
    chain: Path, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A script that fails leaves the outputs of an earlier run as they were."""
    for name in ("out.json", "out.npz"):
        (work / name).write_text("earlier")
    wrong = filled([*EVALUATE, "--teacher-predictions", "nothing.npz"], chain=chain)
    assert "nothing.npz" in mistake(capsys, main_of("evaluate"), wrong)
    left = {path.name: path.read_text() for path in work.iterdir()}
    assert left == {"out.json": "earlier", "out.npz": "earlier"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    ("line", "stop"),
    [("WRN-10-1", "in epoch 1 of 2, after step 1"), ("epoch   1/2", "after epoch 1 of 2")],
)
def test_stopped_by_a_signal(
    chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, line: str, stop: str
) -> None:
    """A training that is told to stop says where it does, and goes on to the same bits."""
    flags = [text.format(chain=chain) for text in [*KD_TAUGHT, *AT, "--epochs", "2"]]
    alone, hit = tmp_path / "alone", tmp_path / "hit"
    alone.mkdir()
    hit.mkdir()
    monkeypatch.chdir(alone)
    train_student.main(flags)
    monkeypatch.chdir(hit)

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
    assert {path.name for path in hit.rglob("*.*")} == {"out.pt"}
    train_student.main(flags)
    assert_same_checkpoint(alone / "out/checkpoint.pt", hit / "out/checkpoint.pt")
    assert not [*(hit / "resume").iterdir()]
