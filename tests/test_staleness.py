"""Which jobs an edit makes stale: one change at a time after a finished run, then a dry run."""

import ast
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from jobs import (
    ALL,
    ALL_PICTURES,
    ALL_SWEEP,
    ALL_TINY,
    METHODS,
    MORE,
    SEEDS,
    TABLE,
    TINY,
    TOGETHER,
    Job,
    Snakemake,
    edit,
    measure_of,
    of_model,
    planned,
    report_of,
)

pytestmark = pytest.mark.workflow

LIBRARY = "workflow/scripts/distillation"
STYLE = "workflow/scripts/figures.mplstyle"
AT = f"{LIBRARY}/terms/at.py"
REPORTS = {job for job in ALL if job.rule.startswith(("render", "compare"))}
NOTHING: set[Job] = set()


class Edit(NamedTuple):
    """A change of the tree or of the config, and the jobs that it should make stale."""

    jobs: set[Job]
    config: str = "{}"
    change: Callable[[Path], object] | None = None


def of(*rules: str) -> set[Job]:
    """Return the jobs of some rules in all experiments, those of students together too."""
    return {job for job in ALL if job.rule.removesuffix("_students") in rules}


def prepare(data: str) -> set[Job]:
    """Return the job that prepares a data set."""
    return {Job("prepare_data", data)}


def follow(experiment: str, *models: str) -> set[Job]:
    """Return the jobs that train and measure models of an experiment, and report on them."""
    own = {job for job in ALL if job.experiment == experiment and job.model in models}
    measured = measure_of(experiment, *(job.seed for job in own))
    return own | measured | report_of(experiment) if own else NOTHING


def of_new_method(name: str) -> set[Job]:
    """Return the jobs of a method that the finished run doesn't have."""
    models = (of_model("tiny", name, seed) for seed in SEEDS)
    return (report_of("tiny") | measure_of("tiny", *SEEDS)).union(*models)


def measured(experiment: str) -> set[Job]:
    """Return the jobs of an experiment but for its trainings and tables of targets."""
    others = ("train_teacher", "train_student", "train_students", "tabulate_targets")
    return {job for job in ALL if job.experiment == experiment and job.rule not in others}


def students(*names: str) -> str:
    """Return the config that trains these students in the tiny experiment."""
    return json.dumps({"experiments": {"tiny": {"students": names}}})


def replace(file: str, before: str, after: str) -> Callable[[Path], None]:
    """Make the change that replaces a text that a file has once."""
    return lambda tree: edit(tree / file, before, after)


def rewrite(folder: Path, *changes: tuple[str, str]) -> None:
    """Replace texts wherever the rules have them."""
    for before, after in changes:
        files = [file for file in folder.glob("*.smk") if before in file.read_text()]
        assert files, before
        for file in files:
            file.write_text(file.read_text().replace(before, after))


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
    content = yaml.safe_load(file.read_text())
    # The table has metrics in the config's order.
    metrics = content["defaults"]["evaluation"].pop("metrics")
    text = yaml.safe_dump(content, sort_keys=True, width=1000)
    metrics = yaml.safe_dump(metrics, default_flow_style=True, sort_keys=False, width=1000)
    file.write_text(text.replace("  evaluation:\n", f"  evaluation:\n    metrics: {metrics}"))


def reword(tree: Path) -> None:
    """Say all docstrings of a module otherwise, lay it out as Python does, and add a comment."""
    file = tree / AT
    text, count = re.subn(r'^( *)"""[A-Z]\w+ ', r'\1"""Otherwise ', file.read_text(), flags=re.M)
    assert count > 2
    file.write_text(f"{ast.unparse(ast.parse(text))}\n# A remark.\n")


def other_picture(tree: Path) -> None:
    """Put one training image in another's place."""
    folder = tree / "my pictures/train/one"
    shutil.copyfile(folder / "04.png", folder / "03.png")


def link_pictures(tree: Path) -> None:
    """Move a folder of images away and put a link in its place."""
    folder = tree / "my pictures/train"
    folder.rename(tree / "moved")
    folder.symlink_to(tree / "moved", target_is_directory=True)


# The pictures' students are trained together, so an edit of one's term trains both.
AT_STUDENTS = (
    follow("tiny", "at_kd", "fading_at")
    | TOGETHER | measure_of("pictures", 0) | report_of("pictures")
    | follow("sweep", "at")
)  # fmt: skip
KD_STUDENTS = follow("tiny", "kd", "at_kd") | follow("sweep", "twin")
# A baseline isn't trained anew for another teacher, but compared with it.
NEW_TEACHER = {
    job
    for job in ALL
    if not (job.model == "baseline" and job.rule in ("train_student", "extract_attention"))
}

