"""A comparison of methods in words: sentences, tables, and how it was computed."""

import math
from collections.abc import Mapping
from itertools import chain
from typing import cast

from distillation.reporting.comparison import Compared, Finding, fidelity_metrics
from distillation.reporting.metric import Metric
from distillation.reporting.quantities import best_rows, format_rows
from distillation.reporting.results import LABELS, Results
from distillation.reporting.tables import table_lines
from distillation.settings import plugins
from distillation.settings.base import MetricSettings
from distillation.settings.reports import Comparison

# What comparison.md says of how it was computed.
METHODS = """\
{label} on the {count} {images}, last epoch, never the best{better}. A difference is the method
minus the reference, in {unit}, mean over seeds; seeds are compared in pairs, as they share
initialisation, data order and augmentation where trainings are the same. Effects of two methods
"added up" are what both would have together if neither changed what the other does.

- Smallest difference of interest, fixed before anything is run: {least}; {reason}. Above and below
  mean by more than that, equivalent means by less. What isn't shown isn't refuted by that.
- {level}, and {narrow} for equivalence: for other seeds, or teachers where there are several{over}.
  Where there is one teacher, nothing is said of others.
- p (Holm): the smallest level at which anything is said, adjusted for the number of questions,
  {questions}. Something is said where it is at most {threshold}.
{more}
Why so, with sources, and how often it errs: docs/statistics.md.
"""
DETECTABLE = """\
- Detectable: the true difference that is shown with probability {power} if seeds spread as they did
  here, which few seeds tell roughly; of one question alone, before Holm's correction.
"""
FIDELITY = """\
- Fidelity is measured on the {tested}{trained}, with Student's t interval over seeds, cut at 0 and
  at 100 %. Matching the teacher better need not mean a better student (Stanton et al. 2021, "Does
  knowledge distillation really work?", arXiv 2106.05945).
"""
BEST = """\
What the highest accuracy of all epochs, picked by the {images} themselves, would have reported, and
by how much that flatters each: mean ± standard deviation over n seeds. Nothing else here uses it.
"""
# Verdicts in a table; {} is the smallest difference of interest.
VERDICTS = {
    "above": "above by more than {}", "below": "below by more than {}",
    "equivalent": "equivalent within {}", "open": "can't be said", "one_seed": "can't be said",
}  # fmt: skip


def inside(label: str) -> str:
    """Return the name of a model as it stands inside a sentence."""
    return f"the {label.lower()}" if label in LABELS.values() else label


def reference_name(row: Finding, labels: Mapping[str, str]) -> str:
    """Return what a method is compared with, as it stands inside a sentence."""
    names = " and ".join(inside(labels[name]) for name in row.reference.split(" + "))
    return names if row.contrast == "difference" else f"the effects of {names} added up"


def p_text(value: float) -> str:
    """Write a p-value, not rounded down to a level that it is above; a dash for none."""
    if math.isnan(value) or value < 0.0001:
        return "-" if math.isnan(value) else "< 0.0001"
    text = f"{value:.2g}"
    return f"{value:.3g}" if float(text) in (0.01, 0.05, 0.1) and value > float(text) else text


# fmt: off
def describe(
    row: Finding, metric: Metric, settings: Comparison, labels: Mapping[str, str], questions: int
) -> str:
    """Return a finding in words, a sentence without a full stop; `questions` are how many."""
    method, reference = inside(labels[row.method]), reference_name(row, labels)
    # A method's own name keeps its letters.
    start = "T" + method[1:] if method.startswith("the ") else method
    wide, narrow = (f"{100 * confidence:.4g} % interval"
                    for confidence in (settings.confidence, 2 * settings.confidence - 1))
    difference, ends = metric.amount(row.difference), metric.span(row.low, row.high)
    least, nonzero = metric.exactly(row.smallest_difference), row.low > 0 or row.high < 0
    taught = {0: "", 1: ", for this teacher"}.get(row.teachers, f" of {row.teachers} teachers")
    found, whose = f"difference {difference}", f"{row.seeds} seeds{taught}"
    full = f"{found}, {wide} {ends}, {whose}"
    if row.verdict in ("above", "below"):
        return f"{start} is {row.verdict} {reference} by more than {least}: {full}"
    if row.verdict == "equivalent":
        return (f"{start} is equivalent to {reference} within {least}: {found}, {narrow} "
                f"{metric.span(row.low_90, row.high_90)}, {whose}"
                + f"; its {wide}, {ends}, excludes 0" * nonzero)
    images = ""
    if not math.isnan(row.images_low):
        images = (f"; on the {metric.images} alone its {wide} is "
                  f"{metric.span(row.images_low, row.images_high)}")
    if row.verdict == "one_seed":
        return ("With one seed nothing can be said about other seeds: in this one"
                f"{', for this teacher,' * bool(row.teachers)} the difference between {method} and "
                f"{reference} is {difference}{images}")
    text = f"Whether {method} differs from {reference} by more than {least} can't be said: "
    if math.isnan(row.p_value):
        return (f"{text}{found} in each of {whose}, and without a spread there is no interval"
                f"{images}")
    if row.p_value <= 1 - settings.confidence:
        full += (f"; as the only question it could be, but not after Holm's correction for "
                 f"{questions} (p = {p_text(row.p_holm)})")
    elif nonzero:
        full += "; the interval excludes 0"
    if not math.isnan(row.detectable):
        full += (f"; a true difference under {metric.amount(row.detectable)} would be missed in "
                 f"more than {100 * (1 - settings.power):.3g} % of such experiments")
    return text + full
