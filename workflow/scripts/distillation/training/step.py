"""One step of a training, as a function of state that lies on the device.

Nothing in a step reads a value back or branches on one: the same step runs eagerly, compiled, and
as a captured graph, whose replays need no input. Letters: N training images, B images of a batch,
V views of an image, K classes.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from distillation.data.dataset import (
    Dataset,
    augment,
    draw_epoch,
    epoch_generator,
    normalise,
    view_number,
)
from distillation.networks import Network, Outputs
from distillation.settings.training import Protocol
from distillation.training.objective import Objective
from distillation.training.precision import Picked
from distillation.training.schedules import drops_at, learning_rate, weight_of_epoch

NOTHING = Outputs(torch.empty(0), [])


class Batch(NamedTuple):
    """Images (B, C, H, W), labels (B,) and what the teacher says of the images."""

    images: Tensor
    labels: Tensor
    teacher: Outputs


class Feed:
    """What students learn from: batches of an epoch, with the teacher's outputs.

    Args:
        dataset: on one device.
        protocol: size of the batches, augmentation.
        teacher: a trained network in evaluation mode, a table of its logits (N, V, K) for all views
            of the training images, or None where no term needs one.
        picked: how the teacher runs.
    """

    def __init__(
        self,
        dataset: Dataset,
        protocol: Protocol,
        teacher: Network | Tensor | None,
        picked: Picked,
    ) -> None:
        device, count = dataset.train.images.device, len(dataset.train.labels)
        self.dataset, self.protocol, self.picked = dataset, protocol, picked
        self.table = teacher if isinstance(teacher, Tensor) else None
        self.teacher = None if isinstance(teacher, Tensor) else teacher
        self.run_teacher = picked.prepared(self.teacher)
        self.sizes = batch_sizes(count, protocol.batch_size)
        # An epoch: order of the images and their views; and how many of its steps are done.
        self.order = torch.zeros(count, dtype=torch.long, device=device)
        self.offsets = torch.zeros(count, 2, dtype=torch.long, device=device)
        self.flips = torch.zeros(count, dtype=torch.bool, device=device)
        self.counter = torch.zeros((), dtype=torch.long, device=device)
        self.span = torch.arange(protocol.batch_size, device=device)
        self.mean, self.std = (
            torch.tensor(each, device=device) for each in (dataset.mean, dataset.std)
        )

    def begin(self, seed: int, epoch: int) -> None:
        """Draw an epoch's (from 1) order and views."""
        count, protocol = len(self.order), self.protocol
        drawn = draw_epoch(count, protocol.padding, protocol.flip, epoch_generator(seed, epoch))
        for place, values in zip((self.order, self.offsets, self.flips), drawn, strict=True):
            place.copy_(values)

    def __call__(self, size: int) -> Batch:
        """Return the next `size` images of the epoch; the counter stays where it is."""
        places = self.counter * self.protocol.batch_size + self.span[:size]
        picked = self.order[places]
        offsets, flips = self.offsets[places], self.flips[places]
        source = self.dataset.train
        seen = augment(source.images[picked], self.protocol.padding, offsets, flips)
        images = normalise(seen, self.mean, self.std)
        views = view_number(self.protocol.padding, offsets, flips)
        return Batch(images, source.labels[picked], self.ask(images, picked, views))

    def ask(self, images: Tensor, places: Tensor, views: Tensor) -> Outputs:
        """Return the teacher's outputs for a batch; a table has no stages, no teacher nothing.

        Args:
            images: (B, C, H, W), normalised.
            places: (B,) of the images in the training split.
            views: (B,) numbers of the views that `images` are.
        """
        if self.table is not None:
            return Outputs(self.table[places, views], [])
        if self.teacher is None:
            return NOTHING
        with torch.no_grad(), self.picked.autocast(images.device):
            return self.run_teacher(images)

    def example(self) -> Batch:
        """Return one image as it is, with its label and the teacher's outputs."""
        images, labels = self.dataset.train.images[:1], self.dataset.train.labels[:1]
        place = torch.zeros(1, dtype=torch.long, device=images.device)
        seen = normalise(images, self.mean, self.std)
        with self.picked.eagerly():
            return Batch(seen, labels, self.ask(seen, place, place))


