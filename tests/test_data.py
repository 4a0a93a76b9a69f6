"""Prepared data: views, batches, and what the reader refuses."""

import contextlib
import io
import itertools
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torchvision.transforms.v2.functional import crop, hflip, pad

from distillation.data.arrays import digest_arrays, read_arrays
from distillation.data.dataset import (
    ARRAYS,
    Dataset,
    augment,
    count_views,
    draw_epoch,
    epoch_generator,
    normalise,
    read_dataset,
    view_number,
)

Mode = Literal["reflect", "constant"]


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


def plain_view(
    image: np.ndarray, padding: int, mode: Mode, row: int, column: int, flip: bool
) -> np.ndarray:
    """Pad, crop, then mirror one image (H, W, C)."""
    size = len(image)
    padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)), mode)
    view = padded[row : row + size, column : column + size]
    return view[:, ::-1] if flip else view


@pytest.mark.parametrize(("border", "mode"), [("reflect", "reflect"), ("zeros", "constant")])
@pytest.mark.parametrize(
    ("size", "channels", "padding"), [(32, 3, 4), (9, 1, 4), (5, 2, 4), (6, 3, 1), (6, 3, 0)]
)
def test_augment_equals_pad_crop_and_mirror(size, channels, padding, border, mode):
    """Every offset, mirrored or not, gives the view of a padded copy, cut and mirrored."""
    offsets = list(itertools.product(range(2 * padding + 1), repeat=2)) * 2
    count = len(offsets)
    flips = [number < count // 2 for number in range(count)]
    images = images_of(count, size, channels)
    drawn = torch.tensor(offsets), torch.tensor(flips)
    found = augment(torch.from_numpy(images), padding, border, *drawn)
    expected = [
        plain_view(image, padding, mode, row, column, flip)
        for image, (row, column), flip in zip(images, offsets, flips, strict=True)
    ]
    assert found.dtype == torch.uint8
    np.testing.assert_array_equal(found.numpy(), np.stack(expected))


def test_zero_padded_crops_are_those_of_torchvision():
    """Zeros give the crop, and its mirror image, that torchvision's transforms give."""
    [image] = torch.from_numpy(images_of(1, 8, 3))
    padded = pad(image.permute(2, 0, 1), [4, 4, 4, 4])
    for row, column, flip in itertools.product(range(9), range(9), (False, True)):
        expected = crop(padded, row, column, 8, 8)
        expected = hflip(expected) if flip else expected
        drawn = torch.tensor([[row, column]]), torch.tensor([flip])
        [found] = augment(image[None], 4, "zeros", *drawn)
        assert torch.equal(found, expected.permute(1, 2, 0))


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


def test_an_epoch_shows_each_image_once_in_one_of_all_views() -> None:
    """Each place comes once, out of order; each of the views, numbered apart, about as often."""
    count = 8100
    order, offsets, flips = draw_epoch(count, 4, True, epoch_generator(0, 1))
    assert sorted(order.tolist()) == list(range(count))
    assert order.tolist() != list(range(count))
    views, counts = view_number(4, offsets, flips).unique(return_counts=True)
    assert views.tolist() == list(range(162)) == list(range(count_views(4, flip=True)))
    assert (counts - 50).abs().max() < 5 * 50**0.5


@pytest.mark.parametrize("padding", [0, 2])
def test_flips_are_drawn_even_where_none_are_wanted(padding: int) -> None:
    """Without flips the order and the crops are the same; without padding nothing is cut."""
    flipped, plain = (
        draw_epoch(32, padding, flip, epoch_generator(3, 1)) for flip in (True, False)
    )
    assert torch.equal(plain[0], flipped[0])
    assert torch.equal(plain[1], flipped[1])
    assert flipped[2].any()
    assert not plain[2].any()
    assert int(plain[1].max()) == 2 * padding
    assert count_views(padding, flip=False) == (2 * padding + 1) ** 2


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ({"b": np.array(["x"]), "a": np.asfortranarray(np.arange(12).reshape(3, 4))}, True),
        ({"c": np.arange(12).reshape(3, 4), "b": np.array(["x"])}, False),
        ({"a": np.arange(12).reshape(4, 3), "b": np.array(["x"])}, False),
        ({"a": np.arange(12, dtype=np.uint64).reshape(3, 4), "b": np.array(["x"])}, False),
        ({"a": np.arange(1, 13).reshape(3, 4), "b": np.array(["x"])}, False),
        ({"a": np.arange(12).reshape(3, 4)}, False),
    ],
    ids=["order and layout", "name", "shape", "type", "content", "one less"],
)
def test_digest_is_of_contents(other: dict[str, np.ndarray], same: bool) -> None:
    """Names, shapes, types and contents decide the digest; order and layout in memory don't."""
    arrays = {"a": np.arange(12).reshape(3, 4), "b": np.array(["x"])}
    assert (digest_arrays(other) == digest_arrays(arrays)) == same


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_reading_returns_what_was_written(tmp_path: Path, save: Callable[..., None]) -> None:
    """An archive, compressed or not, comes back as it was, labels in int64, with its digest."""
    arrays = arrays_of(train_labels=np.array([0, 1, 1, 0], dtype=np.uint8))
    save(tmp_path / "data.npz", **arrays)
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


