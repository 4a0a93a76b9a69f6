"""What an unfinished training keeps, and goes on from."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
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
    def within(self) -> bool:
        """Whether it stopped within an epoch."""
        return self.seconds > 0

    def put_back(self, step: Step, report: Callable[[str], None]) -> list[Row]:
        """Write the state into a step's tensors, in place; return the history so far."""
        for name, tensor in step.state().items():
            tensor.copy_(self.tensors[name])
        done = int(step.feed.counter)
        within = f" and step {done} of the next" if self.within else ""
        report(f"going on after epoch {len(self.history)}{within}")
        return [*self.history]


def store(path: Path, fingerprint: str, step: Step, history: list[Row], seconds: float) -> None:
    """Write the state after an epoch (0 seconds), or within one, whole or not at all."""
    content = {
        "fingerprint": fingerprint,
        "picked": asdict(step.picked),
        "history": history,
        "seconds": seconds,
        "tensors": {name: tensor.cpu() for name, tensor in step.state().items()},
    }
    save_plain(path, content)


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
