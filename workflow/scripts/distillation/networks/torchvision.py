"""The convolutional classification networks of torchvision, by name, at any image size.

Parameters have torchvision's names, so that a state dict of the same network fits as it is. Stages
are outputs of named nodes of its graph, as torchvision's feature extraction names them
(docs.pytorch.org/vision/stable/feature_extraction.html). First weights are drawn as those of the
other families, or read from a file.
"""

from difflib import get_close_matches
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, fx, nn
from torch.func import functional_call
from torch.nn import functional
from torchvision import models
from torchvision.models.feature_extraction import NodePathTracer
from torchvision.ops import StochasticDepth

from distillation.networks import Dropout, Network, Outputs, Shape
from distillation.numerics import pooled_to
from distillation.record.checkpoint import load_plain, load_weights, tensors_of
from distillation.record.digest import source_digest
from distillation.settings.base import NetworkSettings

# torchvision 0.24 to 0.29: those without attention, which return one tensor in training too.
Name = Literal[
    "alexnet", "convnext_base", "convnext_large", "convnext_small", "convnext_tiny", "densenet121",
    "densenet161", "densenet169", "densenet201", "efficientnet_b0", "efficientnet_b1",
    "efficientnet_b2", "efficientnet_b3", "efficientnet_b4", "efficientnet_b5", "efficientnet_b6",
    "efficientnet_b7", "efficientnet_v2_l", "efficientnet_v2_m", "efficientnet_v2_s", "mnasnet0_5",
    "mnasnet0_75", "mnasnet1_0", "mnasnet1_3", "mobilenet_v2", "mobilenet_v3_large",
    "mobilenet_v3_small", "regnet_x_16gf", "regnet_x_1_6gf", "regnet_x_32gf", "regnet_x_3_2gf",
    "regnet_x_400mf", "regnet_x_800mf", "regnet_x_8gf", "regnet_y_128gf", "regnet_y_16gf",
    "regnet_y_1_6gf", "regnet_y_32gf", "regnet_y_3_2gf", "regnet_y_400mf", "regnet_y_800mf",
    "regnet_y_8gf", "resnet101", "resnet152", "resnet18", "resnet34", "resnet50",
    "resnext101_32x8d", "resnext101_64x4d", "resnext50_32x4d", "shufflenet_v2_x0_5",
    "shufflenet_v2_x1_0", "shufflenet_v2_x1_5", "shufflenet_v2_x2_0", "squeezenet1_0",
    "squeezenet1_1", "vgg11", "vgg11_bn", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19",
    "vgg19_bn", "wide_resnet101_2", "wide_resnet50_2",
]  # fmt: skip
# Side of the images for which default stages are chosen; the networks were made for it.
SIDE = 224
# At most so many stages by default: the residual networks' four, without the stem.
STAGES = 4
# Of batch norm's running statistics: torch's default.
MOMENTUM = 0.1
IN_PLACE = (nn.ReLU, nn.ReLU6, nn.SiLU, nn.Hardswish)
ACTIVATIONS = (*IN_PLACE, nn.GELU)
# What computes no features of its own, so that its output is no stage by default.
PASSING = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, Dropout)


class Settings(NetworkSettings):
    """A convolutional network of torchvision, by name: resnet50, mobilenet_v3_small, ..."""

    model: Name = Field(description="its name in torchvision.models")
    stages: list[str] = Field(
        [],
        description="nodes whose outputs are the stages, (N, C, H, W) each, as layer1.2.relu_2, or "
        "layer1, whose last node is meant; none: of each of the last four resolutions the last "
        "output of a block, before the activation that follows",
    )
    weights: str | None = Field(
        None, min_length=1,
        description="a file of its state dict to begin with; the classifier is drawn where that "
        "of the file is for another number of classes; null: all is drawn",
    )  # fmt: skip

    @property
    def title(self) -> str:
        """The network's name in tables and figures."""
        begins = f", begun with {Path(self.weights).name}" if self.weights else ""
        return f"{self.model} (torchvision{begins})"

    def identity(self) -> str:
        """Return the digest of the file of weights, or none.

        Raises:
            FileNotFoundError: there is no such file.
        """
        return source_digest(Path(self.weights)) if self.weights else ""


