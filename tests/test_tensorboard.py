"""TensorBoard's own reader finds the curves of all runs, under names that people read."""

import csv
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.util.tensor_util import make_ndarray

from distillation.training.run import write_events
from jobs import MODELS

# Tags of every run, by the column of the history that they show.
ALWAYS = {
    "train_accuracy": "accuracy/train",
    "test_accuracy": "accuracy/test",
    "cross_entropy": "cross_entropy/train",
    "test_cross_entropy": "cross_entropy/test",
    "loss": "loss/total",
    "learning_rate": "schedule/learning_rate",
    "seconds": "speed/seconds",
    "images_per_second": "speed/images_per_second",
}


def tags(*terms: str) -> dict[str, str]:
    """Return the tags of a run with some terms; attention transfer has a part for each stage."""
    shown = [*terms, *(f"at_{stage}" for stage in (1, 2, 3) if "at" in terms)]
    weights = {f"{term}_weight": f"schedule/{term}_weight" for term in terms}
    return ALWAYS | {name: f"loss/{name}" for name in shown} | weights


TAGS = {
    "teacher": tags("labels"),
    "baseline": tags("labels"),
    "kd": tags("labels", "kd"),
    "at": tags("labels", "at"),
    "at_kd": tags("labels", "kd", "at"),
    "fading_at": tags("labels", "at"),
    "hint": tags("labels", "hint"),
    "twin": tags("labels", "kd"),
    "twin_teacher": tags("labels"),
}


def read_curves(folder: Path) -> dict[str, dict[str, list[tuple[int, float, float]]]]:
    """Return what `tensorboard --logdir` finds: by run and tag, a (step, value, time) per point."""
    # 0: all points, not a sample of them.
    reader = EventMultiplexer(tensor_size_guidance={"scalars": 0})
    reader.AddRunsFromDirectory(str(folder)).Reload()
    return {
        run: {
            tag: [
                (event.step, make_ndarray(event.tensor_proto).item(), event.wall_time)
                for event in reader.Tensors(run, tag)
            ]
            for tag in found["tensors"]
        }
        for run, found in reader.Runs().items()
    }


def test_every_value_is_read_back(tmp_path: Path) -> None:
    """Steps are epochs, values those of the history in float32, and time goes as epochs took."""
    names = TAGS["at_kd"]
    generator = np.random.default_rng(0)
    history = [
        {"epoch": epoch, **dict(zip(names, generator.random(len(names)), strict=True))}
        for epoch in range(1, 31)
    ]
    write_events(tmp_path / "digits/at_kd/seed_0/tensorboard", history)
    curves = read_curves(tmp_path)
    assert list(curves) == ["digits/at_kd/seed_0/tensorboard"]
    (found,) = curves.values()
    assert set(found) == set(names.values())
    for column, tag in names.items():
        points = found[tag]
        assert [(step, value) for step, value, _ in points] == [
            (row["epoch"], float(np.float32(row[column]))) for row in history
        ]
        passed = np.diff([time for *_, time in points])
        # Times since 1970 are kept to some 0.2 microseconds.
        np.testing.assert_allclose(passed, [row["seconds"] for row in history[1:]], atol=1e-6)


@pytest.mark.workflow
def test_runs_of_the_workflow(finished: Path) -> None:
    """`tensorboard --logdir results` lists each model as experiment, method and seed."""
    results = finished / "results"
    curves = read_curves(results)
    histories = {
        str(file.parent.relative_to(results)): file
        for file in results.glob("*/*/seed_*/history.csv")
    }
    assert set(curves) == {f"{folder}/tensorboard" for folder in histories}
    assert {f"tiny/{model}/seed_{seed}" for model, seed in MODELS} < set(histories)
    for folder, file in histories.items():
        found, names = curves[f"{folder}/tensorboard"], TAGS[folder.split("/")[1]]
        with file.open() as opened:
            rows = list(csv.DictReader(opened))
        assert len(rows) == 2
        assert set(found) == set(names.values())
        for column, tag in names.items():
            assert [(step, value) for step, value, _ in found[tag]] == [
                (int(row["epoch"]), float(np.float32(row[column]))) for row in rows
            ]
