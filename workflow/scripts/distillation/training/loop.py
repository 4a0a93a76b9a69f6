"""The one training loop: epochs of steps, measured, kept, reported."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from torch.nn import functional

from distillation.data.dataset import Dataset
from distillation.measuring.accuracy import in_top_k, predict
from distillation.networks import Network
from distillation.settings.plugins import declared
from distillation.training.graph import Captured
from distillation.training.resume import Kept, Row, store
from distillation.training.step import Step, Together

# Images per pass over the test split: larger ones leave the caches of a CPU, smaller ones wait for
# the launches on a GPU.
EVALUATION_BATCH = {"cpu": 128, "cuda": 1000}


def never() -> bool:
    """Return that there is no wish to stop."""
    return False


@dataclass(frozen=True)
class Keeper:
    """Where and under which fingerprint a run keeps its state, and what may stop it.

    Args:
        resume: where the state is kept between epochs; None keeps none.
        fingerprint: identifies arguments, data and code of the run.
        report: takes one line per epoch.
        stop_asked: asked after each step whether to stop.
        time_is_up: asked after each epoch whether there is none for another.
    """

    resume: Path | None = None
    fingerprint: str = ""
    report: Callable[[str], None] = print
    stop_asked: Callable[[], bool] = never
    time_is_up: Callable[[], bool] = never

    def keep(self, step: Step, history: list[Row], seconds: float = 0) -> None:
        """Write the state, if it is to be kept."""
        if self.resume:
            store(self.resume, self.fingerprint, step, history, seconds)


@dataclass
class Learner:
    """A student's step, what keeps its state, and its history so far."""

    step: Step
    keeper: Keeper
    history: list[Row] = field(default_factory=list)


def fit(learners: list[Learner], seed: int, kept: Kept | None = None) -> None:
    """Train students side by side, in place, and add one row per epoch to each history.

    After every epoch, and when it is asked to stop within one, the states are kept, from where runs
    of the same fingerprints go on and end with the same bits. The rows have epoch, learning_rate of
    its last step, loss (the total), cross_entropy, accuracy (fractions) and the terms (means over
    the epoch's images, in training mode, not weighted), their weights, test_accuracy,
    test_cross_entropy, seconds, images_per_second (of training; together for all students).

    Args:
        learners: students that share a feed, and stand at the same place.
        seed: decides order, crops and flips (not the initialisation, which the caller draws).
        kept: where they stand, if not at the beginning; their tensors have been put back.

    Raises:
        FloatingPointError: a loss isn't finite; the other students have been trained to the end.
        KeyboardInterrupt: it was asked to stop, or time is up, and the states are kept.
    """
    first, failures = learners[0], []
    epochs, seconds = first.step.protocol.epochs, kept.seconds if kept else 0.0
    run, together = prepared([learner.step for learner in learners])
    for epoch in range(len(first.history) + 1, epochs + 1):
        started = time.perf_counter() - seconds
        for learner in learners:
            learner.step.student.train()
        together.begin(seed, epoch, resumed=seconds > 0)
        for size in together.remaining():
            run(size)
            if first.keeper.stop_asked():
                done = int(together.feed.counter)
                for learner in learners:
                    seconds = time.perf_counter() - started
                    learner.keeper.keep(learner.step, learner.history, seconds)
                raise KeyboardInterrupt(f"in epoch {epoch} of {epochs}, after step {done}")
        sound = []
        for learner in learners:
            try:
                # Reads what the last step has computed: a GPU is waited for first.
                row = learner.step.row(epoch)
            except FloatingPointError as error:
                failures.append(error)
            else:
                sound.append((learner, row))
        seconds = time.perf_counter() - started
        for learner, row in sound:
            end_epoch(learner, row, seconds)
        if failures and len(sound) < len(learners):
            if not sound:
                raise failures[0]
            learners = [learner for learner, _ in sound]
            first = learners[0]
            run, together = prepared([learner.step for learner in learners])
        seconds = 0.0
        if first.keeper.stop_asked():
            raise KeyboardInterrupt(f"after epoch {epoch} of {epochs}")
        if first.keeper.time_is_up() and epoch < epochs:
            raise KeyboardInterrupt(f"after epoch {epoch} of {epochs}: time is up")
    if failures:
        raise failures[0]


def prepared(steps: list[Step]) -> tuple[Callable[[int], None], Together]:
    """Return what runs the steps of students together, as a graph or eagerly, and these steps."""
    together = Together(steps)
    return (Captured(together) if steps[0].picked.graph else together), together


def end_epoch(learner: Learner, row: Row, seconds: float) -> None:
    """Measure a student on the test split, add its row, report it and keep the state."""
    step, history = learner.step, learner.history
    with step.picked.eagerly():
        row |= measure_test_split(step.student, step.feed.dataset)
    row |= {"seconds": seconds, "images_per_second": sum(step.feed.sizes) / seconds}
    history.append(row)
    learner.keeper.report(progress_line(step, history))
    learner.keeper.keep(step, history)


def measure_test_split(model: Network, dataset: Dataset) -> Row:
    """Return accuracy (fraction) and cross-entropy (nats) on the test split."""
    batch = EVALUATION_BATCH[dataset.test.images.device.type]
    logits = predict(model, dataset.test, dataset.mean, dataset.std, batch)
    labels = dataset.test.labels
    return {
        "test_accuracy": in_top_k(logits, labels, 1).double().mean().item(),
        "test_cross_entropy": functional.cross_entropy(logits, labels).item(),
    }


def progress_line(step: Step, history: list[Row]) -> str:
    """Say where a run stands: epoch, losses, accuracies in percent, speed, time left."""
    row, epochs = history[-1], step.protocol.epochs
    parts = [f"epoch {row['epoch']:>3}/{epochs}", f"loss {row['loss']:.4f}"]
    if len(step.objective.settings) > 1:
        parts += [
            f"{declared('terms', name).label} {row[name]:.4g}"  # type: ignore[attr-defined]
            for name in step.objective.settings
        ]
    parts.append(f"train {row['train_accuracy']:.2%}")
    parts.append(f"test {row['test_accuracy']:.2%}")
    parts.append(f"{row['images_per_second']:,.0f} images/s")
    left = round((epochs - row["epoch"]) * row["seconds"])
    parts.append(f"{left // 3600}:{left // 60 % 60:02}:{left % 60:02} left")
    return "  ".join(parts)
