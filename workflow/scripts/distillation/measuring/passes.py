"""The passes over images in which the attention of a study's networks is measured.

Whatever is the same for all networks is computed once for each batch: images, edges, masks, the
teacher's maps. Letters: see measuring/attention.py.
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import NamedTuple, cast, get_args

import numpy as np
import torch

from distillation.measuring import attention
from distillation.measuring.bootstrap import Estimate, Statistic, mean_itself
from distillation.measuring.removal import measure_faithfulness
from distillation.measuring.study import Key, Name, Study, Sums, Values
from distillation.measuring.subjects import Subject

# By name of the metric, of some maps.
Metrics = dict[str, np.ndarray]

# How many positions a map has: tells which effective areas can be compared.
CELLS = "cells"
# Their names begin with it where they are of vectors, not of one number for each image.
DEPENDENCE = "image_dependence"
CONCENTRATION = {
    "entropy": attention.normalised_entropy,
    "gini": attention.gini,
    "peak_over_mean": attention.peak_over_mean,
}


def measure_all(study: Study) -> dict[Name, Estimate]:
    """Measure all networks of a study, and return the estimates of all that has one."""
    sums = Sums(study.settings.resamples, study.settings.bootstrap_seed)
    for measure in (measure_test_images, measure_artificial_images, measure_faithfulness):
        measure(study, sums)
    return sums.estimates(statistic_of)


def statistic_of(name: Name) -> Statistic:
    """Return what is computed from the mean of a value over images."""
    dependent = name.metric.startswith(DEPENDENCE)
    return attention.image_dependence if dependent else mean_itself


class Vectors(NamedTuple):
    """Maps as vectors of unit length: by values and by ranks, (N, H * W)."""

    units: np.ndarray
    ranks: np.ndarray


def vectors(maps: np.ndarray) -> Vectors:
    """Return maps (N, H, W) as vectors."""
    return Vectors(attention.unit_vectors(maps), attention.rank_vectors(maps))


class Scene(NamedTuple):
    """What some images show: of maps of a side, the ranks of edges and the controls of objects.

    `masks` (N + 1, S, S) tell where the objects are, also in the image after the last one, or are
    None; `areas` are they, averaged to a side.
    """

    edges: Callable[[int], np.ndarray]
    controls: Callable[[int], Metrics]
    masks: np.ndarray | None
    areas: Callable[[int], np.ndarray]


def see(images: np.ndarray, masks: np.ndarray | None) -> Scene:
    """Return what images (N, S, S, C) show."""
    sobel = attention.sobel_magnitude(images)

    @cache
    def edges(side: int) -> np.ndarray:
        return attention.rank_vectors(attention.area_average(sobel, side))

    @cache
    def areas(side: int) -> np.ndarray:
        return attention.area_average(cast(np.ndarray, masks), side)

    @cache
    def controls(side: int) -> Metrics:
        if masks is None:
            return {}
        own, prior = masks[:-1], attention.centre_prior(side)
        prior = np.repeat(prior, len(own), axis=0)
        return measure_objects(prior, {"_centre": (own, areas(side)[:-1])}) | {
            "pointing_game_chance": attention.pointing_game_chance(own, side),
            "object_iou_chance": attention.object_iou_chance(own),
        }

    return Scene(edges, controls, masks, areas)


def measure_test_images(study: Study, sums: Sums) -> None:
    """Measure the maps of all test images, in an order drawn at random.

    An image's other one, whose teacher's maps and mask are its control, is the next one in this
    order, the first for the last.
    """
    images, size = study.dataset.test.images, study.at_once
    order = study.generator("order").permutation(len(images))
    for start in range(0, len(order), size):
        batch = order[start : start + size]
        shown = np.append(batch, order[(start + len(batch)) % len(order)])
        inputs = study.normalise(images[shown])
        taught = study.maps(study.teacher, inputs, "teacher") if study.teacher else {}
        teacher = {key: vectors(maps) for key, maps in taught.items()}
        scene = see(images[batch].numpy(), find_objects(study, shown))
        for subject in study.subjects:
            if subject.model is study.teacher:
                found = {key: maps[:-1] for key, maps in taught.items()}
            else:
                found = study.maps(subject.model, inputs[:-1], subject.method)
            coarsest = min(maps.shape[1] for maps in found.values())
            values: Values = {}
            for key, maps in found.items():
                own = vectors(maps)
                metrics = measure_maps(maps, own, coarsest, scene)
                if partner := subject.partners.get(key.stage):
                    metrics |= compare_with_teacher(own, teacher[key._replace(stage=partner)])
                values |= named(subject, key, metrics)
            sums.add(values)


def named(subject: Subject, key: Key, metrics: Metrics) -> Values:
    """Return metrics under the names of their network and maps."""
    return {Name(subject.method, key, metric): each for metric, each in metrics.items()}


def find_objects(study: Study, shown: np.ndarray) -> np.ndarray | None:
    """Return where the objects of some test images are, bool (N, S, S), or None if unknown."""
    if study.settings.object_mask == "above_zero":
        return study.dataset.test.images[shown].amax(dim=3).numpy() > 0
    return None if study.masks is None else study.masks[shown]


def measure_maps(maps: np.ndarray, own: Vectors, coarsest: int, scene: Scene) -> Metrics:
    """Return what maps are by themselves and beside their images, by name of the metric.

    What depends on the number of positions is measured again of maps that are pooled to the size
    of the network's coarsest ones, so that its stages can be compared. Of one position there is
    nothing to measure.

    Args:
        maps: (N, H, W).
        own: the same as vectors.
        coarsest: side of the network's smallest maps.
        scene: what the images show.
    """
    metrics = {name: metric(maps) for name, metric in CONCENTRATION.items()}
    metrics |= {CELLS: np.full(len(maps), float(maps[0].size))} | measure_borders(maps)
    pooled = attention.area_average(maps, coarsest)
    # The coarsest maps are their own.
    same = maps.shape[1] == coarsest
    again = own if same else vectors(pooled)
    for suffix, grid, (units, ranks) in (("", maps, own), ("_pooled", pooled, again)):
        if grid[0].size == 1:
            continue
        metrics[f"effective_area{suffix}"] = attention.effective_area(grid)
        metrics[f"{DEPENDENCE}{suffix}"] = units
        metrics[f"sobel_spearman{suffix}"] = attention.inner(ranks, scene.edges(grid.shape[1]))
    if scene.masks is None:
        return metrics
    areas = scene.areas(maps.shape[1])
    objects = {"": (scene.masks[:-1], areas[:-1]), "_other": (scene.masks[1:], areas[1:])}
    return metrics | measure_objects(maps, objects) | scene.controls(maps.shape[1])


def measure_borders(maps: np.ndarray, suffix: str = "") -> Metrics:
    """Return border energy of the ring and its sides by name of the metric, (N,) each."""
    names = {"ring": "border"}
    return {
        names.get(part, f"border_{part}") + suffix: attention.border_energy(maps, part)
        for part in get_args(attention.BorderPart)
    }


def measure_objects(
    maps: np.ndarray, masks: Mapping[str, tuple[np.ndarray, np.ndarray]]
) -> Metrics:
    """Return how maps (N, H, W) and masks (N, S, S) agree, (N,) by name of the metric.

    Masks are by what they add to the name, each with itself averaged to the maps' size.
    """
    metrics: Metrics = {}
    (size,) = {each.shape[1] for each, _ in masks.values()}
    enlarged = attention.enlarge(maps, size)
    for suffix, (each, area) in masks.items():
        metrics[f"object_energy{suffix}"] = attention.object_energy(maps, area)
        metrics[f"pointing_game{suffix}"] = attention.pointing_game(maps, area)
        metrics[f"object_iou{suffix}"] = attention.object_iou(enlarged, each)
    return metrics


def compare_with_teacher(student: Vectors, teacher: Vectors) -> Metrics:
    """Return similarities with the teacher's maps, (N,) by name of the metric.

    Args:
        student: of N images.
        teacher: of the same N images and one more: shuffled pairs an image with the next one.
    """
    pairs = {"": slice(0, -1), "_shuffled": slice(1, None)}
    return {
        f"teacher_{name}{suffix}": attention.inner(own, others[images])
        for name, own, others in zip(("cosine", "spearman"), student, teacher, strict=True)
        for suffix, images in pairs.items()
    }


def measure_artificial_images(study: Study, sums: Sums) -> None:
    """Measure the borders of maps of images that show nothing: the mean, and noise.

    The noise is of pixels drawn uniformly from 0 to 255.
    """
    size, channels = study.dataset.image_size, study.dataset.channels
    shape = (study.settings.noise_images, size, size, channels)
    noise = study.generator("noise_images").integers(256, size=shape, dtype=np.uint8)
    batches = torch.from_numpy(noise).split(study.at_once)
    # After normalisation, the mean is 0.
    constant = torch.zeros(1, channels, size, size, device=study.device)
    for inputs, suffix in [(constant, "_constant"), *((each, "_noise") for each in batches)]:
        shown = inputs if suffix == "_constant" else study.normalise(inputs)
        for subject in study.subjects:
            maps = study.maps(subject.model, shown, subject.method)
            values: Values = {}
            for key, each in maps.items():
                values |= named(subject, key, measure_borders(each, suffix))
            sums.add(values)
