"""Evaluation and the maps that are drawn, as programs and by their parts."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics
import torch

import evaluate
import extract_attention
from distillation.data.dataset import Dataset, normalise, read_dataset
from distillation.measuring.accuracy import confusion_matrix, predict
from distillation.networks import initialise
from distillation.networks.wrn import Settings, WideResNet, build
from distillation.numerics import collapse_channels
from distillation.record.checkpoint import save_checkpoint
from distillation.settings.base import checked

SETTINGS = checked(Settings, {"depth": 10, "width": 1})
METRICS = ("top1_accuracy", "expected_calibration_error", "teacher_agreement", "teacher_divergence")

Evaluate = Callable[..., dict[str, Any]]


def network(seed: int) -> WideResNet:
    """Return a network for the digits, with running statistics of its own."""
    model = build(SETTINGS, 10, 1)
    generator = torch.Generator().manual_seed(seed)
    initialise(model, "uniform", generator)
    model.train()(torch.randn(32, 1, 12, 12, generator=generator))
    return model


@pytest.fixture
def model() -> WideResNet:
    """Return one of the networks."""
    return network(0)


@pytest.fixture(scope="module")
def folder(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the digits and checkpoints of two networks and a bursting one."""
    folder = tmp_path_factory.mktemp("evaluated")
    arrays = {
        f"{split}_{what}": getattr(getattr(digits, split), what).numpy()
        for split in ("train", "test")
        for what in ("images", "labels")
    }
    arrays |= {"class_names": np.array(digits.class_names), "held_out": np.array(True)}
    arrays |= {"mean": np.array(digits.mean), "std": np.array(digits.std)}
    np.savez(folder / "data.npz", allow_pickle=False, **arrays)
    models = {"teacher": network(1), "student": network(0), "bursting": network(2)}
    torch.nn.init.constant_(models["bursting"].classifier.weight, 3e38)
    for name, each in models.items():
        path = folder / f"{name}.pt"
        save_checkpoint(path, each, {"wrn": SETTINGS}, digits, {"seed": 3})
    return folder


@pytest.fixture(scope="module")
def evaluated(folder: Path) -> Evaluate:
    """Return a function that evaluates a network of the folder and reads its metrics."""

    def run(name: str, teacher: str | None = None, **flags: Any) -> dict[str, Any]:
        files = {"data": "data.npz", "checkpoint": f"{name}.pt", "metrics": f"{name}.json"}
        files |= {"predictions": f"{name}.npz"}
        files |= {"teacher-predictions": f"{teacher}.npz"} if teacher else {}
        command = [text for flag, file in files.items() for text in (f"--{flag}", folder / file)]
        command += [text for flag, value in flags.items() for text in (f"--{flag}", value)]
        command += [text for metric in METRICS[:-1] for text in ("--metric", metric)]
        command += ["--metric", METRICS[-1], "smallest_difference=0.5"]
        evaluate.main([str(text) for text in command])
        return json.loads((folder / f"{name}.json").read_text())

    return run


@pytest.fixture(scope="module")
def student(evaluated: Evaluate) -> dict[str, Any]:
    """Return the metrics of a student beside its teacher."""
    evaluated("teacher")
    return evaluated("student", "teacher")


@pytest.mark.parametrize("batch_size", [1, 7, 40, 1000])
def test_predictions_are_those_of_plain_images_in_order(
    digits: Dataset, model: WideResNet, batch_size: int
) -> None:
    """Logits come in the order of the split, from images that are only normalised."""
    found = predict(model, digits.test, digits.mean, digits.std, batch_size)
    with torch.no_grad():
        expected = [
            model.eval()(normalise(image[None], digits.mean, digits.std)).logits[0]
            for image in digits.test.images
        ]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.stack(expected))


def test_predicting_leaves_weights_and_statistics(digits: Dataset, model: WideResNet) -> None:
    """Predicting puts the network into evaluation mode and changes nothing in it."""
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    predict(model.train(), digits.test, digits.mean, digits.std, 8)
    assert not model.training
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)


