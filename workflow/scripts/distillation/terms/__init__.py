"""Terms of the objective: one file per term, and what they share.

A term's file has `Settings`, its declaration, and `Term(settings, pair)`, a module whose
`forward(student, teacher, labels)` returns the term of a batch, not weighted: a scalar, or a value
per part, which are added up. What trains with the student are the module's parameters. Letters: N
images, K classes, C channels, H x W positions.
"""

from torch import Tensor, nn
from torch.nn import functional

from distillation.networks import Outputs
from distillation.numerics import pooled_to
from distillation.settings import plugins
from distillation.settings.base import TermSettings
from distillation.stages import Pair


class Term(nn.Module):
    """A term of the objective; `note` is what it has to say when a training begins."""

    note = ""

    def forward(self, student: Outputs, teacher: Outputs, labels: Tensor) -> Tensor:
        """Return the term of a batch, a scalar or one value per part."""
        raise NotImplementedError


def build_term(name: str, settings: TermSettings, pair: Pair) -> Term:
    """Build the term of a name.

    Raises:
        ValueError: the pair of networks can't serve it.
    """
    settings.check_pair(pair)
    return plugins.load("terms", name).Term(settings, pair)


def pooled(maps: Tensor, other: Tensor) -> Tensor:
    """Average maps (N, C, H, W) over areas to at most the positions of others; smaller ones stay.

    Where sides aren't multiples of each other, areas are rounded out, as adaptive pooling does.
    """
    height, width = (
        min(own, other) for own, other in zip(maps.shape[2:], other.shape[2:], strict=True)
    )
    if (height, width) == tuple(maps.shape[2:]):
        return maps
    if maps.shape[2] % height == 0 and maps.shape[3] % width == 0:
        # The same, and faster.
        size = (maps.shape[2] // height, maps.shape[3] // width)
        return functional.avg_pool2d(maps, size)
    return pooled_to(maps, (height, width))
