"""The page of results: one section for each published study, made of the study's files alone."""

import math
import re
from pathlib import Path

import pandas as pd

from distillation.reporting.judged_again import claim_again, earlier_results, judged_again
from distillation.reporting.quantities import commit, hardware, listed
from distillation.reporting.results import held_out_words
from distillation.reporting.study import Study
from distillation.reporting.tables import split_cells, table_lines
from distillation.reporting.trained import ELSEWHERE, brought, read_table

# The figures of a study, and what they show.
FIGURES = {
    "figures/curves_test.png": "Test accuracy and cross-entropy, epoch by epoch",
    "figures/curves_teacher.png": "Training of the teacher",
    "figures/curves_students.png": "Training of the students, with each term of their objectives",
    "comparison.png": "Differences between methods, and agreement with the teacher",
    "figures/attention_mean_square.png": "Attention maps of one test image per class, by stage",
}
# What a training was told that tells studies apart; the last ones belong to a schedule.
PROTOCOL = (
    "epochs", "batch_size", "schedule", "learning_rate", "momentum", "nesterov", "weight_decay",
    "padding", "flip", "gamma_init",
)  # fmt: skip
# What records from before there was a choice don't have.
LATER = ("crop_border",)
OF_SCHEDULE = {"step": ("milestones", "learning_rate_decay", "reset_momentum")}

# What stands in the place of verdicts on claims that an earlier rule gave.
EARLIER_CLAIMS = (
    "These claims were judged by an earlier rule: by envelopes of bootstrap intervals of single "
    "seeds, without a smallest difference of interest, and with verdicts 'in part'. Its measures "
    "of deletion, of the pointing game, and of maps that weren't pooled to one size have been "
    "mended since. So no verdict is repeated here"
)

# The columns of published.csv.
PUBLISHED = ("data", "source", "quantity", "model", "value")
# What a job took, as timings.csv has it and as the page says it.
MEASURES = {
    "seconds": "wall time, s",
    "cpu_seconds": "CPU time, s",
    "memory": "peak memory, MB",
    "images_per_second": "images/s",
}


def made_from(study: Study) -> list[str]:
    """Say what was trained, on what, how, and by which command and commit."""
    data = study.data
    counts = [f"{data['images'][split]['count']:,}" for split in ("train", "test")]
    height, width, channels = data["images"]["train"]["shape"]
    tested = "held-out training" if study.held_out else "test"
    runs = [one["training"] for group in study.runs.values() for one in group]
    # What was trained elsewhere has no epochs.
    trained = dict.fromkeys(hardware(one) for one in runs if one["arguments"]["epochs"])
    return [
        f"Data: {counts[0]} training and {counts[1]} {tested} images of {height} x {width} pixels, "
        f"{channels} channel(s), {data['classes']} classes, sha256 {data['sha256'][:12]}.",
        "",
        *protocol(study),
        "",
        f"Hardware: {'; '.join(trained)}. Commit {listed(map(commit, runs))}. Command:",
        "",
        f"    {study.about['command']}",
        "",
    ]


def protocol(study: Study) -> list[str]:
    """Write what each model's training was told, a row per model."""
    trainings = {model: group[0]["training"] for model, group in study.runs.items()}
    told = [each["arguments"] for each in trainings.values()]
    more = [name for schedule in dict.fromkeys(each.get("schedule") for each in told)
            for name in OF_SCHEDULE.get(schedule, ())]  # fmt: skip
    more = [*(name for name in LATER if any(name in each for each in told)), *more]
    rows = []
    for (model, training), arguments in zip(trainings.items(), told, strict=True):
        known = (*PROTOCOL, *LATER, *OF_SCHEDULE.get(arguments.get("schedule"), ()))
        shown = arguments | ({"epochs": ELSEWHERE} if brought(training) else {})
        cells = [str(shown.get(name, "-")) if name in known else "-" for name in (*PROTOCOL, *more)]
        seeds = ", ".join(str(one["seed"]) for one in study.runs[model])
        # Records from before there were families have depth and width.
        title = training.get("network_title") or "WRN-{depth}-{width}".format(**arguments)
        rows.append([study.label(model), title, seeds, *cells])
    heads = (name.replace("_", " ") for name in (*PROTOCOL, *more))
    return table_lines(["", "network", "seeds", *heads], rows)


