"""merge_runs.py: parts of an experiment become one, and what doesn't belong together is refused."""

import json
import os
import shutil
from base64 import urlsafe_b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import merge_runs
from distillation.data.dataset import Dataset
from distillation.record.checkpoint import save_checkpoint
from distillation.record.job_records import FOLDER, records
from jobs import METHODS, Job, assert_same_checkpoint, of_model, report_of
from made import make_model, mistake

RESULTS = Path("results/tiny")
FLAGS = ["--experiment", "tiny", "--source", "there"]


def remove(tree: Path, *begins: str) -> None:
    """Remove outputs that begin so, with records and logs, as if they had never been made."""
    for output, record in records(tree).items():
        if output.startswith(begins):
            record.unlink()
            place = tree / output
            shutil.rmtree(place) if place.is_dir() else place.unlink()
    for begin in begins:
        for log in tree.glob(f"logs/*/{begin.removeprefix('results/')}*"):
            shutil.rmtree(log) if log.is_dir() else log.unlink()


def seed_of(seed: int) -> list[str]:
    """Return how outputs of a seed begin."""
    return [f"{RESULTS}/{method}/seed_{seed}" for method in (*METHODS, "attention")]


def contents(folder: Path) -> dict[Path, bytes]:
    """Return the files of a folder with what they hold."""
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_parts_become_one(
    finished: Path, tmp_path: Path, plan: Callable[..., set[Job]],
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Seeds that were run in two directories are one experiment, and only its reports are made.

    Here neither data nor a network of the second seed are left, nor the students of an experiment
    that trains them together; one of the other's files came and went.
    """
    here, there = (shutil.copytree(finished, tmp_path / name) for name in ("here", "there"))
    remove(here, *seed_of(1), "results/data/tiny", "results/pictures")
    remove(there, *seed_of(0))
    for file in (here / RESULTS).glob("*.*"):
        file.unlink()
    missing = {job for method in METHODS for job in of_model("tiny", method, 1)}
    assert missing < plan(here, "tiny")
    monkeypatch.chdir(here)
    for _ in range(2):
        merge_runs.main([*FLAGS[:-1], "../there"])
        assert plan(here, "tiny") == report_of("tiny")
        gone = here / RESULTS / "kd/seed_1/metrics.json"
        gone.unlink()
    merge_runs.main(["--experiment", "pictures", "--source", "../there"])
    assert plan(here, "pictures") == report_of("pictures")
    for method in METHODS:
        place = RESULTS / method / "seed_1"
        assert_same_checkpoint(here / place, finished / place)
        log = f"logs/train_student/tiny/{method}/seed_1.tsv"
        assert (here / log).read_text() == (finished / log).read_text()
    own, other, *_ = capsys.readouterr().out.splitlines()
    assert own.startswith(".: ")
    assert "teacher (seed 0)" in own
    assert other.startswith("../there: ")
    assert "kd (seed 1)" in other
    assert "torch " in other


def test_what_was_made_of_another_network_is_stale(
    finished: Path, tmp_path: Path, plan: Callable[..., set[Job]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Measures and reports of a network that gave way to another are made again."""
    here, there = (shutil.copytree(finished, tmp_path / name) for name in ("here", "there"))
    remove(there, *seed_of(0))
    place = RESULTS / "kd/seed_1"
    # It was trained elsewhere, and is another one.
    for name in ("checkpoint.pt", "metrics.json"):
        shutil.copyfile(there / RESULTS / "at_kd/seed_1" / name, there / place / name)
        os.utime(there / place / name, (0, 0))
    monkeypatch.chdir(here)
    remove(here, str(place))
    monkeypatch.setattr(merge_runs, "check_trainings", lambda *_: None)
    merge_runs.main([*FLAGS[:-1], "../there"])
    assert {Job("measure_attention", "tiny", seed=1)} | report_of("tiny") <= plan(here, "tiny")


PROVENANCE: dict[str, Any] = {
    "arguments": {"epochs": 2}, "seed": 0, "code_digest": "a", "plugins": {"networks.wrn": "b"},
    "data_sha256": "c", "packages": {"torch": "2.9.0"}, "hardware": "a processor", "commit": None,
    "dirty": None,
}  # fmt: skip
TEACHER = PROVENANCE | {"seed": 7}


def make_part(
    directory: str, dataset: Dataset, weights: int = 0, place: str = "kd/seed_0/checkpoint.pt",
    **changes: Any,
) -> None:  # fmt: skip
    """Write a network as if it had been trained there, with Snakemake's record of it."""
    file = RESULTS / place
    (directory / file).parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(directory / file, *make_model(seed=weights), dataset, PROVENANCE | changes)
    record = directory / FOLDER / urlsafe_b64encode(str(file).encode()).decode()
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps({"input": ["results/data/tiny.npz"]}))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"weights": 1}, "kd/seed_0/checkpoint.pt: other weights than in"),
        ({"data_sha256": "d"}, "had data_sha256 'c', of there/results/tiny/kd/seed_1"),
        ({"arguments": {"epochs": 3}}, "had epochs 2, of there/results/tiny/kd/seed_1"),
        ({"code_digest": "e"}, "had code_digest 'a', of"),
        ({"plugins": {"networks.wrn": "f"}}, "had networks.wrn 'b', of"),
        ({"teacher": TEACHER}, "there/results/tiny/kd/seed_1/checkpoint.pt: learnt from a teacher"),
        ({"hardware": "another"}, "results/data/tiny.json: is of data f, expected c"),
        ({"record": None}, "kd/seed_1/checkpoint.pt: Snakemake's record of it is missing"),
        ({"record": "{"}, "damaged record of Snakemake"),
    ],
)
def test_what_must_not_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digits: Dataset,
    capsys: pytest.CaptureFixture[str], changes: dict[str, Any], said: str,
) -> None:  # fmt: skip
    """Other data, settings, code, teachers or weights are named in one line; nothing is written."""
    monkeypatch.chdir(tmp_path)
    make_part("", digits)
    Path("results/data").mkdir()
    Path("results/data/tiny.json").write_text('{"sha256": "f"}')
    others = {name: value for name, value in changes.items() if name != "record"}
    place = f"kd/seed_{0 if 'weights' in changes else 1}/checkpoint.pt"
    make_part("there", digits, place=place, **others)
    if "record" in changes:
        (record,) = records(Path("there")).values()
        record.write_text(changes["record"]) if changes["record"] else record.unlink()
    before = contents(tmp_path)
    assert said in mistake(capsys, merge_runs.main, FLAGS)
    assert contents(tmp_path) == before


