"""Deletion, insertion and Grad-CAM on networks whose answer is known."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from distillation.measuring.faithfulness import (
    cells_along,
    centre_scores,
    deletion_insertion,
    grad_cam,
    order_cells,
)
from distillation.networks import initialise
from distillation.networks.wrn import WideResNet

SIZE = 16
SIDE = 4


def two_class_logits(evidence: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Return logits (N, 2) whose softmax gives the first class the probability `evidence`."""
    return torch.stack([evidence.log(), (1 - evidence).log()], dim=1), []


def share_seen(images: Tensor) -> tuple[Tensor, list[Tensor]]:
    """See images of ones: the first class has 1/2 plus 1/4 of the share of pixels that are left."""
    return two_class_logits(0.5 + images.mean(dim=(1, 2, 3)) / 4)


def one_cell_seen(images: Tensor) -> tuple[Tensor, list[Tensor]]:
    """See the cell in row 1, column 2 alone: the first class has 0.9 with it, 0.1 without."""
    return two_class_logits(0.1 + 0.8 * images[:, :, 4:8, 8:12].mean(dim=(1, 2, 3)))


def ones(count: int = 1, size: int = SIZE) -> Tensor:
    """Return images of ones, (N, 1, size, size)."""
    return torch.ones(count, 1, size, size)


def order(*first: int, side: int = SIDE) -> np.ndarray:
    """Return places of an order that begins with some cells and goes on row by row, (1, cells)."""
    rest = [cell for cell in range(side**2) if cell not in first]
    return np.argsort([*first, *rest])[None]


@pytest.fixture
def model() -> WideResNet:
    """Return a network of 3 channels in evaluation mode, with running statistics of its own."""
    model = WideResNet(10, 1, 5, 3, "zeros")
    generator = torch.Generator().manual_seed(0)
    initialise(model, "uniform", generator)
    nn.init.normal_(model.norm.bias, generator=generator)
    model.train()(torch.randn(16, 3, SIZE, SIZE, generator=generator))
    return model.eval()


@pytest.fixture
def images() -> Tensor:
    """Return 6 normalised images."""
    return torch.randn(6, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("steps", [2, 4, 5, 16])
def test_curves_of_a_straight_line(steps: int) -> None:
    """Where every cell counts the same, both curves are the straight line between the ends."""
    areas = deletion_insertion(share_seen, ones(), {"any": order(5, 2)}, steps)
    deletion, insertion = areas["any"]
    tolerance = 0 if SIDE**2 % steps == 0 else 0.25 / SIDE**2
    # From 3/4 for the whole image to 1/2 for the blank one.
    assert deletion.item() == pytest.approx(0.625, abs=1e-6 + tolerance)
    assert insertion.item() == pytest.approx(0.625, abs=1e-6 + tolerance)


def test_curves_of_one_decisive_cell() -> None:
    """Where one cell decides, the curves step when it is reached, so an early one wins."""
    decisive = 1 * SIDE + 2
    places = {"first": order(decisive), "sixth": order(0, 1, 2, 3, 4, decisive)}
    areas = deletion_insertion(one_cell_seen, ones(), places, SIDE**2)
    # With 16 steps: after step k of the decisive cell, 16 - k whole steps and half of its own.
    for name, step in (("first", 1), ("sixth", 6)):
        before = (step - 0.5) / 16
        deletion, insertion = areas[name]
        assert deletion.item() == pytest.approx(0.9 * before + 0.1 * (1 - before), abs=1e-6)
        assert insertion.item() == pytest.approx(0.1 * before + 0.9 * (1 - before), abs=1e-6)


@pytest.mark.parametrize(("size", "steps"), [(16, 3), (13, 4), (10, 20)])
def test_curves_equal_a_plain_loop(model: WideResNet, size: int, steps: int) -> None:
    """Areas are those of curves walked image by image and step by step, beside other orders."""
    images = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(1))
    side = cells_along(size)
    places = np.random.default_rng(0).permuted(np.tile(np.arange(side**2), (3, 1)), axis=1)
    found = deletion_insertion(model, images, {"other": places[::-1].copy(), "": places}, steps)[""]

    def probability(image: Tensor, label: int) -> float:
        with torch.no_grad():
            return functional.softmax(model(image[None])[0].double(), dim=1)[0, label].item()

    for number, image in enumerate(images):
        with torch.no_grad():
            label = int(model(image[None])[0].argmax())
        curves: dict[str, list[float]] = {"deletion": [], "insertion": []}
        for step in range(steps + 1):
            gone = torch.zeros(size, size, dtype=torch.bool)
            for row in range(size):
                for column in range(size):
                    cell = row * side // size * side + column * side // size
                    gone[row, column] = bool(places[number, cell] < round(step * side**2 / steps))
            curves["deletion"].append(probability(image * ~gone, label))
            curves["insertion"].append(probability(image * gone, label))
        for (name, curve), areas in zip(curves.items(), found, strict=True):
            assert areas[number] == pytest.approx(np.trapezoid(curve) / steps, rel=1e-4), name


@pytest.mark.parametrize("size", [4, 5, 13, 28, 30, 32])
def test_cells_are_the_positions_of_the_last_stage(size: int) -> None:
    """There is a cell for each position of the last stage of a wide residual network."""
    _, features = WideResNet(10, 1, 2, 1, "zeros")(torch.zeros(2, 1, size, size))
    assert features[-1].shape[2:] == (cells_along(size), cells_along(size))


def test_order_of_scores() -> None:
    """The highest score comes first, and equal scores in the order of the tie breaker."""
    scores = np.array([[0.1, 0.9, 0.5, 0.5], [1, 1, 1, 1]])
    breaker = np.array([[1, 1, 0.7, 0.2], [0.3, 0.1, 0.4, 0.2]])
    assert order_cells(scores, breaker).tolist() == [[3, 0, 2, 1], [2, 0, 3, 1]]


def test_order_of_the_centre() -> None:
    """The centre's cells come first, corners last, and all that are as far score the same."""
    assert centre_scores(3).reshape(3, 3).tolist() == [[-2, -1, -2], [-1, 0, -1], [-2, -1, -2]]
    grid = centre_scores(4).reshape(4, 4)
    assert (grid[1:3, 1:3] == grid.max()).all()
    assert (grid[[0, 0, 3, 3], [0, 3, 0, 3]] == grid.min()).all()


def test_grad_cam_of_a_network_by_differences(model: WideResNet, images: Tensor) -> None:
    """Weights are what the class's logit gains when a channel of the last stage rises everywhere.

    That gain is the sum over positions of the gradient, of which the weight is the mean.
    """
    found = grad_cam(model, images)
    model = model.double()

    def logit(features: Tensor, labels: Tensor) -> Tensor:
        pooled = functional.relu(model.norm(features)).mean(dim=(2, 3))
        return model.classifier(pooled).gather(1, labels[:, None])[:, 0]

    with torch.no_grad():
        logits, (*_, features) = model(images.double())
        labels = logits.argmax(dim=1)
        gains = []
        for channel in range(features.shape[1]):
            step = torch.zeros_like(features)
            step[:, channel] = 1e-7
            gains.append((logit(features + step, labels) - logit(features - step, labels)) / 2e-7)
        weights = torch.stack(gains, dim=1) / SIDE**2
        expected = functional.relu(torch.einsum("nc,nchw->nhw", weights, features))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5 * found.max())


def test_grad_cam_leaves_the_network_as_it_was(model: WideResNet, images: Tensor) -> None:
    """Neither gradients nor statistics of the network change."""
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    grad_cam(model, images)
    assert all(parameter.grad is None for parameter in model.parameters())
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)
