"""The workflow on a real Slurm of one node, through the profile that is shipped.

Four runs go at the same time, because nearly all of their time is Snakemake's starting and Slurm's
looking: the tiny experiment, interrupted and started again; trainings to which all happens that a
scheduler does to jobs; two jobs that want a GPU; a job through the profile for other schedulers.
`pytest tests/test_slurm.py -s` prints every job with the state that Slurm reports.
"""

import base64
import csv
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import yaml

from jobs import TINY, Snakemake, assert_same_checkpoint
from shell import ENVIRONMENT, ROOT, run_in_shell

pytestmark = [pytest.mark.workflow, pytest.mark.slurm]

START, STOP = (ROOT / "tests/slurm" / name for name in ("start", "stop"))

# The profile's numbers are for clusters that others use as well.
HURRY = ["--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "10"]
ONE_SEED = "one_seed.yaml"
LONG = "long.yaml"
# Every epoch is saved; an attempt that starts anew would be seen in the log.
EPOCHS = 30
SEEDS = {"cancelled": 0, "timeout": 1, "limit": 2}
# One that needs no teacher, and one that takes its targets from a table.
STUDENTS = ["baseline", "kd"]
OVERLAYS = {
    ONE_SEED: {"experiments": {"tiny": {"seeds": [0], "students": STUDENTS}}},
    LONG: {
        "run": ["long"],
        "experiments": {
            "long": {
                "extends": "tiny",
                "seeds": list(SEEDS.values()),
                "students": ["baseline"],
                "student": {"training": {"epochs": EPOCHS}},
            }
        },
    },
}
TRAININGS = [f"results/long/baseline/seed_{seed}/checkpoint.pt" for seed in SEEDS.values()]
# The second attempt of one gets less memory than torch takes. Another is told that its time is up
# when it has begun; the third doesn't know that its own will be.
RESOURCES = [
    "train_student:mem_mb=600 if wildcards.seed == '0' and attempt == 2 else 1600",
    "train_student:runtime=2 if wildcards.seed == '2' and attempt == 1 else 30",
]
# Two jobs that end only when both have begun.
TWO_GPUS = """\
rule all:
    input:
        ["0.txt", "1.txt"],

rule hold:
    output:
        "{number}.txt",
    resources:
        gpu=1,
        mem_mb=700,
    shell:
        "touch begun_{wildcards.number};"
        " until [ -e begun_0 ] && [ -e begun_1 ]; do sleep 0.2; done;"
        " echo $CUDA_VISIBLE_DEVICES > {output}"
"""

# A job that is cancelled in its first attempt, by itself.
TWICE = """\
rule all:
    input:
        "twice.txt",

rule twice:
    output:
        "twice.txt",
    resources:
        mem_mb=500,
        number=lambda wildcards, attempt: attempt,
    shell:
        "if [ {resources.number} = 1 ]; then scancel $SLURM_JOB_ID; sleep 600; fi;"
        " echo {resources.number} > {output}"
"""


class State(NamedTuple):
    """A job as squeue reports it."""

    number: int
    state: str
    partition: str
    megabytes: str
    limit: str
    name: str


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Start a Slurm for all tests, and stop it; skip them where there can be none.

    REQUIRE_SLURM in the environment, which .ci/run sets, makes that a failure.
    """
    without = pytest.fail if os.environ.get("REQUIRE_SLURM") else pytest.skip
    if importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
        without("snakemake-executor-plugin-slurm isn't installed: make cluster")
    missing = [name for name in ("munged", "slurmctld", "slurmd", "sbatch") if not which(name)]
    if missing:
        without(f"no {', '.join(missing)}: apt-get install slurmctld slurmd slurm-client munge")
    folder = tmp_path_factory.mktemp("slurm")
    # What a killed run of the tests leaves: the shell that it belongs to ends.
    left = subprocess.run(["sh", "-c", f"{START} {folder}/killed; exit $?"], check=False)
    try:
        started = subprocess.run(
            [START, folder / "ours"], check=False, capture_output=True, text=True
        )
        if started.returncode:
            without(f"Slurm doesn't start: {started.stderr.strip()}")
        assert left.returncode == 0
        yield folder
    finally:
        subprocess.run([STOP, folder / "ours"], check=True)


def which(name: str) -> str | None:
    """Return where a program is; the daemons are not on every user's path."""
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


def states(folder: Path) -> list[State]:
    """Return all jobs that were submitted from a folder, in their order."""
    form = "%i|%T|%P|%m|%l|%k|%Z"
    listed = run_in_shell(folder, f"squeue --states all --noheader --sort i --format '{form}'")
    rows = [line.split("|") for line in listed.splitlines()]
    return [State(int(row[0]), *row[1:6]) for row in rows if row[6] == str(folder)]


def jobs_of(folder: Path, name: str) -> list[State]:
    """Return the attempts of a job."""
    return [job for job in states(folder) if job.name.endswith(name)]


def wait_for(condition: Callable[[], object], run: subprocess.Popen[str]) -> None:
    """Wait until a condition holds, or fail when the run ends before."""
    while not condition():
        assert run.poll() is None, "it ended before"
        time.sleep(0.2)


def snakemake_in(
    folder: Path, *arguments: str, profile: str = "profiles/slurm"
) -> subprocess.Popen[str]:
    """Start Snakemake in a folder, which says what it has to say in snakemake.out."""
    with (folder / "snakemake.out").open("a") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "snakemake", "--profile", profile, *HURRY, *arguments],
            cwd=folder, env=ENVIRONMENT, text=True, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
            # A shell has its background jobs ignore SIGINT, and they what they start.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )  # fmt: skip


