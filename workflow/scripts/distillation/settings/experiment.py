"""An experiment as its config resolves: models, folders, pairs, flags, digests.

The rules of the workflow ask it for all that they need to know; it runs without torch.
"""

import shlex
from collections.abc import Callable, Iterable, Mapping
from functools import cache, cached_property, reduce
from pathlib import Path
from typing import Any, NamedTuple

from distillation.record import digest
from distillation.settings import networks
from distillation.settings.arguments import flags, plugin_flags, plugin_words
from distillation.settings.base import MetricSettings, SettingsError, Sizes, TermSettings, checked
from distillation.settings.config import (
    Choices,
    Config,
    Map,
    Method,
    Teacher,
    check_known,
    check_map,
    merged,
)
from distillation.settings.networks import Network
from distillation.settings.plugins import Kind, chosen, chosen_one, declared_beside, names
from distillation.settings.training import VIEWS, Engine, Machine, Protocol
from distillation.stages import Pair, Shape

SCRIPTS = Path(__file__).resolve().parents[2]
TEACHER, BASELINE = "teacher", "baseline"
# In a method's name's place: the student whose training takes the most operations.
DEAREST = "dearest"
# What each trained model has in its folder, beside what its training writes.
DERIVED = ("metrics.json", "predictions.npz", "attention.npz")
TRAINED = ("checkpoint.pt", "history.csv", "tensorboard")
REPORTS = (
    "table.csv", "table.md", "table.html", "summary.json", "provenance.json", "figures",
    "figures.json", "comparison.csv", "comparison_seeds.csv", "fidelity.csv", "comparison.md",
    "comparison.html", "comparison.png", "comparison.svg", "attention_metrics.csv",
    "attention_metrics.json", "claims.md", "claims.html", "claims", "index.html",
)  # fmt: skip
# Names that are targets or folders already.
RESERVED = (
    "all", "data", "prepare_data", "train_teacher", "import_teacher", "tabulate_targets",
    "train_student", "evaluate", "extract_attention", "measure_attention", "compare_methods",
    "render_table", "render_figures", "render_claims", "render_index", "render_overview",
    "overview",
)  # fmt: skip

# Names that are no method's: words of the config, folders of results, figures of several methods.
NO_METHODS = (TEACHER, DEAREST, "attention", "claims", "figures", "students", "test")

# Once for each file in a run of the workflow, which asks for them with every job.
script_digest, used_digest = map(cache, (digest.code_digest, digest.plugin_digest))


