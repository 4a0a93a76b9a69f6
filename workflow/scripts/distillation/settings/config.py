"""What config.yaml holds, checked, with what experiments share merged in."""

import re
from collections.abc import Hashable, Iterable, Mapping
from functools import reduce
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, field_validator, model_validator

from distillation.settings.base import (
    FormatSettings,
    Seed,
    Settings,
    SettingsError,
    check_part,
    checked,
    fields_of,
    plain,
    unknown_key,
    written,
)
from distillation.settings.measures import AttentionImages, AttentionMeasures, Evaluation
from distillation.settings.plugins import declared, names, path_of
from distillation.settings.reports import Comparison, Figures, SmallestDifferences
from distillation.settings.training import Engine, Machine, Protocol

Map = dict[str, Any]
Pair = Annotated[list[str], Field(min_length=2, max_length=2)]

NAME = re.compile(r"[a-z][a-z0-9_]*")
NAME_WORDS = "a name of lower-case letters, digits and _, that begins with a letter"
# Of these keys of a teacher, naming one replaces the others: each says which network it is.
WHICH = ("network", "from", "checkpoint")
ROLES = ("teacher", "student")
# What only an experiment has.
OWN = ("title", "remark", "data")
# Where a map has no such key; null is a value.
ABSENT = object()


class Evaluated(Evaluation):
    """How networks are evaluated, and by which metrics."""

    metrics: Map = Field(description="a map of metrics to their settings")


class Compared(Comparison):
    """How methods are compared, and which of them beside each with the baseline."""

    pairs: list[Pair] = Field([], description="pairs of methods, each with its reference")


class Claimed(Settings):
    """What is claimed of methods beside what is claimed of maps, and what difference counts."""

    below: Pair | None = Field(
        None, description="a method that is claimed to come out below a reference: the two"
    )
    smallest_differences: SmallestDifferences = Field(
        default_factory=SmallestDifferences.model_construct,
        description="of interest, of measures of maps",
    )


class Teacher(Settings):
    """Which network teaches: one that is trained, another experiment's, or one that is brought."""

    network: Map | None = Field(None, description="a map of one family to its settings")
    from_: str | None = Field(None, alias="from", description="an experiment whose teacher it is")
    checkpoint: str | None = Field(
        None, min_length=1,
        description="a file of weights, or a folder that export_model.py wrote; with network "
        "where it doesn't say itself which one it is",
    )  # fmt: skip
    per_seed: bool = Field(
        False, description="one teacher for each seed, not one for all; not with from"
    )
    seed: Seed = Field(0, description="of the one teacher; not with from")
    training: Map = Field(
        {}, description="keys of training in which it differs; with from, that one's"
    )

    @model_validator(mode="after")
    def one_source(self) -> Self:
        """Refuse a teacher of no network or of two sources, and a brought one for each seed."""
        if not (self.network or self.from_ or self.checkpoint):
            raise ValueError("found no network; allowed: network, from or checkpoint")
        if self.from_ and (self.network or self.checkpoint):
            other = "network" if self.network else "checkpoint"
            raise ValueError(
                f"found from {self.from_} and {other}, as where Snakemake merges two overlays; "
                f"allowed: one, the other null"
            )
        if self.checkpoint and self.per_seed:
            raise ValueError("found checkpoint with per_seed true; allowed: false")
        return self


class Student(Settings):
    """The network that learns."""

    network: Map = Field(description="a map of one family to its settings")
    training: Map = Field({}, description="keys of training in which students differ")


class Method(Settings):
    """What a method may have beside its terms."""

    label: str | None = Field(None, description="in tables and figures; null: its name")
    targets: Literal["online", "table"] = Field(
        "online", description="run the teacher, or read its logits for all views, computed once"
    )
    teacher: Map | None = Field(None, description="keys of teacher in which its own differs")
    training: Map = Field({}, description="keys of training in which its students differ")
    equal_cost: str | None = Field(
        None,
        description="a trained method, or dearest: epochs are counted, and milestones moved, so "
        "that a training takes as many floating-point operations as one of that method's",
    )
    teacher_included: bool = Field(
        False, description="with equal_cost: the teacher's own training counts among a method's"
    )

    @model_validator(mode="after")
    def counted_epochs(self) -> Self:
        """Refuse epochs that are given and counted, and half a choice of what they cost."""
        if self.equal_cost and (given := {"epochs", "milestones"} & self.training.keys()):
            raise ValueError(f"found equal_cost with {min(given)} of its own; allowed: one of them")
        if self.teacher_included and not self.equal_cost:
            raise ValueError("found teacher_included without equal_cost; allowed: both")
        return self


