"""Terms of the objective against plain formulas in double precision, and how stages are paired."""

import math
from typing import Any, get_args

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from distillation.networks import Outputs, Shape, build_network, stage_shapes
from distillation.numerics import Collapse, collapse_channels
from distillation.settings.base import checked
from distillation.settings.plugins import declared
from distillation.stages import Match, Pair, pair_stages
from distillation.terms import build_term, pooled
from distillation.terms.at import Mode, attention_transfer
from distillation.terms.kd import Reduction, knowledge_distillation
from test_numerics import COLLAPSES, plain_map, random

MODES = get_args(Mode)
REDUCTIONS = get_args(Reduction)
NOTHING = Outputs(torch.empty(0), [])
# Stages of networks, as channels, height and width.
WRN = [Shape(32, 32, 32), Shape(64, 16, 16), Shape(128, 8, 8)]
RESNET = [Shape(16, 32, 32), Shape(32, 16, 16), Shape(64, 8, 8)]
IMAGENET = [Shape(64, 8, 8), Shape(128, 4, 4), Shape(256, 2, 2), Shape(512, 1, 1)]
TOY = [Shape(8, 32, 32), Shape(16, 16, 16), Shape(16, 16, 16), Shape(32, 8, 8), Shape(64, 8, 8)]


def term(name: str, pair: Pair | None = None, **settings: Any) -> Any:
    """Return a term for a pair of networks."""
    own: Any = checked(declared("terms", name), settings)
    return build_term(name, own, pair or Pair(WRN, RESNET))


