"""The plan of the studies for a GPU: what is written of it is what their files declare."""

import json
import runpy
import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PLAN = runpy.run_path(str(ROOT / "benchmarks/plan_studies.py"))
STUDIES = ROOT / "docs/results"
# Those of wide residual networks: to count all families takes a minute.
COUNTED = [STUDIES / f"{name}.yaml" for name in ("sixty", "paper", "twenty")]


@pytest.fixture(autouse=True)
def forked(forks: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a fork tell what networks cost, which else imports torch for each of them."""
    monkeypatch.setattr(sys, "executable", shutil.which("python", path=forks["PATH"]))


def test_page_says_what_the_files_declare() -> None:
    """Lines of the page are those that its command writes, at the rate of the card's file."""
    page = (ROOT / "docs/benchmarks/studies.md").read_text().splitlines()
    speed = json.loads((ROOT / "docs/benchmarks/gpu_check_h100_speed.json").read_text())
    written = PLAN["written"](speed, COUNTED).splitlines()
    assert len([line for line in written if ".yaml)" in line]) == 6
    assert set(written) <= set(page)
    declared = {name for file in STUDIES.glob("*.yaml") for name in on_gpu(file)}
    assert declared == {line.split()[1] for line in page if ".yaml)" in line}


def on_gpu(file: Path) -> list[str]:
    """Return the experiments on a GPU that the command of a study's file runs."""
    if file.name == "image_folders.yaml":
        return []
    names, experiments = PLAN["load_study"](PLAN["command_of"](file))
    return [name for name in names if experiments[name].on_gpu]


def test_what_is_shared_counts_once() -> None:
    """A teacher that another study has trained isn't counted again, nor passes that are shared."""
    sixty, *_, twenty = PLAN["rows"](COUNTED, 1e12)
    assert sixty[3] == "16"
    assert twenty[3] == "15"


def test_operations_of_a_training() -> None:
    """Three passes of a student and one of its teacher, which a seed's students share."""
    command = PLAN["command_of"](STUDIES / "sixty.yaml")
    experiment = PLAN["load_study"](command)[1]["cifar10_sixty"]
    found = PLAN["trainings"](experiment)
    of = {name: found[experiment.trained_file(name, 0)] for name in experiment.names}
    # Multiply-accumulates for an image, as docs/results.md has them: 327.6 and 101.1 million.
    images = 60 * 50_000
    assert of["teacher"] == pytest.approx(2 * 3 * 327.6e6 * images, rel=1e-3)
    assert of["baseline"] == pytest.approx(2 * 3 * 101.1e6 * images, rel=1e-3)
    assert of["kd"] - of["baseline"] == pytest.approx(2 * 327.6e6 * images, rel=1e-3)
    assert of["at"] == of["at_kd"] == of["baseline"]
    assert of["baseline_long"] == pytest.approx(of["baseline"] * 125 / 60)


def test_file_without_a_command(tmp_path: Path) -> None:
    """A study that doesn't say how it runs is refused."""
    (tmp_path / "study.yaml").write_text("run: [digits]\n")
    with pytest.raises(ValueError, match="has no comment that begins with snakemake"):
        PLAN["command_of"](tmp_path / "study.yaml")
