"""The model card of an exported network: what it says comes from files, or isn't said.

Licence and name of the data are stated by who exports.

The block at its top is YAML of the fields that hubs of models read, named as Hugging Face's model
cards have them: pipeline_tag, tags, license, datasets, metrics, model-index.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from distillation.export.known import PERCENT, Known, Measure
from distillation.reporting.trained import ELSEWHERE, brought

TASK = "image-classification"


def model_card(
    description: Mapping[str, Any], files: Sequence[str], parameters: int, known: Known
) -> str:
    """Return the model card, Markdown with metadata at its top.

    Args:
        description: what config.json holds.
        files: names of those of weights and of description.
        parameters: how many.
        known: what is known from elsewhere.
    """
    weights, config = files
    parts = {
        "The network": table(network_rows(description, parameters)),
        "How well it does": measures_text(known, description["provenance"]),
        "Beside other methods": "\n".join(f"- {each}." for each in known.sentences),
        "Teacher": table(teacher_rows(description["provenance"])),
        "Training": table(protocol_rows(description["provenance"])),
        "Limits": "\n".join(f"- {each}" for each in limits(description, known)),
        "Where it comes from": table(provenance_rows(description, known)),
    }
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in parts.items() if text)
    metadata = yaml.safe_dump(metadata_of(description, known), sort_keys=False, allow_unicode=True)
    return f"""\
---
{metadata}---

# {cell(description["title"])}

{body}

## Reading it

`{weights}` holds the weights by name, as `safetensors` reads them; `{config}` all else, with the
whole provenance. In a clone of attention-transfer-pipeline:

```python
import sys
from pathlib import Path

sys.path.append("workflow/scripts")
from distillation.record.checkpoint import read_folder

model, content = read_folder(Path("this folder"))
logits = model((images - mean) / std).logits  # images: N x C x H x W, grey levels from 0 to 255
```
"""


def metadata_of(description: Mapping[str, Any], known: Known) -> dict[str, Any]:
    """Return what hubs of models read, without what isn't known."""
    terms = arguments_of(description["provenance"]).get("term", {})
    teacher = description["provenance"].get("teacher")
    metadata: dict[str, Any] = {
        "pipeline_tag": TASK,
        "tags": [TASK, *(["knowledge-distillation"] if teacher else []), *terms],
        "license": known.licence,
        "datasets": [known.data_name] if known.data_name else None,
        "metrics": [each.name for each in known.measures],
    }
    if known.measures:
        metadata["model-index"] = [
            {
                "name": description["title"],
                "results": [
                    {
                        "task": {"type": TASK},
                        "dataset": {
                            "name": known.data_name or "unknown",
                            "type": known.data_name or "unknown",
                            "split": known.split,
                        },
                        "metrics": [metric_entry(each) for each in known.measures],
                    }
                ],
            }
        ]
    return {name: value for name, value in metadata.items() if value}


def metric_entry(measure: Measure) -> dict[str, Any]:
    """Return a metric as a model index has it; the interval is in its name, the only free text."""
    name = f"{measure.label} ({measure.unit})" if measure.unit else measure.label
    if measure.interval:
        name += f", {PERCENT} interval {measure.span}"
    return {"type": measure.name, "value": measure.value, "name": name}


def network_rows(description: Mapping[str, Any], parameters: int) -> dict[str, Any]:
    """Return what the network is and takes."""
    names, side = description["class_names"], description["image_size"]
    return {
        "Network": one_line(description["network"]),
        "Parameters": f"{parameters:,}",
        "Images": f"{side} x {side} pixels, {description['channels']} channel(s)",
        "Mean, standard deviation": f"{description['mean']}, {description['std']} "
        f"(grey levels from 0 to 255)",
        "Classes": f"{len(names)}: {', '.join(names[:10])}{', ...' * (len(names) > 10)}",
    }


def measures_text(known: Known, training: Mapping[str, Any]) -> str:
    """Return the metrics as a table, when they were measured, and on what."""
    if not known.measures:
        return ""
    rows = "\n".join(
        f"| {cell(each.label)} | {each.written} | {each.span} |" for each in known.measures
    )
    when = "" if brought(training) else "after the last epoch "
    return (
        f"Measured {when}on {known.images:,} {known.split} images:\n\n"
        f"| | value | {PERCENT} interval over images |\n|---|---:|---:|\n{rows}"
    )


