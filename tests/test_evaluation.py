"""Measures against scikit-learn, SciPy and plain loops."""

import math

import numpy as np
import pytest
import scipy.special
import scipy.stats
import sklearn.metrics
import torch
from torch import Tensor

from distillation.data import Split, normalise
from distillation.evaluation import (
    CALIBRATION_BINS,
    agreement,
    confusion_matrix,
    divergence_from_teacher,
    expected_calibration_error,
    predict,
    top_k_accuracy,
)
from distillation.models import WideResNet, initialise


def random_logits(images: int, classes: int, seed: int = 0, scale: float = 2.0) -> Tensor:
    """Return normal logits (N, K)."""
    return torch.randn(images, classes, generator=torch.Generator().manual_seed(seed)) * scale


def random_labels(images: int, classes: int, seed: int = 9) -> Tensor:
    """Return labels (N,)."""
    return torch.randint(classes, (images,), generator=torch.Generator().manual_seed(seed))


def plain_calibration_error(logits: Tensor, labels: Tensor) -> float:
    """Sort images into bins (low, high] by confidence and compare accuracy with confidence."""
    probabilities = scipy.special.softmax(logits.double().numpy(), axis=1)
    bins: dict[int, list[tuple[bool, float]]] = {}
    for row, label in zip(probabilities, labels.tolist(), strict=True):
        confidence = float(row.max())
        (number,) = (
            number
            for number in range(CALIBRATION_BINS)
            if number / CALIBRATION_BINS < confidence <= (number + 1) / CALIBRATION_BINS
        )
        bins.setdefault(number, []).append((bool(row.argmax() == label), confidence))
    error = 0.0
    for entries in bins.values():
        accuracy = sum(right for right, _ in entries) / len(entries)
        confidence = sum(value for _, value in entries) / len(entries)
        error += len(entries) / len(labels) * abs(accuracy - confidence)
    return error


@pytest.fixture
def model() -> WideResNet:
    """Return a network for the digits, with running statistics of its own."""
    model = WideResNet(10, 1, 10, 1)
    generator = torch.Generator().manual_seed(0)
    initialise(model, "uniform", generator)
    model.train()(torch.randn(32, 1, 12, 12, generator=generator))
    return model


@pytest.mark.parametrize("batch_size", [1, 7, 40, 1000])
def test_predictions_are_those_of_plain_images_in_order(digits, model, batch_size):
    """Logits come in the order of the split, from images that are only normalised."""
    found = predict(model, digits.test, digits.mean, digits.std, batch_size)
    with torch.no_grad():
        expected = [
            model.eval()(normalise(image[None], digits.mean, digits.std))[0][0]
            for image in digits.test.images
        ]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.stack(expected))


def test_predicting_leaves_weights_and_statistics(digits, model):
    """Predicting puts the network into evaluation mode and changes nothing in it."""
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    predict(model.train(), digits.test, digits.mean, digits.std, 8)
    assert not model.training
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize("k", [1, 2, 5, 9])
def test_top_k_accuracy_equals_that_of_scikit_learn(k):
    """Top-k accuracy is scikit-learn's, for every k."""
    logits, labels = random_logits(200, 10), random_labels(200, 10)
    expected = sklearn.metrics.top_k_accuracy_score(labels, logits, k=k, labels=np.arange(10))
    assert top_k_accuracy(logits, labels, k) == pytest.approx(expected, abs=1e-12)


def test_top_5_of_3_classes_is_1():
    """Where there are fewer than k classes, every label is among the best k."""
    assert top_k_accuracy(random_logits(20, 3), random_labels(20, 3), 5) == 1


@pytest.mark.parametrize("classes", [2, 10])
def test_confusion_matrix_equals_that_of_scikit_learn(classes):
    """Rows are labels, columns predictions, as in scikit-learn."""
    logits, labels = random_logits(300, classes), random_labels(300, classes)
    expected = sklearn.metrics.confusion_matrix(labels, logits.argmax(1), labels=range(classes))
    np.testing.assert_array_equal(confusion_matrix(logits, labels).numpy(), expected)


