"""Families of networks: sizes, costs, outputs against plain formulas, and initialisation."""

from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from distillation.networks import (
    Network,
    build_network,
    count_multiply_accumulates,
    count_parameters,
    initialise,
    stage_shapes,
)
from distillation.networks.wrn import Convolution
from distillation.settings.base import NetworkSettings, SettingsError, checked
from distillation.settings.plugins import declared

REFLECT: dict[str, Any] = {"padding_mode": "reflect"}


def settings_of(family: str, **values: Any) -> NetworkSettings:
    """Return the declaration of a network."""
    return cast(NetworkSettings, checked(declared("networks", family), values))


def build(family: str, classes: int = 10, channels: int = 3, **values: Any) -> Network:
    """Return a network as torch makes it."""
    return build_network(family, settings_of(family, **values), classes, channels)


def initialised(family: str, seed: int = 0, classes: int = 10, **values: Any) -> Network:
    """Return a network for RGB images with uniform gamma."""
    model = build(family, classes, **values)
    initialise(model, "uniform", torch.Generator().manual_seed(seed))
    return model


def settled(model: Network) -> Network:
    """Give the running statistics the values of a trained network's: neither 0 nor 1."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, generator=generator)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 2, generator=generator)  # type: ignore[arg-type]
            nn.init.normal_(module.bias, generator=generator)
    return model.eval()


State = dict[str, Tensor]


def norm(state: State, name: str, inputs: Tensor) -> Tensor:
    """Compute batch norm in evaluation mode by its formula."""
    mean, variance, gamma, beta = (
        state[f"{name}.{entry}"].reshape(1, -1, 1, 1)
        for entry in ("running_mean", "running_var", "weight", "bias")
    )
    return (inputs - mean) / (variance + 1e-5).sqrt() * gamma + beta


def convolve(inputs: Tensor, weight: Tensor, stride: int = 1, padding: str = "zeros") -> Tensor:
    """Convolve with torch's own padding, so that the size is kept over `stride`."""
    mode, edge = "constant" if padding == "zeros" else padding, weight.shape[2] // 2
    return functional.conv2d(functional.pad(inputs, (edge,) * 4, mode), weight, None, stride)


def plain_wrn(state: State, images: Tensor, blocks: int, padding: str = "zeros") -> tuple:
    """Compute logits, raw and activated stages from the weights alone, block after block."""
    output = convolve(images, state["stem.weight"], padding=padding)
    stages, activations = [], []
    for stage in range(3):
        for block in range(blocks):
            name, stride = f"groups.{stage}.{block}", 2 if stage > 0 and block == 0 else 1
            activated = norm(state, f"{name}.norm1", output).clamp_min(0)
            if stage > 0 and block == 0:
                activations.append(activated)
            inner = convolve(activated, state[f"{name}.conv1.weight"], stride, padding)
            inner = norm(state, f"{name}.norm2", inner).clamp_min(0)
            inner = convolve(inner, state[f"{name}.conv2.weight"], padding=padding)
            if f"{name}.shortcut.weight" in state:
                output = convolve(activated, state[f"{name}.shortcut.weight"], stride)
            output = output + inner
        stages.append(output)
    activations.append(norm(state, "norm", output).clamp_min(0))
    logits = activations[-1].mean(dim=(2, 3)) @ state["classifier.weight"].T
    return logits + state["classifier.bias"], stages, activations


def plain_resnet(state: State, images: Tensor, blocks: int) -> tuple:
    """Compute logits, raw and activated stages from the weights alone, block after block."""
    output = norm(state, "norm", convolve(images, state["stem.weight"])).clamp_min(0)
    stages, activations = [], []
    for stage in range(3):
        raw = output
        for block in range(blocks):
            name, stride = f"stages.{stage}.{block}", 2 if stage > 0 and block == 0 else 1
            inner = convolve(output, state[f"{name}.conv1.weight"], stride)
            inner = norm(state, f"{name}.norm1", inner).clamp_min(0)
            inner = norm(state, f"{name}.norm2", convolve(inner, state[f"{name}.conv2.weight"]))
            if f"{name}.shortcut.0.weight" in state:
                output = convolve(output, state[f"{name}.shortcut.0.weight"], stride)
                output = norm(state, f"{name}.shortcut.1", output)
            raw = inner + output
            output = raw.clamp_min(0)
        stages.append(raw)
        activations.append(output)
    logits = output.mean(dim=(2, 3)) @ state["classifier.weight"].T
    return logits + state["classifier.bias"], stages, activations


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
        (16, 2, 100, 3, 703_284),
        (40, 1, 100, 3, 569_780),
        (40, 2, 100, 3, 2_255_156),
    ],
)
def test_parameter_counts_of_wrn(
    depth: int, width: int, classes: int, channels: int, count: int
) -> None:
    """The networks of the paper have exactly their number of trainable parameters."""
    model = build("wrn", classes, channels, depth=depth, width=width)
    assert count_parameters(model) == count
    assert settings_of("wrn", depth=depth, width=width).title == f"WRN-{depth}-{width}"
    model.get_submodule("stem").requires_grad_(False)
    assert count_parameters(model) == count - 16 * channels * 9


