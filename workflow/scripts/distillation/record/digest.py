"""Digests of the code that a script or a plug-in runs, blind to comments, docstrings and layout.

They cover a file and every module beside it that it imports, directly or through others, found in
the import statements themselves: a module imported tomorrow is covered without being listed. They
are taken over the syntax tree, so an edit that can't change results leaves them as they are. What
is declared is left out, the package distillation/settings and any class `Settings` at the top of a
file: every value of it reaches a script by a flag. A plug-in is loaded by its name, so no script's
digest covers it; it has one of its own. Only the standard library is needed, because the workflow
itself computes them too.
"""

import ast
import hashlib
from functools import cache
from pathlib import Path

from distillation.record.files import EXPORTED

SCRIPTS = Path(__file__).resolve().parents[2]
DECLARATIONS = Path("distillation", "settings")


def code_digest(script: Path) -> str:
    """Return the sha256, shortened to 16 hexadecimal digits, of `script` and what it imports.

    Raises:
        SyntaxError: a file isn't valid Python.
    """
    script = script.resolve()
    return closure_digest(script, script.parent)


def plugin_digest(kind: str, name: str, root: Path = SCRIPTS) -> str:
    """Return the digest of a plug-in and what it imports, without what it declares.

    Args:
        kind: its folder: terms, networks, formats or metrics.
        name: of its file, without suffix.
        root: the folder of the scripts.

    Raises:
        FileNotFoundError: there is no such plug-in.
        SyntaxError: a file isn't valid Python.
    """
    return closure_digest(root / "distillation" / kind / f"{name}.py", root)


def source_digest(path: Path) -> str:
    """Return the sha256 of a teacher that the user brings: of a file, or of an exported folder.

    Raises:
        FileNotFoundError: there is no such file, or the folder lacks one.
    """
    digest = hashlib.sha256()
    for file in [path / name for name in EXPORTED] if path.is_dir() else [path]:
        with file.open("rb") as opened:
            content = hashlib.file_digest(opened, "sha256")
        if file == path:
            return content.hexdigest()
        digest.update(f"{file.name} {content.hexdigest()}\n".encode())
    return digest.hexdigest()


def closure_digest(file: Path, root: Path) -> str:
    """Return the digest of a file under `root` and what it imports from there."""
    files = sorted(import_closure(file, root))
    return shortened(
        "".join(
            f"{each.relative_to(root).as_posix()}\n{read_source(each.read_bytes())[1]}\n"
            for each in files
        )
    )


def shortened(text: str) -> str:
    """Return the first 16 hexadecimal digits of a text's sha256."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def import_closure(file: Path, root: Path) -> set[Path]:
    """Return a file and those under `root` that it imports, directly or through others.

    Declarations are left out.
    """
    # Most names are of packages elsewhere, for which the disk need not be asked.
    own = {path.stem for path in root.iterdir()}
    found: set[Path] = set()
    known: set[str] = set()
    waiting = [file]
    while waiting:
        file = waiting.pop()
        if file not in found and not file.is_relative_to(root / DECLARATIONS):
            found.add(file)
            package = file.relative_to(root).parent.parts
            names = imported_names(file.read_bytes(), package) - known
            known |= names
            near = (name for name in names if name.partition(".")[0] in own)
            waiting += [path for name in near for path in module_files(name, root)]
    return found


def imported_names(source: bytes, package: tuple[str, ...]) -> set[str]:
    """Return the dotted names that code in `package` may import, wherever the statement stands."""
    names = set()
    for node in read_source(source)[0]:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        else:
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


# Cached, because most files are imported by several scripts, and parsing is what takes time.
@cache
def read_source(source: bytes) -> tuple[list[ast.Import | ast.ImportFrom], str]:
    """Return a file's import statements, and its code without comments, docstrings, `Settings`."""
    tree = ast.parse(source)
    nodes = [*ast.walk(tree)]
    for node in nodes:
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = node.body[1:]
            # Only a module may be empty.
            if not node.body and not isinstance(node, ast.Module):
                node.body = [ast.Pass()]
    tree.body = [
        node for node in tree.body
        if not (isinstance(node, ast.ClassDef) and node.name == "Settings")
    ]  # fmt: skip
    imports = [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
    return imports, ast.unparse(tree)
