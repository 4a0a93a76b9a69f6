r"""Make a checkpoint of a teacher that the user brings, for the images of prepared data.

Input: prepared data, and one of a checkpoint of this project (.pt), an exported folder (of
export_model.py --folder), or a plain state dict (.pt, of torch.save(model.state_dict(), ...)) with
the network that it belongs to. Output: a checkpoint as a training writes it, and a history without
rows. Classes, channels, mean and standard deviation must be those of the data; a plain state dict,
which doesn't tell them, is taken to have them. Nothing in a file is ever run.

Example:
    python workflow/scripts/import_teacher.py --data results/data/cifar10.npz \
        --source wrn_40_2.pt --network wrn depth=40 width=2 --seed 0 \
        --checkpoint checkpoint.pt --history history.csv
"""

import argparse
import csv
from pathlib import Path
from typing import Any

import torch

from distillation.data.dataset import Dataset, read_dataset
from distillation.device import describe_device
from distillation.networks import Network, count_parameters
from distillation.record.checkpoint import (
    check_fits,
    check_normalisation,
    filled,
    is_checkpoint,
    load_plain,
    read_checkpoint,
    read_folder,
    save_checkpoint,
)
from distillation.record.digest import source_digest
from distillation.record.files import replacing
from distillation.record.provenance import PACKAGES, describe_step
from distillation.settings import plugins
from distillation.settings.arguments import Parser, add_flags, add_plugin, run
from distillation.settings.training import Run

COLUMNS = (
    "epoch", "learning_rate", "loss", "cross_entropy", "train_accuracy", "test_accuracy",
    "test_cross_entropy", "seconds", "images_per_second",
)  # fmt: skip


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(__doc__)
    flag = parser.add_argument
    flag("--data", type=Path, required=True, help="prepared data, .npz")
    flag("--source", type=Path, required=True, help="the teacher: a .pt file or an exported folder")
    add_plugin(parser, "--network", "networks")
    flag("--checkpoint", type=Path, required=True, help="output: the network, .pt")
    flag("--history", type=Path, required=True, help="output: a table without rows, .csv")
    add_flags(parser, Run, "seed")
    return parser.parse_args(argv)


def read_source(
    path: Path, network: dict[str, Any] | None, dataset: Dataset
) -> tuple[Network, dict[str, Any], dict[str, Any] | None]:
    """Read what the user brings.

    Args:
        path: a file or a folder.
        network: family and settings; None: what the source says.
        dataset: whose classes and channels the network must have.

    Returns:
        The network, its family and settings, and its provenance if it brings one.

    Raises:
        FileNotFoundError: there is no such file or folder.
        ValueError: it is damaged, or doesn't fit the network or the data.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    state = None if path.is_dir() else load_plain(path)
    if path.is_dir() or is_checkpoint(state):
        model, content = read_folder(path) if path.is_dir() else read_checkpoint(path)
        check_fits(path, content, dataset)
        check_normalisation(path, content, dataset)
        own = plugins.chosen("networks", content["network"], f"{path}: network")
        if network and network != own:
            titles = [next(iter(each.values())).title for each in (own, network)]  # type: ignore[attr-defined]
            raise ValueError(f"{path}: holds {titles[0]}, but the network is given as {titles[1]}")
        return model, own, content["provenance"]
    if not network:
        raise ValueError(
            f"{path}: doesn't say what network it holds; allowed: a checkpoint of this project, or "
            f"--network beside it"
        )
    classes = len(dataset.class_names)
    size = path.stat().st_size
    return filled(path, network, classes, dataset.channels, state, size), network, None


def main(argv: list[str] | None = None) -> None:
    """Read the teacher, and write checkpoint and history."""
    arguments = parse_args(argv)
    dataset = read_dataset(arguments.data)
    model, network, brought = read_source(arguments.source, arguments.network, dataset)
    ((family, settings),) = network.items()
    arguments.network = network
    # As a training has them: of no term and no epoch.
    arguments.term, arguments.epochs = {}, 0
    provenance = describe_step(
        arguments, PACKAGES, [("networks", family)],
        network_title=settings.title,
        engine={"precision": "float32", "compiled": False},
        data_sha256=dataset.sha256,
        source_sha256=source_digest(arguments.source),
        **describe_device(torch.device("cpu")),
    )  # fmt: skip
    if brought is not None:
        provenance["source"] = brought
    save_checkpoint(arguments.checkpoint, model, network, dataset, provenance)
    with replacing(arguments.history) as temporary, temporary.open("w", newline="") as file:
        csv.writer(file).writerow(COLUMNS)
    print(
        f"{arguments.checkpoint}: {settings.title}, {count_parameters(model):,} parameters, from "
        f"{arguments.source}",
        flush=True,
    )


if __name__ == "__main__":
    run(main)
