"""Pages: Markdown as this project writes it, turned into HTML that needs no other file."""

import base64
import html
import mimetypes
from pathlib import Path
from urllib.parse import unquote, urlsplit
from xml.etree.ElementTree import Element

from markdown import Markdown
from markdown.treeprocessors import Treeprocessor

# Schemes of links that only lead elsewhere; "" is that of a link within the page.
SCHEMES = ("", "http", "https", "mailto")

STYLE = """\
:root {
  color-scheme: light dark;
  --text: #1f2328; --page: #ffffff; --stripe: #f3f5f8; --line: #c9d1d9; --link: #0058b0;
}
@media screen and (prefers-color-scheme: dark) {
  :root { --text: #e3e6ea; --page: #15181c; --stripe: #20252b; --line: #444c56; --link: #79b8ff; }
}
body {
  margin: 0; background: var(--page); color: var(--text);
  font: 16px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", sans-serif;
}
main { max-width: 76rem; margin: 0 auto; padding: 0.5rem 1.5rem 2rem; overflow-wrap: break-word; }
h1, h2, h3 { line-height: 1.25; margin: 1.5em 0 0.6em; }
h1 { font-size: 1.6rem; margin-top: 0.6em; }
h2 { font-size: 1.25rem; }
h3 { font-size: 1.05rem; }
p, ul, ol { max-width: 50rem; }
a[href] { color: var(--link); }
.table { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: 0.85rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.3rem 0.5rem; border-bottom: 1px solid var(--line); text-align: left; }
th { vertical-align: bottom; text-wrap: balance; }
td, tbody th { vertical-align: top; }
tbody th { min-width: 10rem; font-weight: inherit; }
td[style*="right"] { white-space: nowrap; }
/* For those who hear the page; others see the heading. */
caption { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
thead th { border-bottom: 2px solid var(--line); }
tbody tr:nth-child(even) { background: var(--stripe); }
code, pre { background: var(--stripe); border-radius: 3px; font-size: 0.9em;
  font-family: ui-monospace, "Cascadia Mono", Menlo, "DejaVu Sans Mono", monospace; }
code { padding: 0.1em 0.3em; }
pre { padding: 0.75rem; overflow-x: auto; }
pre code { padding: 0; font-size: 1em; }
/* Figures are drawn for white paper. */
img { max-width: 100%; height: auto; background: #ffffff; }
"""


def page(title: str, markdown_text: str, base: Path | None = None) -> str:
    """Return Markdown as one HTML page, also well-formed as XML, that needs no other file.

    HTML in the Markdown is shown as text. As in the original Markdown, a blank line stands before
    a list or a table, and what is nested in a list is indented by 4 spaces.

    Args:
        title: of the browser's tab; the headings are those of the Markdown.
        markdown_text: headings, paragraphs, lists, tables, code, images, links.
        base: the folder that the images' paths start from; without it there can be no images.

    Raises:
        FileNotFoundError: an image isn't there.
        ValueError: an image isn't an image file, or there is no base.
    """
    return document(title, fragment(markdown_text, base))


def document(title: str, body: str, style: str = "") -> str:
    """Return HTML as a whole page, with more style sheet than that of all pages."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8" />\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1" />\n'
        f"<title>{html.escape(title)}</title>\n<style>\n{STYLE}{style}</style>\n</head>\n<body>\n"
        f"<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def fragment(markdown_text: str, base: Path | None = None, heading: str = "") -> str:
    """Return Markdown as a part of a page, which may begin under a heading; see `page`."""
    markdown = Markdown(extensions=["tables", "fenced_code"], output_format="xhtml")
    markdown.preprocessors.deregister("html_block")
    markdown.inlinePatterns.deregister("html")
    # The last of them: the paths of images are in their final form then.
    markdown.treeprocessors.register(Standalone(markdown, base, heading), "standalone", -1)
    return markdown.convert(markdown_text)


class Standalone(Treeprocessor):
    """Embeds images, lets wide tables scroll, and takes away links that would run something."""

    def __init__(self, markdown: Markdown, base: Path | None, heading: str) -> None:
        super().__init__(markdown)
        self.base, self.heading = base, heading

    def run(self, root: Element) -> None:
        """Change the tree of a page in place."""
        for image in root.iter("img"):
            image.set("src", embedded(image.get("src", ""), self.base))
        for link in root.iter("a"):
            if urlsplit(html.unescape(link.get("href", ""))).scheme not in SCHEMES:
                del link.attrib["href"]
        heading = self.heading
        for element in [*root.iter()]:
            if element.tag in ("h1", "h2", "h3", "h4"):
                heading = "".join(element.itertext())
            elif element.tag == "table":
                frame(element, heading)


def frame(table: Element, heading: str) -> None:
    """Put a table in a frame that scrolls, and name it and its cells for those who hear it.

    Its name is the heading that it stands under; the first cell of a row is that row's head.
    """
    for row in table.iter("tr"):
        for cell in row.iter("th"):
            cell.set("scope", "col")
        if row[0].tag == "td":
            row[0].tag = "th"
            row[0].set("scope", "row")
    inner, caption = Element("table"), Element("caption")
    caption.text = heading
    inner.extend([caption, *table])
    # The element becomes the frame of its own copy, since an element doesn't know its parent.
    # What can be scrolled can be reached by keyboard.
    table.clear()
    table.tag = "div"
    table.attrib |= {"class": "table", "tabindex": "0", "role": "group", "aria-label": heading}
    table.append(inner)


def embedded(source: str, base: Path | None) -> str:
    """Return an image file as a data: URI; `source` is its path from `base`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file isn't an image by its suffix, or there is no base.
    """
    parts = urlsplit(source)
    kind, _ = mimetypes.guess_type(parts.path)
    if base is None or parts.scheme or not (kind or "").startswith("image/"):
        raise ValueError(
            f"image {source}: allowed: the path of an image file from the page's base folder "
            f"(here: {base or 'none'})"
        )
    file = base / unquote(parts.path)
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such image")
    return f"data:{kind};base64,{base64.b64encode(file.read_bytes()).decode()}"
