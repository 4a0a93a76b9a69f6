"""Attention maps against plain loops in double precision, and the identities that they obey."""

import math
from typing import Any, get_args

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from distillation.numerics import Collapse, attention_map, collapse_channels, pooled_to

COLLAPSES = get_args(Collapse)

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


@pytest.mark.parametrize("collapse", COLLAPSES)
def test_maps_equal_a_plain_loop(collapse: Collapse) -> None:
    """Channels collapse by their formula to a map of unit length, whatever the features' scale."""
    features = random(3, 4, 2, 5)
    images = features.double().tolist()
    found = collapse_channels(features, collapse)
    assert found.shape == (3, 2, 5)
    expected = torch.tensor([plain_collapse(image, collapse) for image in images]).double()
    torch.testing.assert_close(found.flatten(1).double(), expected)
    found = attention_map(features, collapse)
    expected = torch.tensor([plain_map(image, collapse) for image in images]).double()
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.square().sum(dim=1), torch.ones(3))
    factors = torch.tensor([0.001, 1.0, 1000.0]).reshape(3, 1, 1, 1)
    torch.testing.assert_close(attention_map(features * factors, collapse), found)


def test_sum_and_mean_of_squares_are_one_map() -> None:
    """Whether squares are summed or averaged over channels makes no difference to the map."""
    features = random(3, 16, 8, 8)
    torch.testing.assert_close(
        attention_map(features, "mean_square"), attention_map(features, "sum_square")
    )


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 2**-7)],
)
def test_gradient_of_the_squares(dtype: torch.dtype, tolerance: float) -> None:
    """The gradient of the collapsed squares is autograd's, to within the features' precision."""
    features = random(2, 5, 3, 3).to(dtype)
    weights = random(2, 3, 3, seed=1).double()
    ours = features.clone().requires_grad_()
    found = collapse_channels(ours, "sum_square")
    assert found.dtype == (dtype if dtype == torch.float64 else torch.float32)
    (found * weights).sum().backward()
    plain = features.double().requires_grad_()
    (plain.square().sum(dim=1) * weights).sum().backward()
    assert ours.grad is not None
    assert ours.grad.dtype == dtype
    torch.testing.assert_close(ours.grad.double(), plain.grad, rtol=tolerance, atol=0)


@pytest.mark.parametrize(
    ("shape", "collapse", "message"),
    [
        ((2, 3, 4, 4), "mean", "'mean'; allowed: mean_square, sum_square, sum,"),
        ((2, 3), "mean_square", r"shape \(2, 3\); expected \(N, C, H, W\)"),
    ],
)
def test_what_cannot_be_collapsed_is_refused(
    shape: tuple[int, ...], collapse: Any, message: str
) -> None:
    """An unknown collapse, or features without positions, raise an error that names them."""
    with pytest.raises(ValueError, match=message):
        collapse_channels(random(*shape), collapse)


@pytest.mark.parametrize("size", [(7, 7), (3, 4), (2, 5), (1, 10), (8, 10)])
def test_pooling_is_torchs(size: tuple[int, int]) -> None:
    """Pooling to a size has the outputs and gradients of adaptive average pooling."""
    for shape in [(8, 10), (2, 7), (7, 7)]:
        maps = [random(2, 3, *shape).double().requires_grad_() for _ in range(2)]
        found, expected = pooled_to(maps[0], size), functional.adaptive_avg_pool2d(maps[1], size)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
        for pooled in (found, expected):
            pooled.square().sum().backward()
        torch.testing.assert_close(maps[0].grad, maps[1].grad, rtol=1e-12, atol=1e-12)
