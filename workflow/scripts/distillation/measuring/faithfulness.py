"""Deletion and insertion: does a network's answer hang on what a map points at?

Letters: N images, C channels, S x S pixels, K classes, `side` x `side` cells of an image. A network
maps images to (logits, stages) in evaluation mode; images are normalised, so that 0 is the data
set's mean.
"""

from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

K = TypeVar("K")
Network = Callable[[Tensor], tuple[Tensor, list[Tensor]]]

# Pixels along a cell, for all networks: the positions of the last stage of a wide residual network.
CELL = 4


def cells_along(image_size: int) -> int:
    """Return the number of cells along a side; where 4 doesn't divide the pixels, some have 3."""
    return -(-image_size // CELL)


def order_cells(scores: np.ndarray, tie_breaker: np.ndarray) -> np.ndarray:
    """Return each cell's place when cells are ordered by falling score, 0 first; (N, cells) each.

    Equal scores are ordered by `tie_breaker`.
    """
    order = np.lexsort((tie_breaker, -scores), axis=1)
    return np.argsort(order, axis=1)


def centre_scores(side: int) -> np.ndarray:
    """Score cells (side * side,) by their closeness to the centre: minus the squared distance."""
    offsets = np.arange(side) - (side - 1) / 2
    return -np.add.outer(np.square(offsets), np.square(offsets)).ravel()


@torch.inference_mode()
def deletion_insertion(
    network: Network, images: Tensor, places: Mapping[K, np.ndarray], steps: int
) -> dict[K, tuple[np.ndarray, np.ndarray]]:
    """Return the areas under the deletion and the insertion curve, for each order of the cells.

    The curve is the softmax probability of the class that the network gives to the whole image,
    while the cells are removed (set to the data set's mean) from the image, or inserted into an
    image of means, in their order and in `steps` equal steps. The area is that of trapezoids over
    a range of 1, so both are 0 to 1; a faithful order has a small deletion and a large insertion.
    Source: Petsiuk et al. 2018 (RISE), arXiv 1806.07421.

    Args:
        network: see above.
        images: (N, C, S, S); the network is run on 2 * (steps - 1) * N at once.
        places: each cell's place in an order, as `order_cells` returns it, (N, side * side).
        steps: 2 or above.

    Returns:
        For each name in `places` deletion and insertion, (N,) each.
    """
    count, _, size, _ = images.shape
    logits, _ = network(images)
    classes = logits.argmax(dim=1)

    def probability(logits: Tensor) -> Tensor:
        """Take that of the image's class from (.., K) for each of the last N rows, in float64."""
        softmax = functional.softmax(logits.double(), dim=1)
        return softmax.gather(1, classes.repeat(len(logits) // count)[:, None])[:, 0]

    blank, _ = network(torch.zeros_like(images[:1]))
    ends = probability(logits) + probability(blank.expand_as(logits))
    side = cells_along(size)
    cell = torch.arange(size, device=images.device) * side // size
    thresholds = torch.arange(1, steps, device=images.device) * side**2 / steps
    areas = {}
    for name, order in places.items():
        grid = torch.from_numpy(order).to(images.device).reshape(count, side, side)
        pixels = grid[:, cell[:, None], cell]
        changed = pixels < thresholds.round()[:, None, None, None]
        kept = torch.stack([~changed, changed])[:, :, :, None]
        perturbed = (images * kept).flatten(0, 2).contiguous(memory_format=torch.channels_last)
        curves = probability(network(perturbed)[0]).reshape(2, steps - 1, count)
        deletion, insertion = ((curves.sum(dim=1) + ends / 2) / steps).cpu().numpy()
        areas[name] = (deletion, insertion)
    return areas


def grad_cam(network: Network, images: Tensor) -> np.ndarray:
    """Return Grad-CAM of the last stage for the class that the network gives, (N, H, W), float64.

    ReLU of the sum over channels of feature * weight, where a channel's weight is the mean over
    positions of the class logit's gradient. Source: Selvaraju et al. 2017, arXiv 1610.02391,
    equations 1 and 2; the features are the stage's raw output.
    """
    with torch.enable_grad():
        logits, stages = network(images)
        chosen = functional.one_hot(logits.argmax(dim=1), logits.shape[1])
        (gradient,) = torch.autograd.grad((logits * chosen).sum(), stages[-1])
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    maps = functional.relu((weights * stages[-1].detach()).sum(dim=1))
    return maps.cpu().numpy().astype(np.float64)
