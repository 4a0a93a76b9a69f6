r"""Gather the small files of a finished experiment in one folder, to be kept beside the code.

Inputs: the experiment's folder of results, the description of its data, the folder of logs with
the times that Snakemake took, and what was typed to make them. Output: a folder with the tables,
comparisons, attention metrics, provenance and main figures as they are, and

- history.csv: all histories, with model and seed;
- timings.csv: of each job the step, model, seed, wall time and CPU time (seconds), peak memory (MB)
  and, of trainings, images per second over all epochs;
- study.json: the title, what was typed, and the data set whose published figures stand beside it.

render_results.py makes a page of such folders.

Example:
    python workflow/scripts/publish_results.py --results results/digits \
        --data-description results/data/digits.json --logs logs \
        --command "snakemake --cores 4 all" --published none --folder docs/results/digits
"""

import argparse
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from distillation.arguments import Parser, run
from distillation.files import replacing_folder

# What is kept of an experiment's results, as it is. Figures of other collapses, and vector figures,
# are made again by the same command; they are large.
KEPT = (
    "table.csv", "table.md", "comparison.csv", "comparison_seeds.csv", "comparison.md",
    "comparison.png", "fidelity.csv", "provenance.json",
    "figures/curves_teacher.png", "figures/curves_students.png", "figures/curves_test.png",
    "figures/accuracy.png", "figures/attention_mean_square.png",
)  # fmt: skip
# What is kept of its attention metrics, which take the longest to make.
CLAIMS = ("attention_metrics.csv", "claims.md")
# Steps with one job per network, whatever it is, and with one per experiment.
STEPS = ("evaluate", "extract_attention", "measure_attention")
LAST_STEPS = ("compare_methods", "render_table", "render_figures", "render_claims")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(__doc__)
    flag = parser.add_argument
    flag("--results", type=Path, required=True, help="of the experiment: results/<experiment>")
    flag("--data-description", type=Path, required=True, help="results/data/<data>.json")
    flag("--logs", type=Path, required=True, help="folder of logs and times")
    flag("--command", required=True, help="that made the results, as it was typed")
    flag(
        "--published", required=True, metavar="DATA",
        help="whose figures in published.csv stand beside the results, or none",
    )  # fmt: skip
    flag(
        "--without-claims", action="store_true",
        help="publish though attention metrics and claims aren't made yet",
    )  # fmt: skip
    flag("--folder", type=Path, required=True, help="output, made anew")
    return parser.parse_args(argv)


def read_time(file: Path) -> dict[str, float]:
    """Return wall and CPU time (seconds) and peak memory (MB) of a job; NaN where none was taken.

    Raises:
        FileNotFoundError: the job left none.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file; Snakemake writes it when a job ends")
    # Of a job that was too short to be measured, Snakemake writes NA for the memory.
    row = pd.read_csv(file, sep="\t").iloc[-1]
    return {"seconds": row["s"], "cpu_seconds": row["cpu_time"], "memory": row["max_rss"]}


def read_timings(
    logs: Path,
    results: Path,
    data: Path,
    runs: list[dict[str, Any]],
    images: int,
    left_out: tuple[str, ...],
) -> pd.DataFrame:
    """Return a row per job: step, model, seed, seconds, cpu_seconds, memory, images_per_second.

    Steps that are `left_out` have none.
    """
    experiment = results.name
    rows = [{"step": "prepare_data"} | read_time(logs / "prepare_data" / f"{data.stem}.tsv")]
    for one in runs:
        rows += network_timings(logs, results, one, images, left_out)
    rows += [
        {"step": step} | read_time(logs / step / f"{experiment}.tsv")
        for step in LAST_STEPS
        if step not in left_out
    ]
    return pd.DataFrame(rows).astype({"seed": "Int64"})


def network_timings(
    logs: Path, results: Path, one: dict[str, Any], images: int, left_out: tuple[str, ...]
) -> list[dict[str, Any]]:
    """Return the rows of read_timings of one network, `one` of the runs of provenance.json.

    A training that was cut off and went on has the time of all its epochs from its history, and no
    CPU time, because Snakemake's times are those of the last attempt.
    """
    experiment, model, seed = results.name, one["model"], one["seed"]
    name = {"model": model, "seed": seed}
    teacher = model == "teacher"
    training = "train_teacher" if teacher else "train_student"
    # The logs of train_teacher have no folder for the model, because there is only one.
    folder = Path(experiment) if teacher else Path(experiment, model)
    time = read_time(logs / training / folder / f"seed_{seed}.tsv")
    history = pd.read_csv(results / model / f"seed_{seed}" / "history.csv")
    trained = float(history["seconds"].to_numpy().sum())
    if trained > time["seconds"]:
        time |= {"seconds": trained, "cpu_seconds": math.nan}
    speed = images * len(history) / trained
    rows = [{"step": training} | name | time | {"images_per_second": speed}]
    targets = logs / "tabulate_targets" / folder / f"seed_{seed}.tsv"
    if teacher and targets.is_file():
        rows.append({"step": "tabulate_targets"} | name | read_time(targets))
    return rows + [
        {"step": step} | name | read_time(logs / step / experiment / model / f"seed_{seed}.tsv")
        for step in STEPS
        if step not in left_out
    ]


def read_histories(results: Path, runs: list[dict[str, Any]]) -> pd.DataFrame:
    """Return the histories of all runs, with model and seed."""
    parts = []
    for one in runs:
        part = pd.read_csv(results / one["model"] / f"seed_{one['seed']}" / "history.csv")
        part.insert(0, "model", one["model"])
        part.insert(1, "seed", one["seed"])
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def main(argv: list[str] | None = None) -> None:
    """Copy, gather, and put the folder in its place."""
    arguments = parse_args(argv)
    results = arguments.results
    without = arguments.without_claims
    kept = [results / name for name in (KEPT if without else KEPT + CLAIMS)]
    if not without:
        kept += sorted((results / "claims").glob("*.png"))
    for file in (*kept, arguments.data_description):
        if not file.is_file():
            raise FileNotFoundError(f"{file}: no such file; expected a finished experiment")
    provenance = json.loads((results / "provenance.json").read_text())
    description = json.loads(arguments.data_description.read_text())
    runs = provenance["runs"]
    if description["sha256"] != runs[0]["training"]["data_sha256"]:
        raise ValueError(
            f"{arguments.data_description}: sha256 is {description['sha256'][:12]}; expected that "
            f"of the data of {results}, {runs[0]['training']['data_sha256'][:12]}"
        )
    timings = read_timings(
        arguments.logs, results, arguments.data_description, runs,
        description["images"]["train"]["count"],
        ("measure_attention", "render_claims") if without else (),
    )  # fmt: skip
    study = {
        "title": provenance["table"]["arguments"]["title"],
        "command": arguments.command,
        "published": arguments.published,
    }
    with replacing_folder(arguments.folder) as folder:
        for file in kept:
            copy = folder / file.relative_to(results)
            copy.parent.mkdir(exist_ok=True)
            shutil.copyfile(file, copy)
        shutil.copyfile(arguments.data_description, folder / "data.json")
        timings.to_csv(folder / "timings.csv", index=False)
        read_histories(results, runs).to_csv(folder / "history.csv", index=False)
        (folder / "study.json").write_text(json.dumps(study, indent=2) + "\n")
    print(f"{arguments.folder}: {study['title']}, {len(runs)} networks", flush=True)


if __name__ == "__main__":
    run(main)
