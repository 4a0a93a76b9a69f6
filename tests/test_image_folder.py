"""Folders of image files: geometry, colours, classes, and what can't be read."""

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distillation.image_folder import fit_image, read_image, read_image_folder


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    """Return random uint8 pixels (H, W, C)."""
    generator = np.random.default_rng(0)
    return generator.integers(0, 256, (height, width, channels), dtype=np.uint8)


def save(file: Path, pixels: np.ndarray) -> Path:
    """Write pixels (H, W, C) or (H, W) to an image file and return the file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).save(file)
    return file


def plain(level: int, size: int = 8) -> np.ndarray:
    """Return grey pixels of one level."""
    return np.full((size, size, 3), level, dtype=np.uint8)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a folder of two classes whose grey levels tell split, class and image apart."""
    levels = itertools.count(10, 10)
    for split, count in (("train", 3), ("test", 2)):
        for name in ("dog", "cat"):
            for number in range(count):
                save(tmp_path / "images" / split / name / f"{number}.png", plain(next(levels)))
    return tmp_path / "images"


def test_classes_are_sorted_and_images_in_order(source):
    """Classes are numbered by name, and images come by class, then by file name."""
    arrays = read_image_folder(str(source), 8, 1, "crop")
    assert arrays["class_names"].tolist() == ["cat", "dog"]
    assert arrays["train_labels"].tolist() == [0, 0, 0, 1, 1, 1]
    assert arrays["test_labels"].tolist() == [0, 0, 1, 1]
    assert arrays["train_images"][:, 0, 0, 0].tolist() == [40, 50, 60, 10, 20, 30]
    assert arrays["test_images"][:, 0, 0, 0].tolist() == [90, 100, 70, 80]


@pytest.mark.parametrize("channels", [1, 3])
def test_shapes_and_types(source, channels):
    """Images are uint8 (N, S, S, C) and labels int64 (N,), whatever the files' sizes."""
    save(source / "train" / "cat" / "wide.jpg", noise(10, 30))
    save(source / "train" / "cat" / "tall.jpeg", noise(30, 10))
    arrays = read_image_folder(str(source), 16, channels, "crop")
    assert arrays["train_images"].shape == (8, 16, 16, channels)
    assert arrays["train_images"].dtype == np.uint8
    assert arrays["train_labels"].shape == (8,)
    assert arrays["train_labels"].dtype == np.int64


def test_other_and_hidden_entries_do_not_count(source):
    """Files of other kinds and hidden ones are passed over; suffixes may be in capitals."""
    (source / "train" / "cat" / "notes.txt").write_text("no image")
    (source / "train" / "cat" / "._0.png").write_text("what macOS leaves beside 0.png")
    (source / "train" / ".cache").mkdir()
    (source / "train" / "readme.md").write_text("no class")
    save(source / "train" / "cat" / "3.PNG", plain(200))
    arrays = read_image_folder(str(source), 8, 1, "crop")
    assert arrays["class_names"].tolist() == ["cat", "dog"]
    assert arrays["train_images"][:4, 0, 0, 0].tolist() == [40, 50, 60, 200]


@pytest.mark.parametrize(
    ("orientation", "turns"), [(1, 0), (8, 1), (3, 2), (6, 3)]
)  # EXIF 2.32, tag 274, by the quarters to the left that make it upright
def test_photos_are_upright(tmp_path, orientation, turns):
    """A camera that was held sideways says so in its file, and the image is turned."""
    pixels = noise(9, 9)
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(pixels).save(tmp_path / "image.png", exif=exif)
    found = read_image(tmp_path / "image.png", 9, 3, "crop")
    np.testing.assert_array_equal(found, np.rot90(pixels, turns))


@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_images_of_the_right_size_keep_their_pixels(tmp_path, fit):
    """A square PNG of the asked size is read pixel for pixel."""
    pixels = noise(9, 9)
    file = save(tmp_path / "image.png", pixels)
    np.testing.assert_array_equal(read_image(file, 9, 3, fit), pixels)


