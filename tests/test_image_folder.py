"""Folders of image files: geometry, colours, classes, and what can't be read."""

import itertools
import re
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision
from PIL import Image, ImageOps

from distillation.formats import image_folder
from distillation.formats.image_folder import PART, Settings, read, read_image
from distillation.record.folder_digest import folder_digest
from distillation.settings.base import Sizes, checked


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


def settings_of(source: Path, **changes: Any) -> Settings:
    """Return the settings of a folder, some of them changed."""
    settings = {"source": str(source), "image_size": 8, "channels": 1, "fit": "crop"}
    return checked(Settings, settings | changes)


def arrays_of(source: Path, **changes: Any) -> dict[str, np.ndarray]:
    """Return the arrays of a folder."""
    return read(settings_of(source, **changes), Path(), 1)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a folder of two classes whose grey levels tell split, class and image apart."""
    levels = itertools.count(10, 10)
    for split, count in (("train", 3), ("test", 2)):
        for name in ("dog", "cat"):
            for number in range(count):
                save(tmp_path / "images" / split / name / f"{number}.png", plain(next(levels)))
    return tmp_path / "images"


def test_classes_are_sorted_and_images_in_order(source: Path) -> None:
    """Classes are numbered by name, and images come by class, then by file name."""
    arrays = arrays_of(source)
    assert arrays["class_names"].tolist() == ["cat", "dog"]
    assert arrays["train_labels"].tolist() == [0, 0, 0, 1, 1, 1]
    assert arrays["test_labels"].tolist() == [0, 0, 1, 1]
    assert arrays["train_images"][:, 0, 0, 0].tolist() == [40, 50, 60, 10, 20, 30]
    assert arrays["test_images"][:, 0, 0, 0].tolist() == [90, 100, 70, 80]


@pytest.mark.parametrize("channels", [1, 3])
def test_shapes_and_types(source: Path, channels: int) -> None:
    """Images are uint8 (N, S, S, C) and labels int64 (N,), whatever the files' sizes."""
    save(source / "train" / "cat" / "wide.jpg", noise(10, 30))
    save(source / "train" / "cat" / "tall.jpeg", noise(30, 10))
    arrays = arrays_of(source, image_size=16, channels=channels)
    assert arrays["train_images"].shape == (8, 16, 16, channels)
    assert arrays["train_images"].dtype == np.uint8
    assert arrays["train_labels"].shape == (8,)
    assert arrays["train_labels"].dtype == np.int64


def test_other_and_hidden_entries_do_not_count(source: Path) -> None:
    """Files of other kinds and hidden ones are passed over; suffixes may be in capitals."""
    (source / "train" / "cat" / "notes.txt").write_text("no image")
    (source / "train" / "cat" / "._0.png").write_text("what macOS leaves beside 0.png")
    (source / "train" / ".cache").mkdir()
    save(source / "train" / "cat" / ".thumbnails" / "0.png", plain(250))
    (source / "train" / "readme.md").write_text("no class")
    save(source / "train" / "cat" / "3.PNG", plain(200))
    arrays = arrays_of(source)
    assert arrays["class_names"].tolist() == ["cat", "dog"]
    assert arrays["train_images"][:4, 0, 0, 0].tolist() == [40, 50, 60, 200]


@pytest.mark.parametrize(
    ("orientation", "turns"), [(1, 0), (8, 1), (3, 2), (6, 3)]
)  # EXIF 2.32, tag 274, by the quarters to the left that make it upright
def test_photos_are_upright(tmp_path: Path, orientation: int, turns: int) -> None:
    """A camera that was held sideways says so in its file, and the image is turned."""
    pixels = noise(9, 9)
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(pixels).save(tmp_path / "image.png", exif=exif)
    found = read_image(tmp_path / "image.png", 9, 3, "crop")
    np.testing.assert_array_equal(found, np.rot90(pixels, turns))


@pytest.mark.parametrize(
    ("height", "width", "top", "left"),
    [(9, 9, 0, 0), (9, 15, 0, 3), (15, 9, 3, 0), (9, 12, 0, 1), (10, 9, 0, 0)],
)
def test_crop_cuts_the_centre(tmp_path: Path, height: int, width: int, top: int, left: int) -> None:
    """An image whose shorter side has the asked size is cut to its centre, not scaled."""
    pixels = noise(height, width)
    file = save(tmp_path / "image.png", pixels)
    expected = pixels[top : top + 9, left : left + 9]
    np.testing.assert_array_equal(read_image(file, 9, 3, "crop"), expected)


