"""Comparisons of methods: what the runs of an experiment say about each contrast of them.

Differences are in the unit of the metric, of percent in points.
"""

import math
from dataclasses import dataclass
from statistics import fmean
from typing import NamedTuple, cast

import numpy as np
import pandas as pd

from distillation.record.provenance import fingerprint
from distillation.reporting.contrasts import Contrast
from distillation.reporting.intervals import (
    Interval,
    Mean,
    bootstrap_mean,
    detectable_difference,
    holm,
    level_decided,
    mcnemar,
    mean_over_seeds,
    mean_over_seeds_and_images,
)
from distillation.reporting.judgement import Asks, judge
from distillation.reporting.metric import Metric, metrics_of, value_of, values_of
from distillation.reporting.results import Results
from distillation.reporting.trained import Run
from distillation.settings import plugins
from distillation.settings.base import MetricSettings
from distillation.settings.reports import Comparison

# The columns of the comparison of seeds.
SEEDS = ("method", "reference", "contrast", "seed", "difference", "method_above",
         "reference_above", "mcnemar_p_value")  # fmt: skip
# What can be shown of a contrast, and the verdict that says so.
VERDICTS: dict[Asks, str] = {"above": "above", "below": "below", "equal": "equivalent"}
NOTHING = Interval(math.nan, math.nan, math.nan)
# Seeds, or teachers, from which their spread is known well enough to say what would be missed.
PLANNED = 5


class Finding(NamedTuple):
    """A row of the comparison. NaN is what one seed, or a metric without images, can't tell."""

    method: str
    reference: str
    contrast: str
    seeds: int
    teachers: int
    difference: float
    low: float
    high: float
    low_90: float
    high_90: float
    p_value: float
    p_holm: float
    smallest_difference: float
    outcome: str
    images_low: float
    images_high: float
    detectable: float
    verdict: str


@dataclass(frozen=True)
class Compared:
    """What was found, of which results and how: each contrast, each of its seeds, and fidelity."""

    results: Results
    metric: Metric
    settings: Comparison
    findings: list[Finding]
    seeds: pd.DataFrame
    fidelity: pd.DataFrame

    def seeds_of(self, row: Finding) -> pd.DataFrame:
        """Return the seeds of a contrast."""
        chosen = (self.seeds["method"] == row.method) & (self.seeds["reference"] == row.reference)
        return self.seeds.loc[chosen]

    @property
    def level(self) -> str:
        """The confidence of intervals, in words."""
        return f"{100 * self.settings.confidence:g} %"


def compare_seeds(contrasts: list[Contrast]) -> pd.DataFrame:
    """Return, for each contrast and seed, its value, and on how many images each method is above.

    Where an image has one of two values, as right or wrong, with McNemar's test; else NaN.
    """
    rows = []
    for each in contrasts:
        for place, seed in enumerate(each.seeds):
            above = below = p_value = math.nan
            if each.by_image is not None and each.contrast == "difference":
                values = each.by_image[place]
                above, below = int((values > 0).sum()), int((values < 0).sum())
                if len(np.unique(np.abs(values[values != 0]))) <= 1:
                    p_value = mcnemar(above, below)
            row = (each.method, each.reference, each.contrast, seed, float(each.by_seed[place]))
            rows.append((*row, above, below, p_value))
    return pd.DataFrame(rows, columns=SEEDS)


def compare(
    contrasts: list[Contrast], smallest_difference: float, settings: Comparison
) -> list[Finding]:
    """Judge each contrast; p-values are adjusted for their number."""
    return judge_means(contrasts, [*map(mean_of, contrasts)], smallest_difference, settings)


def judge_means(
    contrasts: list[Contrast], means: list[Mean], smallest_difference: float, settings: Comparison
) -> list[Finding]:
    """Judge each contrast by its mean, as `compare` does."""
    confidence, findings = settings.confidence, []
    levels = [level_decided(mean, smallest_difference) for mean in means]
    for each, mean, level, adjusted in zip(contrasts, means, levels, holm(levels), strict=True):
        estimate, images, detectable = mean.estimate(confidence), NOTHING, math.nan
        said = [
            verdict
            for asks, verdict in VERDICTS.items()
            if judge(estimate, smallest_difference, asks) == "shown" and adjusted <= 1 - confidence
        ]
        if len(each.units) >= PLANNED:
            more = detectable_difference(mean, confidence, settings.power)
            detectable = smallest_difference + more
        if each.by_image is not None:
            by_image = each.by_image.mean(axis=0)
            images = bootstrap_mean(
                by_image, confidence, settings.resamples, settings.bootstrap_seed
            )
        findings.append(Finding(
            each.method, each.reference, each.contrast, len(each.seeds), each.teachers, *estimate,
            level, float(adjusted), smallest_difference, "shown" if said else "can't be said",
            images.low, images.high, detectable,
            (said or ["one_seed" if len(each.seeds) < 2 else "open"])[0],
        ))  # fmt: skip
    return findings


def mean_of(contrast: Contrast) -> Mean:
    """Return the mean of a contrast over seeds, or teachers, and over images where it has them."""
    values = contrast.by_seed if contrast.by_image is None else contrast.by_image
    units = np.stack([values[places].mean(axis=0) for places in contrast.units])
    return mean_over_seeds(units) if units.ndim == 1 else mean_over_seeds_and_images(units)


def fidelity_metrics(results: Results) -> dict[str, Metric]:
    """Return the metrics that students have of their teacher, by name."""
    return {
        name: metric
        for name, metric in metrics_of(results).items()
        if cast(type[MetricSettings], plugins.declared("metrics", name)).needs_teacher
    }


def over_teachers(group: list[Run], values: list[float]) -> list[float]:
    """Return the mean of the values of each teacher's students, or the values where one taught."""
    taught = [fingerprint(run.training.get("teacher") or {}) for run in group]
    if len({*taught}) == 1:
        return values
    by_teacher: dict[str, list[float]] = {}
    for teacher, value in zip(taught, values, strict=True):
        by_teacher.setdefault(teacher, []).append(value)
    return [fmean(each) for each in by_teacher.values()]


def measure_fidelity(results: Results, confidence: float) -> pd.DataFrame:
    """Return mean and interval over seeds of each measure of fidelity that a student has.

    Of several teachers each counts once, with the mean of its students.

    An interval is cut where the measure ends: at 0 if no value is below, percent at 100.
    """
    rows = []
    for model, group in results.students.items():
        for name, metric in fidelity_metrics(results).items():
            if values := values_of(group, name):
                having = [run for run in group if value_of(run, name) is not None]
                mean, *ends = mean_over_seeds(over_teachers(having, values)).interval(confidence)
                least = 0 if min(values) >= 0 else -math.inf
                low, high = np.clip(ends, least, 100 if metric.unit == "%" else None).tolist()
                rows.append((model, len(values), name, mean, low, high))
    return pd.DataFrame(rows, columns=["method", "seeds", "measure", "mean", "low", "high"])