class Step:
    """A student's step: batch, terms, gradients, optimizer, sums.

    Args:
        student: the network that learns, on the device of the feed's data.
        objective: the terms, on the same device.
        feed: the batches; several students may share it.
        protocol: optimizer and schedule.
        picked: precision of the network, compiled or not; terms are in float32.
    """

    def __init__(
        self,
        student: Network,
        objective: Objective,
        feed: Feed,
        protocol: Protocol,
        picked: Picked,
    ) -> None:
        device = feed.order.device
        self.student, self.objective, self.feed = student, objective, feed
        self.protocol, self.picked = protocol, picked
        self.run_student = picked.prepared(student)
        # Of what is summed beside loss, cross_entropy and train_accuracy.
        self.names = self.probe_names()
        # The fused optimizer reads a rate in double precision on a CPU, in single on a GPU.
        double = torch.float64 if device.type == "cpu" else torch.float32
        self.rates = torch.zeros(len(feed.sizes), dtype=double, device=device)
        self.weights = torch.zeros(len(objective.settings), device=device)
        # Sums over images, and the first loss that isn't finite.
        self.sums = torch.zeros(3 + len(self.names), dtype=torch.float64, device=device)
        self.bad_step = torch.full((), -1, dtype=torch.long, device=device)
        self.bad_loss = torch.zeros((), device=device)
        self.rate = torch.zeros((), dtype=double, device=device)
        self.optimizer = torch.optim.SGD(
            [*student.parameters(), *objective.parameters()],
            lr=self.rate,
            momentum=protocol.momentum,
            nesterov=protocol.nesterov,
            weight_decay=protocol.weight_decay,
            fused=True,
        )
        if protocol.momentum:
            # There from the start, at the addresses that a graph will know: 0 is what the first
            # step begins with.
            for parameter in self.optimizer.param_groups[0]["params"]:
                self.optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)

    def probe_names(self) -> list[str]:
        """Return a name for each term, and for each part of a term of several parts."""
        training = self.student.training
        self.student.eval()
        images, labels, teacher = self.feed.example()
        with torch.no_grad():
            weights = torch.zeros(len(self.objective.settings), device=images.device)
            with self.picked.eagerly():
                student = self.student(images)
            _, values = self.objective(student, teacher, labels, weights)
        self.student.train(training)
        return [column for name, value in values.items() for column in columns(name, value)]

    def momenta(self) -> list[Tensor]:
        """Return the momentum buffers in the order of the parameters."""
        parameters = self.optimizer.param_groups[0]["params"]
        states = (self.optimizer.state[parameter] for parameter in parameters)
        return [state["momentum_buffer"] for state in states if "momentum_buffer" in state]

    def state(self) -> dict[str, Tensor]:
        """Return all that steps change, by name; to be written to in place."""
        modules = {"student": self.student, "terms": self.objective}
        named = {
            f"{whose}.{name}": tensor
            for whose, module in modules.items()
            for name, tensor in module.state_dict().items()
        }
        named |= {f"momentum.{place}": each for place, each in enumerate(self.momenta())}
        named |= {name: getattr(self, name) for name in ("sums", "bad_step", "bad_loss")}
        return named | {"counter": self.feed.counter}

    def begin(self, epoch: int, resumed: bool = False) -> None:
        """Set an epoch's (from 1) rates and weights.

        Unless the run was stopped in this epoch and goes on, its sums begin at 0.
        """
        protocol, steps = self.protocol, len(self.rates)
        done = ((epoch - 1) * steps + place + 0.5 for place in range(steps))
        total = protocol.epochs * steps
        rates = [learning_rate(protocol, epoch, each / total) for each in done]
        self.rates.copy_(torch.tensor(rates, dtype=torch.float64))
        settings = self.objective.settings.values()
        weights = [weight_of_epoch(term, epoch, protocol.epochs) for term in settings]
        self.weights.copy_(torch.tensor(weights, dtype=torch.float64))
        if resumed:
            return
        self.sums.zero_()
        self.bad_step.fill_(-1)
        if drops_at(protocol, epoch):
            for momentum in self.momenta():
                momentum.zero_()

    def learn(self, batch: Batch) -> None:
        """Train on a batch of the feed."""
        images, labels, teacher = batch
        with self.picked.autocast(images.device):
            student = self.run_student(images)
        total, values = self.objective(student, teacher, labels, self.weights)
        self.rate.copy_(self.rates.index_select(0, self.feed.counter[None])[0])
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        self.optimizer.step()
        self.add(total.detach(), student.logits.detach(), labels, values)

    def add(self, total: Tensor, logits: Tensor, labels: Tensor, values: dict[str, Tensor]) -> None:
        """Add what a step measured to the sums, on the device."""
        parts = [each for value in values.values() for each in sum_and_parts(value.detach())]
        measured = [
            total,
            functional.cross_entropy(logits.float(), labels),
            (logits.argmax(dim=1) == labels).double().mean(),
            *parts,
        ]
        self.sums += torch.stack([each.double() for each in measured]) * len(labels)
        first = ~total.isfinite() & (self.bad_step < 0)
        self.bad_step.copy_(torch.where(first, self.feed.counter, self.bad_step))
        self.bad_loss.copy_(torch.where(first, total, self.bad_loss))

    def row(self, epoch: int) -> dict[str, float]:
        """Return what an epoch measured, means over its images.

        Raises:
            FloatingPointError: a loss wasn't finite.
        """
        if (step := int(self.bad_step)) >= 0:
            weights = " or ".join(f"weight of {name}" for name in self.objective.settings)
            raise FloatingPointError(
                f"loss is {self.bad_loss.item()} in epoch {epoch}, step {step + 1}; "
                f"a lower learning_rate or {weights} may help"
            )
        names = ["loss", "cross_entropy", "train_accuracy", *self.names]
        means = dict(zip(names, (self.sums / sum(self.feed.sizes)).tolist(), strict=True))
        weights = {
            f"{name}_weight": weight_of_epoch(term, epoch, self.protocol.epochs)
            for name, term in self.objective.settings.items()
        }
        return {"epoch": epoch, "learning_rate": self.rate.item(), **means, **weights}


