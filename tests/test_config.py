"""The config: what is accepted, what a mistake says, and how experiments are put together."""

import contextlib
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
import yaml
from snakemake.utils import update_config

import render_figures
from distillation.formats.image_folder import Fit
from distillation.networks.wrn import GammaInit
from distillation.terms.losses import ATMode, Collapse, KLReduction
from distillation.training.loop import BetaSchedule, Schedule
from distillation.training.precision import Precision

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "config.yaml"
SCHEMA = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())

Snakemake = Callable[..., subprocess.CompletedProcess[str]]
Load = Callable[..., dict[str, dict[str, Any]]]

CODE = (ROOT / "workflow/rules/config.smk").read_text()


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Return a function that runs workflow/rules/config.smk over config.yaml and an overlay.

    It returns the experiments. The file is plain Python, so it needs no Snakemake around it, whose
    start takes seconds; the last tests run the same through Snakemake.
    """
    monkeypatch.setattr(sys, "path", sys.path.copy())

    def load_experiments(overlay: str = "{}") -> dict[str, dict[str, Any]]:
        file = tmp_path / "overlay.yaml"
        file.write_text(overlay)
        # As Snakemake does it: the overlay's keys come first, and its values win.
        config: dict[str, Any] = {}
        for path in (file, CONFIG, file):
            update_config(config, yaml.safe_load(path.read_text()))
        workflow = SimpleNamespace(
            basedir=str(ROOT), configfiles=[str(CONFIG)], overwrite_configfiles=[file]
        )
        names: dict[str, Any] = {"workflow": workflow, "config": config}
        exec(compile(CODE, "config.smk", "exec"), names)  # noqa: S102 the project's own code
        return names["EXPERIMENTS"]

    return load_experiments


# What is wrong: the overlay, and what the one line must have: the key, what was found, what is
# allowed.
MISTAKES: dict[str, tuple[str, list[str]]] = {
    "attention from a table": (
        "defaults: {methods: {at_kd: {teacher_targets: table}}}",
        ["methods.at_kd", "teacher_targets table with beta", "allowed: online"],
    ),
    "table without distillation": (
        "defaults: {methods: {at: {teacher_targets: table}}}",
        ["methods.at", "teacher_targets without alpha"],
    ),
    "unknown key": (
        "speed: 3",
        ["config: ", "'speed'", "allowed: run, data, defaults, experiments"],
    ),
    "misspelt key": (
        "defaults: {training: {learning_rates: 0.1}}",
        ["defaults.training: ", "'learning_rates'", "did you mean learning_rate?", "momentum"],
    ),
    "misspelt key of an experiment": (
        "experiments: {digits: {student: {witdh: 1}}}",
        ["experiments.digits.student: ", "'witdh'", "did you mean width?"],
    ),
    "misspelt weight": (
        "defaults: {methods: {kd: {temprature: 4}}}",
        ["defaults.methods.kd: ", "'temprature'", "did you mean temperature?"],
    ),
    "number read as text": (
        "defaults: {training: {learning_rate: 1e-3}}",
        ["defaults.training.learning_rate: ", "the text '1e-3'", "1.0e-3", "above 0, up to 100"],
    ),
    "fraction for a whole number": (
        "defaults: {training: {epochs: 1.5}}",
        ["defaults.training.epochs: ", "1.5", "a whole number", "1 to 10000"],
    ),
    "text for a switch": (
        "defaults: {training: {flip: 'no'}}",
        ["defaults.training.flip: ", "'no'", "true or false"],
    ),
    "number for a list": (
        "defaults: {seeds: 3}",
        ["defaults.seeds: ", "3", "a list of one or more whole numbers"],
    ),
    "number for a map": (
        "defaults: {training: 3}",
        ["defaults.training: ", "3", "a map"],
    ),
    "nothing for a map": (
        "defaults: {training: }",
        ["defaults.training: ", "null", "a map"],
    ),
    "nothing for an experiment": (
        "experiments: {digits: }",
        ["experiments.digits: ", "null", "a map"],
    ),
    "number below its range": (
        "defaults: {training: {learning_rate: 0}}",
        ["defaults.training.learning_rate: ", "found 0", "above 0, up to 100"],
    ),
    "number above its range": (
        "defaults: {figures: {dpi: 1200}}",
        ["defaults.figures.dpi: ", "1200", "50 to 600"],
    ),
    "pair of an unknown method": (
        "defaults: {comparison: {pairs: [[at_kd, soft]]}}",
        ["comparison.pairs: ", "'soft'", "baseline, kd, at, at_kd"],
    ),
    "method compared with itself": (
        "defaults: {comparison: {pairs: [[kd, kd]]}}",
        ["defaults.comparison.pairs.0: ", "two different methods"],
    ),
    "collapse that has a sign": (
        "defaults: {attention_metrics: {collapses: [sum]}}",
        ["defaults.attention_metrics.collapses.0: ", "'sum'", "sum_absolute"],
    ),
    "masks of data that have none": (
        "experiments: {cifar10: {attention_metrics: {object_mask: stored}}}",
        ["experiments.cifar10.attention_metrics.object_mask: ", "stored", "above_zero"],
    ),
    "padding of convolutions": (
        "defaults: {student: {padding_mode: circular}}",
        ["defaults.student.padding_mode: ", "'circular'", "zeros or reflect"],
    ),
    "number that isn't finite": (
        "defaults: {training: {learning_rate: .inf}}",
        ["defaults.training.learning_rate: ", "inf", "above 0, up to 100"],
    ),
    "number that is none": (
        "defaults: {training: {learning_rate: .nan}}",
        ["defaults.training.learning_rate: ", "nan", "a finite number"],
    ),
    "negative seed": (
        "defaults: {seeds: [0, -1]}",
        ["defaults.seeds.1: ", "-1", "a whole number from 0"],
    ),
    "seed given twice": (
        "defaults: {seeds: [1, 1]}",
        ["defaults.seeds: ", "[1, 1]", "none twice"],
    ),
    "no seed": (
        "defaults: {seeds: []}",
        ["defaults.seeds: ", "[]", "one or more"],
    ),
    "depth between networks": (
        "defaults: {student: {depth: 12}}",
        ["defaults.student.depth: ", "12", "6 n + 4", "10, 16, 22"],
    ),
    "batch of one image": (
        "defaults: {training: {batch_size: 1}}",
        ["defaults.training.batch_size: ", "found 1", "from 2"],
    ),
    "word that is no choice": (
        "defaults: {training: {schedule: steps}}",
        ["defaults.training.schedule: ", "'steps'", "step, one_cycle or cosine"],
    ),
    "unknown device": (
        "defaults: {device: gpu}",
        ["defaults.device: ", "'gpu'", "cpu or cuda"],
    ),
    "student given twice": (
        "defaults: {students: [kd, at, kd]}",
        ["defaults.students: ", "['kd', 'at', 'kd']", "none twice"],
    ),
    "student that is no method": (
        "experiments: {digits: {students: [kd, fitnet]}}",
        ["experiments.digits.students: ", "'fitnet'", "baseline, kd, at, at_kd"],
    ),
    "student that is the teacher": (
        "experiments: {digits: {students: [teacher]}}",
        ["experiments.digits.students: ", "'teacher'", "baseline, kd, at, at_kd"],
    ),
    "method called teacher": (
        "defaults: {methods: {teacher: {}}}",
        ["defaults.methods: ", "'teacher'", "other than teacher, figures and claims"],
    ),
    "method called figures": (
        "defaults: {methods: {figures: {}}}",
        ["defaults.methods: ", "'figures'", "other than teacher, figures and claims"],
    ),
    "method with upper case": (
        "defaults: {methods: {FitNet: {}}}",
        ["defaults.methods: ", "'FitNet'", "lower-case letters, digits and _"],
    ),
    "alpha without temperature": (
        "defaults: {methods: {warm: {alpha: 0.5, kl_reduction: batchmean}}}",
        ["experiments.digits.methods.warm: ", "alpha", "temperature"],
    ),
    "temperature without alpha": (
        "defaults: {methods: {warm: {temperature: 4}}}",
        ["experiments.digits.methods.warm: ", "temperature", "alpha"],
    ),
    "beta without form": (
        "defaults: {methods: {warm: {beta: 1, beta_schedule: constant, collapse: sum}}}",
        ["experiments.digits.methods.warm: ", "beta", "at_mode"],
    ),
    "training of a method's own": (
        "defaults: {methods: {kd: {training: {epoch: 3}}}}",
        ["defaults.methods.kd.training: ", "'epoch'", "did you mean epochs?"],
    ),
    "Nesterov without momentum of a method": (
        "experiments: {digits: {methods: {slow: {training: {momentum: 0}}}, students: [slow]}}",
        ["experiments.digits: ", "training of slow", "nesterov", "above 0"],
    ),
    "milestones after the end of a method's training": (
        "experiments: {cifar10: {methods: {short: {training: {epochs: 70}}}, students: [short]}}",
        ["experiments.cifar10: ", "training of short", "milestones [120, 160]", "70 epochs"],
    ),
    "views of one's own with a table": (
        "defaults: {methods: {kd: {teacher_targets: table, training: {flip: false}}}}",
        ["methods.kd", "teacher_targets table with flip", "allowed: online"],
    ),
    "validation without seed": (
        "data: {cifar10: {validation_fraction: 0.1}}",
        ["data.cifar10: ", "validation_fraction without validation_seed", "both or none"],
    ),
    "validation of all images": (
        "data: {cifar10: {validation_fraction: 1, validation_seed: 0}}",
        ["data.cifar10.validation_fraction: ", "found 1", "0.01 to 0.99"],
    ),
    "validation of digits": (
        "data: {digits: {validation_fraction: 0.1, validation_seed: 0}}",
        ["data.digits: ", "'validation_fraction'", "test_fraction"],
    ),
    "weight of 0": (
        "defaults: {methods: {kd: {alpha: 0}}}",
        ["defaults.methods.kd.alpha: ", "found 0", "above 0, up to 1", "leave it out"],
    ),
    "Nesterov without momentum": (
        "experiments: {digits: {training: {momentum: 0}}}",
        ["experiments.digits: ", "nesterov", "momentum 0", "above 0"],
    ),
    "Nesterov without momentum of the teacher": (
        "experiments: {digits: {teacher: {training: {momentum: 0}}}}",
        ["experiments.digits: ", "teacher", "nesterov", "momentum 0", "above 0"],
    ),
    "milestones after the end": (
        "experiments: {cifar10: {training: {epochs: 150}}}",
        ["experiments.cifar10: ", "teacher", "milestones [160]", "150 epochs", "up to epochs"],
    ),
    "milestones after the end of the student": (
        "experiments: {cifar10: {student: {training: {milestones: [60, 201]}}}}",
        ["experiments.cifar10: ", "student", "milestones [201]", "200 epochs"],
    ),
    "unknown experiment to run": (
        "run: [mnist]",
        ["run: ", "'mnist'", "digits, cifar10"],
    ),
    "experiment to run given twice": (
        "run: [digits, digits]",
        ["run: ", "['digits', 'digits']", "none twice"],
    ),
    "name for a list": (
        "run: digits",
        ["run: ", "'digits'", "a list of one or more names"],
    ),
    "unknown data set": (
        "experiments: {digits: {data: mnist}}",
        ["experiments.digits.data: ", "'mnist'", "digits, cifar10, cifar100, fashion_mnist"],
    ),
    "experiment without title": (
        "experiments: {mine: {data: digits}}",
        ["experiments.mine: ", "title"],
    ),
    "experiment without data": (
        "experiments: {mine: {title: Mine}}",
        ["experiments.mine: ", "data"],
    ),
    "experiment with upper case": (
        "experiments: {Mine: {title: Mine, data: digits}}",
        ["experiments: ", "'Mine'", "lower-case letters, digits and _"],
    ),
    "extends nothing": (
        "experiments: {mine: {extends: yours, title: Mine}}",
        ["experiments.mine.extends: ", "'yours'", "digits, cifar10"],
    ),
    "extends itself": (
        "experiments: {mine: {extends: mine}}",
        ["experiments.mine.extends: ", "circle"],
    ),
    "extends in a circle": (
        "experiments: {digits: {extends: mine}, mine: {extends: digits}}",
        ["experiments.digits.extends: ", "circle", "digits, mine"],
    ),
    "defaults that extend": (
        "defaults: {extends: cifar10_short}",
        ["defaults", "extends"],
    ),
    "format without a key": (
        "data: {mine: {format: image_folder, source: x, image_size: 32, channels: 3}}",
        ["data.mine: ", "fit"],
    ),
    "data set without format": (
        "data: {mine: {source: x}}",
        ["data.mine: ", "format"],
    ),
    "unknown format": (
        "data: {mine: {format: mnist}}",
        ["data.mine.format: ", "'mnist'", "digits, cifar10, cifar100, fashion_mnist"],
    ),
    "key of another format": (
        "data: {cifar10: {image_size: 32}}",
        ["data.cifar10: ", "'image_size'", "allowed: format, source, validation_fraction"],
    ),
    "size that isn't a multiple": (
        "data: {digits: {image_size: 30}}",
        ["data.digits.image_size: ", "30", "a multiple of 4"],
    ),
    "data set with upper case": (
        "data: {CIFAR: {format: cifar10, source: null}}",
        ["data: ", "'CIFAR'", "lower-case letters, digits and _"],
    ),
    "key given twice": (
        "defaults:\n  methods:\n    kd: {alpha: 0.5}\n    kd: {alpha: 0.7}\n",
        ["overlay.yaml", "'kd'", "twice", "line 3", "once"],
    ),
    "key given twice at the top": (
        "run: [digits]\nrun: [cifar10]\n",
        ["overlay.yaml", "'run'", "twice", "line 1", "once"],
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake(load: Load, mistake: str) -> None:
    """A mistake stops with one line that names the key, what was found and what is allowed."""
    overlay, fragments = MISTAKES[mistake]
    with pytest.raises(SystemExit) as stopped:
        load(overlay)
    message = stopped.value.code
    # What `sys.exit` prints on stderr before it ends with status 1.
    assert isinstance(message, str)
    assert "\n" not in message
    for fragment in fragments:
        assert fragment in message


def test_real_config(load: Load) -> None:
    """config.yaml passes its schema, and all its experiments are complete."""
    assert set(load()) == set(yaml.safe_load(CONFIG.read_text())["experiments"])


def test_tiny_overlay(load: Load) -> None:
    """tests/tiny.yaml adds an experiment and leaves the others as they are."""
    experiments = load((ROOT / "tests/tiny.yaml").read_text())
    tiny = experiments.pop("tiny")
    assert experiments == load()
    assert set(tiny["students"]) == set(tiny["methods"])


def test_whole_numbers_written_as_fractions(load: Load) -> None:
    """2.0 is the whole number 2, as the flags write it."""
    experiments = load("experiments: {digits: {student: {width: 2.0}, training: {epochs: 2.0}}}")
    assert experiments["digits"]["student"]["width"] == 2
    assert experiments["digits"]["training"]["epochs"] == 2


def test_seed_written_as_fraction(load: Load) -> None:
    """Seed 1.0 is refused, or the same as seed 1; it never names another folder."""
    overlay = "experiments: {digits: {seeds: [1.0]}}"
    with contextlib.suppress(SystemExit):
        assert [str(seed) for seed in load(overlay)["digits"]["seeds"]] == ["1"]


def test_anchors(load: Load) -> None:
    """An overlay may use YAML's anchors and merge keys."""
    experiments = load(
        "experiments:\n"
        "  digits: &short {training: {epochs: 160}}\n"
        "  cifar10: {<<: *short, seeds: [7]}\n"
    )
    assert experiments["cifar10"]["training"]["epochs"] == 160
    assert experiments["cifar10"]["seeds"] == [7]


