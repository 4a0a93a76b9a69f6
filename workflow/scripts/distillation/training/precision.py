"""How the steps of a training are run: in which precision, compiled or not, as a graph or not.

What is measured and drawn later is computed in float32 and eagerly, whatever is picked here.
"""

import os
import shlex
import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from distillation.networks import Network, Outputs
from distillation.settings.training import Engine

# bfloat16 is picked where the network's dearest convolution is this much faster in it: below, what
# surrounds it eats the gain. Processors have it (1.8 to 3 times as fast) or emulate it (at most 0.6
# times).
WORTHWHILE_RATIO = 1.3
# On a CPU compiling takes about 40 s and gains 3 to 7 %: it is repaid within half an hour.
# On a GPU, block by block, about 30 s, and gains 1.3 times (docs/benchmarks).
WORTHWHILE_SECONDS = {"cpu": 3600, "cuda": 180}
# Sustained in training, in float32 on one thread of a CPU, or by graphs in bfloat16 on an H100: the
# slow side on a CPU, since longer runs only gain more.
OPERATIONS_PER_SECOND = {"cpu": 1e11, "cuda": 3e13}


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

    def prepared(self, network: Network | None) -> Callable[[Tensor], Outputs]:
        """Return a network as steps call it: itself, or compiled as a whole or block by block."""
        if network is None or not self.compiled:
            return cast(Callable[[Tensor], Outputs], network)
        blocks = [*network.blocks()]
        if next(network.parameters()).device.type == "cpu" or not blocks:
            # Not dynamic: an epoch has two sizes of batch, and each gets code of its own.
            return torch.compile(network, dynamic=False)
        # Blocks of one shape share their code, within a network and between depths; each shape and
        # size of batch counts as one more.
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
        return ", ".join(
            [self.precision, *["compiled"] * self.compiled, *["CUDA graph"] * self.graph]
        )


def pick(engine: Engine, network: Network, images: Tensor, operations: float) -> tuple[Picked, str]:
    """Return what a training runs with, and why, in words.

    Args:
        engine: what was asked for; auto takes bfloat16 where it pays, compiles long runs (on a CPU:
            where there is a C++ compiler), and captures graphs on a GPU.
        network: the student, on its device.
        images: a batch, (B, C, H, W), on the device.
        operations: of the whole training, floating-point.

    Raises:
        ValueError: compiling is asked for on a CPU, and there is no C++ compiler, or a graph
            where there is no GPU.
    """
    device, reasons = images.device, []
    precision = engine.precision
    if precision == "auto":
        ratio = bfloat16_ratio(network, images)
        precision = "bfloat16" if ratio >= WORTHWHILE_RATIO else "float32"
        reasons.append(f"its dearest convolution is {ratio:.1f} times as fast in bfloat16")
    compiler = device.type == "cuda" or shutil.which(shlex.split(os.environ.get("CXX", "g++"))[0])
    if engine.compile == "on" and not compiler:
        raise ValueError("compile is on, but there is no C++ compiler (g++, or CXX); allowed: off")
    if engine.graph == "on" and device.type == "cpu":
        raise ValueError("graph is on, but device is cpu; allowed: auto, off")
    compiled = engine.compile == "on"
    if engine.compile == "auto":
        seconds = operations / OPERATIONS_PER_SECOND[device.type]
        compiled = seconds >= WORTHWHILE_SECONDS[device.type] and bool(compiler)
        reasons.append(f"{'long' if compiled else 'short'} run" if compiler else "no compiler")
    graph = engine.graph != "off" and device.type == "cuda"
    picked = Picked(precision, compiled, graph)
    return picked, picked.words + (f" ({'; '.join(reasons)})" if reasons else "")


def bfloat16_ratio(network: Network, images: Tensor) -> float:
    """Return how many times as fast as in float32 a network's dearest convolution is in bfloat16.

    Of each precision the fastest of several turns after a first one counts, since anything else on
    the machine only slows a turn down. 1 for a network without convolutions.
    """
    module, shape = dearest_convolution(network, images)
    if module is None:
        return 1
    fastest: dict[torch.dtype, float] = {}
    operands = {
        dtype: [
            torch.ones(size, dtype=dtype, device=images.device).to(
                memory_format=torch.channels_last
            )
            for size in (shape, module.weight.shape)
        ]
        for dtype in (torch.float32, torch.bfloat16)
    }
    padding = cast(tuple[int, int], module.padding)
    with torch.no_grad():
        for turn in range(6):
            for dtype, (inputs, weight) in operands.items():
                started = time.perf_counter()
                for _ in range(1 if images.device.type == "cpu" else 20):
                    functional.conv2d(
                        inputs, weight, None, module.stride, padding, module.dilation, module.groups
                    )
                if images.device.type == "cuda":
                    torch.cuda.synchronize(images.device)
                seconds = time.perf_counter() - started
                # The first turn starts libraries up.
                if turn:
                    fastest[dtype] = min(seconds, fastest.get(dtype, seconds))
            if turn and fastest[torch.bfloat16] > 3 * fastest[torch.float32]:
                # Emulated: more turns would take seconds.
                break
    return fastest[torch.float32] / fastest[torch.bfloat16]


def dearest_convolution(
    network: Network, images: Tensor
) -> tuple[nn.Conv2d | None, tuple[int, ...]]:
    """Return a network's convolution with most operations for a batch, and its input's shape."""
    found: list[tuple[int, nn.Conv2d, tuple[int, ...]]] = []

    def note(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        convolution = cast(nn.Conv2d, module)
        cost = output[0].numel() * convolution.weight[0].numel()
        found.append((cost, convolution, (len(images), *inputs[0].shape[1:])))

    modules = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    hooks = [module.register_forward_hook(note) for module in modules]
    training = network.training
    network.eval()
    with torch.no_grad():
        network(images[:1])
    network.train(training)
    for hook in hooks:
        hook.remove()
    if not found:
        return None, ()
    _, module, shape = max(found, key=lambda each: each[0])
    return module, shape
