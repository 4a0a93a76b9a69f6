"""Official archives, read by torchvision's classes of data sets.

An archive is opened only after its MD5 matched the one that torchvision knows: CIFAR's hold
pickles, which could run anything.
"""

import shutil
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlparse
from urllib.request import url2pathname

import numpy as np
from torchvision.datasets.utils import check_integrity, download_url

# File name, MD5 and addresses.
Archive = tuple[str, str, list[str]]


def cifar_archives(kind: Any) -> list[Archive]:
    """Return the one archive of a CIFAR set, as torchvision's class knows it."""
    return [(kind.filename, kind.tgz_md5, [kind.url])]


def read_official(
    kind: Any, archives: list[Archive], source: str | None, folder: Path, place: Path
) -> dict[str, np.ndarray]:
    """Read both splits of an official set, its archives only once their checksums are right.

    Args:
        kind: torchvision's class of the set.
        archives: what it is read from.
        source: see `fetch_archives`.
        folder: room for archives and what is in them.
        place: where in it torchvision looks for the archives.

    Returns:
        Images as torchvision has them, labels (N,) and class_names.

    Raises:
        FileNotFoundError, ValueError: see `fetch_archives`.
    """
    fetch_archives(archives, source, place)
    arrays = {}
    for split in ("train", "test"):
        content = kind(str(folder), train=split == "train", download=True)
        arrays["class_names"] = np.array([str(entry) for entry in content.classes])
        arrays[f"{split}_images"] = np.asarray(content.data, dtype=np.uint8)
        arrays[f"{split}_labels"] = np.asarray(content.targets, dtype=np.int64)
    return arrays


def fetch_archives(archives: list[Archive], source: str | None, folder: Path) -> None:
    """Put archives into `folder`, each with the official checksum.

    Args:
        archives: which.
        source: a folder or an address (http, https, file) that holds the archives; None downloads
            from where torchvision does.
        folder: where they go.

    Raises:
        FileNotFoundError: the source folder lacks an archive.
        ValueError: an archive can't be downloaded, or its checksum isn't the official one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for file, md5, addresses in archives:
        target = folder / file
        if source is None:
            download(addresses, target, md5)
        elif urlparse(source).scheme in ("http", "https"):
            download([f"{source.rstrip('/')}/{file}"], target, md5)
        else:
            address = urlparse(source)
            local = url2pathname(address.path) if address.scheme == "file" else source
            found = Path(local) / file
            if not found.is_file():
                raise FileNotFoundError(f"source {source}: holds no {file}, the official archive")
            if not check_integrity(str(found), md5):
                raise ValueError(
                    f"{found}: wrong or truncated archive; its MD5 is not {md5}, the official one"
                )
            shutil.copyfile(found, target)


def download(addresses: list[str], target: Path, md5: str) -> None:
    """Download the first address that answers with a file of this MD5.

    Raises:
        ValueError: none does.
    """
    reasons = []
    for address in addresses:
        try:
            download_url(address, str(target.parent), target.name, md5)
            return
        except (URLError, HTTPException, OSError, RuntimeError, ValueError) as error:
            target.unlink(missing_ok=True)
            reasons.append(f"{address}: {error}")
    raise ValueError(
        f"can't download {target.name} ({'; '.join(reasons)}); "
        f"give as source a folder or address that holds the official archive"
    )
