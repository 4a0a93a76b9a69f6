"""Pages: what the Markdown says, in one file that loads and runs nothing."""

import base64
import html
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from distillation.reporting.pages import page
from distillation.reporting.tables import split_cells, table_lines

TABLE = """\
# Cluttered digits

| | Teacher (n = 1) | AT+KD (n = 2) |
| --- | ---: | ---: |
| Parameters | 174,778 | 77,562 |
| Test (validation) accuracy (%) | 87.96 | 86.53 ± 0.07 |
| fading_at with `a|b` | - | **0.5** |

Mean ± standard deviation over n seeds.
"""


def elements(text: str, tag: str | None = None) -> list[ElementTree.Element]:
    """Return all elements of a page, which must be well formed, or those that have a tag."""
    assert text.startswith("<!DOCTYPE html>\n")
    return [*ElementTree.fromstring(text).iter(tag)]  # noqa: S314  # of our own making


def texts(text: str, tag: str) -> list[str]:
    """Return the texts of all elements of a page that have a tag."""
    return ["".join(each.itertext()) for each in elements(text, tag)]


def attributes_of(text: str, tag: str | None = None) -> list[dict[str, str]]:
    """Return the attributes of all elements of a page, or of those that have a tag."""
    return [each.attrib for each in elements(text, tag)]


def test_cells_may_hold_what_parts_them() -> None:
    """A label or a class with a | stays in its cell, on the page and when the table is read."""
    head, row = ["", "KD | T = 4", "b"], ["a|b", "", "1"]
    lines = table_lines(head, [row])
    assert [split_cells(lines[0]), split_cells(lines[2])] == [head, row]
    text = page("Cells", "\n".join(["# Cells", "", *lines]), Path())
    # Those of the first column are heads, too.
    assert texts(text, "th") == [*head, row[0]]
    assert texts(text, "td") == row[1:]


def test_table_has_the_cells_of_the_markdown() -> None:
    """Each cell of a table is one of the page, in its place, with alignment and what it heads."""
    text = page("Table", TABLE)
    assert texts(text, "h1") == ["Cluttered digits"]
    assert texts(text, "caption") == ["Cluttered digits"]
    cells = [each for each in elements(text) if each.tag in ("th", "td")]
    assert ["".join(each.itertext()) for each in cells] == [
        *("", "Teacher (n = 1)", "AT+KD (n = 2)"),
        *("Parameters", "174,778", "77,562"),
        *("Test (validation) accuracy (%)", "87.96", "86.53 ± 0.07"),
        *("fading_at with a|b", "-", "0.5"),
    ]
    scopes = [each.get("scope") for each in cells]
    assert scopes == ["col"] * 3 + ["row", None, None] * 3
    assert [each.tag for each in cells] == ["th" if scope else "td" for scope in scopes]
    aligned = [each.get("style") for each in cells]
    assert set(aligned[0::3]) == {None}
    assert set(aligned[1::3] + aligned[2::3]) == {"text-align: right;"}
    assert texts(text, "code") == ["a|b"]
    assert texts(text, "strong") == ["0.5"]
    assert texts(text, "p") == ["Mean ± standard deviation over n seeds."]


def test_each_table_lies_in_a_frame_that_scrolls() -> None:
    """Each table is what a frame of its own holds, and what follows it lies outside."""
    text = page("Tables", f"{TABLE}\n{TABLE}")
    named = {"class": "table", "tabindex": "0", "role": "group", "aria-label": "Cluttered digits"}
    assert attributes_of(text, "div") == [named] * 2
    assert texts(text, "div") == texts(text, "table")
    assert re.search(r"^\.table \{[^}]*overflow-x: auto", text, flags=re.M)


def test_headings_paragraphs_and_lists() -> None:
    """Headings keep their level, items their list, and words with underscores their letters."""
    text = page(
        "x", "# One\n\n## Two\n\nA line\nthat goes on.\n\n- first\n- `at_kd` and **bold**\n"
    )
    assert (texts(text, "h1"), texts(text, "h2")) == (["One"], ["Two"])
    assert texts(text, "p") == ["A line\nthat goes on."]
    assert texts(text, "li") == ["first", "at_kd and bold"]
    assert texts(page("x", "at_kd_2 beats fading_at_x"), "p") == ["at_kd_2 beats fading_at_x"]
    assert texts(page("x", "```bash\nls <folder>\n```\n"), "pre") == ["ls <folder>\n"]


