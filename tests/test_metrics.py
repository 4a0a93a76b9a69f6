"""The metrics against scikit-learn, SciPy and plain loops."""

import math
from typing import Any

import numpy as np
import pytest
import scipy.optimize
import scipy.special
import scipy.stats
import sklearn.metrics
import torch
from torch import Tensor

from distillation.measuring.accuracy import confusion_matrix, in_top_k
from distillation.measuring.answers import Answers
from distillation.measuring.calibration import BINS, fit_temperature, scale_temperature
from distillation.metrics import Measured, measure_metric
from distillation.settings.base import MetricSettings
from distillation.settings.plugins import declared, names


def measure(name: str, logits: Tensor, labels: Tensor | None = None, teacher: Any = None) -> float:
    """Return the value of a metric; labels of 0 where they don't matter."""
    labels = torch.zeros(len(logits), dtype=torch.int64) if labels is None else labels
    found = measured(name, settings(name), logits, labels, teacher)
    assert isinstance(found, Measured)
    return found.entry["value"]


def measured(
    name: str, chosen: MetricSettings, logits: Tensor, labels: Tensor, teacher: Any
) -> Measured | None:
    """Return a metric of these answers, whichever split it is of."""
    split = type(chosen).split
    taught = {} if teacher is None else {split: teacher}
    return measure_metric(name, chosen, {split: Answers(logits, labels)}, taught)


def settings(name: str, **values: float) -> MetricSettings:
    """Return the settings of a metric."""
    return declared("metrics", name)(**values)  # type: ignore[return-value]


def random_logits(images: int, classes: int, seed: int = 0, scale: float = 2.0) -> Tensor:
    """Return normal logits (N, K)."""
    return torch.randn(images, classes, generator=torch.Generator().manual_seed(seed)) * scale


def random_labels(images: int, classes: int, seed: int = 9) -> Tensor:
    """Return labels (N,)."""
    return torch.randint(classes, (images,), generator=torch.Generator().manual_seed(seed))


def test_a_metric_is_a_number() -> None:
    """A value that isn't finite, as of logits that are NaN, is refused by name."""
    logits = torch.full((4, 3), math.nan)
    with pytest.raises(ValueError, match="the metric cross_entropy is nan; allowed: a finite"):
        measure("cross_entropy", logits)


def test_equal_logits_have_one_answer() -> None:
    """Of equal logits the first counts, in accuracy as in all that takes the network's answer."""
    logits, labels = torch.zeros(10, 10), torch.arange(10)
    assert measure("top1_accuracy", logits, labels) == 10
    assert in_top_k(logits, labels, 1).tolist() == [True] + [False] * 9
    assert confusion_matrix(logits, labels)[:, 0].tolist() == [1] * 10


