"""Losses against plain loops in double precision, and the identities that they obey."""

import math
from typing import get_args

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from distillation.terms.losses import (
    ATMode,
    Collapse,
    KLReduction,
    attention_map,
    attention_transfer,
    collapse_channels,
    knowledge_distillation,
)

COLLAPSES = get_args(Collapse)
AT_MODES = get_args(ATMode)
KL_REDUCTIONS = get_args(KLReduction)

PLAIN_COLLAPSES = {
    "mean_square": lambda values: sum(value**2 for value in values) / len(values),
    "sum_square": lambda values: sum(value**2 for value in values),
    "sum": sum,
    "sum_absolute": lambda values: sum(abs(value) for value in values),
    "max_square": lambda values: max(value**2 for value in values),
}


def random(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    """Return normal numbers, the same for the same shape and seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale


def plain_collapse(image: list, collapse: str) -> list[float]:
    """Collapse one image (C, H, W) to H * W values, position by position."""
    height, width = len(image[0]), len(image[0][0])
    return [
        PLAIN_COLLAPSES[collapse]([channel[row][column] for channel in image])
        for row in range(height)
        for column in range(width)
    ]


def plain_map(image: list, collapse: str) -> list[float]:
    """Return the attention map of one image (C, H, W)."""
    values = plain_collapse(image, collapse)
    length = math.sqrt(sum(value**2 for value in values))
    return [value / max(length, 1e-12) for value in values]


def plain_attention_transfer(student: Tensor, teacher: Tensor, collapse: str, mode: str) -> float:
    """Compute the term of one group, image by image."""
    distances = []
    for own, other in zip(student.double().tolist(), teacher.double().tolist(), strict=True):
        pairs = list(zip(plain_map(own, collapse), plain_map(other, collapse), strict=True))
        square = sum((one - two) ** 2 for one, two in pairs)
        distances.append(square / len(pairs) if mode == "code" else math.sqrt(square) / 2)
    return sum(distances) / len(distances)


def plain_softmax(logits: list[float], temperature: float) -> list[float]:
    """Compute the softmax of one image's logits."""
    exponentials = [math.exp((value - max(logits)) / temperature) for value in logits]
    return [value / sum(exponentials) for value in exponentials]


def plain_distillation(
    student: Tensor, teacher: Tensor, temperature: float, reduction: str
) -> float:
    """Compute the distillation term, image by image and class by class."""
    images, classes = student.shape
    total = 0.0
    for own, other in zip(student.double().tolist(), teacher.double().tolist(), strict=True):
        for q, p in zip(
            plain_softmax(own, temperature), plain_softmax(other, temperature), strict=True
        ):
            total += p * (math.log(p) - math.log(q))
    if reduction == "batchmean":
        return temperature**2 * total / images
    return 2 * temperature**2 * total / (images * classes)


@pytest.mark.parametrize("reduction", KL_REDUCTIONS)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
def test_distillation_equals_a_plain_loop(temperature, reduction):
    """The distillation term is the one of its formula for each temperature and reduction."""
    student, teacher = random(6, 5, seed=1, scale=3), random(6, 5, seed=2, scale=3)
    found = knowledge_distillation(student, teacher, temperature, reduction).item()
    expected = plain_distillation(student, teacher, temperature, reduction)
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_legacy_reduction_is_2_over_k_of_today(classes):
    """The reduction of 2017 weighs the term by 2 / K of today's."""
    student, teacher = random(4, classes, seed=1), random(4, classes, seed=2)
    today = knowledge_distillation(student, teacher, 4.0, "batchmean").item()
    legacy = knowledge_distillation(student, teacher, 4.0, "legacy_2017").item()
    assert legacy == pytest.approx(2 / classes * today, rel=1e-6)


@pytest.mark.parametrize("reduction", KL_REDUCTIONS)
def test_distillation_of_equal_outputs_is_zero(reduction):
    """A student whose logits are the teacher's plus a constant has loss and gradient 0."""
    teacher = random(4, 10, scale=3)
    student = (teacher + 5).requires_grad_()
    loss = knowledge_distillation(student, teacher, 4.0, reduction)
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.item() == pytest.approx(0, abs=1e-5)
    torch.testing.assert_close(gradient, torch.zeros(4, 10), rtol=0, atol=1e-6)


def test_distillation_is_a_cross_entropy_at_certain_teachers():
    """A teacher that is certain at temperature 1 is the same as its label."""
    student, labels = random(5, 10), torch.tensor([0, 3, 9, 9, 1])
    teacher = functional.one_hot(labels, 10).float() * 1000
    found = knowledge_distillation(student, teacher, 1.0)
    torch.testing.assert_close(found, functional.cross_entropy(student, labels))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_distillation_in_half_precision_is_computed_in_float32(dtype):
    """Large logits in half precision give the loss of the same numbers in float32."""
    student, teacher = random(4, 10, scale=300).to(dtype), random(4, 10, seed=1).to(dtype)
    found = knowledge_distillation(student, teacher, 0.01)
    assert found.dtype == torch.float32
    expected = knowledge_distillation(student.float(), teacher.float(), 0.01)
    torch.testing.assert_close(found, expected)
    assert found.isfinite()


def test_distillation_refuses_other_shapes():
    """Logits of different numbers of classes raise an error that names both shapes."""
    with pytest.raises(ValueError, match=r"\(4, 10\) and \(4, 100\)"):
        knowledge_distillation(random(4, 10), random(4, 100), 4.0)


def test_distillation_refuses_an_unknown_reduction():
    """An unknown reduction raises an error that lists the known ones."""
    with pytest.raises(ValueError, match="'mean'; allowed: batchmean, legacy_2017"):
        knowledge_distillation(random(4, 10), random(4, 10), 4.0, "mean")  # type: ignore[arg-type]


@pytest.mark.parametrize("collapse", COLLAPSES)
def test_collapse_equals_a_plain_loop(collapse):
    """Channels collapse to one value per position by the formula of each option."""
    features = random(3, 4, 2, 5)
    found = collapse_channels(features, collapse)
    assert found.shape == (3, 2, 5)
    expected = [plain_collapse(image, collapse) for image in features.double().tolist()]
    torch.testing.assert_close(found.flatten(1).double(), torch.tensor(expected).double())


@pytest.mark.parametrize("collapse", COLLAPSES)
def test_maps_equal_a_plain_loop(collapse):
    """An attention map is the collapsed map of one image, divided by its length."""
    features = random(3, 4, 2, 5)
    expected = [plain_map(image, collapse) for image in features.double().tolist()]
    found = attention_map(features, collapse).double()
    torch.testing.assert_close(found, torch.tensor(expected).double(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.square().sum(dim=1), torch.ones(3).double())


def test_sum_and_mean_of_squares_are_one_map():
    """Whether squares are summed or averaged over channels makes no difference to the map."""
    features = random(3, 16, 8, 8)
    torch.testing.assert_close(
        attention_map(features, "mean_square"), attention_map(features, "sum_square")
    )


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2**-7)])
def test_gradient_of_the_squares(dtype, tolerance):
    """The gradient of the collapsed squares is autograd's, to within the features' precision."""
    features = random(2, 5, 3, 3).to(dtype)
    weights = random(2, 3, 3, seed=1)
    ours = features.clone().requires_grad_()
    (collapse_channels(ours, "sum_square") * weights).sum().backward()
    plain = features.double().requires_grad_()
    (plain.square().sum(dim=1) * weights).sum().backward()
    assert ours.grad is not None
    assert ours.grad.dtype == dtype
    torch.testing.assert_close(ours.grad.double(), plain.grad, rtol=tolerance, atol=0)


