"""Run Python's command lines in forks of one process that has imported already what takes seconds.

Everything else is as if `python script flags` or `python -m snakemake flags` had been called: each
command has a process, an environment, a working folder, streams and an exit status of its own. Only
signals to the caller don't reach it.

    script_server.py SOCKET OWNER    answers script_client.py until the process OWNER is gone
"""

import gc
import json
import os
import random
import runpy
import shutil
import signal
import socket
import sys
import traceback
from pathlib import Path

import matplotlib.pyplot
import pandas
import scipy.stats
import sklearn.datasets
import sklearn.model_selection
import smart_open
import snakemake.cli
import snakemake.profiles
import snakemake.report.html_reporter
import snakemake.storage
import torch.utils.tensorboard
import yte

PRELOADED = (matplotlib.pyplot, pandas, scipy.stats, sklearn.datasets, sklearn.model_selection)
PRELOADED += (smart_open, snakemake, torch.utils.tensorboard, yte)


def run(argv: list[str], folder: str, environment: dict[str, str]) -> int:
    """Run a command line in this process, a fork, and return its exit status."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    # What the command itself calls as Python is forked, too.
    sys.executable = shutil.which("python") or sys.executable
    random.seed()
    module = argv[0] == "-m"
    sys.argv = argv[module:]
    # As Python itself puts it there.
    sys.path[0] = folder if module else os.path.dirname(argv[0])  # noqa: PTH120
    try:
        if module:
            runpy.run_module(argv[1], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(argv[0], run_name="__main__")
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
            return 1
        return end.code or 0
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def answer(connection: socket.socket) -> None:
    """Run what a client asks for, with its streams, and tell it the exit status."""
    size, streams, _, _ = socket.recv_fds(connection, 8, 3)
    request = b""
    while len(request) < int.from_bytes(size, "big"):
        request += connection.recv(2**16)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    status = run(**json.loads(request))
    sys.stdout.flush()
    sys.stderr.flush()
    # Whoever reads the streams to their end comes after the status.
    connection.send(bytes([status]))


def alive(process: int) -> bool:
    """Return whether a process is there."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def main(address: Path, owner: int) -> None:
    """Answer until the owner is gone."""
    listener = socket.socket(socket.AF_UNIX)
    listener.settimeout(1)
    unready = address.with_suffix(".unready")
    listener.bind(str(unready))
    listener.listen(64)
    # A collection in a fork would copy every page that it visits.
    gc.freeze()
    # Forks that have ended leave nothing behind.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    unready.rename(address)
    while alive(owner):
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            continue
        if not os.fork():
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            connection.setblocking(True)
            answer(connection)
            # An ordinary end would visit all that torch made, for seconds.
            os._exit(0)
        connection.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
