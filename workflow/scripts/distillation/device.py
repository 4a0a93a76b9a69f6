"""The device that a step runs on."""

import os
import platform
from pathlib import Path

import torch


def prepare_device(name: str, threads: int) -> torch.device:
    """Return the device called `name` (cpu or cuda), with torch set to repeat itself on it.

    Torch uses `threads` threads on the CPU and deterministic algorithms on CUDA.

    Raises:
        ValueError: cuda is asked for where there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device is cuda, but torch finds no CUDA device here; allowed: cpu")
    torch.set_num_threads(threads)
    if name == "cuda":
        # cuBLAS repeats itself only with a workspace of fixed size (NVIDIA's cuBLAS documentation,
        # "Results reproducibility"); it is read when CUDA starts.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        # Not on a CPU, where all that is used here repeats itself for a given number of threads:
        # this call loads torch's compiler, which takes longer than evaluating a small network.
        torch.use_deterministic_algorithms(True)
    return torch.device(name)


def describe_device(device: torch.device) -> dict[str, str]:
    """Return the kind of the device and the name of the hardware, for provenance."""
    on_gpu = device.type == "cuda"
    return {
        "device": device.type,
        "hardware": torch.cuda.get_device_name(device) if on_gpu else cpu_name(),
    }


def cpu_name() -> str:
    """Return the processor's name where the system tells it, else its architecture."""
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
