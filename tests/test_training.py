"""The training loop: schedules, objective, reproducibility, resume."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.special
import sklearn.metrics
import torch
from torch import Tensor
from torch.nn import functional

from distillation.data.dataset import Dataset, epoch_generator, normalise, training_batches
from distillation.measuring.accuracy import predict, top_k_accuracy
from distillation.networks.wrn import WideResNet, initialise
from distillation.terms.losses import attention_transfer, knowledge_distillation
from distillation.training.loop import (
    Protocol,
    Row,
    Weights,
    beta_of_epoch,
    fit,
    learning_rate,
    measure_test_split,
    objective,
    progress_line,
)

# 32 images make four steps an epoch, the last one of two images.
PROTOCOL = Protocol(
    epochs=4,
    batch_size=10,
    schedule="step",
    learning_rate=0.05,
    milestones=[3, 4],
    learning_rate_decay=0.2,
    reset_momentum=True,
    rise=0.3,
    momentum=0.9,
    nesterov=False,
    weight_decay=5e-4,
    padding=2,
    flip=True,
    gamma_init="uniform",
)
STEPS = 4
# The steps, milestones and learning rate of the attention-transfer paper.
PAPER = replace(PROTOCOL, epochs=200, learning_rate=0.1, milestones=[60, 120, 160])
BASELINE = Weights()
KD = Weights(alpha=0.9, temperature=4.0)
AT = Weights(beta=100.0)
AT_KD = Weights(alpha=0.9, temperature=4.0, beta=100.0, beta_schedule="linear")
TIMES = ("seconds", "images_per_second")


class FailingTeacher(WideResNet):
    """A teacher that must not be asked."""

    def forward(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Fail."""
        raise AssertionError(f"the teacher was run on {len(images)} images")


def network(seed: int = 0, width: int = 1) -> WideResNet:
    """Return a fresh network for the digits."""
    model = WideResNet(10, width, 10, 1)
    initialise(model, "uniform", torch.Generator().manual_seed(seed))
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def teacher_network() -> WideResNet:
    """Return a wider network in evaluation mode, whose statistics have seen something."""
    teacher = network(7, width=2)
    teacher.train()(torch.randn(32, 1, 12, 12, generator=torch.Generator().manual_seed(0)))
    return teacher.eval()


def train(
    dataset: Dataset,
    protocol: Protocol = PROTOCOL,
    weights: Weights = BASELINE,
    *,
    model: WideResNet | None = None,
    teacher: WideResNet | None = None,
    seed: int = 0,
    resume: Path | None = None,
    fingerprint: str = "this run",
    report: Callable[[str], None] | None = None,
    stop_asked: Callable[[], bool] = lambda: False,
    time_is_up: Callable[[], bool] = lambda: False,
) -> tuple[WideResNet, list[Row]]:
    """Train a network as `fit` does, with defaults, and return it with its history."""
    model = model or network()
    if weights.needs_teacher and teacher is None:
        teacher = teacher_network()
    history = fit(
        model, dataset, protocol, weights, teacher, seed, resume, fingerprint,
        report or [].append, stop_asked, time_is_up=time_is_up,
    )  # fmt: skip
    return model, history


def numbers(history: list[Row]) -> list[Row]:
    """Return a history without what measures time."""
    return [{name: value for name, value in row.items() if name not in TIMES} for row in history]


def assert_same_run(one: tuple[WideResNet, list[Row]], two: tuple[WideResNet, list[Row]]) -> None:
    """Check that two runs ended in the same network, bit for bit, by the same way."""
    torch.testing.assert_close(one[0].state_dict(), two[0].state_dict(), rtol=0, atol=0)
    assert numbers(one[1]) == numbers(two[1])


def record_inputs(model: WideResNet, training: bool) -> list[Tensor]:
    """Return a list that fills with the batches that the network sees in one of its modes."""
    seen: list[Tensor] = []

    def record(module: torch.nn.Module, inputs: tuple[Tensor]) -> None:
        if module.training is training:
            seen.append(inputs[0].clone())

    model.register_forward_pre_hook(record)
    return seen


def at_training_step(number: int, action: Callable[[Tensor], Any]) -> WideResNet:
    """Return a fresh network that does something with the batch of its n-th training step."""
    model = network()
    steps: list[int] = []

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
def test_rate_drops_at_the_start_of_the_papers_milestones(epoch, expected):
    """The rate drops to a fifth at the start of epochs 60, 120 and 160, counted from 1."""
    assert learning_rate(PAPER, epoch, epoch / 200) == pytest.approx(expected)


