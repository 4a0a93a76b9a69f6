"""Preparing data: declarations of formats, and held-out images in the test split's place."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import prepare_data
from distillation.data.splits import hold_out, statistics, thin_out
from jobs import TINY, Snakemake
from made import mistake
from shell import ROOT

CLASSES = {"cat": 20, "dog": 10}


def arrays_of(cats: int = 20, dogs: int = 10) -> dict[str, np.ndarray]:
    """Return arrays of training images that tell their places apart, and of two test images."""
    labels = np.random.default_rng(0).permutation([0] * cats + [1] * dogs)
    places = np.arange(len(labels), dtype=np.uint8)
    images = np.broadcast_to(places[:, None, None, None], (len(labels), 8, 8, 1))
    return {
        "class_names": np.array([*CLASSES]),
        "train_images": images,
        "train_labels": labels,
        "test_images": np.full((2, 8, 8, 1), 200, dtype=np.uint8),
        "test_labels": np.array([0, 1]),
    }


def places(arrays: dict[str, np.ndarray], split: str) -> list[int]:
    """Return which of the training images make up a split."""
    return arrays[f"{split}_images"][:, 0, 0, 0].tolist()


@pytest.mark.parametrize(("fraction", "counts"), [(0.1, [2, 1]), (0.5, [10, 5]), (0.8, [16, 8])])
def test_held_out_images_are_of_the_training_split(fraction: float, counts: list[int]) -> None:
    """Each training image is on one side, with its label; the fraction holds in each class."""
    before = arrays_of()
    after = hold_out(before, fraction, 0)
    assert sorted(places(after, "train") + places(after, "test")) == list(range(30))
    assert np.bincount(after["test_labels"]).tolist() == counts
    for split in ("train", "test"):
        held = places(after, split)
        assert held == sorted(held)
        assert after[f"{split}_labels"].tolist() == before["train_labels"][held].tolist()
    assert after["class_names"].tolist() == [*CLASSES]


def test_the_seed_alone_draws_the_held_out_images() -> None:
    """One seed holds out the same images each time, another others."""
    first, again, other = (places(hold_out(arrays_of(), 0.2, seed), "test") for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_too_few_images_to_hold_out() -> None:
    """A part that can't have all classes is refused in one line that names the fraction."""
    with pytest.raises(ValueError, match=r"^validation_fraction 0.02 of 30 images: .*\d") as error:
        hold_out(arrays_of(), 0.02, 0)
    assert "\n" not in str(error.value)
    for fraction in (0.1, 0.9):
        with pytest.raises(ValueError, match=r"103 images: leaves one part without class dog.* 3;"):
            hold_out(arrays_of(100, 3), fraction, 0)


def test_training_images_that_are_left() -> None:
    """A part of the training images is left, by class and by seed; nothing else changes."""
    before = arrays_of()
    first, again, other = (thin_out(arrays_of(), 0.2, seed) for seed in (3, 3, 4))
    left = places(first, "train")
    assert left == sorted(left) == places(again, "train") != places(other, "train")
    assert np.bincount(first["train_labels"]).tolist() == [4, 2]
    assert first["train_labels"].tolist() == before["train_labels"][left].tolist()
    assert (first["test_images"] == before["test_images"]).all()
    # A class that is there stays.
    assert np.bincount(thin_out(arrays_of(), 0.02, 0)["train_labels"]).tolist() == [1, 1]
    assert np.bincount(thin_out(arrays_of(100, 3), 0.9, 0)["train_labels"]).tolist() == [90, 3]
    # Whose products are above whole numbers by rounding alone.
    for fraction, left in ((0.07, 7), (0.55, 55)):
        found = thin_out(arrays_of(100, 100), fraction, 0)["train_labels"]
        assert np.bincount(found).tolist() == [left, left]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of noisy images, the test images far darker."""
    generator = np.random.default_rng(0)
    for name, count in CLASSES.items():
        for split, levels in (("train", (100, 256)), ("test", (0, 10))):
            (tmp_path / "images" / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(*levels, (8, 8), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "images" / split / name / f"{number}.png")
    return tmp_path / "images"


def flags(folder: Path, *more: str) -> list[str]:
    """Return the command line that reads a folder of images."""
    return [
        *("--archive", str(folder.parent / "held.npz")),
        *("--description", str(folder.parent / "held.json"), "--format", "image_folder"),
        *(f"source={folder}", "image_size=8", "channels=1", "fit=crop", *more),
    ]


def test_archive_of_held_out_images(folder: Path) -> None:
    """The archive holds training images only, and is normalised by those that are trained on."""
    prepare_data.main(flags(folder, "validation_fraction=0.2", "validation_seed=0"))
    with np.load(folder.parent / "held.npz") as arrays:
        assert len(arrays["train_labels"]) == 24
        assert len(arrays["test_labels"]) == 6
        assert arrays["test_images"].min() >= 100
        assert arrays["mean"] == pytest.approx([arrays["train_images"].mean()])
        assert arrays["std"] == pytest.approx([arrays["train_images"].std()])
        assert arrays["held_out"]
    described = json.loads((folder.parent / "held.json").read_text())
    assert described["images"]["test"]["per_class"] == [4, 2]
    assert described["held_out"]
    given = described["provenance"]["arguments"]["format"]["image_folder"]
    assert given["validation_fraction"] == 0.2
    assert {*folder.parent.iterdir()} == {folder, *folder.parent.glob("held.*")}


def test_archive_of_few_training_images(folder: Path) -> None:
    """Training images are left out of those that aren't held out, and normalise nothing."""
    parts = ("validation_fraction=0.2", "validation_seed=0")
    prepare_data.main(flags(folder, *parts, "training_fraction=0.5", "training_seed=0"))
    with np.load(folder.parent / "held.npz") as arrays:
        assert np.bincount(arrays["train_labels"]).tolist() == [8, 4]
        assert len(arrays["test_labels"]) == 6
        assert arrays["mean"] == pytest.approx([arrays["train_images"].mean()])


