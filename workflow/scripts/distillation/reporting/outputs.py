"""The files that a report's script writes: one flag each, all of them replaced or none."""

import argparse
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from distillation.record.files import replacing


def add_outputs(parser: argparse.ArgumentParser, outputs: Mapping[str, str]) -> None:
    """Add a flag for each output, which says what it is."""
    for name, words in outputs.items():
        parser.add_argument(f"--{name}", type=Path, required=True, help=f"output, {words}")


@contextmanager
def written(arguments: argparse.Namespace, outputs: Iterable[str]) -> Iterator[dict[str, Path]]:
    """Yield temporary files by output; put them in their places when the block succeeds."""
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(replacing(getattr(arguments, name.replace("-", "_"))))
            for name in outputs
        }