def test_defaults_are_kept(load: Load) -> None:
    """An experiment has what it names itself, and the defaults for all else."""
    defaults = yaml.safe_load(CONFIG.read_text())["defaults"]
    short = load()["cifar10_short"]
    assert short["training"]["epochs"] == 12
    assert short["training"]["nesterov"] is True
    before = defaults["training"]
    differing = {name for name, value in short["training"].items() if value != before[name]}
    assert differing == {"epochs", "schedule", "learning_rate", "nesterov", "gamma_init"}
    for name in ("seeds", "teacher", "student", "methods", "students", "attention", "figures"):
        assert short[name] == defaults[name]


def test_method_that_fits_where_it_is_trained(load: Load) -> None:
    """A method's own training has to fit the protocols of the experiments that have it as student.

    Five epochs are too few for the milestones of the others.
    """
    experiments = load(
        "defaults: {methods: {short: {training: {epochs: 5}}}}\n"
        "experiments: {digits: {students: [baseline, short]}}\n"
    )
    assert experiments["digits"]["methods"]["short"] == {"training": {"epochs": 5}}


def test_extends(load: Load) -> None:
    """An experiment that extends another has its settings but for those that it names."""
    experiments = load()
    short, other = experiments["cifar10_short"], experiments["fashion_mnist_short"]
    differing = {name for name, value in other.items() if value != short[name]}
    assert differing == {"title", "data"}
    assert "extends" not in other


