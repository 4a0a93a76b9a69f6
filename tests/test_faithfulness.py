"""Deletion, insertion and Grad-CAM on networks whose answer is known."""

import numpy as np
import pytest
import scipy.integrate
import scipy.ndimage
import torch
from torch import Tensor, nn
from torch.nn import functional

from distillation.data.dataset import Dataset, Split
from distillation.measuring.faithfulness import (
    Network,
    cells_along,
    centre_scores,
    deletion_insertion,
    fill_images,
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


def areas(
    network: Network, images: Tensor, places: np.ndarray, steps: int, filled: Tensor | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return deletion and insertion by an order; filled with zeros unless told."""
    filled = torch.zeros_like(images) if filled is None else filled
    orders = {"other": places[::-1].copy(), "": places}
    return deletion_insertion(network, images, filled, orders, steps, batch_size=7)[""]


@pytest.mark.parametrize("steps", [2, 4, 5, 16])
def test_curves_of_a_straight_line(steps: int) -> None:
    """Where every cell counts the same, both curves are the straight line between the ends."""
    for area in areas(share_seen, ones(), order(5, 2), steps):
        # From 3/4 for the whole image to 1/2 for the blank one.
        assert area.item() == pytest.approx(0.625, abs=1e-6)


@pytest.mark.parametrize(("before", "place"), [((), 1), ((0, 1, 2, 3, 4), 6)])
def test_curves_of_one_decisive_cell(before: tuple[int, ...], place: int) -> None:
    """Where one cell decides, the curves step when it is reached, so an early one wins."""
    steps = SIDE**2
    found = areas(one_cell_seen, ones(), order(*before, 1 * SIDE + 2), steps)
    # With 16 steps insertion has one cell more after each, deletion the square over 16.
    taken = np.round(np.arange(steps + 1) ** 2 / steps), np.arange(steps + 1)
    for area, cells, early, late in zip(found, taken, (0.9, 0.1), (0.1, 0.9), strict=True):
        last, next_one = cells[cells < place].max(), cells[cells >= place].min()
        share = (last + next_one) / 2 / steps
        assert area.item() == pytest.approx(early * share + late * (1 - share), abs=1e-6)


@pytest.mark.parametrize(("size", "steps"), [(16, 4), (13, 4), (10, 20)])
def test_curves_equal_a_plain_loop(model: WideResNet, size: int, steps: int) -> None:
    """Areas are SciPy's of curves walked image by image, step by step and cell by cell."""
    generator = torch.Generator().manual_seed(1)
    images, filled = torch.randn(2, 2, 3, size, size, generator=generator)
    side = cells_along(size)
    places = np.random.default_rng(0).permuted(np.tile(np.arange(side**2), (2, 1)), axis=1)
    found = areas(model, images, places, steps, filled)
    # Equal numbers are put in; of those filled, the squares of the shares are equal.
    taken = [[round((step / steps) ** power * side**2) for step in range(steps + 1)]
             for power in (2, 1)]  # fmt: skip
    cells = torch.tensor([[row * side // size * side + column * side // size
                           for column in range(size)] for row in range(size)])  # fmt: skip

    def probability(image: Tensor, label: int) -> float:
        with torch.no_grad():
            return functional.softmax(model(image[None])[0].double(), dim=1)[0, label].item()

    for number, (image, fill) in enumerate(zip(images, filled, strict=True)):
        with torch.no_grad():
            label = int(model(image[None])[0].argmax())
        curves: tuple[list[float], list[float]] = ([], [])
        for step in range(steps + 1):
            for curve, cells_taken in zip(curves, taken, strict=True):
                reached = [cell for cell, place in enumerate(places[number])
                           if place < cells_taken[step]]  # fmt: skip
                here = torch.isin(cells, torch.tensor(reached, dtype=torch.int64))
                shown = (fill, image) if curve is curves[0] else (image, fill)
                curve.append(probability(torch.where(here, *shown), label))
        for curve, cells_taken, area in zip(curves, taken, found, strict=True):
            assert area[number] == pytest.approx(
                scipy.integrate.trapezoid(curve, np.array(cells_taken) / side**2), rel=1e-4
            )


def test_fills() -> None:
    """Backgrounds are the usual outermost colour, means the data's, blurs SciPy's per channel."""
    generator = np.random.default_rng(0)
    train = generator.integers(256, size=(5, 9, 9, 3), dtype=np.uint8)
    train[:3, [0, -1]] = train[:3, :, [0, -1]] = [7, 0, 200]
    split = Split(torch.from_numpy(train), torch.zeros(5))
    data = Dataset(split, split, ["x"], [3, 4, 5.5], [1, 1, 1], "")
    images = generator.integers(256, size=(2, 9, 9, 3), dtype=np.uint8)
    found = fill_images(images, ["blur", "background", "mean"], data)
    assert (found["background"] == [7, 0, 200]).all()
    assert (found["mean"] == [3, 4, 5.5]).all()
    for image, blurred in zip(images, found["blur"], strict=True):
        for channel in range(3):
            expected = scipy.ndimage.gaussian_filter(image[..., channel] * 1.0, 4, mode="nearest")
            np.testing.assert_allclose(blurred[..., channel], expected)


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