@pytest.mark.parametrize(
    ("height", "width", "top", "left"), [(9, 15, 0, 3), (15, 9, 3, 0), (9, 12, 0, 1), (10, 9, 0, 0)]
)
def test_crop_cuts_the_centre(tmp_path, height, width, top, left):
    """An image whose shorter side has the asked size is cut to its centre, not scaled."""
    pixels = noise(height, width)
    file = save(tmp_path / "image.png", pixels)
    expected = pixels[top : top + 9, left : left + 9]
    np.testing.assert_array_equal(read_image(file, 9, 3, "crop"), expected)


@pytest.mark.parametrize(("height", "width"), [(20, 40), (40, 20), (6, 14), (8, 1000)])
def test_crop_scales_the_shorter_side(tmp_path, height, width):
    """Other images are scaled until the shorter side fits: the middle stays in the middle."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[: height // 2, :, 0] = 255
    pixels[:, : width // 2, 1] = 255
    found = read_image(save(tmp_path / "image.png", pixels), 16, 3, "crop").astype(int)
    assert found[:6, :, 0].min() > 250
    assert found[10:, :, 0].max() < 5
    assert found[:, :4, 1].min() > 250
    assert found[:, 12:, 1].max() < 5


def test_scaling_down_averages(tmp_path):
    """Shrinking is antialiased: a fine chequerboard becomes an even grey."""
    pixels = np.indices((64, 64)).sum(axis=0) % 2 * 255
    file = save(tmp_path / "image.png", pixels.astype(np.uint8)[..., None])
    found = read_image(file, 8, 1, "crop").astype(int)
    assert abs(found - 127).max() < 10


@pytest.mark.parametrize(("height", "width"), [(6, 6), (3, 8), (9, 10), (1, 1), (10, 10)])
def test_pad_centres_on_black(tmp_path, height, width):
    """Padding keeps every pixel and puts the image in the middle of black."""
    pixels = noise(height, width)
    found = read_image(save(tmp_path / "image.png", pixels), 10, 3, "pad")
    top, left = -((height - 10) // 2), -((width - 10) // 2)
    expected = np.zeros((10, 10, 3), dtype=np.uint8)
    expected[top : top + height, left : left + width] = pixels
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("height", "width"), [(11, 10), (4, 11), (300, 300)])
def test_pad_refuses_larger_images(tmp_path, height, width):
    """An image that is to be padded but is too large is refused by name and size."""
    file = save(tmp_path / "image.png", noise(height, width))
    message = f"{file}: the image has {width} x {height} pixels; fit: pad allows at most 10"
    with pytest.raises(ValueError, match=re.escape(message)):
        read_image(file, 10, 3, "pad")


def test_grey_is_luminance(tmp_path):
    """One channel reads colours as luminance (ITU-R 601-2)."""
    pixels = noise(8, 8)
    found = read_image(save(tmp_path / "image.png", pixels), 8, 1, "crop")[..., 0]
    expected = pixels @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(found, expected, atol=1)


def test_three_channels_repeat_grey(tmp_path):
    """Three channels read a grey image as three equal ones."""
    pixels = noise(8, 8, 1)
    found = read_image(save(tmp_path / "image.png", pixels), 8, 3, "crop")
    np.testing.assert_array_equal(found, pixels.repeat(3, axis=2))


def test_jpeg_is_read(tmp_path):
    """A JPEG image is read up to its compression."""
    pixels = np.asarray(Image.fromarray(noise(3, 3)).resize((24, 24), Image.Resampling.BICUBIC))
    Image.fromarray(pixels).save(tmp_path / "image.jpg", quality=95, subsampling=0)
    found = read_image(tmp_path / "image.jpg", 24, 3, "crop").astype(int)
    assert abs(found - pixels).mean() < 3


@pytest.mark.parametrize("transparency", [None, 3, bytes([0, 100, 255])], ids=repr)
def test_palette_images_are_read(tmp_path, transparency):
    """A PNG with a palette is read as the colours that it shows, transparent ones included."""
    image = Image.fromarray(noise(8, 8)).quantize(16)
    options = {} if transparency is None else {"transparency": transparency}
    image.save(tmp_path / "image.png", **options)
    found = read_image(tmp_path / "image.png", 8, 3, "crop")
    np.testing.assert_array_equal(found, np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "1", "CMYK"])
@pytest.mark.parametrize("channels", [1, 3])
def test_other_modes_are_read(tmp_path, mode, channels):
    """Opaque images with an alpha channel, of black and white or of four inks are read."""
    image = Image.fromarray(noise(8, 8)).convert(mode)
    file = tmp_path / ("image.jpg" if mode == "CMYK" else "image.png")
    image.save(file)
    expected = Image.open(file).convert("RGB")
    if channels == 1:
        expected = expected.convert("L")
    found = read_image(file, 8, channels, "crop").astype(int)
    expected = np.asarray(expected).reshape(8, 8, channels)
    assert abs(found - expected).max() <= 1


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_keep_their_scale(tmp_path, channels):
    """A grey PNG of 16 bits is read at its brightness: 65,535 is white, the half of it grey."""
    levels = np.linspace(0, 65535, 64).reshape(8, 8).astype(np.uint16)
    found = read_image(save(tmp_path / "image.png", levels), 8, channels, "crop")
    for channel in range(channels):
        np.testing.assert_allclose(found[..., channel], levels / 257, atol=1)


def test_truncated_images_are_refused(tmp_path):
    """A JPEG or PNG cut anywhere is refused by name."""
    for suffix in (".jpg", ".png"):
        file = save(tmp_path / f"image{suffix}", noise(32, 32))
        whole = file.read_bytes()
        for part in (0, 0.01, 0.1, 0.5, 0.9):
            file.write_bytes(whole[: int(part * len(whole))])
            with pytest.raises(ValueError, match=re.escape(f"{file}: unreadable or truncated")):
                read_image(file, 8, 3, "crop")


def test_text_named_as_an_image_is_refused(source):
    """A text file with an image's suffix is refused by name."""
    file = source / "train" / "cat" / "notes.png"
    file.write_text("no image")
    with pytest.raises(ValueError, match=re.escape(f"{file}: unreadable or truncated image")):
        read_image_folder(str(source), 8, 3, "crop")


