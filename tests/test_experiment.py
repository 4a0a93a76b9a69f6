"""Experiments, as their config resolves: models, folders, pairs, flags and estimates."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from snakemake.utils import update_config

from distillation.settings import estimates, networks, plugins
from distillation.settings.base import SettingsError
from distillation.settings.estimates import Estimates
from distillation.settings.experiment import RESERVED, Experiment, load_experiments
from jobs import TINY
from shell import ROOT

Load = Callable[..., Experiment]


@pytest.fixture
def load() -> Load:
    """Return a function that returns an experiment, the tiny one, under an overlay."""

    def experiment(overlay: str = "{}", name: str = "tiny") -> Experiment:
        config: dict[str, Any] = {}
        for text in ((ROOT / "config.yaml").read_text(), (ROOT / TINY).read_text(), overlay):
            update_config(config, yaml.safe_load(text))
        return load_experiments(config)[1][name]

    return experiment


def of_tiny(settings: str) -> str:
    """Return the overlay that gives the tiny experiment some settings."""
    return f"experiments: {{tiny: {{{settings}}}}}"


# Settings of the tiny experiment, and which models it has then.
STUDENTS = ["baseline", "kd", "at_kd", "fading_at"]
OWN = "kd: {teacher: {network: {wrn: {depth: 16, width: 1}}}}"
MODELS = {
    "": [("teacher", 0), *((method, seed) for method in STUDENTS for seed in (0, 1))],
    "students: [kd], seeds: [3], teacher: {seed: 7}": [("teacher", 7), ("kd", 3)],
    "students: [kd], seeds: [1, 3], teacher: {per_seed: true}": [
        *(("teacher", 1), ("teacher", 3), ("kd", 1), ("kd", 3)),
    ],
    # Who asks for no teacher trains none.
    "students: [baseline]": [("baseline", 0), ("baseline", 1)],
    f"students: [kd], seeds: [0], methods: {{{OWN}}}": [("kd_teacher", 0), ("kd", 0)],
    f"students: [at_kd, kd], seeds: [0], methods: {{{OWN}}}": [
        *(("teacher", 0), ("kd_teacher", 0), ("at_kd", 0), ("kd", 0)),
    ],
}


@pytest.mark.parametrize("settings", MODELS)
def test_models(load: Load, settings: str) -> None:
    """An experiment trains the teachers that its methods ask for, and methods with each seed."""
    experiment = load(of_tiny(settings))
    assert [tuple(model) for model in experiment.models] == MODELS[settings]
    for name, seed in MODELS[settings]:
        assert f"results/tiny/{name}/seed_{seed}/metrics.json" in experiment.artifacts()


def test_artifacts(load: Load) -> None:
    """Every file that is made is asked for: a failed rerun leaves nothing that looks finished."""
    files = load().artifacts()
    assert len(files) == len({*files})
    for name in ("checkpoint.pt", "history.csv", "tensorboard", "predictions.npz", "attention.npz"):
        assert f"results/tiny/fading_at/seed_1/{name}" in files
    assert "results/tiny/teacher/seed_0/targets.npz" in files
    assert {"results/tiny/attention/seed_0.csv", "results/tiny/attention/seed_1.json"} <= {*files}
    assert {"results/data/tiny.npz", "results/tiny/claims", "results/tiny/table.md"} <= {*files}


def test_student_flags(load: Load) -> None:
    """A student's flags are sorted and hold network, terms, the whole protocol and its teacher."""
    experiment = load(of_tiny("threads: 2"))
    flags = experiment.student_flags("fading_at", 1)
    text = " ".join(flags)
    assert text.startswith("--network wrn depth=10 padding_mode=zeros width=1 ")
    assert "--term at collapse=sum_absolute images=same mode=paper " in text
    assert "schedule=linear" in text
    assert "--term labels " in text
    teacher = "results/tiny/teacher/seed_0/checkpoint.pt"
    assert flags[flags.index("--teacher") + 1] == teacher == experiment.teacher_file("at_kd", 1)
    rest = text.partition("--batch-size")[2]
    for flag in ("--seed 1", "--threads 2", "--learning-rate 0.05", "--no-flip", "--padding 1",
                 "--resume resume/tiny/fading_at/seed_1.pt", "--precision float32"):  # fmt: skip
        assert flag in rest
    switches = [flag.replace("--no-", "--") for flag in re.findall(r"--[a-z-]+", text)]
    machine = switches[switches.index("--batch-size") : switches.index("--term")]
    assert machine == sorted(machine)


