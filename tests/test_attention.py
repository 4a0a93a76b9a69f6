"""Measures of attention maps: known values, references, ranges and what isn't defined."""

import math
from collections.abc import Callable
from itertools import combinations
from typing import get_args

import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
import torch
from PIL import Image
from sklearn.metrics import jaccard_score
from sklearn.metrics.pairwise import cosine_similarity

from distillation.measuring import attention
from distillation.measuring.attention import BorderPart

Metric = Callable[[np.ndarray], np.ndarray]

ALONE: dict[str, Metric] = {
    "entropy": attention.normalised_entropy,
    "effective_area": attention.effective_area,
    "gini": attention.gini,
    "peak_over_mean": attention.peak_over_mean,
    **{
        f"border {part}": lambda maps, part=part: attention.border_energy(maps, part)
        for part in get_args(BorderPart)
    },
}
SIZE = 8


def random_maps(images: int = 30, size: int = SIZE, seed: int = 0) -> np.ndarray:
    """Return maps of skewed values, as squares have."""
    return np.random.default_rng(seed).exponential(size=(images, size, size)) ** 2


def random_masks(images: int = 30, size: int = SIZE, seed: int = 1) -> np.ndarray:
    """Return masks of all areas, none empty and none full."""
    generator = np.random.default_rng(seed)
    ranks = scipy.stats.rankdata(generator.random((images, size**2)), axis=1)
    areas = generator.integers(1, size**2, size=(images, 1))
    return (ranks <= areas).reshape(images, size, size)


def peak(row: int, column: int, size: int = SIZE, height: float = 3.0) -> np.ndarray:
    """Return one map that is `height` in one place and 0 elsewhere, (1, size, size)."""
    maps = np.zeros((1, size, size))
    maps[0, row, column] = height
    return maps


def uniform(size: int = SIZE, images: int = 1) -> np.ndarray:
    """Return maps that have one value."""
    return np.full((images, size, size), 0.7)


