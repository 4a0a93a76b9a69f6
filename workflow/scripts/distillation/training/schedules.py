"""What changes over a training: the learning rate and the weights of the terms."""

import math

from distillation.settings.base import TermSettings
from distillation.settings.training import Protocol


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


def drops_at(protocol: Protocol, epoch: int) -> bool:
    """Return whether the momentum is forgotten at the start of an epoch (from 1)."""
    return protocol.schedule == "step" and protocol.reset_momentum and epoch in protocol.milestones


def weight_of_epoch(term: TermSettings, epoch: int, epochs: int) -> float:
    """Return a term's weight in an epoch (counted from 1): constant, falling, rising before.

    - linear, cosine: towards 0, with progress (epoch - 1) / epochs. The attention-transfer paper
      decays its weight when it adds distillation, but names no schedule: these are ours.
    - times min(epoch / warmup_epochs, 1), as the code of arXiv 2203.08679 does.
    """
    progress, weight = (epoch - 1) / epochs, term.weight
    if term.warmup_epochs:
        weight *= min(epoch / term.warmup_epochs, 1)
    if term.schedule == "linear":
        return weight * (1 - progress)
    if term.schedule == "cosine":
        return weight * (1 + math.cos(math.pi * progress)) / 2
    return weight
