"""The page of an experiment: the answer first, all else folded below it, in one file."""

import html
import re
from pathlib import Path
from typing import NamedTuple

from distillation.reporting.pages import document, fragment

STYLE = """\
main { max-width: 60rem; }
.answer { font-size: 1.05rem; }
summary { cursor: pointer; padding: 0.6rem 0; }
summary h2 { display: inline; margin: 0; }
details { border-top: 1px solid var(--line); }
@media (max-width: 40rem) {
  main { padding: 0.25rem 1rem 1rem; }
  h1 { font-size: 1.35rem; margin-bottom: 0.3em; }
  .answer { font-size: 1rem; line-height: 1.4; }
  ul { padding-left: 1.1rem; }
}
@media print {
  /* Paper can't be unfolded. */
  details::details-content { content-visibility: visible; block-size: auto; }
  summary { list-style: none; break-after: avoid; }
  .table, pre { overflow: visible; white-space: pre-wrap; }
  .table { white-space: normal; }
  table { font-size: 0.6rem; }
  td[style*="right"] { white-space: normal; }
  tr, img { break-inside: avoid; }
}
"""


class Picture(NamedTuple):
    """What a figure shows, for those who don't see it, and how it is read."""

    shows: str
    reading: str


MEAN = "Line: mean over seeds; band: lowest to highest."
# By the name of the figure, or its beginning.
PICTURES = {
    "comparison": Picture(
        "Dots and lines: a row for each pair of methods, with its difference and intervals; below, "
        "how often each method decides as its teacher",
        "Large dot and thick line: mean over seeds and its interval; small dots: single seeds; "
        "thin line: interval over images alone. Grey: differences too small to be of interest.",
    ),
    "metrics": Picture("Bars and dots: each metric of each model, a dot for a seed", ""),
    "confusion": Picture(
        "Matrices, one for a model: which classes are taken for which", "All seeds added up."
    ),
    "curves_students": Picture(
        "Lines over the epochs: the weighted terms of the students' objective, their total, and "
        "training accuracy, a line for a method", MEAN,
    ),
    "curves_test": Picture(
        "Lines over the epochs: accuracy and cross-entropy on the images that are tested on, a "
        "line for a model", f"They decide nothing: what counts is the last epoch. {MEAN}",
    ),
    "curves_": Picture("Lines over the epochs: loss and accuracy in training of one model", MEAN),
    "attention_": Picture(
        "Maps in a grid: a row for an image, columns for stages of teacher and students; bright is "
        "where a network looks", "Each map is drawn from its own least to its own largest value.",
    ),
}  # fmt: skip


def picture(file: Path, base: Path) -> str:
    """Write a figure as Markdown, with its path from the base and how it is read."""
    name = file.stem
    found = next(each for start, each in PICTURES.items() if name.startswith(start))
    what = f"{found.shows} ({name.replace('_', ' ')})"
    return f"![{what}]({file.relative_to(base).as_posix()})\n\n{found.reading}\n"


def inner(markdown_text: str) -> str:
    """Return Markdown of a page of its own as a part of this: no title, headings a level lower."""
    _, _, text = markdown_text.partition("\n")
    return re.sub(r"^(##+ )", r"#\1", text, flags=re.MULTILINE)


def folded(heading: str, markdown_text: str, base: Path) -> str:
    """Return a section that is folded until it is asked for."""
    return (
        f"<details>\n<summary><h2>{html.escape(heading)}</h2></summary>\n"
        f"{fragment(markdown_text, base, heading)}\n</details>"
    )


def index(title: str, answer: str, sections: dict[str, str], base: Path) -> str:
    """Return the page.

    Args:
        title: of the experiment.
        answer: Markdown.
        sections: heading and Markdown of what is folded, headings in it from level 3 on.
        base: the folder that images' paths start from.
    """
    heading = html.escape(f"{title}: does a method help?")
    parts = [f'<h1>{heading}</h1>\n<section class="answer">\n{fragment(answer, base)}\n</section>']
    parts += [folded(name, text, base) for name, text in sections.items()]
    return document(title, "\n".join(parts), STYLE)