def test_extends_at_two_steps(load: Load) -> None:
    """What an experiment extends may extend another in turn; the nearest value wins."""
    experiments = load(
        "experiments:\n"
        "  longer: {extends: fashion_mnist_short, training: {epochs: 30}}\n"
        "  seeded: {extends: longer, seeds: [5]}\n"
    )
    seeded = experiments["seeded"]
    assert seeded["seeds"] == [5]
    assert seeded["training"]["epochs"] == 30
    assert seeded["training"]["schedule"] == "one_cycle"
    assert seeded["data"] == "fashion_mnist"


def test_lists_are_replaced(load: Load) -> None:
    """A list in an overlay takes the place of the one before, whole."""
    experiments = load("experiments: {digits: {students: [at], seeds: [4]}}")
    assert experiments["digits"]["students"] == ["at"]
    assert experiments["digits"]["seeds"] == [4]
    assert experiments["cifar10"]["seeds"] == [0, 1, 2]


def test_one_weight_of_a_method(load: Load) -> None:
    """An experiment may change one weight of a method that the defaults define."""
    experiments = load("experiments: {digits: {methods: {kd: {temperature: 2}}}}")
    default = yaml.safe_load(CONFIG.read_text())["defaults"]["methods"]["kd"]
    assert experiments["digits"]["methods"]["kd"] == default | {"temperature": 2}
    assert experiments["cifar10"]["methods"]["kd"] == default