def features(shapes: list[Shape], seed: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Return stages of two images."""
    return [random(2, *shape, seed=seed + place).to(dtype) for place, shape in enumerate(shapes)]


def plain_distillation(student: Tensor, teacher: Tensor, temperature: float, factor: float) -> Any:
    """Compute the distillation term by its formula: factor times the sum of p (log p - log q)."""
    q, p = ((each / temperature).exp() for each in (student, teacher))
    q, p = (each / each.sum(dim=1, keepdim=True) for each in (q, p))
    return temperature**2 * factor * (p * (p.log() - q.log())).sum()


def plain_attention(student: Tensor, teacher: Tensor, collapse: str, mode: str) -> float:
    """Compute the term of one stage, image by image."""
    distances = []
    for own, other in zip(student.double().tolist(), teacher.double().tolist(), strict=True):
        pairs = list(zip(plain_map(own, collapse), plain_map(other, collapse), strict=True))
        square = sum((one - two) ** 2 for one, two in pairs)
        distances.append(square / len(pairs) if mode == "code" else math.sqrt(square) / 2)
    return sum(distances) / len(distances)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
def test_distillation_equals_its_formula(
    temperature: float, reduction: Reduction, dtype: torch.dtype
) -> None:
    """Value and gradient are those of the formula, 2 / K of today's in the reduction of 2017."""
    student, teacher = (random(6, 5, seed=seed, scale=3).to(dtype) for seed in (1, 2))
    plain = student.double().requires_grad_()
    factor = {"batchmean": 1 / 6, "legacy_2017": 2 / 30}[reduction]
    expected = plain_distillation(plain, teacher.double(), temperature, factor)
    expected.backward()
    student.requires_grad_()
    found = term("kd", temperature=temperature, reduction=reduction)(
        Outputs(student, []), Outputs(teacher, []), torch.zeros(6)
    )
    found.backward()
    assert found.dtype == dtype
    rtol = 1e-5 if dtype == torch.float32 else 1e-11
    torch.testing.assert_close(found.double(), expected, rtol=rtol, atol=0)
    assert student.grad is not None
    torch.testing.assert_close(student.grad.double(), plain.grad, rtol=rtol, atol=rtol)


def test_identities_of_distillation() -> None:
    """Equal outputs cost nothing, and a certain teacher at temperature 1 is its label."""
    teacher, labels = random(5, 10, scale=3), torch.tensor([0, 3, 9, 9, 1])
    student = (teacher + 5).requires_grad_()
    loss = knowledge_distillation(student, teacher, 4.0)
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.item() == pytest.approx(0, abs=1e-5)
    torch.testing.assert_close(gradient, torch.zeros(5, 10), rtol=0, atol=1e-6)
    certain = functional.one_hot(labels, 10).float() * 1000
    found = knowledge_distillation(teacher, certain, 1.0)
    torch.testing.assert_close(found, functional.cross_entropy(teacher, labels))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_terms_in_half_precision_are_computed_in_float32(dtype: torch.dtype) -> None:
    """Large values in half precision give the terms of the same numbers in float32."""
    labels = torch.tensor([1, 7])
    outputs = [
        Outputs(random(2, 10, seed=seed, scale=scale), features(WRN, seed, torch.float32))
        for seed, scale in ((1, 300), (2, 1))
    ]
    # Beyond what float16 can square.
    outputs[0] = outputs[0]._replace(stages=[300 * stage for stage in outputs[0].stages])
    halves = [Outputs(o.logits.to(dtype), [s.to(dtype) for s in o.stages]) for o in outputs]
    same = [Outputs(o.logits.float(), [s.float() for s in o.stages]) for o in halves]
    for name, settings in {"labels": {}, "kd": {"temperature": 0.01}, "at": {}, "hint": {}}.items():
        one = term(name, Pair(WRN, WRN), **settings)
        found = one(*halves, labels)
        assert found.dtype == torch.float32
        assert found.isfinite().all()
        torch.testing.assert_close(found, one(*same, labels))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("collapse", COLLAPSES)
def test_attention_transfer_equals_a_plain_loop(collapse: Collapse, mode: Mode) -> None:
    """Each stage's term is that of its formula, for stages that differ in every size."""
    shapes = [
        ((3, 4, 6, 5), (3, 2, 6, 5)),
        ((3, 8, 3, 3), (3, 8, 3, 3)),
        ((3, 1, 2, 1), (3, 5, 2, 1)),
    ]
    student = [random(*own, seed=number) for number, (own, _) in enumerate(shapes)]
    teacher = [random(*other, seed=number + 9) for number, (_, other) in enumerate(shapes)]
    expected = [
        plain_attention(own, other, collapse, mode)
        for own, other in zip(student, teacher, strict=True)
    ]
    found = attention_transfer(student, teacher, collapse, mode)
    assert found.tolist() == pytest.approx(expected, rel=1e-5)
    one, two = ([each.double() for each in stages] for stages in (student, teacher))
    found = attention_transfer(one, two, collapse, mode)
    assert found.tolist() == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("collapse", COLLAPSES)
def test_gradient_of_attention_transfer(collapse: Collapse, mode: Mode) -> None:
    """In double precision the gradient is that of differences, and of no teacher."""
    student = random(2, 3, 3, 2).double().requires_grad_()
    teacher = random(2, 4, 3, 2, seed=1).double().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda own: attention_transfer([own], [teacher], collapse, mode), student
    )
    attention_transfer([student], [teacher], collapse, mode).sum().backward()
    assert teacher.grad is None


@pytest.mark.parametrize("collapse", COLLAPSES)
def test_identities_of_attention_transfer(collapse: Collapse) -> None:
    """The code's term is 2 / (H W) (1 - cosine), and 4 / (H W) times the paper's squared."""
    student, teacher = random(1, 4, 6, 7, seed=1), random(1, 3, 6, 7, seed=2)
    code, paper = (
        attention_transfer([student], [teacher], collapse, mode).item()
        for mode in ("code", "paper")
    )
    one, two = (collapse_channels(each, collapse).flatten(1) for each in (student, teacher))
    cosine = functional.cosine_similarity(one, two).item()
    assert code == pytest.approx(2 / 42 * (1 - cosine), rel=1e-4)
    assert 42 * code == pytest.approx((2 * paper) ** 2, rel=1e-5)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("collapse", COLLAPSES)
def test_equal_and_dead_features_have_finite_gradients(collapse: Collapse, mode: Mode) -> None:
    """Features that are equal, or 0 everywhere in student, teacher or both, yield no NaN."""
    alive = random(2, 4, 5, 5)
    for own, other in (
        (alive, 0 * alive),
        (0 * alive, alive),
        (0 * alive, 0 * alive),
        (alive,) * 2,
    ):
        student = own.clone().requires_grad_()
        value = attention_transfer([student], [other], collapse, mode)
        (gradient,) = torch.autograd.grad(value.sum(), student)
        assert value.isfinite().all()
        assert gradient.isfinite().all()
        assert not torch.equal(own, other) or value.item() == 0


