"""The passes over images in which the attention of a study's networks is measured.

Whatever is the same for all networks is computed once for each batch: images, edges, masks, weights
of the bootstrap, the teacher's maps. Letters: see measuring/attention.py.
"""

from typing import NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

from distillation.measuring import attention
from distillation.measuring.bootstrap import PoissonBootstrap
from distillation.measuring.faithfulness import (
    cells_along,
    centre_scores,
    deletion_insertion,
    grad_cam,
    order_cells,
)
from distillation.measuring.study import BEFORE, Key, Name, Study
from distillation.measuring.subjects import Subject

CONCENTRATION = {
    "entropy": attention.normalised_entropy,
    "effective_area": attention.effective_area,
    "gini": attention.gini,
    "peak_over_mean": attention.peak_over_mean,
}
CURVES = ("deletion", "insertion")

Values = dict[str, np.ndarray]
# An order of cells: the maps in whose rows it stands, and what it adds to the metric's name.
Order = tuple[Key, str]


class Vectors(NamedTuple):
    """Maps as vectors of unit length: by values and by ranks, (N, H * W)."""

    units: np.ndarray
    ranks: np.ndarray


def vectors(maps: np.ndarray) -> Vectors:
    """Return maps (N, H, W) as vectors."""
    return Vectors(attention.unit_vectors(maps), attention.rank_vectors(maps))


def measure_test_images(study: Study) -> PoissonBootstrap[Name]:
    """Measure the maps of all test images, in an order drawn at random.

    An image's shuffled partner is the next one in this order, the first for the last.
    """
    sums = study.bootstrap("images")
    images, settings = study.dataset.test.images, study.settings
    order = study.generator("order").permutation(len(images))
    for start in range(0, len(order), settings.batch_size):
        batch = order[start : start + settings.batch_size]
        following = order[(start + len(batch)) % len(order)]
        inputs = study.normalise(images[np.append(batch, following)])
        taught = study.maps(study.teacher, inputs, "teacher") if study.teacher else {}
        teacher = {key: vectors(maps) for key, maps in taught.items()}
        masks = find_objects(study, batch)
        sobel = attention.sobel_magnitude(images[batch].numpy())
        edges: dict[int, np.ndarray] = {}
        weights = sums.draw(len(batch))
        for subject in study.subjects:
            if subject.model is study.teacher:
                found = {key: maps[:-1] for key, maps in taught.items()}
            else:
                found = study.maps(subject.model, inputs[:-1], subject.method)
            values: dict[Name, np.ndarray] = {}
            for key, maps in found.items():
                side, own = maps.shape[1], vectors(maps)
                if side not in edges:
                    edges[side] = attention.rank_vectors(attention.area_average(sobel, side))
                metrics = measure_maps(maps, own, edges[side], masks)
                if partner := subject.partners.get(key.stage):
                    metrics |= compare_with_teacher(own, teacher[key._replace(stage=partner)])
                values |= named(subject, key, metrics)
            sums.add(values, weights)
    return sums


def named(subject: Subject, key: Key, metrics: Values) -> dict[Name, np.ndarray]:
    """Return metrics under the names of their network and maps."""
    return {Name(subject.method, key, metric): each for metric, each in metrics.items()}


def find_objects(study: Study, batch: np.ndarray) -> np.ndarray | None:
    """Return where the objects of some test images are, bool (N, S, S), or None if unknown."""
    if study.settings.object_mask == "above_zero":
        return study.dataset.test.images[batch].amax(dim=3).numpy() > 0
    return None if study.masks is None else study.masks[batch]


def measure_maps(
    maps: np.ndarray, own: Vectors, edges: np.ndarray, masks: np.ndarray | None
) -> Values:
    """Return what maps are by themselves and beside their images, by name of the metric.

    Args:
        maps: (N, H, W).
        own: the same as vectors.
        edges: ranks of the images' Sobel magnitude, (N, H * W).
        masks: where the objects are, (N, S, S), if that is known.
    """
    metrics = {name: metric(maps) for name, metric in CONCENTRATION.items()}
    metrics |= {"image_dependence": own.units, **measure_borders(maps)}
    metrics["sobel_spearman"] = attention.inner(own.ranks, edges)
    return metrics if masks is None else metrics | measure_objects(maps, masks)


def measure_borders(maps: np.ndarray, suffix: str = "") -> Values:
    """Return border energy of the ring and its sides by name of the metric, (N,) each."""
    names = {"ring": "border"}
    return {
        names.get(part, f"border_{part}") + suffix: attention.border_energy(maps, part)
        for part in get_args(attention.BorderPart)
    }


def measure_objects(maps: np.ndarray, masks: np.ndarray) -> Values:
    """Return how maps (N, H, W) and masks (N, S, S) agree, (N,) by name of the metric."""
    enlarged = attention.enlarge(maps, masks.shape[1])
    return {
        "object_energy": attention.object_energy(maps, masks),
        "pointing_game": attention.pointing_game(maps, masks),
        "pointing_game_chance": attention.pointing_game_chance(masks, maps.shape[1]),
        "object_iou": attention.object_iou(enlarged, masks),
        "object_iou_chance": attention.object_iou_chance(masks),
    }


