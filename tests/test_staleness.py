"""Which jobs an edit makes stale: one change at a time after a finished run, then a dry run.

`pytest tests/test_staleness.py -s` prints the whole table, edit -> jobs.
"""

import ast
import json
import os
import re
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from jobs import (
    ALL,
    ALL_PICTURES,
    ALL_TINY,
    METHODS,
    PICTURES,
    SEEDS,
    TABLE,
    TINY,
    Job,
    Snakemake,
    edit,
    of_model,
    planned,
    report_of,
)

pytestmark = pytest.mark.workflow

LIBRARY = "workflow/scripts/distillation"
STYLE = "workflow/scripts/figures.mplstyle"
LEARNERS = [method for method in METHODS if method != "baseline"]
REPORTS = report_of("tiny") | report_of("pictures")
MODELS_JOBS = {job for job in ALL if job.model} - {TABLE}
# What a baseline is measured against a teacher in.
WITH_TEACHER = [Job(rule, "tiny", "baseline") for rule in ("evaluate", "measure_attention")]
PREPARE = {Job("prepare_data", "tiny"), Job("prepare_data", "pictures")}
NOTHING: set[Job] = set()


class Edit(NamedTuple):
    """A change of the tree or of the config, and the jobs that it should make stale."""

    jobs: set[Job]
    config: str = "{}"
    change: Callable[[Path], object] | None = None


def of(*rules: str) -> set[Job]:
    """Return the jobs of some rules in both experiments."""
    return {job for job in ALL if job.rule in rules}


def of_methods(*methods: str, experiments: tuple[str, ...] = ("tiny",)) -> set[Job]:
    """Return the jobs that train and measure students, and make table and figures of them."""
    trained = {job for job in ALL if job.model in methods and job.experiment in experiments}
    return trained.union(*(report_of(experiment) for experiment in experiments))


def of_new_method(name: str) -> set[Job]:
    """Return the jobs of a method that the finished run doesn't have."""
    return report_of("tiny").union(*(of_model("tiny", name, seed) for seed in SEEDS))


def students(*names: str) -> str:
    """Return the config that trains these students in the tiny experiment."""
    return json.dumps({"experiments": {"tiny": {"students": names}}})


def replace(file: str, before: str, after: str) -> Callable[[Path], None]:
    """Make the change that replaces a text in a file."""
    return lambda tree: edit(tree / file, before, after)


def append(file: str, text: str) -> Callable[[Path], None]:
    """Make the change that adds lines to a file."""

    def change(tree: Path) -> None:
        (tree / file).write_text((tree / file).read_text() + text)

    return change


def long_ago(file: str, change: Callable[[Path], object]) -> Callable[[Path], None]:
    """Make the change that leaves a file with a time before everything else."""

    def with_old_time(tree: Path) -> None:
        change(tree)
        os.utime(tree / file, (1e9, 1e9))

    return with_old_time


def touch_everything(tree: Path) -> None:
    """Give every file a new time, as after a copy or a switch of branches."""
    for path in tree.rglob("*"):
        if path.is_file():
            path.touch()


def reorder(tree: Path) -> None:
    """Write config.yaml with its keys in another order and without comments."""
    file = tree / "config.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()), sort_keys=True))


def reformat(tree: Path) -> None:
    """Lay out a module as Python's own writer does."""
    file = tree / LIBRARY / "losses.py"
    text = ast.unparse(ast.parse(file.read_text()))
    assert text != file.read_text()
    file.write_text(text)


def reword(tree: Path) -> None:
    """Say all docstrings of a module in other words."""
    file = tree / LIBRARY / "losses.py"
    text, count = re.subn(r'^( *)"""[A-Z]\w+ ', r'\1"""Otherwise ', file.read_text(), flags=re.M)
    assert count > 3
    file.write_text(text)


