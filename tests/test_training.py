"""The training loop: schedules, objective, steps, reproducibility, resume."""

import errno
import math
import os
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import scipy.special
import sklearn.metrics
import torch
from torch import Tensor
from torch.nn import functional

from distillation.data.dataset import (
    Dataset,
    augment,
    draw_epoch,
    epoch_generator,
    normalise,
)
from distillation.measuring.accuracy import in_top_k, predict
from distillation.networks import Network, Outputs, Shape
from distillation.settings.base import checked
from distillation.settings.training import Protocol
from distillation.terms import Pair
from distillation.terms.at import attention_transfer
from distillation.terms.hint import Term as Hint
from distillation.terms.kd import knowledge_distillation
from distillation.training.loop import fit, measure_test_split
from distillation.training.objective import Objective
from distillation.training.resume import Learner
from distillation.training.run import left_out, time_keeper
from distillation.training.schedules import learning_rate, weight_of_epoch
from distillation.training.step import Together, batch_sizes
from learners import (
    ALL,
    AT,
    BASELINE,
    HINT,
    KD,
    METHODS,
    STEPS,
    assert_same_run,
    changed,
    make_feed,
    make_step,
    network,
    never,
    teacher_network,
    terms,
    train,
)

PAPER = checked(Protocol, {})


def record_inputs(model: Network, training: bool) -> list[Tensor]:
    """Return a list that fills with the batches that the network sees in one of its modes."""
    seen: list[Tensor] = []

    def record(module: torch.nn.Module, inputs: tuple[Tensor]) -> None:
        # The one image by which a step finds the names of its terms isn't a batch.
        if module.training is training and len(inputs[0]) > 1:
            seen.append(inputs[0].clone())

    model.register_forward_pre_hook(record)
    return seen


def at_training_step(number: int, action: Callable[[Tensor], Any]) -> Network:
    """Return a fresh network that does something with the batch of its n-th training step."""
    model, steps = network(), []

    def count(module: torch.nn.Module, inputs: tuple[Tensor]) -> Any:
        if module.training:
            steps.append(len(inputs[0]))
            if len(steps) == number:
                return action(inputs[0])
        return None

    model.register_forward_pre_hook(count)
    return model


def interrupt(_: Any) -> None:
    """Do what Ctrl-C does."""
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [(1, 0.1), (59, 0.1), (60, 0.02), (119, 0.02), (120, 0.004), (160, 0.0008), (200, 0.0008)],
)
def test_rate_drops_at_the_start_of_the_papers_milestones(epoch: int, expected: float) -> None:
    """By default the rate drops to a fifth at the start of epochs 60, 120 and 160, from 1."""
    assert learning_rate(PAPER, epoch, epoch / 200) == pytest.approx(expected)


def test_step_and_cosine_schedules_equal_those_of_torch() -> None:
    """They are MultiStepLR, which counts from 0, and CosineAnnealingLR in the middle of a step."""
    cosine, steps = changed(PAPER, schedule="cosine"), 200
    weight = torch.zeros(1, requires_grad=True)
    optimizers = [torch.optim.SGD([weight], lr=PAPER.learning_rate) for _ in range(2)]
    schedulers = [
        torch.optim.lr_scheduler.MultiStepLR(optimizers[0], [59, 119, 159], gamma=0.2),
        torch.optim.lr_scheduler.CosineAnnealingLR(optimizers[1], T_max=2 * steps),
    ]
    for epoch in range(1, steps + 1):
        expected = [scheduler.get_last_lr()[0] for scheduler in schedulers]
        assert learning_rate(PAPER, epoch, 0.5) == pytest.approx(expected[0])
        optimizers[1].step()
        schedulers[1].step()
        (half,) = schedulers[1].get_last_lr()
        assert learning_rate(cosine, 1, (epoch - 0.5) / steps) == pytest.approx(half)
        for optimizer, scheduler in zip(optimizers, schedulers, strict=True):
            optimizer.step()
            scheduler.step()


