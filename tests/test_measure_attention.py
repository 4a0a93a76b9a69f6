"""The table of attention metrics against direct computation, and its controls."""

import argparse
import csv
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import train_teacher
from distillation import attention
from distillation.checkpoint import load_checkpoint, save_checkpoint
from distillation.data import Dataset, normalise, read_dataset
from distillation.digits import Construction, make_digits
from distillation.faithfulness import (
    centre_scores,
    deletion_insertion,
    grad_cam,
    order_cells,
)
from distillation.losses import Collapse, collapse_channels
from distillation.models import WideResNet, initialise
from distillation.training import Protocol, Weights, fit
from measure_attention import (
    COLUMNS,
    Study,
    choose_spread,
    main,
    measure_artificial_images,
    measure_faithfulness,
    measure_test_images,
    untrained_network,
)

SCRIPT = Path(__file__).resolve().parents[1] / "workflow/scripts/measure_attention.py"
CPU = torch.device("cpu")
SIZES = {1: 12, 2: 6, 3: 3}
CELLS = 9
PROTOCOL = Protocol(
    epochs=2, batch_size=64, schedule="one_cycle", learning_rate=0.1, milestones=[],
    learning_rate_decay=0.2, reset_momentum=False, rise=0.3, momentum=0.9, nesterov=False,
    weight_decay=5e-4, padding=0, flip=False, gamma_init="uniform",
)  # fmt: skip
FLAGS = {
    "seed": 3, "collapses": ["mean_square"], "object_mask": "stored", "resamples": 40,
    "faithfulness_images": 25, "steps": 4, "noise_images": 20, "norm_images": 100,
    "bootstrap_seed": 5, "batch_size": 50, "device": "cpu",
}  # fmt: skip

TEACHER = {"teacher_cosine", "teacher_cosine_shuffled", "teacher_spearman"} | {
    "teacher_spearman_shuffled"
}
BORDER = {"border", *(f"border_{side}" for side in ("top", "bottom", "left", "right"))}
ALONE = {"entropy", "effective_area", "gini", "peak_over_mean", "image_dependence"} | BORDER
ARTIFICIAL = {f"{name}_{kind}" for name in BORDER for kind in ("constant", "noise")}
OBJECT = {"object_energy", "pointing_game", "pointing_game_chance", "object_iou"} | {
    "object_iou_chance"
}
CURVES = ("deletion", "insertion")
FAITHFUL = {*CURVES, *(f"{name}_minus_random" for name in CURVES)}
CONTROLS = {
    f"{name}_{order}" for name in CURVES for order in ("random", "centre", "sobel", "grad_cam")
}

# Group, collapse, point and metric.
Row = tuple[int, str, str, str]
NUMBERS = ("value", "low", "high", "untrained", "untrained_low", "untrained_high")


@dataclass
class Table:
    """A table of metrics: what is said of the network, and numbers by row; empty cells are NaN."""

    models: set[tuple[str, str, int]]
    rows: dict[Row, dict[str, float]]

    def column(self, name: str) -> np.ndarray:
        """Return the numbers of a column."""
        return np.array([numbers[name] for numbers in self.rows.values()])

    def of(self, *metrics: str) -> "Table":
        """Return the table of some metrics alone."""
        rows = {row: numbers for row, numbers in self.rows.items() if row[3] in metrics}
        return Table(self.models, rows)

    def without(self, metrics: set[str]) -> "Table":
        """Return the table of all other metrics."""
        return self.of(*({row[3] for row in self.rows} - metrics))


Measure = Callable[..., Table]


def read_table(file: Path) -> Table:
    """Read a table, in which no row stands twice."""
    with file.open() as stream:
        lines = list(csv.DictReader(stream))
    rows = {
        (int(line["group"]), line["collapse"], line["point"], line["metric"]): {
            name: float(line[name] or "nan") for name in NUMBERS
        }
        for line in lines
    }
    assert len(rows) == len(lines)
    return Table({(line["model"], line["method"], int(line["seed"])) for line in lines}, rows)


def assert_same(found: Table, expected: Table, rtol: float = 0, atol: float = 0) -> None:
    """Assert that two tables have the same rows in the same order, with the same numbers."""
    assert list(found.rows) == list(expected.rows)
    for name in NUMBERS:
        np.testing.assert_allclose(
            found.column(name), expected.column(name), rtol=rtol, atol=atol, err_msg=name
        )


