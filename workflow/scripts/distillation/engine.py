"""How the steps of a training are run: in which precision, compiled or not.

What is measured and drawn later is computed in float32 and eagerly, whatever is picked here.
"""

import os
import shlex
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from distillation.models import WideResNet

Precision = Literal["auto", "float32", "bfloat16"]
Compile = Literal["auto", "on", "off"]
# Logits (N, K) and the features of each group (N, C, H, W).
Outputs = tuple[Tensor, list[Tensor]]

# bfloat16 is picked where matrix products are this much faster in it: below, what surrounds them
# eats the gain. Processors have it (1.8 to 3 times as fast) or emulate it (at most 0.6 times).
WORTHWHILE_RATIO = 1.3
# Compiling takes about 40 s and gains 3 to 7 % on a CPU: it is repaid within half an hour.
WORTHWHILE_SECONDS = 3600
# Sustained in training on one thread of a CPU, in float32: the slow side, since longer runs only
# gain more.
OPERATIONS_PER_SECOND = 1e11


@dataclass(frozen=True)
class Engine:
    """What was picked; it is part of a result's provenance."""

    precision: Literal["float32", "bfloat16"] = "float32"
    compiled: bool = False


PLAIN = Engine()


def pick_engine(
    precision: Precision, compile_: Compile, device: torch.device, operations: float
) -> tuple[Engine, str]:
    """Return what a training runs with, and why, in words.

    Args:
        precision: float32 and bfloat16 are taken as they are; auto takes bfloat16 where it pays.
        compile_: on and off are taken as they are; auto compiles long runs on a CPU, where there
            is a C++ compiler. (On CUDA it is left to the user: it wasn't measured there.)
        device: where the training runs.
        operations: of the whole training, floating-point.

    Raises:
        ValueError: compiling is asked for on a CPU, and there is no C++ compiler.
    """
    reasons = []
    picked = precision
    if picked == "auto":
        ratio = bfloat16_ratio(device)
        picked = "bfloat16" if ratio >= WORTHWHILE_RATIO else "float32"
        reasons.append(f"matrix products are {ratio:.1f} times as fast in bfloat16")
    seconds = operations / OPERATIONS_PER_SECOND
    compiler = shutil.which(shlex.split(os.environ.get("CXX", "g++"))[0])
    if compile_ == "on" and device.type == "cpu" and not compiler:
        raise ValueError("compile is on, but there is no C++ compiler (g++, or CXX); allowed: off")
    compiled = compile_ == "on"
    if compile_ == "auto":
        long = seconds >= WORTHWHILE_SECONDS
        compiled = device.type == "cpu" and long and compiler is not None
        reasons.append(f"{'long' if long else 'short'} run")
    chosen = f"{picked}, {'compiled' if compiled else 'not compiled'}"
    why = f" ({'; '.join(reasons)})" if reasons else ""
    return Engine(picked, compiled), chosen + why


def bfloat16_ratio(device: torch.device) -> float:
    """Return how many times as fast as in float32 a matrix product is in bfloat16.

    Matrices are 1024 x 1024; of each precision the fastest of several turns counts, since anything
    else on the machine only slows a turn down.
    """
    fastest = {}
    pairs = {
        dtype: torch.ones(1024, 1024, dtype=dtype, device=device)
        for dtype in (torch.float32, torch.bfloat16)
    }
    for _ in range(6):
        for dtype, matrix in pairs.items():
            started = time.perf_counter()
            product = matrix @ matrix
            # Reading an element waits for a GPU.
            product[0, 0].item()
            seconds = time.perf_counter() - started
            fastest[dtype] = min(seconds, fastest.get(dtype, seconds))
        if fastest[torch.bfloat16] > 3 * fastest[torch.float32]:
            # Emulated: more turns would take seconds.
            break
    return fastest[torch.float32] / fastest[torch.bfloat16]


class Networks:
    """Student and teacher as an engine runs them.

    Args:
        student: the network that learns.
        teacher: a trained network in evaluation mode, a table of its logits (N, V, K) for all views
            of the training images, or None.
        engine: precision, compiled or not.
    """

    def __init__(
        self, student: WideResNet, teacher: WideResNet | Tensor | None, engine: Engine
    ) -> None:
        self.engine = engine
        self.student: Callable[[Tensor], Outputs] = student
        self.table = teacher if isinstance(teacher, Tensor) else None
        self.teacher = None if isinstance(teacher, Tensor) else teacher
        if engine.compiled:
            # Not dynamic: an epoch has two sizes of batch, and each gets code of its own.
            self.student = torch.compile(student, dynamic=False)
            self.teacher = self.teacher and torch.compile(self.teacher, dynamic=False)

    def precision(self, images: Tensor) -> torch.autocast:
        """Return the context in which networks run in the engine's precision."""
        enabled = self.engine.precision == "bfloat16"
        return torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=enabled)

    def ask_student(self, images: Tensor) -> Outputs:
        """Return the student's logits and features."""
        with self.precision(images):
            return self.student(images)

    def ask_teacher(self, images: Tensor, places: Tensor, views: Tensor) -> Outputs | None:
        """Return the teacher's logits and features of a batch; a table has no features.

        Args:
            images: (B, C, H, W), normalised.
            places: (B,) of the images in the training split.
            views: (B,) numbers of the views that `images` are.
        """
        if self.table is not None:
            return self.table[places, views], []
        if self.teacher is None:
            return None
        with torch.inference_mode(), self.precision(images):
            return self.teacher(images)
