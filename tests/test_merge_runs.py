"""merge_runs.py: parts of an experiment become one, and what doesn't belong together is refused."""

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
from distillation.record.job_records import records
from jobs import ALL_TINY, METHODS, Job, assert_same_checkpoint, of_model, report_of
from made import make_model, mistake

RESULTS = Path("results/tiny")
FLAGS = ["--experiment", "tiny", "--source", "there"]


def leave_out(tree: Path, seed: int, methods: list[str]) -> None:
    """Remove all that came of a seed of some students, as if it hadn't been run there."""
    gone = [f"{method}/seed_{seed}" for method in methods] + [f"attention/seed_{seed}"]
    for output, record in records(tree).items():
        if any(output.startswith(f"{RESULTS}/{each}") for each in gone):
            record.unlink()
    for folder in (tree / RESULTS, *tree.glob("logs/*/tiny")):
        for file in [file for each in gone for file in folder.glob(f"{each}*")]:
            shutil.rmtree(file) if file.is_dir() else file.unlink()


def test_parts_become_one(
    finished: Path,
    tmp_path: Path,
    plan: Callable[..., set[Job]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Seeds that were run in two directories are one experiment, and only its reports are made."""
    here, there = (shutil.copytree(finished, tmp_path / name) for name in ("here", "there"))
    leave_out(here, 1, METHODS)
    leave_out(there, 0, METHODS)
    for file in (here / RESULTS).glob("*.*"):
        file.unlink()
    missing = {job for method in METHODS for job in of_model("tiny", method, 1)}
    missing |= {Job("measure_attention", "tiny", seed=1)} | report_of("tiny")
    assert plan(here, "tiny") == missing < ALL_TINY
    monkeypatch.chdir(here)
    merge_runs.main([*FLAGS[:-1], "../there"])
    assert plan(here, "tiny") == report_of("tiny")
    for method in METHODS:
        place = RESULTS / method / "seed_1"
        assert_same_checkpoint(here / place, finished / place)
        log = f"logs/train_student/tiny/{method}/seed_1.tsv"
        assert (here / log).read_text() == (finished / log).read_text()
    own, other = capsys.readouterr().out.splitlines()
    assert own.startswith(".: ")
    assert "teacher (seed 0)" in own
    assert other.startswith("../there: ")
    assert "kd (seed 1)" in other
    assert "torch " in other
    # Once more changes nothing.
    merge_runs.main([*FLAGS[:-1], "../there"])
    assert plan(here, "tiny") == report_of("tiny")
    assert "there" not in capsys.readouterr().out


PROVENANCE: dict[str, Any] = {
    "arguments": {"epochs": 2}, "seed": 0, "code_digest": "a", "plugins": {"networks.wrn": "b"},
    "data_sha256": "c", "packages": {"torch": "2.9.0"}, "hardware": "a processor", "commit": None,
    "dirty": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("weights", "changes", "said"),
    [
        (1, {}, "kd/seed_0/checkpoint.pt: other weights than in"),
        (
            0,
            {"seed": 1, "data_sha256": "d"},
            "had data_sha256 'c', of there/results/tiny/kd/seed_1",
        ),
        (
            0,
            {"seed": 1, "arguments": {"epochs": 3}},
            "had epochs 2, of there/results/tiny/kd/seed_1",
        ),
        (0, {"seed": 1, "code_digest": "e"}, "had code_digest 'a', of"),
        (0, {"seed": 1, "plugins": {"networks.wrn": "f"}}, "had networks.wrn 'b', of"),
        (
            0,
            {"seed": 1, "teacher": {"seed": 7}},
            "there/results/tiny/kd/seed_1: learnt from a teacher",
        ),
    ],
)
def test_what_must_not_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digits: Dataset,
    capsys: pytest.CaptureFixture[str], weights: int, changes: dict[str, Any], said: str,
) -> None:  # fmt: skip
    """Other data, settings, code, teachers or weights are named in one line; nothing is written."""
    monkeypatch.chdir(tmp_path)
    for directory, seed, more in (("", 0, {}), ("there", weights, changes)):
        provenance = PROVENANCE | more
        folder = Path(directory, RESULTS, f"kd/seed_{provenance['seed']}")
        folder.mkdir(parents=True)
        save_checkpoint(folder / "checkpoint.pt", *make_model(seed=seed), digits, provenance)
    before = sorted(tmp_path.rglob("*"))
    line = mistake(capsys, merge_runs.main, FLAGS)
    assert said in line
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("content", [None, b"no archive"])
def test_nothing_to_join(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    content: bytes | None,
) -> None:
    """A directory without a trained network, and a damaged checkpoint, are named."""
    monkeypatch.chdir(tmp_path)
    said = "there/results/tiny: no trained network"
    if content:
        file = Path("there", RESULTS, "kd/seed_0/checkpoint.pt")
        file.parent.mkdir(parents=True)
        file.write_bytes(content)
        said = f"{file}: damaged"
    assert said in mistake(capsys, merge_runs.main, FLAGS)


def test_records_of_long_names(tmp_path: Path) -> None:
    """A record whose name is longer than a file's may be is found, and others are passed over."""
    folder = tmp_path / ".snakemake/metadata"
    name = "results/" + "long_" * 60 + "name.csv"
    text = urlsafe_b64encode(name.encode()).decode()
    most = os.pathconf(tmp_path, "PC_NAME_MAX") - 1
    cut = [text[start : start + most] for start in range(0, len(text), most)]
    place = folder.joinpath(*(f"@{each}" for each in cut[:-1]), cut[-1])
    place.parent.mkdir(parents=True)
    place.write_text("{}")
    (folder / "é").write_text("")
    assert records(tmp_path) == {name: place}
