"""Measured attention, as measure_attention.py writes it: read, checked, put together over seeds.

The value of a method is the mean over its seeds; its interval reaches from the lowest `low` to the
highest `high` of its seeds. That envelope of the seeds' 95 % intervals is cautious: it is wider
than the interval of their mean.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from distillation.reporting.consistency import check_same
from distillation.reporting.intervals import Interval
from distillation.reporting.results import TEACHER, colours, label
from distillation.reporting.trained import check_has, read_json, read_table

BASELINE = "baseline"
# The stage whose maps the claims call late, a network's last, and the one that they are compared
# with, its first.
LATE, EARLY = -1, 1
BEFORE, AFTER = "before_activation", "after_activation"
POINTS = {BEFORE: "before the activation", AFTER: "after the activation"}
# The map of the attention-transfer paper: the mean of squares over channels of a stage's output.
# Zagoruyko and Komodakis 2017, arXiv 1612.03928, section 3.1.
COLLAPSE = "mean_square"

NUMBERS = ("value", "low", "high")
MAP = ("stage", "collapse", "point", "metric")
COLUMNS = ("model", "method", "seed", "stage", "stages", *MAP[1:], *NUMBERS)


class Key(NamedTuple):
    """Which value: of what method, metric and stage; of its trained or its untrained network.

    Stages are counted from 1; LATE is the network's last.
    """

    method: str
    metric: str
    stage: int = LATE
    untrained: bool = False


class Method(NamedTuple):
    """What tables and figures show of a method: name, colour, and its network's stages."""

    label: str
    colour: str
    stages: int


Values = Mapping[Key, Interval]
Methods = Mapping[str, Method]


class Measurements(NamedTuple):
    """One file: its lines, its rows `with_controls`, and its provenance."""

    lines: list[str]
    table: pd.DataFrame
    provenance: dict[str, Any]


def read_measurements(path: Path) -> Measurements:
    """Read what was measured on the networks of a seed, and the provenance (.json) beside it.

    Raises:
        FileNotFoundError: one of the two isn't there.
        ValueError: one is damaged, or they don't fit together; a row is there twice, or has a
            value that isn't allowed; a number may be missing.
    """
    table = read_table(path)
    check_has(f"{path}:", table, COLUMNS)
    lines = path.read_text().splitlines()
    for number, line in enumerate(lines):
        if line.count(",") != lines[0].count(","):
            raise ValueError(f"{path}: row {number} hasn't as many values as there are columns")
    table = table.loc[:, list(COLUMNS)]
    if table.empty:
        raise ValueError(f"{path}: has no rows")
    check_column(path, table["point"], table["point"].isin(list(POINTS)), ", ".join(POINTS))
    for name in ("seed", "stage", "stages"):
        whole = table[name].astype(str).str.isdecimal()
        check_column(path, table[name], whole, "a whole number")
    check_column(path, table["stage"], table["stage"].between(1, table["stages"]), "1 to stages")
    for name in NUMBERS:
        numbers: Any = pd.to_numeric(table[name], errors="coerce")
        good = np.isfinite(numbers) | table[name].isna()
        check_column(path, table[name], good, "a finite number or nothing")
        table[name] = numbers
    key = ["method", "seed", *MAP]
    if (twice := table.duplicated(key)).any():
        row = next(table.loc[twice, key].itertuples(index=False))
        raise ValueError(f"{path}: has {', '.join(map(str, row))} twice")
    provenance = read_json(path.with_suffix(".json"))
    check_has(f"{path.with_suffix('.json')}:", provenance, ["controls"])
    return Measurements(lines, with_controls(table, provenance["controls"]), provenance)


