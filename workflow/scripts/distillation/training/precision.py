"""How the steps of a training are run: in which precision, compiled or not, as a graph or not.

What is measured and drawn later is computed in float32 and eagerly, whatever is picked here.
"""

import math
import os
import shlex
import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from distillation.networks import Network, Outputs, probe
from distillation.settings.training import Engine

# bfloat16 is picked where the network's dearest convolution is this much faster in it: below, what
# surrounds it eats the gain. Processors have it (1.8 to 3 times as fast) or emulate it (at most 0.6
# times).
WORTHWHILE_RATIO = 1.3
# On a CPU compiling takes about 40 s and gains 3 to 7 %: it is repaid within half an hour. On a
# GPU, block by block, it took 27 s, and WRN-16-2 trained with 70,000 images per second in place of
# 54,000: repaid within two minutes. That was measured once, on an H100 with torch 2.11, with a
# sketch of this step; benchmarks/gpu_check.py measures both ways on a card.
WORTHWHILE_SECONDS = {"cpu": 3600, "cuda": 180}
# Sustained in training, in float32 on one thread of a CPU, or by graphs in bfloat16 on that H100:
# the slow side on a CPU, since longer runs only gain more.
OPERATIONS_PER_SECOND = {"cpu": 1e11, "cuda": 3e13}
# Convolutions of a turn on a GPU, where one takes less time than starting it.
CONVOLUTIONS = 20


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


def pick(engine: Engine, network: Network, images: Tensor, operations: float) -> tuple[Picked, str]:
    """Return what a training runs with, and why, in words.

    Args:
        engine: what was asked for; auto takes bfloat16 where it pays, compiles long runs (on a CPU:
            where there is a C++ compiler), and captures graphs on a GPU.
        network: the student, on its device.
        images: a batch, (B, C, H, W), on the device.
        operations: of the whole training with the teacher's passes, floating-point.

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


@torch.no_grad()
def bfloat16_ratio(network: Network, images: Tensor) -> float:
    """Return how many times as fast as in float32 a network's dearest convolution is in bfloat16.

    Of each precision the fastest of several turns after a first one counts, since anything else on
    the machine only slows a turn down. 1 for a network without convolutions.
    """
    module, shape = dearest_convolution(network, images)
    if module is None:
        return 1
    device = images.device
    inputs = torch.ones(shape, device=device).to(memory_format=torch.channels_last)
    turns = {
        dtype: repeated(partial(deepcopy(module).to(dtype), inputs.to(dtype)), device)
        for dtype in (torch.float32, torch.bfloat16)
    }
    fastest = dict.fromkeys(turns, math.inf)
    # The first turn starts libraries up.
    for turn in range(6):
        for dtype, run in turns.items():
            started = time.perf_counter()
            run()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if turn:
                fastest[dtype] = min(time.perf_counter() - started, fastest[dtype])
        if fastest[torch.bfloat16] > 3 * fastest[torch.float32]:
            # Emulated: more turns would take seconds.
            break
    return fastest[torch.float32] / fastest[torch.bfloat16]


def repeated(action: Callable[[], object], device: torch.device) -> Callable[[], object]:
    """Return what runs an action once on a CPU, and several times, as a graph, on a GPU."""
    if device.type == "cpu":
        return action
    # Libraries choose their kernels before a capture.
    action()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(CONVOLUTIONS):
            action()
    return graph.replay


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
    probe(network, images.shape[2], images.shape[1])
    for hook in hooks:
        hook.remove()
    _, module, shape = max(found, key=lambda each: each[0], default=(0, None, ()))
    return module, shape
