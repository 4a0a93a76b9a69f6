"""The claims and what was measured for them, in Markdown."""

import math
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from string import ascii_lowercase
from urllib.parse import quote

import pandas as pd

from distillation.reporting.attention_words import MEANINGS, margin_words, name_of
from distillation.reporting.claims import (
    EACH,
    OPEN,
    Claim,
    Column,
    Comparison,
    Criterion,
    judge_claims,
    one_teacher,
)
from distillation.reporting.intervals import Interval
from distillation.reporting.measurements import (
    BEFORE,
    LATE,
    POINTS,
    Key,
    Methods,
    every_stage,
    intervals,
    pick_collapse,
    samples,
)
from distillation.reporting.tables import table_line, table_lines
from distillation.reporting.trained import read_json
from distillation.settings.reports import SmallestDifferences

# Where the object is, as measure_attention.py was told.
OBJECT_MASKS = {
    "stored": "object: the masks stored with the data",
    "above_zero": "object: pixels above 0",
    "none": "without masks of the objects",
}
ONE_TEACHER = """
There is one teacher. A claim about teachers in general can't be said then; what this teacher alone
shows stands in brackets. Elsewhere the teacher's column is about this teacher, and what is said of
students is said of students of this teacher.
"""


def describe_data(path: Path, title: str, object_mask: str | None) -> tuple[str, int]:
    """Say on which images was measured, from the description of the data, and on how many.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it isn't one that prepare_data.py writes.
    """
    content = read_json(path)
    try:
        height, width, channels = content["images"]["test"]["shape"]
        count, format_, classes = (
            int(content["images"]["test"]["count"]), content["format"], content["classes"]
        )  # fmt: skip
        split = "held-out training images" if content.get("held_out") else "test images"
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not a description of prepare_data.py: {error!r}") from error
    size = f"{height} x {width} pixels, {'grey' if channels == 1 else 'RGB'}"
    masks = f"; {OBJECT_MASKS[object_mask]}" if object_mask else ""
    return f"{count:,} {split} of {title} ({format_}, {size}, {classes} classes{masks})", count


def cell(interval: Interval | None, measure: str) -> str:
    """Write a value and its interval, unless that is the value alone or there is none."""
    if interval is None:
        return "-"
    decimals = 2 if measure == "peak_over_mean" else 3
    value, low, high = (f"{number:.{decimals}f}" for number in interval)
    return f"{value} ({low} to {high})" if interval.low < interval.high else value


def value_table(
    values: Mapping[Key, Interval], methods: Methods, columns: Sequence[Column]
) -> list[str]:
    """Write a Markdown table of values: a row per method, then one per untrained control.

    Methods whose controls are the same, as students of one architecture and of the same seeds,
    share a row.
    """
    columns = [(measure, each) for measure, stage in columns
               for each in (every_stage(methods) if stage == EACH else [stage])]  # fmt: skip
    shown: dict[tuple[str, ...], list[str]] = {}
    for untrained, (name, method) in product((False, True), methods.items()):
        cells = (cell(values.get(Key(name, *column, untrained)), column[0]) for column in columns)
        row = ("untrained" if untrained else name, *cells)
        if {*row[1:]} != {"-"}:
            shown.setdefault(row, []).append(method.label)
    if not shown:
        return [f"{name_of(columns[0][0]).capitalize()}: not measured.", ""]
    rows = [["untrained, as " * (first == "untrained") + ", ".join(names), *cells]
            for (first, *cells), names in shown.items()]  # fmt: skip
    heads = [f"{name_of(measure)}, {'last stage' if stage == LATE else f'stage {stage}'}"
             for measure, stage in columns]  # fmt: skip
    return [*table_lines(["network", *heads], rows), ""]


def told(comparison: Comparison) -> str:
    """Write the difference that was judged, and what it shows of one network alone."""
    if comparison.estimate is None:
        return comparison.alone or "not measured"
    value, low, high = (round(number, 3) + 0.0 for number in comparison.estimate[:3])
    interval = "no interval" if math.isnan(low) else f"{low:+.3f} to {high:+.3f}"
    alone = f"; {comparison.alone}" if comparison.alone else ""
    return f"{value:+.3f} ({interval}{alone})"


def criteria_table(
    head: str, criteria: Sequence[Criterion], methods: Methods, prime: str = ""
) -> list[str]:
    """Write a Markdown table of criteria: what was found for each network, and what follows."""
    about = [name for name in methods if any(name in each.comparisons for each in criteria)]
    names = [head, "by more than", *(methods[name].label for name in about), "result"]
    lines = [table_line(names), f"|{' --- |' * len(names)}"]
    for letter, each in zip(ascii_lowercase, criteria, strict=False):
        found = {name: f"{each.of(name)}: {', '.join(map(told, comparisons))}"
                 for name, comparisons in each.comparisons.items()}  # fmt: skip
        margin = "-" if math.isnan(each.margin) else f"{each.margin:g}"
        cells = [f"({letter}{prime}) {each.words}", margin]
        cells += [found.get(name, "") for name in about]
        lines.append(table_line([*cells, f"**{each.result}**"]))
    return [*lines, ""]


