r"""Export a network as a program that runs without this project, as a folder, or both.

Input: a checkpoint of a teacher or a student. Output, at least one of:

- a program (.pt2, of torch.export) that takes images as they are stored, N x H x W x C for any N,
  grey levels from 0 to 255 as uint8 or float32, normalises them itself, and returns logits (N x K).
  What was written is read again and must give the checkpoint's logits on random images, in batches
  of 1, 2 and 7; otherwise nothing is left;
- a folder: the weights (model.safetensors), what describes them (network.json) and a model card
  (README.md). import_teacher.py makes a teacher of it.

The program, too, carries network.json: network and title, channels, class names, mean and standard
deviation, size of the images, provenance of training and export.

Example:
    python workflow/scripts/export_model.py \
        --checkpoint results/digits/at_kd/seed_0/checkpoint.pt \
        --image-size 32 --program at_kd.pt2 --folder at_kd --device cpu
"""

import argparse
import csv
import io
import json
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from safetensors.torch import save_file
from torch import Tensor, nn

from distillation.data.dataset import normalise
from distillation.device import describe_device, prepare_device
from distillation.networks import Network
from distillation.record.checkpoint import read_checkpoint, read_folder
from distillation.record.files import EXPORTED, replacing, replacing_folder
from distillation.record.provenance import describe_step
from distillation.settings import base
from distillation.settings.arguments import Parser, add_flags, run
from distillation.settings.training import Machine

# Packages whose version can change the program.
PACKAGES = ("torch",)

WEIGHTS, DESCRIPTION = EXPORTED
CARD = "README.md"

# Batches of images that the program must agree on: one, the size of the example that is traced, and
# neither of them.
BATCHES = (1, 2, 7)

# Of the largest logit. Another order of the sums in float32 makes 4e-7 at most (WRN-40-2).
TOLERANCE = 1e-5


class Settings(base.Settings):
    """What one chooses of an export."""

    image_size: int = Field(ge=1, description="side of the square images, in pixels")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(__doc__)
    flag = parser.add_argument
    flag("--checkpoint", type=Path, required=True, help="the network, .pt")
    flag("--history", type=Path, help="the table of its training, .csv, for the model card")
    flag("--program", type=program_path, help="output, .pt2")
    flag("--folder", type=Path, help="output: weights, description and model card")
    add_flags(parser, Settings)
    add_flags(parser, Machine)
    arguments = parser.parse_args(argv)
    if not (arguments.program or arguments.folder):
        parser.error("nothing to write; allowed: --program, --folder, or both")
    return arguments


def program_path(text: str) -> Path:
    """Return the path of a program; torch.export reads no other suffix than .pt2."""
    if not text.endswith(".pt2"):
        raise argparse.ArgumentTypeError(f"found {text!r}; allowed: a name that ends in .pt2")
    return Path(text)


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


def export(
    model: Network, content: dict[str, Any], image_size: int
) -> torch.export.ExportedProgram:
    """Trace a network, in evaluation mode, for batches of any size of uint8 images."""
    device = next(model.parameters()).device
    shape = (2, image_size, image_size, content["channels"])
    program = torch.export.export(
        Pixels(model, content["mean"], content["std"]).to(device),
        (torch.zeros(shape, dtype=torch.uint8, device=device),),
        dynamic_shapes={"images": {0: torch.export.Dim("N", min=1)}},
    )
    for node in program.graph.nodes:
        # The lines of code that it came from, with the folder in which they lie.
        node.meta.pop("stack_trace", None)
    return program


def largest_difference(
    path: Path, model: Network, content: dict[str, Any], image_size: int
) -> float:
    """Return how far the logits of a written program are from the network's, at most.

    It is a fraction of the network's largest logit, over batches of random images as uint8 and as
    float32; NaN where a logit is.

    Raises:
        ValueError: the program can't be read or run.
    """
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(0)
    side = (image_size, image_size, content["channels"])
    batches = [
        torch.randint(256, (count, *side), dtype=torch.uint8, generator=generator).to(device)
        for count in BATCHES
    ]
    with torch.inference_mode():
        expected = [
            model(normalise(each, content["mean"], content["std"])).logits for each in batches
        ]
        try:
            program = torch.export.load(path).module()
            found = [(program(each), program(each.float())) for each in batches]
        # Damage shows in many ways, each an error of its own.
        except Exception as error:
            first_line = str(error).strip().partition("\n")[0]
            raise ValueError(f"the exported program can't be read or run: {first_line}") from error
    differences = [
        (logits - right).abs().max() / right.abs().max()
        for both, right in zip(found, expected, strict=True)
        for logits in both
    ]
    return torch.stack(differences).max().item()


