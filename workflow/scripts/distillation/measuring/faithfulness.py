"""Deletion and insertion: does a network's answer hang on what a map points at?

Letters: N images, C channels, S x S pixels, K classes, `side` x `side` cells of an image. A network
maps images to (logits, stages) in evaluation mode.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from distillation.data.dataset import Dataset
from distillation.settings.measures import Fill

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


def fill_images(
    images: np.ndarray, fills: Iterable[Fill], dataset: Dataset
) -> dict[Fill, np.ndarray]:
    """Return what stands in for removed cells, (N, S, S, C) in grey levels from 0 to 255.

    background: the median of each channel over the outermost pixels of the training images, which
    leaves no patch on an even ground; mean: that of each channel; blur: the image itself, blurred
    by a Gaussian with a cell's width as standard deviation, so that colours stay and shapes go
    (Fong and Vedaldi 2017, arXiv 1704.03296).

    Args:
        images: uint8 (N, S, S, C).
        fills: which ones.
        dataset: whose images they are.
    """
    train = dataset.train.images.numpy()
    ring = np.concatenate([train[:, [0, -1]], train[:, :, [0, -1]].swapaxes(1, 2)], axis=2)
    colours = {"background": np.median(ring, axis=(0, 1, 2)), "mean": np.array(dataset.mean)}
    width = (0, CELL, CELL, 0)
    return {
        fill: ndimage.gaussian_filter(images.astype(float), width, mode="nearest")
        if fill == "blur"
        else np.tile(colours[fill], (*images.shape[:3], 1))
        for fill in fills
    }


@torch.inference_mode()
def deletion_insertion(
    network: Network, images: Tensor, filled: Tensor, places: Mapping[K, np.ndarray],
    steps: int, batch_size: int,
) -> dict[K, tuple[np.ndarray, np.ndarray]]:  # fmt: skip
    """Return the areas under the deletion and the insertion curve, (N,), for each order of cells.

    The curve is the softmax probability of the class that the network gives to the whole image,
    while cells are filled, or put into an image of nothing but what fills them, in their order. The
    area is that of trapezoids over a range of 1, so both are 0 to 1; a faithful order has a small
    deletion and a large insertion. After step k of K insertion has k / K of the cells, deletion has
    taken (k / K)^2 of them: answers fall with the first few.
    Source: Petsiuk et al. 2018 (RISE), arXiv 1806.07421. Deviation: they take equal, small steps.

    Args:
        network: see above.
        images: normalised, (N, C, S, S).
        filled: what fills each cell, in the same way.
        places: each cell's place in an order, as `order_cells` returns it, (N, side * side).
        steps: K, 2 or above.
        batch_size: images per pass.
    """
    count, _, size, _ = images.shape
    classes = network(images)[0].argmax(dim=1)

    def probability(shown: Tensor) -> np.ndarray:
        """Return that of the image's class for each of the images, (.., N)."""
        shown = shown.contiguous(memory_format=torch.channels_last)
        logits = torch.cat([network(batch)[0].double() for batch in shown.split(batch_size)])
        softmax = functional.softmax(logits, dim=1).reshape(-1, count, logits.shape[1])
        return (
            softmax.gather(2, classes.expand(len(softmax), count)[:, :, None])[..., 0].cpu().numpy()
        )

    whole, nothing = probability(torch.cat([images, filled]))
    side = cells_along(size)
    cell = torch.arange(size, device=images.device) * side // size
    parts = np.arange(steps + 1) / steps
    # Of cells that are filled, and put in; none and all are the ends.
    counts = np.round(np.stack([parts**2, parts]) * side**2)
    taken = torch.from_numpy(counts[:, 1:-1, None, None, None]).to(images.device)
    areas = {}
    for name, order in places.items():
        grid = torch.from_numpy(order).to(images.device).reshape(count, side, side)
        reached = grid[:, cell[:, None], cell] < taken
        kept = torch.stack([~reached[0], reached[1]]).flatten(0, 1)
        middle = probability(torch.where(kept[:, :, None], images, filled).flatten(0, 1))
        deletion, insertion = np.split(middle, 2)
        areas[name] = (
            np.trapezoid([whole, *deletion, nothing], counts[0] / side**2, axis=0),
            np.trapezoid([nothing, *insertion, whole], counts[1] / side**2, axis=0),
        )
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
