"""What several losses and measures compute with.

Letters: N images, C channels, H x W positions. In float16 squares overflow past 256 and the epsilon
of a normalisation underflows: attention maps are computed in float32 at least.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn import functional

Collapse = Literal["mean_square", "sum_square", "sum", "sum_absolute", "max_square"]


def at_least_float32(values: Tensor) -> Tensor:
    """Return values in float32, or in float64 if they are in it."""
    return values if values.dtype == torch.float64 else values.float()


def collapse_channels(features: Tensor, collapse: Collapse) -> Tensor:
    """Collapse feature maps over their channels, (N, C, H, W) -> (N, H, W), in float32 at least.

    mean_square: mean of x^2 (the attention-transfer paper's code); sum_square: sum of x^2;
    sum: sum of x (signed, not a map of magnitude); sum_absolute: sum of |x|;
    max_square: maximum of x^2. Source: arXiv 1612.03928, section 3.1; the plain sum is there
    for comparison only.

    Raises:
        ValueError: `features` is not four-dimensional, or `collapse` is unknown.
    """
    if features.dim() != 4:
        raise ValueError(f"features have shape {tuple(features.shape)}; expected (N, C, H, W)")
    if collapse == "mean_square":
        return SumOfSquares.apply(features) / features.shape[1]  # type: ignore[operator]
    if collapse == "sum_square":
        return SumOfSquares.apply(features)  # type: ignore[return-value]
    features = at_least_float32(features)
    if collapse == "sum":
        return features.sum(dim=1)
    if collapse == "sum_absolute":
        return features.abs().sum(dim=1)
    if collapse == "max_square":
        # max |x| squared: amax shares the gradient between ties, as for any maximum.
        return features.abs().amax(dim=1).square()
    raise ValueError(
        f"collapse is {collapse!r}; allowed: mean_square, sum_square, sum, sum_absolute, max_square"
    )


class SumOfSquares(torch.autograd.Function):
    """The sum of squares over channels, (N, C, H, W) -> (N, H, W), in float32.

    The same as `features.float().square().sum(dim=1)`, which would write the features twice more in
    each direction: it takes a third of the time, forward and backward. The gradient is computed in
    the precision of the features, in which it leaves anyway.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, features: Tensor) -> Tensor:
        """Return the sums."""
        ctx.save_for_backward(features)
        dtype = torch.promote_types(features.dtype, torch.float32)
        return torch.linalg.vector_norm(features, dim=1, dtype=dtype).square()

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> Tensor:  # type: ignore[override]
        """Return 2 * features * gradient."""
        (features,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return features * (2 * gradient).to(features.dtype)[:, None]


def attention_map(features: Tensor, collapse: Collapse = "mean_square") -> Tensor:
    """Return attention maps of unit length, (N, C, H, W) -> (N, H * W), in float32.

    q(x) = v / max(||v||_2, 1e-12), v the flattened collapsed map of one image.
    """
    return functional.normalize(collapse_channels(features, collapse).flatten(1), dim=1)


def pooled_to(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Average maps (N, C, H, W) over areas to a size, as torch's adaptive average pooling does.

    As products of matrices, whose backward pass repeats itself on CUDA; that of torch's own
    doesn't, and is refused where determinism is asked for.
    """
    rows, columns = (
        functional.adaptive_avg_pool1d(torch.eye(own, dtype=maps.dtype, device=maps.device), side)
        for own, side in zip(maps.shape[2:], size, strict=True)
    )
    return torch.einsum("nchw,hi,wj->ncij", maps, rows, columns)
