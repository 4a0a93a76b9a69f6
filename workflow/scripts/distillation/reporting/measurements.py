"""Measured attention, as measure_attention.py writes it: read, checked, put together over seeds."""

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from distillation.reporting.consistency import check_same
from distillation.reporting.intervals import Interval, Mean
from distillation.reporting.results import TEACHER, colours, label
from distillation.reporting.trained import check_has, read_json, read_table

# The stage whose maps the claims call late, a network's last, and the one that they are compared
# with, its first.
LATE, EARLY = -1, 1
BEFORE, AFTER = "before_activation", "after_activation"
POINTS = {BEFORE: "before the activation", AFTER: "after the activation"}
# The map of the attention-transfer paper: the mean of squares over channels of a stage's output.
# Zagoruyko and Komodakis 2017, arXiv 1612.03928, section 3.1.
COLLAPSE = "mean_square"
# 1 - ALPHA is the confidence of an interval; NORMAL times the standard error is half of one of the
# bootstrap's.
ALPHA, NORMAL = 0.05, 1.96

KEY = ["method", "seed", "stage", "collapse", "point", "metric"]
COLUMNS = ("model", "stages", *KEY, "value", "low", "high")


class Key(NamedTuple):
    """Which value: method, metric, stage from 1, or LATE; trained, or the untrained control."""

    method: str
    metric: str
    stage: int = LATE
    untrained: bool = False


class Method(NamedTuple):
    """What tables and figures show of a method: name, colour, and its network's stages."""

    label: str
    colour: str
    stages: int


class Sample(NamedTuple):
    """A value and its standard error over images, of the network of each seed; how many images."""

    seeds: dict[int, tuple[float, float]]
    images: int


Values = Mapping[Key, Sample]
Methods = Mapping[str, Method]


class Measurements(NamedTuple):
    """One file: its text, its rows `with_controls`, and its provenance."""

    text: str
    table: pd.DataFrame
    provenance: dict[str, Any]


def read_measurements(path: Path) -> Measurements:
    """Read what was measured on the networks of a seed, and the provenance (.json) beside it.

    Raises:
        FileNotFoundError: one of the two isn't there.
        ValueError: one is damaged, or they don't fit together; a row is there twice, or has a
            value that isn't allowed; a number may be missing.
    """
    table = read_table(path, dtype=dict.fromkeys(("seed", "stage", "stages"), int)
                       | dict.fromkeys(("value", "low", "high"), float))  # fmt: skip
    check_has(f"{path}:", table, COLUMNS)
    if table.empty:
        raise ValueError(f"{path}: has no rows")
    check_column(path, table["point"], table["point"].isin(list(POINTS)), ", ".join(POINTS))
    check_column(path, table["stage"], table["stage"].between(1, table["stages"]), "1 to stages")
    for name in ("value", "low", "high"):
        check_column(path, table[name], ~np.isinf(table[name]), "a finite number or nothing")
    if (twice := table.duplicated(KEY)).any():
        row = table.loc[twice, KEY].iloc[0]
        raise ValueError(f"{path}: has {', '.join(map(str, row))} twice")
    beside = path.with_suffix(".json")
    provenance = read_json(beside)
    check_has(f"{beside}:", provenance, ["controls", "arguments"])
    check_has(f"{beside}:", provenance["arguments"], ["faithfulness_images", "noise_images"])
    table = with_controls(table.loc[:, list(COLUMNS)], provenance["controls"])
    return Measurements(path.read_text().rstrip("\n") + "\n", table, provenance)


