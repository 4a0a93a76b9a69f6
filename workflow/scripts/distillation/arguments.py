"""What the command lines of the scripts share: parser, types of flags, the error boundary."""

import argparse
import math
import sys
from collections.abc import Callable
from dataclasses import fields
from typing import NoReturn, TypeVar

T = TypeVar("T")


# The largest seed: what fits into 32 bits, as NumPy's generators take it.
LARGEST_SEED = 2**32 - 1


class Parser(argparse.ArgumentParser):
    """A parser that shows the module's docstring as help and exits with 1 on a user's mistake."""

    def __init__(self, description: str | None) -> None:
        super().__init__(
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Print one line on stderr and exit with status 1."""
        self.exit(1, f"{self.prog}: error: {message}\n")


def number(
    kind: type[int] | type[float],
    least: float = -math.inf,
    most: float = math.inf,
    above: float = -math.inf,
) -> Callable[[str], float]:
    """Make the type of a flag: a finite number with least <= value <= most and value > above."""

    def convert(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if math.isfinite(value) and least <= value <= most and value > above:
            return value
        name = "a whole number" if kind is int else "a number"
        bounds = [
            f"{word} {bound:g}"
            for word, bound in (("at least", least), ("above", above), ("at most", most))
            if math.isfinite(bound)
        ]
        raise argparse.ArgumentTypeError(f"found {text!r}; allowed: {name}, {', '.join(bounds)}")

    return convert


def picked(kind: type[T], arguments: argparse.Namespace) -> T:
    """Build the dataclass `kind` from the arguments that have the names of its fields."""
    return kind(**{field.name: getattr(arguments, field.name) for field in fields(kind)})  # type: ignore[arg-type]


def run(main: Callable[[], None]) -> None:
    """Run `main`; end a mistake or a stop with one line on stderr and status 1, no traceback."""
    script = sys.argv[0].rpartition("/")[2]
    try:
        main()
    except (ValueError, OSError, FloatingPointError) as error:
        sys.exit(f"{script}: error: {' '.join(str(error).split())}")
    except KeyboardInterrupt as stop:
        sys.exit(f"{script}: stopped{f' {stop}' if str(stop) else ''}")
