"""What a captured step relies on, shown without a GPU: nothing is read back, all is put back.

Of CUDA, graphs and streams are stand-ins: a capture runs nothing and notes what it is of, and a
replay runs that. The steps, the state and the loop are the real ones.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from distillation.data.dataset import Dataset
from distillation.networks import Dropout, Network, initialise
from distillation.settings import plugins
from distillation.training.loop import fit
from distillation.training.precision import Picked
from distillation.training.resume import Learner, find
from distillation.training.schedules import learning_rate
from distillation.training.step import Step, Together
from learners import (
    ALL,
    BASELINE,
    KD,
    PROTOCOL,
    STEPS,
    changed,
    make_feed,
    make_step,
    network,
    numbers,
    teacher_network,
)
from test_networks import build

WRONG = {"labels": {}, "at": {"weight": 1e39}}
STUDENTS = {"baseline": BASELINE, "all": ALL, "wrong": WRONG, "dropping": KD}
# Of each family one network, and torchvision's whose dropout is drawn anew in each pass.
NETWORKS: dict[str, dict[str, Any]] = {
    "wrn": {"depth": 10, "width": 1},
    "resnet": {"depth": 8},
    "vgg": {"depth": 8},
    "mobilenet_v2": {},
    "shufflenet_v1": {},
    "shufflenet_v2": {},
    "torchvision": {"model": "mobilenet_v3_small"},
}


class NothingRead(TorchDispatchMode):
    """Refuses operations that a graph can't hold, or whose replays would differ from a run."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, unless it is refused."""
        found = sorted(tag.name for tag in func.tags if tag in REFUSED)
        # Places are whole numbers; a mask has to be counted first.
        if func.overloadpacket in INDEXING:
            masks = [each for each in args[1] if each is not None and each.dtype == torch.bool]
            found = ["a mask"] * bool(masks)
        # A number becomes a tensor on the CPU, to be copied to the device.
        found += ["a new tensor"] if "lift_fresh" in func.name() else []
        assert not found, f"{func.name()}: {', '.join(found)}"
        return func(*args, **(kwargs or {}))


INDEXING = (torch.ops.aten.index, torch.ops.aten.index_put, torch.ops.aten.index_put_)
REFUSED = (
    torch.Tag.data_dependent_output,
    torch.Tag.dynamic_output_shape,
    torch.Tag.nondeterministic_seeded,
)


@pytest.mark.parametrize(
    "read",
    [
        lambda each: each.nonzero(),
        lambda each: each.masked_select(each > 0),
        lambda each: each[each > 0],
        lambda each: each.sum().item(),
        lambda each: each.unique(),
        torch.rand_like,
        lambda each: torch.tensor(2.0) * each,
    ],
)
def test_what_is_refused(read: Any) -> None:
    """What waits for a value, or draws from torch's generator, is noticed."""
    with pytest.raises(AssertionError), NothingRead():
        read(torch.ones(3))


@pytest.mark.parametrize("term", plugins.names("terms"))
def test_no_term_reads_back(digits: Dataset, term: str) -> None:
    """A step with any term, its optimizer and its sums, runs without a look at a value."""
    settings = {"labels": {"smoothing": 0.1}} | ({} if term == "labels" else {term: {}})
    together = Together([make_step(make_feed(digits, teacher=teacher_network()), settings)])
    together.begin(0, 1)
    together(10)
    with NothingRead():
        for size in (10, 10, 2):
            together(size)


@pytest.mark.parametrize("family", NETWORKS)
def test_no_network_reads_back(digits: Dataset, family: str) -> None:
    """A step of any family, dropout included, runs without a look at a value."""
    together = Together([make_step(make_feed(digits), BASELINE, dropping(family))])
    together.begin(0, 1)
    together(10)
    with NothingRead():
        for size in (10, 2):
            together(size)


def test_every_family_is_tried() -> None:
    """The networks above are of all families."""
    assert {*NETWORKS} == {*plugins.names("networks")}


def dropping(family: str = "wrn") -> Network:
    """Return a fresh network for the digits; WRN's classifier drops some of its inputs here."""
    model = build(family, 10, 1, **NETWORKS[family])
    if family == "wrn":
        model.classifier = torch.nn.Sequential(Dropout(0.3), model.get_submodule("classifier"))
    initialise(model, "uniform", torch.Generator().manual_seed(0))
    return model


class Stream:
    """A stand-in for a stream: it notes for whom it waits."""

    def __init__(self) -> None:
        self.waited: list[Stream] = []

    def wait_stream(self, other: "Stream") -> None:
        """Note that what follows here comes after what the other has now."""
        self.waited.append(other)


class Graph:
    """A stand-in for a graph: a replay runs the steps that a capture noted."""

    def __init__(self) -> None:
        self.steps: list[tuple[Together, int]] = []
        self.memory: object = None

    def pool(self) -> object:
        """Return the memory that the graph uses."""
        return self.memory

    def replay(self) -> None:
        """Run what was captured."""
        for together, size in self.steps:
            LEARN(together, size)


LEARN = Together.learn


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[Graph]:
    """Put stand-ins into the place of CUDA's graphs and streams; return the graphs captured."""
    captured: list[Graph] = []
    streams = [Stream()]

    @contextmanager
    def on(stream: Stream) -> Iterator[None]:
        streams.append(stream)
        yield
        streams.pop()

    def learn(together: Together, size: int) -> None:
        if isinstance(streams[-1], Capture):
            streams[-1].graph.steps.append((together, size))
        else:
            LEARN(together, size)

    class Capture(Stream):
        def __init__(self, graph: Graph) -> None:
            super().__init__()
            self.graph = graph

    @contextmanager
    def capture(graph: Graph, pool: object = None) -> Iterator[None]:
        graph.memory = pool or object()
        captured.append(graph)
        # Gradients of before would lie outside the graph's memory.
        with on(Capture(graph)):
            yield

    for name, value in {
        "Stream": Stream, "stream": on, "CUDAGraph": Graph, "graph": capture,
        "current_stream": lambda: streams[-1],
    }.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(Together, "learn", learn)
    return captured