def test_flags_of_other_keys(load: Load) -> None:
    """The order of keys and 2.0 for 2 change no flag; each number that is changed does."""
    before = load().student_flags("kd", 0)
    assert load(of_tiny("training: {padding: 1.0, epochs: 2.0}")).student_flags("kd", 0) == before
    swapped = load(of_tiny("training: {epochs: 64, batch_size: 2}")).student_flags("kd", 0)
    assert sorted(swapped) == sorted(before)
    assert swapped != before


def test_teacher_of_targets(load: Load) -> None:
    """A method with a table of targets learns from it, and from no checkpoint."""
    experiment = load()
    flags = experiment.student_flags("kd", 1)
    table = "results/tiny/teacher/seed_0/targets.npz"
    assert flags[flags.index("--teacher-targets") + 1] == table == experiment.teacher_file("kd", 1)
    assert "--teacher" not in flags
    assert experiment.teacher_file("baseline", 1) == []


SWEEP = "sweep: {extends: tiny, title: Sweep, students: [kd], teacher: {from: tiny}"


def test_teacher_of_another_experiment(load: Load) -> None:
    """A teacher that another experiment trains is taken from there, and measured here."""
    experiment = load(
        f"experiments: {{{SWEEP}, seeds: [1], methods: {{kd: {{targets: online}}}}}}}}", "sweep"
    )
    taken = "results/tiny/teacher/seed_0/checkpoint.pt"
    assert experiment.teacher_file("kd", 1) == experiment.trained_file("teacher", 0) == taken
    assert "results/sweep/teacher/seed_0/metrics.json" in experiment.artifacts()
    assert "results/sweep/teacher/seed_0/checkpoint.pt" not in experiment.artifacts()
    # A rerun of it that failed leaves students of the old one.
    assert {taken, "results/tiny/teacher/seed_0/history.csv"} < {*experiment.artifacts()}


# What doesn't fit: the overlay, and what the line names.
UNFIT = {
    f"experiments: {{{SWEEP}, data: digits}}}}": ["from", "tiny", "digits"],
    f"experiments: {{tiny: {{teacher: {{per_seed: true}}}}, {SWEEP}, seeds: [0, 2]}}}}": [
        "lacks 2"
    ],
    "experiments: {sweep: {extends: tiny, teacher: {from: nowhere}}}": ["'nowhere'", "digits"],
    f"experiments: {{tiny: {{students: [baseline]}}, {SWEEP}}}}}": ["tiny trains no teacher"],
}


@pytest.mark.parametrize("overlay", UNFIT)
def test_teacher_that_does_not_fit(load: Load, overlay: str) -> None:
    """A teacher of another experiment is refused that has other data or seeds, or isn't there."""
    with pytest.raises(SettingsError) as refused:
        load(overlay)
    for fragment in UNFIT[overlay]:
        assert fragment in str(refused.value)


def test_brought_teacher(load: Load, tmp_path: Path) -> None:
    """A teacher that is brought is imported under another name, and stale when its content is."""
    file = tmp_path / "weights.pt"
    file.write_bytes(b"one")
    experiment = load(
        of_tiny(f"teacher: {{checkpoint: {file}, network: {{wrn: null, resnet: {{depth: 8}}}}}}")
    )
    imported = "results/tiny/teacher/seed_0/imported_checkpoint.pt"
    assert experiment.teacher_file("at_kd", 0) == imported
    assert imported in experiment.artifacts()
    flags = experiment.import_flags("teacher")
    assert flags[:4] == ["--network", "resnet", "block=basic", "depth=8"]
    assert flags[flags.index("--source") + 1] == str(file)
    before = experiment.import_source("teacher")
    file.write_bytes(b"two")
    assert experiment.import_source("teacher") != before


def test_weights_to_begin_with(load: Load, tmp_path: Path) -> None:
    """A training that begins with a file is stale when its content is; no other is."""
    file = tmp_path / "weights.pt"
    file.write_bytes(b"one")
    network = f"{{wrn: null, torchvision: {{model: resnet18, weights: {file}}}}}"
    experiment = load(of_tiny(f"teacher: {{network: {network}}}"))
    before = [experiment.training_code(model) for model in ("teacher", "at_kd")]
    file.write_bytes(b"two")
    after = [experiment.training_code(model) for model in ("teacher", "at_kd")]
    assert [one == two for one, two in zip(before, after, strict=True)] == [False, True]