def trained(dataset: Dataset, depth: int, seed: int, padding_mode: str = "zeros") -> WideResNet:
    """Return a network that has learnt a little, in evaluation mode."""
    model = WideResNet(depth, 1, 10, 1, padding_mode)  # type: ignore[arg-type]
    initialise(model, "uniform", torch.Generator().manual_seed(seed))
    few = replace(
        dataset.train, images=dataset.train.images[:512], labels=dataset.train.labels[:512]
    )
    fit(model, replace(dataset, train=few), PROTOCOL, Weights(), None, seed, None, "", [].append)
    return model.eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with small digits, checkpoints of a teacher, a student and others."""
    folder = tmp_path_factory.mktemp("measured")
    arrays = make_digits(Construction(12, 8, 1, 4, 1, 1, 0.1, 0))
    images = arrays["train_images"]
    arrays |= {"mean": np.array([images.mean()]), "std": np.array([images.std()])}
    # One image without an object.
    arrays["test_masks"][7] = False
    np.savez(folder / "data.npz", allow_pickle=False, **arrays)
    above_zero = {**arrays, "test_masks": arrays["test_images"][..., 0] > 0}
    np.savez(folder / "above_zero.npz", allow_pickle=False, **above_zero)
    del arrays["test_masks"]
    np.savez(folder / "no_masks.npz", allow_pickle=False, **arrays)
    dataset = read_dataset(folder / "data.npz")
    provenance = {"seed": 3, "arguments": {"gamma_init": "uniform"}}

    def save(name: str, model: WideResNet) -> None:
        save_checkpoint(folder / f"{name}.pt", model, dataset, provenance)

    save("teacher", trained(dataset, 16, 8))
    student = trained(dataset, 10, 3)
    save("student", student)
    save("reflect", trained(dataset, 10, 3, "reflect"))
    save("initial", untrained_network(student.architecture, provenance, dataset, 100, CPU))
    nn.init.constant_(student.groups[1][0].conv1.weight, torch.inf)  # type: ignore[index]
    save("broken", student)
    return folder


@pytest.fixture(scope="module")
def dataset(folder: Path) -> Dataset:
    """Return the small digits."""
    return read_dataset(folder / "data.npz")


def command(folder: Path, name: str, teacher: str | None, **flags: Any) -> list[str]:
    """Return the command line that measures a network of the folder."""
    settings = {
        "data": folder / "data.npz",
        "checkpoint": folder / f"{name}.pt",
        "teacher": teacher and folder / f"{teacher}.pt",
        "method": name,
        "metrics": folder / "metrics.csv",
        **FLAGS,
        **flags,
    }
    return [
        text
        for flag, value in settings.items()
        if value is not None
        for text in (
            "--" + flag.replace("_", "-"),
            *map(str, value if isinstance(value, list) else [value]),
        )
    ]


@pytest.fixture(scope="module")
def measure(folder: Path) -> Measure:
    """Return a function that measures a network of the folder and reads the table."""

    def run(name: str, teacher: str | None = None, **flags: Any) -> Table:
        main(command(folder, name, teacher, **flags))
        return read_table(folder / "metrics.csv")

    return run


@pytest.fixture(scope="module")
def student(measure: Measure) -> Table:
    """Return the student's table."""
    return measure("student", "teacher")


@pytest.fixture(scope="module")
def networks(folder: Path, dataset: Dataset) -> dict[str, WideResNet]:
    """Return student, teacher and untrained network."""
    return {
        name: load_checkpoint(folder / f"{name}.pt", dataset, CPU)[0]
        for name in ("student", "teacher", "initial")
    }


def whole_test_split(dataset: Dataset) -> Tensor:
    """Return all test images, normalised."""
    return normalise(dataset.test.images, dataset.mean, dataset.std)


def read_masks(folder: Path) -> np.ndarray:
    """Return the masks of the test images."""
    with np.load(folder / "data.npz") as archive:
        return archive["test_masks"]


