"""Networks of the distillation literature and of torchvision: the published ones, and usable."""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode
from torchvision import models
from torchvision.models import resnet, shufflenetv2, vgg

import describe_network
import evaluate
import export_model
import extract_attention
import import_teacher
import prepare_data
import train_student
import train_teacher
from distillation.data.dataset import Dataset, Split, normalise, read_dataset
from distillation.measuring.study import take_maps
from distillation.measuring.subjects import Source, read_subjects
from distillation.networks import (
    Dropout,
    Network,
    count_multiply_accumulates,
    count_parameters,
    initialise,
    stage_shapes,
)
from distillation.record.checkpoint import load_checkpoint, save_checkpoint
from distillation.settings.base import NetworkSettings, SettingsError
from distillation.settings.networks import Network as Named
from distillation.settings.networks import asked, cost, describe_all, described
from distillation.settings.plugins import chosen
from learners import assert_same_run, changed, train
from made import PROVENANCE
from test_import_teacher import arguments, write_data
from test_networks import build, convolve, initialised, norm, settings_of, settled

CPU = torch.device("cpu")
BOTTLENECK: dict[str, Any] = {"depth": 50, "block": "bottleneck"}
# Of each family of the literature one network, quick on a CPU.
LITERATURE: list[tuple[str, dict[str, Any]]] = [
    ("resnet", BOTTLENECK),
    ("vgg", {"depth": 8}),
    ("mobilenet_v2", {}),
    ("shufflenet_v1", {}),
    ("shufflenet_v2", {}),
]
SMALL = [(family, own) for family, own in LITERATURE if family != "resnet"]
# Of torchvision's kinds of networks the quickest, without those of 100 million weights.
KINDS = [
    "resnet18", "mobilenet_v3_small", "shufflenet_v2_x0_5", "squeezenet1_1", "mnasnet0_5",
    "densenet121", "efficientnet_b0", "regnet_y_400mf", "convnext_tiny",
]  # fmt: skip
DROPPING = ("torchvision", {"model": "mobilenet_v3_small"})
State = dict[str, Tensor]


def images(count: int, side: int, channels: int = 3, seed: int = 0) -> Tensor:
    """Return random images."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, channels, side, side, generator=generator)


# --- The literature's ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "settings", "title", "count", "published"),
    [
        ("resnet", BOTTLENECK, "ResNet50", 23_705_252, 23.7),
        ("vgg", {"depth": 8}, "vgg8", 3_965_028, 3.97),
        ("vgg", {"depth": 11}, "vgg11", 9_277_284, None),
        ("vgg", {"depth": 13}, "vgg13", 9_462_180, 9.46),
        ("vgg", {"depth": 16}, "vgg16", 14_774_436, None),
        ("vgg", {"depth": 19}, "vgg19", 20_086_692, None),
        ("mobilenet_v2", {}, "MobileNetV2", 812_836, 0.81),
        ("shufflenet_v1", {}, "ShuffleNetV1", 949_258, 0.95),
        ("shufflenet_v2", {}, "ShuffleNetV2", 1_355_528, 1.36),
    ],
)
def test_parameter_counts(
    family: str, settings: dict[str, Any], title: str, count: int, published: float | None
) -> None:
    """For 100 classes the networks have the parameters that are published of them, in millions."""
    assert settings_of(family, **settings).title == title
    assert count_parameters(build(family, 100, **settings)) == count
    if published:
        assert round(count / 1e6, len(str(published).partition(".")[2])) == published


@pytest.mark.parametrize(
    ("family", "settings", "shapes"),
    [
        ("resnet", BOTTLENECK, [(256, 32), (512, 16), (1024, 8), (2048, 4)]),
        ("vgg", {"depth": 13}, [(128, 16), (256, 8), (512, 4), (512, 4)]),
        ("mobilenet_v2", {}, [(12, 16), (16, 8), (48, 4), (160, 2)]),
        ("shufflenet_v1", {}, [(240, 16), (480, 8), (960, 4)]),
        ("shufflenet_v2", {}, [(116, 16), (232, 8), (464, 4)]),
    ],
)
def test_stages_are_those_that_the_literature_pairs(
    family: str, settings: dict[str, Any], shapes: list[tuple[int, int]]
) -> None:
    """At 32 pixels stages have the literature's numbers, channels and sizes; others work too."""
    model = build(family, 7, 1, **settings)
    assert stage_shapes(model, 32, 1) == [(size, side, side) for size, side in shapes]
    for side in (8, 21):
        found = stage_shapes(model, side, 1)
        assert [shape.channels for shape in found] == [size for size, _ in shapes]
    blocks = [*model.blocks()]
    assert len(blocks) == {"resnet": 16, "vgg": 0, "mobilenet_v2": 17}.get(family, 16)


