"""Wide residual networks that return their group outputs beside the logits.

Source: Zagoruyko and Komodakis, "Wide Residual Networks", BMVC 2016, arXiv 1605.07146
(pre-activation blocks without dropout, three groups at full, half and quarter resolution).
"""

from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

GammaInit = Literal["ones", "uniform"]
PaddingMode = Literal["zeros", "reflect"]

# Channels of the stem; group g has 16 * 2**g * width. arXiv 1605.07146, table 1.
STEM_CHANNELS = 16


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


class WideResNet(nn.Module):
    """A wide residual network, WRN-depth-width.

    Args:
        depth: 6 n + 4 with n >= 1 blocks per group (10, 16, 22, 28, 40, ...).
        width: factor on the channels of the three groups, >= 1.
        classes: K, the number of logits, >= 2.
        channels: C of the input images, >= 1.
        padding_mode: what the 3 x 3 convolutions see beyond the edges: zeros (as published), or
            the map itself, reflected: an ablation of what zeros do to the borders of the maps
            (Alsallakh et al., "Mind the Pad", ICLR 2021). The number of parameters is the same.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(
        self,
        depth: int,
        width: int,
        classes: int,
        channels: int,
        padding_mode: PaddingMode = "zeros",
    ) -> None:
        super().__init__()
        if depth < 10 or (depth - 4) % 6:
            raise ValueError(f"depth is {depth}; allowed: 6 n + 4 (10, 16, 22, 28, 34, 40, ...)")
        for name, value, least in (
            ("width", width, 1),
            ("classes", classes, 2),
            ("channels", channels, 1),
        ):
            if value < least:
                raise ValueError(f"{name} is {value}; allowed: at least {least}")
        if padding_mode not in get_args(PaddingMode):
            raise ValueError(f"padding_mode is {padding_mode!r}; allowed: zeros, reflect")
        self.architecture: dict[str, Any] = {
            "depth": depth,
            "width": width,
            "classes": classes,
            "channels": channels,
        }
        # Checkpoints of the published network stay what they were before there was a choice.
        if padding_mode != "zeros":
            self.architecture["padding_mode"] = padding_mode
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

    def forward(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return logits and the raw outputs of the three groups.

        Args:
            images: (N, C, H, W), normalised.

        Returns:
            Logits (N, K), and one tensor (N, C_g, H_g, W_g) per group, before batch norm and
            ReLU, as the attention-transfer paper's code takes them.
        """
        output = self.stem(images)
        features = []
        for group in self.groups:
            output = group(output)
            features.append(output)
        output = functional.relu(self.norm(output))
        # A mean over positions, not adaptive pooling: the backward pass of the latter is not
        # deterministic on CUDA.
        return self.classifier(output.mean(dim=(2, 3))), features


def initialise(model: WideResNet, gamma: GammaInit, generator: torch.Generator) -> None:
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


def count_multiply_accumulates(model: WideResNet, image_size: int) -> int:
    """Count multiply-accumulates of one forward pass of one square image of `image_size` pixels.

    Convolutions and the classifier count; batch norm, ReLU and additions don't, as is usual.
    """
    counts = []

    def count(module: nn.Module, _: object, output: Tensor) -> None:
        # Each output takes as many multiply-accumulates as there are weights for it. (torch's own
        # counter does the same, but loads torch's compiler, which takes seconds.)
        counts.append(output[0].numel() * cast(Tensor, module.weight)[0].numel())

    layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    training = model.training
    model.eval()
    with torch.no_grad():
        device = model.classifier.weight.device
        shape = (1, model.architecture["channels"], image_size, image_size)
        model(torch.zeros(shape, device=device))
    model.train(training)
    for hook in hooks:
        hook.remove()
    return sum(counts)
