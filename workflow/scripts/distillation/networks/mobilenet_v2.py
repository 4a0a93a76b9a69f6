"""MobileNetV2 for small images: inverted residuals with linear bottlenecks, and four stages.

Source: Sandler et al. 2018, arXiv 1801.04381, table 2; as the distillation literature has it (Tian
et al. 2020, arXiv 1910.10699): half the width, an image is halved by the first layer and by three
blocks, not five, ReLU in place of ReLU6, and the first block expands by 1 with a convolution.
"""

from collections.abc import Iterator

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from distillation.networks import Network, Outputs
from distillation.settings.base import NetworkSettings

# Of each sequence of blocks: expansion, channels, blocks, stride of the first. arXiv 1801.04381,
# table 2, with the strides of arXiv 1910.10699's code.
SEQUENCES = (
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
# The sequences whose outputs are the stages: the last of each resolution, as there.
STAGES = (1, 2, 4, 6)
STEM_CHANNELS, LAST_CHANNELS = 32, 1280


class Settings(NetworkSettings):
    """MobileNetV2 of Sandler et al. for small images, of half width as in the literature."""

    width: float = Field(0.5, ge=0.125, description="factor on the channels; 0.5: the literature's")

    @property
    def title(self) -> str:
        """The network's name in tables and figures."""
        return "MobileNetV2" + (f" x{self.width:g}" if self.width != 0.5 else "")


def build(settings: Settings, classes: int, channels: int) -> "MobileNetV2":
    """Build the network that the settings describe, for K classes and C channels."""
    return MobileNetV2(settings.width, classes, channels)


class Block(nn.Module):
    """Expand, convolve each channel by itself, and project; no activation follows.

    The input is added where the shape is kept.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = channels_in * expansion
        self.expand = nn.Conv2d(channels_in, inner, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(inner)
        self.depthwise = nn.Conv2d(inner, inner, 3, stride, padding=1, groups=inner, bias=False)
        self.norm2 = nn.BatchNorm2d(inner)
        self.project = nn.Conv2d(inner, channels_out, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(channels_out)
        self.adds = stride == 1 and channels_in == channels_out

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (N, C_in, H, W) to (N, C_out, H / stride, W / stride)."""
        output = functional.relu(self.norm1(self.expand(inputs)))
        output = functional.relu(self.norm2(self.depthwise(output)))
        output = self.norm3(self.project(output))
        return inputs + output if self.adds else output


class MobileNetV2(Network):
    """A stem, sequences of blocks, four of which end in stages, and a wide last convolution.

    Args: see `Settings`; classes: K, the number of logits; channels: C of the input images.
    """

    def __init__(self, width: float, classes: int, channels: int) -> None:
        super().__init__()
        channels_in = int(STEM_CHANNELS * width)
        self.stem = nn.Conv2d(channels, channels_in, 3, 2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels_in)
        self.sequences = nn.ModuleList()
        for expansion, size, blocks, stride in SEQUENCES:
            sequence = nn.Sequential()
            for place in range(blocks):
                channels_out = int(size * width)
                own_stride = 1 if place else stride
                sequence.append(Block(channels_in, channels_out, own_stride, expansion))
                channels_in = channels_out
            self.sequences.append(sequence)
        last = int(LAST_CHANNELS * max(1, width))
        self.last = nn.Conv2d(channels_in, last, 1, bias=False)
        self.last_norm = nn.BatchNorm2d(last)
        self.classifier = nn.Linear(last, classes)

    def forward(self, images: Tensor) -> Outputs:
        """Return logits (N, K) and the stages, linear bottlenecks that no activation follows."""
        output = functional.relu(self.norm(self.stem(images)))
        outputs = []
        for sequence in self.sequences:
            output = sequence(output)
            outputs.append(output)
        output = functional.relu(self.last_norm(self.last(output))).mean(dim=(2, 3))
        return Outputs(self.classifier(output), [outputs[place] for place in STAGES])

    def activated(self, stages: list[Tensor]) -> list[Tensor]:
        """Return the stages as they are: what follows a bottleneck is a convolution."""
        return stages

    def blocks(self) -> Iterator[nn.Module]:
        """Yield the blocks of all sequences."""
        for sequence in self.sequences:
            yield from sequence.children()