@pytest.mark.parametrize(("height", "width"), [(20, 40), (40, 20), (6, 14), (8, 1000)])
def test_crop_scales_the_shorter_side(tmp_path: Path, height: int, width: int) -> None:
    """Other images are scaled until the shorter side fits: the middle stays in the middle."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[: height // 2, :, 0] = 255
    pixels[:, : width // 2, 1] = 255
    found = read_image(save(tmp_path / "image.png", pixels), 16, 3, "crop").astype(int)
    assert found[:6, :, 0].min() > 250
    assert found[10:, :, 0].max() < 5
    assert found[:, :4, 1].min() > 250
    assert found[:, 12:, 1].max() < 5


def test_scaling_down_averages(tmp_path: Path) -> None:
    """Shrinking is antialiased: a fine chequerboard becomes an even grey."""
    pixels = np.indices((64, 64)).sum(axis=0) % 2 * 255
    file = save(tmp_path / "image.png", pixels.astype(np.uint8)[..., None])
    found = read_image(file, 8, 1, "crop").astype(int)
    assert abs(found - 127).max() < 10


@pytest.mark.parametrize(("height", "width"), [(6, 6), (3, 8), (9, 10), (1, 1), (10, 10)])
def test_pad_centres_on_black(tmp_path: Path, height: int, width: int) -> None:
    """Padding keeps every pixel and puts the image in the middle of black."""
    pixels = noise(height, width)
    found = read_image(save(tmp_path / "image.png", pixels), 10, 3, "pad")
    top, left = -((height - 10) // 2), -((width - 10) // 2)
    expected = np.zeros((10, 10, 3), dtype=np.uint8)
    expected[top : top + height, left : left + width] = pixels
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("height", "width"), [(11, 10), (4, 11), (300, 300)])
def test_pad_refuses_larger_images(tmp_path: Path, height: int, width: int) -> None:
    """An image that is to be padded but is too large is refused by name and size."""
    file = save(tmp_path / "image.png", noise(height, width))
    message = f"{file}: the image has {width} x {height} pixels; fit: pad allows at most 10"
    with pytest.raises(ValueError, match=re.escape(message)):
        read_image(file, 10, 3, "pad")


def test_channels_are_converted(tmp_path: Path) -> None:
    """One channel reads colours as luminance (ITU-R 601-2); three repeat a grey image."""
    pixels = noise(8, 8)
    found = read_image(save(tmp_path / "image.png", pixels), 8, 1, "crop")[..., 0]
    np.testing.assert_allclose(found, pixels @ [0.299, 0.587, 0.114], atol=1)
    grey = save(tmp_path / "grey.png", noise(8, 8, 1))
    np.testing.assert_array_equal(read_image(grey, 8, 3, "crop"), noise(8, 8, 1).repeat(3, axis=2))


@pytest.mark.parametrize("transparency", [None, 3, bytes([0, 100, 255])], ids=repr)
def test_palette_images_are_read(tmp_path: Path, transparency: Any) -> None:
    """A PNG with a palette is read as the colours that it shows, transparent ones included."""
    image = Image.fromarray(noise(8, 8)).quantize(16)
    options = {} if transparency is None else {"transparency": transparency}
    image.save(tmp_path / "image.png", **options)
    found = read_image(tmp_path / "image.png", 8, 3, "crop")
    np.testing.assert_array_equal(found, np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "1", "CMYK"])
@pytest.mark.parametrize("channels", [1, 3])
def test_other_modes_are_read(tmp_path: Path, mode: str, channels: int) -> None:
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
def test_sixteen_bits_keep_their_scale(tmp_path: Path, channels: int) -> None:
    """A grey PNG of 16 bits is read at its brightness: 65,535 is white, the half of it grey."""
    levels = np.linspace(0, 65535, 64).reshape(8, 8).astype(np.uint16)
    found = read_image(save(tmp_path / "image.png", levels), 8, channels, "crop")
    for channel in range(channels):
        np.testing.assert_allclose(found[..., channel], levels / 257, atol=1)


def test_truncated_images_are_refused(tmp_path: Path) -> None:
    """A JPEG or PNG cut anywhere is refused by name."""
    for suffix in (".jpg", ".png"):
        file = save(tmp_path / f"image{suffix}", noise(32, 32))
        whole = file.read_bytes()
        for part in (0, 0.01, 0.1, 0.5, 0.9):
            file.write_bytes(whole[: int(part * len(whole))])
            with pytest.raises(ValueError, match=re.escape(f"{file}: unreadable or truncated")):
                read_image(file, 8, 3, "crop")


def test_processes_read_the_same(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes read the same images in the same order, and refuse the first bad one."""
    monkeypatch.setattr(image_folder, "WORTHWHILE_SECONDS", 0)
    for number in range(PART):
        save(source / "train" / "cat" / f"{number:03}.png", plain(number))
    alone, shared = (read(settings_of(source), Path(), threads) for threads in (1, 2))
    for name, array in alone.items():
        np.testing.assert_array_equal(shared[name], array)
    for name in ("cat/5.png", "cat/4.png", "dog/0.png"):
        (source / "train" / name).write_text("no image")
    said = re.escape(f"{source / 'train/cat/4.png'}: unreadable or truncated image")
    for threads in (1, 2):
        with pytest.raises(ValueError, match=said):
            read(settings_of(source), Path(), threads)