def upper_half(size: int = SIZE) -> np.ndarray:
    """Return a map that is uniform in its upper half and 0 below."""
    maps = np.zeros((1, size, size))
    maps[:, : size // 2] = 0.3
    return maps


def every_metric(maps: np.ndarray) -> dict[str, np.ndarray]:
    """Return all metrics of maps, those with masks and edges too."""
    masks, other = random_masks(len(maps)), random_maps(len(maps), seed=2)
    return {name: metric(maps) for name, metric in ALONE.items()} | {
        "cosine": attention.cosine(maps, other),
        "spearman": attention.spearman(maps, other),
        "object_energy": attention.object_energy(maps, masks),
        "pointing_game": attention.pointing_game(maps, masks),
        "object_iou": attention.object_iou(maps, masks),
    }


@pytest.mark.parametrize("size", [3, 7, 8])
def test_uniform_maps(size: int) -> None:
    """A uniform map has the entropy, area, peak and borders of uniform maps, and no inequality."""
    maps = uniform(size)
    expected = {name: 0.0 if name == "gini" else 1.0 for name in ALONE}
    assert {name: metric(maps).item() for name, metric in ALONE.items()} == pytest.approx(expected)


@pytest.mark.parametrize(("size", "sides"), [(1, False), (2, True)])
def test_maps_that_are_all_border(size: int, sides: bool) -> None:
    """A ring that is the whole map has no ratio, which would be 1 of any map; a side may have."""
    maps = np.random.default_rng(0).random((5, size, size))
    assert np.isnan(attention.border_energy(maps)).all()
    for side in ("top", "bottom", "left", "right"):
        found = attention.border_energy(maps, side)
        assert np.isfinite(found).all() if sides else np.isnan(found).all()


@pytest.mark.parametrize(
    ("maps", "entropy", "area"),
    [
        *((peak(*place), 0, 1 / 64) for place in ((3, 4), (0, 0), (7, 2))),
        (upper_half(), math.log(32) / math.log(64), 1 / 2),
    ],
)
def test_maps_that_are_even_on_a_part(maps: np.ndarray, entropy: float, area: float) -> None:
    """A map of one position is as concentrated as can be, of half of them has known values."""
    found = [ALONE[name](maps).item() for name in ("entropy", "effective_area", "gini")]
    assert found == pytest.approx([entropy, area, 1 - area])
    assert attention.peak_over_mean(maps).item() == pytest.approx(1 / area)


def test_metrics_equal_plain_loops() -> None:
    """On random maps the metrics are what their formulas give, position by position."""
    assert get_args(BorderPart) == ("ring", "top", "bottom", "left", "right")
    for maps in random_maps(5):
        flat = sorted(maps.ravel().tolist())
        total, count = sum(flat), len(flat)
        entropy = -sum(value / total * math.log(value / total) for value in flat)
        pairs = sum(abs(one - other) for one, other in combinations(flat, 2))
        ring = sum(
            maps[row, column]
            for row in range(SIZE)
            for column in range(SIZE)
            if row in (0, SIZE - 1) or column in (0, SIZE - 1)
        )
        expected = {
            "entropy": entropy / math.log(count),
            "effective_area": math.exp(entropy) / count,
            # Half of the relative mean absolute difference.
            "gini": pairs / (count * total),
            "peak_over_mean": flat[-1] / (total / count),
            "border ring": ring / total / (28 / 64),
            "border top": sum(maps[0]) / total * SIZE,
            "border bottom": sum(maps[-1]) / total * SIZE,
            "border left": sum(maps[:, 0]) / total * SIZE,
            "border right": sum(maps[:, -1]) / total * SIZE,
        }
        found = {name: metric(maps[None]).item() for name, metric in ALONE.items()}
        assert found == pytest.approx(expected)


def test_ranges() -> None:
    """No metric leaves its range, on maps from nearly uniform to nearly one position."""
    count, side = SIZE**2, SIZE
    powers = (0.01, 1, 30)
    maps = np.concatenate([random_maps(50, seed=int(power)) ** power for power in powers])
    ranges = {
        "entropy": (0, 1),
        "effective_area": (1 / count, 1),
        "gini": (0, 1 - 1 / count),
        "peak_over_mean": (1, count),
        "border ring": (0, count / (4 * (side - 1))),
        **{f"border {part}": (0, side) for part in ("top", "bottom", "left", "right")},
        "cosine": (0, 1),
        "spearman": (-1, 1),
        "object_energy": (0, count),
        "pointing_game": (0, 1),
        "object_iou": (0, 1),
    }
    for name, values in every_metric(maps).items():
        low, high = ranges[name]
        assert values.shape == (150,), name
        assert values.min() >= low - 1e-12, name
        assert values.max() <= high + 1e-12, name
        assert np.unique(values.round(6)).size > 1, name


@pytest.mark.parametrize("scale", [1e-20, 5.0, 1e20])
def test_scale_does_not_matter(scale: float) -> None:
    """Maps in other units have the same values in every metric."""
    maps = random_maps()
    for (name, one), other in zip(
        every_metric(maps).items(), every_metric(maps * scale).values(), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12, err_msg=name)


def test_maps_of_zeros_have_no_value() -> None:
    """A map of zeros is NaN in every metric, and leaves those beside it alone."""
    maps = random_maps()
    whole = every_metric(maps)
    maps[3] = 0
    for name, values in every_metric(maps).items():
        assert np.isnan(values[3]), name
        others = np.arange(len(maps)) != 3
        np.testing.assert_array_equal(values[others], whole[name][others], err_msg=name)


def test_constant_maps_have_no_rank_correlation() -> None:
    """A map that is the same everywhere has no order: NaN, whichever of the two it is."""
    constant, maps = uniform(images=4), random_maps(4)
    assert np.isnan(attention.spearman(constant, maps)).all()
    assert np.isnan(attention.spearman(maps, constant)).all()
    assert attention.cosine(constant, constant) == pytest.approx(1)


@pytest.mark.parametrize("levels", [2, 3, 1000])
def test_spearman_is_that_of_scipy(levels: int) -> None:
    """Rank correlations are SciPy's, with many ties and without."""
    first, second = (
        np.floor(np.random.default_rng(seed).random((20, 5, 5)) * levels) for seed in (0, 1)
    )
    found = attention.spearman(first, second)
    expected = [
        scipy.stats.spearmanr(one.ravel(), other.ravel()).statistic  # type: ignore[attr-defined]
        for one, other in zip(first, second, strict=True)
    ]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_cosine_is_that_of_scikit_learn() -> None:
    """Cosines are scikit-learn's; of maps that share no position they are 0."""
    first, second = random_maps(20), random_maps(20, seed=5)
    expected = np.diag(cosine_similarity(first.reshape(20, -1), second.reshape(20, -1)))
    np.testing.assert_allclose(attention.cosine(first, second), expected)
    assert attention.cosine(peak(0, 0), peak(5, 5)).item() == 0
    assert attention.cosine(upper_half(), uniform()).item() == pytest.approx(math.sqrt(0.5))


def image_dependence(maps: np.ndarray) -> float:
    """Return the image dependence of a stack of maps."""
    return attention.image_dependence(attention.unit_vectors(maps).mean(axis=0))[0]


def test_image_dependence_of_known_maps() -> None:
    """One map for all images, at any scale, is 0; N maps that share no position are 1 - 1 / N."""
    same = np.concatenate([peak(2, 3, height=height) for height in (0.1, 1, 7)])
    assert image_dependence(same) == pytest.approx(0)
    apart = np.concatenate([peak(place, place) for place in range(5)])
    assert image_dependence(apart) == pytest.approx(1 - 1 / 5)


def test_image_dependence_is_what_the_mean_leaves() -> None:
    """It is the mean squared distance of unit maps from their mean, and has its own gradient."""
    units = attention.unit_vectors(random_maps())
    mean = units.mean(axis=0)
    value, gradient = attention.image_dependence(mean)
    assert value == pytest.approx(np.square(units - mean).sum(axis=1).mean())
    steps = 1e-6 * np.eye(len(mean))
    changes = [attention.image_dependence(mean + step)[0] - value for step in steps]
    np.testing.assert_allclose(gradient, np.array(changes) / 1e-6, atol=1e-5)


@pytest.mark.parametrize("side", [3, SIZE])
def test_centre_prior(side: int) -> None:
    """The prior is SciPy's normal density in both directions, of a quarter of the side."""
    density = scipy.stats.norm.pdf(np.arange(side), (side - 1) / 2, side / 4)
    expected = np.outer(density, density)[None]
    found = attention.centre_prior(side)
    np.testing.assert_allclose(attention.unit_vectors(found), attention.unit_vectors(expected))


def blob(row: float, column: float) -> np.ndarray:
    """Return a map that falls off around one place, (1, SIZE, SIZE)."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    return np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 4)[None]


def test_controls_tell_what_chance_does_not() -> None:
    """A blob at the centre beats chance where objects are central, but not the centre prior.

    The map that is the object's mask has an IoU of 1 and hits; of a mask elsewhere it has nothing.
    """
    central, corner = np.zeros((2, 1, SIZE, SIZE), dtype=bool)
    central[:, 2:6, 2:6] = corner[:, :2, :2] = True
    prior = attention.centre_prior(SIZE)
    for metric in (attention.object_energy, attention.pointing_game, attention.object_iou):
        middle, away = metric(blob(3.5, 3.5), central), metric(blob(0.5, 0.5), corner)
        chance = metric(uniform(), central)
        assert middle > 2 * chance, metric
        assert middle / metric(prior, central) < 1.7, metric
        # A blob on an object elsewhere beats both.
        assert away > 2 * metric(uniform(), corner), metric
        assert away > 2 * metric(prior, corner), metric
        whole, nothing = metric(central.astype(float), central), metric(central * 1.0, corner)
        assert (whole, nothing) == (4 if metric is attention.object_energy else 1, 0), metric


def test_object_energy_of_known_maps() -> None:
    """Energy all in the object is one over its area, none is 0, and a uniform map is 1."""
    mask = np.zeros((1, 16, 16), dtype=bool)
    mask[:, 4:8, 8:12] = True
    assert attention.object_energy(peak(2, 4), mask).item() == pytest.approx(256 / 16)
    assert attention.object_energy(peak(1, 4), mask).item() == 0
    assert attention.object_energy(uniform(), mask).item() == pytest.approx(1)


def test_object_energy_of_partly_covered_positions() -> None:
    """A position that the object covers in part counts in part."""
    mask = np.zeros((1, 16, 16), dtype=bool)
    mask[0, 0, 0] = mask[0, 8, 8] = True
    # One pixel of the position's four; the mean of the mask is 2 / 256.
    assert attention.object_energy(peak(0, 0), mask).item() == pytest.approx(0.25 / (2 / 256))


def test_empty_masks_have_no_object() -> None:
    """Without an object in the image its measures and their chances are NaN."""
    maps, masks = random_maps(3), random_masks(3)
    masks[1] = False
    for values in (
        attention.object_energy(maps, masks),
        attention.pointing_game(maps, masks),
        attention.pointing_game_chance(masks, SIZE),
        attention.object_iou(maps, masks),
        attention.object_iou_chance(masks),
    ):
        assert np.isnan(values).tolist() == [False, True, False]


@pytest.mark.parametrize("size", [SIZE, 2 * SIZE])
def test_pointing_game_is_a_look_at_the_maximum(size: int) -> None:
    """Without ties the score is the share of the mask in the position of the map's maximum."""
    maps, masks = random_maps(), random_masks(size=size)
    step, expected = size // SIZE, []
    for each, mask in zip(maps, masks, strict=True):
        row, column = (step * place for place in np.unravel_index(each.argmax(), each.shape))
        expected.append(mask[row : row + step, column : column + step].mean())
    found = attention.pointing_game(maps, masks)
    np.testing.assert_allclose(found, expected)
    assert 0 < found.mean() < 1


def test_pointing_game_shares_ties() -> None:
    """Of equal maxima each counts by its share, so a uniform map scores what chance does."""
    mask = random_masks(1)
    maps = peak(0, 0) + peak(4, 4) + peak(7, 0)
    mask[0, [0, 4, 7], [0, 4, 0]] = [True, False, True]
    assert attention.pointing_game(maps, mask).item() == pytest.approx(2 / 3)
    for side in (SIZE, SIZE // 2, 3):
        chance = attention.pointing_game_chance(mask, side)
        assert attention.pointing_game(uniform(side), mask) == pytest.approx(chance)
        assert side == 3 or chance.item() == pytest.approx(mask.mean())


def test_peaks_of_noise_lie_anywhere() -> None:
    """Random maps hit the outer ring as often as chance, within five standard errors."""
    ring = np.ones((4000, 16, 16), dtype=bool)
    ring[:, 2:-2, 2:-2] = False
    values = attention.pointing_game(random_maps(4000), ring)
    chance = attention.pointing_game_chance(ring[:1], SIZE).item()
    assert abs(values.mean() - chance) < 5 * values.std() / math.sqrt(4000)


def test_iou_is_that_of_scikit_learn() -> None:
    """Without ties the IoU is scikit-learn's of the mask and as many of the largest pixels."""
    maps, masks = random_maps(), random_masks()
    expected = []
    for each, mask in zip(maps, masks, strict=True):
        largest = np.zeros(mask.size, dtype=bool)
        largest[np.argsort(each.ravel())[mask.size - mask.sum() :]] = True
        expected.append(jaccard_score(mask.ravel(), largest))
    np.testing.assert_allclose(attention.object_iou(maps, masks), expected)


def test_iou_shares_ties() -> None:
    """Equal pixels take their shares of the places that are left: a uniform map by the area."""
    mask = np.zeros((1, 8, 8), dtype=bool)
    mask[:, :2] = True
    # Each of the 64 pixels takes a quarter of a place; 4 of 16 are in the mask.
    assert attention.object_iou(uniform(), mask).item() == pytest.approx(4 / (32 - 4))
    # One place is taken inside, 15 are shared by 63 pixels, of which 15 are inside.
    common = 1 + 15 * 15 / 63
    found = attention.object_iou(uniform() + peak(0, 0), mask).item()
    assert found == pytest.approx(common / (32 - common))


def test_chance_of_iou_is_the_mean_over_all_draws() -> None:
    """Chance equals the mean over every way to draw as many pixels as the mask has."""
    mask = np.zeros((1, 3, 3), dtype=bool)
    for count, place in enumerate([(0, 0), (1, 1), (2, 0), (2, 2), (0, 1), (1, 0), (0, 2)], 1):
        mask[0][place] = True
        inside = set(np.flatnonzero(mask))
        scores = [
            len(inside & set(drawn)) / len(inside | set(drawn))
            for drawn in combinations(range(9), count)
        ]
        expected = sum(scores) / len(scores)
        assert attention.object_iou_chance(mask).item() == pytest.approx(expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_sobel_is_that_of_scipy(channels: int) -> None:
    """The magnitude is that of SciPy's two Sobel filters on each grey image."""
    images = np.random.default_rng(0).integers(256, size=(4, 9, 9, channels), dtype=np.uint8)
    for image, found in zip(images, attention.sobel_magnitude(images), strict=True):
        grey = image @ [0.299, 0.587, 0.114] if channels == 3 else image[..., 0].astype(float)
        rows, columns = (scipy.ndimage.sobel(grey, axis, mode="nearest") for axis in (0, 1))
        np.testing.assert_allclose(found, np.hypot(rows, columns))


def test_grey_is_that_of_pillow() -> None:
    """Equal channels leave grey as it is, and colours weigh as in Pillow, within its rounding."""
    colours = np.random.default_rng(0).integers(256, size=(8, 8, 3), dtype=np.uint8)
    grey = np.asarray(Image.fromarray(colours).convert("L"))
    found, of_grey = (attention.sobel_magnitude(each[None]) for each in (colours, grey[..., None]))
    # Half a grey level of rounding is at most 4 in each gradient.
    assert np.abs(found - of_grey).max() < math.hypot(4, 4)
    repeated = np.repeat(grey[..., None], 3, axis=2)
    np.testing.assert_allclose(attention.sobel_magnitude(repeated[None]), of_grey)


def test_sobel_of_known_images() -> None:
    """A step of one level has 4 on both of its sides and 0 elsewhere, a flat image nothing."""
    images = np.zeros((3, 6, 6, 1), dtype=np.uint8)
    images[0, :, 3:] = 1
    images[1] = 9
    expected = np.zeros((3, 6, 6))
    expected[0, :, 2:4] = 4
    np.testing.assert_array_equal(attention.sobel_magnitude(images), expected)


@pytest.mark.parametrize(("small", "large"), [(8, 32), (7, 28), (16, 16), (4, 13)])
def test_enlarged_maps(small: int, large: int) -> None:
    """Enlarging keeps constants and ramps, and nothing lies beyond the map's own values."""
    maps = random_maps(3, small)
    enlarged = attention.enlarge(maps, large)
    assert enlarged.shape == (3, large, large)
    assert enlarged.min() >= maps.min()
    assert enlarged.max() <= maps.max()
    np.testing.assert_allclose(attention.enlarge(uniform(small), large), 0.7)
    # The centre of pixel i lies at (i + 1/2) / large; beyond the outermost centres it is flat.
    ramp = np.tile((np.arange(small) + 0.5) / small, (1, small, 1))
    centres = (np.arange(large) + 0.5) / large
    expected = np.clip(centres, 0.5 / small, 1 - 0.5 / small)
    np.testing.assert_allclose(attention.enlarge(ramp, large)[0], np.tile(expected, (large, 1)))


@pytest.mark.parametrize(("size", "to"), [(SIZE, 4), (7, 4), (SIZE, SIZE), (3, 6)])
def test_area_averages(size: int, to: int) -> None:
    """Averages are those of torch's adaptive pooling, which rounds areas out to whole pixels."""
    maps = random_maps(3, size)
    expected = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(maps), to).numpy()
    found = attention.area_average(maps, to)
    np.testing.assert_allclose(found, expected)
    if size == SIZE:
        np.testing.assert_allclose(found.mean(), maps.mean())
