"""What train_teacher and train_student share: their flags, and a run from data to files."""

import argparse
import csv
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, astuple, dataclass
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from distillation.data.arrays import digest_arrays
from distillation.data.dataset import Dataset, check_padding, normalise, read_dataset
from distillation.device import describe_device, prepare_device
from distillation.networks import (
    Network,
    build_network,
    count_multiply_accumulates,
    count_parameters,
    initialise,
    stage_shapes,
)
from distillation.record.checkpoint import load_teacher, save_checkpoint, weights_digest
from distillation.record.digest import SCRIPTS, code_digest
from distillation.record.files import only_run_in, replacing, replacing_folder
from distillation.record.provenance import PACKAGES, describe_step, fingerprint
from distillation.settings.arguments import add_flags, add_plugin, taken
from distillation.settings.base import TermSettings
from distillation.settings.plugins import declared
from distillation.settings.training import Engine, Machine, Protocol, Run
from distillation.terms import Pair
from distillation.training.loop import fit
from distillation.training.norms import estimate_norms
from distillation.training.objective import Objective, needed_of_teacher
from distillation.training.precision import Picked, pick
from distillation.training.resume import Learner, Row, find
from distillation.training.step import Feed, Step, batch_sizes
from distillation.training.targets import read_targets

# The program whose code decides what a training gives, whichever program runs it.
TRAINER = SCRIPTS / "train_student.py"
# What all networks of a run share beside the network's settings.
SHARED = (Run, Protocol, Machine, Engine)
FILES = ("checkpoint", "history", "tensorboard", "resume")
# Columns of the history as TensorBoard shows them: what stands before the stroke is a section of
# its page. Others are terms and their parts, or weights of terms.
TAGS = {
    "train_accuracy": "accuracy/train",
    "test_accuracy": "accuracy/test",
    "cross_entropy": "cross_entropy/train",
    "test_cross_entropy": "cross_entropy/test",
    "loss": "loss/total",
    "learning_rate": "schedule/learning_rate",
    "seconds": "speed/seconds",
    "images_per_second": "speed/images_per_second",
}


@dataclass(frozen=True)
class Student:
    """One network to be trained: its terms, and the files that it writes.

    `resume` is where its state is kept between epochs; None keeps none.
    """

    terms: dict[str, TermSettings]
    checkpoint: Path
    history: Path
    tensorboard: Path | None
    resume: Path | None

    def check_files(self) -> None:
        """Refuse what couldn't be replaced when the training has ended; raise `ValueError`."""
        for file in filter(None, (self.checkpoint, self.history, self.resume)):
            if file.is_dir():
                raise ValueError(f"{file}: is a folder; allowed: a file, or nothing yet")
        events = self.tensorboard
        if events and (events.is_symlink() or (events.exists() and not events.is_dir())):
            raise ValueError(f"{events}: is no folder; allowed: a folder, or nothing yet")

    def report(self, line: str) -> None:
        """Print a line on this network."""
        print(f"{self.checkpoint.parent}: {line}", flush=True)


def add_training_flags(parser: argparse.ArgumentParser) -> None:
    """Add data, network, protocol and machine; what config.yaml says of a training."""
    parser.add_argument("--data", type=Path, required=True, help="prepared data, .npz")
    add_plugin(parser, "--network", "networks", required=True)
    for declaration in SHARED:
        add_flags(parser, declaration)


def add_student_flags(parser: argparse.ArgumentParser) -> None:
    """Add terms and files of one network."""
    flag = parser.add_argument
    flag("--checkpoint", type=Path, required=True, help="output: the network, .pt")
    flag("--history", type=Path, required=True, help="output: a row per epoch, .csv")
    flag("--tensorboard", type=Path, help="output: folder of TensorBoard events")
    flag("--resume", type=Path, help="state between epochs; removed at the end")
    add_plugin(parser, "--term", "terms", several=True)


def student_of(arguments: argparse.Namespace) -> Student:
    """Return the network that the flags of `add_student_flags` describe."""
    files = {name: getattr(arguments, name) for name in FILES}
    return Student(with_labels(arguments.term or {}), **files)


def with_labels(terms: dict[str, TermSettings]) -> dict[str, TermSettings]:
    """Return terms with the labels, which every objective has."""
    return {"labels": cast(TermSettings, declared("terms", "labels")())} | terms


