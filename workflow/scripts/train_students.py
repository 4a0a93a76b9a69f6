r"""Train several students side by side: the same batches, and one pass of the teacher for all.

Inputs: prepared data, and a teacher's checkpoint where a term needs it. Outputs: of each student
what train_student.py writes of it, with the same bits. Flags of files are given once, with a file
for each student, in their order. A student that was trained by the same flags before, as its state
in --resume says, is written again and not trained; so are the others, when one is changed.

Example:
    python workflow/scripts/train_students.py --data results/data/digits.npz \
        --teacher results/digits/teacher/seed_0/checkpoint.pt \
        --student baseline --student kd "labels weight=0.1" "kd weight=0.9" \
        --checkpoint baseline.pt kd.pt --history baseline.csv kd.csv \
        --tensorboard baseline_events kd_events --resume baseline_state.pt kd_state.pt \
        --network wrn depth=10 width=1 --epochs 2 --batch-size 32 --schedule one_cycle \
        --padding 0 --no-flip --gamma-init ones --seed 0
"""

import argparse
import shlex
from pathlib import Path

from distillation.settings.arguments import Parser, check_counts, read_plugin, run
from distillation.settings.base import SettingsError
from distillation.training.objective import needed_of_teacher
from distillation.training.run import (
    FILES,
    Student,
    add_training_flags,
    train_and_save,
    with_labels,
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(__doc__)
    add_training_flags(parser)
    flag = parser.add_argument
    flag("--teacher", type=Path, help="checkpoint of the teacher; none if no term needs one")
    flag(
        "--student", nargs="+", action="append", required=True, dest="students",
        metavar=("METHOD", "TERM"),
        help="a method and its terms, each with its settings as one argument; once for each",
    )  # fmt: skip
    for name in FILES:
        flag(f"--{name}", type=Path, nargs="+", required=True, help="one for each student")
    arguments = parser.parse_args(argv)
    try:
        arguments.students = read_students(arguments)
    except SettingsError as error:
        parser.error(str(error))
    needs = {needed_of_teacher(student.terms) for student in arguments.students}
    if (needs == {"nothing"}) == (arguments.teacher is not None):
        parser.error("--teacher: allowed if a term of a student needs it, and only then")
    return arguments


def read_students(arguments: argparse.Namespace) -> list[Student]:
    """Return the students with their terms and files.

    Raises:
        SettingsError: a term can't be used, or numbers of files and students differ.
    """
    count = len(arguments.students)
    check_counts(arguments, count, *FILES)
    students = []
    for place, (_, *texts) in enumerate(arguments.students):
        terms = dict(read_plugin("terms", shlex.split(text)) for text in texts)
        files = {name: getattr(arguments, name)[place] for name in FILES}
        students.append(Student(with_labels(terms), **files))  # type: ignore[arg-type]
    return students


def main(argv: list[str] | None = None) -> None:
    """Train and write the outputs."""
    arguments = parse_args(argv)
    train_and_save(arguments, arguments.students, arguments.teacher, keep_states=True)


if __name__ == "__main__":
    run(main)