def test_naming_replaces(load: Load) -> None:
    """A network, `from` or a checkpoint takes the place of what was inherited, whole."""
    # As `extends` and methods merge; Snakemake itself merges overlays key by key.
    overlay = (
        "experiments: {other: {extends: tiny, student: {network: {resnet: {depth: 14}}}, "
        "teacher: {checkpoint: there.pt}, methods: {kd: {labels: null, kd: {weight: 1}}}}}"
    )
    experiment = load(overlay, "other")
    assert experiment.student.settings.title == "resnet14"
    assert experiment.network_of("teacher") is None
    assert experiment.terms["kd"]["kd"].weight == 1
    assert experiment.terms["kd"]["labels"].weight == 1


def test_pairs(load: Load) -> None:
    """Each method is compared with the baseline, and pairs of one's own with what is trained."""
    assert load().pairs() == [
        *(["kd", "baseline"], ["at_kd", "baseline"], ["fading_at", "baseline"], ["at_kd", "kd"]),
    ]
    assert load(of_tiny("students: [kd, at_kd]")).pairs() == [["at_kd", "kd"]]
    assert load(of_tiny("students: [kd]")).pairs() == []
    # One that is claimed, if no other asks the same.
    claims = "students: [baseline, kd, fading_at], claims: {below: [fading_at, kd]}"
    first = [["kd", "baseline"], ["fading_at", "baseline"]]
    assert load(of_tiny(claims)).pairs() == [*first, ["fading_at", "kd"]]
    assert load(of_tiny(claims.replace("fading_at, kd]}", "baseline, kd]}"))).pairs() == first


def test_labels(load: Load) -> None:
    """A model is called as its method says, or by the method's name."""
    experiment = load(of_tiny(f"students: [baseline, kd, fading_at], methods: {{{OWN}}}"))
    names = ["teacher", "baseline", "kd", "fading_at", "kd_teacher"]
    assert [experiment.label(name) for name in names] == [
        *("Teacher", "Baseline", "KD", "fading_at", "Teacher of KD"),
    ]


def test_attention_flags(load: Load) -> None:
    """One job measures all networks of a seed beside the teacher that most learn from."""
    flags = load().measurement_flags(1)
    assert flags.count("--network") == len(STUDENTS)
    assert flags[flags.index("--teacher") + 1] == "results/tiny/teacher/seed_0/checkpoint.pt"
    assert flags[flags.index("--object-mask") + 1] == "stored"
    assert "results/tiny/teacher/seed_0/checkpoint.pt" in load().measured_files(1)


def test_metrics_are_chosen(load: Load) -> None:
    """The metrics of the config are measured, with settings, and the compared one is among them."""
    flags = load(of_tiny("evaluation: {metrics: {top1_accuracy: {smallest_difference: 2}}}"))
    text = " ".join(flags.evaluation_flags("kd", 0))
    assert "--metric top1_accuracy smallest_difference=2" in text
    assert "--teacher-predictions results/tiny/teacher/seed_0/predictions.npz" in text
    with pytest.raises(SettingsError, match=r"comparison\.metric"):
        load(of_tiny("comparison: {metric: top5}"))


def test_smallest_differences_of_claims(load: Load) -> None:
    """What difference of a measure counts is said by the config, and a wrong one refused there."""
    claims = "claims: {{smallest_differences: {{{}}}}}"
    text = " ".join(load(of_tiny(claims.format("border: 0.2"))).claims_flags())
    assert "--smallest-difference border 0.2 --smallest-difference object_energy 0.1" in text
    for wrong in ("border: 0", "beauty: 1"):
        with pytest.raises(SettingsError, match=r"claims\.smallest_differences.*; .*allowed: "):
            load(of_tiny(claims.format(wrong)))


def test_no_experiment_has_the_name_of_a_rule() -> None:
    """Every rule's name is refused for an experiment, since both are targets by their names."""
    files = (ROOT / "workflow/rules").glob("*.smk")
    rules = {name for file in files for name in re.findall(r"^rule (\w+):", file.read_text(), re.M)}
    assert len(rules) > 5
    assert rules < {*RESERVED}


