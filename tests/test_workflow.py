"""The workflow, run by Snakemake: what it makes, what it makes again, and what a failure leaves."""

import csv
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import write_pictures
from distillation.record import digest
from jobs import (
    ALL_PICTURES,
    ALL_TINY,
    METHODS,
    MODELS,
    MORE,
    SEEDS,
    TINY,
    Job,
    Snakemake,
    assert_same_checkpoint,
    planned,
    whole,
)
from shell import README, ROOT, code_blocks, run_in_shell, section, shell_commands

pytestmark = pytest.mark.workflow

OUTPUTS = (ROOT / "docs/outputs.md").read_text()
REPORTS = [
    *("table.csv", "table.md", "table.html", "summary.json", "provenance.json", "figures.json"),
    "figures",
    *("comparison.csv", "comparison_seeds.csv", "fidelity.csv", "comparison.md"),
    *("comparison.html", "comparison.png", "comparison.svg"),
    *(
        "attention",
        "attention_metrics.csv",
        "attention_metrics.json",
        "claims.md",
        "claims.html",
        "claims",
        "index.html",
    ),
]
MODEL_FILES = [
    *("checkpoint.pt", "history.csv", "tensorboard"),
    *("metrics.json", "predictions.npz", "attention.npz"),
]


def read_history(folder: Path) -> list[dict[str, float]]:
    """Return the rows of a model's history without the columns that measure time."""
    with (folder / "history.csv").open() as file:
        return [
            {
                name: float(value)
                for name, value in row.items()
                if name not in ("seconds", "images_per_second")
            }
            for row in csv.DictReader(file)
        ]


def assert_same_training(first: Path, second: Path) -> None:
    """Assert that two folders hold the same network and the same history."""
    assert_same_checkpoint(first, second)
    assert read_history(first) == read_history(second)


def test_all_artifacts(finished: Path) -> None:
    """One command makes every file of every model, a table, figures, logs and benchmarks."""
    for model, seed in MODELS:
        folder = finished / f"results/tiny/{model}/seed_{seed}"
        # The method kd learns from a table.
        files = {*MODEL_FILES, "targets.npz"} if model == "teacher" else {*MODEL_FILES}
        assert {path.name for path in folder.iterdir()} == files
    results = {path.name for path in (finished / "results/tiny").iterdir()}
    assert results == {"teacher", *METHODS, *REPORTS}
    assert {path.name for path in (finished / "results/data").iterdir()} == {
        f"{name}.{suffix}" for name in ("tiny", "pictures") for suffix in ("npz", "json")
    }
    for path in (finished / "results").rglob("*"):
        # Snakemake itself puts the one hidden file into folders that are outputs.
        if path.is_file() and path.name != ".snakemake_timestamp":
            assert path.stat().st_size, path
            assert not path.name.startswith("."), path
    assert len(list((finished / "results/tiny/figures").glob("*.png"))) > 10
    for log in ("train_student/tiny/kd/seed_1", "render_table/tiny", "prepare_data/pictures"):
        assert (finished / "logs" / f"{log}.log").read_text()
        assert (finished / "logs" / f"{log}.tsv").read_text()
    # What a training kept for being resumed is gone when it ends; students that train together keep
    # it, for when one of them is changed.
    kept = [path for path in (finished / "resume").rglob("*") if path.is_file()]
    assert {path.parts[-3] for path in kept} == {"pictures"}


def test_terms_follow_the_config(finished: Path) -> None:
    """Each method has the terms that the config names, and the weight of each in each epoch."""
    for model, terms in {
        "tiny/baseline/seed_0": {"labels"},
        "tiny/kd/seed_0": {"labels", "kd"},
        "tiny/at_kd/seed_0": {"labels", "kd", "at"},
        "tiny/fading_at/seed_0": {"labels", "at"},
        "pictures/hint/seed_0": {"labels", "hint"},
        "sweep/twin/seed_1": {"labels", "kd"},
    }.items():
        rows = read_history(finished / "results" / model)
        assert [row["epoch"] for row in rows] == [1, 2]
        assert {name for name in rows[0] if f"{name}_weight" in rows[0]} == terms, model
    fading = read_history(finished / "results/tiny/fading_at/seed_0")
    assert [row["at_weight"] for row in fading] == [1, 0.5]


def test_modules_of_terms(finished: Path) -> None:
    """What trains with the student, a hint's regressor, is no part of its checkpoint."""
    states = [
        torch.load(finished / f"results/pictures/{name}/seed_0/checkpoint.pt", weights_only=True)
        for name in ("at", "hint")
    ]
    assert states[0]["state"].keys() == states[1]["state"].keys()


