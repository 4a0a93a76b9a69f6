"""Comparisons of methods in pairs: what the runs of an experiment say about each pair.

Letters: S seeds, N test images. Differences are in points, percent of the test images.
"""

import argparse
import math
from dataclasses import dataclass, fields, replace

import numpy as np
import pandas as pd

from distillation.results import Run, label
from distillation.statistics import (
    bootstrap_mean,
    detectable_difference,
    holm,
    judge,
    mcnemar,
    paired_t,
    t_interval,
)

# Measures of fidelity in metrics.json: the factor to the unit shown, and the largest value in it.
FIDELITY = {"teacher_agreement": (100, 100), "teacher_divergence": (1, math.inf)}


@dataclass(frozen=True)
class Pair:
    """Two methods, and which test images each is right on: (S, N), booleans."""

    method: str
    reference: str
    seeds: list[int]
    method_right: np.ndarray
    reference_right: np.ndarray

    @property
    def by_image(self) -> np.ndarray:
        """The difference on each test image in points, mean over seeds, (N,)."""
        right, reference = self.method_right.mean(axis=0), self.reference_right.mean(axis=0)
        return 100 * (right - reference)


@dataclass(frozen=True)
class Comparison:
    """A row of the comparison. In points; NaN is what one seed can't tell."""

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
    sentence: str = ""


def make_pairs(
    names: list[list[str]], groups: dict[str, list[Run]], right: dict[tuple[str, int], np.ndarray]
) -> list[Pair]:
    """Return the pairs of these names, with the seeds in order.

    Raises:
        ValueError: a model isn't among the runs, is compared with itself, a pair is given twice, or
            its seeds aren't the same.
    """
    pairs = []
    for method, reference in names:
        where = f"--pair {method} {reference}"
        for name in (method, reference):
            if name not in groups:
                raise ValueError(f"{where}: no run of {name}; allowed: {', '.join(groups)}")
        if method == reference:
            raise ValueError(f"{where}: found one model; allowed: two different ones")
        if names.count([method, reference]) > 1:
            raise ValueError(f"{where}: is given twice")
        seeds, others = (sorted(run_.seed for run_ in groups[name]) for name in (method, reference))
        if seeds != others:
            raise ValueError(
                f"{where}: {method} has seeds {', '.join(map(str, seeds))}, {reference} has "
                f"{', '.join(map(str, others))}; allowed: the same, as seeds are compared in pairs"
            )
        sides = (np.stack([right[name, seed] for seed in seeds]) for name in (method, reference))
        pairs.append(Pair(method, reference, seeds, *sides))
    return pairs


def compare_seeds(pairs: list[Pair]) -> pd.DataFrame:
    """Return, for each pair and seed, the difference in points and McNemar's test."""
    rows = []
    for pair in pairs:
        only_method = (pair.method_right & ~pair.reference_right).sum(axis=1).tolist()
        only_reference = (~pair.method_right & pair.reference_right).sum(axis=1).tolist()
        images = pair.method_right.shape[1]
        rows += [
            {
                "method": pair.method,
                "reference": pair.reference,
                "seed": seed,
                "difference": 100 * (more - fewer) / images,
                "only_method_correct": more,
                "only_reference_correct": fewer,
                "mcnemar_p_value": mcnemar(more, fewer),
            }
            for seed, more, fewer in zip(pair.seeds, only_method, only_reference, strict=True)
        ]
    columns = ["method", "reference", "seed", "difference", "only_method_correct",
               "only_reference_correct", "mcnemar_p_value"]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def compare(pairs: list[Pair], settings: argparse.Namespace) -> list[Comparison]:
    """Return the comparison of each pair; p-values are adjusted for the number of pairs."""
    accuracies = [
        (100 * pair.method_right.mean(axis=1), 100 * pair.reference_right.mean(axis=1))
        for pair in pairs
    ]
    tests = [paired_t(method, reference, settings.confidence) for method, reference in accuracies]
    adjusted = holm([test.p_value for test in tests]).tolist()
    comparisons = []
    for pair, (method, reference), test, p_holm in zip(
        pairs, accuracies, tests, adjusted, strict=True
    ):
        difference, seeds = float((method - reference).mean()), len(pair.seeds)
        # Without an interval the seeds have no spread to plan with.
        deviation = math.nan if math.isnan(test.low) else float((method - reference).std(ddof=1))
        images = bootstrap_mean(
            pair.by_image, settings.confidence, settings.resamples, settings.bootstrap_seed
        )
        detectable = detectable_difference(deviation, seeds, settings.confidence, settings.power)
        comparison = Comparison(
            pair.method, pair.reference, seeds, difference, *test, p_holm, detectable, *images,
            judge(difference, p_holm, seeds, settings.confidence),
        )  # fmt: skip
        sentence = describe(comparison, len(pairs), settings.confidence, settings.power)
        comparisons.append(replace(comparison, sentence=sentence))
    return comparisons


