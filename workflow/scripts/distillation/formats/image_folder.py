"""Folders of image files, one folder per class."""

import os
import signal
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from pydantic import Field

from distillation.record.folder_digest import folder_digest
from distillation.settings.base import Sizes
from distillation.settings.data import HoldOutSettings

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
WORDS = ", ".join(IMAGE_SUFFIXES)
# What else torchvision's ImageFolder reads, or browsers show: to pass it over would lose images.
OTHER_SUFFIXES = (
    *(".avif", ".bmp", ".gif", ".heic", ".heif", ".jfif", ".jp2", ".jpe", ".pgm", ".ppm"),
    *(".tif", ".tiff", ".webp"),
)
# Where EXIF data are kept as text, which Pillow would write anew for an image that is turned.
EXIF_TEXTS = ("exif", "Raw profile type exif")
# Images that a process reads at a time; smaller parts cost more to hand over than to read. By the
# first part, the time of all is estimated.
PART = 64
# Of reading by one process, below which others, each of which takes a second to start, don't pay.
WORTHWHILE_SECONDS = 4


class Settings(HoldOutSettings):
    """A folder of image files of any sizes, one folder per class in train and in test."""

    source: str = Field(
        min_length=1, description="folder with train/<class>/*.png|jpg|jpeg and test/<class>/*"
    )
    image_size: int = Field(
        ge=8, le=512, multiple_of=4, description="side in pixels of the squares that come out"
    )
    channels: Literal[1, 3] = Field(description="1 reads as grey, 3 as RGB")
    fit: Literal["crop", "pad"] = Field(
        description="crop scales the shorter side and cuts the centre; pad centres images of at "
        "most image_size on black"
    )

    def identity(self) -> str:
        """Return a digest of the names and contents in the folder that count for its reader."""
        return folder_digest(self.source, (*IMAGE_SUFFIXES, *OTHER_SUFFIXES))

    def check_source(self) -> None:
        """Raise FileNotFoundError if there is no such folder, as where a disk isn't mounted."""
        if not Path(self.source).is_dir():
            raise FileNotFoundError(f"{self.source}: no such folder")

    def source_sizes(self) -> Sizes:
        """Return counts of the files and shape of the images; an absent folder has none."""
        files, classes = {}, 0
        for split in ("train", "test"):
            walk = [*os.walk(Path(self.source, split), followlinks=True)]
            files[split] = sum(len(names) for _, _, names in walk)
            # The first folder is that of the classes' folders.
            shown = [name for _, folders, _ in walk[:1] for name in folders if name[0] != "."]
            classes = classes or len(shown)
        return Sizes(**files, side=self.image_size, channels=self.channels, classes=max(1, classes))


def read(settings: Settings, folder: Path, threads: int) -> dict[str, np.ndarray]:  # noqa: ARG001
    """Return the arrays of both splits, the same for any number of processes.

    Raises:
        FileNotFoundError: a folder is missing, or a class folder is empty.
        ValueError: the classes of the splits differ, there are fewer than 2, or an image is
            unreadable or truncated.
    """
    root = Path(settings.source)
    classes = {split: class_folders(root / split) for split in ("train", "test")}
    if classes["train"] != classes["test"]:
        odd = sorted(set(classes["train"]) ^ set(classes["test"]))
        raise ValueError(
            f"{root}: train and test have different classes; in one of them only: {', '.join(odd)}"
        )
    if len(classes["train"]) < 2:
        raise ValueError(f"{root}: found 1 class, {classes['train'][0]}; allowed: at least 2")
    arrays, files = {"class_names": np.array(classes["train"])}, []
    for split, names in classes.items():
        found = [images_in(root / split / name) for name in names]
        labels = np.repeat(np.arange(len(names)), [len(each) for each in found])
        arrays[f"{split}_labels"] = labels.astype(np.int64)
        files += chain.from_iterable(found)
    images = read_images(files, settings, threads)
    count = len(arrays["train_labels"])
    return arrays | {"train_images": images[:count], "test_images": images[count:]}


