"""The digest of the code that a script runs: what changes it and what doesn't."""

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from distillation.record import digest
from distillation.record.digest import (
    code_digest,
    import_closure,
    plugin_digest,
    source_digest,
)
from jobs import edit

PARSE = digest.parse
SCRIPTS = Path(__file__).parents[1] / "workflow" / "scripts"

# A script, what it imports in every way that Python knows, and what it doesn't.
TREE = {
    "script.py": '''\
"""Say what the script does."""

import argparse
import library.dotted
from library import attribute
from library.direct import work


def main(flag: bool = True) -> int:
    """Say what main does."""
    from library.lazy import late

    # A comment.
    return work(attribute.VALUE, late, argparse, library.dotted) if flag else 0


class Thing:
    """Say what a thing is."""

    size = 1
''',
    "library/__init__.py": '"""Say what the library is."""\n\nVERSION = 1\n',
    "library/dotted.py": "import library.inner.leaf as leaf\n",
    "library/attribute.py": "try:\n    from .indirect import VALUE\nfinally:\n    pass\n",
    "library/direct.py": "from . import sibling\n\n\ndef work(*_):\n    return sibling\n",
    "library/indirect.py": "from library import direct\n\nVALUE = direct\n",
    # A circle.
    "library/sibling.py": "from library import direct\n",
    "library/lazy.py": "from beside import late as late\n",
    "library/inner/__init__.py": "if True:\n    from ..uncle import NAME as name\n",
    "library/uncle.py": "NAME = 'uncle'\n",
    "library/inner/leaf.py": "from ..cousin import *\n",
    "library/cousin.py": "NAME = 'cousin'\n",
    "beside.py": "late = 1\n",
}
UNRELATED = {
    "library/unrelated.py": "NAME = 'unrelated'\n",
    "library/inner/unrelated.py": "NAME = 'unrelated'\n",
    "other.py": "import library.unrelated\n",
    "argparse_extra.py": "NAME = 'unrelated'\n",
}


def write_tree(root: Path, files: dict[str, str]) -> Path:
    """Write files below `root` and return the script among them."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root / "script.py"


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """Return the script of the tree above."""
    return write_tree(tmp_path, TREE | UNRELATED)


def test_closure_is_what_the_script_imports(script):
    """The closure holds the script and every file that it imports by any statement, no other."""
    found = import_closure(script, script.parent)
    assert {file.relative_to(script.parent).as_posix() for file in found} == set(TREE)


@pytest.mark.parametrize(
    "statement",
    [
        "if VALUE:\n    {}", "if VALUE:\n    pass\nelse:\n    {}",
        "if VALUE:\n    pass\nelif not VALUE:\n    {}",
        "for each in VALUE:\n    {}", "for each in VALUE:\n    pass\nelse:\n    {}",
        "while VALUE:\n    {}", "while VALUE:\n    pass\nelse:\n    {}",
        "with VALUE:\n    {}", "try:\n    {}\nfinally:\n    pass",
        "try:\n    pass\nexcept OSError:\n    {}", "try:\n    pass\nexcept* OSError:\n    {}",
        "try:\n    pass\nexcept OSError:\n    pass\nelse:\n    {}",
        "try:\n    pass\nfinally:\n    {}", "match VALUE:\n    case 1:\n        {}",
        "class Thing:\n    {}", "def work():\n    {}",
        "async def work():\n    async with VALUE:\n        {}",
        "async def work():\n    async for each in VALUE:\n        {}",
        "def work():\n    def inner():\n        {}",
    ],
)  # fmt: skip
def test_imports_are_found_in_every_statement(tmp_path: Path, statement: str) -> None:
    """A file is covered wherever a statement imports it, whatever that is a part of."""
    code = statement.format("import beside")
    script = write_tree(tmp_path, {"script.py": f"VALUE = 1\n{code}\n", "beside.py": ""})
    assert import_closure(script, tmp_path) == {script, tmp_path / "beside.py"}


def test_code_of_the_closure_alone_changes_the_digest(script):
    """A change of code in any imported file, packages included, changes the digest; no other."""
    before = code_digest(script)
    for name in [*TREE, *UNRELATED]:
        text = (script.parent / name).read_text()
        (script.parent / name).write_text(f"{text}\nCHANGED = True\n")
        assert (code_digest(script) == before) == (name in UNRELATED), name
        (script.parent / name).write_text(text)


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("# A comment.", "# Another comment,\n    # of two lines.", False),
        ('"""Say what the script does."""', '"""Say something else."""', False),
        ('"""Say what the script does."""\n', "", False),
        ('    """Say what main does."""\n', "", False),
        ('    """Say what a thing is."""\n', "", False),
        ("flag: bool = True", "flag : bool=True", False),
        ("work(attribute.VALUE, late,", "work(\n        attribute.VALUE,\n        late,", False),
        ("size = 1", "size = 0x1", False),
        ("flag: bool = True", "flag: bool = False", True),
        ("if flag else 0", "if not flag else 0", True),
        ("attribute.VALUE, late", "late, attribute.VALUE", True),
        ("size = 1", "size = 1.0", True),
        ("def main", "@print\ndef main", True),
        ("class Thing", "class Other", True),
        ("from library.lazy", "from library.direct", True),
    ],
)
def test_code_alone_counts(script, old, new, changed):
    """Edits of comments, docstrings and layout leave the digest; those of code change it."""
    before = code_digest(script)
    edit(script, old, new)
    assert (code_digest(script) != before) == changed


@pytest.mark.parametrize("text", ["", "VALUE = 1\n"])
@pytest.mark.parametrize(
    "added", ['"""A docstring."""\n', "# A comment.\n", "\n\n", "class Settings:\n    size = 1\n"]
)
def test_what_decides_nothing_leaves_the_digest(tmp_path, text, added):
    """A first docstring, a comment or a declaration leaves the digest, in an empty module too."""
    script = write_tree(tmp_path, {"script.py": added + text})
    with_it = code_digest(script)
    # Neither a later modification time nor the line ends of Windows change it.
    script.write_bytes(text.replace("\n", "\r\n").encode())
    os.utime(script, (2_000_000_000, 2_000_000_000))
    assert code_digest(script) == with_it


def test_where_code_stands_counts(tmp_path):
    """The same code in a module of another name has another digest."""
    files = {"script.py": "import a, b\n", "a.py": "NAME = 1\n", "b.py": ""}
    first = write_tree(tmp_path / "1", files)
    second = write_tree(tmp_path / "2", files | {"a.py": "", "b.py": "NAME = 1\n"})
    assert code_digest(first) != code_digest(second)


def test_digest_is_the_same_in_other_processes_and_places(script, tmp_path):
    """Process, hash seed, working directory and the tree's place don't change the digest."""
    copy = write_tree(tmp_path / "elsewhere", TREE)
    program = (
        "import sys; from pathlib import Path; from distillation.record.digest import code_digest; "
        "print(code_digest(Path(sys.argv[1])), 'torch' in sys.modules)"
    )
    expected = code_digest(script)
    assert len(expected) == 16
    for seed, folder, path in (("1", SCRIPTS, script), ("2", copy.parent, Path("script.py"))):
        done = subprocess.run(
            [sys.executable, "-c", program, str(path)],
            cwd=folder, env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(SCRIPTS)},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stdout.split() == [expected, "False"]


def test_digest_is_the_same_in_every_python() -> None:
    """Versions of Python write strings in strings otherwise, and have further fields of code."""
    source = b"""
