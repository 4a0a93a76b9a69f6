r"""Export a network as a program that runs without this project, as a folder, or as both.

Input: a checkpoint of a teacher or a student. Output, at least one of:

- a program (.pt2, of torch.export) that takes images as they are stored, N x H x W x C for any N,
  grey levels from 0 to 255 as uint8 or float32, normalises them itself, and returns logits (N x K);
- the same as an ONNX file, for uint8; `make onnx` installs what this needs;
- a folder as hubs of models have it: the weights (model.safetensors), what describes them
  (config.json) and a model card (README.md). import_teacher.py makes a teacher of it.

What was written is read again and must give the checkpoint's logits on random images, in batches of
1, 2 and 7, a folder the same bits; otherwise nothing is left. The programs, too, carry config.json:
network and title, channels, class names, mean and standard deviation, size of the images,
provenance of training and export. The card's numbers come from the files that are given beside.

Example:
    python workflow/scripts/export_model.py \
        --checkpoint results/digits/at_kd/seed_0/checkpoint.pt \
        --metrics results/digits/at_kd/seed_0/metrics.json \
        --predictions results/digits/at_kd/seed_0/predictions.npz \
        --data-description results/data/digits.json \
        --comparison results/digits/comparison.csv --method at_kd \
        --image-size 20 --program at_kd.pt2 --folder at_kd --device cpu
"""

import argparse
import io
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from safetensors.torch import save

from distillation.data.dataset import normalise
from distillation.device import describe_device, prepare_device
from distillation.export.card import model_card
from distillation.export.known import (
    Known,
    check_compared,
    read_data,
    read_measures,
    read_sentences,
)
from distillation.export.programs import (
    DESCRIPTION,
    ONNX,
    TOLERANCE,
    check_onnx,
    export,
    largest_difference,
    onnx_bytes,
    read_onnx,
    read_program,
)
from distillation.networks import Network, count_parameters, probe
from distillation.record.checkpoint import read_checkpoint, read_folder
from distillation.record.files import EXPORTED, replacing, replacing_folder
from distillation.record.provenance import describe_step
from distillation.settings import base
from distillation.settings.arguments import Parser, add_flags, run
from distillation.settings.training import Machine

# Packages whose version can change what is written.
PACKAGES = ("safetensors", "torch")

CARD = "README.md"


class Settings(base.Settings):
    """What one chooses of an export."""

    image_size: int = Field(ge=1, description="side of the square images, in pixels")
    license: str | None = Field(
        None, min_length=1, description="of the weights, an SPDX identifier, for the model card"
    )
    data_name: str | None = Field(
        None, min_length=1,
        description="of the data on the card; unless given, that of the folder or format",
    )  # fmt: skip


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(__doc__)
    flag = parser.add_argument
    flag("--checkpoint", type=Path, required=True, help="the network, .pt")
    flag("--metrics", type=Path, help="its metrics.json, for the model card")
    flag("--predictions", type=Path, help="its predictions.npz, for intervals of the metrics")
    flag("--data-description", type=Path, help="what its data is, .json, for the model card")
    flag("--comparison", type=Path, help="comparison.csv of its experiment, for the model card")
    flag("--method", help="the network's method in the comparison")
    flag("--program", type=partial(named, ".pt2"), help="output, .pt2")
    flag("--onnx", type=partial(named, ".onnx"), help="output, .onnx")
    flag("--folder", type=Path, help="output: weights, description and model card")
    add_flags(parser, Settings)
    add_flags(parser, Machine)
    arguments = parser.parse_args(argv)
    if not (arguments.program or arguments.onnx or arguments.folder):
        parser.error("nothing to write; allowed: --program, --onnx, --folder, or several")
    if arguments.predictions and not arguments.metrics:
        parser.error("found --predictions without --metrics; allowed: both")
    if bool(arguments.comparison) != bool(arguments.method):
        parser.error("found one of --comparison and --method; allowed: both")
    return arguments


def named(suffix: str, text: str) -> Path:
    """Return the path of a program, whose format is known by its suffix."""
    if not text.endswith(suffix):
        raise argparse.ArgumentTypeError(f"found {text!r}; allowed: a name that ends in {suffix}")
    return Path(text)


def read_known(arguments: argparse.Namespace, training: dict[str, Any]) -> Known:
    """Read what is known of the network beside its checkpoint.

    Raises:
        FileNotFoundError, ValueError: a file isn't there, is damaged, or is of another network.
    """
    known = Known(licence=arguments.license, named=arguments.data_name)
    if arguments.data_description:
        known.data = read_data(arguments.data_description, training, arguments.image_size)
        known.held_out = known.data["held_out"]
    if arguments.metrics:
        content, known.measures = read_measures(arguments.metrics, arguments.predictions, training)
        known.images, known.held_out = content["images"], content["held_out"]
    if arguments.comparison:
        known.sentences = read_sentences(arguments.comparison, arguments.method)
        known.compared = check_compared(arguments.comparison, arguments.method, training)
    return known