class Model(NamedTuple):
    """A trained network: whose it is (a method's name, or a teacher's) and its seed."""

    name: str
    seed: int


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
        self.name, self.where, self.others = name, f"experiments.{name}", others
        self.known = config.content["experiments"]
        if name in RESERVED:
            raise SettingsError(f"{self.where}: found a name of a rule or folder; allowed: others")
        self.choices: Choices = config.choices(name)
        self.students = self.choices.students
        check_known(self.choices.data, config.data, f"{self.where}.data")
        self.format, self.data = config.data[self.choices.data]
        self.methods, self.terms = self.read_methods()
        metrics, compared = self.choices.evaluation.metrics, self.choices.comparison
        self.metrics: dict[str, MetricSettings] = chosen(
            "metrics", metrics, f"{self.where}.evaluation.metrics"
        )
        check_known(compared.metric, self.metrics, f"{self.where}.comparison.metric")
        self.check_pairs(compared.pairs, "comparison.pairs")
        self.check_pairs([below] if (below := self.choices.claims.below) else [], "claims.below")
        if self.choices.attention_metrics.object_mask == "stored" and self.data.masks != "stored":
            raise SettingsError(
                f"{self.where}.attention_metrics.object_mask: found stored with the data "
                f"{self.choices.data}, which have no masks; allowed: auto, above_zero, none"
            )
        # Everything that may be wrong is looked at, whether a rule asks for it or not.
        named = self.choices.student.network
        self.student = Network(*chosen_one("networks", named, f"{self.where}.student.network"))
        for method in self.methods:
            self.check_targets(method)
        for method in self.students:
            if not self.methods[method].equal_cost:
                self.check_warmup(method, self.protocol(method).epochs)
            if asked := self.methods[method].equal_cost:
                known = self.measures and [DEAREST, *self.measures]
                check_known(asked, known, f"{self.where}.methods.{method}.equal_cost")
        for teacher in self.teachers:
            self.check_teacher(teacher)
        if self.metrics[compared.metric].needs_teacher and not self.teachers:
            raise SettingsError(
                f"{self.where}.comparison.metric: found {compared.metric}, which needs a teacher, "
                "and no student has one; allowed: another metric"
            )
        labels = [*map(self.label, self.names)]
        if twice := [label for label in labels if labels.count(label) > 1]:
            raise SettingsError(
                f"{self.where}.methods: found the label {twice[0]!r} twice; allowed: one for each"
            )

    def check_pairs(self, pairs: list[list[str]], key: str) -> None:
        """Refuse pairs of methods that aren't known, of one method, or that are there twice."""
        where = f"{self.where}.{key}"
        for place, pair in enumerate(pairs):
            for method in pair:
                check_known(method, self.methods, where)
            if len({*pair}) < 2 or {*pair} in [{*each} for each in pairs[:place]]:
                raise SettingsError(
                    f"{where}: found {' and '.join(pair)}{' twice' * (len({*pair}) == 2)}; "
                    "allowed: two methods, each pair once"
                )

    # --- Methods -----------------------------------------------------------------------------

    def read_methods(self) -> tuple[dict[str, Method], dict[str, dict[str, TermSettings]]]:
        """Return all methods, trained or not, and the terms of each; labels are among them.

        Raises:
            SettingsError: a name isn't allowed, a term isn't known, or its settings are wrong.
        """
        methods, terms = {}, {}
        where = f"{self.where}.methods"
        for name, own in check_map(self.choices.methods, where).items():
            if name in NO_METHODS or name.endswith(f"_{TEACHER}"):
                raise SettingsError(
                    f"{where}: found {name!r}; allowed: a name that doesn't end in {TEACHER}, and "
                    f"isn't {', '.join(NO_METHODS[1:])}"
                )
            beside = {key: own[key] for key in own if key in Method.model_fields}
            named = {key: own[key] for key in own if key not in beside}
            terms[name] = chosen("terms", {"labels": {}} | named, f"{where}.{name}")
            methods[name] = checked(Method, beside, f"{where}.{name}")
        for name in self.students:
            check_known(name, methods, f"{self.where}.students")
        return methods, terms

    def needs(self, model: str) -> set[str]:
        """Return what a model reads of a teacher: logits, stages, both, or nothing as teachers."""
        return {term.needs for term in self.terms.get(model, {}).values()} - {"nothing"}

    def taught(self, model: str) -> bool:
        """Return whether a model learns from a teacher."""
        return bool(self.needs(model))

    def from_table(self, model: str) -> bool:
        """Return whether a model learns from a table of its teacher's logits."""
        return self.taught(model) and self.methods[model].targets == "table"

    def check_warmup(self, method: str, epochs: int) -> None:
        """Refuse a weight that would still rise when the training ends."""
        for name, term in self.terms[method].items():
            if term.warmup_epochs > epochs > 0:
                raise SettingsError(
                    f"{self.where}.methods.{method}.{name}.warmup_epochs: found "
                    f"{term.warmup_epochs} with {epochs} epochs; allowed: 0 to {epochs}"
                )

    def check_targets(self, method: str) -> None:
        """Raise SettingsError for a table of logits where terms need stages, or views differ."""
        stages = [name for name, term in self.terms[method].items() if term.needs == "stages"]
        views = sorted({*VIEWS} & self.methods[method].training.keys())
        found = [*stages, *(f"{view} of its own" for view in views)]
        if self.methods[method].targets == "table" and found:
            raise SettingsError(
                f"{self.where}.methods.{method}: found targets table with {found[0]}; a table has "
                f"the teacher's logits for the views that all students share; allowed: online"
            )

    def check_pair(self, method: str) -> None:
        """Refuse a method whose terms can't use the classes, or the stages, or its counted epochs.

        Stages are asked for where a term needs them, as far as they are known before a run: not of
        a teacher that says itself which network it is, nor of data that aren't there yet.

        Raises:
            SettingsError: a term can't.
        """
        terms = self.terms[method].values()
        if self.methods[method].equal_cost and any(term.warmup_epochs for term in terms):
            self.check_warmup(method, self.training(method).epochs)
        staged, classes = [term for term in terms if term.needs == "stages"], self.sizes.classes
        shapes: list[list[Shape]] = [[], []]
        known = staged and self.sizes.side and self.network_of(self.teacher_of(method))
        if known:
            names = (method, self.teacher_of(method))
            shapes = [[Shape(*shape) for shape in self.cost(name)["stages"]] for name in names]
        try:
            for term in terms:
                if known or term not in staged:
                    term.check_pair(Pair(*shapes, classes=classes))
        except ValueError as error:
            raise SettingsError(f"{self.where}.methods.{method}: {error}") from None

    def label(self, model: str) -> str:
        """Return the name of a model as people read it."""
        if model in self.methods:
            plain = "Baseline" if model == BASELINE else model
            return self.methods[model].label or plain
        method = model.removesuffix(f"_{TEACHER}")
        return "Teacher" if model == TEACHER else f"Teacher of {self.label(method)}"

    # --- Networks and trainings --------------------------------------------------------------

    @cached_property
    def sizes(self) -> Sizes:
        """Counts and shape of the images."""
        return self.data.sizes()

    def protocol(self, model: str) -> Protocol:
        """Return the protocol of a model, a teacher or the students of a method, as chosen."""
        if model in self.methods:
            parts = (self.choices.student.training, self.methods[model].training)
        else:
            parts = (self.teachers[model].training,)
        whole = reduce(merged, parts, self.choices.training)
        return checked(Protocol, whole, f"{self.where}: training of {model}")

    def training(self, model: str) -> Protocol:
        """Return the protocol of a model as it is trained.

        Where it is to cost as much as another, its epochs are counted, and its milestones, if the
        schedule has some, are at the same fractions of the run.
        """
        protocol = self.protocol(model)
        if model not in self.methods or not self.methods[model].equal_cost:
            return protocol
        _, epochs = self.equal_cost(model)
        counted: Map = {"epochs": epochs}
        if protocol.schedule == "step":
            factor = epochs / max(1, protocol.epochs)
            counted["milestones"] = [max(1, round(each * factor)) for each in protocol.milestones]
        return protocol.model_copy(update=counted)

    @cached_property
    def teachers(self) -> dict[str, Teacher]:
        """The teachers that the trained methods need, by name: `teacher`, or a method's own."""
        common, found = self.choices.teacher, {}
        for method in filter(self.taught, self.students):
            own, where = self.methods[method].teacher, f"{self.where}.methods.{method}.teacher"
            both = merged(common.model_dump(by_alias=True), own or {})
            found[self.teacher_of(method)] = (
                common if own is None else checked(Teacher, both, where)
            )
        return found

    def key(self, model: str) -> str:
        """Return the place in the config of a teacher, or of a method."""
        if model in self.methods:
            return f"{self.where}.methods.{model}"
        method = model.removesuffix(f"_{TEACHER}")
        return f"{self.where}.{TEACHER if model == TEACHER else f'methods.{method}.{TEACHER}'}"

    def teacher_of(self, method: str) -> str:
        """Return who teaches a method; one without a term for it stands beside the common one."""
        return TEACHER if self.methods[method].teacher is None else f"{method}_{TEACHER}"

    def check_teacher(self, name: str) -> None:
        """Raise SettingsError if a teacher's network, training or source can't be used."""
        where = f"{self.key(name)}.from"
        if other := self.source(name):
            if other.choices.data != self.choices.data:
                found = f"the data of {other.name} are {other.choices.data}"
                raise SettingsError(f"{where}: {found}; allowed: those of {self.choices.data}")
            if TEACHER not in other.teachers:
                raise SettingsError(f"{where}: {other.name} trains no teacher")
            known = other.teacher_seeds(TEACHER)
            if absent := {*self.teacher_seeds(name)} - {*known}:
                has = f"{other.name} has teachers of seeds {', '.join(map(str, known))}"
                raise SettingsError(f"{where}: {has}; lacks {min(absent)}")
        else:
            self.network_of(name)
            if not self.teachers[name].checkpoint:
                self.protocol(name)

    def source(self, name: str) -> "Experiment | None":
        """Return the other experiment that a teacher is taken from, if it is."""
        if (taken := self.teachers[name].from_) is None:
            return None
        check_known(taken, self.known, f"{self.key(name)}.from")
        return self.others(taken)

    def check_sources(self) -> None:
        """Raise SettingsError if images, brought teachers or weights to begin with aren't there.

        Nothing that was made of them is then removed to be made again. Or images are too small.
        """
        where, side = f"data.{self.choices.data}.source", self.sizes.side
        try:
            self.data.check_source()
            for model in self.names:
                where = f"{self.where}.student" if model in self.methods else self.key(model)
                if network := self.network_of(model):
                    network.settings.identity()
                trainer, trained = (self, model) if model in self.methods else self.origin(model)
                if model not in self.methods and trainer.teachers[trained].checkpoint:
                    where = f"{trainer.key(trained)}.checkpoint"
                    trainer.import_source(trained)
                elif side and (padding := trainer.protocol(trained).padding) >= side:
                    raise SettingsError(
                        f"{self.key(model)}: found padding {padding} with images of {side} "
                        f"pixels; allowed: 0 to {side - 1}"
                    )
        except FileNotFoundError as error:
            told = f"{error.filename}: no such file" if error.filename else error
            raise SettingsError(f"{where}: {told}") from None

    def origin(self, name: str) -> "tuple[Experiment, str]":
        """Return the experiment that trains or brings a teacher, and its name there."""
        other = self.source(name)
        return other.origin(TEACHER) if other else (self, name)

    def network_of(self, model: str) -> Network | None:
        """Return the network of a model; None of a brought one that says itself which it is."""
        if model in self.methods:
            return self.student
        if other := self.source(model):
            return other.network_of(TEACHER)
        network = self.teachers[model].network
        if network is None:
            return None
        return Network(*chosen_one("networks", network, f"{self.key(model)}.network"))

    # --- Equal cost --------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, int, int]:
        """Side, channels and classes of the images, 0 where they aren't known."""
        return self.sizes.side, self.sizes.channels, self.sizes.classes

    def cost(self, model: str) -> dict[str, Any]:
        """Return what describe_network.py counts of a model; nothing of an unknown network."""
        network = self.network_of(model)
        return networks.cost(network, *self.shape) if network else {}

    def questions(self) -> list[networks.Asked]:
        """List what is asked of describe_network.py about the networks of all models."""
        named = filter(None, map(self.network_of, self.names))
        return [networks.asked(network, *self.shape) for network in named]

    def views(self, model: str) -> int:
        """Return the number of views of a training image that augmentation makes."""
        protocol = self.protocol(model)
        return (2 * protocol.padding + 1) ** 2 * (1 + protocol.flip)

    def operations(self, method: str, teacher_included: bool) -> tuple[int, int]:
        """Return multiply-accumulates for a training image: of each epoch, and beside the epochs.

        An epoch takes three forward passes of the student, since the backward pass costs two, and
        one of the teacher where a term asks it. Beside the epochs a table of its logits takes a
        pass for each view; `teacher_included` adds all of the teacher's own training.

        Raises:
            SettingsError: the teacher's network, or its training, isn't known.
        """
        student = 3 * self.cost(method)["multiply_accumulates"]
        if not self.taught(method):
            return student, 0
        name = self.teacher_of(method)
        trainer, trained = self.origin(name)
        teacher = self.cost(name).get("multiply_accumulates")
        if teacher is None or (trainer.teachers[trained].checkpoint and teacher_included):
            raise SettingsError(
                f"{self.key(name)}: is brought, so equal_cost doesn't know its "
                f"{'network' if teacher is None else 'training'}; allowed: "
                f"{'one with network' if teacher is None else 'teacher_included: false'}"
            )
        passes = self.views(method) if self.from_table(method) else 0
        if teacher_included:
            passes += 3 * trainer.protocol(trained).epochs
        return student + (0 if self.from_table(method) else teacher), passes * teacher

    @property
    def measures(self) -> list[str]:
        """The students that others can cost as much as: those whose epochs are chosen."""
        return [method for method in self.students if not self.methods[method].equal_cost]

    def equal_cost(self, method: str) -> tuple[str, int]:
        """Return which student a method costs as much as, and in how many whole epochs.

        Raises:
            SettingsError: it costs more before its first epoch.
        """
        own, whole = self.methods[method], {}
        for other in self.measures if own.equal_cost == DEAREST else [str(own.equal_cost)]:
            epoch, beside = self.operations(other, own.teacher_included)
            whole[other] = self.protocol(other).epochs * epoch + beside
        # Of equal ones the last, which is the one of more terms as methods are listed.
        other = max(reversed(whole), key=whole.__getitem__)
        epoch, beside = self.operations(method, own.teacher_included)
        epochs = round((whole[other] - beside) / epoch)
        if epochs < min(1, whole[other]):
            raise SettingsError(
                f"{self.where}.methods.{method}.equal_cost: {other} takes fewer operations than "
                f"{method} before its first epoch; allowed: a dearer student"
            )
        return other, epochs

    def equal_cost_lines(self) -> list[str]:
        """Return a line for each trained method whose epochs are counted, for a dry run."""
        lines = []
        for method in (each for each in self.students if each not in self.measures):
            other, epochs = self.equal_cost(method)
            more = ", the teacher's training included" * self.methods[method].teacher_included
            told = f"as many operations as {other} in {self.protocol(other).epochs}{more}"
            lines.append(f"{self.name}: {method}: {epochs} epochs, {told}")
        return lines

    # --- Models and their files --------------------------------------------------------------

    def teacher_seeds(self, name: str) -> list[int]:
        """Return the seeds of a teacher's networks."""
        return sorted({self.teacher_seed(name, seed) for seed in self.choices.seeds})

    def teacher_seed(self, name: str, seed: int) -> int:
        """Return the seed of the teacher of the students of a seed."""
        if other := self.source(name):
            return other.teacher_seed(TEACHER, seed)
        teacher = self.teachers[name]
        return seed if teacher.per_seed else teacher.seed

    @cached_property
    def models(self) -> list[Model]:
        """All trained models, in the order of the table: teachers, then students."""
        seeds = {name: self.teacher_seeds(name) for name in self.teachers}
        seeds |= dict.fromkeys(self.students, self.choices.seeds)
        return [Model(name, seed) for name, own in seeds.items() for seed in own]

    @property
    def names(self) -> list[str]:
        """The names of all models, in the order of the table."""
        return [*self.teachers, *self.students]

    def folder(self, model: Model) -> str:
        """Return the folder of what this experiment makes of a model."""
        return f"results/{self.name}/{model.name}/seed_{model.seed}"

    def trained_file(self, name: str, seed: int, file: str = "checkpoint.pt") -> str:
        """Return a file of a model's training: here, in another experiment, or an imported one."""
        brought = False
        if name not in self.methods:
            if other := self.source(name):
                return other.trained_file(TEACHER, seed, file)
            brought = bool(self.teachers[name].checkpoint)
        return f"{self.folder(Model(name, int(seed)))}/{'imported_' * brought}{file}"

    def teacher_file(self, method: str, seed: int) -> str | list[str]:
        """Return what a method learns from: a checkpoint, a table, or nothing."""
        if not self.taught(method):
            return []
        name = self.teacher_of(method)
        own = Model(name, self.teacher_seed(name, int(seed)))
        if self.from_table(method):
            return f"{self.folder(own)}/targets.npz"
        return self.trained_file(*own)

    def reference(self, model: str, seed: int) -> Model | None:
        """Return the teacher that a model is compared with, if it is a student and there is one."""
        if model not in self.methods:
            return None
        for name in (self.teacher_of(model), TEACHER):
            if name in self.teachers:
                return Model(name, self.teacher_seed(name, int(seed)))
        return None

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

    def measurements(self) -> list[str]:
        """List the tables of what was measured on attention maps, one for each seed."""
        seeds = sorted({model.seed for model in self.models})
        return [f"results/{self.name}/attention/seed_{seed}.csv" for seed in seeds]

    def artifacts(self) -> list[str]:
        """List all that an experiment is of: a failed rerun leaves nothing that looks finished.

        Another experiment's teacher is among it: if its rerun failed, students are of the old one.
        """
        trained = []
        for name, seed in self.models:
            trainer, own = (self, name) if name in self.methods else self.origin(name)
            brought = own in trainer.teachers and trainer.teachers[own].checkpoint
            files = TRAINED[:2] if brought else TRAINED
            trained += [self.trained_file(name, seed, file) for file in files]
        tables = {
            str(self.teacher_file(method, seed))
            for method in filter(self.from_table, self.students)
            for seed in self.choices.seeds
        }
        measured = self.measurements()
        measured += [file.replace(".csv", ".json") for file in measured]
        data = [self.data_file, f"results/data/{self.choices.data}.json"]
        reports = [f"results/{self.name}/{name}" for name in REPORTS]
        return [*data, *trained, *self.files(*DERIVED), *sorted(tables), *measured, *reports]

    # --- Flags -------------------------------------------------------------------------------

    @property
    def machine(self) -> Map:
        """What a job runs on."""
        return self.choices.model_dump(include={*Machine.model_fields})

    @property
    def on_gpu(self) -> bool:
        """Whether jobs take a GPU."""
        return self.choices.device == "cuda"

    def training_flags(self, model: str, seed: int, *others: str) -> list[str]:
        """Return network, protocol, machine, seed and state of a training, or of some together."""
        network = self.network_of(model)
        assert network is not None, "trained networks are named"  # noqa: S101
        states = [f"resume/{self.name}/{each}/seed_{seed}.pt" for each in (model, *others)]
        engine = self.choices.model_dump(include={*Engine.model_fields})
        own = {"seed": int(seed), "resume": states}
        return network.flags + flags(self.training(model).plain() | self.machine | engine | own)

    def student_flags(self, method: str, seed: int) -> list[str]:
        """Return the flags of a student's training, with its terms and its teacher.

        Raises:
            SettingsError: a term can't use the two networks.
        """
        self.check_pair(method)
        name = "teacher_targets" if self.from_table(method) else "teacher"
        teacher = {name: self.teacher_file(method, seed) or None}
        terms = plugin_flags("--term", self.terms[method])
        return self.training_flags(method, seed) + terms + flags(teacher)

    def import_flags(self, name: str) -> list[str]:
        """Return the flags of importing a brought teacher."""
        teacher, network = self.teachers[name], self.network_of(name)
        named = network.flags if network else []
        return named + flags({"source": teacher.checkpoint, "seed": teacher.seed})

    def import_source(self, name: str) -> str:
        """Return the digest of what a brought teacher is made from."""
        return digest.source_digest(Path(str(self.teachers[name].checkpoint)))

    @property
    def shared(self) -> Protocol:
        """The protocol of the students, without what a method has of its own."""
        whole = merged(self.choices.training, self.choices.student.training)
        return checked(Protocol, whole, f"{self.where}: training of the students")

    @property
    def tabulated(self) -> str:
        """The first method that reads a table, which holds its views; the first if none does."""
        return next(filter(self.from_table, self.students), self.students[0])

    def targets_flags(self, teacher: str, seed: int) -> list[str]:
        """Return the students' augmentation, and how the teacher runs."""
        protocol = self.shared
        named = {key: getattr(protocol, key) for key in (*VIEWS, "batch_size")}
        state = {"resume": f"resume/{self.name}/{teacher}/seed_{seed}_targets"}
        return flags(named | {"precision": self.choices.precision} | self.machine | state)

    def evaluation_flags(self, model: str, seed: int) -> list[str]:
        """Return the flags of evaluating a model."""
        predictions = self.reference_file(model, seed) or None
        settings = self.choices.evaluation.plain()
        del settings["metrics"]
        rest = settings | self.machine | {"teacher_predictions": predictions}
        return plugin_flags("--metric", self.metrics, in_order=False) + flags(rest)

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
        return [*dict.fromkeys(self.trained_file(*model) for model in wanted)]

    def measurement_flags(self, seed: int) -> list[str]:
        """Return the flags of measuring the attention of all models of a seed."""
        result: list[str] = []
        for model in self.measured(seed):
            result += ["--network", model.name, str(model.seed), self.trained_file(*model)]
        if taught := self.taught_by(seed):
            result += ["--teacher", self.trained_file(*taught[0]), "--taught", *taught[1]]
        settings = self.choices.attention_metrics.plain() | {"object_mask": self.object_mask}
        return result + flags(settings | self.machine)

    # --- Students that train together --------------------------------------------------------

    @cached_property
    def together(self) -> list[str]:
        """The methods that are trained in one job for each seed; none if there is but one.

        They have one protocol and one teacher, which says more than a table of logits.
        """
        methods = []
        for method in self.students if self.choices.together else ():
            own = self.methods[method]
            alone = own.training or own.equal_cost or own.teacher is not None
            methods += [] if alone or self.from_table(method) else [method]
        return methods if len(methods) > 1 else []

    @cached_property
    def measured_together(self) -> list[str]:
        """The methods whose networks are measured in one job for each seed.

        Some train together, others beside them; they are compared with one teacher.
        """
        teachers = {self.reference(each, self.choices.seeds[0]) for each in self.together}
        return [
            method
            for method in self.students
            if self.reference(method, self.choices.seeds[0]) in teachers
        ]

    def together_files(self, methods: list[str], file: str) -> list[str]:
        """List a file of students of one seed, for a wildcard seed."""
        folder = f"results/{self.name}/{{method}}/seed_{{{{seed}}}}/{file}"
        return [folder.format(method=method) for method in methods]

    def together_teacher(self, seed: int) -> str | list[str]:
        """Return the checkpoint of the teacher of the students that train together, or nothing."""
        return next(
            (self.teacher_file(each, seed) for each in self.together if self.taught(each)), []
        )

    def together_reference(self, seed: int) -> str | list[str]:
        """Return the predictions of the teacher that they are compared with, or nothing."""
        return self.reference_file(self.together[0], seed)

    def together_flags(self, seed: int) -> list[str]:
        """Return the flags of training the students of a seed together; see `student_flags`."""
        result: list[str] = []
        for method in self.together:
            self.check_pair(method)
            terms = sorted(self.terms[method].items())
            result += ["--student", method, *(shlex.join(plugin_words(*term)) for term in terms)]
        shared = self.training_flags(self.together[0], seed, *self.together[1:])
        return result + shared + flags({"teacher": self.together_teacher(seed) or None})

    # --- Reports -----------------------------------------------------------------------------

    def pairs(self) -> list[list[str]]:
        """List the pairs of method and reference: all with the baseline, others, those claimed."""
        others = [method for method in self.students if method != BASELINE]
        found = [[method, BASELINE] for method in others] if BASELINE in self.students else []
        named = [pair for pair in self.choices.comparison.pairs if {*pair} <= {*self.students}]
        below = self.choices.claims.below
        if below and {*below} <= {*self.students}:
            named.append(below)
        for pair in named:
            if {*pair} not in [{*each} for each in found]:
                found.append(pair)
        return found

    def name_flags(self) -> list[str]:
        """Return the experiment's title, what its models are called, and which are teachers."""
        result = flags({"title": self.choices.title})
        for model in self.names:
            result += ["--label", model, self.label(model)]
            result += ["--teacher-model", model] if model in self.teachers else []
        return result

    def run_flags(self, *names: str) -> list[str]:
        """Return the names and, for each model, its name, seed, metrics, history and files.

        With them go the keys of the training that methods have of their own.
        """
        result = self.name_flags()
        for method in self.students:
            own = self.methods[method]
            given, trained = self.protocol(method), self.training(method)
            counted = [
                name
                for name in ("epochs", "milestones")
                if getattr(given, name) != getattr(trained, name)
            ]
            if keys := sorted({*own.training, *counted}):
                result += ["--own-training", method, *keys]
        for model in self.models:
            files = [f"{self.folder(model)}/metrics.json", self.trained_file(*model, "history.csv")]
            files += [f"{self.folder(model)}/{name}" for name in names]
            result += ["--run", model.name, str(model.seed), *files]
        return result

    def run_files(self, *names: str) -> list[str]:
        """List the files that `run_flags` names."""
        histories = [self.trained_file(*model, "history.csv") for model in self.models]
        return [*self.files("metrics.json", *names), *histories]

    def comparison_flags(self) -> list[str]:
        """Return the flags of comparing methods."""
        settings = self.choices.comparison.plain() | self.choices.figures.plain()
        settings.pop("pairs")
        pairs = [word for pair in self.pairs() for word in ("--pair", *pair)]
        return self.run_flags("predictions.npz") + pairs + flags(settings)

    def claims_flags(self) -> list[str]:
        """Return the flags of judging claims."""
        # Those of another teacher than maps are compared with are none of them.
        _, compared = self.taught_by(self.choices.seeds[0]) or (None, [])
        attentive = [
            method
            for method in self.students
            if method in compared
            and any(term.teaches_attention() for term in self.terms[method].values())
        ]
        named = {"attention_methods": attentive, "object_mask": self.object_mask}
        below = self.choices.claims.below or []
        claimed = ["--claimed-below", *below] if below and {*below} <= {*self.students} else []
        least = self.choices.claims.smallest_differences.plain().items()
        claimed += [text for each in least for text in ("--smallest-difference", *map(str, each))]
        return self.name_flags() + flags(named | self.choices.figures.plain()) + claimed

    def figure_flags(self) -> list[str]:
        """Return the flags of drawing figures."""
        return self.run_flags("attention.npz") + flags(self.choices.figures.plain())

    def compared_files(self) -> list[str]:
        """List the tables that experiments are compared by."""
        names = ("table.csv", "comparison.csv", "provenance.json")
        return [f"results/{self.name}/{name}" for name in names]

    def overview_flags(self) -> list[str]:
        """Return the experiment's part of the flags of comparing experiments."""
        choices = self.choices
        names = (self.name, choices.data, choices.comparison.metric, f"results/{self.name}")
        return ["--experiment", *names]

    def index_flags(self) -> list[str]:
        """Return the flags of making the experiment's page."""
        named = {
            "results": f"results/{self.name}", "remark": self.choices.remark,
            "confidence": self.choices.comparison.confidence,
        }  # fmt: skip
        return self.run_flags() + flags(named)

    # --- Code --------------------------------------------------------------------------------

    def code(
        self,
        script: str,
        models: Iterable[str],
        terms: Iterable[str] = (),
        metrics: Iterable[str] = (),
    ) -> str:
        """Return the digests of a script, of the networks of models, and of terms and metrics.

        What a metric declares beside its settings decides what is measured, and no flag has it.
        """
        families: set[str] = set()
        for model in models:
            network = self.network_of(model)
            # One that is brought and says itself which it is may be of any family.
            families |= {network.family} if network else {*names("networks")}
        code = digests(script, {"networks": families, "terms": terms, "metrics": metrics})
        told = [declared_beside("metrics", name) for name in metrics]
        return f"{code}, {digest.shortened(repr(told))}" if told else code

    def training_code(self, *models: str) -> str:
        """Return the digests of the training of a teacher, a student or several together.

        With them goes that of the file that it begins with, if it does.
        """
        students = [model for model in models if model in self.methods]
        script = f"train_student{'s' * (len(students) > 1)}" if students else "train_teacher"
        teachers = [self.teacher_of(model) for model in models if self.taught(model)]
        terms = [name for method in students for name in self.terms[method]] or ["labels"]
        network = self.network_of(models[0])
        begins = network.settings.identity() if network else ""
        code = self.code(script, [*models, *teachers], terms)
        return f"{code}, begins with {begins}" if begins else code

    def report_code(self, script: str) -> str:
        """Return the digests of a report: script, and what terms and metrics say of themselves."""
        terms = {name for method in self.students for name in self.terms[method]}
        shown = [declared_beside("terms", name) for name in sorted(terms)]
        shown += [declared_beside("metrics", name) for name in sorted(self.metrics)]
        return f"{digests(script)}, {digest.shortened(repr(shown))}"


