"""A digest of the code that a script runs, blind to comments, docstrings and layout.

It covers the script and every module beside it that it imports, directly or through others, found
in the import statements themselves: a module imported tomorrow is covered without being listed.
It is taken over the syntax tree, so an edit that can't change results leaves it as it is. Only the
standard library is needed, because the workflow itself computes it too.
"""

import ast
import hashlib
from functools import cache
from pathlib import Path


def code_digest(script: Path) -> str:
    """Return the sha256, shortened to 16 hexadecimal digits, of `script` and what it imports.

    Raises:
        SyntaxError: a file isn't valid Python.
    """
    digest = hashlib.sha256()
    root = script.resolve().parent
    for file in sorted(import_closure(script.resolve(), root)):
        source = normalised_source(file.read_bytes())
        digest.update(f"{file.relative_to(root).as_posix()}\n{source}\n".encode())
    return digest.hexdigest()[:16]


def import_closure(script: Path, root: Path) -> set[Path]:
    """Return `script` and the files under `root` that it imports, directly or through others."""
    found: set[Path] = set()
    waiting = [script]
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            package = file.relative_to(root).parent.parts
            names = imported_names(file.read_bytes(), package)
            waiting += [path for name in names for path in module_files(name, root)]
    return found


# Cached, because most files are imported by several scripts.
@cache
def imported_names(source: bytes, package: tuple[str, ...]) -> set[str]:
    """Return the dotted names that code in `package` may import, wherever the statement stands."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*parents, *([node.module] if node.module else [])])
            # `from package import name`: the name may be a module or something inside one.
            names |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return names


def module_files(name: str, root: Path) -> list[Path]:
    """Return the files under `root` that importing `name` runs: its packages' and its own."""
    files = []
    path = root
    for part in name.split("."):
        path = path / part
        files += [path / "__init__.py", path.with_name(f"{part}.py")]
    return [file for file in files if file.is_file()]


@cache
def normalised_source(source: bytes) -> str:
    """Return code as its syntax tree writes it, without comments and docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = node.body[1:]
            # Only a module may be empty.
            if not node.body and not isinstance(node, ast.Module):
                node.body = [ast.Pass()]
    return ast.unparse(tree)
