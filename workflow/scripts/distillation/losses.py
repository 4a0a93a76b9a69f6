"""Knowledge distillation and attention transfer, as pure functions.

Letters: N images, K classes, C channels, H x W positions. All losses are computed in float32:
in float16 the squares overflow past 256 and the epsilon of the normalisation underflows.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn import functional

KLReduction = Literal["batchmean", "legacy_2017"]
ATMode = Literal["code", "paper"]
Collapse = Literal["mean_square", "sum_square", "sum", "sum_absolute", "max_square"]


def knowledge_distillation(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float,
    kl_reduction: KLReduction = "batchmean",
) -> Tensor:
    """Return the distillation term of Hinton et al. 2015 (arXiv 1503.02531), a scalar.

    With p = softmax(teacher / T) and q = softmax(student / T):

    - batchmean: T^2 * mean over N of sum over K of p * (log p - log q);
    - legacy_2017: 2 * T^2 * mean over N and K of the same terms, the weight that the code of the
      attention-transfer paper had until July 2018: 2 / K of `batchmean`.

    The objective is (1 - alpha) * cross-entropy + alpha * this term.

    Args:
        student_logits: (N, K).
        teacher_logits: (N, K); no gradient flows into them.
        temperature: T > 0.
        kl_reduction: see above.

    Raises:
        ValueError: the shapes differ, or `kl_reduction` is unknown.
    """
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(
            f"logits of student and teacher differ in shape: "
            f"{tuple(student_logits.shape)} and {tuple(teacher_logits.shape)}"
        )
    log_student = functional.log_softmax(student_logits.float() / temperature, dim=1)
    log_teacher = functional.log_softmax(teacher_logits.detach().float() / temperature, dim=1)
    divergence = functional.kl_div(log_student, log_teacher, reduction="sum", log_target=True)
    images, classes = student_logits.shape
    if kl_reduction == "batchmean":
        return temperature**2 * divergence / images
    if kl_reduction == "legacy_2017":
        return 2 * temperature**2 * divergence / (images * classes)
    raise ValueError(f"kl_reduction is {kl_reduction!r}; allowed: batchmean, legacy_2017")


def collapse_channels(features: Tensor, collapse: Collapse) -> Tensor:
    """Collapse feature maps over their channels, (N, C, H, W) -> (N, H, W), in float32.

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
    features = features.float()
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
        return torch.linalg.vector_norm(features, dim=1, dtype=torch.float32).square()

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


def attention_transfer(
    student_features: Sequence[Tensor],
    teacher_features: Sequence[Tensor],
    collapse: Collapse = "mean_square",
    at_mode: ATMode = "code",
) -> Tensor:
    """Return the attention-transfer term of each group, shape (groups,), not weighted.

    With q_s, q_t the maps of `attention_map` (arXiv 1612.03928):

    - code: mean over N and the H * W positions of (q_s - q_t)^2, as the authors' code computes
      it; it equals 2 / (H * W) * (1 - cos(q_s, q_t));
    - paper: 1 / 2 * mean over N of ||q_s - q_t||_2, equation 2 of the paper (a norm, not a
      square; the paper doesn't say how images are reduced, the mean is our choice).

    The objective adds beta times the sum over the groups; a beta for one mode means nothing in
    the other. Student and teacher may differ in channels, not in positions. No gradient flows
    into the teacher.

    Raises:
        ValueError: numbers of groups or positions differ, or an option is unknown.
    """
    if len(student_features) != len(teacher_features):
        raise ValueError(
            f"student and teacher have different numbers of groups: "
            f"{len(student_features)} and {len(teacher_features)}"
        )
    if at_mode not in ("code", "paper"):
        raise ValueError(f"at_mode is {at_mode!r}; allowed: code, paper")
    terms = []
    for student, teacher in zip(student_features, teacher_features, strict=True):
        if student.shape[0] != teacher.shape[0] or student.shape[2:] != teacher.shape[2:]:
            raise ValueError(
                f"feature maps of student and teacher differ in images or positions: "
                f"{tuple(student.shape)} and {tuple(teacher.shape)}"
            )
        difference = attention_map(student, collapse) - attention_map(teacher.detach(), collapse)
        if at_mode == "code":
            terms.append(difference.square().mean())
        else:
            terms.append(torch.linalg.vector_norm(difference, dim=1).mean() / 2)
    return torch.stack(terms)
