"""The table of attention measures against direct computation, and its controls."""

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from distillation.data.dataset import Dataset, normalise, read_dataset
from distillation.measuring import attention, bootstrap
from distillation.measuring.faithfulness import (
    centre_scores,
    deletion_insertion,
    fill_images,
    grad_cam,
    order_cells,
)
from distillation.measuring.passes import measure_all, measure_test_images
from distillation.measuring.removal import choose_spread
from distillation.measuring.study import Study, Sums
from distillation.measuring.subjects import Start, Subject, find_partners, untrained_network
from distillation.networks import Network, Outputs, initialise, resnet, wrn
from distillation.numerics import collapse_channels
from distillation.record.checkpoint import load_checkpoint, save_checkpoint
from distillation.settings.base import NetworkSettings, checked
from distillation.settings.measures import AttentionMeasures
from distillation.training.norms import estimate_norms
from measure_attention import main

CPU = torch.device("cpu")
SIZES = {1: 12, 2: 6, 3: 3}
POINTS = ("before_activation", "after_activation")
CELLS = 9
PLAIN = {"depth": 10, "width": 1}
SMALL: dict[str, NetworkSettings] = {"wrn": checked(wrn.Settings, PLAIN)}
START = Start(3, "uniform")
FLAGS = {
    "collapses": ["mean_square"], "object_mask": "stored", "resamples": 100, "bootstrap_seed": 5,
    "faithfulness_images": 12, "fills": ["background", "blur"], "random_orders": 2, "steps": 4,
    "noise_images": 20, "norm_images": 100, "batch_size": 50, "device": "cpu",
}  # fmt: skip
# Teacher, two students of one architecture, one of another family, and one that reflects.
TAUGHT = ("student", "twin", "resnet", "reflect")

TEACHER = {
    f"teacher_{name}{suffix}" for name in ("cosine", "spearman") for suffix in ("", "_shuffled")
}
BORDER = {"border", *(f"border_{side}" for side in ("top", "bottom", "left", "right"))}
POOLED = ("effective_area", "image_dependence", "sobel_spearman")
ALONE = {"cells", "entropy", "gini", "peak_over_mean", *BORDER}
ALONE |= {f"{each}{suffix}" for each in POOLED for suffix in ("", "_pooled")}
ARTIFICIAL = {f"{name}_{kind}" for name in BORDER for kind in ("constant", "noise")}
OBJECT = {
    f"{name}{control}" for name in ("object_energy", "pointing_game", "object_iou")
    for control in ("", "_chance", "_centre", "_other")
} - {"object_energy_chance"}  # fmt: skip
CURVES = ("deletion", "insertion")
FAITHFUL = {
    f"{curve}{fill}{end}" for curve in CURVES for fill in ("", "_blur")
    for end in ("", "_minus_random")
}  # fmt: skip
# These stand with the first collapse.
CONTROLS = {f"{curve}_{order}" for curve in CURVES
            for order in ("random", "blur_random", "centre", "sobel", "grad_cam")}  # fmt: skip
INDEX = ["method", "stage", "collapse", "point", "metric"]
NUMBERS = ["value", "low", "high"]

Measure = Callable[..., pd.DataFrame]
Key = tuple[int, str]