@pytest.mark.parametrize("smoothing", [0, 0.1, 1])
def test_labels_equal_their_formula(smoothing: float) -> None:
    """Cross-entropy has the share of the target that smoothing spreads over all classes."""
    logits, labels = random(4, 10, scale=3).double(), torch.tensor([0, 9, 3, 3])
    target = (1 - smoothing) * functional.one_hot(labels, 10) + smoothing / 10
    probabilities = logits.exp() / logits.exp().sum(dim=1, keepdim=True)
    expected = -(target * probabilities.log()).sum(dim=1).mean()
    found = term("labels", smoothing=smoothing)(Outputs(logits, []), NOTHING, labels)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("teacher", [RESNET, IMAGENET])
def test_hint_equals_its_formula(teacher: list[Shape]) -> None:
    """It is the mean square of what a 1 x 1 convolution of the pooled student lacks; both learn."""
    hint = term("hint", Pair(WRN, teacher), stage=2).double()
    student, other = features(WRN, 1), features(teacher, 5)
    student[1].requires_grad_()
    other[1].requires_grad_()
    found = hint(Outputs(NOTHING.logits, student), Outputs(NOTHING.logits, other), torch.zeros(2))
    found.backward()
    side = 16 // teacher[1].height
    plain = student[1].detach().requires_grad_()
    weight, bias = (each.detach().requires_grad_() for each in hint.regressor.parameters())
    blocks = plain.unfold(2, side, side).unfold(3, side, side).mean(dim=(4, 5))
    predicted = torch.einsum("oc,nchw->nohw", weight[:, :, 0, 0], blocks)
    difference = predicted + bias[:, None, None] - other[1].detach()
    expected = (difference**2).sum() / difference.numel()
    expected.backward()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(student[1].grad, plain.grad)
    torch.testing.assert_close(hint.regressor.weight.grad, weight.grad)
    torch.testing.assert_close(hint.regressor.bias.grad, bias.grad)
    assert other[1].grad is None


def test_first_regressor_hangs_on_its_own_seed() -> None:
    """The regressor's first weights are those of its seed, whatever torch drew before."""
    torch.manual_seed(0)
    first = term("hint").regressor.weight
    torch.manual_seed(1)
    assert torch.equal(first, term("hint").regressor.weight)
    assert not torch.equal(first, term("hint", seed=1).regressor.weight)


@pytest.mark.parametrize(
    ("student", "teacher", "by_size"),
    [
        (WRN, WRN, [(0, 0), (1, 1), (2, 2)]),
        (RESNET, WRN, [(0, 0), (1, 1), (2, 2)]),
        # Of stages of one size the last of each network.
        (WRN, TOY, [(0, 0), (1, 2), (2, 4)]),
        (TOY, WRN, [(0, 0), (2, 1), (4, 2)]),
        (WRN, IMAGENET, [(2, 0)]),
    ],
)
def test_stages_are_paired_by_size(
    student: list[Shape], teacher: list[Shape], by_size: list[tuple[int, int]]
) -> None:
    """Stages of one size belong together, of several the last; a line says which."""
    pair = Pair(student, teacher)
    assert pair_stages(pair, "by_size") == [Match(*match) for match in by_size]
    one = term("at", pair)
    told = ", ".join(
        f"{own + 1} with {other + 1} ({student[own].height} x {student[own].width})"
        for own, other in by_size
    )
    assert one.note == f"AT pairs stages of student and teacher: {told}"
    own, others = features(student, 1), features(teacher, 7)
    found = one(Outputs(NOTHING.logits, own), Outputs(NOTHING.logits, others), torch.zeros(2))
    matched = [
        [stages[match[side]] for match in by_size] for side, stages in enumerate((own, others))
    ]
    torch.testing.assert_close(found, attention_transfer(matched[0], matched[1]))


