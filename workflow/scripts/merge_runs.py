r"""Join the networks of one experiment that were trained in several working directories.

Where an experiment is split by seed over machines or over time, each part is run in a working
directory of its own, by overlays that differ in `seeds` alone. Inputs: these directories, each with
results/<experiment>, the prepared data and Snakemake's records. Output: in this directory, what it
lacks of networks, of what was measured of them, of the data and of logs, with the records, so that
the workflow knows what the files were made from. It tells which commits, versions of torch and
hardware it joins. What may not differ is refused, and nothing is written then: data, code and
settings of a network's trainings, teachers that students learnt from, and weights, where a network
is in two directories. The rest is Snakemake's: with all seeds in the config, `snakemake -n
<experiment>` plans what is left. After a stop, the same command brings what is missing still.

Example:
    python workflow/scripts/merge_runs.py --experiment cifar10_sixty --source ../machine_2 ../slot_3
"""

import argparse
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from distillation.record.checkpoint import load_plain
from distillation.record.files import replacing, replacing_folder
from distillation.record.job_records import bring_record, inputs, records
from distillation.record.provenance import without_git
from distillation.reporting.consistency import check_same, decisive
from distillation.reporting.trained import PROVENANCE, check_has, read_json
from distillation.settings.arguments import Parser, run

# Of a teacher that was brought, the checkpoint is called otherwise.
CHECKPOINTS = ("checkpoint.pt", "imported_checkpoint.pt")
HERE = Path()


@dataclass(frozen=True)
class Part:
    """A trained network: its working directory, and its checkpoint in it."""

    directory: Path
    place: Path

    @cached_property
    def content(self) -> dict[str, Any]:
        """What the checkpoint holds.

        Raises:
            ValueError: it is damaged, or none of this project.
        """
        content = load_plain(self.directory / self.place)
        if not isinstance(content, dict) or not {"state", "provenance"} <= {*content}:
            raise ValueError(f"{self}: no checkpoint of this project")
        check_has(f"{self}: provenance", content["provenance"], PROVENANCE)
        return content

    @property
    def training(self) -> dict[str, Any]:
        """The provenance of its training."""
        return self.content["provenance"]

    @property
    def model(self) -> str:
        """The method, or which teacher it is."""
        return self.place.parent.parent.name

    @property
    def seed(self) -> str:
        """The seed of its training, as its folder has it."""
        return self.place.parent.name.removeprefix("seed_")

    def __str__(self) -> str:
        """Return how messages name it."""
        return str(self.directory / self.place)


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
            yield Part(directory, checkpoint.relative_to(directory))


def joined(directories: list[Path], experiment: str) -> list[Part]:
    """Return each network once, of the first directory that has it, after checking all.

    Raises:
        FileNotFoundError: a directory other than this has none.
        ValueError: two that have one differ in its weights, one of a source has no record, or
            networks don't belong together.
    """
    parts: dict[Path, Part] = {}
    for directory in directories:
        found, known = [*find_parts(directory, experiment)], records(directory)
        if not found and directory != HERE:
            raise FileNotFoundError(f"{directory}/results/{experiment}: no trained network")
        for part in found:
            # Without it, files pass for those of the present config, whatever they are.
            if directory != HERE and str(part.place) not in known:
                raise ValueError(
                    f"{part}: Snakemake's record of it is missing; copy .snakemake/metadata too"
                )
            first = parts.setdefault(part.place, part)
            if weights_differ(first, part):
                raise ValueError(
                    f"{part}: other weights than in {first}; allowed: one training of each network"
                )
    teachers = [each for directory in directories for each in used_teachers(directory, experiment)]
    check_trainings([*parts.values()], teachers)
    return [*parts.values()]


def used_teachers(directory: Path, experiment: str) -> Iterator[dict[str, Any]]:
    """Yield the provenance of networks that are measured here and trained in another experiment.

    Raises:
        ValueError: a file is damaged.
    """
    for file in sorted((directory / "results" / experiment).glob("*/seed_*/metrics.json")):
        if not any((file.parent / name).is_file() for name in CHECKPOINTS):
            content = read_json(file)
            check_has(f"{file}:", content, ["training_provenance"])
            yield content["training_provenance"]