EDITS = {
    # Numbers of the config.
    "setting of a term": Edit(
        follow("tiny", "at_kd"), "defaults: {methods: {at_kd: {kd: {temperature: 2}}}}"
    ),
    "term added to a method": Edit(
        follow("tiny", "at_kd"), "defaults: {methods: {at_kd: {hint: {}}}}"
    ),
    "targets of kd": Edit(
        follow("tiny", "kd"), "experiments: {tiny: {methods: {kd: {targets: online}}}}"
    ),
    "a training of fading_at's own": Edit(
        follow("tiny", "fading_at"),
        "experiments: {tiny: {methods: {fading_at: {training: {nesterov: true}}}}}",
    ),
    "a method added": Edit(
        of_new_method("soft"),
        "experiments: {tiny: {students: [baseline, kd, at_kd, fading_at, soft], "
        "methods: {soft: {kd: {temperature: 8}}}}}",
    ),
    "a method removed": Edit(
        report_of("tiny") | measure_of("tiny", *SEEDS), students("baseline", "kd", "at_kd")
    ),
    "a seed added": Edit(
        (report_of("tiny") | measure_of("tiny", 2)).union(
            *(of_model("tiny", method, 2) for method in METHODS)
        ),
        "experiments: {tiny: {seeds: [0, 1, 2]}}",
    ),
    "a seed removed": Edit(
        report_of("tiny") | measure_of("tiny", 0), "experiments: {tiny: {seeds: [1]}}"
    ),
    "an experiment removed": Edit(NOTHING, "run: [tiny]"),
    "learning rate of the teacher": Edit(
        NEW_TEACHER, "experiments: {tiny: {teacher: {training: {learning_rate: 0.05}}}}"
    ),
    "network of the students": Edit(
        follow("tiny", *METHODS) | follow("sweep", "at", "twin"),
        "experiments: {tiny: {student: {network: {wrn: {width: 2}}}}}",
    ),
    "two values swapped": Edit(ALL, "experiments: {tiny: {training: {epochs: 64, batch_size: 2}}}"),
    "a value of the defaults": Edit(ALL, "defaults: {training: {weight_decay: 1.0e-4}}"),
    "data of the digits": Edit(
        ALL_TINY | ALL_SWEEP | prepare("tiny"), "data: {tiny: {clutter_pieces: 2}}"
    ),
    "a picture replaced, with an old time": Edit(
        ALL_PICTURES | prepare("pictures"),
        change=long_ago("my pictures/train/one/03.png", other_picture),
    ),
    "batch of the evaluation": Edit(
        of("evaluate") | REPORTS, "defaults: {evaluation: {batch_size: 64}}"
    ),
    "a metric removed": Edit(
        of("evaluate") | REPORTS, "defaults: {evaluation: {metrics: {top5_accuracy: null}}}"
    ),
    "number of attention images": Edit(
        of("extract_attention", "render_figures", "render_index"),
        "defaults: {attention: {images_per_class: 2}}",
    ),
    "no masks": Edit(
        # The pictures have none anyway.
        {
            job
            for job in ALL_TINY | ALL_SWEEP
            if job.rule in ("measure_attention", "render_claims", "render_index")
        },
        "defaults: {attention_metrics: {object_mask: none}}",
    ),
    "resamples of the comparison": Edit(
        of("compare_methods", "render_claims", "render_index"),
        "experiments: {tiny: {comparison: {resamples: 500}}}",
    ),
    "title": Edit(report_of("tiny"), "experiments: {tiny: {title: Other digits}}"),
    "remark": Edit(
        {Job("render_index", "tiny")}, "experiments: {tiny: {remark: Chosen to be small.}}"
    ),
    "style file, with an old time": Edit(
        of("render_figures", "compare_methods", "render_claims", "render_index"),
        change=long_ago(STYLE, append(STYLE, "lines.linewidth: 2\n")),
    ),
    "label of a term": Edit(REPORTS, change=replace(AT, '= "AT"', '= "A T"')),
    # Code: the steps that use it, and what follows.
    "code of at, with an old time": Edit(
        AT_STUDENTS, change=long_ago(AT, replace(AT, "def forward", "NEW = 1\n\n    def forward"))
    ),
    "code of kd": Edit(KD_STUDENTS, change=append(f"{LIBRARY}/terms/kd.py", "\nNEW = 1\n")),
    "code of resnet": Edit(
        ALL_PICTURES, change=append(f"{LIBRARY}/networks/resnet.py", "\nNEW = 1\n")
    ),
    "code of wrn": Edit(
        ALL_TINY | ALL_SWEEP, change=append(f"{LIBRARY}/networks/wrn.py", "\nNEW = 1\n")
    ),
    "code of the image folders": Edit(
        ALL_PICTURES | prepare("pictures"),
        change=append(f"{LIBRARY}/formats/image_folder.py", "\nNEW = 1\n"),
    ),
    "code of a metric": Edit(
        of("evaluate") | REPORTS,
        change=append(f"{LIBRARY}/metrics/top5_accuracy.py", "\nNEW = 1\n"),
    ),
    "what a metric declares": Edit(
        of("evaluate") | REPORTS,
        change=replace(
            f"{LIBRARY}/metrics/top5_accuracy.py",
            "decimals: ClassVar[int] = 2",
            "decimals: ClassVar[int] = 3",
        ),
    ),
    "code of the training loop": Edit(
        ALL, change=append(f"{LIBRARY}/training/loop.py", "\nNEW = 1\n")
    ),
    "code of what table and figures read": Edit(
        REPORTS, change=append(f"{LIBRARY}/reporting/trained.py", "\nNEW = 1\n")
    ),
    "code of tabulate_targets.py": Edit(
        follow("tiny", "kd") | {TABLE},
        change=append("workflow/scripts/tabulate_targets.py", "\nNEW = 1\n"),
    ),
    "code of measure_attention.py": Edit(
        of("measure_attention", "render_claims", "render_index"),
        change=append("workflow/scripts/measure_attention.py", "\nNEW = 1\n"),
    ),
    "code of render_table.py": Edit(
        of("render_table", "render_index"),
        change=append("workflow/scripts/render_table.py", "\nNEW = 1\n"),
    ),
    "command of a rule": Edit(
        of("render_table", "render_index"),
        change=replace("workflow/rules/report.smk", '" --summary {output', '"  --summary {output'),
    ),
}


