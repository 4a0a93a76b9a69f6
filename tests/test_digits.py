"""Cluttered digits: where they come from, where they lie, and what doesn't fit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from sklearn.datasets import load_digits

from distillation.formats.digits import MASK_LEVEL, Settings, enlarge, read
from distillation.settings.base import SettingsError, checked
from shell import ROOT

# Every image is a source digit itself: nothing is enlarged, moved or covered.
PLAIN = {
    "image_size": 8,
    "digit_size": 8,
    "clutter_pieces": 0,
    "clutter_size": 8,
    "train_placements": 1,
    "test_placements": 1,
    "test_fraction": 0.3,
    "seed": 0,
}
CLUTTERED = PLAIN | {
    "image_size": 24,
    "digit_size": 12,
    "clutter_pieces": 4,
    "clutter_size": 6,
    "train_placements": 2,
    "test_fraction": 0.6,
}
SPLITS = ("train", "test")


def make(settings: dict[str, Any], **changes: Any) -> dict[str, np.ndarray]:
    """Return the arrays of settings, some of them changed."""
    return read(checked(Settings, settings | changes), Path(), 1)


@pytest.fixture(scope="module")
def cluttered() -> dict[str, np.ndarray]:
    """Return the arrays of digits among clutter."""
    return make(CLUTTERED)


def source_digits() -> np.ndarray:
    """Return scikit-learn's digits as uint8 (1797, 8, 8), 0 to 255."""
    pixels = np.asarray(load_digits(return_X_y=True)[0])
    return np.rint(pixels.reshape(-1, 8, 8) * 255 / 16).astype(np.uint8)


def sources_of(images: np.ndarray) -> list[int]:
    """Return the index of the source digit that each plain image is."""
    by_content = {digit.tobytes(): index for index, digit in enumerate(source_digits())}
    assert len(by_content) == 1797
    return [by_content[image.tobytes()] for image in images[..., 0]]


@pytest.mark.parametrize("seed", [0, 1])
def test_splits_share_no_source_digit(seed: int) -> None:
    """Each of the 1,797 handwritten digits is in one split, and only there, with its label."""
    arrays = make(PLAIN, seed=seed)
    train, test = (sources_of(arrays[f"{split}_images"]) for split in SPLITS)
    assert sorted(train + test) == list(range(1797))
    labels = np.asarray(load_digits(return_X_y=True)[1])
    np.testing.assert_array_equal(arrays["train_labels"], labels[train])
    np.testing.assert_array_equal(arrays["test_labels"], labels[test])


def test_held_out_digits_are_in_no_other_split() -> None:
    """Held out are training digits, which are neither trained on nor of the test split."""
    held = {"validation_fraction": 0.2, "validation_seed": 3}
    before, after = make(PLAIN), make(PLAIN, **held)
    train, test = (sources_of(after[f"{split}_images"]) for split in SPLITS)
    assert sorted(train + test) == sorted(sources_of(before["train_images"]))
    sizes = checked(Settings, PLAIN | held | {"train_placements": 3, "test_placements": 2}).sizes()
    # Estimates count before digits are split by whole numbers, twice here.
    assert abs(sizes.train - 3 * len(train)) <= 6
    assert abs(sizes.test - 2 * len(test)) <= 4


def test_candidates_of_the_first_run_see_no_test_digit() -> None:
    """What the first run was chosen on are digits that no test split of it or a repetition has."""
    study = yaml.safe_load((ROOT / "docs/results/first_run.yaml").read_text())["data"]
    own = yaml.safe_load((ROOT / "config.yaml").read_text())["data"]["digits"]
    split_by = ("test_fraction", "seed", "validation_fraction", "validation_seed")

    def shown(data: dict[str, Any], split: str) -> set[int]:
        """Return the digits of a split."""
        plain = make(PLAIN, **{key: data[key] for key in split_by if key in data})
        return {*sources_of(plain[f"{split}_images"])}

    tested = [shown(data, "test") for data in (own, study["digits_half"])]
    held_out = [data for data in study.values() if data["validation_fraction"]]
    assert len(held_out) == 2
    for data in held_out:
        for split in SPLITS:
            assert all(shown(data, split).isdisjoint(test) for test in tested)


def test_clutter_comes_from_the_same_split() -> None:
    """Pieces are those of other digits of an image's own split."""
    plain = make(PLAIN, test_fraction=0.5)
    # A piece as large as a whole digit on a canvas of that size covers it in place.
    covered = make(PLAIN, test_fraction=0.5, clutter_pieces=1)
    for split in SPLITS:
        digits = plain[f"{split}_images"]
        for number in range(200):
            unions = np.maximum(digits, digits[number])
            unions[number] = 0
            matches = (unions == covered[f"{split}_images"][number]).all(axis=(1, 2, 3))
            assert matches.any()


