"""Folders of image files, one folder per class."""

import os
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

Fit = Literal["crop", "pad"]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")


def read_image_folder(
    source: str, image_size: int, channels: int, fit: Fit
) -> dict[str, np.ndarray]:
    """Read train/<class>/*.png|jpg|jpeg and test/<class>/* of any sizes.

    Args:
        source: the folder.
        image_size: side of the square images that come out, in pixels.
        channels: 1 reads as grey, 3 as RGB.
        fit: see `fit_image`.

    Raises:
        FileNotFoundError: a folder is missing, or a class folder is empty.
        ValueError: the classes of the splits differ, there are fewer than 2, or an image is
            unreadable or truncated.
    """
    root = Path(source)
    classes = {split: class_folders(root / split) for split in ("train", "test")}
    if classes["train"] != classes["test"]:
        odd = sorted(set(classes["train"]) ^ set(classes["test"]))
        raise ValueError(
            f"{root}: train and test have different classes; in one of them only: {', '.join(odd)}"
        )
    if len(classes["train"]) < 2:
        raise ValueError(f"{root}: found 1 class, {classes['train'][0]}; allowed: at least 2")
    arrays = {"class_names": np.array(classes["train"])}
    for split, names in classes.items():
        files = [
            (file, label)
            for label, name in enumerate(names)
            for file in images_in(root / split / name)
        ]
        images = np.empty((len(files), image_size, image_size, channels), dtype=np.uint8)
        for position, (file, _) in enumerate(files):
            images[position] = read_image(file, image_size, channels, fit)
        arrays[f"{split}_images"] = images
        arrays[f"{split}_labels"] = np.array([label for _, label in files], dtype=np.int64)
    return arrays


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
    """Return the image files of a class folder, sorted by name; hidden ones don't count.

    Raises:
        FileNotFoundError: there are none.
    """
    files = sorted(
        file
        for file in folder.iterdir()
        if file.suffix.lower() in IMAGE_SUFFIXES and file.name[0] != "."
    )
    if not files:
        raise FileNotFoundError(
            f"{folder}: found no image; expected at least one {', '.join(IMAGE_SUFFIXES)} file"
        )
    return files


def read_image(file: Path, image_size: int, channels: int, fit: Fit) -> np.ndarray:
    """Return one image as uint8 (S, S, C), turned upright as its EXIF data say.

    Raises:
        ValueError: the file is no image, or a truncated one.
    """
    try:
        with Image.open(file) as image:
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


def fit_image(image: Image.Image, image_size: int, fit: Fit) -> Image.Image:
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