@pytest.mark.parametrize("collapse", COLLAPSES)
def test_maps_know_no_scale(collapse):
    """Features times a positive factor have the same map, each image by itself."""
    features = random(3, 4, 6, 6)
    factors = torch.tensor([0.001, 1.0, 1000.0]).reshape(3, 1, 1, 1)
    torch.testing.assert_close(
        attention_map(features * factors, collapse), attention_map(features, collapse)
    )


@pytest.mark.parametrize("mode", AT_MODES)
@pytest.mark.parametrize("collapse", COLLAPSES)
def test_attention_transfer_equals_a_plain_loop(collapse, mode):
    """Each group's term is that of its formula, for groups that differ in every size."""
    shapes = [
        ((3, 4, 6, 5), (3, 2, 6, 5)),
        ((3, 8, 3, 3), (3, 8, 3, 3)),
        ((3, 1, 2, 1), (3, 5, 2, 1)),
    ]
    student = [random(*own, seed=number) for number, (own, _) in enumerate(shapes)]
    teacher = [random(*other, seed=number + 9) for number, (_, other) in enumerate(shapes)]
    found = attention_transfer(student, teacher, collapse, mode)
    assert found.shape == (3,)
    expected = [
        plain_attention_transfer(own, other, collapse, mode)
        for own, other in zip(student, teacher, strict=True)
    ]
    assert found.tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("collapse", COLLAPSES)
def test_code_mode_is_a_cosine(collapse):
    """The term of the authors' code is 2 / (H W) times 1 minus the maps' cosine."""
    student, teacher = random(5, 4, 6, 7, seed=1), random(5, 3, 6, 7, seed=2)
    (found,) = attention_transfer([student], [teacher], collapse, "code").tolist()
    cosine = functional.cosine_similarity(
        collapse_channels(student, collapse).flatten(1),
        collapse_channels(teacher, collapse).flatten(1),
    )
    assert found == pytest.approx(2 / 42 * (1 - cosine.mean().item()), rel=1e-4)


