"""What CUDA is told, shown without a GPU."""

import subprocess
import sys

import pytest
import torch

from distillation.device import images_per_pass
from shell import ENVIRONMENT, ROOT

# Where there is no GPU, only the question for one is answered otherwise.
PROBE = """\
import torch
from distillation.device import prepare_device
assert torch.backends.cuda.matmul.allow_tf32
torch.cuda.is_available = lambda: True
prepare_device("cuda", 1)
assert not torch.backends.cuda.matmul.allow_tf32
assert not torch.backends.cudnn.allow_tf32
assert torch.are_deterministic_algorithms_enabled()
"""


def test_float32_is_float32() -> None:
    """Nothing rounds float32 to TensorFloat-32, even if a variable of the environment asks so."""
    variables = {"PYTHONPATH": str(ROOT / "workflow/scripts"), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROBE],
        env=ENVIRONMENT | variables | {"TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("device", "asked", "side", "expected"),
    [
        ("cpu", 32, 32, 32), ("cuda", 32, 32, 1024), ("cuda", 4096, 32, 4096),
        ("cuda", 128, 224, 128),
    ],
)  # fmt: skip
def test_passes_on_a_gpu_are_large(device: str, asked: int, side: int, expected: int) -> None:
    """Small images go through a network by the thousand on a GPU, and as asked on a CPU."""
    assert images_per_pass(asked, side, torch.device(device)) == expected
