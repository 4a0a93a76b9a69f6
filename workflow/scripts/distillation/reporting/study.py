"""A published study: its folder, read."""

import re
from dataclasses import dataclass
from functools import cached_property
from itertools import dropwhile, takewhile
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd

from distillation.reporting.consistency import flat
from distillation.reporting.judged_again import NEW
from distillation.reporting.quantities import BEST_MINUS_LAST
from distillation.reporting.results import label
from distillation.reporting.tables import split_cells
from distillation.reporting.trained import check_has, read_json, read_table

# What publish_results.py says of a study.
STUDY = ("title", "command", "published", "headline", "labels")


@dataclass(frozen=True)
class Study:
    """A published study: its folder, read."""

    folder: Path

    @cached_property
    def about(self) -> dict[str, Any]:
        """Title, command, whose figures stand beside it, its headline, and labels of models."""
        content = read_json(self.folder / "study.json")
        check_has(str(self.folder / "study.json:"), content, STUDY)
        return content

    @cached_property
    def data(self) -> dict[str, Any]:
        """The description of its data."""
        return read_json(self.folder / "data.json")

    @cached_property
    def runs(self) -> dict[str, list[dict[str, Any]]]:
        """The provenance of its runs, by model."""
        groups: dict[str, list[dict[str, Any]]] = {}
        for one in read_json(self.folder / "provenance.json")["runs"]:
            groups.setdefault(one["model"], []).append(one)
        return groups

    @cached_property
    def rows(self) -> dict[str, list[str]]:
        """The cells of table.md by what stands at their beginning."""
        lines = self.between("table.md", "| | ", "Mean")
        (_, *head), _, *body = map(split_cells, (each for each in lines if each.startswith("|")))
        return {first: cells for first, *cells in body if len(cells) == len(head)}

    def between(self, name: str, start: str, end: str) -> list[str]:
        """Return the lines of a file from the one that begins with `start` to before `end`.

        Raises:
            ValueError: there is no such line; the file isn't what the pipeline writes.
        """
        text = (self.folder / name).read_text()
        lines = [*dropwhile(lambda line: not line.startswith(start), text.splitlines())]
        if not lines:
            raise ValueError(f"{self.folder / name}: has no line that begins with {start!r}")
        return [*takewhile(lambda line: not line.startswith(end), lines)]

    @cached_property
    def compared(self) -> pd.DataFrame:
        """The pairs of methods that were compared."""
        return read_table(self.folder / "comparison.csv")

    @property
    def earlier(self) -> bool:
        """Whether it was judged before there was one rule."""
        return NEW not in self.compared

    @property
    def gains(self) -> list[str]:
        """By how many points the best test epoch is above the last, by model; else a dash."""
        if row := self.row(BEST_MINUS_LAST):
            return [cell.partition(" ±")[0] for cell in row[1]]
        # Tables from before it was computed don't have it; histories do.
        epochs = dict([*read_table(self.folder / "history.csv").groupby(["model", "seed"])])
        gains = []
        for model, group in self.runs.items():
            names = [(model, one["seed"]) for one in group]
            own = [epochs[name]["test_accuracy"] for name in names if name in epochs]
            more = [100 * (each.max() - each.iloc[-1]) for each in own]
            gains.append(f"{fmean(more):.2f}" if more else "-")
        return gains

    def row(self, quantity: str) -> tuple[str, list[str]] | None:
        """Return the head with its unit and the cells of a quantity, or None where it has none."""
        named = re.compile(rf"{re.escape(quantity)}( \([^()]*\))?")
        return next((row for row in self.rows.items() if named.fullmatch(row[0])), None)

    @property
    def headline(self) -> tuple[str, list[str]]:
        """Head and cells of the row that studies are compared by.

        Raises:
            ValueError: the table doesn't have it.
        """
        if found := self.row(self.about["headline"]):
            return found
        raise ValueError(
            f"{self.folder / 'table.md'}: has no row {self.about['headline']!r}; found "
            f"{', '.join(self.rows)}"
        )

    @property
    def held_out(self) -> bool:
        """Whether it was measured on held-out training images, not on the test split."""
        # Descriptions from before there was a choice don't name it.
        told = flat(self.data["provenance"]["arguments"]).items()
        return any(name.endswith("validation_fraction") and value is not None
                   for name, value in told)  # fmt: skip

    def label(self, model: str) -> str:
        """Return what a model is called."""
        return label(model, self.about["labels"])
