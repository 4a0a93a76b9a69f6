"""Students of one job: each is what it would be alone, and stands or falls by itself."""

import csv
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import train_student
import train_students
from distillation.data.dataset import Dataset, read_dataset
from distillation.record.checkpoint import save_checkpoint
from distillation.training import run
from distillation.training.precision import Picked, pick
from distillation.training.resume import Kept
from distillation.training.run import FILES, Student
from jobs import assert_same_checkpoint
from learners import TIMES
from made import make_model, mistake
from shell import ROOT

TRAINING = [
    "--data", "data.npz", "--network", "wrn", "depth=10", "width=1", "--epochs", "3",
    "--batch-size", "10", "--milestones", "2", "--padding", "1", "--seed", "0",
    "--precision", "float32", "--compile", "off",
]  # fmt: skip
ENDS = {"checkpoint": "pt", "history": "csv", "tensorboard": "events", "resume": "state"}
METHODS: dict[str, list[str]] = {
    "baseline": [],
    "kd": ["labels weight=0.1", "kd weight=0.9"],
    "hint": ["hint weight=2"],
}
# A weight by which the loss leaves the range of its numbers.
DIVERGES = METHODS | {"hint": ["hint weight=1e39"]}

Text = Callable[[], str]


@pytest.fixture(autouse=True)
def folder(digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with the digits as prepared data and a teacher."""
    monkeypatch.chdir(tmp_path)
    arrays = {
        f"{name}_{what}": getattr(split, what).numpy()
        for name, split in {"train": digits.train, "test": digits.test}.items()
        for what in ("images", "labels")
    } | {name: np.array(getattr(digits, name)) for name in ("class_names", "mean", "std")}
    np.savez("data.npz", allow_pickle=False, **arrays)
    dataset = read_dataset(Path("data.npz"))
    save_checkpoint(Path("teacher.pt"), *make_model(seed=7), dataset, {"seed": 7})
    return tmp_path


def together(methods: dict[str, list[str]] = METHODS, place: str = "together") -> list[str]:
    """Return the flags of train_students.py."""
    students = [text for name, terms in methods.items() for text in ("--student", name, *terms)]
    files = [
        text
        for name in FILES
        for text in (f"--{name}", *(f"{place}/{each}/it.{ENDS[name]}" for each in methods))
    ]
    return [*TRAINING, "--teacher", "teacher.pt", *students, *files]


def train_alone(method: str, terms: list[str]) -> Path:
    """Train a student by itself and return its folder."""
    files = [text for name in FILES for text in (f"--{name}", f"alone/{method}/it.{ENDS[name]}")]
    flags = [text for term in terms for text in ("--term", *term.split())]
    teacher = ["--teacher", "teacher.pt"] if terms else []
    train_student.main([*TRAINING, *flags, *teacher, *files])
    return Path("alone", method)


def rows(folder: Path) -> list[dict[str, str]]:
    """Read the rows of a history, without what measures time."""
    with (folder / "it.csv").open() as file:
        return [
            {name: value for name, value in row.items() if name not in TIMES}
            for row in csv.DictReader(file)
        ]


def assert_as_alone(methods: dict[str, list[str]], place: str = "together") -> None:
    """Check that students of one job wrote the bits that each writes by itself."""
    for method, terms in methods.items():
        alone = train_alone(method, terms)
        own = Path(place, method)
        assert_same_checkpoint(own / "it.pt", alone / "it.pt")
        assert rows(own) == rows(alone)
        assert len(rows(own)) == 3
        assert [*(own / "it.events").iterdir()]


def trained(text: str) -> set[str]:
    """Return the methods that a job's output has an epoch of."""
    lines = [line.partition(": ") for line in text.splitlines()]
    return {Path(folder).name for folder, _, line in lines if line.startswith("epoch")}


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Text:
    """Return a function that returns what was printed since it was last asked."""
    return lambda: capsys.readouterr().out


def test_each_is_as_alone_and_is_trained_once(said: Text) -> None:
    """Each student has the bits of one alone; run again, only one whose term changed is trained.

    The finished ones are written again, with the same history.
    """
    train_students.main(together())
    assert trained(said()) == {*METHODS}
    Path("together").rename("before")
    for method in METHODS:
        Path("together", method).mkdir(parents=True)
        Path("before", method, "it.state").rename(Path("together", method, "it.state"))
    train_students.main(together())
    assert trained(said()) == set()
    for method in METHODS:
        before, after = (Path(place, method) for place in ("before", "together"))
        assert_same_checkpoint(before / "it.pt", after / "it.pt")
        assert (before / "it.csv").read_bytes() == (after / "it.csv").read_bytes()
    changed = METHODS | {"kd": ["labels weight=0.1", "kd weight=0.9 temperature=2"]}
    train_students.main(together(changed))
    text = said()
    assert trained(text) == {"kd"}
    assert "it belongs to a run with other arguments, data or code" in text
    assert_as_alone(changed)


def test_one_that_diverges_falls_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """A loss that isn't finite is one line and status 1, after the others were written whole."""
    line = mistake(capsys, train_students.main, together(DIVERGES))
    assert "loss is inf in epoch 1, step 1; " in line
    assert_as_alone({name: METHODS[name] for name in ("baseline", "kd")})
    assert not [*Path("together/hint").glob("it.[pc]*")]


@pytest.mark.parametrize(
    ("line", "stop"),
    [("WRN-10-1", "in epoch 1 of 3, after step 1"), ("epoch   2/3", "after epoch 2 of 3")],
)
def test_stopped_by_a_signal(
    monkeypatch: pytest.MonkeyPatch, said: Text, line: str, stop: str
) -> None:
    """Students that SIGTERM stops, within an epoch or after it, go on to the same bits."""

    def report(_: Student, text: str) -> None:
        if text.startswith(line):
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(Student, "report", report)
        with pytest.raises(KeyboardInterrupt, match=f"^{stop}$"):
            train_students.main(together())
    assert not [*Path("together").rglob("it.pt")]
    train_students.main(together())
    assert said().count("going on after epoch") == len(METHODS)
    assert_as_alone(METHODS)


def test_another_teacher_is_learnt_from(said: Text) -> None:
    """Students learn anew from a teacher of other weights, whatever its provenance says.

    One that has the same weights, and was only made at another commit, changes nothing.
    """
    train_students.main(together())
    dataset, teacher = read_dataset(Path("data.npz")), Path("teacher.pt")
    later = {"seed": 7, "commit": "another", "dirty": True}
    save_checkpoint(teacher, *make_model(seed=7), dataset, later)
    said()
    train_students.main(together())
    assert trained(said()) == set()
    save_checkpoint(teacher, *make_model(seed=8), dataset, {"seed": 7})
    train_students.main(together())
    assert trained(said()) == {"kd", "hint"}
    assert_as_alone(METHODS)


def test_code_of_the_teacher_counts() -> None:
    """Whoever learns from a network has the digest of its family among those of its plug-ins."""
    dataset = read_dataset(Path("data.npz"))
    save_checkpoint(Path("teacher.pt"), *make_model("resnet8"), dataset, {"seed": 7})
    train_students.main([*together(), "--epochs", "0", "--milestones"])
    for method in METHODS:
        provenance = torch.load(Path("together", method, "it.pt"))["provenance"]
        assert ("networks.resnet" in provenance["plugins"]) is (method != "baseline")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("checkpoint", "kd/it.pt: is a folder; allowed: a file, or nothing yet"),
        ("history", "kd/it.csv: is a folder; allowed: a file, or nothing yet"),
        ("tensorboard", "kd/it.events: is no folder; allowed: a folder, or nothing yet"),
    ],
)
def test_files_that_could_not_be_replaced(
    capsys: pytest.CaptureFixture[str], name: str, words: str
) -> None:
    """An output that something else stands in the place of is told before any training."""
    place = Path("together/kd", f"it.{ENDS[name]}")
    place.parent.mkdir(parents=True)
    if name == "tensorboard":
        place.symlink_to(".", target_is_directory=True)
    else:
        place.mkdir()
    assert words in mistake(capsys, train_students.main, together())
    assert {*Path("together").glob("**/*")} == {place.parent, place}


