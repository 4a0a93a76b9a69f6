r"""Make the page of results from the small files that are kept beside it.

Inputs: a folder with introduction.md, published.csv (figures of others: data, source, quantity,
model, value), one folder per study as publish_results.py makes them, and, where there is something
to say about a study that no number says, <study>.md. Output: a Markdown file. It is made of these
files alone, so that it comes out the same wherever it is made.

Example:
    python workflow/scripts/render_results.py --folder docs/results --markdown docs/results.md
"""

import argparse
import json
import math
import os
import re
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd

from distillation.arguments import Parser, run
from distillation.files import replacing
from distillation.results import LABELS, label
from distillation.tables import table_lines
from render_table import ROWS, commit, format_cell, listed

# The figures of a study, and what they show.
FIGURES = {
    "figures/curves_test.png": "Test accuracy and cross-entropy, epoch by epoch",
    "figures/curves_teacher.png": "Training of the teacher",
    "figures/curves_students.png": "Training of the students, with each term of their objectives",
    "comparison.png": "Differences between methods, and agreement with the teacher",
    "figures/attention_mean_square.png": "Attention maps of one test image per class, by group",
}
# What a training was told that tells studies apart.
PROTOCOL = (
    "epochs", "batch_size", "schedule", "learning_rate", "momentum", "nesterov", "weight_decay",
    "padding", "flip", "gamma_init",
)  # fmt: skip

# What the studies are compared by at the top of the page.
[MAIN] = [row for row in ROWS if row.quantity == "Test (validation) accuracy"]
# The columns of published.csv.
PUBLISHED = ("data", "source", "quantity", "model", "value")
# What a job took, as timings.csv has it and as the page says it.
MEASURES = {
    "seconds": "wall time, s",
    "cpu_seconds": "CPU time, s",
    "memory": "peak memory, MB",
    "images_per_second": "images/s",
}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="of the studies")
    parser.add_argument("--markdown", type=Path, required=True, help="output, .md")
    return parser.parse_args(argv)


def read_json(file: Path) -> Any:
    """Read a JSON file.

    Raises:
        ValueError: it is damaged.
    """
    try:
        return json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(f"{file}: damaged: {error}") from error


def between(text: str, start: str, end: str, file: Path) -> list[str]:
    """Return the lines of a page from the one that begins with `start` to before `end`.

    Raises:
        ValueError: there is no such line; the file isn't what the pipeline writes.
    """
    lines = text.splitlines()
    places = [place for place, line in enumerate(lines) if line.startswith(start)]
    if not places:
        raise ValueError(f"{file}: has no line that begins with {start!r}")
    rest = lines[places[0] :]
    ends = [place for place, line in enumerate(rest) if line.startswith(end)]
    return rest[: ends[0]] if ends else rest


def held_out(folder: Path) -> bool:
    """Return whether a study was measured on held-out training images, not on the test split."""
    # Descriptions from before there was a choice don't name it.
    arguments = read_json(folder / "data.json")["provenance"]["arguments"]
    return arguments.get("validation_fraction") is not None


def made_from(folder: Path, study: dict[str, str]) -> list[str]:
    """Say what was trained, on what, how, and by which command and commit."""
    data = read_json(folder / "data.json")
    runs = read_json(folder / "provenance.json")["runs"]
    counts = [f"{data['images'][split]['count']:,}" for split in ("train", "test")]
    height, width, channels = data["images"]["train"]["shape"]
    tested = "held-out training" if held_out(folder) else "test"
    lines = [
        f"Data: {counts[0]} training and {counts[1]} {tested} images of {height} x {width} pixels, "
        f"{channels} channel(s), {data['classes']} classes, sha256 {data['sha256'][:12]}.",
        "",
    ]
    heads = ["", "network", "seeds", *(name.replace("_", " ") for name in PROTOCOL)]
    rows = []
    for model in dict.fromkeys(one["model"] for one in runs):
        group = [one for one in runs if one["model"] == model]
        arguments = group[0]["training"]["arguments"]
        network = f"WRN-{arguments['depth']}-{arguments['width']}"
        seeds = ", ".join(str(one["seed"]) for one in group)
        rows.append([label(model), network, seeds, *(str(arguments[name]) for name in PROTOCOL)])
    hardware = dict.fromkeys(
        f"{one['training']['hardware']}, {one['training']['arguments']['threads']} thread(s), "
        f"{one['training']['engine']['precision']}"
        for one in runs
    )
    lines += [
        *table_lines(heads, rows),
        "",
        f"Hardware: {'; '.join(hardware)}. "
        f"Commit {listed(commit(one['training']) for one in runs)}. Command:",
        "",
        f"    {study['command']}",
        "",
    ]
    return lines


def beside_published(table: pd.DataFrame, published: pd.DataFrame, models: list[str]) -> list[str]:
    """Write, for each quantity that others published, ours and theirs."""
    rows, sources = [], list(published["source"].unique())
    for quantity in published["quantity"].unique():
        ours = table.loc[table["quantity"] == quantity]
        if len(ours) != 1:
            allowed = ", ".join(row.quantity for row in ROWS)
            raise ValueError(f"published.csv: quantity {quantity!r}; allowed: {allowed}")
        [row] = [row for row in ROWS if row.quantity == quantity]
        means = [float(ours[f"{model}_mean"].iloc[0]) for model in models]
        cells = ["-" if math.isnan(mean) else f"{mean:,.{row.decimals}f}" for mean in means]
        name = f"{quantity} ({row.unit})" if row.unit else quantity
        rows.append([name, "ours", *cells])
        for number, source in enumerate(sources, 1):
            theirs = published[
                (published["source"] == source) & (published["quantity"] == quantity)
            ].set_index("model")["value"]
            cells = [f"{theirs[model]:,.10g}" if model in theirs else "-" for model in models]
            if set(cells) != {"-"}:
                rows.append(["", f"({number})", *cells])
    return [
        *table_lines(["", "", *map(label, models)], rows),
        "",
        *(f"- ({number}) {source}." for number, source in enumerate(sources, 1)),
        "",
    ]


