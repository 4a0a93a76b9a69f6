r"""Gather the small files of a finished experiment in one folder, to be kept beside the code.

Inputs: the experiment's folder of results, the description of its data, the folder of logs with
the times that Snakemake took, and what was typed to make them. Output: a folder with the tables,
comparisons, attention metrics, provenance and main figures as they are, and

- history.csv: all histories, with model and seed;
- timings.csv: of each job the step, model, seed, wall time and CPU time (seconds), peak memory (MB)
  and, of trainings, images per second over all epochs;
- study.json: the title, what was typed, the data set whose published figures stand beside it, the
  row of the table that studies are compared by, what models are called, and how methods were
  compared;
- <model>/seed_<n>/: of each network its metrics (.json), and labels and logits of the test images,
  and of training images where a metric is of these (.npz), in float16 where it reaches.

render_results.py makes a page of such folders, and computes their numbers again.

Example:
    python workflow/scripts/publish_results.py --results results/digits \
        --data-description results/data/digits.json --logs logs \
        --command "snakemake --cores 4 all" --published none --headline "Test accuracy" \
        --folder docs/results/digits
"""

import argparse
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from distillation.measuring.kept import keep
from distillation.record.files import replacing_folder
from distillation.reporting.trained import check_has, read_json
from distillation.settings.arguments import Parser, add_flags, run, taken
from distillation.settings.reports import Comparison

# What is kept of an experiment's results, as it is. Figures of other collapses, and vector figures,
# are made again by the same command; they are large.
KEPT = (
    "table.csv", "table.md", "comparison.csv", "comparison_seeds.csv", "comparison.md",
    "comparison.png", "fidelity.csv", "provenance.json", "figures/curves_students.png",
    "figures/curves_test.png", "figures/metrics.png", "figures/attention_mean_square.png",
)  # fmt: skip
# Bytes of a picture that the page is to show as it is.
LARGE = 500_000
# What there is only where the teacher was trained here.
OF_TEACHER = "figures/curves_teacher.png"
# What is kept of its attention metrics, which take the longest to make.
CLAIMS = ("attention_metrics.csv", "attention_metrics.json", "claims.md")
# Steps: each network has one of the first and all of the second, where its students train together
# each seed one for them all; each seed has the next, each experiment the last, some of them only
# where attention was measured.
TRAININGS = ("train_teacher", "import_teacher", "train_student")
TOGETHER = "train_students"
# With what each makes of a network.
STEPS = {"evaluate": "metrics.json", "extract_attention": "attention.npz"}
SEED_STEP = "measure_attention"
LAST_STEPS = ("compare_methods", "render_table", "render_figures")
OF_CLAIMS = ("render_claims", "render_index")
# What the history of a training is called; the second is of a teacher that was brought.
HISTORIES = ("history.csv", "imported_history.csv")


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
    flag("--headline", required=True, help="row of table.csv that studies are compared by")
    flag(
        "--teacher-results", type=Path,
        help="of a teacher that is of another experiment: results/<experiment>/teacher",
    )  # fmt: skip
    flag(
        "--without-claims", action="store_true",
        help="publish though attention metrics and claims aren't made yet",
    )  # fmt: skip
    flag("--folder", type=Path, required=True, help="output, made anew")
    # As in the experiment's config.
    add_flags(parser, Comparison)
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
    logs: Path, results: Path, data: Path, runs: list[dict[str, Any]], images: int, claims: bool
) -> pd.DataFrame:
    """Return a row per job: step, model, seed, seconds, cpu_seconds, memory, images_per_second.

    Args:
        logs: folder of the times.
        results: the experiment's folder.
        data: description of its data.
        runs: see `find_runs`.
        images: number of training images.
        claims: whether attention was measured.
    """
    name = results.name

    def job(step: str, place: str = name, **whose: Any) -> dict[str, Any]:
        return {"step": step} | whose | read_time(logs / step / f"{place}.tsv")

    rows = [job("prepare_data", data.stem)]
    known: set[Path] = set()
    for one in runs:
        model, seed = one["model"], one["seed"]
        place = Path(name, model, f"seed_{seed}")
        step, file = training_job(logs, name, one)
        # Students that were trained, or measured, together have one job.
        if file not in known:
            rows.append(training_time(step, file, one, images))
        known.add(file)
        targets = ["tabulate_targets"] * (logs / f"tabulate_targets/{place}.tsv").is_file()
        rows += [job(step, str(place), model=model, seed=seed) for step in targets]
        for step, made in STEPS.items():
            places = [(step, logs / step / f"{place}.tsv")]
            if one["role"] == "student":
                students = f"{step}_students"
                places.append((students, logs / students / name / f"seed_{seed}.tsv"))
            chosen, file = job_that_made(results.parent / place / made, places)
            whose = {"model": model} if chosen == step else {}
            if file not in known:
                rows.append({"step": chosen} | whose | {"seed": seed} | read_time(file))
            known.add(file)
    for seed in sorted({one["seed"] for one in runs}):
        if claims and (results / "attention" / f"seed_{seed}.csv").is_file():
            rows.append(job(SEED_STEP, f"{name}/seed_{seed}", seed=seed))
    rows += [job(step) for step in (*LAST_STEPS, *(OF_CLAIMS if claims else ()))]
    return pd.DataFrame(rows).astype({"seed": "Int64"})


