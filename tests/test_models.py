"""Wide residual networks: sizes, costs, outputs and initialisation."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from distillation.networks.wrn import (
    Convolution,
    PaddingMode,
    WideResNet,
    count_multiply_accumulates,
    count_parameters,
    initialise,
)


def initialised(
    depth: int, width: int, seed: int = 0, classes: int = 10, padding_mode: PaddingMode = "zeros"
) -> WideResNet:
    """Return a network for RGB images with uniform gamma."""
    model = WideResNet(depth, width, classes, 3, padding_mode)
    initialise(model, "uniform", torch.Generator().manual_seed(seed))
    return model


def settled(model: WideResNet) -> WideResNet:
    """Give the running statistics the values of a trained network's: neither 0 nor 1."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, generator=generator)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 2, generator=generator)  # type: ignore[arg-type]
            nn.init.normal_(module.bias, generator=generator)
    return model.eval()


def plain_norm_relu(state: dict[str, Tensor], name: str, inputs: Tensor) -> Tensor:
    """Compute batch norm in evaluation mode and ReLU by their formulas."""
    mean, variance, gamma, beta = (
        state[f"{name}.{entry}"].reshape(1, -1, 1, 1)
        for entry in ("running_mean", "running_var", "weight", "bias")
    )
    return ((inputs - mean) / (variance + 1e-5).sqrt() * gamma + beta).clamp_min(0)


def plain_forward(
    state: dict[str, Tensor], images: Tensor, blocks: int, padding_mode: str
) -> tuple[Tensor, list[Tensor]]:
    """Compute logits and group outputs from the weights alone, block after block."""

    def convolve(inputs: Tensor, weight: Tensor, stride: int = 1) -> Tensor:
        """Convolve 3 x 3 with torch's own padding."""
        mode = "constant" if padding_mode == "zeros" else padding_mode
        return functional.conv2d(functional.pad(inputs, (1, 1, 1, 1), mode), weight, None, stride)

    output = convolve(images, state["stem.weight"])
    features = []
    for group in range(3):
        for block in range(blocks):
            name = f"groups.{group}.{block}"
            stride = 2 if group > 0 and block == 0 else 1
            activated = plain_norm_relu(state, f"{name}.norm1", output)
            inner = convolve(activated, state[f"{name}.conv1.weight"], stride)
            inner = plain_norm_relu(state, f"{name}.norm2", inner)
            inner = convolve(inner, state[f"{name}.conv2.weight"])
            if f"{name}.shortcut.weight" in state:
                output = functional.conv2d(
                    activated, state[f"{name}.shortcut.weight"], stride=stride
                )
            output = output + inner
        features.append(output)
    pooled = plain_norm_relu(state, "norm", output).mean(dim=(2, 3))
    return pooled @ state["classifier.weight"].T + state["classifier.bias"], features


