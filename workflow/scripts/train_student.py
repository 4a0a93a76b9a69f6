r"""Train a student: from the labels, and from a teacher as far as alpha and beta say.

Inputs: prepared data, and unless alpha and beta are both 0 (the baseline) a teacher's checkpoint,
or, where beta is 0, the table of its targets that tabulate_targets.py wrote.
Outputs: checkpoint of the last epoch, history, TensorBoard events.

    objective = (1 - alpha) * cross-entropy + alpha * distillation + beta * attention transfer

Example:
    python workflow/scripts/train_student.py --data results/data/digits.npz \
        --teacher results/digits/teacher/seed_0/checkpoint.pt --alpha 0.9 --temperature 4 \
        --checkpoint kd/checkpoint.pt --history kd/history.csv \
        --depth 10 --width 1 --epochs 2 --batch-size 32 --schedule one_cycle --learning-rate 0.1 \
        --momentum 0.9 --weight-decay 5e-4 --padding 0 --gamma-init ones --seed 0 --device cpu
"""

import argparse
from pathlib import Path
from typing import get_args

from distillation.arguments import Parser, number, picked, run
from distillation.losses import ATMode, Collapse, KLReduction
from distillation.runs import add_training_flags, train_and_save
from distillation.training import BetaSchedule, Weights


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line and check that the objective has what it needs."""
    parser = Parser(__doc__)
    add_training_flags(parser)
    flag = parser.add_argument
    flag("--teacher", type=Path, help="checkpoint of the teacher; none for the baseline")
    flag("--teacher-targets", type=Path, help="table of the teacher's logits, for its checkpoint")
    flag("--alpha", type=number(float, 0, 1), default=0.0, help="of distillation, 0 to 1; 0 is off")
    flag("--temperature", type=number(float, above=0), help="of distillation, above 0")
    flag(
        "--kl-reduction", choices=get_args(KLReduction), default="batchmean", help="of distillation"
    )
    flag("--beta", type=number(float, 0), default=0.0, help="of attention transfer; 0 is off")
    flag("--beta-schedule", choices=get_args(BetaSchedule), default="constant", help="of beta")
    flag("--at-mode", choices=get_args(ATMode), default="code", help="form of attention transfer")
    flag("--collapse", choices=get_args(Collapse), default="mean_square", help="of the channels")
    arguments = parser.parse_args(argv)
    given = [name for name in ("teacher", "teacher_targets") if getattr(arguments, name)]
    if (arguments.alpha or arguments.beta) and not given:
        parser.error("--alpha or --beta is above 0, but --teacher is missing")
    if given and not (arguments.alpha or arguments.beta):
        parser.error(f"--{given[0].replace('_', '-')} is given, but --alpha and --beta are 0")
    if len(given) > 1:
        parser.error("--teacher and --teacher-targets are given; allowed: one of them")
    if arguments.teacher_targets and arguments.beta:
        parser.error("--teacher-targets has logits only, but --beta is above 0; give --teacher")
    if arguments.alpha and arguments.temperature is None:
        parser.error("--alpha is above 0, but --temperature is missing")
    if arguments.temperature is not None and not arguments.alpha:
        parser.error("--temperature is given, but --alpha is 0")
    arguments.temperature = arguments.temperature or 1.0
    return arguments


def main(argv: list[str] | None = None) -> None:
    """Train and write the outputs."""
    arguments = parse_args(argv)
    weights = picked(Weights, arguments)
    train_and_save(arguments, weights, arguments.teacher, arguments.teacher_targets)


if __name__ == "__main__":
    run(main)