def test_teacher_of_another_experiment(finished: Path) -> None:
    """A teacher of another experiment isn't trained again, and one of a method's own is its own."""
    results = finished / "results"
    assert not (results / "sweep/teacher/seed_0/checkpoint.pt").exists()
    provenances = {
        model: json.loads((results / model / "metrics.json").read_text())["training_provenance"]
        for model in (
            *("tiny/teacher/seed_0", "sweep/at/seed_1"),
            *("sweep/twin_teacher/seed_0", "sweep/twin/seed_1"),
        )
    }
    assert provenances["sweep/at/seed_1"]["teacher"] == provenances["tiny/teacher/seed_0"]
    assert provenances["sweep/twin/seed_1"]["teacher"] == provenances["sweep/twin_teacher/seed_0"]
    for name in ("table.md", "claims.md", "comparison.md"):
        assert "Teacher of twin" in (results / "sweep/table.md").read_text(), name


def test_training_of_ones_own(finished: Path) -> None:
    """A method is trained with what it has of its own, and whoever compares it is told so."""
    rates = {}
    for method in METHODS:
        metrics = json.loads((finished / f"results/tiny/{method}/seed_1/metrics.json").read_text())
        rates[method] = metrics["training_provenance"]["arguments"]["learning_rate"]
    assert rates == dict.fromkeys(METHODS, 0.1) | {"fading_at": 0.05}
    said = (finished / "results/tiny/comparison.md").read_text().splitlines()
    assert "- learning_rate: fading_at 0.05, others 0.1" in said


def test_students_share_one_teacher(finished: Path) -> None:
    """Without per_seed, the students of all seeds have the one teacher."""
    for seed in SEEDS:
        metrics = json.loads((finished / f"results/tiny/kd/seed_{seed}/metrics.json").read_text())
        provenance = metrics["training_provenance"]
        assert provenance["seed"] == seed
        assert provenance["teacher"]["seed"] == 0
        assert 0 <= metrics["metrics"]["teacher_agreement"]["value"] <= 100


def test_table(finished: Path) -> None:
    """The table has mean, deviation and number of seeds of each model, in the config's order."""
    with (finished / "results/tiny/table.csv").open() as file:
        rows = {row["quantity"]: row for row in csv.DictReader(file)}
    models = ["teacher", *METHODS]
    columns = [f"{model}_{name}" for model in models for name in ("mean", "std", "n")]
    accuracy = rows["Test accuracy"]
    assert list(accuracy) == ["quantity", "unit", *columns]
    assert [accuracy[f"{model}_n"] for model in models] == ["1", *["2"] * len(METHODS)]
    values = [
        json.loads((finished / f"results/tiny/kd/seed_{seed}/metrics.json").read_text())["metrics"][
            "top1_accuracy"
        ]["value"]
        for seed in SEEDS
    ]
    assert float(accuracy["kd_mean"]) == pytest.approx(np.mean(values))
    assert float(accuracy["kd_std"]) == pytest.approx(np.std(values, ddof=1))
    markdown = (finished / "results/tiny/table.md").read_text()
    assert markdown.startswith("# Tiny digits\n")
    heads = ["Teacher (n = 1)", "Baseline (n = 2)", "KD (n = 2)", "AT+KD (n = 2)"]
    assert " | ".join([*heads, "fading_at (n = 2)"]) in markdown


def test_image_folder(finished: Path) -> None:
    """A folder of PNG files goes through the whole chain."""
    description = json.loads((finished / "results/data/pictures.json").read_text())
    assert description["class_names"] == ["one", "zero"]
    assert description["images"]["train"]["per_class"] == [12, 12]
    assert description["images"]["test"]["per_class"] == [6, 6]
    for model in ("teacher", "at", "hint"):
        folder = finished / f"results/pictures/{model}/seed_0"
        assert {path.name for path in folder.iterdir()} == set(MODEL_FILES)
        with np.load(folder / "attention.npz", allow_pickle=False) as maps:
            assert maps["mean_square_1"].shape == (2, 12, 12)
            assert list(maps["class_names"]) == ["one", "zero"]
    assert "AT (n = 1)" in (finished / "results/pictures/table.md").read_text()


def test_nothing_to_be_done(finished: Path, snakemake: Snakemake) -> None:
    """A second run has nothing to do."""
    done = snakemake(finished, "--cores", "2", "all", "--configfile", TINY, MORE)
    assert done.returncode == 0
    assert "Nothing to be done" in done.stdout
    assert "warning" not in done.stdout


def test_what_a_run_has_parsed_is_kept(finished: Path) -> None:
    """The next run, and jobs on a cluster, need not parse code that a run has parsed."""
    kept = json.loads((finished / ".snakemake/code_digests.json").read_text())
    scripts = finished / "workflow/scripts"
    assert len(kept) > 60
    for name in ("train_student.py", "distillation/terms/at.py", "render_index.py"):
        code = digest.parse((scripts / name).read_bytes()).code
        assert code in {code for _, code in kept.values()}, name