@pytest.mark.parametrize("rise", [0.0, 0.1, 0.3, 0.99])
def test_one_cycle_rises_and_falls_linearly(rise: float) -> None:
    """The rate goes from 0 to its peak at `rise`, and back to 0 at the end, in two lines."""
    protocol = changed(schedule="one_cycle", rise=rise, learning_rate=0.2)
    for progress in np.linspace(0.005, 1, 200):
        expected = np.interp(progress, [0, rise, 1], [0, 0.2, 0] if rise else [0.2, 0.2, 0])
        assert learning_rate(protocol, 1, progress) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("term", ["labels", "kd", "at", "hint"])
@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [8, 8, 8, 8]),
        ("linear", [8, 6, 4, 2]),
        ("cosine", [8, 4 + 4 * math.sqrt(0.5), 4, 4 - 4 * math.sqrt(0.5)]),
    ],
)
def test_weights_fall_as_their_schedules_say(
    term: str, schedule: str, expected: list[float]
) -> None:
    """Any term's weight starts in full and would reach 0 after the last epoch, or is constant."""
    settings = terms({term: {"weight": 8, "schedule": schedule}})[term]
    found = [weight_of_epoch(settings, epoch, 4) for epoch in (1, 2, 3, 4)]
    assert found == pytest.approx(expected)


def test_objective_adds_weighted_terms_in_one_order() -> None:
    """The total is the sum of weight times term, the same bits in whatever order they are named."""
    generator = torch.Generator().manual_seed(0)
    shapes = [[(channels, size, size) for size in (8, 4, 2)] for channels in (3, 5)]
    student, teacher = (
        Outputs(
            torch.randn(6, 10, generator=generator),
            [torch.randn(6, *shape, generator=generator) for shape in stages],
        )
        for stages in shapes
    )
    labels = torch.tensor([0, 9, 3, 3, 1, 2])
    weights = {"labels": 0.1, "kd": 0.9, "at": 1000.0, "hint": 2.0}
    pair = Pair(*([Shape(*shape) for shape in stages] for stages in shapes))
    found = []
    for names in ([*weights], [*reversed(weights)]):
        objective = Objective(terms({name: {} for name in names}), pair, 10)
        assert [*objective.settings] == [*weights]
        found.append(objective(student, teacher, labels, torch.tensor([*weights.values()])))
        assert objective.columns == [*found[-1][1]]
    (total, values), (again, _) = found
    assert torch.equal(total, again)
    parts = attention_transfer(student.stages, teacher.stages)
    expected = {
        "labels": functional.cross_entropy(student.logits, labels),
        "kd": knowledge_distillation(student.logits, teacher.logits, 4),
        "at": parts.sum(),
        **{f"at_{place}": part for place, part in enumerate(parts, start=1)},
    }
    torch.testing.assert_close(values, expected | {"hint": values["hint"]})
    hand = sum(weight * values[name].item() for name, weight in weights.items())
    assert total.item() == pytest.approx(hand, rel=1e-5)