def norm_relu(norm: nn.BatchNorm2d, inputs: Tensor) -> Tensor:
    """Compute batch norm in evaluation mode and ReLU by their formulas."""
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    scale = norm.weight / (variance + 1e-5).sqrt()
    shift = norm.bias - mean * scale
    return (inputs * scale[:, None, None] + shift[:, None, None]).clamp_min(0)


@torch.no_grad()
def direct_maps(
    model: WideResNet, images: Tensor, collapse: Collapse = "mean_square"
) -> dict[tuple[int, str], np.ndarray]:
    """Return the maps of all images in one pass, by group and point."""
    _, features = model(images)
    modules = dict(model.named_modules())
    maps = {}
    for group, norm in ((1, "groups.1.0.norm1"), (2, "groups.2.0.norm1"), (3, "norm")):
        raw = features[group - 1]
        maps[group, "before_norm"] = collapse_channels(raw, collapse)
        after = norm_relu(modules[norm], raw)  # type: ignore[arg-type]
        maps[group, "after_norm"] = collapse_channels(after, collapse)
    return {key: each.double().numpy() for key, each in maps.items()}


def assert_values(table: Table, column: str, expected: dict[tuple[int, str, str], float]) -> None:
    """Assert that a column has these values by group, point and metric."""
    for (group, point, metric), value in expected.items():
        found = table.rows[group, "mean_square", point, metric][column]
        assert found == pytest.approx(value, rel=1e-4, abs=1e-6), (group, point, metric)


def test_columns_and_rows(student: Table, folder: Path) -> None:
    """There is a row for each metric that applies, and the columns are those agreed upon."""
    header = (folder / "metrics.csv").read_text().splitlines()[0]
    assert tuple(header.split(",")) == COLUMNS == (
        "model", "method", "seed", "group", "collapse", "point", "metric",
        "value", "low", "high", "untrained", "untrained_low", "untrained_high",
    )  # fmt: skip
    assert student.models == {("WRN-10-1", "student", 3)}
    expected = set()
    for group in SIZES:
        for point in ("before_norm", "after_norm"):
            metrics = TEACHER | ALONE | ARTIFICIAL | OBJECT | {"sobel_spearman"}
            metrics |= FAITHFUL if point == "before_norm" else set()
            metrics |= CONTROLS if (group, point) == (3, "before_norm") else set()
            expected |= {(group, "mean_square", point, metric) for metric in metrics}
    assert set(student.rows) == expected


def test_intervals(student: Table) -> None:
    """All but the constant image's values have intervals, and means lie within them."""
    for row, numbers in student.rows.items():
        for value, low, high in (NUMBERS[:3], NUMBERS[3:]):
            assert not math.isnan(numbers[value]), row
            if row[3].endswith("_constant"):
                assert math.isnan(numbers[low]), row
                assert math.isnan(numbers[high]), row
            elif row[3] == "image_dependence":
                assert numbers[low] < numbers[high], row
            else:
                assert numbers[low] < numbers[value] < numbers[high], row


def test_all_that_is_asked_for(measure: Measure) -> None:
    """Each collapse has its rows; controls by cells stand with the first one."""
    collapses = ["sum_absolute", "max_square"]
    table = measure("student", "teacher", collapses=collapses)
    by_collapse = {
        collapse: {row[:1] + row[2:] for row in table.rows if row[1] == collapse}
        for collapse in collapses
    }
    first, second = by_collapse.values()
    assert first - second == {(3, "before_norm", metric) for metric in CONTROLS}
    assert second < first
    for metric in ("entropy", "deletion"):
        one, other = (
            table.rows[3, collapse, "before_norm", metric]["value"] for collapse in collapses
        )
        assert one != other


def test_sums_and_means_are_one_attention(measure: Measure, student: Table) -> None:
    """The sum of squares is the mean of squares at another scale: the same in every metric."""
    table = measure("student", "teacher", collapses=["sum_square"])
    for column in NUMBERS:
        np.testing.assert_allclose(
            table.column(column), student.column(column), rtol=1e-4, atol=1e-6
        )


