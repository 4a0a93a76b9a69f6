r"""Train a network from the labels alone, to be a teacher.

Input: prepared data. Outputs: checkpoint of the last epoch, history, TensorBoard events. With 0
epochs it is the network as initialised, whose batch norm knows the training images.

Example:
    python workflow/scripts/train_teacher.py --data results/data/digits.npz \
        --checkpoint teacher/checkpoint.pt --history teacher/history.csv \
        --network wrn depth=10 width=2 --epochs 2 --batch-size 32 --schedule one_cycle \
        --padding 0 --no-flip --gamma-init ones --seed 0
"""

import argparse

from distillation.settings.arguments import Parser, run
from distillation.training.run import (
    add_student_flags,
    add_training_flags,
    student_of,
    train_and_save,
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(__doc__)
    add_training_flags(parser)
    add_student_flags(parser)
    arguments = parser.parse_args(argv)
    for name, term in student_of(arguments).terms.items():
        if term.needs != "nothing":
            parser.error(f"--term {name} needs a teacher; allowed: train_student.py")
    return arguments


def main(argv: list[str] | None = None) -> None:
    """Train and write the outputs."""
    arguments = parse_args(argv)
    train_and_save(arguments, [student_of(arguments)])


if __name__ == "__main__":
    run(main)
