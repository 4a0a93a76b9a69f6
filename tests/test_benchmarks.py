"""The benchmarks run, and what they say is what they wrote."""

import json
from pathlib import Path

import pytest

from shell import ROOT, run_in_shell


def test_training_step(tmp_path: Path, forks: dict[str, str]) -> None:
    """One turn of one arm times both loops and writes what it prints."""
    said = run_in_shell(
        tmp_path,
        f"python {ROOT}/benchmarks/training_step.py --steps 1 --turns 1 --batch-size 16 "
        f"--precision float32 --arms 'baseline (WRN-16-2)' --json speeds.json",
        forks,
    )
    content = json.loads((tmp_path / "speeds.json").read_text())
    (arm,) = content["arms"].values()
    (ratio,) = arm["ratios"]
    assert f"| {ratio:.2f} ({ratio:.2f} to {ratio:.2f}) |" in said
    assert f"| {arm['images_per_second']:,.0f} |" in said
    assert ratio == pytest.approx(arm["images_per_second"] / arm["textbook_images_per_second"])
    assert content["machine"]["engine"] == "float32"
    assert content["peak_memory_bytes"] > 1e8
    shares = arm["time_by_kind"]
    assert sum(shares.values()) == pytest.approx(1)
    # The profiler's names of the operations are known: a step is convolutions for the most part.
    assert shares["convolution"] > 0.5
    assert 0 < shares["batch norm"] < 0.5
    assert 0 < shares["ReLU"] < 0.5
    assert f"| {shares['convolution']:.0%} | {shares['batch norm']:.0%} |" in said


def test_workflow(tmp_path: Path, forks: dict[str, str]) -> None:
    """The workflow is timed in a clone, and both outputs tell the same."""
    said = run_in_shell(
        tmp_path,
        f"python {ROOT}/benchmarks/workflow.py --cores 1 --json time.json "
        "--markdown time.md --arguments 'results/data/tiny.npz --configfile tests/tiny.yaml'",
        forks,
    )
    content = json.loads((tmp_path / "time.json").read_text())
    assert content["command"].startswith("snakemake --cores 1 results/data/tiny.npz")
    assert list(content["seconds_by_rule"]) == ["prepare_data"]
    assert content["user_seconds"] + content["system_seconds"] > 0
    assert content["seconds_by_rule"]["prepare_data"] < content["seconds"]
    assert said.splitlines()[-1] in (tmp_path / "time.md").read_text()
