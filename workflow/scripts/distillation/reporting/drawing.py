"""What the figures of all steps share."""

import textwrap
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image


def use_style(file: Path) -> None:
    """Draw into files, in a matplotlib style."""
    mpl.use("Agg")
    plt.style.use(file)


def add_title(figure: Figure, title: str) -> None:
    """Write a title over a figure as it is, in several lines where it is wider than the figure.

    Style sheets turn formulas off, but to wrap a title matplotlib measures what looks like one as
    one, and fails where it is none. An escaped $ begins none.
    """
    figure.suptitle(title.replace("$", r"\$"), parse_math=True, wrap=True)


def broken(name: str, letters: int) -> str:
    """Return a model's name in lines of as many letters, as far as blanks and _ part it."""
    lines = textwrap.wrap(name.replace("_", "_ "), letters, break_long_words=False)
    return "\n".join(lines).replace("_ ", "_")


def panel_grid(
    count: int, columns: int, size: tuple[float, float], more: float = 0
) -> tuple[Figure, list[Axes]]:
    """Return a figure of panels in rows; `size` is of each, `more` the height beside, in inches."""
    rows = -(-count // columns)
    figsize = (size[0] * columns, size[1] * rows + more)
    figure, grid = plt.subplots(rows, columns, figsize=figsize, squeeze=False)
    for axes in grid.flat[count:]:
        axes.set_visible(False)
    return figure, list(grid.flat[:count])


def save(figure: Figure, png: Path, svg: Path, dpi: int) -> None:
    """Write a figure into two files and close it.

    The colours of one without images are reduced to 256, by which it takes a third of the room and
    looks the same.
    """
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    if not any(axes.images for axes in figure.axes):
        picture = picture.quantize(256, dither=Image.Dither.NONE)
    picture.save(png, dpi=(dpi, dpi))
    # Its parts have found their places, which the style would have them look for again.
    with mpl.rc_context({"figure.constrained_layout.use": False}):
        figure.set_layout_engine(None)
        # No date, so that the same results give the same bytes.
        figure.savefig(svg, metadata={"Date": None})
    plt.close(figure)
