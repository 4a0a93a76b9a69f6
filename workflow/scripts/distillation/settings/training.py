"""What is chosen of a training: the protocol, and the machine that it runs on."""

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from distillation.settings.base import Seed, Settings

Border = Literal["reflect", "zeros"]
# What decides which views of an image there are, beside the image.
VIEWS = ("padding", "crop_border", "flip")


class Protocol(Settings):
    """How a network is trained; the defaults are those of the attention-transfer paper's code.

    Source: Zagoruyko and Komodakis 2017, arXiv 1612.03928, section 4.1 and its code.
    """

    epochs: int = Field(200, ge=0, description="passes over the training split; 0: as initialised")
    batch_size: int = Field(128, ge=2, description="images per step")
    schedule: Literal["step", "one_cycle", "cosine"] = Field(
        "step", description="of the learning rate"
    )
    learning_rate: float = Field(0.1, gt=0, description="the schedule's peak")
    milestones: list[int] = Field(
        [60, 120, 160], description="schedule step: epochs, from 1, at whose start the rate drops"
    )
    learning_rate_decay: float = Field(
        0.2, ge=0, le=1, description="schedule step: factor of each drop"
    )
    reset_momentum: bool = Field(
        True, description="schedule step: forget the momentum at each drop"
    )
    rise: float = Field(
        0.3, ge=0, le=0.99, description="schedule one_cycle: fraction of the run in which it rises"
    )
    momentum: float = Field(0.9, ge=0, le=0.999, description="of SGD")
    nesterov: bool = Field(False, description="Nesterov momentum")
    weight_decay: float = Field(5e-4, ge=0, description="L2 factor, on all parameters")
    padding: int = Field(4, ge=0, description="pixels of random shift")
    crop_border: Border = Field(
        "reflect",
        description="beyond the edges of a shifted image: itself, mirrored, or zeros, black pixels",
    )
    flip: bool = Field(True, description="mirror half of the images")
    gamma_init: Literal["uniform", "ones"] = Field(
        "uniform", description="first values of batch norm's gamma: 0 to 1 drawn evenly, or 1"
    )

    @model_validator(mode="after")
    def fits_together(self) -> Self:
        """Refuse settings that contradict each other."""
        if self.nesterov and not self.momentum:
            raise ValueError("found nesterov true with momentum 0; allowed: momentum above 0")
        wrong = [epoch for epoch in self.milestones if not 1 <= epoch <= max(1, self.epochs)]
        if self.schedule == "step" and self.epochs and wrong:
            raise ValueError(
                f"found milestones {wrong} with {self.epochs} epochs, so the rate wouldn't drop "
                f"there; allowed: 1 to epochs"
            )
        return self


class Machine(Settings):
    """What a step runs on."""

    device: Literal["cpu", "cuda"] = Field("cpu", description="cuda without a GPU is an error")
    threads: int = Field(1, ge=1, description="of torch on a CPU; another number can change sums")


class Engine(Settings):
    """How the networks run in training; what is measured later is in float32 and eager."""

    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="of the networks; auto: bfloat16 where it pays"
    )
    compile: Literal["auto", "on", "off"] = Field(
        "auto", description="the networks; auto: where a long run gains more by it than it takes"
    )
    graph: Literal["auto", "on", "off"] = Field(
        "auto", description="the step as a CUDA graph; auto: on a GPU"
    )

    @field_validator("compile", "graph", mode="before")
    @classmethod
    def unquoted(cls, value: Any) -> Any:
        """Take true and false, which YAML reads on and off as unless they are quoted."""
        return ("off", "on")[value] if isinstance(value, bool) else value


class Run(Settings):
    """What one training has beside its protocol."""

    seed: Seed = Field(description="of initialisation, order of the images and views")
    time_limit: float | None = Field(
        None, ge=0,
        description="minutes from now; stop after the epoch after which another might not fit, for "
        "a later run to go on from --resume",
    )  # fmt: skip
