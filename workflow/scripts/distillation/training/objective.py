"""The objective: the sum of weight times term, over the terms that a method names."""

from collections.abc import Mapping

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

    Raises:
        ValueError: a term can't be served by the pair.
    """

    def __init__(self, terms: Mapping[str, TermSettings], pair: Pair) -> None:
        super().__init__()
        self.settings = {name: terms[name] for name in ordered(terms)}
        self.terms = nn.ModuleDict(
            {name: build_term(name, each, pair) for name, each in self.settings.items()}
        )
        self.notes = [term.note for term in self.terms.values() if isinstance(term, Term)]

    def forward(
        self, student: Outputs, teacher: Outputs, labels: Tensor, weights: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the total, a scalar, and each term, not weighted, a scalar or one value per part.

        Args:
            student: outputs for a batch.
            teacher: outputs for the same images; empty where no term needs them.
            labels: (N,).
            weights: of the terms, in order, (terms,).
        """
        values = {name: term(student, teacher, labels) for name, term in self.terms.items()}
        total = None
        for weight, value in zip(weights.unbind(), values.values(), strict=True):
            weighted = weight * value.sum()
            total = weighted if total is None else total + weighted
        assert total is not None, "a method has the labels at least"  # noqa: S101
        return total, values


def ordered(terms: Mapping[str, TermSettings]) -> list[str]:
    """Return the names of the terms in the order in which they are added."""
    return sorted(terms, key=lambda name: (NEEDS.index(terms[name].needs), name))


def needed_of_teacher(terms: Mapping[str, TermSettings]) -> str:
    """Return what the terms need of a teacher: nothing, logits or stages."""
    return NEEDS[max((NEEDS.index(term.needs) for term in terms.values()), default=0)]