@pytest.mark.parametrize(
    ("depth", "width", "title", "millions"),
    [
        (8, 4, "resnet8x4", 1.23),
        (32, 4, "resnet32x4", 7.43),
        (20, 1, "resnet20", 0.28),
        (32, 1, "resnet32", 0.47),
        (56, 1, "resnet56", 0.86),
        (110, 1, "resnet110", 1.74),
    ],
)
def test_parameter_counts_of_resnet(depth: int, width: int, title: str, millions: float) -> None:
    """The networks for 100 classes have the numbers of parameters that are published of them."""
    assert settings_of("resnet", depth=depth, width=width).title == title
    count = count_parameters(build("resnet", 100, depth=depth, width=width))
    assert round(count / 1e6, 2) == millions


@pytest.mark.parametrize(
    ("family", "depth", "width", "millions"),
    [("wrn", 16, 1, 26.7), ("wrn", 16, 2, 101.1), ("wrn", 40, 2, 327.6), ("resnet", 20, 1, 40.8)],
)
def test_multiply_accumulates_are_the_known_ones(
    family: str, depth: int, width: int, millions: float
) -> None:
    """The networks cost their known multiply-accumulates at 32 x 32 pixels."""
    count = count_multiply_accumulates(build(family, depth=depth, width=width), 32, 3)
    assert round(count / 1e6, 1) == millions


@pytest.mark.parametrize("size", [8, 13, 28])
@pytest.mark.parametrize(("depth", "width", "classes"), [(10, 1, 10), (16, 3, 7)])
def test_multiply_accumulates_equal_a_sum_over_layers(
    depth: int, width: int, classes: int, size: int
) -> None:
    """At every size, odd ones too, the count is the sum over convolutions and classifier."""
    count = count_multiply_accumulates(build("wrn", classes, depth=depth, width=width), size, 3)
    assert count == plain_multiply_accumulates(depth, width, classes, size)


@pytest.mark.parametrize("training", [True, False])
def test_counting_leaves_the_network_as_it_was(training: bool) -> None:
    """Counting changes neither weights nor running statistics nor the mode."""
    model = initialised("wrn", depth=10, width=1).train(training)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    count_multiply_accumulates(model, 32, 3)
    assert model.training is training
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize("size", [32, 28, 9])
@pytest.mark.parametrize(("family", "channels"), [("wrn", 32), ("resnet", 16)])
def test_shapes_of_logits_and_stages(family: str, channels: int, size: int) -> None:
    """The stages come out at full, half and quarter size, rounded up, with their channels."""
    settings = {"depth": 16, "width": 2} if family == "wrn" else {"depth": 8}
    model = build(family, 7, 1, **settings)
    logits, stages = model(torch.zeros(2, 1, size, size))
    sides = [size, -(-size // 2), -(-size // 4)]
    assert logits.shape == (2, 7)
    expected = [(channels << place, side, side) for place, side in enumerate(sides)]
    assert [tuple(stage.shape[1:]) for stage in stages] == expected
    assert stage_shapes(model, size, 1) == expected
    assert len([*model.blocks()]) == (6 if family == "wrn" else 3)


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("wrn", {"depth": 10, "width": 1}),
        ("wrn", {"depth": 16, "width": 2} | REFLECT),
        ("resnet", {"depth": 14}),
        ("resnet", {"depth": 8, "width": 4}),
    ],
)
def test_outputs_equal_the_formulas(family: str, settings: dict[str, Any]) -> None:
    """Logits, raw and activated stages are those of the published network, from the weights."""
    model = settled(initialised(family, **settings)).double()
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(3, 3, 12, 12, generator=generator, dtype=torch.float64)
    state, blocks = dict(model.state_dict()), settings["depth"] // 6
    with torch.no_grad():
        logits, stages = model(images)
        if family == "resnet":
            expected = plain_resnet(state, images, blocks)
        else:
            expected = plain_wrn(state, images, blocks, settings.get("padding_mode", "zeros"))
        found = (logits, stages, model.activated(stages))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    assert all((stage < 0).any() for stage in stages)


