"""What a run survives: signals at any moment, a full disk, a folder that can't be written to."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from jobs import TINY, Snakemake, assert_same_checkpoint
from shell import ENVIRONMENT, ROOT

pytestmark = pytest.mark.workflow

SCRIPTS = ROOT / "workflow/scripts"
STYLE = f"{SCRIPTS}/figures.mplstyle"
SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGKILL]
PROTOCOL = [
    *("--network", "wrn", "depth=10", "width=1", "--batch-size", "32", "--schedule", "one_cycle"),
    *("--padding", "1", "--gamma-init", "ones", "--seed", "0", "--device", "cpu"),
]
# A hint brings a module that trains.
TERMS = [
    *("--term", "labels", "weight=0.1", "--term", "kd", "weight=0.9"),
    *("--term", "at", "weight=100", "--term", "hint", "weight=1"),
]


@pytest.fixture(autouse=True, scope="module")
def interruptible() -> Iterator[None]:
    """Have SIGINT reach what the tests start, also where they run in the background.

    A shell has its background jobs ignore SIGINT, and so would everything that they start.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def training(finished: Path, script: str, epochs: int = 12) -> list[str]:
    """Return the command line of a training of some seconds on the tiny data."""
    results = finished / "results"
    teacher = ["--teacher", str(results / "tiny/teacher/seed_0/checkpoint.pt"), *TERMS]
    return [
        *(sys.executable, str(SCRIPTS / script), "--data", str(results / "data/tiny.npz")),
        *("--epochs", str(epochs), *PROTOCOL, *(teacher if script == "train_student.py" else [])),
        *("--checkpoint", "out/checkpoint.pt", "--history", "out/history.csv"),
        *("--tensorboard", "out/tensorboard", "--resume", "resume/state.pt"),
    ]


