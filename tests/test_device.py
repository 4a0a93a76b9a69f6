"""GPUs of one machine: each process has its own. The devices are names; the processes are real."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs import Snakemake
from shell import ENVIRONMENT, ROOT

SCRIPTS = ROOT / "workflow/scripts"
# Takes a GPU, says which, and holds it until stdin ends.
HOLD = "import os, sys; from distillation.device import take_gpu; take_gpu()"
HOLD += "; print(os.environ.get('CUDA_VISIBLE_DEVICES'), flush=True); sys.stdin.read()"
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Return a function that starts a process which takes one of some GPUs."""

    def process(visible: str | None) -> subprocess.Popen[str]:
        environment = {
            name: value for name, value in ENVIRONMENT.items() if name != "CUDA_VISIBLE_DEVICES"
        } | {"PYTHONPATH": str(SCRIPTS), "TMPDIR": str(tmp_path)}
        if visible is not None:
            environment["CUDA_VISIBLE_DEVICES"] = visible
        return subprocess.Popen(
            [sys.executable, "-c", HOLD], env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    return process


def says(process: subprocess.Popen[str]) -> str:
    """Return the GPU that a process has taken."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_each_has_its_own(start: Start) -> None:
    """Processes take different GPUs, and one more waits until a GPU is free, even after a kill."""
    with start("0,1,GPU-8f2a") as first, start("0,1,GPU-8f2a") as second:
        with start("0,1,GPU-8f2a") as third:
            held = {says(process) for process in (first, second, third)}
            assert held == {"0", "1", "GPU-8f2a"}
            with start("0,1,GPU-8f2a") as fourth:
                for process in (first, second, third):
                    process.kill()
                    process.wait()
                assert says(fourth) in held
                fourth.communicate("")
        assert fourth.returncode == 0


@pytest.mark.parametrize("visible", ["2", "", None])
def test_what_is_given_is_kept(start: Start, visible: str | None) -> None:
    """Where one GPU is named, or there is none, nothing is chosen."""
    with start(visible) as first, start(visible) as second:
        assert says(first) == says(second) == str(visible)
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