def compare_with_teacher(student: Vectors, teacher: Vectors) -> Values:
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


def measure_artificial_images(study: Study) -> PoissonBootstrap[Name]:
    """Measure the borders of maps of images that show nothing: the mean, and noise.

    The noise is of pixels drawn uniformly from 0 to 255.
    """
    sums = study.bootstrap("noise")
    shape = study.dataset.test.images.shape[1:]
    generator = study.generator("noise_images")

    def add(inputs: Tensor, suffix: str) -> None:
        weights = sums.draw(len(inputs))
        for subject in study.subjects:
            values: dict[Name, np.ndarray] = {}
            for key, maps in study.maps(subject.model, inputs, subject.method).items():
                values |= named(subject, key, measure_borders(maps, suffix))
            sums.add(values, weights)

    # After normalisation, the mean is 0.
    height, width, channels = shape
    add(torch.zeros(1, channels, height, width, device=study.device), "_constant")
    left = study.settings.noise_images
    while left:
        count = min(left, study.settings.batch_size)
        # One by one, so that the images don't depend on the size of the batches.
        drawn = [generator.integers(256, size=shape, dtype=np.uint8) for _ in range(count)]
        add(study.normalise(torch.from_numpy(np.stack(drawn))), "_noise")
        left -= count
    return sums


def measure_faithfulness(study: Study) -> PoissonBootstrap[Name]:
    """Measure deletion and insertion by maps, and by the controls, on a part of the test images.

    Beside a map's two areas stand their differences from those of the random order.

    Controls are ordered at random, by closeness to the centre, by Sobel magnitude and by Grad-CAM;
    they stand in the rows of the last stage's first map. Equal scores are ordered at random.
    """
    settings = study.settings
    sums = study.bootstrap("faithfulness_images")
    split = study.dataset.test
    chosen = choose_spread(split.labels.numpy(), settings.faithfulness_images)
    generator = study.generator("cells")
    side = cells_along(study.dataset.image_size)
    # Then deletion and insertion of these images fill a batch.
    size = max(1, settings.batch_size // (2 * (settings.steps - 1)))
    for start in range(0, len(chosen), size):
        images = split.images[chosen[start : start + size]]
        inputs = study.normalise(images)
        weights = sums.draw(len(images))
        at_random = generator.random((len(images), side**2))
        seen = {
            "_random": at_random,
            "_centre": np.tile(centre_scores(side), (len(images), 1)),
            "_sobel": attention.area_average(attention.sobel_magnitude(images.numpy()), side),
        }
        for subject in study.subjects:
            scores = score_cells(study, subject, inputs, seen)
            places = {
                name: order_cells(score.reshape(len(images), -1), at_random)
                for name, score in scores.items()
            }
            areas = deletion_insertion(subject.model, inputs, places, settings.steps)
            sums.add(name_areas(subject, areas), weights)
    return sums


def score_cells(
    study: Study, subject: Subject, inputs: Tensor, seen: Values
) -> dict[Order, np.ndarray]:
    """Return what orders the cells of normalised images: each stage's maps, and the controls.

    Those controls that don't depend on the network are `seen`.
    """
    side = cells_along(inputs.shape[2])
    control = Key(subject.stages, study.settings.collapses[0], BEFORE)
    by_gradient = attention.area_average(grad_cam(subject.model, inputs), side)
    maps = study.maps(subject.model, inputs, subject.method).items()
    return (
        {(key, ""): attention.area_average(each, side) for key, each in maps if key.point == BEFORE}
        | {(control, suffix): score for suffix, score in seen.items()}
        | {(control, "_grad_cam"): by_gradient}
    )


def name_areas(
    subject: Subject, areas: dict[Order, tuple[np.ndarray, np.ndarray]]
) -> dict[Name, np.ndarray]:
    """Return deletion and insertion of all orders, and their differences from the random order."""
    (chance,) = (both for (_, suffix), both in areas.items() if suffix == "_random")
    metrics = {}
    for (key, suffix), both in areas.items():
        for curve, area, by_chance in zip(CURVES, both, chance, strict=True):
            metrics[Name(subject.method, key, curve + suffix)] = area
            if not suffix:
                # Image by image: images differ by far more than the two orders.
                metrics[Name(subject.method, key, f"{curve}_minus_random")] = area - by_chance
    return metrics


def choose_spread(labels: np.ndarray, count: int) -> np.ndarray:
    """Return indices of `count` images, as many of each class as can be, spread over each class.

    The same for all networks; all images if there are fewer.
    """
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    # The first image of each class, then the second of each, until there are enough.
    turns = np.concatenate([np.arange(len(each)) for each in members])
    owners = np.repeat(np.arange(len(members)), [len(each) for each in members])
    quotas = np.bincount(owners[np.lexsort((owners, turns))[:count]], minlength=len(members))
    return np.concatenate(
        [
            each[np.arange(quota) * len(each) // max(quota, 1)]
            for each, quota in zip(members, quotas, strict=True)
        ]
    )
