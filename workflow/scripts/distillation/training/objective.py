"""The objective: the sum of weight times term, over the terms that a method names."""

import functools
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from distillation.networks import Outputs
from distillation.settings.base import TermSettings
from distillation.terms import Pair, Term, build_term

# Terms are added in this order of what they need of the teacher, and by name: floating-point sums
# depend on it.
NEEDS = ("nothing", "logits", "stages")


class Objective(nn.Module):
    """The terms of a method, in the order in which they are added.

    Args:
        terms: settings by name.
        pair: the networks that they are for.
        classes: K.

    Raises:
        ValueError: a term can't be served by the pair.
    """

    def __init__(self, terms: Mapping[str, TermSettings], pair: Pair, classes: int) -> None:
        super().__init__()
        self.settings = {name: terms[name] for name in ordered(terms)}
        self.terms = nn.ModuleDict(
            {name: build_term(name, each, pair) for name, each in self.settings.items()}
        )
        self.notes = [term.note for term in self.terms.values() if isinstance(term, Term)]
        # How many parts terms have is seen where they get an image of zeros.
        student, teacher = (
            Outputs(torch.zeros(1, classes), [torch.zeros(1, *shape) for shape in shapes])
            for shapes in (pair.student, pair.teacher)
        )
        labels, weights = torch.zeros(1, dtype=torch.long), torch.zeros(len(terms))
        with torch.no_grad():
            self.columns = [*self.eval()(student, teacher, labels, weights)[1]]
        self.train()

    def forward(
        self, student: Outputs, teacher: Outputs, labels: Tensor, weights: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the total and, not weighted, each term and its parts by name, all scalars.

        A term of several parts, `at`, has `at_1` and so on beside it.

        Args:
            student: outputs for a batch.
            teacher: outputs for the same images; empty where no term needs them.
            labels: (N,).
            weights: of the terms, in order, (terms,).
        """
        values = {name: term(student, teacher, labels) for name, term in self.terms.items()}
        weighted, measured = [], {}
        for weight, (name, value) in zip(weights.unbind(), values.items(), strict=True):
            measured[name] = value.sum()
            weighted.append(weight * measured[name])
            if value.numel() > 1:
                parts = enumerate(value.unbind(), start=1)
                measured |= {f"{name}_{place}": part for place, part in parts}
        return functools.reduce(torch.add, weighted), measured


def ordered(terms: Mapping[str, TermSettings]) -> list[str]:
    """Return the names of the terms in the order in which they are added."""
    return sorted(terms, key=lambda name: (NEEDS.index(terms[name].needs), name))


def needed_of_teacher(terms: Mapping[str, TermSettings]) -> str:
    """Return what the terms need of a teacher: nothing, logits or stages."""
    return max((term.needs for term in terms.values()), key=NEEDS.index, default="nothing")