@pytest.mark.parametrize(("column", "name"), [("value", "student"), ("untrained", "initial")])
def test_maps_of_test_images_equal_a_direct_computation(
    student: Table,
    networks: dict[str, WideResNet],
    dataset: Dataset,
    folder: Path,
    column: str,
    name: str,
) -> None:
    """Values are means over all test images at once, for the network and the untrained one."""
    images, masks = whole_test_split(dataset), read_masks(folder)
    sobel = attention.sobel_magnitude(dataset.test.images.numpy())
    taught = direct_maps(networks["teacher"], images)
    expected = {}
    for (group, point), maps in direct_maps(networks[name], images).items():
        units = maps.reshape(len(maps), -1)
        units = units / np.linalg.norm(units, axis=1, keepdims=True)
        enlarged = attention.enlarge(maps, 12)
        values = {
            "teacher_cosine": attention.cosine(maps, taught[group, point]),
            "teacher_spearman": attention.spearman(maps, taught[group, point]),
            "entropy": attention.normalised_entropy(maps),
            "effective_area": attention.effective_area(maps),
            "gini": attention.gini(maps),
            "peak_over_mean": attention.peak_over_mean(maps),
            "border": attention.border_energy(maps),
            "border_left": attention.border_energy(maps, "left"),
            "object_energy": attention.object_energy(maps, masks),
            "pointing_game": attention.pointing_game(enlarged, masks),
            "pointing_game_chance": attention.pointing_game_chance(masks),
            "object_iou": attention.object_iou(enlarged, masks),
            "object_iou_chance": attention.object_iou_chance(masks),
            "sobel_spearman": attention.spearman(maps, attention.area_average(sobel, SIZES[group])),
        }
        expected |= {(group, point, metric): np.nanmean(each) for metric, each in values.items()}
        expected[group, point, "image_dependence"] = 1 - np.square(units.mean(axis=0)).sum()
    assert_values(student, column, expected)


@pytest.mark.parametrize(("column", "name"), [("value", "student"), ("untrained", "initial")])
def test_borders_of_artificial_images_equal_a_direct_computation(
    student: Table, networks: dict[str, WideResNet], dataset: Dataset, column: str, name: str
) -> None:
    """The constant image is 0 after normalisation, the noise uniform from 0 to 255."""
    generator = np.random.default_rng([5, 3])
    noise = np.stack([generator.integers(256, size=(12, 12, 1), dtype=np.uint8) for _ in range(20)])
    inputs = {
        "constant": torch.zeros(1, 1, 12, 12),
        "noise": normalise(torch.from_numpy(noise), dataset.mean, dataset.std),
    }
    expected = {
        (group, point, f"border_top_{kind}"): attention.border_energy(maps, "top").mean()
        for kind, images in inputs.items()
        for (group, point), maps in direct_maps(networks[name], images).items()
    }
    assert len(expected) == 12
    assert_values(student, column, expected)


@pytest.mark.parametrize(("column", "name"), [("value", "student"), ("untrained", "initial")])
def test_faithfulness_equals_a_direct_computation(
    student: Table, networks: dict[str, WideResNet], dataset: Dataset, column: str, name: str
) -> None:
    """Deletion and insertion are those of all chosen images at once, for maps and controls."""
    model = networks[name]
    chosen = choose_spread(dataset.test.labels.numpy(), 25)
    images = whole_test_split(dataset)[chosen]
    at_random = np.random.default_rng([5, 4]).random((25, CELLS))
    sobel = attention.sobel_magnitude(dataset.test.images[chosen].numpy())
    scores = {
        (3, "_random"): at_random,
        (3, "_centre"): np.tile(centre_scores(3), (25, 1)),
        (3, "_sobel"): attention.area_average(sobel, 3),
        (3, "_grad_cam"): grad_cam(model, images),
    }
    for (group, point), maps in direct_maps(model, images).items():
        if point == "before_norm":
            scores[group, ""] = attention.area_average(maps, 3)
    places = {
        each: order_cells(score.reshape(25, CELLS), at_random) for each, score in scores.items()
    }
    expected = {}
    found = deletion_insertion(model, images, places, 4)
    for (group, suffix), areas in found.items():
        for metric, area, chance in zip(CURVES, areas, found[3, "_random"], strict=True):
            expected[group, "before_norm", metric + suffix] = area.mean()
            if not suffix:
                gap = area.mean() - chance.mean()
                expected[group, "before_norm", f"{metric}_minus_random"] = gap
    assert len(expected) == 20
    assert_values(student, column, expected)


