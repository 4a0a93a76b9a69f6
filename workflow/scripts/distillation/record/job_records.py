"""Snakemake's records of which job made a file, and from what: a file for each output.

A record's place is its output's path, relative to the working directory, in URL-safe base64. Where
that is longer than a file's name may be, it is cut into folders whose names begin with @ (Snakemake
9.27, persistence/file.py).
"""

import shutil
from base64 import urlsafe_b64decode
from pathlib import Path

from distillation.record.files import replacing

FOLDER = Path(".snakemake/metadata")


def records(directory: Path) -> dict[str, Path]:
    """Return the records of a working directory by the output that each is of."""
    folder = directory / FOLDER
    found = {}
    for file in folder.rglob("*"):
        if file.is_file():
            parts = file.relative_to(folder).parts
            try:
                output = urlsafe_b64decode("".join(part.removeprefix("@") for part in parts))
                found[output.decode()] = file
            except ValueError:
                # Something else that was put there.
                continue
    return found


def copy_record(file: Path, source: Path, target: Path) -> None:
    """Copy a record from one working directory to the same place in another."""
    place = target / file.relative_to(source)
    place.parent.mkdir(parents=True, exist_ok=True)
    with replacing(place) as temporary:
        shutil.copy2(file, temporary)
