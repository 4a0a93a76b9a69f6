"""What a result was made with."""

import argparse
import hashlib
import json
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from distillation.code import code_digest

# Packages whose version can change numbers.
PACKAGES = ("numpy", "pillow", "scikit-learn", "torch", "torchvision")


def describe_run(
    arguments: argparse.Namespace, data_sha256: str, device: torch.device
) -> dict[str, Any]:
    """Return arguments (without paths), data digest, versions, device, hardware, git state.

    `commit` and `dirty` are None where the scripts aren't in a git repository.
    """
    settings = {
        name: value
        for name, value in vars(arguments).items()
        if not isinstance(value, Path) and name != "seed"
    }
    status = git("status", "--porcelain")
    return {
        "arguments": settings,
        "seed": getattr(arguments, "seed", None),
        "code_digest": code_digest(Path(sys.modules["__main__"].__file__ or sys.argv[0])),
        "data_sha256": data_sha256,
        "packages": {name: version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "device": device.type,
        "hardware": torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name(),
        "commit": git("rev-parse", "HEAD"),
        "dirty": None if status is None else bool(status),
    }


def fingerprint(provenance: dict[str, Any]) -> str:
    """Return a digest of what decides a run's result: all of `provenance` but the git state."""
    decisive = {
        name: value for name, value in provenance.items() if name not in ("commit", "dirty")
    }
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def cpu_name() -> str:
    """Return the processor's name where the system tells it, else its architecture."""
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def git(*command: str) -> str | None:
    """Return what git prints about the repository of this file, or None where there is none."""
    try:
        done = subprocess.run(
            ["git", *command],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
