"""Residual networks for small images that return their stages beside the logits.

Source: He et al. 2016, "Deep Residual Learning for Image Recognition", arXiv 1512.03385: the
networks of section 4.2 with three stages, and those of table 1 with bottlenecks and four stages.
Both as the distillation literature has them (Tian et al. 2020, arXiv 1910.10699): where the shape
changes the shortcut is a 1 x 1 convolution with batch norm; networks of any width above 1 have a
stem of 32 channels, as resnet8x4 has there (widths other than 1 and 4 it doesn't have); and
ResNet50's stem is a 3 x 3 convolution at full resolution, with no pooling after it, and the stride
is that of the 3 x 3 convolution of a block.
"""

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from distillation.networks import StagedNetwork
from distillation.settings.base import NetworkSettings

# Blocks of the four stages of networks with bottlenecks, by depth. arXiv 1512.03385, table 1.
BOTTLENECKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


class Settings(NetworkSettings):
    """A residual network of He et al. for small images: resnet20, resnet8x4 with width 4, ResNet50.

    A depth of 50 is ResNet50 with `block` bottleneck, and resnet50, of three stages, with basic.
    """

    depth: int = Field(
        ge=8,
        description="6 n + 2 layers, n blocks a stage: 8, 14, 20, 32, 44, ...; bottleneck: 50, 101 "
        "or 152",
    )
    width: int = Field(1, ge=1, description="factor on the channels of all stages")
    block: Literal["basic", "bottleneck"] = Field(
        "basic", description="two 3 x 3 convolutions, three stages; or 1 x 1, 3 x 3, 1 x 1, four"
    )

    @model_validator(mode="after")
    def whole_blocks(self) -> Self:
        """Refuse depths that leave a part of a block, or that the paper doesn't have."""
        if self.block == "bottleneck" and self.depth not in BOTTLENECKS:
            known = ", ".join(map(str, BOTTLENECKS))
            raise ValueError(f"depth: found {self.depth}; allowed with bottleneck: {known}")
        if self.block == "basic" and (self.depth - 2) % 6:
            raise ValueError(
                f"depth: found {self.depth}; allowed: 6 n + 2 (8, 14, 20, 32, 44, 56, 110, ...)"
            )
        return self

    @property
    def title(self) -> str:
        """The network's name in tables and figures."""
        name = "resnet" if self.block == "basic" else "ResNet"
        return f"{name}{self.depth}" + (f"x{self.width}" if self.width > 1 else "")


def build(settings: Settings, classes: int, channels: int) -> "ResNet":
    """Build the network that the settings describe, for K classes and C channels."""
    width = settings.width
    if settings.block == "bottleneck":
        sizes = [256 * width, 512 * width, 1024 * width, 2048 * width]
        return ResNet(Bottleneck, 64 * width, sizes, BOTTLENECKS[settings.depth], classes, channels)
    # Width 4 has 32 in arXiv 1910.10699's code, not 16 or 64. Other widths, which are ours, too.
    stem = 16 if width == 1 else 32
    sizes = [16 * width, 32 * width, 64 * width]
    return ResNet(Block, stem, sizes, 3 * ((settings.depth - 2) // 6,), classes, channels)


def shortcut(channels_in: int, channels_out: int, stride: int) -> nn.Module:
    """Return what a block's input is added through."""
    if stride == 1 and channels_in == channels_out:
        return nn.Identity()
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 1, stride, bias=False), nn.BatchNorm2d(channels_out)
    )


class Block(nn.Module):
    """Two 3 x 3 convolutions with batch norm and a shortcut, before the last ReLU."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels_out)
        self.shortcut = shortcut(channels_in, channels_out, stride)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map raw outputs (N, C_in, H, W) of the block before to raw ones at H / stride."""
        activated = functional.relu(inputs)
        residual = functional.relu(self.norm1(self.conv1(activated)))
        return self.norm2(self.conv2(residual)) + self.shortcut(activated)


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions with batch norm and a shortcut, before the last ReLU.

    The 3 x 3 convolution is on a quarter of the channels that come out.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        inner = channels_out // 4
        self.conv1 = nn.Conv2d(channels_in, inner, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, channels_out, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(channels_out)
        self.shortcut = shortcut(channels_in, channels_out, stride)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map raw outputs (N, C_in, H, W) of the block before to raw ones at H / stride."""
        activated = functional.relu(inputs)
        residual = functional.relu(self.norm1(self.conv1(activated)))
        residual = functional.relu(self.norm2(self.conv2(residual)))
        return self.norm3(self.conv3(residual)) + self.shortcut(activated)


class ResNet(StagedNetwork):
    """A stem and stages of blocks, the first at full resolution, each other at half of it.

    Args:
        block: of which kind the blocks are.
        stem: channels of the stem.
        sizes: channels of the stages.
        blocks: their numbers of blocks.
        classes: K, the number of logits.
        channels: C of the input images.
    """

    def __init__(
        self,
        block: type[Block | Bottleneck],
        stem: int,
        sizes: Sequence[int],
        blocks: Sequence[int],
        classes: int,
        channels: int,
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, stem, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(stem)
        self.stages = nn.ModuleList()
        channels_in = stem
        for place, (size, count) in enumerate(zip(sizes, blocks, strict=True)):
            first = block(channels_in, size, 2 if place else 1)
            self.stages.append(
                nn.Sequential(first, *(block(size, size, 1) for _ in range(count - 1)))
            )
            channels_in = size
        self.classifier = nn.Linear(sizes[-1], classes)
