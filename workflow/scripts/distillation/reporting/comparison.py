"""Comparisons of methods in pairs: what the runs of an experiment say about each pair.

Letters: S seeds, N images. Differences are in the unit of the metric, of percent in points.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import cast

import numpy as np
import pandas as pd

from distillation.reporting.intervals import (
    Interval,
    bootstrap_mean,
    detectable_difference,
    holm,
    judge,
    mcnemar,
    paired_t,
    t_interval,
)
from distillation.reporting.metric import Metric, metrics_of, value_of
from distillation.reporting.results import Results
from distillation.settings import plugins
from distillation.settings.base import MetricSettings
from distillation.settings.reports import Comparison

# The columns of the comparison of seeds.
SEEDS = ("method", "reference", "seed", "difference", "method_above", "reference_above",
         "mcnemar_p_value")  # fmt: skip


@dataclass(frozen=True)
class Pair:
    """Two methods: of each seed the metric (S,), and of each image, where there are such (S, N)."""

    method: str
    reference: str
    seeds: list[int]
    by_seed: tuple[np.ndarray, np.ndarray]
    by_image: tuple[np.ndarray, np.ndarray] | None


@dataclass(frozen=True)
class Finding:
    """A row of the comparison. NaN is what one seed, or a metric without images, can't tell."""

    method: str
    reference: str
    seeds: int
    difference: float
    low: float
    high: float
    p_value: float
    p_holm: float
    detectable: float
    images_low: float
    images_high: float
    verdict: str


@dataclass(frozen=True)
class Compared:
    """What was found, of which results and how: each pair, each of its seeds, and fidelity."""

    results: Results
    metric: Metric
    settings: Comparison
    findings: list[Finding]
    seeds: pd.DataFrame
    fidelity: pd.DataFrame

    def seeds_of(self, row: Finding) -> pd.DataFrame:
        """Return the seeds of a pair."""
        chosen = (self.seeds["method"] == row.method) & (self.seeds["reference"] == row.reference)
        return self.seeds.loc[chosen]

    @property
    def level(self) -> str:
        """The confidence of intervals, in words."""
        return f"{100 * self.settings.confidence:g} %"


def make_pairs(
    names: list[list[str]], results: Results, metric: str, images: Mapping[str, np.ndarray]
) -> list[Pair]:
    """Return the pairs of these names, with the seeds in order.

    Raises:
        ValueError: a model isn't among the runs or lacks the metric, is compared with itself, a
            pair is given twice, or its seeds aren't the same.
    """
    groups, pairs = results.groups, []
    for method, reference in names:
        where = f"--pair {method} {reference}"
        for name in (method, reference):
            if name not in groups:
                raise ValueError(f"{where}: no run of {name}; allowed: {', '.join(groups)}")
        if method == reference:
            raise ValueError(f"{where}: found one model; allowed: two different ones")
        if names.count([method, reference]) > 1:
            raise ValueError(f"{where}: is given twice")
        sides = [sorted(groups[name], key=lambda run: run.seed) for name in (method, reference)]
        seeds, others = ([run.seed for run in side] for side in sides)
        if seeds != others:
            raise ValueError(
                f"{where}: {method} has seeds {', '.join(map(str, seeds))}, {reference} has "
                f"{', '.join(map(str, others))}; allowed: the same, as seeds are compared in pairs"
            )
        if lacking := [run for side in sides for run in side if value_of(run, metric) is None]:
            raise ValueError(f"{where}: metrics.json of {lacking[0]}, lacks {metric}")
        first, second = (
            np.array([value_of(run, metric) for run in side], dtype=float) for side in sides
        )
        by_image = None
        if all(str(run) in images for side in sides for run in side):
            one, other = (np.stack([images[str(run)] for run in side]) for side in sides)
            by_image = (one, other)
        pairs.append(Pair(method, reference, seeds, (first, second), by_image))
    return pairs


def compare_seeds(pairs: list[Pair]) -> pd.DataFrame:
    """Return, for each pair and seed, the difference and on how many images each method is above.

    Where an image has one of two values, as right or wrong, with McNemar's test; else NaN.
    """
    rows = []
    for pair in pairs:
        differences = (pair.by_seed[0] - pair.by_seed[1]).tolist()
        for place, (seed, difference) in enumerate(zip(pair.seeds, differences, strict=True)):
            above, below, p_value = math.nan, math.nan, math.nan
            if pair.by_image:
                method, reference = pair.by_image[0][place], pair.by_image[1][place]
                above, below = int((method > reference).sum()), int((method < reference).sum())
                if len(np.unique((method, reference))) <= 2:
                    p_value = mcnemar(above, below)
            row = (pair.method, pair.reference, seed, difference, above, below, p_value)
            rows.append(row)
    return pd.DataFrame(rows, columns=SEEDS)


def compare(pairs: list[Pair], settings: Comparison) -> list[Finding]:
    """Return what is found of each pair; p-values are adjusted for the number of pairs."""
    tests = [paired_t(*pair.by_seed, settings.confidence) for pair in pairs]
    adjusted = holm([test.p_value for test in tests]).tolist()
    findings = []
    for pair, test, p_holm in zip(pairs, tests, adjusted, strict=True):
        difference, seeds = test.difference, len(pair.seeds)
        # Without an interval the seeds have no spread to plan with.
        known = not math.isnan(difference.low)
        spread = float(np.subtract(*pair.by_seed).std(ddof=1)) if known else math.nan
        images = Interval(difference.value, math.nan, math.nan)
        if pair.by_image:
            images = bootstrap_mean(
                np.subtract(*pair.by_image).mean(axis=0), settings.confidence, settings.resamples,
                settings.bootstrap_seed,
            )  # fmt: skip
        finding = Finding(
            pair.method, pair.reference, seeds, *difference, test.p_value, p_holm,
            detectable_difference(spread, seeds, settings.confidence, settings.power),
            images.low, images.high,
            judge(difference.value, p_holm, seeds, settings.confidence),
        )  # fmt: skip
        findings.append(finding)
    return findings


def tabulate(findings: list[Finding], sentences: list[str]) -> pd.DataFrame:
    """Return a row per comparison, with the columns of one also where there is none."""
    table = pd.DataFrame(findings, columns=[field.name for field in fields(Finding)])
    return table.assign(sentence=sentences)


def fidelity_metrics(results: Results) -> dict[str, Metric]:
    """Return the metrics that students have of their teacher, by name."""
    return {
        name: metric
        for name, metric in metrics_of(results).items()
        if cast(type[MetricSettings], plugins.declared("metrics", name)).needs_teacher
    }


def measure_fidelity(results: Results, confidence: float) -> pd.DataFrame:
    """Return mean and interval over seeds of each measure of fidelity that a student has.

    An interval is cut where the measure ends: at 0 if no value is below, percent at 100.
    """
    rows = []
    for model, group in results.students.items():
        for name, metric in fidelity_metrics(results).items():
            values = [value for run in group if (value := value_of(run, name)) is not None]
            if values:
                mean, *ends = t_interval(values, confidence)
                least = 0 if min(values) >= 0 else -math.inf
                low, high = np.clip(ends, least, 100 if metric.unit == "%" else None).tolist()
                rows.append((model, len(group), name, mean, low, high))
    return pd.DataFrame(rows, columns=["method", "seeds", "measure", "mean", "low", "high"])
