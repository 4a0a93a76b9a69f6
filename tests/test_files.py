"""Files and folders are written whole or not at all."""

from pathlib import Path

import pytest

from distillation.record.files import replacing, replacing_folder


def names(folder: Path) -> list[str]:
    """List what a folder holds, hidden files too."""
    return sorted(entry.name for entry in folder.iterdir())


def write_half(file: Path, error: type[BaseException] | BaseException) -> None:
    """Fail in the middle of writing a file."""
    with replacing(file) as temporary:
        temporary.write_text("half of the n")
        raise error


def write_one_and_a_half(one: Path, two: Path) -> None:
    """Write one file and fail in the middle of writing another with it."""
    with replacing(one) as temporary:
        temporary.write_text("new")
        write_half(two, OSError("disk full"))


def write_half_folder(folder: Path, error: type[BaseException]) -> None:
    """Fail in the middle of writing a folder."""
    with replacing_folder(folder) as temporary:
        (temporary / "half").write_text("half")
        raise error


def test_file_is_replaced_when_the_block_succeeds(tmp_path):
    """New content takes the place of the old, in folders that are made; no other file stays."""
    file = tmp_path / "a" / "b" / "table.csv"
    for old, new in ((None, "first"), ("first", "second")):
        with replacing(file) as temporary:
            temporary.write_text(new)
            assert (file.read_text() if file.exists() else None) == old
        assert file.read_text() == new
        assert names(file.parent) == ["table.csv"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("old", [None, "old"])
def test_file_stays_when_the_block_fails(tmp_path, old, error):
    """After an error or Ctrl-C in the block the file is as it was, and nothing else is left."""
    file = tmp_path / "table.csv"
    if old:
        file.write_text(old)
    with pytest.raises(error):
        write_half(file, error)
    assert names(tmp_path) == (["table.csv"] if old else [])
    assert not old or file.read_text() == old


def test_file_that_was_not_written_is_an_error(tmp_path):
    """A block that writes nothing raises FileNotFoundError and leaves the old file."""
    file = tmp_path / "table.csv"
    file.write_text("old")
    with pytest.raises(FileNotFoundError), replacing(file):
        pass
    assert file.read_text() == "old"


@pytest.mark.parametrize("name", ["data.npz", "figure.v2.png", "checkpoint", ".hidden"])
def test_temporary_file_is_hidden_and_keeps_the_suffix(tmp_path, name):
    """The temporary file lies beside the file, hidden, and ends as it does."""
    file = tmp_path / name
    with replacing(file) as temporary:
        assert temporary.parent == tmp_path
        assert temporary != file
        assert temporary.name.startswith(".")
        assert temporary.name.endswith(file.suffix)
        temporary.write_text("new")
    assert names(tmp_path) == [name]


def test_two_files_are_replaced_at_once(tmp_path):
    """If writing the second of two files fails, neither is replaced."""
    for name in ("one.txt", "two.txt"):
        (tmp_path / name).write_text("old")
    with pytest.raises(OSError, match="disk full"):
        write_one_and_a_half(tmp_path / "one.txt", tmp_path / "two.txt")
    assert names(tmp_path) == ["one.txt", "two.txt"]
    assert [(tmp_path / name).read_text() for name in names(tmp_path)] == ["old", "old"]


def test_folder_is_replaced_when_the_block_succeeds(tmp_path):
    """The new folder, made with its parents, takes the place of an old one with all its files."""
    folder = tmp_path / "a" / "events"
    with replacing_folder(folder) as temporary:
        (temporary / "old").write_text("old")
    with replacing_folder(folder) as temporary:
        (temporary / "new").write_text("new")
        assert names(folder) == ["old"]
    assert names(folder) == ["new"]
    assert names(tmp_path / "a") == ["events"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("old", [True, False])
def test_folder_stays_when_the_block_fails(tmp_path, old, error):
    """After an error or Ctrl-C in the block the folder is as it was, and nothing else is left."""
    folder = tmp_path / "events"
    if old:
        folder.mkdir()
        (folder / "old").write_text("old")
    with pytest.raises(error):
        write_half_folder(folder, error)
    assert names(tmp_path) == (["events"] if old else [])
    assert not old or names(folder) == ["old"]


def test_folder_left_by_a_killed_process_is_no_obstacle(tmp_path):
    """What a killed process of the same number left behind doesn't stop the next one."""
    with replacing_folder(tmp_path / "events") as temporary:
        left_behind = temporary
    left_behind.mkdir()
    (left_behind / "half").write_text("half")
    with replacing_folder(tmp_path / "events") as temporary:
        (temporary / "new").write_text("new")
    assert names(tmp_path / "events") == ["new"]
    assert names(tmp_path) == ["events"]