def train_and_save(
    arguments: argparse.Namespace,
    students: list[Student],
    teacher: Path | None = None,
    targets: Path | None = None,
    keep_states: bool = False,
) -> None:
    """Train networks as the arguments say and write checkpoints, histories and events.

    The teacher is a checkpoint, or given by the table of its targets. Several networks see the
    same batches and the same pass of the teacher; one that has been trained by these arguments
    before, as its kept state says, is written again and not trained.

    Raises:
        ValueError, OSError, FloatingPointError, KeyboardInterrupt: see the functions called.
    """
    time_is_up = time_keeper(arguments.time_limit)
    if arguments.time_limit is not None and not all(student.resume for student in students):
        raise ValueError("time_limit is given without resume, from which a later run would go on")
    for student in students:
        student.check_files()
    protocol = taken(Protocol, arguments)
    device = prepare_device(arguments.device, arguments.threads)
    dataset = read_dataset(arguments.data)
    check_padding(protocol.padding, dataset)
    lesson = read_teacher(teacher, targets, dataset, protocol, device)
    with ExitStack() as held:
        for folder in dict.fromkeys(student.checkpoint.parent for student in students):
            held.enter_context(only_run_in(folder))
        stop_asked = held.enter_context(stop_at_signals())
        data = dataset.to(device)
        runs = [Training(student, arguments, data, lesson) for student in students]
        pick_all(runs, arguments, data)
        failures = []
        for group in at_one_place(runs):
            feed = Feed(data, protocol, lesson.teacher, group[0].picked)
            learners = [run.learner(feed) for run in group]
            try:
                fit(learners, arguments.seed, stop_asked, time_is_up)
            except FloatingPointError as error:
                failures.append(error)
            for run, learner in zip(group, learners, strict=True):
                if len(learner.history) == protocol.epochs:
                    run.save(learner, dataset, keep_states)
    if failures:
        raise failures[0]


class Lesson(NamedTuple):
    """What students learn from beside labels: a network, a table of its logits, or nothing.

    Both are on the device. `provenance` is what theirs says of it, and `plugins` are those whose
    code it runs with.
    """

    teacher: Network | Tensor | None = None
    provenance: Mapping[str, Any] = MappingProxyType({})
    plugins: Sequence[tuple[str, str]] = ()


def read_teacher(
    teacher: Path | None,
    targets: Path | None,
    dataset: Dataset,
    protocol: Protocol,
    device: torch.device,
) -> Lesson:
    """Return the teacher, or its table."""
    if teacher is not None:
        model, content = load_teacher(teacher, dataset, device)
        told = {"teacher": content["provenance"], "teacher_sha256": weights_digest(model)}
        return Lesson(model, told, [("networks", *content["network"])])
    if targets is None:
        return Lesson()
    logits, provenance = read_targets(targets, dataset, protocol)
    told = {
        "teacher": provenance.pop("teacher"), "teacher_targets": provenance,
        "teacher_sha256": digest_arrays({"logits": logits.numpy()}),
    }  # fmt: skip
    return Lesson(logits.to(device), told)


class Training:
    """A network on its way: what it is made from, and where it stands.

    Args:
        student: terms and files.
        arguments: network, protocol, machine.
        data: on the device where it is trained.
        lesson: that of all; a network without a term for it has none.
    """

    def __init__(
        self,
        student: Student,
        arguments: argparse.Namespace,
        data: Dataset,
        lesson: Lesson,
    ) -> None:
        device, size = data.train.images.device, (data.image_size, data.channels)
        self.student, self.network = student, arguments.network
        [(family, network)] = self.network.items()
        self.model = build_network(family, network, len(data.class_names), data.channels)
        generator = torch.Generator().manual_seed(arguments.seed)
        initialise(self.model, arguments.gamma_init, generator)
        self.begins = self.model.take_weights()
        self.model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        lesson = Lesson() if needed_of_teacher(student.terms) == "nothing" else lesson
        teacher = lesson.teacher if isinstance(lesson.teacher, Network) else None
        shapes = stage_shapes(teacher, *size) if teacher else []
        classes = len(data.class_names)
        pair = Pair(stage_shapes(self.model, *size), shapes, classes=classes)
        self.objective = Objective(student.terms, pair, classes).to(device)
        # Of one image: a multiply-accumulate is two operations, and the backward pass costs twice
        # the forward pass.
        self.operations = 6 * count_multiply_accumulates(self.model, *size)
        if teacher:
            self.operations += 2 * count_multiply_accumulates(teacher, *size)
        self.provenance = describe_training(arguments, student, data, lesson)
        self.identity = fingerprint(self.provenance)
        self.kept = find(student.resume, self.identity, student.report)

    def announce(
        self, arguments: argparse.Namespace, data: Dataset, picked: Picked, why: str
    ) -> None:
        """Take over how it runs, and say what is trained."""
        self.picked = picked
        self.provenance["engine"] = asdict(picked)
        images = len(data.train.labels)
        self.student.report(
            f"{self.provenance['network_title']}, {count_parameters(self.model):,} parameters, "
            f"{images:,} images, {arguments.device}, {arguments.threads} thread(s), {why}"
        )
        notes = [self.begins, *self.objective.notes, left_out(images, arguments.batch_size)]
        for note in filter(None, notes):
            self.student.report(note)

    def learner(self, feed: Feed) -> Learner:
        """Return what trains the network, where it stands."""
        if not feed.protocol.epochs:
            estimate_norms(self.model, feed.dataset, self.provenance["seed"])
        step, student = Step(self.model, self.objective, feed), self.student
        learner = Learner(step, student.report, student.resume, self.identity)
        if self.kept:
            learner.go_on(self.kept)
        return learner

    def save(self, learner: Learner, dataset: Dataset, keep_state: bool) -> None:
        """Write checkpoint, history and events; remove the state unless it is to be kept."""
        student = self.student
        save_checkpoint(student.checkpoint, self.model, self.network, dataset, self.provenance)
        write_history(student.history, learner.history)
        if student.tensorboard:
            write_events(student.tensorboard, learner.history)
        if student.resume and not keep_state:
            student.resume.unlink(missing_ok=True)