class Thing(list[int]):
    async def name(self, *, key: str = 'a', **rest) -> str:
        return f"{rest['x']!r:>{len(key)}} and " f'{self}' if key else 'b'
"""
    # The same by 3.11, 3.12 and 3.13.
    assert PARSE(source).code == "9736657d3df4d0f7"


def test_invalid_code_is_an_error(tmp_path):
    """A script that isn't valid Python has no digest."""
    with pytest.raises(SyntaxError):
        code_digest(write_tree(tmp_path, {"script.py": "def main(:\n"}))


PLUGIN = '''\
"""A term."""

from pydantic import Field

from distillation import numerics
from distillation.settings.base import TermSettings


class Settings(TermSettings):
    """What the term has."""

    power: float = Field(2, description="of the difference")


class Term:
    """The term."""

    def forward(self, difference):
        return numerics.at_least(difference) ** 2
'''


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a tree of two terms, a script that loads them by name, and what they import."""
    library = {
        "script.py": "from distillation.settings import plugins\nfrom distillation import terms\n",
        "distillation/__init__.py": "",
        "distillation/numerics.py": "at_least = float\n",
        "distillation/settings/__init__.py": "",
        "distillation/settings/base.py": "class TermSettings: ...\n",
        "distillation/settings/plugins.py": "from distillation.settings import base\n",
        "distillation/terms/__init__.py": "",
        "distillation/terms/toy.py": PLUGIN,
        "distillation/terms/other.py": PLUGIN,
    }
    write_tree(tmp_path, library)
    return tmp_path


@pytest.mark.parametrize(
    ("file", "old", "new", "changed"),
    [
        ("terms/toy.py", "** 2", "** 3", {"toy"}),
        ("terms/toy.py", "(2, descr", "(3, descr", set()),
        ("terms/toy.py", '    """The term."""\n\n', "", set()),
        ("terms/other.py", "** 2", "** 3", {"other"}),
        ("settings/base.py", "...", "x = 1", set()),
        ("settings/plugins.py", "base", "base as b", set()),
        ("numerics.py", "float", "int", {"toy", "other"}),
        ("terms/__init__.py", "", "VALUE = 1\n", {"script"}),
    ],
)
def test_plugins_are_covered_by_their_use(root, file, old, new, changed):
    """An edit changes the digests of just what runs it; that of a declaration changes none."""

    def digests() -> dict[str, str]:
        return {
            "script": code_digest(root / "script.py"),
            "toy": plugin_digest("terms", "toy", root),
            "other": plugin_digest("terms", "other", root),
        }

    before = digests()
    path = root / "distillation" / file
    path.write_text(path.read_text().replace(old, new, 1))
    after = digests()
    assert {name for name in before if before[name] != after[name]} == changed


def test_plugin_that_is_not_there():
    """Of a plug-in that isn't there the error names the file."""
    with pytest.raises(FileNotFoundError, match=r"terms/none\.py"):
        plugin_digest("terms", "none")