def test_vgg_pools_once_more_at_64_pixels() -> None:
    """From 64 pixels on the fourth stage is followed by pooling, as in the literature's code."""
    sides = [shape.height for shape in stage_shapes(build("vgg", depth=8), 64, 3)]
    assert sides == [32, 16, 8, 4]
    assert [shape.height for shape in stage_shapes(build("vgg", depth=8), 60, 3)] == [30, 15, 7, 7]


def reference_resnet50() -> nn.Module:
    """Return torchvision's ResNet-50 with the stem of one for small images."""
    model = resnet.resnet50(weights=None, num_classes=10)
    model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    model.set_submodule("maxpool", nn.Identity())
    return model


def reference_vgg16() -> nn.Module:
    """Return torchvision's layers of VGG 16 without the fourth pooling, and one linear layer."""
    sizes = [64, 64, "M", 128, 128, "M", 256, 256, 256, "M", *[512] * 6]
    layers = vgg.make_layers(cast(Any, sizes), batch_norm=True)
    return nn.Sequential(layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))


def reference_shufflenet_v2() -> nn.Module:
    """Return torchvision's ShuffleNet V2 with the stem of one for small images."""
    model = shufflenetv2.ShuffleNetV2([4, 8, 4], [24, 116, 232, 464, 1024], num_classes=10)
    model.conv1[0] = nn.Conv2d(3, 24, 1, bias=False)
    model.set_submodule("maxpool", nn.Identity())
    return model


@pytest.mark.parametrize(
    ("family", "settings", "reference"),
    [
        ("resnet", BOTTLENECK, reference_resnet50),
        ("vgg", {"depth": 16}, reference_vgg16),
        ("shufflenet_v2", {}, reference_shufflenet_v2),
    ],
)
def test_outputs_equal_those_of_torchvision(
    family: str, settings: dict[str, Any], reference: Callable[[], nn.Module]
) -> None:
    """With the same weights, in the same order, torchvision's layers give the same logits."""
    model, other = settled(initialised(family, **settings)), reference().eval()
    weights = model.state_dict().values()
    other.load_state_dict(dict(zip(other.state_dict(), weights, strict=True)))
    with torch.no_grad():
        expected = other.double()(images(3, 16).double())
        found, stages = model.double()(images(3, 16).double())
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    assert all((stage < 0).any() for stage in stages)
    activated = model.activated(stages)
    torch.testing.assert_close(activated, [each.clamp_min(0) for each in stages], rtol=0, atol=0)


def depthwise(state: State, name: str, inputs: Tensor, stride: int) -> Tensor:
    """Convolve each channel by itself."""
    weight = state[f"{name}.weight"]
    return functional.conv2d(inputs, weight, None, stride, 1, groups=len(weight))


# Blocks and stride of each sequence of MobileNetV2.
SEQUENCES = ((1, 1), (2, 1), (3, 2), (4, 2), (3, 1), (3, 2), (1, 1))


