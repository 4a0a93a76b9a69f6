"""An experiment as its config resolves: models, folders, pairs, flags, digests.

The rules of the workflow ask it for all that they need to know; it runs without torch.
"""

from collections.abc import Callable, Iterable
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple, cast

from distillation.record.digest import (
    code_digest,
    declaration_digest,
    plugin_digest,
    source_digest,
)
from distillation.settings.arguments import flags, plugin_flags
from distillation.settings.base import (
    MetricSettings,
    NetworkSettings,
    SettingsError,
    TermSettings,
    checked,
)
from distillation.settings.config import (
    OF_METHODS,
    Choices,
    Config,
    Map,
    Teacher,
    check_known,
    merged,
    one_plugin,
)
from distillation.settings.plugins import chosen
from distillation.settings.training import Engine, Machine, Protocol

SCRIPTS = Path(__file__).resolve().parents[2]
TEACHER, BASELINE = "teacher", "baseline"
# What each trained model has in its folder, beside what its training writes.
DERIVED = ("metrics.json", "predictions.npz", "attention.npz")
TRAINED = ("checkpoint.pt", "history.csv", "tensorboard")
REPORTS = (
    "table.csv", "table.md", "table.html", "summary.json", "provenance.json", "figures",
    "comparison.csv", "comparison_seeds.csv", "fidelity.csv", "comparison.md", "comparison.html",
    "comparison.png", "comparison.svg", "attention_metrics.csv", "attention_metrics.json",
    "claims.md", "claims.html", "claims",
)  # fmt: skip
# Names that are targets or folders already.
RESERVED = (
    "all", "data", "prepare_data", "train_teacher", "import_teacher", "tabulate_targets",
    "train_student", "evaluate", "extract_attention", "measure_attention", "compare_methods",
    "render_table", "render_figures", "render_claims",
)  # fmt: skip


# Once for each file in a run of the workflow, which asks for them with every job.
script_digest, used_digest, shown_digest = map(
    cache, (code_digest, plugin_digest, declaration_digest)
)


class Model(NamedTuple):
    """A trained network: whose it is (a method's name, or a teacher's) and its seed."""

    name: str
    seed: int


class Network(NamedTuple):
    """A family of networks, and the settings of one."""

    family: str
    settings: NetworkSettings

    @property
    def flags(self) -> list[str]:
        """The flags that name it."""
        return plugin_flags("--network", {self.family: self.settings})


class Taught(NamedTuple):
    """Who teaches a method: the teacher's name, and what the config says of it."""

    name: str
    teacher: Teacher


