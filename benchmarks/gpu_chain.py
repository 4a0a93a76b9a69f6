"""The chain's own scripts on a card: each a process, whose times are those that a user has."""

import csv
import statistics
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import arms
import numpy as np
import torch

SCRIPTS = Path(__file__).resolve().parents[1] / "workflow/scripts"
METHODS = {
    "baseline": [],
    "kd": ["labels weight=0.1", "kd weight=0.9"],
    "at": ["at weight=1000"],
    "at_kd": ["labels weight=0.1", "kd weight=0.9", "at weight=1000"],
}
# Of the epochs of a training, the first has the capture in it, and compiling.
EPOCHS = 3


class Chain:
    """Scripts that train, tabulate, evaluate and measure, one after the other.

    Args:
        folder: where they write; each finds there what those before it wrote.
        device: cpu or cuda.
        small: tiny networks.
    """

    def __init__(self, folder: Path, device: str, small: bool) -> None:
        self.folder, self.device = folder, device
        self.networks = ((16, 1), (10, 1)) if small else ((40, 2), (16, 2))

    def write_data(self, train: int, test: int, side: int) -> dict[str, int]:
        """Write prepared data of noise and return how many images there are."""
        arrays: dict[str, Any] = {"mean": arms.MEAN, "std": arms.STD}
        arrays["class_names"] = [str(name) for name in range(arms.CLASSES)]
        for seed, (split, count) in enumerate({"train": train, "test": test}.items()):
            found = arms.noise(count, side, seed, torch.device("cpu"))
            arrays[f"{split}_images"] = found.images.numpy()
            arrays[f"{split}_labels"] = found.labels.numpy()
        np.savez(self.folder / "data.npz", allow_pickle=False, **arrays)
        return {"train": train, "test": test}

    def run(self, script: str, *flags: str) -> dict[str, Any]:
        """Run a script and return the seconds from its start to its end, and to its first line.

        Raises:
            RuntimeError: it failed; with what it said.
        """
        command = [sys.executable, str(SCRIPTS / script), "--data", "data.npz", *flags]
        command += ["--device", self.device]
        started, seconds = time.perf_counter(), []
        with (self.folder / "errors.txt").open("w+") as errors:
            with subprocess.Popen(
                command, cwd=self.folder, stdout=subprocess.PIPE, stderr=errors, text=True
            ) as process:
                assert process.stdout is not None  # noqa: S101 asked for above
                said = []
                for line in process.stdout:
                    seconds.append(time.perf_counter() - started)
                    said.append(line.strip())
            ended = time.perf_counter() - started
            if process.returncode:
                errors.seek(0)
                raise RuntimeError(" / ".join([*said, errors.read()])[-1000:])
        return {"seconds": ended, "first_line_after": seconds[0], "said": said[0]}

    def train(self, script: str, depth: int, width: int, files: str, *flags: str) -> dict[str, Any]:
        """Train and return what the history says of the first student, and the times.

        The first step has been done after the line that says what is trained and what the first
        epoch takes longer than the second.
        """
        found = self.run(
            script, "--network", "wrn", f"depth={depth}", f"width={width}", "--seed", "0",
            "--epochs", str(EPOCHS), "--schedule", "cosine", *flags,
        )  # fmt: skip
        with (self.folder / files / "history.csv").open() as file:
            rows = [*csv.DictReader(file)]
        seconds = [float(row["seconds"]) for row in rows]
        speeds = [float(row["images_per_second"]) for row in rows[1:]]
        return found | {
            "images_per_second": round(statistics.median(speeds)),
            "seconds_of_epochs": seconds,
            "seconds_to_first_step": found["first_line_after"] + seconds[0] - seconds[1],
        }

    def train_teacher(self) -> dict[str, Any]:
        """Train the teacher."""
        files = ["--checkpoint", "teacher/checkpoint.pt", "--history", "teacher/history.csv"]
        return self.train("train_teacher.py", *self.networks[0], "teacher", *files)

    def train_student(self, place: str, compiled: str) -> dict[str, Any]:
        """Train a baseline by itself, compiled (on) or not (off)."""
        files = ["--checkpoint", f"{place}/checkpoint.pt", "--history", f"{place}/history.csv"]
        student, flags = self.networks[1], ["--compile", compiled]
        found = self.train("train_student.py", *student, place, *files, *flags)
        return found | {"weights": self.digest_weights(place)}

    def digest_weights(self, place: str) -> str:
        """Return a digest of the weights of a checkpoint: the same bits have the same."""
        weights = torch.load(self.folder / place / "checkpoint.pt", weights_only=True)["state"]
        digest = sha256()
        for name, tensor in weights.items():
            digest.update(name.encode() + tensor.numpy().tobytes())
        return digest.hexdigest()[:16]

    def train_students(self) -> dict[str, Any]:
        """Train the four students of a seed together."""
        flags = ["--teacher", "teacher/checkpoint.pt"]
        for name, terms in METHODS.items():
            flags += ["--student", name, *terms]
        for name, file in (
            ("checkpoint", "checkpoint.pt"), ("history", "history.csv"),
            ("tensorboard", "events"), ("resume", "state.pt"),
        ):  # fmt: skip
            flags += [f"--{name}", *(f"{method}/{file}" for method in METHODS)]
        return self.train("train_students.py", *self.networks[1], "baseline", *flags)

    def tabulate_targets(self) -> dict[str, Any]:
        """Tabulate the teacher's logits of all images, as they are and mirrored."""
        return self.run(
            "tabulate_targets.py", "--checkpoint", "teacher/checkpoint.pt",
            "--targets", "targets.npz", "--padding", "0",
        )  # fmt: skip

    def evaluate(self) -> dict[str, Any]:
        """Evaluate the students in one process."""
        flags = []
        for name, file in (
            ("checkpoint", "checkpoint.pt"), ("metrics", "metrics.json"),
            ("predictions", "predictions.npz"),
        ):  # fmt: skip
            flags += [f"--{name}", *(f"{method}/{file}" for method in METHODS)]
        return self.run("evaluate.py", *flags, "--metric", "top1_accuracy") | {
            "networks": len(METHODS)
        }

    def measure_attention(self) -> dict[str, Any]:
        """Measure the attention of the teacher and of a student, with its untrained control."""
        return self.run(
            "measure_attention.py",
            "--network", "teacher", "0", "teacher/checkpoint.pt",
            "--network", "at", "0", "at/checkpoint.pt",
            "--teacher", "teacher/checkpoint.pt", "--taught", "at", "--object-mask", "none",
            "--metrics", "attention.csv", "--provenance", "attention.json",
        )  # fmt: skip