def test_step_schedule_equals_that_of_torch():
    """Over all epochs the step schedule is torch's MultiStepLR, which counts from 0."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=PAPER.learning_rate)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(
        optimizer, [milestone - 1 for milestone in PAPER.milestones], PAPER.learning_rate_decay
    )
    for epoch in range(1, PAPER.epochs + 1):
        assert learning_rate(PAPER, epoch, 0.5) == pytest.approx(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()


def test_cosine_schedule_equals_that_of_torch():
    """Over all steps the cosine schedule is torch's, read in the middle of each step."""
    protocol, steps = replace(PROTOCOL, schedule="cosine"), 50
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=protocol.learning_rate)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=2 * steps)
    for half_step in range(2 * steps):
        if half_step % 2:
            found = learning_rate(protocol, 1, half_step / (2 * steps))
            assert found == pytest.approx(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize("rise", [0.0, 0.1, 0.3, 0.99])
def test_one_cycle_rises_and_falls_linearly(rise):
    """The rate goes from 0 to its peak at `rise`, and back to 0 at the end, in two lines."""
    protocol = replace(PROTOCOL, schedule="one_cycle", rise=rise, learning_rate=0.2)
    for progress in np.linspace(0.005, 1, 200):
        expected = np.interp(progress, [0, rise, 1], [0, 0.2, 0] if rise else [0.2, 0.2, 0])
        assert learning_rate(protocol, 1, progress) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [8, 8, 8, 8]),
        ("linear", [8, 6, 4, 2]),
        ("cosine", [8, 4 + 4 * math.sqrt(0.5), 4, 4 - 4 * math.sqrt(0.5)]),
    ],
)
def test_beta_falls_as_its_schedule_says(schedule, expected):
    """Beta starts at its full value and would reach 0 after the last epoch, or is constant."""
    weights = Weights(beta=8.0, beta_schedule=schedule)
    found = [beta_of_epoch(weights, epoch, 4) for epoch in (1, 2, 3, 4)]
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(
    "weights",
    [
        BASELINE,
        KD,
        Weights(alpha=0.3, temperature=2.0, kl_reduction="legacy_2017"),
        AT,
        Weights(beta=0.5, at_mode="paper", collapse="sum_absolute"),
        AT_KD,
        Weights(alpha=1.0, temperature=4.0),
    ],
)
def test_objective_is_the_sum_of_its_weighted_terms(weights):
    """The total is (1 - alpha) CE + alpha KD + beta times the groups' AT; terms off are absent."""
    generator = torch.Generator().manual_seed(0)
    logits, teacher_logits = torch.randn(2, 6, 10, generator=generator)
    features, teacher_features = (
        [torch.randn(6, channels, size, size, generator=generator) for size in (8, 4, 2)]
        for channels in (3, 5)
    )
    labels = torch.tensor([0, 9, 3, 3, 1, 2])
    beta = weights.beta / 2
    total, terms = objective(
        logits, features, labels, (teacher_logits, teacher_features), weights, beta
    )
    cross_entropy = functional.cross_entropy(logits, labels)
    expected = {"cross_entropy": cross_entropy}
    if weights.alpha:
        expected["distillation"] = knowledge_distillation(
            logits, teacher_logits, weights.temperature, weights.kl_reduction
        )
    if weights.beta:
        groups = attention_transfer(features, teacher_features, weights.collapse, weights.at_mode)
        expected |= {f"attention_{number}": groups[number - 1] for number in (1, 2, 3)}
    assert list(terms) == list(expected)
    torch.testing.assert_close(terms, expected)
    hand = (1 - weights.alpha) * cross_entropy.item()
    hand += weights.alpha * (expected["distillation"].item() if weights.alpha else 0)
    hand += beta * sum(expected[name].item() for name in expected if name.startswith("attention"))
    assert total.item() == pytest.approx(hand, rel=1e-5)


def test_terms_with_weight_zero_are_not_computed():
    """A term that is off isn't computed: it may not even be computable."""
    logits, labels = torch.randn(4, 10), torch.tensor([0, 1, 2, 3])
    features, other = [torch.randn(4, 3, 8, 8)], [torch.randn(4, 3, 5, 5)]
    objective(logits, features, labels, (torch.randn(4, 10), other), KD, 0.0)
    objective(logits, features, labels, (torch.randn(4, 7), features), AT, 1.0)
    with pytest.raises(ValueError, match="differ"):
        objective(logits, features, labels, (torch.randn(4, 10), other), AT, 1.0)


