"""Measures of a classifier's outputs.

Letters: N images, K classes. Logits are (N, K) in float32, labels (N,) in int64.
"""

import torch
from torch import Tensor
from torch.nn import functional

from distillation.data import Split, normalise
from distillation.models import WideResNet

# Bins of the expected calibration error. Guo et al. 2017, arXiv 1706.04599, section 5.
CALIBRATION_BINS = 15


@torch.inference_mode()
def predict(
    model: WideResNet, split: Split, mean: list[float], std: list[float], batch_size: int
) -> Tensor:
    """Return the logits (N, K) of all images of `split`, in order, on its device.

    The model is put into evaluation mode; images are neither cropped nor flipped.
    """
    model.eval()
    return torch.cat(
        [
            model(normalise(images, mean, std))[0].float()
            for images in split.images.split(batch_size)
        ]
    )


def top_k_accuracy(logits: Tensor, labels: Tensor, k: int) -> float:
    """Return the fraction of images whose label is among the k largest logits (k at most K)."""
    best = logits.topk(min(k, logits.shape[1]), dim=1).indices
    return (best == labels[:, None]).any(dim=1).double().mean().item()


def confusion_matrix(logits: Tensor, labels: Tensor) -> Tensor:
    """Count images by label (rows) and prediction (columns), (K, K)."""
    classes = logits.shape[1]
    pairs = labels * classes + logits.argmax(dim=1)
    return torch.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def expected_calibration_error(logits: Tensor, labels: Tensor) -> float:
    """Return sum over bins of (images in bin / N) * |accuracy - mean confidence|, 0 to 1.

    Bins are 15 equal intervals (low, high] of the largest softmax output.
    Source: Guo et al. 2017, arXiv 1706.04599, equation 3.
    """
    confidences, predictions = functional.softmax(logits.double(), dim=1).max(dim=1)
    gaps = (predictions == labels).double() - confidences
    bins = (confidences * CALIBRATION_BINS).ceil().long() - 1
    sums = torch.zeros(CALIBRATION_BINS, dtype=torch.float64, device=logits.device)
    sums.index_add_(0, bins.clamp(0, CALIBRATION_BINS - 1), gaps)
    return sums.abs().sum().item() / len(labels)


def divergence_from_teacher(student_logits: Tensor, teacher_logits: Tensor) -> float:
    """Return the mean over images of KL(teacher || student) at temperature 1, in nats."""
    return functional.kl_div(
        functional.log_softmax(student_logits.double(), dim=1),
        functional.log_softmax(teacher_logits.double(), dim=1),
        reduction="batchmean",
        log_target=True,
    ).item()


def agreement(student_logits: Tensor, teacher_logits: Tensor) -> float:
    """Return the fraction of images on which the two largest logits are of one class."""
    same = student_logits.argmax(dim=1) == teacher_logits.argmax(dim=1)
    return same.double().mean().item()