class Choices(Machine, Engine):
    """What an experiment chooses: `defaults` has the same keys, without title, data, remark."""

    title: str = Field(min_length=1, description="of tables and figures")
    remark: str | None = Field(
        None, description="that stands beside the answer, as how the experiment was chosen"
    )
    data: str = Field(description="a name of a data set")
    seeds: list[Seed] = Field(
        min_length=1, description="one student of each method for each, none twice"
    )
    teacher: Teacher
    student: Student
    training: Map = Field(description="the protocol")
    methods: dict[str, Map] = Field(description="a map of methods to the terms that they name")
    students: list[str] = Field(
        min_length=1, description="methods that are trained, in the table's order, none twice"
    )
    together: bool = Field(
        False,
        description="train the students of a seed in one job, with the same batches and one pass "
        "of the teacher, as far as their protocol is the same",
    )
    evaluation: Evaluated
    attention: AttentionImages = Field(default_factory=AttentionImages.model_construct)
    comparison: Compared = Field(default_factory=Compared.model_construct)
    attention_metrics: AttentionMeasures = Field(default_factory=AttentionMeasures.model_construct)
    claims: Claimed = Field(default_factory=Claimed.model_construct)
    figures: Figures = Field(default_factory=Figures.model_construct)

    @field_validator("seeds", "students")
    @classmethod
    def each_once(cls, values: list[Any]) -> list[Any]:
        """Refuse a value that is given twice."""
        if twice := [value for value in values if values.count(value) > 1]:
            raise ValueError(f"found {twice[0]!r} twice; allowed: once")
        return values


class UniqueKeyLoader(yaml.SafeLoader):
    """A loader that refuses a key given twice, of which YAML would keep the last in silence."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        """Build a map; raise `SettingsError` where a key is given twice."""
        # A merge key (<<) stands for keys that own ones may replace.
        own = [key for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        keys = [self.construct_object(key, deep=True) for key in own]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise SettingsError(
                f"{node.start_mark.name}: key {twice[0]!r} is given twice in the map at line "
                f"{node.start_mark.line + 1}; allowed: once"
            )
        return super().construct_mapping(node, deep)


def check_files(paths: Iterable[str | Path]) -> None:
    """Raise SettingsError if a key is given twice in a config file."""
    for path in paths:
        with Path(path).open(encoding="utf-8") as file:
            yaml.load(file, UniqueKeyLoader)  # noqa: S506 a safe loader


def merged(base: Map, over: Map) -> Map:
    """Return `base` with the values of `over`, maps merged at all depths.

    A network, or one of what else says which network a teacher is, replaces what was there; what is
    null within methods is taken away.
    """
    replaced = WHICH if any(over.get(key) is not None for key in WHICH) else ()
    result = {key: value for key, value in base.items() if key not in replaced}
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both and key != "network" else value
    return result


def without_nulls(methods: Map) -> Map:
    """Return methods without those that are null, and without terms that are."""
    return {
        name: {key: value for key, value in method.items() if value is not None}
        if isinstance(method, dict)
        else method
        for name, method in methods.items()
        if method is not None
    }


def check_map(value: Any, where: str) -> Map:
    """Return a value that is to be a map of names; raise SettingsError if it isn't."""
    if not isinstance(value, dict):
        raise SettingsError(f"{where}: found {written(value)}; allowed: a map")
    for key in value:
        if not isinstance(key, str) or not NAME.fullmatch(key):
            raise SettingsError(f"{where}: found the name {key!r}; allowed: {NAME_WORDS}")
    return value


def check_known(name: Any, known: Iterable[str], where: str) -> None:
    """Raise SettingsError if a name, the value of the key `where`, isn't known."""
    if name not in [*known]:
        raise SettingsError(f"{where}: found {name!r}; allowed: {', '.join(known)}")