def test_the_two_modes_measure_one_distance():
    """For one image, H W times the code's term is 4 times the square of the paper's."""
    student, teacher = random(1, 4, 6, 6, seed=1), random(1, 4, 6, 6, seed=2)
    code = attention_transfer([student], [teacher], at_mode="code").item()
    paper = attention_transfer([student], [teacher], at_mode="paper").item()
    assert 36 * code == pytest.approx((2 * paper) ** 2, rel=1e-5)


@pytest.mark.parametrize("mode", AT_MODES)
@pytest.mark.parametrize("collapse", COLLAPSES)
def test_identical_maps_have_loss_zero_and_a_finite_gradient(collapse, mode):
    """At equality the term is 0 and its gradient finite, also that of the norm."""
    teacher = random(3, 4, 5, 5)
    student = teacher.clone().requires_grad_()
    terms = attention_transfer([student], [teacher], collapse, mode)
    (gradient,) = torch.autograd.grad(terms.sum(), student)
    assert terms.tolist() == [0]
    assert gradient.isfinite().all()


@pytest.mark.parametrize("mode", AT_MODES)
@pytest.mark.parametrize("collapse", COLLAPSES)
def test_dead_features_have_a_finite_loss_and_gradient(collapse, mode):
    """Features that are 0 everywhere, in student, teacher or both, yield no NaN."""
    alive = random(2, 4, 5, 5)
    for own, other in ((alive, 0 * alive), (0 * alive, alive), (0 * alive, 0 * alive)):
        student = own.clone().requires_grad_()
        terms = attention_transfer([student], [other], collapse, mode)
        (gradient,) = torch.autograd.grad(terms.sum(), student)
        assert terms.isfinite().all()
        assert gradient.isfinite().all()


def test_no_gradient_reaches_the_teacher():
    """Both losses teach the student only."""
    student_logits, teacher_logits = (random(4, 10, seed=seed).requires_grad_() for seed in (1, 2))
    student, teacher = (random(4, 3, 5, 5, seed=seed).requires_grad_() for seed in (3, 4))
    loss = knowledge_distillation(student_logits, teacher_logits, 4.0)
    (loss + attention_transfer([student], [teacher]).sum()).backward()
    assert student_logits.grad is not None
    assert student.grad is not None
    assert teacher_logits.grad is None
    assert teacher.grad is None


@pytest.mark.parametrize("mode", AT_MODES)
@pytest.mark.parametrize("collapse", COLLAPSES)
def test_half_precision_features_do_not_overflow(collapse, mode):
    """Features beyond 256 in float16, whose squares it can't hold, give the loss of float32."""
    student = random(3, 4, 6, 6, seed=1, scale=300).half()
    teacher = random(3, 4, 6, 6, seed=2, scale=1e-3).half()
    found = attention_transfer([student], [teacher], collapse, mode)
    expected = attention_transfer([student.float()], [teacher.float()], collapse, mode)
    assert found.dtype == torch.float32
    assert found.isfinite().all()
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("shape", "other"), [((4, 3, 8, 8), (4, 3, 4, 4)), ((4, 3, 8, 8), (2, 3, 8, 8))]
)
def test_attention_transfer_refuses_other_positions_or_images(shape, other):
    """Maps that can't be compared position by position raise an error that names both shapes."""
    with pytest.raises(ValueError, match="differ in images or positions") as caught:
        attention_transfer([random(*shape)], [random(*other)])
    assert f"{shape} and {other}" in str(caught.value)


def test_attention_transfer_refuses_other_numbers_of_groups():
    """A student with fewer groups than its teacher raises an error with both numbers."""
    with pytest.raises(ValueError, match="different numbers of groups: 1 and 2"):
        attention_transfer([random(2, 3, 4, 4)], [random(2, 3, 4, 4)] * 2)


def test_attention_transfer_refuses_an_unknown_mode():
    """An unknown mode raises an error that lists the known ones."""
    with pytest.raises(ValueError, match="'squared'; allowed: code, paper"):
        attention_transfer([random(2, 3, 4, 4)], [random(2, 3, 4, 4)], at_mode="squared")  # type: ignore[arg-type]


def test_collapse_refuses_an_unknown_option():
    """An unknown way to collapse channels raises an error that lists the known ones."""
    with pytest.raises(ValueError, match="'mean'; allowed: mean_square, sum_square, sum,"):
        collapse_channels(random(2, 3, 4, 4), "mean")  # type: ignore[arg-type]


def test_collapse_refuses_flat_features():
    """Features without positions raise an error that names their shape."""
    with pytest.raises(ValueError, match=r"shape \(2, 3\); expected \(N, C, H, W\)"):
        collapse_channels(random(2, 3), "mean_square")