def pick_all(runs: list[Training], arguments: argparse.Namespace, data: Dataset) -> None:
    """Decide how each network runs, and say so: as it has begun, else as picked now.

    The precision is that of a network that has begun, else measured once for all. What compiling
    gains is measured once as well; whether a run is long enough for it is decided for each by
    itself, by the same rule as if it were trained alone.
    """
    engine = taken(Engine, arguments)
    begun = [run.kept.picked for run in runs if run.kept]
    if begun and engine.precision == "auto":
        engine = engine.model_copy(update={"precision": begun[0].precision})
    batch = normalise(data.train.images[: arguments.batch_size], data.mean, data.std)
    images = len(data.train.labels) * arguments.epochs
    fresh = [run for run in runs if not run.kept]
    costs = [run.operations * images for run in fresh]
    found = iter(pick(engine, fresh[0].model, batch, costs) if fresh else ())
    for run in runs:
        picked, why = (run.kept.picked, run.kept.picked.words) if run.kept else next(found)
        run.announce(arguments, data, picked, why)


def at_one_place(runs: list[Training]) -> list[list[Training]]:
    """Group runs that stand at the same step and run alike; those that are least far go first."""
    groups: dict[Any, list[Training]] = {}
    for run in runs:
        place = run.kept.place if run.kept else (0, 0)
        groups.setdefault((place, astuple(run.picked)), []).append(run)
    return [groups[key] for key in sorted(groups)]


def describe_training(
    arguments: argparse.Namespace, student: Student, data: Dataset, lesson: Lesson
) -> dict[str, Any]:
    """Return the provenance of a training, without what is picked later.

    It is the same whether a network is trained alone or beside others.
    """
    [(family, network)] = arguments.network.items()
    names = [name for kind in SHARED for name in kind.model_fields]
    own = {name: getattr(arguments, name) for name in names}
    told = argparse.Namespace(network=arguments.network, term=student.terms, **own)
    terms = (("terms", name) for name in student.terms)
    plugins = {("networks", family), *terms, *lesson.plugins}
    begins = {"weights_sha256": network.identity()} if network.identity() else {}
    return describe_step(
        told, PACKAGES, plugins, data_sha256=data.sha256, network_title=network.title,
        code_digest=code_digest(TRAINER), **describe_device(data.train.images.device), **begins,
        **lesson.provenance,
    )  # fmt: skip


def left_out(images: int, batch_size: int) -> str:
    """Say that an epoch leaves out an image, if it does."""
    left = images > sum(batch_sizes(images, batch_size))
    return "each epoch leaves out its last image: batch norm needs two in a batch" if left else ""


def time_keeper(
    limit: float | None, clock: Callable[[], float] = time.monotonic
) -> Callable[[], bool]:
    """Make the function that tells, at each epoch's end, whether another might not fit.

    An epoch is taken to last as long as the longest so far, with what came before the first.

    Args:
        limit: minutes from now; None: no limit.
        clock: seconds from any moment on.
    """
    ends = [clock()]

    def time_is_up() -> bool:
        ends.append(clock())
        longest = max(end - start for start, end in pairwise(ends))
        return limit is not None and ends[-1] + longest > ends[0] + 60 * limit

    return time_is_up


@contextmanager
def stop_at_signals() -> Iterator[Callable[[], bool]]:
    """Turn SIGTERM and SIGINT into a wish to stop; yield the function that tells whether there is.

    A signal that the process was told to ignore (nohup) stays ignored.
    """
    received, before = [], {}
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, lambda number, _: received.append(number))
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def write_history(path: Path, history: list[Row]) -> None:
    """Write one row per epoch as CSV; accuracies are fractions, times seconds."""
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(history[0]) if history else ["epoch", *TAGS])
        writer.writeheader()
        writer.writerows(history)


def write_events(folder: Path, history: list[Row]) -> None:
    """Write the history as TensorBoard events into a folder, which is replaced as a whole.

    Their times are those of the epochs' ends, as if the run had trained without a break until now.
    """
    # Imported here: it takes a second, which --help and bad flags need not wait for.
    from torch.utils.tensorboard.writer import SummaryWriter

    with replacing_folder(folder) as temporary, SummaryWriter(str(temporary)) as writer:
        clock = time.time() - sum(row["seconds"] for row in history)
        for row in history:
            clock += row["seconds"]
            for name in [name for name in row if name != "epoch"]:
                section = "schedule" if name.endswith("_weight") else "loss"
                tag = TAGS.get(name, f"{section}/{name}")
                writer.add_scalar(tag, row[name], int(row["epoch"]), walltime=clock)
