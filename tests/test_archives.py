"""Official archives: small ones in the official layout stand for the real ones."""

import contextlib
import gzip
import hashlib
import io
import pickle
import socket
import struct
import tarfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torchvision.datasets import CIFAR10, CIFAR100, FashionMNIST

from distillation.data.archives import cifar_archives, fetch_archives
from distillation.settings import plugins
from distillation.settings.base import checked

CIFAR10_CLASSES = [
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
]  # fmt: skip
CIFAR100_CLASSES = [f"fine {number}" for number in range(100)]
# The first file of each official set.
FIRST = {
    "cifar10": "cifar-10-python.tar.gz",
    "cifar100": "cifar-100-python.tar.gz",
    "fashion_mnist": "train-images-idx3-ubyte.gz",
}


def md5(content: bytes) -> str:
    """Return the MD5 of a file's content."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def random_images(count: int, *shape: int, seed: int = 0) -> np.ndarray:
    """Return random uint8 images."""
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (count, *shape), dtype=np.uint8)


def cifar_batch(images: np.ndarray, labels: np.ndarray, key: str) -> dict:
    """Return a batch: one row per image, all red, all green, then all blue pixels."""
    rows = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    names = [f"{number}.png" for number in range(len(images))]
    return {"batch_label": "a batch", key: labels.tolist(), "data": rows, "filenames": names}


def write_tar(path: Path, folder: str, files: dict[str, bytes]) -> None:
    """Write files into a gzipped tar archive."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def publish(patch: pytest.MonkeyPatch, kind: Any, folder: Path, contents: dict[str, dict]) -> None:
    """Write an archive of pickles that torchvision takes for the official one, by its checksums."""
    files = {name: pickle.dumps(content) for name, content in contents.items()}
    write_tar(folder / kind.filename, kind.base_folder, files)
    sums = {name: md5(content) for name, content in files.items()}
    patch.setattr(kind, "tgz_md5", md5((folder / kind.filename).read_bytes()))
    patch.setattr(kind, "meta", kind.meta | {"md5": sums.pop(kind.meta["filename"])})
    for split in ("train", "test"):
        listed = [[name, sums[name]] for name in sums if ("test" in name) == (split == "test")]
        patch.setattr(kind, f"{split}_list", listed)


def expected_of(classes: list[str], train: list[int], test: list[int]) -> dict[str, np.ndarray]:
    """Return the arrays of random RGB images with these labels."""
    return {
        "class_names": np.array(classes),
        "train_images": random_images(len(train), 32, 32, 3),
        "train_labels": np.array(train),
        "test_images": random_images(len(test), 32, 32, 3, seed=1),
        "test_labels": np.array(test),
    }


