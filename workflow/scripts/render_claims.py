r"""Judge what is claimed about attention maps from what was measured, in words and figures.

Inputs: attention_metrics.csv of every network of one experiment, the teacher's first, the rest in
the order of the table; comparison.csv; the description of the data; and a matplotlib style.
Outputs: all rows in one CSV, as they were read; a Markdown file with, for each claim, what was
measured, the values with intervals, the criteria and the verdict; a folder with a figure for each
claim about maps, as PNG and SVG: concentration, border, object, abstraction, transfer; and, if
wanted, the Markdown with its figures as one HTML page that needs no other file.
Every verdict is computed from the numbers (distillation/claims.py).

Example:
    python workflow/scripts/render_claims.py --title "Cluttered digits" \
        --metrics teacher/attention_metrics.csv baseline/attention_metrics.csv \
        at/attention_metrics.csv --attention-methods at \
        --comparison comparison.csv --data-description digits.json \
        --style workflow/scripts/figures.mplstyle --dpi 150 --table attention_metrics.csv \
        --markdown claims.md --page claims.html --figures claims
"""

import argparse
import json
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from string import ascii_lowercase
from typing import Any
from urllib.parse import quote

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd

from distillation.arguments import Parser, number, run
from distillation.claim_figures import FIGURES
from distillation.claims import PAIR_RELATIONS, Claim, Criterion, judge, judge_pair
from distillation.files import replacing, replacing_folder
from distillation.measurements import (
    BASELINE,
    BEFORE,
    POINTS,
    Interval,
    Key,
    Values,
    check_one_experiment,
    envelopes,
    pick_collapse,
    read_network,
    read_text,
    students_of,
)
from distillation.pages import page
from distillation.results import colours, label
from distillation.tables import table_lines

# What compare_methods.py writes.
PAIR_COLUMNS = (
    "method", "reference", "seeds", "difference", "low", "high", "p_value", "p_holm", "detectable",
    "images_low", "images_high", "verdict", "sentence",
)  # fmt: skip
# Where the object is, as measure_attention.py was told.
OBJECT_MASKS = {
    "stored": "object: the masks stored with the data",
    "above_zero": "object: pixels above 0",
    "none": "without masks of the objects",
}


@dataclass(frozen=True)
class Metric:
    """How a metric is called, what it is, and the numbers behind the point in a table."""

    name: str
    meaning: str = ""
    decimals: int = 3


