"""Prepared data: views, batches, and what the reader refuses."""

import contextlib
import io
import itertools
import pickle
import re
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distillation.arrays import digest_arrays, read_arrays
from distillation.data import (
    ARRAYS,
    Dataset,
    Split,
    augment,
    count_views,
    epoch_generator,
    normalise,
    read_dataset,
    training_batches,
)


def images_of(count: int, size: int, channels: int, seed: int = 0) -> np.ndarray:
    """Return random uint8 images (N, S, S, C)."""
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (count, size, size, channels), dtype=np.uint8)


def arrays_of(**changes: Any) -> dict[str, Any]:
    """Return the arrays of a small data set, some of them changed."""
    return {
        "train_images": images_of(4, 6, 3),
        "train_labels": np.array([0, 1, 1, 0]),
        "test_images": images_of(2, 6, 3, seed=1),
        "test_labels": np.array([1, 0]),
        "class_names": np.array(["cat", "dog"]),
        "mean": np.array([1.0, 2.0, 3.0]),
        "std": np.array([4.0, 5.0, 6.0]),
    } | changes


def numbered(count: int, size: int) -> Dataset:
    """Return a data set whose image i shows its label, i, in every pixel."""
    labels = torch.arange(count)
    images = labels.to(torch.uint8)[:, None, None, None].expand(count, size, size, 1).contiguous()
    return Dataset(Split(images, labels), Split(images, labels), ["a", "b"], [0.0], [1.0], "")


def plain_view(image: np.ndarray, padding: int, row: int, column: int, flip: bool) -> np.ndarray:
    """Pad by reflection, crop, then mirror one image (H, W, C)."""
    size = len(image)
    padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)), mode="reflect")
    view = padded[row : row + size, column : column + size]
    return view[:, ::-1] if flip else view


