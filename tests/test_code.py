"""The digest of the code that a script runs: what changes it and what doesn't."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from distillation.code import code_digest, import_closure

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
    "library/sibling.py": "NAME = 'sibling'\n",
    "library/lazy.py": "from beside import late as late\n",
    "library/inner/__init__.py": "",
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


def edit(file: Path, old: str, new: str) -> None:
    """Replace a piece of text that stands in the file once."""
    text = file.read_text()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))


def digest_of(root: Path, text: str) -> str:
    """Return the digest of a script with this text."""
    return code_digest(write_tree(root, {"script.py": text}))


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """Return the script of the tree above."""
    return write_tree(tmp_path, TREE | UNRELATED)


def test_closure_is_what_the_script_imports(script):
    """The closure holds the script and every file that it imports by any statement, no other."""
    found = import_closure(script, script.parent)
    assert {file.relative_to(script.parent).as_posix() for file in found} == set(TREE)


@pytest.mark.parametrize("name", TREE)
def test_new_code_changes_the_digest(script, name):
    """A change of code in any imported file, packages included, changes the digest."""
    before = code_digest(script)
    with (script.parent / name).open("a") as file:
        file.write("\nCHANGED = True\n")
    assert code_digest(script) != before


@pytest.mark.parametrize("name", UNRELATED)
def test_unrelated_code_leaves_the_digest(script, name):
    """A change of code that the script doesn't import leaves the digest as it is."""
    before = code_digest(script)
    (script.parent / name).write_text("CHANGED = True\n")
    assert code_digest(script) == before
    (script.parent / name).unlink()
    assert code_digest(script) == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# A comment.", "# Another comment,\n    # of two lines."),
        ("    # A comment.\n", ""),
        ('"""Say what the script does."""', '"""Say something else."""'),
        ('"""Say what the script does."""\n', ""),
        ('    """Say what main does."""\n', ""),
        ('    """Say what a thing is."""\n', ""),
        ("import argparse\n", "import argparse\n\n\n"),
        ("flag: bool = True", "flag : bool=True"),
        ("    return work(", "    return (work)("),
        ("work(attribute.VALUE, late,", "work(\n        attribute.VALUE,\n        late,"),
        ("size = 1", "size = 0x1"),
    ],
)
def test_comments_docstrings_and_layout_leave_the_digest(script, old, new):
    """An edit of comments, docstrings or layout leaves the digest as it is."""
    before = code_digest(script)
    edit(script, old, new)
    assert code_digest(script) == before


@pytest.mark.parametrize("text", ["", "VALUE = 1\n"])
@pytest.mark.parametrize("comment", ['"""A new docstring."""\n', "# A new comment.\n", "\n\n"])
def test_first_docstring_of_a_module_leaves_the_digest(tmp_path, text, comment):
    """A first docstring or comment leaves the digest, in a module without code as well."""
    assert digest_of(tmp_path, comment + text) == digest_of(tmp_path, text)


def test_touch_and_line_ends_leave_the_digest(script):
    """Neither a later modification time nor the line ends of Windows change the digest."""
    before = code_digest(script)
    os.utime(script, (2_000_000_000, 2_000_000_000))
    assert code_digest(script) == before
    script.write_bytes(script.read_bytes().replace(b"\n", b"\r\n"))
    assert code_digest(script) == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("flag: bool = True", "flag: bool = False"),
        ("if flag else 0", "if not flag else 0"),
        ("attribute.VALUE, late", "late, attribute.VALUE"),
        ("size = 1", "size = 1.0"),
        ("def main", "@print\ndef main"),
        ("class Thing", "class Other"),
        ("from library.lazy", "from library.direct"),
    ],
)
def test_small_changes_of_code_change_the_digest(script, old, new):
    """A default, condition, order, type of number, decorator or name changes the digest."""
    before = code_digest(script)
    edit(script, old, new)
    assert code_digest(script) != before


@pytest.mark.parametrize(
    "statement",
    [
        "import library.fresh",
        "import argparse, library.fresh as new",
        "from library import fresh",
        "from library import fresh as new",
        "from library.fresh import NAME",
        "from library.fresh import *",
        "def later():\n    from library import fresh\n    return fresh",
        "if True:\n    import library.fresh",
        "class Thing:\n    from library.fresh import NAME",
    ],
)
def test_newly_imported_module_is_covered(tmp_path, statement):
    """A module is covered from its first import on, in whatever way it's imported."""
    script = write_tree(tmp_path, {"script.py": f"{statement}\n", "library/__init__.py": ""})
    without = code_digest(script)
    write_tree(tmp_path, {"library/fresh.py": "NAME = 1\n"})
    first = code_digest(script)
    write_tree(tmp_path, {"library/fresh.py": "NAME = 2\n"})
    assert len({without, first, code_digest(script)}) == 3


