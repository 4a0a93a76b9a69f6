"""Cluttered digits: where they come from, where they lie, and what doesn't fit."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from distillation.digits import MASK_LEVEL, Construction, enlarge, make_digits

# Every image is a source digit itself: nothing is enlarged, moved or covered.
PLAIN = Construction(
    image_size=8,
    digit_size=8,
    clutter_pieces=0,
    clutter_size=8,
    train_placements=1,
    test_placements=1,
    test_fraction=0.3,
    seed=0,
)
CLUTTERED = replace(
    PLAIN,
    image_size=24,
    digit_size=12,
    clutter_pieces=4,
    clutter_size=6,
    train_placements=2,
    test_fraction=0.6,
)
SPLITS = ("train", "test")


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
def test_splits_share_no_source_digit(seed):
    """Each of the 1,797 handwritten digits is in one split, and only there, with its label."""
    arrays = make_digits(replace(PLAIN, seed=seed))
    train, test = (sources_of(arrays[f"{split}_images"]) for split in SPLITS)
    assert sorted(train + test) == list(range(1797))
    labels = np.asarray(load_digits(return_X_y=True)[1])
    np.testing.assert_array_equal(arrays["train_labels"], labels[train])
    np.testing.assert_array_equal(arrays["test_labels"], labels[test])


def test_clutter_comes_from_the_same_split():
    """Pieces are those of other digits of an image's own split."""
    plain = make_digits(replace(PLAIN, test_fraction=0.5))
    # A piece as large as a whole digit on a canvas of that size covers it in place.
    covered = make_digits(replace(PLAIN, test_fraction=0.5, clutter_pieces=1))
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
def test_counts_follow_fraction_and_placements(fraction, train, test):
    """Each digit is placed as often as asked, and classes keep their shares in both splits."""
    construction = replace(PLAIN, test_fraction=fraction, train_placements=3, test_placements=2)
    arrays = make_digits(construction)
    assert len(arrays["train_images"]) == 3 * train
    assert len(arrays["test_images"]) == 2 * test
    whole = np.bincount(np.asarray(load_digits(return_X_y=True)[1])) / 1797
    for split, count in (("train", train), ("test", test)):
        shares = np.bincount(arrays[f"{split}_labels"], minlength=10) / len(
            arrays[f"{split}_labels"]
        )
        np.testing.assert_allclose(shares, whole, atol=1.01 / count)


@pytest.mark.parametrize("construction", [PLAIN, CLUTTERED])
def test_shapes_and_types(construction):
    """Images are uint8 (N, S, S, 1), labels int64, masks booleans (N, S, S), classes 0 to 9."""
    arrays = make_digits(construction)
    size = construction.image_size
    assert set(arrays) == {"class_names"} | {
        f"{split}_{name}" for split in SPLITS for name in ("images", "labels", "masks")
    }
    assert arrays["class_names"].tolist() == [str(digit) for digit in range(10)]
    for split in SPLITS:
        count = len(arrays[f"{split}_labels"])
        assert arrays[f"{split}_images"].shape == (count, size, size, 1)
        assert arrays[f"{split}_images"].dtype == np.uint8
        assert arrays[f"{split}_masks"].shape == (count, size, size)
        assert arrays[f"{split}_masks"].dtype == np.bool_
        assert arrays[f"{split}_labels"].dtype == np.int64


def test_same_construction_same_arrays():
    """One construction gives the same arrays each time, and another seed gives others."""
    first, second = make_digits(CLUTTERED), make_digits(CLUTTERED)
    other = make_digits(replace(CLUTTERED, seed=1))
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name])
    assert not np.array_equal(first["train_images"], other["train_images"])


def test_masks_are_the_digit():
    """A mask is the digit's own bright pixels, as many as it has and all of them bright."""
    lone = replace(CLUTTERED, clutter_pieces=0)
    plain = make_digits(replace(PLAIN, test_fraction=0.6, train_placements=2))
    for construction in (lone, CLUTTERED):
        arrays = make_digits(construction)
        for split in SPLITS:
            images, masks = arrays[f"{split}_images"][..., 0], arrays[f"{split}_masks"]
            sources = source_digits()[sources_of(plain[f"{split}_images"])]
            enlarged = [
                np.asarray(Image.fromarray(digit).resize((12, 12), Image.Resampling.BICUBIC))
                for digit in sources
            ]
            expected = [np.count_nonzero(digit > MASK_LEVEL) for digit in enlarged]
            assert masks.sum(axis=(1, 2)).tolist() == expected
            assert (images[masks] > MASK_LEVEL).all()
            if construction == lone:
                np.testing.assert_array_equal(masks, images > MASK_LEVEL)


def test_digits_lie_everywhere():
    """Every place inside the canvas is taken, each about equally often."""
    plain = make_digits(PLAIN)["train_images"][..., 0]
    canvases = make_digits(replace(PLAIN, image_size=12))["train_images"][..., 0]
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


def test_clutter_adds_light_outside_the_digit():
    """Pieces of other digits lie where the digit itself does not."""
    arrays = make_digits(CLUTTERED)
    images, masks = arrays["test_images"][..., 0], arrays["test_masks"]
    outside = ((images > MASK_LEVEL) & ~masks).any(axis=(1, 2))
    assert outside.mean() > 0.95


def test_enlarging_by_one_changes_nothing():
    """A digit of 8 pixels keeps its levels, from 0 to 16, as 0 to 255."""
    image = np.arange(64).reshape(8, 8) % 17
    np.testing.assert_array_equal(enlarge(image, 8), np.rint(image * 255 / 16))


@pytest.mark.parametrize("size", [8, 16, 28])
def test_enlarging_keeps_the_full_scale(size):
    """An enlarged full square is as bright and an empty one as dark as before."""
    assert (enlarge(np.full((8, 8), 16), size) == 255).all()
    assert (enlarge(np.zeros((8, 8)), size) == 0).all()
    assert enlarge(np.zeros((8, 8)), size).shape == (size, size)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"digit_size": 9}, "digit_size is 9; allowed: at most image_size, 8"),
        ({"clutter_size": 9}, "clutter_size is 9; allowed: at most digit_size, 8"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes, message):
    """A digit larger than its canvas, or a piece larger than a digit, raises an error."""
    with pytest.raises(ValueError, match=message):
        make_digits(replace(PLAIN, **changes))