def test_confusion_matrix_has_rows_of_absent_classes():
    """Classes without images or predictions have rows and columns of zeros."""
    logits = torch.tensor([[0.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    found = confusion_matrix(logits, torch.tensor([1, 0]))
    assert found.tolist() == [[0, 1, 0], [0, 1, 0], [0, 0, 0]]


@pytest.mark.parametrize(("classes", "scale"), [(2, 1.0), (10, 2.0), (10, 20.0), (100, 0.01)])
def test_calibration_error_equals_a_plain_loop(classes, scale):
    """The calibration error is the mean gap of its bins, weighted by their images."""
    logits, labels = random_logits(500, classes, scale=scale), random_labels(500, classes)
    found = expected_calibration_error(logits, labels)
    assert found == pytest.approx(plain_calibration_error(logits, labels), abs=1e-9)


@pytest.mark.parametrize("classes", [2, 3, 5, 15, 30])
def test_confidence_on_a_bound_belongs_to_the_lower_bin(classes):
    """Confidences of exactly 1 / K and 1 lie in the bins that end there, also beside others."""
    even = torch.zeros(3, classes)
    certain = torch.zeros(3, classes)
    certain[:, 0] = 1e4
    # A little more confidence than 1 / K lies in the next bin where 1 / K is a bound.
    above = torch.zeros(3, classes)
    above[:, 0] = 0.02
    logits = torch.cat([even, certain, above])
    # Right in one bin and wrong in the next one: joined in one bin, the gaps would cancel.
    labels = torch.tensor([0, 0, 0, 0, 0, 1, 1, 1, 1])
    found = expected_calibration_error(logits, labels)
    assert found == pytest.approx(plain_calibration_error(logits, labels), abs=1e-9)


def test_calibration_error_of_known_outputs():
    """Certain and right is 0, certain and wrong 1, and a fair coin called half of the time 0."""
    certain = torch.tensor([[100.0, 0.0]] * 4)
    assert expected_calibration_error(certain, torch.zeros(4, dtype=torch.int64)) == 0
    assert expected_calibration_error(certain, torch.ones(4, dtype=torch.int64)) == 1
    assert expected_calibration_error(torch.zeros(4, 2), torch.tensor([0, 1, 0, 1])) == 0


@pytest.mark.parametrize("scale", [0.1, 3.0, 100.0])
def test_divergence_equals_that_of_scipy(scale):
    """The divergence is the mean of SciPy's relative entropies of teacher and student."""
    student, teacher = random_logits(50, 10, 1, scale), random_logits(50, 10, 2, scale)
    p, q = (scipy.special.softmax(logits.double().numpy(), axis=1) for logits in (teacher, student))
    expected = scipy.stats.entropy(p, q, axis=1).mean()
    assert divergence_from_teacher(student, teacher) == pytest.approx(expected, rel=1e-9)


def test_divergence_has_a_direction():
    """The teacher's distribution weighs the terms: swapped, another number comes out."""
    sure, unsure = torch.tensor([[10.0, 0.0]]), torch.tensor([[0.0, 0.0]])
    assert divergence_from_teacher(unsure, sure) == pytest.approx(math.log(2), abs=1e-3)
    assert divergence_from_teacher(sure, unsure) > 4
    assert divergence_from_teacher(sure, sure + 3) == pytest.approx(0, abs=1e-12)


def test_agreement_equals_a_plain_count():
    """Agreement is the fraction of images of one predicted class, right or wrong."""
    student, teacher = random_logits(200, 3, 1), random_logits(200, 3, 2)
    pairs = zip(student.tolist(), teacher.tolist(), strict=True)
    count = sum(one.index(max(one)) == two.index(max(two)) for one, two in pairs)
    assert agreement(student, teacher) == pytest.approx(count / 200)
    assert agreement(student, student * 2 + 1) == 1


def test_measures_of_a_perfect_network(digits):
    """Logits that are the labels score 1, fill the diagonal and agree with themselves."""
    split: Split = digits.test
    logits = torch.nn.functional.one_hot(split.labels, 10).float() * 100
    assert top_k_accuracy(logits, split.labels, 1) == 1
    assert confusion_matrix(logits, split.labels).diagonal().sum() == len(split.labels)
    assert agreement(logits, logits) == 1
