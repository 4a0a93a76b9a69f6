r"""Tell every key that config.yaml or an overlay may hold: what is allowed, default, meaning.

Output, on standard output: Markdown, or with --schema a JSON schema that editors check YAML by.
Both are made from the declarations, those of the plug-ins too. The schema demands no key, as maps
are merged from several places; what only a whole config can tell, a run tells.

Example:
    python workflow/scripts/describe_settings.py --schema > config.schema.json
"""

import argparse
import json
from collections.abc import Iterator
from typing import Any

from pydantic.json_schema import models_json_schema

from distillation.settings import plugins
from distillation.settings.arguments import Parser, run, shown
from distillation.settings.base import Settings, allowed, declaration_of, fields_of
from distillation.settings.config import NAME, NAME_WORDS, Choices, Method
from distillation.settings.training import Protocol

KINDS: tuple[plugins.Kind, ...] = ("formats", "networks", "terms", "metrics")
# Where the config names a plug-in, and what it declares beside its settings.
PLACES = {
    "formats": "`data.<name>`, beside `format: {}`",
    "networks": "`teacher.network.{}` and `student.network.{}`",
    "terms": "`methods.<name>.{}`",
    "metrics": "`evaluation.metrics.{}`",
}
DECLARED = {"label": "In tables", "unit": "Unit", "needs": "Needs of the teacher"}
INTRODUCTION = f"""\
# Settings

`config.yaml` holds `run`, a list of the experiments that `snakemake all` makes; `data`, a map of
data sets; `defaults`, what all experiments have; and `experiments`, a map of what each has of its
own. An experiment that `extends` another begins with what that one has. Each `<name>` below is
{NAME_WORDS}.

A key without a default has to be given, by `defaults` or by the experiment. Naming `network`,
`from` or `checkpoint` of a teacher replaces what was inherited; `null` takes away a method or a
term.
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(__doc__)
    parser.add_argument("--schema", action="store_true", help="a JSON schema in place of Markdown")
    return parser.parse_args(argv)


def rows(kind: type[Settings], prefix: str = "") -> Iterator[list[str]]:
    """Yield key, what is allowed, default and meaning of each field, at all depths."""
    for key, field in fields_of(kind).items():
        if below := declaration_of(field):
            yield from rows(below, f"{prefix}{key}.")
            continue
        meaning = field.description or ""
        words = allowed(field).removesuffix(f" ({meaning})")
        default = "" if field.is_required() else shown(field.get_default(call_default_factory=True))
        yield [f"`{prefix}{key}`", words, f"`{default}`" if default else "", meaning]


def table(lines: Iterator[list[str]]) -> str:
    """Return rows as a table in Markdown."""
    head = ["| key | allowed | default | meaning |", "| --- | --- | --- | --- |"]
    cells = ([cell.replace("|", "\\|") for cell in line] for line in lines)
    return "\n".join([*head, *(f"| {' | '.join(line)} |" for line in cells)])


def describe_plugin(kind: plugins.Kind, name: str) -> str:
    """Return the section of a plug-in."""
    declared = plugins.declared(kind, name)
    about = " ".join((declared.__doc__ or "").partition("\n\n")[0].split())
    told = [f"{PLACES[kind].replace('{}', name)}."]
    told += [f"{word}: {getattr(declared, key)}." for key, word in DECLARED.items()
             if hasattr(declared, key)]  # fmt: skip
    return "\n\n".join([f"### {name}", about, " ".join(told), table(rows(declared))])


def markdown() -> str:
    """Return all settings in Markdown."""
    parts = [INTRODUCTION.strip()]
    parts += ["## `defaults` and `experiments.<name>`", table(rows(Choices))]
    parts += ["## `training`", table(rows(Protocol))]
    parts += ["## `methods.<name>`, beside terms", table(rows(Method))]
    for kind in KINDS:
        parts.append(f"## {kind.capitalize()}")
        parts += [describe_plugin(kind, name) for name in plugins.names(kind)]
    return "\n\n".join(parts)


def schema() -> dict[str, Any]:
    """Return a JSON schema of all settings."""
    declared = {
        (kind, name): plugins.declared(kind, name) for kind in KINDS for name in plugins.names(kind)
    }
    kinds = [Choices, Method, Protocol, *declared.values()]
    references, content = models_json_schema([(kind, "validation") for kind in kinds])
    definitions: dict[str, Any] = without_required(content["$defs"])
    chosen: dict[str, dict[str, Any]] = {kind: {} for kind in KINDS}
    for (kind, name), each in declared.items():
        reference = references[each, "validation"]
        if kind == "formats":
            own = definitions[reference["$ref"].rpartition("/")[2]]
            own["properties"] = {"format": {"const": name}} | own["properties"]
        # Null takes a plug-in away.
        chosen[kind][name] = {"anyOf": [reference, {"type": "null"}]}
    own, method = (definitions.pop(name)["properties"] for name in ("Choices", "Method"))
    roles = (definitions[name]["properties"] for name in ("Teacher", "Student"))
    for part in (*roles, own, method):
        part["training"] = {"$ref": "#/$defs/Protocol"}
        if "network" in part:
            part["network"] = closed(chosen["networks"])
    definitions["Evaluated"]["properties"]["metrics"] = closed(chosen["metrics"])
    method["teacher"] = {"$ref": "#/$defs/Teacher"}
    own["methods"] = named({"anyOf": [closed(method | chosen["terms"]), {"type": "null"}]})
    common = {key: rule for key, rule in own.items() if key not in ("title", "data")}
    run_ = {"type": "array", "items": {"type": "string"}, "minItems": 1, "uniqueItems": True}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "config.yaml, and overlays",
        "$defs": definitions,
    } | closed({
        "run": run_,
        "data": named({"anyOf": [*chosen["formats"].values()]}),
        "defaults": closed(common),
        "experiments": named(closed(own | {"extends": {"type": "string"}})),
    })  # fmt: skip


def closed(properties: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a map of these keys."""
    return {"type": "object", "properties": properties, "additionalProperties": False}


def named(rule: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a map from names to what follows a rule."""
    names = {"pattern": f"^{NAME.pattern}$"}
    return {"type": "object", "propertyNames": names, "additionalProperties": rule}


def without_required(value: Any) -> Any:
    """Return schemas that demand no key, at all depths."""
    if isinstance(value, dict):
        # A setting of that name would be a map.
        return {
            key: without_required(each)
            for key, each in value.items()
            if not (key == "required" and isinstance(each, list))
        }
    return [without_required(each) for each in value] if isinstance(value, list) else value


def main(argv: list[str] | None = None) -> None:
    """Print the description."""
    print(json.dumps(schema(), indent=2) if parse_args(argv).schema else markdown())


if __name__ == "__main__":
    run(main)
