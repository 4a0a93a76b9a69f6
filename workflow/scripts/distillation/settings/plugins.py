"""Plug-ins: one file each, found by name in the folder of their kind.

What a plug-in declares is known without running the rest of its file, which may import torch: the
statements at the top of the file that its class `Settings` hangs on are run, and no others.
"""

import ast
import builtins
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, cast

from distillation.settings.base import Settings, SettingsError, checked, unknown_key

Kind = Literal["terms", "networks", "formats", "metrics"]
LIBRARY = Path(__file__).resolve().parents[1]


def names(kind: Kind) -> list[str]:
    """List the plug-ins of a kind: the files in its folder, by name."""
    return sorted(path.stem for path in (LIBRARY / kind).glob("*.py") if path.stem != "__init__")


def path_of(kind: Kind, name: str, where: str = "") -> Path:
    """Return the file of a plug-in.

    Raises:
        SettingsError: there is none of that name; `where` is the key that names it.
    """
    if name not in names(kind):
        raise SettingsError(unknown_key(where or kind, name, names(kind)))
    return LIBRARY / kind / f"{name}.py"


@cache
def declared(kind: Kind, name: str) -> type[Settings]:
    """Return the class `Settings` of a plug-in, without importing what else its file needs.

    Raises:
        SettingsError: there is no such plug-in, or it declares nothing.
    """
    path = path_of(kind, name)
    module = ModuleType(f"distillation.{kind}.{name}")
    code = ast.Module(declaration(path.read_bytes()), type_ignores=[])
    exec(compile(code, path, "exec"), vars(module))  # noqa: S102 a file of this package
    if not hasattr(module, "Settings"):
        raise SettingsError(f"{path}: declares no class Settings")
    return cast(type[Settings], module.Settings)


def declared_beside(kind: Kind, name: str) -> dict[str, Any]:
    """Return what a plug-in declares beside its settings, for reports: its label, its unit, ..."""
    own = declared(kind, name)
    return {key: getattr(own, key) for key in sorted(own.__class_vars__) if hasattr(own, key)}


def declaration(source: bytes) -> list[ast.stmt]:
    """Return the top-level statements of a file that its class `Settings` hangs on, in order."""
    statements = ast.parse(source).body
    binds = [bound_names(statement) for statement in statements]
    needed, kept = {"Settings"}, set()
    while True:
        fresh = [place for place, bound in enumerate(binds) if bound & needed and place not in kept]
        if not fresh:
            return [statements[place] for place in sorted(kept)]
        for place in fresh:
            kept.add(place)
            needed |= used_names(statements[place])


def bound_names(statement: ast.stmt) -> set[str]:
    """Return the names that a top-level statement binds."""
    if isinstance(statement, ast.ClassDef | ast.FunctionDef):
        return {statement.name}
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).partition(".")[0] for alias in statement.names}
    stored = (node for node in ast.walk(statement) if isinstance(node, ast.Name))
    return {node.id for node in stored if isinstance(node.ctx, ast.Store)}


def used_names(statement: ast.stmt) -> set[str]:
    """Return the names that a statement reads, but for Python's own."""
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return set()
    read = (node for node in ast.walk(statement) if isinstance(node, ast.Name))
    return {node.id for node in read if isinstance(node.ctx, ast.Load)} - set(dir(builtins))


def load(kind: Kind, name: str) -> Any:
    """Return the module of a plug-in, with all that it imports."""
    path_of(kind, name)
    return import_module(f"distillation.{kind}.{name}")


def chosen(kind: Kind, values: Any, where: str) -> dict[str, Any]:
    """Return the settings of the plug-ins that a map names, by name; null leaves one out.

    Raises:
        SettingsError: a name isn't known, or its settings are wrong.
    """
    if not isinstance(values, dict):
        raise SettingsError(
            f"{where}: found {values!r}; allowed: a map of {', '.join(names(kind))}"
        )
    found = {}
    for name, settings in values.items():
        path_of(kind, str(name), where)
        if settings is not None:
            found[name] = checked(declared(kind, name), settings, f"{where}.{name}")
    return found


def chosen_one(kind: Kind, value: Any, where: str) -> tuple[str, Any]:
    """Return the one plug-in that a map names, and its settings.

    Raises:
        SettingsError: it names none or several, as where two files of config were merged.
    """
    found = chosen(kind, value, where)
    if len(found) == 1:
        return found.popitem()
    hint = f"; where files are merged, take one away: {{{[*found][-1]}: null}}" if found else ""
    raise SettingsError(
        f"{where}: found {' and '.join(found) or 'none'}; allowed: one of "
        f"{', '.join(names(kind))}{hint}"
    )