def build(network: dict[str, NetworkSettings], dataset: Dataset, seed: int) -> Network:
    """Return a network in evaluation mode whose batch norm has seen images."""
    ((family, settings),) = network.items()
    model = {"wrn": wrn, "resnet": resnet}[family].build(settings, 10, 1)  # type: ignore[arg-type]
    initialise(model, "uniform", torch.Generator().manual_seed(seed))
    with torch.no_grad():
        model.train()(normalise(dataset.train.images, dataset.mean, dataset.std))
    return model.eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with small digits and checkpoints, all of which say that they began alike."""
    folder = tmp_path_factory.mktemp("measured")
    pixels, labels = (np.asarray(array)[:360] for array in load_digits(return_X_y=True))
    levels = (pixels.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    images = np.pad(levels, ((0, 0), (1, 3), (2, 2)))[..., None]
    arrays = {
        "train_images": images[:200], "train_labels": labels[:200], "test_images": images[200:],
        "test_labels": labels[200:], "class_names": np.array([*"0123456789"]),
        "mean": np.array([images.mean()]), "std": np.array([images.std()]),
    }  # fmt: skip
    np.savez(folder / "no_masks.npz", allow_pickle=False, **arrays)
    above_zero = images[200:, ..., 0] > 0
    np.savez(folder / "above_zero.npz", allow_pickle=False, **arrays, test_masks=above_zero)
    masks = images[200:, ..., 0] > 64
    np.savez(folder / "few_masks.npz", allow_pickle=False, **arrays, test_masks=masks[1:])
    # One image without an object.
    masks[7] = False
    np.savez(folder / "data.npz", allow_pickle=False, **arrays, test_masks=masks)
    dataset = read_dataset(folder / "data.npz")

    def save(name: str, model: Network, network: dict[str, NetworkSettings], **more: Any) -> None:
        provenance = {"seed": 3, "arguments": {"gamma_init": "uniform"}} | more
        save_checkpoint(folder / f"{name}.pt", model, network, dataset, provenance)

    networks: dict[str, dict[str, NetworkSettings]] = {
        "teacher": {"wrn": checked(wrn.Settings, {"depth": 16, "width": 1})},
        "student": SMALL,
        "twin": SMALL,
        "resnet": {"resnet": checked(resnet.Settings, {"depth": 8})},
        "reflect": {"wrn": checked(wrn.Settings, PLAIN | {"padding_mode": "reflect"})},
    }
    for seed, (name, network) in enumerate(networks.items(), 20):
        save(name, build(network, dataset, seed), network)
    save("initial", untrained_network({"wrn": PLAIN}, START, dataset, 100, CPU), SMALL)
    save("brought", build(SMALL, dataset, 30), SMALL, seed=None, arguments={})
    bursting = build(SMALL, dataset, 31)
    nn.init.constant_(bursting.groups[1][0].conv1.weight, 3e38)  # type: ignore[index]
    save("bursting", bursting, SMALL)
    return folder


@pytest.fixture(scope="module")
def dataset(folder: Path) -> Dataset:
    """Return the small digits."""
    return read_dataset(folder / "data.npz")


@pytest.fixture(scope="module")
def measure(folder: Path) -> Measure:
    """Return a function that measures networks of the folder and reads the table."""

    def run(
        *methods: str, teacher: str | None = "teacher", taught: tuple[str, ...] | None = None,
        **flags: Any,
    ) -> pd.DataFrame:  # fmt: skip
        command = ["--data", folder / "data.npz"]
        for name in methods:
            command += ["--network", name, 3, folder / f"{name}.pt"]
        taught = tuple(name for name in methods if name in TAUGHT) if taught is None else taught
        command += ["--teacher", folder / f"{teacher}.pt"] if teacher else []
        command += ["--taught", *taught] if teacher and taught else []
        for flag, value in {**FLAGS, **flags}.items():
            values = value if isinstance(value, list) else [value]
            command += ["--" + flag.replace("_", "-"), *values]
        files = [folder / "table.csv", folder / "table.json"]
        for file in files:
            file.unlink(missing_ok=True)
        main([*map(str, command), "--metrics", str(files[0]), "--provenance", str(files[1])])
        table = pd.read_csv(files[0], keep_default_na=False, na_values=dict.fromkeys(NUMBERS, ""))
        table = table.set_index(INDEX)
        assert table.index.is_unique
        return table

    return run


@pytest.fixture(scope="module")
def table(measure: Measure) -> pd.DataFrame:
    """Return the table of all networks."""
    return measure("teacher", *TAUGHT)


@pytest.fixture(scope="module")
def provenance(table: pd.DataFrame, folder: Path) -> dict[str, Any]:
    """Return the provenance of the table of all networks."""
    assert len(table)
    return json.loads((folder / "table.json").read_text())


@pytest.fixture(scope="module")
def networks(folder: Path, dataset: Dataset) -> dict[str, Network]:
    """Return networks by the method that they have in the table."""
    files = {name: name for name in ("teacher", "student", "resnet")}
    files |= {"untrained_student": "initial"}
    return {
        name: load_checkpoint(folder / f"{file}.pt", dataset, CPU)[0]
        for name, file in files.items()
    }


def of(table: pd.DataFrame, *metrics: str, method: str | None = None) -> pd.DataFrame:
    """Return the rows of some metrics, or of all, and of one method."""
    rows = table.query("metric in @metrics") if metrics else table
    return rows.query("method == @method") if method else rows


def assert_same(
    found: pd.DataFrame, expected: pd.DataFrame, rtol: float = 1e-9, atol: float = 1e-12
) -> None:
    """Assert that two tables have the same rows, with the same numbers."""
    assert {*found.index} == {*expected.index}
    numbers = (each[NUMBERS].to_numpy() for each in (found, expected.loc[found.index]))
    np.testing.assert_allclose(*numbers, rtol=rtol, atol=atol)


def assert_values(
    table: pd.DataFrame, method: str, expected: dict[tuple[int, str, str], float]
) -> None:
    """Assert that a method has these values by stage, point and metric."""
    for (stage, point, metric), value in expected.items():
        found = table.loc[(method, stage, "mean_square", point, metric), "value"]
        assert found == pytest.approx(value, rel=1e-4, abs=1e-6), (stage, point, metric)


def whole_test_split(dataset: Dataset) -> Tensor:
    """Return all test images, normalised."""
    return normalise(dataset.test.images, dataset.mean, dataset.std)


@torch.no_grad()
def direct_maps(model: Network, images: Tensor) -> dict[Key, np.ndarray]:
    """Return the maps of all images in one pass, by stage and point."""
    stages = model(images).stages
    points = {"before_activation": stages, "after_activation": model.activated(stages)}
    return {
        (place, point): collapse_channels(output, "mean_square").double().numpy()
        for point, outputs in points.items()
        for place, output in enumerate(outputs, 1)
    }


def test_rows(table: pd.DataFrame) -> None:
    """There is a row for each metric that applies: those of a teacher where there is one."""
    columns = [*INDEX, "model", "control", "seed", "stages", *NUMBERS]
    assert [*table.reset_index().columns] == columns
    trained = ("teacher", *TAUGHT)
    controls = [f"untrained_{name}" for name in trained if name != "twin"]
    expected = set()
    for method, stage, point in product((*trained, *controls), SIZES, POINTS):
        metrics = ALONE | ARTIFICIAL | OBJECT
        metrics |= TEACHER if method.removeprefix("untrained_") in TAUGHT else set()
        if method in trained and (stage, point) == (3, "before_activation"):
            metrics |= FAITHFUL | CONTROLS
        expected |= {(method, stage, "mean_square", point, metric) for metric in metrics}
    assert {*table.index} == expected
    assert (set(table["stages"]), set(table["seed"])) == ({3}, {3})
    models = dict(zip(table.index.get_level_values("method"), table["model"], strict=True))
    assert (models["teacher"], models["untrained_resnet"]) == ("WRN-16-1", "resnet8")


def test_networks_that_began_alike_share_a_control(
    table: pd.DataFrame, provenance: dict[str, Any]
) -> None:
    """Rows name the method of their control, as the provenance does; a control has none."""
    expected = {name: f"untrained_{name}" for name in ("teacher", *TAUGHT)}
    expected["twin"] = "untrained_student"
    found = dict(zip(table.index.get_level_values("method"), table["control"], strict=True))
    assert found == expected | dict.fromkeys(expected.values(), "")
    assert {each["method"]: each["control"] for each in provenance["networks"]} == expected


def test_provenance(provenance: dict[str, Any], folder: Path, dataset: Dataset) -> None:
    """The table's provenance has settings, families and trainings, and no paths."""
    assert provenance["arguments"] == {**FLAGS, "threads": 1, "taught": [*TAUGHT]}
    assert provenance["plugins"].keys() == {"networks.wrn", "networks.resnet"}
    assert provenance["data_sha256"] == dataset.sha256
    assert len(provenance["networks"]) == 5
    assert str(folder) not in json.dumps(provenance)