def test_teacher_that_no_term_needs_is_not_run(digits):
    """With alpha and beta 0 a teacher is never asked, and the run is that without one."""
    silent = train(digits, teacher=FailingTeacher(10, 1, 10, 1))
    assert_same_run(silent, train(digits))
    with pytest.raises(AssertionError, match="teacher was run"):
        train(digits, weights=KD, teacher=FailingTeacher(10, 1, 10, 1))


@pytest.mark.parametrize("weights", [KD, AT])
def test_missing_teacher_is_an_error(digits, weights):
    """Weights that need a teacher raise an error where there is none."""
    with pytest.raises(ValueError, match="alpha or beta is above 0, but there is no teacher"):
        fit(network(), digits, PROTOCOL, weights, None, 0, None, "", [].append)


def textbook(
    dataset: Dataset, protocol: Protocol, weights: Weights, teacher: WideResNet, seed: int
) -> tuple[WideResNet, list[float]]:
    """Train as one would write it down, with a new optimizer where momentum is reset."""
    model = network()
    rate = protocol.learning_rate
    losses = []

    def new_optimizer() -> torch.optim.SGD:
        return torch.optim.SGD(
            model.parameters(),
            rate,
            protocol.momentum,
            weight_decay=protocol.weight_decay,
            nesterov=protocol.nesterov,
        )

    optimizer = new_optimizer()
    for epoch in range(1, protocol.epochs + 1):
        beta = weights.beta * ((5 - epoch) / 4 if weights.beta_schedule == "linear" else 1)
        if epoch in protocol.milestones:
            rate *= protocol.learning_rate_decay
            if protocol.reset_momentum:
                optimizer = new_optimizer()
            optimizer.param_groups[0]["lr"] = rate
        sum_of_losses = 0.0
        generator = epoch_generator(seed, epoch)
        for images, labels, _, _ in training_batches(
            dataset, protocol.batch_size, protocol.padding, protocol.flip, generator
        ):
            logits, features = model.train()(images)
            loss = (1 - weights.alpha) * functional.cross_entropy(logits, labels)
            with torch.no_grad():
                teacher_logits, teacher_features = teacher(images)
            if weights.alpha:
                kd = knowledge_distillation(logits, teacher_logits, weights.temperature)
                loss = loss + weights.alpha * kd
            if weights.beta:
                loss = loss + beta * attention_transfer(features, teacher_features).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            sum_of_losses += loss.item() * len(labels)
        losses.append(sum_of_losses / len(dataset.train.labels))
    return model, losses


@pytest.mark.parametrize("weights", [BASELINE, KD, AT, AT_KD], ids=["ce", "kd", "at", "at_kd"])
@pytest.mark.parametrize(("reset_momentum", "nesterov"), [(True, False), (False, True)])
def test_training_equals_a_textbook_loop(digits, weights, reset_momentum, nesterov):
    """Training ends where a plain loop does, which makes a new optimizer to forget momentum."""
    protocol = replace(PROTOCOL, reset_momentum=reset_momentum, nesterov=nesterov)
    teacher = teacher_network()
    model, history = train(digits, protocol, weights, teacher=teacher)
    expected, losses = textbook(digits, protocol, weights, teacher, 0)
    torch.testing.assert_close(model.eval().state_dict(), expected.state_dict())
    # The fused optimizer rounds in another order than the plain one.
    assert [row["loss"] for row in history] == pytest.approx(losses, rel=1e-5)


def test_momentum_is_forgotten_only_where_asked(digits):
    """Resetting momentum changes the run from the first milestone on, and not before."""
    reset = numbers(train(digits)[1])
    kept = numbers(train(digits, replace(PROTOCOL, reset_momentum=False))[1])
    assert reset[:2] == kept[:2]
    assert reset[2]["loss"] != kept[2]["loss"]
    smooth = replace(PROTOCOL, schedule="cosine")
    assert_same_run(train(digits, smooth), train(digits, replace(smooth, reset_momentum=False)))


@pytest.mark.parametrize("schedule", ["step", "one_cycle", "cosine"])
def test_history_tells_the_rate_and_beta_of_its_epochs(digits, schedule):
    """Each epoch has a row with the rate of its last step and the beta of its schedule."""
    protocol = replace(PROTOCOL, schedule=schedule)
    _, history = train(digits, protocol, AT_KD)
    assert [row["epoch"] for row in history] == [1, 2, 3, 4]
    for row in history:
        epoch = int(row["epoch"])
        middle_of_last_step = (epoch * STEPS - 0.5) / (4 * STEPS)
        assert row["learning_rate"] == learning_rate(protocol, epoch, middle_of_last_step)
        assert row["beta"] == beta_of_epoch(AT_KD, epoch, 4)
        assert row["seconds"] > 0
        assert row["images_per_second"] == pytest.approx(32 / row["seconds"])