def plain_mobilenet(state: State, batch: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Compute logits and stages of MobileNetV2 from its weights and the table of its paper."""
    output = norm(state, "norm", functional.conv2d(batch, state["stem.weight"], None, 2, 1))
    output, stages = output.clamp_min(0), []
    for place, (blocks, stride) in enumerate(SEQUENCES):
        for block in range(blocks):
            name = f"sequences.{place}.{block}"
            inner = convolve(output, state[f"{name}.expand.weight"])
            inner = norm(state, f"{name}.norm1", inner).clamp_min(0)
            inner = depthwise(state, f"{name}.depthwise", inner, 1 if block else stride)
            inner = norm(state, f"{name}.norm2", inner).clamp_min(0)
            inner = norm(state, f"{name}.norm3", convolve(inner, state[f"{name}.project.weight"]))
            output = output + inner if block else inner
        stages.append(output)
    output = norm(state, "last_norm", convolve(output, state["last.weight"])).clamp_min(0)
    logits = output.mean(dim=(2, 3)) @ state["classifier.weight"].T + state["classifier.bias"]
    return logits, [stages[place] for place in (1, 2, 4, 6)]


def plain_shufflenet(state: State, batch: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Compute logits and stages of ShuffleNet V1 of 3 groups from its weights."""
    output = norm(state, "norm", convolve(batch, state["stem.weight"])).clamp_min(0)
    stages, raw = [], output
    for stage, blocks in enumerate((4, 8, 4)):
        for block in range(blocks):
            name, groups = f"stages.{stage}.{block}", 1 if stage == block == 0 else 3
            weight = state[f"{name}.conv1.weight"]
            inner = functional.conv2d(output, weight, groups=groups)
            inner = norm(state, f"{name}.norm1", inner).clamp_min(0)
            # Of each group one channel after another.
            order = torch.arange(len(weight)).reshape(groups, -1).T.flatten()
            inner = depthwise(state, f"{name}.depthwise", inner[:, order], 1 if block else 2)
            inner = norm(state, f"{name}.norm2", inner).clamp_min(0)
            inner = functional.conv2d(inner, state[f"{name}.conv2.weight"], groups=3)
            inner = norm(state, f"{name}.norm3", inner)
            beside = functional.avg_pool2d(output, 3, 2, 1)
            raw = inner + output if block else torch.cat([inner, beside], dim=1)
            output = raw.clamp_min(0)
        stages.append(raw)
    logits = output.mean(dim=(2, 3)) @ state["classifier.weight"].T
    return logits + state["classifier.bias"], stages


@pytest.mark.parametrize(
    ("family", "formula"), [("mobilenet_v2", plain_mobilenet), ("shufflenet_v1", plain_shufflenet)]
)
def test_outputs_equal_the_formulas(
    family: str, formula: Callable[[State, Tensor], tuple[Tensor, list[Tensor]]]
) -> None:
    """Logits and stages are those of the published network, from the weights."""
    model = settled(initialised(family)).double()
    with torch.no_grad():
        logits, stages = model(images(3, 16).double())
        expected = formula(dict(model.state_dict()), images(3, 16).double())
    torch.testing.assert_close((logits, stages), expected, rtol=1e-9, atol=1e-9)
    linear = family == "mobilenet_v2"
    expected_activated = stages if linear else [each.clamp_min(0) for each in stages]
    torch.testing.assert_close(model.activated(stages), expected_activated, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("family", "settings", "message"),
    [
        (
            "resnet",
            {"depth": 44, "block": "bottleneck"},
            "depth: found 44; allowed with bottleneck",
        ),
        ("vgg", {"depth": 12}, "depth: found 12; allowed: 8, 11, 13, 16, 19"),
        ("shufflenet_v1", {"groups": 4}, "groups: found 4; allowed: 1, 2, 3"),
        ("shufflenet_v2", {"width": 3}, "width: found 3; allowed: 0.5, 1, 1.5, 2"),
        ("torchvision", {"model": "vit_b_16"}, "model: found 'vit_b_16'; allowed: alexnet, "),
    ],
)
def test_networks_that_are_not_published_are_refused(
    family: str, settings: dict[str, Any], message: str
) -> None:
    """Settings of no published network are refused in words that say what is allowed."""
    with pytest.raises(SettingsError, match=message):
        settings_of(family, **settings)


# --- All families ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "settings"), [*LITERATURE, *(("torchvision", {"model": name}) for name in KINDS)]
)
def test_every_parameter_learns_and_every_operation_counts(
    family: str, settings: dict[str, Any]
) -> None:
    """The loss reaches every parameter, and multiply-accumulates are those of torch's counter."""
    model, side = initialised(family, **settings), 40 if family == "torchvision" else 16
    initialise(model, "ones", torch.Generator().manual_seed(0))
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        model.eval()(images(1, side))
    counts = counted.get_total_flops() / 2
    assert count_multiply_accumulates(model, side, 3) == counts
    logits, _ = model.train()(images(8, side))
    functional.cross_entropy(logits, torch.arange(8)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        # Batch norm takes a bias before it away again.
        if not (family == "vgg" and name.endswith("bias")):
            assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(
    ("family", "settings"), [*SMALL, ("torchvision", {"model": "mobilenet_v3_small"})]
)
def test_each_family_trains(family: str, settings: dict[str, Any], digits: Dataset) -> None:
    """A student of each family learns from real images, beside a teacher of another family."""
    dataset = enlarged(digits) if family == "torchvision" else digits
    model, teacher = (initialised_for(dataset, *each) for each in ((family, settings), SMALL[0]))
    term = {"labels": {}, "at": {"weight": 10}}
    protocol = changed(
        epochs=7, batch_size=32, learning_rate=0.01, milestones=[], padding=0, flip=False
    )
    _, history = train(dataset, term, protocol, model=model, teacher=teacher.eval())
    losses = [row["cross_entropy"] for row in history]
    assert min(losses) < 0.9 * losses[0]


def enlarged(digits: Dataset) -> Dataset:
    """Return the digits on 48 x 48 pixels, as networks that halve images five times need them."""
    train, test = (
        Split(split.images.repeat_interleave(4, 1).repeat_interleave(4, 2), split.labels)
        for split in (digits.train, digits.test)
    )
    return replace(digits, train=train, test=test)


def initialised_for(dataset: Dataset, family: str, settings: dict[str, Any]) -> Network:
    """Return a fresh network for a data set."""
    model = build(family, len(dataset.class_names), dataset.channels, **settings)
    initialise(model, "ones", torch.Generator().manual_seed(0))
    return model


@pytest.mark.parametrize(
    ("family", "settings"),
    [("shufflenet_v1", {}), ("torchvision", {"model": "mobilenet_v3_small"})],
)
def test_checkpoints_and_exports_are_the_network(
    family: str, settings: dict[str, Any], digits: Dataset, tmp_path: Path
) -> None:
    """A checkpoint, an exported program and an exported folder give a network's logits."""
    network = cast(dict[str, NetworkSettings], chosen("networks", {family: settings}, "network"))
    model = settled(initialised_for(digits, family, settings))
    path, folder = tmp_path / "checkpoint.pt", tmp_path / "folder"
    save_checkpoint(path, model, network, digits, PROVENANCE)
    read, _ = load_checkpoint(path, digits, CPU)
    torch.testing.assert_close(read.state_dict(), model.state_dict(), rtol=0, atol=0)
    # A program that disagrees isn't written.
    flags = ["--checkpoint", str(path), "--image-size", "12", "--device", "cpu"]
    export_model.main([*flags, "--program", str(tmp_path / "it.pt2"), "--folder", str(folder)])
    write_data(tmp_path / "data.npz", digits, digits.class_names)
    import_teacher.main(arguments(tmp_path, folder))
    brought, _ = load_checkpoint(tmp_path / "out" / "checkpoint.pt", digits, CPU)
    torch.testing.assert_close(brought.state_dict(), model.state_dict(), rtol=0, atol=0)


# --- torchvision's -----------------------------------------------------------------------------


def test_names_are_torchvisions() -> None:
    """Every name that is allowed is one of torchvision's, and no convolutional one is missing."""
    others = ("vit", "swin", "maxvit", "googlenet", "inception")
    theirs = {name for name in models.list_models(module=models) if not name.startswith(others)}
    from distillation.networks.torchvision import Name

    assert {*Name.__args__} == theirs


@pytest.mark.parametrize("name", KINDS)
def test_network_is_torchvisions(name: str) -> None:
    """Names of the weights, logits, and stages by name are those of torchvision's own network."""
    model = settled(initialised("torchvision", model=name))
    other = models.get_model(name, weights=None, num_classes=10).eval()
    assert [*model.state_dict()] == [*other.state_dict()]
    # MNASNet asks for the version of what it reads.
    state = model.state_dict()
    state._metadata[""] = {"version": 2}  # type: ignore[attr-defined]
    other.load_state_dict(state)
    with torch.no_grad():
        logits, stages = model(images(2, 64))
        torch.testing.assert_close(logits, other(images(2, 64)), rtol=1e-5, atol=1e-5)
        activated = model.activated(stages)
    assert 3 <= len(stages) <= 4
    assert [*{stage.shape[2:]: 0 for stage in stages}] == [stage.shape[2:] for stage in stages]
    changed = [not torch.equal(*pair) for pair in zip(stages, activated, strict=True)]
    assert any(changed) is (name != "convnext_tiny")


def test_default_stages_are_before_their_activation() -> None:
    """Of ResNet-18 they are the sums of the last blocks, which ReLU follows."""
    names = [f"layer{place}.1.{what}" for what in ("add", "relu_1") for place in (1, 2, 3, 4)]
    named_too: dict[str, Any] = {"stages": names}
    default, named = (
        settled(initialised("torchvision", model="resnet18", **more)) for more in ({}, named_too)
    )
    with torch.no_grad():
        _, stages = default(images(2, 32))
        _, found = named(images(2, 32))
    assert any((stage < 0).any() for stage in stages)
    torch.testing.assert_close(stages, found[:4], rtol=0, atol=0)
    # One that is after its activation stays as it is.
    torch.testing.assert_close(default.activated(stages), found[4:], rtol=0, atol=0)
    torch.testing.assert_close(named.activated(found), found[4:] * 2, rtol=0, atol=0)


def test_a_module_stands_for_its_last_node_and_others_are_refused() -> None:
    """layer1 is its last node; a name of no node, and a node without positions, get one line."""
    shapes = stage_shapes(build("torchvision", model="resnet18", stages=["layer1", "bn1"]), 32, 3)
    assert shapes == [(64, 8, 8), (64, 16, 16)]
    with pytest.raises(ValueError, match=r"^stages: found 'layr1'; allowed: names of .*layer1"):
        build("torchvision", model="resnet18", stages=["layr1"])
    flat = build("torchvision", model="resnet18", stages=["flatten"])
    with pytest.raises(ValueError, match=r"^stage 1 is \(1, 512\) for one image; allowed: "):
        stage_shapes(flat, 32, 3)


def test_images_that_are_too_small_are_refused() -> None:
    """Images that don't pass get one line, by the program that a dry run asks."""
    with pytest.raises(ValueError, match=r"^an image of 8 x 8 pixels and 3 channel"):
        stage_shapes(build("torchvision", model="squeezenet1_1"), 8, 3)


def test_grey_images_have_a_first_convolution_of_their_own() -> None:
    """For one channel only the first convolution is another."""
    one, three = (build("torchvision", 10, c, model="resnet18").state_dict() for c in (1, 3))
    differing = [name for name in one if one[name].shape != three[name].shape]
    assert differing == ["conv1.weight"]


# --- Dropout -----------------------------------------------------------------------------------


def masks(module: Dropout, passes: int, *shape: int) -> Tensor:
    """Return what passes in training leave of ones."""
    return torch.stack([module(torch.ones(shape)) for _ in range(passes)])


def seeded(module: Dropout, seed: int) -> Dropout:
    """Return it with the seed of a run."""
    initialise(module, "ones", torch.Generator().manual_seed(seed))
    return module


def test_dropout_drops_evenly_and_anew_in_each_pass() -> None:
    """The fraction is right, the mean stays, and neighbours and passes have nothing in common."""
    drawn = masks(seeded(Dropout(0.3), 0), 4, 100, 500)
    dropped = (drawn == 0).double()
    count = dropped[0].numel()
    assert (drawn[drawn > 0] == 1 / 0.7).all()
    for place in range(4):
        assert abs(dropped[place].mean() - 0.3) < 5 * (0.21 / count) ** 0.5
    pairs = [(dropped[0], dropped[1]), (dropped[0, 1:], dropped[0, :-1])]
    pairs += [
        (dropped[0, :, 1:], dropped[0, :, :-1]),
        (dropped[2].flatten()[1:], dropped[3].flatten()[:-1]),
    ]
    for one, two in pairs:
        together = ((one.flatten() - 0.3) * (two.flatten() - 0.3)).mean() / 0.21
        assert abs(together) < 5 / one.numel() ** 0.5


def test_dropout_is_decided_by_seed_and_pass() -> None:
    """One seed draws one sequence of masks, another another; evaluation drops none, counts none."""
    first, again, other = (masks(seeded(Dropout(0.5), seed), 3, 8, 9) for seed in (1, 1, 2))
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert not torch.equal(first, other)
    module = seeded(Dropout(0.5), 1).eval()
    assert (masks(module, 2, 8, 9) == 1).all()
    torch.testing.assert_close(masks(cast(Dropout, module.train()), 3, 8, 9), first)
    assert not module.state_dict()


def test_dropout_of_whole_images() -> None:
    """Stochastic depth zeroes all values of an image or none."""
    drawn = masks(seeded(Dropout(0.5, whole=True), 0), 3, 64, 5, 2, 2).flatten(2)
    assert (drawn == drawn[..., :1]).all()
    assert 0 < (drawn == 0).double().mean() < 1


@pytest.mark.parametrize("questions", [3, 4])
def test_run_with_dropout_that_was_stopped_ends_the_same(
    digits: Dataset, tmp_path: Path, questions: int
) -> None:
    """Within an epoch or after it, a run that goes on draws the masks that it would have drawn."""
    resume, protocol = tmp_path / "resume.pt", changed(epochs=2, milestones=[])

    def learn(seed: int = 0, **more: Any) -> Any:
        model = build(DROPPING[0], 10, 1, **DROPPING[1])
        initialise(model, "ones", torch.Generator().manual_seed(seed))
        return train(enlarged(digits), protocol=protocol, model=model, **more)

    asked = iter(range(1, questions + 1))
    with pytest.raises(KeyboardInterrupt):
        learn(resume=resume, stop_asked=lambda: next(asked) == questions)
    resumed, whole = learn(seed=5, resume=resume), learn()
    assert_same_run(resumed, whole)
    passes = [int(each.passes) for each in whole[0].modules() if isinstance(each, Dropout)]
    # Two epochs of four steps.
    assert passes == [8]


# --- Weights of a file -------------------------------------------------------------------------


def weights(path: Path, classes: int, **changes: Tensor) -> State:
    """Write a state dict of torchvision's own network."""
    state = models.get_model("mobilenet_v3_small", weights=None, num_classes=classes).state_dict()
    torch.save(dict(state) | changes, path)
    return dict(state)


def test_training_begins_with_the_weights_of_a_file(tmp_path: Path) -> None:
    """A network takes all weights, or all but a classifier of other classes, and says so."""
    path = tmp_path / "weights.pt"
    for classes, said in (
        (10, ""),
        (1000, "; its classifier of 1,000 classes is replaced by one of 10"),
    ):
        state = weights(path, classes)
        model = initialised("torchvision", model="mobilenet_v3_small", weights=str(path))
        drawn = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        assert model.take_weights() == f"begins with the weights of {path}{said}"
        for name, tensor in model.state_dict().items():
            kept = said and name.startswith("classifier.3.")
            assert torch.equal(tensor, drawn[name] if kept else state[name]), name


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (Path.exists, "no such file of weights"),
        (lambda path: torch.save([1], path), "holds no map of names to tensors"),
        (
            lambda path: torch.save({"conv.weight": torch.ones(2)}, path),
            r"weights don't fit its network .*lacks features.0.0.weight, .*has, .*conv.weight",
        ),
        (
            lambda path: weights(path, 7, **{"features.0.1.bias": torch.full((16,), torch.nan)}),
            "features.0.1.bias holds NaN",
        ),
    ],
)
def test_other_files_of_weights_are_refused(
    tmp_path: Path, write: Callable[[Path], object], message: str
) -> None:
    """A file that isn't there, or isn't of this network, is named in one line."""
    write(tmp_path / "weights.pt")
    model = build("torchvision", model="mobilenet_v3_small", weights=str(tmp_path / "weights.pt"))
    with pytest.raises((ValueError, OSError), match=message):
        model.take_weights()