METRICS = {
    "effective_area": Metric(
        "effective area",
        "share of the map's cells over which attention is spread, exp(entropy) / cells; from "
        "1 / cells (one cell has all) to 1 (even)",
    ),
    "entropy": Metric(
        "entropy", "entropy of the map, summing to 1, over log(cells); 0 (one cell) to 1 (even)"
    ),
    "gini": Metric("Gini", "Gini coefficient over the cells; 0 (even) to almost 1 (one cell)"),
    "peak_over_mean": Metric(
        "peak over mean", "largest over mean value of the map; 1 (even) to cells (one cell)", 2
    ),
    "image_dependence": Metric(
        "image-dependence",
        "1 - squared length of the mean map, each map being scaled to length 1; 0 (one map for all "
        "images) to 1",
    ),
    "border": Metric(
        "border ratio",
        "share of the map that lies in its outermost ring of cells (or in one side of it), over "
        "that ring's share of the area; 0 to area / ring, 1 in an even map",
    ),
    "border_constant": Metric("border ratio, constant input"),
    "border_noise": Metric("border ratio, noise"),
    **{f"border_{side}": Metric(side) for side in ("top", "bottom", "left", "right")},
    "object_energy": Metric(
        "object's energy ratio",
        "share of the map that lies in the object's mask, over the mask's share of the area; from "
        "0, 1 in an even map",
    ),
    "pointing_game": Metric(
        "pointing game",
        "fraction of the images in which the map's largest value lies in the mask; 0 to 1; chance "
        "is that of a random pixel",
    ),
    "pointing_game_chance": Metric("chance"),
    "object_iou": Metric(
        "IoU",
        "intersection over union of the mask and as many of the map's largest values as the mask "
        "has pixels; 0 to 1; chance is that of random pixels",
    ),
    "object_iou_chance": Metric("chance"),
    "sobel_spearman": Metric(
        "Sobel correlation",
        "rank correlation (Spearman) of the map with the image's Sobel magnitude; -1 to 1",
    ),
    "deletion": Metric(
        "deletion by the map",
        "mean probability of the predicted class while cells are removed, those first that the map "
        "marks most; 0 to 1, lower if the map finds what counts",
    ),
    "insertion": Metric(
        "insertion by the map", "the same while cells are put in; higher if it finds what counts"
    ),
    "deletion_minus_random": Metric(
        "deletion, map minus random",
        "deletion by the map minus deletion in a random order, image by image; -1 to 1, below 0 if "
        "the map finds what counts",
    ),
    "insertion_minus_random": Metric(
        "insertion, map minus random", "the same of insertion; above 0 if it finds what counts"
    ),
    **{
        f"{metric}_{order}": Metric(name)
        for metric in ("deletion", "insertion")
        for order, name in [
            ("random", "random"), ("centre", "centre first"), ("sobel", "Sobel"),
            ("grad_cam", "Grad-CAM"),
        ]
    },
    "teacher_cosine": Metric(
        "cosine with the teacher",
        "cosine of the student's map and the teacher's of the same image; 0 to 1; shuffled: of "
        "another image",
    ),
    "teacher_cosine_shuffled": Metric("cosine, shuffled"),
    "teacher_spearman": Metric("Spearman with the teacher", "the same with ranks; -1 to 1"),
    "teacher_spearman_shuffled": Metric("Spearman, shuffled"),
}  # fmt: skip


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(__doc__)
    flag = parser.add_argument
    flag(
        "--metrics", type=Path, nargs="+", required=True, metavar="FILE",
        help="attention_metrics.csv of each network, a teacher's first",
    )  # fmt: skip
    flag("--comparison", type=Path, required=True, help="comparison.csv")
    flag("--data-description", type=Path, required=True, help=".json that prepare_data.py writes")
    flag("--title", required=True, help="of the experiment")
    flag(
        "--attention-methods", nargs="*", metavar="METHOD",
        help="methods that learn attention; default: all students but the baseline",
    )  # fmt: skip
    flag(
        "--object-mask", choices=sorted(OBJECT_MASKS),
        help="that of measure_attention.py, to be told; default: nothing is told",
    )  # fmt: skip
    flag("--style", type=Path, required=True, help="matplotlib style sheet")
    flag("--dpi", type=number(int, 50, 600), required=True, help="of the PNG files, 50 to 600")
    flag("--table", type=Path, required=True, help="output, .csv: all rows")
    flag("--markdown", type=Path, required=True, help="output, .md: the claims")
    flag("--page", type=Path, help="output, .html: the claims with their figures; default: none")
    flag("--figures", type=Path, required=True, help="output folder, replaced as a whole")
    return parser.parse_args(argv)


def read_comparison(path: Path) -> pd.DataFrame:
    """Read the pairs that were compared, as text.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or has a verdict that isn't known.
    """
    comparison = read_text(path, PAIR_COLUMNS, "compare_methods.py")
    if wrong := set(comparison["verdict"]) - set(PAIR_RELATIONS):
        raise ValueError(
            f"{path}: verdict is {min(wrong)!r}; allowed: {', '.join(sorted(PAIR_RELATIONS))}"
        )
    return comparison


