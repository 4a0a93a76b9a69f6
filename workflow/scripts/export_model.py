r"""Export a network as a program that runs without this project, and check that the two agree.

Input: a checkpoint of a teacher or a student. Output: a program (.pt2, of torch.export) that takes
images as they are stored, N x H x W x C for any N, grey levels from 0 to 255 as uint8 or float32,
normalises them itself, and returns logits (N x K). Beside its weights it carries network.json:
class names, architecture, mean and standard deviation, size of the images, provenance of training
and export. The program that was written is read again and must give the checkpoint's logits on
random images, in batches of 1, 2 and 7; otherwise nothing is left.

Example:
    python workflow/scripts/export_model.py \
        --checkpoint results/digits/at_kd/seed_0/checkpoint.pt \
        --image-size 32 --program at_kd.pt2 --device cpu
"""

import argparse
import io
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from distillation.arguments import Parser, number, run
from distillation.checkpoint import read_checkpoint
from distillation.data import normalise
from distillation.device import describe_device, prepare_device
from distillation.files import replacing
from distillation.models import WideResNet
from distillation.provenance import describe_step

# Packages whose version can change the program.
PACKAGES = ("torch",)

# The file within the program that describes it.
DESCRIPTION = "network.json"

# Batches of images that the program must agree on: one, the size of the example that is traced, and
# neither of them.
BATCHES = (1, 2, 7)

# Of the largest logit. Another order of the sums in float32 makes 4e-7 at most (WRN-40-2).
TOLERANCE = 1e-5


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(__doc__)
    flag = parser.add_argument
    flag("--checkpoint", type=Path, required=True, help="the network, .pt")
    size = number(int, 1)
    flag("--image-size", type=size, required=True, help="side of the square images, in pixels")
    flag("--program", type=program_path, required=True, help="output, .pt2")
    flag("--device", choices=("cpu", "cuda"), required=True, help="where the program will run")
    flag("--threads", type=number(int, 1), default=1, help="of torch on a CPU")
    return parser.parse_args(argv)


def program_path(text: str) -> Path:
    """Return the path of a program; torch.export reads no other suffix than .pt2."""
    if not text.endswith(".pt2"):
        raise argparse.ArgumentTypeError(f"found {text!r}; allowed: a name that ends in .pt2")
    return Path(text)


class Pixels(nn.Module):
    """A network that normalises its images itself and returns the logits alone."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: WideResNet, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))

    def forward(self, images: Tensor) -> Tensor:
        """Map grey levels (N, H, W, C), 0 to 255, to logits (N, K)."""
        # Unlike data.normalise it names no type and no device, to which the program would be tied.
        logits, _ = self.network(((images - self.mean) / self.std).permute(0, 3, 1, 2))
        return logits


def export(
    model: WideResNet, content: dict[str, Any], image_size: int
) -> torch.export.ExportedProgram:
    """Trace a network, in evaluation mode, for batches of any size of uint8 images."""
    device = model.classifier.weight.device
    shape = (2, image_size, image_size, model.architecture["channels"])
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
    path: Path, model: WideResNet, content: dict[str, Any], image_size: int
) -> float:
    """Return how far the logits of a written program are from the network's, at most.

    It is a fraction of the network's largest logit, over batches of random images as uint8 and as
    float32; NaN where a logit is.

    Raises:
        ValueError: the program can't be read or run.
    """
    device = model.classifier.weight.device
    generator = torch.Generator().manual_seed(0)
    side = (image_size, image_size, model.architecture["channels"])
    batches = [
        torch.randint(256, (count, *side), dtype=torch.uint8, generator=generator).to(device)
        for count in BATCHES
    ]
    with torch.inference_mode():
        expected = [model(normalise(each, content["mean"], content["std"]))[0] for each in batches]
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


def main(argv: list[str] | None = None) -> None:
    """Export the network, write the program and check it."""
    arguments = parse_args(argv)
    device = prepare_device(arguments.device, arguments.threads)
    model, content = read_checkpoint(arguments.checkpoint)
    model.to(device)
    description = {name: content[name] for name in ("class_names", "architecture", "mean", "std")}
    description |= {
        "image_size": arguments.image_size,
        "provenance": describe_step(arguments, PACKAGES, **describe_device(device)),
        "training_provenance": content["provenance"],
    }
    program = export(model, content, arguments.image_size)
    # By way of memory: torch's own writer doesn't say why it can't write.
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={DESCRIPTION: json.dumps(description, indent=2)})
    with replacing(arguments.program) as temporary:
        temporary.write_bytes(buffer.getbuffer())
        difference = largest_difference(temporary, model, content, arguments.image_size)
        if not difference <= TOLERANCE:
            raise ValueError(
                f"{arguments.program}: not written, as its logits differ from those of "
                f"{arguments.checkpoint} by {difference:.1e} of the largest; allowed: {TOLERANCE:g}"
            )
    print(
        f"{arguments.program}: logits differ from the checkpoint's by {difference:.1e} of the "
        f"largest at most (allowed: {TOLERANCE:g})",
        flush=True,
    )


if __name__ == "__main__":
    run(main)
