r"""Tell what a network costs and gives: parameters, operations, stages.

Output, on standard output: a JSON map of title, trainable parameters, multiply-accumulates of one
image's forward pass, values that convolutions write for one image, and channels, height and width
of each stage. In place of flags, `-` reads them from standard input, a line for each network, and
writes a line for each.

Example:
    python workflow/scripts/describe_network.py --network wrn depth=16 width=2 \
        --image-size 32 --channels 3 --classes 10
"""

import argparse
import json
import shlex
import sys
from contextlib import redirect_stdout
from typing import Any

from pydantic import Field
from torch import Tensor, nn

from distillation.networks import (
    Network,
    build_network,
    count_multiply_accumulates,
    count_parameters,
    probe,
    stage_shapes,
)
from distillation.settings.arguments import Parser, add_flags, add_plugin, run
from distillation.settings.base import NetworkSettings, Settings


class Images(Settings):
    """What a network is for."""

    image_size: int = Field(32, ge=1, description="side of the square images in pixels")
    channels: int = Field(3, ge=1, description="of the images")
    classes: int = Field(10, ge=2, description="that the network tells apart")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(__doc__)
    add_plugin(parser, "--network", "networks", required=True)
    add_flags(parser, Images)
    return parser.parse_args(argv)


def count_written(model: Network, image_size: int, channels: int) -> int:
    """Count the values that convolutions write for one image."""
    counts = []

    def count(module: nn.Module, inputs: object, output: Tensor) -> None:  # noqa: ARG001
        counts.append(output[0].numel())

    layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    probe(model, image_size, channels)
    for hook in hooks:
        hook.remove()
    return sum(counts)


def describe(
    family: str, settings: NetworkSettings, image_size: int, channels: int, classes: int
) -> dict[str, Any]:
    """Return what a network costs and gives."""
    model = build_network(family, settings, classes, channels)
    return {
        "title": settings.title,
        "parameters": count_parameters(model),
        "multiply_accumulates": count_multiply_accumulates(model, image_size, channels),
        "written": count_written(model, image_size, channels),
        "stages": [list(shape) for shape in stage_shapes(model, image_size, channels)],
    }


def main(argv: list[str] | None = None) -> None:
    """Describe the network, or several, and print it."""
    several = (sys.argv[1:] if argv is None else argv) == ["-"]
    for flags in map(shlex.split, sys.stdin) if several else [argv]:
        arguments = parse_args(flags)
        [(family, settings)] = arguments.network.items()
        size = (arguments.image_size, arguments.channels, arguments.classes)
        # What a network prints is no answer.
        with redirect_stdout(sys.stderr):
            found = describe(family, settings, *size)
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    run(main)