def find_runs(
    results: Path, runs: list[dict[str, Any]], teacher_results: Path | None
) -> list[dict[str, Any]]:
    """Return the runs of provenance.json, each with its history, that file, and its model's folder.

    Raises:
        FileNotFoundError: a run isn't in the experiment's folder, nor in that of its teacher.
    """
    found = []
    for one in runs:
        folders = [results / one["model"]]
        folders += [teacher_results] if teacher_results and one["role"] == "teacher" else []
        places = [(folder, folder / f"seed_{one['seed']}" / name) for folder in folders
                  for name in HISTORIES]  # fmt: skip
        there = [place for place in places if place[1].is_file()]
        if not there:
            raise FileNotFoundError(f"{places[0][1]}: no such file; see --teacher-results")
        [(folder, file), *_] = there
        found.append(one | {"folder": folder, "file": file, "history": pd.read_csv(file)})
    return found


def training_job(logs: Path, experiment: str, one: dict[str, Any]) -> tuple[str, Path]:
    """Return the step that trained a run of `find_runs`, and its times' file."""
    own = Path(one["folder"].parent.name, one["folder"].name, f"seed_{one['seed']}.tsv")
    places = [(step, logs / step / own) for step in TRAININGS]
    if one["role"] == "student":
        places.append((TOGETHER, logs / TOGETHER / experiment / own.name))
    return job_that_made(one["file"], places)


def job_that_made(result: Path, places: list[tuple[str, Path]]) -> tuple[str, Path]:
    """Return, of steps and their times' files, the one that is there and as old as the result.

    An earlier run may have left others, and a seed's job needn't have this network among its own.
    Where nothing is there, it is the one that should be.
    """
    there = [place for place in places if place[1].is_file()]
    if not there:
        return places[0]
    made = result.stat().st_mtime if result.is_file() else math.inf
    return min(there, key=lambda place: abs(place[1].stat().st_mtime - made))


def training_time(step: str, file: Path, one: dict[str, Any], images: int) -> dict[str, Any]:
    """Return the row of read_timings of a training.

    One that was cut off and went on has the time of all its epochs from its history, and no CPU
    time, because Snakemake's times are those of the last attempt.
    """
    time, trained = read_time(file), float(one["history"]["seconds"].to_numpy().sum())
    if trained > time["seconds"]:
        time |= {"seconds": trained, "cpu_seconds": math.nan}
    if trained:
        time["images_per_second"] = images * len(one["history"]) / trained
    model = {} if step == TOGETHER else {"model": one["model"]}
    return {"step": step} | model | {"seed": one["seed"]} | time