def beside_published(study: Study, published: pd.DataFrame) -> list[str]:
    """Write, for each quantity that others published, ours and theirs.

    A quantity may have several names with | between them, as it has had in tables.

    Raises:
        ValueError: the study's table has none of them.
    """
    models, rows, sources = [*study.runs], [], list(published["source"].unique())
    for quantity, values in published.groupby("quantity", sort=False):
        found = [row for name in str(quantity).split("|") if (row := study.row(name))]
        if not found:
            raise ValueError(
                f"published.csv: quantity {quantity!r}; allowed: {', '.join(study.rows)}"
            )
        head, cells = found[0]
        rows.append([head, "ours", *(cell.partition(" ±")[0] for cell in cells)])
        for number, source in enumerate(sources, 1):
            theirs = values[values["source"] == source].set_index("model")["value"]
            cells = [f"{theirs[model]:,.10g}" if model in theirs else "-" for model in models]
            if set(cells) != {"-"}:
                rows.append(["", f"({number})", *cells])
    table = table_lines(["", "", *map(study.label, models)], rows)
    return [*table, "", *(f"- ({n}) {source}." for n, source in enumerate(sources, 1)), ""]


def cost(study: Study) -> list[str]:
    """Write what each step took, means over the jobs of a step and a model."""
    timings = read_table(study.folder / "timings.csv")
    whose = ["" if pd.isna(model) else f", {study.label(model)}" for model in timings["model"]]
    rows = []
    for name, jobs in timings.groupby(timings["step"] + whose, sort=False):
        means = jobs[[*MEASURES]].mean(skipna=False)
        rows.append(
            [
                str(name),
                str(len(jobs)),
                *("-" if math.isnan(mean) else f"{mean:,.0f}" for mean in means),
            ]
        )
    hours = timings["seconds"].sum() / 3600
    together = f"Together {hours:.1f} hours of wall time, if the jobs ran one after the other."
    return [*table_lines(["step", "jobs", *MEASURES.values()], rows), "", together, ""]


def overview(studies: list[Study]) -> list[str]:
    """Write headline and epochs of the models that several studies have, with links to these."""
    cells: dict[str, dict[str, str]] = {}
    labels: dict[str, str] = {}
    anchors: list[str] = []
    for study in studies:
        title = study.about["title"]
        # As GitHub makes anchors of headings, of which several may be alike.
        anchor = re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
        anchors.append(anchor)
        again = anchors.count(anchor) - 1
        own = cells[f"[{title}](#{anchor}{f'-{again}' if again else ''})"] = {}
        columns = zip(study.runs.items(), study.headline[1], study.gains, strict=True)
        for (model, group), cell, gain in columns:
            training = group[0]["training"]
            epochs = f"epochs = {training['arguments']['epochs']}"
            how = ELSEWHERE if brought(training) else epochs
            best = f", best epoch + {gain}" if gain.strip("-") else ""
            own[model] = f"{cell} (n = {len(group)}, {how}{best})"
            labels.setdefault(model, study.label(model))
    enough = min(2, len(studies))
    models = [model for model in labels if sum(model in row for row in cells.values()) >= enough]
    rows = [[name, *(row.get(model, "-") for model in models)] for name, row in cells.items()]
    head = " / ".join(dict.fromkeys(study.headline[0] for study in studies))
    return [*table_lines([head, *(labels[model] for model in models)], rows), ""]


