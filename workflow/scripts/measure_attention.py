r"""Measure the attention maps of a trained network on the whole test split.

Inputs: a checkpoint, prepared data, and for a student its teacher's checkpoint. Output: a table
(.csv) with a row per group, collapse, point and metric: the mean over the test images with its
95 % bootstrap interval, and the same for the network that the training began with, whose batch norm
knows the training images, as a control. Points: before_norm (a group's raw output, as attention
transfer takes it) and after_norm (after the batch norm and ReLU that follow). Metrics with the
suffix _constant are of one image, the data set's mean, and have no interval; with _noise, of random
images. What the metrics are is told in distillation/attention.py and distillation/faithfulness.py;
those that don't apply have no row.

Example:
    python workflow/scripts/measure_attention.py --data results/data/digits.npz \
        --checkpoint results/digits/at/seed_0/checkpoint.pt --method at --seed 0 \
        --teacher results/digits/teacher/seed_0/checkpoint.pt --object-mask stored \
        --collapses mean_square --metrics attention_metrics.csv --device cpu
"""

import argparse
import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from distillation import attention
from distillation.arguments import LARGEST_SEED, Parser, number, run
from distillation.arrays import read_arrays
from distillation.data import Dataset, normalise, read_dataset
from distillation.device import prepare_device
from distillation.faithfulness import (
    cells_along,
    centre_scores,
    deletion_insertion,
    grad_cam,
    order_cells,
)
from distillation.files import replacing
from distillation.losses import Collapse, collapse_channels
from distillation.models import WideResNet, initialise
from distillation.poisson_bootstrap import Estimate, PoissonBootstrap
from distillation.runs import load_teacher

# Maps of magnitude: the plain sum has negative values.
COLLAPSES = tuple(name for name in get_args(Collapse) if name != "sum")
COLUMNS = (
    "model", "method", "seed", "group", "collapse", "point", "metric", "value", "low", "high",
    "untrained", "untrained_low", "untrained_high",
)  # fmt: skip
CONCENTRATION = {
    "entropy": attention.normalised_entropy,
    "effective_area": attention.effective_area,
    "gini": attention.gini,
    "peak_over_mean": attention.peak_over_mean,
}
CURVES = ("deletion", "insertion")
# What is drawn at random, each from the seed and its place here.
DRAWS = ("order", "images", "noise", "noise_images", "cells", "faithfulness_images")
# Images by which the untrained network's batch norm is estimated at once, as in training.
NORM_BATCH = 128

# Maps (N, H, W) by group (from 1), collapse and point.
Key = tuple[int, str, str]
Maps = dict[Key, np.ndarray]


class Name(NamedTuple):
    """What a value is: whose (trained or untrained), of which maps, which metric."""

    network: str
    key: Key
    metric: str


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(__doc__)
    flag = parser.add_argument
    flag("--data", type=Path, required=True, help="prepared data, .npz")
    flag("--checkpoint", type=Path, required=True, help="the network, .pt")
    flag("--teacher", type=Path, help="checkpoint of the student's teacher, .pt")
    flag("--method", required=True, help="name of the network's method, for the table")
    seed = number(int, 0, LARGEST_SEED)
    flag("--seed", type=seed, required=True, help="of the network's training")
    flag("--metrics", type=Path, required=True, help="output, .csv")
    flag(
        "--collapses", nargs="+", choices=COLLAPSES, required=True, metavar="COLLAPSE",
        help=f"how channels become a map: {', '.join(COLLAPSES)}",
    )  # fmt: skip
    flag(
        "--object-mask", choices=("stored", "above_zero", "none"), required=True,
        help="where the object is: test_masks of the data, pixels above 0, or not known",
    )  # fmt: skip
    default = " (default: %(default)s)"
    count = number(int, 1)
    flag("--resamples", type=count, default=200, help="of the bootstrap, from 1" + default)
    flag(
        "--faithfulness-images", type=count, default=100,
        help="test images for deletion and insertion, from 1; all if there are fewer" + default,
    )  # fmt: skip
    flag(
        "--steps", type=number(int, 2), default=8,
        help="in which all cells are deleted or inserted, from 2" + default,
    )  # fmt: skip
    flag("--noise-images", type=count, default=256, help="random images, from 1" + default)
    flag(
        "--norm-images", type=number(int, 2), default=1024,
        help="training images for the untrained network's batch norm, from 2" + default,
    )  # fmt: skip
    flag("--bootstrap-seed", type=seed, default=0, help="of all that is drawn here" + default)
    flag("--batch-size", type=count, default=32, help="images per pass, from 1" + default)
    flag("--device", choices=("cpu", "cuda"), required=True, help="where to run")
    flag("--threads", type=number(int, 1), default=1, help="of torch on a CPU")
    return parser.parse_args(argv)