def build(settings: Settings, classes: int, channels: int) -> "Torchvision":
    """Build the network that the settings describe, for K classes and C channels.

    Raises:
        ValueError: it has no node that `stages` names.
    """
    model = models.get_model(settings.model, weights=None, num_classes=classes)
    fit(model, channels)
    tracer = NodePathTracer(leaf_modules=(Dropout, AveragePooling))
    graph = tracer.trace(model)
    for node in graph.nodes:
        if node.kwargs.get("inplace"):
            node.kwargs = node.kwargs | {"inplace": False}
    names = tracer.node_to_qualname
    nodes = [find(name, names) for name in settings.stages]
    nodes = nodes or default_stages(model, graph, names, channels)
    return Torchvision(model, graph, nodes, settings.weights)


class Torchvision(Network):
    """A network of torchvision, whose modules keep their names.

    Args:
        model: whose modules these are.
        graph: of its forward pass.
        nodes: of the graph, whose outputs are the stages.
        weights: a file of its state dict, or None.
    """

    def __init__(
        self, model: nn.Module, graph: fx.Graph, nodes: list[fx.Node], weights: str | None
    ) -> None:
        super().__init__()
        for name, child in model.named_children():
            self.add_module(name, child)
        self.weights, self.last_layer = weights, classifier_of(model)
        self.following = [following(model, node) for node in nodes]
        copies: dict[fx.Node, fx.Node] = {}
        own = fx.Graph()
        logits = own.graph_copy(graph, copies)
        own.output((logits, [copies[node] for node in nodes]))
        # What torch.fx writes of a graph is called on the network that has the modules.
        self.run = type(fx.GraphModule(model, own)).forward

    def forward(self, images: Tensor) -> Outputs:
        """Return logits (N, K) and the outputs of the nodes that are the stages."""
        return Outputs(*self.run(self, images))

    def activated(self, stages: list[Tensor]) -> list[Tensor]:
        """Return the stages after the normalisation and activation that follow each, if they do.

        One that several others read, or that is after an activation, stays as it is.
        """
        activated = []
        for stage, nodes in zip(stages, self.following, strict=True):
            for node in nodes:
                run = self.get_submodule(node) if node else functional.relu
                stage = run(stage)
            activated.append(stage)
        return activated

    def take_weights(self) -> str:
        """Read the file of weights, and return what was read.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: its weights don't fit; a classifier for other classes is left out.
        """
        if self.weights is None:
            return ""
        path, own = Path(self.weights), self.state_dict()
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file of weights")
        state = tensors_of(path, load_plain(path))
        classifier = [name for name in own if name.startswith(f"{self.last_layer}.")]
        counts = [len(each[classifier[0]]) for each in (state, own) if classifier[0] in each]
        said = f"begins with the weights of {path}"
        if len({*counts}) > 1:
            state = state | {name: own[name] for name in classifier}
            said += f"; its classifier of {counts[0]:,} classes is replaced by one of {counts[1]:,}"
        load_weights(path, type(self).__name__, self, state)
        return said


def fit(model: nn.Module, channels: int) -> None:
    """Change a network of torchvision in place, but for weights other than the first convolution's.

    - That is for C channels.
    - Dropout is a function of seed and pass, and stochastic depth too.
    - Activations leave their inputs, which may be stages, as they are.
    - No backward pass is one that can't repeat itself on CUDA.
    - Batch norm's running statistics follow with torch's usual momentum: those of some networks
      are for runs over millions of images (MNASNet's 0.0003), and after some hundred steps would
      still be what they began with. What training computes doesn't depend on it.
    """
    for name, module in [*model.named_modules()]:
        if isinstance(module, nn.Dropout):
            model.set_submodule(name, Dropout(module.p))
        elif isinstance(module, StochasticDepth):
            model.set_submodule(name, Dropout(module.p, whole=True))
        elif isinstance(module, nn.AdaptiveAvgPool2d) and module.output_size not in (1, (1, 1)):
            model.set_submodule(name, AveragePooling(module.output_size[0]))  # type: ignore[index]
        elif isinstance(module, IN_PLACE):
            module.inplace = False
        elif isinstance(module, nn.BatchNorm2d):
            module.momentum = MOMENTUM
    name, first = next(
        (name, each) for name, each in model.named_modules() if isinstance(each, nn.Conv2d)
    )
    if channels != first.in_channels:
        options = (first.out_channels, first.kernel_size, first.stride, first.padding)
        model.set_submodule(
            name,
            nn.Conv2d(channels, *options, bias=first.bias is not None),  # type: ignore[arg-type]
        )