def make_cifar10(folder: Path, patch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """Write an archive of five training batches and one of tests; return what is in it."""
    made = expected_of(CIFAR10_CLASSES, [number % 10 for number in range(15)], [9, 0, 3, 3])
    batches = zip(np.split(made["train_images"], 5), np.split(made["train_labels"], 5), strict=True)
    files = {f"data_batch_{n}": cifar_batch(*batch, "labels") for n, batch in enumerate(batches, 1)}
    files["test_batch"] = cifar_batch(made["test_images"], made["test_labels"], "labels")
    files["batches.meta"] = {"num_cases_per_batch": 3, "label_names": CIFAR10_CLASSES}
    publish(patch, CIFAR10, folder, files)
    return made


def make_cifar100(folder: Path, patch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """Write an archive of one batch for each split; return what is in it."""
    made = expected_of(CIFAR100_CLASSES, [0, 99, 42, 7, 7, 1], [99, 0, 50])
    files = {
        split: cifar_batch(made[f"{split}_images"], made[f"{split}_labels"], "fine_labels")
        for split in ("train", "test")
    }
    files["meta"] = {"fine_label_names": CIFAR100_CLASSES, "coarse_label_names": ["x"]}
    publish(patch, CIFAR100, folder, files)
    return made


def make_fashion_mnist(folder: Path, patch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """Write four archives; return what is read from them."""
    made, resources = {"class_names": np.array(FashionMNIST.classes)}, []
    for split, name, labels in (("train", "train", range(8)), ("test", "t10k", [9, 0, 5])):
        images = random_images(len(labels), 28, 28)
        contents = {
            f"{name}-images-idx3-ubyte.gz": struct.pack(">IIII", 0x803, len(labels), 28, 28)
            + images.tobytes(),
            f"{name}-labels-idx1-ubyte.gz": struct.pack(">II", 0x801, len(labels)) + bytes(labels),
        }
        for file, content in contents.items():
            (folder / file).write_bytes(gzip.compress(content))
            resources.append((file, md5((folder / file).read_bytes())))
        made[f"{split}_images"] = np.zeros((len(labels), 32, 32, 1), np.uint8)
        made[f"{split}_images"][:, 2:30, 2:30, 0] = images
        made[f"{split}_labels"] = np.array(labels)
    patch.setattr(FashionMNIST, "resources", resources)
    return made


MAKERS = {"cifar10": make_cifar10, "cifar100": make_cifar100, "fashion_mnist": make_fashion_mnist}
NAMES = list(MAKERS)
Official = Callable[[str], dict[str, np.ndarray]]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return an empty folder for archives, whose name has a space."""
    folder = tmp_path / "my archives"
    folder.mkdir()
    return folder


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let addresses of this machine go past any proxy."""
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def server(source: Path) -> Iterator[str]:
    """Serve the folder of archives by HTTP and return its address."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as inherited
            """Say nothing."""

    handler = partial(Handler, directory=str(source))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


@pytest.fixture
def official(source: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> Official:
    """Return a function that publishes a set, in the folder and on the server; what is in it."""
    for kind in (CIFAR10, CIFAR100):
        monkeypatch.setattr(kind, "url", f"{server}/{kind.filename}")
    monkeypatch.setattr(FashionMNIST, "mirrors", [f"{server}/none/", f"{server}/"])
    return lambda name: MAKERS[name](source, monkeypatch)


def read(
    name: str, source: Path | str | None, folder: Path, **more: object
) -> dict[str, np.ndarray]:
    """Read a format, into a new folder beside the source."""
    values = {"source": None if source is None else str(source), **more}
    settings = checked(plugins.declared("formats", name), values)
    return plugins.load("formats", name).read(settings, folder / "work", 1)


@pytest.mark.parametrize("where", ["folder", "file", "file/", "http", "none"])
@pytest.mark.parametrize("name", NAMES)
def test_archives_are_read(
    tmp_path: Path, source: Path, server: str, official: Official, name: str, where: str
) -> None:
    """A folder, its address, a web server, else torchvision's own serve as source, unchanged."""
    expected = official(name)
    before = {file: file.read_bytes() for file in source.rglob("*") if file.is_file()}
    address = source.as_uri()
    places = {"folder": source, "file": address, "file/": f"{address}/", "http": server}
    found = read(name, places.get(where), tmp_path)
    assert set(found) == set(expected)
    for key, array in expected.items():
        np.testing.assert_array_equal(found[key], array, err_msg=key)
    for split in ("train", "test"):
        assert found[f"{split}_images"].dtype == np.uint8
        assert found[f"{split}_labels"].dtype == np.int64
    assert {file: file.read_bytes() for file in source.rglob("*") if file.is_file()} == before


def test_fashion_mnist_in_three_channels_repeats_grey(
    tmp_path: Path, source: Path, official: Official
) -> None:
    """Three channels are three times the grey one."""
    expected = official("fashion_mnist")["train_images"]
    found = read("fashion_mnist", source, tmp_path, channels=3)["train_images"]
    np.testing.assert_array_equal(found, expected.repeat(3, axis=3))


def test_official_checksums_are_torchvisions() -> None:
    """Without archives of one's own, the official names and checksums are asked for."""
    known = {
        CIFAR10: ("cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a"),
        CIFAR100: ("cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85"),
    }
    for kind, (file, checksum) in known.items():
        assert cifar_archives(kind) == [(file, checksum, [kind.url])]
    assert dict(FashionMNIST.resources) == {
        "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
    }


@pytest.mark.parametrize("name", NAMES)
def test_missing_archive_is_named(tmp_path: Path, source: Path, name: str) -> None:
    """A folder without the archive raises FileNotFoundError that names both."""
    with pytest.raises(FileNotFoundError, match=f"{source}: holds no {FIRST[name]}"):
        read(name, source, tmp_path)


@pytest.mark.parametrize("address", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_truncated_archive_is_refused(
    tmp_path: Path, source: Path, server: str, official: Official, name: str, address: bool
) -> None:
    """An archive cut anywhere, in a folder or at an address, is refused by name, not opened."""
    official(name)
    archive = source / FIRST[name]
    whole = archive.read_bytes()
    for length in (0, 1, len(whole) // 2, len(whole) - 1):
        archive.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=FIRST[name]):
            read(name, server if address else source, tmp_path)
        assert not list((tmp_path / "work").rglob("*ubyte"))
        assert not list((tmp_path / "work").rglob("*batch*"))


@pytest.mark.parametrize("address", [False, True])
def test_planted_pickle_in_a_wrong_archive_is_not_run(
    tmp_path: Path, source: Path, server: str, planted: object, marker: Path, address: bool
) -> None:
    """An archive that isn't the official one is not unpickled, wherever it comes from."""
    names = [name for name, _ in CIFAR10.train_list + CIFAR10.test_list]
    files = {name: pickle.dumps({"data": planted}) for name in [*names, "batches.meta"]}
    write_tar(source / FIRST["cifar10"], "cifar-10-batches-py", files)
    said = "can't download" if address else "wrong or truncated archive; its MD5 is not c58f3010"
    with pytest.raises(ValueError, match=said) as caught:
        read("cifar10", server if address else source, tmp_path)
    assert FIRST["cifar10"] in str(caught.value)
    assert not marker.exists()


def no_http(listener: socket.socket) -> None:
    """Answer as a server of another kind, if asked before the end."""
    with contextlib.suppress(OSError), listener.accept()[0] as connection:
        connection.recv(4096)
        connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:9/my folder", "http://127.0.0.1:port/", "https://127.0.0.1:9",
        "http:///data", "{server}", "http://127.0.0.1:{port}",
    ],
)  # fmt: skip
def test_address_without_the_archive_is_one_clear_error(
    tmp_path: Path, server: str, address: str
) -> None:
    """An address that can't be read raises an error with the archive, the reason and a way out."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=no_http, args=(listener,), daemon=True).start()
        given = address.format(server=server, port=listener.getsockname()[1])
        with pytest.raises(ValueError, match=f"can't download {FIRST['cifar10']}") as caught:
            read("cifar10", given, tmp_path)
    assert given.rstrip("/") in str(caught.value)
    assert ("404" in str(caught.value)) == (address == "{server}")
    assert "give as source a folder or address that holds the official archive" in str(caught.value)


def test_archives_already_fetched_are_not_fetched_again(source: Path, official: Official) -> None:
    """An archive that is in the folder with the right checksum is kept."""
    official("cifar10")
    fetch_archives(cifar_archives(CIFAR10), "http://127.0.0.1:9/", source)
    assert (source / FIRST["cifar10"]).is_file()