def draw_seed(seed: int, what: str) -> list[int]:
    """Return the seed of one of the DRAWS: no two share their numbers."""
    return [seed, DRAWS.index(what)]


def untrained_network(
    architecture: dict[str, Any],
    provenance: dict[str, Any],
    dataset: Dataset,
    images: int,
    device: torch.device,
) -> WideResNet:
    """Return the network that a run started from, in evaluation mode.

    A fresh batch norm passes activations on as they are, which no network that runs on data does.
    So its statistics are means over batches of random training images, at most `images` in all.

    Args:
        architecture: of a checkpoint.
        provenance: of a checkpoint: its gamma_init and seed draw the parameters.
        dataset: what the run was trained on.
        images: number of training images.
        device: where the network is to run.
    """
    model = WideResNet(**architecture)
    gamma, seed = provenance["arguments"]["gamma_init"], provenance["seed"]
    initialise(model, gamma, torch.Generator().manual_seed(seed))
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            # torch's notation for the mean over all batches.
            module.momentum = None
    count = min(images, len(dataset.train.labels))
    order = torch.randperm(
        len(dataset.train.labels), generator=torch.Generator().manual_seed(seed)
    )[:count]
    model.train()
    with torch.no_grad():
        # Of nearly the same size, since each counts the same.
        for batch in order.tensor_split(math.ceil(count / NORM_BATCH)):
            seen = dataset.train.images[batch].to(device)
            model(normalise(seen, dataset.mean, dataset.std))
    return model.eval()


def read_masks(path: Path, dataset: Dataset) -> np.ndarray:
    """Return the masks of the test images that the archive holds, bool (N, S, S).

    Raises:
        ValueError: it holds none, or none of that shape.
    """
    arrays = read_arrays(path, ())
    if "test_masks" not in arrays:
        raise ValueError(
            f"{path}: has no test_masks, but object_mask is stored; allowed: above_zero, none"
        )
    masks, shape = arrays["test_masks"], tuple(dataset.test.images.shape[:3])
    if masks.dtype != bool or masks.shape != shape:
        raise ValueError(
            f"{path}: test_masks is {masks.dtype} {masks.shape}; expected bool {shape}"
        )
    return masks


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


@torch.inference_mode()
def take_maps(model: WideResNet, images: Tensor, collapses: list[Collapse]) -> Maps:
    """Return the maps of all groups, collapses and points, in float64.

    Raises:
        FloatingPointError: a map isn't finite.
    """
    _, features = model(images)
    first = [group[0].norm1 for group in list(model.groups)[1:]]  # type: ignore[index]
    maps = {}
    for group, (feature, norm) in enumerate(zip(features, [*first, model.norm], strict=True), 1):
        points = {"before_norm": feature, "after_norm": functional.relu(norm(feature))}
        for collapse in collapses:
            for point, output in points.items():
                collapsed = collapse_channels(output, collapse).cpu().numpy().astype(np.float64)
                if not np.isfinite(collapsed).all():
                    raise FloatingPointError(f"maps of group {group}, {collapse}, aren't finite")
                maps[group, collapse, point] = collapsed
    return maps


def measure_borders(maps: np.ndarray, suffix: str = "") -> dict[str, np.ndarray]:
    """Return border energy of the ring and its sides by name of the metric, (N,) each."""
    parts = get_args(attention.BorderPart)
    names = ["border" if part == "ring" else f"border_{part}" for part in parts]
    return {
        name + suffix: attention.border_energy(maps, part)
        for name, part in zip(names, parts, strict=True)
    }


def measure_objects(maps: np.ndarray, masks: np.ndarray) -> dict[str, np.ndarray]:
    """Return how maps (N, H, W) and masks (N, S, S) agree, (N,) by name of the metric."""
    enlarged = attention.enlarge(maps, masks.shape[1])
    return {
        "object_energy": attention.object_energy(maps, masks),
        "pointing_game": attention.pointing_game(enlarged, masks),
        "pointing_game_chance": attention.pointing_game_chance(masks),
        "object_iou": attention.object_iou(enlarged, masks),
        "object_iou_chance": attention.object_iou_chance(masks),
    }


class Vectors(NamedTuple):
    """Maps as vectors of unit length: by values and by ranks, (N, H * W)."""

    units: np.ndarray
    ranks: np.ndarray


def vectors(maps: np.ndarray) -> Vectors:
    """Return maps (N, H, W) as vectors."""
    return Vectors(attention.unit_vectors(maps), attention.rank_vectors(maps))


