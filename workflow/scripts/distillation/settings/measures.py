"""What is chosen of the measures: evaluation, the maps that are drawn, and attention."""

from typing import Literal

from pydantic import Field, field_validator

from distillation.settings.base import Seed, Settings

# What stands in for removed cells, see measuring/faithfulness.py.
Fill = Literal["background", "mean", "blur"]


class Evaluation(Settings):
    """How a network is evaluated on the test split."""

    batch_size: int = Field(
        128, ge=2, le=65536, description="images per pass; more on a GPU where they are small"
    )
    training_images: int = Field(
        1000,
        ge=1,
        le=10_000_000,
        description="that metrics of the training split are of, evenly spread over it, at most",
    )


class AttentionImages(Settings):
    """Which test images the maps are drawn of."""

    images_per_class: int = Field(1, ge=1, le=1000, description="test images of each class")
    seed: Seed = Field(0, description="of the choice of images")


class AttentionMeasures(Settings):
    """How attention maps are measured over the whole test split."""

    collapses: list[Literal["mean_square", "sum_square", "sum_absolute", "max_square"]] = Field(
        ["mean_square"], min_length=1, description="how channels become a map, none twice"
    )
    object_mask: Literal["auto", "stored", "above_zero", "none"] = Field(
        "auto",
        description="where the object is; auto: what the format has, stored: test_masks of the "
        "data, above_zero: pixels above 0, none: not known",
    )
    resamples: int = Field(2000, ge=100, le=1_000_000, description="of the bootstrap over images")
    bootstrap_seed: Seed = Field(0, description="of all that the measures draw at random")
    faithfulness_images: int = Field(
        50, ge=2, le=100_000, description="test images for deletion and insertion, at most"
    )
    fills: list[Fill] = Field(
        ["background", "blur"],
        min_length=1,
        description="of deleted cells: the median colour of the training images' outermost pixels, "
        "the mean colour, or the image itself, blurred; the first is judged and has the controls",
    )
    random_orders: int = Field(
        2, ge=1, le=100, description="of each image's cells, what the map's order is compared with"
    )
    steps: int = Field(
        4, ge=2, le=64, description="in which all cells of an image are deleted or inserted"
    )
    noise_images: int = Field(
        256, ge=1, le=100_000, description="random images for what borders do by themselves"
    )
    norm_images: int = Field(
        512, ge=2, le=1_000_000,
        description="training images for the batch norm of the untrained control, at most",
    )  # fmt: skip
    batch_size: int = Field(
        32,
        ge=2,
        le=65536,
        description="images per pass; larger ones leave the caches of a CPU, a GPU takes more",
    )

    @field_validator("collapses", "fills")
    @classmethod
    def each_once(cls, names: list[str]) -> list[str]:
        """Refuse what is named twice."""
        if len({*names}) < len(names):
            raise ValueError(f"found {', '.join(names)}; allowed: each once")
        return names
