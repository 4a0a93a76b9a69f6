"""The chain of scripts on real digits, with each family of networks and each term of the field."""

import contextlib
import csv
import json
from pathlib import Path

import numpy as np
import pytest

import evaluate
import extract_attention
import measure_attention
import prepare_data
import render_table
import tabulate_targets
import train_student
import train_students
import train_teacher
from conftest import write_pictures
from distillation.record.checkpoint import read_checkpoint, weights_digest

DATA = ["--data", "data.npz"]
TRAINING = [
    "--epochs", "1", "--batch-size", "12", "--schedule", "one_cycle", "--learning-rate", "0.02",
    "--padding", "1", "--no-flip", "--gamma-init", "ones", "--seed", "0", "--precision", "float32",
    "--compile", "off",
]  # fmt: skip
TEACHER = ["--teacher", "teacher/checkpoint.pt"]
WRN = ["wrn", "depth=10", "width=1"]
MEASURES = [
    "--resamples", "100", "--faithfulness-images", "2", "--fills", "background",
    "--random-orders", "1", "--steps", "2", "--noise-images", "2", "--norm-images", "12",
]  # fmt: skip
# By family its settings, and the sides of its stages on images of 12 x 12 pixels.
FAMILIES = {
    "resnet": (["depth=50", "block=bottleneck"], [12, 6, 3, 2]),
    "vgg": (["depth=8"], [6, 3, 1, 1]),
    "mobilenet_v2": ([], [6, 3, 2, 1]),
    "shufflenet_v1": ([], [6, 3, 2]),
    "shufflenet_v2": ([], [6, 3, 2]),
    "torchvision": (["model=mobilenet_v3_small"], [3, 2, 1, 1]),
}
# By method its terms beside labels, as students that train together are told them.
METHODS = {
    "sp": ["sp"],
    "rkd": ["rkd"],
    "dkd": ["dkd warmup_epochs=2"],
    "dist": ["dist"],
    "kd_standardised": ["labels weight=0.1", "kd weight=9 'temperature=2' standardise=true"],
}


def files(names: list[str], **kinds: str) -> list[str]:
    """Return flags, each with a file in the folder of each network."""
    flags = ((f"--{flag}", *(f"{name}/{file}" for name in names)) for flag, file in kinds.items())
    return [word for each in flags for word in each]


def trained(*names: str, **kinds: str) -> list[str]:
    """Return the flags of the files of trainings."""
    return files([*names], checkpoint="checkpoint.pt", history="history.csv", **kinds)


def measure(*names: str) -> None:
    """Evaluate networks, extract their maps, and measure them beside the teacher's."""
    own = [*DATA, *files([*names], checkpoint="checkpoint.pt")]
    outputs = files([*names], metrics="metrics.json", predictions="predictions.npz")
    metrics = ["--metric", "top1_accuracy", "--metric", "teacher_agreement"]
    theirs = ["--teacher-predictions", "teacher/predictions.npz"] if "teacher" not in names else []
    evaluate.main([*own, *outputs, *metrics, *theirs])
    extract_attention.main([*own, *files([*names], attention="attention.npz")])
    networks = [
        word for name in names for word in ("--network", name, "0", f"{name}/checkpoint.pt")
    ]
    taught = [*TEACHER, "--taught", *names] if theirs else []
    outputs = ["--metrics", f"{names[0]}.csv", "--provenance", f"{names[0]}.json"]
    measure_attention.main(
        [*DATA, *networks, *taught, *outputs, "--object-mask", "none", *MEASURES]
    )


def rows(file: str) -> list[dict[str, str]]:
    """Return the rows of a table."""
    with Path(file).open() as lines:
        return [*csv.DictReader(lines)]


