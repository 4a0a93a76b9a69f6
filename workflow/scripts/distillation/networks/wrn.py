"""Wide residual networks that return their group outputs beside the logits.

Source: Zagoruyko and Komodakis, "Wide Residual Networks", BMVC 2016, arXiv 1605.07146
(pre-activation blocks without dropout, three groups at full, half and quarter resolution).
"""

from collections.abc import Iterator
from typing import Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn import functional

from distillation.networks import Network, Outputs
from distillation.settings.base import NetworkSettings

PaddingMode = Literal["zeros", "reflect"]

# Channels of the stem; group g has 16 * 2**g * width. arXiv 1605.07146, table 1.
STEM_CHANNELS = 16


class Settings(NetworkSettings):
    """A wide residual network, WRN-depth-width.

    `padding_mode` reflect is an ablation of what zeros do to the borders of the maps (Alsallakh et
    al., "Mind the Pad", ICLR 2021); the number of parameters is the same.
    """

    depth: int = Field(ge=10, description="6 n + 4 layers, n blocks a stage: 10, 16, 22, 28, ...")
    width: int = Field(ge=1, description="factor on the channels of the three stages")
    padding_mode: Literal["zeros", "reflect"] = Field(
        "zeros", description="what the 3 x 3 convolutions see beyond the edges"
    )

    @field_validator("depth")
    @classmethod
    def whole_blocks(cls, depth: int) -> int:
        """Refuse depths that leave a part of a block."""
        if (depth - 4) % 6:
            raise ValueError(f"found {depth}; allowed: 6 n + 4 (10, 16, 22, 28, 34, 40, ...)")
        return depth

    @property
    def title(self) -> str:
        """The network's name in tables and figures."""
        mode = "" if self.padding_mode == "zeros" else f" ({self.padding_mode})"
        return f"WRN-{self.depth}-{self.width}{mode}"


def build(settings: Settings, classes: int, channels: int) -> "WideResNet":
    """Build the network that the settings describe, for K classes and C channels."""
    return WideResNet(settings.depth, settings.width, classes, channels, settings.padding_mode)


class Convolution(nn.Conv2d):
    """A 3 x 3 convolution without bias whose output has the size of its input, over `stride`.

    Beyond the edges its input is zero or, with padding_mode "reflect", mirrored at the outermost
    row or column, which isn't repeated. Parameters are those of nn.Conv2d.
    """

    def __init__(
        self, channels_in: int, channels_out: int, stride: int, padding_mode: PaddingMode
    ) -> None:
        super().__init__(
            channels_in, channels_out, 3, stride, padding=1, bias=False, padding_mode=padding_mode
        )

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 as nn.Conv2d calls it
        """Map (N, C_in, H, W) to (N, C_out, H / stride, W / stride), rounded up."""
        if self.padding_mode == "zeros":
            return super().forward(input)
        return functional.conv2d(reflected(input), self.weight, stride=self.stride)


def reflected(maps: Tensor) -> Tensor:
    """Mirror maps by one pixel beyond each edge, (N, C, H, W) -> (N, C, H + 2, W + 2).

    The same as torch's own reflection, whose backward pass can't repeat itself on CUDA.

    Raises:
        ValueError: a side is of one pixel, which has nothing to mirror.
    """
    if min(maps.shape[2:]) < 2:
        raise ValueError(
            f"padding_mode is reflect, but there are maps of {maps.shape[2]} x {maps.shape[3]} "
            f"pixels; allowed: at least 2 x 2, which images of 5 x 5 pixels have"
        )
    maps = torch.cat([maps[:, :, 1:2], maps, maps[:, :, -2:-1]], dim=2)
    return torch.cat([maps[..., 1:2], maps, maps[..., -2:-1]], dim=3)


class Block(nn.Module):
    """Two 3 x 3 convolutions with pre-activation and a shortcut.

    Where the number of channels changes, the shortcut is a 1 x 1 convolution of the
    activated input, otherwise it is the input itself.
    """

    def __init__(
        self, channels_in: int, channels_out: int, stride: int, padding_mode: PaddingMode
    ) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels_in)
        self.conv1 = Convolution(channels_in, channels_out, stride, padding_mode)
        self.norm2 = nn.BatchNorm2d(channels_out)
        self.conv2 = Convolution(channels_out, channels_out, 1, padding_mode)
        self.shortcut = (
            nn.Conv2d(channels_in, channels_out, 1, stride, bias=False)
            if channels_in != channels_out
            else None
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (N, C_in, H, W) to (N, C_out, H / stride, W / stride)."""
        activated = functional.relu(self.norm1(inputs))
        residual = functional.relu(self.norm2(self.conv1(activated)))
        shortcut = inputs if self.shortcut is None else self.shortcut(activated)
        return self.conv2(residual) + shortcut


class WideResNet(Network):
    """Three groups of blocks at full, half and quarter resolution, which are the stages.

    Args: see `Settings`; classes: K, the number of logits; channels: C of the input images.
    """

    def __init__(
        self, depth: int, width: int, classes: int, channels: int, padding_mode: PaddingMode
    ) -> None:
        super().__init__()
        blocks = (depth - 4) // 6
        sizes = [STEM_CHANNELS * 2**group * width for group in range(3)]
        self.stem = Convolution(channels, STEM_CHANNELS, 1, padding_mode)
        self.groups = nn.ModuleList(
            nn.Sequential(
                Block(channels_in, channels_out, stride, padding_mode),
                *(Block(channels_out, channels_out, 1, padding_mode) for _ in range(blocks - 1)),
            )
            for channels_in, channels_out, stride in zip(
                [STEM_CHANNELS, *sizes], sizes, (1, 2, 2), strict=False
            )
        )
        self.norm = nn.BatchNorm2d(sizes[-1])
        self.classifier = nn.Linear(sizes[-1], classes)

    def forward(self, images: Tensor) -> Outputs:
        """Return logits (N, K) and the raw outputs of the groups, before batch norm and ReLU.

        That is where the attention-transfer paper's code takes them.
        """
        output = self.stem(images)
        stages = []
        for group in self.groups:
            output = group(output)
            stages.append(output)
        output = functional.relu(self.norm(output))
        # A mean over positions, not adaptive pooling: the backward pass of the latter is not
        # deterministic on CUDA.
        return Outputs(self.classifier(output.mean(dim=(2, 3))), stages)

    def activated(self, stages: list[Tensor]) -> list[Tensor]:
        """Return the stages after batch norm and ReLU: those that the next group begins with."""
        norms = [group[0].norm1 for group in list(self.groups)[1:]] + [self.norm]  # type: ignore[index]
        pairs = zip(stages, norms, strict=True)
        return [functional.relu(norm(stage)) for stage, norm in pairs]

    def blocks(self) -> Iterator[nn.Module]:
        """Yield the blocks of all groups."""
        for group in self.groups:
            yield from group.children()
