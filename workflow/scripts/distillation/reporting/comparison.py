"""Comparisons of methods: what the runs of an experiment say about each contrast of them.

Differences are in the unit of the metric, of percent in points.
"""

import math
from dataclasses import dataclass, fields
from typing import cast

import numpy as np
import pandas as pd

from distillation.reporting.contrasts import Contrast
from distillation.reporting.intervals import (
    bootstrap_mean,
    detectable_difference,
    holm,
    level_decided,
    mcnemar,
    mean_over_seeds,
    mean_over_seeds_and_images,
)
from distillation.reporting.judgement import Asks, judge
from distillation.reporting.metric import Metric, metrics_of, value_of
from distillation.reporting.results import Results
from distillation.settings import plugins
from distillation.settings.base import MetricSettings
from distillation.settings.reports import Comparison

# The columns of the comparison of seeds.
SEEDS = ("method", "reference", "contrast", "seed", "difference", "method_above",
         "reference_above", "mcnemar_p_value")  # fmt: skip
# What can be shown of a contrast, and the verdict that says so.
VERDICTS: dict[Asks, str] = {"above": "above", "below": "below", "equal": "equivalent"}
# Seeds, or teachers, from which their spread is known well enough to say what would be missed.
PLANNED = 5


@dataclass(frozen=True)
class Finding:
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
        for place, (seed, difference) in enumerate(zip(each.seeds, each.by_seed, strict=True)):
            above, below, p_value = math.nan, math.nan, math.nan
            if each.by_image is not None and each.contrast == "difference":
                values = each.by_image[place]
                above, below = int((values > 0).sum()), int((values < 0).sum())
                if len(np.unique(np.abs(values[values != 0]))) <= 1:
                    p_value = mcnemar(above, below)
            names = (each.method, each.reference, each.contrast)
            rows.append((*names, seed, float(difference), above, below, p_value))
    return pd.DataFrame(rows, columns=SEEDS)


def compare(
    contrasts: list[Contrast], smallest_difference: float, settings: Comparison
) -> list[Finding]:
    """Judge each contrast; p-values are adjusted for their number."""
    confidence, means = settings.confidence, []
    for each in contrasts:
        values = each.by_seed if each.by_image is None else each.by_image
        units = np.stack([values[places].mean(axis=0) for places in each.units])
        means.append(
            mean_over_seeds(units) if units.ndim == 1 else mean_over_seeds_and_images(units)
        )
    levels = [level_decided(mean, smallest_difference) for mean in means]
    findings = []
    for each, mean, level, adjusted in zip(contrasts, means, levels, holm(levels), strict=True):
        estimate = mean.estimate(confidence)
        said = [
            verdict
            for asks, verdict in VERDICTS.items()
            if judge(estimate, smallest_difference, asks) == "shown" and adjusted <= 1 - confidence
        ]
        detectable, images = math.nan, [math.nan, math.nan]
        if len(each.units) >= PLANNED:
            more = detectable_difference(mean, confidence, settings.power)
            detectable = smallest_difference + more
        if each.by_image is not None:
            _, *images = bootstrap_mean(
                each.by_image.mean(axis=0), confidence, settings.resamples, settings.bootstrap_seed
            )
        finding = Finding(
            each.method, each.reference, each.contrast, len(each.seeds), each.teachers, *estimate,
            p_value=level, p_holm=float(adjusted), smallest_difference=smallest_difference,
            outcome="shown" if said else "can't be said", images_low=images[0],
            images_high=images[1], detectable=detectable,
            verdict=(said or ["one_seed" if len(each.seeds) < 2 else "open"])[0],
        )  # fmt: skip
        findings.append(finding)
    return findings


def tabulate(findings: list[Finding], sentences: list[str]) -> pd.DataFrame:
    """Return a row per contrast, with the columns of one also where there is none."""
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
                mean, *ends = mean_over_seeds(values).interval(confidence)
                least = 0 if min(values) >= 0 else -math.inf
                low, high = np.clip(ends, least, 100 if metric.unit == "%" else None).tolist()
                rows.append((model, len(group), name, mean, low, high))
    return pd.DataFrame(rows, columns=["method", "seeds", "measure", "mean", "low", "high"])