@pytest.mark.parametrize(
    ("family", "settings"), [("wrn", {"depth": 16, "width": 1}), ("resnet", {"depth": 14})]
)
def test_every_parameter_learns(family: str, settings: dict[str, Any]) -> None:
    """The loss sends a gradient other than zero to every parameter."""
    model = initialised(family, **settings)
    logits, _ = model(torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0)))
    functional.cross_entropy(logits, torch.arange(8)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_a_generator_decides_the_network() -> None:
    """One state of the generator draws one network, whatever torch drew; another draws another."""
    torch.manual_seed(0)
    first = initialised("wrn", 3, depth=10, width=2)
    torch.manual_seed(1)
    second, other = (initialised("wrn", seed, depth=10, width=2) for seed in (3, 4))
    torch.testing.assert_close(first.state_dict(), second.state_dict(), rtol=0, atol=0)
    for (name, one), two in zip(first.named_parameters(), other.parameters(), strict=True):
        if not name.endswith("bias"):
            assert not torch.equal(one, two), name


def test_weights_have_the_variance_of_kaiming_fan_in() -> None:
    """Weights have mean 0 and variance 2 / fan-in, within five standard errors."""
    for module in initialised("wrn", classes=100, depth=16, width=2).modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            weight = module.weight.detach().double()
            expected = 2 / weight[0].numel()
            count = weight.numel()
            assert abs(weight.mean().item()) < 5 * (expected / count) ** 0.5
            assert abs(weight.var().item() / expected - 1) < 5 * (2 / count) ** 0.5


def test_uniform_gamma_lies_between_0_and_1() -> None:
    """Uniform gammas fill the interval from 0 to 1 evenly."""
    norms = [
        module
        for module in initialised("wrn", depth=40, width=2).modules()
        if isinstance(module, nn.BatchNorm2d)
    ]
    gammas = torch.cat([norm.weight.detach() for norm in norms]).double()
    assert gammas.min() > 0
    assert gammas.max() < 1
    counts = torch.histc(gammas, 10, 0, 1) / len(gammas)
    assert (counts - 0.1).abs().max() < 5 * (0.09 / len(gammas)) ** 0.5


@pytest.mark.parametrize("gamma", ["ones", "uniform"])
def test_biases_start_at_zero(gamma: Any) -> None:
    """Biases and batch norm's beta are 0, and gamma is 1 where it isn't drawn."""
    model = build("wrn", depth=10, width=1)
    for parameter in model.parameters():
        nn.init.constant_(parameter, 7)
    initialise(model, gamma, torch.Generator().manual_seed(0))
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert (parameter == 0).all(), name
        if "norm" in name and name.endswith("weight"):
            assert ((parameter == 1).all().item()) is (gamma == "ones"), name


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [2, 5, 8])
def test_reflection_is_that_of_torch(size: int, stride: int) -> None:
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


def test_reflection_can_repeat_itself_on_cuda() -> None:
    """The backward pass of a reflecting network has no padding operation of torch's own.

    On CUDA those are refused where a run has to repeat itself.
    """
    model = initialised("wrn", depth=10, width=1, **REFLECT)
    found = operations(model(torch.randn(2, 3, 8, 8))[0])
    assert "CatBackward0" in found
    assert not [name for name in found if "pad" in name.lower()]


def test_reflection_hides_the_border() -> None:
    """Of an image of one colour a reflecting network makes maps of one value, zeros don't."""
    image = torch.ones(1, 3, 12, 12)
    spread = {}
    for padding_mode in ("zeros", "reflect"):
        model = settled(initialised("wrn", depth=16, width=1, padding_mode=padding_mode)).double()
        with torch.no_grad():
            _, stages = model(image.double())
        spread[padding_mode] = [
            (stage - stage[:, :, :1, :1]).abs().max().item() for stage in stages
        ]
    assert min(spread["zeros"]) > 1e-3
    assert max(spread["reflect"]) < 1e-9


@pytest.mark.parametrize("size", [5, 8, 13])
def test_padding_mode_changes_neither_size_nor_cost(size: int) -> None:
    """Parameters, their first values, multiply-accumulates and shapes are those with zeros."""
    zeros, reflect = (initialised("wrn", depth=10, width=2, **more) for more in ({}, REFLECT))
    torch.testing.assert_close(zeros.state_dict(), reflect.state_dict(), rtol=0, atol=0)
    assert count_parameters(zeros) == count_parameters(reflect)
    assert count_multiply_accumulates(zeros, size, 3) == count_multiply_accumulates(
        reflect, size, 3
    )
    images = torch.zeros(2, 3, size, size)
    for one, two in zip(zeros(images)[1], reflect(images)[1], strict=True):
        assert one.shape == two.shape


def test_maps_too_small_to_reflect_are_refused() -> None:
    """An image whose last maps are of one pixel raises an error that says what is needed."""
    with pytest.raises(ValueError, match=r"padding_mode is reflect.* 1 x 1 pixels.* 5 x 5"):
        initialised("wrn", depth=10, width=1, **REFLECT)(torch.zeros(2, 3, 4, 4))


@pytest.mark.parametrize(
    ("family", "depth", "message"),
    [("wrn", depth, r"depth: found .*; allowed: ") for depth in (4, 9, 11, 15, 39)]
    + [("resnet", depth, r"depth: found .*; allowed: ") for depth in (2, 9, 10, 18)],
)
def test_impossible_depth_is_refused(family: str, depth: int, message: str) -> None:
    """A depth that leaves a part of a block is refused in words that say what is allowed."""
    with pytest.raises(SettingsError, match=message):
        settings_of(family, depth=depth, width=1)


@pytest.mark.parametrize(("name", "value", "least"), [("classes", 1, 2), ("channels", 0, 1)])
def test_impossible_sizes_are_refused(name: str, value: int, least: int) -> None:
    """Too few classes or channels raise an error that says so."""
    with pytest.raises(ValueError, match=f"{name} is {value}; allowed: at least {least}"):
        build("resnet", depth=8, **{name: value})
