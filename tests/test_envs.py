"""Environments: the lock, the conda files and pyproject.toml name the same packages."""

import re
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from distillation.record.digest import import_closure, imported_names
from distillation.record.provenance import PACKAGES

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "workflow/scripts"
LOCK = (ROOT / "requirements.lock").read_text()
# Of the dependency groups that are locked beside the rest, by name.
MORE = {group: (ROOT / f"requirements-{group}.lock").read_text() for group in ("cluster", "onnx")}
ENVIRONMENTS = sorted((ROOT / "workflow/envs").glob("*.yaml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

# Packages whose modules go by another name.
DISTRIBUTIONS = {"PIL": "pillow", "sklearn": "scikit-learn", "yaml": "pyyaml"}
# Modules of a package that need another one.
HIDDEN = {"torch.utils.tensorboard.writer": "tensorboard"}


# Scripts that users or the Snakefile run, and no rule.
BY_HAND = {
    "describe_network", "describe_settings", "export_model", "merge_runs", "publish_results",
    "render_results",
}  # fmt: skip


def locked(lock: str = LOCK) -> dict[str, set[str]]:
    """Return the versions in a lock by package; some have one for each of several Pythons."""
    versions: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)==([^\s;\\]+)", lock, flags=re.MULTILINE):
        versions.setdefault(canonicalize_name(name), set()).add(version)
    return versions


def pins(environment: Path) -> dict[str, str]:
    """Return the versions that a conda file has pip install, by package."""
    dependencies = yaml.safe_load(environment.read_text())["dependencies"]
    (pip,) = (entry["pip"] for entry in dependencies if isinstance(entry, dict))
    return dict(line.split("==") for line in pip)


def rules() -> dict[str, tuple[Path, Path]]:
    """Return the script and the conda file of each rule, and for several students of the same."""
    found = {}
    for file in sorted((ROOT / "workflow/rules").glob("*.smk")):
        text = file.read_text()
        scripts = re.findall(r'"python (workflow/scripts/\w+\.py)"', text)
        environments = re.findall(r'conda:\s+"([^"]+)"', text)
        names = re.findall(r'^ *rule (\w+):|^ *f"(\w+)_\{name\}"$', text, flags=re.MULTILINE)
        for pair, script, environment in zip(names, scripts, environments, strict=True):
            name = "".join(pair)
            # A step of a network has its script for all students of a seed as well.
            name = name if name == "train_students" else name.removesuffix("_students")
            found[name] = (ROOT / script, (file.parent / environment).resolve())
    return found


RULES = rules()


def needed(script: Path) -> set[str]:
    """Return the packages that a script imports, itself or through library and plug-ins.

    Reports know of plug-ins no more than what they declare.
    """
    closure = {*import_closure(script, SCRIPTS)}
    # Digests leave them out.
    closure |= {SCRIPTS / f"distillation/settings/{name}.py" for name in ("base", "arguments")}
    if not any("reporting" in file.parts for file in closure):
        for kind in ("formats", "metrics", "networks", "terms"):
            for file in (SCRIPTS / "distillation" / kind).glob("*.py"):
                closure |= {*import_closure(file, SCRIPTS)}
    names = {
        name
        for file in closure
        for name in imported_names(file.read_bytes(), file.relative_to(SCRIPTS).parent.parts)
    }
    tops = {name.partition(".")[0] for name in names} - sys.stdlib_module_names
    own = {path.stem for path in SCRIPTS.iterdir()}
    packages = {DISTRIBUTIONS.get(top, top) for top in tops - own}
    packages |= {HIDDEN[name] for name in names & HIDDEN.keys()}
    if "distillation.record.provenance.PACKAGES" in names:
        # Their versions are written into the result.
        packages |= set(PACKAGES)
    return packages


def test_rules_are_found() -> None:
    """Each rule calls the script of its own name, and each script but those by hand has a rule."""
    assert {script.stem for script, _ in RULES.values()} == set(RULES)
    assert set(RULES) | BY_HAND == {script.stem for script in SCRIPTS.glob("*.py")}
    assert not set(RULES) & BY_HAND


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda path: path.stem)
def test_pins_are_those_of_the_lock(environment: Path) -> None:
    """Every package of a conda file has the version of the lock."""
    versions = locked()
    found = pins(environment)
    assert found
    for name, version in found.items():
        assert versions[canonicalize_name(name)] == {version}, name


@pytest.mark.parametrize("rule", sorted(RULES))
def test_environment_is_enough(rule: str) -> None:
    """A rule's conda file has every package that its script imports."""
    script, environment = RULES[rule]
    packages = needed(script)
    assert packages
    assert packages <= set(pins(environment))


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda path: path.stem)
def test_environment_is_needed(environment: Path) -> None:
    """A conda file has no package that none of its rules' scripts needs."""
    packages = set()
    for script, used in RULES.values():
        if used == environment:
            packages |= needed(script)
    assert set(pins(environment)) <= packages


def test_every_requirement_has_a_hash() -> None:
    """The lock pins each package by version and by hash."""
    lines = [line for line in LOCK.splitlines() if line and not line.lstrip().startswith("#")]
    entries = "\n".join(lines).replace("\\\n", " ").splitlines()
    assert len(entries) == sum(map(len, locked().values())) > 50
    for entry in entries:
        assert "==" in entry
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", entry), entry


def test_lock_has_no_addresses() -> None:
    """The lock says what to install, not from where."""
    assert not re.search(r"https?://|--(extra-)?index-url|--find-links|@ file:", LOCK)


def test_direct_dependencies_are_locked() -> None:
    """The locks have a version of each direct dependency, within its bounds."""
    versions = {
        name: each for lock in (*MORE.values(), LOCK) for name, each in locked(lock).items()
    }
    groups = [PROJECT["project"]["dependencies"], *PROJECT["dependency-groups"].values()]
    requirements = [Requirement(line) for group in groups for line in group]
    assert requirements
    for requirement in requirements:
        for version in versions[canonicalize_name(requirement.name)]:
            assert requirement.specifier.contains(version), requirement


@pytest.mark.parametrize("group", MORE)
def test_group_adds_to_the_lock(group: str) -> None:
    """A group's packages are pinned beside the lock, and move no version of the lock."""
    lock = MORE[group]
    pinned = locked(lock)
    names = [Requirement(line).name for line in PROJECT["dependency-groups"][group]]
    direct = {canonicalize_name(name) for name in names}
    assert direct <= pinned.keys()
    assert not direct & locked().keys()
    for name in pinned.keys() & locked().keys():
        assert pinned[name] == locked()[name], name
    assert "--hash=sha256:" in lock
    assert "://" not in lock