def write_program(
    path: Path, model: Network, content: dict[str, Any], description: dict[str, Any]
) -> float:
    """Write and check a program; return how far its logits are from the network's, at most.

    Raises:
        ValueError: they are too far, and nothing was written.
    """
    size = description["image_size"]
    # By way of memory: torch's own writer doesn't say why it can't write.
    buffer = io.BytesIO()
    torch.export.save(
        export(model, content, size), buffer,
        extra_files={DESCRIPTION: json.dumps(description, indent=2)},
    )  # fmt: skip
    with replacing(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())
        difference = largest_difference(temporary, model, content, size)
        if not difference <= TOLERANCE:
            raise ValueError(
                f"{path}: not written, as its logits differ from those of the checkpoint by "
                f"{difference:.1e} of the largest; allowed: {TOLERANCE:g}"
            )
    return difference


def write_folder(path: Path, model: Network, description: dict[str, Any], card: str) -> None:
    """Write weights, description and model card, and read them again.

    Raises:
        ValueError: `path` is a folder with other files, which it would replace.
    """
    if path.is_dir():
        others = sorted({file.name for file in path.iterdir()} - {*EXPORTED, CARD})
        if others:
            raise ValueError(
                f"{path}: holds {others[0]}; allowed: a new folder, or one of an earlier export"
            )
    state = {name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}
    with replacing_folder(path) as temporary:
        save_file(state, temporary / WEIGHTS, {"format": "pt"})
        (temporary / DESCRIPTION).write_text(f"{json.dumps(description, indent=2)}\n")
        (temporary / CARD).write_text(card)
        found, _ = read_folder(temporary)
        if not all(torch.equal(state[name], each) for name, each in found.state_dict().items()):
            raise ValueError(f"{path}: not written, as its weights aren't those of the checkpoint")


def model_card(description: dict[str, Any], parameters: int, last: dict[str, str]) -> str:
    """Return a short model card in Markdown; `last`: the history's last row, where there is one."""
    training = description["provenance"]
    made = training.get("arguments")
    made = made if isinstance(made, dict) else {}
    names = description["class_names"]
    rows = {
        "Images": f"{description['image_size']} x {description['image_size']} pixels, "
        f"{description['channels']} channel(s)",
        "Classes": f"{len(names)}: {', '.join(names[:10])}{', ...' * (len(names) > 10)}",
        "Mean, standard deviation": f"{description['mean']}, {description['std']} "
        f"(grey levels from 0 to 255)",
        "Parameters": f"{parameters:,}",
        "Trained on data of sha256": training.get("data_sha256", "unknown"),
        "Epochs": made.get("epochs", "unknown"),
        "Terms of the objective": ", ".join(made.get("term", {})) or "unknown",
    }
    if "test_accuracy" in last:
        rows["Test accuracy after the last epoch"] = f"{100 * float(last['test_accuracy']):.2f} %"
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return f"""\
# {description["title"]}

| | |
|---|---|
{table}

`{WEIGHTS}` holds the weights, `{DESCRIPTION}` all else, with the provenance of the training. In a
clone of attention-transfer-pipeline:

```python
import sys; sys.path.append("workflow/scripts")
from pathlib import Path
from distillation.record.checkpoint import read_folder
model, content = read_folder(Path("this folder"))
logits = model((images - mean) / std).logits  # images: N x C x H x W, grey levels from 0 to 255
```
"""


def last_row(path: Path) -> dict[str, str]:
    """Return the last epoch's row of a history; an empty one where it has none.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it isn't such a table.
    """
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        for row in rows[-1:]:
            float(row["test_accuracy"])
    except (ValueError, TypeError, KeyError, csv.Error) as error:
        raise ValueError(f"{path}: not the table of a training: {error}") from error
    return rows[-1] if rows else {}


def main(argv: list[str] | None = None) -> None:
    """Read the network, and write and check what is asked for."""
    arguments = parse_args(argv)
    device = prepare_device(arguments.device, arguments.threads)
    model, content = read_checkpoint(arguments.checkpoint)
    model.to(device)
    described = ("network", "title", "channels", "class_names", "mean", "std")
    family = next(iter(content["network"]))
    chosen = {name: getattr(arguments, name) for name in ("image_size", "device", "threads")}
    description = {name: content[name] for name in described} | {
        "image_size": arguments.image_size,
        "provenance": content["provenance"],
        "export_provenance": describe_step(
            argparse.Namespace(**chosen),
            PACKAGES,
            [("networks", family)],
            **describe_device(device),
        ),
    }
    last = last_row(arguments.history) if arguments.history else {}
    if arguments.folder:
        parameters = sum(parameter.numel() for parameter in model.parameters())
        card = model_card(description, parameters, last)
        write_folder(arguments.folder, model, description, card)
        print(f"{arguments.folder}: {content['title']}, {parameters:,} parameters", flush=True)
    if arguments.program:
        difference = write_program(arguments.program, model, content, description)
        print(
            f"{arguments.program}: logits differ from the checkpoint's by {difference:.1e} of the "
            f"largest at most (allowed: {TOLERANCE:g})",
            flush=True,
        )


if __name__ == "__main__":
    run(main)