def other_picture(tree: Path) -> None:
    """Put one training image in another's place."""
    folder = tree / "my pictures/train/one"
    shutil.copyfile(folder / "04.png", folder / "03.png")


def link_pictures(tree: Path) -> None:
    """Move a folder of images away and put a link in its place."""
    folder = tree / "my pictures/train"
    folder.rename(tree / "moved")
    folder.symlink_to(tree / "moved", target_is_directory=True)


LOSSES = f"{LIBRARY}/losses.py"
REAL_EDIT = replace(LOSSES, "return features.sum(dim=1)", "return features.sum(dim=1) * 1")

EDITS = {
    # Weights. `pictures` extends `tiny` and has the one method at.
    "alpha of kd": Edit(of_methods("kd"), "defaults: {methods: {kd: {alpha: 0.5}}}"),
    "temperature of kd": Edit(of_methods("kd"), "defaults: {methods: {kd: {temperature: 2}}}"),
    "KL reduction of kd": Edit(
        of_methods("kd"), "defaults: {methods: {kd: {kl_reduction: legacy_2017}}}"
    ),
    "targets of kd": Edit(
        of_methods("kd"), "experiments: {tiny: {methods: {kd: {teacher_targets: online}}}}"
    ),
    "beta of at": Edit(
        of_methods("at", experiments=("tiny", "pictures")), "defaults: {methods: {at: {beta: 10}}}"
    ),
    "beta schedule of at_kd": Edit(
        of_methods("at_kd"), "defaults: {methods: {at_kd: {beta_schedule: linear}}}"
    ),
    "AT mode of at_kd": Edit(of_methods("at_kd"), "defaults: {methods: {at_kd: {at_mode: paper}}}"),
    "collapse of at_kd": Edit(
        of_methods("at_kd"), "defaults: {methods: {at_kd: {collapse: max_square}}}"
    ),
    "a training of kd's own": Edit(
        of_methods("kd"), "defaults: {methods: {kd: {training: {nesterov: true}}}}"
    ),
    # Methods and seeds.
    "a method added": Edit(
        of_new_method("soft"),
        "experiments: {tiny: {students: [baseline, kd, at, at_kd, fading_at, soft], "
        "methods: {soft: {alpha: 0.5, temperature: 8, kl_reduction: batchmean}}}}",
    ),
    "a method removed": Edit(report_of("tiny"), students("baseline", "at", "at_kd", "fading_at")),
    "a method renamed": Edit(
        of_new_method("soft"),
        "experiments: {tiny: {students: [baseline, soft, at, at_kd, fading_at], "
        "methods: {soft: {alpha: 0.9, temperature: 4, kl_reduction: batchmean}}}}",
    ),
    "students in another order": Edit(
        report_of("tiny"), students("fading_at", "at_kd", "at", "kd", "baseline")
    ),
    "a seed added": Edit(
        report_of("tiny").union(*(of_model("tiny", method, 2) for method in METHODS)),
        "experiments: {tiny: {seeds: [0, 1, 2]}}",
    ),
    "a seed removed": Edit(report_of("tiny"), "experiments: {tiny: {seeds: [1]}}"),
    "an experiment removed": Edit(NOTHING, "run: [tiny]"),
    "an experiment added that isn't run": Edit(NOTHING, "experiments: {more: {extends: tiny}}"),
    # Teacher and student.
    "learning rate of the teacher": Edit(
        of_methods("teacher", *LEARNERS, experiments=("tiny", "pictures"))
        # The baseline learns from no teacher, but is compared with one.
        | {job._replace(seed=seed) for job in WITH_TEACHER for seed in SEEDS},
        "experiments: {tiny: {teacher: {training: {learning_rate: 0.05}}}}",
    ),
    "a teacher for each seed": Edit(
        # That of the first seed stays as it is.
        of_model("tiny", "teacher", 1)
        | report_of("tiny")
        | {job for job in ALL_TINY if job.seed == 1 and job.model in LEARNERS}
        | {*(job._replace(seed=1) for job in WITH_TEACHER), TABLE._replace(seed=1)},
        "experiments: {tiny: {teacher: {per_seed: true}}}",
    ),
    "epochs of the students": Edit(
        of_methods(*METHODS, experiments=("tiny", "pictures")),
        "experiments: {tiny: {student: {training: {epochs: 3}}}}",
    ),
    "padding of the students' convolutions": Edit(
        of_methods(*METHODS, experiments=("tiny", "pictures")),
        "experiments: {tiny: {student: {padding_mode: reflect}}}",
    ),
    "width of the students": Edit(
        of_methods(*METHODS, experiments=("tiny", "pictures")),
        "experiments: {tiny: {student: {width: 2}}}",
    ),
    "two values swapped": Edit(ALL, "experiments: {tiny: {training: {epochs: 64, batch_size: 2}}}"),
    "two values swapped between teacher and student": Edit(
        ALL,
        "experiments: {tiny: {teacher: {depth: 16, width: 1}, student: {depth: 10, width: 2}}}",
    ),
    "padding of the students": Edit(
        of_methods(*METHODS, experiments=("tiny", "pictures")) | {TABLE},
        "experiments: {tiny: {student: {training: {padding: 2}}}}",
    ),
    "a value of the defaults": Edit(ALL, "defaults: {training: {weight_decay: 1.0e-4}}"),
    "threads of torch, which change sums": Edit(
        MODELS_JOBS | REPORTS | {TABLE},
        "defaults: {threads: 2}",
    ),
    "precision": Edit(
        MODELS_JOBS | REPORTS | {TABLE},
        "experiments: {tiny: {precision: bfloat16}}",
    ),
    "compiling": Edit(
        MODELS_JOBS | REPORTS | {TABLE},
        "experiments: {tiny: {compile: on}}",
    ),
    # Data.
    "clutter of the digits": Edit(
        ALL_TINY | {Job("prepare_data", "tiny")}, "data: {tiny: {clutter_pieces: 2}}"
    ),
    "fit of the pictures": Edit(
        ALL_PICTURES | {Job("prepare_data", "pictures")}, "data: {pictures: {fit: crop}}"
    ),
    "pictures held out": Edit(
        ALL_PICTURES | {Job("prepare_data", "pictures")},
        "data: {pictures: {validation_fraction: 0.5, validation_seed: 0}}",
    ),
    "a picture replaced": Edit(
        ALL_PICTURES | {Job("prepare_data", "pictures")}, change=other_picture
    ),
    "a picture replaced, with an old time": Edit(
        ALL_PICTURES | {Job("prepare_data", "pictures")},
        change=long_ago("my pictures/train/one/03.png", other_picture),
    ),
    "a picture removed": Edit(
        ALL_PICTURES | {Job("prepare_data", "pictures")},
        change=lambda tree: (tree / "my pictures/train/one/03.png").unlink(),
    ),
    # Evaluation, attention, figures.
    "batch of the evaluation": Edit(
        of("evaluate") | REPORTS, "defaults: {evaluation: {batch_size: 64}}"
    ),
    "number of attention images": Edit(
        of("extract_attention", "render_figures"), "defaults: {attention: {images_per_class: 2}}"
    ),
    "steps of deletion": Edit(
        of("measure_attention", "render_claims"), "defaults: {attention_metrics: {steps: 4}}"
    ),
    "no masks": Edit(
        # The pictures have none anyway.
        {job for job in ALL_TINY if job.rule in ("measure_attention", "render_claims")},
        "defaults: {attention_metrics: {object_mask: none}}",
    ),
    "a pair of methods": Edit(
        {Job("compare_methods", "tiny"), Job("render_claims", "tiny")},
        "defaults: {comparison: {pairs: [[at_kd, kd], [at_kd, at]]}}",
    ),
    "resamples of the comparison": Edit(
        of("compare_methods", "render_claims"), "defaults: {comparison: {resamples: 500}}"
    ),
    "resolution of the figures": Edit(
        of("render_figures", "compare_methods", "render_claims"),
        "experiments: {tiny: {figures: {dpi: 60}}}",
    ),
    "title": Edit(report_of("tiny"), "experiments: {tiny: {title: Other digits}}"),
    "style file": Edit(
        of("render_figures", "compare_methods", "render_claims"),
        change=append(STYLE, "lines.linewidth: 2\n"),
    ),
    "style file, with an old time": Edit(
        of("render_figures", "compare_methods", "render_claims"),
        change=long_ago(STYLE, append(STYLE, "lines.linewidth: 2\n")),
    ),
    "code of tabulate_targets.py": Edit(
        of_methods("kd") | {TABLE},
        change=append("workflow/scripts/tabulate_targets.py", "\nNEW = 1\n"),
    ),
    # What changes nothing.
    "pictures behind a link": Edit(NOTHING, change=link_pictures),
    "a comment in config.yaml": Edit(NOTHING, change=append("config.yaml", "# A remark.\n")),
    "order of the keys in config.yaml": Edit(NOTHING, change=reorder),
    "1.0 for 1, 0.90 for 0.9": Edit(
        NOTHING,
        "{defaults: {training: {momentum: 0.90}}, experiments: {tiny: {training: {padding: 1.0}}}}",
    ),
    "where the masks come from, said": Edit(
        NOTHING, "experiments: {pictures: {attention_metrics: {object_mask: none}}}"
    ),
    "what holds already, said again": Edit(NOTHING, "data: {tiny: {seed: 0, image_size: 12}}"),
    "a description and a range in the schema": Edit(
        NOTHING,
        change=replace(
            "workflow/schemas/config.schema.yaml",
            "description: a whole number of epochs from 1 to 10000\n        type: integer\n"
            "        minimum: 1\n        maximum: 10000",
            "description: a whole number of epochs from 1 to 20000\n        type: integer\n"
            "        minimum: 1\n        maximum: 20000",
        ),
    ),
    "cores and resources of the profile": Edit(
        NOTHING,
        change=lambda tree: (
            edit(tree / "profiles/default/config.yaml", "cores: all", "cores: 1"),
            edit(tree / "profiles/default/config.yaml", "gpu=1", "gpu=2"),
        ),
    ),
    "threads of a rule": Edit(
        NOTHING, change=replace("workflow/rules/data.smk", "threads: 1", "threads: 2")
    ),
    "memory of a rule": Edit(
        NOTHING, change=replace("workflow/rules/data.smk", "mem_mb=preparing_memory", "mem_mb=8000")
    ),
    "estimates of memory and time": Edit(
        NOTHING,
        change=lambda tree: (
            edit(
                tree / "workflow/rules/resources.smk", "TORCH_MEMORY = 1500", "TORCH_MEMORY = 9000"
            ),
            edit(tree / "workflow/rules/resources.smk", "START_MINUTES = 10", "START_MINUTES = 60"),
            edit(tree / "workflow/rules/resources.smk", "SPARE_MINUTES = 4", "SPARE_MINUTES = 9"),
        ),
    ),
    "runtime of a rule": Edit(
        NOTHING,
        change=replace("workflow/rules/data.smk", "runtime=short_runtime", "runtime=99"),
    ),
    "group of short steps": Edit(
        NOTHING,
        change=replace("workflow/rules/resources.smk", 'else "measure"', 'else "other"'),
    ),
    "a step that the login node no longer runs": Edit(
        NOTHING, change=replace("Snakefile", "    prepare_data,\n", "")
    ),
    "log of a rule": Edit(
        NOTHING,
        change=replace("workflow/rules/data.smk", "prepare_data/{data}.log", "data/{data}.log"),
    ),
    "benchmark of a rule": Edit(
        NOTHING,
        change=replace("workflow/rules/data.smk", "prepare_data/{data}.tsv", "data/{data}.tsv"),
    ),
    "touch of every file": Edit(NOTHING, change=touch_everything),
    "a comment in the losses": Edit(NOTHING, change=append(LOSSES, "\n# A remark.\n")),
    "docstrings of the losses": Edit(NOTHING, change=reword),
    "layout of the losses": Edit(NOTHING, change=reformat),
    # Code.
    "code of the losses": Edit(ALL, change=REAL_EDIT),
    "code of the losses, with an old time": Edit(ALL, change=long_ago(LOSSES, REAL_EDIT)),
    "code of data.py": Edit(ALL, change=append(f"{LIBRARY}/data.py", "\nNEW = 1\n")),
    "code of the image folders": Edit(
        ALL | PREPARE, change=append(f"{LIBRARY}/image_folder.py", "\nNEW = 1\n")
    ),
    "code of what table and figures read": Edit(
        REPORTS, change=append(f"{LIBRARY}/results.py", "\nNEW = 1\n")
    ),
    "code of evaluate.py": Edit(
        of("evaluate") | REPORTS, change=append("workflow/scripts/evaluate.py", "\nNEW = 1\n")
    ),
    "code of render_table.py": Edit(
        of("render_table"), change=append("workflow/scripts/render_table.py", "\nNEW = 1\n")
    ),
    "code of measure_attention.py": Edit(
        of("measure_attention", "render_claims"),
        change=append("workflow/scripts/measure_attention.py", "\nNEW = 1\n"),
    ),
    "code of compare_methods.py": Edit(
        of("compare_methods", "render_claims"),
        change=append("workflow/scripts/compare_methods.py", "\nNEW = 1\n"),
    ),
    "code of render_claims.py": Edit(
        of("render_claims"), change=append("workflow/scripts/render_claims.py", "\nNEW = 1\n")
    ),
    "code of render_figures.py": Edit(
        of("render_figures"), change=append("workflow/scripts/render_figures.py", "\nNEW = 1\n")
    ),
    "command of a rule": Edit(
        of("render_table"),
        change=replace("workflow/rules/report.smk", '" --csv {output', '"  --csv {output'),
    ),
}


