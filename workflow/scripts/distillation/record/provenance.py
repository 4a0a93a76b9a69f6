"""What a result was made with."""

import argparse
import hashlib
import json
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from distillation.record.digest import code_digest, plugin_digest
from distillation.settings.base import Settings, plain

# Packages whose version can change numbers.
PACKAGES = ("numpy", "pillow", "scikit-learn", "torch", "torchvision")


def describe_step(
    arguments: argparse.Namespace,
    packages: Iterable[str],
    plugins: Iterable[tuple[str, str]] = (),
    **more: Any,
) -> dict[str, Any]:
    """Return arguments (without paths), seed, digests, versions of packages, git state, `more`.

    Digests are those of the script's code and of the plug-ins that it used. `commit` and `dirty`
    are None where the scripts aren't in a git repository.

    Args:
        arguments: what the script was given; settings become maps.
        packages: those whose version can change the result; one that isn't installed is left out.
        plugins: kind and name of each that was used.
        more: further entries.
    """
    settings = {
        name: written(value)
        for name, value in vars(arguments).items()
        # How long a run may take changes nothing but where it stops, to be gone on with.
        if not is_path(value) and name not in ("seed", "time_limit")
    }
    script = getattr(sys.modules["__main__"], "__file__", None) or sys.argv[0]
    status = git("status", "--porcelain")
    return {
        "arguments": settings,
        "seed": getattr(arguments, "seed", None),
        "code_digest": code_digest(Path(script)),
        "plugins": {f"{kind}.{name}": plugin_digest(kind, name) for kind, name in sorted(plugins)},
        "packages": installed(packages),
        "python": platform.python_version(),
        "commit": git("rev-parse", "HEAD"),
        "dirty": None if status is None else bool(status),
        **more,
    }


def installed(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of packages, without those that aren't installed.

    On a machine for training alone, torchvision and scikit-learn may be missing.
    """
    found = {}
    for name in packages:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def is_path(value: Any) -> bool:
    """Return whether a value is a path, or a list of them."""
    first = value[0] if isinstance(value, list) and value else value
    return isinstance(first, Path)


def written(value: Any) -> Any:
    """Return an argument as JSON has it: settings as maps, at all depths."""
    if isinstance(value, Settings):
        return value.plain()
    if isinstance(value, Mapping):
        return {name: written(inner) for name, inner in value.items()}
    return plain(value)


def without_git(provenance: Any) -> Any:
    """Return a provenance without the state of git, its own and that of what it was made from."""
    if not isinstance(provenance, Mapping):
        return provenance
    kept = (name for name in provenance if name not in ("commit", "dirty"))
    return {name: without_git(provenance[name]) for name in kept}


def fingerprint(provenance: Mapping[str, Any]) -> str:
    """Return a digest of what decides a run's result: all of `provenance` but the git state."""
    decisive = json.dumps(without_git(provenance), sort_keys=True)
    return hashlib.sha256(decisive.encode()).hexdigest()


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
