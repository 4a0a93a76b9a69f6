"""Pages: what the Markdown says, in one file that loads and runs nothing."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from distillation.reporting.pages import page

TABLE = """\
# Cluttered digits

| | Teacher (n = 1) | AT+KD (n = 2) |
| --- | ---: | ---: |
| Parameters | 174,778 | 77,562 |
| Test (validation) accuracy (%) | 87.96 | 86.53 ± 0.07 |
| fading_at with `a|b` | - | **0.5** |

Mean ± standard deviation over n seeds.
"""


class Reader(HTMLParser):
    """Collects the elements of a page as (tag, attributes, text within), in order of their start.

    Raises:
        AssertionError: an element ends that isn't the innermost open one.
    """

    VOID = ("meta", "img", "br", "hr")

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.open: list[tuple[str, dict[str, str | None], list[str]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take up an element."""
        self.elements.append((tag, dict(attrs), []))
        if tag not in self.VOID:
            self.open.append(self.elements[-1])

    def handle_endtag(self, tag: str) -> None:
        """Close the innermost open element."""
        assert self.open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        """Give a text to all elements that it lies in."""
        for _, _, text in self.open:
            text.append(data)


def read(text: str) -> list[tuple[str, dict[str, str | None], str]]:
    """Return the elements of a page, which must be well formed."""
    assert text.startswith("<!DOCTYPE html>\n")
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert not reader.open
    return [(tag, attributes, "".join(texts)) for tag, attributes, texts in reader.elements]


def texts(text: str, tag: str) -> list[str]:
    """Return the texts of all elements of a page that have a tag."""
    return [within for name, _, within in read(text) if name == tag]


def attributes_of(text: str, tag: str) -> list[dict[str, str | None]]:
    """Return the attributes of all elements of a page that have a tag."""
    return [attributes for name, attributes, _ in read(text) if name == tag]


def test_table_has_the_cells_of_the_markdown() -> None:
    """Each cell of a table is one of the page, in its place, with alignment and what it heads."""
    text = page("Table", TABLE)
    assert texts(text, "h1") == ["Cluttered digits"]
    assert texts(text, "caption") == ["Cluttered digits"]
    cells = [each for each in read(text) if each[0] in ("th", "td")]
    assert [within for _, _, within in cells] == [
        *("", "Teacher (n = 1)", "AT+KD (n = 2)"),
        *("Parameters", "174,778", "77,562"),
        *("Test (validation) accuracy (%)", "87.96", "86.53 ± 0.07"),
        *("fading_at with a|b", "-", "0.5"),
    ]
    scopes = [attributes.get("scope") for _, attributes, _ in cells]
    assert scopes == ["col"] * 3 + ["row", None, None] * 3
    assert [tag for tag, _, _ in cells] == ["th" if scope else "td" for scope in scopes]
    aligned = [attributes.get("style") for _, attributes, _ in cells]
    assert set(aligned[0::3]) == {None}
    assert set(aligned[1::3] + aligned[2::3]) == {"text-align: right;"}
    assert texts(text, "code") == ["a|b"]
    assert texts(text, "strong") == ["0.5"]
    assert texts(text, "p") == ["Mean ± standard deviation over n seeds."]


def test_each_table_lies_in_a_frame_that_scrolls() -> None:
    """Each table is what a frame of its own holds, and what follows it lies outside."""
    text = page("Tables", f"{TABLE}\n{TABLE}")
    frames = [within for tag, attributes, within in read(text) if attributes.get("class")]
    named = {"class": "table", "tabindex": "0", "role": "group", "aria-label": "Cluttered digits"}
    assert attributes_of(text, "div") == [named] * 2
    assert [frame.split() for frame in frames] == [table.split() for table in texts(text, "table")]
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
        "<script>alert(1)</script>",
        "<div onclick='x'>block</div>",
        "<!-- comment -->",
        "<img src=x onerror=alert(1)>",
        "<?php x ?>",
        "a <b>bold</b> & <i>word</i>",
        "&lt;b&gt; and &amp; and < and >",
    ],
)
@pytest.mark.parametrize(
    "place", ["{}", "# {}", "- {}", "`{}`", "| {} | b |\n| --- | --- |\n| {} | c |"]
)
def test_html_is_text(raw: str, place: str) -> None:
    """HTML in the Markdown is shown letter by letter, wherever it stands, and makes no element."""
    text = page("x", place.replace("{}", raw))
    made = {tag for tag, _, _ in read(text)}
    assert not made & {"script", "img", "b", "i"}
    assert not [1 for _, attributes, _ in read(text) if {"onclick", "onerror"} & attributes.keys()]
    shown = "".join(texts(text, "main"))
    # Entities are characters in Markdown as well, save in code.
    plain = raw if place == "`{}`" else raw.replace("&lt;", "<").replace("&gt;", ">")
    plain = plain if place == "`{}`" else plain.replace("&amp;", "&")
    assert plain in shown


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
    buffer = io.BytesIO()
    Image.new("RGB", (3, 2), (1, 2, 3)).save(buffer, "png")
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"/>'
    files = {
        "figures/accuracy_test_1.png": ("image/png", buffer.getvalue()),
        "two words.svg": ("image/svg+xml", svg),
    }
    for name, (_, content) in files.items():
        (tmp_path / name).write_bytes(content)
    text = page("x", "\n\n".join(f"![About {name}](<{name}>)" for name in files), tmp_path)
    found = attributes_of(text, "img")
    assert [image["alt"] for image in found] == [f"About {name}" for name in files]
    for image, (kind, content) in zip(found, files.values(), strict=True):
        head, _, data = str(image["src"]).partition(",")
        assert head == f"data:{kind};base64"
        assert base64.b64decode(data, validate=True) == content
    for other, image in (("figures/accuracy\\_test\\_1.png", 0), ("two%20words.svg", 1)):
        (same,) = attributes_of(page("x", f"![x]({other})", tmp_path), "img")
        assert same["src"] == found[image]["src"]


@pytest.mark.parametrize(
    ("source", "error", "said"),
    [
        ("none.png", FileNotFoundError, r"none\.png: no such image"),
        ("https://example.org/x.png", ValueError, r"image https://example\.org/x\.png: allowed"),
        ("notes.txt", ValueError, r"image notes\.txt: allowed: the path of an image file"),
        ("notes", ValueError, r"image notes: allowed"),
    ],
)
def test_images_that_cannot_be_embedded(
    tmp_path: Path, source: str, error: type[Exception], said: str
) -> None:
    """An image that is missing, elsewhere or no image is an error that names it."""
    (tmp_path / "notes.txt").write_text("text")
    (tmp_path / "notes").write_text("text")
    with pytest.raises(error, match=said):
        page("x", f"![x]({source})", tmp_path)


def test_images_need_a_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a base folder an image is an error, not a hole in the page."""
    Image.new("L", (2, 2)).save(tmp_path / "x.png")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"image x\.png: .*here: none"):
        page("x", "![x](x.png)")


def test_page_loads_nothing() -> None:
    """A page refers to no script, style sheet, font or image outside, and has one inline style."""
    text = page("x", TABLE)
    (style,) = texts(text, "style")
    assert not re.search(r"url\(|@import|@font-face", style)
    assert not {tag for tag, _, _ in read(text)} & {"script", "link", "iframe", "object"}
    assert not [1 for _, attributes, _ in read(text) if {"src", "href"} & attributes.keys()]
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
