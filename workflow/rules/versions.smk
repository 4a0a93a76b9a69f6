"""A warning where results were made with other versions of packages than the lock file's."""

import json
import re

from snakemake.logging import logger


def locked_versions():
    """Return the versions of requirements.lock by package."""
    with open(f"{workflow.basedir}/requirements.lock", encoding="utf-8") as file:
        return dict(re.findall(r"^([\w.-]+)==([^\s;\\]+)", file.read(), flags=re.MULTILINE))


def recorded_versions(experiment):
    """Return the (package, version) pairs that the results of an experiment were made with."""
    found = set()
    description = f"results/data/{EXPERIMENTS[experiment]['data']}.json"
    for name in (description, *model_files(experiment, "metrics.json")):
        try:
            with open(name, encoding="utf-8") as file:
                content = json.load(file)
            for step in ("provenance", "training_provenance"):
                found |= {*content.get(step, {}).get("packages", {}).items()}
        except (FileNotFoundError, ValueError, AttributeError):
            pass  # not made yet, or damaged, which the step that reads it will say
    return found


def warn_of_other_versions():
    """Name the experiments and packages that the lock file has moved away from.

    Numbers of another version may differ, but nothing is wrong with them: nothing is rerun.
    """
    locked = locked_versions()
    for experiment in EXPERIMENTS:
        others = [
            f"{name} {version} (the lock has {locked[name]})"
            for name, version in sorted(recorded_versions(experiment))
            if locked.get(name, version) != version
        ]
        if others:
            logger.warning(
                f"warning: results of {experiment} were made with {', '.join(others)}; they are "
                f"kept. To make them again: snakemake --cores 4 --forceall {experiment}"
            )


# Once for each call of Snakemake, not in each job on a cluster.
if workflow.is_main_process:
    warn_of_other_versions()
