"""The workflow, run by Snakemake: what it makes, what it makes again, and what a failure leaves."""

import csv
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

pytestmark = pytest.mark.workflow

Snakemake = Callable[..., subprocess.CompletedProcess[str]]
# A rule and its wildcards: ("train_student", "experiment=tiny, method=kd, seed=0").
Job = tuple[str, str]

TINY = "tests/tiny.yaml"
PICTURES = "pictures.yaml"
METHODS = ["baseline", "kd", "at", "at_kd", "fading_at"]
SEEDS = [0, 1]
MODELS = [("teacher", 0), *((method, seed) for method in METHODS for seed in SEEDS)]
MODEL_FILES = [
    *("checkpoint.pt", "history.csv", "tensorboard"),
    *("metrics.json", "predictions.npz", "attention.npz"),
]
# A second experiment, on a folder of images, that has one method and one seed.
OVERLAY = """\
run: [tiny, pictures]
data:
  pictures: {format: image_folder, source: my pictures, image_size: 12, channels: 1, fit: pad}
experiments:
  pictures: {extends: tiny, title: Pictures, data: pictures, seeds: [0], students: [at]}
"""


def write_pictures(folder: Path) -> None:
    """Write real handwritten zeros and ones, 8 x 8 pixels, as an image folder of two classes."""
    pixels, labels = (np.asarray(array) for array in load_digits(return_X_y=True))
    for name, digit in (("one", 1), ("zero", 0)):
        images = (pixels[labels == digit][:18] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8)
        for number, image in enumerate(images):
            file = folder / ("train" if number < 12 else "test") / name / f"{number:02}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(file)