def test_archives_tell_whether_images_are_held_out(tmp_path: Path) -> None:
    """An archive that doesn't tell has a test split of test images."""
    for told in ({}, {"held_out": np.array(False)}, {"held_out": np.array(True)}):
        np.savez(tmp_path / "data.npz", **arrays_of(**told))
        assert read_dataset(tmp_path / "data.npz").held_out is bool(told.get("held_out", False))


def test_missing_file_is_named(tmp_path: Path) -> None:
    """A file that isn't there raises FileNotFoundError that names it."""
    with pytest.raises(FileNotFoundError, match=r"none\.npz: no such file"):
        read_dataset(tmp_path / "none.npz")


def refusal(file: Path) -> str:
    """Return the message of the ValueError that reading raises, which names the file."""
    with pytest.raises(ValueError, match=re.escape(str(file))) as caught:
        read_dataset(file)
    return str(caught.value)


def test_missing_array_is_named(tmp_path):
    """An archive without one of the arrays is refused by the name of what it lacks."""
    for name in ARRAYS:
        arrays = arrays_of()
        del arrays[name]
        np.savez(tmp_path / "data.npz", **arrays)
        assert f"lacks {name}" in refusal(tmp_path / "data.npz")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test_images": images_of(2, 6, 3).astype(np.int64)}, "test_images is int64"),
        ({"train_images": images_of(4, 6, 3)[..., 0]}, "train_images is uint8 (4, 6, 6)"),
        ({"train_images": images_of(4, 6, 3)[:, :5]}, "train_images is uint8 (4, 5, 6, 3)"),
        ({"test_images": images_of(2, 8, 3)}, "test_images is uint8 (2, 8, 8, 3); expected"),
        ({"test_images": images_of(0, 6, 3)}, "test_images is uint8 (0, 6, 6, 3)"),
        ({"train_labels": np.array([0, 1, 1])}, "train_labels is int64 (3,) [0, 1, 1]; expected"),
        ({"train_labels": np.array([[0], [1], [1], [0]])}, "train_labels is int64 (4, 1)"),
        ({"train_labels": np.array([0.0, 0.5, 1.0, 0.0])}, "train_labels is float64"),
        ({"train_labels": np.array([0, 1, 2, 0])}, "[0, 1, 2, 0]; expected numbers from 0 to 1"),
        ({"test_labels": np.array([0, -1])}, "[0, -1]; expected numbers from 0 to 1"),
        ({"mean": np.array([1.0])}, "mean is float64 (1,) [1.0]; expected a number for each of 3"),
        ({"mean": np.array([1.0, np.nan, 3.0])}, "[1.0, nan, 3.0]; expected finite numbers"),
        ({"std": np.array([4.0, 0.0, 6.0])}, "[4.0, 0.0, 6.0]; expected finite numbers above 0"),
        ({"held_out": np.array([1])}, "held_out is int64 (1,) [1]; expected one truth value"),
        ({"class_names": np.array("cat")}, "class_names is <U3 () cat; expected a list of texts"),
        ({"class_names": np.array([["cat", "dog"]])}, "class_names is <U3 (1, 2)"),
        ({"class_names": np.array([0, 1])}, "class_names is int64 (2,) [0, 1]; expected a list"),
        ({"class_names": np.array(["cat"])}, "['cat']; expected two or more, none twice"),
        ({"class_names": np.array(["cat", "cat"])}, "['cat', 'cat']; expected two or more, none"),
        ({"train_images": images_of(4, 6, 0)}, "train_images is uint8 (4, 6, 6, 0); expected"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    """Arrays of wrong type, shape or range are refused with what was found and in which file."""
    np.savez(tmp_path / "data.npz", **arrays_of(**changes))
    assert message in refusal(tmp_path / "data.npz")


@pytest.mark.parametrize("bare", [False, True])
def test_planted_pickles_are_not_run(
    tmp_path: Path, planted: object, marker: Path, bare: bool
) -> None:
    """Pickled objects in an archive, or in place of one, are refused, and nothing in them runs."""
    file = tmp_path / "data.npz"
    if bare:
        file.write_bytes(pickle.dumps(planted))
    else:
        np.savez(file, **arrays_of(class_names=np.array([planted, planted], dtype=object)))
    assert "pickle" in refusal(file)
    assert not marker.exists()


def test_damaged_archives_do_not_crash_the_reader(tmp_path: Path) -> None:
    """Cut anywhere an archive is refused; whichever byte is damaged, it is read or refused."""
    file = tmp_path / "data.npz"
    np.savez_compressed(file, **arrays_of())
    whole = file.read_bytes()
    for length in (0, 1, 4, 30, *range(100, len(whole), 97), len(whole) - 1):
        file.write_bytes(whole[:length])
        assert "not a readable .npz archive" in refusal(file)
    # Version, encryption and compression of an entry, which zipfile can't handle when they are odd.
    entry = whole.index(b"PK\1\2")
    fatal = {entry + 6: 0xFF, entry + 8: 0x01, entry + 10: 0x63}
    for position in (*range(0, len(whole), 11), *fatal):
        damaged = bytearray(whole)
        damaged[position] = fatal.get(position, whole[position] ^ 0xFF)
        file.write_bytes(damaged)
        if position in fatal:
            assert "not a readable .npz archive" in refusal(file)
        else:
            with contextlib.suppress(ValueError):
                read_dataset(file)


def test_other_files_under_the_name_of_an_archive_are_refused(tmp_path: Path) -> None:
    """A lone array is no archive, and neither is a zip of texts with the names of arrays."""
    buffer = io.BytesIO()
    np.save(buffer, np.arange(3))
    (tmp_path / "lone.npz").write_bytes(buffer.getvalue())
    assert "not a readable .npz archive" in refusal(tmp_path / "lone.npz")
    with zipfile.ZipFile(tmp_path / "texts.npz", "w") as archive:
        for name in ARRAYS:
            archive.writestr(f"{name}.npy", "no array")
    refusal(tmp_path / "texts.npz")


def test_extra_arrays_are_kept_apart(tmp_path):
    """Masks and other extras are read where they are asked for and don't hinder the others."""
    masks = np.ones((4, 6, 6), dtype=bool)
    np.savez(tmp_path / "data.npz", **arrays_of(train_masks=masks))
    assert read_dataset(tmp_path / "data.npz").image_size == 6
    found = read_arrays(tmp_path / "data.npz", ("train_masks",))
    np.testing.assert_array_equal(found["train_masks"], masks)
    with pytest.raises(ValueError, match="lacks test_masks"):
        read_arrays(tmp_path / "data.npz", ("test_masks",))


def test_moving_a_split_moves_images_and_labels(digits: Dataset) -> None:
    """A split moved to a device has both of its tensors there."""
    moved = digits.train.to(torch.device("meta"))
    assert moved.images.device.type == moved.labels.device.type == "meta"
