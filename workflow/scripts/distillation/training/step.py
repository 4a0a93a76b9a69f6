"""One step of a training, as a function of state that lies on the device.

Nothing in a step reads a value back or branches on one: the same step runs eagerly, compiled, and
as a captured graph, whose replays need no input. Letters: N training images, B images of a batch,
V views of an image, K classes.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from itertools import compress
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torch.optim.sgd import sgd

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
from distillation.training.objective import Objective, needed_of_teacher
from distillation.training.precision import Picked
from distillation.training.schedules import drops_at, learning_rate, weight_of_epoch

# Runs before a capture, in which libraries choose their kernels and allocate what they keep.
WARM_UP = 3


class Batch(NamedTuple):
    """Images (B, C, H, W), labels (B,), and what the teacher says of the images once it is asked.

    `drawn`: places (B,) of the images in the training split, offsets and flips.
    """

    images: Tensor
    labels: Tensor
    drawn: tuple[Tensor, ...]
    teacher: Outputs


class Feed:
    """What students learn from: batches of an epoch, with the teacher's outputs.

    Args:
        dataset: on one device.
        protocol: size of the batches, augmentation; optimizer and schedule of the students.
        teacher: a trained network in evaluation mode, a table of its logits (N, V, K) for all views
            of the training images, or None where no term needs one.
        picked: how the networks run.
    """

    def __init__(
        self,
        dataset: Dataset,
        protocol: Protocol,
        teacher: Network | Tensor | None,
        picked: Picked,
    ) -> None:
        self.dataset, self.protocol, self.teacher, self.picked = dataset, protocol, teacher, picked
        self.device = dataset.train.images.device
        self.run_teacher = None
        if isinstance(teacher, Network):
            # What is compiled stays so, and students that run otherwise may follow.
            self.run_teacher = picked.prepared(deepcopy(teacher) if picked.compiled else teacher)
        self.sizes = batch_sizes(len(dataset.train.labels), protocol.batch_size)
        # An epoch: order of the images, their offsets and flips; and how many steps are done.
        self.drawn = [each.to(self.device) for each in self.draw(0, 1)]
        self.counter = torch.zeros((), dtype=torch.long, device=self.device)
        self.span = torch.arange(protocol.batch_size, device=self.device)
        self.mean, self.std = (
            torch.tensor(each, device=self.device) for each in (dataset.mean, dataset.std)
        )

    def draw(self, seed: int, epoch: int) -> tuple[Tensor, Tensor, Tensor]:
        """Draw an epoch's (from 1) order and views, on the CPU."""
        count, protocol = len(self.dataset.train.labels), self.protocol
        return draw_epoch(count, protocol.padding, protocol.flip, epoch_generator(seed, epoch))

    def begin(self, seed: int, epoch: int) -> None:
        """Put an epoch's order and views where steps find them."""
        for place, values in zip(self.drawn, self.draw(seed, epoch), strict=True):
            place.copy_(values)

    def __call__(self, size: int) -> Batch:
        """Return the next `size` images of the epoch; the counter stays where it is."""
        source, padding = self.dataset.train, self.protocol.padding
        places = self.counter * self.protocol.batch_size + self.span[:size]
        shown, offsets, flips = drawn = tuple(each[places] for each in self.drawn)
        seen = augment(source.images[shown], padding, self.protocol.crop_border, offsets, flips)
        images, unasked = normalise(seen, self.mean, self.std), Outputs(torch.empty(0), [])
        return Batch(images, source.labels[shown], drawn, unasked)

    def taught(self, batch: Batch) -> Batch:
        """Return a batch with the teacher's outputs; they have no stages if it is a table."""
        if isinstance(self.teacher, Tensor):
            shown, offsets, flips = batch.drawn
            view = view_number(self.protocol.padding, offsets, flips)
            return batch._replace(teacher=Outputs(self.teacher[shown, view], []))
        if self.run_teacher is None:
            return batch
        with torch.no_grad(), self.picked.autocast(self.device):
            return batch._replace(teacher=self.run_teacher(batch.images))


