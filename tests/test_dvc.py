"""Versions of results: DVC and Snakemake in one repository, with a folder as the remote.

What docs/versions.md tells to type is what runs here, on an experiment as small as the tiny one.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from configparser import ConfigParser
from pathlib import Path

import pytest
import yaml

from jobs import Job, Snakemake, edit, measure_of, of_model, planned, report_of
from shell import ENVIRONMENT, ROOT, VERSIONS, run_in_shell, shell_commands

pytestmark = pytest.mark.workflow

CLEAN = "Data and pipelines are up to date.\n"
STUDENTS = ["baseline", "kd", "at", "at_kd"]
MODELS = [("teacher", 0), *((method, 0) for method in STUDENTS)]
COMMANDS = shell_commands(VERSIONS)
# The blocks of the page, by what their first command is.
STARTS = ["dvc remote add", "dvc pull", "git checkout HEAD~1", "dvc exp run", "dvc exp pull"]
PLACES = [
    next(number for number, command in enumerate(COMMANDS) if command.startswith(start))
    for start in STARTS
]
RECORD, PULL, BACK, EXPERIMENT, ELSEWHERE = (
    COMMANDS[start:end] for start, end in zip(PLACES, [*PLACES[1:], None], strict=True)
)


@pytest.fixture(scope="module")
def isolated(forks: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep DVC's settings and caches of the user's own out of the tests; have it call forks."""
    folder, before = tmp_path_factory.mktemp("dvc"), dict(ENVIRONMENT)
    ENVIRONMENT["PATH"] = forks["PATH"]
    for name in ("GLOBAL_CONFIG_DIR", "SYSTEM_CONFIG_DIR", "SITE_CACHE_DIR"):
        ENVIRONMENT[f"DVC_{name}"] = str(folder / name)
    yield
    ENVIRONMENT.clear()
    ENVIRONMENT.update(before)


def write_config(file: Path) -> None:
    """Write a config whose `digits` is the tiny experiment with one seed and one epoch."""
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    tiny = yaml.safe_load((ROOT / "tests/tiny.yaml").read_text())
    experiment = tiny["experiments"]["tiny"] | {
        "data": "digits",
        "seeds": [0],
        "students": STUDENTS,
    }
    experiment["training"]["epochs"] = 1
    config["data"] = {"digits": tiny["data"]["tiny"]}
    config["experiments"] = {"digits": experiment}
    file.write_text(yaml.safe_dump(config, sort_keys=False))


def status(folder: Path) -> str:
    """Return what DVC says about the agreement of config, code and results with its record."""
    return run_in_shell(folder, "dvc status")


