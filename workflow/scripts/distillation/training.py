"""The one training loop: protocol, objective, epochs."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from distillation.data import Dataset, epoch_generator, training_batches
from distillation.engine import PLAIN, Engine, Networks, Outputs
from distillation.evaluation import predict, top_k_accuracy
from distillation.losses import (
    ATMode,
    Collapse,
    KLReduction,
    attention_transfer,
    knowledge_distillation,
)
from distillation.models import GammaInit, WideResNet
from distillation.state import EpochSums, Row, restore, store

Schedule = Literal["step", "one_cycle", "cosine"]
BetaSchedule = Literal["constant", "linear", "cosine"]

EVALUATION_BATCH = 128


@dataclass(frozen=True)
class Protocol:
    """How a network is trained; the keys of `training` in config.yaml, which explains them."""

    epochs: int
    batch_size: int
    schedule: Schedule
    learning_rate: float
    milestones: list[int]
    learning_rate_decay: float
    reset_momentum: bool
    rise: float
    momentum: float
    nesterov: bool
    weight_decay: float
    padding: int
    flip: bool
    gamma_init: GammaInit


@dataclass(frozen=True)
class Weights:
    """The terms of a student's objective; weight 0 means that a term is off."""

    alpha: float = 0.0
    temperature: float = 1.0
    kl_reduction: KLReduction = "batchmean"
    beta: float = 0.0
    beta_schedule: BetaSchedule = "constant"
    at_mode: ATMode = "code"
    collapse: Collapse = "mean_square"

    @property
    def needs_teacher(self) -> bool:
        """Whether any term compares the student with a teacher."""
        return self.alpha > 0 or self.beta > 0


def learning_rate(protocol: Protocol, epoch: int, progress: float) -> float:
    """Return the learning rate of a step.

    - step: times `learning_rate_decay` from the start of each of the `milestones` on, counted
      from 1 as the attention-transfer paper's code counts them;
    - one_cycle: linearly from 0 up over the first `rise` of the run, then linearly to 0;
    - cosine: 1 / 2 (1 + cos(pi * progress)), without restarts (arXiv 1608.03983).

    Args:
        protocol: the protocol.
        epoch: the epoch, counted from 1.
        progress: fraction of the run's steps done when half of this step is, 0 to 1.
    """
    if protocol.schedule == "step":
        drops = sum(epoch >= milestone for milestone in protocol.milestones)
        return protocol.learning_rate * protocol.learning_rate_decay**drops
    if protocol.schedule == "one_cycle":
        rising = progress / protocol.rise if protocol.rise else math.inf
        return protocol.learning_rate * min(rising, (1 - progress) / (1 - protocol.rise))
    return protocol.learning_rate * (1 + math.cos(math.pi * progress)) / 2


def beta_of_epoch(weights: Weights, epoch: int, epochs: int) -> float:
    """Return beta in an epoch (counted from 1): constant, or falling from beta towards 0.

    The attention-transfer paper decays beta when it adds distillation, but names no schedule:
    linear and cosine are ours, with progress (epoch - 1) / epochs.
    """
    progress = (epoch - 1) / epochs
    if weights.beta_schedule == "linear":
        return weights.beta * (1 - progress)
    if weights.beta_schedule == "cosine":
        return weights.beta * (1 + math.cos(math.pi * progress)) / 2
    return weights.beta


