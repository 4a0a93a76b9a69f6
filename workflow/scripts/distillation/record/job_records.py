"""Snakemake's records of which job made a file, and from what: a file for each output.

A record's place is its output's path, relative to the working directory, in URL-safe base64. Where
that is longer than a file's name may be, it is cut into folders whose names begin with @ (Snakemake
9.27, persistence/file.py). A marker in the same place of another folder says that the job hasn't
ended.
"""

import json
import shutil
from base64 import urlsafe_b64decode
from pathlib import Path

FOLDER, STARTED = Path(".snakemake/metadata"), Path(".snakemake/incomplete")


def records(directory: Path) -> dict[str, Path]:
    """Return the records of a working directory by the output that each is of."""
    folder = directory / FOLDER
    found = {}
    for file in folder.rglob("[!.]*"):
        if file.is_file():
            parts = file.relative_to(folder).parts
            try:
                output = urlsafe_b64decode("".join(part.removeprefix("@") for part in parts))
                found[output.decode()] = file
            except ValueError:
                # Something else that was put there.
                continue
    return found


def inputs(record: Path) -> list[str]:
    """Return what a record's job read.

    Raises:
        ValueError: the record is damaged.
    """
    try:
        return [str(each) for each in json.loads(record.read_text())["input"]]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{record}: damaged record of Snakemake: {error}") from error


def bring_record(record: Path, source: Path, target: Path) -> None:
    """Copy a record from one working directory to the same place in another.

    A job that was begun there counts as ended.
    """
    place = record.relative_to(source / FOLDER)
    # A short name, since those of records may be as long as names can be.
    temporary = target / FOLDER.with_name("record.unfinished")
    (target / FOLDER / place).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(record, temporary)
    temporary.replace(target / FOLDER / place)
    (target / STARTED / place).unlink(missing_ok=True)