def test_intervals(table: pd.DataFrame) -> None:
    """All but the constant image's values have intervals with the mean within.

    All networks have the same replicates: what depends on images alone has the same interval.
    """
    for metric, rows in table.groupby(level="metric"):
        numbers = rows[NUMBERS].to_numpy()
        value, low, high = numbers.T
        if str(metric).endswith("_constant"):
            assert np.isnan([low, high]).all(), metric
        elif metric == "cells":
            assert (value == low).all()
            assert (value == high).all()
            sides = rows.index.get_level_values("stage").map(SIZES)
            assert (value == np.square(sides)).all()
        else:
            assert ((low < value) & (value < high)).all(), metric
        if metric in ("pointing_game_chance", "object_iou_chance", "object_iou_centre"):
            (_, first) = next(iter(rows.groupby(level="method")))
            same = np.tile(first[NUMBERS], (len(rows) // len(first), 1))
            np.testing.assert_allclose(numbers, same, rtol=1e-12)


def test_several_collapses(measure: Measure, table: pd.DataFrame) -> None:
    """Each collapse has its rows, but for orders that are no map's, which the first one has.

    The sum of squares is the mean of squares at another scale: the same in every metric.
    """
    collapses = ["sum_square", "max_square"]
    found = measure("student", collapses=collapses)
    first, second = (found.xs(each, level="collapse") for each in collapses)
    more = {("student", 3, "before_activation", metric) for metric in CONTROLS}
    assert {*first.index} - {*second.index} == more
    assert {*second.index} < {*first.index}
    for metric in ("entropy", "deletion", "deletion_blur"):
        row = ("student", 3, "before_activation", metric)
        assert first.loc[row, "value"] != second.loc[row, "value"]
    same = found.query("collapse == 'sum_square'").rename(index={"sum_square": "mean_square"})
    assert_same(same, table.loc[same.index], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", ["student", "untrained_student", "resnet"])
def test_maps_of_test_images_equal_a_direct_computation(
    table: pd.DataFrame, networks: dict[str, Network], dataset: Dataset, folder: Path, method: str
) -> None:
    """Values are means over all test images at once; another image is the next one."""
    order = np.random.default_rng([5, 0]).permutation(len(dataset.test.labels))
    images = whole_test_split(dataset)[order]
    masks = np.load(folder / "data.npz")["test_masks"][order]
    sobel = attention.sobel_magnitude(dataset.test.images[order].numpy())
    taught = direct_maps(networks["teacher"], images)
    expected = {}
    for (stage, point), maps in direct_maps(networks[method], images).items():
        own, side = taught[stage, point], SIZES[stage]
        others = np.roll(own, -1, axis=0)
        values = {
            "teacher_cosine": attention.cosine(maps, own),
            "teacher_spearman": attention.spearman(maps, own),
            "teacher_cosine_shuffled": attention.cosine(maps, others),
            "teacher_spearman_shuffled": attention.spearman(maps, others),
            "cells": np.full(len(maps), side**2),
            "entropy": attention.normalised_entropy(maps),
            "gini": attention.gini(maps),
            "peak_over_mean": attention.peak_over_mean(maps),
            "border": attention.border_energy(maps),
            "border_left": attention.border_energy(maps, "left"),
            "pointing_game_chance": attention.pointing_game_chance(masks, side),
            "object_iou_chance": attention.object_iou_chance(masks),
        }
        centre = np.repeat(attention.centre_prior(side), len(maps), axis=0)
        for suffix, looks, objects in (
            ("", maps, masks), ("_other", maps, np.roll(masks, -1, axis=0)),
            ("_centre", centre, masks),
        ):  # fmt: skip
            enlarged = attention.enlarge(looks, 12)
            values[f"object_energy{suffix}"] = attention.object_energy(looks, objects)
            values[f"pointing_game{suffix}"] = attention.pointing_game(looks, objects)
            values[f"object_iou{suffix}"] = attention.object_iou(enlarged, objects)
        # All stages at the size of the last one.
        for suffix, size in (("", side), ("_pooled", 3)):
            pooled = maps.reshape(len(maps), size, side // size, size, side // size).mean((2, 4))
            edges = attention.area_average(sobel, size)
            values[f"effective_area{suffix}"] = attention.effective_area(pooled)
            values[f"sobel_spearman{suffix}"] = attention.spearman(pooled, edges)
            mean = attention.unit_vectors(pooled).mean(axis=0)
            values[f"image_dependence{suffix}"] = 1 - np.square(mean).sum()
        expected |= {(stage, point, metric): np.nanmean(each) for metric, each in values.items()}
    assert {metric for _, _, metric in expected} > OBJECT | TEACHER | ALONE - BORDER
    assert_values(table, method, expected)


@pytest.mark.parametrize("method", ["student", "untrained_student"])
def test_borders_of_artificial_images_equal_a_direct_computation(
    table: pd.DataFrame, networks: dict[str, Network], dataset: Dataset, method: str
) -> None:
    """The constant image is 0 after normalisation, the noise uniform from 0 to 255."""
    generator = np.random.default_rng([5, 1])
    noise = generator.integers(256, size=(20, 12, 12, 1), dtype=np.uint8)
    inputs = {
        "constant": torch.zeros(1, 1, 12, 12),
        "noise": normalise(torch.from_numpy(noise), dataset.mean, dataset.std),
    }
    expected = {
        (stage, point, f"border_top_{kind}"): attention.border_energy(maps, "top").mean()
        for kind, images in inputs.items()
        for (stage, point), maps in direct_maps(networks[method], images).items()
    }
    assert len(expected) == 12
    assert_values(table, method, expected)


def test_faithfulness_equals_a_direct_computation(
    table: pd.DataFrame, networks: dict[str, Network], dataset: Dataset
) -> None:
    """Deletion and insertion are those of all chosen images at once, for maps and controls."""
    model = networks["student"]
    chosen = choose_spread(dataset.test.labels.numpy(), 12)
    pixels, images = dataset.test.images[chosen].numpy(), whole_test_split(dataset)[chosen]
    at_random = np.random.default_rng([5, 2]).random((12, 2, CELLS))
    scores = {
        "": direct_maps(model, images)[3, "before_activation"],
        "_centre": np.tile(centre_scores(3), (12, 1)),
        "_sobel": attention.area_average(attention.sobel_magnitude(pixels), 3),
        "_grad_cam": grad_cam(model, images),
    }
    places = {
        suffix: order_cells(score.reshape(12, CELLS), at_random[:, 0])
        for suffix, score in scores.items()
    }
    places |= {str(number): order_cells(at_random[:, number], at_random[:, 0]) for number in (0, 1)}
    expected = {}
    for fill, filler in fill_images(pixels, ["background", "blur"], dataset).items():
        filled = normalise(torch.from_numpy(filler), dataset.mean, dataset.std)
        areas = deletion_insertion(model, images, filled, places, 4, 50)
        end = "" if fill == "background" else "_blur"
        for number, curve in enumerate(CURVES):
            found = {name: both[number].mean() for name, both in areas.items()}
            chance = (found.pop("0") + found.pop("1")) / 2
            found |= {"_random": chance, "_minus_random": found[""] - chance}
            for suffix, area in found.items():
                if not end or suffix in ("", "_random", "_minus_random"):
                    expected[3, "before_activation", f"{curve}{end}{suffix}"] = area
    assert {metric for _, _, metric in expected} == FAITHFUL | CONTROLS
    assert_values(table, "student", expected)


def test_network_is_its_own_teacher(measure: Measure) -> None:
    """A network is fully similar to itself, less so on other images."""
    table = measure("student", teacher="student")
    for metric in ("teacher_cosine", "teacher_spearman"):
        assert of(table, metric, method="student")["value"].to_numpy() == pytest.approx(1)
        assert np.max(of(table, f"{metric}_shuffled", method="student")["value"]) < 0.95


def test_networks_do_not_matter_to_each_other(measure: Measure, table: pd.DataFrame) -> None:
    """Measured alone and without a teacher, a network has the same rows but for the teacher's."""
    found = measure("student", teacher=None)
    assert_same(found, table.query("method.str.endswith('student') and metric not in @TEACHER"))


def test_batches_do_not_matter(measure: Measure, table: pd.DataFrame) -> None:
    """Values and intervals don't depend on the size of the batches, but for rounding."""
    found = measure("student", batch_size=7)
    assert_same(found, table.loc[found.index], rtol=1e-3, atol=1e-5)


def test_untrained_network_is_where_training_began(measure: Measure, table: pd.DataFrame) -> None:
    """The control's rows are what measuring the initial network itself gives."""
    found = of(measure("initial", taught=("initial",)), method="initial")
    expected = of(table, method="untrained_student")
    found = found.rename(index={"initial": "untrained_student"})
    assert_same(found.query("metric not in @FAITHFUL and metric not in @CONTROLS"), expected)
    metrics = ("entropy", "border", "teacher_cosine", "image_dependence")
    learnt = of(table, *metrics, method="student").rename(index={"student": "untrained_student"})
    assert np.all(learnt["value"] != expected.loc[learnt.index, "value"])


def test_norms_forget_what_they_knew(dataset: Dataset) -> None:
    """Statistics of weights that were read from a file don't stay among those of the images."""
    fresh = untrained_network({"wrn": PLAIN}, START, dataset, 100, CPU)
    used = deepcopy(fresh)
    for module in used.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.load_state_dict(module.state_dict() | {
                "running_var": torch.full_like(module.weight, 7),
                "num_batches_tracked": torch.tensor(5000),
            })  # fmt: skip
    estimate_norms(used, dataset, START.seed, 100)
    for own, expected in zip(used.buffers(), fresh.buffers(), strict=True):
        assert torch.equal(own, expected)


@pytest.mark.parametrize(("images", "gamma"), [(180, "ones"), (200, "uniform"), (999, "ones")])
def test_untrained_network(dataset: Dataset, images: int, gamma: Any) -> None:
    """Parameters are those that the run drew; statistics are means over batches of nearly one size.

    The batches are of so many training images, or of all that there are, each drawn once.
    """
    model = untrained_network({"wrn": PLAIN}, Start(3, gamma), dataset, images, CPU)
    seen = min(images, 200)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(3))[:seen]
    fresh = wrn.build(checked(wrn.Settings, PLAIN), 10, 1)
    initialise(fresh, gamma, torch.Generator().manual_seed(3))
    parameters = (dict(each.named_parameters()) for each in (model, fresh))
    torch.testing.assert_close(*parameters, rtol=0, atol=0)
    statistics = []
    for batch in (order[: seen // 2], order[seen // 2 :]):
        with torch.no_grad():
            inputs = normalise(dataset.train.images[batch], dataset.mean, dataset.std)
            output = fresh.stem(inputs).transpose(0, 1).flatten(1)
        statistics.append((output.mean(dim=1), output.var(dim=1)))
    norm = model.groups[0][0].norm1  # type: ignore[index]
    means = [torch.stack(each).mean(dim=0) for each in zip(*statistics, strict=True)]
    found = [norm.running_mean, norm.running_var]
    torch.testing.assert_close(found, means, rtol=1e-4, atol=1e-5)
    assert not model.training


def test_networks_of_other_sources_have_no_control(measure: Measure) -> None:
    """Where the provenance doesn't tell how a network began, there is no control."""
    table = measure("brought", teacher=None)
    assert {*table.index.get_level_values("method")} == {"brought"}
    assert {*table["control"]} == {""}


def test_seed_of_the_bootstrap(measure: Measure, table: pd.DataFrame) -> None:
    """Another seed gives other intervals about the same means."""
    metrics = ("entropy", "image_dependence", "object_iou", "teacher_cosine")
    other = of(measure("student", bootstrap_seed=6), *metrics)
    same = table.loc[other.index]
    np.testing.assert_allclose(same["value"], other["value"], rtol=1e-5)
    ends = (each[["low", "high"]].to_numpy() for each in (same, other))
    assert not np.equal(*ends).any()


@pytest.mark.parametrize("masks", ["none", "above_zero"])
def test_masks(measure: Measure, table: pd.DataFrame, folder: Path, masks: str) -> None:
    """Without masks no rows are about the object; pixels above 0 are masks that one may store."""
    found = measure("student", object_mask=masks, data=folder / "no_masks.npz")
    if masks == "none":
        expected = table.query("method.str.endswith('student') and metric not in @OBJECT")
    else:
        expected = measure("student", data=folder / "above_zero.npz")
    assert_same(found, expected)


def test_reflecting_network_has_no_border(table: pd.DataFrame) -> None:
    """On a constant image the maps of a network that reflects are uniform, trained or not."""
    constant = of(table, *(f"{name}_constant" for name in BORDER))
    for method in ("reflect", "untrained_reflect"):
        assert of(constant, method=method)["value"].to_numpy() == pytest.approx(1, abs=1e-4)
    for method in ("student", "untrained_student"):
        values = of(constant, method=method)["value"].to_numpy()
        assert np.mean(np.abs(values - 1) > 0.01) > 0.9


class Pooled(Network):
    """A network with a fourth stage, of one position."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Outputs:
        """Return the network's outputs and, as one more stage, the mean of the last one."""
        logits, stages = self.network(images)
        last = stages[-1].mean(dim=(2, 3), keepdim=True)
        return Outputs(logits + last.mean(), [*stages, last])

    def activated(self, stages: list[Tensor]) -> list[Tensor]:
        """Return the stages after their activation."""
        return [*self.network.activated(stages[:-1]), stages[-1].relu()]


def study_of(networks: dict[str, Network], dataset: Dataset, images: int, **values: Any) -> Study:
    """Return what measures a student of four stages and a control on the first test images."""
    test = dataset.test
    split = replace(test, images=test.images[:images], labels=test.labels[:images])
    student = Pooled(networks["student"]).eval()
    partners = find_partners(student, networks["teacher"], dataset)
    subjects = [
        Subject("student", 3, "x", student, 4, "untrained_student", partners),
        Subject("untrained_student", 3, "x", networks["untrained_student"], 3),
    ]
    flags = {name: value for name, value in FLAGS.items() if name != "device"}
    settings = AttentionMeasures(**{**flags, "object_mask": "none", **values})  # type: ignore[arg-type]
    return Study(subjects, networks["teacher"], replace(dataset, test=split), None, settings, CPU)


def test_any_number_of_stages(networks: dict[str, Network], dataset: Dataset) -> None:
    """A stage without one of its size has no row beside the teacher; the last has the controls.

    Of one position nothing is measured that needs several, nor of maps pooled to it.
    """
    study = study_of(networks, dataset, 20)
    assert study.subjects[0].partners == {1: 1, 2: 2, 3: 3}
    stages: dict[str, set[int]] = {}
    for name in measure_all(study):
        if name.method == "student":
            stages.setdefault(name.metric, set()).add(name.key.stage)
    assert stages["teacher_cosine"] == {1, 2, 3}
    assert stages["entropy"] == {1, 2, 3}
    assert stages["effective_area"] == stages["image_dependence"] == {1, 2, 3}
    assert stages["border"] == stages["border_noise"] == {1, 2, 3}
    assert stages["cells"] == {1, 2, 3, 4}
    assert not [name for name in stages if name.endswith("_pooled")]
    assert stages["deletion"] == stages["deletion_random"] == {4}
    other = dataset.train.images[:, :5, :5]
    tiny = replace(dataset, train=replace(dataset.train, images=other))
    assert find_partners(Pooled(networks["student"]), networks["teacher"], tiny)[3] == 3


def test_memory_does_not_grow_with_the_images(
    networks: dict[str, Network], dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No pass has more images than a batch and one, and of more images no more is kept.

    The teacher is run once for each batch: its maps serve all students.
    """
    seen: dict[str, list[int]] = {name: [] for name in networks}
    for name, model in networks.items():
        count = partial(lambda name, _, inputs: seen[name].append(len(inputs[0])), name)
        model.register_forward_pre_hook(count)
    monkeypatch.setattr(bootstrap, "GROUPS", 16)
    kept = []
    for images in (20, 36):
        study = study_of(networks, dataset, images, batch_size=8, faithfulness_images=4)
        more = [Subject(name, 3, "x", networks["teacher"], 3) for name in ("teacher", "twin")]
        sums = Sums(100, 0)
        measure_test_images(replace(study, subjects=study.subjects + more), sums)
        kept.append({names: total.shape for names, total in sums.sums.items()})
        measure_all(study)
    assert max(map(max, filter(None, seen.values()))) == 9
    # One image is for the sizes of its stages.
    assert [count for count in seen["teacher"] if count > 1] == [9, 9, 5] * 2 + [9, 9, 9, 9, 5] * 2
    assert kept[0] == kept[1]


def test_spread_choice_is_balanced() -> None:
    """Each class has as many images as can be, evenly spread; a small class has all of its own."""
    labels = np.repeat([0, 1, 2, 3], [40, 2, 40, 40])
    chosen = choose_spread(labels, 14)
    assert np.bincount(labels[chosen]).tolist() == [4, 2, 4, 4]
    assert (chosen[:4].tolist(), chosen[4:6].tolist()) == ([0, 10, 20, 30], [40, 41])
    assert np.bincount(labels[choose_spread(labels, 2)], minlength=4).tolist() == [1, 1, 0, 0]
    for count in (122, 10_000):
        assert sorted(choose_spread(labels, count)) == [*range(122)]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"data": "no_masks.npz"}, r"no_masks.npz: has no test_masks.*above_zero, none"),
        ({"data": "few_masks.npz"}, r"few_masks.npz: test_masks is bool \(159.*\(160"),
        ({"network": ["twin", 4, "twin.pt"]}, "twin.pt: is of seed 3, expected 4"),
        ({"network": ["twin", "x", "twin.pt"]}, "network twin: seed is 'x'; allowed"),
        ({"network": ["student", 3, "twin.pt"]}, "network: student is named twice"),
        ({"taught": ("twin",)}, "taught: found twin; allowed: student"),
        ({"collapses": ["mean_square"] * 2}, "collapses: found .*allowed: each once"),
        ({"network": ["bursting", 3, "bursting.pt"]}, "bursting: maps of stage 2, mean_square"),
    ],
)
def test_mistakes(
    measure: Measure, folder: Path, monkeypatch: pytest.MonkeyPatch, flags: dict[str, Any],
    message: str,
) -> None:  # fmt: skip
    """A mistake is told by what was found and what is allowed, and leaves no table."""
    monkeypatch.chdir(folder)
    with pytest.raises((ValueError, FloatingPointError), match=message):
        measure("student", **flags)
    assert not [*folder.glob("table*")]
