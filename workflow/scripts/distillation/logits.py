"""What several terms do to logits before softmax."""

import torch
from torch import Tensor

from distillation.numerics import at_least_float32

# What the standard deviation has added, of the code of arXiv 2403.01427.
EPSILON = 1e-7


def standardised(logits: Tensor) -> Tensor:
    """Return each image's logits (N, K) with mean 0 and standard deviation 1, in float32 at least.

    (z - mean(z)) / (std(z) + 1e-7) over the K classes, std with K - 1 in its denominator, as the
    authors' code computes it. Softmax at temperature T sees the student's order and ratios of
    differences then, and not how far its logits reach. Equal logits, as bfloat16 often has them of
    two classes, become 0 without a slope, which would be 1 over next to nothing.

    Source: Sun et al. 2024, "Logit Standardization in Knowledge Distillation", arXiv 2403.01427.
    """
    logits = at_least_float32(logits)
    centred = logits - logits.mean(dim=1, keepdim=True)
    spread = logits.std(dim=1, keepdim=True)
    return torch.where(spread > EPSILON, centred / (spread + EPSILON), 0)
