"""Fixtures that several tests of the library share, and those that run Snakemake."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from distillation.data.dataset import Dataset, Split
from jobs import OVERLAY, PICTURES, TINY, Job, Snakemake, planned
from shell import ENVIRONMENT, ROOT

# Results of floating-point sums may depend on the number of threads; one is the default of the
# scripts as well.
torch.set_num_threads(1)


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
def copy_project() -> Callable[[Path], Path]:
    """Return a function that copies what a run needs into a new folder and returns it.

    Snakemake locks the folder that it runs in, so no test runs it beside the user's results.
    """

    def copy(folder: Path) -> Path:
        for name in ("profiles", "workflow"):
            shutil.copytree(
                ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        for name in ("Snakefile", "config.yaml", "requirements.lock", TINY):
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
        return folder

    return copy


@pytest.fixture(scope="session")
def snakemake() -> Snakemake:
    """Return a function that runs `snakemake` with arguments in a folder."""

    def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "snakemake", *arguments],
            cwd=folder,
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    return run


def write_pictures(folder: Path) -> None:
    """Write real handwritten zeros and ones, 8 x 8 pixels, as an image folder of two classes."""
    pixels, labels = (np.asarray(array) for array in load_digits(return_X_y=True))
    for name, digit in (("one", 1), ("zero", 0)):
        images = (pixels[labels == digit][:18] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8)
        for number, image in enumerate(images):
            file = folder / ("train" if number < 12 else "test") / name / f"{number:02}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(file)


@pytest.fixture(scope="session")
def finished(
    copy_project: Callable[[Path], Path],
    snakemake: Snakemake,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Return a copy of the project in which the tiny experiment and the pictures were run."""
    folder = copy_project(tmp_path_factory.mktemp("finished"))
    write_pictures(folder / "my pictures")
    (folder / PICTURES).write_text(OVERLAY)
    done = snakemake(folder, "--cores", "2", "all", "--configfile", TINY, PICTURES)
    assert done.returncode == 0, done.stdout
    return folder


@pytest.fixture
def tree(finished: Path, tmp_path: Path) -> Path:
    """Return a copy of the finished tree, with its times and records, to be changed."""
    return shutil.copytree(finished, tmp_path / "tree")


@pytest.fixture(scope="session")
def plan(snakemake: Snakemake) -> Callable[..., set[Job]]:
    """Return a function that lists the jobs of targets in a folder, under one more overlay."""

    def jobs(folder: Path, *targets: str, overlay: str = "{}") -> set[Job]:
        (folder / "change.yaml").write_text(overlay)
        files = [name for name in (TINY, PICTURES, "change.yaml") if (folder / name).exists()]
        return planned(snakemake, folder, *targets, "--configfile", *files)

    return jobs