@pytest.mark.parametrize("classes", [2, 10])
def test_confusion_matrix_equals_that_of_scikit_learn(classes: int) -> None:
    """Rows are labels, columns predictions, as in scikit-learn; absent classes have zeros."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(300, classes, generator=generator)
    labels = torch.randint(classes - 1, (300,), generator=generator)
    expected = sklearn.metrics.confusion_matrix(labels, logits.argmax(1), labels=range(classes))
    np.testing.assert_array_equal(confusion_matrix(logits, labels).numpy(), expected)


def test_metrics_of_a_student(student: dict[str, Any], digits: Dataset, folder: Path) -> None:
    """metrics.json has the metrics that were asked for, and what was counted."""
    assert tuple(student["metrics"]) == METRICS
    assert (student["images"], student["held_out"]) == (40, True)
    accuracy = student["metrics"]["top1_accuracy"]
    assert {name: accuracy[name] for name in ("label", "unit", "decimals")} == {
        "label": "Test accuracy", "unit": "%", "decimals": 2,
    }  # fmt: skip
    assert accuracy["value"] == 100 * np.trace(student["confusion_matrix"]) / 40
    assert student["metrics"]["teacher_divergence"]["smallest_difference"] == 0.5
    counts = torch.bincount(digits.test.labels, minlength=10).numpy()
    by_class = np.diagonal(student["confusion_matrix"]) / counts
    assert list(student["per_class_accuracy"].values()) == pytest.approx(by_class)
    assert student["parameters"] == sum(each.numel() for each in network(0).parameters())
    assert student["checkpoint_bytes"] == (folder / "student.pt").stat().st_size
    assert student["latency_milliseconds"] > 0
    assert student["training_provenance"] == {"seed": 3}
    provenance = student["provenance"]
    assert provenance["plugins"].keys() == {
        "networks.wrn",
        *(f"metrics.{name}" for name in METRICS),
    }
    assert provenance["arguments"]["metric"]["top1_accuracy"] == {"smallest_difference": 0.5}
    assert str(folder) not in json.dumps(provenance)


def test_predictions_hold_each_image(student: dict[str, Any], folder: Path) -> None:
    """Metrics with a value for each image stand beside the logits, and their mean is the metric."""
    with np.load(folder / "student.npz") as archive:
        arrays = dict(archive)
    per_image = arrays.keys() - {"logits", "labels", "predictions"}
    assert per_image == {*METRICS} - {"expected_calibration_error"}
    for name in per_image:
        assert arrays[name].shape == (40,)
        assert arrays[name].mean() == pytest.approx(student["metrics"][name]["value"])
    assert set(arrays["top1_accuracy"]) <= {0, 100}


@pytest.mark.usefixtures("student")
def test_metrics_that_need_a_teacher(folder: Path) -> None:
    """Without a teacher's predictions the metrics that need them are left out."""
    metrics = json.loads((folder / "teacher.json").read_text())
    assert tuple(metrics["metrics"]) == METRICS[:2]


def test_metrics_of_training_images(
    folder: Path, digits: Dataset, student: dict[str, Any], evaluated: Evaluate
) -> None:
    """Training images are answered too where a metric is of these, as many as are asked for."""
    assert student
    flags = {"metric": "training_agreement", "training-images": 30}
    with pytest.raises(ValueError, match=r"teacher\.npz: .* of training images; .* --metric and"):
        evaluated("student", "teacher", **flags)
    evaluated("teacher", **flags | {"training-images": 20})
    with pytest.raises(ValueError, match=r"found \(20, 10\), expected \(30, .*--training-images"):
        evaluated("student", "teacher", **flags)
    evaluated("teacher", **flags)
    found = evaluated("student", "teacher", **flags)["metrics"]["training_agreement"]
    assert (found["split"], found["images"]) == ("train", 30)
    with np.load(folder / "student.npz") as own, np.load(folder / "teacher.npz") as theirs:
        assert "training_agreement" not in own
        agree = own["train_logits"].argmax(1) == theirs["train_logits"].argmax(1)
        logits = own["train_logits"]
    assert found["value"] == pytest.approx(100 * agree.mean())
    chosen = np.linspace(0, len(digits.train.labels) - 1, 30).astype(int)
    with torch.no_grad():
        images = normalise(digits.train.images[chosen], digits.mean, digits.std)
        expected = network(0).eval()(images).logits
    torch.testing.assert_close(torch.from_numpy(logits), expected)