@pytest.mark.parametrize(
    ("size", "channels", "padding"), [(32, 3, 4), (9, 1, 4), (5, 2, 4), (6, 3, 1), (6, 3, 0)]
)
def test_augment_equals_pad_crop_and_mirror(size, channels, padding):
    """Every offset, mirrored or not, gives the view of a padded copy, cut and mirrored."""
    offsets = list(itertools.product(range(2 * padding + 1), repeat=2)) * 2
    count = len(offsets)
    flips = [number < count // 2 for number in range(count)]
    images = images_of(count, size, channels)
    found = augment(torch.from_numpy(images), padding, torch.tensor(offsets), torch.tensor(flips))
    expected = [
        plain_view(image, padding, row, column, flip)
        for image, (row, column), flip in zip(images, offsets, flips, strict=True)
    ]
    assert found.dtype == torch.uint8
    np.testing.assert_array_equal(found.numpy(), np.stack(expected))


def test_normalise_equals_the_formula():
    """Pixels become (x - mean) / std per channel, channels first, in channels-last memory."""
    images = images_of(5, 6, 3)
    mean, std = [125.3, 123.0, 113.9], [63.0, 62.1, 66.7]
    found = normalise(torch.from_numpy(images), mean, std)
    expected = ((images.astype(np.float64) - mean) / std).transpose(0, 3, 1, 2)
    assert found.dtype == torch.float32
    assert found.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_epoch_generator_depends_on_seed_and_epoch_alone():
    """Seed and epoch give the same numbers, whatever was drawn before, and all pairs differ."""
    first = torch.rand(4, generator=epoch_generator(3, 7))
    torch.manual_seed(5)
    np.random.default_rng().random()
    torch.testing.assert_close(torch.rand(4, generator=epoch_generator(3, 7)), first)
    drawn = {
        tuple(torch.rand(4, generator=epoch_generator(seed, epoch)).tolist())
        for seed, epoch in itertools.product(range(8), repeat=2)
    }
    assert len(drawn) == 64


@pytest.mark.parametrize("batch_size", [1, 8, 37, 100])
def test_an_epoch_covers_each_image_once(batch_size):
    """Each image comes once an epoch, with its own label, and the rest makes a smaller batch."""
    batches = list(training_batches(numbered(37, 6), batch_size, 2, True, epoch_generator(0, 1)))
    full, rest = divmod(37, batch_size)
    assert [len(labels) for _, labels, _, _ in batches] == [batch_size] * full + [rest] * (rest > 0)
    shown = torch.cat([images for images, _, _, _ in batches])
    labels = torch.cat([labels for _, labels, _, _ in batches])
    places = torch.cat([places for _, _, places, _ in batches])
    assert sorted(labels.tolist()) == list(range(37))
    assert labels.tolist() != list(range(37))
    # Image and label are numbered by their place.
    assert places.tolist() == labels.tolist()
    assert (shown == labels[:, None, None, None]).all()


def test_views_are_those_of_the_generator(digits):
    """A batch holds augmented and normalised images; its size decides none of the views."""
    small, large = (
        list(training_batches(digits, size, 2, True, epoch_generator(1, 2))) for size in (5, 32)
    )
    for part in range(4):
        joined = torch.cat([batch[part] for batch in small])
        torch.testing.assert_close(joined, large[0][part], rtol=0, atol=0)
    assert large[0][0].shape == (32, 1, 12, 12)


def test_no_padding_and_no_flip_leave_images_as_they_are(digits):
    """Without augmentation, training images are only normalised and put into another order."""
    ((images, labels, _, _),) = training_batches(digits, 32, 0, False, epoch_generator(0, 1))
    plain = normalise(digits.train.images, digits.mean, digits.std)
    for image, label in zip(images, labels, strict=True):
        (position,) = (plain == image).flatten(1).all(dim=1).nonzero().flatten().tolist()
        assert digits.train.labels[position] == label


def test_every_shift_and_mirror_is_used():
    """Over an epoch of many images each of the 162 views occurs, each about equally often."""
    count = 8100
    image = torch.arange(121, dtype=torch.uint8).reshape(1, 11, 11, 1)
    split = Split(image.expand(count, 11, 11, 1), torch.zeros(count, dtype=torch.int64))
    dataset = Dataset(split, split, ["a", "b"], [0.0], [1.0], "")
    ((views, _, _, numbers),) = training_batches(dataset, count, 4, True, epoch_generator(0, 1))
    # The two pixels in the middle tell the shift, and their order whether it was mirrored.
    _, counts = views[:, 0, 5, 5:7].unique(dim=0, return_counts=True)
    assert len(counts) == 162 == count_views(4, flip=True)
    # Views have one number each.
    pairs = torch.cat([views[:, 0, 5, 5:7], numbers[:, None].float()], dim=1).unique(dim=0)
    assert len(pairs) == 162
    assert sorted(pairs[:, 2].tolist()) == list(range(162))
    assert counts.min() > 50 - 5 * 50**0.5
    assert counts.max() < 50 + 5 * 50**0.5


def test_digest_depends_on_contents_alone():
    """Order of names and layout in memory don't change the digest of arrays."""
    arrays = {"a": np.arange(12).reshape(3, 4), "b": np.array(["x", "yz"])}
    other = {"b": np.array(["x", "yz"]), "a": np.asfortranarray(arrays["a"])}
    assert digest_arrays(other) == digest_arrays(arrays)


@pytest.mark.parametrize(
    "other",
    [
        {"b": np.arange(12).reshape(3, 4)},
        {"a": np.arange(12).reshape(4, 3)},
        {"a": np.arange(12, dtype=np.uint64).reshape(3, 4)},
        {"a": np.arange(1, 13).reshape(3, 4)},
        {"a": np.arange(12).reshape(3, 4), "b": np.zeros(0)},
    ],
    ids=["name", "shape", "type", "content", "one more"],
)
def test_digest_tells_arrays_apart(other):
    """Another name, shape, type, content or number of arrays has another digest."""
    assert digest_arrays(other) != digest_arrays({"a": np.arange(12).reshape(3, 4)})


def test_reading_returns_what_was_written(tmp_path):
    """A prepared archive comes back as it was, with labels in int64 and its digest."""
    arrays = arrays_of(train_labels=np.array([0, 1, 1, 0], dtype=np.uint8))
    np.savez_compressed(tmp_path / "data.npz", **arrays)
    dataset = read_dataset(tmp_path / "data.npz")
    for split in ("train", "test"):
        part = getattr(dataset, split)
        np.testing.assert_array_equal(part.images.numpy(), arrays[f"{split}_images"])
        np.testing.assert_array_equal(part.labels.numpy(), arrays[f"{split}_labels"])
        assert part.labels.dtype == torch.int64
    assert dataset.class_names == ["cat", "dog"]
    assert (dataset.mean, dataset.std) == ([1, 2, 3], [4, 5, 6])
    assert (dataset.image_size, dataset.channels) == (6, 3)
    assert dataset.sha256 == digest_arrays(arrays)


def test_the_digest_of_a_data_set_knows_no_compression(tmp_path):
    """The same arrays have the same digest in a compressed and in a plain archive."""
    np.savez(tmp_path / "plain.npz", **arrays_of())
    np.savez_compressed(tmp_path / "small.npz", **arrays_of())
    assert (
        read_dataset(tmp_path / "plain.npz").sha256 == read_dataset(tmp_path / "small.npz").sha256
    )


def test_missing_file_is_named(tmp_path):
    """A file that isn't there raises FileNotFoundError that names it."""
    with pytest.raises(FileNotFoundError, match=r"none\.npz: no such file"):
        read_dataset(tmp_path / "none.npz")


def refusal(file: Path) -> str:
    """Return the message of the ValueError that reading raises, which names the file."""
    with pytest.raises(ValueError, match=re.escape(str(file))) as caught:
        read_dataset(file)
    return str(caught.value)


@pytest.mark.parametrize("name", ARRAYS)
def test_missing_array_is_named(tmp_path, name):
    """An archive without one of the arrays is refused by the name of what it lacks."""
    arrays = arrays_of()
    del arrays[name]
    np.savez(tmp_path / "data.npz", **arrays)
    assert f"lacks {name}" in refusal(tmp_path / "data.npz")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_images": images_of(4, 6, 3).astype(np.float32)}, "train_images is float32"),
        ({"test_images": images_of(2, 6, 3).astype(np.int64)}, "test_images is int64"),
        ({"train_images": images_of(4, 6, 3)[..., 0]}, r"train_images is uint8 (4, 6, 6)"),
        ({"train_images": images_of(4, 6, 3)[:, :5]}, r"train_images is uint8 (4, 5, 6, 3)"),
        ({"train_labels": np.array([0, 1, 1])}, "train has 4 images and 3 labels"),
        (
            {"test_images": images_of(0, 6, 3), "test_labels": np.zeros(0, dtype=np.int64)},
            "test has 0 images and 0 labels",
        ),
        ({"train_labels": np.array([0, 1, 2, 0])}, "train_labels go beyond the 2 classes"),
        ({"test_labels": np.array([0, -1])}, "test_labels go beyond the 2 classes"),
        ({"class_names": np.array(["cat"])}, "train_labels go beyond the 1 classes"),
        ({"train_labels": np.array([0.0, 0.5, 1.0, 0.0])}, "train_labels"),
        ({"test_labels": np.array(["0", "1"])}, "test_labels"),
        ({"train_labels": np.array([[0], [1], [1], [0]])}, "train_labels"),
        ({"test_images": images_of(2, 8, 3)}, "test_images"),
        ({"test_images": images_of(2, 6, 1)}, "test_images"),
        ({"mean": np.array([1.0])}, "mean"),
        ({"std": np.array(1.0)}, "std"),
    ],
    ids=[
        "images of floats",
        "images of integers",
        "images without channels",
        "images not square",
        "a label too few",
        "empty split",
        "label too large",
        "label below 0",
        "class too few",
        "labels of floats",
        "labels of text",
        "labels in a column",
        "splits of other sizes",
        "splits of other channels",
        "mean of one channel",
        "std of no channel",
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, changes, message):
    """Arrays of wrong type, shape or range are refused with what was found and in which file."""
    np.savez(tmp_path / "data.npz", **arrays_of(**changes))
    assert message in refusal(tmp_path / "data.npz")