def cost(timings: pd.DataFrame) -> list[str]:
    """Write what each step took, means over the jobs of a step and a model."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for job in timings.to_dict("records"):
        whose = f", {label(job['model'])}" if isinstance(job["model"], str) else ""
        groups.setdefault(f"{job['step']}{whose}", []).append(job)
    rows = []
    for name, jobs in groups.items():
        means = [fmean(job[measure] for job in jobs) for measure in MEASURES]
        cells = ["-" if math.isnan(mean) else f"{mean:,.0f}" for mean in means]
        rows.append([name, str(len(jobs)), *cells])
    hours = timings["seconds"].to_numpy().sum() / 3600
    together = f"Together {hours:.1f} hours of wall time, if the jobs ran one after the other."
    return [*table_lines(["step", "jobs", *MEASURES.values()], rows), "", together, ""]


def overview(studies: list[Path]) -> list[str]:
    """Write the accuracies and epochs of the four arms in all studies, whose names are links.

    Raises:
        ValueError: a study has none.
    """
    cells: dict[str, dict[str, str]] = {}
    for folder in studies:
        title = read_json(folder / "study.json")["title"]
        # As GitHub makes anchors of headings.
        anchor = re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
        table = pd.read_csv(folder / "table.csv").set_index("quantity")
        if MAIN.quantity not in table.index:
            raise ValueError(f"{folder / 'table.csv'}: has no row {MAIN.quantity!r}")
        row = table.loc[MAIN.quantity]
        runs = read_json(folder / "provenance.json")["runs"]
        epochs = {one["model"]: one["training"]["arguments"]["epochs"] for one in runs}
        own = cells[f"[{title}](#{anchor})"] = {}
        for model in models_of(table):
            mean, deviation, count = (row[f"{model}_{name}"] for name in ("mean", "std", "n"))
            cell = format_cell(MAIN, mean, deviation, count)
            own[model] = f"{cell} (n = {count}, epochs = {epochs[model]})"
    models = [model for model in LABELS if any(model in row for row in cells.values())]
    rows = [[name, *(row.get(model, "-") for model in models)] for name, row in cells.items()]
    return [*table_lines([f"{MAIN.quantity} ({MAIN.unit})", *map(label, models)], rows), ""]


def models_of(table: pd.DataFrame) -> list[str]:
    """Return the models that a table of a study has, in its order."""
    return [name.removesuffix("_mean") for name in table if name.endswith("_mean")]


def study_lines(folder: Path, published: pd.DataFrame, link: str) -> list[str]:
    """Write the section of one study; `link` is its folder as the page names it."""
    study = read_json(folder / "study.json")
    table = pd.read_csv(folder / "table.csv")
    texts = {name: (folder / name).read_text() for name in ("table.md", "comparison.md")}
    models = models_of(table)
    lines = [f"## {study['title']}", "", *made_from(folder, study)]
    remarks = folder.with_suffix(".md")
    if remarks.is_file():
        lines += [remarks.read_text().strip(), ""]
    lines += between(texts["table.md"], "| | Teacher", "#", folder / "table.md")
    theirs = published.loc[published["data"] == study["published"]]
    if len(theirs):
        lines += ["", "### Beside what others published", ""]
        lines += beside_published(table, theirs, models)
    else:
        lines += [""]
    lines += ["### Does a method help?", ""]
    comparison = folder / "comparison.md"
    pairs, _, fidelity = texts["comparison.md"].partition("## Fidelity")
    # Without pairs, a sentence stands for their table.
    lines += pairs.partition("\n\n")[2].splitlines()
    lines += ["### Fidelity to the teacher", ""]
    lines += between(fidelity, "| ", "##", comparison)
    lines += [f"[How it was computed]({link}/comparison.md).", "", "### Figures", ""]
    for name, caption in FIGURES.items():
        lines += [f"![{caption}]({link}/{name})", ""]
    lines += ["### Claims about attention, as measured", ""]
    claims = folder / "claims.md"
    if claims.is_file():
        lines += between(claims.read_text(), "| claim", "Measured on", claims)
        lines += [f"[What was measured for each]({link}/claims.md).", ""]
    else:
        lines += ["Not measured yet.", ""]
    lines += ["### What it took", ""]
    return lines + cost(pd.read_csv(folder / "timings.csv"))


def main(argv: list[str] | None = None) -> None:
    """Read the studies and write the page."""
    arguments = parse_args(argv)
    folder = arguments.folder
    studies = [file.parent for file in folder.glob("*/study.json")]
    if not studies:
        raise FileNotFoundError(f"{folder}: no study; publish_results.py makes them")
    # Last come those by which settings were tried.
    studies.sort(key=lambda study: (held_out(study), study))
    published = pd.read_csv(folder / "published.csv")
    absent = [name for name in PUBLISHED if name not in published]
    if absent:
        raise ValueError(f"{folder / 'published.csv'}: lacks {', '.join(absent)}")
    link = Path(os.path.relpath(folder, arguments.markdown.parent)).as_posix()
    lines = [(folder / "introduction.md").read_text().strip(), "", *overview(studies)]
    for study in studies:
        lines += study_lines(study, published, f"{link}/{study.name}")
    with replacing(arguments.markdown) as file:
        file.write_text("\n".join(lines).rstrip("\n") + "\n")
    print(f"{arguments.markdown}: {len(studies)} studies", flush=True)


if __name__ == "__main__":
    run(main)