def robustness(claim: Claim, others: dict[str, Claim]) -> str:
    """Say whether the verdict is another one where maps are made in another way."""
    by_verdict: dict[str, list[str]] = {claim.verdict: []}
    for how, other in others.items():
        by_verdict.setdefault(other.verdict, []).append(how)
    (_, same), *different = by_verdict.items()
    parts = [f"the same verdict with {'; '.join(same)}"] if same else []
    parts += [f"**{verdict}** with {'; '.join(hows)}" for verdict, hows in different]
    return f"Maps made otherwise: {'. But '.join(parts) or 'not measured'}."


def claim_section(
    head: str, claim: Claim, verdict: str, values: Mapping[Key, Interval], methods: Methods,
    more: list[str],
) -> list[str]:  # fmt: skip
    """Write all that is said about one claim; `more` are paragraphs that come last."""
    lines = [f"## {head}", "", f"**{verdict}.**", ""]
    lines += [text for note in claim.notes for text in (note, "")]
    if claim.tables:
        lines += [f"Differences have {100 * (1 - claim.alpha):.4g} % intervals.", ""]
    lines += criteria_table("criterion", claim.criteria, methods)
    if claim.explanations:
        lines += criteria_table("told beside it", claim.explanations, methods, prime="'")
    measures = dict.fromkeys(measure for columns in claim.tables for measure, _ in columns)
    lines += [f"- {name_of(each)}: {MEANINGS[each]}." for each in measures if each in MEANINGS]
    lines += [""] if measures else []
    for columns in claim.tables:
        lines += value_table(values, methods, columns)
    return lines + [text for paragraph in more for text in (paragraph, "")]


def introduction(
    table: pd.DataFrame, methods: Methods, data: str, collapse: str,
    least: SmallestDifferences, single: bool,
) -> str:  # fmt: skip
    """Say how values, differences and verdicts come about."""
    seeds = table.groupby("method")["seed"].nunique()
    counts = "; ".join(f"{method.label} {seeds[name]}" for name, method in methods.items())
    margins = "\n".join(f"- {words}" for words in margin_words(least))
    return f"""\
Measured on {data}. Seeds: {counts}. Unless it is said otherwise, a map is the
{collapse.replace("_", " ")} over the channels of a stage's output {POINTS[BEFORE]}, as attention
transfer takes it. The untrained control is a network of the same architecture without training.

No verdict is written by hand: text and verdicts are computed from `attention_metrics.csv` and
`comparison.csv`. A value is the mean over a method's seeds, with its 95 % interval over seeds and
images; of one network, over images alone.

Each comparison is a difference between networks of the same seed, with its interval over seeds and
images, and is judged by one rule against the smallest difference of interest: *above* is **shown**
where the whole interval is above it, **refuted** where the whole interval is under it; else it
**can't be said**. A denial mirrors that. A criterion needs all its comparisons and all methods that
it is about, a claim all its criteria: one that is refuted refutes it, and all are needed to show
it. Levels are Holm's for the number of claims about maps; within a claim they aren't corrected for
the number of networks, so that a refutation by one of many errs more often by that much. Maps of
different sizes aren't compared unless they were pooled to one. What is told beside a claim doesn't
decide it.
{ONE_TEACHER if single else ""}
Smallest differences of interest:

{margins}
"""


def format_claims(
    table: pd.DataFrame, images: Mapping[str, int], methods: Methods, attentive: Sequence[str],
    least: SmallestDifferences, pairs: Sequence[Claim], title: str, data: str, figures: str,
) -> str:  # fmt: skip
    """Write all claims as Markdown, those about pairs of methods last.

    `images` are those of `samples`; `attentive` are the methods that learn attention, `data` says
    on which images was measured, and `figures` is the folder of the figures as links name it.
    """
    chosen = pick_collapse(table)
    measured = samples(table, BEFORE, chosen, images)
    others = {
        f"{collapse.replace('_', ' ')} {POINTS[point]}": judge_claims(
            samples(table, point, collapse, images), methods, attentive, least
        )
        for collapse, point in product(table["collapse"].unique(), table["point"].unique())
        if (point, collapse) != (BEFORE, chosen)
    }
    values, single = intervals(measured), one_teacher(measured)
    rows, sections = [], []
    claims = [*judge_claims(measured, methods, attentive, least), *pairs]
    for place, claim in enumerate(claims):
        more = []
        if claim.tables:
            more = [robustness(claim, {how: judged[place] for how, judged in others.items()}),
                    f"![{claim.sentence}]({quote(f'{figures}/{claim.name}.png')})"]  # fmt: skip
        results = "; ".join(
            f"({letter}) {criterion.result}"
            for letter, criterion in zip(ascii_lowercase, claim.criteria, strict=False)
        )
        about = ", for this teacher" if single and claim.verdict != OPEN else ""
        verdict, head = f"{claim.verdict.capitalize()}{about}", f"{place + 1}. {claim.sentence}"
        rows.append(table_line([head, f"**{verdict}**", results]))
        sections += claim_section(head, claim, verdict, values, methods, more)
    summary = ["| claim | verdict | criteria |", "| --- | --- | --- |", *rows, ""]
    head = [f"# {title}: the claims, judged", "", *summary]
    head.append(introduction(table, methods, data, chosen, least, single))
    return "\n".join([*head, *sections]).rstrip("\n") + "\n"
