"""Tables in Markdown."""

from collections.abc import Iterable


def table_lines(head: list[str], rows: Iterable[list[str]]) -> list[str]:
    """Return the lines of a Markdown table of names, in the first column, and numbers."""
    lines = [table_line(head), f"| --- |{' ---: |' * (len(head) - 1)}"]
    return [*lines, *map(table_line, rows)]


def table_line(cells: list[str]) -> str:
    """Return one line of a Markdown table."""
    return f"|{'|'.join(f' {cell} ' if cell else ' ' for cell in cells)}|"
