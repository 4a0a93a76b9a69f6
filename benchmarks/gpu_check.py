r"""Check on a card what only a card can show, and write it as JSON.

Whether a step gives the same bits run eagerly, as a CUDA graph, beside those of other students, and
gone on with from a kept state; how many images per second each way trains, and in how much memory;
what the chain's own scripts take, from the start of their processes; what is picked by itself.
Images are noise, made here: no file is read. Each piece runs in a process of its own: one that
fails is written down as its error, and the others go on; what there is no time for is left out, and
said so. It ends with 1 where bits differ or couldn't be compared.

    python benchmarks/gpu_check.py --json gpu_check.json

The whole environment isn't needed. Beside torch, numpy, scipy (for measure_attention) and
tensorboard (for train_students), which a machine with a card may have already, these are enough:

    packages="annotated-types|pydantic|pydantic-core|safetensors|typing-extensions|typing-inspection"
    python -m pip install --no-deps --target packages \
        $(grep -oE "^($packages)==[^ ]+" requirements.lock)
    PYTHONPATH=packages python benchmarks/gpu_check.py --json gpu_check.json

Where the machine has no network, another one can install them: with --only-binary :all: and
--python-version of the Python there.
"""

import argparse
import itertools
import json
import multiprocessing
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, cast

import arms
import torch
from arms import KD, MEAN, STD, WRN_16_2, WRN_40_2, Arm, wrn
from gpu_chain import Chain
from pydantic import Field
from torch import Tensor

from distillation.data.dataset import Dataset, normalise
from distillation.device import images_per_pass, prepare_device
from distillation.measuring.accuracy import predict
from distillation.networks import count_multiply_accumulates
from distillation.record.files import replacing
from distillation.settings.arguments import Parser, add_flags, run, taken
from distillation.settings.base import Settings, checked
from distillation.settings.training import Engine
from distillation.training.loop import EVALUATION_BATCH
from distillation.training.precision import Picked, pick, steps_beyond
from distillation.training.step import Together

PRECISIONS: tuple[Literal["float32", "bfloat16"], ...] = ("float32", "bfloat16")
# Beside those of the other benchmark: AT alone, and every term of this project in one objective.
ARMS = arms.ARMS | {
    "AT": Arm(WRN_16_2, WRN_40_2, {"labels": {}, "at": {"weight": 1000}}),
    # With weights by which noise doesn't diverge.
    "all terms": Arm(
        WRN_16_2, WRN_40_2,
        KD | {"at": {"weight": 1}, **{name: {"weight": 1e-4} for name in
                                      ("hint", "sp", "rkd", "dkd", "dist")}},
    ),
}  # fmt: skip
# Of every further family, with layers that others don't have.
FAMILIES = {
    "resnet": {"depth": 8},
    "vgg": {"depth": 8},
    "mobilenet_v2": {},
    "shufflenet_v1": {},
    "shufflenet_v2": {},
    "torchvision": {"model": "mobilenet_v3_small"},
}
ARMS |= {family: Arm({family: settings}) for family, settings in FAMILIES.items()}
BASELINE, TEACHER = "baseline (WRN-16-2)", "teacher (WRN-40-2)"
# The students of a seed, and as many that no teacher holds up.
FOUR = [BASELINE, "KD", "AT", "AT+KD"]
BASELINES = [BASELINE] * 4
TITLES = {tuple(FOUR): "four students of a seed", tuple(BASELINES): "4 baselines"}
BITS = (FOUR, ["all terms"])
# In order of weight; eagerly only the first few are timed, as a measure of what a graph gains, and
# compiled all but the last.
SPEEDS = [[BASELINE], FOUR, BASELINES, ["AT+KD"], ["KD"], [TEACHER], ["AT"]]
EAGER = 2


Part = Literal["picked", "same_bits", "chain", "speed", "evaluation", "textbook"]


class Check(Settings):
    """How the check runs."""

    device: Literal["cpu", "cuda"] = Field("cuda", description="a CPU has no graphs")
    seconds: int = Field(340, ge=0, description="until what is left is left out")
    small: bool = Field(False, description="tiny networks and data, to try the check itself")
    compile: bool = Field(True, description="time compiled steps, which takes longest")
    skip: list[Part] = Field(["textbook"], description="parts; textbook needs torchvision")
    only: list[str] = Field([], description="pieces with one of these in their part's or own name")
    workers: int = Field(8, ge=0, description="processes of the textbook's DataLoader")


class Scale(Settings):
    """Sizes of what is trained and timed."""

    steps: int = 100
    turns: int = 3
    train: int = 50_000
    test: int = 10_000
    chain_train: int = 12_800
    chain_test: int = 2_000
    side: int = arms.SIZE
    batch: int = arms.BATCH
    bit_steps: int = 10
    last_batch: int = 40