def textbook(
    dataset: Dataset, protocol: Protocol, settings: dict[str, Any], teacher: Network
) -> tuple[Network, list[float]]:
    """Train as one would write it down, with a new optimizer where momentum is reset."""
    step = make_step(make_feed(dataset, protocol, teacher), settings)
    model = step.student
    regressor: torch.nn.Module = torch.nn.Identity()
    if "hint" in settings:
        regressor = deepcopy(cast(Hint, step.objective.terms["hint"]).regressor)
    rate, losses = protocol.learning_rate, []

    def new_optimizer() -> torch.optim.SGD:
        return torch.optim.SGD(
            [*model.parameters(), *regressor.parameters()], rate, protocol.momentum,
            weight_decay=protocol.weight_decay, nesterov=protocol.nesterov,
        )  # fmt: skip

    optimizer = new_optimizer()
    images = len(dataset.train.labels)
    for epoch in range(1, protocol.epochs + 1):
        if epoch in protocol.milestones:
            rate *= protocol.learning_rate_decay
            if protocol.reset_momentum:
                optimizer = new_optimizer()
            optimizer.param_groups[0]["lr"] = rate
        total = 0.0
        drawn = draw_epoch(images, protocol.padding, protocol.flip, epoch_generator(0, epoch))
        for places, offsets, flips in zip(*(each.split(10) for each in drawn), strict=True):
            seen = augment(
                dataset.train.images[places], protocol.padding, protocol.crop_border, offsets, flips
            )
            batch, labels = normalise(seen, dataset.mean, dataset.std), dataset.train.labels[places]
            logits, stages = model.train()(batch)
            with torch.no_grad():
                teacher_logits, teacher_stages = teacher(batch)
            loss = settings["labels"].get("weight", 1) * functional.cross_entropy(logits, labels)
            if "kd" in settings:
                loss = loss + 0.9 * knowledge_distillation(logits, teacher_logits, 4)
            if "at" in settings:
                fall = (5 - epoch) / 4 if "schedule" in settings["at"] else 1
                loss = loss + 100 * fall * attention_transfer(stages, teacher_stages).sum()
            if "hint" in settings:
                loss = loss + 2 * functional.mse_loss(regressor(stages[1]), teacher_stages[1])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(labels)
        losses.append(total / images)
    return model, losses


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("reset_momentum", "nesterov"), [(True, False), (False, True)])
def test_training_equals_a_textbook_loop(
    digits: Dataset, method: str, reset_momentum: bool, nesterov: bool
) -> None:
    """Training ends where a plain loop does, which makes a new optimizer to forget momentum."""
    protocol = changed(reset_momentum=reset_momentum, nesterov=nesterov)
    teacher = teacher_network()
    model, history = train(digits, METHODS[method], protocol, teacher=teacher)
    expected, losses = textbook(digits, protocol, METHODS[method], teacher)
    # The fused optimizer rounds in another order than the plain one.
    torch.testing.assert_close(model.state_dict(), expected.state_dict(), rtol=1e-4, atol=1e-5)
    assert [row["loss"] for row in history] == pytest.approx(losses, rel=1e-5)


def test_momentum_is_forgotten_at_drops_alone(digits: Dataset) -> None:
    """Resetting momentum belongs to the step schedule: with another it changes nothing."""
    one, two = (changed(schedule="cosine", reset_momentum=reset) for reset in (True, False))
    assert_same_run(train(digits, protocol=one), train(digits, protocol=two))


@pytest.mark.parametrize("schedule", ["step", "one_cycle", "cosine"])
def test_history_tells_what_an_epoch_had(digits: Dataset, schedule: str) -> None:
    """A row has the rate of its last step, and the terms, their parts and weights, which add up."""
    protocol = changed(schedule=schedule)
    _, history = train(digits, ALL, protocol)
    assert [row["epoch"] for row in history] == [1, 2, 3, 4]
    settings = terms(ALL)
    parts = ["labels", "kd", "at", "at_1", "at_2", "at_3", "hint"]
    for row in history:
        epoch = int(row["epoch"])
        assert [*row] == [
            "epoch", "learning_rate", "loss", "cross_entropy", "train_accuracy", *parts,
            *(f"{name}_weight" for name in ("labels", "kd", "at", "hint")),
            "test_accuracy", "test_cross_entropy", "seconds", "images_per_second",
        ]  # fmt: skip
        last = (epoch * STEPS - 0.5) / (4 * STEPS)
        assert row["learning_rate"] == learning_rate(protocol, epoch, last)
        total = 0.0
        for name, each in settings.items():
            assert row[f"{name}_weight"] == weight_of_epoch(each, epoch, 4)
            total += row[name] * row[f"{name}_weight"]
        assert row["loss"] == pytest.approx(total, rel=1e-5)
        assert row["at"] == pytest.approx(sum(row[f"at_{stage}"] for stage in (1, 2, 3)))
        assert row["images_per_second"] == pytest.approx(32 / row["seconds"])


def test_test_split_is_measured_as_scikit_learn_does(digits: Dataset) -> None:
    """Accuracy and cross-entropy on the test split are scikit-learn's."""
    model = network()
    found = measure_test_split(model, digits)
    with torch.no_grad():
        logits = model.eval()(normalise(digits.test.images, digits.mean, digits.std)).logits
    labels = digits.test.labels.numpy()
    probabilities = scipy.special.softmax(logits.double().numpy(), axis=1)
    accuracy = sklearn.metrics.accuracy_score(labels, logits.argmax(dim=1))
    assert found["test_accuracy"] == pytest.approx(accuracy)
    expected = sklearn.metrics.log_loss(labels, probabilities, labels=np.arange(10))
    assert found["test_cross_entropy"] == pytest.approx(expected, rel=1e-5)


