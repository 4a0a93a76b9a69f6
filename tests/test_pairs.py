"""The overlays of pairs of networks: what they train is what the published table has."""

import csv
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from snakemake.utils import update_config

from distillation.settings.estimates import plan_line, time_left, weight
from distillation.settings.experiment import TEACHER, Experiment, load_experiments
from shell import ROOT

RESULTS = ROOT / "docs/results"
BRIEF = ["baseline", "kd", "at", "dist", "dkd"]
METHODS = [*BRIEF, "kd_standardised"]
# Published by nobody: of these no figure stands beside ours.
UNPUBLISHED = {
    ("ResNet50", "vgg8"): {"dkd", "kd_standardised"},
    ("resnet32x4", "ShuffleNetV1"): {"kd_standardised"},
    ("WRN-40-2", "ShuffleNetV1"): {"kd_standardised"},
}
# Students that learn at 0.01. arXiv 1910.10699's code, train_student.py.
SLOW = ("MobileNetV2", "ShuffleNetV1", "ShuffleNetV2")
# beta of DKD by pair; 8 elsewhere. The configs of arXiv 2203.08679's code.
OTHER_WEIGHTS = {
    ("WRN-40-2", "WRN-16-2"): 6, ("WRN-40-2", "WRN-40-1"): 6, ("resnet56", "resnet20"): 2,
    ("resnet110", "resnet32"): 2, ("vgg13", "vgg8"): 6, ("vgg13", "MobileNetV2"): 6,
}  # fmt: skip
# Weight and temperature of KD+LS; 9 and 2 elsewhere. Names of the logs of arXiv 2403.01427's code.
STANDARDISED = {
    ("vgg13", "vgg8"): (9, 3),
    ("vgg13", "MobileNetV2"): (9, 3),
    ("ResNet50", "MobileNetV2"): (1, 3),
}


def pairs_of(overlay: Path) -> dict[tuple[str, str], Experiment]:
    """Return the experiments that an overlay runs, by the titles of teacher and student."""
    config: dict[str, Any] = {}
    for file in (ROOT / "config.yaml", overlay):
        update_config(config, yaml.safe_load(file.read_text()))
    checked, experiments = load_experiments(config)
    found = {}
    for experiment in (experiments[name] for name in checked.run):
        teacher = experiment.network_of(TEACHER)
        assert teacher
        found[teacher.settings.title, experiment.student.settings.title] = experiment
    assert len(found) == len(checked.run)
    return found


@pytest.fixture(scope="module")
def pairs() -> dict[tuple[str, str], Experiment]:
    """Return the pairs of the table."""
    return pairs_of(RESULTS / "pairs.yaml")


def test_what_is_published_stands_beside_a_pair(pairs: dict[tuple[str, str], Experiment]) -> None:
    """Each published figure is of data, networks and a method that are trained, and once."""
    with (RESULTS / "published_pairs.csv").open() as file:
        rows = [*csv.DictReader(file)]
    told = [(row["data"], row["teacher"], row["student"], row["method"]) for row in rows]
    assert len(told) == len({*told})
    assert {row["epoch"] for row in rows} <= {"last", "best", "not stated"}
    trained = {
        (one.choices.data, *pair, method) for pair, one in pairs.items() for method in METHODS
    }
    assert {*told} <= trained
    assert trained - {*told} == {
        ("cifar100", *pair, method) for pair, methods in UNPUBLISHED.items() for method in methods
    }


def test_protocol_of_the_table(pairs: dict[tuple[str, str], Experiment]) -> None:
    """Each training is by the protocol that the published columns had."""
    for (teacher, student), experiment in pairs.items():
        assert experiment.students == METHODS == experiment.together
        for model in (*METHODS, *experiment.teachers):
            told = experiment.protocol(model)
            slow = model in METHODS and student in SLOW
            assert told.learning_rate == (0.01 if slow else 0.05)
            assert (told.epochs, told.batch_size) == (240, 64)
            assert (told.schedule, told.milestones) == ("step", [151, 181, 211])
            assert (told.learning_rate_decay, told.reset_momentum) == (0.1, False)
            assert (told.momentum, told.nesterov, told.weight_decay) == (0.9, False, 5e-4)
            assert (told.padding, told.crop_border, told.flip) == (4, "zeros", True)
        terms = {
            method: {name: term.plain() for name, term in experiment.terms[method].items()}
            for method in METHODS
        }
        assert {name: each["labels"]["weight"] for name, each in terms.items()} == {
            **dict.fromkeys(METHODS, 1), "kd": 0.1, "kd_standardised": 0.1,
        }  # fmt: skip
        assert (terms["kd"]["kd"]["weight"], terms["kd"]["kd"]["temperature"]) == (0.9, 4)
        assert (terms["at"]["at"]["weight"], terms["at"]["at"]["stages"]) == (1000, "by_index")
        other_weight = OTHER_WEIGHTS.get((teacher, student), 8)
        assert terms["dkd"]["dkd"]["other_weight"] == other_weight
        of_z_scores = terms["kd_standardised"]["kd"]
        assert of_z_scores["standardise"]
        found = (of_z_scores["weight"], of_z_scores["temperature"])
        assert found == STANDARDISED.get((teacher, student), (9, 2))
        assert experiment.pairs()[len(METHODS) - 1 :] == [[each, "kd"] for each in METHODS[2:]]


def test_each_teacher_is_trained_once(pairs: dict[tuple[str, str], Experiment]) -> None:
    """Pairs of one teacher share one training of it."""
    files = {
        (teacher, experiment.trained_file(TEACHER, 0)) for (teacher, _), experiment in pairs.items()
    }
    assert len(files) == len({teacher for teacher, _ in files}) == 6
    own = Counter(experiment.teachers[TEACHER].from_ is None for experiment in pairs.values())
    assert own == {True: 6, False: 6}


def test_brief_pairs() -> None:
    """The brief pairs have methods and seeds of the table's, on fewer images."""
    brief = pairs_of(RESULTS / "pairs_brief.yaml")
    assert len(brief) == 3
    for experiment in brief.values():
        assert experiment.choices.data == "cifar10_fifth"
        assert experiment.students == BRIEF == experiment.together
        assert experiment.choices.seeds == [0, 1, 2]


def test_plan() -> None:
    """A dry run says how many jobs there are, their hours, and what these assume."""
    line = plan_line([30, 50, 0, 45], ["cpu", "cuda"])
    assert line.startswith("planned: 4 jobs, at most 3 hours one after the other by the limits")
    assert line.endswith("then 2.5e+10 operations/s (cpu) and 1e+12 operations/s (cuda)")


def test_time_left() -> None:
    """What is left is told from what ended in how long, by the jobs' estimates, once enough has."""
    total = weight(10) + weight(20) + weight(40)
    # Starting alone counts little beside a training of 30 minutes.
    assert weight(0) == weight(10) < weight(20) / 50
    assert time_left(total, total, 5) == ""
    assert time_left(total - weight(10), total, 5) == ""
    assert time_left(weight(40), total, 600) == ", about 30 min left"
    assert time_left(weight(40), total, 3600) == ", about 3.0 h left"
    assert time_left(weight(10), total, 60) == ", about 1 min left"
    assert time_left(0, total, 600) == ""