@pytest.fixture(scope="module")
def finished(
    copy_project: Callable[[Path], Path],
    snakemake: Snakemake,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Return a copy of the project in which the tiny experiment and the pictures were run."""
    folder = copy_project(tmp_path_factory.mktemp("finished"))
    write_pictures(folder / "my pictures")
    (folder / PICTURES).write_text(OVERLAY)
    done = snakemake(folder, "--cores", "2", "all", "--configfile", TINY, PICTURES)
    assert done.returncode == 0, done.stdout
    return folder


@pytest.fixture
def tree(finished: Path, tmp_path: Path) -> Path:
    """Return a copy of the finished tree, with its times and records, to be changed."""
    return shutil.copytree(finished, tmp_path / "tree")


@pytest.fixture
def plan(snakemake: Snakemake) -> Callable[..., set[Job]]:
    """Return a function that lists the jobs that Snakemake would run in a folder, save targets."""

    def jobs(folder: Path, *targets: str, overlay: str = "{}") -> set[Job]:
        (folder / "change.yaml").write_text(overlay)
        files = [name for name in (TINY, PICTURES, "change.yaml") if (folder / name).exists()]
        # `host` in place of the profile's list, which would hide the jobs.
        done = snakemake(folder, "-n", *targets, "--configfile", *files, "--quiet", "host")
        assert done.returncode == 0, done.stdout
        blocks = re.split(r"^(?:local)?rule (\w+):$", done.stdout, flags=re.MULTILINE)[1:]
        found = set()
        for rule, block in zip(blocks[::2], blocks[1::2], strict=True):
            wildcards = re.search(r"^    wildcards: (.*)$", block, re.MULTILINE)
            # The rules that only name targets have no wildcards.
            if wildcards:
                found.add((rule, wildcards[1]))
        assert bool(found) != ("Nothing to be done" in done.stdout)
        return found

    return jobs


def of_model(experiment: str, model: str, seed: int, *, trained: bool = True) -> set[Job]:
    """Return the jobs that make all files of a model, with or without the training."""
    where = f"experiment={experiment}, model={model}, seed={seed}"
    jobs = {("evaluate", where), ("extract_attention", where)}
    if trained and model == "teacher":
        jobs.add(("train_teacher", f"experiment={experiment}, seed={seed}"))
    elif trained:
        jobs.add(("train_student", f"experiment={experiment}, method={model}, seed={seed}"))
    return jobs


def report_of(experiment: str) -> set[Job]:
    """Return the jobs that make table and figures."""
    return {
        ("render_table", f"experiment={experiment}"),
        ("render_figures", f"experiment={experiment}"),
    }


def whole(experiment: str, models: list[tuple[str, int]]) -> set[Job]:
    """Return the jobs of a whole experiment, save for its data."""
    return report_of(experiment).union(*(of_model(experiment, *model) for model in models))


def edit(file: Path, before: str, after: str) -> None:
    """Replace a text that a file has once."""
    text = file.read_text()
    assert text.count(before) == 1
    file.write_text(text.replace(before, after))


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
    """Assert that two folders hold the same network, bit by bit, and the same history."""
    states = [
        torch.load(folder / "checkpoint.pt", weights_only=True)["state"]
        for folder in (first, second)
    ]
    assert states[0].keys() == states[1].keys()
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name]), name
    assert read_history(first) == read_history(second)


def test_all_artifacts(finished: Path) -> None:
    """One command makes every file of every model, a table, figures, logs and benchmarks."""
    for model, seed in MODELS:
        folder = finished / f"results/tiny/{model}/seed_{seed}"
        assert {path.name for path in folder.iterdir()} == set(MODEL_FILES)
    results = {path.name for path in (finished / "results/tiny").iterdir()}
    assert results == {"teacher", *METHODS, "table.csv", "table.md", "figures"}
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
    # What a training kept for being resumed is gone when it ends.
    assert not [path for path in (finished / "resume").rglob("*") if path.is_file()]


def test_terms_follow_the_config(finished: Path) -> None:
    """Each method has the terms that the config names, the one of one's own too."""
    for method, terms in {
        "baseline": set(),
        "kd": {"distillation"},
        "at": {"attention_1", "attention_2", "attention_3"},
        "at_kd": {"distillation", "attention_1", "attention_2", "attention_3"},
        "fading_at": {"attention_1", "attention_2", "attention_3"},
    }.items():
        rows = read_history(finished / f"results/tiny/{method}/seed_0")
        assert [row["epoch"] for row in rows] == [1, 2]
        assert {name for name in rows[0] if name.startswith(("dist", "attention_"))} == terms
    fading = read_history(finished / "results/tiny/fading_at/seed_0")
    assert [row["beta"] for row in fading] == [1, 0.5]


def test_students_share_one_teacher(finished: Path) -> None:
    """Without per_seed, the students of all seeds have the one teacher."""
    for seed in SEEDS:
        metrics = json.loads((finished / f"results/tiny/kd/seed_{seed}/metrics.json").read_text())
        provenance = metrics["training_provenance"]
        assert provenance["seed"] == seed
        assert provenance["teacher"]["seed"] == 0
        assert 0 <= metrics["teacher_agreement"] <= 1


def test_table(finished: Path) -> None:
    """The table has mean, deviation and number of seeds of each model, in the config's order."""
    with (finished / "results/tiny/table.csv").open() as file:
        rows = {row["quantity"]: row for row in csv.DictReader(file)}
    models = ["teacher", *METHODS]
    columns = [f"{model}_{name}" for model in models for name in ("mean", "std", "n")]
    accuracy = rows["Test (validation) accuracy"]
    assert list(accuracy) == ["quantity", "unit", *columns]
    assert [accuracy[f"{model}_n"] for model in models] == ["1", *["2"] * len(METHODS)]
    values = [
        100
        * json.loads((finished / f"results/tiny/kd/seed_{seed}/metrics.json").read_text())[
            "top1_accuracy"
        ]
        for seed in SEEDS
    ]
    assert float(accuracy["kd_mean"]) == pytest.approx(np.mean(values))
    assert float(accuracy["kd_std"]) == pytest.approx(np.std(values, ddof=1))
    markdown = (finished / "results/tiny/table.md").read_text()
    assert markdown.startswith("# Tiny digits\n")
    heads = ["Teacher (n = 1)", "Baseline (n = 2)", "KD (n = 2)", "AT (n = 2)", "AT+KD (n = 2)"]
    assert " | ".join([*heads, "fading_at (n = 2)"]) in markdown


def test_image_folder(finished: Path) -> None:
    """A folder of PNG files goes through the whole chain."""
    description = json.loads((finished / "results/data/pictures.json").read_text())
    assert description["class_names"] == ["one", "zero"]
    assert description["images"]["train"]["per_class"] == [12, 12]
    assert description["images"]["test"]["per_class"] == [6, 6]
    for model in ("teacher", "at"):
        folder = finished / f"results/pictures/{model}/seed_0"
        assert {path.name for path in folder.iterdir()} == set(MODEL_FILES)
        with np.load(folder / "attention.npz", allow_pickle=False) as maps:
            assert maps["mean_square_1"].shape == (2, 12, 12)
            assert list(maps["class_names"]) == ["one", "zero"]
    assert "AT (n = 1)" in (finished / "results/pictures/table.md").read_text()


def test_nothing_to_be_done(finished: Path, snakemake: Snakemake) -> None:
    """A second run has nothing to do."""
    done = snakemake(finished, "--cores", "2", "all", "--configfile", TINY, PICTURES)
    assert done.returncode == 0
    assert "Nothing to be done" in done.stdout


def test_touched_files(tree: Path, plan: Callable[..., set[Job]]) -> None:
    """Newer times on every file rerun nothing, as after a branch switch."""
    for path in tree.rglob("*"):
        # A folder of images is known by sizes and times: reading it would hold up each dry run.
        if path.is_file() and not path.is_relative_to(tree / "my pictures"):
            path.touch()
    assert plan(tree, "all") == set()


def test_comments_and_docstrings(tree: Path, plan: Callable[..., set[Job]]) -> None:
    """Another comment, docstring or layout in the library reruns nothing."""
    losses = tree / "workflow/scripts/distillation/losses.py"
    lines = losses.read_text().splitlines()
    assert lines[0].startswith('"""')
    lines[0] = '"""Said in other words.'
    losses.write_text("# A comment.\n\n" + "\n\n".join(lines[:1]) + "\n".join(["", *lines[1:], ""]))
    compile(losses.read_text(), "losses.py", "exec")
    assert plan(tree, "all") == set()


def test_library_code(tree: Path, plan: Callable[..., set[Job]]) -> None:
    """An edit in the losses trains and evaluates everything again, on the same data."""
    edit(
        tree / "workflow/scripts/distillation/losses.py",
        "return features.square().sum(dim=1)",
        "return features.square().sum(dim=1) * 1",
    )
    tiny = whole("tiny", MODELS)
    assert plan(tree, "all") == tiny | whole("pictures", [("teacher", 0), ("at", 0)])


def test_script_code(tree: Path, plan: Callable[..., set[Job]]) -> None:
    """An edit in the script of the table makes the tables again and nothing else."""
    script = tree / "workflow/scripts/render_table.py"
    script.write_text(script.read_text() + "\nNEW = 1\n")
    assert plan(tree, "all") == {
        ("render_table", f"experiment={name}") for name in ("tiny", "pictures")
    }


def test_temperature(tree: Path, plan: Callable[..., set[Job]]) -> None:
    """Another temperature for kd trains kd again, for both seeds, and what is made from it."""
    overlay = "defaults: {methods: {kd: {temperature: 2}}}"
    kd = of_model("tiny", "kd", 0) | of_model("tiny", "kd", 1)
    assert plan(tree, "all", overlay=overlay) == kd | report_of("tiny")


def test_swapped_values(tree: Path, plan: Callable[..., set[Job]]) -> None:
    """Two numbers that change places are a change."""
    overlay = "experiments: {tiny: {figures: {dpi: 64}, training: {epochs: 64, batch_size: 2}}}"
    assert plan(tree, "tiny", overlay=overlay) == whole("tiny", MODELS)


def test_dots_per_inch(tree: Path, plan: Callable[..., set[Job]]) -> None:
    """Another resolution draws the figures again and nothing else."""
    overlay = "experiments: {tiny: {figures: {dpi: 60}}}"
    assert plan(tree, "tiny", overlay=overlay) == {("render_figures", "experiment=tiny")}


def test_same_values(tree: Path, plan: Callable[..., set[Job]]) -> None:
    """An overlay that says again what holds already, in any order of keys, reruns nothing."""
    overlay = (
        "defaults: {training: {weight_decay: 5.0e-4, momentum: 0.90}}\n"
        "experiments: {tiny: {training: {padding: 1.0, epochs: 2}}}\n"
        "data: {tiny: {seed: 0, image_size: 12}}\n"
    )
    assert plan(tree, "all", overlay=overlay) == set()


def test_data(tree: Path, plan: Callable[..., set[Job]]) -> None:
    """Another data set is prepared again, and all that is learnt from it, but no other."""
    jobs = plan(tree, "all", overlay="data: {tiny: {clutter_pieces: 2}}")
    assert jobs == whole("tiny", MODELS) | {("prepare_data", "data=tiny")}


def test_added_method(tree: Path, plan: Callable[..., set[Job]]) -> None:
    """A method that is added trains its own students, and no others again."""
    overlay = (
        "experiments:\n"
        "  tiny:\n"
        "    methods: {soft: {alpha: 0.5, temperature: 8, kl_reduction: batchmean}}\n"
        "    students: [baseline, kd, at, at_kd, fading_at, soft]\n"
    )
    soft = of_model("tiny", "soft", 0) | of_model("tiny", "soft", 1)
    assert plan(tree, "tiny", overlay=overlay) == soft | report_of("tiny")


def test_teacher_of_each_seed(tree: Path, plan: Callable[..., set[Job]]) -> None:
    """With per_seed, each seed has a teacher of its own; the first seed's stays as it is."""
    jobs = plan(tree, "tiny", overlay="experiments: {tiny: {teacher: {per_seed: true}}}")
    with_teacher = [method for method in METHODS if method != "baseline"]
    expected = of_model("tiny", "teacher", 1) | report_of("tiny")
    expected |= set().union(*(of_model("tiny", method, 1) for method in with_teacher))
    # The baseline learns from no teacher, but is compared with one.
    expected.add(("evaluate", "experiment=tiny, model=baseline, seed=1"))
    assert jobs == expected


def test_experiment_is_a_target(
    copy_project: Callable[[Path], Path], tmp_path: Path, plan: Callable[..., set[Job]]
) -> None:
    """The name of an experiment runs that one, whatever `run` lists."""
    folder = copy_project(tmp_path)
    jobs = plan(folder, "tiny", overlay="run: [digits]")
    assert jobs == whole("tiny", MODELS) | {("prepare_data", "data=tiny")}
    # The protocol of the paper has three seeds.
    students = [(method, seed) for method in METHODS[:-1] for seed in (0, 1, 2)]
    jobs = plan(folder, "cifar10", overlay="run: [digits]")
    assert jobs == whole("cifar10", [("teacher", 0), *students]) | {
        ("prepare_data", "data=cifar10")
    }


def test_cores_do_not_change_numbers(tree: Path, finished: Path, snakemake: Snakemake) -> None:
    """A run on one core ends with the numbers of a run on two."""
    target = "results/tiny/at_kd/seed_1"
    done = snakemake(
        *(tree, "--cores", "1", "--force", f"{target}/checkpoint.pt"),
        *("--configfile", TINY, PICTURES),
    )
    assert done.returncode == 0, done.stdout
    assert (tree / target / "checkpoint.pt").stat().st_mtime_ns != (
        finished / target / "checkpoint.pt"
    ).stat().st_mtime_ns
    assert_same_training(tree / target, finished / target)


def test_command_by_hand(tree: Path, finished: Path, snakemake: Snakemake) -> None:
    """The command line that Snakemake records gives the same network when it is typed."""
    target = "results/tiny/at/seed_0"
    summary = snakemake(tree, "all", "--detailed-summary", "--configfile", TINY, PICTURES)
    rows = [line.split("\t") for line in summary.stdout.splitlines() if "\t" in line]
    column = rows[0].index("shellcmd")
    (command,) = (row[column] for row in rows if row[0] == f"{target}/history.csv")
    shutil.rmtree(tree / target)
    assert command.startswith("python workflow/scripts/train_student.py ")
    subprocess.run(
        ["bash", "-c", command.replace("python", sys.executable, 1)],
        cwd=tree,
        check=True,
        capture_output=True,
    )
    assert_same_training(tree / target, finished / target)


def test_truncated_image(tree: Path, snakemake: Snakemake, plan: Callable[..., set[Job]]) -> None:
    """A truncated image stops the run, which names the file and leaves nothing that looks done."""
    image = tree / "my pictures/train/one/03.png"
    image.write_bytes(image.read_bytes()[:60])
    done = snakemake(tree, "--cores", "1", "pictures", "--configfile", TINY, PICTURES)
    assert done.returncode == 1
    said = [line for line in done.stdout.splitlines() if line.startswith("prepare_data.py: error")]
    assert len(said) == 1, done.stdout
    assert "my pictures/train/one/03.png: " in said[0]
    assert "Traceback" not in done.stdout
    assert {path.name for path in (tree / "results/data").iterdir()} == {"tiny.npz", "tiny.json"}
    # Snakemake has the new digest of the folder on record by now; only that every file is asked
    # for keeps a run after the failure from calling the old table up to date.
    models = whole("pictures", [("teacher", 0), ("at", 0)])
    assert plan(tree, "all") == models | {("prepare_data", "data=pictures")}


def test_failed_training(tree: Path, snakemake: Snakemake, plan: Callable[..., set[Job]]) -> None:
    """A training that fails stops what follows from it, and runs again the next time."""
    # 23 of the 24 images in a batch leave a last batch of one, which batch norm can't use.
    overlay = "experiments: {pictures: {student: {training: {batch_size: 23}}}}"
    (tree / "change.yaml").write_text(overlay)
    files = ["--configfile", TINY, PICTURES, "change.yaml"]
    done = snakemake(tree, "--cores", "1", "pictures", *files)
    assert done.returncode == 1
    assert "train_student.py: error: batch_size is 23" in done.stdout
    assert not (tree / "results/pictures/at/seed_0/checkpoint.pt").exists()
    expected = of_model("pictures", "at", 0) | report_of("pictures")
    assert plan(tree, "pictures", overlay=overlay) == expected


def test_odd_title(tree: Path, snakemake: Snakemake) -> None:
    """A title with quotes, braces and dollars reaches the table as it is."""
    title = """It's "half" {done} $HOME `x` \\n"""
    (tree / "change.yaml").write_text(json.dumps({"experiments": {"tiny": {"title": title}}}))
    files = ["--configfile", TINY, PICTURES, "change.yaml"]
    done = snakemake(tree, "--cores", "1", "results/tiny/table.md", *files)
    assert done.returncode == 0, done.stdout
    assert (tree / "results/tiny/table.md").read_text().startswith(f"# {title}\n")


def test_lint(finished: Path, snakemake: Snakemake) -> None:
    """Snakemake's own linter has nothing to say."""
    done = snakemake(finished, "--lint")
    assert done.returncode == 0, done.stdout
    assert "Congratulations" in done.stdout
