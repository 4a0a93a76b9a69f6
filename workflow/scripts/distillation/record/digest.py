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
import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from distillation.record.files import EXPORTED, replacing

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
            f"{each.relative_to(root).as_posix()} {read_source(each.read_bytes()).code}\n"
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
    names: set[str] = set()
    for level, module, imported in read_source(source).imports:
        parents = package[: len(package) - level + 1] if level else ()
        base = ".".join([*parents, *([module] if module else [])])
        # `from package import name`: the name may be a module or something inside one.
        names |= {base, *(f"{base}.{name}" for name in imported)}
    return names


def module_files(name: str, root: Path) -> list[Path]:
    """Return the files under `root` that importing `name` runs: its packages' and its own."""
    files = []
    path = root
    for part in name.split("."):
        path = path / part
        files += [path / "__init__.py", path.with_name(f"{part}.py")]
    return [file for file in files if file.is_file()]


class Source(NamedTuple):
    """What a file imports, and the digest of its code without comments, docstrings, `Settings`.

    Imports are level, module and names, as `from ..module import names` has them.
    """

    imports: list[tuple[int, str, list[str]]]
    code: str


# Parsing is what takes time, most files are imported by several scripts, and few change between two
# runs: sources that were read, in this process and, after `know_sources`, before it, by digest.
_kept: dict[str, Source] = {}
_read: dict[str, Source] = {}
# What else decides how a file is read.
_READER = Path(__file__).read_bytes() + sys.version.encode()


def know_sources(file: Path) -> None:
    """Know in this process what an earlier one wrote by `write_sources`.

    That is only to save time: a file that is damaged is passed over.
    """
    with suppress(OSError, ValueError, TypeError, AttributeError):
        _kept.update({key: Source(*source) for key, source in json.loads(file.read_text()).items()})


def write_sources(file: Path) -> None:
    """Write what is known, if this process has read more than it knew, and if it can."""
    if not _read.keys() <= _kept.keys():
        with suppress(OSError), replacing(file) as temporary:
            temporary.write_text(json.dumps(_kept | _read))


def read_source(source: bytes) -> Source:
    """Return what is known of a file by its content, else read it."""
    key = hashlib.sha256(_READER + source).hexdigest()[:16]
    if key not in _read:
        _read[key] = _kept.get(key) or parse(source)
    return _read[key]


def parse(source: bytes) -> Source:
    """Return a file's imports and the digest of its code."""
    tree = ast.parse(source)
    imports: list[tuple[int, str, list[str]]] = []
    for node in statements(tree):
        if isinstance(node, ast.ImportFrom):
            imports.append((node.level, node.module or "", [each.name for each in node.names]))
        elif isinstance(node, ast.Import):
            imports += [(0, each.name, []) for each in node.names]
        elif isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
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
    return Source(imports, shortened(written(tree)))


def statements(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield a module and all statements in it, at all depths, with their parts (except, case)."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        for name in ("body", "orelse", "finalbody", "handlers", "cases"):
            waiting += getattr(node, name, ())


def written(part: object) -> str:
    """Return a part of a syntax tree as text that is the same for every version of Python.

    Newer ones write code otherwise (strings in strings), and have fields that are empty here; some
    have an empty string within a formatted one.
    """
    if isinstance(part, list):
        return f"[{','.join([written(each) for each in part])}]"
    if not isinstance(part, ast.AST):
        return repr(part)
    if isinstance(part, ast.JoinedStr):
        part.values = [each for each in part.values if getattr(each, "value", None) != ""]
    fields = [(name, getattr(part, name, None)) for name in part._fields]
    inner = [f"{name}={written(each)}" for name, each in fields if each is not None and each != []]
    return f"{type(part).__name__}({','.join(inner)})"
