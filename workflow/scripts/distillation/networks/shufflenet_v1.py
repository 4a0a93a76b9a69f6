"""ShuffleNet, version 1, for small images: grouped convolutions, shuffled, and three stages.

Source: Zhang et al. 2018, arXiv 1707.01083, table 1; as the distillation literature has it (Tian et
al. 2020, arXiv 1910.10699): a 1 x 1 convolution as stem, no pooling before the first stage, a
quarter of a block's new channels within it, and ReLU after the depthwise convolution too.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from distillation.networks import StagedNetwork
from distillation.settings.base import NetworkSettings

STEM_CHANNELS = 24
# Channels of the three stages by number of groups, and blocks of each. arXiv 1707.01083, table 1.
SIZES = {1: (144, 288, 576), 2: (200, 400, 800), 3: (240, 480, 960)}
BLOCKS = (4, 8, 4)


class Settings(NetworkSettings):
    """ShuffleNet of Zhang et al. for small images, of 3 groups as in the literature."""

    groups: Literal[1, 2, 3] = Field(
        3, description="of the 1 x 1 convolutions; more are wider at the same cost"
    )

    @property
    def title(self) -> str:
        """The network's name in tables and figures."""
        return "ShuffleNetV1" + (f" g{self.groups}" if self.groups != 3 else "")


def build(settings: Settings, classes: int, channels: int) -> "ShuffleNetV1":
    """Build the network that the settings describe, for K classes and C channels."""
    return ShuffleNetV1(settings.groups, classes, channels)


class Block(nn.Module):
    """Grouped 1 x 1, depthwise 3 x 3 and grouped 1 x 1 convolutions, before the last ReLU.

    With stride 2 the averaged input comes beside the result, so that there are channels_out in all;
    otherwise it is added.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int, groups: int) -> None:
        super().__init__()
        made = channels_out - channels_in if stride == 2 else channels_out
        inner = made // 4
        # The stem has too few channels for groups. arXiv 1707.01083, section 3.2.
        self.groups = 1 if channels_in == STEM_CHANNELS else groups
        self.stride = stride
        self.conv1 = nn.Conv2d(channels_in, inner, 1, groups=self.groups, bias=False)
        self.norm1 = nn.BatchNorm2d(inner)
        self.depthwise = nn.Conv2d(inner, inner, 3, stride, padding=1, groups=inner, bias=False)
        self.norm2 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, made, 1, groups=groups, bias=False)
        self.norm3 = nn.BatchNorm2d(made)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map raw outputs (N, C_in, H, W) of the block before to raw ones at H / stride."""
        activated = functional.relu(inputs)
        output = functional.relu(self.norm1(self.conv1(activated)))
        output = functional.channel_shuffle(output, self.groups)
        output = functional.relu(self.norm2(self.depthwise(output)))
        output = self.norm3(self.conv2(output))
        if self.stride == 1:
            return output + activated
        return torch.cat([output, functional.avg_pool2d(activated, 3, 2, padding=1)], dim=1)


class ShuffleNetV1(StagedNetwork):
    """A stem at full resolution, and three stages of blocks at half, a quarter and an eighth.

    Args: see `Settings`; classes: K, the number of logits; channels: C of the input images.
    """

    def __init__(self, groups: int, classes: int, channels: int) -> None:
        super().__init__()
        sizes = SIZES[groups]
        self.stem = nn.Conv2d(channels, STEM_CHANNELS, 1, bias=False)
        self.norm = nn.BatchNorm2d(STEM_CHANNELS)
        self.stages = nn.ModuleList(
            nn.Sequential(
                Block(channels_in, channels_out, 2, groups),
                *(Block(channels_out, channels_out, 1, groups) for _ in range(blocks - 1)),
            )
            for channels_in, channels_out, blocks in zip(
                [STEM_CHANNELS, *sizes], sizes, BLOCKS, strict=False
            )
        )
        self.classifier = nn.Linear(sizes[-1], classes)