# In the order of the chain.
RULES = [
    *("prepare_data", "train_teacher", "tabulate_targets", "train_student", "evaluate"),
    *("extract_attention", "render_table", "render_figures"),
]


def described(jobs: set[Job]) -> str:
    """Write a set of jobs in one line: rules, how many jobs of each, and of which models."""
    rules = []
    for rule in RULES:
        of_rule = [job for job in jobs if job.rule == rule]
        if of_rule:
            names = sorted({job.model or job.experiment for job in of_rule})
            rules.append(f"{rule} x {len(of_rule)} ({', '.join(names)})")
    return "; ".join(rules) or "nothing"


@pytest.fixture(scope="module")
def plans(
    finished: Path, snakemake: Snakemake, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, set[Job]]:
    """Return, for each edit of a finished tree, the jobs that Snakemake would run."""
    folder = tmp_path_factory.mktemp("edits")

    def plan(number: int, change: Edit) -> set[Job]:
        tree = shutil.copytree(finished, folder / str(number))
        (tree / "change.yaml").write_text(change.config)
        if change.change:
            change.change(tree)
        found = planned(snakemake, tree, "all", "--configfile", TINY, PICTURES, "change.yaml")
        shutil.rmtree(tree)
        return found

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = dict(zip(EDITS, pool.map(plan, range(len(EDITS)), EDITS.values()), strict=True))
    for name, jobs in found.items():
        print(f"{name} -> {described(jobs)}")
    return found


@pytest.mark.parametrize("name", EDITS)
def test_edit(plans: dict[str, set[Job]], name: str) -> None:
    """An edit reruns exactly the jobs whose results it can change."""
    assert plans[name] == EDITS[name].jobs
