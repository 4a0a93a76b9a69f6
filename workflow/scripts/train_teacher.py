r"""Train a network from the labels alone, to be a teacher.

Input: prepared data. Outputs: checkpoint of the last epoch, history, TensorBoard events.

Example:
    python workflow/scripts/train_teacher.py --data results/data/digits.npz \
        --checkpoint teacher/checkpoint.pt --history teacher/history.csv \
        --depth 10 --width 2 --epochs 2 --batch-size 32 --schedule one_cycle --learning-rate 0.1 \
        --momentum 0.9 --weight-decay 5e-4 --padding 0 --gamma-init ones --seed 0 --device cpu
"""

import argparse

from distillation.arguments import Parser, run
from distillation.runs import add_training_flags, train_and_save
from distillation.training import Weights


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(__doc__)
    add_training_flags(parser)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Train and write the outputs."""
    train_and_save(parse_args(argv), Weights(), teacher=None, targets=None)


if __name__ == "__main__":
    run(main)