def read_images(files: list[Path], settings: Settings, threads: int) -> np.ndarray:
    """Return the images of files, in their order, as uint8 (N, S, S, C), read by processes if many.

    Raises:
        ValueError: see `read_image`; the first image that can't be read.
    """
    size, channels = settings.image_size, settings.channels
    images = np.empty((len(files), size, size, channels), dtype=np.uint8)
    one = partial(read_image, image_size=size, channels=channels, fit=settings.fit)
    started = time.perf_counter()
    fill(images, map(one, files[:PART]))
    left = files[PART:]
    seconds = (time.perf_counter() - started) / PART * len(left)
    if threads == 1 or seconds < WORTHWHILE_SECONDS:
        fill(images[PART:], map(one, left))
        return images
    # A fork of a process with threads may hang. Ctrl-C is left to the process that waits.
    with ProcessPoolExecutor(
        threads, get_context("spawn"), signal.signal, (signal.SIGINT, signal.SIG_IGN)
    ) as pool:
        fill(images[PART:], pool.map(one, left, chunksize=PART))
    return images


def fill(array: np.ndarray, values: Iterable[np.ndarray]) -> None:
    """Put values into an array, one after another."""
    for place, value in enumerate(values):
        array[place] = value


def class_folders(folder: Path) -> list[str]:
    """Return the names of the folders in `folder`, sorted; hidden ones don't count."""
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder}: no such folder; expected {folder}/<class>/*.png or .jpg"
        )
    names = sorted(
        entry.name for entry in os.scandir(folder) if entry.is_dir() and entry.name[0] != "."
    )
    if not names:
        raise FileNotFoundError(f"{folder}: found no class folder; expected one per class")
    return names


def images_in(folder: Path) -> list[Path]:
    """Return the image files of a class folder and of folders in it, sorted.

    Hidden files don't count.

    Raises:
        FileNotFoundError: there are none.
        ValueError: there are images of other formats.
    """
    walk = os.walk(folder, followlinks=True)
    places = sorted(Path(place, name) for place, _, names in walk for name in names)
    shown = [
        file
        for file in places
        if not any(part.startswith(".") for part in file.relative_to(folder).parts)
    ]
    if others := [file for file in shown if file.suffix.lower() in OTHER_SUFFIXES]:
        raise ValueError(f"{others[0]}: found {others[0].suffix}; allowed: {WORDS}")
    files = [file for file in shown if file.suffix.lower() in IMAGE_SUFFIXES]
    if not files:
        raise FileNotFoundError(f"{folder}: found no image; expected at least one {WORDS} file")
    return files


def read_image(file: Path, image_size: int, channels: int, fit: str) -> np.ndarray:
    """Return one image as uint8 (S, S, C), turned upright as its EXIF data say.

    Raises:
        ValueError: the file is no image, or a truncated one.
    """
    try:
        with Image.open(file) as image:
            image.load()
            # From here on Pillow knows them, and doesn't fail on what it can't write.
            image.getexif()
            for name in EXIF_TEXTS:
                image.info.pop(name, None)
            upright = ImageOps.exif_transpose(image)
            fitted = fit_image(convert(upright, channels), image_size, fit)
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{file}: unreadable or truncated image: {error}") from error
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    return np.asarray(fitted).reshape(image_size, image_size, channels)


def convert(image: Image.Image, channels: int) -> Image.Image:
    """Return an image as 8-bit grey (1 channel) or RGB (3); transparency is dropped."""
    if image.mode.startswith("I"):
        # 16-bit grey: Pillow would cut off at 255, not scale.
        image = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
    if image.mode == "P":
        image = image.convert("RGBA")
    return image.convert("L" if channels == 1 else "RGB")


def fit_image(image: Image.Image, image_size: int, fit: str) -> Image.Image:
    """Make an image square.

    crop: scale the shorter side to `image_size` (antialiased bilinear) and cut the centre;
    pad: keep the pixels and centre the image on black.

    Raises:
        ValueError: an image is larger than `image_size` and is to be padded.
    """
    width, height = image.size
    if fit == "crop":
        scale = image_size / min(width, height)
        width, height = (
            max(image_size, round(width * scale)),
            max(image_size, round(height * scale)),
        )
        if (width, height) != image.size:
            image = image.resize((width, height), Image.Resampling.BILINEAR)
    elif max(width, height) > image_size:
        raise ValueError(
            f"the image has {width} x {height} pixels; fit: pad allows at most {image_size}"
        )
    # A crop box that reaches beyond the image is filled with black.
    left, top = (width - image_size) // 2, (height - image_size) // 2
    return image.crop((left, top, left + image_size, top + image_size))
