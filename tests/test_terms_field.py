"""Terms of the field, sp, rkd, dkd, dist and standardised logits, against plain formulas."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from distillation.data.dataset import Dataset
from distillation.logits import standardised
from distillation.networks import Network, Outputs, Shape
from distillation.record.digest import SCRIPTS, import_closure
from distillation.stages import Pair
from distillation.terms.kd import knowledge_distillation
from distillation.training.schedules import weight_of_epoch
from distillation.training.step import Together
from learners import (
    OTHERS,
    changed,
    make_feed,
    make_step,
    network,
    teacher_network,
    terms,
    train,
)
from test_numerics import random
from test_terms import IMAGENET, RESNET, WRN, term

LIBRARY = SCRIPTS / "distillation"
LABELS = torch.tensor([0, 4, 2, 2, 1, 3])
STUDENT, TEACHER = [Shape(3, 4, 4), Shape(5, 2, 3)], [Shape(7, 2, 2)]
FIELD = ["sp", "rkd", "dkd", "dist"]
# Of terms on logits, what students learn from alone, or nearly; a term's name comes first.
LEARNING: dict[str, dict[str, Any]] = {
    "sp": {"labels": {}, "sp": {"weight": 300}},
    "rkd": {"labels": {}, "rkd": {"weight": 0.1}},
    "dkd": {"labels": {"weight": 0}, "dkd": {"weight": 0.5, "warmup_epochs": 4}},
    "dkd of z-scores": {
        "labels": {"weight": 0.1}, "dkd": {"weight": 9, "temperature": 2, "standardise": True}
    },
    "dist": {"labels": {"weight": 0}, "dist": {}},
    "kd of z-scores": {"labels": {"weight": 0}, "kd": {"temperature": 2, "standardise": True}},
}  # fmt: skip
LONG = changed(
    epochs=25, batch_size=16, schedule="one_cycle", learning_rate=0.1, padding=0, flip=False
)


@pytest.fixture(scope="module")
def teacher(digits: Dataset) -> Network:
    """Return a network that knows 32 real digits by heart."""
    model, history = train(digits, protocol=LONG, model=network(7, width=2))
    assert history[-1]["train_accuracy"] == 1
    return model.eval()


def outputs(shapes: list[Shape], seed: int) -> Outputs:
    """Return what a network says of six images in five classes."""
    stages = [random(6, *shape, seed=seed + place).double() for place, shape in enumerate(shapes)]
    return Outputs(random(6, 5, seed=seed, scale=3).double(), stages)


def length(values: Sequence[float]) -> float:
    """Return the Euclidean length."""
    return math.sqrt(sum(value**2 for value in values))


def huber(one: float, two: float) -> float:
    """Return the Huber loss of threshold 1."""
    distance = abs(one - two)
    return distance**2 / 2 if distance <= 1 else distance - 0.5


def plain_sp(student: Outputs, teacher: Outputs, places: list[tuple[int, int]]) -> list[float]:
    """Compute sp pair by pair of images."""
    parts = []
    for place, other in places:
        rows = []
        for stage in (student.stages[place], teacher.stages[other]):
            images = stage.flatten(1).tolist()
            dots = [
                [sum(a * b for a, b in zip(one, two, strict=True)) for two in images]
                for one in images
            ]
            rows.append([[dot / length(row) for dot in row] for row in dots])
        squares = [(rows[0][i][j] - rows[1][i][j]) ** 2 for i in range(6) for j in range(6)]
        parts.append(sum(squares) / 36)
    return parts


def plain_rkd(student: Outputs, teacher: Outputs) -> list[float]:
    """Compute rkd pair by pair and triple by triple of images."""
    distances, angles = [], []
    for stage in (student.stages[-1], teacher.stages[-1]):
        images = [
            [sum(map(sum, c)) / (len(c) * len(c[0])) for c in image] for image in stage.tolist()
        ]

        def between(one: int, two: int, images: list = images) -> list[float]:
            return [a - b for a, b in zip(images[one], images[two], strict=True)]

        pairs = [*itertools.product(range(6), repeat=2)]
        mean = sum(length(between(i, j)) for i, j in pairs) / 30
        distances.append([length(between(i, j)) / mean for i, j in pairs])
        cosines = []
        for i, j, k in itertools.product(range(6), repeat=3):
            one, two = between(i, j), between(k, j)
            dot = sum(a * b for a, b in zip(one, two, strict=True))
            cosines.append(dot / (length(one) * length(two)) if j not in (i, k) else 0.0)
        angles.append(cosines)
    return [
        weight * sum(map(huber, *both)) / len(both[0])
        for weight, both in ((25, distances), (50, angles))
    ]  # fmt: skip


def softened(logits: Tensor, temperature: float) -> list[list[float]]:
    """Return softmax of logits over a temperature, image by image."""
    exponentials = [[math.exp(z / temperature) for z in image] for image in logits.tolist()]
    return [[e / sum(image) for e in image] for image in exponentials]


def divergence(teacher: list[float], student: list[float]) -> float:
    """Return KL(teacher || student)."""
    return sum(p * math.log(p / q) for p, q in zip(teacher, student, strict=True))


def plain_dkd(student: Tensor, teacher: Tensor, temperature: float = 4) -> list[float]:
    """Compute dkd image by image."""
    target = others = 0.0
    for own, other, label in zip(
        softened(student, temperature), softened(teacher, temperature), LABELS.tolist(), strict=True
    ):
        target += divergence(*([p[label], 1 - p[label]] for p in (other, own)))
        others += divergence(
            *([p[k] / (1 - p[label]) for k in range(5) if k != label] for p in (other, own))
        )
    return [temperature**2 * target / 6, 8 * temperature**2 * others / 6]


def pearson(one: Sequence[float], two: Sequence[float]) -> float:
    """Return Pearson's correlation."""
    one, two = ([value - sum(each) / len(each) for value in each] for each in (one, two))
    return sum(a * b for a, b in zip(one, two, strict=True)) / length(one) / length(two)


