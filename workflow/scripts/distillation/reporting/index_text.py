"""What the page of an experiment says in its own words: the answer, the cost, how it was made."""

from itertools import chain
from statistics import fmean

import pandas as pd

from distillation.reporting.comparison_text import inside
from distillation.reporting.consistency import flat
from distillation.reporting.metric import metrics_of
from distillation.reporting.quantities import commit, joint_words, listed
from distillation.reporting.results import BASELINE, Results
from distillation.reporting.tables import table_lines
from distillation.reporting.trained import Run, training_jobs

# Verdicts of comparison.csv, and what stands before the names of the methods that have them.
SHOWN = {
    "above": "Shown to be above {}", "below": "Shown to be below {}",
    "equivalent": "Shown to be equivalent to {}",
}  # fmt: skip
OPEN = "It can't be said, which is no equality, of"


def answer(findings: pd.DataFrame, labels: dict[str, str], data: str) -> str:
    """Write the answer as Markdown: what is shown of each pair, and what that is about.

    Args:
        findings: the rows of comparison.csv.
        labels: what models are called.
        data: the images that were measured on, in words.
    """
    pairs = findings.loc[findings["contrast"] == "difference"]
    # What is asked first is whether a teacher helps at all.
    asked = sorted(pairs["reference"].unique(), key=lambda name: name != BASELINE)
    groups = [pairs.loc[pairs["reference"] == reference] for reference in asked]
    lines = ["No two methods are compared.", ""]
    if groups:
        lines = [f"**{headline(groups[0], labels)}**", ""]
        lines += [*(f"- {sentence}." for sentence in groups[0]["sentence"]), ""]
        # Where nothing is shown, one line is enough for all.
        open_, shown = [], []
        for rows in groups[1:]:
            (shown if rows["verdict"].isin(SHOWN).any() else open_).append(rows)
        shown += [pd.concat(open_)] if open_ else []
        lines += [*(f"{headline(rows, labels)}\n" for rows in shown)]
    return "\n".join([*lines, f"Measured on {data}, at the last epoch.", ""])


def headline(rows: pd.DataFrame, labels: dict[str, str]) -> str:
    """Say which methods are shown to be what, beside the reference of all rows.

    Where nothing is shown, they may have several.
    """
    reference, said = " or ".join(inside(labels[name]) for name in rows["reference"].unique()), []
    reference += ", for this teacher" * bool((rows["teachers"] == 1).any())
    for verdict, words in SHOWN.items():
        having = rows.loc[rows["verdict"] == verdict]
        if len(having):
            said.append(f"{words.format(reference)}: {names(having, labels)}.")
    if not said:
        one = len({*rows["method"]}) == 1
        which = f"{names(rows, labels)} isn't" if one else f"None of {names(rows, labels)} is"
        return f"{which} shown to be above, below or equivalent to {reference}."
    left = rows.loc[~rows["verdict"].isin(SHOWN)]
    if len(left):
        said.append(f"{OPEN} {names(left, labels)}.")
    return " ".join(said)


def names(rows: pd.DataFrame, labels: dict[str, str]) -> str:
    """List the methods of rows as a sentence does."""
    *first, last = (labels[method] for method in rows["method"].unique())
    return f"{', '.join(first)} and {last}" if first else last


def networks(results: Results) -> str:
    """Say which networks were trained, and with how many seeds."""
    found: dict[str, list[str]] = {}
    for model, group in results.groups.items():
        seeds = f"{len(group)} seed{'s' * (len(group) > 1)}"
        what = f"{group[0].training['network_title']}, {seeds}"
        found.setdefault(what, []).append(results.labels[model])
    return " ".join(f"{', '.join(models)}: {what}." for what, models in found.items())


def agreement(fidelity: pd.DataFrame, results: Results, confidence: float) -> str:
    """Say how well students match their teacher, by the first measure of it; nothing without one.

    Args:
        fidelity: the rows of fidelity.csv.
        results: what was trained.
        confidence: of the intervals, fraction.
    """
    if fidelity.empty:
        return ""
    name = fidelity["measure"].iloc[0]
    metric, said = metrics_of(results)[name], []
    for row in fidelity.loc[fidelity["measure"] == name].to_dict("records"):
        value = f"{metric.number(row['mean'])} {metric.unit}".rstrip()
        # Of one seed, or of equal ones, there is none.
        ends = "no interval" if pd.isna(row["low"]) else metric.span(row["low"], row["high"])
        said.append(f"{results.labels[row['method']]} {value} ({ends})")
    return f"{metric.label}, with {100 * confidence:g} % intervals: {', '.join(said)}."


def cost(results: Results) -> str:
    """Write what each network costs, and its training."""
    rows = []
    for model, group in results.groups.items():
        metrics = group[0].metrics
        seconds = [seconds_of(run) for run in group if not run.history.empty]
        rows.append([
            results.labels[model], f"{metrics['parameters']:,}",
            f"{metrics['multiply_accumulates'] * 1e-6:,.1f}",
            group[0].epochs,
            f"{fmean(seconds):,.0f}" if seconds else "-",
        ])  # fmt: skip
    head = ["", "Parameters", "Multiply-accumulates, million an image", "Epochs", "Training, s"]
    jobs = training_jobs(results.runs)
    trained = [run for run in results.runs if not run.history.empty]
    told = f"All {len(trained)} trainings, one job after the other: {sum(jobs) / 60:,.1f} minutes."
    notes = ["Training: mean over seeds.", *joint_words(results.runs), told]
    return "\n".join([*table_lines(head, rows), "", " ".join(notes)])


def seconds_of(run: Run) -> float:
    """Return the time of a training, in seconds."""
    return float(run.history["seconds"].to_numpy().sum())


def made(results: Results, command: str) -> str:
    """Write data, versions, commit, commands that make it again, and what trainings were told."""
    trainings = [run.training for run in results.runs if not run.history.empty]
    packages = {
        f"{name} {version}" for each in trainings for name, version in each["packages"].items()
    }
    commits = {each["commit"]: None for each in trainings if each["commit"]}
    lines = [
        f"- Data: sha256 {results.runs[0].training['data_sha256']}.",
        f"- Trained on {listed(each['hardware'] for each in trainings)}, "
        f"in {listed(each['engine']['precision'] for each in trainings)}.",
        f"- Versions: {listed(packages)}.",
        f"- Commit: {listed(map(commit, trainings))}.",
        "", "To make it again:", "", "```bash",
        *(f"git checkout {name}" for name in commits if len(commits) == 1),
        "make install && source .venv/bin/activate", command, "```", "",
        "What trainings were told, as the config resolves:", "",
    ]  # fmt: skip
    return "\n".join([*lines, *protocol(results)])


def protocol(results: Results) -> list[str]:
    """Write the arguments of each model's training, a row for each argument."""
    told = {model: flat(group[0].arguments) for model, group in results.groups.items()}
    rows = [
        [name, *(str(each.get(name, "-")) for each in told.values())]
        for name in dict.fromkeys(chain.from_iterable(told.values()))
    ]
    return table_lines(["", *(results.labels[model] for model in told)], rows)
