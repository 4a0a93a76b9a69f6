"""A comparison of methods in words: sentences, tables, and how it was computed."""

import math
from collections import Counter
from collections.abc import Mapping
from itertools import chain

from distillation.reporting.comparison import Compared, Finding, fidelity_metrics
from distillation.reporting.metric import Metric
from distillation.reporting.results import LABELS, Results
from distillation.reporting.tables import table_lines
from distillation.reporting.trained import Run
from distillation.settings.reports import Comparison

# What comparison.md says of how it was computed.
METHODS = """\
{label} on the {count} {images}, last epoch, never the best{better}. A difference is the method
minus the reference, in {unit}, mean over seeds; seeds are compared in pairs, as they share
initialisation, data order and augmentation where trainings are the same.

- Over seeds, {level}: paired t test and its interval, for the mean over all seeds, on these
  images and, where all seeds share it, with this teacher (Student 1908, "The probable error of a
  mean", Biometrika 6; `scipy.stats.ttest_rel`). Nothing is said where there is one seed, or where
  the difference is the same in all.
- p (Holm): adjusted for the number of pairs, {pairs} (Holm 1979, "A simple sequentially rejective
  multiple test procedure", Scandinavian Journal of Statistics 6). The verdict is above or below
  where it is at most {threshold}.
- Detectable: the true difference that so many seeds find with probability {power}, if the
  differences spread as they did here, which few seeds tell roughly; for one pair alone, before
  Holm's correction (Cohen 1988, "Statistical power analysis for the behavioral sciences", chapter
  2, with the noncentral t; `scipy.stats.nct`).
"""
OVER_IMAGES = """\
- Over images, {level}: percentile bootstrap, {resamples} draws of the {images}, the same for
  both methods and all seeds (Efron and Tibshirani 1993, "An introduction to the bootstrap", section
  13.3; `scipy.stats.bootstrap`). It is about these trained networks on other images of the kind,
  not about other seeds.
"""
MCNEMAR = """\
- McNemar: exact test in each seed, not corrected, on the images on which one of the two is above
  the other (McNemar 1947, "Note on the sampling error of the difference between correlated
  proportions or percentages", Psychometrika 12; `scipy.stats.binomtest`). It too is about images,
  not seeds.
"""
FIDELITY = """\
- Fidelity is measured on the {images}, with Student's t interval over seeds, cut at 0 and at 100 %.
  Matching the teacher better need not mean a better student (Stanton et al. 2021, "Does knowledge
  distillation really work?", arXiv 2106.05945).
"""


def inside(label: str) -> str:
    """Return the name of a model as it stands inside a sentence."""
    return f"the {label.lower()}" if label in LABELS.values() else label


def p_text(value: float) -> str:
    """Write a p-value; nothing where there is none."""
    return "-" if math.isnan(value) else f"{value:.2g}" if value >= 0.0001 else "< 0.0001"


def describe(
    row: Finding, metric: Metric, settings: Comparison, labels: Mapping[str, str], pairs: int
) -> str:
    """Return a finding in words, as one sentence without a full stop; `pairs` are how many."""
    method, reference = inside(labels[row.method]), inside(labels[row.reference])
    # A method's own name keeps its letters.
    start = "T" + method[1:] if method.startswith("the ") else method
    level = f"{100 * settings.confidence:g} % interval"
    images = f"; on the {metric.images} alone its {level} is "
    images += metric.span(row.images_low, row.images_high)
    if math.isnan(row.images_low):
        images = ""
    elif row.images_low == row.images_high:
        images = f"; drawing other {metric.images} doesn't change it"
    difference, ends = metric.amount(row.difference), metric.span(row.low, row.high)
    if row.verdict == "one_seed":
        return (
            f"With one seed nothing can be said about other seeds: in this one the difference "
            f"between {method} and {reference} is {difference}{images}"
        )
    if row.verdict != "not_distinguishable":
        what = "" if row.verdict == "above" else " of the difference"
        return (
            f"{start} is {row.verdict} {reference} by {metric.amount(abs(row.difference))}, "
            f"{level}{what} {ends}, {row.seeds} seeds"
        )
    text = f"{start} is not distinguishable from {reference} with {row.seeds} seeds: "
    if math.isnan(row.p_value):
        return text + (
            f"the difference is {difference} in each of them, and without a spread nothing can be "
            f"said about other seeds{images}"
        )
    text += f"difference {difference}, {level} {ends}"
    if row.p_value <= 1 - settings.confidence:
        text += (
            f", which excludes 0, but not after Holm's correction for {pairs} pairs "
            f"(p = {p_text(row.p_holm)})"
        )
    return text + (
        f"; a true difference under {metric.amount(row.detectable)} would be missed in more than "
        f"{100 * (1 - settings.power):.3g} % of such experiments"
    )


