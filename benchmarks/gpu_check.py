r"""Check on a card what only a card can show, and write it as JSON.

Whether a step gives the same bits run eagerly, as a CUDA graph, beside those of other students, and
gone on with from a kept state; how many images per second each way trains, and in how much memory;
how long the test images take; what is picked by itself. Images are noise, made here: no file is
read. A part that fails is written down as its error, and the others go on; what there is no time
for is left out, and said so. It ends with 1 where bits differ.

    python benchmarks/gpu_check.py --json gpu_check.json
"""

import argparse
import gc
import itertools
import json
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import arms
import torch
from arms import MEAN, STD
from pydantic import Field
from torch import Tensor

from distillation.data.dataset import Dataset, normalise
from distillation.device import prepare_device
from distillation.measuring.accuracy import predict
from distillation.networks import count_multiply_accumulates
from distillation.record.files import replacing
from distillation.settings.arguments import Parser, add_flags, run, taken
from distillation.settings.base import Settings, checked
from distillation.settings.training import Engine
from distillation.training.precision import Picked, pick
from distillation.training.step import Together

PRECISIONS: tuple[Literal["float32", "bfloat16"], ...] = ("float32", "bfloat16")
# Students that train together.
SIDE_BY_SIDE = ["baseline (WRN-16-2)", "KD", "AT+KD"]
BITS = (["baseline (WRN-16-2)"], ["AT+KD"], SIDE_BY_SIDE)
SPEEDS = (["baseline (WRN-16-2)"], ["teacher (WRN-40-2)"], ["KD"], ["AT+KD"], SIDE_BY_SIDE)
# Images of a pass over the test split, as in training.
EVALUATION_BATCH = 1000


class Check(Settings):
    """How the check runs."""

    device: Literal["cpu", "cuda"] = Field("cuda", description="a CPU has no graphs")
    seconds: int = Field(330, ge=1, description="until what is left is left out")
    small: bool = Field(False, description="tiny networks and data, to try the check itself")
    compile: bool = Field(True, description="time compiled steps, which takes longest")
    textbook: bool = Field(False, description="time the textbook loop too; needs torchvision")
    workers: int = Field(8, ge=0, description="processes of the textbook's DataLoader")


class Scale(Settings):
    """Sizes of what is trained and timed."""

    steps: int = 100
    turns: int = 3
    train: int = 50_000
    test: int = 10_000
    side: int = arms.SIZE
    batch: int = arms.BATCH
    bit_steps: int = 30
    last_batch: int = 40


SMALL = Scale(steps=2, turns=2, train=100, test=20, side=8, batch=8, bit_steps=3, last_batch=5)


