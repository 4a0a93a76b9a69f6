"""A classifier's outputs, and which of them are right.

Letters: N images, K classes. Logits are (N, K) in float32, labels (N,) in int64.
"""

import torch
from torch import Tensor

from distillation.data.dataset import Split, normalise
from distillation.networks import Network


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


def in_top_k(logits: Tensor, labels: Tensor, k: int) -> Tensor:
    """Tell of each image whether its label is among the k largest logits, bool (N,)."""
    best = logits.topk(min(k, logits.shape[1]), dim=1).indices
    return (best == labels[:, None]).any(dim=1)


def confusion_matrix(logits: Tensor, labels: Tensor) -> Tensor:
    """Count images by label (rows) and prediction (columns), (K, K)."""
    classes = logits.shape[1]
    pairs = labels * classes + logits.argmax(dim=1)
    return torch.bincount(pairs, minlength=classes**2).reshape(classes, classes)