def compare_with_teacher(student: Vectors, teacher: Vectors) -> dict[str, np.ndarray]:
    """Return similarities with the teacher's maps, (N,) by name of the metric.

    Args:
        student: of N images.
        teacher: of the same N images and one more: shuffled pairs an image with the next one.
    """
    pairs = {"": slice(0, -1), "_shuffled": slice(1, None)}
    names = {"cosine": "units", "spearman": "ranks"}
    return {
        f"teacher_{name}{suffix}": attention.inner(
            getattr(student, field), getattr(teacher, field)[images]
        )
        for name, field in names.items()
        for suffix, images in pairs.items()
    }


@dataclass(frozen=True)
class Study:
    """What is measured: networks by name (trained, untrained), on which data, with what flags."""

    networks: dict[str, WideResNet]
    teacher: WideResNet | None
    dataset: Dataset
    masks: np.ndarray | None
    arguments: argparse.Namespace

    def normalise(self, images: Tensor) -> Tensor:
        """Map images (N, S, S, C) to what the networks take, on their device."""
        images = images.to(self.arguments.device)
        return normalise(images, self.dataset.mean, self.dataset.std)

    def maps(self, network: WideResNet, images: Tensor) -> Maps:
        """Return the maps that the flags name."""
        return take_maps(network, images, self.arguments.collapses)

    def generator(self, what: str) -> np.random.Generator:
        """Return the source of one of the DRAWS."""
        return np.random.default_rng(draw_seed(self.arguments.bootstrap_seed, what))

    def bootstrap(self, what: str) -> PoissonBootstrap[Name]:
        """Return sums with the weights of one of the DRAWS."""
        seed = draw_seed(self.arguments.bootstrap_seed, what)
        return PoissonBootstrap(self.arguments.resamples, seed)


def measure_test_images(study: Study) -> PoissonBootstrap[Name]:
    """Measure the maps of all test images, in an order drawn at random.

    An image's shuffled partner is the next one in this order, the first for the last.
    """
    sums = study.bootstrap("images")
    images = study.dataset.test.images
    order = study.generator("order").permutation(len(images))
    size = study.arguments.batch_size
    for start in range(0, len(order), size):
        batch = order[start : start + size]
        following = order[(start + len(batch)) % len(order)]
        inputs = study.normalise(images[np.append(batch, following)])
        sobel = attention.sobel_magnitude(images[batch].numpy())
        edges: dict[int, np.ndarray] = {}
        masks = find_objects(study, batch)
        weights = sums.draw(len(batch))
        taught = study.maps(study.teacher, inputs) if study.teacher else {}
        teacher = {key: vectors(maps) for key, maps in taught.items()}
        for network, model in study.networks.items():
            for key, maps in study.maps(model, inputs[:-1]).items():
                side = maps.shape[1]
                if side not in edges:
                    edges[side] = attention.rank_vectors(attention.area_average(sobel, side))
                own = vectors(maps)
                values = compare_with_teacher(own, teacher[key]) if teacher else {}
                values |= {name: metric(maps) for name, metric in CONCENTRATION.items()}
                values["image_dependence"] = own.units
                values |= measure_borders(maps)
                values |= {} if masks is None else measure_objects(maps, masks)
                values["sobel_spearman"] = attention.inner(own.ranks, edges[side])
                for metric, value in values.items():
                    sums.add(Name(network, key, metric), value, weights)
    return sums


def find_objects(study: Study, batch: np.ndarray) -> np.ndarray | None:
    """Return where the objects of some test images are, bool (N, S, S), or None if unknown."""
    if study.arguments.object_mask == "above_zero":
        return study.dataset.test.images[batch].amax(dim=3).numpy() > 0
    return None if study.masks is None else study.masks[batch]


def measure_artificial_images(study: Study) -> PoissonBootstrap[Name]:
    """Measure the borders of maps of images that show nothing: the mean, and noise.

    The noise is of pixels drawn uniformly from 0 to 255.
    """
    sums = study.bootstrap("noise")
    shape = study.dataset.test.images.shape[1:]
    generator = study.generator("noise_images")

    def add(inputs: Tensor, suffix: str) -> None:
        weights = sums.draw(len(inputs))
        for network, model in study.networks.items():
            for key, maps in study.maps(model, inputs).items():
                for metric, value in measure_borders(maps, suffix).items():
                    sums.add(Name(network, key, metric), value, weights)

    # After normalisation, the mean is 0.
    height, width, channels = shape
    add(torch.zeros(1, channels, height, width, device=study.arguments.device), "_constant")
    left = study.arguments.noise_images
    while left:
        count = min(left, study.arguments.batch_size)
        # One by one, so that the images don't depend on the size of the batches.
        drawn = [generator.integers(256, size=shape, dtype=np.uint8) for _ in range(count)]
        add(study.normalise(torch.from_numpy(np.stack(drawn))), "_noise")
        left -= count
    return sums