def read_data(data: Any) -> dict[str, tuple[str, FormatSettings]]:
    """Return format and settings of each data set; raise SettingsError if they can't be used."""
    found = {}
    for name, settings in check_map(data, "data").items():
        where = f"data.{name}"
        if not isinstance(settings, dict) or "format" not in settings:
            raise SettingsError(f"{where}: lacks format; allowed: {', '.join(names('formats'))}")
        own = dict(settings)
        kind = str(own.pop("format"))
        path_of("formats", kind, f"{where}.format")
        found[name] = (kind, checked(declared("formats", kind), own, where))
    return found


class Config:
    """The config as a whole: data sets and the choices of all experiments, checked.

    Args:
        content: the merged map, as Snakemake has it.

    Raises:
        SettingsError: the first mistake, as one line with its key.
    """

    def __init__(self, content: Mapping[str, Any]) -> None:
        top = ("run", "data", "defaults", "experiments")
        if unknown := [key for key in content if key not in top]:
            raise SettingsError(unknown_key("config", str(unknown[0]), top))
        if missing := [key for key in top if key not in content]:
            raise SettingsError(f"config: lacks {missing[0]}; allowed: {', '.join(top)}")
        self.content = plain(content)
        self.data = read_data(self.content["data"])
        defaults, known = (check_map(self.content[key], key) for key in top[2:])
        for where, part in [("defaults", defaults), *known.items()]:
            where = where if part is defaults else f"experiments.{where}"
            check_spelling(part, where)
            check_keys(part, where)
        self.run = self.content["run"]
        named = isinstance(self.run, list) and all(isinstance(name, str) for name in self.run)
        if not named or not self.run or len({*self.run}) < len(self.run):
            raise SettingsError(f"run: found {self.run!r}; allowed: a list of names, none twice")
        for name in self.run:
            check_known(name, known, "run")

    def chain(self, name: str, below: tuple[str, ...] = ()) -> list[tuple[str, Map]]:
        """List the maps that an experiment is merged from, with their keys, its own last.

        Raises:
            SettingsError: `extends` names what isn't there, or goes round in a circle.
        """
        where, known = f"experiments.{name}", self.content["experiments"]
        if name in below:
            raise SettingsError(f"{where}.extends: goes round in a circle: {', '.join(below)}")
        if not isinstance(known[name], dict):
            raise SettingsError(f"{where}: found {written(known[name])}; allowed: a map")
        own = dict(known[name])
        parent = own.pop("extends", None)
        if parent is None:
            return [("defaults", self.content["defaults"]), (where, own)]
        check_known(parent, known, f"{where}.extends")
        # What is said of one experiment needn't hold for those that extend it.
        return [*self.chain(parent, (*below, name)), (where, {"remark": None} | own)]

    def choices(self, name: str) -> Choices:
        """Return what an experiment chooses, with what it inherits.

        Raises:
            SettingsError: a choice can't be used; the key is that of the map which made it.
        """
        chain = self.chain(name)
        together: Map = reduce(merged, (own for _, own in chain))
        absent = set[str]()
        if isinstance(methods := together.get("methods"), dict):
            absent = {method for method, own in methods.items() if own is None}
            together["methods"] = without_nulls(methods)
        try:
            choices = without_pairs(checked(Choices, together), absent)
            trainings = {"training": choices.training}
            trainings |= {f"{role}.training": together[role].get("training", {}) for role in ROLES}
            for method, own in choices.methods.items():
                trainings[f"methods.{method}.training"] = own.get("training", {})
            for key, training in trainings.items():
                check_part(Protocol, training, key)
        except SettingsError as error:
            raise SettingsError(placed(str(error), chain)) from None
        check_taken(chain, choices.methods)
        return choices


def placed(message: str, chain: list[tuple[str, Map]]) -> str:
    """Return a message about a key with the map before it that sets this key."""
    key, colon, rest = message.partition(":")
    parts = [] if key == "settings" else key.split(".")
    unknown = re.match(r" unknown key '(\w+)'", rest)
    sought = [*parts, *(unknown.groups() if unknown else ())]
    for where, own in reversed(chain):
        value: Any = own
        for part in sought:
            value = value.get(part, ABSENT) if isinstance(value, dict) else value
        if sought and value is not ABSENT:
            return ".".join([where, *parts]) + colon + rest
    return ".".join([chain[-1][0], *parts]) + colon + rest


