"""The claims and what was measured for them, in Markdown."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from string import ascii_lowercase
from typing import Any
from urllib.parse import quote

import pandas as pd

from distillation.reporting.attention_words import MEANINGS, name_of
from distillation.reporting.claims import Claim, Column, Criterion, judge
from distillation.reporting.intervals import Interval
from distillation.reporting.measurements import (
    BEFORE,
    LATE,
    POINTS,
    Key,
    Methods,
    Values,
    envelopes,
    pick_collapse,
)
from distillation.reporting.tables import table_line, table_lines
from distillation.reporting.trained import read_json

# Where the object is, as measure_attention.py was told.
OBJECT_MASKS = {
    "stored": "object: the masks stored with the data",
    "above_zero": "object: pixels above 0",
    "none": "without masks of the objects",
}
# How the result of a criterion for one network is written.
SAID = {"holds": "yes", "does not hold": "no", "can't be said": "?"}


def read_description(path: Path) -> dict[str, Any]:
    """Read of the description of the data what `on_data` tells.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it isn't one that prepare_data.py writes.
    """
    content = read_json(path)
    try:
        height, width, channels = content["images"]["test"]["shape"]
        return {name: content[name] for name in ("format", "classes")} | {
            "images": "held-out training images" if content.get("held_out") else "test images",
            "count": int(content["images"]["test"]["count"]),
            "size": f"{height} x {width} pixels, {'grey' if channels == 1 else 'RGB'}",
        }
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not a description of prepare_data.py: {error!r}") from error


def on_data(description: dict[str, Any], title: str, object_mask: str | None) -> str:
    """Say on which images was measured."""
    masks = f"; {OBJECT_MASKS[object_mask]}" if object_mask else ""
    return (
        f"{description['count']:,} {description['images']} of {title} ({description['format']}, "
        f"{description['size']}, {description['classes']} classes{masks})"
    )


def cell(interval: Interval | None, measure: str) -> str:
    """Write a value and its interval, unless that is the value alone."""
    if interval is None:
        return "-"
    decimals = 2 if measure == "peak_over_mean" else 3
    value, low, high = (f"{number:.{decimals}f}" for number in interval)
    return (
        value if interval.low == interval.value == interval.high else f"{value} ({low} to {high})"
    )


def value_table(values: Values, methods: Methods, columns: Sequence[Column]) -> list[str]:
    """Write a Markdown table of values: a row per method, then one per untrained control.

    Methods whose controls are the same, as students of one architecture and of the same seeds,
    share a row.
    """

    def row(method: str, untrained: bool) -> tuple[str, ...]:
        return tuple(
            cell(values.get(Key(method, measure, stage, untrained)), measure)
            for measure, stage in columns
        )

    rows = [(method.label, row(name, untrained=False)) for name, method in methods.items()]
    controls: dict[tuple[str, ...], list[str]] = {}
    for name, method in methods.items():
        controls.setdefault(row(name, untrained=True), []).append(method.label)
    rows += [(f"untrained, as {', '.join(names)}", cells) for cells, names in controls.items()]
    shown = [[name, *cells] for name, cells in rows if set(cells) != {"-"}]
    if not shown:
        return [f"{name_of(columns[0][0]).capitalize()}: not measured.", ""]
    heads = [
        f"{name_of(measure)}, {'last stage' if stage == LATE else f'stage {stage}'}"
        for measure, stage in columns
    ]
    return [*table_lines(["network", *heads], shown), ""]


def criteria_table(
    head: str, criteria: Sequence[Criterion], methods: Methods, prime: str = ""
) -> list[str]:
    """Write a Markdown table of criteria: what was found for each network, and what follows."""
    about = [name for name in methods if any(name in each.comparisons for each in criteria)]
    lines = [
        table_line([head, *(methods[name].label for name in about), "result"]),
        f"|{' --- |' * (len(about) + 2)}",
    ]
    for letter, criterion in zip(ascii_lowercase, criteria, strict=False):
        cells = [
            f"{SAID[criterion.of(name)]}: {', '.join(each.relation for each in comparisons)}"
            if (comparisons := criterion.comparisons.get(name)) is not None
            else ""
            for name in about
        ]
        words = f"({letter}{prime}) {criterion.words}"
        lines.append(table_line([words, *cells, f"**{criterion.result}**"]))
    return [*lines, ""]


def robustness(claim: Claim, others: dict[str, Claim]) -> str:
    """Say whether the verdict is another one where maps are made in another way."""
    by_verdict: dict[str, list[str]] = {}
    for how, other in others.items():
        by_verdict.setdefault(other.verdict, []).append(how)
    same = by_verdict.pop(claim.verdict, [])
    parts = [f"the same verdict with {'; '.join(same)}"] if same else []
    parts += [f"**{verdict}** with {'; '.join(hows)}" for verdict, hows in by_verdict.items()]
    return f"Maps made otherwise: {'. But '.join(parts) or 'not measured'}."


def claim_section(
    position: int, claim: Claim, values: Values, methods: Methods, data: str, more: list[str]
) -> list[str]:
    """Write all that is said about one claim; `more` are paragraphs that come last."""
    lines = [
        f"## {position}. {claim.sentence}",
        "",
        f"**Verdict: {claim.verdict}.** Measured on {data}.",
        "",
        *(text for note in claim.notes for text in (note, "")),
        *criteria_table("criterion", claim.criteria, methods),
    ]
    if claim.explanations:
        lines += criteria_table("told beside it", claim.explanations, methods, prime="'")
    measures = dict.fromkeys(measure for columns in claim.tables for measure, _ in columns)
    lines += [f"- {name_of(each)}: {MEANINGS[each]}." for each in measures if each in MEANINGS]
    lines += [""] if measures else []
    for columns in claim.tables:
        lines += value_table(values, methods, columns)
    return lines + [text for paragraph in more for text in (paragraph, "")]


def introduction(table: pd.DataFrame, methods: Methods, data: str, collapse: str) -> str:
    """Say how values, relations and verdicts come about."""
    seeds = table.groupby("method")["seed"].nunique()
    counts = "; ".join(f"{method.label} {seeds[name]}" for name, method in methods.items())
    return f"""\
