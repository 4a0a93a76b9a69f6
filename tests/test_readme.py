"""What README.md shows works as it is written."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest
import yaml

from shell import README, ROOT, shell_commands

CONFIG = yaml.safe_load((ROOT / "config.yaml").read_text())


def verdicts(text: str) -> list[str]:
    """List the lines that say whether a method helps, by how many points."""
    return [line for line in text.splitlines() if " points, 95 % interval" in line]


def test_targets_of_make_exist():
    """Every make target that README.md shows is in the Makefile."""
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^make (\w+)", "\n".join(shell_commands(README)), flags=re.M)
    assert {"all", "test"} <= set(targets)
    for target in targets:
        assert re.search(rf"^{target}:", makefile, flags=re.M)


def test_experiments_exist():
    """Every experiment of the table and of the commands is in config.yaml, and the other way."""
    table = README.split("## Experiments")[1].split("## ")[0]
    named = {name for row in re.findall(r"^\| (`.*?) \|", table, re.M) for name in row.split(", ")}
    assert {name.strip("`") for name in named} == set(CONFIG["experiments"])


@pytest.mark.parametrize(
    "command", [c for c in shell_commands(README) if c.startswith("python workflow")]
)
def test_steps_by_hand_have_these_flags(command: str):
    """A step that README.md runs by hand takes the flags that it is shown with."""
    _, script, *arguments = shlex.split(command)
    specification = importlib.util.spec_from_file_location(Path(script).stem, ROOT / script)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    assert module.parse_args(arguments)


def test_files_named_exist():
    """Every file of the repository that README.md links or names is there."""
    for name in re.findall(r"\]\(([\w./-]+)\)", README) + re.findall(
        r"`(workflow/[\w./]+)`", README
    ):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize(
    ("head", "file"),
    [
        ("| | Teacher", "docs/results/fashion_mnist_brief/table.md"),
        ("| | textbook", "docs/benchmarks/training_step_cpu.md"),
    ],
)
def test_numbers_come_from_files(head: str, file: str) -> None:
    """Every row of a table of numbers is, letter by letter, one that a command has written."""
    table = re.search(rf"^{re.escape(head)}.*\n(^\|.*\n)+", README, flags=re.M)
    assert table is not None
    rows = table[0].splitlines()
    assert len(rows) > 5
    assert set(rows) <= set((ROOT / file).read_text().splitlines())


def test_verdicts_come_from_files() -> None:
    """Verdicts on methods are, letter by letter, those that compare_methods.py has written."""
    studies = ("fashion_mnist_brief", "cifar10_brief")
    comparisons = [ROOT / f"docs/results/{study}/comparison.md" for study in studies]
    written = verdicts("\n".join(file.read_text() for file in comparisons))
    assert len(written) == 8
    assert verdicts(README) == written


def test_lines_of_the_cluster_are_in_its_profile():
    """The lines that README.md and docs/cluster.md say to change are there to be changed."""
    profile = (ROOT / "profiles/slurm/config.yaml").read_text()
    for text in (README, (ROOT / "docs/cluster.md").read_text()):
        block = text.partition("slurm_account")[2].partition("```")[0]
        lines = [line.partition("  #")[0] for line in f"slurm_account{block}".splitlines()]
        assert len(lines) == 3
        for line in lines:
            assert line in profile
