r"""Train a student: from the labels, and from a teacher as far as its terms need one.

Inputs: prepared data, and where a term needs it a teacher's checkpoint, or, where only logits are
needed, the table of its targets that tabulate_targets.py wrote.
Outputs: checkpoint of the last epoch, history, TensorBoard events.

    objective = sum of weight * term; the term `labels` has weight 1 unless it is named

Example:
    python workflow/scripts/train_student.py --data results/data/digits.npz \
        --teacher results/digits/teacher/seed_0/checkpoint.pt \
        --term labels weight=0.1 --term kd weight=0.9 temperature=4 \
        --checkpoint kd/checkpoint.pt --history kd/history.csv \
        --network wrn depth=10 width=1 --epochs 2 --batch-size 32 --schedule one_cycle \
        --padding 0 --no-flip --gamma-init ones --seed 0
"""

import argparse
from pathlib import Path

from distillation.settings.arguments import Parser, run
from distillation.training.objective import needed_of_teacher
from distillation.training.run import (
    add_student_flags,
    add_training_flags,
    student_of,
    train_and_save,
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line and check that the terms have what they need."""
    parser = Parser(__doc__)
    add_training_flags(parser)
    add_student_flags(parser)
    flag = parser.add_argument
    flag("--teacher", type=Path, help="checkpoint of the teacher; none if no term needs one")
    flag("--teacher-targets", type=Path, help="table of the teacher's logits, for its checkpoint")
    arguments = parser.parse_args(argv)
    terms = student_of(arguments).terms
    given = [name for name in ("teacher", "teacher_targets") if getattr(arguments, name)]
    taught = [name for name, term in terms.items() if term.needs != "nothing"]
    if taught and not given:
        parser.error(f"--term {taught[0]} needs a teacher, but --teacher is missing")
    if given and not taught:
        parser.error(f"--{given[0].replace('_', '-')} is given, but no term needs a teacher")
    if len(given) > 1:
        parser.error("--teacher and --teacher-targets are given; allowed: one of them")
    if arguments.teacher_targets and needed_of_teacher(terms) == "stages":
        parser.error("--teacher-targets has logits only, but a term needs stages; give --teacher")
    return arguments


def main(argv: list[str] | None = None) -> None:
    """Train and write the outputs."""
    arguments = parse_args(argv)
    students = [student_of(arguments)]
    train_and_save(arguments, students, arguments.teacher, arguments.teacher_targets)


if __name__ == "__main__":
    run(main)