def test_weights_are_known_by_their_content(tmp_path: Path) -> None:
    """Another content of the file is another identity; without a file there is none."""
    path = tmp_path / "weights.pt"
    settings = settings_of("torchvision", model="mobilenet_v3_small", weights=str(path))
    assert settings.title == "mobilenet_v3_small (torchvision, begun with weights.pt)"
    found = []
    for content in (b"one", b"two", b"one"):
        path.write_bytes(content)
        found.append(settings.identity())
    assert found[0] == found[2] != found[1]
    assert settings_of("torchvision", model="resnet18").identity() == ""


def test_brought_teacher_has_torchvisions_names(tmp_path: Path, digits: Dataset) -> None:
    """A state dict that torchvision's own network saved is brought as it is."""
    state = weights(tmp_path / "teacher.pt", 10)
    write_data(tmp_path / "data.npz", digits, digits.class_names, channels=3)
    flags = ["--network", "torchvision", "model=mobilenet_v3_small"]
    import_teacher.main(arguments(tmp_path, tmp_path / "teacher.pt", *flags))
    content = torch.load(tmp_path / "out" / "checkpoint.pt")
    torch.testing.assert_close(content["state"], state, rtol=0, atol=0)
    assert content["title"] == "mobilenet_v3_small (torchvision)"


