"""Tables in Markdown."""

import re
from collections.abc import Iterable


def table_lines(head: list[str], rows: Iterable[list[str]]) -> list[str]:
    """Return the lines of a Markdown table of names, in the first column, and numbers."""
    lines = [table_line(head), f"| --- |{' ---: |' * (len(head) - 1)}"]
    return [*lines, *map(table_line, rows)]


def table_line(cells: list[str]) -> str:
    """Return one line of a Markdown table; what would end a cell is escaped."""
    escaped = (cell.replace("|", r"\|") for cell in cells)
    return f"|{'|'.join(f' {cell} ' if cell else ' ' for cell in escaped)}|"


def split_cells(line: str) -> list[str]:
    """Return the cells of a line of a Markdown table."""
    cells = re.split(r"(?<!\\)\|", line.strip())[1:-1]
    return [cell.strip().replace(r"\|", "|") for cell in cells]