Measured on {data}. Seeds: {counts}. Unless it is said otherwise, a map is the
{collapse.replace("_", " ")} over the channels of a stage's output {POINTS[BEFORE]}, as attention
transfer takes it. The untrained control is a network of the same architecture without training.

No verdict is written by hand: text and verdicts are computed from `attention_metrics.csv` and
`comparison.csv`. A value is the mean over a method's seeds; its interval, in brackets, reaches from
the lowest to the highest bound of the seeds' 95 % bootstrap intervals over images, which is
cautious; a value of one constant image is exact. A value is *above* or *below* another only if
their intervals, not rounded, don't touch. Else they *overlap*: no difference is shown. A criterion
that asks for one isn't met then; of one that denies one it can't be said.

A method meets a criterion if every comparison comes out as the criterion says. A criterion
**holds** if all methods that it is about meet it, **in part** if some do; a claim **holds** if all
its criteria do, **in part** if some do. Where numbers are missing, it **can't be said**, unless the
others already make it hold in part. What is told beside a claim doesn't decide it.
"""


def format_claims(
    table: pd.DataFrame, methods: Methods, attentive: Sequence[str], pairs: Sequence[Claim],
    title: str, data: str, figures: str,
) -> str:  # fmt: skip
    """Write all claims as Markdown, those about pairs of methods last.

    `attentive` are the methods that learn attention, `data` says on which images was measured, and
    `figures` is the folder of the figures as links name it.
    """
    chosen = pick_collapse(table)
    values = envelopes(table, BEFORE, chosen)
    others = {
        f"{collapse.replace('_', ' ')} {POINTS[point]}": judge(
            envelopes(table, point, collapse), methods, attentive
        )
        for collapse, point in product(table["collapse"].unique(), table["point"].unique())
        if (point, collapse) != (BEFORE, chosen)
    }
    rows, sections = [], []
    for place, claim in enumerate([*judge(values, methods, attentive), *pairs]):
        more = []
        if claim.tables:
            varied = robustness(claim, {how: judged[place] for how, judged in others.items()})
            figure = f"![{claim.sentence}]({quote(f'{figures}/{claim.name}.png')})"
            more = [varied, figure]
        results = "; ".join(
            f"({letter}) {criterion.result}"
            for letter, criterion in zip(ascii_lowercase, claim.criteria, strict=False)
        )
        rows.append(f"| {place + 1}. {claim.sentence} | **{claim.verdict}** | {results} |")
        sections += claim_section(place + 1, claim, values, methods, data, more)
    summary = ["| claim | verdict | criteria |", "| --- | --- | --- |", *rows, ""]
    head = [f"# {title}: the claims, judged", "", *summary]
    head.append(introduction(table, methods, data, chosen))
    return "\n".join([*head, *sections]).rstrip("\n") + "\n"