def test_a_class_without_images(folder: Path, digits: Dataset, evaluated: Evaluate) -> None:
    """A class without a test image has no accuracy."""
    data = dict(np.load(folder / "data.npz"))
    kept = data["test_labels"] != 3
    data |= {name: data[name][kept] for name in ("test_images", "test_labels")}
    np.savez(folder / "few.npz", allow_pickle=False, **data)
    found = evaluated("student", data=folder / "few.npz")["per_class_accuracy"]
    assert [name for name, value in found.items() if value is None] == [digits.class_names[3]]


def test_metrics_that_predictions_do_not_have(
    folder: Path, student: dict[str, Any], evaluated: Evaluate
) -> None:
    """A metric that these predictions don't have is left out of both files."""
    assert student
    right = dict(np.load(folder / "teacher.npz"))
    right["logits"] = 10 * np.eye(10, dtype=np.float32)[right["labels"]]
    np.savez(folder / "right.npz", allow_pickle=False, **right)
    found = evaluated("student", "right", metric="teacher_agreement_wrong")
    assert tuple(found["metrics"]) == METRICS


@pytest.mark.usefixtures("student")
def test_logits_that_are_not_finite(folder: Path, evaluated: Evaluate) -> None:
    """A network, or a teacher, whose logits aren't finite is refused and leaves no files."""
    with pytest.raises(ValueError, match=r"bursting\.pt: logits of 40 of 40 .*NaN or infinity"):
        evaluated("bursting")
    assert not [*folder.glob("bursting.[jn]*")]
    predictions = dict(np.load(folder / "teacher.npz"))
    predictions["logits"][3, 1] = np.nan
    np.savez(folder / "holes.npz", allow_pickle=False, **predictions)
    with pytest.raises(ValueError, match=r"holes\.npz: logits of 1 of 40"):
        evaluated("student", "holes")


def test_teacher_of_other_images(
    folder: Path, student: dict[str, Any], evaluated: Evaluate
) -> None:
    """A teacher's predictions of other images are refused with what was found."""
    assert student
    predictions = dict(np.load(folder / "teacher.npz"))
    predictions["logits"] = predictions["logits"][1:]
    np.savez(folder / "fewer.npz", allow_pickle=False, **predictions)
    with pytest.raises(ValueError, match=r"fewer\.npz: .*found \(39, 10\), expected \(40, 10\)"):
        evaluated("student", "fewer")


def test_maps_of_all_stages(folder: Path, digits: Dataset) -> None:
    """The archive has the title, the number of stages, and each stage's maps of chosen images."""
    files = ["--data", folder / "data.npz", "--checkpoint", folder / "student.pt"]
    files += ["--attention", folder / "maps.npz"]
    extract_attention.main([*map(str, files), "--images-per-class", "2", "--seed", "1"])
    with np.load(folder / "maps.npz") as archive:
        arrays = dict(archive)
    assert (str(arrays["title"]), arrays["stages"]) == ("WRN-10-1", 3)
    indices = arrays["indices"]
    assert arrays["labels"].tolist() == np.repeat(range(10), 2).tolist()
    test = read_dataset(folder / "data.npz").test
    assert (arrays["images"] == test.images[indices].numpy()).all()
    with torch.no_grad():
        images = normalise(test.images[indices], digits.mean, digits.std)
        stages = network(0).eval()(images).stages
    for number, stage in enumerate(stages, 1):
        expected = collapse_channels(stage, "sum_absolute").numpy()
        np.testing.assert_allclose(arrays[f"sum_absolute_{number}"], expected, rtol=1e-4)
