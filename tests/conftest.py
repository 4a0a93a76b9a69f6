"""Fixtures that several tests of the library share, and those that run Snakemake."""

import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from distillation.data.dataset import Dataset, Split
from jobs import MORE, OVERLAY, TINY, Job, Snakemake, planned
from shell import ENVIRONMENT, ROOT

# Results of floating-point sums may depend on the number of threads; one is the default of the
# scripts as well.
torch.set_num_threads(1)
# Provenance describes the program that runs, which pytest's workers don't name.
if not Path(sys.argv[0]).is_file():
    sys.argv[0] = pytest.__file__


class Planted:
    """An object whose unpickling makes a folder, as a malicious one would run a command."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.marker),)


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """Return the folder that exists only once the planted object was unpickled."""
    return tmp_path / "unpickled"


@pytest.fixture
def planted(marker: Path) -> Planted:
    """Return an object that makes `marker` when it is unpickled."""
    return Planted(marker)


@pytest.fixture(scope="session")
def digits() -> Dataset:
    """Return 32 training and 40 test images, real digits of 10 classes on 12 x 12 pixels."""
    pixels, labels = (np.asarray(array) for array in load_digits(return_X_y=True))
    levels = (pixels.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    images = torch.from_numpy(np.pad(levels, ((0, 0), (2, 2), (2, 2)))[..., None])
    targets = torch.from_numpy(labels.astype(np.int64))
    train = images[:32].double()
    return Dataset(
        train=Split(images[:32], targets[:32]),
        test=Split(images[32:72], targets[32:72]),
        class_names=[str(digit) for digit in range(10)],
        mean=[train.mean().item()],
        std=[train.std().item()],
        sha256="not computed",
    )


@pytest.fixture(scope="session")
def once(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str, Callable[[Path], object]], Path]:
    """Return a function that has a folder made once for all workers of a run; the others wait."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def folder(name: str, make: Callable[[Path], object]) -> Path:
        made, failed = shared / name, shared / f"{name}.failed"
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            assert not failed.exists(), failed.read_text()
            if not made.exists():
                made.mkdir()
                try:
                    make(made)
                except BaseException as error:
                    failed.write_text(str(error))
                    raise
        return made

    return folder


@pytest.fixture(scope="session")
def forks(once: Callable[[str, Callable[[Path], object]], Path]) -> dict[str, str]:
    """Return an environment whose `python` and `snakemake` are forks: see script_server.py.

    The tests that send signals, and some that say so, run Python itself.
    """
    tests = ROOT / "tests"
    # The controller of the workers lives as long as the run.
    owner = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()

    def start(folder: Path) -> None:
        address = folder / "socket"
        client = f"{sys.executable} -IS {tests / 'script_client.py'} {address}"
        for name, arguments in (("python", ""), ("snakemake", " -m snakemake")):
            (folder / name).write_text(f'#!/bin/sh\nexec {client}{arguments} "$@"\n')
            (folder / name).chmod(0o755)
        with (folder / "server.log").open("w") as log:
            server = subprocess.Popen(
                [sys.executable, str(tests / "script_server.py"), str(address), str(owner)],
                # A fork takes over no threads but the one that forks, so there should be no other.
                env=ENVIRONMENT | {"OPENBLAS_NUM_THREADS": "1"},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        while not address.exists():
            assert server.poll() is None, (folder / "server.log").read_text()
            time.sleep(0.1)
        # It ends by itself, when the run does.
        server.returncode = 0

    folder = once("forks", start)
    return ENVIRONMENT | {"PATH": f"{folder}{os.pathsep}{ENVIRONMENT['PATH']}"}


@pytest.fixture(scope="session")
def copy_project(
    once: Callable[[str, Callable[[Path], object]], Path],
) -> Callable[[Path], Path]:
    """Return a function that copies what a run needs into a new folder and returns it.

    Snakemake locks the folder that it runs in, so no test runs it beside the user's results. What
    torch alone can say of networks is asked once for all copies, whose answers are theirs to share.
    """

    def copy(folder: Path) -> Path:
        (folder / ".snakemake").mkdir(parents=True, exist_ok=True)
        (folder / ".snakemake/networks").symlink_to(once("networks", lambda _: None))
        for name in ("profiles", "workflow"):
            shutil.copytree(ROOT / name, folder / name)
        for name in ("Snakefile", "config.yaml", "requirements.lock", TINY):
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
        return folder

    return copy


@pytest.fixture(scope="session")
def snakemake(forks: dict[str, str]) -> Snakemake:
    """Return a function that runs `snakemake` with arguments in a folder, in forks."""

    def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [shutil.which("snakemake", path=forks["PATH"]) or "snakemake", *arguments],
            cwd=folder,
            env=forks,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    return run


def write_pictures(folder: Path, classes: tuple[str, ...] = ("zero", "one")) -> None:
    """Write real handwritten digits, 8 x 8 pixels, 18 of each class, as an image folder."""
    pixels, labels = (np.asarray(array) for array in load_digits(return_X_y=True))
    for digit, name in enumerate(classes):
        images = (pixels[labels == digit][:18] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8)
        for number, image in enumerate(images):
            file = folder / ("train" if number < 12 else "test") / name / f"{number:02}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(file)


@pytest.fixture(scope="session")
def finished(
    copy_project: Callable[[Path], Path],
    snakemake: Snakemake,
    once: Callable[[str, Callable[[Path], object]], Path],
) -> Path:
    """Return a copy of the project in which jobs.py's experiments were run, not to be changed."""

    def make(folder: Path) -> None:
        copy_project(folder)
        write_pictures(folder / "my pictures")
        (folder / MORE).write_text(OVERLAY)
        done = snakemake(folder, "--cores", "2", "all", "--configfile", TINY, MORE)
        assert done.returncode == 0, done.stdout

    return once("finished", make)


@pytest.fixture
def tree(finished: Path, tmp_path: Path) -> Path:
    """Return a copy of the finished tree, with its times and records, to be changed."""
    return shutil.copytree(finished, tmp_path / "tree")


@pytest.fixture(scope="session")
def plan(snakemake: Snakemake) -> Callable[..., set[Job]]:
    """Return a function that lists the jobs of targets in a folder, under one more overlay."""

    def jobs(folder: Path, *targets: str, overlay: str = "{}") -> set[Job]:
        (folder / "change.yaml").write_text(overlay)
        files = [name for name in (TINY, MORE, "change.yaml") if (folder / name).exists()]
        return planned(snakemake, folder, *targets, "--configfile", *files)

    return jobs