SMALL = Scale(steps=2, turns=1, train=100, test=20, chain_train=64, chain_test=20, side=8, batch=8,
              bit_steps=3, last_batch=5)  # fmt: skip
# Of an epoch, as the figures are given that one compares.
EPOCH = 50_000
# Seconds in which a device tells its name.
MACHINE = 60
# A process that has imported everything, and hasn't started CUDA, is copied for each piece.
FORK = multiprocessing.get_context("fork")


class Checker:
    """The pieces of the check. Nothing touches the device but in a process of a piece's own.

    Args:
        check: how it runs.
        folder: where the chain's scripts write.
    """

    def __init__(self, check: Check, folder: Path) -> None:
        self.check, self.folder = check, folder
        self.scale = SMALL if check.small else Scale()
        self.cuda = check.device == "cuda"
        self.protocol = arms.PROTOCOL.model_copy(update={"batch_size": self.scale.batch})

    @cached_property
    def device(self) -> torch.device:
        """Return the device, which starts CUDA."""
        return prepare_device(self.check.device, 1)

    def machine(self) -> dict[str, Any]:
        """Return what figures are measured on."""
        return arms.describe_machine(self.device) | {
            "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version(),
            "small": self.check.small,
        }  # fmt: skip

    def arm(self, name: str) -> arms.Arm:
        """Return an arm, tiny if the check is small."""
        arm = ARMS[name]
        if not self.check.small:
            return arm
        if "wrn" not in arm.student:
            return arm
        return replace(arm, student=wrn(10, 1), teacher=arm.teacher and wrn(16, 1))

    def students(self, names: list[str], data: Dataset, picked: Picked, seed: int = 0) -> Together:
        """Return the steps of arms."""
        chosen = [self.arm(name) for name in names]
        return arms.make_students(chosen, data, picked, self.protocol, seed)

    def steps_beyond(self, name: str) -> bool:
        """Return whether a map of an arm's student is smaller than the stride that it meets."""
        network = arms.make_network(self.arm(name).student, self.device)
        return steps_beyond(network, torch.zeros(1, 3, self.scale.side, self.scale.side))

    def dataset(self, train: int, test: int = 2) -> Dataset:
        """Return a data set of noise on the device."""
        side = self.scale.side
        splits = (arms.noise(*each, self.device) for each in ((train, side, 1), (test, side, 2)))
        return arms.make_dataset(*splits)

    def picks(self) -> dict[str, str]:
        """Return what is picked for a short run and a long one, and why."""
        model, side = arms.make_network(WRN_16_2, self.device), self.scale.side
        seen = normalise(arms.noise(self.scale.batch, side, 3, self.device).images, MEAN, STD)
        each = 6 * count_multiply_accumulates(model, side, 3) * 50_000
        runs = {f"{epochs} epochs of WRN-16-2": epochs * each for epochs in (1, 200)}
        # On a CPU trying it takes longer than all else.
        asked = {} if self.cuda and self.check.compile else {"compile": "off"}
        picked = pick(checked(Engine, asked), model, seen, [*runs.values()])
        return {name: why for name, (_, why) in zip(runs, picked, strict=True)}

    def same_bits(self, names: list[str], picked: Picked) -> dict[str, Any]:
        """Train students eagerly, by graphs, and with a stop between; tell what differs.

        Several students train together, and are compared with themselves alone.
        """
        if not self.cuda and any(map(self.steps_beyond, names)):
            # A CPU's gradients in bfloat16 would be wrong.
            picked = replace(picked, precision="float32")
        scale, ways = self.scale, {"again": picked, "resumed": picked}
        if self.cuda:
            graph = replace(picked, graph=True)
            ways |= {"captured": graph, "captured and resumed": graph}
        data = self.dataset(scale.bit_steps * scale.batch + scale.last_batch)

        def trained(picked: Picked, stop: int | None, names: list[str]) -> dict[str, Tensor]:
            return train(lambda seed: self.students(names, data, picked, seed), stop)

        first = {
            key.replace("0.", f"{place}.", 1): tensor
            for place, name in enumerate(names)
            for key, tensor in trained(picked, None, [name]).items()
        }
        if not all(tensor.isfinite().all() for tensor in first.values()):
            raise FloatingPointError("it diverged, after which bits say nothing")
        result: dict[str, Any] = {"steps": scale.bit_steps + 1, "tensors": len(first)}
        for way, how in ways.items():
            stop = scale.bit_steps // 2 if "resumed" in way else None
            result[way] = compared(first, trained(how, stop, names))
        result["same"] = all(result[way]["same"] for way in ways)
        return result

    def speed(self, names: list[str], picked: Picked) -> dict[str, Any]:
        """Return images per second of full batches, the time until the first, and memory.

        An image that several students see counts once, but in `images_per_second_of_all`.
        """
        together = self.students(names, self.dataset(self.scale.train), picked)
        together.begin(0, 1)
        sizes = together.remaining()
        started = arms.seconds_of(lambda: together(next(sizes)), self.device)
        # Eager steps take so long that one turn is enough.
        turns = self.scale.turns if picked.graph else 1
        result = self.timed(lambda: together(next(sizes)), turns)
        finite = all(int(step.bad_step) < 0 for step in together.steps)
        speed = result["images_per_second"]
        return result | {
            "images_per_second_of_all": len(names) * speed,
            f"seconds_of_{EPOCH}_images": round(EPOCH / speed, 2),
            "seconds_of_first_step": started, "loss_is_finite": finite,
        }  # fmt: skip

    def timed(self, action: Callable[[], object], turns: int) -> dict[str, Any]:
        """Return images per second of an action that trains on a batch, and memory."""
        scale, speeds = self.scale, []
        for _ in range(scale.steps // 10):
            action()
        for _ in range(turns):
            seconds = arms.seconds_of(lambda: [action() for _ in range(scale.steps)], self.device)
            speeds.append(scale.steps * scale.batch / seconds)
        result = {"images_per_second": round(statistics.median(speeds)),
                  "turns": [round(speed) for speed in speeds]}  # fmt: skip
        if self.cuda:
            result["peak_bytes_allocated"] = torch.cuda.max_memory_allocated()
            result["peak_bytes_reserved"] = torch.cuda.max_memory_reserved()
        return result

    def textbook(self, name: str) -> dict[str, Any]:
        """Return images per second of the textbook loop, of which one turn is long enough."""
        from training_step import textbook_steps

        split = arms.noise(self.scale.train, self.scale.side, 1, torch.device("cpu"))
        workers, batch = self.check.workers, self.scale.batch
        steps = textbook_steps(self.arm(name), split, self.device, workers, batch)
        return self.timed(lambda: next(steps), 1)

    def evaluation(self, depth: int) -> dict[str, float]:
        """Return the seconds that a network takes for the test images, the least of three."""
        model = arms.make_network(wrn(depth, 1 if self.check.small else 2), self.device)
        split = self.dataset(2, self.scale.test).test
        images = images_per_pass(EVALUATION_BATCH, self.scale.side, self.device)
        seconds = [
            arms.seconds_of(lambda: predict(model, split, MEAN, STD, images), self.device)
            for _ in range(4)
        ]
        return {"seconds": min(seconds[1:]), "first": seconds[0], "images": self.scale.test}

    def chain(self) -> Iterable[tuple[str, Callable[[], Any]]]:
        """Yield the pieces that run the chain's scripts: name and function, in their order."""
        scale, check = self.scale, self.check
        chain = Chain(self.folder, check.device, check.small)
        sizes = scale.chain_train, scale.chain_test, scale.side
        yield "data", partial(chain.write_data, *sizes)
        yield "train_teacher", chain.train_teacher
        if self.cuda and check.compile:
            yield "train_student, compiled, cold", partial(chain.train_student, "cold", "on")
            yield "train_student, compiled, warm", partial(chain.train_student, "warm", "on")
        yield "train_students", chain.train_students
        yield "tabulate_targets", chain.tabulate_targets
        yield "evaluate", chain.evaluate
        yield "measure_attention", chain.measure_attention

    def pieces(self) -> Iterable[tuple[Part, str, Callable[[], Any]]]:
        """Yield part, name and function, in order of weight."""
        compiled = self.cuda and self.check.compile
        yield "picked", "auto", self.picks
        for names, precision in itertools.product(BITS, PRECISIONS):
            run = partial(self.same_bits, names, Picked(precision))
            yield "same_bits", f"{title(names)}, {precision}", run
        for name, function in self.chain():
            yield "chain", name, function
        ways = {}
        if compiled:
            ways["captured and compiled"] = Picked("bfloat16", True, True), SPEEDS[:-1]
        if self.cuda:
            ways["captured"] = Picked("bfloat16", graph=True), SPEEDS
        ways["eager"] = Picked("bfloat16"), SPEEDS[:EAGER]
        for way, (picked, all_names) in ways.items():
            for names in all_names:
                yield "speed", f"{title(names)}, {way}", partial(self.speed, names, picked)
        for depth in (10,) if self.check.small else (16, 40):
            yield "evaluation", f"depth {depth}", partial(self.evaluation, depth)
        if compiled:
            run = partial(self.same_bits, ["AT+KD"], Picked("bfloat16", compiled=True))
            yield "same_bits", "AT+KD, compiled", run
        for family in FAMILIES:
            yield "same_bits", family, partial(self.same_bits, [family], Picked("bfloat16"))
        for name in (BASELINE, TEACHER, "KD", "AT+KD"):
            yield "textbook", name, partial(self.textbook, name)


def title(names: list[str]) -> str:
    """Return what students are called together."""
    return TITLES.get(tuple(names), " beside ".join(names))


def apart(function: Callable[[], Any], seconds: float) -> Any:
    """Return what a function returns in a process of its own, or its error.

    The process and what it has started end with this call.
    """
    receiver, sender = FORK.Pipe(duplex=False)
    process = FORK.Process(target=tell, args=(function, sender))
    process.start()
    sender.close()
    try:
        if receiver.poll(seconds):
            return receiver.recv()
        return {"error": "time is up"}
    except EOFError:
        process.join()
        return {"error": f"the process ended with {process.exitcode}"}
    finally:
        process.kill()
        with suppress(ProcessLookupError):
            os.killpg(cast(int, process.pid), signal.SIGKILL)
        process.join()


def tell(function: Callable[[], Any], sender: Connection) -> None:
    """Send what a function returns, or its error, from a process that leads a group."""
    os.setsid()
    try:
        sender.send(function())
    # Whatever it is, it belongs into the report.
    except Exception as error:
        sender.send({"error": f"{type(error).__name__}: {str(error)[:2000]}"})


def train(make: Callable[[int], Together], stop: int | None) -> dict[str, Tensor]:
    """Train an epoch, with other students that take the state over after `stop` steps."""
    together = make(0)
    together.begin(0, 1)
    for size in [*together.remaining()][:stop]:
        together(size)
    if stop:
        kept = state_of(together)
        # Their first weights are others.
        together = make(1)
        for name, tensor in together.state().items():
            tensor.copy_(kept[name])
        together.begin(0, 1, resumed=True)
        for size in together.remaining():
            together(size)
    return state_of(together)


def state_of(together: Together) -> dict[str, Tensor]:
    """Return a copy of all that steps change, on the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in together.state().items()}


def compared(first: dict[str, Tensor], second: dict[str, Tensor]) -> dict[str, Any]:
    """Tell whether two states are the same to the bit, and if not, what differs and how far."""
    differing = {
        name: (tensor.double() - second[name].double()).abs().max().item()
        for name, tensor in first.items()
        if not torch.equal(tensor, second[name])
    }
    if not differing:
        return {"same": True}
    worst = max(differing, key=lambda name: differing[name])
    return {"same": False, "tensors_that_differ": len(differing), "most": worst,
            "by": differing[worst]}  # fmt: skip


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(__doc__)
    add_flags(parser, Check)
    parser.add_argument("--json", type=Path, required=True, help="output, .json")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Run all pieces, writing the JSON after each."""
    arguments = parse_args(argv)
    check = taken(Check, arguments)
    deadline = time.monotonic() + check.seconds
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        # What is compiled is found again by the next piece, and not from an earlier check.
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = f"{folder}/compiled"
        checker = Checker(check, Path(folder))
        found["machine"] = apart(checker.machine, MACHINE)
        print(json.dumps(found["machine"]), flush=True)
        unmet = {*check.only}
        for part, name, function in checker.pieces():
            asked = [text for text in check.only or [""] if text in f"{part}, {name}"]
            if part in check.skip or not asked:
                continue
            unmet -= {*asked}
            started = time.monotonic()
            left_out = {"left_out": f"{check.seconds} seconds are over"}
            left = deadline - started
            result = apart(function, left) if left > 0 else left_out
            found.setdefault(part, {})[name] = result
            spent = time.monotonic() - started
            print(f"{spent:5.1f} s  {part}, {name}: {json.dumps(result)}", flush=True)
            with replacing(arguments.json) as file:
                file.write_text(json.dumps(found, indent=2) + "\n")
    if unmet:
        names = ", ".join(map(repr, sorted(unmet)))
        raise ValueError(f"--only {names}: no piece has it in the name of its part or own")
    if found.keys() == {"machine"}:
        raise ValueError(f"--skip {' '.join(check.skip)}: no piece is left")
    same = [each.get("same", False) for each in found.get("same_bits", {}).values()]
    if not all(same):
        sys.exit(f"gpu_check.py: {same.count(False)} of {len(same)} trainings: no same bits")


if __name__ == "__main__":
    run(main)