def test_stages_are_paired_by_index() -> None:
    """The first belongs to the first and so on, of which the larger is averaged over areas."""
    larger = [Shape(4, 32, 32), Shape(4, 16, 16), Shape(4, 7, 7)]
    smaller = [Shape(4, 8, 8), Shape(4, 8, 8), Shape(4, 4, 4)]
    one = term("at", Pair(larger, smaller), stages="by_index")
    own, others = features(larger, 1), features(smaller, 7)
    areas = [
        own[0].unfold(2, 4, 4).unfold(3, 4, 4).mean(dim=(4, 5)),
        own[1].unfold(2, 2, 2).unfold(3, 2, 2).mean(dim=(4, 5)),
        functional.adaptive_avg_pool2d(own[2], 4),
    ]
    expected = attention_transfer(areas, others)
    outputs = [Outputs(NOTHING.logits, stages) for stages in (own, others)]
    torch.testing.assert_close(one(*outputs, torch.zeros(2)), expected)
    back = term("at", Pair(smaller, larger), stages="by_index")
    torch.testing.assert_close(
        back(*outputs[::-1], torch.zeros(2)), attention_transfer(others, areas)
    )
    assert pooled(own[0], own[0]) is own[0]


def test_maps_of_the_next_image() -> None:
    """As a control, the maps of each image follow the teacher's of the next one in the batch."""
    pair = Pair([Shape(4, 8, 8)], [Shape(6, 8, 8)])
    student, teacher = random(3, 4, 8, 8), random(3, 6, 8, 8)
    outputs = [Outputs(torch.zeros(3, 2), [maps]) for maps in (student, teacher)]
    found = term("at", pair, images="next")(*outputs, torch.zeros(3))
    assert torch.equal(found, attention_transfer([student], [teacher[[1, 2, 0]]]))


@pytest.mark.parametrize(
    ("name", "student", "teacher", "settings", "message"),
    [
        (
            "at",
            WRN,
            IMAGENET[1:],
            {},
            "student's have 32 x 32, 16 x 16, 8 x 8 positions, the teach",
        ),
        (
            "at",
            WRN,
            TOY,
            {"stages": "by_index"},
            "found 3 of the student and 5 of the teacher; all",
        ),
        (
            "hint",
            WRN,
            TOY,
            {"stage": 4},
            "hint: stage is 4, but the student has 3; allowed: 1 to 3",
        ),
        (
            "hint",
            TOY,
            WRN,
            {"stage": 5},
            "hint: stage is 5, but the teacher has 3; allowed: 1 to 3",
        ),
    ],
)
def test_networks_that_a_term_cannot_serve_are_refused(
    name: str, student: list[Shape], teacher: list[Shape], settings: dict[str, Any], message: str
) -> None:
    """A pair without what a term needs is refused in words before anything is trained."""
    with pytest.raises(ValueError, match=message):
        term(name, Pair(student, teacher), **settings)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: knowledge_distillation(random(4, 10), random(4, 9), 4), r"\(4, 10\) and \(4, 9\)"),
        (
            lambda: attention_transfer([random(4, 3, 8, 8)], [random(4, 3, 4, 4)]),
            r"positions: \(4, 3, 8, 8\) and \(4, 3, 4, 4\)",
        ),
        (lambda: attention_transfer([random(2, 3, 4, 4)], []), "numbers of stages: 1 and 0"),
    ],
)
def test_outputs_that_do_not_fit_are_refused(call: Any, message: str) -> None:
    """Outputs that can't be compared raise an error that names both shapes."""
    with pytest.raises(ValueError, match=message):
        call()


def test_families_pair_with_each_other() -> None:
    """A resnet learns from a wide residual network: their stages have the same sizes."""
    settings: dict[str, Any] = {"resnet": {"depth": 8}, "wrn": {"depth": 10, "width": 2}}
    shapes = [
        stage_shapes(build_network(name, checked(declared("networks", name), each), 10, 3), 32, 3)  # type: ignore[arg-type]
        for name, each in settings.items()
    ]
    assert pair_stages(Pair(*shapes), "by_size") == pair_stages(Pair(*shapes), "by_index")