def joined(files: Sequence[Measurements]) -> str:
    """Return all rows, as they were written, below one head.

    Raises:
        ValueError: the files have different columns.
    """
    heads = [file.lines[0] for file in files]
    if other := [head for head in heads if head != heads[0]]:
        raise ValueError(f"--metrics: found the columns {heads[0]} and {other[0]}; allowed: alike")
    return "\n".join([heads[0], *(line for file in files for line in file.lines[1:]), ""])


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
        ValueError: the teacher isn't there; a network is in two tables; seeds of a teacher, or
            students, are of different architectures; points of measurement or collapses differ.
    """
    networks: dict[str, dict[str, str]] = {}
    alike: dict[str, list[str]] = {}
    for table in tables:
        trained = table.loc[~table["untrained"]]
        for method, seed in dict.fromkeys(zip(trained["method"], trained["seed"], strict=True)):
            rows = trained[(trained["method"] == method) & (trained["seed"] == seed)]
            name = f"{method}, seed {seed}"
            if name in networks:
                raise ValueError(f"{name}, is given twice")
            alike.setdefault(method if method in teachers else "students", []).append(name)
            networks[name] = {
                column: ", ".join(map(str, sorted(set(rows[column]))))
                for column in ("model", "stages", "collapse", "point")
            }
    if TEACHER not in alike:
        raise ValueError(f"--metrics: found {'; '.join(networks) or 'none'}; expected a {TEACHER}")
    checks = [(names, ("model", "stages")) for names in alike.values()]
    for names, columns in [*checks, ([*networks], ("collapse", "point"))]:
        values = [{column: networks[name][column] for column in columns} for name in names]
        check_same("measurement", names, values)


def methods_of(
    table: pd.DataFrame, labels: Mapping[str, str], teachers: Collection[str]
) -> dict[str, Method]:
    """Return the teacher and the students, in the order in which they appear.

    Args:
        table: rows of `read_measurements`.
        labels: names as people read them, of models that have one of their own.
        teachers: models that aren't students; others than the teacher are left out.
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


def envelopes(table: pd.DataFrame, point: str, collapse: str) -> dict[Key, Interval]:
    """Return the values of all methods at one point of measurement, for one collapse.

    Deletion and insertion are measured before the activation only, and their controls belong to no
    map: both are taken from where they are. A value that a seed of the method lacks is left out.
    One that has no interval is of a single image, the constant one: exact, its own interval.
    Those of a network's last stage are there under its number and, the same object, as LATE.

    Args:
        table: rows of `read_measurements`.
        point: before_activation or after_activation.
        collapse: how channels were collapsed into a map.
    """
    early_only = table["metric"].str.fullmatch("(deletion|insertion)(_minus_random)?")
    control = table["metric"].str.startswith(("deletion_", "insertion_")) & ~early_only
    here = (table["point"] == point) | (early_only & (table["point"] == BEFORE))
    chosen = table.loc[control | (here & (table["collapse"] == collapse))]
    key = ["method", "metric", "stage", "untrained"]
    chosen = chosen.drop_duplicates([*key, "seed"])
    chosen = chosen.assign(
        low=chosen["low"].fillna(chosen["value"]), high=chosen["high"].fillna(chosen["value"])
    )
    over_seeds = chosen.groupby(key, sort=False).agg(
        stages=("stages", "first"), count=("value", "count"), value=("value", "mean"),
        low=("low", "min"), high=("high", "max"),
    )  # fmt: skip
    seeds = table.groupby("method")["seed"].nunique()
    found = {}
    for (method, metric, stage, untrained), stages, count, *interval in over_seeds.itertuples():
        if count == seeds[method]:
            found[Key(method, metric, stage, untrained)] = Interval(*map(float, interval))
            if stage == stages:
                last = Key(method, metric, LATE, untrained)
                found[last] = found[last._replace(stage=stage)]
    return found


def pick_collapse(table: pd.DataFrame) -> str:
    """Return the collapse whose maps are judged: the mean of squares, else the first one."""
    found = list(table["collapse"].unique())
    return COLLAPSE if COLLAPSE in found else found[0]


def students_of(methods: Methods) -> list[str]:
    """Return the methods without the teacher."""
    return [method for method in methods if method != TEACHER]