def test_gigantic_images_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image of more pixels than Pillow trusts is refused by name."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    file = save(tmp_path / "image.png", noise(20, 20))
    with pytest.raises(ValueError, match=re.escape(str(file))):
        read_image(file, 8, 3, "crop")


def test_folders_within_a_class_count(source: Path) -> None:
    """Images in folders of a class's folder are its images, as torchvision's ImageFolder has it."""
    save(source / "train" / "cat" / "part_2" / "more" / "0.png", plain(200))
    before, settings = arrays_of(source), settings_of(source)
    expected = torchvision.datasets.ImageFolder(str(source / "train")).targets
    assert before["train_labels"].tolist() == expected
    assert before["train_images"][3, 0, 0, 0] == 200
    assert settings.sizes() == Sizes(train=7, test=4, side=8, channels=1, classes=2)


def test_odd_exif_data_spoil_nothing(tmp_path: Path) -> None:
    """An image is turned upright beside EXIF data that can't be written."""
    exif = Image.Exif()
    exif[274], exif[315] = 6, "hello world"
    # The text, of the artist, under the number of a list of whole numbers.
    content = exif.tobytes().replace(b"\x01\x3b\x00\x02", b"\x01\x44\x00\x02")
    pixels = noise(9, 9)
    Image.fromarray(pixels).save(tmp_path / "odd.png", exif=content)
    with Image.open(tmp_path / "odd.png") as image, pytest.raises(struct.error):
        ImageOps.exif_transpose(image)
    found = read_image(tmp_path / "odd.png", 9, 3, "pad")
    assert (found == np.rot90(pixels, 3)).all()


def test_other_images_are_not_passed_over(source: Path) -> None:
    """An image in a format that isn't read is told, and no data are made without it."""
    Image.new("L", (8, 8)).save(source / "test/dog/more.BMP")
    with pytest.raises(ValueError, match=r"test/dog/more\.BMP: found \.BMP; allowed: \.png, \.jpg"):
        arrays_of(source)


@pytest.mark.parametrize(
    ("missing", "made", "error", "said"),
    [
        ("", [], FileNotFoundError, "train: no such folder; expected"),
        ("test", [], FileNotFoundError, "test: no such folder; expected"),
        ("test", ["test"], FileNotFoundError, "test: found no class folder"),
        ("none", ["train/bird", "test/bird"], FileNotFoundError, "train/bird: found no image; exp"),
        ("test/dog", ["train/bird", "test/wolf"], ValueError, "in one of them only: bird, dog, wo"),
        ("*/dog", [], ValueError, "found 1 class, cat; allowed: at least 2"),
    ],
)
def test_folders_that_do_not_fit_are_named(
    source: Path, missing: str, made: list[str], error: type[Exception], said: str
) -> None:
    """Missing and empty folders, classes of one split only and a single class are told by name."""
    for folder in source.glob(missing) if missing else [source]:
        shutil.rmtree(folder)
    for name in made:
        (source / name).mkdir()
    with pytest.raises(error, match=re.escape(said)) as caught:
        arrays_of(source)
    assert str(source) in str(caught.value)


def test_sizes_for_estimates(source: Path) -> None:
    """Counts are those of the files, of held-out ones as well; an absent folder has none."""
    whole = Sizes(train=6, test=4, side=8, channels=1, classes=2)
    held_out = {"validation_fraction": 0.25, "validation_seed": 0}
    assert settings_of(source).sizes() == whole
    parts = whole.model_copy(update={"train": 5, "test": 2})
    assert settings_of(source, **held_out).sizes() == parts
    absent = whole.model_copy(update={"train": 0, "test": 0, "classes": 1})
    assert settings_of(source / "none").sizes() == absent


def test_content_identifies_a_folder(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another name or content has another identity, a copy the same; one that is known is kept."""
    monkeypatch.chdir(tmp_path)

    def identity(folder: Path) -> str:
        folder_digest.cache_clear()
        return settings_of(folder).identity()

    first = identity(source)
    kept = sorted(Path(".snakemake/folders").iterdir())
    assert identity(source) == first
    assert sorted(Path(".snakemake/folders").iterdir()) == kept
    copy = Path(shutil.copytree(source, tmp_path / "copy"))
    assert identity(copy) == first
    # What its reader passes over.
    for name in ("train/cat/.DS_Store", "train/cat/notes.txt", ".cache/0.png"):
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_bytes(b"no image")
    assert identity(copy) == first
    (copy / "train/bird").mkdir()
    assert identity(copy) != first
    (copy / "train/bird").rmdir()
    (copy / "train/cat/0.png").rename(copy / "train/cat/9.png")
    renamed = identity(copy)
    save(copy / "train/cat/9.png", plain(1))
    assert len({first, renamed, identity(copy)}) == 3