# fmt: on


def format_comparison(compared: Compared, sentences: list[str]) -> str:
    """Write comparison and fidelity as Markdown, with how they were computed."""
    results, settings, findings = compared.results, compared.settings, compared.findings
    metric = compared.metric
    by_image = any(not math.isnan(row.images_low) for row in findings)
    planned = any(not math.isnan(row.detectable) for row in findings)
    lines = [f"# {results.title}: comparison of methods", ""]
    lines += contrast_table(compared, planned)
    lines += ["", *(f"- {sentence}." for sentence in sentences), "", *training_note(results)]
    lines += ["## Fidelity to the teacher", "", *fidelity_table(compared), ""]
    lines += [
        "## Best epoch against the last",
        "",
        *BEST.format(images=results.worded("test images")).splitlines(),
    ]
    lines += ["", *format_rows(results, best_rows(results)), ""]
    lines += ["## How it was computed", ""]
    more = DETECTABLE * planned + FIDELITY * bool(len(compared.fidelity))
    words = {
        "label": metric.label, "count": f"{metric.number_of_images:,}", "images": metric.images,
        "tested": results.worded("test images"), "trained": trained_words(compared),
        "better": metric.better, "unit": metric.unit_words,
        "least": metric.exactly(metric.smallest_difference), "reason": reason_for(metric),
        "over": f", and other {metric.images}" * by_image, "level": compared.level,
        "narrow": f"{200 * settings.confidence - 100:.4g} %", "questions": len(findings),
        "threshold": f"{1 - settings.confidence:.3g}", "power": f"{100 * settings.power:.3g} %",
    }  # fmt: skip
    return "\n".join(lines) + "\n" + METHODS.format(more=more.format(**words), **words)


def trained_words(compared: Compared) -> str:
    """Say what of fidelity is measured on training images, and on how many; often nothing is."""
    others = [metric for metric in fidelity_metrics(compared.results).values()
              if metric.images == "training images"]  # fmt: skip
    told = [
        f"{metric.label[0].lower()}{metric.label[1:]} on {metric.number_of_images:,}"
        for metric in others
    ]
    return f" ({', '.join(told)} of these)" * bool(told)


def reason_for(metric: Metric) -> str:
    """Return why the smallest difference of interest is what it is."""
    declared = cast(type[MetricSettings], plugins.declared("metrics", metric.name))
    field = declared.model_fields["smallest_difference"]
    if field.is_required() or metric.smallest_difference == field.default:
        return declared.reason
    usual = metric.amount(field.default)
    return f"set by the config instead of {usual}, which is {declared.reason}"


def contrast_table(compared: Compared, planned: bool) -> list[str]:
    """Write a row per contrast; what is detectable has a column where it is planned with."""
    if not compared.findings:
        return ["No two methods are compared."]
    metric, labels = compared.metric, compared.results.labels
    head = [
        "", "Seeds", "Teachers", "Difference", compared.level,
        f"{200 * compared.settings.confidence - 100:.4g} %", "p (Holm)",
        *["Detectable"] * planned, "Judgement",
    ]  # fmt: skip
    table = []
    for row in compared.findings:
        names = [labels[name] for name in row.reference.split(" + ")]
        what = f"{labels[row.method]} - {names[0]}"
        cells = [
            what if len(names) == 1 else f"Interaction of {' and '.join(names)}",
            str(row.seeds), str(row.teachers), metric.number(row.difference),
            metric.span(row.low, row.high), metric.span(row.low_90, row.high_90),
            p_text(row.p_holm), *[metric.number(row.detectable)] * planned,
            VERDICTS[row.verdict].format(metric.exactly(row.smallest_difference)),
        ]  # fmt: skip
        table.append(cells)
    return table_lines(head, table)


def training_note(results: Results) -> list[str]:
    """Say in what trainings of students differ, besides their terms.

    That is what `auto` may pick otherwise on another machine, the precision and whether they were
    compiled, and what methods have of their own.
    """
    lines = []
    for name in ("precision", "compiled", *sorted(set(chain(*results.own_training.values())))):
        found = {
            results.labels[model]: " and ".join(
                sorted({str((run.arguments | run.training["engine"])[name]) for run in group})
            )
            for model, group in results.students.items()
        }
        common = max(found.values(), key=[*found.values()].count, default="")
        others = [f"{label} {value}" for label, value in found.items() if value != common]
        if others:
            lines.append(f"- {name}: {', '.join(others)}, others {common}")
        elif " and " in common:
            lines.append(f"- {name}: {common} in all")
    said = ["Trainings differ, which differences may come from, in", "", *lines, ""]
    return said if lines else []


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
        # A measure of mistakes has no value where there are none.
        counts = map(str, sorted({*group["seeds"]}))
        cells = [results.labels[str(model)], " or ".join(counts)]
        measures = group.set_index("measure")[["mean", "low", "high"]]
        for name, metric in metrics.items():
            mean, low, high = measures.reindex([name]).iloc[0].tolist()
            cells += [metric.number(mean), metric.span(low, high)]
        rows.append(cells)
    return table_lines(head, rows)
