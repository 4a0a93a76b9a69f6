"""What the figures of all steps share."""

from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure


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
    """Write a figure into two files and close it."""
    figure.savefig(png, dpi=dpi)
    # No date, so that the same results give the same bytes.
    figure.savefig(svg, metadata={"Date": None})
    plt.close(figure)