def plain_dist(student: Tensor, teacher: Tensor) -> list[float]:
    """Compute dist image by image and class by class."""
    own, other = softened(student, 4), softened(teacher, 4)
    means = []
    for turn in (lambda rows: rows, lambda rows: [*zip(*rows, strict=True)]):
        found = [pearson(*both) for both in zip(turn(own), turn(other), strict=True)]
        means.append(sum(found) / len(found))
    return [2 * 16 * (1 - mean) for mean in means]


def plain_kd(student: Tensor, teacher: Tensor) -> list[float]:
    """Compute kd image by image."""
    both = zip(softened(teacher, 4), softened(student, 4), strict=True)
    return [4**2 * sum(divergence(*each) for each in both) / 6]


def z_scores(logits: Tensor) -> Tensor:
    """Standardise logits image by image."""
    rows = []
    for image in logits.tolist():
        mean = sum(image) / 5
        deviation = math.sqrt(sum((z - mean) ** 2 for z in image) / 4)
        rows.append([(z - mean) / (1e-7 + deviation) for z in image])
    return torch.tensor(rows, dtype=torch.float64)


Plain = Callable[[Outputs, Outputs], list[float]]
PLAIN: dict[str, Plain] = {
    "sp": lambda student, teacher: plain_sp(student, teacher, [(1, 0)]),
    "rkd": plain_rkd,
    "dkd": lambda student, teacher: plain_dkd(student.logits, teacher.logits),
    "dist": lambda student, teacher: plain_dist(student.logits, teacher.logits),
}
OF_Z_SCORES: dict[str, Plain] = {
    "dkd": lambda student, teacher: plain_dkd(z_scores(student.logits), z_scores(teacher.logits)),
    "kd": lambda student, teacher: plain_kd(z_scores(student.logits), z_scores(teacher.logits)),
}
# What a step is that is neither rounded away nor curved, in float64.
DIFFERENCE = 1e-5


def leaves(given: Outputs) -> list[Tensor]:
    """Return logits and stages."""
    return [given.logits, *given.stages]


def put(values: tuple[Tensor, ...]) -> Outputs:
    """Return outputs of logits and stages."""
    return Outputs(values[0], [*values[1:]])


@pytest.mark.parametrize("name", FIELD)
def test_terms_equal_their_formulas(name: str) -> None:
    """By their defaults terms are what the formula gives in a plain loop, in both precisions."""
    one, student, teacher = (
        term(name, Pair(STUDENT, TEACHER)),
        outputs(STUDENT, 1),
        outputs(TEACHER, 9),
    )
    expected = PLAIN[name](student, teacher)
    found = one(student, teacher, LABELS)
    assert found.dtype == torch.float64
    assert found.tolist() == pytest.approx(expected, rel=1e-10)
    single = [put(tuple(each.float() for each in leaves(given))) for given in (student, teacher)]
    assert one(*single, LABELS).tolist() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", FIELD)
