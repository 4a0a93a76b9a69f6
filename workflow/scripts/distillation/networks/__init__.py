"""Networks: one file per family, and what the rest of the pipeline asks of any of them.

A family's file has `Settings`, its declaration, and `build(settings, classes, channels)`, which
returns a `Network`. Letters: N images, K classes, C channels, H x W positions.
"""

import math
from collections.abc import Iterator
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from distillation.settings import plugins
from distillation.settings.base import NetworkSettings
from distillation.stages import Shape

GammaInit = Literal["ones", "uniform"]


class Outputs(NamedTuple):
    """Logits (N, K), and stages (N, C, H, W).

    Each stage is before the activation that follows it, if one does. Of a family whose stages the
    user names (torchvision) it is what was named, which may be after an activation.
    """

    logits: Tensor
    stages: list[Tensor]


class Network(nn.Module):
    """A network that returns its stages beside the logits."""

    def forward(self, images: Tensor) -> Outputs:
        """Return the outputs for normalised images (N, C, H, W)."""
        raise NotImplementedError

    def activated(self, stages: list[Tensor]) -> list[Tensor]:
        """Return the stages after the normalisation and activation that follow each.

        A stage that none follows, or that is after one, is returned as it is.
        """
        raise NotImplementedError

    def take_weights(self) -> str:
        """Take the weights that a training begins with, where they aren't all drawn.

        Returns what there is to say of them. It is asked after `initialise`, and not for a network
        of a checkpoint, nor for an untrained control.
        """
        return ""

    def blocks(self) -> Iterator[nn.Module]:
        """Yield the parts that repeat, each of which is compiled by itself; none by default."""
        yield from ()


class StagedNetwork(Network):
    """A stem with batch norm, stages of blocks that begin with ReLU, and a linear classifier.

    A block begins with the ReLU that ends the one before it, so that a stage's output is raw.
    Whoever derives from it sets the four parts.
    """

    stem: nn.Module
    norm: nn.Module
    stages: nn.ModuleList
    classifier: nn.Module

    def last_features(self, output: Tensor) -> Tensor:
        """Return what the classifier takes the mean of over positions, from the last stage."""
        return functional.relu(output)

    def forward(self, images: Tensor) -> Outputs:
        """Return logits (N, K) and the raw outputs of the stages, before ReLU."""
        output = self.norm(self.stem(images))
        stages = []
        for stage in self.stages:
            output = stage(output)
            stages.append(output)
        # A mean over positions: the backward pass of adaptive pooling isn't deterministic on CUDA.
        return Outputs(self.classifier(self.last_features(output).mean(dim=(2, 3))), stages)

    def activated(self, stages: list[Tensor]) -> list[Tensor]:
        """Return the stages after ReLU."""
        return [functional.relu(stage) for stage in stages]

    def blocks(self) -> Iterator[nn.Module]:
        """Yield the blocks of all stages."""
        for stage in self.stages:
            yield from stage.children()


class Dropout(nn.Module):
    """Zero some values in training, and scale up the others so that the mean stays.

    What is zeroed is a function of a seed, which `initialise` draws, and of the number of the pass:
    both are buffers, which a run that goes on, and a captured step, find as they were. They are no
    part of the weights, whose names are those of a network with torch's own dropout.

    Args:
        fraction: of the values that are zeroed, 0 to 1.
        whole: zero all values of an image or none (stochastic depth, arXiv 1603.09382).
    """

    seed: Tensor
    passes: Tensor

    def __init__(self, fraction: float, whole: bool = False) -> None:
        super().__init__()
        self.fraction, self.whole = fraction, whole
        for name in ("seed", "passes"):
            self.register_buffer(name, torch.zeros((), dtype=torch.long), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (N, ...) to the same shape; in evaluation mode, to itself."""
        if not self.training or not self.fraction:
            return inputs
        shape = (len(inputs), *(1 for _ in inputs.shape[1:])) if self.whole else inputs.shape
        places = torch.arange(math.prod(shape), device=inputs.device).reshape(shape)
        drawn = scrambled(scrambled(places) ^ scrambled(self.seed ^ scrambled(self.passes)))
        self.passes += 1
        kept = drawn >= self.fraction * 2**32
        return inputs * (kept.to(inputs.dtype) / (1 - self.fraction))


def scrambled(numbers: Tensor) -> Tensor:
    """Map whole numbers from 0 to 2**32 - 1 one to one to such that look drawn evenly.

    Source: Thomas Mueller's hash of 32-bit integers (stackoverflow.com/a/12996028), whose products
    fit into 64 bits.
    """
    for _ in range(2):
        numbers = ((numbers >> 16) ^ numbers) * 0x45D9F3B & 0xFFFFFFFF
    return (numbers >> 16) ^ numbers


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
    attention-transfer paper does); the seed of dropout: evenly. What else a network has (layer
    norm, scales) begins with constants. The same generator state gives the same network.
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
        elif isinstance(module, Dropout):
            module.seed.random_(2**32, generator=generator)
            module.passes.zero_()


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
    """Return what a network gives for one black image, leaving it as it was.

    Raises:
        ValueError: such an image doesn't pass through it, or a stage isn't (N, C, H, W).
    """
    training = model.training
    device = next(model.parameters()).device
    model.eval()
    try:
        with torch.no_grad():
            outputs = model(torch.zeros(1, channels, image_size, image_size, device=device))
    except RuntimeError as error:
        size = f"{image_size} x {image_size} pixels and {channels} channel(s)"
        first_line = str(error).partition("\n")[0]
        raise ValueError(f"an image of {size} doesn't pass through it: {first_line}") from error
    finally:
        model.train(training)
    for place, stage in enumerate(outputs.stages, 1):
        if stage.dim() != 4:
            raise ValueError(
                f"stage {place} is {tuple(stage.shape)} for one image; allowed: (N, C, H, W)"
            )
    return outputs
