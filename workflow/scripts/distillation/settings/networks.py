"""A network as the config names it, and what it costs, which only torch knows."""

import hashlib
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from distillation.record.digest import plugin_digest
from distillation.settings.arguments import flags, plugin_flags
from distillation.settings.base import NetworkSettings, SettingsError

DESCRIBE = Path(__file__).resolve().parents[2] / "describe_network.py"


class Network(NamedTuple):
    """A family of networks, and the settings of one."""

    family: str
    settings: NetworkSettings

    @property
    def flags(self) -> list[str]:
        """The flags that name it."""
        return plugin_flags("--network", {self.family: self.settings})


def cost(network: Network, side: int, channels: int, classes: int) -> dict[str, Any]:
    """Return what describe_network.py says of a network on images of `side` pixels.

    It is computed once in a process of its own and kept under `.snakemake`.

    Raises:
        SettingsError: the network can't be built.
    """
    sizes = {"image_size": max(side, 8), "channels": channels, "classes": max(classes, 2)}
    return described(network.family, network.settings.title, (*network.flags, *flags(sizes)))


# Once for each run of the workflow, which asks with every job.
@cache
def described(family: str, title: str, asked: tuple[str, ...]) -> dict[str, Any]:
    """Return what describe_network.py says to these flags, of a network of this title."""
    key = repr([[*asked], plugin_digest("networks", family)])
    kept = Path(".snakemake/networks", f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.json")
    if not kept.is_file():
        command = [sys.executable, str(DESCRIBE), *asked]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["it failed"]
            raise SettingsError(f"network {title}: {lines[-1]}")
        kept.parent.mkdir(parents=True, exist_ok=True)
        unfinished = kept.with_suffix(f".{os.getpid()}")
        unfinished.write_text(done.stdout)
        unfinished.replace(kept)
    return json.loads(kept.read_text())
