"""Networks for tests, as if they had been trained, and what a script says of a mistake."""

from collections.abc import Callable
from typing import Any, cast

import pytest
import torch

from distillation.networks import Network, build_network, initialise
from distillation.settings import plugins
from distillation.settings.arguments import run
from distillation.settings.base import NetworkSettings

PROVENANCE = {"seed": 3, "arguments": {"learning_rate": 0.1, "epochs": 5}, "commit": None}
# By title: family and settings.
NETWORKS = {
    "WRN-10-1": {"wrn": {"depth": 10, "width": 1, "padding_mode": "zeros"}},
    "WRN-16-2": {"wrn": {"depth": 16, "width": 2, "padding_mode": "zeros"}},
    "resnet8": {"resnet": {"block": "basic", "depth": 8, "width": 1}},
}


def make_model(
    title: str = "WRN-10-1", channels: int = 1, seed: int = 0
) -> tuple[Network, dict[str, NetworkSettings]]:
    """Return a network of 10 classes whose running statistics have seen something, and settings."""
    network = cast(
        dict[str, NetworkSettings], plugins.chosen("networks", NETWORKS[title], "network")
    )
    ((family, settings),) = network.items()
    model = build_network(family, settings, 10, channels)
    generator = torch.Generator().manual_seed(seed)
    initialise(model, "uniform", generator)
    model.train()(torch.randn(32, channels, 12, 12, generator=generator))
    return model.eval(), network


def mistake(
    capsys: pytest.CaptureFixture[str], main: Callable[[list[str]], Any], flags: list[str]
) -> str:
    """Run a script, which must fail with status 1 and one line, and return the line."""
    with pytest.raises(SystemExit) as end:
        run(lambda: main(flags))
    # Python itself prints a text that a program ends with, and takes 1 as its status.
    said = end.value.code if isinstance(end.value.code, str) else capsys.readouterr().err
    assert isinstance(end.value.code, str) or end.value.code == 1
    (line,) = said.splitlines()
    return line
