r"""Time the whole workflow in a fresh clone: wall clock, time of the processors, and memory.

    python benchmarks/workflow.py --json first_run.json --markdown first_run.md

Anything else that runs on the machine shows in the wall clock: `load` is what ran before it began.
"""

import argparse
import contextlib
import csv
import json
import os
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import arms
import psutil
import torch

from distillation.record.files import replacing
from distillation.reporting.tables import table_lines
from distillation.settings.arguments import Parser, run

ROOT = Path(__file__).resolve().parent.parent
# Seconds between two looks at the memory.
SAMPLED = 1


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(__doc__)
    flag = parser.add_argument
    flag("--cores", type=int, default=4, help="jobs at a time")
    flag("--arguments", default="all", help="of snakemake, in one word")
    flag("--folder", type=Path, help="where the clone is made and stays; default: it is removed")
    flag("--json", type=Path, required=True, help="output: all that was measured")
    flag("--markdown", type=Path, required=True, help="output: a table of it")
    return parser.parse_args(argv)


def seconds_by_rule(logs: Path) -> dict[str, float]:
    """Return the wall-clock seconds of each rule's jobs, added up, the longest first."""
    found: dict[str, float] = {}
    for file in logs.rglob("*.tsv"):
        rule = file.relative_to(logs).parts[0]
        with file.open() as lines:
            (row,) = csv.DictReader(lines, delimiter="\t")
        found[rule] = found.get(rule, 0) + float(row["s"])
    return dict(sorted(found.items(), key=lambda each: -each[1]))


def memory_of(process: psutil.Process) -> int:
    """Return the bytes of memory of a process and all below it, shared ones counted once."""
    found = 0
    # Processes come and go.
    with contextlib.suppress(psutil.NoSuchProcess):
        for each in [process, *process.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                found += each.memory_full_info().pss
    return found


def measure(arguments: list[str], folder: Path) -> dict[str, Any]:
    """Run snakemake in a clone in a folder and return what it took.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    # Jobs call `python`: this one.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    load = os.getloadavg()[0]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started, peak = time.perf_counter(), 0
    process = psutil.Popen(
        [sys.executable, "-m", "snakemake", *arguments],
        cwd=folder, env=os.environ | {"PATH": path}, stdout=sys.stderr,
    )  # fmt: skip
    while process.poll() is None:
        peak = max(peak, memory_of(process))
        with contextlib.suppress(psutil.TimeoutExpired):
            process.wait(timeout=SAMPLED)
    seconds = time.perf_counter() - started
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "seconds": seconds,
        "user_seconds": after.ru_utime - before.ru_utime,
        "system_seconds": after.ru_stime - before.ru_stime,
        "peak_memory_bytes": peak,
        "largest_process_bytes": after.ru_maxrss * 1024,
        "load": load,
        "seconds_by_rule": seconds_by_rule(folder / "logs"),
    }


def main(argv: list[str] | None = None) -> None:
    """Time the workflow and write JSON and a table."""
    arguments = parse_args(argv)
    words = ["--cores", str(arguments.cores), *shlex.split(arguments.arguments)]
    with tempfile.TemporaryDirectory() as folder:
        measured = measure(words, arguments.folder or Path(folder, "clone"))
    machine = arms.describe_machine(torch.device("cpu")) | {"cores": str(os.cpu_count())}
    command = shlex.join(["snakemake", *words])
    minutes = measured["seconds"] / 60
    cpu = (measured["user_seconds"] + measured["system_seconds"]) / 60
    lines = [
        ", ".join(f"{name} {value}" for name, value in machine.items()),
        "",
        f"`{command}` in a fresh clone, without the set-up: {minutes:.1f} minutes of wall clock, "
        f"{cpu:.1f} of the processors' time, {measured['peak_memory_bytes'] / 1e9:.2f} GB in all "
        f"processes together, {measured['largest_process_bytes'] / 1e9:.2f} GB in the largest; "
        f"load {measured['load']:.1f} before it began.",
        "",
        *table_lines(
            ["rule", "seconds of all its jobs, which run side by side"],
            [[name, f"{seconds:.0f}"] for name, seconds in measured["seconds_by_rule"].items()],
        ),
    ]
    with replacing(arguments.json) as data, replacing(arguments.markdown) as text:
        data.write_text(
            json.dumps({"machine": machine, "command": command} | measured, indent=2) + "\n"
        )
        text.write_text("\n".join(lines) + "\n")
    print(lines[2])


if __name__ == "__main__":
    run(main)
