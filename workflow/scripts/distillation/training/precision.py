"""How the steps of a training are run: in which precision, compiled or not, as a graph or not.

What is measured and drawn later is computed in float32 and eagerly, whatever is picked here.
"""

import math
import os
import shlex
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn

from distillation.networks import Network, Outputs, probe
from distillation.settings.training import Engine

# bfloat16 is picked where the network's dearest convolution is this much faster in it: below, what
# surrounds it eats the gain. Processors have it (1.8 to 3 times as fast) or emulate it (at most 0.6
# times).
WORTHWHILE_RATIO = 1.3
# Why bfloat16 isn't picked on a CPU, whatever it gains.
BEYOND = "a map is smaller than the stride of its convolution"
# Seconds of training below which compiling isn't tried, as what it gains would hardly repay it: on
# a CPU it takes a minute or so for a few percent at most; on an H100 it took 27 s, and a pass with
# its gradients was 1.19 times as fast (docs/gpu.md).
WORTHWHILE_SECONDS = {"cpu": 3600, "cuda": 180}
# Sustained in training, in float32 on one thread of a CPU, or by graphs in bfloat16 on that H100:
# the slow side on a CPU, since longer runs only gain more.
OPERATIONS_PER_SECOND = {"cpu": 1e11, "cuda": 3e13}
# Of what is timed in a turn on a GPU, where one takes less time than starting it.
REPEATS = 20
# Turns of which the fastest counts, since anything else on the machine only slows a turn down.
TURNS = 5


@dataclass(frozen=True)
class Picked:
    """What was picked; it is part of a result's provenance."""

    precision: Literal["float32", "bfloat16"] = "float32"
    compiled: bool = False
    graph: bool = False

    def autocast(self, device: torch.device) -> torch.autocast:
        """Return the context in which networks run in this precision."""
        enabled = self.precision == "bfloat16"
        return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)

    def prepared(self, network: Network) -> Callable[[Tensor], Outputs]:
        """Return a network as steps call it: itself, or compiled as a whole or block by block."""
        if not self.compiled:
            return network
        blocks = [*network.blocks()]
        if next(network.parameters()).device.type == "cpu" or not blocks:
            # Not dynamic: only full batches run compiled.
            return torch.compile(network, dynamic=False)
        # Blocks of one shape share their code, within a network and between depths; each shape is
        # one more.
        torch._dynamo.config.recompile_limit = 256  # type: ignore[assignment]
        for block in blocks:
            block.compile(dynamic=False)
        return network

    def eagerly(self) -> AbstractContextManager[object]:
        """Return the context in which compiled networks run as they are."""
        # Asked only where something is compiled: it loads torch's compiler, which takes seconds.
        return torch.compiler.set_stance("force_eager") if self.compiled else nullcontext()

    @property
    def words(self) -> str:
        """What was picked, for the log."""
        return self.precision + ", compiled" * self.compiled + ", CUDA graph" * self.graph


def pick(
    engine: Engine, network: Network, images: Tensor, runs: list[float]
) -> list[tuple[Picked, str]]:
    """Return what each of several trainings of a network runs with, and why, in words.

    Args:
        engine: what was asked for; auto takes bfloat16 where it pays, compiles long runs that gain
            more by it than it takes (on a CPU: where there is a C++ compiler), and captures graphs
            on a GPU.
        network: the student, on its device.
        images: a batch, (B, C, H, W), on the device.
        runs: of each training the floating-point operations with the teacher's passes.

    Raises:
        ValueError: compiling is asked for on a CPU, and there is no C++ compiler, or a graph
            where there is no GPU, or bfloat16 where a CPU gets its gradients wrong.
    """
    device, reasons = images.device, []
    precision = engine.precision
    if device.type == "cpu" and precision != "float32" and steps_beyond(network, images):
        # Of the weights of such a convolution that see padding alone, the gradient in bfloat16 is
        # whatever stood in memory (torch 2.15 with AVX-512; of larger maps all is right).
        if precision == "bfloat16":
            raise ValueError(f"precision is bfloat16, but {BEYOND}; allowed: auto, float32")
        precision = "float32"
        reasons.append(BEYOND)
    if precision == "auto":
        ratio = bfloat16_ratio(network, images)
        precision = "bfloat16" if ratio >= WORTHWHILE_RATIO else "float32"
        reasons.append(f"its dearest convolution is {ratio:.1f} times as fast in bfloat16")
    compiler = device.type == "cuda" or shutil.which(shlex.split(os.environ.get("CXX", "g++"))[0])
    if engine.compile == "on" and not compiler:
        raise ValueError("compile is on, but there is no C++ compiler (g++, or CXX); allowed: off")
    if engine.graph == "on" and device.type == "cpu":
        raise ValueError("graph is on, but device is cpu; allowed: auto, off")
    plain = Picked(precision, graph=engine.graph != "off" and device.type == "cuda")
    trial = cache(lambda: try_compiling(plain, network, images))
    picked = []
    for operations in runs:
        seconds, compiled, why = operations / OPERATIONS_PER_SECOND[device.type], False, []
        if engine.compile == "on":
            compiled = True
        elif engine.compile == "auto" and not compiler:
            why = ["no compiler"]
        elif engine.compile == "auto" and seconds < WORTHWHILE_SECONDS[device.type]:
            why = ["short run"]
        elif engine.compile == "auto":
            speedup, cost = trial()
            compiled = seconds * (1 - 1 / speedup) > cost
            why = [f"compiled in {cost:.0f} s, it is {speedup:.2f} times as fast"]
        each = replace(plain, compiled=compiled)
        why = [*reasons, *why]
        picked.append((each, each.words + (f" ({'; '.join(why)})" if why else "")))
    return picked


