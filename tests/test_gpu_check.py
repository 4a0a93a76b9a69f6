"""The check of a card: its pieces stand or fall by themselves, and in small it runs on a CPU."""

import importlib
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, get_args

import pytest

from distillation.settings import plugins
from made import mistake
from shell import ROOT

sys.path.append(str(ROOT / "benchmarks"))

CHECK = importlib.import_module("gpu_check")
SECONDS = 60
# Python warns of threads at a fork, which numpy's library of matrix products has; none runs.
pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")


def refuse() -> None:
    """Fail as a library does."""
    raise RuntimeError("no graph")


@pytest.mark.parametrize(
    ("function", "seconds", "expected"),
    [
        (dict, SECONDS, {}),
        (refuse, SECONDS, {"error": "RuntimeError: no graph"}),
        (lambda: os._exit(3), SECONDS, {"error": "the process ended with 3"}),
        (lambda: os.kill(os.getpid(), 9), SECONDS, {"error": "the process ended with -9"}),
        (threading.Event().wait, 0, {"error": "time is up"}),
    ],
)
def test_a_piece_has_a_process_of_its_own(function: Any, seconds: int, expected: object) -> None:
    """What a piece returns is found, or how it failed, or that it took too long."""
    assert CHECK.apart(function, seconds) == expected


def test_nothing_of_a_piece_stays() -> None:
    """A process that a piece has started ends with the piece."""
    end, other = os.pipe()

    def piece() -> str:
        subprocess.Popen(["sleep", "infinity"], pass_fds=[other])
        return "done"

    assert CHECK.apart(piece, SECONDS) == "done"
    os.close(other)
    # Nothing is written, and nobody is left who could.
    assert os.read(end, 1) == b""
    os.close(end)


def test_bits_are_checked_of_every_term() -> None:
    """One objective has all terms of the project, and the speeds are those that docs name."""
    assert CHECK.ARMS["all terms"].terms.keys() == {*plugins.names("terms")}
    assert {name for names in CHECK.SPEEDS for name in names} <= CHECK.ARMS.keys()


def test_figures_of_a_card_are_those_of_its_files() -> None:
    """The page on GPUs has the figures that the check wrote, and what it says of bits holds."""
    page = (ROOT / "docs/gpu.md").read_text()
    folder = ROOT / "docs/benchmarks"
    bits, terms, compiled, speed = (
        json.loads((folder / f"gpu_check_h100_{name}.json").read_text())
        for name in ("same_bits", "all_terms", "compiled_bits", "speed")
    )
    for each in (bits, terms, compiled, speed):
        assert each["machine"]["hardware"] in page
        assert each["machine"]["commit"][:7] in page
    measured = [each for each in speed["speed"].values() if "turns" in each]
    assert len(measured) == page.count(" s |\n") == 7
    for each in measured:
        cells = f"| {each['images_per_second']:,} | {each['seconds_of_50000_images']} |"
        assert f"{cells} {each['seconds_of_first_step']:.0f} s" in page
    for name in ("four students of a seed", "4 baselines"):
        several = speed["speed"][f"{name}, captured and compiled"]
        assert f"{several['images_per_second_of_all']:,}" in page
    four = speed["speed"]["four students of a seed, captured and compiled"]
    assert f"{four['peak_bytes_reserved'] / 1e9:.1f} GB" in page
    student = speed["chain"]["train_student, compiled, warm"]
    assert f"{student['images_per_second']:,}" in page
    assert f"run {student['seconds_to_first_step']:.0f} seconds" in page
    teacher = bits["chain"]["train_teacher"]
    assert f"{teacher['images_per_second']:,}" in page
    assert f"{teacher['seconds_to_first_step']:.1f} seconds" in page
    same = bits["same_bits"] | terms["same_bits"]
    assert {*CHECK.FAMILIES} < {*same}
    done = [each for each in same.values() if "left_out" not in each]
    assert len(done) == 10
    assert all(each["same"] for each in [*done, *compiled["same_bits"].values()])
    picked = speed["picked"]["auto"]
    assert "is 5.0 times as fast" in picked["1 epochs of WRN-16-2"]
    assert picked["200 epochs of WRN-16-2"].endswith("compiled in 27 s, it is 1.19 times as fast)")


def test_bits_are_checked_of_every_family() -> None:
    """Those of wide residual networks are checked with the terms, others by themselves."""
    assert {"wrn", *CHECK.FAMILIES} == {*plugins.names("networks")}


def test_on_a_cpu_and_small(tmp_path: Path, forks: dict[str, str]) -> None:
    """It finds the same bits and an answer for all parts, with the chain's own scripts."""
    python = shutil.which("python", path=forks["PATH"]) or "python"
    done = subprocess.run(
        [python, ROOT / "benchmarks/gpu_check.py", "--device", "cpu", "--small",
         "--json", "check.json"],
        cwd=tmp_path, env=forks, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    content = json.loads((tmp_path / "check.json").read_text())
    assert content.pop("machine")["device"] == "cpu"
    assert [*content] == ["picked", "same_bits", "chain", "speed", "evaluation"]
    for part in content.values():
        for name, piece in part.items():
            assert not {"error", "left_out"} & piece.keys(), (name, piece)
    assert len(content["same_bits"]) == 4 + len(CHECK.FAMILIES)
    assert all(piece["same"] for piece in content["same_bits"].values())
    assert all(piece["images_per_second"] > 0 for piece in content["speed"].values())
    chain = content["chain"]
    assert len(chain) == 6
    for name in ("train_teacher", "train_students"):
        assert 0 < chain[name]["seconds_to_first_step"] < chain[name]["seconds"]
        assert chain[name]["images_per_second"] > 0


def test_what_is_skipped_or_too_late(tmp_path: Path, forks: dict[str, str]) -> None:
    """A part that isn't asked for isn't there; without time, pieces are left out and said so."""
    python = shutil.which("python", path=forks["PATH"]) or "python"
    done = subprocess.run(
        [python, ROOT / "benchmarks/gpu_check.py", "--device", "cpu", "--small", "--seconds", "0",
         "--skip", "textbook", "chain", "evaluation", "--json", "check.json"],
        cwd=tmp_path, env=forks, capture_output=True, text=True, check=False,
    )  # fmt: skip
    content = json.loads((tmp_path / "check.json").read_text())
    assert [*content] == ["machine", "picked", "same_bits", "speed"]
    assert content["machine"]["device"] == "cpu"
    assert content["picked"] == {"auto": {"left_out": "0 seconds are over"}}
    assert done.returncode == 1
    assert "10 of 10 trainings: no same bits" in done.stderr


def test_pieces_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Single pieces are run by a part of their name; where none has it, that is said."""
    flags = ["--device", "cpu", "--small", "--json", str(tmp_path / "check.json"), "--only"]
    CHECK.main([*flags, "depth"])
    content = json.loads((tmp_path / "check.json").read_text())
    assert {*content} == {"machine", "evaluation"}
    said = mistake(capsys, CHECK.main, [*flags, "depth", "nothing"])
    assert "--only 'nothing': no piece has it" in said
    skipped = ["--skip", *get_args(CHECK.Part)]
    assert "evaluation textbook: no piece is left" in mistake(
        capsys, CHECK.main, [*flags[:-1], *skipped]
    )