# --- The chain ---------------------------------------------------------------------------------


def write_photos(folder: Path, side: int = 64) -> None:
    """Cut scikit-learn's two photos, a temple and a flower, into 120 images as an image folder.

    The left of each is for training, the right for the test.
    """
    for name in ("china.jpg", "flower.jpg"):
        photo = load_sample_image(name)
        for top in range(0, 427 - side, 72):
            for left in range(0, 640 - side, 54):
                split = "train" if left + side <= 448 else "test"
                if split == "test" and left < 448:
                    continue
                file = folder / split / Path(name).stem / f"{top:03}_{left:03}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(photo[top : top + side, left : left + side]).save(file)


def test_chain_of_torchvisions_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the scripts alone MobileNetV3 learns from ResNet-18, on photos of 64 x 64 pixels."""
    monkeypatch.chdir(tmp_path)
    write_photos(tmp_path / "photos")
    data = ["--data", "data.npz"]
    prepare_data.main([
        *("--format", "image_folder", "source=photos", "image_size=64", "channels=3", "fit=crop"),
        *("--archive", "data.npz", "--description", "data.json"),
    ])  # fmt: skip
    protocol = [
        *("--epochs", "1", "--batch-size", "32", "--schedule", "one_cycle", "--padding", "4"),
        *("--learning-rate", "0.02", "--gamma-init", "ones", "--seed", "0"),
        *("--precision", "float32", "--compile", "off"),
    ]

    def flags(name: str, model: str) -> list[str]:
        files = ["--checkpoint", f"{name}/checkpoint.pt", "--history", f"{name}/history.csv"]
        return [*data, *protocol, *files, "--network", "torchvision", f"model={model}"]

    train_teacher.main(flags("teacher", "resnet18"))
    student = [*flags("student", "mobilenet_v3_small"), "--term", "at", "weight=1000"]
    train_student.main([*student, "--teacher", "teacher/checkpoint.pt"])
    dataset = read_dataset(Path("data.npz"))
    for name, sides in (("teacher", [16, 8, 4, 2]), ("student", [16, 8, 4, 2])):
        own = [*data, "--checkpoint", f"{name}/checkpoint.pt"]
        files = ["--metrics", f"{name}.json", "--predictions", f"{name}.npz"]
        evaluate.main([*own, "--metric", "top1_accuracy", *files])
        extract_attention.main([*own, "--attention", f"{name}_maps.npz", "--images-per-class", "3"])
        with np.load(f"{name}_maps.npz") as maps:
            found = [maps[f"mean_square_{stage}"].shape for stage in range(1, len(sides) + 1)]
        assert found == [(6, side, side) for side in sides]
        metrics = json.loads(Path(f"{name}.json").read_text())
        assert metrics["images"] == len(dataset.test.labels) == 24
        assert 0 <= metrics["metrics"]["top1_accuracy"]["value"] <= 100
    with Path("student/history.csv").open() as file:
        (row,) = csv.DictReader(file)
    # AT pairs all four stages by size.
    assert {f"at_{part}" for part in range(1, 5)} <= row.keys()
    subjects = read_subjects(
        [Source(name, 0, Path(f"{name}/checkpoint.pt")) for name in ("teacher", "student")],
        load_checkpoint(Path("teacher/checkpoint.pt"), dataset, CPU)[0], ["student"], 64, dataset,
        lambda path: load_checkpoint(path, dataset, CPU),
    )  # fmt: skip
    assert subjects[1].partners == {1: 1, 2: 2, 3: 3, 4: 4}
    for subject in subjects:
        shown = normalise(dataset.test.images[:2], dataset.mean, dataset.std)
        assert take_maps(subject.model, shown, ["mean_square"], subject.method)


def test_description_of_a_network_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What only torch knows of a network is asked of one process, and then read from one file."""
    monkeypatch.chdir(tmp_path)
    wrn = Named("wrn", settings_of("wrn", depth=10, width=1))
    described.cache_clear()
    told = cost(wrn, 12, 1, 10)
    assert told["title"] == "WRN-10-1"
    (kept,) = Path(".snakemake/networks").iterdir()
    # Another run of the workflow, which finds no program to ask.
    described.cache_clear()
    monkeypatch.setattr("distillation.settings.networks.DESCRIBE", tmp_path / "none.py")
    assert cost(wrn, 12, 1, 10) == told
    assert [*kept.parent.iterdir()] == [kept]
    with pytest.raises(SettingsError, match=r"^network WRN-10-1: .*none\.py"):
        cost(wrn, 12, 3, 10)