def test_shuffled_partners_are_other_images(
    student: Table, networks: dict[str, WideResNet], dataset: Dataset
) -> None:
    """The control compares each image with the next in an order drawn at random, in a circle."""
    order = np.random.default_rng([5, 0]).permutation(len(dataset.test.labels))
    images = whole_test_split(dataset)[order]
    taught = direct_maps(networks["teacher"], images)
    expected = {}
    for key, maps in direct_maps(networks["student"], images).items():
        others = np.roll(taught[key], -1, axis=0)
        expected[*key, "teacher_cosine_shuffled"] = attention.cosine(maps, others).mean()
        expected[*key, "teacher_spearman_shuffled"] = attention.spearman(maps, others).mean()
    assert_values(student, "value", expected)


def test_network_is_its_own_teacher(measure: Measure) -> None:
    """A network is fully similar to itself, less so on other images."""
    table = measure("student", "student")
    for metric in ("teacher_cosine", "teacher_spearman"):
        assert table.of(metric).column("value") == pytest.approx(1)
        assert table.of(f"{metric}_shuffled").column("value").max() < 0.95


def test_teacher_has_no_teacher(measure: Measure, student: Table) -> None:
    """Without a teacher there are no rows that compare with one; all others are the same."""
    assert_same(measure("student"), student.without(TEACHER))


@pytest.mark.parametrize("batch_size", [7, 179, 1000])
def test_batches_do_not_matter(measure: Measure, student: Table, batch_size: int) -> None:
    """Values and intervals don't depend on the size of the batches, but for rounding."""
    table = measure("student", "teacher", batch_size=batch_size)
    assert_same(table, student, rtol=1e-3, atol=1e-5)


def test_untrained_network_is_where_training_began(measure: Measure, student: Table) -> None:
    """The control's columns are what measuring the initial network itself gives."""
    table = measure("initial", "teacher")
    for trained, untrained in zip(NUMBERS[:3], NUMBERS[3:], strict=True):
        np.testing.assert_array_equal(table.column(trained), student.column(untrained))
        np.testing.assert_array_equal(table.column(untrained), student.column(untrained))
    learnt = student.of("entropy", "border", "teacher_cosine", "deletion", "image_dependence")
    assert (learnt.column("value") != learnt.column("untrained")).all()


def test_untrained_network_has_its_runs_parameters(dataset: Dataset) -> None:
    """Parameters are those that the run's seed and gamma draw."""
    architecture: dict[str, Any] = {"depth": 16, "width": 1, "classes": 10, "channels": 1}
    provenance = {"seed": 4, "arguments": {"gamma_init": "ones"}}
    model = untrained_network(architecture, provenance, dataset, 64, CPU)
    expected = WideResNet(**architecture)
    initialise(expected, "ones", torch.Generator().manual_seed(4))
    assert not model.training
    torch.testing.assert_close(
        dict(model.named_parameters()), dict(expected.named_parameters()), rtol=0, atol=0
    )


def test_untrained_network_knows_the_training_images(dataset: Dataset) -> None:
    """Statistics are means over batches of nearly one size, of images drawn without replacement."""
    provenance = {"seed": 4, "arguments": {"gamma_init": "ones"}}
    architecture: dict[str, Any] = {"depth": 10, "width": 1, "classes": 10, "channels": 1}
    model = untrained_network(architecture, provenance, dataset, 200, CPU)
    order = torch.randperm(len(dataset.train.labels), generator=torch.Generator().manual_seed(4))[
        :200
    ]
    statistics = []
    for batch in (order[:100], order[100:]):
        fresh = WideResNet(**architecture)
        initialise(fresh, "ones", torch.Generator().manual_seed(4))
        with torch.no_grad():
            output = (
                fresh.stem(normalise(dataset.train.images[batch], dataset.mean, dataset.std))
                .transpose(0, 1)
                .flatten(1)
            )
        statistics.append((output.mean(dim=1), output.var(dim=1)))
    norm = model.groups[0][0].norm1  # type: ignore[index]
    for found, expected in zip(
        (norm.running_mean, norm.running_var), zip(*statistics, strict=True), strict=True
    ):
        torch.testing.assert_close(found, torch.stack(expected).mean(dim=0), rtol=1e-4, atol=1e-5)