def write_program(path: Path, content: bytes, difference: Callable[[Path], float]) -> None:
    """Write and check a program.

    Raises:
        ValueError: its logits are too far from the network's, and nothing was written.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(content)
        found = difference(temporary)
        if not found <= TOLERANCE:
            raise ValueError(
                f"{path}: not written, as its logits differ from those of the checkpoint by "
                f"{found:.1e} of the largest; allowed: {TOLERANCE:g}"
            )
    print(
        f"{path}: logits differ from the checkpoint's by {found:.1e} of the largest at most "
        f"(allowed: {TOLERANCE:g})",
        flush=True,
    )


def write_torch(path: Path, model: Network, description: dict[str, Any]) -> None:
    """Write and check a program of torch.export."""
    # By way of memory: torch's own writer doesn't say why it can't write.
    buffer = io.BytesIO()
    files = {DESCRIPTION: json.dumps(description, indent=2)}
    torch.export.save(export(model, description), buffer, extra_files=files)
    write_program(
        path, buffer.getvalue(),
        lambda file: largest_difference(lambda: read_program(file), model, description),
    )  # fmt: skip


def write_onnx(path: Path, model: Network, description: dict[str, Any]) -> None:
    """Write and check an ONNX file; the model is on the CPU, where onnxruntime runs."""
    write_program(
        path, onnx_bytes(export(model, description), description),
        lambda file: largest_difference(
            lambda: read_onnx(file), model, description, [torch.uint8]
        ),
    )  # fmt: skip


def write_folder(path: Path, model: Network, description: dict[str, Any], card: str) -> None:
    """Write weights, description and model card, and read them again; the model is on the CPU.

    Raises:
        ValueError: `path` is a folder with other files, which it would replace, or what was read
            isn't what the checkpoint holds.
    """
    if path.is_dir():
        others = sorted({file.name for file in path.iterdir()} - {*EXPORTED, CARD})
        if others:
            raise ValueError(
                f"{path}: holds {others[0]}; allowed: a new folder, or one of an earlier export"
            )
    weights, config = EXPORTED
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    with replacing_folder(path) as temporary:
        # Written by Python, a disk that is full is told as such.
        (temporary / weights).write_bytes(save(state, {"format": "pt"}))
        (temporary / config).write_text(f"{json.dumps(description, indent=2)}\n")
        (temporary / CARD).write_text(card)
        found, content = read_folder(temporary)
        statistics = content["mean"], content["std"]
        difference = largest_difference(
            lambda: lambda images: found(normalise(images, *statistics)).logits,
            model, description, [torch.uint8],
        )  # fmt: skip
        weights_differ = any(
            not torch.equal(state[name], each) for name, each in found.state_dict().items()
        )
        if weights_differ or difference != 0:
            raise ValueError(
                f"{path}: not written, as its weights or logits aren't those of the checkpoint"
            )
    print(
        f"{path}: {description['title']}, {count_parameters(model):,} parameters; weights and "
        f"logits are the checkpoint's, bit for bit",
        flush=True,
    )


def main(argv: list[str] | None = None) -> None:
    """Read the network, and write and check what is asked for."""
    arguments = parse_args(argv)
    if arguments.onnx:
        check_onnx()
    device = prepare_device(arguments.device, arguments.threads)
    model, content = read_checkpoint(arguments.checkpoint)
    # Whether images of this size can pass at all.
    probe(model, arguments.image_size, content["channels"])
    known = read_known(arguments, content["provenance"])
    described = ("network", "title", "channels", "class_names", "mean", "std")
    family = next(iter(content["network"]))
    chosen = {name: getattr(arguments, name) for name in ("image_size", "device", "threads")}
    description = {name: content[name] for name in described} | {
        "image_size": arguments.image_size,
        "provenance": content["provenance"],
        "export_provenance": describe_step(
            argparse.Namespace(**chosen),
            (*PACKAGES, *(ONNX if arguments.onnx else ())),
            [("networks", family)],
            **describe_device(device),
        ),
    }
    if arguments.folder:
        card = model_card(description, EXPORTED, count_parameters(model), known)
        write_folder(arguments.folder, model, description, card)
    if arguments.onnx:
        write_onnx(arguments.onnx, model, description)
    if arguments.program:
        write_torch(arguments.program, model.to(device), description)


if __name__ == "__main__":
    run(main)
