"""The scripts as programs: files and flags in, files and an exit status out."""

import ast
import csv
import json
import os
import pickle
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image

from distillation.data.dataset import ARRAYS, digest_arrays, read_dataset
from distillation.record.checkpoint import load_checkpoint
from distillation.record.digest import code_digest
from distillation.terms.losses import Collapse

SCRIPTS = Path(__file__).resolve().parents[1] / "workflow/scripts"
NAMES = sorted(path.name for path in SCRIPTS.glob("*.py"))
SERVER = Path(__file__).with_name("script_server.py")

Done = subprocess.CompletedProcess[str]
RunScript = Callable[..., Done]

DIGITS = {
    "format": "digits",
    "image_size": 12,
    "digit_size": 8,
    "clutter_pieces": 1,
    "clutter_size": 4,
    "train_placements": 1,
    "test_placements": 1,
    "test_fraction": 0.9,
    "seed": 0,
}
TRAINING = {
    "depth": 10,
    "width": 1,
    "epochs": 1,
    "batch_size": 64,
    "schedule": "one_cycle",
    "learning_rate": 0.1,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "padding": 1,
    "gamma_init": "ones",
    "seed": 0,
    "device": "cpu",
}
KD = {"alpha": 0.9, "temperature": 4}
AT = {"beta": 1000}
METHODS = {"baseline": {}, "kd": KD, "at": AT, "at_kd": KD | AT}
STYLE = ["--style", str(SCRIPTS / "figures.mplstyle")]
COMPARED = [
    *("comparison.csv", "comparison_seeds.csv", "fidelity.csv", "comparison.md", "comparison.html"),
    *("comparison.png", "comparison.svg"),
]
COMPARISON = [
    *("--title", "x", "--confidence", "0.95", "--power", "0.8", "--resamples", "200"),
    *("--bootstrap-seed", "0", "--dpi", "50", *STYLE),
    *(
        text
        for flag, file in zip(
            ("comparison", "seeds", "fidelity", "markdown", "page", "figure", "figure-svg"),
            COMPARED,
            strict=True,
        )
        for text in (f"--{flag}", file)
    ),
]
IMAGES = {"train": 179, "test": 1618}
STATISTICS = {"mean", "std"}


def flags(settings: Mapping[str, object]) -> list[str]:
    """Write settings as flags; None leaves a flag out."""
    return [
        text
        for name, value in settings.items()
        if value is not None
        for text in ("--" + name.replace("_", "-"), str(value))
    ]


def content(folder: Path) -> set[Path]:
    """Return all that is in a folder, hidden or not."""
    return set(folder.rglob("*"))


def assert_one_line(done: Done, *fragments: str) -> None:
    """Assert that a command ended with status 1 and one line on stderr that has the fragments."""
    assert done.returncode == 1, done.stdout + done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    for fragment in fragments:
        assert fragment in lines[0]


