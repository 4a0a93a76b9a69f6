"""Files and folders are written whole or not at all."""

from pathlib import Path

import pytest

from distillation.record.files import replacing, replacing_folder

FILE, FOLDER = "table.csv", "events"
both = pytest.mark.parametrize("name", [FILE, FOLDER])


def write(target: Path, text: str, error: type[BaseException] | None = None) -> None:
    """Write a file, or a folder with a file called as the text, or fail in the middle of it."""
    writing = replacing_folder if target.name == FOLDER else replacing
    with writing(target) as temporary:
        (temporary / text if target.name == FOLDER else temporary).write_text(text)
        if error:
            raise error


def texts(folder: Path) -> list[str]:
    """List the contents of all files below a folder, hidden ones too."""
    return sorted(path.read_text() for path in folder.rglob("*") if path.is_file())


@both
def test_replaced_when_the_block_succeeds(tmp_path, name):
    """New content takes the place of all the old, in folders that are made; nothing else stays."""
    target = tmp_path / "a" / "b" / name
    for text in ("first", "second"):
        write(target, text)
        assert texts(tmp_path) == [text]
        assert [*target.parent.iterdir()] == [target]


@both
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("old", [[], ["old"]])
def test_kept_when_the_block_fails(tmp_path, name, old, error):
    """After an error or Ctrl-C in the block all is as it was, and nothing else is left."""
    for text in old:
        write(tmp_path / name, text)
    with pytest.raises(error):
        write(tmp_path / name, "half", error)
    assert texts(tmp_path) == old
    assert [*tmp_path.iterdir()] == [tmp_path / name] * len(old)


def test_file_that_was_not_written_is_an_error(tmp_path):
    """A block that writes nothing raises FileNotFoundError and leaves the old file."""
    write(tmp_path / FILE, "old")
    with pytest.raises(FileNotFoundError), replacing(tmp_path / FILE):
        pass
    assert texts(tmp_path) == ["old"]


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
    assert [*tmp_path.iterdir()] == [file]


def test_two_files_are_replaced_at_once(tmp_path):
    """If writing the second of two files fails, neither is replaced."""
    for name in ("one.txt", "two.txt"):
        write(tmp_path / name, "old")

    def write_both() -> None:
        with replacing(tmp_path / "one.txt") as temporary:
            temporary.write_text("new")
            write(tmp_path / "two.txt", "half", KeyError)

    with pytest.raises(KeyError):
        write_both()
    assert texts(tmp_path) == ["old", "old"]


def test_what_a_killed_process_left_is_no_obstacle(tmp_path):
    """What a killed process left behind in place of a folder doesn't stop the next one."""
    with replacing_folder(tmp_path / FOLDER) as left_behind:
        pass
    left_behind.mkdir()
    (left_behind / "half").write_text("half")
    write(tmp_path / FOLDER, "new")
    assert texts(tmp_path) == ["new"]