def start(command: list[str], folder: Path) -> subprocess.Popen[str]:
    """Start a command in a folder, in a session of its own, as a terminal does."""
    folder.mkdir(exist_ok=True)
    return subprocess.Popen(
        command, cwd=folder, env=ENVIRONMENT, text=True, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def interrupt(
    command: list[str], folder: Path, number: signal.Signals, delay: float, after: str
) -> tuple[int, str]:
    """Send a signal to all of a command's processes; return its status and what stderr has.

    The signal comes `delay` seconds after the first line that has the text `after`, or after the
    start where there is none; a command that ended before is left alone.
    """
    with start(command, folder) as process:
        assert process.stdout is not None
        for line in process.stdout if after else ():
            if after in line:
                break
        try:
            process.wait(timeout=delay)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, number)
        _, error = process.communicate()
        return process.returncode, error


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder to its end."""
    with start(command, folder) as process:
        output, error = process.communicate()
        return subprocess.CompletedProcess(command, process.returncode, output, error)


def assert_same_training(folder: Path, expected: Path) -> None:
    """Assert that two trainings left the same network, and the same history save for times."""
    assert_same_checkpoint(folder, expected)
    # The last two columns are seconds and images per second.
    rows = [
        [line.split(",")[:-2] for line in (each / "history.csv").read_text().splitlines()]
        for each in (folder, expected)
    ]
    assert rows[0] == rows[1]


def test_stopped_at_random_moments(finished: Path, tmp_path: Path) -> None:
    """A training that TERM, INT and KILL hit ends with the network of one left alone."""
    script = "train_student.py"
    command = training(finished, script)
    moments = random.Random(script)  # noqa: S311 no secret
    with ThreadPoolExecutor() as pool:
        alone = pool.submit(run, command, tmp_path / "alone")
        outcomes = []
        for turn, number in enumerate(2 * SIGNALS):
            # Once it is hit while it starts, before it can say anything.
            after = "" if turn == 4 else "parameters"
            delay = moments.uniform(0, 0.7 if after else 3)
            outcome = interrupt(command, tmp_path / "hit", number, delay, after)
            outcomes += [outcome] if after else []
        assert alone.result().returncode == 0
    # Some came too late or too early; most hit the training itself.
    stopped = [error for status, error in outcomes if status == 1]
    assert len(stopped) >= 2, outcomes
    for error in stopped:
        assert re.fullmatch(
            rf"{script}: stopped (in|after) epoch \d+ of 12(, after step \d+)?\n", error
        )
    assert sum(status == -signal.SIGKILL for status, _ in outcomes) >= 1, outcomes
    last = run(command, tmp_path / "hit")
    assert last.returncode == 0, last.stderr
    assert_same_training(tmp_path / "hit/out", tmp_path / "alone/out")
    # Nothing is left of what it was kept going by.
    assert not list((tmp_path / "hit/resume").iterdir())
    left = {path.name for path in (tmp_path / "hit/out").iterdir()}
    assert left == {"checkpoint.pt", "history.csv", "tensorboard"}


def test_stopped_inside_snakemake(finished: Path, tmp_path: Path, snakemake: Snakemake) -> None:
    """Ctrl-C and KILL of the whole workflow cost no more than the epoch that they hit."""
    target = "results/tiny/at_kd/seed_0"
    overlay = yaml.safe_dump({"experiments": {"tiny": {"student": {"training": {"epochs": 10}}}}})
    trees = [shutil.copytree(finished, tmp_path / name) for name in ("hit", "alone")]
    for tree in trees:
        (tree / "change.yaml").write_text(overlay)
    configuration = ["--configfile", TINY, "change.yaml"]
    arguments = ["--cores", "1", f"{target}/checkpoint.pt", *configuration]
    command = [sys.executable, "-m", "snakemake", *arguments]
    for number in (signal.SIGINT, signal.SIGKILL):
        status, _ = interrupt(command, trees[0], number, 0.2, "epoch ")
        assert status != 0
        unlocked = snakemake(trees[0], "--unlock", "all", *configuration)
        assert unlocked.returncode == 0, unlocked.stdout
    for tree in trees:
        done = snakemake(tree, *arguments)
        assert done.returncode == 0, done.stdout
    log = (trees[0] / "logs/train_student/tiny/at_kd/seed_0.log").read_text()
    assert "going on after epoch" in log
    assert_same_training(trees[0] / target, trees[1] / target)


def test_second_run_is_refused(finished: Path, tmp_path: Path) -> None:
    """While a training writes to a folder, another one that would is refused at once."""
    command = training(finished, "train_teacher.py", epochs=5000)
    with start(command, tmp_path) as first:
        assert first.stdout is not None
        first.stdout.readline()
        second = run(command, tmp_path)
        assert second.returncode == 1
        assert second.stderr == (
            "train_teacher.py: error: out: another run is writing there; allowed: one\n"
        )
        assert first.poll() is None
        first.terminate()
        first.communicate()
        assert first.returncode == 1
    assert (tmp_path / "resume/state.pt").is_file()


def namespaces_work() -> bool:
    """Return whether this user may mount a file system for one process."""
    probe = ["unshare", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return (
        shutil.which("unshare") is not None
        and not subprocess.run(probe, check=False, capture_output=True).returncode
    )


# A small disk, a disk that can't be written to, and a limit on the size of each file.
DISKS = {
    "full": "mount -t tmpfs -o size=24k tmpfs disk",
    "read-only": "mount -t tmpfs -o ro tmpfs disk",
    "quota": "ulimit -f 8",
}
SAYS = {"full": "No space left", "read-only": "Read-only file system", "quota": "File too large"}


# They all write through one function.
CASES = {
    "prepare_data.py": "read-only", "train_teacher.py": "full", "evaluate.py": "quota",
    "extract_attention.py": "full", "render_figures.py": "quota",
}  # fmt: skip


def arguments_of(script: str, finished: Path) -> list[str]:
    """Return the arguments of a step, on the finished run, with outputs in `disk`."""
    model, data = finished / "results/tiny/at_kd/seed_0", finished / "results/data/tiny.npz"
    network = f"--data {data} --device cpu --checkpoint {model}/checkpoint.pt"
    if script == "prepare_data.py":
        digits = yaml.safe_load((ROOT / TINY).read_text())["data"]["tiny"]
        words = [digits.pop("format"), *(f"{name}={value}" for name, value in digits.items())]
        return ["--archive=disk/a.npz", "--description=disk/a.json", "--format", *words]
    if script == "train_teacher.py":
        words = " ".join(training(finished, script)[2:])
        return words.replace("out/", "disk/").replace("resume/", "disk/").split()
    if script == "evaluate.py":
        outputs = "--metrics disk/m.json --predictions disk/p.npz --metric top1_accuracy"
        return f"{network} {outputs}".split()
    if script == "extract_attention.py":
        return f"{network} --attention disk/a.npz --images-per-class 2 --seed 0".split()
    runs = [
        f"--run {name} 0 {files}/metrics.json {files}/history.csv {files}/attention.npz"
        for name, files in (("teacher", finished / "results/tiny/teacher/seed_0"), ("at_kd", model))
    ]
    style = f"--title x --figures disk/figures --digests disk/d.json --dpi 50 --style {STYLE}"
    return " ".join([style, *runs]).split()


@pytest.mark.parametrize(("script", "disk"), CASES.items())
def test_disk(finished: Path, tmp_path: Path, script: str, disk: str) -> None:
    """A step that can't write says so in one line, and leaves nothing half-written."""
    if disk != "quota" and not namespaces_work():
        pytest.skip("no file system can be mounted here")
    namespace = [] if disk == "quota" else ["unshare", "--map-root-user", "--mount"]
    (tmp_path / "disk").mkdir()
    inside = f'{DISKS[disk]} && "$@"; status=$?; find disk -mindepth 1; exit $status'
    command = [sys.executable, str(SCRIPTS / script), *arguments_of(script, finished)]
    done = run([*namespace, "bash", "-c", inside, "bash", *command], tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{script}: error: ")
    assert SAYS[disk] in line
    assert "disk/" in line
    assert not [text for text in done.stdout.splitlines() if text.startswith("disk/")]