def teacher_rows(training: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the teacher is, if there was one."""
    teacher = training.get("teacher")
    if not isinstance(teacher, dict):
        return {}
    return {
        "Network": teacher.get("network_title"),
        "Epochs": epochs_of(teacher),
        "Seed": teacher.get("seed"),
        "Data, sha256": teacher.get("data_sha256"),
        "Brought from elsewhere, sha256": teacher.get("source_sha256"),
        "Commit": commit_of(teacher),
    }


def protocol_rows(training: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of the training, by their names in the config, and the seed."""
    arguments = arguments_of(training)
    terms = {f"term {name}": one_line(own) for name, own in arguments.get("term", {}).items()}
    rest = {
        name: one_line(value)
        for name, value in arguments.items()
        if name not in ("network", "term")
    }
    if "epochs" in rest:
        rest["epochs"] = epochs_of(training)
    return terms | rest | {"seed": training.get("seed")}


def limits(description: Mapping[str, Any], known: Known) -> list[str]:
    """Return what isn't known of the network, or doesn't follow from its numbers."""
    side = description["image_size"]
    told = [
        f"It was exported for images of {side} x {side} pixels, normalised as above; of other "
        "images, classes and sources nothing is known here.",
    ]
    if known.measures:
        told.append(
            "The numbers are of this one training. Intervals are over the images alone, and say "
            "nothing about other seeds."
        )
        if not known.data:
            told.append("What size of images they are of wasn't told when this card was written.")
    else:
        told.append("No metrics were given when this card was written.")
    if known.sentences:
        told.append("Comparisons are of methods over seeds, for their teacher, data and protocol.")
        if not known.compared:
            told.append("That they are of this network wasn't checked.")
    if known.held_out and (known.measures or known.sentences):
        told.append("All is of training images that were held out, not of the test split.")
    if not known.licence:
        told.append("No licence of the weights was stated, nor is that of the images told here.")
    return told


def provenance_rows(description: Mapping[str, Any], known: Known) -> dict[str, Any]:
    """Return data, commits, versions and device."""
    training, export = description["provenance"], description["export_provenance"]
    counts = {name: each["count"] for name, each in known.data.get("images", {}).items()}
    return {
        "Data": known.data_name,
        "Images": ", ".join(
            f"{count:,} {known.split if name == 'test' else name}" for name, count in counts.items()
        ),
        "Data, sha256": training.get("data_sha256"),
        "Brought from elsewhere, sha256": training.get("source_sha256"),
        "Training: commit": commit_of(training),
        "Training: code digest": training.get("code_digest"),
        "Training: versions": versions_of(training),
        "Training: device": training.get("hardware", training.get("device")),
        "Export: commit": commit_of(export),
        "Export: versions": versions_of(export),
    }


def arguments_of(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that a provenance has, whatever the file that it is from."""
    arguments = provenance.get("arguments")
    return arguments if isinstance(arguments, dict) else {}


def epochs_of(provenance: Mapping[str, Any]) -> Any:
    """Return how many epochs a network was trained for, or that it was trained elsewhere."""
    return ELSEWHERE if brought(provenance) else arguments_of(provenance).get("epochs")


def commit_of(provenance: Mapping[str, Any]) -> str | None:
    """Return the commit, and whether there were changes beside it."""
    commit = provenance.get("commit")
    return f"{commit}, with uncommitted changes" if commit and provenance.get("dirty") else commit


def versions_of(provenance: Mapping[str, Any]) -> str:
    """Return Python and packages with their versions."""
    python = {"Python": provenance["python"]} if "python" in provenance else {}
    versions = python | provenance.get("packages", {})
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def table(rows: Mapping[str, Any]) -> str:
    """Return a Markdown table of two columns, without what is unknown; none of no rows."""
    known = {name: value for name, value in rows.items() if value not in (None, "")}
    lines = [f"| {cell(name)} | {cell(value)} |" for name, value in known.items()]
    return "\n".join(["| | |", "|---|---|", *lines]) if lines else ""


def one_line(value: Any) -> str:
    """Write a setting, or a map of them, in one line."""
    return value if isinstance(value, str) else json.dumps(value)


def cell(value: Any) -> str:
    """Return a text for a cell of a table: in one line, without what ends the cell."""
    return " ".join(str(value).split()).replace("|", "\\|")