def test_one_of_another_place_catches_up() -> None:
    """A student that is less far than the others is trained to the end, with the same bits."""
    train_students.main(together())
    Path("together/kd/it.state").unlink()
    torch.manual_seed(1)
    train_students.main(together())
    assert_as_alone(METHODS)


def test_place_of_a_student() -> None:
    """One that stopped after the last step of an epoch isn't where one is that ended the epoch."""
    places = [
        Kept(Picked(), [{"epoch": 1}], seconds, {"counter": torch.tensor(4)})
        for seconds in (0.0, 2.5)
    ]
    assert [kept.place for kept in places] == [(1, 0), (1, 4)]


def test_files_of_all_may_lie_in_one_folder() -> None:
    """Students of one job may write their files beside each other."""
    files = [
        text
        for name in FILES
        for text in (f"--{name}", *(f"{each}.{ENDS[name]}" for each in ("baseline", "kd")))
    ]
    students = [text for each in ("baseline", "kd") for text in ("--student", each, *METHODS[each])]
    train_students.main([*TRAINING, "--epochs", "1", "--milestones", "1", "--teacher", "teacher.pt",
                         *students, *files])  # fmt: skip
    assert all(Path(f"{each}.pt").is_file() for each in ("baseline", "kd"))


def test_the_teacher_costs_those_that_ask_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """What decides on compiling is a student's own work with its teacher's, alone and together."""
    asked: list[float] = []

    def note(*arguments: Any) -> Any:
        asked.extend(arguments[-1])
        return pick(*arguments)

    monkeypatch.setattr(run, "pick", note)
    train_students.main(together())
    baseline, kd, hint = asked
    # Of the same networks a pass of the teacher is two operations where the student's step is six.
    assert kd == hint == pytest.approx(baseline * 8 / 6)
    train_alone("kd", METHODS["kd"])
    assert asked[-1] == kd


def test_no_compiler_is_loaded(forks: dict[str, str]) -> None:
    """A training that compiles nothing doesn't load torch's compiler, which takes seconds."""
    Path("probe.py").write_text(
        f"import sys\nsys.path.insert(0, {str(ROOT / 'workflow/scripts')!r})\n"
        "import train_student\ntrain_student.main(sys.argv[1:])\n"
        "sys.exit('torch._dynamo' in sys.modules)\n"
    )
    python = shutil.which("python", path=forks["PATH"]) or "python"
    files = ["--checkpoint", "out/it.pt", "--history", "out/it.csv"]
    done = subprocess.run([python, "probe.py", *TRAINING, *files], env=forks, check=False)
    assert done.returncode == 0