def test_planted_pickle_in_an_archive_is_not_run(tmp_path, planted, marker):
    """An array of pickled objects is refused, and nothing in it runs."""
    file = tmp_path / "data.npz"
    np.savez(file, **arrays_of(class_names=np.array([planted, planted], dtype=object)))
    assert "pickle" in refusal(file)
    assert not marker.exists()


def test_planted_pickle_in_place_of_an_archive_is_not_run(tmp_path, planted, marker):
    """A bare pickle named .npz is refused, and nothing in it runs."""
    file = tmp_path / "data.npz"
    file.write_bytes(pickle.dumps(planted))
    assert "pickle" in refusal(file)
    assert not marker.exists()


@pytest.mark.parametrize("compressed", [True, False])
def test_truncated_archives_are_refused(tmp_path, compressed):
    """An archive cut anywhere is refused as unreadable."""
    file = tmp_path / "data.npz"
    (np.savez_compressed if compressed else np.savez)(file, **arrays_of())
    whole = file.read_bytes()
    lengths = {0, 1, 4, 30, *range(100, len(whole), 97), len(whole) - 1}
    for length in sorted(lengths):
        file.write_bytes(whole[:length])
        assert "not a readable .npz archive" in refusal(file)


@pytest.mark.parametrize(
    ("offset", "value"), [(6, 0xFF), (8, 0x01), (10, 0x63)], ids=["version", "encrypted", "method"]
)
def test_archives_with_a_damaged_directory_are_refused(tmp_path, offset, value):
    """A damaged entry of the zip directory, which zipfile can't handle, is refused as well."""
    file = tmp_path / "data.npz"
    np.savez_compressed(file, **arrays_of())
    damaged = bytearray(file.read_bytes())
    damaged[damaged.index(b"PK\1\2") + offset] = value
    file.write_bytes(damaged)
    assert "not a readable .npz archive" in refusal(file)


