"""Measured attention, as attention_metrics.csv has it: read, checked, and put together over seeds.

The value of a method is the mean over its seeds; its interval reaches from the lowest `low` to the
highest `high` of its seeds. That envelope of the seeds' 95 % intervals is cautious: it is wider
than the interval of their mean.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

TEACHER, BASELINE = "teacher", "baseline"
GROUPS = (1, 2, 3)
# The group whose maps the claims call late, and the one that they are compared with.
LATE, EARLY = 3, 1
BEFORE, AFTER = "before_norm", "after_norm"
POINTS = {BEFORE: "before batch norm and ReLU", AFTER: "after batch norm and ReLU"}
# The map of the attention-transfer paper: the mean of squares over channels of a group's output.
# Zagoruyko and Komodakis 2017, arXiv 1612.03928, section 3.1.
COLLAPSE = "mean_square"
SIDES = ("top", "bottom", "left", "right")

# What measure_attention.py writes.
NETWORK = ("model", "method", "seed")
NUMBERS = ("value", "low", "high", "untrained", "untrained_low", "untrained_high")
COLUMNS = (*NETWORK, "group", "collapse", "point", "metric", *NUMBERS)


class Key(NamedTuple):
    """Which value: of what method, metric and group; of its trained or its untrained network."""

    method: str
    metric: str
    group: int = LATE
    untrained: bool = False


@dataclass(frozen=True)
class Interval:
    """A value and its interval."""

    value: float
    low: float
    high: float


Values = Mapping[Key, Interval]


def read_text(path: Path, columns: Sequence[str], writer: str) -> pd.DataFrame:
    """Read a CSV as text, so that it can be written again as it was.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or hasn't the columns that `writer` writes.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with path.open(newline="") as file:
            head, *rows = [*csv.reader(file, strict=True)] or [[]]
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: damaged: {error}") from error
    for verb, names in (
        ("lacks", [name for name in columns if name not in head]),
        ("has unknown", [name for name in head if name not in columns]),
        ("has twice", sorted({name for name in head if head.count(name) > 1})),
    ):
        if names:
            raise ValueError(f"{path}: {verb} {', '.join(names)}; {writer} writes the columns")
    for number, row in enumerate(rows, 1):
        if len(row) != len(head):
            raise ValueError(
                f"{path}: damaged: row {number} has {len(row)} values; expected {len(head)}"
            )
    return pd.DataFrame(rows, columns=head, dtype=str)


