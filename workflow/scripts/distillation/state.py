"""What an unfinished training keeps, and goes on from."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distillation.checkpoint import load_plain, save_plain
from distillation.models import WideResNet

# What an epoch measured, by name: a row of the history.
Row = dict[str, float]


@dataclass
class EpochSums:
    """What an epoch has measured so far; the state of a run that stops within one has it too.

    `terms` are sums over images, in float64, on the device; `totals` the losses of all steps.
    """

    steps: int = 0
    seconds: float = 0.0
    learning_rate: float = 0.0
    terms: dict[str, Tensor] = field(default_factory=dict)
    totals: list[Tensor] = field(default_factory=list)

    def add(self, count: int, terms: dict[str, Tensor]) -> None:
        """Add the terms of a step, means over `count` images; `loss` is the total."""
        self.steps += 1
        # Summed on the device and read once an epoch: reading would wait for each step.
        self.totals.append(terms["loss"].detach())
        for name, term in terms.items():
            self.terms[name] = self.terms.get(name, 0) + term.detach().double() * count


def store(
    path: Path,
    fingerprint: str,
    model: WideResNet,
    optimizer: torch.optim.SGD,
    history: list[Row],
    sums: EpochSums,
) -> None:
    """Write the state after an epoch, or within one, whole or not at all."""
    content: dict[str, Any] = {
        "fingerprint": fingerprint,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "history": history,
        "sums": vars(sums),
    }
    save_plain(path, content)


def restore(
    path: Path,
    fingerprint: str,
    model: WideResNet,
    optimizer: torch.optim.SGD,
    report: Callable[[str], None],
) -> tuple[list[Row], EpochSums]:
    """Load the state of an unfinished run of the same fingerprint; return its history and sums.

    A state that can't be read or belongs to another run is renamed to `<name>.unused`, said so,
    and the run starts anew.
    """
    if not path.is_file():
        return [], EpochSums()
    try:
        content = load_plain(path)
        if content["fingerprint"] != fingerprint:
            raise ValueError("it belongs to a run with other arguments, data or code, or elsewhere")
    except (ValueError, TypeError, KeyError) as error:
        aside = path.with_name(f"{path.name}.unused")
        path.replace(aside)
        report(f"{path} isn't used ({error}); kept as {aside}; starting at epoch 1")
        return [], EpochSums()
    model.load_state_dict(content["model"])
    optimizer.load_state_dict(content["optimizer"])
    sums = EpochSums(**content["sums"])
    device = next(model.parameters()).device
    sums.terms = {name: term.to(device) for name, term in sums.terms.items()}
    sums.totals = [total.to(device) for total in sums.totals]
    within = f" and step {sums.steps} of the next" if sums.steps else ""
    report(f"going on after epoch {len(content['history'])}{within}, from {path}")
    return content["history"], sums