class Experiment:
    """One experiment: everything that a rule needs to know of it.

    Args:
        name: of the experiment.
        config: the whole config.
        others: finds another experiment by its name, whose teacher this one takes.

    Raises:
        SettingsError: what it chooses doesn't fit together.
    """

    def __init__(self, name: str, config: Config, others: "Callable[[str], Experiment]") -> None:
        self.name, self.where = name, f"experiments.{name}"
        if name in RESERVED:
            raise SettingsError(f"{self.where}: found a name of a rule or folder; allowed: others")
        self.choices: Choices = config.choices(name)
        self.others = others
        check_known(self.choices.data, config.data, f"{self.where}.data")
        self.format, self.data = config.data[self.choices.data]
        self.check_methods()
        self.metrics = cast(
            dict[str, MetricSettings],
            chosen("metrics", self.choices.evaluation.metrics, f"{self.where}.evaluation.metrics"),
        )
        compared = self.choices.comparison
        check_known(compared.metric, self.metrics, f"{self.where}.comparison.metric")
        for pair in compared.pairs:
            if len(pair) != 2:
                raise SettingsError(f"{self.where}.comparison.pairs: found {pair}; allowed: pairs")
            for method in pair:
                check_known(method, self.choices.methods, f"{self.where}.comparison.pairs")
        if self.choices.attention_metrics.object_mask == "stored" and self.data.masks != "stored":
            raise SettingsError(
                f"{self.where}.attention_metrics.object_mask: found stored with the data "
                f"{self.choices.data}, which have no masks; allowed: auto, above_zero, none"
            )
        # Everything that may be wrong is looked at, whether a rule asks for it or not.
        self.student = self.network(self.choices.student.network, "student.network")
        for method in self.choices.methods:
            self.check_targets(method)
        for method in self.choices.students:
            self.training(method)
        for taught in self.teachers.values():
            self.check_teacher(taught)

    # --- Methods -----------------------------------------------------------------------------

    def check_methods(self) -> None:
        """Check names and terms of all methods, trained or not.

        Raises:
            SettingsError: a name isn't allowed, a term isn't known, or its settings are wrong.
        """
        for method in self.choices.methods:
            if method == TEACHER or method.endswith(f"_{TEACHER}"):
                raise SettingsError(
                    f"{self.where}.methods: found {method!r}; allowed: a name that doesn't end in "
                    f"{TEACHER}"
                )
            self.terms(method)
        for method in self.choices.students:
            check_known(method, self.choices.methods, f"{self.where}.students")

    def terms(self, method: str) -> dict[str, TermSettings]:
        """Return the terms of a method by name; labels are among them."""
        own = self.choices.methods[method]
        named = {key: value for key, value in own.items() if key not in OF_METHODS}
        found = chosen("terms", {"labels": {}} | named, f"{self.where}.methods.{method}")
        return cast(dict[str, TermSettings], found)

    def taught(self, method: str) -> bool:
        """Return whether a method learns from a teacher."""
        return any(term.needs != "nothing" for term in self.terms(method).values())

    def from_table(self, method: str) -> bool:
        """Return whether a method learns from a table of its teacher's logits."""
        return self.choices.methods[method].get("targets", "online") == "table"

    def check_targets(self, method: str) -> None:
        """Refuse a table of logits where it can't serve.

        Raises:
            SettingsError: a term needs stages, or the method has views of its own.
        """
        where = f"{self.where}.methods.{method}"
        own = self.choices.methods[method]
        check_known(own.get("targets", "online"), ("online", "table"), f"{where}.targets")
        if not self.from_table(method):
            return
        stages = [name for name, term in self.terms(method).items() if term.needs == "stages"]
        views = sorted({"padding", "flip"} & own.get("training", {}).keys())
        found = [*stages, *(f"{view} of its own" for view in views)]
        if found:
            raise SettingsError(
                f"{where}: found targets table with {found[0]}; a table has the teacher's logits "
                f"for the views that all students share; allowed: online"
            )

    def label(self, model: str) -> str:
        """Return the name of a model as people read it."""
        if model in self.choices.methods:
            plain = "Baseline" if model == BASELINE else model
            return str(self.choices.methods[model].get("label", plain))
        method = model.removesuffix(f"_{TEACHER}")
        return "Teacher" if model == TEACHER else f"Teacher of {self.label(method)}"

    # --- Networks and trainings --------------------------------------------------------------

    def network(self, value: Any, where: str) -> Network:
        """Return the network that a map names."""
        [(family, settings)] = one_plugin("networks", value, f"{self.where}.{where}").items()
        return Network(family, cast(NetworkSettings, settings))

    def training(self, model: str) -> Protocol:
        """Return the protocol of a model: a teacher, or the students of a method."""
        base, choices = self.choices.training, self.choices
        if model in choices.methods:
            parts = (choices.student.training, choices.methods[model].get("training", {}))
            where = "student"
        else:
            parts = (self.teachers[model].teacher.training,)
            where = model
        for part in parts:
            if not isinstance(part, dict):
                raise SettingsError(f"{self.where}: training of {model}: found {part!r}")
            base = merged(base, part)
        named = model if model in choices.methods else where
        return checked(Protocol, base, f"{self.where}: training of {named}")

    @cached_property
    def teachers(self) -> dict[str, Taught]:
        """The teachers that the trained methods need, by name: `teacher`, or a method's own."""
        found = {}
        for method in self.choices.students:
            if self.taught(method):
                taught = self.teacher_of(method)
                found.setdefault(taught.name, taught)
        return found

    def teacher_of(self, method: str) -> Taught:
        """Return who teaches a method; one without a term for it stands beside the common one."""
        own = self.choices.methods[method].get("teacher")
        if own is None:
            return Taught(TEACHER, self.choices.teacher)
        where = f"{self.where}.methods.{method}.teacher"
        common = self.choices.teacher.model_dump(by_alias=True)
        return Taught(f"{method}_{TEACHER}", checked(Teacher, merged(common, own), where))

    def check_teacher(self, taught: Taught) -> None:
        """Check that a teacher's network, training or source can be used.

        Raises:
            SettingsError: it can't.
        """
        teacher, where = taught.teacher, f"{self.where}.{taught.name}"
        if teacher.from_:
            other = self.source(taught)
            if other.choices.data != self.choices.data:
                raise SettingsError(
                    f"{where}.from: the data of {other.name} are {other.choices.data}; allowed: "
                    f"an experiment on {self.choices.data}"
                )
            if TEACHER not in other.teachers:
                raise SettingsError(f"{where}.from: {other.name} trains no teacher")
            absent = [
                s for s in self.teacher_seeds(taught.name) if s not in other.seeds_of(TEACHER)
            ]
            if absent:
                raise SettingsError(
                    f"{where}.from: {other.name} has teachers of seeds "
                    f"{', '.join(map(str, other.seeds_of(TEACHER)))}; lacks {absent[0]}"
                )
        elif not teacher.checkpoint:
            self.training(taught.name)
            self.teacher_network(taught.name)

    def source(self, taught: Taught) -> "Experiment":
        """Return the experiment that trains a teacher, this one unless it is taken from another."""
        name = taught.teacher.from_
        if not name:
            return self
        return self.others(name)

    def teacher_network(self, name: str) -> Network | None:
        """Return the network of a teacher; None of a brought one that says itself which it is."""
        taught = self.teachers[name]
        if taught.teacher.from_:
            return self.source(taught).teacher_network(TEACHER)
        if taught.teacher.network is None:
            return None
        return self.network(taught.teacher.network, f"{name}.network")

    def network_of(self, model: str) -> Network | None:
        """Return the network of a model."""
        return self.student if model in self.choices.methods else self.teacher_network(model)

    # --- Models and their files --------------------------------------------------------------

    def seeds_of(self, model: str) -> list[int]:
        """Return the seeds of a model."""
        return self.choices.seeds if model in self.choices.methods else self.teacher_seeds(model)

    def teacher_seeds(self, name: str) -> list[int]:
        """Return the seeds of a teacher's networks."""
        return sorted({self.teacher_seed(name, seed) for seed in self.choices.seeds}) or [0]

    def teacher_seed(self, name: str, seed: int) -> int:
        """Return the seed of the teacher of the students of a seed."""
        taught = self.teachers[name]
        if taught.teacher.from_:
            other = self.source(taught).choices.teacher
            return seed if other.per_seed else other.seed
        return seed if taught.teacher.per_seed else taught.teacher.seed

    @cached_property
    def models(self) -> list[Model]:
        """All trained models, in the order of the table: teachers, then students."""
        teachers = [
            Model(name, seed) for name in self.teachers for seed in self.teacher_seeds(name)
        ]
        students = self.choices.students
        return teachers + [Model(name, seed) for name in students for seed in self.choices.seeds]

    def folder(self, model: Model) -> str:
        """Return the folder of what this experiment makes of a model."""
        return f"results/{self.name}/{model.name}/seed_{model.seed}"

    def checkpoint(self, name: str, seed: int) -> str:
        """Return the checkpoint of a model: its own, another experiment's, or an imported one."""
        return self.trained_file(name, seed, "checkpoint.pt")

    def history(self, name: str, seed: int) -> str:
        """Return the history of a model's training."""
        return self.trained_file(name, seed, "history.csv")

    def trained_file(self, name: str, seed: int, file: str) -> str:
        """Return a file of a training."""
        model = Model(name, int(seed))
        if name in self.choices.methods:
            return f"{self.folder(model)}/{file}"
        taught = self.teachers[name]
        if taught.teacher.from_:
            return self.source(taught).trained_file(TEACHER, int(seed), file)
        return f"{self.folder(model)}/{'imported_' if taught.teacher.checkpoint else ''}{file}"

    def targets(self, name: str, seed: int) -> str:
        """Return the table of a teacher's logits."""
        return f"{self.folder(Model(name, seed))}/targets.npz"

    def teacher_file(self, method: str, seed: int) -> str | list[str]:
        """Return what a method learns from: a checkpoint, a table, or nothing."""
        if not self.taught(method):
            return []
        name = self.teacher_of(method).name
        own = self.teacher_seed(name, int(seed))
        return self.targets(name, own) if self.from_table(method) else self.checkpoint(name, own)

    def reference(self, model: str, seed: int) -> Model | None:
        """Return the teacher that a model is compared with, if it is a student and there is one."""
        if model not in self.choices.methods:
            return None
        name = self.teacher_of(model).name
        name = name if name in self.teachers else TEACHER
        return Model(name, self.teacher_seed(name, int(seed))) if name in self.teachers else None

    def reference_file(self, model: str, seed: int) -> str | list[str]:
        """Return the predictions of the teacher that a model is compared with, or nothing."""
        teacher = self.reference(model, seed)
        return f"{self.folder(teacher)}/predictions.npz" if teacher else []

    def files(self, *names: str) -> list[str]:
        """List the files called `names` of all models."""
        return [f"{self.folder(model)}/{name}" for model in self.models for name in names]

    @property
    def data_file(self) -> str:
        """The prepared data."""
        return f"results/data/{self.choices.data}.npz"

    @cached_property
    def measured_seeds(self) -> list[int]:
        """The seeds of all models: one job measures the attention of each."""
        return sorted({model.seed for model in self.models})

    def measurements(self) -> list[str]:
        """List the tables of what was measured on attention maps, one for each seed."""
        return [f"results/{self.name}/attention/seed_{seed}.csv" for seed in self.measured_seeds]

    def artifacts(self) -> list[str]:
        """List all that an experiment makes: a failed rerun leaves nothing that looks finished."""
        trained = []
        for name, seed in self.models:
            own = name in self.choices.methods or not self.teachers[name].teacher.from_
            brought = name in self.teachers and self.teachers[name].teacher.checkpoint
            files = TRAINED[:2] if brought else TRAINED
            trained += [self.trained_file(name, seed, file) for file in files] if own else []
        tables = {
            str(self.teacher_file(method, seed))
            for method in self.choices.students if self.from_table(method) and self.taught(method)
            for seed in self.choices.seeds
        }  # fmt: skip
        measured = [*self.measurements()]
        measured += [file.replace(".csv", ".json") for file in measured]
        data = [self.data_file, f"results/data/{self.choices.data}.json"]
        reports = [f"results/{self.name}/{name}" for name in REPORTS]
        return [*data, *trained, *self.files(*DERIVED), *sorted(tables), *measured, *reports]

    # --- Flags -------------------------------------------------------------------------------

    @property
    def machine(self) -> Map:
        """What a job runs on."""
        return {name: getattr(self.choices, name) for name in Machine.model_fields}

    @property
    def on_gpu(self) -> bool:
        """Whether jobs take a GPU."""
        return self.choices.device == "cuda"

    def training_flags(self, model: str, seed: int) -> list[str]:
        """Return network, protocol, machine, seed and state of a training."""
        network = self.network_of(model)
        assert network is not None, "trained networks are named"  # noqa: S101
        state = {"seed": int(seed), "resume": f"resume/{self.name}/{model}/seed_{seed}.pt"}
        engine = {name: getattr(self.choices, name) for name in Engine.model_fields}
        rest = self.training(model).plain() | self.machine | engine | state
        return network.flags + flags(rest)

    def student_flags(self, method: str, seed: int) -> list[str]:
        """Return the flags of a student's training, with its terms and its teacher."""
        name = "teacher_targets" if self.from_table(method) else "teacher"
        teacher = {name: self.teacher_file(method, seed) or None}
        terms = plugin_flags("--term", dict(self.terms(method)))
        return self.training_flags(method, seed) + terms + flags(teacher)

    def import_flags(self, name: str) -> list[str]:
        """Return the flags of importing a brought teacher."""
        teacher, network = self.teachers[name].teacher, self.teacher_network(name)
        named = network.flags if network else []
        return named + flags({"source": teacher.checkpoint, "seed": teacher.seed})

    def import_source(self, name: str) -> str:
        """Return the digest of what a brought teacher is made from."""
        return source_digest(Path(str(self.teachers[name].teacher.checkpoint)))

    def targets_flags(self, teacher: str, seed: int) -> list[str]:
        """Return the students' augmentation, and how the teacher runs."""
        training = self.training(self.choices.students[0])
        named = {key: getattr(training, key) for key in ("padding", "flip", "batch_size")}
        state = {"resume": f"resume/{self.name}/{teacher}/seed_{seed}_targets"}
        return flags(named | {"precision": self.choices.precision} | self.machine | state)

    def evaluation_flags(self, model: str, seed: int) -> list[str]:
        """Return the flags of evaluating a model."""
        predictions = self.reference_file(model, seed) or None
        settings = {"batch_size": self.choices.evaluation.batch_size}
        rest = settings | self.machine | {"teacher_predictions": predictions}
        return plugin_flags("--metric", dict(self.metrics), in_order=False) + flags(rest)

    def attention_flags(self) -> list[str]:
        """Return the flags of extracting maps."""
        return flags(self.choices.attention.plain() | self.machine)

    @property
    def object_mask(self) -> str:
        """Where the masks of the test images' objects come from: auto is what the data has."""
        asked = self.choices.attention_metrics.object_mask
        return self.data.masks if asked == "auto" else asked

    def measured(self, seed: int) -> list[Model]:
        """List the models whose attention is measured with a seed."""
        return [model for model in self.models if model.seed == int(seed)]

    def taught_by(self, seed: int) -> tuple[Model, list[str]] | None:
        """Return the teacher that models of a seed are compared with, and these models.

        Where methods have teachers of their own, it is the one that most are compared with.
        """
        found: dict[Model, list[str]] = {}
        for model in self.measured(seed):
            if teacher := self.reference(*model):
                found.setdefault(teacher, []).append(model.name)
        return max(found.items(), key=lambda each: len(each[1]), default=None)

    def measured_files(self, seed: int) -> list[str]:
        """List the checkpoints that the measures of a seed need, with that of the teacher."""
        taught = self.taught_by(seed)
        wanted = [*self.measured(seed), *([taught[0]] if taught else [])]
        return [*dict.fromkeys(self.checkpoint(*model) for model in wanted)]

    def measurement_flags(self, seed: int) -> list[str]:
        """Return the flags of measuring the attention of all models of a seed."""
        result: list[str] = []
        for model in self.measured(seed):
            result += ["--network", model.name, str(model.seed), self.checkpoint(*model)]
        if taught := self.taught_by(seed):
            result += ["--teacher", self.checkpoint(*taught[0]), "--taught", *taught[1]]
        settings = self.choices.attention_metrics.plain() | {"object_mask": self.object_mask}
        return result + flags(settings | self.machine)

    @cached_property
    def together(self) -> list[str]:
        """The methods that are trained in one job for each seed; none if there is but one.

        They have one protocol and one teacher, which says more than a table of logits.
        """

        def joins(method: str) -> bool:
            own = self.choices.methods[method]
            return not (own.get("training") or own.get("teacher") or self.from_table(method))

        methods = [method for method in self.choices.students if joins(method)]
        return methods if self.choices.together and len(methods) > 1 else []

    def together_files(self, file: str) -> list[str]:
        """List a file of the students that train together, for a wildcard seed."""
        folder = f"results/{self.name}/{{method}}/seed_{{{{seed}}}}/{file}"
        return [folder.format(method=method) for method in self.together]

    def together_teacher(self, seed: int) -> str | list[str]:
        """Return the checkpoint of the teacher of the students that train together, or nothing."""
        files = [self.teacher_file(method, seed) for method in self.together]
        return next((file for file in files if file), [])

    def together_flags(self, seed: int) -> list[str]:
        """Return the flags of training the students of a seed together."""
        result: list[str] = []
        for method in self.together:
            words = plugin_flags("--term", dict(self.terms(method)))
            starts = [place for place, word in enumerate(words) if word == "--term"]
            ends = [*starts[1:], len(words)]
            terms = [" ".join(words[a + 1 : b]) for a, b in zip(starts, ends, strict=True)]
            result += ["--student", method, *terms]
        shared = self.training_flags(self.together[0], seed)
        place = shared.index("--resume")
        states = [f"resume/{self.name}/{method}/seed_{seed}.pt" for method in self.together]
        shared[place : place + 2] = ["--resume", *states]
        return result + shared + flags({"teacher": self.together_teacher(seed) or None})

    def together_code(self) -> str:
        """Return the digests of training students together."""
        teachers = [TEACHER] if TEACHER in self.teachers else []
        terms = {("terms", name) for method in self.together for name in self.terms(method)}
        return self.code("train_students", [*self.families(*self.together, *teachers), *terms])

    # --- Reports -----------------------------------------------------------------------------

    def pairs(self) -> list[list[str]]:
        """List the pairs of method and reference: all with the baseline, and others."""
        students = self.choices.students
        found = [[method, BASELINE] for method in students if method != BASELINE]
        found = found if BASELINE in students else []
        named = [pair for pair in self.choices.comparison.pairs if {*pair} <= {*students}]
        return found + [pair for pair in named if pair not in found]

    def run_flags(self, *names: str) -> list[str]:
        """Return the title and, for each model, its label, name, seed, metrics, history and files.

        With them go the keys of the training that methods have of their own.
        """
        result = flags({"title": self.choices.title})
        for model in dict.fromkeys(model.name for model in self.models):
            result += ["--label", model, self.label(model)]
            if model in self.teachers:
                result += ["--teacher-model", model]
        for method in self.choices.students:
            if own := sorted(self.choices.methods[method].get("training", {})):
                result += ["--own-training", method, *own]
        for model in self.models:
            files = [f"{self.folder(model)}/metrics.json", self.history(*model)]
            files += [f"{self.folder(model)}/{name}" for name in names]
            result += ["--run", model.name, str(model.seed), *files]
        return result

    def run_files(self, *names: str) -> list[str]:
        """List the files that `run_flags` names."""
        histories = [self.history(*model) for model in self.models]
        return [*self.files("metrics.json", *names), *histories]

    def comparison_flags(self) -> list[str]:
        """Return the flags of comparing methods."""
        settings = self.choices.comparison.plain()
        settings.pop("pairs")
        result = self.run_flags("predictions.npz")
        for method, reference in self.pairs():
            result += ["--pair", method, reference]
        return result + flags(settings | self.choices.figures.plain())

    def claims_flags(self) -> list[str]:
        """Return the flags of judging claims."""
        students = self.choices.students
        attentive = [
            method
            for method in students
            if any(term.needs == "stages" for term in self.terms(method).values())
        ]
        named = {"title": self.choices.title, "attention_methods": attentive}
        result = flags(named | {"object_mask": self.object_mask} | self.choices.figures.plain())
        for model in dict.fromkeys(model.name for model in self.models):
            result += ["--label", model, self.label(model)]
        for model in self.teachers:
            result += ["--teacher-model", model]
        below = self.choices.claims.below or []
        trained = below and {*below} <= {*students}
        return result + (["--claimed-below", *below] if trained else [])

    def figure_flags(self) -> list[str]:
        """Return the flags of drawing figures."""
        return self.run_flags("attention.npz") + flags(self.choices.figures.plain())

    # --- Code --------------------------------------------------------------------------------

    def code(self, script: str, plugins: Iterable[tuple[str, str]] = ()) -> str:
        """Return the digests of a script and of the plug-ins that its job uses."""
        used = [f"{kind}.{name} {used_digest(kind, name)}" for kind, name in sorted({*plugins})]
        return ", ".join([script_digest(SCRIPTS / f"{script}.py"), *used])

    def families(self, *models: str) -> list[tuple[str, str]]:
        """List the families of networks of some models, as plug-ins."""
        networks = [self.network_of(model) for model in models]
        return [("networks", network.family) for network in networks if network]

    def training_code(self, model: str) -> str:
        """Return the digests of a training: script, networks and terms."""
        if model not in self.choices.methods:
            return self.code("train_teacher", [*self.families(model), ("terms", "labels")])
        teachers = [self.teacher_of(model).name] if self.taught(model) else []
        terms = [("terms", name) for name in self.terms(model)]
        return self.code("train_student", [*self.families(model, *teachers), *terms])

    def evaluation_code(self, model: str) -> str:
        """Return the digests of evaluating a model: script, network and metrics."""
        metrics = [("metrics", name) for name in self.metrics]
        return self.code("evaluate", [*self.families(model), *metrics])

    def measurement_code(self, script: str) -> str:
        """Return the digests of a step that runs any of the networks."""
        return self.code(script, self.families(*(model.name for model in self.models)))

    def report_code(self, script: str) -> str:
        """Return the digests of a report: script, and what terms and metrics declare."""
        terms = {name for method in self.choices.students for name in self.terms(method)}
        used = [("terms", name) for name in terms] + [("metrics", name) for name in self.metrics]
        shown = [f"{kind}.{name} {shown_digest(kind, name)}" for kind, name in sorted(used)]
        return ", ".join([script_digest(SCRIPTS / f"{script}.py"), *shown])


def load_experiments(content: Map) -> tuple[Config, dict[str, Experiment]]:
    """Return the config and all its experiments by name.

    Raises:
        SettingsError: the first mistake, as one line with its key.
    """
    config = Config(content)
    found: dict[str, Experiment] = {}

    def experiment(name: str) -> Experiment:
        check_known(name, config.content["experiments"], "teacher.from")
        if name not in found:
            found[name] = Experiment(name, config, experiment)
        return found[name]

    for name in config.content["experiments"]:
        experiment(name)
    return config, found


def data_flags(config: Config, name: str) -> list[str]:
    """Return the flags of preparing a data set: its format, with its settings."""
    kind, settings = config.data[name]
    return plugin_flags("--format", {kind: settings})


def data_code(config: Config, name: str) -> str:
    """Return the digests of preparing a data set."""
    kind, _ = config.data[name]
    digest = plugin_digest("formats", kind)
    return f"{code_digest(SCRIPTS / 'prepare_data.py')}, formats.{kind} {digest}"