def test_damaged_archives_do_not_crash_the_reader(tmp_path):
    """Whichever byte is damaged, an archive is read as if whole or refused with ValueError."""
    file = tmp_path / "data.npz"
    np.savez_compressed(file, **arrays_of())
    whole = file.read_bytes()
    for position in range(0, len(whole), 11):
        damaged = bytearray(whole)
        damaged[position] ^= 0xFF
        file.write_bytes(damaged)
        with contextlib.suppress(ValueError):
            read_dataset(file)


def test_a_lone_array_is_refused(tmp_path):
    """A .npy file under an archive's name is refused as no archive."""
    file = tmp_path / "data.npz"
    buffer = io.BytesIO()
    np.save(buffer, np.arange(3))
    file.write_bytes(buffer.getvalue())
    assert "not a readable .npz archive" in refusal(file)


def test_a_zip_of_other_files_is_refused(tmp_path):
    """A zip archive whose members have the right names but are no arrays is refused."""
    file = tmp_path / "data.npz"
    with zipfile.ZipFile(file, "w") as archive:
        for name in ARRAYS:
            archive.writestr(f"{name}.npy", "no array")
    refusal(file)


def test_extra_arrays_are_kept_apart(tmp_path):
    """Masks and other extras are read where they are asked for and don't hinder the others."""
    masks = np.ones((4, 6, 6), dtype=bool)
    np.savez(tmp_path / "data.npz", **arrays_of(train_masks=masks))
    assert read_dataset(tmp_path / "data.npz").image_size == 6
    found = read_arrays(tmp_path / "data.npz", ("train_masks",))
    np.testing.assert_array_equal(found["train_masks"], masks)
    np.savez(tmp_path / "bare.npz", **arrays_of())
    with pytest.raises(ValueError, match="lacks train_masks"):
        read_arrays(tmp_path / "bare.npz", ("train_masks",))


def test_moving_a_split_moves_images_and_labels(digits):
    """A split moved to a device has both of its tensors there."""
    moved = digits.train.to(torch.device("meta"))
    assert moved.images.device.type == moved.labels.device.type == "meta"
    assert replace(digits, train=moved).image_size == 12
