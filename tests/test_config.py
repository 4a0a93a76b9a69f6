"""The config: what a mistake says, and how experiments are put together."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from snakemake.utils import update_config

from distillation.settings.base import SettingsError
from distillation.settings.config import check_files
from distillation.settings.experiment import Experiment, check_alike, load_experiments
from jobs import TINY, Snakemake
from shell import ROOT, run_in_shell

CONFIG = yaml.safe_load((ROOT / "config.yaml").read_text())

Load = Callable[..., dict[str, Experiment]]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Return a function that returns all experiments under an overlay, merged as Snakemake does."""

    def experiments(overlay: str = "{}") -> dict[str, Experiment]:
        file = tmp_path / "overlay.yaml"
        file.write_text(overlay)
        check_files([file])
        config: dict[str, Any] = {}
        for path in (file, ROOT / "config.yaml", file):
            update_config(config, yaml.safe_load(path.read_text()))
        return load_experiments(config)[1]

    return experiments


DIGITS = "experiments.digits"
# What is wrong, by mechanism: the overlay, and what the one line must have.
MISTAKES: dict[str, tuple[str, list[str]]] = {
    "unknown key": ("speed: 3", ["config: ", "'speed'", "run, data, defaults, experiments"]),
    "misspelt key": (
        "defaults: {training: {learning_rates: 0.1}}",
        ["training", "'learning_rates'", "did you mean learning_rate?", "momentum"],
    ),
    "misspelt key of an experiment": (
        "experiments: {digits: {sed: [1]}}",
        [f"{DIGITS}: ", "'sed'", "did you mean seeds?"],
    ),
    "misspelt setting of a term": (
        "experiments: {digits: {methods: {kd: {kd: {temprature: 4}}}}}",
        [f"{DIGITS}.methods.kd.kd: ", "'temprature'", "did you mean temperature?"],
    ),
    "misspelt term": (
        "defaults: {methods: {kd: {kdd: {weight: 1}}}}",
        ["methods.kd", "'kdd'", "did you mean kd?", "labels"],
    ),
    "unknown network": (
        "defaults: {student: {network: {wrn: null, densenet: {depth: 8}}}}",
        ["student.network", "'densenet'", "resnet, shufflenet_v1"],
    ),
    "two networks": (
        "experiments: {digits: {student: {network: {resnet: {depth: 8}}}}}",
        [f"{DIGITS}.student.network: ", "resnet and wrn", "one of", "{wrn: null}"],
    ),
    "depth between networks": (
        "experiments: {digits: {student: {network: {wrn: {depth: 12}}}}}",
        [f"{DIGITS}.student.network.wrn.depth: ", "12", "6 n + 4"],
    ),
    "missing key": (
        "experiments: {mine: {title: Mine}}",
        ["experiments.mine: ", "lacks data", "a name of a data set"],
    ),
    "missing setting of a format": (
        "data: {mine: {format: image_folder, source: x, image_size: 32, channels: 3}}",
        ["data.mine: ", "lacks fit", "crop, pad"],
    ),
    "number for a list": ("defaults: {seeds: 3}", ["defaults.seeds: ", "3", "a list"]),
    "number for a map": ("experiments: {digits: 3}", [f"{DIGITS}: ", "3", "a map"]),
    "nothing for a map": ("defaults: {training: }", ["training", "null", "a map"]),
    "negative seed": ("defaults: {seeds: [0, -1]}", ["defaults.seeds.1: ", "-1", "from 0"]),
    "seed given twice": ("defaults: {seeds: [1, 1]}", ["defaults.seeds: ", "1 twice"]),
    "word that is no choice": (
        "defaults: {training: {schedule: steps}}",
        ["training.schedule: ", "'steps'", "step, one_cycle, cosine"],
    ),
    "student that is no method": (
        "experiments: {digits: {students: [kd, fitnet]}}",
        [f"{DIGITS}.students: ", "'fitnet'", "baseline, baseline_long, kd, at"],
    ),
    "method that is called as a teacher": (
        "defaults: {methods: {my_teacher: {}}}",
        ["methods: ", "'my_teacher'", "doesn't end in teacher"],
    ),
    "name with upper case": (
        "experiments: {Mine: {title: Mine, data: digits}}",
        ["experiments: ", "'Mine'", "lower-case letters, digits and _"],
    ),
    "name of a rule": (
        "experiments: {evaluate: {title: Mine, data: digits}}",
        ["experiments.evaluate: ", "a rule"],
    ),
    "misspelt key of a method's training": (
        "defaults: {methods: {at_kd: {training: {epoch: 3}}}}",
        ["defaults.methods.at_kd.training: ", "'epoch'", "did you mean epochs?"],
    ),
    "attention from a table": (
        "defaults: {methods: {at_kd: {targets: table}}}",
        ["methods.at_kd: ", "targets table with at", "allowed: online"],
    ),
    "views of one's own with a table": (
        "defaults: {methods: {kd: {targets: table, training: {flip: false}}}}",
        ["methods.kd: ", "targets table with flip", "allowed: online"],
    ),
    "border of one's own with a table": (
        "defaults: {methods: {kd: {targets: table, training: {crop_border: zeros}}}}",
        ["methods.kd: ", "targets table with crop_border", "allowed: online"],
    ),
    "pair of an unknown method": (
        "defaults: {comparison: {pairs: [[at_kd, soft]]}}",
        ["comparison.pairs: ", "'soft'", "baseline, baseline_long, kd, at"],
    ),
    "masks of data that have none": (
        "experiments: {cifar10: {attention_metrics: {object_mask: stored}}}",
        ["experiments.cifar10.attention_metrics.object_mask: ", "stored", "above_zero"],
    ),
    "validation without seed": (
        "data: {cifar10: {validation_fraction: 0.1}}",
        ["data.cifar10: ", "validation_fraction, validation_seed", "both"],
    ),
    "Nesterov without momentum": (
        "experiments: {digits: {training: {momentum: 0}}}",
        [DIGITS, "nesterov true with momentum 0", "above 0"],
    ),
    "milestones after the end": (
        "experiments: {cifar10: {student: {training: {milestones: [60, 201]}}}}",
        ["experiments.cifar10", "milestones [201]", "200 epochs"],
    ),
    "teacher that is nowhere": (
        "experiments: {cifar10: {teacher: {from: mnist}}}",
        ["experiments.cifar10.teacher.from: ", "'mnist'", "digits, cifar10"],
    ),
    "network of a method's own teacher": (
        "experiments: {digits: {methods: {kd: {teacher: {network: {wrn: {depth: 11}}}}}}}",
        [f"{DIGITS}.methods.kd.teacher.network.wrn.depth: ", "11", "6 n + 4"],
    ),
    "seeds for another experiment's teacher": (
        "experiments: {mine: {extends: digits, teacher: {from: digits, per_seed: true}}}",
        ["experiments.mine.teacher.per_seed: ", "found true", "from digits"],
    ),
    "seed for another experiment's teacher, of a method": (
        "experiments: {mine: {extends: digits, teacher: {from: digits}}, "
        "more: {extends: mine, methods: {kd: {teacher: {seed: 3}}}}}",
        ["experiments.more.methods.kd.teacher.seed: ", "found 3", "from digits"],
    ),
    "null where the defaults have a map": (
        "experiments: {digits: {training: null}}",
        [f"{DIGITS}.training: ", "found null", "a map"],
    ),
    "misspelt extends": (
        "experiments: {mine: {extend: digits}}",
        ["experiments.mine: ", "'extend'", "did you mean extends?"],
    ),
    "misspelt key that is null": (
        "experiments: {cifar10: {student: {trainin: null}}}",
        ["experiments.cifar10.student: ", "'trainin'", "did you mean training?"],
    ),
    "network of a brought teacher": (
        "experiments: {digits: {teacher: {checkpoint: t.pt, network: {wrn: {depth: 11}}}}}",
        [f"{DIGITS}.teacher.network.wrn.depth: ", "11", "6 n + 4"],
    ),
    "list for an experiment to run": ("run: [[digits]]", ["run: ", "[['digits']]", "names"]),
    "number for a teacher": ("defaults: {teacher: 7}", ["defaults.teacher: ", "7", "a map"]),
    "text for an old weight": (
        "defaults: {methods: {kd: {alpha: x}}}",
        ["defaults.methods.kd: ", "kd: {weight: x}"],
    ),
    "teachers in a circle": (
        "experiments: {digits: {teacher: {from: mine, network: null}}, "
        "mine: {extends: digits, teacher: {from: digits}}}",
        [f"{DIGITS}.teacher.from: ", "circle", "digits, mine"],
    ),
    "teacher of two sources": (
        "experiments: {digits: {teacher: {from: mine}}, mine: {extends: digits}}",
        [f"{DIGITS}.teacher: ", "found from mine and network", "the other null"],
    ),
    "claim on an unknown method": (
        "experiments: {digits: {claims: {below: [at_kdd, baseline]}}}",
        [f"{DIGITS}.claims.below: ", "'at_kdd'", "baseline"],
    ),
    "claim on one method": (
        "experiments: {digits: {claims: {below: [at, at]}}}",
        [f"{DIGITS}.claims.below: ", "found at and at", "two methods"],
    ),
    "pair that is asked twice": (
        "experiments: {digits: {comparison: {pairs: [[at, kd], [kd, at]]}}}",
        [f"{DIGITS}.comparison.pairs: ", "found kd and at twice", "once"],
    ),
    "metric of teachers without a teacher": (
        "experiments: {digits: {students: [baseline], "
        "comparison: {metric: teacher_agreement}, claims: {below: null}}}",
        [f"{DIGITS}.comparison.metric: ", "teacher_agreement", "no student has one"],
    ),
    "one label for two methods": (
        "experiments: {digits: {students: [baseline, kd, kd_2], "
        "methods: {kd_2: {label: KD, kd: {}}}}}",
        [f"{DIGITS}.methods: ", "'KD' twice"],
    ),
    "name of a method": (
        "experiments: {digits: {methods: {AT2: {at: {}}}}}",
        [f"{DIGITS}.methods: ", "'AT2'", "lower-case"],
    ),
    "name of a folder for a method": (
        "experiments: {digits: {methods: {claims: {at: {}}}}}",
        [f"{DIGITS}.methods: ", "'claims'", "figures"],
    ),
    "weight that rises beyond the run": (
        "experiments: {digits: {students: [baseline, slow], "
        "methods: {slow: {dkd: {warmup_epochs: 6}}}}}",
        [f"{DIGITS}.methods.slow.dkd.warmup_epochs: ", "found 6 with 5 epochs", "0 to 5"],
    ),
    "unknown experiment to run": ("run: [mnist]", ["run: ", "'mnist'", "digits, cifar10"]),
    "unknown data set": (
        "experiments: {digits: {data: mnist}}",
        [f"{DIGITS}.data: ", "'mnist'", "digits, cifar10"],
    ),
    "unknown format": (
        "data: {mine: {format: mnist}}",
        ["data.mine.format: ", "'mnist'", "fashion_mnist"],
    ),
    "extends in a circle": (
        "experiments: {digits: {extends: mine}, mine: {extends: digits}}",
        [f"{DIGITS}.extends: ", "circle", "digits, mine"],
    ),
    "defaults that extend": ("defaults: {extends: cifar10_short}", ["defaults", "extends"]),
    "key given twice": (
        "defaults:\n  methods:\n    kd: {kd: {weight: 1}}\n    kd: {kd: {weight: 2}}\n",
        ["overlay.yaml", "'kd'", "twice", "line 3", "once"],
    ),
    # As it was spelt before terms and networks were plug-ins: the line has the new spelling.
    "old spelling of a method": (
        "defaults: {methods: {kd: {alpha: 0.9, temperature: 4, beta: 1000, at_mode: paper}}}",
        [
            "defaults.methods.kd: ",
            "labels: {weight: 0.1}, kd: {weight: 0.9, temperature: 4}, "
            "at: {weight: 1000, mode: paper}",
        ],
    ),
    "old spelling of a network": (
        "experiments: {digits: {student: {depth: 16, width: 2}}}",
        [f"{DIGITS}.student: ", "network: {wrn: {depth: 16, width: 2}}"],
    ),
    "half of an old spelling of a network": (
        "experiments: {digits: {student: {depth: 16}}}",
        [f"{DIGITS}.student: ", "network: {wrn: {depth: 16}}, with width beside it"],
    ),
    "old spelling of targets": (
        "defaults: {methods: {kd: {teacher_targets: table}}}",
        ["defaults.methods.kd: ", "write targets: table"],
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake(load: Load, mistake: str) -> None:
    """A mistake stops with one line that names the key, what was found and what is allowed."""
    overlay, fragments = MISTAKES[mistake]
    with pytest.raises(SettingsError) as stopped:
        load(overlay)
    message = str(stopped.value)
    assert "\n" not in message
    assert [fragment for fragment in fragments if fragment not in message] == [], message


def test_method_that_is_taken_away(load: Load) -> None:
    """Pairs and claims of the defaults that name a method which is null are left out."""
    experiment = load(
        "experiments: {mine: {extends: digits, students: [baseline, kd, at], "
        "methods: {at_kd: null, baseline_long: null}}}"
    )["mine"]
    assert {*experiment.methods}.isdisjoint({"at_kd", "baseline_long"})
    assert experiment.choices.claims.below is None
    pairs = {method for pair in experiment.pairs() for method in pair}
    assert pairs == {"baseline", "kd", "at"}


UNLIKE = """\
run: [digits, other]
experiments: {other: {extends: digits, comparison: {metric: cross_entropy}}}
"""
# What a dry run shows: the target, the overlay, and what the one line must have.
THROUGH_SNAKEMAKE: dict[str, tuple[str, str, list[str]]] = {
    **{name: ("all", *MISTAKES[name]) for name in ("misspelt term", "key given twice")},
    # What isn't wrong in the config alone: it is found before anything is trained, or removed.
    "folder of images that isn't there": (
        "all",
        "data: {mine: {format: image_folder, source: nowhere, image_size: 32, channels: 3, "
        "fit: pad}}\nexperiments: {digits: {data: mine}}",
        ["data.mine.source: ", "nowhere", "no such folder"],
    ),
    "term that a pair can't serve": (
        "all",
        "experiments: {digits: {students: [baseline, own], methods: {own: {hint: {stage: 9}}}}}",
        [f"{DIGITS}.methods.own: hint: ", "stage is 9, but the student has 3"],
    ),
    "overview of unlike metrics": (
        "overview",
        UNLIKE,
        ["other.comparison.metric: ", "found cross_entropy", "digits", "allowed", "top1_accuracy"],
    ),
}


@pytest.mark.workflow
@pytest.mark.parametrize("mistake", THROUGH_SNAKEMAKE)
def test_mistake_through_snakemake(
    copy_project: Callable[[Path], Path], tmp_path: Path, snakemake: Snakemake, mistake: str
) -> None:
    """Snakemake ends with 1 and shows the mistake's one line, without a traceback."""
    target, overlay, fragments = THROUGH_SNAKEMAKE[mistake]
    project = copy_project(tmp_path)
    (project / "overlay.yaml").write_text(overlay)
    done = snakemake(project, "-n", target, "--configfile", "overlay.yaml")
    assert done.returncode == 1
    said = [line for line in done.stdout.splitlines() if "rror" in line]
    assert len(said) == 1, done.stdout
    assert [fragment for fragment in fragments if fragment not in said[0]] == [], said
    assert 'File "' not in done.stdout


def test_experiments_of_an_overview_are_alike(load: Load) -> None:
    """Experiments that stand in one table are compared by one metric."""
    found = load(UNLIKE)
    check_alike([found["digits"], found["cifar10"], found["cifar100"]])
    check_alike([found["other"]])
    for pair in (("digits", "other"), ("other", "digits")):
        with pytest.raises(SettingsError, match=rf"^experiments\.{pair[1]}\.comparison\.metric: "):
            check_alike([found[name] for name in pair])


def test_real_config(load: Load) -> None:
    """config.yaml's experiments are all complete, and the tiny one leaves them as they are."""
    before, after = load(), load((ROOT / TINY).read_text())
    assert {*before} == {*CONFIG["experiments"]}
    assert {*after} - {*before} == {"tiny"}
    for name, experiment in before.items():
        assert after[name].choices == experiment.choices


def test_students_on_a_gpu_train_together(load: Load) -> None:
    """Wherever config.yaml asks for a GPU, a seed's students share one job, and its passes."""
    on_gpu = [name for name, each in load().items() if each.on_gpu]
    assert on_gpu == ["cifar10", "cifar100", "fashion_mnist", "cifar100_240"]
    for name in on_gpu:
        assert load()[name].together == ["baseline", "kd", "at", "at_kd"], name


def test_anchors(load: Load) -> None:
    """An overlay may use YAML's anchors and merge keys."""
    experiments = load(
        "experiments:\n"
        "  digits: &short {training: {epochs: 160}}\n"
        "  cifar10: {<<: *short, seeds: [7]}\n"
    )
    assert experiments["cifar10"].training("teacher").epochs == 160
    assert experiments["cifar10"].choices.seeds == [7]


def test_defaults_are_kept(load: Load) -> None:
    """An experiment has what it names itself, and the defaults for all else."""
    before, after = CONFIG["defaults"]["training"], load()["cifar10_short"].choices.training
    differing = {name for name, value in after.items() if value != before[name]}
    assert differing == {"epochs", "schedule", "learning_rate", "nesterov", "gamma_init"}
    assert after["epochs"] == 12


def test_extends(load: Load) -> None:
    """What an experiment extends may extend another in turn; the nearest value wins."""
    experiments = load(
        "experiments:\n"
        "  longer: {extends: fashion_mnist_short, training: {epochs: 30}}\n"
        "  seeded: {extends: longer, seeds: [5]}\n"
    )
    seeded = experiments["seeded"].choices
    assert (seeded.seeds, seeded.data, seeded.title) == (
        *([5], "fashion_mnist", experiments["fashion_mnist_short"].choices.title),
    )
    assert seeded.training == experiments["cifar10_short"].choices.training | {"epochs": 30}


def test_remark_is_not_inherited(load: Load) -> None:
    """What is said of an experiment isn't said of those that extend it."""
    experiments = load("experiments: {digits: {remark: Small.}, mine: {extends: digits}}")
    assert [experiments[name].choices.remark for name in ("digits", "mine")] == ["Small.", None]


def test_lists_are_replaced(load: Load) -> None:
    """A list in an overlay takes the place of the one before, whole."""
    experiments = load("experiments: {digits: {students: [at], seeds: [4]}}")
    assert experiments["digits"].choices.students == ["at"]
    assert experiments["digits"].choices.seeds == [4]
    assert experiments["cifar10"].choices.seeds == [0, 1, 2]


def test_one_setting_of_a_term(load: Load) -> None:
    """An experiment may change one setting of a term that the defaults define, or add a term."""
    experiments = load(
        "experiments: {digits: {methods: {kd: {kd: {temperature: 2}, at: {weight: 3}}}}}"
    )
    own, others = (experiments[name].terms["kd"] for name in ("digits", "cifar10"))
    assert own["kd"].plain() == others["kd"].plain() | {"temperature": 2}
    assert own["at"].weight == 3
    assert "at" not in others


def test_method_that_fits_where_it_is_trained(load: Load) -> None:
    """A method's own training has to fit the protocols of the experiments that train it."""
    # Five epochs are too few for the milestones of the others.
    experiments = load(
        "defaults: {methods: {short: {training: {epochs: 5}}}}\n"
        "experiments: {digits: {students: [baseline, short]}}\n"
    )
    assert experiments["digits"].training("short").epochs == 5


@pytest.mark.workflow
def test_source_that_is_not_there(copy_project: Callable[[Path], Path], tmp_path: Path) -> None:
    """A folder of images that isn't there doesn't hold up other experiments, whose plan is told."""
    project = copy_project(tmp_path)
    (project / "overlay.yaml").write_text(
        "data:\n"
        "  mine: {format: image_folder, source: nowhere, image_size: 32, channels: 3, fit: pad}\n"
        "experiments: {mine: {title: Mine, data: mine}}\n"
    )
    # The plan is told when the program ends, which a fork of the tests doesn't.
    said = run_in_shell(project, "snakemake -n digits --configfile overlay.yaml 2>&1")
    # The target is a job to Snakemake, and no step.
    total = int(re.findall(r"^total +(\d+)$", said, re.MULTILINE)[-1])
    assert f"\nplanned: {total - 1} jobs, " in said