def test_teachers_from_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digits: Dataset
) -> None:
    """A teacher may be of another experiment, or brought where one was trained before."""
    monkeypatch.chdir(tmp_path)
    make_part("there", digits, teacher=TEACHER)
    metrics = Path("there", RESULTS, "teacher/seed_7/metrics.json")
    metrics.parent.mkdir(parents=True)
    metrics.write_text(json.dumps({"training_provenance": TEACHER}))
    for weights, name in enumerate(merge_runs.CHECKPOINTS):
        provenance = PROVENANCE | {"seed": 3}
        make_part("there", digits, weights, f"own_teacher/seed_3/{name}", **provenance)
    merge_runs.main(FLAGS)
    for name in ("kd/seed_0/checkpoint.pt", "own_teacher/seed_3/imported_checkpoint.pt"):
        assert (RESULTS / name).read_bytes() == ("there" / RESULTS / name).read_bytes()


def test_teacher_that_was_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digits: Dataset
) -> None:
    """A teacher that has the same weights in both is one, whatever the commits were."""
    monkeypatch.chdir(tmp_path)
    for directory, commit in (("", "one"), ("there", "another")):
        teacher: dict[str, Any] = TEACHER | {"commit": commit}
        make_part(directory, digits, place="teacher/seed_7/checkpoint.pt", **teacher)
        seed = 1 if directory else 0
        place = f"kd/seed_{seed}/checkpoint.pt"
        make_part(directory, digits, place=place, teacher=teacher, seed=seed)
    merge_runs.main(FLAGS)
    assert (RESULTS / "kd/seed_1/checkpoint.pt").is_file()


def test_provenance_that_lacks_something(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    digits: Dataset,
) -> None:  # fmt: skip
    """A checkpoint of another making is named with what its provenance lacks."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(PROVENANCE, "plugins")
    make_part("there", digits)
    line = mistake(capsys, merge_runs.main, FLAGS)
    assert "there/results/tiny/kd/seed_0/checkpoint.pt: provenance lacks plugins" in line


@pytest.mark.parametrize("content", [None, b"no archive"])
def test_nothing_to_join(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    digits: Dataset, content: bytes | None,
) -> None:  # fmt: skip
    """A directory without a trained network, and a damaged checkpoint, are named."""
    monkeypatch.chdir(tmp_path)
    said = "there/results/tiny: no trained network"
    if content:
        make_part("there", digits)
        file = Path("there", RESULTS, "kd/seed_0/checkpoint.pt")
        file.write_bytes(content)
        said = f"{file}: damaged"
    assert said in mistake(capsys, merge_runs.main, FLAGS)


def test_records_of_long_names(tmp_path: Path) -> None:
    """A record whose name is longer than a file's may be is found, and others are passed over."""
    folder = tmp_path / FOLDER
    name = "results/" + "long_" * 60 + "name.csv"
    text = urlsafe_b64encode(name.encode()).decode()
    most = os.pathconf(tmp_path, "PC_NAME_MAX") - 1
    cut = [text[start : start + most] for start in range(0, len(text), most)]
    place = folder.joinpath(*(f"@{each}" for each in cut[:-1]), cut[-1])
    place.parent.mkdir(parents=True)
    place.write_text("{}")
    (folder / "é").write_text("")
    (folder / f".{text[:40]}.unfinished").write_text("")
    assert records(tmp_path) == {name: place}