@torch.no_grad()
def bfloat16_ratio(network: Network, images: Tensor) -> float:
    """Return how many times as fast as in float32 a network's dearest convolution is in bfloat16.

    1 for a network without convolutions.
    """
    found = convolutions(network, images)
    if not found:
        return 1
    module, shape, _ = max(found, key=lambda each: each.cost)
    inputs = torch.ones(shape, device=images.device).to(memory_format=torch.channels_last)
    float32, bfloat16 = fastest(
        [
            partial(deepcopy(module).to(dtype), inputs.to(dtype))
            for dtype in (torch.float32, torch.bfloat16)
        ],
        images.device,
        images.device.type == "cuda",
    )
    return float32 / bfloat16


def try_compiling(picked: Picked, network: Network, images: Tensor) -> tuple[float, float]:
    """Return how many times as fast a network learns compiled, and the seconds that compiling took.

    What is timed are a pass and its gradients, of copies; as graphs, if graphs are picked.
    """
    actions = []
    for compiled in (False, True):
        copy = deepcopy(network).train()
        run = replace(picked, compiled=compiled).prepared(copy)
        actions.append(partial(learn_nothing, picked, run, copy, images))
    started = time.perf_counter()
    actions[1]()
    wait_for(images.device)
    cost = time.perf_counter() - started
    plain, faster = fastest(actions, images.device, picked.graph)
    return plain / faster, cost


def learn_nothing(
    picked: Picked, run: Callable[[Tensor], Outputs], network: Network, images: Tensor
) -> None:
    """Compute a network's gradients and forget them."""
    with picked.autocast(images.device):
        logits = run(images).logits
    logits.float().sum().backward()
    for parameter in network.parameters():
        parameter.grad = None


def fastest(
    actions: Sequence[Callable[[], object]], device: torch.device, graphs: bool
) -> list[float]:
    """Return the seconds of actions: of each the fastest of several turns after a first one.

    The first turn starts libraries up. With graphs a turn is several actions, captured.
    """
    turns = [repeated(action) if graphs else action for action in actions]
    seconds = [math.inf for _ in actions]
    for turn in range(TURNS + 1):
        for place, run in enumerate(turns):
            started = time.perf_counter()
            run()
            wait_for(device)
            if turn:
                seconds[place] = min(time.perf_counter() - started, seconds[place])
        if turn > 1 and max(seconds) > 3 * min(seconds):
            # As where bfloat16 is emulated: more turns would take seconds and tell no more.
            break
    return seconds


def wait_for(device: torch.device) -> None:
    """Wait until a device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def repeated(action: Callable[[], object]) -> Callable[[], object]:
    """Return what runs an action several times on a GPU, as a graph."""
    stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        # Libraries choose their kernels before a capture.
        action()
    torch.cuda.current_stream().wait_stream(stream)
    with torch.cuda.graph(graph):
        for _ in range(REPEATS):
            action()
    return graph.replay


class Convolution(NamedTuple):
    """A convolution of a network, the shape of its input for a batch, and its cost for an image."""

    module: nn.Conv2d
    shape: tuple[int, ...]
    cost: int


def convolutions(network: Network, images: Tensor) -> list[Convolution]:
    """Return a network's convolutions on a batch of images, in the order in which they run."""
    found: list[Convolution] = []

    def note(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        convolution = cast(nn.Conv2d, module)
        cost = output[0].numel() * convolution.weight[0].numel()
        shape = (len(images), *inputs[0].shape[1:])
        found.append(Convolution(convolution, shape, cost))

    modules = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    hooks = [module.register_forward_hook(note) for module in modules]
    probe(network, images.shape[2], images.shape[1])
    for hook in hooks:
        hook.remove()
    return found


def steps_beyond(network: Network, images: Tensor) -> bool:
    """Return whether a convolution's stride is larger than the map that it is given."""
    return any(
        side < stride
        for each in convolutions(network, images)
        for side, stride in zip(each.shape[2:], each.module.stride, strict=True)
    )