def said(folder: Path) -> str:
    """Return what Snakemake has said in a folder."""
    return (folder / "snakemake.out").read_text()


def log_of(folder: Path, case: str) -> str:
    """Return what the current attempt of a long training has printed."""
    log = folder / f"logs/train_student/long/baseline/seed_{SEEDS[case]}.log"
    return log.read_text() if log.exists() else ""


def trainings_in(tree: Path, folder: str) -> list[int]:
    """Return the processes of one tree whose networks go below a folder of results."""
    pattern = f"^python workflow/scripts/train_(teacher|student).py .*results/{folder}/"
    found = subprocess.run(["pgrep", "-f", pattern], check=False, capture_output=True, text=True)
    return [number for number in map(int, found.stdout.split()) if working_folder(number) == tree]


def working_folder(process: int) -> Path | None:
    """Return where a process works, or None where it has ended."""
    try:
        return Path(f"/proc/{process}/cwd").readlink()
    except OSError:
        return None


@pytest.fixture(scope="module")
def runs(
    slurm: Path,  # noqa: ARG001
    copy_project: Callable[[Path], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Path]:
    """Return the folders of the runs, in which all that was to happen has happened."""
    base = tmp_path_factory.mktemp("runs").resolve()
    folders = {name: base / name for name in ("gpus", "generic", "long", "tiny")}
    for folder in folders.values():
        folder.mkdir()
        copy_project(folder)
        for name, overlay in OVERLAYS.items():
            (folder / name).write_text(yaml.safe_dump(overlay))
    (folders["gpus"] / "Snakefile").write_text(TWO_GPUS)
    (folders["generic"] / "Snakefile").write_text(TWICE)
    processes = []
    try:
        # Two GPUs: both must run at a time, so they come first.
        gpus = snakemake_in(folders["gpus"])
        processes.append(gpus)
        wait_for(lambda: len(states(folders["gpus"])) == 2, gpus)
        processes.append(snakemake_in(folders["generic"], profile="profiles/cluster-generic"))
        long = snakemake_in(
            *(folders["long"], *TRAININGS, "--configfile", TINY, LONG),
            *("--set-resources", *RESOURCES),
        )
        processes.append(long)
        strike(folders["long"], long)
        processes.append(interrupted(folders["tiny"]))
        for process in processes:
            process.wait()
    finally:
        for process in processes:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.wait()
    for name, folder in folders.items():
        for job in states(folder):
            print(name, *job)
    for process, folder in zip(processes, folders.values(), strict=True):
        assert process.returncode == 0, said(folder)
    return folders


def strike(folder: Path, run: subprocess.Popen[str]) -> None:
    """Have one training time out, and cancel another, both when they have saved some epochs."""
    wait_for(lambda: f"epoch   3/{EPOCHS}" in log_of(folder, "timeout"), run)
    (job,) = jobs_of(folder, f"long_baseline_{SEEDS['timeout']}")
    # It stands still, so that it lasts until its time ends, which an administrator has cut.
    (training,) = trainings_in(folder, f"long/baseline/seed_{SEEDS['timeout']}")
    os.kill(training, signal.SIGSTOP)
    run_in_shell(folder, f"scontrol update JobId={job.number} TimeLimit=1")
    wait_for(lambda: f"epoch   3/{EPOCHS}" in log_of(folder, "cancelled"), run)
    (job,) = jobs_of(folder, f"long_baseline_{SEEDS['cancelled']}")
    run_in_shell(folder, f"scancel {job.number}")


def interrupted(folder: Path) -> subprocess.Popen[str]:
    """Start the tiny experiment, interrupt it when a network trains, and start it again."""
    arguments = [folder, "all", "--configfile", TINY, ONE_SEED]
    first = snakemake_in(*arguments)
    wait_for(lambda: trainings_in(folder, "tiny"), first)
    # It stands still, because it would end by itself before Snakemake has cancelled it.
    os.kill(trainings_in(folder, "tiny")[0], signal.SIGSTOP)
    first.send_signal(signal.SIGINT)
    assert first.wait() != 0
    # Before they have ended, they would write beside those of the next run.
    while {job.state for job in states(folder)} & {"RUNNING", "PENDING", "COMPLETING"}:
        time.sleep(0.2)
    return snakemake_in(*arguments)


@pytest.fixture(scope="module")
def local(finished: Path, snakemake: Snakemake, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a tree in which the same was run on this machine, without Slurm."""
    tree = shutil.copytree(finished, tmp_path_factory.mktemp("local") / "tree")
    for name, overlay in OVERLAYS.items():
        (tree / name).write_text(yaml.safe_dump(overlay))
    for arguments in (
        ["all", "--configfile", TINY, ONE_SEED],
        [*TRAININGS, "--configfile", TINY, LONG],
    ):
        done = snakemake(tree, "--cores", "2", *arguments)
        assert done.returncode == 0, done.stdout
    return tree


def table(tree: Path) -> dict[str, dict[str, str]]:
    """Return the rows of the tiny experiment's table, without what measures time."""
    with (tree / "results/tiny/table.csv").open() as file:
        rows = {row["quantity"]: row for row in csv.DictReader(file)}
    return {name: row for name, row in rows.items() if row["unit"] not in ("s", "ms")}


def test_one_at_a_time(slurm: Path) -> None:
    """What a killed run has left is stopped; beside one that lives nothing starts or stops."""
    assert list((slurm / "killed/state").iterdir())
    assert not list((slurm / "killed/run").glob("*.pid"))
    refused = subprocess.run([START, slurm / "other"], check=False, capture_output=True, text=True)
    assert refused.returncode == 1
    assert refused.stderr == f"process {os.getpid()} has a Slurm in {slurm}/ours\n"
    subprocess.run([STOP, slurm / "other"], check=True)
    run_in_shell(slurm, "sinfo")
    assert not (slurm / "other").exists()


def test_table_as_on_this_machine(runs: dict[str, Path], local: Path) -> None:
    """On Slurm, interrupted once, the tiny experiment has networks and table of a local run."""
    for model in ("teacher", *STUDENTS):
        folder = f"results/tiny/{model}/seed_0"
        assert_same_checkpoint(runs["tiny"] / folder, local / folder)
        with (
            np.load(runs["tiny"] / folder / "predictions.npz") as ours,
            np.load(local / folder / "predictions.npz") as theirs,
        ):
            assert np.array_equal(ours["logits"], theirs["logits"])
    assert table(runs["tiny"]) == table(local)
    assert len(table(local)) > 5
    provenance = [
        json.loads((tree / "results/tiny/provenance.json").read_text())
        for tree in (runs["tiny"], local)
    ]
    assert provenance[0] == provenance[1]


def test_states(runs: dict[str, Path]) -> None:
    """What was interrupted was cancelled, and completed in the next run; nothing else failed."""
    attempts = states(runs["tiny"])
    assert {job.state for job in attempts} == {"CANCELLED", "COMPLETED"}
    assert {job.partition for job in attempts} == {"cpu"}
    cancelled = {job.name for job in attempts if job.state == "CANCELLED"}
    assert cancelled <= {job.name for job in attempts if job.state == "COMPLETED"}


def test_short_steps_share_jobs(runs: dict[str, Path]) -> None:
    """Short steps are two jobs, the measures of a seed one, data and reports none."""
    names = [job.name for job in states(runs["tiny"]) if job.state == "COMPLETED"]
    assert sum("measure" in name for name in names) == 3
    trainings = [name for name in names if "train_" in name or "tabulate" in name]
    assert len(trainings) == 2 + len(STUDENTS)
    assert len(names) == 3 + len(trainings)


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        # Out of memory, but without cgroups Slurm has no word for it.
        ("cancelled", ["CANCELLED", "FAILED", "COMPLETED"]),
        ("timeout", ["TIMEOUT", "COMPLETED"]),
        ("limit", ["FAILED", "COMPLETED"]),
    ],
)
def test_retry_goes_on(runs: dict[str, Path], local: Path, case: str, expected: list[str]) -> None:
    """A training cut off by whatever goes on from its last epoch, and ends with the same bits."""
    attempts = jobs_of(runs["long"], f"long_baseline_{SEEDS[case]}")
    assert [job.state for job in attempts] == expected
    folder = f"results/long/baseline/seed_{SEEDS[case]}"
    assert "going on after epoch" in log_of(runs["long"], case)
    assert_same_checkpoint(runs["long"] / folder, local / folder)
    assert not list((runs["long"] / "resume").rglob("*.pt"))


