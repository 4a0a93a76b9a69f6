"""Attention metrics of an experiment, made up so that every claim about maps holds by construction.

Tests change the values that decide a verdict.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from distillation.measurements import Key

TEACHER_SEEDS, STUDENT_SEEDS = (0,), (0, 1, 2)
STUDENTS = ("baseline", "kd", "at", "at_kd")
COLLAPSES = ("sum_absolute", "mean_square")
POINTS = ("before_norm", "after_norm")
# Half of an interval of one seed; a seed is this much above the one before it.
HALF, STEP = 0.01, 0.002

# Values of a trained network in groups 1, 2, 3, and of its untrained control.
MAPS = {
    "entropy": ((0.9, 0.8, 0.5), (0.95, 0.9, 0.9)),
    "effective_area": ((0.6, 0.5, 0.3), (0.7, 0.7, 0.7)),
    "gini": ((0.3, 0.4, 0.7), (0.2, 0.2, 0.2)),
    "peak_over_mean": ((3.0, 4.0, 9.0), (2.0, 2.0, 2.0)),
    "image_dependence": ((0.6, 0.5, 0.4), (0.3, 0.2, 0.1)),
    "border": ((1.1, 1.2, 1.5), (1.2, 1.3, 1.4)),
    "border_constant": ((1.2, 1.3, 1.4), (1.2, 1.3, 1.4)),
    "border_noise": ((1.2, 1.3, 1.3), (1.2, 1.3, 1.4)),
    "border_top": ((1.1, 1.2, 1.8), (1.2, 1.3, 1.7)),
    "border_bottom": ((1.1, 1.2, 1.2), (1.2, 1.3, 1.2)),
    "border_left": ((1.1, 1.2, 1.5), (1.2, 1.3, 1.4)),
    "border_right": ((1.1, 1.2, 1.5), (1.2, 1.3, 1.4)),
    "object_energy": ((1.4, 1.2, 0.7), (1.0, 1.0, 0.9)),
    "pointing_game": ((0.6, 0.5, 0.2), (0.3, 0.3, 0.3)),
    "pointing_game_chance": ((0.3, 0.3, 0.3), (0.3, 0.3, 0.3)),
    "object_iou": ((0.4, 0.3, 0.1), (0.2, 0.2, 0.2)),
    "object_iou_chance": ((0.2, 0.2, 0.2), (0.2, 0.2, 0.2)),
    "sobel_spearman": ((0.5, 0.3, 0.1), (0.3, 0.3, 0.3)),
    "teacher_cosine": ((0.95, 0.9, 0.9), (0.6, 0.5, 0.4)),
    "teacher_cosine_shuffled": ((0.8, 0.7, 0.5), (0.6, 0.5, 0.4)),
    "teacher_spearman": ((0.8, 0.7, 0.6), (0.4, 0.3, 0.2)),
    "teacher_spearman_shuffled": ((0.5, 0.4, 0.3), (0.4, 0.3, 0.2)),
    "deletion": ((0.5, 0.5, 0.5), (0.1, 0.1, 0.1)),
    "insertion": ((0.3, 0.3, 0.3), (0.1, 0.1, 0.1)),
    "deletion_minus_random": ((0.05, 0.05, 0.05), (0.0, 0.0, 0.0)),
    "insertion_minus_random": ((-0.05, -0.05, -0.05), (0.0, 0.0, 0.0)),
}
CONTROLS = {
    f"{metric}_{order}": value
    for metric in ("deletion", "insertion")
    for order, value in [("random", 0.45), ("centre", 0.4), ("sobel", 0.35), ("grad_cam", 0.3)]
}
# In what the teacher and the baseline differ from the rest.
OTHERWISE = {
    Key("teacher", "effective_area", 3): 0.1,
    Key("baseline", "teacher_cosine", 3): 0.6,
}

# A new value; None takes its row away.
Changes = Mapping[Key, float | None]


def network(
    method: str, seed: int, changes: Changes | None = None, after: Changes | None = None
) -> pd.DataFrame:
    """Return the rows of one network; `after` are changes of the maps after the norm alone."""
    rows = []
    cells = [(metric, group) for metric in MAPS for group in (1, 2, 3)]
    cells += [(metric, 3) for metric in CONTROLS]
    for collapse in COLLAPSES:
        for point in POINTS:
            known: Changes = OTHERWISE | {**(changes or {})}
            known = {**known, **(after or {})} if point == "after_norm" else known
            for metric, group in cells:
                early_only = metric.startswith(("deletion", "insertion"))
                elsewhere = metric in CONTROLS and collapse != COLLAPSES[0]
                if (early_only and point == "after_norm") or elsewhere:
                    continue
                if method == "teacher" and metric.startswith("teacher_"):
                    continue
                key = Key(method, metric, group)
                trained, untrained = MAPS.get(metric, ((CONTROLS.get(metric),) * 3, (0.1,) * 3))
                value = known.get(key, trained[group - 1])
                control = known.get(key._replace(untrained=True), untrained[group - 1])
                if value is not None and control is not None:
                    value, control = value + STEP * seed, control + STEP * seed
                    rows.append(
                        {
                            "model": "WRN-16-1" if method == "teacher" else "WRN-10-1",
                            "method": method, "seed": seed, "group": group,
                            "collapse": collapse, "point": point, "metric": metric,
                            "value": value, "low": value - HALF, "high": value + HALF,
                            "untrained": control, "untrained_low": control - HALF,
                            "untrained_high": control + HALF,
                        }
                    )  # fmt: skip
    return pd.DataFrame(rows)


def networks(
    changes: Changes | None = None,
    after: Changes | None = None,
    students: tuple[str, ...] = STUDENTS,
) -> list[pd.DataFrame]:
    """Return the rows of each network of the experiment, in the order of the table."""
    named = [("teacher", seed) for seed in TEACHER_SEEDS]
    named += [(method, seed) for method in students for seed in STUDENT_SEEDS]
    return [network(method, seed, changes, after) for method, seed in named]


def comparison(verdict: str = "below", sentence: str = "AT+KD is below the baseline.") -> str:
    """Return comparison.csv with the pairs of KD and AT+KD with the baseline."""
    head = (
        "method,reference,seeds,difference,low,high,p_value,p_holm,detectable,images_low,"
        "images_high,verdict,sentence\n"
    )
    row = "baseline,3,-0.2,-0.3,-0.1,0.01,0.02,0.1,-0.5,0.1"
    return f'{head}kd,{row},above,KD is above.\nat_kd,{row},{verdict},"{sentence}"\n'


DESCRIPTION = {
    "format": "digits",
    "classes": 10,
    "sha256": "018f8a591f36",
    "images": {"test": {"count": 1080, "shape": [32, 32, 1]}},
}


def write_experiment(folder: Path, tables: list[pd.DataFrame], pairs: str) -> list[str]:
    """Write the inputs of render_claims.py into a folder; return the flags that name them."""
    flags = ["--metrics"]
    for position, table in enumerate(tables):
        file = folder / f"metrics_{position}.csv"
        table.to_csv(file, index=False)
        flags.append(str(file))
    (folder / "comparison.csv").write_text(pairs)
    (folder / "data.json").write_text(json.dumps(DESCRIPTION))
    return [
        *flags,
        *("--comparison", str(folder / "comparison.csv")),
        *("--data-description", str(folder / "data.json")),
    ]
