"""A metric of metrics.json: which it is, and how values of it are written."""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

from distillation.reporting.results import Results
from distillation.reporting.trained import Run


class Metric(NamedTuple):
    """A metric as metrics.json has it; `images` says which images it was measured on."""

    name: str
    label: str
    unit: str
    decimals: int
    smallest_difference: float
    higher_is_better: bool | None = None
    images: str = "test images"
    number_of_images: int = 0
    of_each_image: bool = True

    @property
    def step(self) -> str:
        """The unit of a difference."""
        return "points" if self.unit == "%" else self.unit

    @property
    def unit_words(self) -> str:
        """The unit of a difference, told to who doesn't know it."""
        if self.unit != "%":
            return self.unit or "1"
        return f"points (percent of the {self.images})" if self.of_each_image else "points"

    @property
    def better(self) -> str:
        """Whether more is better, for the end of a sentence."""
        if self.higher_is_better is None:
            return ""
        return f"; {'higher' if self.higher_is_better else 'lower'} is better"

    def number(self, value: float) -> str:
        """Write a value without its unit; what rounds to 0 has no sign, and nothing is a dash."""
        return "-" if math.isnan(value) else f"{value:z.{self.decimals}f}"

    def amount(self, difference: float) -> str:
        """Write a difference with its unit."""
        return f"{self.number(difference)} {self.step}".rstrip()

    def exactly(self, difference: float) -> str:
        """Write a difference that was chosen, with all its digits and its unit."""
        if float(self.number(difference)) == difference:
            return self.amount(difference)
        return f"{difference:g} {self.step}".rstrip()

    def span(self, low: float, high: float) -> str:
        """Write an interval."""
        return "-" if math.isnan(low) else f"{self.number(low)} to {self.number(high)}"


def metrics_of(results: Results) -> dict[str, Metric]:
    """Return the metrics that runs have, by name, in order of first appearance."""
    return {
        name: Metric(
            name, results.worded(words["label"]), words["unit"], words["decimals"],
            words["smallest_difference"], words["higher_is_better"],
            "training images" if trained_on(words) else results.worded("test images"),
            words.get("images", results.runs[0].metrics["images"]),
            words.get("of_each_image", True),
        )
        for name, words in first_of(run.metrics["metrics"] for run in results.runs).items()
    }  # fmt: skip


def trained_on(entry: dict[str, Any]) -> bool:
    """Return whether a metric of metrics.json is of training images; older ones don't say."""
    return entry.get("split", "test") == "train"


def find_metric(results: Results, name: str) -> Metric:
    """Return the metric of a name; refuse one that no run has."""
    known = metrics_of(results)
    if name not in known:
        raise ValueError(f"--metric: found {name!r}; allowed: {', '.join(known)}")
    return known[name]


def value_of(run: Run, name: str) -> float | None:
    """Return a metric of a run, or None where the run doesn't have it."""
    return run.metrics["metrics"].get(name, {}).get("value")


def values_of(group: Iterable[Run], name: str) -> list[float]:
    """Return a metric of those runs that have it."""
    return [value for run in group if (value := value_of(run, name)) is not None]


def first_of(maps: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return the values of all maps, of each name the first, in order of first appearance."""
    found: dict[str, Any] = {}
    for each in maps:
        found |= each | found
    return found
