"""Settings of reports: how methods are compared, and how figures are drawn."""

from pydantic import Field

from distillation.settings.base import Seed, Settings


class Comparison(Settings):
    """How methods are compared."""

    metric: str = Field("top1_accuracy", description="that is compared, one that is evaluated")
    confidence: float = Field(
        0.95, ge=0.5, le=0.999,
        description="of intervals, fraction; 1 - confidence is the level at which all is judged",
    )  # fmt: skip
    power: float = Field(
        0.8, ge=0.5, le=0.99, description="with which a detectable difference is found, fraction"
    )
    resamples: int = Field(10_000, ge=100, le=10**7, description="of the images in the bootstrap")
    bootstrap_seed: Seed = Field(0, description="of the draws of images")


class SmallestDifferences(Settings):
    """The smallest differences of interest of measures of attention maps, in the measures' units.

    Each is that of its measure and of those whose names begin with its own; the text says why.
    """

    effective_area: float = Field(
        0.05, gt=0, description="a twentieth of the map, about three of 8 x 8 cells"
    )
    image_dependence: float = Field(0.05, gt=0, description="a twentieth of the range")
    border: float = Field(0.1, gt=0, description="a tenth of what an even map has there")
    object_energy: float = Field(0.1, gt=0, description="a tenth of what an even map has there")
    pointing_game: float = Field(0.05, gt=0, description="one image in twenty")
    object_iou: float = Field(0.05, gt=0, description="a twentieth of the range")
    sobel_spearman: float = Field(
        0.05, gt=0, description="a twentieth of the way from no agreement to full"
    )
    teacher_spearman: float = Field(
        0.05, gt=0, description="a twentieth of the way from no agreement to full"
    )
    deletion: float = Field(
        0.02, gt=0, description="two points of the predicted class's probability"
    )


class Figures(Settings):
    """How figures are drawn."""

    dpi: int = Field(150, ge=50, le=600, description="of the PNG files, dots per inch")