def weights_differ(one: Part, other: Part) -> bool:
    """Return whether two checkpoints hold different weights, whenever they were made."""
    if one is other:
        return False
    first, second = one.content["state"], other.content["state"]
    same = first.keys() == second.keys()
    return not same or any(not first[name].equal(second[name]) for name in first)


def check_trainings(parts: list[Part], teachers: list[dict[str, Any]]) -> None:
    """Refuse networks that don't belong to one config, one code and one data set.

    What students may differ in, the reports of the experiment check, which know its config.

    Args:
        parts: the networks.
        teachers: provenance of those that were trained in another experiment.

    Raises:
        ValueError: data differ, or the trainings of a model in more than the seed, or a student's
            teacher isn't among them.
    """
    check_same("training", parts, lambda part: {"data_sha256": part.training["data_sha256"]})
    for model in {part.model for part in parts}:
        own = [part for part in parts if part.model == model]
        check_same("training", own, lambda part: decisive(part.training) | part.training["plugins"])
    known = [without_git(each) for each in (*(part.training for part in parts), *teachers)]
    for part in parts:
        teacher = without_git(part.training.get("teacher"))
        if teacher and teacher not in known:
            raise ValueError(f"{part}: learnt from a teacher that isn't among the networks")


def prepared_data(parts: list[Part]) -> list[str]:
    """Return the files of the data that networks were trained on, after checking those here.

    Raises:
        ValueError: what is here is other data.
    """
    found: dict[str, str] = {}
    known = {part.directory: records(part.directory) for part in parts if part.directory != HERE}
    for part in (part for part in parts if part.directory in known):
        for name in inputs(known[part.directory][str(part.place)]):
            if name.startswith("results/data/"):
                found[name] = part.training["data_sha256"]
    for archive, expected in found.items():
        description = Path(archive).with_suffix(".json")
        if description.is_file() and (sha := read_json(description).get("sha256")) != expected:
            raise ValueError(f"{description}: is of data {sha}, expected {expected}")
    return [name for file in found for name in (file, file.replace(".npz", ".json"))]


def bring_outputs(directory: Path, experiment: str, data: list[str]) -> None:
    """Copy what this directory lacks of the recorded outputs of another, and logs.

    Records come first, and files have the time at which they come: what was made from others that
    stood in their place is then seen to be stale. Of the measures of a seed's attention those of
    most networks are kept.
    """
    theirs, own = records(directory), records(HERE)
    of_seed = re.compile(rf"results/{re.escape(experiment)}/(?!attention/)[^/]+/seed_\d+/.")
    measures = re.compile(rf"results/{re.escape(experiment)}/attention/seed_\d+\.")
    for output, record in theirs.items():
        place, source = Path(output), directory / output
        missing = (of_seed.match(output) or output in data) and not place.exists()
        if measures.match(output):
            ours = inputs(own[output]) if output in own and place.exists() else []
            missing = len(inputs(record)) > len(ours)
        if missing and source.exists():
            # Cut off between record and file, this is done again.
            place.unlink(missing_ok=True)
            bring_record(record, directory, HERE)
            bring(source, place)
    for log in (log for end in ("*/", "") for log in directory.glob(f"logs/*/{experiment}/{end}*")):
        place = log.relative_to(directory)
        if log.is_file() and not place.exists():
            bring(log, place)


def bring(source: Path, place: Path) -> None:
    """Copy a file or folder, whole or not at all, as new."""
    if source.is_dir():
        with replacing_folder(place) as temporary:
            shutil.copytree(source, temporary, copy_function=shutil.copyfile, dirs_exist_ok=True)
    else:
        with replacing(place) as temporary:
            shutil.copyfile(source, temporary)


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
    experiment, sources = arguments.experiment, [*dict.fromkeys(arguments.source)]
    parts = joined([HERE, *sources], experiment)
    data = prepared_data(parts)
    for directory in [HERE, *sources]:
        if own := [part for part in parts if part.directory == directory]:
            print(describe(directory, own), flush=True)
    for directory in sources:
        bring_outputs(directory, experiment, data)


if __name__ == "__main__":
    run(main)