def test_small_network_learns_32_digits_by_heart(digits: Dataset) -> None:
    """A WRN-10-1 fits 32 real digits without a mistake, in training and in evaluation mode."""
    protocol = changed(
        epochs=25, batch_size=16, schedule="one_cycle", learning_rate=0.1, padding=0, flip=False
    )
    model, history = train(digits, protocol=protocol)
    assert history[-1]["train_accuracy"] == 1
    logits = predict(model, digits.train, digits.mean, digits.std, 32)
    assert in_top_k(logits, digits.train.labels, 1).all()


def test_a_seed_decides_all(digits: Dataset) -> None:
    """Runs of one seed end in the same bits, whatever torch drew before; another seed doesn't."""
    torch.manual_seed(0)
    first = train(digits, ALL, seed=5)
    torch.manual_seed(1)
    assert_same_run(first, train(digits, ALL, seed=5))
    other = train(digits, ALL, seed=6)
    assert other[1][0]["loss"] != first[1][0]["loss"]


def test_all_methods_of_a_seed_see_the_same_views(digits: Dataset) -> None:
    """Students of all methods see the same batches, and so does the teacher."""
    student = network()
    expected = record_inputs(student, training=True)
    train(digits, model=student)
    assert len(expected) == 4 * STEPS
    assert not torch.equal(expected[0], expected[STEPS])
    for settings in (KD, AT, ALL):
        student, teacher = network(), teacher_network()
        views, shown = record_inputs(student, training=True), record_inputs(teacher, training=False)
        train(digits, settings, model=student, teacher=teacher)
        torch.testing.assert_close(views, expected, rtol=0, atol=0)
        torch.testing.assert_close(shown, expected, rtol=0, atol=0)


def test_teacher_stays_as_it_is(digits: Dataset) -> None:
    """Training a student changes neither weights, nor statistics, nor mode of its teacher."""
    teacher = teacher_network()
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    train(digits, ALL, teacher=teacher)
    assert not teacher.training
    torch.testing.assert_close(teacher.state_dict(), before, rtol=0, atol=0)
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_hint_trains_a_regressor_beside_the_student(digits: Dataset) -> None:
    """The regressor is of the step's state and learns; the student begins as without it."""
    feed = make_feed(digits, teacher=teacher_network())
    step = make_step(feed, HINT)
    before = {name: each.clone() for name, each in step.state().items() if "regressor" in name}
    assert [*before] == [f"terms.terms.hint.regressor.{name}" for name in ("weight", "bias")]
    torch.testing.assert_close(step.student.state_dict(), network().state_dict(), rtol=0, atol=0)
    fit([Learner(step, [].append)], 0, never, never)
    for name, tensor in before.items():
        assert not torch.equal(step.state()[name], tensor), name
    # Without weight it changes nothing.
    weightless = train(digits, {"labels": {}, "hint": {"weight": 0}})[0]
    torch.testing.assert_close(
        weightless.state_dict(), train(digits)[0].state_dict(), rtol=0, atol=0
    )


def test_students_side_by_side_are_those_alone(digits: Dataset) -> None:
    """Students of one feed end with the bits that each has alone; one that diverges stops alone."""
    feed = make_feed(digits, teacher=teacher_network())
    wrong = {"labels": {}, "at": {"weight": 1e39}}
    learners = [Learner(make_step(feed, each), [].append) for each in (ALL, wrong, BASELINE)]
    with pytest.raises(FloatingPointError, match="in epoch 1, step 1; "):
        fit(learners, 0, never, never)
    assert [len(learner.history) for learner in learners] == [4, 0, 4]
    for learner, settings in zip(learners[::2], (ALL, BASELINE), strict=True):
        assert_same_run((learner.step.student, learner.history), train(digits, settings))


