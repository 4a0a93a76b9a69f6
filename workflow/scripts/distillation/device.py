"""The device that a step runs on."""

import fcntl
import os
import platform
import tempfile
from pathlib import Path
from typing import IO

import torch

# Of the images of a pass on a GPU, at least: 1,024 images of 32 x 32.
PIXELS_ON_GPU = 1024 * 32**2
# The locks of the GPUs that this process has taken, held for as long as it lives.
_taken: list[IO[str]] = []


def take_gpu() -> None:
    """Have this process see one GPU alone, that no other process of the user has taken.

    Where a scheduler or the user has named one in CUDA_VISIBLE_DEVICES, or there is just one, it
    is left at that. Of several, the first free one is taken until the process ends, however it
    does; if none is free, it waits for one. It has to be called before CUDA starts.
    """
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    # torch asks the driver, without starting CUDA.
    gpus = range(torch.cuda.device_count()) if named is None else named.split(",")
    if len(gpus) < 2:
        return
    files = {str(gpu): lock_file(gpu) for gpu in gpus}
    gpu = next((gpu for gpu, file in files.items() if locked(file)), None)
    if gpu is None:
        # More jobs than GPUs, each waiting for one of them.
        gpu = [*files][os.getpid() % len(files)]
        fcntl.flock(files[gpu], fcntl.LOCK_EX)
    _taken.append(files.pop(gpu))
    for file in files.values():
        file.close()
    os.environ["CUDA_VISIBLE_DEVICES"] = gpu


def lock_file(gpu: int | str) -> IO[str]:
    """Open the file by whose lock this user's processes agree on a GPU."""
    return Path(tempfile.gettempdir(), f"gpu_{gpu}_of_{os.getuid()}.lock").open("a")


def locked(file: IO[str]) -> bool:
    """Lock a file for this process if no other has; return whether it did."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def prepare_device(name: str, threads: int) -> torch.device:
    """Return the device called `name` (cpu or cuda), with torch set to repeat itself on it.

    Torch uses `threads` threads on the CPU. On CUDA it uses deterministic algorithms, float32 means
    float32, and each process has one GPU (see take_gpu).

    Raises:
        ValueError: cuda is asked for where there is none.
    """
    if name == "cuda":
        take_gpu()
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
        # Else each new tensor would be filled with NaN first, for code that reads what it must not.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        # By default cuDNN's convolutions round float32 to TensorFloat-32, of 10 bits; a variable of
        # the environment can have matrix products do so, too.
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
    return torch.device(name)


def images_per_pass(asked: int, side: int, device: torch.device) -> int:
    """Return how many square images a network takes at a time, outside training.

    On a CPU as many as asked; on a GPU more where they are small, else it waits for the launches.
    """
    return max(asked, PIXELS_ON_GPU // side**2) if device.type == "cuda" else asked


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