EQUAL = """
    teacher: {network: {wrn: {depth: 40}}}
    student: {network: {wrn: {depth: 16, width: 2}}}
    training: {schedule: step, epochs: 60, milestones: [18, 36, 48]}
    students: [baseline, kd, at_kd, baseline_long]
    together: true
    methods: {baseline_long: {OWN}}
"""
# Settings of a method of equal cost, and epochs, milestones and the student that it costs as much
# as, where at_kd takes 60 epochs and kd reads a table of 9 views.
COUNTED = {
    # 60 (3 x 101.1 + 327.6) / (3 x 101.1)
    "equal_cost: dearest": (125, [38, 75, 100], "at_kd in 60"),
    # More by 60 x 3 x 327.6.
    "equal_cost: at_kd, teacher_included: true": (
        *(319, [96, 191, 255], "at_kd in 60, the teacher's training included"),
    ),
    # More by (2 + 1)^2 x 327.6.
    "equal_cost: kd": (70, [21, 42, 56], "kd in 60"),
    "equal_cost: baseline, kd: {weight: 1}": (29, [9, 17, 23], "baseline in 60"),
}


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let networks cost millions of multiply-accumulates as WRN-16-2 and WRN-40-2 do at 32 x 32."""
    counts = {16: 101_100_000, 40: 327_600_000}
    monkeypatch.setattr(
        networks, "cost",
        lambda network, *_: {"multiply_accumulates": counts[network.settings.depth]},
    )  # fmt: skip


def equal_cost(own: str) -> str:
    """Return the overlay of an experiment one of whose students costs as much as another."""
    return f"experiments:\n  tiny:{EQUAL.replace('OWN', own)}"


@pytest.mark.usefixtures("measured")
@pytest.mark.parametrize("own", COUNTED)
def test_equal_cost(load: Load, own: str) -> None:
    """A method of equal cost has as many whole epochs as take the operations of the other."""
    experiment = load(equal_cost(own))
    epochs, milestones, other = COUNTED[own]
    training = experiment.training("baseline_long")
    assert (training.epochs, training.milestones) == (epochs, milestones)
    line = f"tiny: baseline_long: {epochs} epochs, as many operations as {other}"
    assert experiment.equal_cost_lines() == [line]
    flags = " ".join([*experiment.student_flags("baseline_long", 0), *experiment.run_flags()])
    assert f"--epochs {epochs} " in flags
    assert "--own-training baseline_long epochs milestones" in flags
    assert "baseline_long" not in experiment.together
    assert ["kd", "baseline_long"] in experiment.pairs()


@pytest.mark.usefixtures("measured")
def test_warm_up_in_counted_epochs(load: Load) -> None:
    """A weight rises within the epochs that are counted, fewer or more than the protocol's."""
    few = "equal_cost: baseline, dkd: {weight: 1, warmup_epochs: %d}"
    load(equal_cost(few % 29)).check_pair("baseline_long")
    with pytest.raises(SettingsError, match=r"dkd\.warmup_epochs: found 30 with 29"):
        load(equal_cost(few % 30)).check_pair("baseline_long")
    more = "equal_cost: dearest, dkd: {weight: 1, warmup_epochs: 60}, training: {}"
    load(equal_cost(more)).check_pair("baseline_long")


@pytest.mark.usefixtures("measured")
def test_equal_cost_without_milestones(load: Load) -> None:
    """A schedule that has no milestones leaves them as they are, and reports hear of none."""
    text = equal_cost("equal_cost: dearest").replace("schedule: step", "schedule: cosine")
    experiment = load(text)
    training = experiment.training("baseline_long")
    assert training.epochs > 60
    assert training.milestones == [18, 36, 48]
    flags = " ".join(experiment.run_flags())
    assert "--own-training baseline_long epochs --" in flags


# What can't be counted: settings of a method of equal cost, and what the line names.
UNCOUNTED = {
    "equal_cost: fading_at": ["equal_cost", "'fading_at'", "dearest, baseline, kd, at_kd"],
    "equal_cost: kd, training: {epochs: 3}": ["equal_cost with epochs of its own"],
    "equal_cost: null, teacher_included: true": ["teacher_included without equal_cost"],
    "equal_cost: baseline, kd: {}, teacher_included: true": ["baseline takes fewer operations"],
}