def slurm_log(folder: Path, job: State) -> str:
    """Return what a job that failed has left with Slurm."""
    (log,) = (folder / ".snakemake/slurm_logs").rglob(f"{job.number}.log")
    return log.read_text()


def test_out_of_memory(runs: dict[str, Path]) -> None:
    """The attempt that failed did so because it had too little memory."""
    failed = jobs_of(runs["long"], f"long_baseline_{SEEDS['cancelled']}")[1]
    assert failed.megabytes == "600M"
    assert "exceeded memory limit" in slurm_log(runs["long"], failed)


def test_stops_in_time(runs: dict[str, Path]) -> None:
    """A training that knows its time limit stops by itself, at an epoch's end."""
    failed = jobs_of(runs["long"], f"long_baseline_{SEEDS['limit']}")[0]
    stopped = f"train_student.py: stopped after epoch 1 of {EPOCHS}: time is up"
    assert stopped in slurm_log(runs["long"], failed)
    assert "going on after epoch 1" in log_of(runs["long"], "limit")


def test_gpus(runs: dict[str, Path]) -> None:
    """Two jobs at the same time have one GPU each, not the same, in the partition with GPUs."""
    devices = {(runs["gpus"] / f"{number}.txt").read_text() for number in (0, 1)}
    assert devices == {"0\n", "1\n"}
    assert [(job.state, job.partition) for job in states(runs["gpus"])] == [
        ("COMPLETED", "gpu")
    ] * 2