def join_histories(runs: list[dict[str, Any]]) -> pd.DataFrame:
    """Return the histories of all runs, with model and seed."""
    parts = [one["history"].assign(model=one["model"], seed=one["seed"])
             for one in runs if len(one["history"])]  # fmt: skip
    return pd.concat(parts, ignore_index=True).set_index(["model", "seed"]).reset_index()


def keep_file(file: Path, copy: Path) -> None:
    """Copy a file; a large picture is kept in 256 colours, which take less room."""
    if file.suffix == ".png" and file.stat().st_size >= LARGE:
        with Image.open(file) as picture:
            # Rare colours stay, as those of the images beside their maps.
            method = Image.Quantize.MAXCOVERAGE
            picture.convert("RGB").quantize(256, method, dither=Image.Dither.NONE).save(copy)
    else:
        shutil.copyfile(file, copy)


def check_place(folder: Path) -> None:
    """Refuse a folder whose files would be lost: one that holds something else than a study.

    Raises:
        ValueError: it does.
    """
    if folder.exists() and not (folder / "study.json").is_file():
        raise ValueError(f"--folder: found {folder}, which holds no study; allowed: a new folder")


def main(argv: list[str] | None = None) -> None:
    """Copy, gather, and put the folder in its place."""
    arguments = parse_args(argv)
    results, data = arguments.results, arguments.data_description
    claims = not arguments.without_claims
    check_place(arguments.folder)
    kept = [results / name for name in (KEPT + CLAIMS if claims else KEPT)]
    kept += sorted((results / "claims").glob("*.png")) if claims else []
    for file in (*kept, data):
        if not file.is_file():
            raise FileNotFoundError(f"{file}: no such file; expected a finished experiment")
    kept += [results / OF_TEACHER] if (results / OF_TEACHER).is_file() else []
    provenance = read_json(results / "provenance.json")
    description = read_json(data)
    expected = provenance["runs"][0]["training"]["data_sha256"]
    if description["sha256"] != expected:
        raise ValueError(
            f"{data}: sha256 is {description['sha256'][:12]}; expected that "
            f"of the data of {results}, {expected[:12]}"
        )
    quantities = pd.read_csv(results / "table.csv")["quantity"].tolist()
    if arguments.headline not in quantities:
        raise ValueError(
            f"--headline: found {arguments.headline!r}; allowed: {', '.join(quantities)}"
        )
    runs = find_runs(results, provenance["runs"], arguments.teacher_results)
    images = description["images"]["train"]["count"]
    timings = read_timings(arguments.logs, results, data, runs, images, claims)
    told = provenance["table"]["arguments"]
    check_has(f"{results / 'provenance.json'}: table", told, ("title", "labels", "own_training"))
    study = {
        "title": told["title"], "command": arguments.command, "published": arguments.published,
        "headline": arguments.headline, "labels": told["labels"],
        "own_training": told["own_training"], "comparison": taken(Comparison, arguments).plain(),
    }  # fmt: skip
    with replacing_folder(arguments.folder) as folder:
        for file in kept:
            copy = folder / file.relative_to(results)
            copy.parent.mkdir(exist_ok=True)
            keep_file(file, copy)
        shutil.copyfile(data, folder / "data.json")
        timings.to_csv(folder / "timings.csv", index=False)
        join_histories(runs).to_csv(folder / "history.csv", index=False)
        for one in runs:
            place = Path(one["model"], f"seed_{one['seed']}")
            keep(results / place, folder / place)
        (folder / "study.json").write_text(json.dumps(study, indent=2) + "\n")
    print(f"{arguments.folder}: {study['title']}, {len(runs)} networks", flush=True)


if __name__ == "__main__":
    run(main)