@pytest.mark.parametrize(
    "raw",
    [
        "<script>alert(1)</script>", "<div onclick='x'>block</div>", "<!-- comment -->",
        "<img src=x onerror=alert(1)>", "<?php x ?>", "a <b>bold</b> & <i>word</i>",
        "&lt;b&gt; and &amp; and < and >",
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "place", ["{}", "# {}", "- {}", "`{}`", "| {} | b |\n| --- | --- |\n| {} | c |"]
)
def test_html_is_text(raw: str, place: str) -> None:
    """HTML in the Markdown is shown letter by letter, wherever it stands, and makes no element."""
    text = page("x", place.replace("{}", raw))
    assert not {each.tag for each in elements(text)} & {"script", "img", "b", "i"}
    assert not [1 for each in attributes_of(text) if {"onclick", "onerror"} & each.keys()]
    # Entities are characters in Markdown as well, save in code.
    assert (raw if place == "`{}`" else html.unescape(raw)) in "".join(texts(text, "main"))


def test_title_is_text() -> None:
    """A title with HTML in it is the title, letter by letter."""
    title = "</title><script>x</script> & more"
    text = page(title, "")
    assert texts(text, "title") == [title]
    assert not texts(text, "script")


@pytest.mark.parametrize(
    "target",
    ["javascript:alert(1)", "JavaScript:x", "&#106;avascript:x", "data:text/html,x", "vbscript:x"],
)
def test_links_run_nothing(target: str) -> None:
    """A link that would run something keeps its text and loses its target."""
    text = page("x", f"[name]({target})")
    assert (texts(text, "a"), attributes_of(text, "a")) == (["name"], [{}])


@pytest.mark.parametrize("target", ["https://example.org/x?y=1", "mailto:a@example.org", "#two"])
def test_other_links_stay(target: str) -> None:
    """A link to another page or place keeps its target."""
    assert attributes_of(page("x", f"[name]({target})"), "a") == [{"href": target}]


def test_images_are_embedded(tmp_path: Path) -> None:
    """An image of the base folder comes back from the page byte by byte, of any kind and name."""
    (tmp_path / "figures").mkdir()
    for name, kind, content, written in (
        ("figures/accuracy_test_1.png", "png", b"\x89PNG", r"figures/accuracy\_test\_1.png"),
        ("two words.svg", "svg+xml", b"<svg/>", "two%20words.svg"),
    ):
        (tmp_path / name).write_bytes(content)
        for source in (f"<{name}>", written):
            (image,) = attributes_of(page("x", f"![About {name}]({source})", tmp_path), "img")
            assert image["alt"] == f"About {name}"
            head, _, data = image["src"].partition(",")
            assert head == f"data:image/{kind};base64"
            assert base64.b64decode(data, validate=True) == content


def test_images_that_cannot_be_embedded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image that is missing, elsewhere, none, or without a base, is an error that says so."""
    for name in ("notes.txt", "notes", "x.png"):
        (tmp_path / name).write_text("text")
    monkeypatch.chdir(tmp_path)
    for source, base, said in (
        ("none.png", tmp_path, r"none\.png: no such image"),
        ("https://example.org/x.png", tmp_path, r"image https://example\.org/x\.png: allowed"),
        ("notes.txt", tmp_path, r"image notes\.txt: allowed: the path of an image file"),
        ("notes", tmp_path, r"image notes: allowed"),
        ("x.png", None, r"image x\.png: .*here: none"),
    ):
        with pytest.raises((FileNotFoundError, ValueError), match=said):
            page("x", f"![x]({source})", base)


def test_page_loads_nothing() -> None:
    """A page refers to no script, style sheet, font or image outside, and has one inline style."""
    text = page("x", TABLE)
    (style,) = texts(text, "style")
    assert not re.search(r"url\(|@import|@font-face", style)
    assert not {each.tag for each in elements(text)} & {"script", "link", "iframe", "object"}
    assert not [1 for each in attributes_of(text) if {"src", "href"} & each.keys()]
    assert {"charset": "utf-8"} in attributes_of(text, "meta")
    assert "@media screen and (prefers-color-scheme: dark)" in style


def contrast(first: str, second: str) -> float:
    """Return the contrast of two colours #rrggbb, 1 to 21 (WCAG 2.1, relative luminance)."""

    def luminance(colour: str) -> float:
        levels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in levels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_text_is_legible_in_light_and_dark() -> None:
    """Text and links stand out from page and stripes by 4.5 at least, as WCAG's level AA asks."""
    (style,) = texts(page("x", ""), "style")
    schemes = [dict(re.findall(r"--(\w+): (#\w{6});", block)) for block in style.split("@media")]
    assert len(schemes) == 2
    assert schemes[0] != schemes[1]
    for colours in schemes:
        for written in ("text", "link"):
            for ground in ("page", "stripe"):
                assert contrast(colours[written], colours[ground]) >= 4.5
