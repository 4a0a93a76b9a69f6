"""Official archives: small ones in the official layout stand for the real ones."""

import gzip
import hashlib
import pickle
import socket
import struct
import tarfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import CIFAR10, CIFAR100, FashionMNIST

from distillation.archives import fetch_archives, official_archives, read_official

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


def old_pickle(content: dict | list | str | int | np.ndarray) -> bytes:
    """Pickle as Python 2 and its NumPy did, of whose text and types the real archives are.

    Text is of bytes, lists have no memo, and the type of an array is built with integers.
    """

    def dump(value: dict | list | str | int | np.ndarray) -> bytes:
        if isinstance(value, dict):
            items = b"".join(dump(key) + dump(entry) for key, entry in value.items())
            return b"}(" + items + b"u"
        if isinstance(value, list):
            return b"](" + b"".join(map(dump, value)) + b"e"
        if isinstance(value, str):
            return b"T" + struct.pack("<i", len(value)) + value.encode("latin1")
        if isinstance(value, int):
            return b"J" + struct.pack("<i", value)
        rows, columns = value.shape
        data = value.tobytes()
        return (
            b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR"
            b"(K\x01" + dump(rows) + dump(columns) + b"\x86"
            b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
            b"\x89T" + struct.pack("<i", len(data)) + data + b"tb"
        )

    return b"\x80\x02" + dump(content) + b"."


def random_images(count: int, *shape: int, seed: int = 0) -> np.ndarray:
    """Return random uint8 images."""
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (count, *shape), dtype=np.uint8)


def cifar_batch(images: np.ndarray, labels: list[int], key: str) -> bytes:
    """Return a batch file: one row per image, all red, all green, then all blue pixels."""
    return old_pickle(
        {
            "batch_label": "a batch",
            key: labels,
            "data": images.transpose(0, 3, 1, 2).reshape(len(images), -1),
            "filenames": [f"{number}.png" for number in range(len(images))],
        }
    )


def write_tar(path: Path, folder: str, files: dict[str, bytes]) -> None:
    """Write files into a gzipped tar archive."""
    sources = path.parent / "unpacked" / folder
    sources.mkdir(parents=True)
    for name, content in files.items():
        (sources / name).write_bytes(content)
    with tarfile.open(path, "w:gz") as archive:
        archive.add(sources, folder)


def declare(patch: pytest.MonkeyPatch, kind: type, archive: Path, files: dict[str, bytes]) -> None:
    """Let torchvision take an archive for the official one, by its checksums."""
    sums = {name: md5(content) for name, content in files.items()}
    meta = next(name for name in files if name.endswith("meta"))
    patch.setattr(kind, "tgz_md5", md5(archive.read_bytes()))
    patch.setattr(kind, "meta", kind.meta | {"md5": sums[meta]})
    train = [[name, sums[name]] for name in files if "test" not in name and name != meta]
    patch.setattr(kind, "train_list", train)
    patch.setattr(kind, "test_list", [[name, sums[name]] for name in files if "test" in name])


