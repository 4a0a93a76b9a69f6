"""Networks as programs that run without this project, of torch.export or ONNX, and their check.

A program takes images as they are stored, normalises them itself, and returns logits alone.
Letters: N images, H x W pixels, C channels, K classes.
"""

import importlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from distillation.data.dataset import normalise
from distillation.networks import Network
from distillation.record.files import EXPORTED

DESCRIPTION = EXPORTED[1]
# What writes and runs ONNX: the group `onnx` of pyproject.toml.
ONNX = ("onnx", "onnxscript", "onnxruntime")

# Batches of images that a program must agree on: one, the size of the example that is traced, and
# neither of them.
BATCHES = (1, 2, 7)
# Of the largest logit. Another order of the sums in float32 makes 4e-7 at most (WRN-40-2).
TOLERANCE = 1e-5

Run = Callable[[Tensor], Tensor]


class Pixels(nn.Module):
    """A network that normalises its images itself and returns the logits alone."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: Network, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))

    def forward(self, images: Tensor) -> Tensor:
        """Map grey levels (N, H, W, C), 0 to 255, to logits (N, K)."""
        # Unlike data.normalise it names no type and no device, to which the program would be tied.
        return self.network(((images - self.mean) / self.std).permute(0, 3, 1, 2)).logits


def export(model: Network, description: dict[str, Any]) -> torch.export.ExportedProgram:
    """Trace a network, in evaluation mode, for batches of any size of uint8 images."""
    device = next(model.parameters()).device
    shape = (2, *side_of(description))
    program = torch.export.export(
        Pixels(model, description["mean"], description["std"]).to(device),
        (torch.zeros(shape, dtype=torch.uint8, device=device),),
        dynamic_shapes={"images": {0: torch.export.Dim("N", min=1)}},
    )
    for node in program.graph.nodes:
        # The lines of code that it came from, with the folder in which they lie.
        node.meta.pop("stack_trace", None)
    return program


def read_program(path: Path) -> Run:
    """Return a program of torch.export, as a function from images to logits."""
    return torch.export.load(path).module()


def check_onnx() -> None:
    """Raise ValueError if a package is missing that writes or runs ONNX."""
    for name in ONNX:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ValueError(
                f"--onnx: the package {name} can't be imported; needed: {', '.join(ONNX)}, which "
                f"`make onnx` installs"
            ) from error


def onnx_bytes(program: torch.export.ExportedProgram, description: dict[str, Any]) -> bytes:
    """Return a program as an ONNX file holds it, with all weights and the description inside."""
    made = torch.onnx.export(
        program, verbose=False, input_names=["images"], output_names=["logits"]
    )
    if made is None:
        raise ValueError("--onnx: torch made no program; expected one of torch.onnx's exporter")
    made.model.metadata_props[DESCRIPTION] = json.dumps(description)
    return made.model_proto.SerializeToString()


def read_onnx(path: Path) -> Run:
    """Return an ONNX program, run by onnxruntime on the CPU, as a function of uint8 images."""
    onnxruntime = importlib.import_module("onnxruntime")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


def side_of(description: dict[str, Any]) -> tuple[int, int, int]:
    """Return the shape (H, W, C) of the images."""
    side = description["image_size"]
    return side, side, description["channels"]


def largest_difference(
    read: Callable[[], Run],
    model: Network,
    description: dict[str, Any],
    types: Sequence[torch.dtype] = (torch.uint8, torch.float32),
) -> float:
    """Return how far the logits of what was written are from the network's, at most.

    It is a fraction of the network's largest logit, over batches of random images; NaN where a
    logit is.

    Args:
        read: reads what was written, as a function from images to logits.
        model: the network, on the device on which both run.
        description: normalisation, channels and size of the images.
        types: that images are given in.

    Raises:
        ValueError: what was written can't be read or run.
    """
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(0)
    batches = [
        torch.randint(256, (count, *side_of(description)), dtype=torch.uint8, generator=generator)
        for count in BATCHES
    ]
    batches = [each.to(device) for each in batches]
    mean, std = description["mean"], description["std"]
    with torch.inference_mode():
        expected = [model(normalise(each, mean, std)).logits for each in batches]
        try:
            run = read()
            found = [[run(each.to(kind)) for kind in types] for each in batches]
        # Damage shows in many ways, each an error of its own.
        except Exception as error:
            first_line = str(error).strip().partition("\n")[0]
            raise ValueError(f"the exported program can't be read or run: {first_line}") from error
    differences = [
        (logits - right).abs().max() / right.abs().max()
        for several, right in zip(found, expected, strict=True)
        for logits in several
    ]
    return torch.stack(differences).max().item()
