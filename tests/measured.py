"""Attention metrics of an experiment, made up so that every claim about maps is shown.

Tests change the values that decide a verdict. A value is named by method, metric, stage and whether
it is of the untrained control, which is a network of its own in the files.
"""

import json
import math
from collections.abc import Mapping
from functools import cache
from itertools import product
from pathlib import Path

import pandas as pd

SEEDS = (0, 1, 2)
STUDENTS = ("baseline", "kd", "at", "at_kd")
COLLAPSES = ("sum_absolute", "mean_square")
POINTS = ("before_activation", "after_activation")
STAGES = (1, 2, 3)
# Half of an interval of one seed; a seed is this much above the one before it.
HALF, STEP = 0.01, 0.002

# Values of a trained network at stages 1, 2, 3, and of its untrained control.
MAPS = {
    "cells": ((1024, 256, 64),) * 2,
    "entropy": ((0.9, 0.8, 0.5), (0.95, 0.9, 0.9)),
    "effective_area": ((0.6, 0.5, 0.4), (0.7, 0.7, 0.7)),
    "image_dependence": ((0.6, 0.5, 0.4), (0.3, 0.2, 0.1)),
    "border": ((1.1, 1.2, 1.5), (1.2, 1.3, 1.4)),
    "border_constant": ((1.2, 1.3, 1.4), (1.2, 1.3, 1.4)),
    "border_noise": ((1.2, 1.3, 1.3), (1.2, 1.3, 1.4)),
    "object_energy": ((1.4, 1.2, 0.7), (1.0, 1.0, 0.9)),
    "pointing_game": ((0.6, 0.5, 0.2), (0.3, 0.3, 0.3)),
    "pointing_game_chance": ((0.3, 0.3, 0.3), (0.3, 0.3, 0.3)),
    "object_iou": ((0.4, 0.3, 0.1), (0.2, 0.2, 0.2)),
    "object_iou_chance": ((0.2, 0.2, 0.2), (0.2, 0.2, 0.2)),
    **{
        f"{metric}_{control}": ((value,) * 3,) * 2
        for metric, centre, other in (
            ("object_energy", 1.3, 1.1),
            ("pointing_game", 0.5, 0.4),
            ("object_iou", 0.3, 0.25),
        )
        for control, value in (("centre", centre), ("other", other))
    },
    "sobel_spearman": ((0.5, 0.3, 0.1), (0.3, 0.3, 0.3)),
    "teacher_cosine": ((0.95, 0.9, 0.9), (0.6, 0.5, 0.4)),
    "teacher_cosine_shuffled": ((0.8, 0.7, 0.5), (0.6, 0.5, 0.4)),
    "teacher_spearman": ((0.8, 0.7, 0.6), (0.4, 0.3, 0.2)),
    "teacher_spearman_shuffled": ((0.3, 0.2, 0.1), (0.4, 0.3, 0.2)),
    "deletion": ((0.5, 0.5, 0.5), (0.1, 0.1, 0.1)),
    "insertion": ((0.3, 0.3, 0.3), (0.1, 0.1, 0.1)),
    "deletion_minus_random": ((0.05, 0.05, 0.05), (0.0, 0.0, 0.0)),
    "deletion_blur_minus_random": ((0.05, 0.05, 0.05), (0.0, 0.0, 0.0)),
    "insertion_minus_random": ((-0.05, -0.05, -0.05), (0.0, 0.0, 0.0)),
}
# The same maps pooled to one size.
for pooled in ("effective_area", "image_dependence", "sobel_spearman"):
    MAPS[f"{pooled}_pooled"] = MAPS[pooled]
CONTROLS = {
    f"{metric}_{order}": value
    for metric in ("deletion", "insertion")
    for order, value in [("random", 0.45), ("centre", 0.4), ("sobel", 0.35), ("grad_cam", 0.3)]
}
# In what the teacher and the baseline differ from the rest.
OTHERWISE = {
    ("teacher", "effective_area", 3, False): 0.1,
    ("teacher", "effective_area_pooled", 3, False): 0.1,
    ("baseline", "teacher_spearman", 3, False): 0.3,
}

# A new value; None takes its row away.
Changes = Mapping[tuple[str, str, int, bool], float | None]


def around(metric: str) -> tuple[float, float]:
    """Return by how much a seed is above the one before it, and half of its interval."""
    if metric == "cells":
        return 0, 0
    # Of one image there is no interval.
    return STEP, math.nan if metric.endswith("_constant") else HALF


