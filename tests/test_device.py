"""GPUs of one machine: each process has its own. The devices are names; the processes are real."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs import Snakemake
from shell import ROOT

SCRIPTS = ROOT / "workflow/scripts"
# Takes a GPU, says its process and which it is, and holds it until stdin ends.
HOLD = f"""\
import os, sys
sys.path.insert(0, {str(SCRIPTS)!r})
from distillation.device import take_gpu
take_gpu()
print(os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES"), flush=True)
sys.stdin.read()
"""
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path, forks: dict[str, str]) -> Start:
    """Return a function that starts a process which takes one of some GPUs."""
    hold = tmp_path / "hold.py"
    hold.write_text(HOLD)
    python = str(shutil.which("python", path=forks["PATH"]))

    def process(visible: str | None) -> subprocess.Popen[str]:
        environment = {
            name: value for name, value in forks.items() if name != "CUDA_VISIBLE_DEVICES"
        } | {"TMPDIR": str(tmp_path)}
        if visible is not None:
            environment["CUDA_VISIBLE_DEVICES"] = visible
        return subprocess.Popen(
            [python, str(hold)], env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    return process


def says(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Return the process that holds a GPU, a fork (see script_server.py), and the GPU."""
    assert process.stdout is not None
    holder, _, gpu = process.stdout.readline().strip("\n").partition(" ")
    return int(holder), gpu


def test_each_has_its_own(start: Start) -> None:
    """Processes take different GPUs, and one more waits until a GPU is free, even after a kill."""
    with start("0,1,GPU-8f2a") as first, start("0,1,GPU-8f2a") as second:
        with start("0,1,GPU-8f2a") as third:
            said = [says(process) for process in (first, second, third)]
            held = {gpu for _, gpu in said}
            assert held == {"0", "1", "GPU-8f2a"}
            with start("0,1,GPU-8f2a") as fourth:
                for holder, _ in said:
                    os.kill(holder, signal.SIGKILL)
                assert says(fourth)[1] in held
                fourth.communicate("")
        assert fourth.returncode == 0


@pytest.mark.parametrize("visible", ["2", "", None])
def test_what_is_given_is_kept(start: Start, visible: str | None) -> None:
    """Where one GPU is named, or there is none, nothing is chosen."""
    with start(visible) as first, start(visible) as second:
        assert says(first)[1] == says(second)[1] == str(visible)
        for process in (first, second):
            process.communicate("")


@pytest.mark.workflow
def test_no_more_jobs_than_gpus(tmp_path: Path, snakemake: Snakemake) -> None:
    """Snakemake's jobs on two GPUs never share one, even where the profile allows more at once."""
    (tmp_path / "step.py").write_text(
        "import os, sys\n"
        f"sys.path.insert(0, {str(SCRIPTS)!r})\n"
        "from distillation.device import take_gpu\n"
        "take_gpu()\n"
        "gpu = os.environ['CUDA_VISIBLE_DEVICES']\n"
        # Fails if another job has the same GPU now.
        "os.mkdir(f'busy_{gpu}')\n"
        "open(sys.argv[1], 'w').write(gpu)\n"
        "os.rmdir(f'busy_{gpu}')\n"
    )
    (tmp_path / "Snakefile").write_text(
        "rule all:\n    input: [f'{number}.txt' for number in range(6)]\n"
        "rule step:\n    output: '{number}.txt'\n    resources: gpu=1, tmpdir='.'\n"
        "    shell: 'CUDA_VISIBLE_DEVICES=0,1 python step.py {output}'\n"
    )
    done = snakemake(tmp_path, "--cores", "4", "--resources", "gpu=4")
    assert done.returncode == 0, done.stdout
    assert {(tmp_path / f"{number}.txt").read_text() for number in range(6)} <= {"0", "1"}
