"""Runs that are put into one table: those of one config are taken, any others are refused."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import render_table
from distillation.reporting.consistency import check_one_experiment
from distillation.reporting.quantities import format_classes, joint_words, rows_of
from distillation.reporting.results import Results, all_labels, colours, held_out_words
from distillation.reporting.trained import Run, training_jobs
from made_up import TERMS, a_run, write_runs

OUTPUTS = ("csv", "markdown", "page", "summary", "provenance")


@pytest.fixture
def runs() -> list[Run]:
    """Return a teacher, and two seeds of a baseline and of a method that has the teacher."""
    named = [("teacher", 0), *((model, seed) for model in ("baseline", "kd") for seed in (0, 1))]
    return [a_run(model, seed) for model, seed in named]


def check(runs: list[Run], own_training: dict[str, list[str]] | None = None) -> None:
    """Check runs of which one model is a teacher."""
    check_one_experiment(runs, own_training or {}, ["teacher"])


def put(step: str, *place: Any) -> Callable[[Run], object]:
    """Make the change of a value of the provenance of training or evaluation."""
    *parents, name, value = place

    def change(run: Run) -> None:
        values = run.metrics[step]
        for parent in parents:
            values = values[parent]
        values[name] = value

    return change


TRAINING, EVALUATION = "training_provenance", "provenance"


def test_colours_differ() -> None:
    """Eighteen methods and a teacher, which is black, are told apart by colour, by their order."""
    found = colours(["teacher", *"abcdefghijklmnopqr"])
    assert len({colour.lower() for colour in found.values()}) == 19
    assert (found["teacher"], colours("xy")["x"]) == ("#000000", found["a"])


def test_labels() -> None:
    """A model is called what is said, or by its name; an unknown one, or a name twice, is named."""
    models = ["teacher", "baseline", "kd", "soft"]
    assert [*all_labels(models, {"kd": "KD"}).values()] == ["Teacher", "Baseline", "KD", "soft"]
    with pytest.raises(ValueError, match="--label: found 'at'; allowed: teacher, baseline"):
        all_labels(models, {"at": "AT"})
    with pytest.raises(ValueError, match="--label: found 'soft' for two models"):
        all_labels(models, {"kd": "soft"})


def test_words_of_held_out_images() -> None:
    """Test images become held-out ones, whole words only."""
    assert held_out_words("Test top-5, latest test") == "Held-out top-5, latest held-out"


def test_one_config_is_taken(runs: list[Run]) -> None:
    """Students that differ in terms and their code, seed, commit and packages belong together."""
    runs[4].training.update(commit="b", dirty=True, packages={"torch": "2.16.0"})
    check(runs)


def test_training_of_ones_own(runs: list[Run]) -> None:
    """A method differs from the others in what is its own, and in nothing else."""
    for run in runs[3:]:
        put(TRAINING, "arguments", "batch_size", 64)(run)
    kd_first = runs[:1] + runs[3:] + runs[1:3]
    for order in (runs, kd_first):
        check(order, {"kd": ["batch_size"]})
    other = a_run("baseline", 0)
    put(TRAINING, "arguments", "batch_size", 128)(other)
    for order in (runs, kd_first):
        with pytest.raises(ValueError, match="batch_size 32, of at, seed 0, 128"):
            check([*order, replace(other, model="at", seed=0)], {"kd": ["batch_size"]})
    for own in ({}, {"kd": ["network"]}, {"baseline": ["network"]}):
        with pytest.raises(ValueError, match="batch_size 32, of kd, seed 0, 64"):
            check(runs, own)
    put(TRAINING, "arguments", "batch_size", 128)(runs[4])
    with pytest.raises(ValueError, match="batch_size 64, of kd, seed 1, 128"):
        check(runs, {"kd": ["batch_size"]})


def test_own_training_of_nothing(runs: list[Run]) -> None:
    """A method that isn't there and an argument that trainings don't have are named."""
    for method, name, said in (
        ("at", "batch_size", ": found 'at'; allowed: baseline, kd"),
        ("teacher", "batch_size", ": found 'teacher'; allowed: baseline, kd"),
        ("kd", "batch_sise", " kd: found 'batch_sise'; allowed: batch_size, epochs"),
    ):
        with pytest.raises(ValueError, match=f"^--own-training{said}"):
            check(runs, {method: [name]})


@pytest.mark.parametrize(
    ("changed", "change", "said"),
    [
        ([4], put(TRAINING, "arguments", "term", "kd", "weight", 0.5), "term.kd.weight 0.9"),
        ([4], put(TRAINING, "plugins", "terms.kd", "new"), "terms.kd 'kd', of kd, seed 1, 'new'"),
        ([3, 4], put(TRAINING, "plugins", "terms.labels", "new"), "terms.labels"),
        ([3, 4], put(TRAINING, "plugins", "networks.wrn", "new"), "networks.wrn"),
        ([3, 4], put(TRAINING, "arguments", "batch_size", 64), "batch_size 32"),
        ([2], put(TRAINING, "arguments", "network", "wrn", "width", 2), "network.wrn.width 1"),
        ([2], put(TRAINING, "arguments", "momentum", 0.9), "momentum None"),
        ([3, 4], put(TRAINING, "code_digest", "other"), "code_digest"),
        ([0], put(TRAINING, "data_sha256", "other"), "data_sha256"),
        ([1, 2, 3, 4], put(TRAINING, "data_sha256", "other"), "data_sha256"),
        ([3], put(EVALUATION, "arguments", "batch_size", 64), "batch_size 128"),
        ([3], put(EVALUATION, "code_digest", "other"), "code_digest"),
        ([4], put(TRAINING, "teacher", "seed", 1), "teacher"),
        ([0], put(TRAINING, "arguments", "network", "wrn", "depth", 22), "teacher"),
        ([1, 2, 3, 4], put(TRAINING, "arguments", "epochs", 3), "2 epochs"),
        # A model and seed count once.
        ([3], lambda run: object.__setattr__(run, "seed", 1), "kd, seed 1, is given twice"),
    ],
)
def test_another_config_is_refused(
    runs: list[Run], changed: list[int], change: Callable[[Run], object], said: str
) -> None:
    """A difference in what decides a result is refused in a line that names it."""
    for number in changed:
        change(runs[number])
    with pytest.raises(ValueError, match=said) as error:
        check(runs)
    assert "\n" not in str(error.value)


def test_a_teacher_of_ones_own(runs: list[Run]) -> None:
    """A method's own teacher is no student, and may be any model among the runs."""
    other = replace(a_run("teacher", 0), model="kd_teacher")
    put(TRAINING, "arguments", "network", "wrn", "depth", 22)(other)
    for run in runs[3:]:
        run.training["teacher"] = other.training
    check_one_experiment([*runs, other], {}, ["teacher", "kd_teacher"])
    with pytest.raises(ValueError, match="code_digest"):
        check([*runs, other])


