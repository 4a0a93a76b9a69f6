r"""Join the networks of one experiment that were trained in several working directories.

Where an experiment is split by seed over machines or over time, each part is run in a working
directory of its own, by overlays that differ in `seeds` alone. Inputs: these directories, each with
results/<experiment> and Snakemake's records of them. Output: in this directory, beside what it has,
the folders of their trained and evaluated networks, the measures of attention, the logs, and the
records, so that the workflow knows what the files were made from. It tells which commits, versions
of torch and hardware it joins. What may not differ is refused, and nothing is written then: data,
code and settings of a network's trainings and evaluations, teachers that students learnt from, and
weights, where a network is in two directories. The rest is Snakemake's: with all seeds in the
config, `snakemake -n <experiment>` plans what is left.

Example:
    python workflow/scripts/merge_runs.py --experiment cifar10_sixty --source ../machine_2 ../slot_3
"""

import argparse
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from distillation.record.checkpoint import load_plain
from distillation.record.files import replacing_folder
from distillation.record.job_records import copy_record, records
from distillation.reporting.consistency import check_same, decisive
from distillation.settings.arguments import Parser, run

# Of a teacher that was brought, the checkpoint is called otherwise.
CHECKPOINTS = ("checkpoint.pt", "imported_checkpoint.pt")
HERE = Path()


@dataclass(frozen=True)
class Part:
    """A trained network: its working directory, and its folder and checkpoint in it."""

    directory: Path
    folder: Path
    checkpoint: Path

    @cached_property
    def content(self) -> dict[str, Any]:
        """What the checkpoint holds.

        Raises:
            ValueError: it is damaged, or none of this project.
        """
        content = load_plain(self.checkpoint)
        if not isinstance(content, dict) or not {"state", "provenance"} <= {*content}:
            raise ValueError(f"{self.checkpoint}: no checkpoint of this project")
        return content

    @property
    def training(self) -> dict[str, Any]:
        """The provenance of its training."""
        return self.content["provenance"]

    @property
    def model(self) -> str:
        """The method, or which teacher it is."""
        return self.folder.parent.name

    @property
    def seed(self) -> str:
        """The seed of its training, as its folder has it."""
        return self.folder.name.removeprefix("seed_")

    def __str__(self) -> str:
        """Return how messages name it."""
        return str(self.directory / self.folder)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(__doc__)
    flag = parser.add_argument
    flag("--experiment", required=True, help="as config.yaml names it")
    flag("--source", type=Path, nargs="+", required=True, help="working directories to join")
    return parser.parse_args(argv)


def find_parts(directory: Path, experiment: str) -> Iterator[Part]:
    """Yield the trained networks of a working directory."""
    results = directory / "results" / experiment
    for name in CHECKPOINTS:
        for checkpoint in sorted(results.glob(f"*/seed_*/{name}")):
            yield Part(directory, checkpoint.parent.relative_to(directory), checkpoint)


def joined(directories: list[Path], experiment: str) -> list[Part]:
    """Return each network once, of the first directory that has it, after checking all.

    Raises:
        FileNotFoundError: a directory other than this has none.
        ValueError: two that have one differ in its weights, or networks don't belong together.
    """
    parts: dict[Path, Part] = {}
    for directory in directories:
        found = [*find_parts(directory, experiment)]
        if not found and directory != HERE:
            raise FileNotFoundError(f"{directory}/results/{experiment}: no trained network")
        for part in found:
            first = parts.setdefault(part.folder, part)
            if weights_differ(first, part):
                raise ValueError(
                    f"{part.checkpoint}: other weights than in {first.checkpoint}; allowed: one "
                    f"training of each network"
                )
    check_trainings([*parts.values()])
    return [*parts.values()]


def check_trainings(parts: list[Part]) -> None:
    """Refuse networks that don't belong to one config, one code and one data set.

    What students may differ in, the reports of the experiment check, which know its config.

    Raises:
        ValueError: data differ, or the trainings of a model in more than the seed, or a student's
            teacher isn't among them.
    """
    check_same("training", parts, lambda part: {"data_sha256": part.training["data_sha256"]})
    for model in {part.model for part in parts}:
        own = [part for part in parts if part.model == model]
        check_same("training", own, lambda part: decisive(part.training) | part.training["plugins"])
    trainings = [part.training for part in parts]
    for part in parts:
        if part.training.get("teacher") and part.training["teacher"] not in trainings:
            raise ValueError(f"{part}: learnt from a teacher that isn't among the networks")


def weights_differ(one: Part, other: Part) -> bool:
    """Return whether two checkpoints hold different weights, whenever they were made."""
    if one is other:
        return False
    first, second = one.content["state"], other.content["state"]
    same = first.keys() == second.keys()
    return not same or any(not first[name].equal(second[name]) for name in first)


def bring(part: Part, known: dict[str, Path], experiment: str) -> None:
    """Copy a network's folder, its logs and their records, the records first.

    Files without their record would be taken for those of the present config.
    """
    source, folder = part.directory, part.folder
    place = folder.relative_to(f"results/{experiment}")
    bring_records(known, source, f"{folder}/")
    with replacing_folder(folder) as temporary:
        shutil.copytree(source / folder, temporary, dirs_exist_ok=True)
    for log in source.glob(f"logs/*/{experiment}/{place}.*"):
        bring_file(log, source)


def bring_seed(directory: Path, known: dict[str, Path], experiment: str, seed: str) -> None:
    """Copy what is of all networks of a seed, unless it is here: measures of attention, logs."""
    measured = Path("results", experiment, "attention", f"seed_{seed}.csv")
    if not measured.is_file():
        for file in (directory / measured.parent).glob(f"seed_{seed}.*"):
            bring_records(known, directory, str(file.relative_to(directory)))
            bring_file(file, directory)
    for log in directory.glob(f"logs/*/{experiment}/seed_{seed}.*"):
        bring_file(log, directory)


def bring_records(known: dict[str, Path], directory: Path, begin: str) -> None:
    """Copy the records of outputs whose path begins so."""
    for output, record in known.items():
        if output.startswith(begin):
            copy_record(record, directory, HERE)


def bring_file(file: Path, directory: Path) -> None:
    """Copy a file to the same place here, unless there is one."""
    place = file.relative_to(directory)
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, place)


def describe(directory: Path, parts: list[Part]) -> str:
    """Tell of a directory's networks which they are and what they were trained with."""
    seeds: dict[str, list[str]] = {}
    for part in parts:
        seeds.setdefault(part.model, []).append(part.seed)
    named = (f"{model} (seed {', '.join(each)})" for model, each in seeds.items())
    trainings = [part.training for part in parts]
    kinds = {
        f"commit {(each['commit'] or 'unknown')[:12]}{' with changes' * bool(each['dirty'])}, "
        f"torch {each['packages'].get('torch', 'unknown')}, {each['hardware']}"
        for each in trainings
    }
    return f"{directory}: {', '.join(named)}; {'; '.join(sorted(kinds))}"


def main(argv: list[str] | None = None) -> None:
    """Check the networks of all directories, and copy those that aren't here."""
    arguments = parse_args(argv)
    experiment, sources = arguments.experiment, arguments.source
    parts = joined([HERE, *sources], experiment)
    for directory in [HERE, *sources]:
        own = [part for part in parts if part.directory == directory]
        if own:
            print(describe(directory, own), flush=True)
        if directory == HERE:
            continue
        known = records(directory)
        for part in own:
            bring(part, known, experiment)
        for seed in sorted({part.seed for part in own}):
            bring_seed(directory, known, experiment, seed)


if __name__ == "__main__":
    run(main)
