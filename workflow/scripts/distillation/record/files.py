"""Write files and folders whole or not at all."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# What an exported folder holds beside its card: the weights and what describes them.
EXPORTED = ("model.safetensors", "config.json")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block succeeds.

    Folders are made. If the block fails, the temporary file is removed and `path` stays as it
    was. The temporary name keeps the suffix, because writers choose their format by it;
    what a killed process left under it is overwritten.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.unfinished{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise named(error, path) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder beside `path`; put it in place of `path` when the block succeeds.

    If the block fails, the new folder is removed and `path` stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.unfinished")
    # A killed process may have left one.
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        if path.exists():
            shutil.rmtree(path)
        temporary.replace(path)
    except OSError as error:
        raise named(error, path) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def named(error: OSError, path: Path) -> OSError:
    """Return the error with the file that could not be written, which a full disk doesn't name."""
    known = error.filename or error.errno is None
    return error if known else OSError(error.errno, error.strerror, str(path))


@contextmanager
def only_run_in(folder: Path) -> Iterator[None]:
    """Hold a folder for this process, however it ends; the folder is made.

    Raises:
        ValueError: another process holds it.
    """
    existed = folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / ".lock"
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # One that has just ended may have removed the file between our two steps.
            held = os.path.samestat(os.fstat(file.fileno()), lock.stat())
        except (BlockingIOError, FileNotFoundError):
            held = False
        if not held:
            raise ValueError(f"{folder}: another run is writing there; allowed: one")
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)
            # Where the run left nothing, it leaves no folder either.
            if not existed and not any(folder.iterdir()):
                folder.rmdir()