class Together:
    """The steps of one or more students that share a feed: one batch, one pass of the teacher.

    On a GPU each of several students learns on a stream of its own, beside the others.
    """

    def __init__(self, steps: list[Step]) -> None:
        self.steps, self.feed = steps, steps[0].feed
        on_gpu = self.feed.order.device.type == "cuda"
        self.streams = [torch.cuda.Stream() for _ in steps] if on_gpu and len(steps) > 1 else []

    def state(self) -> dict[str, Tensor]:
        """Return all that steps change, by name; to be written to in place."""
        return {
            f"{place}.{name}": tensor
            for place, step in enumerate(self.steps)
            for name, tensor in step.state().items()
        }

    def begin(self, seed: int, epoch: int, resumed: bool = False) -> None:
        """Begin an epoch (from 1), or go on with one that the run was stopped in."""
        self.feed.begin(seed, epoch)
        if not resumed:
            self.feed.counter.zero_()
        for step in self.steps:
            step.begin(epoch, resumed)

    def remaining(self) -> Iterator[int]:
        """Yield the sizes of the batches that the epoch has left."""
        yield from self.feed.sizes[int(self.feed.counter) :]

    def __call__(self, size: int) -> None:
        """Train all students on the next `size` images of the epoch."""
        batch = self.feed(size)
        if self.streams:
            main = torch.cuda.current_stream()
            for step, stream in zip(self.steps, self.streams, strict=True):
                stream.wait_stream(main)
                with torch.cuda.stream(stream):
                    step.learn(batch)
            for stream in self.streams:
                main.wait_stream(stream)
        else:
            for step in self.steps:
                step.learn(batch)
        self.feed.counter += 1


def columns(name: str, value: Tensor) -> list[str]:
    """Return the names of a term and, where there are several, of its parts, from 1."""
    parts = range(1, value.numel() + 1) if value.numel() > 1 else ()
    return [name, *(f"{name}_{part}" for part in parts)]


def sum_and_parts(value: Tensor) -> list[Tensor]:
    """Return a term's value and, where there are several, its parts."""
    return [value.sum(), *(value.unbind() if value.numel() > 1 else ())]


def batch_sizes(count: int, batch_size: int) -> list[int]:
    """Return the sizes of an epoch's batches; a last one of a single image is left out.

    Batch norm has no variance over a single value.

    Raises:
        ValueError: there are fewer than two images.
    """
    if count < 2:
        raise ValueError(f"found {count} training image; allowed: at least 2")
    sizes = [batch_size] * (count // batch_size)
    rest = count - len(sizes) * batch_size
    return [*sizes, rest] if rest > 1 or not sizes else sizes