def test_more_images_than_there_are(dataset: Dataset) -> None:
    """Where fewer training images are there than asked for, all are taken."""
    provenance = {"seed": 4, "arguments": {"gamma_init": "ones"}}
    architecture: dict[str, Any] = {"depth": 10, "width": 1, "classes": 10, "channels": 1}
    few = replace(dataset, train=replace(dataset.train, labels=dataset.train.labels[:150]))
    one, other = (
        untrained_network(architecture, provenance, few, images, CPU) for images in (150, 10_000)
    )
    torch.testing.assert_close(one.state_dict(), other.state_dict(), rtol=0, atol=0)


def test_trained_and_untrained_share_their_weights(student: Table) -> None:
    """Both have the same replicates: what depends on the images alone has the same interval."""
    for metric in ("pointing_game_chance", "object_iou_chance"):
        table = student.of(metric)
        for trained, untrained in zip(NUMBERS[:3], NUMBERS[3:], strict=True):
            assert len({*table.column(trained), *table.column(untrained)}) == 1


def test_seed_of_the_bootstrap(measure: Measure, student: Table) -> None:
    """One seed gives one table; another one other intervals about the same means."""
    assert_same(measure("student", "teacher"), student)
    metrics = ("entropy", "image_dependence", "object_iou", "teacher_cosine")
    table = student.of(*metrics)
    other = measure("student", "teacher", bootstrap_seed=6).of(*metrics)
    np.testing.assert_allclose(table.column("value"), other.column("value"), rtol=1e-5)
    for end in ("low", "high"):
        assert (table.column(end) != other.column(end)).all()


def test_no_masks(measure: Measure, student: Table) -> None:
    """Where the object isn't known there are no rows about it; all others are the same."""
    table = measure("student", "teacher", object_mask="none")
    assert_same(table, student.without(OBJECT))


def test_masks_above_zero(measure: Measure, folder: Path) -> None:
    """Pixels above 0 are the masks that an archive holds which stores just these."""
    found = measure("student", object_mask="above_zero", data=folder / "no_masks.npz")
    stored = measure("student", data=folder / "above_zero.npz")
    assert_same(found, stored)


def test_reflecting_network_has_no_border(measure: Measure, student: Table) -> None:
    """On a constant image the maps of a network that reflects are uniform, trained or not."""
    constant = {f"{name}_constant" for name in BORDER}
    reflect, zeros = (table.of(*constant) for table in (measure("reflect", "teacher"), student))
    for column in ("value", "untrained"):
        assert reflect.column(column) == pytest.approx(1, abs=1e-4)
        assert (abs(zeros.column(column) - 1) > 0.01).mean() > 0.9


def study_of(
    networks: dict[str, WideResNet], dataset: Dataset, images: int, batch_size: int
) -> Study:
    """Return what measures the first test images in batches."""
    test = dataset.test
    split = replace(test, images=test.images[:images], labels=test.labels[:images])
    arguments = argparse.Namespace(**{**FLAGS, "batch_size": batch_size, "object_mask": "none"})
    return Study(
        {"trained": networks["student"], "untrained": networks["initial"]},
        networks["teacher"],
        replace(dataset, test=split),
        None,
        arguments,
    )


def test_memory_does_not_grow_with_the_images(
    networks: dict[str, WideResNet], dataset: Dataset
) -> None:
    """No pass has more images than a batch and one, and of more images no more is kept."""
    seen: list[int] = []
    hooks = [
        model.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
        for model in networks.values()
    ]
    kept = {}
    for images in (20, 60):
        sums = measure_test_images(study_of(networks, dataset, images, 8))
        kept[images] = {name: total.shape for name, total in sums.sums.items()}
        assert max(seen) == 9
        measure_artificial_images(study_of(networks, dataset, images, 8))
        measure_faithfulness(study_of(networks, dataset, images, 8))
        assert max(seen) == 9
    for hook in hooks:
        hook.remove()
    assert kept[20] == kept[60]


