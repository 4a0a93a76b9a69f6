"""The metrics against scikit-learn, SciPy and plain loops."""

import math
from typing import Any

import numpy as np
import pytest
import scipy.special
import scipy.stats
import sklearn.metrics
import torch
from torch import Tensor

from distillation.metrics import measure_metric
from distillation.metrics.expected_calibration_error import BINS
from distillation.settings.base import MetricSettings
from distillation.settings.plugins import declared, names


def measure(name: str, logits: Tensor, labels: Tensor | None = None, teacher: Any = None) -> float:
    """Return the value of a metric; labels of 0 where they don't matter."""
    labels = torch.zeros(len(logits), dtype=torch.int64) if labels is None else labels
    return measure_metric(name, settings(name), logits, labels, teacher).entry["value"]


def settings(name: str, **values: float) -> MetricSettings:
    """Return the settings of a metric."""
    return declared("metrics", name)(**values)  # type: ignore[return-value]


def random_logits(images: int, classes: int, seed: int = 0, scale: float = 2.0) -> Tensor:
    """Return normal logits (N, K)."""
    return torch.randn(images, classes, generator=torch.Generator().manual_seed(seed)) * scale


def random_labels(images: int, classes: int, seed: int = 9) -> Tensor:
    """Return labels (N,)."""
    return torch.randint(classes, (images,), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", names("metrics"))
def test_metrics_say_what_tables_need(name: str) -> None:
    """Each entry has what tables and verdicts need, and the smallest difference that was chosen."""
    logits, teacher = random_logits(50, 10), random_logits(50, 10, 1)
    chosen = settings(name, smallest_difference=0.7)
    entry, per_image = measure_metric(name, chosen, logits, random_labels(50, 10), teacher)
    value = entry.pop("value")
    assert math.isfinite(value)
    if per_image is not None:
        assert per_image.shape == (50,)
        assert per_image.mean() == pytest.approx(value)
    assert entry["smallest_difference"] == 0.7
    assert {key: type(what) for key, what in entry.items()} == {
        "label": str, "unit": str, "decimals": int, "smallest_difference": float,
        "higher_is_better": bool, "reason": str,
    }  # fmt: skip


@pytest.mark.parametrize("k", [1, 5])
def test_accuracies_equal_those_of_scikit_learn(k: int) -> None:
    """Accuracies are scikit-learn's, in percent; of fewer classes than k, 100."""
    logits, labels = random_logits(200, 10), random_labels(200, 10)
    expected = sklearn.metrics.top_k_accuracy_score(labels, logits, k=k, labels=np.arange(10))
    assert measure(f"top{k}_accuracy", logits, labels) == pytest.approx(100 * expected)
    assert measure("top5_accuracy", logits[:, :3], labels % 3) == 100


def test_cross_entropy_equals_that_of_scikit_learn() -> None:
    """Cross-entropy is scikit-learn's log loss."""
    logits, labels = random_logits(200, 10), random_labels(200, 10)
    probabilities = scipy.special.softmax(logits.double().numpy(), axis=1)
    expected = sklearn.metrics.log_loss(labels, probabilities, labels=np.arange(10))
    assert measure("cross_entropy", logits, labels) == pytest.approx(expected)


def plain_calibration_error(logits: Tensor, labels: Tensor) -> float:
    """Sort images into bins (low, high] by confidence and compare accuracy with confidence."""
    bins: dict[int, list[float]] = {}
    for row, label in zip(logits.double().numpy(), labels.tolist(), strict=True):
        confidence = float(scipy.special.softmax(row).max())
        (number,) = (
            number for number in range(BINS) if number / BINS < confidence <= (number + 1) / BINS
        )
        bins.setdefault(number, []).append((row.argmax() == label) - confidence)
    gaps = (len(entries) * abs(sum(entries) / len(entries)) for entries in bins.values())
    return 100 * sum(gaps) / len(labels)


@pytest.mark.parametrize(("classes", "scale"), [(2, 1.0), (10, 2.0), (10, 20.0), (100, 0.01)])
def test_calibration_error_equals_a_plain_loop(classes: int, scale: float) -> None:
    """The calibration error is the mean gap of its bins, weighted by their images."""
    logits, labels = random_logits(500, classes, scale=scale), random_labels(500, classes)
    found = measure("expected_calibration_error", logits, labels)
    assert found == pytest.approx(plain_calibration_error(logits, labels), abs=1e-7)


@pytest.mark.parametrize("classes", [2, 3, 5, 15, 30])
def test_confidence_on_a_bound_belongs_to_the_lower_bin(classes: int) -> None:
    """Confidences of exactly 1 / K and 1 lie in the bins that end there, also beside others."""
    logits = torch.zeros(9, classes)
    logits[3:6, 0] = 1e4
    # A little more confidence than 1 / K lies in the next bin where 1 / K is a bound.
    logits[6:, 0] = 0.02
    # Right in one bin and wrong in the next one: joined in one bin, the gaps would cancel.
    labels = torch.tensor([0, 0, 0, 0, 0, 1, 1, 1, 1])
    found = measure("expected_calibration_error", logits, labels)
    assert found == pytest.approx(plain_calibration_error(logits, labels), abs=1e-7)


@pytest.mark.parametrize("scale", [0.1, 3.0, 100.0])
def test_divergence_equals_that_of_scipy(scale: float) -> None:
    """The divergence is the mean of SciPy's relative entropies of teacher and student."""
    student, teacher = random_logits(50, 10, 1, scale), random_logits(50, 10, 2, scale)
    p, q = (scipy.special.softmax(logits.double().numpy(), axis=1) for logits in (teacher, student))
    expected = scipy.stats.entropy(p, q, axis=1).mean()
    assert measure("teacher_divergence", student, teacher=teacher) == pytest.approx(expected)


def test_agreement_equals_a_plain_count() -> None:
    """Agreement is the percentage of images of one predicted class, right or wrong."""
    student, teacher = random_logits(200, 3, 1), random_logits(200, 3, 2)
    pairs = zip(student.tolist(), teacher.tolist(), strict=True)
    count = sum(one.index(max(one)) == two.index(max(two)) for one, two in pairs)
    assert measure("teacher_agreement", student, teacher=teacher) == pytest.approx(count / 2)
    assert measure("teacher_agreement", student, teacher=student * 2 + 1) == 100