@pytest.fixture(scope="module")
def recorded(
    isolated: None,  # noqa: ARG001
    copy_project: Callable[[Path], Path],
    snakemake: Snakemake,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Return a repository with two recorded versions, the first run before DVC came to it."""
    folder = copy_project(tmp_path_factory.mktemp("recorded") / "repository")
    for name in (".gitignore", ".dvcignore", "dvc.yaml"):
        shutil.copy2(ROOT / name, folder / name)
    (folder / ".dvc").mkdir()
    shutil.copy2(ROOT / ".dvc/.gitignore", folder / ".dvc/.gitignore")
    # Without the remotes that the user of this copy may have named.
    settings = ConfigParser()
    settings.read(ROOT / ".dvc/config")
    settings.remove_option("core", "remote")
    for name in settings.sections():
        if name.startswith("'remote"):
            settings.remove_section(name)
    with (folder / ".dvc/config").open("w") as file:
        settings.write(file)
    write_config(folder / "config.yaml")
    run_in_shell(
        folder, "git init --quiet --initial-branch main && git add . && git commit -qm new"
    )
    done = snakemake(folder, "--cores", "2", "all")
    assert done.returncode == 0, done.stdout
    made = (folder / "results/digits/teacher/seed_0/checkpoint.pt").stat().st_mtime_ns
    storage = folder.parent / "storage"
    for command in RECORD:
        run_in_shell(folder, command.replace("/path/to/folder", str(storage)))
    assert (folder / "results/digits/teacher/seed_0/checkpoint.pt").stat().st_mtime_ns == made
    assert status(folder) == CLEAN
    edit(folder / "config.yaml", "title: Tiny digits", "title: Second version")
    for command in RECORD[1:]:
        run_in_shell(folder, command)
    assert status(folder) == CLEAN
    assert run_in_shell(folder, "git status --porcelain") == ""
    return folder


@pytest.fixture
def clone(recorded: Path, tmp_path: Path) -> Path:
    """Return a fresh clone, without results."""
    run_in_shell(tmp_path, f"git clone --quiet '{recorded}' clone")
    return tmp_path / "clone"


def test_pull(clone: Path, snakemake: Snakemake) -> None:
    """A fresh clone that pulls has nothing to do; then an edit reruns exactly its steps."""
    for command in PULL:
        run_in_shell(clone, command)
    assert planned(snakemake, clone, "all") == set()
    assert status(clone) == CLEAN
    config = yaml.safe_load((clone / "config.yaml").read_text())
    config["defaults"]["methods"]["kd"]["kd"]["weight"] = 0.5
    (clone / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    expected = of_model("digits", "kd", 0) | measure_of("digits", 0) | report_of("digits")
    assert planned(snakemake, clone, "all") == expected
    assert "changed" in status(clone)


def test_partial_pull(clone: Path, snakemake: Snakemake) -> None:
    """Tables and figures can be had without checkpoints, and the rest follows."""
    run_in_shell(clone, "dvc pull results/digits/table.md results/digits/figures")
    assert "Second version" in (clone / "results/digits/table.md").read_text()
    assert not list(clone.glob("results/**/checkpoint.pt"))
    # What isn't there isn't taken for done.
    assert Job("train_teacher", "digits", "teacher", 0) in planned(snakemake, clone, "all")
    run_in_shell(clone, "dvc pull")
    assert planned(snakemake, clone, "all") == set()
    assert status(clone) == CLEAN


def test_back_and_compare(clone: Path, snakemake: Snakemake) -> None:
    """An older commit brings its results, which are complete; two versions can be compared."""
    run_in_shell(clone, "dvc pull --all-commits")
    titles = []
    for command in BACK:
        said = run_in_shell(clone, command)
        if command == "dvc checkout":
            assert planned(snakemake, clone, "all") == set()
            assert status(clone) == CLEAN
            titles.append((clone / "results/digits/table.md").read_text().splitlines()[0])
        if command.startswith("dvc params diff"):
            assert "experiments.digits.title" in said
    assert titles == ["# Tiny digits", "# Second version"]
    page = (clone / "dvc_plots/index.html").read_text()
    for name in ("test_accuracy", "training_loss", "attention_mean_square"):
        assert name in page
    for method in STUDENTS:
        assert f"{method}/seed_0/history.csv" in page


def test_experiment(recorded: Path, clone: Path, snakemake: Snakemake, tmp_path: Path) -> None:
    """An experiment runs only what is stale, and another clone gets it without running anything."""
    run_in_shell(clone, "dvc pull")
    before = {path: path.stat().st_mtime_ns for path in clone.glob("results/*/*/seed_0/*.pt")}
    assert len(before) == len(MODELS)
    for command in EXPERIMENT:
        run_in_shell(clone, command)
    after = {path: path.stat().st_mtime_ns for path in before}
    changed = {path.parts[-3] for path in before if before[path] != after[path]}
    assert changed == {"kd"}
    assert planned(snakemake, clone, "all") == set()
    assert status(clone) == CLEAN
    metrics = json.loads((clone / "results/digits/kd/seed_0/metrics.json").read_text())
    assert metrics["training_provenance"]["arguments"]["term"]["kd"]["temperature"] == 2
    other = tmp_path / "other"
    run_in_shell(tmp_path, f"git clone --quiet '{recorded}' other && cd other && dvc pull")
    for command in ELSEWHERE:
        run_in_shell(other, command)
    assert planned(snakemake, other, "all") == set()
    assert status(other) == CLEAN
    table = "results/digits/table.md"
    assert (other / table).read_text() == (clone / table).read_text()


def test_profile_of_the_environment(clone: Path) -> None:
    """A profile for a cluster, named in the environment, changes nothing of what is recorded."""
    pytest.importorskip("snakemake_executor_plugin_slurm", reason="make cluster installs it")
    run_in_shell(clone, "dvc pull")
    command = "SNAKEMAKE_PROFILE=profiles/slurm dvc repro --force"
    # The documented line.
    assert command in (ROOT / "docs/cluster.md").read_text()
    said = run_in_shell(clone, f"{command} 2>&1")
    assert "Using profiles profiles/slurm" in said
    assert run_in_shell(clone, "git status --porcelain") == ""
    assert status(clone) == CLEAN


def test_what_is_listed_exists(recorded: Path) -> None:
    """Every file that dvc.yaml names is one that the default experiment makes."""
    text = (ROOT / "dvc.yaml").read_text()
    names = set(re.findall(r"results/[\w./]+", text))
    assert len(names) > 8
    for name in names:
        assert (recorded / name).is_file(), name
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    assert set(STUDENTS) == set(config["defaults"]["students"])
    assert os.path.commonpath(names) == "results/digits"
