"""What the figures of all steps share."""

from matplotlib.figure import Figure


def add_title(figure: Figure, title: str) -> None:
    """Write a title over a figure as it is, in several lines where it is wider than the figure.

    Style sheets turn formulas off, but to wrap a title matplotlib measures what looks like one as
    one, and fails where it is none. An escaped $ begins none.
    """
    figure.suptitle(title.replace("$", r"\$"), parse_math=True, wrap=True)