def with_controls(table: pd.DataFrame, controls: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Give the rows of each untrained control to the methods whose control it is.

    They are there once for each method, under its name and with `untrained` true.
    """
    pairs = [(control, method) for control, methods in controls.items() for method in methods]
    trained = table[~table["method"].isin(list(controls))].assign(untrained=False)
    untrained = table.rename(columns={"method": "control"}).merge(
        pd.DataFrame(pairs, columns=["control", "method"], dtype=str), on="control"
    )
    both = [trained, untrained.assign(untrained=True)]
    return pd.concat(both, join="inner", ignore_index=True)


def check_column(path: Path, column: Any, good: Any, allowed: str) -> None:
    """Refuse a column of a table that isn't good everywhere.

    Raises:
        ValueError: it isn't; the value is named with what is allowed.
    """
    if not good.all():
        found = column[~good].iloc[0]
        raise ValueError(f"{path}: {column.name} is {found}; allowed: {allowed}")


def check_measurements(tables: Sequence[pd.DataFrame], teachers: Collection[str]) -> None:
    """Refuse tables whose networks don't belong to one experiment.

    Raises:
        ValueError: a network is in two tables; seeds of a teacher, or students, are of different
            architectures; points of measurement or collapses differ.
    """
    rows = pd.concat([*tables], keys=range(len(tables)), names=["file"])
    by_network = rows.loc[~rows["untrained"]].groupby(["file", "method", "seed"], sort=False)
    found = by_network[["model", "stages", "collapse", "point"]].agg(
        lambda column: ", ".join(map(str, sorted(set(column))))
    )
    methods = [*found.index.get_level_values("method")]
    names = [f"{method}, seed {seed}" for _, method, seed in found.index]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{twice[0]}, is given twice")
    networks = found.set_axis(names)
    alike = [method if method in teachers else "students" for method in methods]
    for _, group in networks[["model", "stages"]].groupby(alike, sort=False):
        check_same("measurement", group.index, group.to_dict("index").__getitem__)
    check_same("measurement", names, networks[["collapse", "point"]].to_dict("index").__getitem__)


def methods_of(
    table: pd.DataFrame, labels: Mapping[str, str], teachers: Collection[str]
) -> dict[str, Method]:
    """Return the teacher, if there is one, and the students as they first appear, with labels.

    `teachers` aren't students; others than the teacher are left out.
    """
    stages = dict(table.loc[~table["untrained"], ["method", "stages"]].itertuples(index=False))
    palette = colours(stages)
    return {
        name: Method(label(name, labels), palette[name], stages[name])
        for name in sorted(stages, key=lambda name: name != TEACHER)
        if name == TEACHER or name not in teachers
    }


def every_stage(methods: Methods) -> range:
    """Return the stages, from 1, that some method has."""
    return range(1, max(method.stages for method in methods.values()) + 1)


def samples(
    table: pd.DataFrame, point: str, collapse: str, images: Mapping[str, int]
) -> dict[Key, Sample]:
    """Return what was measured of all methods at one point of measurement, for one collapse.

    Deletion and insertion are measured before the activation only, and their controls belong to no
    map: both are taken from where they are. What a seed of the method lacks is left out, and what
    has no interval, but for a constant input, of which there is one image and no error.
    That of a network's last stage is there under its number and, the same object, as LATE.
    `images` says on how many was measured what has a word in its name; the last word counts.
    """
    curve = table["metric"].str.startswith(("deletion", "insertion"))
    of_map = ~curve | table["metric"].str.fullmatch(
        "(deletion|insertion)(_background|_mean|_blur)?(_minus_random)?"
    )
    here = (table["point"] == point) | (curve & (table["point"] == BEFORE))
    chosen = table.loc[~of_map | (here & (table["collapse"] == collapse))]
    half = (chosen["high"] - chosen["low"]) / 2
    half = half.mask(half.isna() & chosen["metric"].str.endswith("_constant"), 0)
    chosen = chosen.assign(error=half / NORMAL).dropna(subset=["value", "error"])
    seeds = table.groupby("method")["seed"].nunique()
    columns = [*Key._fields, "stages", "seed", "value", "error"]
    found: dict[Key, Sample] = {}
    for *names, stages, seed, value, error in chosen[columns].itertuples(index=False, name=None):
        key = Key(*names)
        if key not in found:
            seen = [count for word, count in images.items() if word in key.metric][-1]
            found[key] = Sample({}, seen)
            if key.stage == stages:
                found[key._replace(stage=LATE)] = found[key]
        found[key].seeds[seed] = value, error
    return {key: each for key, each in found.items() if len(each.seeds) == seeds[key.method]}


def images_of(files: Sequence[Measurements], test: int) -> dict[str, int]:
    """Return on how many images was measured, see `samples`, of `test` test images."""
    asked = [file.provenance["arguments"] for file in files]
    few = min(test, *(each["faithfulness_images"] for each in asked))
    noise = min(each["noise_images"] for each in asked)
    return {"": test, "deletion": few, "insertion": few, "_noise": noise, "_constant": 1}


def difference(left: Sample, right: Sample | float = 0, shared: bool = False) -> Mean | None:
    """Return the mean difference over seeds, with its error over seeds and images.

    Networks of one seed are compared with each other. The variance of the mean over S seeds is
    var(differences) / S plus the variance over images, averaged over seeds and not divided by S, as
    all seeds share the images; degrees of freedom are those of `mean_over_seeds_and_images`. How
    the two sides correlate over images isn't known: their errors add up, which no correlation
    exceeds. The error of one network is over images alone. Of several that don't vary it is NaN.
    A number is exact; `shared`: `right` may be of one network, which all seeds are compared with.
    Where a seed has nothing to be compared with, there is no difference.
    """
    other = right if isinstance(right, Sample) else Sample(dict.fromkeys(left.seeds, (right, 0)), 0)
    if shared and len(other.seeds) == 1:
        other = other._replace(seeds=dict.fromkeys(left.seeds, *other.seeds.values()))
    if not left.seeds.keys() <= other.seeds.keys():
        return None
    pairs = [(*values, *other.seeds[seed]) for seed, values in left.seeds.items()]
    value, error, reference, its_error = np.array(pairs, dtype=float).T
    gaps, count = value - reference, len(pairs)
    seeds = float(gaps.var(ddof=1)) / count if count > 1 else 0.0
    images = float(np.square(error + its_error).mean())
    # No more is known than a bootstrap of so many images tells.
    most = min(n for n in (left.images, other.images) if n) - 1 if images else math.inf
    freedom = min((count - 1) * (seeds + images) / seeds if seeds else math.inf, most)
    known = count == 1 or seeds + images
    return Mean(float(gaps.mean()), math.sqrt(seeds + images) if known else math.nan, freedom)


def intervals(values: Values) -> dict[Key, Interval]:
    """Return the mean of each value over seeds with its 95 % interval."""
    found = {key: difference(sample) for key, sample in values.items()}
    return {key: mean.interval(1 - ALPHA) for key, mean in found.items() if mean}


def pick_collapse(table: pd.DataFrame) -> str:
    """Return the collapse whose maps are judged: the mean of squares, else the first one."""
    found = table["collapse"]
    return COLLAPSE if COLLAPSE in found.array else found.iloc[0]


def students_of(methods: Methods) -> list[str]:
    """Return the methods without the teacher."""
    return [method for method in methods if method != TEACHER]
