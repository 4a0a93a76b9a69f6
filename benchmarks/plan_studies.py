r"""Count what the studies for a GPU train, and how long a card takes over it.

Each study's file says in its first lines by which command it runs. Operations are those of its
trainings, two for each multiply-accumulate: three forward passes of what is trained, of which the
backward pass makes two, and one of its teacher. Minutes are those at the rate at which the card of
--speed trained the baseline, the slowest rate of networks of this kind that it was measured with.

    python benchmarks/plan_studies.py --speed docs/benchmarks/gpu_check_h100_speed.json \
        --markdown docs/benchmarks/studies.md docs/results/*.yaml
"""

import json
import re
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from snakemake.utils import update_config

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow/scripts"))

from distillation.record.files import replacing
from distillation.reporting.tables import table_lines
from distillation.settings.arguments import Parser, run
from distillation.settings.experiment import Experiment, load_experiments

ROOT = Path(__file__).resolve().parents[1]
# What was measured, in gpu_check.py's words, and of which network.
MEASURED = "baseline (WRN-16-2), captured and compiled"
MEASURED_IN = "cifar10_sixty"
HEAD = [
    "Study", "Epochs of students", "Seeds", "Trainings", "Operations, 10^15", "Minutes",
    "Published",
]  # fmt: skip


def command_of(file: Path) -> str:
    """Return the command by which a study's file is said to run.

    Raises:
        ValueError: its comments have none.
    """
    text = re.sub(r"\\\n# +", "", file.read_text())
    found = re.search(r"^# +(snakemake .*--configfile .*)$", text, re.MULTILINE)
    if not found:
        raise ValueError(f"{file}: has no comment that begins with snakemake")
    return found[1]


def load_study(command: str) -> tuple[list[str], dict[str, Experiment]]:
    """Return what a command runs, and all experiments of its config."""
    config: dict[str, Any] = yaml.safe_load((ROOT / "config.yaml").read_text())
    _, _, files = command.partition("--configfile ")
    for file in shlex.split(files):
        update_config(config, yaml.safe_load((ROOT / file).read_text()))
    return config["run"], load_experiments(config)[1]


def multiply_accumulates(experiment: Experiment, model: str) -> int:
    """Return those of a forward pass of one image."""
    return int(experiment.cost(model)["multiply_accumulates"])


def trainings(experiment: Experiment) -> dict[str, float]:
    """Return the operations of each training by its checkpoint, its teacher's passes included.

    Students that train together share those passes; the first of a seed has them.
    """
    together = [name for name in experiment.together if experiment.taught(name)]
    found = {}
    for name, seed in experiment.models:
        epochs = experiment.training(name).epochs
        passes = 3 * multiply_accumulates(experiment, name)
        if experiment.taught(name) and name not in together[1:]:
            passes += multiply_accumulates(experiment, experiment.teacher_of(name))
        images = epochs * experiment.sizes.train
        found[experiment.trained_file(name, seed)] = 2.0 * images * passes
    return found


def rows(files: Iterable[Path], rate: float) -> list[list[str]]:
    """Return a line for each experiment on a GPU, of files by name; what is shared counts once.

    Args:
        files: of studies.
        rate: operations per second.
    """
    lines: list[list[str]] = []
    counted: set[str] = set()
    for file in sorted(files, key=lambda file: (file.name != "sixty.yaml", file.name)):
        names, experiments = load_study(command_of(file))
        for experiment in (experiments[name] for name in names if experiments[name].on_gpu):
            own = {
                place: count
                for place, count in trainings(experiment).items()
                if place not in counted and count
            }
            counted |= own.keys()
            total = sum(own.values())
            epochs = {experiment.training(method).epochs for method in experiment.measures}
            published = (ROOT / "docs/results" / experiment.name).is_dir()
            lines.append([
                f"{experiment.name} ({file.name})", ", ".join(map(str, sorted(epochs))),
                str(len(experiment.choices.seeds)), str(len(own)), f"{total / 1e15:,.0f}",
                f"{total / rate / 60:.0f}", "yes" if published else "no",
            ])  # fmt: skip
    return lines


def written(speed: dict[str, Any], files: Iterable[Path]) -> str:
    """Return the page, from what gpu_check.py wrote of a card and the studies' files."""
    _, experiments = load_study(command_of(ROOT / "docs/results/sixty.yaml"))
    each = 6 * multiply_accumulates(experiments[MEASURED_IN], "baseline")
    rate = speed["speed"][MEASURED]["images_per_second"] * each
    return "\n".join([
        "# Studies for a GPU", "",
        "Trainings of each study that none above it has, and what they take. A file's first lines "
        "have its questions, and the command that runs it. Minutes are those of the trainings at "
        f"{rate / 1e12:.0f} x 10^12 operations per second, as {speed['machine']['hardware']} "
        "trained WRN-16-2; starts, evaluation and measures come on top, and networks of depthwise "
        "convolutions take longer for their operations. Written by benchmarks/plan_studies.py.",
        "", *table_lines(HEAD, rows(files, rate)), "",
    ])  # fmt: skip


def main(argv: list[str] | None = None) -> None:
    """Count the trainings of all studies, and write the table."""
    parser = Parser(__doc__)
    parser.add_argument("studies", type=Path, nargs="+", help="their files, .yaml")
    parser.add_argument(
        "--speed", type=Path, required=True, help="what gpu_check.py wrote of a card, .json"
    )
    parser.add_argument("--markdown", type=Path, required=True, help="output, .md")
    arguments = parser.parse_args(argv)
    text = written(json.loads(arguments.speed.read_text()), arguments.studies)
    with replacing(arguments.markdown) as markdown:
        markdown.write_text(text)
    print(text, flush=True)


if __name__ == "__main__":
    run(main)