class AveragePooling(nn.Module):
    """Adaptive average pooling to a square, a node of its own in the network's graph."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, maps: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, side, side)."""
        return pooled_to(maps, (self.side, self.side))


def find(name: str, names: dict[fx.Node, str]) -> fx.Node:
    """Return the node of a name, or the last within the module of that name.

    Raises:
        ValueError: there is none.
    """
    inside = [node for node, own in names.items() if own == name or own.startswith(f"{name}.")]
    if not inside:
        known = {part for own in names.values() for part in (own, own.partition(".")[0])}
        close = ", ".join(get_close_matches(name, sorted(known), n=3))
        hint = f", as {close}" if close else ""
        raise ValueError(f"stages: found {name!r}; allowed: names of the network's nodes{hint}")
    return inside[-1]


def default_stages(
    model: nn.Module, graph: fx.Graph, names: dict[fx.Node, str], channels: int
) -> list[fx.Node]:
    """Return the nodes of the last output of a block at each of the last four resolutions.

    Blocks are what the network's own sequences hold. All that comes after such a node hangs on it
    alone, so that it isn't one of two branches; where a block ends in an activation, the node
    before it is taken.
    """
    last_of_block = {block_of(model, name): node for node, name in names.items() if "." in name}
    passed = passed_by_all(graph)
    classifier = classifier_of(model).partition(".")[0]
    candidates = []
    for block, node in last_of_block.items():
        before = node.args[0] if is_activation(model, node) else node
        chosen = before if before in passed else node
        if chosen in passed and not block.startswith(classifier) and not passes(model, chosen):
            candidates.append(chosen)
    shapes = shapes_of(Torchvision(model, graph, candidates, None), channels)
    by_size = {shape[1:]: node for node, shape in zip(candidates, shapes, strict=True)}
    return [*by_size.values()][-STAGES:]


def block_of(model: nn.Module, name: str) -> str:
    """Return the name of the block that a node is in: a sequence's element, or a whole module."""
    first, *rest = name.split(".")
    return f"{first}.{rest[0]}" if type(model.get_submodule(first)) is nn.Sequential else first


def passed_by_all(graph: fx.Graph) -> set[fx.Node]:
    """Return the nodes after which nothing hangs on an earlier one."""
    places = {node: place for place, node in enumerate(graph.nodes)}
    found, last_use = set(), 0
    for node, place in places.items():
        if last_use <= place:
            found.add(node)
        last_use = max([last_use, *(places[user] for user in node.users)])
    return found


def classifier_of(model: nn.Module) -> str:
    """Return the name of the last layer with weights."""
    layers = (nn.Linear, nn.Conv2d)
    return [name for name, each in model.named_modules() if isinstance(each, layers)][-1]


def called(model: nn.Module, node: fx.Node) -> nn.Module | None:
    """Return the module that a node calls, if it calls one."""
    return model.get_submodule(str(node.target)) if node.op == "call_module" else None


def is_activation(model: nn.Module, node: fx.Node) -> bool:
    """Tell whether a node is an activation."""
    return node.target is functional.relu or isinstance(called(model, node), ACTIVATIONS)


def passes(model: nn.Module, node: fx.Node) -> bool:
    """Tell whether a node computes no features of its own."""
    return isinstance(called(model, node), PASSING)


def following(model: nn.Module, node: fx.Node) -> list[str]:
    """Return the normalisation and activation that alone follow a node, by name of their modules.

    A function, which has none, is functional.relu; none, where no activation follows.
    """
    found: list[str] = []
    while len(node.users) == 1:
        (node,) = node.users
        if is_activation(model, node):
            return [*found, str(node.target) if node.op == "call_module" else ""]
        if not isinstance(called(model, node), nn.BatchNorm2d):
            return []
        found.append(str(node.target))
    return []


def shapes_of(network: Torchvision, channels: int) -> list[Shape]:
    """Return the shapes of stages for images of 224 pixels, without computing them."""
    named = dict(network.named_parameters()) | dict(network.named_buffers())
    state = {name: tensor.to("meta") for name, tensor in named.items()}
    image = torch.zeros(1, channels, SIDE, SIDE, device="meta")
    _, stages = functional_call(network.eval(), state, (image,))
    network.train()
    return [Shape(*stage.shape[1:]) for stage in stages]
