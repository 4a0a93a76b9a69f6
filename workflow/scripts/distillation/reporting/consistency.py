"""Whether results belong together: to one config, one code and one data set."""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from distillation.record.provenance import without_git
from distillation.reporting.trained import Run, by_model


def check_one_experiment(
    runs: list[Run], own_training: Mapping[str, Collection[str]], teachers: Collection[str]
) -> None:
    """Refuse runs that don't belong to one config, one code and one data set.

    Args:
        runs: all trained models of the experiment.
        own_training: for each method that has some, the arguments of the training in which it may
            differ from the other students.
        teachers: the models that aren't students.

    Raises:
        ValueError: two runs are of one model and seed; data or evaluation differ; seeds of a model
            were trained in different ways, or students in more than their terms and what is their
            own; a plug-in that several use had different code; a student's teacher isn't among the
            runs; a history hasn't the epochs of its training; `own_training` names what isn't a
            student, or isn't an argument of training.
    """
    names = [str(run) for run in runs]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{twice[0]}, is given twice")
    check_same("training", runs, lambda run: {"data_sha256": run.training["data_sha256"]})
    check_same("evaluation", runs, lambda run: decisive(run.evaluation))
    check_same("evaluation", runs, lambda run: run.evaluation["plugins"], shared=True)
    for group in by_model(runs).values():
        check_same("training", group, lambda run: decisive(run.training) | run.training["plugins"])
    students = [run for run in runs if run.model not in teachers]
    check_own_training(students, own_training)
    own = {name for names in own_training.values() for name in names}
    check_same("training", students, lambda run: decisive(run.training, {"term", *own}))
    for name in own:
        others = [run for run in students if name not in own_training.get(run.model, ())]
        check_same("training", others, lambda run, name=name: flat({name: run.arguments[name]}))
    check_same("training", students, lambda run: run.training["plugins"], shared=True)
    trainings = [without_git(run.training) for run in runs]
    for run in runs:
        teacher = without_git(run.training.get("teacher"))
        if teacher and teacher not in trainings:
            said = "learnt from a teacher that isn't among them"
            raise ValueError(f"the models aren't of one config: {run}, {said}")
        found, told = len(run.history), run.arguments["epochs"]
        if found != told:
            raise ValueError(f"{run}: the history has {found} epochs, the training {told}")


def check_own_training(students: list[Run], own_training: Mapping[str, Collection[str]]) -> None:
    """Refuse methods that aren't among the students, and arguments that trainings don't have.

    Raises:
        ValueError: there is one; it is named with what is allowed.
    """
    known = {run.model: run.arguments for run in students}
    for method, names in own_training.items():
        if method not in known:
            raise ValueError(f"--own-training: found {method!r}; allowed: {', '.join(known)}")
        if wrong := [name for name in names if name not in known[method]]:
            allowed = ", ".join(sorted(known[method]))
            raise ValueError(f"--own-training {method}: found {wrong[0]!r}; allowed: {allowed}")


def decisive(provenance: Mapping[str, Any], leave_out: Collection[str] = ()) -> dict[str, Any]:
    """Return what config, script and data gave to a step, by name; `leave_out` are arguments."""
    arguments = provenance["arguments"].items()
    found = flat({name: value for name, value in arguments if name not in leave_out})
    return found | {name: provenance[name] for name in ("code_digest", "data_sha256")}


def flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of nested maps by their places: {"term": {"kd": 1}} as {"term.kd": 1}."""
    found = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= {f"{name}.{inner}": each for inner, each in flat(value).items()}
        else:
            found[name] = value
    return found


def check_same(
    what: str, models: Iterable[Any], of: Callable[[Any], Mapping[str, Any]], shared: bool = False
) -> None:
    """Refuse models that differ in a value of any name.

    Args:
        what: the step that the values are of.
        models: named in messages as they are as text.
        of: returns the values of a model by name.
        shared: compare a name among those that have it; else what isn't there counts as None.

    Raises:
        ValueError: two values of one name differ; both are named.
    """
    values = [(model, of(model)) for model in models]
    for name in sorted({name for _, each in values for name in each}):
        first, *others = [(m, each.get(name)) for m, each in values if name in each or not shared]
        for model, value in others:
            if value != first[1]:
                raise ValueError(
                    f"the models aren't of one config: {what} of {first[0]}, had {name} "
                    f"{first[1]!r}, of {model}, {value!r}"
                )