def read_description(path: Path) -> dict[str, Any]:
    """Read the description of the data.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it isn't one that prepare_data.py writes.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        content = json.loads(path.read_text())
        return {name: content[name] for name in ("format", "classes", "sha256")} | {
            name: content["images"]["test"][name] for name in ("count", "shape")
        }
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a description of prepare_data.py: {error!r}") from error


def pick_attentive(named: list[str] | None, methods: Sequence[str]) -> list[str]:
    """Return the methods that learn attention: those named, or all students but the baseline.

    Raises:
        ValueError: a named method isn't among the students.
    """
    students = students_of(methods)
    for method in named or []:
        if method not in students:
            raise ValueError(
                f"--attention-methods: {method} isn't there; allowed: {', '.join(students)}"
            )
    return [m for m in students if m != BASELINE] if named is None else named


def on_data(description: dict[str, Any], title: str, object_mask: str | None) -> str:
    """Say on which images was measured."""
    height, width, channels = description["shape"]
    masks = f"; {OBJECT_MASKS[object_mask]}" if object_mask else ""
    return (
        f"{description['count']:,} test images of {title} ({description['format']}, {height} x "
        f"{width} pixels, {'grey' if channels == 1 else 'RGB'}, {description['classes']} classes"
        f"{masks})"
    )


def cell(interval: Interval | None, decimals: int) -> str:
    """Write a value and its interval, unless that is the value alone."""
    if interval is None:
        return "-"
    value, low, high = (f"{x:.{decimals}f}" for x in (interval.value, interval.low, interval.high))
    exact = interval.low == interval.value == interval.high
    return value if exact else f"{value} ({low} to {high})"


def value_table(
    values: Values, methods: Sequence[str], columns: Sequence[tuple[str, int]]
) -> list[str]:
    """Write a Markdown table of values: a row per method, then one per untrained control.

    Methods whose controls are the same, as students of one architecture and of the same seeds,
    share a row.
    """

    def row(method: str, untrained: bool) -> str:
        return " | ".join(
            cell(values.get(Key(method, metric, group, untrained)), METRICS[metric].decimals)
            for metric, group in columns
        )

    rows = [(label(method), row(method, untrained=False)) for method in methods]
    controls: dict[str, list[str]] = {}
    for method in methods:
        controls.setdefault(row(method, untrained=True), []).append(label(method))
    rows += [(f"untrained, as {', '.join(names)}", text) for text, names in controls.items()]
    shown = [(name, text) for name, text in rows if set(text) - set(" |-")]
    if not shown:
        return [f"{METRICS[columns[0][0]].name.capitalize()}: not measured.", ""]
    heads = [f"{METRICS[metric].name}, group {group}" for metric, group in columns]
    return [*table_lines(["network", *heads], map(list, shown)), ""]


def criteria_table(
    head: str, criteria: Sequence[Criterion], names: Sequence[str], methods: Sequence[str]
) -> list[str]:
    """Write a Markdown table of criteria: what was found for each network, and what follows."""
    said = {"holds": "yes", "does not hold": "no", "can't be said": "?"}
    about = [m for m in methods if any(m in criterion.relations for criterion in criteria)]
    lines = [
        f"| {head} | {' | '.join([*map(label, about), 'result'])} |",
        f"| --- |{' --- |' * (len(about) + 1)}",
    ]
    for name, criterion in zip(names, criteria, strict=False):
        cells = [
            f"{said[criterion.of(method)]}: {', '.join(criterion.relations[method])}"
            if method in criterion.relations
            else ""
            for method in about
        ]
        lines.append(
            f"| ({name}) {criterion.words} | {' | '.join([*cells, f'**{criterion.result}**'])} |"
        )
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
    number_: int, claim: Claim, values: Values, methods: Sequence[str], data: str, more: list[str]
) -> list[str]:
    """Write all that is said about one claim; `more` are paragraphs that come last."""
    lines = [
        f"## {number_}. {claim.sentence}",
        "",
        f"**Verdict: {claim.verdict}.** Measured on {data}.",
        "",
    ]
    lines += [text for note in claim.notes for text in (note, "")]
    lines += criteria_table("criterion", claim.criteria, ascii_lowercase, methods)
    if claim.explanations:
        names = [f"{name}'" for name in ascii_lowercase]
        lines += criteria_table("told beside it", claim.explanations, names, methods)
    metrics = dict.fromkeys(metric for columns in claim.tables for metric, _ in columns)
    lines += [
        f"- {METRICS[metric].name}: {METRICS[metric].meaning}."
        for metric in metrics
        if METRICS[metric].meaning
    ]
    lines += [""] if metrics else []
    for columns in claim.tables:
        lines += value_table(values, methods, columns)
    return lines + [text for paragraph in more for text in (paragraph, "")]


def collapse_words(collapse: str) -> str:
    """Write the name of a collapse as people read it."""
    return collapse.replace("_", " ")


def introduction(table: pd.DataFrame, data: str, collapse: str) -> str:
    """Say how values, relations and verdicts come about."""
    seeds = table.groupby("method", sort=False)["seed"].nunique()
    counts = "; ".join(f"{label(str(method))} {count}" for method, count in seeds.items())
    return f"""\
Measured on {data}. Seeds: {counts}. Unless it is said otherwise, a map is the
{collapse_words(collapse)} over the channels of a group's output {POINTS[BEFORE]}, as attention
transfer takes it. The untrained control is a network of the same architecture without training.

No verdict is written by hand: text and verdicts are computed from `attention_metrics.csv` and
`comparison.csv`. A value is the mean over a method's seeds; its interval, in brackets, reaches from
the lowest to the highest bound of the seeds' 95 % bootstrap intervals over test images, which is
cautious; a value of one constant image is exact. A value is *above* or *below* another only if
their intervals, not rounded, don't touch. Else they *overlap*: no difference is shown. A criterion
that asks for one isn't met then; of one that denies one it can't be said.

