"""Digests of contents that a result was made from: of a file, and of a folder of images.

Only the standard library is needed, because the workflow itself computes them.
"""

import hashlib
import os
from functools import cache
from pathlib import Path

# Relative to where the workflow runs.
KNOWN = Path(".snakemake/folders")


def file_digest(path: Path | str) -> str:
    """Return the sha256 of a file's content, shortened to 16 digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


@cache
def folder_digest(folder: str, suffixes: tuple[str, ...]) -> str:
    """Return a digest of a folder, of folders in it, and of names and contents of their files.

    Files of these suffixes count; hidden ones, and what is in hidden folders, don't. It is kept
    under `.snakemake`, so that a large folder is read once and not at every dry run: as long as no
    file has another size, time or place on the disk.
    """
    # Links are followed, as the reader of the images does.
    walk = [*os.walk(folder, followlinks=True)]
    below, places = (
        sorted(path for path in paths if not any(part[0] == "." for part in path.parts))
        for paths in (
            [Path(place, name).relative_to(folder) for place, names, _ in walk for name in names],
            [Path(place, name).relative_to(folder) for place, _, names in walk for name in names],
        )
    )
    # A link that leads nowhere is for the reader of the images to refuse.
    files = [path for path in (Path(folder, each) for each in places)
             if path.suffix.lower() in suffixes and path.exists()]  # fmt: skip
    names = [path.relative_to(folder).as_posix() for path in files]
    folders = [path.as_posix() for path in below]
    states = [
        (name, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        for name, status in zip(names, (path.stat() for path in files), strict=True)
    ]
    known = KNOWN / hashlib.sha256(repr([folders, states]).encode()).hexdigest()[:16]
    if not known.exists():
        contents = repr([folders, *zip(names, map(file_digest, files), strict=True)])
        known.parent.mkdir(parents=True, exist_ok=True)
        unfinished = known.with_suffix(f".{os.getpid()}")
        unfinished.write_text(hashlib.sha256(contents.encode()).hexdigest()[:16])
        unfinished.replace(known)
    return known.read_text()
