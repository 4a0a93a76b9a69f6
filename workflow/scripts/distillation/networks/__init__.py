"""Networks: one file per family, and what the rest of the pipeline asks of any of them.

A family's file has `Settings`, its declaration, and `build(settings, classes, channels)`, which
returns a `Network`. Letters: N images, K classes, C channels, H x W positions.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn

from distillation.settings import plugins
from distillation.settings.base import NetworkSettings
from distillation.stages import Shape

GammaInit = Literal["ones", "uniform"]


class Outputs(NamedTuple):
    """Logits (N, K), and each stage (N, C, H, W) before the activation that follows it."""

    logits: Tensor
    stages: list[Tensor]


class Network(nn.Module):
    """A network that returns its stages beside the logits."""

    def forward(self, images: Tensor) -> Outputs:
        """Return the outputs for normalised images (N, C, H, W)."""
        raise NotImplementedError

    def activated(self, stages: list[Tensor]) -> list[Tensor]:
        """Return the stages after the normalisation and activation that follow each."""
        raise NotImplementedError

    def blocks(self) -> Iterator[nn.Module]:
        """Yield the parts that repeat, each of which is compiled by itself; none by default."""
        yield from ()


def build_network(name: str, settings: NetworkSettings, classes: int, channels: int) -> Network:
    """Build a network of a family.

    Args:
        name: of the family, the stem of its file.
        settings: its declaration.
        classes: K, the number of logits, >= 2.
        channels: C of the input images, >= 1.

    Raises:
        ValueError: an argument is out of its range.
    """
    for what, value, least in (("classes", classes, 2), ("channels", channels, 1)):
        if value < least:
            raise ValueError(f"{what} is {value}; allowed: at least {least}")
    return plugins.load("networks", name).build(settings, classes, channels)


def initialise(model: nn.Module, gamma: GammaInit, generator: torch.Generator) -> None:
    """Draw all parameters of `model` in place.

    Convolutions and the classifier: Kaiming normal, fan-in (He et al. 2015); biases and batch
    norm's beta: 0; batch norm's gamma: 1 ("ones") or U(0, 1) ("uniform", as the code of the
    attention-transfer paper does). The same generator state gives the same network.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            if gamma == "uniform":
                nn.init.uniform_(module.weight, generator=generator)
            else:
                nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)


def count_parameters(model: nn.Module) -> int:
    """Count trainable parameters; batch norm's running statistics are none."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def count_multiply_accumulates(model: Network, image_size: int, channels: int) -> int:
    """Count multiply-accumulates of one forward pass of one square image of `image_size` pixels.

    Convolutions and linear layers count; batch norm, ReLU and additions don't, as is usual.
    """
    counts = []

    def count(module: nn.Module, _: object, output: Tensor) -> None:
        # Each output takes as many multiply-accumulates as there are weights for it. (torch's own
        # counter does the same, but loads torch's compiler, which takes seconds.)
        counts.append(output[0].numel() * cast(Tensor, module.weight)[0].numel())

    layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    try:
        probe(model, image_size, channels)
    finally:
        for hook in hooks:
            hook.remove()
    return sum(counts)


def stage_shapes(model: Network, image_size: int, channels: int) -> list[Shape]:
    """Return the shape of each stage for square images of `image_size` pixels."""
    return [Shape(*stage.shape[1:]) for stage in probe(model, image_size, channels).stages]


def probe(model: Network, image_size: int, channels: int) -> Outputs:
    """Return what a network gives for one black image, leaving it as it was."""
    training = model.training
    device = next(model.parameters()).device
    model.eval()
    with torch.no_grad():
        outputs = model(torch.zeros(1, channels, image_size, image_size, device=device))
    model.train(training)
    return outputs
