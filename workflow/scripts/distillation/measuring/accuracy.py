"""A classifier's outputs, and which of them are right.

Letters: N images, K classes. Logits are (N, K) in float32, labels (N,) in int64.
"""

import time
from statistics import median

import torch
from torch import Tensor

from distillation.data.dataset import Split, normalise
from distillation.networks import Network

# Passes whose median is the latency, and those before them, in which libraries choose and allocate.
PASSES, WARM_UP = 20, 2


@torch.inference_mode()
def predict(
    model: Network, split: Split, mean: list[float], std: list[float], batch_size: int
) -> Tensor:
    """Return the logits (N, K) of all images of `split`, in order, on its device.

    The model is put into evaluation mode; images are neither cropped nor flipped.
    """
    model.eval()
    batches = split.images.split(batch_size)
    return torch.cat([model(normalise(images, mean, std)).logits.float() for images in batches])


@torch.inference_mode()
def latency(model: Network, split: Split, mean: list[float], std: list[float]) -> float:
    """Return the milliseconds of the first image by itself, the median over passes.

    The image lies on the device; its logits are there when a pass ends. The model is put into
    evaluation mode.
    """
    model.eval()
    seconds = []
    for _ in range(WARM_UP + PASSES):
        started = time.perf_counter()
        # Reading the logits waits for the device.
        model(normalise(split.images[:1], mean, std)).logits.cpu()
        seconds.append(time.perf_counter() - started)
    return 1000 * median(seconds[WARM_UP:])


def in_top_k(logits: Tensor, labels: Tensor, k: int) -> Tensor:
    """Tell of each image whether its label is among the k largest logits, bool (N,).

    Of equal ones the first counts if k is 1, as in all that takes the network's answer.
    """
    if k == 1:
        return logits.argmax(dim=1) == labels
    best = logits.topk(min(k, logits.shape[1]), dim=1).indices
    return (best == labels[:, None]).any(dim=1)


def confusion_matrix(logits: Tensor, labels: Tensor) -> Tensor:
    """Count images by label (rows) and prediction (columns), (K, K)."""
    classes = logits.shape[1]
    pairs = labels * classes + logits.argmax(dim=1)
    return torch.bincount(pairs, minlength=classes**2).reshape(classes, classes)