def check_measured(names: list[str], sides: list[int]) -> None:
    """Check that metrics, maps and measures of all stages are there, beside a control."""
    table = rows(f"{names[0]}.csv")
    for name in names:
        metrics = json.loads(Path(name, "metrics.json").read_text())
        assert metrics["images"] == 18
        assert metrics["metrics"].keys() == {"top1_accuracy", "teacher_agreement"}
        with np.load(Path(name, "attention.npz")) as maps:
            found = [maps[f"mean_square_{stage}"] for stage in range(1, len(sides) + 1)]
        assert [each.shape for each in found] == [(3, side, side) for side in sides]
        assert all(np.isfinite(each).all() for each in found)
        own = [row for row in table if row["method"] == name]
        assert {int(row["stage"]) for row in own} == {*range(1, len(sides) + 1)}
        assert {"deletion", "teacher_cosine"} <= {row["metric"] for row in own}
        assert {row["control"] for row in own} <= {row["method"] for row in table}


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with 54 pictures of real digits, prepared, and a teacher of them."""
    folder = tmp_path_factory.mktemp("chain")
    with contextlib.chdir(folder):
        write_pictures(Path("pictures"), ("zero", "one", "two"))
        pictures = ["image_folder", "source=pictures", "image_size=12", "channels=1", "fit=pad"]
        archive = ["--archive", "data.npz", "--description", "data.json"]
        prepare_data.main(["--format", *pictures, *archive])
        train_teacher.main([*DATA, *TRAINING, *trained("teacher"), "--network", *WRN])
        measure("teacher")
    return folder


@pytest.mark.parametrize("family", FAMILIES)
def test_chain_of_each_family(begun: Path, monkeypatch: pytest.MonkeyPatch, family: str) -> None:
    """A student of each family learns from a wide residual one's attention, and is measured."""
    monkeypatch.chdir(begun)
    settings, sides = FAMILIES[family]
    student = [*trained(family), "--network", family, *settings, "--term", "at", "weight=100"]
    train_student.main([*DATA, *TRAINING, *TEACHER, *student])
    (row,) = rows(f"{family}/history.csv")
    assert float(row["at"]) > 0
    assert float(row["loss"]) == pytest.approx(float(row["labels"]) + 100 * float(row["at"]))
    measure(family)
    check_measured([family], sides)


def test_chain_of_each_term(begun: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Students of the field's terms train together, and are measured together."""
    monkeypatch.chdir(begun)
    names = [*METHODS]
    students = [word for name in names for word in ("--student", name, *METHODS[name])]
    kept = trained(*names, tensorboard="tensorboard", resume="resume.pt")
    train_students.main([*DATA, *TRAINING, *TEACHER, *students, *kept, "--network", *WRN])
    for name, told in METHODS.items():
        (row,) = rows(f"{name}/history.csv")
        terms = {"labels", *(term.partition(" ")[0] for term in told)}
        assert {column for column in row if f"{column}_weight" in row} == terms
        values = {term: float(row[term]) for term in terms}
        assert min(values.values()) > 0
        total = sum(float(row[f"{term}_weight"]) * value for term, value in values.items())
        assert float(row["loss"]) == pytest.approx(total, rel=1e-5)
    measure(*names)
    check_measured(names, [12, 6, 3])


def test_table_beside_another_that_is_begun(begun: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table has the name that it is given, and leaves what is kept for other settings."""
    monkeypatch.chdir(begun)
    other = Path("kept/of other settings")
    other.mkdir(parents=True)
    kept = ["--resume", "kept", "--targets", "table", "--padding", "1", "--no-flip"]
    tabulate_targets.main([*DATA, "--checkpoint", "teacher/checkpoint.pt", *kept])
    with np.load("table") as table:
        assert table["logits"].shape == (36, 9, 3)
        told = json.loads(str(table["provenance"]))
    # By it, views of another teacher aren't gone on with.
    assert told["teacher_sha256"] == weights_digest(read_checkpoint(Path(TEACHER[1]))[0])
    assert [*other.parent.iterdir()] == [other]
    other.rmdir()
    tabulate_targets.main([*DATA, "--checkpoint", "teacher/checkpoint.pt", *kept])
    assert not other.parent.exists()


def test_chain_of_an_untrained_teacher(begun: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A teacher that was never trained stands in the table, without values of a training."""
    monkeypatch.chdir(begun)
    untrained = [*TRAINING, "--epochs", "0", *trained("untrained_teacher")]
    train_teacher.main([*DATA, *untrained, "--network", *WRN])
    learnt = [*TRAINING, *trained("untrained"), "--term", "at", "weight=100"]
    train_student.main([
        *DATA, *learnt, "--network", *WRN, "--teacher", "untrained_teacher/checkpoint.pt",
    ])  # fmt: skip
    measure("untrained_teacher", "untrained")
    names = ("untrained_teacher", "untrained")
    runs = [
        word
        for name in names
        for word in ("--run", name, "0", f"{name}/metrics.json", f"{name}/history.csv")
    ]
    render_table.main([
        *runs, "--title", "Control", "--teacher-model", "untrained_teacher",
        *("--csv", "table.csv", "--markdown", "table.md", "--page", "table.html"),
        *("--summary", "summary.json", "--provenance", "provenance.json"),
    ])  # fmt: skip
    told = {row["quantity"]: row for row in rows("table.csv")}
    for quantity, counts in {
        "Training loss (total)": ["0", "1"],
        "Labels term, weight x Labels": ["0", "1"],
        "AT loss": ["0", "1"],
        "Test accuracy": ["1", "1"],
    }.items():
        assert [told[quantity][f"{name}_n"] for name in names] == counts, quantity