@pytest.mark.parametrize(
    ("file", "statement"),
    [
        ("library/module.py", "from . import fresh"),
        ("library/module.py", "from .fresh import NAME"),
        ("library/__init__.py", "from . import fresh"),
        ("library/inner/module.py", "from .. import fresh"),
        ("library/inner/module.py", "from ..fresh import NAME"),
        ("library/inner/__init__.py", "from ..fresh import NAME"),
    ],
)
def test_relative_imports_are_followed(tmp_path, file, statement):
    """Modules that are imported relative to a package, or to the one above it, are covered."""
    module = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    files = {
        "library/__init__.py": "",
        "library/inner/__init__.py": "",
        "library/fresh.py": "NAME = 1\n",
        "script.py": f"import {module}\n",
    }
    script = write_tree(tmp_path, files | {file: f"{statement}\n"})
    before = code_digest(script)
    write_tree(tmp_path, {"library/fresh.py": "NAME = 2\n"})
    assert code_digest(script) != before


def test_circular_imports_end(tmp_path):
    """Modules that import each other are covered, once each."""
    script = write_tree(
        tmp_path, {"script.py": "import a\n", "a.py": "import b\n", "b.py": "import a, script\n"}
    )
    assert {file.name for file in import_closure(script, tmp_path)} == {"script.py", "a.py", "b.py"}


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
        "import sys; from pathlib import Path; from distillation.code import code_digest; "
        "print(code_digest(Path(sys.argv[1])), 'torch' in sys.modules)"
    )
    expected = code_digest(script)
    assert len(expected) == 16
    for seed, folder, path in (("1", SCRIPTS, script), ("2", copy.parent, Path("script.py"))):
        done = subprocess.run(
            [sys.executable, "-c", program, str(path)],
            cwd=folder,
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(SCRIPTS)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split() == [expected, "False"]


def test_invalid_code_is_an_error(tmp_path):
    """A script that isn't valid Python has no digest."""
    with pytest.raises(SyntaxError):
        digest_of(tmp_path, "def main(:\n")


@pytest.mark.parametrize(
    ("name", "covered", "not_covered"),
    [
        ("prepare_data", ["digits", "image_folder", "archives"], ["models", "training"]),
        ("train_teacher", ["models", "training", "losses", "data"], ["image_folder", "results"]),
        ("train_student", ["models", "training", "losses", "data"], ["image_folder", "results"]),
        ("evaluate", ["models", "evaluation", "checkpoint"], ["losses", "training", "runs"]),
        ("extract_attention", ["models", "losses", "checkpoint"], ["training", "runs"]),
        ("export_model", ["models", "checkpoint"], ["losses", "training", "runs"]),
        ("render_table", ["results", "files"], ["models", "losses", "training"]),
        ("render_figures", ["results", "files"], ["models", "losses", "training"]),
    ],
)
def test_scripts_cover_what_decides_their_results(name, covered, not_covered):
    """A script's closure holds the modules that it runs, and none of what only others run."""
    files = import_closure(SCRIPTS / f"{name}.py", SCRIPTS)
    found = {file.stem for file in files if file.parent.name == "distillation"}
    assert SCRIPTS / f"{name}.py" in files
    assert set(covered) <= found
    assert not set(not_covered) & found


@pytest.mark.parametrize("name", ["train_student", "render_table"])
def test_everything_that_a_script_imports_is_covered(name):
    """What Python itself loads from this project to run a script is in the script's closure."""
    program = (
        f"import sys; sys.path[0] = {str(SCRIPTS)!r}; import {name}; "
        f"print(*(module.__file__ for module in list(sys.modules.values())"
        f" if (getattr(module, '__file__', None) or '').startswith({str(SCRIPTS)!r})), sep='\\n')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    loaded = {Path(line) for line in done.stdout.splitlines()}
    assert SCRIPTS / f"{name}.py" in loaded
    assert loaded <= import_closure(SCRIPTS / f"{name}.py", SCRIPTS)
