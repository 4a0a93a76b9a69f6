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

from distillation.code import code_digest

# Packages whose version can change numbers.
PACKAGES = ("numpy", "pillow", "scikit-learn", "torch", "torchvision")


def describe_step(
    arguments: argparse.Namespace, packages: tuple[str, ...], **more: str
) -> dict[str, Any]:
    """Return arguments (without paths), seed, code digest, versions of packages, git state, `more`.

    `commit` and `dirty` are None where the scripts aren't in a git repository.
    """
    settings = {
        name: value
        for name, value in vars(arguments).items()
        # How long a run may take changes nothing but where it stops, to be gone on with.
        if not isinstance(value, Path) and name not in ("seed", "time_limit")
    }
    status = git("status", "--porcelain")
    return {
        "arguments": settings,
        "seed": getattr(arguments, "seed", None),
        "code_digest": code_digest(Path(sys.modules["__main__"].__file__ or sys.argv[0])),
        "packages": {name: version(name) for name in packages},
        "python": platform.python_version(),
        "commit": git("rev-parse", "HEAD"),
        "dirty": None if status is None else bool(status),
        **more,
    }


def fingerprint(provenance: dict[str, Any]) -> str:
    """Return a digest of what decides a run's result: all of `provenance` but the git state."""
    decisive = {
        name: value for name, value in provenance.items() if name not in ("commit", "dirty")
    }
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


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
