"""Whether results belong together: to one config, one code and one data set."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

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
    check_same("training", runs, [{"data_sha256": run.training["data_sha256"]} for run in runs])
    check_same("evaluation", runs, [decisive(run.evaluation) for run in runs])
    check_shared("evaluation", runs, [run.evaluation["plugins"] for run in runs])
    for group in by_model(runs).values():
        values = [decisive(run.training) | run.training["plugins"] for run in group]
        check_same("training", group, values)
    students = [run for run in runs if run.model not in teachers]
    check_own_training(students, own_training)
    own = {name for names in own_training.values() for name in names}
    check_same("training", students, [decisive(run.training, {"term", *own}) for run in students])
    for name in sorted(own):
        others = [run for run in students if name not in own_training.get(run.model, ())]
        check_same("training", others, [flat({name: run.arguments[name]}) for run in others])
    check_shared("training", students, [run.training["plugins"] for run in students])
    trainings = [run.training for run in runs]
    for run in runs:
        if run.training.get("teacher") and run.training["teacher"] not in trainings:
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
    """Return what the config, the script and the data gave to a step, by name.

    Arguments are left out by name, with all that they hold.
    """
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


def check_same(what: str, models: Sequence[object], values: Sequence[Mapping[str, Any]]) -> None:
    """Refuse models that differ in a value of any name; what isn't there counts as None.

    Args:
        what: the step that the values are of.
        models: what a message calls each.
        values: of each, by name.

    Raises:
        ValueError: two values of one name differ; both are named.
    """
    for model, other in zip(models[1:], values[1:], strict=True):
        for name in sorted(values[0].keys() | other.keys()):
            first, second = (each.get(name) for each in (values[0], other))
            if first != second:
                raise ValueError(
                    f"the models aren't of one config: {what} of {models[0]}, had {name} "
                    f"{first!r}, of {model}, {second!r}"
                )


def check_shared(what: str, models: Sequence[object], values: Sequence[Mapping[str, Any]]) -> None:
    """Refuse models that differ in a value of a name that both have; see `check_same`."""
    for name in sorted({name for each in values for name in each}):
        having = [(model, each) for model, each in zip(models, values, strict=True) if name in each]
        check_same(what, [model for model, _ in having], [{name: each[name]} for _, each in having])