def test_what_a_run_says(tree: Path, forks: dict[str, str]) -> None:
    """A run tells its steps, not that it selects jobs, and last of all where the page is.

    Python itself runs Snakemake, since a fork has no last words. A second run tells the page too,
    which a command that runs nothing doesn't.
    """
    page = "results/tiny/index.html"

    def told(*arguments: str) -> str:
        """Return what Snakemake prints."""
        return subprocess.run(
            [sys.executable, "-m", "snakemake", *arguments, "--configfile", TINY, MORE],
            cwd=tree, env=forks, text=True, check=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        ).stdout  # fmt: skip

    first = told("--cores", "1", "--force", page)
    again = told("--cores", "1", page)
    for said in (first, again):
        assert said.splitlines()[-1] == str(tree.resolve() / page)
    assert "1 of 1 steps (100%) done" in first
    assert "Nothing to be done" in again
    assert not re.search("Select jobs|Execute 1 jobs", first)
    assert told("--dag", "dot", page).split()[-1] == "}"
    # The page tells how it was made.
    assert f"--force {page} --configfile {TINY} {MORE}" in (tree / page).read_text()


def test_experiment_is_a_target(
    copy_project: Callable[[Path], Path], tmp_path: Path, plan: Callable[..., set[Job]]
) -> None:
    """The name of an experiment runs that one, whatever `run` lists."""
    folder = copy_project(tmp_path)
    jobs = plan(folder, "tiny", overlay="run: [digits]")
    assert jobs == ALL_TINY | {Job("prepare_data", "tiny")}


def test_own_images(
    copy_project: Callable[[Path], Path], tmp_path: Path, snakemake: Snakemake
) -> None:
    """README's overlay for a folder of one's own images, and the command beside it, are taken."""
    folder = copy_project(tmp_path)
    write_pictures(folder / "images")
    overlay = code_blocks(section(README, "Your own images"), "yaml")
    (folder / "mine.yaml").write_text(overlay.replace("/path/to/images", "images"))
    (command,) = (line for line in shell_commands(README) if "mine.yaml" in line)
    jobs = planned(snakemake, folder, *shlex.split(command.replace("--cores 4", ""))[1:])
    methods = ["baseline", "kd", "at", "at_kd", "at_strong"]
    models = [(model, seed) for model in ("teacher", *methods) for seed in range(5)]
    assert jobs == whole("mine", models) | {Job("prepare_data", "mine")}


def test_cores_do_not_change_numbers(tree: Path, finished: Path, snakemake: Snakemake) -> None:
    """A run on one core ends with the numbers of a run on two."""
    target = "results/tiny/at_kd/seed_1"
    done = snakemake(
        *(tree, "--cores", "1", "--force", f"{target}/checkpoint.pt"),
        *("--configfile", TINY, MORE),
    )
    assert done.returncode == 0, done.stdout
    assert (tree / target / "checkpoint.pt").stat().st_mtime_ns != (
        finished / target / "checkpoint.pt"
    ).stat().st_mtime_ns
    assert_same_training(tree / target, finished / target)


def test_command_by_hand(tree: Path, finished: Path, snakemake: Snakemake) -> None:
    """The command line that Snakemake records gives the same network when it is typed.

    Python itself runs it, while forks of one process made what it is compared with.
    """
    target = "results/tiny/at_kd/seed_0"
    summary = snakemake(tree, "all", "--detailed-summary", "--configfile", TINY, MORE)
    rows = [line.split("\t") for line in summary.stdout.splitlines() if "\t" in line]
    column = rows[0].index("shellcmd")
    (command,) = (row[column] for row in rows if row[0] == f"{target}/history.csv")
    shutil.rmtree(tree / target)
    assert command.startswith("python workflow/scripts/train_student.py ")
    run_in_shell(tree, command)
    assert_same_training(tree / target, finished / target)


def test_truncated_image(tree: Path, snakemake: Snakemake, plan: Callable[..., set[Job]]) -> None:
    """A truncated image stops the run, which names the file and leaves nothing that looks done."""
    image = tree / "my pictures/train/one/03.png"
    image.write_bytes(image.read_bytes()[:60])
    done = snakemake(tree, "--cores", "1", "pictures", "--configfile", TINY, MORE)
    assert done.returncode == 1
    said = [line for line in done.stdout.splitlines() if line.startswith("prepare_data.py: error")]
    assert len(said) == 1, done.stdout
    assert "my pictures/train/one/03.png: " in said[0]
    assert "Traceback" not in done.stdout
    assert {path.name for path in (tree / "results/data").iterdir()} == {"tiny.npz", "tiny.json"}
    # Snakemake has the new digest of the folder on record by now; only that every file is asked
    # for keeps a run after the failure from calling the old table up to date.
    assert plan(tree, "all") == ALL_PICTURES | {Job("prepare_data", "pictures")}


