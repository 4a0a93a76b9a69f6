"""ShuffleNet, version 2, for small images: half of the channels pass a block, and three stages.

Source: Ma et al. 2018, arXiv 1807.11164, table 5; as the distillation literature has it (Tian et
al. 2020, arXiv 1910.10699): a 1 x 1 convolution as stem, and no pooling before the first stage.
"""

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn import functional

from distillation.networks import StagedNetwork
from distillation.settings.base import NetworkSettings

STEM_CHANNELS = 24
# Channels of the three stages and of the last convolution by width, and blocks of each stage. arXiv
# 1807.11164, table 5.
SIZES = {
    0.5: (48, 96, 192, 1024),
    1: (116, 232, 464, 1024),
    1.5: (176, 352, 704, 1024),
    2: (244, 488, 976, 2048),
}
BLOCKS = (4, 8, 4)


class Settings(NetworkSettings):
    """ShuffleNet V2 of Ma et al. for small images."""

    width: float = Field(1, description="0.5, 1, 1.5 or 2, as the paper names its networks")

    @field_validator("width")
    @classmethod
    def published(cls, width: float) -> float:
        """Refuse widths that the paper doesn't have."""
        if width not in SIZES:
            raise ValueError(f"found {width:g}; allowed: {', '.join(map(str, SIZES))}")
        return width

    @property
    def title(self) -> str:
        """The network's name in tables and figures."""
        return "ShuffleNetV2" + (f" x{self.width:g}" if self.width != 1 else "")


def build(settings: Settings, classes: int, channels: int) -> "ShuffleNetV2":
    """Build the network that the settings describe, for K classes and C channels."""
    return ShuffleNetV2(SIZES[settings.width], classes, channels)


class Branch(nn.Module):
    """1 x 1, depthwise 3 x 3 and 1 x 1 convolutions, before the last ReLU."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels_out)
        self.depthwise = nn.Conv2d(
            channels_out, channels_out, 3, stride, padding=1, groups=channels_out, bias=False
        )
        self.norm2 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(channels_out)

    def forward(self, activated: Tensor) -> Tensor:
        """Map (N, C_in, H, W) to raw outputs (N, C_out, H / stride, W / stride)."""
        output = functional.relu(self.norm1(self.conv1(activated)))
        output = self.norm2(self.depthwise(output))
        return self.norm3(self.conv2(output))


class Block(nn.Module):
    """One half of the channels as it is, the other through a branch, shuffled together.

    The channels that pass have been through ReLU, which leaves them as they are a second time: so a
    block begins with the ReLU that ends the one before it, on all of them.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.branch = Branch(size // 2, size // 2, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map raw outputs (N, C, H, W) of the block before to raw ones."""
        passing, changed = functional.relu(inputs).chunk(2, dim=1)
        return functional.channel_shuffle(torch.cat([passing, self.branch(changed)], dim=1), 2)


class DownBlock(nn.Module):
    """Two branches with stride 2 on all channels, shuffled together, before the last ReLU."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(
            channels_in, channels_in, 3, 2, padding=1, groups=channels_in, bias=False
        )
        self.norm1 = nn.BatchNorm2d(channels_in)
        self.conv = nn.Conv2d(channels_in, channels_out // 2, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels_out // 2)
        self.branch = Branch(channels_in, channels_out // 2, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map raw outputs (N, C_in, H, W) of the block before to raw ones at half the size."""
        activated = functional.relu(inputs)
        short = self.norm2(self.conv(self.norm1(self.depthwise(activated))))
        return functional.channel_shuffle(torch.cat([short, self.branch(activated)], dim=1), 2)


class ShuffleNetV2(StagedNetwork):
    """A stem at full resolution, three stages at half, a quarter and an eighth, a last convolution.

    Args:
        sizes: channels of the stages and of the last convolution.
        classes: K, the number of logits.
        channels: C of the input images.
    """

    def __init__(self, sizes: tuple[int, ...], classes: int, channels: int) -> None:
        super().__init__()
        *stages, last = sizes
        self.stem = nn.Conv2d(channels, STEM_CHANNELS, 1, bias=False)
        self.norm = nn.BatchNorm2d(STEM_CHANNELS)
        self.stages = nn.ModuleList(
            nn.Sequential(
                DownBlock(channels_in, channels_out),
                *(Block(channels_out) for _ in range(blocks - 1)),
            )
            for channels_in, channels_out, blocks in zip(
                [STEM_CHANNELS, *stages], stages, BLOCKS, strict=False
            )
        )
        self.last = nn.Conv2d(stages[-1], last, 1, bias=False)
        self.last_norm = nn.BatchNorm2d(last)
        self.classifier = nn.Linear(last, classes)

    def last_features(self, output: Tensor) -> Tensor:
        """Return the last convolution's, of the stage after ReLU.

        Of the channels that passed the last block, ReLU came before it.
        """
        return functional.relu(self.last_norm(self.last(functional.relu(output))))