@cache
def network(method: str, seed: int, untrained: bool = False) -> pd.DataFrame:
    """Return the rows of one network, or of the untrained control of a method."""
    rows = []
    cells = [(metric, stage) for metric in MAPS for stage in STAGES]
    cells += [(metric, STAGES[-1]) for metric in CONTROLS if not untrained]
    for collapse, point, (metric, stage) in product(COLLAPSES, POINTS, cells):
        early_only = metric.startswith(("deletion", "insertion"))
        elsewhere = metric in CONTROLS and collapse != COLLAPSES[0]
        if (early_only and point == POINTS[1]) or elsewhere:
            continue
        if method == "teacher" and metric.startswith("teacher_"):
            continue
        made_up = MAPS[metric][untrained][stage - 1] if metric in MAPS else CONTROLS[metric]
        step, reach = around(metric)
        value = OTHERWISE.get((method, metric, stage, untrained), made_up) + step * seed
        rows.append(
            {
                "model": "WRN-16-1" if method == "teacher" else "WRN-10-1",
                "method": f"untrained_{method}" if untrained else method,
                "seed": seed, "stage": stage, "stages": len(STAGES),
                "collapse": collapse, "point": point, "metric": metric,
                "value": value, "low": value - reach, "high": value + reach,
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def changed(table: pd.DataFrame, changes: Changes, points: tuple[str, ...]) -> pd.DataFrame:
    """Return a table with other values, of maps at some of the points."""
    for (method, metric, stage, untrained), value in changes.items():
        name = f"untrained_{method}" if untrained else method
        here = (table["method"] == name) & (table["metric"] == metric) & (table["stage"] == stage)
        here &= table["point"].isin(points)
        if value is None:
            table = table.loc[~here]
        else:
            step, reach = around(metric)
            table.loc[here, "value"] = value + step * table.loc[here, "seed"]
            table.loc[here, "low"] = table.loc[here, "value"] - reach
            table.loc[here, "high"] = table.loc[here, "value"] + reach
    return table


def controls(students: tuple[str, ...] = STUDENTS) -> dict[str, list[str]]:
    """Return for which methods each untrained network is the control."""
    return {"untrained_teacher": ["teacher"], f"untrained_{students[0]}": [*students]}


def networks(
    changes: Changes | None = None,
    after: Changes | None = None,
    students: tuple[str, ...] = STUDENTS,
    teachers: tuple[int, ...] = SEEDS,
) -> list[pd.DataFrame]:
    """Return the rows of all networks of each seed, in the order of the seeds.

    The students' control is the first student's: changes of it are of all of them. `after` are
    changes of the maps after the activation alone; `teachers` are the seeds of the teacher's
    networks.
    """
    tables = []
    for seed in SEEDS:
        teacher = ("teacher",) if seed in teachers else ()
        untrained = (*teacher, *students[:1])
        rows = [network(method, seed) for method in (*teacher, *students)]
        rows += [network(method, seed, untrained=True) for method in untrained]
        table = changed(pd.concat(rows, ignore_index=True), changes or {}, POINTS)
        tables.append(changed(table, after or {}, POINTS[1:]))
    return tables


def comparison(verdict: str = "below", sentence: str = "AT+KD is below the baseline.") -> str:
    """Return comparison.csv with the pairs of KD and AT+KD with the baseline."""
    head = (
        "method,reference,contrast,difference,low,high,low_90,high_90,smallest_difference,verdict,"
        "sentence\n"
    )
    row = "baseline,difference,-0.8,-1,-0.6,-0.9,-0.7,0.5"
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
    for table in tables:
        file = folder / f"seed_{table['seed'].iloc[0]}.csv"
        table.to_csv(file, index=False)
        names = [str(name) for name in table["method"].unique()]
        students = [n for n in names if n != "teacher" and not n.startswith("untrained_")]
        known = controls((*students,))
        record = {
            "controls": {name: known[name] for name in names if name in known},
            "arguments": {"faithfulness_images": 50, "noise_images": 256},
        }
        file.with_suffix(".json").write_text(json.dumps(record))
        flags.append(str(file))
    (folder / "comparison.csv").write_text(pairs)
    (folder / "data.json").write_text(json.dumps(DESCRIPTION))
    return [
        *flags,
        *("--comparison", str(folder / "comparison.csv")),
        *("--data-description", str(folder / "data.json")),
    ]
