"""Jobs of the workflow, as sets, for the tests that compare what would run with what should."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

TINY = "tests/tiny.yaml"
MORE = "more.yaml"
METHODS = ["baseline", "kd", "at_kd", "fading_at"]
SEEDS = [0, 1]
# An experiment on a folder of images, with other networks and terms, that trains its students in
# one job; and one that takes the tiny one's teacher, one of whose methods has a teacher of its own.
OVERLAY = """\
run: [tiny, pictures, sweep]
data:
  pictures: {format: image_folder, source: my pictures, image_size: 12, channels: 1, fit: pad}
defaults:
  methods:
    hint: {label: FitNet, hint: {weight: 1}}
    twin: {kd: {}, teacher: {network: {wrn: {depth: 10, width: 1}}}}
experiments:
  pictures:
    extends: tiny
    title: Pictures
    data: pictures
    seeds: [0]
    teacher: {network: {resnet: {depth: 8}}}
    student: {network: {resnet: {depth: 8}}}
    students: [at, hint]
    together: true
  sweep:
    {extends: tiny, title: Sweep, seeds: [1], teacher: {from: tiny}, students: [at, twin]}
"""

Snakemake = Callable[..., subprocess.CompletedProcess[str]]


class Job(NamedTuple):
    """A job: its rule and wildcards; of prepare_data, `experiment` is the name of the data."""

    rule: str
    experiment: str
    model: str = ""
    seed: int = 0


def of_model(experiment: str, model: str, seed: int) -> set[Job]:
    """Return the jobs that train a model and measure it by itself."""
    train = "train_teacher" if model.endswith("teacher") else "train_student"
    return {Job(rule, experiment, model, seed) for rule in (train, "evaluate", "extract_attention")}


def report_of(experiment: str) -> set[Job]:
    """Return the jobs that make table, comparison, claims, figures and the page of all."""
    rules = ("render_table", "compare_methods", "render_claims", "render_figures", "render_index")
    return {Job(rule, experiment) for rule in rules}


def measure_of(experiment: str, *seeds: int) -> set[Job]:
    """Return the jobs that measure the attention of all models of some seeds."""
    return {Job("measure_attention", experiment, seed=seed) for seed in seeds}


def whole(experiment: str, models: list[tuple[str, int]]) -> set[Job]:
    """Return the jobs of a whole experiment, save for its data."""
    measured = measure_of(experiment, *(seed for _, seed in models))
    jobs = (of_model(experiment, *model) for model in models)
    return report_of(experiment) | measured.union(*jobs)


MODELS = [("teacher", 0), *((method, seed) for method in METHODS for seed in SEEDS)]
# The method kd of the tiny experiment learns from a table.
TABLE = Job("tabulate_targets", "tiny", "teacher", 0)
ALL_TINY = whole("tiny", MODELS) | {TABLE}
# Those of the pictures are trained, evaluated and drawn together.
STEPS = ("train", "evaluate", "extract_attention")
TOGETHER = {Job(f"{step}_students", "pictures", seed=0) for step in STEPS}
ALL_PICTURES = whole("pictures", [("teacher", 0)]) | TOGETHER
# The teacher of the tiny experiment is trained there, and measured here as well.
ALL_SWEEP = whole("sweep", [("twin_teacher", 0), ("at", 1), ("twin", 1)]) | (
    (of_model("sweep", "teacher", 0) | measure_of("sweep", 0))
    - {Job("train_teacher", "sweep", "teacher", 0)}
)
ALL = ALL_TINY | ALL_PICTURES | ALL_SWEEP


def assert_same_checkpoint(one: Path, two: Path) -> None:
    """Assert that two checkpoints, by file or folder, hold the same bits and the same record."""
    files = [path / "checkpoint.pt" if path.is_dir() else path for path in (one, two)]
    contents = [torch.load(file) for file in files]
    states = [content.pop("state") for content in contents]
    torch.testing.assert_close(*states, rtol=0, atol=0)
    assert contents[0] == contents[1]


def edit(file: Path, before: str, after: str) -> None:
    """Replace a text that a file has once."""
    text = file.read_text()
    assert text.count(before) == 1, (file, before)
    file.write_text(text.replace(before, after))


def planned(snakemake: Snakemake, folder: Path, *arguments: str) -> set[Job]:
    """Return the jobs that Snakemake would run in a folder, save for those that name targets."""
    # `host` in place of the profile's list, which would hide the jobs.
    done = snakemake(folder, "-n", *arguments, "--quiet", "host")
    assert done.returncode == 0, done.stdout
    blocks = re.split(r"^(?:local)?rule (\w+):$", done.stdout, flags=re.MULTILINE)[1:]
    found = set()
    for rule, block in zip(blocks[::2], blocks[1::2], strict=True):
        # The rules that only name targets have no wildcards.
        if line := re.search(r"^    wildcards: (.*)$", block, re.MULTILINE):
            wildcards = dict(pair.split("=") for pair in line[1].split(", "))
            keys = [key for key in ("model", "method", "teacher") if key in wildcards]
            model = wildcards[keys[0]] if keys else ""
            # Students that are trained together have rules for each experiment.
            step, together, own = rule.partition("_students_")
            experiment = own or wildcards.get("experiment") or wildcards["data"]
            seed = int(wildcards.get("seed", 0))
            found.add(Job(f"{step}_students" if together else rule, experiment, model, seed))
    assert bool(found) != ("Nothing to be done" in done.stdout)
    return found
