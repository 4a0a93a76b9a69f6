"""Results that were made with other versions of packages than the lock file's."""

import json
import re
from pathlib import Path

from distillation.settings.experiment import Experiment


def other_versions(experiment: Experiment, lock: Path) -> str | None:
    """Return one line on results whose packages the lock file has moved away from, if any.

    Numbers of another version may differ, but nothing is wrong with them: nothing is rerun.
    """
    pins = re.findall(r"^([\w.-]+)==([^\s;\\]+)", lock.read_text(), flags=re.MULTILINE)
    locked = dict(pins)
    others = [
        f"{name} {version} (the lock has {locked[name]})"
        for name, version in sorted(recorded_versions(experiment))
        if locked.get(name, version) != version
    ]
    if not others:
        return None
    return (
        f"results of {experiment.name} were made with {', '.join(others)}; they are kept. To make "
        f"them again: snakemake --cores 4 --forceall {experiment.name}"
    )


def recorded_versions(experiment: Experiment) -> set[tuple[str, str]]:
    """Return the (package, version) pairs that the results of an experiment were made with."""
    found: set[tuple[str, str]] = set()
    description = experiment.data_file.replace(".npz", ".json")
    for name in (description, *experiment.files("metrics.json")):
        try:
            content = json.loads(Path(name).read_text())
            for step in ("provenance", "training_provenance"):
                found |= {*content.get(step, {}).get("packages", {}).items()}
        except (FileNotFoundError, ValueError, AttributeError):
            pass  # not made yet, or damaged, which the step that reads it will say
    return found
