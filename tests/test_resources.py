"""What jobs ask of a machine, as Snakemake plans it: from the config, and only what it needs."""

import json
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from jobs import TINY, Snakemake
from shell import run_in_shell

pytestmark = pytest.mark.workflow

GPUS = "experiments: {tiny: {device: cuda, seeds: [0], students: [baseline, at]}}"


@pytest.fixture(scope="module")
def tree(copy_project: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the project in which nothing was run."""
    return copy_project(tmp_path_factory.mktemp("resources"))


@pytest.fixture
def asked(tree: Path, snakemake: Snakemake) -> Callable[..., dict[str, dict[str, float]]]:
    """Return a function that plans the tiny experiment and returns the resources of each rule."""

    def resources(overlay: str, *arguments: str) -> dict[str, dict[str, float]]:
        (tree / "change.yaml").write_text(overlay)
        files = ["--configfile", TINY, "change.yaml"]
        done = snakemake(tree, "-n", "all", *files, *arguments, "--quiet", "host")
        assert done.returncode == 0, done.stdout
        blocks = re.split(r"^\s*(?:local)?rule (\w+):$", done.stdout, flags=re.M)[1:]
        found = {}
        for rule, block in zip(blocks[::2], blocks[1::2], strict=True):
            if line := re.search(r"^\s+resources: (.*)$", block, re.M):
                pairs = re.findall(r"(mem_mb|runtime|gpu)=(\d+)", line[1])
                found[rule] = {name: int(value) for name, value in pairs}
            if threads := re.search(r"^\s+threads: (\d+)$", block, re.M):
                found[rule]["threads"] = int(threads[1])
        return found

    return resources


def test_every_rule_says_what_it_needs(asked: Callable[..., dict[str, dict[str, float]]]) -> None:
    """Each step asks for memory and minutes, and on a CPU none for a GPU."""
    found = asked("{}")
    for name, resources in found.items():
        if name != "all":
            assert 500 <= resources["mem_mb"] <= 4000, name
            assert 5 <= resources["runtime"] <= 60, name
            assert not resources.get("gpu"), name
    assert len(found) > 8


def test_gpus_are_asked_for_where_the_config_does(
    asked: Callable[..., dict[str, dict[str, float]]],
) -> None:
    """With device cuda, what trains or runs a network takes one GPU, and nothing else does."""
    found = asked(GPUS)
    takers = {name for name, resources in found.items() if resources.get("gpu")}
    assert takers == {
        *("train_teacher", "train_student"),
        *("evaluate", "extract_attention", "measure_attention"),
    }


def test_estimates_follow_the_config(asked: Callable[..., dict[str, dict[str, float]]]) -> None:
    """Minutes follow epochs, memory batches, threads the config; the report needs no more."""
    long = {"training": {"epochs": 20000 // 4}, "student": {"training": {"epochs": 10000}}}
    before = asked("{}")
    after = asked(json.dumps({"experiments": {"tiny": long}}))
    slack = 10  # minutes to start
    ratio = (after["train_student"]["runtime"] - slack) / (
        after["train_teacher"]["runtime"] - slack
    )
    # Twice the epochs, of the same network; a student may run its teacher beside.
    assert 1.9 < ratio < 3
    assert after["render_table"] == before["render_table"]
    own = {"students": ["at"], "methods": {"at": {"training": {"epochs": 10000}}}}
    alone = asked(json.dumps({"experiments": {"tiny": own}}))
    assert alone["train_student"]["runtime"] > 10 * before["train_student"]["runtime"]
    assert alone["train_teacher"] == before["train_teacher"]
    wide = asked("experiments: {tiny: {student: {width: 8}, training: {batch_size: 256}}}")
    assert wide["train_student"]["mem_mb"] > 1.2 * before["train_student"]["mem_mb"]
    assert asked("defaults: {threads: 2}", "--cores", "4")["train_student"]["threads"] == 2


def test_estimates_follow_the_held_out_images(
    asked: Callable[..., dict[str, dict[str, float]]],
) -> None:
    """Images that are held out aren't trained on, but tested."""
    minutes = {}
    for fraction in (0.1, 0.9):
        data = {"format": "cifar10", "source": None}
        held_out = {"validation_fraction": fraction, "validation_seed": 0}
        networks = {"teacher": {"depth": 40}, "student": {"depth": 40, "width": 4}}
        large = networks | {"data": "large", "training": {"epochs": 500}}
        overlay = {"data": {"large": data | held_out}, "experiments": {"tiny": large}}
        minutes[fraction] = asked(json.dumps(overlay))
    slack = 10  # minutes to start
    for rule, ratio in (("evaluate", 9), ("train_teacher", (3 * 1 + 9) / (3 * 9 + 1))):
        few, many = (minutes[fraction][rule]["runtime"] - slack for fraction in (0.1, 0.9))
        assert many / few == pytest.approx(ratio, rel=0.15), rule


# Counts the calls of Python functions while Snakemake plans, all and those of the rules' helpers.
COUNT = """\
import sys
from snakemake.cli import main
calls = {"all": 0, "rules": 0}
def count(frame, event, argument):
    if event == "call":
        calls["all"] += 1
        calls["rules"] += frame.f_code.co_filename.endswith(".smk")
sys.setprofile(count)
try:
    main(sys.argv[1:])
finally:
    sys.setprofile(None)
    print("calls", calls["all"], calls["rules"])
"""


def work(tree: Path, seeds: int) -> tuple[int, int, int]:
    """Plan a study of four methods; return its jobs, the calls in all, and those of the helpers."""
    study = {"extends": "digits", "title": "Study", "seeds": list(range(seeds))}
    overlay = {"run": ["study"], "experiments": {"study": study}}
    (tree / "study.yaml").write_text(yaml.safe_dump(overlay))
    (tree / "count.py").write_text(COUNT)
    said = run_in_shell(tree, "python count.py -n all --configfile study.yaml 2>&1")
    jobs = re.search(r"^total +(\d+)$", said, re.M)
    calls = re.search(r"^calls (\d+) (\d+)$", said, re.M)
    assert jobs is not None, said
    assert calls is not None, said
    return int(jobs[1]), int(calls[1]), int(calls[2])


def test_planning_is_linear(tree: Path) -> None:
    """A job more costs the same, however many there are, in Snakemake and in the rules."""
    sizes = [work(tree, seeds) for seeds in (5, 10, 20, 40)]
    for part in (1, 2):
        costs = [
            (more[part] - fewer[part]) / (more[0] - fewer[0]) for fewer, more in pairwise(sizes)
        ]
        assert max(costs) < 1.1 * min(costs), costs
        assert min(costs) > 0