@pytest.mark.parametrize("name", names("metrics"))
def test_metrics_say_what_tables_need(name: str) -> None:
    """Each entry has what tables and verdicts need, and the smallest difference that was chosen."""
    logits, teacher = random_logits(50, 10), random_logits(50, 10, 1)
    chosen = settings(name, smallest_difference=0.7)
    found = measured(name, chosen, logits, random_labels(50, 10), teacher)
    assert found is not None
    entry, per_image = found
    value = entry.pop("value")
    assert math.isfinite(value)
    if per_image is not None:
        assert per_image.shape == (50,)
        assert per_image.mean() == pytest.approx(value)
    assert entry["smallest_difference"] == 0.7
    assert per_image is None or entry["of_each_image"]
    assert entry.pop("higher_is_better") in (True, False, None)
    assert {key: type(what) for key, what in entry.items()} == {
        "label": str, "unit": str, "decimals": int, "smallest_difference": float,
        "reason": str, "split": str, "images": int, "of_each_image": bool,
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
    assert measure("training_agreement", student, teacher=teacher) == pytest.approx(count / 2)


@pytest.mark.parametrize("scale", [0.1, 3.0, 100.0])
def test_brier_score_equals_that_of_scikit_learn(scale: float) -> None:
    """The Brier score is scikit-learn's, not halved: 0 for certainty that is right, 2 if wrong."""
    logits, labels = random_logits(200, 10, scale=scale), random_labels(200, 10)
    probabilities = scipy.special.softmax(logits.double().numpy(), axis=1)
    expected = sklearn.metrics.brier_score_loss(labels, probabilities, labels=np.arange(10))
    assert measure("brier_score", logits, labels) == pytest.approx(expected)
    certain = 1e4 * torch.eye(2)
    assert measure("brier_score", certain, torch.tensor([0, 1])) == 0
    assert measure("brier_score", certain, torch.tensor([1, 0])) == 2


def overconfident(images: int, temperature: float) -> tuple[Tensor, Tensor]:
    """Return logits and labels of which softmax(logits / temperature) is the probability."""
    logits = random_logits(images, 5)
    probabilities = scipy.special.softmax(logits.double().numpy(), axis=1)
    uniform = np.random.default_rng(1).random((images, 1))
    labels = (uniform > probabilities.cumsum(axis=1)).sum(axis=1).clip(max=4)
    return temperature * logits, torch.from_numpy(labels)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_a_planted_temperature_is_found(temperature: float) -> None:
    """The temperature is that by which probabilities are true, and where the gradient is zero."""
    logits, labels = overconfident(5000, temperature)
    found = fit_temperature(logits, labels)
    assert found == pytest.approx(temperature, rel=0.05)

    def gradient(inverse: float) -> float:
        """Of the cross-entropy by 1 / temperature: expected logit minus that of the label."""
        values = logits.double().numpy()
        expected = (scipy.special.softmax(inverse * values, axis=1) * values).sum(axis=1)
        return float((expected - values[np.arange(len(values)), labels]).mean())

    assert 1 / scipy.optimize.brentq(gradient, 1e-3, 1e3) == pytest.approx(found, rel=1e-4)  # type: ignore[operator]
    assert measure("scaled_expected_calibration_error", logits, labels) < 3
    scaled = scale_temperature(logits, labels)
    for name in ("cross_entropy", "brier_score", "expected_calibration_error"):
        assert measure(f"scaled_{name}", logits, labels) == pytest.approx(
            measure(name, scaled, labels), rel=1e-5
        )


def test_no_image_has_a_say_in_its_own_temperature() -> None:
    """The temperature of either half is that of the other, and halves are of equal size."""
    logits, labels = overconfident(401, 4)
    before = logits.clone()
    ratios = (logits / scale_temperature(logits, labels)).median(dim=1).values
    assert torch.equal(logits, before)
    first = (ratios - ratios[0]).abs() < 1e-6
    assert {int(first.sum()), int((~first).sum())} == {200, 201}
    for half in (first, ~first):
        expected = fit_temperature(logits[~half], labels[~half])
        assert ratios[half].double().numpy() == pytest.approx(expected, rel=1e-5)


def test_scaling_undoes_a_temperature() -> None:
    """Logits that are multiplied by a number are scaled to the same, and predictions stay."""
    logits, labels = overconfident(400, 2)
    scaled = scale_temperature(logits, labels)
    torch.testing.assert_close(scale_temperature(5 * logits, labels), scaled, rtol=1e-4, atol=0)
    assert torch.equal(scaled.argmax(dim=1), logits.argmax(dim=1))


def test_scaling_needs_two_images() -> None:
    """One image can't be halved, which is said in a line."""
    with pytest.raises(ValueError, match="found 1 test images; allowed: from 2"):
        measure("scaled_brier_score", random_logits(1, 3))


def test_agreement_where_the_teacher_is_right_or_wrong() -> None:
    """Agreement on the images of each kind is a plain count, and both make up that on all."""
    student, teacher = random_logits(300, 3, 1), random_logits(300, 3, 2)
    labels = random_labels(300, 3)
    counts = {True: [0, 0], False: [0, 0]}
    for one, two, label in zip(student.tolist(), teacher.tolist(), labels.tolist(), strict=True):
        guesses = one.index(max(one)), two.index(max(two))
        kind = counts[guesses[1] == label]
        kind[0] += guesses[0] == guesses[1]
        kind[1] += 1
    for which, right in (("right", True), ("wrong", False)):
        found = measure(f"teacher_agreement_{which}", student, labels, teacher)
        assert found == pytest.approx(100 * counts[right][0] / counts[right][1])
    every = measure("teacher_agreement", student, labels, teacher)
    assert every == pytest.approx((counts[True][0] + counts[False][0]) / 3)


def test_a_teacher_without_mistakes() -> None:
    """Where a teacher is never wrong, agreement on its mistakes isn't a number: there is none."""
    teacher = random_logits(20, 3)
    labels = teacher.argmax(dim=1)
    for name, where in (("wrong", labels), ("right", (labels + 1) % 3)):
        metric = f"teacher_agreement_{name}"
        assert measured(metric, settings(metric), teacher, where, teacher) is None
