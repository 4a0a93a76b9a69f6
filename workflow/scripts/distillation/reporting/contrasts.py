"""Contrasts of methods: differences, and interactions of two methods with their union.

Letters: S seeds, N images. Values are in the unit of the metric, of percent in points.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, cast

import numpy as np

from distillation.record.provenance import fingerprint
from distillation.reporting.intervals import ROUNDING
from distillation.reporting.metric import value_of
from distillation.reporting.results import BASELINE, Results
from distillation.reporting.trained import Run
from distillation.settings import plugins
from distillation.settings.base import TermSettings


@dataclass(frozen=True)
class Contrast:
    """A sum of models with signs: of each seed its value (S,), of each image, if known, (S, N).

    A difference is method - reference. An interaction is both - first - second + neither; its
    reference is called "first + second". `teachers` are how many taught, 0 where none did; `units`
    are the places of seeds of one teacher where there are several, else of one seed.
    """

    method: str
    reference: str
    contrast: str
    seeds: list[int]
    by_seed: np.ndarray
    by_image: np.ndarray | None
    teachers: int
    units: list[list[int]]


def make_contrasts(
    pairs: list[list[str]], results: Results, metric: str, images: Mapping[str, np.ndarray]
) -> list[Contrast]:
    """Return the contrasts that are asked for, see `questions`.

    Raises:
        ValueError: see `questions` and `contrast`.
    """
    return [contrast(*each, results, metric, images) for each in questions(pairs, results)]


def questions(pairs: list[list[str]], results: Results) -> list[tuple[str, str, dict[str, int]]]:
    """Return the differences of pairs, and all that tells two methods' effects apart.

    Where there are neither, first, second and both, these are both against each of the two, the
    second against the first, and the interaction. Each is method, reference and signs of models.

    Raises:
        ValueError: a model is compared with itself, or a pair is given twice.
    """
    for pair in pairs:
        if pair[0] == pair[1] or pairs.count(pair) > 1:
            what = "one model" if pair[0] == pair[1] else "it twice"
            raise ValueError(f"--pair {' '.join(pair)}: found {what}; allowed: two models, once")
    differences, interactions = [(method, reference) for method, reference in pairs], []
    for neither, first, second, both in designs(results):
        for pair in ((both, first), (both, second), (second, first)):
            if {*pair} not in [{*each} for each in differences]:
                differences.append(pair)
        signs = {both: 1, first: -1, second: -1, neither: 1}
        interactions.append((both, f"{first} + {second}", signs))
    return [(*pair, {pair[0]: 1, pair[1]: -1}) for pair in differences] + interactions


def designs(results: Results) -> list[tuple[str, str, str, str]]:
    """Return the 2 x 2 designs among the students: neither, first, second and both.

    A method is both where its terms that need the teacher are those of the two others, with their
    settings, and its teachers are theirs. What the others change of the remaining terms, as the
    weight of the labels, it changes too: no two of them that are different from neither. One with a
    training of its own is in none. Neither is the baseline, if that can be.
    """
    settings = {
        model: group[0].terms
        for model, group in results.students.items()
        if model not in results.own_training
    }
    taught, beside = (
        {
            model: {name: own for name, own in terms.items() if needs_teacher(name) is needed}
            for model, terms in settings.items()
        }
        for needed in (True, False)
    )
    teachers = {model: teachers_of(results.groups[model]) for model in taught}
    none = sorted(
        (model for model, terms in taught.items() if not terms), key=lambda model: model != BASELINE
    )

    def fits(neither: str, first: str, second: str, both: str) -> bool:
        """Return whether one of the two has the other terms of neither, and both the other's."""
        at_rest, one, other, together = (beside[each] for each in (neither, first, second, both))
        return (at_rest, together) in ((one, other), (other, one))

    found = [
        (first, second, both)
        for (first, one), (second, other) in combinations(taught.items(), 2)
        if one and other and not one.keys() & other.keys()
        for both, terms in taught.items()
        if terms == one | other and teachers[first] == teachers[second] == teachers[both]
    ]
    whole = ([(neither, *each) for neither in none if fits(neither, *each)] for each in found)
    return [candidates[0] for candidates in whole if candidates]


def needs_teacher(term: str) -> bool:
    """Return whether a term reads anything of the teacher."""
    return cast(type[TermSettings], plugins.declared("terms", term)).needs != "nothing"


def teachers_of(group: list[Run]) -> list[str]:
    """Return what tells the teachers of runs apart, in the order of their seeds; "" is none."""
    taught = [run.training.get("teacher") for run in sorted(group, key=lambda run: run.seed)]
    return [fingerprint(teacher) if teacher else "" for teacher in taught]


def contrast(
    method: str, reference: str, signs: Mapping[str, int], results: Results, metric: str,
    images: Mapping[str, np.ndarray],
) -> Contrast:  # fmt: skip
    """Return a contrast of models, with the seeds in order.

    Raises:
        ValueError: a model isn't among the runs or lacks the metric, or its seeds aren't the same.
    """
    where = f"--pair {method} {reference}"
    arms: dict[str, list[Run]] = {}
    for name in signs:
        if name not in results.groups:
            raise ValueError(f"{where}: no run of {name}; allowed: {', '.join(results.groups)}")
        arms[name] = sorted(results.groups[name], key=lambda run: run.seed)
        seeds, others = ([run.seed for run in arms[each]] for each in (method, name))
        if seeds != others:
            raise ValueError(
                f"{where}: {method} has seeds {', '.join(map(str, seeds))}, {name} has "
                f"{', '.join(map(str, others))}; allowed: the same, as seeds are compared in pairs"
            )
    runs = [run for arm in arms.values() for run in arm]
    values = {str(run): value_of(run, metric) for run in runs}
    if lacking := [name for name, value in values.items() if value is None]:
        raise ValueError(f"{where}: metrics.json of {lacking[0]}, lacks {metric}")

    def summed(values: Mapping[str, Any]) -> np.ndarray:
        signed = [s * np.stack([values[str(run)] for run in arms[m]]) for m, s in signs.items()]
        found = np.sum(signed, axis=0)
        # What is 0 but for rounding says nothing of how seeds spread.
        return np.where(np.abs(found) <= ROUNDING * np.abs(signed).max(axis=0), 0, found)

    taught = [teachers_of(arm) for arm in arms.values()]
    teachers = min((len({*each}) for each in taught if any(each)), default=0)
    places = [*range(len(runs) // len(arms))]
    together = [*zip(*taught, strict=True)] if teachers > 1 else places
    return Contrast(
        method, reference, "difference" if len(signs) == 2 else "interaction",
        [run.seed for run in arms[method]], summed(values),
        summed(images) if values.keys() <= images.keys() else None, teachers,
        [[at for at in places if together[at] == each] for each in dict.fromkeys(together)],
    )  # fmt: skip