@pytest.mark.usefixtures("measured")
@pytest.mark.parametrize("own", UNCOUNTED)
def test_cost_that_is_not_counted(load: Load, own: str) -> None:
    """Epochs that can't be counted, or are given as well, are refused in a line that says why."""
    with pytest.raises(SettingsError) as refused:
        load(equal_cost(own)).equal_cost_lines()
    for fragment in UNCOUNTED[own]:
        assert fragment in str(refused.value)


def test_controls(load: Load) -> None:
    """Smoothed labels, a teacher of the student's network and an untrained one are methods."""
    experiment = load(of_tiny(
        "students: [baseline, smooth, self_kd, untrained_at], methods: {"
        "smooth: {labels: {smoothing: 0.1}},"
        "self_kd: {kd: {}, teacher: {network: {wrn: {depth: 10, width: 1}}}},"
        "untrained_at: {at: {}, teacher: {training: {epochs: 0}}}}"
    ))  # fmt: skip
    assert "smoothing=0.1" in experiment.student_flags("smooth", 0)
    assert not experiment.taught("smooth")
    assert [*experiment.teachers] == ["self_kd_teacher", "untrained_at_teacher"]
    assert experiment.network_of("self_kd_teacher") == experiment.student
    flags = experiment.training_flags("untrained_at_teacher", 0)
    assert flags[flags.index("--epochs") + 1] == "0"
    assert experiment.training("untrained_at").epochs == 2


# Digits of what a network costs, in place of torch's.
COST = {"multiply_accumulates": 10**9, "written": 10**6}


@pytest.fixture
def costly(monkeypatch: pytest.MonkeyPatch, load: Load) -> Callable[..., Estimates]:
    """Return a function that returns the estimates of the tiny experiment under an overlay."""

    def cost(network: Any, *_: int) -> dict[str, int]:
        return {name: value * network.settings.depth for name, value in COST.items()}

    monkeypatch.setattr(networks, "cost", cost)
    return lambda settings="", **data: Estimates(load(yaml.safe_dump(
        yaml.safe_load(of_tiny(settings)) | ({"data": data} if data else {})
    )))  # fmt: skip


def test_estimates_follow_the_config(costly: Callable[..., Estimates]) -> None:
    """Minutes follow epochs, networks and teachers; megabytes batches and networks."""
    base, start = costly(), estimates.START_MINUTES
    epochs = costly("training: {epochs: 2000}"), costly("training: {epochs: 4000}")
    few, many = (each.training_minutes("baseline") - start for each in epochs)
    assert many / few == pytest.approx(2, rel=0.01)
    deep = costly("student: {network: {wrn: {depth: 40}}}, training: {batch_size: 1024}")
    assert deep.training_minutes("baseline") > base.training_minutes("baseline")
    assert deep.training_megabytes("baseline") > base.training_megabytes("baseline")
    # A teacher that runs beside takes time; one whose logits are tabulated doesn't.
    assert base.training_minutes("at_kd") > base.training_minutes("kd")
    assert costly("threads: 4").training_minutes("teacher") < base.training_minutes("teacher")
    more = costly("attention_metrics: {steps: 64}")
    assert more.measurement_minutes(0) > base.measurement_minutes(0)
    assert costly("device: cuda").megabytes() > base.megabytes()


def test_estimates_follow_the_held_out_images(costly: Callable[..., Estimates]) -> None:
    """Images that are held out aren't trained on, but tested."""
    few, many = (
        costly("data: large, training: {epochs: 90}", large={
            "format": "cifar10", "validation_fraction": fraction, "validation_seed": 0,
        })
        for fraction in (0.1, 0.9)
    )  # fmt: skip
    start = estimates.START_MINUTES
    minutes = [each.evaluation_minutes("kd") - start for each in (few, many)]
    assert minutes[1] / minutes[0] == pytest.approx(9, rel=0.2)
    minutes = [each.training_minutes("baseline") - start for each in (few, many)]
    assert minutes[1] / minutes[0] == pytest.approx((3 + 9) / (3 * 9 + 1), rel=0.05)


