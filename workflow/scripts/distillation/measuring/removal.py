"""The pass in which cells are removed from images: does a network's answer hang on what maps mark?

Letters: see measuring/faithfulness.py.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from distillation.measuring.attention import area_average, sobel_magnitude
from distillation.measuring.faithfulness import (
    cells_along,
    centre_scores,
    deletion_insertion,
    fill_images,
    grad_cam,
    order_cells,
)
from distillation.measuring.study import BEFORE, Key, Name, Study, Sums, Values
from distillation.measuring.subjects import Subject


def measure_faithfulness(study: Study, sums: Sums) -> None:
    """Measure deletion and insertion by the last stage's maps on a part of the test images.

    Of trained networks: what one without training answers hardly hangs on the image.
    """
    settings, dataset, split = study.settings, study.dataset, study.dataset.test
    chosen = choose_spread(split.labels.numpy(), settings.faithfulness_images)
    generator = study.generator("cells")
    side = cells_along(dataset.image_size)
    controls = {subject.control for subject in study.subjects}
    for start in range(0, len(chosen), study.at_once):
        shown = split.images[chosen[start : start + study.at_once]]
        images = shown.numpy()
        at_random = generator.random((len(images), settings.random_orders, side**2))
        seen = {
            "_centre": np.tile(centre_scores(side), (len(images), 1)),
            "_sobel": area_average(sobel_magnitude(images), side),
        }
        fillers = {
            fill: study.normalise(torch.from_numpy(filler))
            for fill, filler in fill_images(images, settings.fills, dataset).items()
        }
        for subject in study.subjects:
            if subject.method not in controls:
                inputs = study.normalise(shown)
                sums.add(remove_cells(study, subject, inputs, fillers, seen, at_random))


def remove_cells(
    study: Study, subject: Subject, inputs: Tensor, fillers: Mapping[str, Tensor],
    seen: Mapping[str, np.ndarray], at_random: np.ndarray,
) -> Values:  # fmt: skip
    """Return deletion and insertion by each of a network's last maps, for each fill.

    Beside both stand their differences from the mean of random orders, image by image, as images
    differ by far more than orders do. For the first fill there are further orders as controls, in
    the rows of the first map: those in `seen`, and Grad-CAM. Equal scores are ordered at random.

    Args:
        study: all that is measured.
        subject: the network.
        inputs: normalised images (N, C, S, S).
        fillers: what fills their cells; the name of any but the first is in the metric's name.
        seen: scores of cells that don't depend on the network, by the end of the metric's name.
        at_random: scores of cells in random orders, (N, orders, cells).
    """
    settings, side = study.settings, cells_along(inputs.shape[2])
    maps = study.maps(subject.model, inputs, subject.method)
    scores: dict[tuple[Key, str], np.ndarray] = {
        (key, ""): area_average(each, side)
        for key, each in maps.items()
        if (key.stage, key.point) == (subject.stages, BEFORE)
    }
    (first, _), *_ = scores
    scores |= {(first, order): score for order, score in seen.items()}
    scores[first, "_grad_cam"] = area_average(grad_cam(subject.model, inputs), side)
    places = {
        order: order_cells(score.reshape(len(inputs), -1), at_random[:, 0])
        for order, score in scores.items()
    }
    drawn = {
        (first, f"_random_{number}"): order_cells(each, each)
        for number, each in enumerate(at_random.swapaxes(0, 1))
    }
    values: Values = {}
    for number, (fill, filled) in enumerate(fillers.items()):
        used = {order: each for order, each in places.items() if not (number and order[1])}
        areas = deletion_insertion(
            subject.model, inputs, filled, used | drawn, settings.steps, study.at_once
        )
        for place, curve in enumerate(("deletion", "insertion")):
            name = curve + f"_{fill}" * bool(number)
            chance = np.mean([areas[order][place] for order in drawn], axis=0)
            values[Name(subject.method, first, f"{name}_random")] = chance
            for key, order in used:
                area = areas[key, order][place]
                values[Name(subject.method, key, name + order)] = area
                if not order:
                    values[Name(subject.method, key, f"{name}_minus_random")] = area - chance
    return values


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
