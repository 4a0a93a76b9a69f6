"""Official archives of CIFAR-10, CIFAR-100 and Fashion-MNIST, read by torchvision.

An archive is opened only after its MD5 matched the one that torchvision knows: CIFAR's hold
pickles, which could run anything.
"""

import shutil
from http.client import HTTPException
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlparse
from urllib.request import url2pathname

import numpy as np
from torchvision.datasets import CIFAR10, CIFAR100, FashionMNIST
from torchvision.datasets.utils import check_integrity, download_url

OFFICIAL = {"cifar10": CIFAR10, "cifar100": CIFAR100, "fashion_mnist": FashionMNIST}


def official_archives(name: str) -> list[tuple[str, str, list[str]]]:
    """List file name, MD5 and addresses of each archive of an official set, from torchvision."""
    if name == "fashion_mnist":
        return [
            (file, md5, [mirror + file for mirror in FashionMNIST.mirrors])
            for file, md5 in FashionMNIST.resources
        ]
    kind = OFFICIAL[name]
    return [(kind.filename, kind.tgz_md5, [kind.url])]


def fetch_archives(name: str, source: str | None, folder: Path) -> None:
    """Put the archives of an official set into `folder`, each with the official checksum.

    Args:
        name: cifar10, cifar100 or fashion_mnist.
        source: a folder or an address (http, https, file) that holds the archives; None downloads
            from where torchvision does.
        folder: where they go.

    Raises:
        FileNotFoundError: the source folder lacks an archive.
        ValueError: an archive can't be downloaded, or its checksum isn't the official one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for file, md5, addresses in official_archives(name):
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


def read_official(
    name: str, source: str | None, channels: int, folder: Path
) -> dict[str, np.ndarray]:
    """Read CIFAR-10, CIFAR-100 or Fashion-MNIST from its official archives.

    The archives are fetched into `folder`, checked against torchvision's checksums, and only then
    opened (CIFAR's hold pickles). Fashion-MNIST is padded with black from 28 to 32 pixels and
    repeated to `channels`.

    Raises:
        FileNotFoundError, ValueError: see `fetch_archives`.
    """
    root = folder / "FashionMNIST" / "raw" if name == "fashion_mnist" else folder
    fetch_archives(name, source, root)
    splits = {
        split: OFFICIAL[name](str(folder), train=split == "train", download=True)
        for split in ("train", "test")
    }
    arrays = {"class_names": np.array([str(entry) for entry in splits["train"].classes])}
    for split, content in splits.items():
        images = np.asarray(content.data, dtype=np.uint8)
        if name == "fashion_mnist":
            images = np.pad(images, ((0, 0), (2, 2), (2, 2)))[..., None].repeat(channels, axis=3)
        arrays[f"{split}_images"] = images
        arrays[f"{split}_labels"] = np.asarray(content.targets, dtype=np.int64)
    return arrays