def digests(script: str, plugins: Mapping[Kind, Iterable[str]] | None = None) -> str:
    """Return the digests of a script and of the plug-ins that its job uses, names by kind."""
    used = {(kind, name) for kind, names in (plugins or {}).items() for name in names}
    told = [f"{kind}.{name} {used_digest(kind, name)}" for kind, name in sorted(used)]
    return ", ".join([script_digest(SCRIPTS / f"{script}.py"), *told])


def load_experiments(content: Map) -> tuple[Config, dict[str, Experiment]]:
    """Return the config and all its experiments by name.

    Raises:
        SettingsError: the first mistake, as one line with its key.
    """
    config = Config(content)
    found: dict[str, Experiment] = {}
    begun: list[str] = []

    def experiment(name: str) -> Experiment:
        if name not in found:
            if name in begun:
                circle = ", ".join(begun[begun.index(name) :])
                raise SettingsError(
                    f"experiments.{name}.teacher.from: goes round in a circle: {circle}"
                )
            begun.append(name)
            found[name] = Experiment(name, config, experiment)
            begun.remove(name)
        return found[name]

    for name in config.content["experiments"]:
        experiment(name)
    return config, found


def check_alike(experiments: list[Experiment]) -> None:
    """Raise unless experiments can stand in one table: compared by one metric.

    Raises:
        SettingsError: they aren't.
    """
    first, *others = experiments
    for other in others:
        if (found := other.choices.comparison.metric) != first.choices.comparison.metric:
            raise SettingsError(
                f"{other.where}.comparison.metric: found {found} in a run beside {first.name}; "
                f"allowed, for an overview: {first.choices.comparison.metric}"
            )


def data_flags(config: Config, name: str) -> list[str]:
    """Return the flags of preparing a data set: its format, with its settings."""
    return plugin_flags("--format", dict([config.data[name]]))


def data_code(config: Config, name: str) -> str:
    """Return the digests of preparing a data set."""
    return digests("prepare_data", {"formats": [config.data[name][0]]})
