"""Plain convolutional networks for small images, with batch norm and four stages.

Source: Simonyan and Zisserman 2015, arXiv 1409.1556, table 1 (A, B, D and E, of 11, 13, 16 and 19
layers), as the distillation literature has them for small images (Tian et al. 2020, arXiv
1910.10699): one linear layer on the mean over positions in place of three, batch norm, and vgg8,
one convolution a block. The fourth pooling is left out for images of less than 64 pixels. The first
block, at full resolution, is no stage there, and none here.
"""

from typing import Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from distillation.networks import Network, Outputs
from distillation.settings.base import NetworkSettings

# Channels of the five blocks, and convolutions of each by depth. arXiv 1409.1556, table 1; vgg8 by
# arXiv 1910.10699's code.
SIZES = (64, 128, 256, 512, 512)
CONVOLUTIONS = {
    8: (1, 1, 1, 1, 1),
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
# Sides of images from which on the fourth block is followed by pooling. arXiv 1910.10699's code.
FOURTH_POOLING = 64


class Settings(NetworkSettings):
    """A plain network of Simonyan and Zisserman for small images, with batch norm: vgg13."""

    depth: Literal[8, 11, 13, 16, 19] = Field(
        description="layers as the names count them, of which three are one linear layer here"
    )

    @property
    def title(self) -> str:
        """The network's name in tables and figures."""
        return f"vgg{self.depth}"


def build(settings: Settings, classes: int, channels: int) -> "VGG":
    """Build the network that the settings describe, for K classes and C channels."""
    return VGG(CONVOLUTIONS[settings.depth], classes, channels)


def block(channels_in: int, channels_out: int, convolutions: int) -> nn.Sequential:
    """Return 3 x 3 convolutions with batch norm, and ReLU between them but not at the end."""
    layers: list[nn.Module] = []
    for _ in range(convolutions):
        layers += [nn.ReLU()] if layers else []
        layers.append(nn.Conv2d(channels_in, channels_out, 3, padding=1))
        layers.append(nn.BatchNorm2d(channels_out))
        channels_in = channels_out
    return nn.Sequential(*layers)


class VGG(Network):
    """Five blocks, of which the last four are the stages, at half to an eighth of the resolution.

    Args:
        convolutions: of each block.
        classes: K, the number of logits.
        channels: C of the input images.
    """

    def __init__(self, convolutions: tuple[int, ...], classes: int, channels: int) -> None:
        super().__init__()
        inputs = (channels, *SIZES)
        self.layers = nn.ModuleList(map(block, inputs[:-1], SIZES, convolutions))
        self.classifier = nn.Linear(SIZES[-1], classes)

    def forward(self, images: Tensor) -> Outputs:
        """Return logits (N, K) and the raw outputs of the stages, before ReLU."""
        fourth = images.shape[2] >= FOURTH_POOLING
        output, stages = images, []
        for place, layers in enumerate(self.layers):
            if place:
                output = functional.relu(output)
                output = functional.max_pool2d(output, 2) if place < 4 or fourth else output
            output = layers(output)
            stages.append(output)
        logits = self.classifier(functional.relu(output).mean(dim=(2, 3)))
        return Outputs(logits, stages[1:])

    def activated(self, stages: list[Tensor]) -> list[Tensor]:
        """Return the stages after ReLU."""
        return [functional.relu(stage) for stage in stages]