# Each changes nothing, so all of them together don't, one after the other. What gives files new
# times comes first, lest it hides those of another, and what rewrites a file comes last.
HARMLESS = {
    "touch of every file": Edit(NOTHING, change=touch_everything),
    "an experiment added that isn't run": Edit(NOTHING, "experiments: {more: {extends: tiny}}"),
    "pictures behind a link": Edit(NOTHING, change=link_pictures),
    "comments and order of the keys in config.yaml": Edit(NOTHING, change=reorder),
    "1.0 for 1, 0.90 for 0.9": Edit(
        NOTHING,
        "{defaults: {training: {momentum: 0.90}}, experiments: {tiny: {training: {padding: 1.0}}}}",
    ),
    "what holds already, said again": Edit(
        NOTHING,
        "{data: {tiny: {seed: 0}}, defaults: {methods: {at_kd: {at: {weight: 1000.0}}}}}",
    ),
    "help text and range of a setting": Edit(
        NOTHING,
        change=replace(
            f"{LIBRARY}/settings/training.py",
            'ge=0, description="passes over the training split',
            'ge=0, le=9999, description="rounds over the training split',
        ),
    ),
    "help text of a plug-in's setting": Edit(
        NOTHING, change=replace(AT, 'description="factor', 'description="that is, factor')
    ),
    "wiring of a rule: threads, memory, runtime, log, benchmark, group": Edit(
        NOTHING,
        change=lambda tree: rewrite(
            tree / "workflow/rules",
            ("threads: 1\n", "threads: 2\n"),
            ("attempt * 1000", "attempt * 2000"),
            ("estimates.START_MINUTES", "99"),
            ("logs/evaluate/", "logs/evaluated/"),
            ('else "measure_teacher"', 'else "other"'),
        ),
    ),
    "estimates of memory and time": Edit(
        NOTHING,
        change=replace(
            f"{LIBRARY}/settings/estimates.py", "TORCH_MEMORY = 1500", "TORCH_MEMORY = 9000"
        ),
    ),
    "a plug-in of each kind that nobody uses": Edit(
        NOTHING,
        change=lambda tree: [
            shutil.copyfile(tree / LIBRARY / kind / f"{name}.py", tree / LIBRARY / kind / "new.py")
            for kind, name in (
                ("terms", "at"),
                ("networks", "wrn"),
                ("formats", "digits"),
                ("metrics", "cross_entropy"),
            )
        ],
    ),
    "comments, docstrings and layout of a term": Edit(NOTHING, change=reword),
}


def stale(finished: Path, folder: Path, snakemake: Snakemake, *edits: Edit) -> set[Job]:
    """Return the jobs that are stale after edits of a finished run, in a new folder."""
    tree = shutil.copytree(finished, folder)
    overlays = []
    for number, each in enumerate(edits):
        overlays.append(f"change_{number}.yaml")
        (tree / overlays[-1]).write_text(each.config)
        if each.change:
            each.change(tree)
    found = planned(snakemake, tree, "all", "--configfile", TINY, MORE, *overlays)
    shutil.rmtree(tree)
    return found


@pytest.mark.parametrize("name", EDITS)
def test_edit(finished: Path, tmp_path: Path, snakemake: Snakemake, name: str) -> None:
    """An edit reruns exactly the jobs whose results it can change."""
    change = EDITS[name]
    found = stale(finished, tmp_path / "tree", snakemake, change)
    assert sorted(found - change.jobs) == [], "reruns without need"
    assert sorted(change.jobs - found) == [], "isn't rerun"


def test_edits_that_change_nothing(finished: Path, tmp_path: Path, snakemake: Snakemake) -> None:
    """What can't change a result reruns nothing; if it does, the edit is told."""
    assert not stale(finished, tmp_path / "tree", snakemake, *HARMLESS.values()), [
        name
        for name, edit in HARMLESS.items()
        if stale(finished, tmp_path / "tree", snakemake, edit)
    ]