def test_descriptions_of_several_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One process tells of all that aren't known; one that can't be built is told when asked."""
    monkeypatch.chdir(tmp_path)
    wrn = [Named("wrn", settings_of("wrn", depth=depth, width=1)) for depth in (10, 16)]
    odd = Named("torchvision", settings_of("torchvision", model="resnet18", stages=["layr1"]))
    describe_all(asked(each, 12, 1, 10) for each in (*wrn, wrn[0], odd))
    assert len([*Path(".snakemake/networks").iterdir()]) == 2
    with monkeypatch.context() as patched:
        patched.setattr("distillation.settings.networks.DESCRIBE", tmp_path / "none.py")
        describe_all(asked(each, 12, 1, 10) for each in wrn)
        for network in wrn:
            described.cache_clear()
            expected = describe_network.describe(network.family, network.settings, 12, 1, 10)
            assert cost(network, 12, 1, 10) == json.loads(json.dumps(expected))


def test_what_a_network_prints_is_no_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each line on standard output is the description of the network of that line."""
    describe = describe_network.describe

    def chatty(*network: Any) -> dict[str, Any]:
        print("building")
        return describe(*network)

    monkeypatch.setattr(describe_network, "describe", chatty)
    lines = "--network wrn depth=10 width=1\n--network wrn depth=16 width=1\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    describe_network.main(["-"])
    out, err = capsys.readouterr()
    assert [json.loads(line)["title"] for line in out.splitlines()] == ["WRN-10-1", "WRN-16-1"]
    assert err == "building\n" * 2


def test_description_of_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the stages and the title; a network that can't be built is one line."""
    monkeypatch.chdir(tmp_path)
    # The program in a process of its own takes seconds: it is asked for the mistake alone.
    settings = settings_of("torchvision", model="resnet18", stages=["layr1"])
    with pytest.raises(SettingsError, match=r"^network resnet18 \(torchvision\): .*found 'layr1'"):
        cost(Named("torchvision", settings), 64, 3, 2)
    found = describe_network.describe(
        "torchvision", settings_of("torchvision", model="resnet18"), 64, 3, 2
    )
    assert found["stages"] == [[64, 16, 16], [128, 8, 8], [256, 4, 4], [512, 2, 2]]
    assert found["title"] == "resnet18 (torchvision)"