@pytest.mark.parametrize(
    ("weights", "terms"),
    [
        (BASELINE, ["cross_entropy"]),
        (KD, ["cross_entropy", "distillation"]),
        (AT, ["cross_entropy", "attention_1", "attention_2", "attention_3"]),
        (
            AT_KD,
            ["cross_entropy", "distillation", "attention_1", "attention_2", "attention_3"],
        ),
    ],
)
def test_history_has_the_terms_of_the_objective(digits, weights, terms):
    """Rows hold the total and the terms that are on, and the terms add up to the total."""
    _, history = train(digits, replace(PROTOCOL, epochs=1), weights)
    (row,) = history
    assert list(row) == [
        "epoch", "learning_rate", "beta", "loss", *terms, "train_accuracy", "test_accuracy",
        "test_cross_entropy", "seconds", "images_per_second",
    ]  # fmt: skip
    attention = sum(value for name, value in row.items() if name.startswith("attention"))
    total = (1 - weights.alpha) * row["cross_entropy"] + weights.beta * attention
    total += weights.alpha * row.get("distillation", 0)
    assert row["loss"] == pytest.approx(total, rel=1e-5)


def test_test_split_is_measured_as_scikit_learn_does(digits):
    """Accuracy and cross-entropy on the test split are scikit-learn's."""
    model = network()
    found = measure_test_split(model, digits)
    with torch.no_grad():
        logits, _ = model.eval()(normalise(digits.test.images, digits.mean, digits.std))
    labels = digits.test.labels.numpy()
    probabilities = scipy.special.softmax(logits.double().numpy(), axis=1)
    accuracy = sklearn.metrics.accuracy_score(labels, logits.argmax(dim=1))
    assert found["test_accuracy"] == pytest.approx(accuracy)
    expected = sklearn.metrics.log_loss(labels, probabilities, labels=np.arange(10))
    assert found["test_cross_entropy"] == pytest.approx(expected, rel=1e-5)


def test_small_network_learns_32_digits_by_heart(digits):
    """A WRN-10-1 fits 32 real digits without a mistake, in training and in evaluation mode."""
    protocol = replace(
        PROTOCOL, epochs=25, batch_size=16, schedule="one_cycle", learning_rate=0.1,
        padding=0, flip=False,
    )  # fmt: skip
    model, history = train(digits, protocol)
    assert history[-1]["train_accuracy"] == 1
    logits = predict(model, digits.train, digits.mean, digits.std, 32)
    assert top_k_accuracy(logits, digits.train.labels, 1) == 1


@pytest.mark.parametrize("weights", [BASELINE, AT_KD])
def test_same_seed_same_network(digits, weights):
    """Two runs of one seed end in the same network bit for bit, whatever torch drew before."""
    torch.manual_seed(0)
    first = train(digits, weights=weights, seed=5)
    torch.manual_seed(1)
    assert_same_run(first, train(digits, weights=weights, seed=5))


def test_other_seed_other_network(digits):
    """Another seed shows other views in another order: another network comes out."""
    first, _ = train(digits, seed=5)
    second, _ = train(digits, seed=6)
    assert not torch.equal(first.stem.weight, second.stem.weight)


def test_all_methods_of_a_seed_see_the_same_views(digits):
    """Students of all methods see the same batches, and so does the teacher."""
    student = network()
    expected = record_inputs(student, training=True)
    train(digits, model=student)
    assert len(expected) == 4 * STEPS
    assert not torch.equal(expected[0], expected[STEPS])
    for weights in (KD, AT, AT_KD):
        student, teacher = network(), teacher_network()
        views, shown = record_inputs(student, training=True), record_inputs(teacher, training=False)
        train(digits, weights=weights, model=student, teacher=teacher)
        torch.testing.assert_close(views, expected, rtol=0, atol=0)
        torch.testing.assert_close(shown, expected, rtol=0, atol=0)


def test_teacher_stays_as_it_is(digits):
    """Training a student changes neither weights, nor statistics, nor mode of its teacher."""
    teacher = teacher_network()
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    train(digits, weights=AT_KD, teacher=teacher)
    assert not teacher.training
    torch.testing.assert_close(teacher.state_dict(), before, rtol=0, atol=0)
    assert all(parameter.grad is None for parameter in teacher.parameters())