def rendered(
    folder: Path, monkeypatch: pytest.MonkeyPatch, **options: bool
) -> tuple[list[list[str]], str]:
    """Return the rows of the Markdown table of made-up runs, and the whole."""
    # The digest in the provenance is of the script that runs.
    monkeypatch.setitem(sys.modules, "__main__", render_table)
    outputs = [text for name in OUTPUTS for text in (f"--{name}", str(folder / name))]
    render_table.main([*write_runs(folder, TERMS, "", **options), *outputs])
    text = (folder / "markdown").read_text()
    return [line.strip("| ").split(" | ") for line in text.splitlines() if "|" in line], text


def test_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are those of the runs' terms and metrics, in order; a model without one has a dash."""
    rows, _ = rendered(tmp_path, monkeypatch)
    assert rows[0] == ["Teacher (n = 1)", "Baseline (n = 2)", "KD (n = 2)", "at (n = 2)"]
    assert [row[0] for row in rows[2:]] == [
        *("Parameters", "Multiply-accumulates (million)", "Checkpoint (MB)"),
        "Training loss (total)",
        *("Training cross-entropy (nats)", "Labels term, weight x Labels", "Labels loss"),
        *("KD term, weight x KD", "KD loss", "AT term, weight x AT", "AT loss"),
        *("Training accuracy (%)", "Test accuracy (%)", "Test cross-entropy (nats)"),
        *("Calibration error (%)", "Agreement with the teacher (%)"),
        *("Best test epoch, not used (%)", "Best minus last (points)", "Training time (s)"),
        *(
            "Latency, one image (ms)",
            rows[0][0],
            "---",
            *(f"class {number}" for number in range(4)),
        ),
    ]
    table = {row[0]: row[1:] for row in rows}
    # 0.02 in the last epoch, times 0.9.
    assert table["KD term, weight x KD"] == ["-", "-", "0.0180 ± 0.0000", "-"]
    assert table["Agreement with the teacher (%)"][:2] == ["-", "99.25 ± 0.35"]
    summary = json.loads((tmp_path / "summary").read_text())
    assert summary["kd"]["teacher_agreement"] == 99.25
    assert "teacher_agreement" not in summary["teacher"]