def test_other_scheduler(runs: dict[str, Path]) -> None:
    """Through commands of one's own, a job that was cancelled is submitted again, too."""
    assert [job.state for job in states(runs["generic"])] == ["CANCELLED", "COMPLETED"]
    assert (runs["generic"] / "twice.txt").read_text() == "2\n"


def records(tree: Path) -> dict[str, dict[str, object]]:
    """Return Snakemake's records of the tiny experiment's files, without what differs in any run.

    These are times, numbers of jobs, checksums of inputs that hold times themselves, and what was
    typed, which the page of an experiment shows.
    """
    folder = tree / ".snakemake/metadata"
    found = {}
    for path in folder.rglob("*"):
        if path.is_file():
            name = "".join(path.relative_to(folder).parts).replace("@", "")
            content = json.loads(path.read_text())
            for key in ("job_hash", "starttime", "endtime", "input_checksums"):
                del content[key]
            content["shellcmd"] = re.sub(r"--command .* --index", "", content["shellcmd"] or "")
            found[base64.b64decode(name).decode()] = content
    return {name: content for name, content in found.items() if "/tiny" in name}


def test_recorded_alike(runs: dict[str, Path], local: Path, snakemake: Snakemake) -> None:
    """What Snakemake records doesn't depend on where it ran: neither place reruns the other's."""
    ours, theirs = records(runs["tiny"]), records(local)
    assert len(ours) > 40
    for name, content in ours.items():
        assert content == theirs[name], name
    overlays = ["--configfile", TINY, ONE_SEED]
    for tree, profile in ((runs["tiny"], []), (local, ["--profile", "profiles/slurm"])):
        done = snakemake(tree, *profile, "-n", "all", *overlays)
        assert "Nothing to be done" in done.stdout, done.stdout