class Checker:
    """The parts of the check: `found` is what is written, added to as they run."""

    def __init__(self, check: Check) -> None:
        self.check = check
        self.scale = SMALL if check.small else Scale()
        self.device = prepare_device(check.device, 1)
        self.cuda = self.device.type == "cuda"
        self.deadline = time.monotonic() + check.seconds
        self.found: dict[str, Any] = {}
        self.protocol = arms.PROTOCOL.model_copy(update={"batch_size": self.scale.batch})

    def arm(self, name: str) -> arms.Arm:
        """Return an arm, tiny if the check is small."""
        arm = arms.ARMS[name]
        if not self.check.small:
            return arm
        return replace(arm, depth=10, teacher=arm.teacher and 16, width=1)

    def students(self, names: list[str], data: Dataset, picked: Picked, seed: int = 0) -> Together:
        """Return the steps of arms."""
        chosen = [self.arm(name) for name in names]
        return arms.make_students(chosen, data, picked, self.protocol, seed)

    def dataset(self, train: int, test: int = 2) -> Dataset:
        """Return a data set of noise on the device."""
        side = self.scale.side
        splits = (arms.noise(*each, self.device) for each in ((train, side, 1), (test, side, 2)))
        return arms.make_dataset(*splits)

    def attempt(self, part: str, name: str, function: Callable[[], Any]) -> None:
        """Write down what a function returns, or its error, or that there was no time for it."""
        into = self.found.setdefault(part, {})
        started = time.monotonic()
        left = self.deadline - started
        if left <= 0:
            into[name] = {"left_out": f"{self.check.seconds} seconds are over"}
        else:
            signal.setitimer(signal.ITIMER_REAL, left)
            try:
                into[name] = function()
            # Whatever it is, the other parts may still work.
            except Exception as error:
                into[name] = {"error": f"{type(error).__name__}: {str(error)[:2000]}"}
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        gc.collect()
        if self.cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        spent = time.monotonic() - started
        print(f"{spent:5.1f} s  {part}, {name}: {json.dumps(into[name])}", flush=True)

    def picks(self) -> dict[str, str]:
        """Return what is picked for a short run and a long one, and why."""
        model, side = arms.make_network(16, self.device), self.scale.side
        seen = normalise(arms.noise(self.scale.batch, side, 3, self.device).images, MEAN, STD)
        each = 6 * count_multiply_accumulates(model, side, 3) * 50_000
        runs = {f"{epochs} epochs of WRN-16-2": epochs * each for epochs in (1, 200)}
        engine = checked(Engine, {})
        return {name: pick(engine, model, seen, cost)[1] for name, cost in runs.items()}

    def same_bits(self, names: list[str], picked: Picked) -> dict[str, Any]:
        """Train students eagerly, by graphs, and with a stop between; tell what differs.

        Several students train together, and are compared with themselves alone.
        """
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
        result: dict[str, Any] = {"steps": scale.bit_steps + 1, "tensors": len(first)}
        for way, how in ways.items():
            stop = scale.bit_steps // 2 if "resumed" in way else None
            result[way] = compared(first, trained(how, stop, names))
        result["same"] = all(result[way]["same"] for way in ways)
        return result

    def speed(self, names: list[str], picked: Picked, data: Dataset) -> dict[str, Any]:
        """Return images per second of full batches, the time until the first, and memory."""
        together = self.students(names, data, picked)
        together.begin(0, 1)
        sizes = together.remaining()
        started = arms.seconds_of(lambda: together(next(sizes)), self.device)
        result = self.timed(lambda: together(next(sizes)))
        finite = all(int(step.bad_step) < 0 for step in together.steps)
        return result | {"seconds_of_first_step": started, "loss_is_finite": finite}

    def timed(self, action: Callable[[], object]) -> dict[str, Any]:
        """Return images per second of an action that trains on a batch, and memory."""
        scale, speeds = self.scale, []
        for _ in range(scale.steps // 10):
            action()
        for _ in range(scale.turns):
            seconds = arms.seconds_of(lambda: [action() for _ in range(scale.steps)], self.device)
            speeds.append(scale.steps * scale.batch / seconds)
        result = {"images_per_second": round(statistics.median(speeds)),
                  "turns": [round(speed) for speed in speeds]}  # fmt: skip
        if self.cuda:
            result["peak_bytes_allocated"] = torch.cuda.max_memory_allocated()
            result["peak_bytes_reserved"] = torch.cuda.max_memory_reserved()
        return result

    def textbook(self, name: str) -> dict[str, Any]:
        """Return images per second of the textbook loop."""
        from training_step import textbook_steps

        split = arms.noise(self.scale.train, self.scale.side, 1, torch.device("cpu"))
        workers, batch = self.check.workers, self.scale.batch
        steps = textbook_steps(self.arm(name), split, self.device, workers, batch)
        return self.timed(lambda: next(steps))

    def evaluation(self, depth: int) -> dict[str, float]:
        """Return the seconds that a network takes for the test images, the least of three."""
        model = arms.make_network(depth, self.device, 1 if self.check.small else 2)
        split, images = self.dataset(2, self.scale.test).test, EVALUATION_BATCH
        seconds = [
            arms.seconds_of(lambda: predict(model, split, MEAN, STD, images), self.device)
            for _ in range(4)
        ]
        return {"seconds": min(seconds[1:]), "first": seconds[0], "images": self.scale.test}

    def parts(self) -> Iterable[tuple[str, str, Callable[[], Any]]]:
        """Yield part, name and function, in order of weight."""
        yield "picked", "auto", self.picks
        for names, precision in itertools.product(BITS, PRECISIONS):
            yield (
                "same_bits", f"{' beside '.join(names)}, {precision}",
                partial(self.same_bits, names, Picked(precision)),
            )  # fmt: skip
        for depth in (10,) if self.check.small else (16, 40):
            yield "evaluation", f"depth {depth}", partial(self.evaluation, depth)
        data = self.dataset(self.scale.train)
        ways = {"eager": Picked("bfloat16")}
        if self.cuda:
            ways["captured"] = Picked("bfloat16", graph=True)
            if self.check.compile:
                ways["captured and compiled"] = Picked("bfloat16", compiled=True, graph=True)
        for (way, picked), names in itertools.product(ways.items(), SPEEDS):
            yield (
                "speed", f"{' beside '.join(names)}, {way}",
                partial(self.speed, names, picked, data),
            )  # fmt: skip
        if self.cuda and self.check.compile:
            compiled = Picked("bfloat16", compiled=True)
            yield "same_bits", "AT+KD, compiled", partial(self.same_bits, ["AT+KD"], compiled)
        for names in SPEEDS[:-1] if self.check.textbook else ():
            yield "speed", f"{names[0]}, textbook", partial(self.textbook, names[0])


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


def time_is_up(*_: object) -> None:
    """End the part that is running."""
    raise TimeoutError("time is up")


def main(argv: list[str] | None = None) -> None:
    """Run all parts, writing the JSON after each."""
    arguments = parse_args(argv)
    check = taken(Check, arguments)
    checker = Checker(check)
    checker.found["machine"] = arms.describe_machine(checker.device) | {
        "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version(), "small": check.small,
    }  # fmt: skip
    print(json.dumps(checker.found["machine"]), flush=True)
    signal.signal(signal.SIGALRM, time_is_up)
    for part, name, function in checker.parts():
        checker.attempt(part, name, function)
        with replacing(arguments.json) as file:
            file.write_text(json.dumps(checker.found, indent=2) + "\n")
    same = [each.get("same", False) for each in checker.found["same_bits"].values()]
    if not all(same):
        sys.exit(f"gpu_check.py: {same.count(False)} of {len(same)} trainings: no same bits")


if __name__ == "__main__":
    run(main)