def test_estimates_follow_the_training_images(costly: Callable[..., Estimates]) -> None:
    """Few are trained on, but all are read; those that metrics are of are passed as well."""
    source = {"format": "cifar10"}
    thin = source | {"training_fraction": 0.1, "training_seed": 0}
    few, many = (costly("data: large", large=data) for data in (thin, source))
    start = estimates.START_MINUTES
    minutes = [each.training_minutes("baseline") - start for each in (few, many)]
    assert minutes[1] / minutes[0] == pytest.approx((3 * 5 + 1) / (3 * 0.5 + 1), rel=0.05)
    read = [estimates.preparing_megabytes(each.experiment.data) for each in (few, many)]
    assert read[0] == read[1]
    asked = costly("data: large, evaluation: {training_images: 40000}", large=source)
    minutes = [each.evaluation_minutes("kd") - start for each in (asked, many)]
    assert minutes[0] / minutes[1] == pytest.approx(5 / 1.1, rel=0.3)


def test_which_methods_teach_attention(load: Load) -> None:
    """Claims ask it of methods whose maps follow the common teacher's of the same image."""
    shuffled = "shuffled_at: {at: {images: next}}"
    other = "untrained_at: {at: {}, teacher: {training: {epochs: 0}}}"
    students = "students: [baseline, kd, at, at_kd, shuffled_at, untrained_at]"
    experiment = load(of_tiny(f"methods: {{{shuffled}, {other}}}, {students}"))
    text = " ".join(experiment.claims_flags())
    assert "--attention-methods at at_kd --" in text


# Settings of a method, where the student has stages of 8, 4 and 2 pixels, the teacher of 6 and 3,
# and what the line names.
UNSERVED = {
    "at: {}": "the student's have 8 x 8, 4 x 4, 2 x 2 positions, the teacher's 6 x 6, 3 x 3",
    "at: {stages: by_index}": "found 3 of the student and 2 of the teacher",
    "hint: {stage: 3}": "stage is 3, but the teacher has 2; allowed: 1 to 2",
    "sp: {stages: by_size}": "at least one size in common",
    "sp: {}, rkd: {}, hint: {}, dkd: {warmup_epochs: 0}": None,
    "kd: {}": None,
}
# Settings of the tiny experiment that name files, or images, that aren't as they say.
ABSENT = {
    "teacher: {checkpoint: no.pt}": "teacher.checkpoint: no.pt: no such file",
    "teacher: {checkpoint: .}": "teacher.checkpoint: model.safetensors: no such file",
    "methods: {kd: {teacher: {checkpoint: no.pt}}}":
        "methods.kd.teacher.checkpoint: no.pt: no such file",
    "student: {network: {wrn: null, torchvision: {model: resnet18, weights: no.pt}}}":
        "student: no.pt: no such file",
    "data: official": "no_folder: no such folder",
    "training: {padding: 64}": "teacher: found padding 64 with images of",
    "methods: {at_kd: {training: {padding: 64}}}": "methods.at_kd: found padding 64 with images",
}  # fmt: skip


@pytest.mark.parametrize("own", UNSERVED)
def test_networks_that_a_term_cannot_serve(
    load: Load, monkeypatch: pytest.MonkeyPatch, own: str
) -> None:
    """A pair of networks without what a term needs is refused in a line before any training."""
    stages = {10: [[4, 8, 8], [4, 4, 4], [4, 2, 2]], 16: [[4, 6, 6], [4, 3, 3]]}
    monkeypatch.setattr(
        networks, "cost", lambda network, *_: {"stages": stages[network.settings.depth]}
    )
    experiment = load(
        of_tiny(
            "teacher: {network: {wrn: {depth: 16, width: 1}}}, "
            f"students: [own], methods: {{own: {{{own}}}}}"
        )
    )
    if (line := UNSERVED[own]) is None:
        experiment.student_flags("own", 0)
        return
    for ask in (experiment.check_pair, lambda method: experiment.student_flags(method, 0)):
        with pytest.raises(SettingsError, match=re.escape(line)) as refused:
            ask("own")
        assert str(refused.value).startswith("experiments.tiny.methods.own: ")
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("own", ABSENT)
def test_what_is_not_there(
    load: Load, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, own: str
) -> None:
    """Teachers and weights that are brought, and padding, are looked at before a run."""
    data = "data: {official: {format: cifar10, source: no_folder}}"
    experiment = load(f"{data}\n{of_tiny(own)}")
    monkeypatch.chdir(tmp_path)
    if own != "data: official":
        monkeypatch.setattr(type(experiment.data), "check_source", lambda _: None)
    with pytest.raises(SettingsError, match=re.escape(ABSENT[own])):
        experiment.check_sources()