def check_keys(own: Any, where: str) -> None:
    """Raise SettingsError for a key that the defaults, or an experiment, can't have."""
    known = [key for key in fields_of(Choices) if where != "defaults" or key not in OWN]
    known = known if where == "defaults" else ["extends", *known]
    for key in own if isinstance(own, dict) else ():
        if key not in known:
            raise SettingsError(unknown_key(where, str(key), known))


def check_taken(chain: list[tuple[str, Map]], methods: Iterable[str]) -> None:
    """Refuse seeds that are chosen for a teacher that is taken from another experiment.

    What was chosen before, as by the defaults, is of the teacher that it replaces.

    Raises:
        SettingsError: a map names `from` beside such a choice, or comes after one that does.
    """
    for method in methods:
        source = None
        for path in (("teacher",), ("methods", method, "teacher")):
            for where, own in chain:
                teacher = below(own, path)
                if any(teacher.get(key) is not None for key in WHICH):
                    source = teacher.get("from")
                given = [key for key in ("per_seed", "seed") if teacher.get(key)]
                if source and given:
                    raise SettingsError(
                        f"{'.'.join([where, *path, given[0]])}: found "
                        f"{written(teacher[given[0]])} with a teacher from {source}, whose seeds "
                        "are chosen there; allowed: nothing"
                    )


def below(own: Any, path: Iterable[str]) -> Map:
    """Return the map at the end of a path of keys, empty where there is none."""
    for key in path:
        own = own.get(key) if isinstance(own, dict) else None
    return own if isinstance(own, dict) else {}


def without_pairs(choices: Choices, absent: set[str]) -> Choices:
    """Return choices without pairs of methods that are absent, whoever asked for them."""
    compared, claims = choices.comparison, choices.claims
    pairs = [pair for pair in compared.pairs if not absent & {*pair}]
    claimed = None if absent & {*(claims.below or ())} else claims.below
    return choices.model_copy(update={
        "comparison": compared.model_copy(update={"pairs": pairs}),
        "claims": claims.model_copy(update={"below": claimed}),
    })  # fmt: skip


# Keys as they were spelt before networks and terms were plug-ins, and where they went.
NETWORK_KEYS = ("depth", "width", "padding_mode")
TERM_KEYS = {
    "alpha": ("kd", "weight"), "temperature": ("kd", "temperature"),
    "kl_reduction": ("kd", "reduction"), "beta": ("at", "weight"),
    "beta_schedule": ("at", "schedule"), "at_mode": ("at", "mode"), "collapse": ("at", "collapse"),
}  # fmt: skip


def check_spelling(own: Any, where: str) -> None:
    """Raise SettingsError for keys as they were spelt before, with the new spelling of them."""
    maps = own if isinstance(own, dict) else {}
    for role in ROLES:
        network = check_map(maps.get(role) or {}, f"{where}.{role}")
        if old := {key: network[key] for key in NETWORK_KEYS if key in network}:
            tell_spelling(f"{where}.{role}", old, {"network": {"wrn": old}})
    methods = maps.get("methods")
    for name, method in methods.items() if isinstance(methods, dict) else ():
        method = method if isinstance(method, dict) else {}
        if old := {key: value for key, value in method.items() if key in TERM_KEYS}:
            alpha, new = old.get("alpha"), dict[str, Any]()
            # What isn't a number is refused where it is spelt as it should be.
            if isinstance(alpha, int | float):
                new["labels"] = {"weight": round(1 - alpha, 12)}
            for key, value in old.items():
                term, setting = TERM_KEYS[key]
                new.setdefault(term, {})[setting] = value
            tell_spelling(f"{where}.methods.{name}", old, new)
        if targets := method.get("teacher_targets"):
            old = {"teacher_targets": targets}
            tell_spelling(f"{where}.methods.{name}", old, {"targets": targets})


def tell_spelling(where: str, old: Map, new: Map) -> None:
    """Raise the line that says how keys are spelt."""
    text = yaml.safe_dump(plain(new), default_flow_style=True, sort_keys=False, width=1000).strip()
    # Of a network nothing is inherited since then.
    lacking = [key for key in ("depth", "width") if "network" in new and key not in old]
    more = f", with {' and '.join(lacking)} beside it" if lacking else ""
    raise SettingsError(
        f"{where}: {', '.join(old)} {'is' if len(old) == 1 else 'are'} spelt otherwise since "
        f"version 0.2; write {text[1:-1]}{more}"
    )