def pairs_lines(study: Study, link: str) -> list[str]:
    """Write what is said of differences between methods; the folder as the page names it is `link`.

    A study from before there was one rule is judged again. What its own rule said in words, and
    what few seeds would have missed, which they can't tell, stays where it was published.
    """
    text = (study.folder / "comparison.md").read_text().partition("## Fidelity")[0]
    if not study.earlier:
        # Without pairs, a sentence stands for their table.
        return text.partition("\n\n")[2].splitlines()
    _, table, _, *paragraphs = text.rstrip().split("\n\n")
    rows = [split_cells(line) for line in table.splitlines()]
    kept = [place for place, name in enumerate(rows[0]) if name != "Detectable"]
    head, _, *body = [[row[place] for place in kept] for row in rows]
    history = read_table(study.folder / "history.csv")
    labels = {model: study.label(model) for model in study.runs}
    results = earlier_results(study.about["title"], study.runs, history, labels, study.held_out)
    return [
        *judged_again(study.compared, results),
        f"As it was [published at first]({link}/comparison.md), differences from 0, over seeds "
        "alone:",
        "", *table_lines(head, body), "",
        *(line for paragraph in paragraphs for line in (*paragraph.splitlines(), "")),
    ]  # fmt: skip


def claims_lines(study: Study, link: str) -> list[str]:
    """Write the verdicts on claims about attention; those of an earlier rule aren't repeated."""
    if not (study.folder / "claims.md").is_file():
        return ["Not measured yet.", ""]
    page = f"{link}/claims.md"
    if not study.earlier:
        verdicts = study.between("claims.md", "| claim", "Measured on")
        return [*verdicts, f"[What was measured for each]({page}).", ""]
    labels = {model: study.label(model) for model in study.runs}
    measured = read_table(study.folder / "attention_metrics.csv")
    images = study.data["images"]["test"]["count"]
    return [
        f"{EARLIER_CLAIMS}; [claims.md]({page}) has them as they were published.", "",
        *claim_again(measured, images, labels),
    ]  # fmt: skip


def across_lines(folder: Path, link: str) -> list[str]:
    """Write the section of a table across experiments, as render_overview.py made it.

    Args:
        folder: where overview.md and overview.png are; its name is the heading.
        link: the folder as the page names it.
    """
    lines = [f"## {folder.name.replace('_', ' ').capitalize()}, across experiments", ""]
    remarks = folder.with_suffix(".md")
    if remarks.is_file():
        lines += [remarks.read_text().strip(), ""]
    lines += [f"![Differences to the baseline]({link}/overview.png)", ""]
    # Headings one level down, without the first and the empty line below it.
    _, _, *rest = (folder / "overview.md").read_text().splitlines()
    lines += [f"#{line}" if line.startswith("#") else line for line in rest]
    return [*lines, ""]


def study_lines(study: Study, published: pd.DataFrame, link: str, computed: list[str]) -> list[str]:
    """Write the section of one study.

    Args:
        study: which.
        published: figures of others.
        link: its folder as the page names it.
        computed: what is said of its numbers, computed again.
    """
    lines = [f"## {study.about['title']}", "", *made_from(study)]
    remarks = study.folder.with_suffix(".md")
    if remarks.is_file():
        lines += [remarks.read_text().strip(), ""]
    lines += [*study.between("table.md", "| | ", "#"), ""]
    theirs = published.loc[published["data"] == study.about["published"]]
    if len(theirs):
        lines += ["### Beside what others published", "", *beside_published(study, theirs)]
    lines += ["### Does a method help?", "", *pairs_lines(study, link)]
    lines += ["### Fidelity to the teacher", ""]
    _, _, fidelity = (study.folder / "comparison.md").read_text().partition("## Fidelity")
    lines += fidelity.partition("\n\n")[2].partition("\n##")[0].splitlines()
    lines += ["", f"[How it was computed]({link}/comparison.md).", "", "### Figures", ""]
    for name, caption in FIGURES.items():
        if (study.folder / name).is_file():
            words = held_out_words(caption) if study.held_out else caption
            lines += [f"![{words}]({link}/{name})", ""]
    lines += ["### Claims about attention, as measured", "", *claims_lines(study, link)]
    lines += ["### Computed again", "", *computed]
    return [*lines, "### What it took", "", *cost(study)]
