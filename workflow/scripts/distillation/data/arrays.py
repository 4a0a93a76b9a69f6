"""Archives of named arrays: digests and safe reading."""

import hashlib
from pathlib import Path

import numpy as np


def digest_arrays(arrays: dict[str, np.ndarray]) -> str:
    """Return the sha256 over names, types, shapes and contents of `arrays`, in order of name."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.data.cast("B") if array.size else b"")
    return digest.hexdigest()


def read_arrays(path: Path, needed: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Read an .npz archive; nothing in it is unpickled.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, holds pickles, or lacks one of the `needed` arrays.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    # Damage shows in many ways (bad zip, bad header, odd compression), each an error of its own.
    except Exception as error:
        raise ValueError(f"{path}: not a readable .npz archive without pickles: {error}") from error
    foreign = [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]
    if foreign:
        raise ValueError(f"{path}: holds {foreign[0]}, which is no array; expected an .npz archive")
    missing = [name for name in needed if name not in arrays]
    if missing:
        raise ValueError(f"{path}: lacks {', '.join(missing)}; found {', '.join(arrays)}")
    return arrays