@pytest.fixture(scope="module")
def run_script(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunScript]:
    """Yield a function that runs a script with flags in a folder, each time in a new process."""
    streams = tmp_path_factory.mktemp("streams")
    server = subprocess.Popen(
        [sys.executable, str(SERVER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # A fork takes over no threads but the one that forks, so there should be no other.
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
    )
    assert server.stdin is not None
    assert server.stdout is not None
    stdin, stdout = server.stdin, server.stdout

    def run(folder: Path, name: str, *arguments: str) -> Done:
        argv = [str(SCRIPTS / name), *arguments]
        files = {stream: streams / stream for stream in ("stdout", "stderr")}
        for file in files.values():
            file.unlink(missing_ok=True)
        request = {"argv": argv, "folder": str(folder)}
        request |= {stream: str(file) for stream, file in files.items()}
        stdin.write(json.dumps(request) + "\n")
        stdin.flush()
        status = int(stdout.readline())
        return Done(argv, status, files["stdout"].read_text(), files["stderr"].read_text())

    yield run
    stdin.close()
    assert server.wait() == 0
    stdout.close()


def outputs_of_training(folder: str) -> list[str]:
    """Return the flags that name the outputs of a training."""
    return [
        *("--checkpoint", f"{folder}/checkpoint.pt"),
        *("--history", f"{folder}/history.csv"),
        *("--tensorboard", f"{folder}/tensorboard"),
        *("--resume", f"resume/{folder}.pt"),
    ]


def run_flags(models: list[str], *names: str) -> list[str]:
    """Return --run flags with the files called `names` of each model."""
    return [
        text
        for model in models
        for text in ("--run", model, "0", *(f"{model}/{name}" for name in names))
    ]


@pytest.fixture(scope="module")
def chain(run_script: RunScript, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder in which every script ran once, called by hand one after the other."""
    folder = tmp_path_factory.mktemp("chain")
    models = ["teacher", *METHODS]

    def run(name: str, *arguments: str) -> None:
        done = run_script(folder, name, *arguments)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""

    run(
        "prepare_data.py",
        *("--archive", "data/digits.npz", "--description", "data/digits.json"),
        *flags(DIGITS),
    )
    data = ["--data", "data/digits.npz"]
    run("train_teacher.py", *data, *flags(TRAINING), *outputs_of_training("teacher"))
    run(
        "tabulate_targets.py",
        *(*data, "--checkpoint", "teacher/checkpoint.pt", "--targets", "teacher/targets.npz"),
        *("--padding", "1", "--device", "cpu"),
    )
    for method, weights in METHODS.items():
        teacher = ["--teacher", "teacher/checkpoint.pt"] if weights else []
        run(
            "train_student.py",
            *(*data, *flags(TRAINING | weights), *teacher),
            *outputs_of_training(method),
        )
    for model in models:
        network = [*data, "--checkpoint", f"{model}/checkpoint.pt", "--device", "cpu"]
        teacher = [] if model == "teacher" else ["teacher/predictions.npz"]
        run(
            "evaluate.py",
            *network,
            *("--metrics", f"{model}/metrics.json"),
            *("--predictions", f"{model}/predictions.npz"),
            *("--batch-size", "500"),
            *(text for file in teacher for text in ("--teacher-predictions", file)),
        )
        run(
            "extract_attention.py",
            *network,
            *("--attention", f"{model}/attention.npz", "--images-per-class", "1", "--seed", "0"),
        )
    run(
        "render_table.py",
        *("--title", "By hand", "--csv", "table.csv", "--markdown", "table.md"),
        *("--page", "table.html", "--summary", "summary.json", "--provenance", "provenance.json"),
        *run_flags(models, "metrics.json", "history.csv"),
    )
    run(
        "compare_methods.py",
        *(*COMPARISON, *run_flags(models, "metrics.json", "history.csv", "predictions.npz")),
        *("--pair", "at_kd", "baseline", "--pair", "at_kd", "kd"),
    )
    run(
        "render_figures.py",
        *("--title", "By hand", "--figures", "figures", "--dpi", "50"),
        *("--style", str(SCRIPTS / "figures.mplstyle")),
        *run_flags(models, "metrics.json", "history.csv", "attention.npz"),
    )
    return folder


def read_history(folder: Path) -> list[dict[str, float]]:
    """Read the history in a model's folder."""
    with (folder / "history.csv").open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def read_archive(file: Path) -> dict[str, np.ndarray]:
    """Read all arrays of an .npz file."""
    with np.load(file, allow_pickle=False) as archive:
        return dict(archive)


@pytest.mark.parametrize("name", NAMES)
def test_help_is_the_docstring(run_script: RunScript, tmp_path: Path, name: str) -> None:
    """--help prints the script's docstring and ends with 0."""
    done = run_script(tmp_path, name, "--help")
    docstring = ast.get_docstring(ast.parse((SCRIPTS / name).read_text()))
    assert docstring
    assert done.returncode == 0
    assert docstring in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("name", NAMES)
def test_every_flag_is_explained(run_script: RunScript, tmp_path: Path, name: str) -> None:
    """--help says something about each flag."""
    options = run_script(tmp_path, name, "--help").stdout.partition("options:\n")[2]
    entries = [" ".join(entry.split()) for entry in ("\n" + options).split("\n  -")[1:]]
    assert entries
    for entry in entries:
        # The last flag's argument is followed by the text.
        _, _, tail = entry.rpartition("--")
        assert len(tail.split()) > 2, entry


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("flag", ["--no-such-flag", "--no-such-flag=1"])
def test_unknown_flag(run_script: RunScript, tmp_path: Path, name: str, flag: str) -> None:
    """A flag that doesn't exist ends with one line, 1, and no output."""
    assert_one_line(run_script(tmp_path, name, flag), name)
    assert not content(tmp_path)


def test_abbreviated_flag(run_script: RunScript, chain: Path, tmp_path: Path) -> None:
    """An abbreviated flag isn't taken for the one that it begins."""
    done = run_script(
        tmp_path,
        "train_teacher.py",
        *("--data", str(chain / "data/digits.npz"), "--lea", "0.1"),
        *(*flags(TRAINING | {"learning_rate": None}), *outputs_of_training("out")),
    )
    assert_one_line(done, "--learning-rate")
    assert not content(tmp_path)


def test_plain_python_from_another_folder(chain: Path, tmp_path: Path) -> None:
    """A script called by its absolute path works in any folder, with nothing installed or set."""
    done = subprocess.run(
        [
            *(sys.executable, str(SCRIPTS / "prepare_data.py")),
            *("--archive", "deep/er/digits.npz", "--description", "digits.json"),
            *flags(DIGITS),
        ],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    written = read_archive(tmp_path / "deep/er/digits.npz")
    assert digest_arrays(written) == digest_arrays(read_archive(chain / "data/digits.npz"))


def test_no_flags(run_script: RunScript, tmp_path: Path) -> None:
    """A script without its flags names those that it needs."""
    for name in NAMES:
        assert_one_line(run_script(tmp_path, name), "required: --")


def test_prepared_data(chain: Path) -> None:
    """prepare_data writes the arrays that training reads and a description that fits them."""
    arrays = read_archive(chain / "data/digits.npz")
    description = json.loads((chain / "data/digits.json").read_text())
    assert set(arrays) == {*ARRAYS, "train_masks", "test_masks"}
    for split, count in IMAGES.items():
        assert arrays[f"{split}_images"].shape == (count, 12, 12, 1)
        assert arrays[f"{split}_images"].dtype == np.uint8
        assert arrays[f"{split}_labels"].shape == (count,)
        assert arrays[f"{split}_masks"].shape == (count, 12, 12)
        assert description["images"][split]["count"] == count
        assert sum(description["images"][split]["per_class"]) == count
    assert description["sha256"] == digest_arrays(arrays)
    assert description["class_names"] == [str(digit) for digit in range(10)]
    assert description["mean"] == pytest.approx([arrays["train_images"].mean()])
    assert description["std"] == pytest.approx([arrays["train_images"].std()])


@pytest.mark.parametrize("model", ["teacher", *METHODS])
def test_trained_model(chain: Path, model: str) -> None:
    """A training leaves a checkpoint that loads, a row per epoch and events, but no resume file."""
    dataset = read_dataset(chain / "data/digits.npz")
    network, saved = load_checkpoint(chain / model / "checkpoint.pt", dataset, torch.device("cpu"))
    assert network.architecture == {"depth": 10, "width": 1, "classes": 10, "channels": 1}
    provenance = saved["provenance"]
    assert provenance["data_sha256"] == dataset.sha256
    assert provenance["seed"] == 0
    assert provenance["arguments"]["epochs"] == TRAINING["epochs"]
    assert ("teacher" in provenance) == bool(METHODS.get(model))
    assert [row["epoch"] for row in read_history(chain / model)] == [1]
    assert list((chain / model / "tensorboard").glob("events.*"))
    assert not list((chain / "resume").iterdir())


@pytest.mark.parametrize("method", METHODS)
def test_terms_of_the_objective(chain: Path, method: str) -> None:
    """The history holds the terms that a method has, and they add up to the total."""
    (row,) = read_history(chain / method)
    weights = METHODS[method]
    attention = [row[f"attention_{group}"] for group in (1, 2, 3)] if "beta" in weights else []
    assert ("distillation" in row) == ("alpha" in weights)
    assert len([name for name in row if name.startswith("attention_")]) == len(attention)
    alpha, beta = weights.get("alpha", 0), weights.get("beta", 0)
    total = (1 - alpha) * row["cross_entropy"] + beta * sum(attention)
    total += alpha * row.get("distillation", 0)
    assert row["loss"] == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("model", ["teacher", *METHODS])
def test_evaluation(chain: Path, model: str) -> None:
    """Metrics agree with the predictions beside them and say what they were made with."""
    metrics = json.loads((chain / model / "metrics.json").read_text())
    predictions = read_archive(chain / model / "predictions.npz")
    arrays = read_archive(chain / "data/digits.npz")
    assert {name: array.shape for name, array in predictions.items()} == {
        "logits": (IMAGES["test"], 10),
        "labels": (IMAGES["test"],),
        "predictions": (IMAGES["test"],),
    }
    np.testing.assert_array_equal(predictions["labels"], arrays["test_labels"])
    right = predictions["predictions"] == predictions["labels"]
    assert metrics["top1_accuracy"] == pytest.approx(right.mean())
    assert metrics["top1_accuracy"] <= metrics["top5_accuracy"] <= 1
    assert np.sum(metrics["confusion_matrix"]) == metrics["images"] == IMAGES["test"]
    assert np.trace(metrics["confusion_matrix"]) == right.sum()
    assert list(metrics["per_class_accuracy"]) == [str(digit) for digit in range(10)]
    assert metrics["provenance"]["data_sha256"] == metrics["training_provenance"]["data_sha256"]
    assert metrics["training_provenance"]["arguments"]["epochs"] == TRAINING["epochs"]
    assert ("teacher_agreement" in metrics) == (model != "teacher")
    assert ("teacher_divergence" in metrics) == (model != "teacher")
    (row,) = read_history(chain / model)
    assert metrics["top1_accuracy"] == pytest.approx(row["test_accuracy"])


def test_attention(chain: Path) -> None:
    """Every network's maps show the same image of each class, for 5 collapses and 3 groups."""
    arrays = read_archive(chain / "data/digits.npz")
    first = read_archive(chain / "teacher/attention.npz")
    for model in ("teacher", *METHODS):
        attention = read_archive(chain / model / "attention.npz")
        np.testing.assert_array_equal(attention["indices"], first["indices"])
        np.testing.assert_array_equal(attention["labels"], np.arange(10))
        np.testing.assert_array_equal(
            attention["images"], arrays["test_images"][attention["indices"]]
        )
        maps = {name: array.shape for name, array in attention.items() if name[-1].isdigit()}
        assert maps == {
            f"{collapse}_{group}": (10, side, side)
            for collapse in get_args(Collapse)
            for group, side in ((1, 12), (2, 6), (3, 3))
        }


def test_table(chain: Path) -> None:
    """The table has a row per quantity, columns for each model in the order of the flags."""
    with (chain / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    models = ["teacher", *METHODS]
    columns = [f"{model}_{name}" for model in models for name in ("mean", "std", "n")]
    assert list(rows[0]) == ["quantity", "unit", *columns]
    table = {row["quantity"]: row for row in rows}
    for model in models:
        metrics = json.loads((chain / model / "metrics.json").read_text())
        accuracy = table["Test (validation) accuracy"]
        assert float(accuracy[f"{model}_mean"]) == pytest.approx(100 * metrics["top1_accuracy"])
        # One seed has no deviation.
        assert accuracy[f"{model}_std"] == ""
        assert accuracy[f"{model}_n"] == "1"
        has = METHODS.get(model, {})
        assert table["KD term, alpha x T^2 x KL"][f"{model}_n"] == str(int("alpha" in has))
        assert table["AT term, beta x AT loss"][f"{model}_n"] == str(int("beta" in has))
        assert table["Agreement with the teacher"][f"{model}_n"] == str(int(model != "teacher"))
    summary = json.loads((chain / "summary.json").read_text())
    assert list(summary) == models
    assert summary["kd"]["n"] == 1
    accuracy = 100 * summary["kd"]["top1_accuracy"]
    assert accuracy == pytest.approx(float(table["Test (validation) accuracy"]["kd_mean"]))
    assert "teacher_agreement" not in summary["teacher"]
    markdown = (chain / "table.md").read_text().splitlines()
    assert markdown[0] == "# By hand"
    head, rule, *body = [line.split(" | ") for line in markdown if line.startswith("|")]
    names = ["Teacher", "Baseline", "KD", "AT", "AT+KD"]
    assert [cell.rstrip(" |") for cell in head[1:]] == [f"{name} (n = 1)" for name in names]
    assert len(rule) == len(head)
    assert len(body) == len(rows)
    assert {len(line) for line in body} == {len(head)}


def test_provenance_of_the_table(chain: Path) -> None:
    """The table's provenance has that of each model's training and evaluation, whole."""
    provenance = json.loads((chain / "provenance.json").read_text())
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=SCRIPTS, capture_output=True, text=True, check=False
    ).stdout.strip()
    assert provenance["table"]["commit"] == (commit or None)
    assert provenance["table"]["code_digest"] == code_digest(SCRIPTS / "render_table.py")
    assert [(run["model"], run["seed"]) for run in provenance["runs"]] == [
        (model, 0) for model in ["teacher", *METHODS]
    ]
    description = json.loads((chain / "data/digits.json").read_text())
    for run in provenance["runs"]:
        metrics = json.loads((chain / run["model"] / "metrics.json").read_text())
        assert run["training"] == metrics["training_provenance"]
        assert run["evaluation"] == metrics["provenance"]
        for step in (run["training"], run["evaluation"]):
            assert step["data_sha256"] == description["sha256"]
            assert step["packages"] == description["provenance"]["packages"]
            assert step["packages"]["torch"] == version("torch")
        assert run["training"]["arguments"]["epochs"] == TRAINING["epochs"]
        assert run["training"]["arguments"].get("alpha", 0) == METHODS.get(run["model"], {}).get(
            "alpha", 0
        )
    script = SCRIPTS / "train_teacher.py"
    assert provenance["runs"][0]["training"]["code_digest"] == code_digest(script)


def test_comparison(chain: Path) -> None:
    """The comparison has each pair and seed, and its numbers are those of the predictions."""
    with (chain / "comparison.csv").open() as file:
        pairs = list(csv.DictReader(file))
    with (chain / "comparison_seeds.csv").open() as file:
        seeds = list(csv.DictReader(file))
    with (chain / "fidelity.csv").open() as file:
        fidelity = list(csv.DictReader(file))
    names = [("at_kd", "baseline"), ("at_kd", "kd")]
    assert [(row["method"], row["reference"]) for row in pairs] == names
    right = {}
    for method in METHODS:
        arrays = read_archive(chain / f"{method}/predictions.npz")
        right[method] = arrays["predictions"] == arrays["labels"]
    for (method, reference), row, seed in zip(names, pairs, seeds, strict=True):
        alone = int((right[method] & ~right[reference]).sum())
        other = int((~right[method] & right[reference]).sum())
        difference = 100 * (alone - other) / IMAGES["test"]
        assert float(row["difference"]) == pytest.approx(difference, abs=1e-9)
        assert float(row["images_low"]) <= difference <= float(row["images_high"])
        assert (int(seed["only_method_correct"]), int(seed["only_reference_correct"])) == (
            alone,
            other,
        )
        # One seed tells nothing of others.
        assert row["verdict"] == "one_seed"
        assert {row[name] for name in ("low", "high", "p_value", "p_holm", "detectable")} == {""}
        assert row["sentence"].startswith("With one seed nothing can be said about other seeds")
        assert row["sentence"] in (chain / "comparison.md").read_text()
        assert row["sentence"] in (chain / "comparison.html").read_text()
    measures = [(row["method"], row["measure"]) for row in fidelity]
    assert measures == [
        (method, measure)
        for method in METHODS
        for measure in ("teacher_agreement", "teacher_divergence")
    ]
    metrics = json.loads((chain / "kd/metrics.json").read_text())
    assert float(fidelity[2]["mean"]) == pytest.approx(100 * metrics["teacher_agreement"])
    # The page holds the figure itself.
    assert "data:image/png;base64," in (chain / "comparison.html").read_text()


def test_comparison_names_different_trainings(
    run_script: RunScript, chain: Path, tmp_path: Path
) -> None:
    """Students that were trained in different ways are compared if asked, and it is said."""
    warning = "Trainings differ, which differences may come from, in"
    assert warning not in (chain / "comparison.md").read_text()
    metrics = json.loads((chain / "kd/metrics.json").read_text())
    metrics["training_provenance"]["engine"]["precision"] = "bfloat16"
    metrics["training_provenance"]["arguments"]["nesterov"] = True
    (tmp_path / "other.json").write_text(json.dumps(metrics))
    runs: list[str] = []
    for model, file in (("baseline", str(chain / "baseline/metrics.json")), ("kd", "other.json")):
        runs += ["--run", model, "0", file, str(chain / f"{model}/history.csv")]
        runs += [str(chain / f"{model}/predictions.npz")]
    teacher = [text.format(chain=chain) for text in TEACHER_RUN]
    teacher += [str(chain / "teacher/predictions.npz")]
    pair = ["--pair", "kd", "baseline"]
    command = ["compare_methods.py", *COMPARISON, *teacher, *runs, *pair]
    refused = run_script(tmp_path, *command)
    assert refused.returncode == 1
    assert "had nesterov False, of kd, seed 0, True" in refused.stderr
    assert not (tmp_path / "comparison.md").exists()
    done = run_script(tmp_path, *command, "--own-training", "kd", "nesterov")
    assert done.returncode == 0, done.stderr
    said = (tmp_path / "comparison.md").read_text().splitlines()
    note = said[said.index(warning) :][:4]
    precision, nesterov = "KD bfloat16, others float32", "KD True, others False"
    assert note == [warning, "", f"- precision: {precision}", f"- nesterov: {nesterov}"]


def test_figures(chain: Path) -> None:
    """Every figure is there as PNG and SVG, and nothing else."""
    attention = [
        f"attention_{collapse}{overlay}"
        for collapse in get_args(Collapse)
        for overlay in ("", "_overlay")
    ]
    curves = ["curves_teacher", "curves_baseline", "curves_students", "curves_test"]
    names = {*attention, *curves, "accuracy", "confusion"}
    files = {path.name for path in (chain / "figures").iterdir()}
    assert files == {f"{name}.{suffix}" for name in names for suffix in ("png", "svg")}
    for name in names:
        with Image.open(chain / "figures" / f"{name}.png") as image:
            image.verify()
        assert "</svg>" in (chain / "figures" / f"{name}.svg").read_text()


@pytest.fixture(scope="module")
def spoilt(chain: Path, run_script: RunScript, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of inputs that are wrong in one way each."""
    folder = tmp_path_factory.mktemp("spoilt")
    whole = (chain / "data/digits.npz").read_bytes()
    (folder / "truncated.npz").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.npz").write_bytes(b"")
    (folder / "text.npz").write_text("not an archive")
    (folder / "truncated.pt").write_bytes((chain / "teacher/checkpoint.pt").read_bytes()[:5000])
    (folder / "no_metrics.json").write_text("{}")
    (folder / "list.json").write_text("[]")
    (folder / "truncated.json").write_text((chain / "kd/metrics.json").read_text()[:500])
    metrics = json.loads((chain / "kd/metrics.json").read_text())
    metrics["training_provenance"]["arguments"]["epochs"] = 9
    (folder / "longer.json").write_text(json.dumps(metrics))
    (folder / "anonymous.json").write_text(json.dumps(metrics | {"training_provenance": {}}))
    header = (chain / "kd/history.csv").read_text().splitlines()[0]
    (folder / "no_rows.csv").write_text(header + "\n")
    (folder / "empty.csv").write_text("")
    (folder / "no_columns.csv").write_text("epoch,loss\n1,2.0\n")
    images = read_archive(chain / "data/digits.npz")

    def save(name: str, **changes: np.ndarray) -> None:
        np.savez_compressed(folder / name, allow_pickle=False, **(images | changes))

    # The same images, shuffled: predictions of another data set of the same shape.
    save("shuffled.npz", test_labels=np.roll(images["test_labels"], 1))
    save("float.npz", train_images=images["train_images"].astype(np.float32))
    save("beyond.npz", train_labels=images["train_labels"] + 1)
    # Two of the ten classes.
    few = {
        f"{split}_{kind}": images[f"{split}_{kind}"][images[f"{split}_labels"] < 2]
        for split in ("train", "test")
        for kind in ("images", "labels", "masks")
    }
    save("two_classes.npz", class_names=images["class_names"][:2], **few)
    without_mean = {name: array for name, array in images.items() if name != "mean"}
    np.savez_compressed(folder / "lacking.npz", allow_pickle=False, **without_mean)
    network = ["--checkpoint", str(chain / "baseline/checkpoint.pt"), "--device", "cpu"]
    done = run_script(
        folder,
        "evaluate.py",
        *("--data", "shuffled.npz", *network, "--batch-size", "500"),
        *("--metrics", "metrics.json", "--predictions", "shuffled_predictions.npz"),
    )
    assert done.returncode == 0
    for split in ("train", "test"):
        for name in ("a", "b"):
            for source in ("cut", "lone", "odd", "odd_test", "large", "vast"):
                (folder / source / split / name).mkdir(parents=True)
                picture = Image.new("L", (12, 12), 100 if name == "a" else 200)
                picture.save(folder / source / split / name / "1.png")
    cut = folder / "cut/train/b/1.png"
    cut.write_bytes(cut.read_bytes()[:-30])
    for split in ("train", "test"):
        shutil.rmtree(folder / "lone" / split / "b")
    shutil.rmtree(folder / "odd/test/b")
    (folder / "odd_test/test/b/1.png").unlink()
    Image.new("L", (13, 12)).save(folder / "large/train/a/1.png")
    # A header that declares more pixels than Pillow is willing to unpack.
    vast = bytearray((folder / "vast/train/a/1.png").read_bytes())
    vast[16:24] = (60_000).to_bytes(4, "big") * 2
    vast[29:33] = zlib.crc32(vast[12:29]).to_bytes(4, "big")
    (folder / "vast/train/a/1.png").write_bytes(vast)
    (folder / "archives").mkdir()
    (folder / "archives/cifar-10-python.tar.gz").write_bytes(b"truncated")
    return folder


PREPARE = ["--archive", "out.npz", "--description", "out.json"]
FOLDER = {"format": "image_folder", "image_size": 12, "channels": 1, "fit": "pad"}
EVALUATE = {
    "data": "{chain}/data/digits.npz",
    "checkpoint": "{chain}/kd/checkpoint.pt",
    "teacher_predictions": "{chain}/teacher/predictions.npz",
    "metrics": "out.json",
    "predictions": "out.npz",
    "batch_size": 500,
    "device": "cpu",
}
EXTRACT = {
    "data": "{chain}/data/digits.npz",
    "checkpoint": "{chain}/kd/checkpoint.pt",
    "attention": "out.npz",
    "images_per_class": 1,
    "seed": 0,
    "device": "cpu",
}
TABULATE = {
    "data": "{chain}/data/digits.npz",
    "checkpoint": "{chain}/teacher/checkpoint.pt",
    "targets": "out.npz",
    "padding": 1,
    "device": "cpu",
}
TEACHER = TRAINING | {"data": "{chain}/data/digits.npz"}
STUDENT = TEACHER | KD | {"teacher": "{chain}/teacher/checkpoint.pt"}
TABLED = TEACHER | KD | {"teacher_targets": "{chain}/teacher/targets.npz"}
OUTPUTS = outputs_of_training("out")
TABLE = [
    *("--title", "x", "--csv", "out.csv", "--markdown", "out.md", "--page", "out.html"),
    *("--summary", "out.json", "--provenance", "from.json"),
]
FIGURES = ["--title", "x", "--figures", "out", "--dpi", "50"]
KD_FILES = ["{chain}/kd/metrics.json", "{chain}/kd/history.csv"]
KD_RUN = ["--run", "kd", "0", *KD_FILES]
TEACHER_RUN = [
    "--run",
    "teacher",
    "0",
    "{chain}/teacher/metrics.json",
    "{chain}/teacher/history.csv",
]
KD_COMPARED = [*KD_RUN, "{chain}/kd/predictions.npz"]
TEACHER_MAPS = [*TEACHER_RUN, "{chain}/teacher/attention.npz"]
KD_MAPS = [*TEACHER_MAPS, *KD_RUN, "{chain}/kd/attention.npz"]

# What is wrong: script, flags, and what the one line must name. {chain} and {spoilt} are folders.
MISTAKES: dict[str, tuple[str, list[str], list[str]]] = {
    "digits lack a flag": (
        "prepare_data.py",
        [*PREPARE, *flags(DIGITS | {"clutter_size": None})],
        ["digits", "--clutter-size"],
    ),
    "digit larger than image": (
        "prepare_data.py",
        [*PREPARE, *flags(DIGITS | {"digit_size": 13})],
        ["digit_size is 13", "12"],
    ),
    "clutter larger than digit": (
        "prepare_data.py",
        [*PREPARE, *flags(DIGITS | {"clutter_size": 9})],
        ["clutter_size is 9", "8"],
    ),
    "unknown format": (
        "prepare_data.py",
        [*PREPARE, *flags(DIGITS | {"format": "mnist"})],
        ["--format", "mnist", "fashion_mnist"],
    ),
    "text for a number": (
        "prepare_data.py",
        [*PREPARE, *flags(DIGITS | {"seed": "none"})],
        ["--seed", "'none'", "a whole number"],
    ),
    "fraction out of range": (
        "prepare_data.py",
        [*PREPARE, *flags(DIGITS | {"test_fraction": 1})],
        ["--test-fraction", "'1'", "0.05", "0.95"],
    ),
    "no such folder": (
        "prepare_data.py",
        [*PREPARE, *flags(FOLDER | {"source": "{spoilt}/nothing"})],
        ["{spoilt}/nothing/train", "no such folder"],
    ),
    "truncated image": (
        "prepare_data.py",
        [*PREPARE, *flags(FOLDER | {"source": "{spoilt}/cut"})],
        ["{spoilt}/cut/train/b/1.png", "truncated"],
    ),
    "one class": (
        "prepare_data.py",
        [*PREPARE, *flags(FOLDER | {"source": "{spoilt}/lone"})],
        ["{spoilt}/lone", "1 class", "at least 2"],
    ),
    "classes differ": (
        "prepare_data.py",
        [*PREPARE, *flags(FOLDER | {"source": "{spoilt}/odd"})],
        ["{spoilt}/odd", "different classes", "b"],
    ),
    "class without images": (
        "prepare_data.py",
        [*PREPARE, *flags(FOLDER | {"source": "{spoilt}/odd_test"})],
        ["{spoilt}/odd_test/test/b", "no image"],
    ),
    "image too large to pad": (
        "prepare_data.py",
        [*PREPARE, *flags(FOLDER | {"source": "{spoilt}/large"})],
        ["{spoilt}/large/train/a/1.png", "13 x 12", "at most 12"],
    ),
    "image too large to unpack": (
        "prepare_data.py",
        [*PREPARE, *flags(FOLDER | {"source": "{spoilt}/vast", "fit": "crop"})],
        ["{spoilt}/vast/train/a/1.png"],
    ),
    "source without the archive": (
        "prepare_data.py",
        [*PREPARE, "--format", "cifar10", "--source", "{spoilt}/cut"],
        ["{spoilt}/cut", "cifar-10-python.tar.gz"],
    ),
    "truncated archive": (
        "prepare_data.py",
        [*PREPARE, "--format", "cifar10", "--source", "{spoilt}/archives"],
        ["{spoilt}/archives/cifar-10-python.tar.gz", "truncated", "MD5"],
    ),
    "time limit without a state to go on from": (
        "train_teacher.py",
        [*flags(TEACHER | {"time_limit": 60}), *OUTPUTS[:-2]],
        ["time_limit", "resume"],
    ),
    "no data": (
        "train_teacher.py",
        [*flags(TEACHER | {"data": "nothing.npz"}), *OUTPUTS],
        ["nothing.npz", "no such file"],
    ),
    "truncated data": (
        "train_teacher.py",
        [*flags(TEACHER | {"data": "{spoilt}/truncated.npz"}), *OUTPUTS],
        ["{spoilt}/truncated.npz", "not a readable"],
    ),
    "empty data": (
        "train_teacher.py",
        [*flags(TEACHER | {"data": "{spoilt}/empty.npz"}), *OUTPUTS],
        ["{spoilt}/empty.npz", "not a readable"],
    ),
    "data that is text": (
        "evaluate.py",
        flags(EVALUATE | {"data": "{spoilt}/text.npz"}),
        ["{spoilt}/text.npz", "not a readable"],
    ),
    "data that lacks an array": (
        "train_teacher.py",
        [*flags(TEACHER | {"data": "{spoilt}/lacking.npz"}), *OUTPUTS],
        ["{spoilt}/lacking.npz", "lacks mean"],
    ),
    "images of another type": (
        "train_teacher.py",
        [*flags(TEACHER | {"data": "{spoilt}/float.npz"}), *OUTPUTS],
        ["{spoilt}/float.npz", "float32", "uint8"],
    ),
    "labels beyond the classes": (
        "train_teacher.py",
        [*flags(TEACHER | {"data": "{spoilt}/beyond.npz"}), *OUTPUTS],
        ["{spoilt}/beyond.npz", "train_labels", "10 classes"],
    ),
    "no epochs": (
        "train_teacher.py",
        [*flags(TEACHER | {"epochs": 0}), *OUTPUTS],
        ["--epochs", "'0'", "at least 1"],
    ),
    "learning rate not finite": (
        "train_teacher.py",
        [*flags(TEACHER | {"learning_rate": "nan"}), *OUTPUTS],
        ["--learning-rate", "'nan'", "above 0"],
    ),
    "depth between networks": (
        "train_teacher.py",
        [*flags(TEACHER | {"depth": 12}), *OUTPUTS],
        ["depth", "12", "6 n + 4"],
    ),
    "padding as wide as the image": (
        "train_teacher.py",
        [*flags(TEACHER | {"padding": 12}), *OUTPUTS],
        ["padding is 12", "less than", "12"],
    ),
    "Nesterov without momentum": (
        "train_teacher.py",
        [*flags(TEACHER | {"momentum": 0}), "--nesterov", *OUTPUTS],
        ["nesterov", "momentum is 0", "above 0"],
    ),
    "last batch of one image": (
        "train_teacher.py",
        [*flags(TEACHER | {"batch_size": 178}), *OUTPUTS],
        ["batch_size is 178", "179"],
    ),
    "loss that isn't finite": (
        "train_teacher.py",
        [*flags(TEACHER | {"learning_rate": 1e30, "schedule": "cosine"}), *OUTPUTS],
        ["loss is", "epoch 1", "step"],
    ),
    "seed beyond 64 bits": (
        "train_teacher.py",
        [*flags(TEACHER | {"seed": 2**64}), *OUTPUTS],
        ["seed", str(2**64)],
    ),
    "distillation without a teacher": (
        "train_student.py",
        [*flags(STUDENT | {"teacher": None}), *OUTPUTS],
        ["--alpha", "--teacher is missing"],
    ),
    "attention without a teacher": (
        "train_student.py",
        [*flags(TEACHER | AT), *OUTPUTS],
        ["--beta", "--teacher is missing"],
    ),
    "teacher without weights": (
        "train_student.py",
        [*flags(TEACHER | {"teacher": "{chain}/teacher/checkpoint.pt"}), *OUTPUTS],
        ["--teacher is given", "--alpha", "--beta"],
    ),
    "alpha without temperature": (
        "train_student.py",
        [*flags(STUDENT | {"temperature": None}), *OUTPUTS],
        ["--alpha", "--temperature is missing"],
    ),
    "alpha above 1": (
        "train_student.py",
        [*flags(STUDENT | {"alpha": 1.5}), *OUTPUTS],
        ["--alpha", "'1.5'", "at most 1"],
    ),
    "teacher and its table": (
        "train_student.py",
        [*flags(STUDENT | {"teacher_targets": "{chain}/teacher/targets.npz"}), *OUTPUTS],
        ["--teacher", "--teacher-targets", "one of them"],
    ),
    "attention from a table": (
        "train_student.py",
        [*flags(TABLED | AT), *OUTPUTS],
        ["--teacher-targets", "logits only", "--beta"],
    ),
    "table of other views": (
        "train_student.py",
        [*flags(TABLED | {"padding": 2}), *OUTPUTS],
        ["{chain}/teacher/targets.npz", "padding 1", "expected 2"],
    ),
    "table of other data": (
        "train_student.py",
        [*flags(TABLED | {"data": "{spoilt}/shuffled.npz"}), *OUTPUTS],
        ["{chain}/teacher/targets.npz", "other training images"],
    ),
    "no teacher there": (
        "train_student.py",
        [*flags(STUDENT | {"teacher": "nothing.pt"}), *OUTPUTS],
        ["nothing.pt", "no such file"],
    ),
    "truncated teacher": (
        "train_student.py",
        [*flags(STUDENT | {"teacher": "{spoilt}/truncated.pt"}), *OUTPUTS],
        ["{spoilt}/truncated.pt", "damaged"],
    ),
    "data for a checkpoint": (
        "train_student.py",
        [*flags(STUDENT | {"teacher": "{chain}/data/digits.npz"}), *OUTPUTS],
        ["{chain}/data/digits.npz", "checkpoint"],
    ),
    "teacher of other classes": (
        "train_student.py",
        [*flags(STUDENT | {"data": "{spoilt}/two_classes.npz", "batch_size": 32}), *OUTPUTS],
        ["{chain}/teacher/checkpoint.pt", "10 classes", "has 2"],
    ),
    "checkpoint of other classes": (
        "evaluate.py",
        flags(EVALUATE | {"data": "{spoilt}/two_classes.npz"}),
        ["{chain}/kd/checkpoint.pt", "10 classes", "has 2"],
    ),
    "predictions of other data": (
        "evaluate.py",
        flags(EVALUATE | {"teacher_predictions": "{spoilt}/shuffled_predictions.npz"}),
        ["{spoilt}/shuffled_predictions.npz", "other images"],
    ),
    "data for predictions": (
        "evaluate.py",
        flags(EVALUATE | {"teacher_predictions": "{chain}/data/digits.npz"}),
        ["{chain}/data/digits.npz", "lacks logits, labels"],
    ),
    "no batch": (
        "evaluate.py",
        flags(EVALUATE | {"batch_size": 0}),
        ["--batch-size", "'0'", "at least 1"],
    ),
    "too many images per class": (
        "extract_attention.py",
        flags(EXTRACT | {"images_per_class": 1000}),
        ["images_per_class is 1000", "at most"],
    ),
    "maps of a checkpoint of other classes": (
        "extract_attention.py",
        flags(EXTRACT | {"data": "{spoilt}/two_classes.npz"}),
        ["{chain}/kd/checkpoint.pt", "10 classes", "has 2"],
    ),
    "no metrics": (
        "render_table.py",
        [*TABLE, "--run", "kd", "0", "nothing.json", KD_FILES[1]],
        ["nothing.json", "no such file"],
    ),
    "a pair of an unknown method": (
        "compare_methods.py",
        [
            *COMPARISON,
            *TEACHER_RUN,
            "{chain}/teacher/predictions.npz",
            *KD_COMPARED,
            "--pair",
            "kd",
            "soft",
        ],
        ["--pair kd soft", "no run of soft", "teacher, kd"],
    ),
    "a method compared with itself": (
        "compare_methods.py",
        [
            *COMPARISON,
            *TEACHER_RUN,
            "{chain}/teacher/predictions.npz",
            *KD_COMPARED,
            "--pair",
            "kd",
            "kd",
        ],
        ["--pair kd kd", "two different ones"],
    ),
    "predictions of another model": (
        "compare_methods.py",
        [
            *COMPARISON,
            *TEACHER_RUN,
            "{chain}/teacher/predictions.npz",
            *KD_RUN,
            "{chain}/teacher/predictions.npz",
            "--pair",
            "kd",
            "teacher",
        ],
        ["{chain}/teacher/predictions.npz", "kd"],
    ),
    "truncated metrics": (
        "render_table.py",
        [*TABLE, "--run", "kd", "0", "{spoilt}/truncated.json", KD_FILES[1]],
        ["{spoilt}/truncated.json", "damaged"],
    ),
    "metrics of something else": (
        "render_table.py",
        [*TABLE, "--run", "kd", "0", "{spoilt}/no_metrics.json", KD_FILES[1]],
        ["{spoilt}/no_metrics.json"],
    ),
    "metrics that are a list": (
        "render_table.py",
        [*TABLE, "--run", "kd", "0", "{spoilt}/list.json", KD_FILES[1]],
        ["{spoilt}/list.json"],
    ),
    "empty history": (
        "render_table.py",
        [*TABLE, "--run", "kd", "0", KD_FILES[0], "{spoilt}/empty.csv"],
        ["{spoilt}/empty.csv", "damaged"],
    ),
    "history without epochs": (
        "render_table.py",
        [*TABLE, "--run", "kd", "0", KD_FILES[0], "{spoilt}/no_rows.csv"],
        ["{spoilt}/no_rows.csv"],
    ),
    "history of something else": (
        "render_table.py",
        [*TABLE, "--run", "kd", "0", KD_FILES[0], "{spoilt}/no_columns.csv"],
        ["{spoilt}/no_columns.csv"],
    ),
    "seed of another run": (
        "render_table.py",
        [*TABLE, "--run", "kd", "1", *KD_FILES],
        ["{chain}/kd/metrics.json", "seed 0", "expected 1"],
    ),
    "seed that is text": (
        "render_table.py",
        [*TABLE, "--run", "kd", "first", *KD_FILES],
        ["--run", "'first'"],
    ),
    "run given twice": (
        "render_table.py",
        [*TABLE, *KD_RUN, *KD_RUN],
        ["kd, seed 0", "twice"],
    ),
    "runs of different data": (
        "render_table.py",
        [*TABLE, *KD_RUN, "--run", "at", "0", "{spoilt}/metrics.json", KD_FILES[1]],
        ["aren't of one config", "kd, seed 0", "at, seed 0", "data_sha256"],
    ),
    "students of two configs": (
        "render_table.py",
        [*TABLE, *TEACHER_RUN, *KD_RUN, "--run", "at", "0", "{spoilt}/longer.json", KD_FILES[1]],
        ["aren't of one config", "training of kd, seed 0, had epochs 1, of at, seed 0, 9"],
    ),
    "student of a teacher that isn't there": (
        "render_table.py",
        [*TABLE, *KD_RUN],
        ["aren't of one config", "kd, seed 0", "teacher"],
    ),
    "metrics without provenance": (
        "render_table.py",
        [*TABLE, "--run", "kd", "0", "{spoilt}/anonymous.json", KD_FILES[1]],
        ["{spoilt}/anonymous.json", "training_provenance lacks arguments"],
    ),
    "run with a file too few": (
        "render_figures.py",
        [*FIGURES, *STYLE, *KD_RUN],
        ["--run", "expected 5"],
    ),
    "no style": (
        "render_figures.py",
        [*FIGURES, "--style", "nothing.mplstyle", *KD_MAPS],
        ["nothing.mplstyle"],
    ),
    "dots per inch out of range": (
        "render_figures.py",
        [*FIGURES[:-1], "5000", *STYLE, *KD_MAPS],
        ["--dpi", "'5000'", "at most 600"],
    ),
    "truncated maps": (
        "render_figures.py",
        [*FIGURES, *STYLE, *TEACHER_MAPS, *KD_RUN, "{spoilt}/truncated.npz"],
        ["{spoilt}/truncated.npz", "not a readable"],
    ),
    "predictions for maps": (
        "render_figures.py",
        [*FIGURES, *STYLE, *TEACHER_MAPS, *KD_RUN, "{chain}/kd/predictions.npz"],
        ["{chain}/kd/predictions.npz", "lacks images"],
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake(
    run_script: RunScript, chain: Path, spoilt: Path, tmp_path: Path, mistake: str
) -> None:
    """A mistake ends with 1 and one line that names it, and leaves nothing, hidden or not."""
    name, arguments, fragments = MISTAKES[mistake]
    folders = {"chain": chain, "spoilt": spoilt}
    filled = [argument.format(**folders) for argument in arguments]
    done = run_script(tmp_path, name, *filled)
    assert_one_line(done, *(fragment.format(**folders) for fragment in fragments))
    assert not content(tmp_path)


# Every kind of input that a pickle could be planted in: script and flags; {planted} is the file.
INPUTS: dict[str, tuple[str, list[str]]] = {
    "image": ("prepare_data.py", [*PREPARE, *flags(FOLDER | {"source": "{pictures}"})]),
    "archive": ("prepare_data.py", [*PREPARE, "--format", "cifar10", "--source", "{archives}"]),
    "data of a teacher": ("train_teacher.py", [*flags(TEACHER | {"data": "{planted}"}), *OUTPUTS]),
    "data of a student": ("train_student.py", [*flags(STUDENT | {"data": "{planted}"}), *OUTPUTS]),
    "teacher": ("train_student.py", [*flags(STUDENT | {"teacher": "{planted}"}), *OUTPUTS]),
    "table": ("train_student.py", [*flags(TABLED | {"teacher_targets": "{planted}"}), *OUTPUTS]),
    "teacher of a table": ("tabulate_targets.py", flags(TABULATE | {"checkpoint": "{planted}"})),
    "data of a table": ("tabulate_targets.py", flags(TABULATE | {"data": "{planted}"})),
    "data to evaluate on": ("evaluate.py", flags(EVALUATE | {"data": "{planted}"})),
    "checkpoint to evaluate": ("evaluate.py", flags(EVALUATE | {"checkpoint": "{planted}"})),
    "predictions": ("evaluate.py", flags(EVALUATE | {"teacher_predictions": "{planted}"})),
    "data of maps": ("extract_attention.py", flags(EXTRACT | {"data": "{planted}"})),
    "checkpoint of maps": ("extract_attention.py", flags(EXTRACT | {"checkpoint": "{planted}"})),
    "metrics": ("render_table.py", [*TABLE, "--run", "kd", "0", "{planted}", KD_FILES[1]]),
    "history": ("render_table.py", [*TABLE, "--run", "kd", "0", KD_FILES[0], "{planted}"]),
    "predictions to compare": (
        "compare_methods.py",
        [*COMPARISON, *TEACHER_RUN, "{chain}/teacher/predictions.npz", *KD_RUN, "{planted}"],
    ),
    "maps": ("render_figures.py", [*FIGURES, *STYLE, *TEACHER_MAPS, *KD_RUN, "{planted}"]),
}


@pytest.mark.parametrize("form", ["pickle", "torch", "array"])
@pytest.mark.parametrize("kind", INPUTS)
def test_planted_pickle(
    run_script: RunScript, chain: Path, tmp_path: Path, planted: object, marker: Path,
    kind: str, form: str,
) -> None:  # fmt: skip
    """A pickle in place of any input is refused in one line, and what it holds isn't run."""
    folder = tmp_path / "inputs"
    pictures = [folder / f"pictures/{split}/{name}/1.png" for split in ("train", "test")
                for name in ("a", "b")]  # fmt: skip
    files = [folder / "planted", folder / "archives/cifar-10-python.tar.gz", *pictures]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("wb") as opened:
            if form == "pickle":
                pickle.dump(planted, opened)
            elif form == "torch":
                torch.save({"format": planted}, opened)
            else:
                np.savez(opened, logits=np.array([planted], dtype=object))
    name, arguments = INPUTS[kind]
    places = {name: folder / name for name in ("planted", "archives", "pictures")}
    work = tmp_path / "work"
    work.mkdir()
    done = run_script(work, name, *(text.format(chain=chain, **places) for text in arguments))
    assert_one_line(done, str(folder))
    assert not marker.exists()
    assert not content(work)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("train_teacher.py", [*flags(TEACHER | {"device": "cuda"}), *OUTPUTS]),
        ("train_student.py", [*flags(STUDENT | {"device": "cuda"}), *OUTPUTS]),
        ("evaluate.py", flags(EVALUATE | {"device": "cuda"})),
        ("extract_attention.py", flags(EXTRACT | {"device": "cuda"})),
        ("tabulate_targets.py", flags(TABULATE | {"device": "cuda"})),
    ],
)
def test_no_cuda(
    run_script: RunScript, chain: Path, tmp_path: Path, name: str, arguments: list[str]
) -> None:
    """Asked for CUDA where there is none, a script says so and doesn't fall back to the CPU."""
    done = run_script(tmp_path, name, *(argument.format(chain=chain) for argument in arguments))
    assert_one_line(done, "device is cuda", "allowed: cpu")
    assert not content(tmp_path)


def test_sixteen_bits(run_script: RunScript, tmp_path: Path) -> None:
    """A grey image of 16 bits keeps its gradation or is refused; it doesn't come out white."""
    levels = np.linspace(0, 2**16 - 1, 144).astype(np.uint16).reshape(12, 12)
    for split in ("train", "test"):
        for name in ("a", "b"):
            folder = tmp_path / "pictures" / split / name
            folder.mkdir(parents=True)
            Image.fromarray(levels).save(folder / "1.png")
    done = run_script(
        tmp_path, "prepare_data.py", *PREPARE, *flags(FOLDER | {"source": "pictures"})
    )
    if done.returncode:
        assert_one_line(done, "pictures/train/a/1.png", "16")
    else:
        images = read_archive(tmp_path / "out.npz")["train_images"]
        np.testing.assert_allclose(images[0, ..., 0], levels / 257, atol=1)


def test_failure_keeps_what_was_there(run_script: RunScript, chain: Path, tmp_path: Path) -> None:
    """A script that fails leaves the outputs of an earlier run as they were."""
    for name in ("out.json", "out.npz"):
        (tmp_path / name).write_text("earlier")
    wrong = EVALUATE | {"teacher_predictions": "nothing.npz"}
    arguments = [argument.format(chain=chain) for argument in flags(wrong)]
    assert_one_line(run_script(tmp_path, "evaluate.py", *arguments), "nothing.npz")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "out.json": "earlier",
        "out.npz": "earlier",
    }