def format_comparison(compared: Compared, sentences: list[str]) -> str:
    """Write comparison and fidelity as Markdown, with how they were computed."""
    results, settings, findings = compared.results, compared.settings, compared.findings
    metric = compared.metric
    tested = bool(compared.seeds["mcnemar_p_value"].notna().any())
    lines = [f"# {results.title}: comparison of methods", ""]
    lines += pair_table(compared, tested)
    lines += ["", *(f"- {sentence}." for sentence in sentences), "", *training_note(results)]
    lines += ["## Fidelity to the teacher", "", *fidelity_table(compared), ""]
    lines += ["## How it was computed", ""]
    by_image = any(not math.isnan(row.images_low) for row in findings)
    methods = METHODS + OVER_IMAGES * by_image + MCNEMAR * tested
    methods += FIDELITY * bool(len(compared.fidelity))
    return "\n".join(lines) + "\n" + methods.format(
        label=metric.label, count=f"{results.runs[0].metrics['images']:,}", images=metric.images,
        better=metric.better, unit=metric.unit_words, level=compared.level, pairs=len(findings),
        threshold=f"{1 - settings.confidence:.3g}", power=f"{100 * settings.power:.3g} %",
        resamples=f"{settings.resamples:,}",
    )  # fmt: skip


def pair_table(compared: Compared, tested: bool) -> list[str]:
    """Write a row per pair; McNemar's test has a column where it was made."""
    if not compared.findings:
        return ["No two methods are compared."]
    metric, labels, threshold = (
        compared.metric,
        compared.results.labels,
        1 - compared.settings.confidence,
    )
    head = [
        "", "Seeds", "Difference", f"{compared.level} over seeds", "p", "p (Holm)", "Detectable",
        f"{compared.level} over images", *[f"McNemar p < {threshold:.3g}"] * tested,
    ]  # fmt: skip
    table = []
    for row in compared.findings:
        found = (compared.seeds_of(row)["mcnemar_p_value"] <= threshold).sum()
        cells = [
            f"{labels[row.method]} - {labels[row.reference]}", str(row.seeds),
            metric.number(row.difference), metric.span(row.low, row.high), p_text(row.p_value),
            p_text(row.p_holm), metric.number(row.detectable),
            metric.span(row.images_low, row.images_high),
            *[f"{found} of {row.seeds} seeds"] * tested,
        ]  # fmt: skip
        table.append(cells)
    return table_lines(head, table)


def training_note(results: Results) -> list[str]:
    """Say in what trainings of students differ, besides their terms.

    That is the precision, which `auto` may pick otherwise on another machine, and what methods have
    of their own.
    """
    lines = []
    for name in ("precision", *sorted(set(chain(*results.own_training.values())))):
        found = {
            model: " and ".join(sorted({trained_with(name, run) for run in group}))
            for model, group in results.students.items()
        }
        [(common, _)] = Counter(found.values()).most_common(1) or [("", 0)]
        others = [
            f"{results.labels[model]} {value}" for model, value in found.items() if value != common
        ]
        if others:
            lines.append(f"- {name}: {', '.join(others)}, others {common}")
        elif " and " in common:
            lines.append(f"- {name}: {common} in all")
    if not lines:
        return []
    return ["Trainings differ, which differences may come from, in", "", *lines, ""]


def trained_with(name: str, run: Run) -> str:
    """Return a setting of a training; of the precision, what `auto` picked."""
    return str((run.arguments | run.training["engine"])[name])


def fidelity_table(compared: Compared) -> list[str]:
    """Write how well each student matches the teacher, a row per student."""
    results = compared.results
    metrics = fidelity_metrics(results)
    if not metrics:
        return ["No student was compared with a teacher."]
    head = ["", "Seeds"]
    for metric in metrics.values():
        head += [f"{metric.label}, {metric.unit}".rstrip(", "), compared.level]
    rows = []
    for model, group in compared.fidelity.groupby("method", sort=False):
        cells = [results.labels[str(model)], str(group["seeds"].iloc[0])]
        measures = group.set_index("measure")[["mean", "low", "high"]]
        for name, metric in metrics.items():
            mean, low, high = measures.reindex([name]).iloc[0].tolist()
            cells += [metric.number(mean), metric.span(low, high)]
        rows.append(cells)
    return table_lines(head, rows)