def test_a_source_is_known_by_its_content(tmp_path):
    """A file's digest is its sha256; a folder's is of weights and description, not of the card."""
    for name in ("model.safetensors", "config.json", "README.md"):
        (tmp_path / name).write_text(name)
    folder = source_digest(tmp_path)
    (tmp_path / "README.md").write_text("another card")
    assert source_digest(tmp_path) == folder
    file = source_digest(tmp_path / "config.json")
    assert file == hashlib.sha256(b"config.json").hexdigest()
    (tmp_path / "config.json").write_text("another")
    assert (
        len({source_digest(tmp_path), folder, source_digest(tmp_path / "config.json"), file}) == 4
    )
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        source_digest(tmp_path)


@pytest.mark.parametrize("script", sorted(path.stem for path in SCRIPTS.glob("*.py")), ids=str)
def test_closures_of_scripts(script):
    """No script's closure holds declarations or plug-ins; what draws tables holds no training."""
    files = import_closure(SCRIPTS / f"{script}.py", SCRIPTS)
    parts = {file.relative_to(SCRIPTS).as_posix() for file in files}
    assert f"{script}.py" in parts
    inner = {part.removeprefix("distillation/") for part in parts}
    plugins = r"(settings/.*|(terms|networks|formats|metrics)/(?!__init__).*)"
    assert not [part for part in inner if re.fullmatch(plugins, part)]
    if script.startswith(("render", "compare", "publish")):
        assert not [part for part in inner if part.startswith(("training/", "networks/"))]
    if script.startswith("train"):
        assert {"training/run.py", "training/loop.py", "record/checkpoint.py"} <= inner
        assert not [part for part in inner if part.startswith(("reporting/", "measuring/att"))]


@pytest.mark.parametrize("name", ["train_student", "render_table"])
def test_everything_that_a_script_imports_is_covered(name):
    """What Python itself loads to run a script is in its closure, but for the declarations."""
    program = (
        f"import sys; sys.path[0] = {str(SCRIPTS)!r}; import {name}; "
        f"print(*(module.__file__ for module in list(sys.modules.values())"
        f" if (getattr(module, '__file__', None) or '').startswith({str(SCRIPTS)!r})), sep='\\n')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    loaded = {Path(line) for line in done.stdout.splitlines()}
    settings = SCRIPTS / "distillation/settings"
    assert SCRIPTS / f"{name}.py" in loaded
    assert {file for file in loaded if not file.is_relative_to(settings)} <= import_closure(
        SCRIPTS / f"{name}.py", SCRIPTS
    )


OTHERS = {"damaged": "{", "no map": "[]", "of other things": '{"a": 1}'}


@pytest.mark.parametrize("kept", ["as written", *OTHERS])
def test_what_was_read_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: str) -> None:
    """A later run parses the files that changed and no other; what it can't read, it does anew."""
    tree, file = tmp_path / "tree", tmp_path / "new/kept.json"
    for name, text in TREE.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    parsed = []
    monkeypatch.setattr(digest, "parse", lambda source: parsed.append(source) or PARSE(source))

    def code_digest_of_a_run() -> str:
        monkeypatch.setattr(digest, "_kept", {})
        monkeypatch.setattr(digest, "_read", {})
        parsed.clear()
        digest.know_sources(file)
        found = code_digest(tree / "script.py")
        digest.write_sources(file)
        return found

    first = code_digest_of_a_run()
    assert len(parsed) == len({*TREE.values()})
    if kept in OTHERS:
        file.write_text(OTHERS[kept])
    edit(tree / "beside.py", "1", "2")
    assert code_digest_of_a_run() != first
    assert len(parsed) == (len({*TREE.values()}) if kept in OTHERS else 1)
    edit(tree / "beside.py", "2", "1")
    assert code_digest_of_a_run() == first
    assert len(parsed) == (kept in OTHERS)


def test_a_source_says_what_it_is_written_in(tmp_path: Path) -> None:
    """A file in another encoding than UTF-8, which it names, has a digest."""
    script = tmp_path / "script.py"
    script.write_bytes("# -*- coding: latin-1 -*-\nNAME = 'é'\n".encode("latin-1"))
    first = code_digest(script)
    script.write_bytes(script.read_bytes() + b"# More.\n")
    assert code_digest(script) == first