def test_what_a_killed_run_unpacked_is_removed(folder: Path) -> None:
    """The next run removes the folder that one which was killed has left, and its own."""
    left = folder.parent / ".held.unpacked"
    (left / "cifar-10").mkdir(parents=True)
    prepare_data.main(flags(folder))
    assert not left.exists()


def test_processes_change_nothing(folder: Path) -> None:
    """The description, with digest and provenance, is the same text by however many processes."""
    texts = []
    for threads in ("1", "2"):
        prepare_data.main([*flags(folder), "--threads", threads])
        texts.append((folder.parent / "held.json").read_text())
    assert texts[0] == texts[1]


@pytest.mark.workflow
def test_preparing_takes_the_cores_that_there_are(
    tmp_path: Path, copy_project: Callable[[Path], Path], snakemake: Snakemake
) -> None:
    """The job has as many processes as Snakemake has cores, up to 16."""
    project = copy_project(tmp_path / "project")
    for cores, expected in (("3", "3"), ("64", "16")):
        done = snakemake(
            project, "-n", "-p", "results/data/tiny.npz", "--cores", cores, "--quiet", "host",
            "--configfile", TINY,
        )  # fmt: skip
        assert f"--threads {expected} --format" in done.stdout


def test_a_whole_source_keeps_its_test_images(folder: Path) -> None:
    """Where none are held out, the archive says so and has the source's own test images."""
    prepare_data.main(flags(folder))
    with np.load(folder.parent / "held.npz") as arrays:
        assert arrays["test_images"].max() < 10
        assert not arrays["held_out"]
    assert json.loads((folder.parent / "held.json").read_text())["held_out"] is False


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["validation_seed=0"], "image_folder: found one of validation_fraction"),
        (["validation_fraction=1", "validation_seed=0"], "validation_fraction: found 1; allowed:"),
        (["training_fraction=0.5"], "image_folder: found one of training_fraction"),
    ],
)
def test_half_asked_for_validation_is_refused(
    folder: Path, more: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fraction and seed go together, and not all images can be held out; nothing is written."""
    assert said in mistake(capsys, prepare_data.main, flags(folder, *more))
    assert not (folder.parent / "held.npz").exists()


def test_constant_images_are_refused() -> None:
    """A channel that is the same everywhere can't be normalised."""
    with pytest.raises(ValueError, match=r"constant in a channel; std is \[0\.0\]"):
        statistics(np.full((2, 4, 4, 1), 7, dtype=np.uint8))


def test_declarations_of_formats_import_nothing_large() -> None:
    """The workflow knows settings, sizes and masks of all formats without the readers' packages."""
    code = """
import sys
from distillation.settings import plugins
kinds = {name: plugins.declared("formats", name) for name in plugins.names("formats")}
parts = dict(validation_fraction=0.1, validation_seed=0, training_fraction=0.2, training_seed=0)
sizes = kinds["cifar100"](**parts).sizes()
print(sizes.train, sizes.test, sizes.classes, kinds["cifar10"]().sizes().train)
print(kinds["digits"].masks, kinds["fashion_mnist"].masks, kinds["image_folder"].masks)
print(sorted({"PIL", "numpy", "sklearn", "torch", "torchvision"} & {*sys.modules}))
"""
    scripts = ROOT / "workflow/scripts"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=scripts, capture_output=True, text=True, check=True
    )
    assert done.stdout == "9000 5000 100 50000\nstored above_zero none\n[]\n"