def objective(
    logits: Tensor,
    features: list[Tensor],
    labels: Tensor,
    teacher_outputs: Outputs | None,
    weights: Weights,
    beta: float,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the total and its terms, not weighted, each a scalar.

    total = (1 - alpha) * cross_entropy + alpha * distillation + beta * sum of attention_<group>.
    The terms of a teacher whose weight is 0 aren't computed and don't appear.
    """
    terms = {"cross_entropy": functional.cross_entropy(logits.float(), labels)}
    total = (1 - weights.alpha) * terms["cross_entropy"]
    if teacher_outputs is not None:
        teacher_logits, teacher_features = teacher_outputs
        if weights.alpha > 0:
            terms["distillation"] = knowledge_distillation(
                logits, teacher_logits, weights.temperature, weights.kl_reduction
            )
            total = total + weights.alpha * terms["distillation"]
        if weights.beta > 0:
            groups = attention_transfer(
                features, teacher_features, weights.collapse, weights.at_mode
            )
            terms |= {f"attention_{group}": term for group, term in enumerate(groups, start=1)}
            total = total + beta * groups.sum()
    return total, terms


def fit(
    model: WideResNet,
    dataset: Dataset,
    protocol: Protocol,
    weights: Weights,
    teacher: WideResNet | Tensor | None,
    seed: int,
    resume: Path | None,
    fingerprint: str,
    report: Callable[[str], None],
    stop_asked: Callable[[], bool] = lambda: False,
    engine: Engine = PLAIN,
    time_is_up: Callable[[], bool] = lambda: False,
) -> list[Row]:
    """Train `model` in place and return one row per epoch.

    Teacher and student see the same views of each image. After every epoch, and when it is asked to
    stop within one, the state goes to `resume`, from where a run with the same `fingerprint` goes
    on and ends with the same bits.

    Args:
        model: the network, on the device of `dataset`.
        dataset: both splits on one device; the test split is measured each epoch, and decides
            nothing.
        protocol: optimizer, schedule, augmentation.
        weights: the objective.
        teacher: a trained network in evaluation mode, or a table of its logits (see Networks); used
            only if `weights` need it.
        seed: decides order, crops and flips (not the initialisation, which the caller draws).
        resume: where the state is kept between epochs; None keeps none.
        fingerprint: identifies arguments, data and code of the run.
        report: takes one line per epoch.
        stop_asked: asked after each step whether to stop.
        engine: precision of the networks, compiled or not; losses are in float32.
        time_is_up: asked after each epoch whether there is none for another.

    Returns:
        Rows with epoch, learning_rate and beta of its last step, loss (the total), the terms of
        `objective` (means over the epoch's images, in training mode), train_accuracy,
        test_accuracy (fractions), test_cross_entropy, seconds, images_per_second (training only).

    Raises:
        ValueError: the weights need a teacher and there is none, or its features from a table.
        FloatingPointError: a loss isn't finite.
        KeyboardInterrupt: `stop_asked` or `time_is_up` said yes, and the state is kept.
    """
    if weights.needs_teacher and teacher is None:
        raise ValueError("alpha or beta is above 0, but there is no teacher")
    if weights.beta > 0 and isinstance(teacher, Tensor):
        raise ValueError("beta is above 0, but a table has the teacher's logits only; allowed: 0")
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=protocol.learning_rate,
        momentum=protocol.momentum,
        nesterov=protocol.nesterov,
        weight_decay=protocol.weight_decay,
        fused=True,
    )
    networks = Networks(model, teacher if weights.needs_teacher else None, engine)
    history, sums = [], EpochSums()
    if resume:
        history, sums = restore(resume, fingerprint, model, optimizer, report)
    for epoch in range(len(history) + 1, protocol.epochs + 1):
        drops = protocol.schedule == "step" and epoch in protocol.milestones
        if drops and protocol.reset_momentum and not sums.steps:
            optimizer.state.clear()
        started = time.perf_counter() - sums.seconds
        model.train()
        for _ in train_epoch(networks, dataset, protocol, weights, seed, epoch, optimizer, sums):
            if stop_asked():
                sums.seconds = time.perf_counter() - started
                if resume:
                    store(resume, fingerprint, model, optimizer, history, sums)
                raise KeyboardInterrupt(
                    f"in epoch {epoch} of {protocol.epochs}, after step {sums.steps}"
                )
        # Reads what the last step has computed: a GPU is waited for before the time is taken.
        row = epoch_row(sums, epoch, beta_of_epoch(weights, epoch, protocol.epochs), dataset)
        seconds = time.perf_counter() - started
        row |= measure_test_split(model, dataset)
        row |= {"seconds": seconds, "images_per_second": len(dataset.train.labels) / seconds}
        history.append(row)
        report(progress_line(history, protocol.epochs))
        sums = EpochSums()
        if resume:
            store(resume, fingerprint, model, optimizer, history, sums)
        if stop_asked():
            raise KeyboardInterrupt(f"after epoch {epoch} of {protocol.epochs}")
        if time_is_up() and epoch < protocol.epochs:
            raise KeyboardInterrupt(f"after epoch {epoch} of {protocol.epochs}: time is up")
    return history


def train_epoch(
    networks: Networks,
    dataset: Dataset,
    protocol: Protocol,
    weights: Weights,
    seed: int,
    epoch: int,
    optimizer: torch.optim.SGD,
    sums: EpochSums,
) -> Iterator[None]:
    """Train the student for the rest of an epoch (from 1), adding to `sums`; yield at each step."""
    steps = math.ceil(len(dataset.train.labels) / protocol.batch_size)
    beta = beta_of_epoch(weights, epoch, protocol.epochs)
    batches = training_batches(
        dataset, protocol.batch_size, protocol.padding, protocol.flip, epoch_generator(seed, epoch)
    )
    for images, labels, places, views in islice(batches, sums.steps, None):
        progress = ((epoch - 1) * steps + sums.steps + 0.5) / (protocol.epochs * steps)
        sums.learning_rate = learning_rate(protocol, epoch, progress)
        for group in optimizer.param_groups:
            group["lr"] = sums.learning_rate
        teacher_outputs = networks.ask_teacher(images, places, views)
        logits, features = networks.ask_student(images)
        total, terms = objective(logits, features, labels, teacher_outputs, weights, beta)
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        optimizer.step()
        correct = (logits.argmax(dim=1) == labels).double().mean()
        sums.add(len(labels), {"loss": total, **terms, "train_accuracy": correct})
        yield


def epoch_row(sums: EpochSums, epoch: int, beta: float, dataset: Dataset) -> Row:
    """Return what an epoch measured, means over its images.

    Raises:
        FloatingPointError: a loss isn't finite.
    """
    check_finite(sums.totals, epoch)
    means = {name: (term / len(dataset.train.labels)).item() for name, term in sums.terms.items()}
    return {"epoch": epoch, "learning_rate": sums.learning_rate, "beta": beta, **means}


def check_finite(totals: list[Tensor], epoch: int) -> None:
    """Raise FloatingPointError that names epoch and step of the first loss that isn't finite."""
    bad = (~torch.stack(totals).isfinite()).nonzero()
    if len(bad):
        step = int(bad[0])
        raise FloatingPointError(
            f"loss is {totals[step].item()} in epoch {epoch}, step {step + 1}; "
            f"a lower learning_rate or beta may help"
        )


def measure_test_split(model: WideResNet, dataset: Dataset) -> Row:
    """Return accuracy and cross-entropy on the test split."""
    logits = predict(model, dataset.test, dataset.mean, dataset.std, EVALUATION_BATCH)
    labels = dataset.test.labels
    return {
        "test_accuracy": top_k_accuracy(logits, labels, 1),
        "test_cross_entropy": functional.cross_entropy(logits, labels).item(),
    }


def progress_line(history: list[Row], epochs: int) -> str:
    """Say where a run stands: epoch, losses, accuracies in percent, speed, time left."""
    row = history[-1]
    attention = sum(value for name, value in row.items() if name.startswith("attention_"))
    parts = [f"epoch {row['epoch']:>3}/{epochs}", f"loss {row['loss']:.4f}"]
    if "distillation" in row or attention:
        parts.append(f"cross-entropy {row['cross_entropy']:.4f}")
    if "distillation" in row:
        parts.append(f"distillation {row['distillation']:.4f}")
    if attention:
        parts.append(f"attention {attention:.6f}")
    parts.append(f"train {row['train_accuracy']:.2%}")
    parts.append(f"test {row['test_accuracy']:.2%}")
    parts.append(f"{row['images_per_second']:,.0f} images/s")
    left = round((epochs - row["epoch"]) * row["seconds"])
    parts.append(f"{left // 3600}:{left // 60 % 60:02}:{left % 60:02} left")
    return "  ".join(parts)