def plain_multiply_accumulates(depth: int, width: int, classes: int, size: int) -> int:
    """Add up output positions times kernel size times channels of every convolution."""
    total = size**2 * 9 * 3 * 16
    channels_in = 16
    for group in range(3):
        channels = 16 * 2**group * width
        size = size if group == 0 else (size + 1) // 2
        for block in range((depth - 4) // 6):
            total += size**2 * 9 * channels * (channels_in + channels)
            if block == 0 and channels_in != channels:
                total += size**2 * channels_in * channels
            channels_in = channels
    return total + channels_in * classes


@pytest.mark.parametrize(
    ("depth", "width", "classes", "channels", "count"),
    [
        (16, 1, 10, 3, 175_066),
        (16, 2, 10, 3, 691_674),
        (40, 1, 10, 3, 563_930),
        (40, 2, 10, 3, 2_243_546),
        (16, 2, 10, 1, 691_386),
        (40, 2, 10, 1, 2_243_258),
        (16, 2, 100, 3, 703_284),
        (40, 2, 100, 3, 2_255_156),
    ],
)
def test_parameter_counts_are_the_known_ones(depth, width, classes, channels, count):
    """The networks of the paper have exactly their number of trainable parameters."""
    assert count_parameters(WideResNet(depth, width, classes, channels)) == count


def test_frozen_parameters_do_not_count():
    """Only what is trained is counted."""
    model = WideResNet(10, 1, 10, 3)
    before = count_parameters(model)
    model.stem.requires_grad_(False)
    assert count_parameters(model) == before - 16 * 3 * 9


@pytest.mark.parametrize(
    ("depth", "width", "millions"), [(16, 1, 26.7), (16, 2, 101.1), (40, 2, 327.6)]
)
def test_multiply_accumulates_are_the_known_ones(depth, width, millions):
    """The networks of the paper cost their known multiply-accumulates at 32 x 32 pixels."""
    count = count_multiply_accumulates(WideResNet(depth, width, 10, 3), 32)
    assert round(count / 1e6, 1) == millions


@pytest.mark.parametrize("size", [8, 13, 28])
@pytest.mark.parametrize(("depth", "width", "classes"), [(10, 1, 10), (16, 3, 7)])
def test_multiply_accumulates_equal_a_sum_over_layers(depth, width, classes, size):
    """At every size, odd ones too, the count is the sum over convolutions and classifier."""
    count = count_multiply_accumulates(WideResNet(depth, width, classes, 3), size)
    assert count == plain_multiply_accumulates(depth, width, classes, size)


@pytest.mark.parametrize("training", [True, False])
def test_counting_leaves_the_network_as_it_was(training):
    """Counting changes neither weights nor running statistics nor the mode."""
    model = initialised(10, 1).train(training)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    count_multiply_accumulates(model, 32)
    assert model.training is training
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize("size", [32, 28, 9])
def test_shapes_of_logits_and_features(size):
    """The three groups come out at full, half and quarter size, rounded up, with their channels."""
    logits, features = WideResNet(16, 2, 7, 1)(torch.zeros(2, 1, size, size))
    half, quarter = -(-size // 2), -(-size // 4)
    assert logits.shape == (2, 7)
    assert [tuple(feature.shape) for feature in features] == [
        (2, 32, size, size),
        (2, 64, half, half),
        (2, 128, quarter, quarter),
    ]


@pytest.mark.parametrize("padding_mode", ["zeros", "reflect"])
@pytest.mark.parametrize(("depth", "width"), [(10, 1), (16, 2)])
def test_outputs_equal_the_formulas(depth, width, padding_mode):
    """Logits and features are those of the published architecture, computed from the weights."""
    model = settled(initialised(depth, width, padding_mode=padding_mode)).double()
    images = torch.randn(
        3, 3, 12, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    with torch.no_grad():
        found = model(images)
        expected = plain_forward(dict(model.state_dict()), images, (depth - 4) // 6, padding_mode)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_features_are_raw():
    """Features are taken before batch norm and ReLU: the last one leads to the logits."""
    model = settled(initialised(10, 2))
    with torch.no_grad():
        logits, features = model(torch.randn(4, 3, 16, 16))
        output = plain_norm_relu(model.state_dict(), "norm", features[-1])
        recomputed = model.classifier(output.mean(dim=(2, 3)))
    torch.testing.assert_close(recomputed, logits)
    assert all((feature < 0).any() for feature in features)


def test_every_parameter_learns():
    """The loss sends a gradient other than zero to every parameter."""
    model = initialised(16, 1)
    logits, _ = model(torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0)))
    functional.cross_entropy(logits, torch.arange(8)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_same_generator_same_network():
    """One state of the generator draws one network, whatever torch's own generator holds."""
    torch.manual_seed(0)
    first = initialised(10, 2, seed=3).state_dict()
    torch.manual_seed(1)
    second = initialised(10, 2, seed=3).state_dict()
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_other_seed_other_network():
    """Two seeds draw different weights in every convolution, batch norm and the classifier."""
    first, second = initialised(10, 2, seed=3), initialised(10, 2, seed=4)
    for (name, one), two in zip(first.named_parameters(), second.parameters(), strict=True):
        if not name.endswith("bias"):
            assert not torch.equal(one, two), name


def test_weights_have_the_variance_of_kaiming_fan_in():
    """Weights have mean 0 and variance 2 / fan-in, within five standard errors."""
    for module in initialised(16, 2, classes=100).modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            weight = module.weight.detach().double()
            expected = 2 / weight[0].numel()
            count = weight.numel()
            assert abs(weight.mean().item()) < 5 * (expected / count) ** 0.5
            assert abs(weight.var().item() / expected - 1) < 5 * (2 / count) ** 0.5


def test_uniform_gamma_lies_between_0_and_1():
    """Uniform gammas fill the interval from 0 to 1 evenly."""
    norms = [
        module for module in initialised(40, 2).modules() if isinstance(module, nn.BatchNorm2d)
    ]
    gammas = torch.cat([norm.weight.detach() for norm in norms]).double()
    assert gammas.min() > 0
    assert gammas.max() < 1
    counts = torch.histc(gammas, 10, 0, 1) / len(gammas)
    assert (counts - 0.1).abs().max() < 5 * (0.09 / len(gammas)) ** 0.5


@pytest.mark.parametrize("gamma", ["ones", "uniform"])
def test_biases_start_at_zero(gamma):
    """Biases and batch norm's beta are 0, and gamma is 1 where it isn't drawn."""
    model = WideResNet(10, 1, 10, 3)
    for parameter in model.parameters():
        nn.init.constant_(parameter, 7)
    initialise(model, gamma, torch.Generator().manual_seed(0))
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert (parameter == 0).all(), name
        if "norm" in name and name.endswith("weight"):
            assert ((parameter == 1).all().item()) is (gamma == "ones"), name


@pytest.mark.parametrize("depth", [-2, 0, 4, 9, 11, 15, 17, 39])
def test_impossible_depth_is_refused(depth):
    """A depth other than 6 n + 4 raises an error that names it and what is allowed."""
    with pytest.raises(ValueError, match=rf"depth is {depth}; allowed: 6 n \+ 4"):
        WideResNet(depth, 1, 10, 3)


@pytest.mark.parametrize(
    ("name", "value", "least"),
    [("width", 0, 1), ("width", -1, 1), ("classes", 1, 2), ("classes", 0, 2), ("channels", 0, 1)],
)
def test_impossible_sizes_are_refused(name, value, least):
    """Too small a width, number of classes or of channels raises an error that says so."""
    sizes = {"depth": 10, "width": 1, "classes": 10, "channels": 3, name: value}
    with pytest.raises(ValueError, match=f"{name} is {value}; allowed: at least {least}"):
        WideResNet(**sizes)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [2, 5, 8])
def test_reflection_is_that_of_torch(size, stride):
    """A reflecting convolution has the outputs and gradients of torch's own."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(2, 3, size, size + 1, generator=generator, dtype=torch.float64)
    ours = Convolution(3, 4, stride, "reflect").double()
    theirs = nn.Conv2d(3, 4, 3, stride, 1, bias=False, padding_mode="reflect").double()
    theirs.load_state_dict(ours.state_dict())
    results = []
    for layer in (ours, theirs):
        seen = inputs.clone().requires_grad_()
        output = layer(seen)
        output.sin().sum().backward()
        results.append((output, seen.grad, layer.weight.grad))
    torch.testing.assert_close(results[0], results[1], rtol=1e-12, atol=1e-12)


def operations(output: Tensor) -> set[str]:
    """Return the names of all operations in the graph of the backward pass."""
    names, waiting = set(), [output.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None:
            names.add(node.name())
            waiting += [following for following, _ in node.next_functions]
    return names


def test_reflection_can_repeat_itself_on_cuda():
    """The backward pass of a reflecting network has no padding operation of torch's own.

    On CUDA those are refused where a run has to repeat itself.
    """
    model = initialised(10, 1, padding_mode="reflect")
    found = operations(model(torch.randn(2, 3, 8, 8))[0])
    assert "CatBackward0" in found
    assert not [name for name in found if "pad" in name.lower()]


def test_reflection_hides_the_border():
    """Of an image of one colour a reflecting network makes maps of one value, zeros don't."""
    image = torch.ones(1, 3, 12, 12)
    spread = {}
    for padding_mode in ("zeros", "reflect"):
        model = settled(initialised(16, 1, padding_mode=padding_mode)).double()
        with torch.no_grad():
            _, features = model(image.double())
        spread[padding_mode] = [
            (feature - feature[:, :, :1, :1]).abs().max().item() for feature in features
        ]
    assert min(spread["zeros"]) > 1e-3
    assert max(spread["reflect"]) < 1e-9


@pytest.mark.parametrize("size", [5, 8, 13])
def test_padding_mode_changes_neither_size_nor_cost(size):
    """Parameters, their first values, multiply-accumulates and shapes are those with zeros."""
    zeros, reflect = initialised(10, 2), initialised(10, 2, padding_mode="reflect")
    torch.testing.assert_close(zeros.state_dict(), reflect.state_dict(), rtol=0, atol=0)
    assert count_parameters(zeros) == count_parameters(reflect)
    assert count_multiply_accumulates(zeros, size) == count_multiply_accumulates(reflect, size)
    images = torch.zeros(2, 3, size, size)
    for one, two in zip(zeros(images)[1], reflect(images)[1], strict=True):
        assert one.shape == two.shape


def test_architecture_rebuilds_the_network():
    """The architecture holds what builds the network again; zeros need not be named."""
    sizes: dict[str, Any] = {"depth": 10, "width": 2, "classes": 7, "channels": 1}
    assert WideResNet(**sizes).architecture == sizes
    architecture = WideResNet(**sizes, padding_mode="reflect").architecture
    assert architecture == sizes | {"padding_mode": "reflect"}
    assert WideResNet(**architecture).stem.padding_mode == "reflect"
    assert WideResNet(**sizes).stem.padding_mode == "zeros"


def test_unknown_padding_mode_is_refused():
    """A padding mode that isn't offered raises an error that names it and those that are."""
    with pytest.raises(ValueError, match="padding_mode is 'circular'; allowed: zeros, reflect"):
        WideResNet(10, 1, 10, 3, "circular")  # type: ignore[arg-type]


def test_maps_too_small_to_reflect_are_refused():
    """An image whose last maps are of one pixel raises an error that says what is needed."""
    with pytest.raises(ValueError, match=r"padding_mode is reflect.* 1 x 1 pixels.* 5 x 5"):
        initialised(10, 1, padding_mode="reflect")(torch.zeros(2, 3, 4, 4))
