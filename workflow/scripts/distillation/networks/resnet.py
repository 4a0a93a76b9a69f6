"""Residual networks for small images, with three stages, that return these beside the logits.

Source: He et al. 2016, "Deep Residual Learning for Image Recognition", arXiv 1512.03385, section
4.2; as the distillation literature has them (Tian et al. 2020, arXiv 1910.10699): where the shape
changes the shortcut is a 1 x 1 convolution with batch norm, and the networks that are four times
as wide, as resnet8x4, have a stem of 32 channels.
"""

from collections.abc import Iterator

from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn import functional

from distillation.networks import Network, Outputs
from distillation.settings.base import NetworkSettings


class Settings(NetworkSettings):
    """A residual network of He et al. for small images: resnet20, or resnet8x4 with width 4."""

    depth: int = Field(ge=8, description="6 n + 2 layers, n blocks a stage: 8, 14, 20, 32, 44, ...")
    width: int = Field(1, ge=1, description="factor on the channels of the three stages")

    @field_validator("depth")
    @classmethod
    def whole_blocks(cls, depth: int) -> int:
        """Refuse depths that leave a part of a block."""
        if (depth - 2) % 6:
            raise ValueError(f"found {depth}; allowed: 6 n + 2 (8, 14, 20, 32, 44, 56, 110, ...)")
        return depth

    @property
    def title(self) -> str:
        """The network's name in tables and figures."""
        return f"resnet{self.depth}" + (f"x{self.width}" if self.width > 1 else "")


def build(settings: Settings, classes: int, channels: int) -> "ResNet":
    """Build the network that the settings describe, for K classes and C channels."""
    return ResNet(settings.depth, settings.width, classes, channels)


class Block(nn.Module):
    """Two 3 x 3 convolutions with batch norm and a shortcut, before the last ReLU."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels_out)
        self.shortcut = (
            nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 1, stride, bias=False),
                nn.BatchNorm2d(channels_out),
            )
            if stride != 1 or channels_in != channels_out
            else nn.Identity()
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Map raw outputs (N, C_in, H, W) of the block before to raw ones at H / stride."""
        activated = functional.relu(inputs)
        residual = functional.relu(self.norm1(self.conv1(activated)))
        return self.norm2(self.conv2(residual)) + self.shortcut(activated)


class ResNet(Network):
    """A stem and three stages of blocks at full, half and quarter resolution.

    Each block begins with the ReLU that ends the one before it, so that a stage's output is raw.
    Args: see `Settings`; classes: K, the number of logits; channels: C of the input images.
    """

    def __init__(self, depth: int, width: int, classes: int, channels: int) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        # Those of width 4 have a stem of 32 channels, not of 16 or 64. arXiv 1910.10699's code.
        stem = 16 if width == 1 else 32
        sizes = [16 * width, 32 * width, 64 * width]
        self.stem = nn.Conv2d(channels, stem, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(stem)
        self.stages = nn.ModuleList(
            nn.Sequential(
                Block(channels_in, channels_out, stride),
                *(Block(channels_out, channels_out, 1) for _ in range(blocks - 1)),
            )
            for channels_in, channels_out, stride in zip(
                [stem, *sizes], sizes, (1, 2, 2), strict=False
            )
        )
        self.classifier = nn.Linear(sizes[-1], classes)

    def forward(self, images: Tensor) -> Outputs:
        """Return logits (N, K) and the raw outputs of the stages, before ReLU."""
        output = self.norm(self.stem(images))
        stages = []
        for stage in self.stages:
            output = stage(output)
            stages.append(output)
        # A mean over positions: the backward pass of adaptive pooling isn't deterministic on CUDA.
        return Outputs(self.classifier(functional.relu(output).mean(dim=(2, 3))), stages)

    def activated(self, stages: list[Tensor]) -> list[Tensor]:
        """Return the stages after ReLU."""
        return [functional.relu(stage) for stage in stages]

    def blocks(self) -> Iterator[nn.Module]:
        """Yield the blocks of all stages."""
        for stage in self.stages:
            yield from stage.children()
