"""Jobs of the workflow, as sets, for the tests that compare what would run with what should."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

TINY = "tests/tiny.yaml"
PICTURES = "pictures.yaml"
METHODS = ["baseline", "kd", "at", "at_kd", "fading_at"]
SEEDS = [0, 1]
# A second experiment, on a folder of images, that has one method and one seed.
OVERLAY = """\
run: [tiny, pictures]
data:
  pictures: {format: image_folder, source: my pictures, image_size: 12, channels: 1, fit: pad}
experiments:
  pictures: {extends: tiny, title: Pictures, data: pictures, seeds: [0], students: [at]}
"""

Snakemake = Callable[..., subprocess.CompletedProcess[str]]


class Job(NamedTuple):
    """A job: its rule and wildcards; of prepare_data, `experiment` is the name of the data."""

    rule: str
    experiment: str
    model: str = ""
    seed: int = 0


def of_model(experiment: str, model: str, seed: int) -> set[Job]:
    """Return the jobs that train and measure a model."""
    train = "train_teacher" if model == "teacher" else "train_student"
    rules = (train, "evaluate", "extract_attention", "measure_attention")
    return {Job(rule, experiment, model, seed) for rule in rules}


def report_of(experiment: str) -> set[Job]:
    """Return the jobs that make table, comparison, claims and figures."""
    rules = ("render_table", "compare_methods", "render_claims", "render_figures")
    return {Job(rule, experiment) for rule in rules}


def whole(experiment: str, models: list[tuple[str, int]]) -> set[Job]:
    """Return the jobs of a whole experiment, save for its data."""
    return report_of(experiment).union(*(of_model(experiment, *model) for model in models))


MODELS = [("teacher", 0), *((method, seed) for method in METHODS for seed in SEEDS)]
# The method kd of the tiny experiment learns from a table.
TABLE = Job("tabulate_targets", "tiny", "teacher", 0)
ALL_TINY = whole("tiny", MODELS) | {TABLE}
ALL_PICTURES = whole("pictures", [("teacher", 0), ("at", 0)])
ALL = ALL_TINY | ALL_PICTURES


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
            found.add(
                Job(
                    rule,
                    wildcards.get("experiment") or wildcards["data"],
                    wildcards.get("model") or wildcards.get("method") or training(rule),
                    int(wildcards.get("seed", 0)),
                )
            )
    assert bool(found) != ("Nothing to be done" in done.stdout)
    return found


def training(rule: str) -> str:
    """Return the model of a rule that has none among its wildcards."""
    return "teacher" if rule in ("train_teacher", "tabulate_targets") else ""