class Step:
    """A student's step: batch, terms, gradients, optimizer, sums.

    Args:
        student: the network that learns, on the device of the feed's data.
        objective: the terms, on the same device; they are in float32, whatever the networks run in.
        feed: the batches; several students may share it.
    """

    def __init__(self, student: Network, objective: Objective, feed: Feed) -> None:
        device = feed.device
        self.student, self.objective, self.feed = student, objective, feed
        self.needs_teacher = needed_of_teacher(objective.settings) != "nothing"
        self.protocol, self.picked = feed.protocol, feed.picked
        self.run_student = self.picked.prepared(student)
        self.parameters = [*student.parameters(), *objective.parameters()]
        # There from the start, at addresses that a graph knows; SGD's first step begins with 0.
        buffers = self.parameters if self.protocol.momentum else []
        self.momenta = [torch.zeros_like(each) for each in buffers]
        # The fused optimizer reads a rate in double precision on a CPU, in single on a GPU.
        double = torch.float64 if device.type == "cpu" else torch.float32
        # As planned, they are the same numbers on every device.
        self.planned = [0.0] * len(feed.sizes)
        self.rates = torch.zeros(len(feed.sizes), dtype=double, device=device)
        self.rate = torch.zeros((), dtype=double, device=device)
        self.weights = torch.zeros(len(objective.settings), device=device)
        # Sums over images, and the first loss that isn't finite.
        self.columns = ["loss", "cross_entropy", "train_accuracy", *objective.columns]
        self.sums = torch.zeros(len(self.columns), dtype=torch.float64, device=device)
        self.bad_step = torch.full((), -1, dtype=torch.long, device=device)
        self.bad_loss = torch.zeros((), device=device)

    def state(self) -> dict[str, Tensor]:
        """Return all that steps change, by name; to be written to in place."""
        modules = {"student": self.student, "terms": self.objective}
        named = {
            f"{whose}.{name}": tensor
            for whose, module in modules.items()
            # Buffers that are no part of the weights, as dropout's, stand beside them.
            for name, tensor in (module.state_dict() | dict(module.named_buffers())).items()
        }
        named |= {f"momentum.{place}": each for place, each in enumerate(self.momenta)}
        named |= {name: getattr(self, name) for name in ("sums", "bad_step", "bad_loss", "rate")}
        return named | {"counter": self.feed.counter}

    def begin(self, epoch: int, resumed: bool = False) -> None:
        """Set an epoch's (from 1) rates and weights.

        Unless the run was stopped in this epoch and goes on, its sums begin at 0.
        """
        protocol, steps = self.protocol, len(self.rates)
        done = ((epoch - 1) * steps + place + 0.5 for place in range(steps))
        total = protocol.epochs * steps
        self.planned = [learning_rate(protocol, epoch, each / total) for each in done]
        self.rates.copy_(torch.tensor(self.planned, dtype=torch.float64))
        weights = [*self.weights_of(epoch).values()]
        self.weights.copy_(torch.tensor(weights, dtype=torch.float64))
        if resumed:
            return
        self.sums.zero_()
        self.bad_step.fill_(-1)
        if drops_at(protocol, epoch):
            for momentum in self.momenta:
                momentum.zero_()

    def weights_of(self, epoch: int) -> dict[str, float]:
        """Return the weights of the terms in an epoch (from 1)."""
        terms, epochs = self.objective.settings, self.protocol.epochs
        return {name: weight_of_epoch(term, epoch, epochs) for name, term in terms.items()}

    def learn(self, batch: Batch) -> None:
        """Train on a batch of the feed."""
        images, labels, _, teacher = batch
        with self.picked.autocast(self.feed.device):
            student = self.run_student(images)
        total, measured = self.objective(student, teacher, labels, self.weights)
        self.forget_gradients()
        total.backward()
        self.rate.copy_(self.rates.index_select(0, self.feed.counter[None])[0])
        self.update()
        logits, total = student.logits.detach(), total.detach()
        values = [
            total,
            functional.cross_entropy(logits.float(), labels),
            (logits.argmax(dim=1) == labels).double().mean(),
            *(each.detach() for each in measured.values()),
        ]
        self.sums += torch.stack([each.double() for each in values]) * len(labels)
        first = ~total.isfinite() & (self.bad_step < 0)
        self.bad_step.copy_(torch.where(first, self.feed.counter, self.bad_step))
        self.bad_loss.copy_(torch.where(first, total, self.bad_loss))

    def forget_gradients(self) -> None:
        """Drop the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def update(self) -> None:
        """Move the parameters that have a gradient, by SGD.

        By its function: making a torch.optim.SGD loads torch's compiler, which takes as long as
        importing torch.
        """
        used = [parameter.grad is not None for parameter in self.parameters]
        sgd(
            [*compress(self.parameters, used)],
            [each.grad for each in self.parameters if each.grad is not None],
            [*compress(self.momenta, used)],
            fused=True, lr=self.rate, momentum=self.protocol.momentum, dampening=0, maximize=False,
            nesterov=self.protocol.nesterov, weight_decay=self.protocol.weight_decay,
        )  # fmt: skip

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
        means = zip(self.columns, (self.sums / sum(self.feed.sizes)).tolist(), strict=True)
        weights = {f"{name}_weight": weight for name, weight in self.weights_of(epoch).items()}
        return {"epoch": epoch, "learning_rate": self.planned[-1], **dict(means), **weights}


class Together:
    """The steps of students that share a feed: one batch, one pass of the teacher.

    On a GPU each of several students learns on a stream of its own, beside the others. Where a
    graph is picked, the whole is captured once for each size of batch, so that the card doesn't
    wait for Python: a replay does the same, on the same state and with the same kernels.
    """

    def __init__(self, steps: list[Step]) -> None:
        self.steps, self.feed = steps, steps[0].feed
        several_on_gpu = self.feed.device.type == "cuda" and len(steps) > 1
        self.streams = [torch.cuda.Stream() for _ in steps] if several_on_gpu else []
        self.graphs: dict[int, torch.cuda.CUDAGraph] = {}

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
        if not self.feed.picked.graph:
            return self.learn(size)
        if size not in self.graphs:
            self.graphs[size] = self.capture(size)
        return self.graphs[size].replay()

    def learn(self, size: int) -> None:
        """Train all students, eagerly or into a graph."""
        # Compiling for a second size of batch takes as long as for the first, for a step an epoch.
        full = size == self.feed.protocol.batch_size
        with nullcontext() if full else self.feed.picked.eagerly():
            self.learn_from(self.feed(size))

    def learn_from(self, batch: Batch) -> None:
        """Train all students on a batch, each on a stream of its own if they have some."""
        free, asking = (
            [place for place, step in enumerate(self.steps) if step.needs_teacher is needs]
            for needs in (False, True)
        )
        # Those that need no teacher don't wait for its pass.
        for place in free:
            with self.beside(place):
                self.steps[place].learn(batch)
        if asking:
            batch = self.feed.taught(batch)
        for place in asking:
            with self.beside(place):
                self.steps[place].learn(batch)
        for stream in self.streams:
            torch.cuda.current_stream().wait_stream(stream)
        self.feed.counter += 1

    def beside(self, place: int) -> AbstractContextManager[object]:
        """Return the context in which a student's stream goes on from what is known so far."""
        if not self.streams:
            return nullcontext()
        self.streams[place].wait_stream(torch.cuda.current_stream())
        return torch.cuda.stream(self.streams[place])

    def capture(self, size: int) -> torch.cuda.CUDAGraph:
        """Return the graph of a step of `size` images, leaving the state as it was."""
        state = self.state()
        before = {name: tensor.clone() for name, tensor in state.items()}
        stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                # The last batch of an epoch has no images after it.
                self.feed.counter.copy_(before["0.counter"])
                self.learn(size)
        torch.cuda.current_stream().wait_stream(stream)
        # Gradients are to be allocated in the graph's own memory.
        self.forget_gradients()
        # Replays come one after the other, and what is kept lies outside: one memory serves all.
        pool = next((each.pool() for each in self.graphs.values()), None)
        with torch.cuda.graph(graph, pool=pool):
            self.learn(size)
        self.forget_gradients()
        for name, tensor in state.items():
            tensor.copy_(before[name])
        return graph

    def forget_gradients(self) -> None:
        """Drop the gradients of all students."""
        for step in self.steps:
            step.forget_gradients()


def batch_sizes(count: int, batch_size: int) -> list[int]:
    """Return the sizes of an epoch's batches; a last one of a single image is left out.

    Batch norm has no variance over a single value.

    Raises:
        ValueError: there are fewer than two images.
    """
    if count < 2:
        raise ValueError(f"found {count} training image; allowed: at least 2")
    sizes = [batch_size] * (count // batch_size)
    rest = count % batch_size
    return [*sizes, rest] if rest > 1 else sizes