def make_cifar10(folder: Path, patch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """Write an archive of 15 training and 4 test images; return what is in it."""
    images, labels = random_images(15, 32, 32, 3), [number % 10 for number in range(15)]
    test_images, test_labels = random_images(4, 32, 32, 3, seed=1), [9, 0, 3, 3]
    files = {
        f"data_batch_{number + 1}": cifar_batch(images[part], labels[part], "labels")
        for number, part in enumerate(slice(start, start + 3) for start in range(0, 15, 3))
    }
    files["test_batch"] = cifar_batch(test_images, test_labels, "labels")
    files["batches.meta"] = old_pickle({"num_cases_per_batch": 3, "label_names": CIFAR10_CLASSES})
    write_tar(folder / FIRST["cifar10"], "cifar-10-batches-py", files)
    declare(patch, CIFAR10, folder / FIRST["cifar10"], files)
    return {
        "class_names": np.array(CIFAR10_CLASSES),
        "train_images": images,
        "train_labels": np.array(labels),
        "test_images": test_images,
        "test_labels": np.array(test_labels),
    }


def make_cifar100(folder: Path, patch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """Write an archive of 6 training and 3 test images; return what is in it."""
    images, labels = random_images(6, 32, 32, 3), [0, 99, 42, 7, 7, 1]
    test_images, test_labels = random_images(3, 32, 32, 3, seed=1), [99, 0, 50]
    files = {
        "train": cifar_batch(images, labels, "fine_labels"),
        "test": cifar_batch(test_images, test_labels, "fine_labels"),
        "meta": old_pickle({"fine_label_names": CIFAR100_CLASSES, "coarse_label_names": ["x"]}),
    }
    write_tar(folder / FIRST["cifar100"], "cifar-100-python", files)
    declare(patch, CIFAR100, folder / FIRST["cifar100"], files)
    return {
        "class_names": np.array(CIFAR100_CLASSES),
        "train_images": images,
        "train_labels": np.array(labels),
        "test_images": test_images,
        "test_labels": np.array(test_labels),
    }


def make_fashion_mnist(folder: Path, patch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """Write four archives of 8 training and 3 test images; return what is read from them."""
    images = {"train": random_images(8, 28, 28), "t10k": random_images(3, 28, 28, seed=1)}
    labels = {"train": np.arange(8, dtype=np.uint8), "t10k": np.array([9, 0, 5], dtype=np.uint8)}
    resources = []
    for split in ("train", "t10k"):
        header = struct.pack(">IIII", 0x803, len(images[split]), 28, 28)
        contents = {
            f"{split}-images-idx3-ubyte.gz": header + images[split].tobytes(),
            f"{split}-labels-idx1-ubyte.gz": struct.pack(">II", 0x801, len(labels[split]))
            + labels[split].tobytes(),
        }
        for name, content in contents.items():
            (folder / name).write_bytes(gzip.compress(content))
            resources.append((name, md5((folder / name).read_bytes())))
    patch.setattr(FashionMNIST, "resources", resources)
    padded = {split: np.zeros((len(images[split]), 32, 32, 1), np.uint8) for split in images}
    for split, entry in padded.items():
        entry[:, 2:30, 2:30, 0] = images[split]
    return {
        "class_names": np.array(FashionMNIST.classes),
        "train_images": padded["train"],
        "train_labels": labels["train"],
        "test_images": padded["t10k"],
        "test_labels": labels["t10k"],
    }


MAKERS: dict[str, Callable[[Path, pytest.MonkeyPatch], dict[str, np.ndarray]]] = {
    "cifar10": make_cifar10,
    "cifar100": make_cifar100,
    "fashion_mnist": make_fashion_mnist,
}
NAMES = list(MAKERS)


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


def assert_read(name: str, found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    """Check arrays and their types."""
    assert set(found) == set(expected), name
    for key, array in expected.items():
        np.testing.assert_array_equal(found[key], array, err_msg=key)
    for split in ("train", "test"):
        assert found[f"{split}_images"].dtype == np.uint8
        assert found[f"{split}_labels"].dtype == np.int64


@pytest.mark.parametrize("name", NAMES)
def test_archives_of_a_folder_are_read(tmp_path, source, monkeypatch, name):
    """Images, labels and class names of both splits come out of the archives in a folder."""
    expected = MAKERS[name](source, monkeypatch)
    assert_read(name, read_official(name, str(source), 1, tmp_path / "work"), expected)


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("name", NAMES)
def test_archives_of_a_file_address_are_read(tmp_path, source, monkeypatch, name, slash):
    """An address of a folder, with or without a slash at its end, serves as source."""
    expected = MAKERS[name](source, monkeypatch)
    found = read_official(name, source.as_uri() + slash, 1, tmp_path / "work")
    assert_read(name, found, expected)


@pytest.mark.parametrize("name", NAMES)
def test_archives_of_a_web_address_are_read(tmp_path, source, monkeypatch, server, name):
    """An address of a web server serves as source."""
    expected = MAKERS[name](source, monkeypatch)
    assert_read(name, read_official(name, server, 1, tmp_path / "work"), expected)


@pytest.mark.parametrize("name", NAMES)
def test_without_a_source_archives_come_from_where_torchvision_says(
    tmp_path, source, server, monkeypatch, name
):
    """Without a source, torchvision's own addresses are tried, one after another."""
    expected = MAKERS[name](source, monkeypatch)
    for kind in (CIFAR10, CIFAR100):
        monkeypatch.setattr(kind, "url", f"{server}/{kind.filename}")
    mirrors = [f"{server}/none/", f"{server}/"]
    monkeypatch.setattr(FashionMNIST, "mirrors", mirrors)
    assert_read(name, read_official(name, None, 1, tmp_path / "work"), expected)


def test_fashion_mnist_in_three_channels_repeats_grey(tmp_path, source, monkeypatch):
    """Three channels are three times the grey one."""
    expected = make_fashion_mnist(source, monkeypatch)["train_images"]
    found = read_official("fashion_mnist", str(source), 3, tmp_path / "work")["train_images"]
    np.testing.assert_array_equal(found, expected.repeat(3, axis=3))


@pytest.mark.parametrize("name", NAMES)
def test_source_stays_as_it_is(tmp_path, source, monkeypatch, name):
    """Reading neither changes the archives nor unpacks anything beside them."""
    MAKERS[name](source, monkeypatch)
    before = {file: file.read_bytes() for file in source.rglob("*") if file.is_file()}
    read_official(name, str(source), 1, tmp_path / "work")
    assert {file: file.read_bytes() for file in source.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize("name", NAMES)
def test_official_checksums_are_torchvisions(name):
    """Without archives of one's own, the official names and checksums are asked for."""
    known = {
        "cifar10": [("cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a")],
        "cifar100": [("cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85")],
        "fashion_mnist": [
            ("train-images-idx3-ubyte.gz", "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
            ("train-labels-idx1-ubyte.gz", "25c81989df183df01b3e8a0aad5dffbe"),
            ("t10k-images-idx3-ubyte.gz", "bef4ecab320f06d8554ea6380940ec79"),
            ("t10k-labels-idx1-ubyte.gz", "bb300cfdad3c16e7a12a480ee83cd310"),
        ],
    }
    assert [(file, checksum) for file, checksum, _ in official_archives(name)] == known[name]


@pytest.mark.parametrize("name", NAMES)
def test_missing_archive_is_named(tmp_path, source, name):
    """A folder without the archive raises FileNotFoundError that names both."""
    with pytest.raises(FileNotFoundError, match=f"{source}: holds no {FIRST[name]}"):
        read_official(name, str(source), 1, tmp_path / "work")


@pytest.mark.parametrize("address", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_truncated_archive_is_refused(tmp_path, source, monkeypatch, name, address):
    """An archive cut anywhere, in a folder or at an address, is refused by name, not opened."""
    MAKERS[name](source, monkeypatch)
    archive = source / FIRST[name]
    whole = archive.read_bytes()
    for length in (0, 1, len(whole) // 2, len(whole) - 1):
        archive.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=FIRST[name]):
            read_official(name, source.as_uri() if address else str(source), 1, tmp_path / "work")
        assert not list((tmp_path / "work").rglob("*ubyte"))
        assert not list((tmp_path / "work").rglob("*batch*"))


def test_wrong_checksum_is_told(tmp_path, source):
    """An archive of another content raises an error with the official checksum."""
    (source / FIRST["cifar10"]).write_bytes(b"another archive")
    with pytest.raises(ValueError, match=r"wrong or truncated archive; its MD5 is not c58f3010"):
        read_official("cifar10", str(source), 3, tmp_path / "work")


@pytest.mark.parametrize("address", [False, True])
def test_planted_pickle_in_a_wrong_archive_is_not_run(
    tmp_path, source, monkeypatch, planted, marker, address
):
    """An archive that isn't the official one is not unpickled, wherever it comes from."""
    make_cifar10(source, monkeypatch)
    (source / FIRST["cifar10"]).unlink()
    (tmp_path / "evil").mkdir()
    names = [name for name, _ in CIFAR10.train_list + CIFAR10.test_list]
    files = {name: pickle.dumps({"data": planted}) for name in [*names, "batches.meta"]}
    write_tar(tmp_path / "evil" / FIRST["cifar10"], "cifar-10-batches-py", files)
    evil = tmp_path / "evil"
    with pytest.raises(ValueError, match=FIRST["cifar10"]):
        read_official("cifar10", evil.as_uri() if address else str(evil), 3, tmp_path / "work")
    assert not marker.exists()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:9/",
        "http://127.0.0.1:9/my folder",
        "http://127.0.0.1:port/",
        "https://127.0.0.1:9",
        "http:///data",
    ],
)
def test_unreachable_address_is_one_clear_error(tmp_path, name, address):
    """An address that can't be read raises an error with the archive, the reason and a way out."""
    with pytest.raises(ValueError, match=f"can't download {FIRST[name]}") as caught:
        read_official(name, address, 1, tmp_path / "work")
    assert address.rstrip("/") in str(caught.value)
    assert "give as source a folder or address that holds the official archive" in str(caught.value)


def test_file_address_of_no_folder_is_one_clear_error(tmp_path):
    """A file address without the archive raises an error that names the archive."""
    with pytest.raises((ValueError, FileNotFoundError), match=FIRST["cifar10"]):
        read_official("cifar10", "file:///no/such/folder", 3, tmp_path / "work")


def test_archive_missing_at_an_address_is_one_clear_error(tmp_path, server):
    """A web server without the archive raises an error with the server's answer."""
    with pytest.raises(ValueError, match=r"can't download cifar-10-python\.tar\.gz .*404"):
        read_official("cifar10", server, 3, tmp_path / "work")


def test_answer_that_is_no_http_is_one_clear_error(tmp_path):
    """A server that doesn't speak HTTP raises an error that names the archive."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(ValueError, match="can't download cifar-10"):
            read_official("cifar10", address, 3, tmp_path / "work")
        thread.join()


def test_archives_already_fetched_are_not_fetched_again(source, monkeypatch):
    """An archive that is in the folder with the right checksum is kept."""
    make_cifar10(source, monkeypatch)
    fetch_archives("cifar10", "http://127.0.0.1:9/", source)
    assert (source / FIRST["cifar10"]).is_file()