def test_gradients_are_those_of_differences(name: str) -> None:
    """The gradient is that of finite differences, and none flows into the teacher."""
    one = term(name, Pair(STUDENT, TEACHER))
    student, teacher = (
        [each.requires_grad_() for each in leaves(outputs(shapes, seed))]
        for shapes, seed in ((STUDENT, 1), (TEACHER, 9))
    )
    assert torch.autograd.gradcheck(
        lambda *values: one(put(values), put(tuple(teacher)), LABELS), student, fast_mode=True
    )
    one(put(tuple(student)), put(tuple(teacher)), LABELS).sum().backward()
    assert [each.grad for each in teacher] == [None] * len(teacher)


@pytest.mark.parametrize(
    ("name", "settings", "plain"),
    [
        *((name, {}, plain) for name, plain in PLAIN.items()),
        *((name, {"standardise": True}, plain) for name, plain in OF_Z_SCORES.items()),
    ],
)
def test_gradients_are_those_of_the_formulas(
    name: str, settings: dict[str, Any], plain: Plain
) -> None:
    """At some places the gradient is the slope of the plain formula, which autograd never sees."""
    student, teacher = outputs(STUDENT, 1), outputs(TEACHER, 9)
    values = [each.requires_grad_() for each in leaves(student)]
    one = term(name, Pair(STUDENT, TEACHER), **settings)
    one(student, teacher, LABELS).sum().backward()
    learning = [each for each in values if each.grad is not None]
    assert learning
    for each in learning:
        gradient, flat = each.grad.flatten(), each.detach().view(-1)  # type: ignore[union-attr]
        for place in (0, len(flat) // 3, len(flat) // 2 + 1, len(flat) - 1):
            middle, ends = flat[place].item(), []
            for step in (DIFFERENCE, -DIFFERENCE):
                flat[place] = middle + step
                ends.append(sum(plain(student, teacher)))
            flat[place] = middle
            slope = (ends[0] - ends[1]) / (2 * DIFFERENCE)
            assert gradient[place].item() == pytest.approx(slope, rel=1e-5, abs=1e-8)
            assert slope


@pytest.mark.parametrize("name", FIELD)
def test_agreement_costs_nothing(name: str) -> None:
    """A student that says what its teacher says has a term and a gradient of 0."""
    teacher = outputs(TEACHER, 3)
    student = [each.clone().requires_grad_() for each in leaves(teacher)]
    found = term(name, Pair(TEACHER, TEACHER))(put(tuple(student)), teacher, LABELS)
    torch.testing.assert_close(found, torch.zeros_like(found), rtol=0, atol=1e-12)
    found.sum().backward()
    for each in student:
        gradient = torch.zeros_like(each) if each.grad is None else each.grad
        torch.testing.assert_close(gradient, torch.zeros_like(each), rtol=0, atol=1e-12)


def rotation(channels: int) -> Tensor:
    """Return a random orthogonal matrix."""
    return torch.linalg.qr(random(channels, channels, seed=5).double())[0]


# What a student may have in which it differs from its teacher, and which terms don't see it.
UNSEEN: dict[str, tuple[list[str], Callable[[Outputs], Outputs]]] = {
    "stages times a factor": (
        ["sp", "rkd"], lambda given: given._replace(stages=[9 * each for each in given.stages])
    ),
    "stages in rotated channels": (
        ["sp", "rkd"],
        lambda given: given._replace(
            stages=[torch.einsum("nchw,cd->ndhw", each, rotation(7)) for each in given.stages]
        ),
    ),
    "stages shifted alike": (
        ["rkd"], lambda given: given._replace(stages=[each + 3 for each in given.stages])
    ),
    "logits shifted": (["dkd", "dist"], lambda given: given._replace(logits=given.logits + 7)),
    "probabilities mixed with even ones": (
        ["dist"],
        lambda given: given._replace(
            logits=4 * (0.3 * (given.logits / 4).softmax(dim=1) + 0.7 / 5).log()
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", UNSEEN)
def test_what_terms_do_not_see(how: str) -> None:
    """Terms are blind to what their papers say, and see what they don't."""
    blind, change = UNSEEN[how]
    teacher = outputs(TEACHER, 3)
    for name in FIELD:
        found = term(name, Pair(TEACHER, TEACHER))(change(teacher), teacher, LABELS)
        of_logits = name in ("dkd", "dist")
        if name in blind or of_logits != how.startswith(("logits", "prob")):
            torch.testing.assert_close(found, torch.zeros_like(found), rtol=0, atol=1e-10)
        else:
            assert found.sum() > 1e-3


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_decoupled_parts_make_up_distillation(temperature: float) -> None:
    """Distillation is target classes plus the others times what the teacher leaves to them."""
    student, teacher = outputs([], 1).logits, outputs([], 2).logits
    one = term("dkd", other_weight=1, temperature=temperature)
    for place, label in enumerate(LABELS.tolist()):
        own, other = student[place][None], teacher[place][None]
        target, others = one(Outputs(own, []), Outputs(other, []), LABELS[place][None])
        left = 1 - (other / temperature).softmax(dim=1)[0, label]
        expected = knowledge_distillation(own, other, temperature)
        torch.testing.assert_close(target + left * others, expected)


def test_decoupled_terms_of_certain_networks_are_finite() -> None:
    """Networks that leave a class nothing have finite terms and gradients, of two classes too."""
    certain = 1e4 * functional.one_hot(LABELS, 5).float()
    for classes in (5, 2):
        labels = LABELS % classes
        for own, other in itertools.product((certain, -certain, 0 * certain), repeat=2):
            student = own[:, :classes].clone().requires_grad_()
            found = term("dkd", temperature=1)(
                Outputs(student, []), Outputs(other[:, :classes], []), labels
            )
            (gradient,) = torch.autograd.grad(found.sum(), student)
            assert found.isfinite().all()
            assert gradient.isfinite().all()
            assert classes > 2 or found[1] == 0


@pytest.mark.parametrize("name", FIELD)
def test_equal_images_and_dead_networks_have_finite_gradients(name: str) -> None:
    """Images that are all alike, or 0 everywhere, in student, teacher or both, yield no NaN."""
    alive, alike = outputs(TEACHER, 1), outputs(TEACHER, 2)
    alike = put(tuple(each[:1].expand_as(each).contiguous() for each in leaves(alike)))
    dead = put(tuple(torch.zeros_like(each) for each in leaves(alive)))
    one = term(name, Pair(TEACHER, TEACHER))
    for own, other in itertools.product((alive, alike, dead), repeat=2):
        student = [each.clone().requires_grad_() for each in leaves(own)]
        found = one(put(tuple(student)), other, LABELS)
        gradients = torch.autograd.grad(found.sum(), student, allow_unused=True)
        assert found.isfinite().all()
        assert all(each.isfinite().all() for each in gradients if each is not None)


@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("name", ["dist", "kd", "dkd"])
def test_equal_logits_have_no_steep_slope(name: str, classes: int) -> None:
    """An image whose logits are equal, as bfloat16 often has them, pulls no more than others do."""
    generator = torch.Generator().manual_seed(0)
    own, other = torch.randn(2, len(LABELS), classes, generator=generator)
    own[0], own[1], other[1] = 1.5, 0.1, 2.0
    settings = {"standardise": True} if name != "dist" else {}
    one = term(name, Pair([], []), **settings)
    student = own.requires_grad_()
    found = one(Outputs(student, []), Outputs(other, []), LABELS % classes)
    (gradient,) = torch.autograd.grad(found.sum(), student)
    sizes = gradient.norm(dim=1)
    assert sizes[:2].max() <= 2 * max(sizes[2:].max().item(), 1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", [*FIELD, "kd"])
def test_half_precision_is_computed_in_float32(name: str, dtype: torch.dtype) -> None:
    """Large values in half precision give the terms of the same numbers in float32."""
    settings = {"standardise": True} if name in ("kd", "dkd") else {}
    one = term(name, Pair(STUDENT, TEACHER), **settings)
    # Beyond what float16 can square.
    both = outputs(STUDENT, 1), outputs(TEACHER, 9)
    halves = [put(tuple((300 * each).to(dtype) for each in leaves(given))) for given in both]
    same = [put(tuple(each.float() for each in leaves(given))) for given in halves]
    found = one(*halves, LABELS)
    assert found.dtype == torch.float32
    assert found.isfinite().all()
    torch.testing.assert_close(found, one(*same, LABELS))


def test_standardised_logits_equal_their_formula() -> None:
    """They are z-scores, those of a network whose logits reach farther are the same."""
    logits = outputs([], 1).logits
    torch.testing.assert_close(standardised(logits), z_scores(logits))
    torch.testing.assert_close(standardised(5 * logits - 3), standardised(logits))
    assert torch.autograd.gradcheck(standardised, logits.requires_grad_())
    assert standardised(logits.detach().half()).dtype == torch.float32
    even = torch.full((2, 5), 3.0, requires_grad=True)
    (gradient,) = torch.autograd.grad(standardised(even)[0, 0], even)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("name", ["kd", "dkd"])
def test_terms_of_standardised_logits(name: str) -> None:
    """With `standardise` a term is that of standardised logits, so a factor costs nothing."""
    student, teacher = (outputs([], seed) for seed in (1, 2))
    plain, option = term(name), term(name, standardise=True)
    both = [each._replace(logits=standardised(each.logits)) for each in (student, teacher)]
    torch.testing.assert_close(option(student, teacher, LABELS), plain(*both, LABELS))
    larger = teacher._replace(logits=2 * teacher.logits + 1)
    assert option(larger, teacher, LABELS).sum() < 1e-10 < plain(larger, teacher, LABELS).sum()


@pytest.mark.parametrize(
    ("stages", "places"),
    [("last", [(2, 3)]), ("by_size", [(2, 0)])],
)
def test_similarities_of_paired_stages(stages: str, places: list[tuple[int, int]]) -> None:
    """Stages are the last of each network, or paired as said, one part each."""
    shapes = [[shape._replace(channels=2) for shape in each] for each in (WRN, IMAGENET)]
    student, teacher = (outputs(each, seed) for each, seed in zip(shapes, (1, 9), strict=True))
    one = term("sp", Pair(*shapes), stages=stages)
    assert one(student, teacher, LABELS).tolist() == pytest.approx(
        plain_sp(student, teacher, places)
    )
    assert ("8 x 8 and 1 x 1" in one.note) is (stages == "last")
    in_order = term("sp", Pair(WRN, RESNET), stages="by_index")
    assert [tuple(match) for match in in_order.matches] == [(0, 0), (1, 1), (2, 2)]


@pytest.mark.parametrize("name", ["sp", "rkd"])
def test_networks_without_stages_are_refused(name: str) -> None:
    """A term on stages of networks that have none is refused in words."""
    with pytest.raises(ValueError, match="3 of the student and 0 of the teacher; allowed: at"):
        term(name, Pair(WRN, []))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"warmup_epochs": 4}, [2, 4, 6, 8, 8, 8]),
        ({"warmup_epochs": 20}, [0.4, 0.8, 1.2, 1.6, 2, 2.4]),
        ({"warmup_epochs": 2, "schedule": "linear"}, [4, 20 / 3, 16 / 3, 4, 8 / 3, 4 / 3]),
    ],
)
def test_weights_rise(settings: dict[str, Any], expected: list[float]) -> None:
    """Any term's weight may rise evenly over its first epochs, to what its schedule says."""
    for name in (*FIELD, "labels", "kd", "at", "hint"):
        own = terms({name: {"weight": 8} | settings})[name]
        found = [weight_of_epoch(own, epoch, 6) for epoch in range(1, 7)]
        assert found == pytest.approx(expected)


def test_a_term_has_the_digest_of_its_own_file() -> None:
    """No term's digest covers another's file, and only logit terms that of standardised logits."""
    for name in ("labels", "kd", "at", "hint", *FIELD):
        file = LIBRARY / f"terms/{name}.py"
        covered = {each.relative_to(LIBRARY).as_posix() for each in import_closure(file, SCRIPTS)}
        assert {each for each in covered if each.startswith("terms/")} == {
            "terms/__init__.py", f"terms/{name}.py",
        }  # fmt: skip
        assert ("logits.py" in covered) is (name in ("kd", "dkd"))


@pytest.mark.parametrize("name", LEARNING)
def test_students_learn_digits(digits: Dataset, teacher: Network, name: str) -> None:
    """On real images a term falls, and its student learns, of outputs alone where it can."""
    _, history = train(digits, LEARNING[name], LONG, teacher=teacher)
    column = name.partition(" ")[0]
    assert history[-1][column] < 0.5 * history[0][column]
    assert history[-1]["train_accuracy"] > 0.8


def test_a_step_with_all_terms_reads_nothing_back(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No term waits for a value of the device, so that a step can be captured as a graph."""
    step = make_step(make_feed(digits, teacher=teacher_network()), OTHERS, network())
    together = Together([step])
    together.begin(0, 1)
    together(10)
    for name in ("item", "tolist", "__bool__", "__int__", "__float__", "__index__", "numpy", "cpu"):
        monkeypatch.setattr(Tensor, name, lambda *_, name=name: pytest.fail(f"calls {name}"))
    for size in (10, 10, 2):
        together(size)
