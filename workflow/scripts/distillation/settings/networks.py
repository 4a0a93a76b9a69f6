"""A network as the config names it, and what it costs, which only torch knows."""

import hashlib
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from distillation.record.digest import SCRIPTS, code_digest, plugin_digest
from distillation.record.provenance import installed
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


class Asked(NamedTuple):
    """What describe_network.py is asked: a network, by family, title and flags, on some images."""

    family: str
    title: str
    flags: tuple[str, ...]

    @property
    def kept(self) -> Path:
        """The file in which the answer is kept, of this code."""
        code = code_digest(SCRIPTS / "describe_network.py"), plugin_digest("networks", self.family)
        key = repr([[*self.flags], *code, installed(["torch", "torchvision"])])
        return Path(".snakemake/networks", f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.json")

    def keep(self, answer: str) -> None:
        """Write the answer, whole or not at all."""
        kept = self.kept
        kept.parent.mkdir(parents=True, exist_ok=True)
        unfinished = kept.with_suffix(f".{os.getpid()}")
        unfinished.write_text(answer)
        unfinished.replace(kept)


def asked(network: Network, side: int, channels: int, classes: int) -> Asked:
    """Return what is asked of a network on images of `side` pixels."""
    sizes = {"image_size": max(side, 8), "channels": channels, "classes": max(classes, 2)}
    return Asked(network.family, network.settings.title, (*network.flags, *flags(sizes)))


def cost(network: Network, side: int, channels: int, classes: int) -> dict[str, Any]:
    """Return what describe_network.py says of a network on images of `side` pixels.

    It is computed once in a process of its own and kept under `.snakemake`.

    Raises:
        SettingsError: the network can't be built.
    """
    return described(asked(network, side, channels, classes))


# Once for each run of the workflow, which asks with every job.
@cache
def described(question: Asked) -> dict[str, Any]:
    """Return the answer of describe_network.py."""
    if not question.kept.is_file():
        command = [sys.executable, str(DESCRIBE), *question.flags]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["it failed"]
            raise SettingsError(f"network {question.title}: {lines[-1]}")
        question.keep(done.stdout)
    return json.loads(question.kept.read_text())


def describe_all(questions: Iterable[Asked]) -> None:
    """Ask for all that isn't known in one process, most of whose time is the import of torch.

    What comes after a network that can't be built is left to be asked by itself, as that one is,
    which says why it can't.
    """
    unknown = [each for each in dict.fromkeys(questions) if not each.kept.is_file()]
    if len(unknown) < 2:
        return
    lines = "".join(f"{shlex.join(each.flags)}\n" for each in unknown)
    done = subprocess.run(
        [sys.executable, str(DESCRIBE), "-"], input=lines, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    for each, answer in zip(unknown, done.stdout.splitlines(keepends=True), strict=False):
        if json.loads(answer)["title"] == each.title:
            each.keep(answer)