@pytest.mark.parametrize(
    ("fraction", "train", "test"), [(0.3, 1257, 540), (0.8, 359, 1438), (0.95, 89, 1708)]
)
def test_counts_follow_fraction_and_placements(fraction: float, train: int, test: int) -> None:
    """Each digit is placed as often as asked, and classes keep their shares in both splits."""
    changes = {"test_fraction": fraction, "train_placements": 3, "test_placements": 2}
    arrays = make(PLAIN, **changes)
    whole = np.bincount(np.asarray(load_digits(return_X_y=True)[1])) / 1797
    for split, count, placements in (("train", train, 3), ("test", test, 2)):
        labels = arrays[f"{split}_labels"]
        assert len(labels) == len(arrays[f"{split}_images"]) == placements * count
        np.testing.assert_allclose(np.bincount(labels) / len(labels), whole, atol=1.01 / count)
    # Estimates count before digits are split by whole numbers.
    sizes = checked(Settings, PLAIN | changes).sizes()
    assert abs(sizes.train - 3 * train) <= 3
    assert abs(sizes.test - 2 * test) <= 3


def test_shapes_and_types(cluttered: dict[str, np.ndarray]) -> None:
    """Images are uint8 (N, S, S, 1), labels int64, masks booleans (N, S, S), classes 0 to 9."""
    kinds = {"images": (np.uint8, (24, 24, 1)), "masks": (np.bool_, (24, 24))}
    kinds["labels"] = (np.int64, ())
    expected = {f"{split}_{kind}": kinds[kind] for split in SPLITS for kind in kinds}
    assert {*cluttered} == {*expected, "class_names"}
    for name, kind in expected.items():
        assert (cluttered[name].dtype, cluttered[name].shape[1:]) == kind
    assert cluttered["class_names"].tolist() == [str(digit) for digit in range(10)]


def test_same_settings_same_arrays(cluttered: dict[str, np.ndarray]) -> None:
    """The same settings give the same arrays each time, and another seed gives others."""
    for name, array in make(CLUTTERED).items():
        np.testing.assert_array_equal(array, cluttered[name])
    first, other = (make(PLAIN, seed=seed)["train_images"] for seed in (0, 1))
    assert not np.array_equal(first, other)


def test_masks_are_the_digit(cluttered: dict[str, np.ndarray]) -> None:
    """A mask is the digit's own bright pixels, all that it has; clutter is bright beside it."""
    plain = make(PLAIN, test_fraction=0.6, train_placements=2)
    lone = make(CLUTTERED, clutter_pieces=0)
    for split in SPLITS:
        sources = source_digits()[sources_of(plain[f"{split}_images"])]
        enlarged = [
            np.asarray(Image.fromarray(digit).resize((12, 12), Image.Resampling.BICUBIC))
            for digit in sources
        ]
        expected = [np.count_nonzero(digit > MASK_LEVEL) for digit in enlarged]
        for arrays in (lone, cluttered):
            bright, masks = arrays[f"{split}_images"][..., 0] > MASK_LEVEL, arrays[f"{split}_masks"]
            assert masks.sum(axis=(1, 2)).tolist() == expected
            assert bright[masks].all()
            beside = (bright & ~masks).any(axis=(1, 2)).mean()
            assert beside > 0.95 if arrays is cluttered else beside == 0


def test_digits_lie_everywhere() -> None:
    """Every place inside the canvas is taken, each about equally often."""
    plain = make(PLAIN)["train_images"][..., 0]
    canvases = make(PLAIN, image_size=12)["train_images"][..., 0]
    places = [
        (row, column)
        for digit, canvas in zip(plain, canvases, strict=True)
        for row in range(5)
        for column in range(5)
        if np.array_equal(canvas[row : row + 8, column : column + 8], digit)
    ]
    assert len(places) == len(canvases)
    counts = [places.count((row, column)) for row in range(5) for column in range(5)]
    expected = len(places) / 25
    assert max(abs(count - expected) for count in counts) < 5 * expected**0.5


@pytest.mark.parametrize("size", [8, 16, 28])
def test_enlarging_keeps_the_full_scale(size: int) -> None:
    """An enlarged full square is as bright as before, an empty one as dark; 8 pixels stay."""
    assert (enlarge(np.full((8, 8), 16), size) == 255).all()
    assert not enlarge(np.zeros((8, 8)), size).any()
    image = np.arange(64).reshape(8, 8) % 17
    np.testing.assert_array_equal(enlarge(image, 8), np.rint(image * 255 / 16))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"digit_size": 9}, "digits: digit_size is 9; allowed: at most image_size, 8"),
        ({"clutter_size": 9}, "digits: clutter_size is 9; allowed: at most digit_size, 8"),
        # A digit stands in several images: they would stand on both sides.
        ({"validation_fraction": 0.1}, "digits: found one of validation_fraction, validation_seed"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    """A digit must fit on its canvas, a piece into a digit; two keys hold digits out."""
    with pytest.raises(SettingsError, match=message):
        checked(Settings, PLAIN | changes, "digits")