def test_a_step_reads_nothing_back(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """No step waits for a value of the device, so that it can be captured as a graph."""
    together = Together([make_step(make_feed(digits, teacher=teacher_network()), ALL)])
    together.begin(0, 1)
    together(10)
    for name in ("item", "tolist", "__bool__", "__int__", "__float__", "__index__", "numpy", "cpu"):
        monkeypatch.setattr(Tensor, name, lambda *_, name=name: pytest.fail(f"calls {name}"))
    for size in (10, 10, 2):
        together(size)


@pytest.mark.parametrize(
    ("count", "sizes"), [(32, [10, 10, 10, 2]), (31, [10] * 3), (30, [10] * 3), (2, [2])]
)
def test_a_last_batch_of_one_image_is_left_out(count: int, sizes: list[int]) -> None:
    """Batch norm needs two images: a last one alone isn't trained on, which is said."""
    assert batch_sizes(count, 10) == sizes
    said = "each epoch leaves out its last image: batch norm needs two in a batch"
    assert left_out(count, 10) == said * (count == 31)
    with pytest.raises(ValueError, match="found 1 training image; allowed: at least 2"):
        batch_sizes(1, 10)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("questions", "place"),
    [(1, "0 and step 1 of the next"), (STEPS + 1, "1"), (STEPS + 2, "1 and step 1 of the next")],
)
def test_run_that_was_asked_to_stop_ends_the_same(
    digits: Dataset, tmp_path: Path, method: str, questions: int, place: str
) -> None:
    """A run stopped after any step, within an epoch or at its end, goes on to the same bits.

    A stop in the epoch of a milestone doesn't forget the momentum a second time.
    """
    resume, settings, protocol = tmp_path / "resume.pt", METHODS[method], changed(milestones=[2])
    asked = iter(range(1, questions + 1))
    with pytest.raises(KeyboardInterrupt, match=r"(in|after) epoch \d of 4"):
        train(digits, settings, protocol, resume=resume,
              stop_asked=lambda: next(asked) == questions)  # fmt: skip
    lines: list[str] = []
    # Its first weights are those that were kept, whatever it begins with.
    resumed = train(
        digits, settings, protocol, model=network(3), resume=resume, report=lines.append
    )
    assert lines[0] == f"going on after epoch {place}"
    assert_same_run(resumed, train(digits, settings, protocol))


@pytest.mark.parametrize(
    ("line", "step", "done"),
    [("", 2, 0), ("", 2 * STEPS + 3, 2), ("", 3 * STEPS + 1, 3), ("epoch   3/4", 0, 2)],
)
def test_killed_run_goes_on_after_its_last_epoch(
    digits: Dataset, tmp_path: Path, line: str, step: int, done: int
) -> None:
    """A run that dies at a step, or between an epoch's line and its state, ends with the same bits.

    It goes on from the last whole epoch whose state was kept.
    """
    resume, lines = tmp_path / "resume.pt", []

    def report(said: str) -> None:
        if line and said.startswith(line):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(digits, AT, model=at_training_step(step, interrupt), resume=resume, report=report)
    assert resume.exists() is (done > 0)
    resumed = train(digits, AT, resume=resume, report=lines.append)
    assert_same_run(resumed, train(digits, AT))
    assert (lines[0] == f"going on after epoch {done}") is (done > 0)


def test_run_out_of_time_stops_between_epochs_and_ends_the_same(
    digits: Dataset, tmp_path: Path
) -> None:
    """A run whose time is up stops after each epoch but the last, and goes on to the same bits."""
    resume = tmp_path / "resume.pt"
    for epoch in (1, 2, 3):
        with pytest.raises(KeyboardInterrupt, match=f"^after epoch {epoch} of 4: time is up$"):
            train(digits, ALL, resume=resume, time_is_up=lambda: True)
    last = train(digits, ALL, resume=resume, time_is_up=lambda: True)
    assert_same_run(last, train(digits, ALL))