def test_failed_teacher(tree: Path, snakemake: Snakemake, plan: Callable[..., set[Job]]) -> None:
    """Nothing of an old teacher counts as fresh after a new one failed, whatever is asked then."""
    overlay = "experiments: {pictures: {teacher: {training: {learning_rate: 0.05}}}}"
    (tree / "change.yaml").write_text(overlay)
    files = ["--configfile", TINY, MORE, "change.yaml"]
    obstacle = tree / "resume/pictures/teacher"
    shutil.rmtree(obstacle)
    obstacle.write_text("A file where the training needs a folder.")
    done = snakemake(tree, "--cores", "2", "all", *files)
    assert done.returncode == 1
    assert "train_teacher.py: error: " in done.stdout
    assert plan(tree, "all", overlay=overlay) == ALL_PICTURES
    # Back to the old number, too: the old teacher is gone.
    assert plan(tree, "all") == ALL_PICTURES
    obstacle.unlink()
    (tree / "change.yaml").write_text(overlay)
    done = snakemake(tree, "--cores", "2", "pictures", *files)
    assert done.returncode == 0, done.stdout
    provenance = json.loads((tree / "results/pictures/provenance.json").read_text())
    for run in provenance["runs"]:
        teacher = run["training"].get("teacher", run["training"])
        assert teacher["arguments"]["learning_rate"] == 0.05
    assert plan(tree, "all", overlay=overlay) == set()


def test_removed_models(tree: Path, snakemake: Snakemake) -> None:
    """Removed seeds and methods leave the table, and a documented command names their files."""
    (tree / "change.yaml").write_text(
        "experiments: {tiny: {seeds: [0], students: [baseline, at_kd]}}"
    )
    files = ["--configfile", TINY, MORE, "change.yaml"]
    done = snakemake(tree, "--cores", "2", "all", *files)
    assert done.returncode == 0, done.stdout
    results = tree / "results/tiny"
    models = ("teacher", "baseline", "at_kd")
    assert set(json.loads((results / "summary.json").read_text())) == {*models}
    head = (results / "table.md").read_text().splitlines()[2]
    assert head == "| | Teacher (n = 1) | Baseline (n = 1) | AT+KD (n = 1) |"
    figure = (results / "figures/metrics.svg").read_text()
    assert "AT+KD" in figure
    assert "fading_at" not in figure
    kept = [results / model / "seed_0" for model in models]
    expected = {
        path.relative_to(tree).as_posix()
        for path in results.glob("*/seed_*/*")
        if path.is_file() and path.parent not in kept
    } | {
        *("results/tiny/teacher/seed_0/targets.npz", "results/tiny/attention/seed_1.csv"),
        "results/tiny/attention/seed_1.json",
    }
    (command,) = (line for line in shell_commands(OUTPUTS) if "--list-untracked" in line)
    said = run_in_shell(tree, command.replace(" all ", f" all {' '.join(files)} "))
    assert set(said.splitlines()) == expected


def test_other_versions(tree: Path, snakemake: Snakemake) -> None:
    """A lock file that moved on is reported with the packages that results were made with."""
    lock = tree / "requirements.lock"
    text, count = re.subn(r"^torch==\S+", "torch==99.0", lock.read_text(), flags=re.M)
    assert count == 1
    lock.write_text(text)
    done = snakemake(tree, "--cores", "1", "all", "--configfile", TINY, MORE)
    assert "Nothing to be done" in done.stdout
    said = [line for line in done.stdout.splitlines() if line.startswith("warning: ")]
    assert [line.split()[3] for line in said] == ["tiny", "pictures", "sweep"]
    for line in said:
        assert f"torch {version('torch')} (the lock has 99.0)" in line
        assert "numpy" not in line
        assert "--forceall" in line


def test_odd_title(tree: Path, snakemake: Snakemake) -> None:
    """A title with quotes, braces and dollars reaches the table as it is."""
    title = """It's "half" {done} $HOME `x` \\n"""
    (tree / "change.yaml").write_text(json.dumps({"experiments": {"tiny": {"title": title}}}))
    files = ["--configfile", TINY, MORE, "change.yaml"]
    done = snakemake(tree, "--cores", "1", "results/tiny/table.md", *files)
    assert done.returncode == 0, done.stdout
    assert (tree / "results/tiny/table.md").read_text().startswith(f"# {title}\n")


def test_lint(finished: Path, snakemake: Snakemake) -> None:
    """Snakemake's own linter has nothing to say."""
    done = snakemake(finished, "--lint")
    assert done.returncode == 0, done.stdout
    assert "Congratulations" in done.stdout