def measure_faithfulness(study: Study) -> PoissonBootstrap[Name]:
    """Measure deletion and insertion by maps, and by the controls, on a part of the test images.

    Beside a map's two areas stand their differences from those of the random order.

    Controls are ordered at random, by closeness to the centre, by Sobel magnitude and by Grad-CAM;
    they stand in the rows of the last group's first map. Equal scores are ordered at random.
    """
    arguments = study.arguments
    sums = study.bootstrap("faithfulness_images")
    split = study.dataset.test
    chosen = choose_spread(split.labels.numpy(), arguments.faithfulness_images)
    generator = study.generator("cells")
    side = cells_along(study.dataset.image_size)
    control: Key = (3, arguments.collapses[0], "before_norm")
    # Then deletion and insertion of these images fill a batch.
    size = max(1, arguments.batch_size // (2 * (arguments.steps - 1)))
    for start in range(0, len(chosen), size):
        images = split.images[chosen[start : start + size]]
        inputs = study.normalise(images)
        weights = sums.draw(len(images))
        at_random = generator.random((len(images), side**2))
        sobel = attention.sobel_magnitude(images.numpy())
        for network, model in study.networks.items():
            scores: dict[tuple[Key, str], np.ndarray] = {
                (key, ""): attention.area_average(maps, side)
                for key, maps in study.maps(model, inputs).items()
                if key[2] == "before_norm"
            } | {
                (control, "_random"): at_random,
                (control, "_centre"): np.tile(centre_scores(side), (len(images), 1)),
                (control, "_sobel"): attention.area_average(sobel, side),
                (control, "_grad_cam"): attention.area_average(grad_cam(model, inputs), side),
            }
            places = {
                name: order_cells(score.reshape(len(images), -1), at_random)
                for name, score in scores.items()
            }
            areas = deletion_insertion(model, inputs, places, arguments.steps)
            by_chance = areas[control, "_random"]
            for (key, suffix), both in areas.items():
                for curve, area, chance in zip(CURVES, both, by_chance, strict=True):
                    sums.add(Name(network, key, curve + suffix), area, weights)
                    if not suffix:
                        # Image by image: images differ by far more than the two orders.
                        gap = Name(network, key, f"{curve}_minus_random")
                        sums.add(gap, area - chance, weights)
    return sums


def estimate(sums: PoissonBootstrap[Name]) -> dict[Name, Estimate]:
    """Return the estimates of all that has one."""
    estimates = {}
    for name in sums.counts:
        of_mean = attention.image_dependence if name.metric == "image_dependence" else None
        found = sums.estimate(name, of_mean)
        if found:
            estimates[name] = found
    return estimates


def tabulate(study: Study, estimates: dict[Name, Estimate]) -> Iterator[list[Any]]:
    """Yield the rows of the table: trained and untrained side by side; what isn't there is None."""
    arguments = study.arguments
    architecture = study.networks["trained"].architecture
    model = f"WRN-{architecture['depth']}-{architecture['width']}"
    pairs = dict.fromkeys((name.key, name.metric) for name in estimates)
    points = ("before_norm", "after_norm")

    def place(pair: tuple[Key, str]) -> tuple[int, int, int]:
        (group, collapse, point), _ = pair
        return group, arguments.collapses.index(collapse), points.index(point)

    for key, metric in sorted(pairs, key=place):
        found = [estimates.get(Name(network, key, metric)) for network in study.networks]
        values = [value for each in found for value in each or (math.nan,) * 3]
        cells = [None if math.isnan(value) else value for value in values]
        yield [model, arguments.method, arguments.seed, *key, metric, *cells]


def main(argv: list[str] | None = None) -> None:
    """Measure trained and untrained network and write the table."""
    arguments = parse_args(argv)
    device = prepare_device(arguments.device, arguments.threads)
    dataset = read_dataset(arguments.data)
    masks = read_masks(arguments.data, dataset) if arguments.object_mask == "stored" else None
    # What is checked of a teacher holds for any network that is measured on these data.
    trained, provenance = load_teacher(arguments.checkpoint, dataset, device)
    if provenance["seed"] != arguments.seed:
        raise ValueError(
            f"{arguments.checkpoint}: is of seed {provenance['seed']}, expected {arguments.seed}"
        )
    teacher = load_teacher(arguments.teacher, dataset, device)[0] if arguments.teacher else None
    untrained = untrained_network(
        trained.architecture, provenance, dataset, arguments.norm_images, device
    )
    study = Study({"trained": trained, "untrained": untrained}, teacher, dataset, masks, arguments)
    estimates = {
        name: value
        for measure in (measure_test_images, measure_artificial_images, measure_faithfulness)
        for name, value in estimate(measure(study)).items()
    }
    rows = list(tabulate(study, estimates))
    with replacing(arguments.metrics) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(rows)
    print(f"{arguments.metrics}: {len(rows)} rows, {len(dataset.test.labels):,} images", flush=True)


if __name__ == "__main__":
    run(main)
