"""What sources of images have in common, and how they are read."""

import math
from pathlib import Path
from typing import ClassVar, Self

from pydantic import Field, model_validator

from distillation.settings.base import FormatSettings, Seed, Settings, Sizes


class Preparation(Settings):
    """How images are read, whatever their format."""

    threads: int = Field(
        1,
        ge=1,
        le=256,
        description="processes that read a folder of images; the result is the same",
    )


class HoldOutSettings(FormatSettings):
    """What a source has of whose training images some can be held out, or left out.

    Class variables: `splits_itself`, whether its reader holds out those that take the test split's
    place.
    """

    splits_itself: ClassVar[bool] = False

    validation_fraction: float | None = Field(
        None,
        ge=0.01,
        le=0.99,
        description="of the training images of each class, held out in the test split's place; "
        "null keeps the test split",
    )
    validation_seed: Seed | None = Field(None, description="of which training images are held out")
    training_fraction: float | None = Field(
        None,
        ge=0.001,
        le=0.999,
        description="of the training images of each class, of those that aren't held out, which "
        "are trained on; null keeps all",
    )
    training_seed: Seed | None = Field(None, description="of which training images are kept")

    @model_validator(mode="after")
    def both_or_none(self) -> Self:
        """Refuse a fraction without a seed, and a seed without a fraction."""
        for part in ("validation", "training"):
            given = [getattr(self, f"{part}_{name}") is not None for name in ("fraction", "seed")]
            if any(given) and not all(given):
                raise ValueError(f"found one of {part}_fraction, {part}_seed; allowed: both")
        return self

    @property
    def held_out(self) -> tuple[float, int] | None:
        """Fraction and seed of the images that are held out, or None."""
        fraction, seed = self.validation_fraction, self.validation_seed
        return None if fraction is None or seed is None else (fraction, seed)

    @property
    def kept(self) -> tuple[float, int] | None:
        """Fraction and seed of the training images that are trained on, or None for all."""
        fraction, seed = self.training_fraction, self.training_seed
        return None if fraction is None or seed is None else (fraction, seed)

    def sizes(self) -> Sizes:
        """Return counts of the images that are trained on and tested on, and their shape."""
        found = self.divided_sizes()
        train = math.ceil(round(found.train * (self.training_fraction or 1), 9))
        return found.model_copy(update={"train": train})

    def read_sizes(self) -> Sizes:
        """Return counts and shape of all images of the source."""
        return self.source_sizes()

    def divided_sizes(self) -> Sizes:
        """Return the same as `sizes` before any training images are left out."""
        source, fraction = self.source_sizes(), self.validation_fraction
        if fraction is None:
            return source
        parts = {"train": 1 - fraction, "test": fraction}
        counts = {split: math.ceil(source.train * part) for split, part in parts.items()}
        return source.model_copy(update=counts)

    def source_sizes(self) -> Sizes:
        """Return the same before any images are held out."""
        raise NotImplementedError


class OfficialSettings(HoldOutSettings):
    """What a source has that is published as archives."""

    source: str | None = Field(
        None,
        min_length=1,
        description="folder, or address (http, https, file), of the official archives; "
        "null downloads them from where torchvision does",
    )

    def check_source(self) -> None:
        """Raise FileNotFoundError if a folder is named that isn't there."""
        if self.source and "://" not in self.source and not Path(self.source).is_dir():
            raise FileNotFoundError(f"{self.source}: no such folder")