def test_gigantic_images_are_refused(tmp_path, monkeypatch):
    """An image of more pixels than Pillow trusts is refused by name."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    file = save(tmp_path / "image.png", noise(20, 20))
    with pytest.raises(ValueError, match=re.escape(str(file))):
        read_image(file, 8, 3, "crop")


def test_missing_folders_are_named(tmp_path, source):
    """A missing source or split raises FileNotFoundError that says what is expected."""
    with pytest.raises(FileNotFoundError, match=r"none/train: no such folder; expected"):
        read_image_folder(str(tmp_path / "none"), 8, 3, "crop")
    for file in sorted((source / "test").rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    with pytest.raises(FileNotFoundError, match=r"test: found no class folder"):
        read_image_folder(str(source), 8, 3, "crop")
    (source / "test").rmdir()
    with pytest.raises(FileNotFoundError, match=r"test: no such folder"):
        read_image_folder(str(source), 8, 3, "crop")


def test_empty_class_folder_is_named(source):
    """A class without images raises FileNotFoundError that names its folder."""
    for split in ("train", "test"):
        (source / split / "bird").mkdir()
    with pytest.raises(FileNotFoundError, match=r"train/bird: found no image; expected at least"):
        read_image_folder(str(source), 8, 3, "crop")


def test_different_classes_are_named(source):
    """Classes that only one split has are listed."""
    save(source / "train" / "bird" / "0.png", plain(1))
    (source / "test" / "dog").rename(source / "test" / "wolf")
    with pytest.raises(ValueError, match="in one of them only: bird, dog, wolf"):
        read_image_folder(str(source), 8, 3, "crop")


def test_one_class_is_refused(tmp_path):
    """A single class leaves nothing to learn and is refused by name."""
    for split in ("train", "test"):
        save(tmp_path / split / "cat" / "0.png", plain(1))
    with pytest.raises(ValueError, match="found 1 class, cat; allowed: at least 2"):
        read_image_folder(str(tmp_path), 8, 3, "crop")


def test_fit_leaves_the_mode():
    """Making an image square doesn't change its channels."""
    for mode in ("L", "RGB"):
        assert fit_image(Image.new(mode, (5, 9)), 4, "crop").mode == mode
        assert fit_image(Image.new(mode, (3, 2)), 4, "pad").size == (4, 4)