def tabulate(comparisons: list[Comparison]) -> pd.DataFrame:
    """Return a row per comparison, with the columns of one also where there is none."""
    return pd.DataFrame(comparisons, columns=[field.name for field in fields(Comparison)])


def inside(model: str) -> str:
    """Return the name of a model as it stands inside a sentence."""
    return f"the {label(model).lower()}" if model in ("teacher", "baseline") else label(model)


def points(value: float) -> str:
    """Write points with two decimals; what rounds to 0 has no sign."""
    return f"{value:z.2f}"


def span(low: float, high: float) -> str:
    """Write an interval in points."""
    return f"{points(low)} to {points(high)}"


def p_text(value: float) -> str:
    """Write a p-value; nothing where there is none."""
    return "-" if math.isnan(value) else f"{value:.2g}" if value >= 0.0001 else "< 0.0001"


def describe(row: Comparison, pairs: int, confidence: float, power: float) -> str:
    """Return a comparison's verdict in words, as one sentence without a full stop."""
    method, reference = inside(row.method), inside(row.reference)
    # A method's own name keeps its letters.
    start = "T" + method[1:] if method.startswith("the ") else method
    level = f"{100 * confidence:g} % interval"
    images = f"on the test images alone its {level} is {span(row.images_low, row.images_high)}"
    if row.images_low == row.images_high:
        images = "drawing other test images doesn't change it"
    if row.verdict == "one_seed":
        return (
            f"With one seed nothing can be said about other seeds: in this one the difference "
            f"between {method} and {reference} is {points(row.difference)} points; {images}"
        )
    if row.verdict != "not_distinguishable":
        what = "" if row.verdict == "above" else " of the difference"
        return (
            f"{start} is {row.verdict} {reference} by {points(abs(row.difference))} points, "
            f"{level}{what} {span(row.low, row.high)}, {row.seeds} seeds"
        )
    text = f"{start} is not distinguishable from {reference} with {row.seeds} seeds: "
    if math.isnan(row.p_value):
        return text + (
            f"the difference is {points(row.difference)} points in each of them, and without a "
            f"spread nothing can be said about other seeds; {images}"
        )
    text += f"difference {points(row.difference)} points, {level} {span(row.low, row.high)}"
    if row.p_value <= 1 - confidence:
        text += (
            f", which excludes 0, but not after Holm's correction for {pairs} pairs "
            f"(p = {p_text(row.p_holm)})"
        )
    return text + (
        f"; a true difference under {points(row.detectable)} points would be missed in more than "
        f"{100 * (1 - power):.3g} % of such experiments"
    )


def measure_fidelity(groups: dict[str, list[Run]], confidence: float) -> pd.DataFrame:
    """Return mean and interval over seeds of each measure of fidelity, for each student.

    An interval is cut where the measure ends: at 0, and at 100 percent.

    Raises:
        ValueError: the metrics of a student were computed without its teacher.
    """
    rows = []
    for model, group in groups.items():
        for measure, (factor, most) in FIDELITY.items() if model != "teacher" else ():
            missing = [run_.seed for run_ in group if measure not in run_.metrics]
            if missing:
                raise ValueError(
                    f"metrics.json of {model}, seed {missing[0]}: lacks {measure}; evaluate.py "
                    f"writes it with --teacher-predictions"
                )
            values = [factor * run_.metrics[measure] for run_ in group]
            low, high = np.clip(t_interval(values, confidence), 0, most).tolist()
            mean = float(np.mean(values))
            rows.append((model, len(group), measure, mean, low, high))
    return pd.DataFrame(rows, columns=["method", "seeds", "measure", "mean", "low", "high"])