def test_accuracy_by_class() -> None:
    """Each class has its accuracy; of many, the lowest of the first model are listed, and so said.

    A class without an image has none.
    """
    runs = [a_run("baseline", seed) for seed in (0, 1)]
    for run, step in zip(runs, (0.0, 0.02), strict=True):
        run.metrics["per_class_accuracy"] = {"cat": 0.5 + step, "dog": 0.25, "none": None}
    results = Results("Digits", runs, {"baseline": "Baseline"})
    assert format_classes(results)[-2:] == ["| cat | 51.00 ± 1.41 |", "| dog | 25.00 ± 0.00 |"]
    for run in runs:
        run.metrics["per_class_accuracy"] = {f"{n}": 1 - n / 100 for n in range(30)}
    lines = format_classes(results)
    assert "Of 30 classes the 20 on which Baseline is lowest" in lines[2]
    assert [line.split(" | ")[0] for line in lines[6:]] == [f"| {n}" for n in range(29, 9, -1)]


def test_best_epoch() -> None:
    """The best test epoch is told beside the last, which counts, with by how much it flatters."""
    run = a_run("kd", 0)
    run.history["test_accuracy"] = [0.6, 0.5]
    rows = {row.head: row.read for row in rows_of(Results("Digits", [run], {"kd": "KD"}))}
    assert rows["Best test epoch, not used (%)"](run) == pytest.approx(60)
    assert rows["Best minus last (points)"](run) == pytest.approx(10)
    elsewhere = replace(run, history=run.history.iloc[:0])
    assert rows["Best minus last (points)"](elsewhere) is None


def test_times_of_students_that_trained_together(runs: list[Run]) -> None:
    """Students of one job have its time: it counts once, and a sentence says so."""

    def timed(run: Run, seconds: list[float]) -> Run:
        return replace(run, history=run.history.assign(seconds=seconds))

    teacher, *students = runs
    # Of each seed, baseline and KD have one job.
    joint = [timed(run, [20.0, 22.0 + run.seed]) for run in students]
    found = [timed(teacher, [5.0, 5.0]), *joint]
    assert sorted(training_jobs(found)) == [10, 42, 43]
    (line,) = joint_words(found)
    assert "have the time of their job" in line
    alone = [timed(run, [20.0, float(number)]) for number, run in enumerate(runs)]
    assert len(training_jobs(alone)) == len(runs) == 5
    assert not joint_words(alone)
    # One that was trained elsewhere, or not at all, has no job.
    assert not training_jobs([replace(teacher, history=teacher.history.iloc[:0])])


def test_a_teacher_from_elsewhere_and_held_out_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A teacher that was trained elsewhere has dashes; held-out images are called so."""
    rows, text = rendered(tmp_path, monkeypatch, held_out=True, brought=True)
    table = {row[0]: row[1:] for row in rows}
    for name in ("Training loss (total)", "Training accuracy (%)", "Training time (s)"):
        assert table[name][0] == "-"
    assert "Held-out accuracy (%)" in table
    assert "Held-out training images: 40" in text
    assert "Teacher trained elsewhere; Baseline 2" in text
    assert "Test" not in text
