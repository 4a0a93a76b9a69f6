"""The config, checked and with what experiments share merged in."""

import math
import sys
from difflib import get_close_matches

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

with open(f"{workflow.basedir}/workflow/schemas/config.schema.yaml", encoding="utf-8") as file:
    SCHEMA = yaml.safe_load(file)


class ConfigError(Exception):
    """What the user wrote in the config can't be used."""


class UniqueKeyLoader(yaml.SafeLoader):
    """A loader that refuses a key given twice, of which YAML would keep the last in silence."""

    def construct_mapping(self, node, deep=False):
        # A merge key (<<) stands for keys that own ones may replace.
        own = [key for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        keys = [self.construct_object(key, deep=True) for key in own]
        for key in keys:
            if keys.count(key) > 1:
                line = node.start_mark.line + 1
                raise ConfigError(
                    f"{node.start_mark.name}: key {key!r} is given twice in the map at line {line}; "
                    f"allowed: once"
                )
        return super().construct_mapping(node, deep)


def check_against_schema(value, schema, where):
    """Stop with one line that names the key, what was found and what is allowed."""
    error = best_match(Draft202012Validator(schema | {"$defs": SCHEMA["$defs"]}).iter_errors(value))
    if error is None:
        return
    key = ".".join([*where, *(str(part) for part in error.absolute_path)]) or "config"
    found = error.instance
    allowed = error.schema.get("description", error.message)
    if error.validator == "additionalProperties":
        known = [*error.schema["properties"]]
        unknown = next(name for name in found if name not in known)
        close = get_close_matches(str(unknown), known, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise ConfigError(f"{key}: unknown key {unknown!r}; {hint}allowed: {', '.join(known)}")
    if error.validator == "required":
        raise ConfigError(f"{key}: {error.message}")
    if error.validator == "dependentRequired":
        needs = error.validator_value.items()
        pairs = [(name, other) for name, others in needs for other in others]
        name, other = next(pair for pair in pairs if pair[0] in found and pair[1] not in found)
        raise ConfigError(f"{key}: found {name} without {other}; allowed: both or none")
    if isinstance(found, str) and "number" in allowed:
        found = f"the text {found!r} (YAML reads 1e-3 as text; write 1.0e-3)"
    else:
        found = "null" if found is None else repr(found)
    raise ConfigError(f"{key}: found {found}; allowed: {allowed}")


def normalised(value, where):
    """Return a value with 1.0 written as 1, which is the same number; stop at NaN and infinity."""
    if isinstance(value, dict):
        return {key: normalised(inner, [*where, str(key)]) for key, inner in value.items()}
    if isinstance(value, list):
        return [normalised(inner, where) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{'.'.join(where)}: found {value}; allowed: a finite number")
    return int(value) if isinstance(value, float) and value.is_integer() else value


def merged(base, over):
    """Return `base` with the values of `over`, maps merged at all depths."""
    result = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else value
    return result


def resolve(name, below=()):
    """Return the settings of an experiment: defaults, what it extends, its own."""
    if name in below:
        raise ConfigError(f"experiments.{name}.extends: goes round in a circle: {', '.join(below)}")
    own = dict(config["experiments"][name])
    parent = own.pop("extends", None)
    if parent is None:
        return merged(config["defaults"], own)
    check_known(parent, config["experiments"], f"experiments.{name}.extends")
    return merged(resolve(parent, (*below, name)), own)


def check_known(name, names, key):
    """Stop if `name`, the value of `key`, isn't one of `names`."""
    if name not in names:
        raise ConfigError(f"{key}: found {name!r}; allowed: {', '.join(names)}")


def check_experiment(name, settings):
    """Stop unless the settings of an experiment are complete and fit together."""
    where = ["experiments", name]
    check_against_schema(settings, SCHEMA["$defs"]["complete"], where)
    check_known(settings["data"], config["data"], f"experiments.{name}.data")
    for method in settings["students"]:
        check_known(method, settings["methods"], f"experiments.{name}.students")
    stored = settings["attention_metrics"]["object_mask"] == "stored"
    if stored and config["data"][settings["data"]]["format"] != "digits":
        raise ConfigError(
            f"experiments.{name}.attention_metrics.object_mask: found stored with the data "
            f"{settings['data']}, which have no masks; allowed: auto, above_zero, none"
        )
    for method in sum(settings["comparison"]["pairs"], []):
        check_known(method, settings["methods"], f"experiments.{name}.comparison.pairs")
    trainings = {
        f"the {role}": merged(settings["training"], settings[role]["training"])
        for role in ("teacher", "student")
    }
    for method, weights in settings["methods"].items():
        table = weights.get("teacher_targets") == "table"
        if table and "beta" in weights:
            raise ConfigError(
                f"experiments.{name}: methods.{method}: found teacher_targets table with beta; a "
                f"table has no attention maps; allowed: online"
            )
        own = weights.get("training", {})
        views = sorted({"padding", "flip"} & own.keys())
        if table and views:
            raise ConfigError(
                f"experiments.{name}: methods.{method}: found teacher_targets table with "
                f"{views[0]} of its own; the table is of the views that all students share; "
                f"allowed: online"
            )
        if own and method in settings["students"]:
            trainings[method] = merged(trainings["the student"], own)
    for whose, training in trainings.items():
        if training["nesterov"] and not training["momentum"]:
            raise ConfigError(
                f"experiments.{name}: training of {whose}: nesterov is true and momentum 0; "
                f"allowed: momentum above 0"
            )
        late = [epoch for epoch in training["milestones"] if epoch > training["epochs"]]
        if training["schedule"] == "step" and late:
            raise ConfigError(
                f"experiments.{name}: training of {whose}: found milestones {late} with "
                f"{training['epochs']} epochs, so the rate wouldn't drop there; allowed: up to epochs"
            )


def load_experiments():
    """Check the config and return the settings of all experiments by name."""
    for path in [*workflow.configfiles, *workflow.overwrite_configfiles]:
        with open(path, encoding="utf-8") as file:
            yaml.load(file, UniqueKeyLoader)
    check_against_schema(config, SCHEMA, [])
    if "extends" in config["defaults"]:
        raise ConfigError("defaults: unknown key 'extends'; allowed: in experiments only")
    config.update(normalised(config, []))
    for name in config["run"]:
        check_known(name, config["experiments"], "run")
    experiments = {name: resolve(name) for name in config["experiments"]}
    for name, settings in experiments.items():
        check_experiment(name, settings)
    return experiments


try:
    EXPERIMENTS = load_experiments()
except ConfigError as error:
    # One line: Snakemake would print its way through the helpers above.
    sys.exit(f"error in the config: {error}")
