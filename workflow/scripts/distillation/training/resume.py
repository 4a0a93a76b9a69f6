"""A student on its way: what is kept of its training, and goes on from."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from distillation.record.checkpoint import load_plain, save_plain
from distillation.training.precision import Picked
from distillation.training.step import Step

# What an epoch measured, by name: a row of the history.
Row = dict[str, float]


@dataclass(frozen=True)
class Kept:
    """The state of an unfinished run: what was picked, and where it stands.

    `seconds` are those of the epoch that it stopped in, 0 between epochs.
    """

    picked: Picked
    history: list[Row]
    seconds: float
    tensors: dict[str, Any]

    @property
    def place(self) -> tuple[int, int]:
        """Epochs, and steps of the next, that are done."""
        # Until the next epoch begins, the counter has the steps of the last.
        return len(self.history), int(self.tensors["counter"]) if self.seconds else 0


@dataclass
class Learner:
    """A student on its way.

    Args:
        step: what trains it.
        report: takes one line per epoch.
        resume: where its state is kept between epochs; None keeps none.
        fingerprint: identifies arguments, data and code of the run.
        history: of the epochs that are done.
        seconds: of the epoch that it was stopped in, 0 between epochs.
    """

    step: Step
    report: Callable[[str], None] = print
    resume: Path | None = None
    fingerprint: str = ""
    history: list[Row] = field(default_factory=list)
    seconds: float = 0

    def keep(self) -> None:
        """Write the state whole or not at all, if it is to be kept."""
        if self.resume:
            save_plain(self.resume, {
                "fingerprint": self.fingerprint, "picked": asdict(self.step.picked),
                "history": self.history, "seconds": self.seconds,
                "tensors": {name: each.cpu() for name, each in self.step.state().items()},
            })  # fmt: skip

    def go_on(self, kept: Kept) -> None:
        """Take a state over, into the step's own tensors."""
        for name, tensor in self.step.state().items():
            tensor.copy_(kept.tensors[name])
        self.history, self.seconds = [*kept.history], kept.seconds
        done, steps = kept.place
        within = f" and step {steps} of the next" if kept.seconds else ""
        self.report(f"going on after epoch {done}{within}")


def find(path: Path | None, fingerprint: str, report: Callable[[str], None]) -> Kept | None:
    """Return the state of an unfinished run of the same fingerprint, if there is one.

    A state that can't be read or belongs to another run is renamed to `<name>.unused`, and said so.
    """
    if path is None or not path.is_file():
        return None
    try:
        content = load_plain(path)
        if content["fingerprint"] != fingerprint:
            raise ValueError("it belongs to a run with other arguments, data or code, or elsewhere")
        names = ("history", "seconds", "tensors")
        return Kept(Picked(**content["picked"]), *(content[name] for name in names))
    except (ValueError, TypeError, KeyError) as error:
        aside = path.with_name(f"{path.name}.unused")
        path.replace(aside)
        report(f"{path} isn't used ({error}); kept as {aside}; starting at epoch 1")
        return None