A method meets a criterion if every comparison comes out as the criterion says. A criterion
**holds** if all methods that it is about meet it, **in part** if some do; a claim **holds** if all
its criteria do, **in part** if some do. Where numbers are missing, it **can't be said**, unless the
others already make it hold in part. What is told beside a claim doesn't decide it.
"""


def format_markdown(
    table: pd.DataFrame,
    comparison: pd.DataFrame,
    attentive: list[str],
    title: str,
    data: str,
    figures: str,
) -> str:
    """Write all claims as Markdown; `figures` is the folder of figures as links name it."""
    methods = list(table["method"].unique())
    chosen = pick_collapse(table)
    values = envelopes(table, BEFORE, chosen)
    others = {
        f"{collapse_words(collapse)} {POINTS[point]}": judge(
            envelopes(table, point, collapse), methods, attentive
        )
        for collapse, point in product(table["collapse"].unique(), table["point"].unique())
        if (point, collapse) != (BEFORE, chosen)
    }
    claims = judge(values, methods, attentive)
    sections = []
    for position, claim in enumerate(claims):
        figure = f"![{claim.sentence}]({quote(f'{figures}/{claim.name}.png')})"
        varied = robustness(claim, {how: judged[position] for how, judged in others.items()})
        sections += claim_section(position + 1, claim, values, methods, data, [varied, figure])
    claims.append(judge_pair(comparison, "at_kd", BASELINE))
    sections += claim_section(len(claims), claims[-1], values, methods, data, [])
    rows = [
        f"| {position}. {claim.sentence} | **{claim.verdict}** | {criteria_in_short(claim)} |"
        for position, claim in enumerate(claims, 1)
    ]
    summary = ["| claim | verdict | criteria |", "| --- | --- | --- |", *rows, ""]
    head = [f"# {title}: the claims, judged", ""]
    text = [*head, *summary, introduction(table, data, chosen), *sections]
    return "\n".join(text).rstrip("\n") + "\n"


def criteria_in_short(claim: Claim) -> str:
    """Write the result of each criterion."""
    pairs = zip(ascii_lowercase, claim.criteria, strict=False)
    return "; ".join(f"({name}) {criterion.result}" for name, criterion in pairs)


def draw_figures(folder: Path, values: Values, methods: list[str], title: str, dpi: int) -> None:
    """Draw the figure of each claim, as PNG and SVG."""
    for name, draw in FIGURES.items():
        figure = draw(values, methods, colours(methods), title)
        figure.savefig(folder / f"{name}.png", dpi=dpi)
        # No date, so that the same results give the same bytes.
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
        plt.close(figure)


def main(argv: list[str] | None = None) -> None:
    """Judge the claims and write table, text, figures and page."""
    arguments = parse_args(argv)
    mpl.use("Agg")
    plt.style.use(arguments.style)
    texts, networks = zip(*map(read_network, arguments.metrics), strict=True)
    check_one_experiment(list(networks))
    table = pd.concat(networks, ignore_index=True)
    methods = list(table["method"].unique())
    description = read_description(arguments.data_description)
    write = partial(
        format_markdown,
        table,
        read_comparison(arguments.comparison),
        pick_attentive(arguments.attention_methods, methods),
        arguments.title,
        on_data(description, arguments.title, arguments.object_mask),
    )
    link = Path(os.path.relpath(arguments.figures, arguments.markdown.parent)).as_posix()
    markdown = write(link)
    values = envelopes(table, BEFORE, pick_collapse(table))
    with ExitStack() as outputs:
        csv_file = outputs.enter_context(replacing(arguments.table))
        markdown_file = outputs.enter_context(replacing(arguments.markdown))
        folder = outputs.enter_context(replacing_folder(arguments.figures))
        pd.concat(texts).to_csv(csv_file, index=False)
        markdown_file.write_text(markdown)
        draw_figures(folder, values, methods, arguments.title, arguments.dpi)
        if arguments.page:
            page_file = outputs.enter_context(replacing(arguments.page))
            # The figures aren't in their place yet.
            page_file.write_text(page(f"{arguments.title}: claims", write("."), folder))
    print(markdown.partition("\nMeasured on ")[0], flush=True)


if __name__ == "__main__":
    run(main)