def test_two_classes(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logits of two classes can't be standardised; those of more can."""
    for term in ("kd", "dkd"):
        own = f"own: {{{term}: {{standardise: true, warmup_epochs: 0}}}}"
        experiment = load(of_tiny(f"students: [own], methods: {{{own}}}"))
        experiment.check_pair("own")
        two = experiment.sizes.model_copy(update={"classes": 2})
        monkeypatch.setattr(experiment, "sizes", two)
        with pytest.raises(SettingsError, match=f"methods.own: {term}: standardise is true with 2"):
            experiment.check_pair("own")


def test_stages_that_are_not_known_before_a_run(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A teacher that says itself which network it is, is looked at when it is read."""
    monkeypatch.setattr(networks, "cost", lambda *_: pytest.fail("asks for a network"))
    experiment = load(
        "experiments: {other: {extends: tiny, students: [at_kd], teacher: {checkpoint: there.pt}}}",
        "other",
    )
    experiment.check_pair("at_kd")
    load(of_tiny("students: [kd]")).check_pair("kd")


# An experiment with the teacher of one that has it from a third, whose settings are put in.
THIRD = """\
experiments:
  third: {{extends: tiny, title: Third, students: [at_kd], seeds: [0, 1], teacher: {{{}}}}}
  second: {{extends: tiny, title: Second, students: [at_kd], teacher: {{from: third}}}}
  first:
    extends: tiny
    title: First
    students: [at_kd, long]
    teacher: {{from: second}}
    methods: {{long: {{equal_cost: at_kd, teacher_included: true}}}}
"""


def test_teacher_through_another_experiment(load: Load) -> None:
    """A teacher that is taken from one that took it has the seeds of where it is trained."""
    of_first = [
        load(THIRD.format(own), "first").teacher_file("at_kd", 1)
        for own in ("per_seed: true", "seed: 5")
    ]
    found = [f"results/third/teacher/seed_{seed}/checkpoint.pt" for seed in (1, 5)]
    assert of_first == found


@pytest.mark.usefixtures("measured")
def test_cost_of_a_teacher_through_another_experiment(load: Load) -> None:
    """Its training counts as it is where it is trained; that of a brought one can't be."""
    for epochs in (2, 50):
        own = f"training: {{epochs: {epochs}}}, network: {{wrn: {{depth: 40, width: 2}}}}"
        first = load(
            THIRD.format(own) + "    student: {network: {wrn: {depth: 16, width: 2}}}\n", "first"
        )
        passes = 3 * 101.1 + 327.6 * (1 + 3 * epochs / first.protocol("at_kd").epochs)
        expected = first.protocol("at_kd").epochs * passes / (3 * 101.1)
        assert first.equal_cost("long") == ("at_kd", round(expected))
    brought = "checkpoint: there.pt, network: {wrn: {depth: 40, width: 2}}"
    first = load(
        THIRD.format(brought) + "    student: {network: {wrn: {depth: 16, width: 2}}}\n", "first"
    )
    with pytest.raises(SettingsError, match="is brought, so equal_cost doesn't know its training"):
        first.equal_cost("long")


def test_code_of_a_brought_teacher(load: Load) -> None:
    """One that says itself which network it is may be of any family, so all count."""
    named = "teacher: {checkpoint: there.pt, network: {wrn: {depth: 16, width: 1}}}"
    known = load(of_tiny(named))
    unknown = load(of_tiny("teacher: {checkpoint: there.pt, network: null}"))
    for experiment, families in ((known, {"wrn"}), (unknown, {*plugins.names("networks")})):
        code = experiment.code("evaluate", ["teacher"])
        assert {*re.findall(r"networks\.(\w+)", code)} == families


def test_table_has_the_views_of_those_that_read_it(load: Load) -> None:
    """A first student with views of its own doesn't decide which views a table holds."""
    experiment = load(of_tiny(
        "students: [unpadded, kd], methods: {unpadded: {training: {padding: 0}}}"
    ))  # fmt: skip
    flags = experiment.targets_flags("teacher", 0)
    padding = str(experiment.protocol("kd").padding)
    assert padding != "0"
    assert flags[flags.index("--padding") + 1] == padding