@pytest.mark.parametrize(
    ("limit", "ends", "answers"),
    [
        # Minutes from 1,000 s on; ends of epochs in seconds.
        (10, [1100, 1200, 1300, 1400, 1500, 1600], [False] * 5 + [True]),
        (10, [1100, 1350, 1500], [False, False, True]),
        (10, [1299, 1300], [False, False]),
        (10, [1301], [True]),
        (0, [1000.1], [True]),
        (None, [1e9], [False]),
    ],
)
def test_another_epoch_has_to_fit(
    limit: float | None, ends: list[float], answers: list[bool]
) -> None:
    """A run stops when an epoch as long as the longest so far would end after its time."""
    clock = iter([1000, *ends])
    time_is_up = time_keeper(limit, lambda: next(clock))
    assert [time_is_up() for _ in ends] == answers


def test_finished_run_is_not_trained_again(digits: Dataset, tmp_path: Path) -> None:
    """A run whose last epoch is kept already ends at once with its network and history."""
    resume = tmp_path / "resume.pt"
    first = train(digits, resume=resume)
    again = train(digits, model=at_training_step(1, interrupt), resume=resume)
    assert_same_run(again, first)
    assert again[1] == first[1]
    assert [file.name for file in tmp_path.iterdir()] == ["resume.pt"]


@pytest.mark.parametrize("part", ["other run", 0, 0.001, 0.5, 0.99, b"hello\n", [1, 2], "planted"])
def test_state_that_cannot_be_used_is_set_aside(
    digits: Dataset, tmp_path: Path, planted: object, marker: Path, part: Any
) -> None:
    """A state of another run, cut short, or anything else is kept beside, said, and never run."""
    resume, lines = tmp_path / "resume.pt", []
    if isinstance(part, bytes):
        resume.write_bytes(part)
    elif isinstance(part, list):
        torch.save(part, resume)
    elif part == "planted":
        torch.save({"fingerprint": "this run", "tensors": planted}, resume)
    else:
        train(digits, protocol=changed(schedule="cosine", epochs=1), resume=resume,
              fingerprint="another run")  # fmt: skip
        if part != "other run":
            whole = resume.read_bytes()
            resume.write_bytes(whole[: int(part * len(whole))])
    before = resume.read_bytes()
    found = train(digits, resume=resume, report=lines.append)
    assert_same_run(found, train(digits))
    aside = resume.with_name("resume.pt.unused")
    assert aside.read_bytes() == before
    assert lines[0].startswith(f"{resume} isn't used (")
    assert lines[0].endswith(f"; kept as {aside}; starting at epoch 1")
    assert ("other arguments, data or code" in lines[0]) is (part == "other run")
    assert len(lines) == 5
    assert not marker.exists()


def test_state_that_cannot_be_read_now_stays(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fails to read says nothing about the state: the run ends, and the state stays."""
    resume = tmp_path / "resume.pt"
    train(digits, protocol=changed(schedule="cosine", epochs=1), resume=resume)
    before = resume.read_bytes()

    def fail(_: Path) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(resume))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", fail)
        with pytest.raises(OSError, match=str(resume)):
            train(digits, resume=resume)
    assert resume.read_bytes() == before


def test_loss_that_is_not_finite_names_epoch_and_step(digits: Dataset, tmp_path: Path) -> None:
    """A NaN stops the run with its epoch and step and what may help; the state before is kept."""
    model = at_training_step(STEPS + 3, lambda images: (images * math.nan,))
    with pytest.raises(FloatingPointError, match=r"loss is nan in epoch 2, step 3;.*weight of kd"):
        train(digits, KD, model=model, resume=tmp_path / "resume.pt")
    assert len(torch.load(tmp_path / "resume.pt")["history"]) == 1


def test_an_epoch_is_a_line(digits: Dataset) -> None:
    """A line tells epoch, loss, terms, accuracies in percent, speed and the time left."""
    lines: list[str] = []
    _, history = train(digits, KD, report=lines.append)
    for line, row in zip(lines, history, strict=True):
        assert line.startswith(
            f"epoch {row['epoch']:>3}/4  loss {row['loss']:.4f}  Labels {row['labels']:.4g}  "
            f"KD {row['kd']:.4g}  train {row['train_accuracy']:.2%}  "
            f"test {row['test_accuracy']:.2%}  {row['images_per_second']:,.0f} images/s  0:00:"
        )
    assert lines[-1].endswith("0:00:00 left")
