"""The one training loop: epochs of steps, measured, kept, reported."""

import time
from collections.abc import Callable

from torch.nn import functional

from distillation.data.dataset import Dataset
from distillation.device import images_per_pass
from distillation.measuring.accuracy import in_top_k, predict
from distillation.networks import Network
from distillation.settings.plugins import declared
from distillation.training.resume import Learner, Row
from distillation.training.step import Step, Together

# Images per pass over the test split, on a CPU.
EVALUATION_BATCH = 128


def fit(
    learners: list[Learner],
    seed: int,
    stop_asked: Callable[[], bool],
    time_is_up: Callable[[], bool],
) -> None:
    """Train students side by side, in place, and add one row per epoch to each history.

    After every epoch, and when it is asked to stop within one, the states are kept, from where runs
    of the same fingerprints go on and end with the same bits. The rows have epoch, learning_rate of
    its last step, loss (the total), cross_entropy, accuracy (fractions) and the terms (means over
    the epoch's images, in training mode, not weighted), their weights, test_accuracy,
    test_cross_entropy, seconds, images_per_second (of training; together for all students).

    Args:
        learners: students that share a feed, and stand at the same place.
        seed: decides order, crops and flips (not the initialisation, which the caller draws).
        stop_asked: asked after each step whether to stop.
        time_is_up: asked after each epoch whether there is none for another.

    Raises:
        FloatingPointError: a loss isn't finite; the other students have been trained to the end.
        KeyboardInterrupt: it was asked to stop, or time is up, and the states are kept.
    """
    epochs, failures = learners[0].step.protocol.epochs, []
    together = Together([learner.step for learner in learners])
    for epoch in range(len(learners[0].history) + 1, epochs + 1):
        before = learners[0].seconds
        started = time.perf_counter() - before
        for learner in learners:
            learner.step.student.train()
        together.begin(seed, epoch, resumed=before > 0)
        for size in together.remaining():
            together(size)
            if stop_asked():
                done = int(together.feed.counter)
                for learner in learners:
                    learner.seconds = time.perf_counter() - started
                    learner.keep()
                raise KeyboardInterrupt(f"in epoch {epoch} of {epochs}, after step {done}")
        # Reading what the last step has computed waits for a GPU.
        int(together.feed.counter)
        seconds = time.perf_counter() - started
        sound = []
        for learner in learners:
            try:
                end_epoch(learner, epoch, seconds)
                sound.append(learner)
            except FloatingPointError as error:
                failures.append(error)
        if not sound:
            break
        if len(sound) < len(learners):
            learners, together = sound, Together([learner.step for learner in sound])
        if stop_asked():
            raise KeyboardInterrupt(f"after epoch {epoch} of {epochs}")
        if time_is_up() and epoch < epochs:
            raise KeyboardInterrupt(f"after epoch {epoch} of {epochs}: time is up")
    if failures:
        raise failures[0]


def end_epoch(learner: Learner, epoch: int, seconds: float) -> None:
    """Measure a student on the test split, add its row, report it and keep the state.

    Raises:
        FloatingPointError: a loss wasn't finite.
    """
    step, learner.seconds = learner.step, 0
    row = step.row(epoch)
    with step.picked.eagerly():
        row |= measure_test_split(step.student, step.feed.dataset)
    row |= {"seconds": seconds, "images_per_second": sum(step.feed.sizes) / seconds}
    learner.history.append(row)
    learner.report(progress_line(step, row))
    learner.keep()


def measure_test_split(model: Network, dataset: Dataset) -> Row:
    """Return accuracy (fraction) and cross-entropy (nats) on the test split."""
    batch = images_per_pass(EVALUATION_BATCH, dataset.image_size, dataset.test.images.device)
    logits = predict(model, dataset.test, dataset.mean, dataset.std, batch)
    labels = dataset.test.labels
    return {
        "test_accuracy": in_top_k(logits, labels, 1).double().mean().item(),
        "test_cross_entropy": functional.cross_entropy(logits, labels).item(),
    }


def progress_line(step: Step, row: Row) -> str:
    """Say where a run stands: epoch, losses, accuracies in percent, speed, time left."""
    epochs, names = step.protocol.epochs, [*step.objective.settings]
    left = round((epochs - row["epoch"]) * row["seconds"])
    terms = [
        f"{declared('terms', name).label} {row[name]:.4g}"  # type: ignore[attr-defined]
        for name in (names if len(names) > 1 else ())
    ]
    return "  ".join([
        f"epoch {row['epoch']:>3}/{epochs}", f"loss {row['loss']:.4f}", *terms,
        f"train {row['train_accuracy']:.2%}", f"test {row['test_accuracy']:.2%}",
        f"{row['images_per_second']:,.0f} images/s",
        f"{left // 3600}:{left // 60 % 60:02}:{left % 60:02} left",
    ])  # fmt: skip