def learners(dataset: Dataset, picked: Picked, folder: Path | None = None) -> list[Learner]:
    """Return students side by side, gone on from their states if there are any."""
    feed = make_feed(dataset, changed(milestones=[2]), teacher_network(), picked)
    found = []
    for name, settings in STUDENTS.items():
        model = dropping() if name == "dropping" else network()
        resume = folder and folder / name
        learner = Learner(make_step(feed, settings, model), [].append, resume, name)
        if kept := find(resume, name, print):
            learner.go_on(kept)
        found.append(learner)
    return found


def trained(dataset: Dataset, picked: Picked) -> list[tuple[dict[str, Tensor], Any]]:
    """Return the end of all students, one of whom diverges."""
    students = learners(dataset, picked)
    with pytest.raises(FloatingPointError, match="in epoch 1, step 1; "):
        fit(students, 0, lambda: False, lambda: False)
    return end_of(students)


@pytest.fixture(scope="module")
def eager(digits: Dataset) -> list[tuple[dict[str, Tensor], Any]]:
    """Return the end of all students whose steps are run one by one."""
    return trained(digits, Picked())


def end_of(students: list[Learner]) -> list[tuple[dict[str, Tensor], Any]]:
    """Return state and history of students, without the one that diverges."""
    return [
        (learner.step.state(), numbers(learner.history))
        for learner, name in zip(students, STUDENTS, strict=True)
        if name != "wrong"
    ]


def assert_same(one: list[Any], two: list[Any]) -> None:
    """Check that states have the same bits, and histories the same numbers."""
    for (state, history), (other, rows) in zip(one, two, strict=True):
        torch.testing.assert_close(state, other, rtol=0, atol=0)
        assert history == rows
        assert len(history) == PROTOCOL.epochs


def test_replays_end_as_eager_steps(digits: Dataset, eager: list[Any], graphs: list[Graph]) -> None:
    """Captures leave the state as it was: weights, momenta, sums, dropout's passes, counter.

    There is one for each size of batch, in one memory, and again once a student has diverged.
    """
    assert_same(trained(digits, Picked(graph=True)), eager)
    assert [graph.steps[0][1] for graph in graphs] == [10, 2, 10, 2]
    assert [len(graph.steps[0][0].steps) for graph in graphs] == [4, 4, 3, 3]
    assert graphs[0].memory is graphs[1].memory
    assert graphs[1].memory is not graphs[2].memory


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("steps", [1, STEPS - 1, STEPS + 2])
def test_resumed_replays_end_as_eager_steps(
    digits: Dataset, eager: list[Any], graphs: list[Graph], tmp_path: Path, steps: int, first: bool
) -> None:
    """A run that was stopped after any step goes on to the same bits, captured or not."""
    asked = iter(range(1, 4 * STEPS))

    def stop() -> bool:
        return next(asked) == steps + (steps > STEPS)

    with pytest.raises(KeyboardInterrupt):
        fit(learners(digits, Picked(graph=first), tmp_path), 0, stop, lambda: False)
    graphs.clear()
    students = learners(digits, Picked(graph=not first), tmp_path)
    with pytest.raises((FloatingPointError, KeyboardInterrupt)):
        fit(students, 0, lambda: False, lambda: False)
    assert bool(graphs) is not first
    assert_same(end_of(students), eager)


def test_students_wait_for_what_they_need(digits: Dataset, graphs: list[Graph]) -> None:
    """On streams of their own, one without a teacher doesn't wait for it, and all are waited for.

    The bits are those of one after the other.
    """
    ends = []
    for streams in ([], [Stream(), Stream()]):
        feed = make_feed(digits, teacher=teacher_network())
        together = Together([make_step(feed, each) for each in (KD, BASELINE)])
        together.streams = streams  # type: ignore[assignment]
        together.begin(0, 1)
        for size in together.remaining():
            together(size)
        ends.append(together.state())
        main = torch.cuda.current_stream()
        assert all(stream.waited == [main] * STEPS for stream in streams)
        if streams:
            assert main.waited == streams * STEPS  # type: ignore[attr-defined]
    torch.testing.assert_close(*ends, rtol=0, atol=0)
    assert not graphs


def test_one_without_a_teacher_comes_first(digits: Dataset) -> None:
    """The teacher is asked after the students that don't need it, and not for them alone."""
    for settings, expected in (
        ((KD, BASELINE, ALL), ["student 1", "teacher", "student 0", "student 2"]),
        ((BASELINE,), ["student 0"]),
    ):
        teacher, seen = teacher_network(), []
        feed = make_feed(digits, teacher=teacher)
        steps = [make_step(feed, each) for each in settings]
        teacher.register_forward_pre_hook(lambda *_, seen=seen: seen.append("teacher"))
        for place, step in enumerate(steps):
            step.student.register_forward_pre_hook(
                lambda *_, seen=seen, place=place: seen.append(f"student {place}")
            )
        together = Together(steps)
        together.begin(0, 1)
        together(10)
        assert seen == expected


def test_rate_of_the_history_is_the_planned_one(digits: Dataset) -> None:
    """It doesn't come from the device, where it may be of lower precision."""
    step: Step = make_step(make_feed(digits), BASELINE)
    step.begin(1)
    step.rate.fill_(0.1)
    last = (STEPS - 0.5) / (PROTOCOL.epochs * STEPS)
    assert step.row(1)["learning_rate"] == learning_rate(PROTOCOL, 1, last)