def test_spread_choice_is_balanced() -> None:
    """Each class has as many images as can be, evenly spread; a small class has all of its own."""
    labels = np.repeat([0, 1, 2, 3], [40, 2, 40, 40])
    chosen = choose_spread(labels, 14)
    assert np.bincount(labels[chosen]).tolist() == [4, 2, 4, 4]
    assert (chosen[:4].tolist(), chosen[4:6].tolist()) == ([0, 10, 20, 30], [40, 41])
    assert len(choose_spread(labels, 15)) == 15
    assert np.bincount(labels[choose_spread(labels, 2)], minlength=4).tolist() == [1, 1, 0, 0]


@pytest.mark.parametrize("count", [122, 123, 10_000])
def test_spread_choice_of_all(count: int) -> None:
    """All images are taken where there are no more."""
    labels = np.random.default_rng(0).integers(4, size=122)
    assert sorted(choose_spread(labels, count)) == list(range(122))


def test_archive_without_masks(measure: Measure, folder: Path) -> None:
    """Stored masks that aren't there are refused by the name of the file and what is allowed."""
    with pytest.raises(ValueError, match=r"no_masks.npz: has no test_masks.*above_zero, none"):
        measure("student", data=folder / "no_masks.npz")


def test_masks_of_another_shape(measure: Measure, folder: Path) -> None:
    """Masks that aren't those of the test images are refused with what was found."""
    with np.load(folder / "data.npz") as archive:
        arrays = dict(archive)
    for name, masks in (("few", arrays["test_masks"][1:]), ("grey", arrays["test_masks"] * 1.0)):
        np.savez(folder / f"{name}.npz", allow_pickle=False, **arrays | {"test_masks": masks})
        with pytest.raises(ValueError, match=rf"{name}.npz: test_masks is {masks.dtype}.*bool"):
            measure("student", data=folder / f"{name}.npz")


def test_checkpoint_of_another_seed(measure: Measure) -> None:
    """A checkpoint of another seed than the table will say is refused."""
    with pytest.raises(ValueError, match=r"student.pt: is of seed 3, expected 4"):
        measure("student", seed=4)


def test_maps_that_are_not_finite(measure: Measure) -> None:
    """A network whose maps aren't finite has no table: the group is named."""
    with pytest.raises(FloatingPointError, match="maps of group 2, mean_square"):
        measure("broken")


def test_mistakes_end_with_one_line(folder: Path, tmp_path: Path) -> None:
    """A mistake is one line on stderr and status 1, and leaves no table."""
    metrics = tmp_path / "metrics.csv"
    flags = command(folder, "student", None, data=folder / "no_masks.npz", metrics=metrics)
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *flags], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("measure_attention.py: error: ")
    assert "no_masks.npz" in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("flag", "value"),
    [("collapses", ["sum"]), ("object_mask", "guessed"), ("steps", 1), ("resamples", 0)],
)
def test_flags_out_of_range(
    folder: Path, capsys: pytest.CaptureFixture[str], flag: str, value: Any
) -> None:
    """A flag's wrong value is named in one line, with what is allowed."""
    with pytest.raises(SystemExit) as end:
        main(command(folder, "student", None, **{flag: value}))
    assert end.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "--" + flag.replace("_", "-") in line


def test_padding_mode_is_a_flag_of_training(folder: Path, tmp_path: Path, dataset: Dataset) -> None:
    """A network that was trained with reflected borders is rebuilt with them."""
    settings = vars(PROTOCOL) | {"epochs": 1, "depth": 10, "width": 1, "seed": 0, "device": "cpu"}
    for switch in ("milestones", "reset_momentum", "nesterov", "flip"):
        del settings[switch]
    flags = [
        text
        for name, value in settings.items()
        for text in ("--" + name.replace("_", "-"), str(value))
    ]
    found = {}
    for padding_mode in ("reflect", "zeros"):
        checkpoint = tmp_path / padding_mode / "checkpoint.pt"
        train_teacher.main(
            [
                *("--data", str(folder / "data.npz"), "--checkpoint", str(checkpoint)),
                *("--history", str(tmp_path / "history.csv"), "--padding-mode", padding_mode),
                *flags,
            ]
        )
        model, content = load_checkpoint(checkpoint, dataset, CPU)
        assert content["provenance"]["arguments"]["padding_mode"] == padding_mode
        found[padding_mode] = model.stem.padding_mode
    assert found == {"reflect": "reflect", "zeros": "zeros"}