@pytest.mark.parametrize(("weights", "schedule"), [(BASELINE, "step"), (AT_KD, "one_cycle")])
@pytest.mark.parametrize(
    ("step", "done"),
    [(2, 0), (STEPS + 1, 1), (2 * STEPS, 1), (2 * STEPS + 3, 2), (3 * STEPS + 1, 3)],
)
def test_interrupted_run_goes_on_as_if_it_had_not_stopped(
    digits, tmp_path, weights, schedule, step, done
):
    """A run that stops at any step and goes on in another process ends in the same network."""
    protocol = replace(PROTOCOL, schedule=schedule)
    resume, lines = tmp_path / "resume.pt", []
    with pytest.raises(KeyboardInterrupt):
        train(digits, protocol, weights, model=at_training_step(step, interrupt), resume=resume)
    assert resume.exists() is (done > 0)
    # What the second process drew as its start must not matter, but for the first epoch.
    start = network(3 if done else 0)
    resumed = train(digits, protocol, weights, model=start, resume=resume, report=lines.append)
    assert_same_run(resumed, train(digits, protocol, weights))
    assert (f"going on after epoch {done}, from {resume}" in lines) is (done > 0)


def test_run_interrupted_before_its_state_is_kept_repeats_the_epoch(digits, tmp_path):
    """A run that stops after an epoch's line and before its state is kept repeats that epoch."""
    resume, lines = tmp_path / "resume.pt", []

    def stop_in_epoch_3(line: str) -> None:
        if line.startswith("epoch   3/4"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(digits, resume=resume, report=stop_in_epoch_3)
    resumed = train(digits, resume=resume, report=lines.append)
    assert_same_run(resumed, train(digits))
    assert lines[0] == f"going on after epoch 2, from {resume}"


@pytest.mark.parametrize("questions", [1, 2, STEPS, STEPS + 1, STEPS + 2, 3 * STEPS])
def test_run_that_was_asked_to_stop_ends_the_same(digits, tmp_path, questions):
    """A run stopped after any step, within an epoch or at its end, goes on to the same bits."""
    resume = tmp_path / "resume.pt"
    asked = iter(range(1, questions + 1))
    with pytest.raises(KeyboardInterrupt, match=r"(in|after) epoch \d of 4"):
        train(digits, weights=AT_KD, resume=resume, stop_asked=lambda: next(asked) == questions)
    lines: list[str] = []
    resumed = train(digits, weights=AT_KD, resume=resume, report=lines.append)
    assert lines[0].startswith("going on after epoch ")
    assert_same_run(resumed, train(digits, weights=AT_KD))


def test_run_out_of_time_stops_between_epochs_and_ends_the_same(digits, tmp_path):
    """A run whose time is up stops after each epoch but the last, and goes on to the same bits."""
    resume = tmp_path / "resume.pt"
    for epoch in (1, 2, 3):
        with pytest.raises(KeyboardInterrupt, match=f"^after epoch {epoch} of 4: time is up$"):
            train(digits, weights=AT_KD, resume=resume, time_is_up=lambda: True)
    last = train(digits, weights=AT_KD, resume=resume, time_is_up=lambda: True)
    assert_same_run(last, train(digits, weights=AT_KD))


def test_momentum_is_forgotten_once_where_a_run_stopped(digits, tmp_path):
    """A stop in the epoch of a milestone doesn't forget the momentum a second time."""
    protocol = replace(PROTOCOL, schedule="step", milestones=[2], reset_momentum=True)
    resume = tmp_path / "resume.pt"
    asked = iter([False] * (STEPS + 2) + [True])
    with pytest.raises(KeyboardInterrupt, match="in epoch 2 of 4, after step 2"):
        train(digits, protocol, resume=resume, stop_asked=lambda: next(asked))
    assert_same_run(train(digits, protocol, resume=resume), train(digits, protocol))


def test_finished_run_is_not_trained_again(digits, tmp_path):
    """A run whose last epoch is kept already ends at once with its network and history."""
    resume = tmp_path / "resume.pt"
    first = train(digits, resume=resume)
    again = train(digits, model=at_training_step(1, interrupt), resume=resume)
    torch.testing.assert_close(again[0].state_dict(), first[0].state_dict(), rtol=0, atol=0)
    assert again[1] == first[1]
    assert [file.name for file in tmp_path.iterdir()] == ["resume.pt"]


def assert_set_aside(dataset: Dataset, resume: Path) -> str:
    """Check that a state isn't used but kept, and return the line that says so."""
    before, lines = resume.read_bytes(), []
    found = train(dataset, resume=resume, report=lines.append)
    assert_same_run(found, train(dataset))
    aside = resume.with_name("resume.pt.unused")
    assert aside.read_bytes() == before
    assert lines[0].startswith(f"{resume} isn't used (")
    assert lines[0].endswith(f"; kept as {aside}; starting at epoch 1")
    assert len(lines) == 5
    return lines[0]


def test_state_of_another_run_is_set_aside(digits, tmp_path):
    """A state with another fingerprint is reported, kept beside and not used."""
    resume = tmp_path / "resume.pt"
    train(digits, replace(PROTOCOL, epochs=2), resume=resume, fingerprint="another run")
    assert "other arguments, data or code" in assert_set_aside(digits, resume)


@pytest.mark.parametrize("part", [0, 0.0001, 0.001, 0.5, 0.99])
def test_truncated_state_is_set_aside(digits, tmp_path, part):
    """A state that was cut short is reported, kept beside and not used."""
    resume = tmp_path / "resume.pt"
    train(digits, replace(PROTOCOL, epochs=1), resume=resume)
    whole = resume.read_bytes()
    resume.write_bytes(whole[: int(part * len(whole))])
    assert_set_aside(digits, resume)


@pytest.mark.parametrize("content", [b"hello world\n", b"epoch,loss\n1,2.3\n"], ids=["text", "csv"])
def test_other_file_in_place_of_the_state_is_set_aside(digits, tmp_path, content):
    """A file of another kind is reported, kept beside and not used."""
    (tmp_path / "resume.pt").write_bytes(content)
    assert_set_aside(digits, tmp_path / "resume.pt")


def test_other_content_in_place_of_the_state_is_set_aside(digits, tmp_path):
    """What torch saved for another purpose is reported, kept beside and not used."""
    torch.save([1, 2], tmp_path / "resume.pt")
    assert_set_aside(digits, tmp_path / "resume.pt")


def test_planted_pickle_in_place_of_the_state_is_not_run(digits, tmp_path, planted, marker):
    """A state that holds more than plain data is set aside, and nothing in it runs."""
    torch.save({"fingerprint": "this run", "model": planted}, tmp_path / "resume.pt")
    assert_set_aside(digits, tmp_path / "resume.pt")
    assert not marker.exists()


def test_loss_that_is_not_finite_names_epoch_and_step(digits, tmp_path):
    """A NaN stops the run with its epoch and step, and the state before it is kept."""
    model = at_training_step(STEPS + 3, lambda images: (images * math.nan,))
    with pytest.raises(FloatingPointError, match="loss is nan in epoch 2, step 3;"):
        train(digits, model=model, resume=tmp_path / "resume.pt")
    assert len(torch.load(tmp_path / "resume.pt")["history"]) == 1


def test_infinite_loss_is_refused(digits):
    """A beta beyond what float32 holds stops the run at its first step."""
    with pytest.raises(FloatingPointError, match="loss is inf in epoch 1, step 1;"):
        train(digits, weights=Weights(beta=1e39))


def test_report_has_a_line_per_epoch(digits):
    """Each epoch reports one line: where it stands, its terms, accuracies, speed, time left."""
    lines: list[str] = []
    _, history = train(digits, weights=AT_KD, report=lines.append)
    assert len(lines) == 4
    for line, row in zip(lines, history, strict=True):
        assert line.startswith(f"epoch {row['epoch']:>3}/4  loss {row['loss']:.4f}  ")
        for word in ("cross-entropy", "distillation", "attention", "train", "test", "images/s"):
            assert word in line
    assert lines[-1].endswith("0:00:00 left")


def test_progress_line_says_what_is_known():
    """A line shows fractions as percent and the time left as hours, minutes and seconds."""
    row = {
        "epoch": 7, "learning_rate": 0.1, "beta": 0.0, "loss": 1.23456, "cross_entropy": 1.23456,
        "train_accuracy": 0.5, "test_accuracy": 0.4321, "test_cross_entropy": 2.0,
        "seconds": 61.0, "images_per_second": 1234.5,
    }  # fmt: skip
    assert progress_line([row], 200) == (
        "epoch   7/200  loss 1.2346  train 50.00%  test 43.21%  1,234 images/s  3:16:13 left"
    )
