"""The results of one experiment, read for tables and figures."""

import argparse
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import cycle

from distillation.reporting.consistency import check_one_experiment
from distillation.reporting.trained import Run, by_model, read_run

BASELINE, TEACHER = "baseline", "teacher"
# How models are written in tables and figures unless --label says otherwise; the others go by their
# own name.
LABELS = {TEACHER: "Teacher", "baseline": "Baseline"}

# One colour per model everywhere, told apart by the colour-blind; the teacher is black.
# Okabe and Ito 2008, "Color Universal Design"; from the seventh on with colours of Paul Tol's
# "muted" scheme (2021, "Colour Schemes", SRON/EPS/TN/09-002).
BLACK = "#000000"
PALETTE = (
    "#E69F00", "#0072B2", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#8C6D31", "#7F7F7F",
    "#882255", "#332288", "#999933", "#44AA99", "#CC6677", "#117733", "#DDCC77", "#AA4499",
    "#88CCEE", "#661100",
)  # fmt: skip


@dataclass(frozen=True)
class Results:
    """All runs of an experiment; what models are called, and which of them aren't students.

    `own_training`: for methods that have some, the arguments of training that may differ.
    """

    title: str
    runs: list[Run]
    labels: dict[str, str]
    teachers: tuple[str, ...] = (TEACHER,)
    own_training: dict[str, list[str]] = field(default_factory=dict)

    @property
    def groups(self) -> dict[str, list[Run]]:
        """The runs by model, in the order in which models first appear."""
        return by_model(self.runs)

    @property
    def students(self) -> dict[str, list[Run]]:
        """The runs of the students by model."""
        return {model: group for model, group in self.groups.items() if model not in self.teachers}

    @property
    def palette(self) -> dict[str, str]:
        """The colour of each model."""
        return colours(self.groups)

    @property
    def held_out(self) -> bool:
        """Whether models were measured on held-out training images, not on the test split."""
        return self.runs[0].metrics["held_out"]

    def worded(self, text: str) -> str:
        """Return a text about test images as one about what was measured on."""
        return held_out_words(text) if self.held_out else text


def held_out_words(text: str) -> str:
    """Return a text about test images as one about held-out training images."""
    return re.sub(r"\bTest\b", "Held-out", re.sub(r"\btest\b", "held-out", text))


def label(model: str, given: Mapping[str, str]) -> str:
    """Return the name of a model as people read it: one that is given, else its usual one."""
    return given.get(model, LABELS.get(model, model))


def all_labels(models: Collection[str], given: Mapping[str, str]) -> dict[str, str]:
    """Return the name of each model as people read it.

    Raises:
        ValueError: a name is given to what isn't a model, or one name to two.
    """
    if unknown := [model for model in given if model not in models]:
        raise ValueError(f"--label: found {unknown[0]!r}; allowed: {', '.join(models)}")
    found = {model: label(model, given) for model in models}
    names = [*found.values()]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"--label: found {twice[0]!r} for two models; allowed: one name for each")
    return found


def colours(models: Iterable[str]) -> dict[str, str]:
    """Give each model its colour, in order of appearance; the teacher is black."""
    others = (model for model in models if model != TEACHER)
    return {TEACHER: BLACK} | dict(zip(others, cycle(PALETTE), strict=False))


def add_run_flags(parser: argparse.ArgumentParser, *more: str) -> None:
    """Add --run, given once for each trained model with its files, and what tells models apart."""
    flag = parser.add_argument
    names = ("MODEL", "SEED", "METRICS", "HISTORY", *more)
    flag(
        "--run", action="append", nargs=len(names), metavar=names, required=True, dest="runs",
        help="a trained model and its files; once for each, in the order of the columns",
    )  # fmt: skip
    flag(
        "--own-training", action="append", nargs="+", metavar=("METHOD", "ARGUMENT"), default=[],
        help="a method, and in which arguments its training may differ from the others'",
    )  # fmt: skip
    add_name_flags(parser)


def add_name_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say what an experiment and its models are called, and who teaches."""
    flag = parser.add_argument
    flag("--title", required=True, help="of the experiment")
    flag(
        "--teacher-model", action="append", metavar="MODEL", dest="teachers", default=[TEACHER],
        help=f"a model beside {TEACHER} that isn't a student; once for each",
    )  # fmt: skip
    flag(
        "--label", action="append", nargs=2, metavar=("MODEL", "LABEL"), dest="labels", default=[],
        help="what a model is called in tables and figures; default: its name",
    )  # fmt: skip


def read_results(arguments: argparse.Namespace) -> Results:
    """Read the files of all --run, which are of one experiment.

    Raises:
        FileNotFoundError, ValueError: see `read_run`, `check_one_experiment`, `all_labels`.
    """
    runs = [read_run(*values[:4]) for values in arguments.runs]
    own: dict[str, list[str]] = {}
    for method, *names in arguments.own_training:
        own[method] = [*own.get(method, ()), *names]
    check_one_experiment(runs, own, arguments.teachers)
    labels = all_labels(by_model(runs), dict(arguments.labels))
    return Results(arguments.title, runs, labels, (*arguments.teachers,), own)
