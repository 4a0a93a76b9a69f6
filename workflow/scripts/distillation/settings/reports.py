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


class Figures(Settings):
    """How figures are drawn."""

    dpi: int = Field(150, ge=50, le=600, description="of the PNG files, dots per inch")