def read_network(path: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read the rows of one network, as text and with numbers.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, holds no or several networks, has a row twice, or a value that
            isn't allowed; a number may be missing.
    """
    text = read_text(path, COLUMNS, "measure_attention.py")
    networks = len(text[list(NETWORK)].drop_duplicates())
    if networks != 1:
        raise ValueError(f"{path}: holds {networks} networks; expected one")
    for name, allowed in (("point", set(POINTS)), ("group", set(map(str, GROUPS)))):
        if wrong := set(text[name]) - allowed:
            raise ValueError(
                f"{path}: {name} is {min(wrong)!r}; allowed: {', '.join(sorted(allowed))}"
            )
    if not text["seed"].str.isdecimal().all():
        raise ValueError(f"{path}: seed is {text['seed'].iloc[0]!r}; allowed: a whole number")
    parsed = text.astype({"seed": int, "group": int})
    for name in NUMBERS:
        parsed[name] = pd.to_numeric(text[name].replace("", "nan"), errors="coerce")
        unread = ~np.isfinite(parsed[name]) & ~text[name].str.lower().isin(["", "nan"])
        if unread.any():
            found = text.loc[unread, name].iloc[0]
            raise ValueError(f"{path}: {name} is {found!r}; allowed: a finite number or nothing")
    key = ["group", "collapse", "point", "metric"]
    if (twice := parsed.duplicated(key)).any():
        row = text[twice].iloc[0]
        raise ValueError(f"{path}: has {', '.join(row[key])} twice")
    return text, parsed


def check_one_experiment(networks: list[pd.DataFrame]) -> None:
    """Refuse networks that don't belong to one experiment.

    Raises:
        ValueError: the first isn't a teacher; one is given twice; teachers, or students, are of
            different architectures; points of measurement or collapses differ.
    """
    first = networks[0].iloc[0]
    if first["method"] != TEACHER:
        raise ValueError(
            f"--metrics: the first is of {first['method']}, seed {first['seed']}; expected: of a "
            f"{TEACHER}"
        )
    names = [(str(table["method"].iloc[0]), int(table["seed"].iloc[0])) for table in networks]
    for method, seed in names:
        if names.count((method, seed)) > 1:
            raise ValueError(f"{method}, seed {seed}, is given twice")
    teachers = [table for table in networks if table["method"].iloc[0] == TEACHER]
    students = [table for table in networks if table["method"].iloc[0] != TEACHER]
    for tables, columns in (
        (teachers, ["model"]), (students, ["model"]), (networks, ["collapse", "point"]),
    ):  # fmt: skip
        for (one, other), column in product(pairwise(tables), columns):
            check_same(one, other, column)


def check_same(one: pd.DataFrame, other: pd.DataFrame, column: str) -> None:
    """Refuse two networks whose rows have different values in a column.

    Raises:
        ValueError: they have; both are named.
    """
    found = [", ".join(sorted(set(table[column]))) for table in (one, other)]
    if found[0] != found[1]:
        names = [f"{t['method'].iloc[0]}, seed {t['seed'].iloc[0]}" for t in (one, other)]
        raise ValueError(
            f"the networks aren't of one experiment: {column} of {names[0]}, is {found[0]}, of "
            f"{names[1]}, {found[1]}"
        )


def envelopes(table: pd.DataFrame, point: str, collapse: str) -> dict[Key, Interval]:
    """Return the values of all methods at one point of measurement, for one collapse.

    Deletion and insertion are measured before the norm only, and their controls belong to no map:
    both are taken from where they are. A value that a seed of the method lacks is left out. One
    that has no interval is of a single image, the constant one: exact, its own interval.

    Args:
        table: rows of attention_metrics.csv, numbers as numbers.
        point: before_norm or after_norm.
        collapse: how channels were collapsed into a map.
    """
    early_only = table["metric"].str.fullmatch("(deletion|insertion)(_minus_random)?")
    control = table["metric"].str.startswith(("deletion_", "insertion_")) & ~early_only
    here = (table["point"] == point) | (early_only & (table["point"] == BEFORE))
    chosen = table.loc[control | (here & (table["collapse"] == collapse))]
    chosen = chosen.drop_duplicates(["method", "seed", "group", "metric"])
    seeds = table.groupby("method")["seed"].nunique()
    found = {}
    for untrained, columns in ((False, NUMBERS[:3]), (True, NUMBERS[3:])):
        value, low, high = (chosen[name] for name in columns)
        numbers = chosen[["method", "metric", "group"]].assign(
            value=value, low=low.fillna(value), high=high.fillna(value)
        )
        over_seeds = numbers.groupby(["method", "metric", "group"], sort=False).agg(
            count=("value", "count"), value=("value", "mean"), low=("low", "min"),
            high=("high", "max"),
        )  # fmt: skip
        for (method, metric, group), count, *interval in over_seeds.itertuples():
            if count == seeds[method]:
                found[Key(method, metric, group, untrained)] = Interval(*map(float, interval))
    return found


def pick_collapse(table: pd.DataFrame) -> str:
    """Return the collapse whose maps are judged: the mean of squares, else the first one."""
    found = list(table["collapse"].unique())
    return COLLAPSE if COLLAPSE in found else found[0]


def students_of(methods: Sequence[str]) -> list[str]:
    """Return the methods without the teacher."""
    return [method for method in methods if method != TEACHER]