def properties(schema: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the path and the schema of every key that a schema defines, at any depth."""
    if isinstance(schema, dict):
        for name, value in schema.get("properties", {}).items():
            yield f"{path}.{name}", value
        for name, value in schema.items():
            # A condition isn't a definition.
            if name != "if":
                yield from properties(value, f"{path}.{name}")
    elif isinstance(schema, list):
        for position, value in enumerate(schema):
            yield from properties(value, f"{path}.{position}")


def test_every_key_is_described() -> None:
    """Each key has a description, which is what a mistake shows as allowed."""
    # What is complete is said of keys that are described elsewhere.
    schema = SCHEMA | {
        "$defs": {name: value for name, value in SCHEMA["$defs"].items() if name != "complete"}
    }
    found = list(properties(schema))
    assert len(found) > 50
    for path, value in found:
        # `true`: what holds for the key stands where all formats share it.
        if value is True:
            assert path.endswith(".format")
            continue
        if reference := value.get("$ref", "").removeprefix("#/$defs/"):
            value = SCHEMA["$defs"][reference]
        assert value.get("description"), path


def test_ranges_are_described() -> None:
    """The description of a number with two limits names both."""

    def numbers(schema: Any) -> Iterator[dict[str, Any]]:
        if isinstance(schema, dict):
            if {"minimum", "maximum"} <= schema.keys():
                yield schema
            for value in schema.values():
                yield from numbers(value)
        elif isinstance(schema, list):
            for value in schema:
                yield from numbers(value)

    found = list(numbers(SCHEMA))
    assert len(found) > 10
    for schema in found:
        words = schema["description"].replace(",", " ").split()
        assert {str(schema["minimum"]), str(schema["maximum"])} <= set(words), schema


def test_complete_asks_for_every_setting() -> None:
    """No experiment runs without a setting that the schema knows, save for those with defaults."""
    settings, complete = SCHEMA["$defs"]["settings"], SCHEMA["$defs"]["complete"]
    assert set(complete["required"]) == set(settings["properties"]) - {"extends"}
    for name, value in settings["properties"].items():
        reference = value.get("$ref", "").removeprefix("#/$defs/")
        keys = (SCHEMA["$defs"][reference] if reference else value).get("properties")
        if keys:
            assert set(complete["properties"][name]["required"]) == set(keys), name


def test_no_experiment_has_the_name_of_a_rule() -> None:
    """Every rule's name is refused for an experiment, since both are targets by their names."""
    files = [ROOT / "Snakefile", *(ROOT / "workflow/rules").glob("*.smk")]
    rules = {name for file in files for name in re.findall(r"^rule (\w+):", file.read_text(), re.M)}
    assert len(rules) > 5
    allowed = re.compile(SCHEMA["properties"]["experiments"]["propertyNames"]["pattern"])
    assert not [name for name in rules if allowed.match(name)]
    assert allowed.match("evaluate_more")


def test_choices_are_those_of_the_code() -> None:
    """Each choice of words is the one that the code takes, and every collapse is drawn."""
    choices = {
        "schedule": Schedule,
        "gamma_init": GammaInit,
        "kl_reduction": KLReduction,
        "beta_schedule": BetaSchedule,
        "at_mode": ATMode,
        "collapse": Collapse,
        "fit": Fit,
        "precision": Precision,
    }
    enums = {
        path.rpartition(".")[2]: value["enum"]
        for path, value in properties(SCHEMA)
        if isinstance(value, dict) and isinstance(value.get("enum", [0])[0], str)
    }
    assert {name: set(enums[name]) for name in choices} == {
        name: set(get_args(literal)) for name, literal in choices.items()
    }
    assert set(render_figures.COLLAPSES) == set(get_args(Collapse))


@pytest.fixture(scope="module")
def project(copy_project: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the project to call Snakemake in, without running a job."""
    return copy_project(tmp_path_factory.mktemp("project"))


# Each experiment is a target by its name, so no name may be a rule's.
TAKEN_NAMES = {
    f"experiment called {name}": (
        f"experiments: {{{name}: {{title: Mine, data: digits}}}}",
        ["experiments", name],
    )
    for name in ("all", "evaluate")
}
THROUGH_SNAKEMAKE = ("number read as text", "student that is no method", "key given twice")


@pytest.mark.workflow
@pytest.mark.parametrize("mistake", [*THROUGH_SNAKEMAKE, *TAKEN_NAMES])
def test_mistake_through_snakemake(project: Path, snakemake: Snakemake, mistake: str) -> None:
    """Snakemake ends with 1 and shows the mistake's one line, without a traceback."""
    overlay, fragments = (MISTAKES | TAKEN_NAMES)[mistake]
    (project / "overlay.yaml").write_text(overlay)
    done = snakemake(project, "-n", "--configfile", "overlay.yaml")
    assert done.returncode == 1
    said = [line for line in done.stdout.splitlines() if "rror" in line]
    assert len(said) == 1, done.stdout
    for fragment in fragments:
        assert fragment in said[0]
    assert "Traceback" not in done.stdout
    assert 'File "' not in done.stdout


@pytest.mark.workflow
def test_source_that_is_not_there(project: Path, snakemake: Snakemake) -> None:
    """A folder of images that doesn't exist doesn't hold up the experiments that don't use it."""
    (project / "overlay.yaml").write_text(
        "data:\n"
        "  mine: {format: image_folder, source: nowhere, image_size: 32, channels: 3, fit: pad}\n"
        "experiments: {mine: {title: Mine, data: mine}}\n"
    )
    done = snakemake(project, "-n", "digits", "--configfile", "overlay.yaml")
    assert done.returncode == 0, done.stdout
