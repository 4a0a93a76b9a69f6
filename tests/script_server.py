"""Run the scripts' command lines in forks of one process that has imported torch already.

Importing torch takes seconds, so tests of dozens of mistakes would spend minutes on it. Everything
else is as if `python script flags` had been called: each command has a process, a working folder,
arguments, streams and an exit status of its own.

Reads one JSON object per line from stdin (argv: script and flags, folder, stdout and stderr: files
to write) and answers each with a line that holds the exit status.
"""

import gc
import json
import os
import runpy
import sys
import traceback

import matplotlib.pyplot
import pandas
import sklearn.datasets
import sklearn.model_selection
import torch

PRELOADED = (matplotlib.pyplot, pandas, sklearn.datasets, sklearn.model_selection, torch)


def run_script(argv: list[str], folder: str, stdout: str, stderr: str) -> int:
    """Run a script in this process, a fork, and return its exit status."""
    os.chdir(folder)
    for path, descriptor, mode in (
        (os.devnull, 0, os.O_RDONLY),
        (stdout, 1, os.O_WRONLY | os.O_CREAT),
        (stderr, 2, os.O_WRONLY | os.O_CREAT),
    ):
        os.dup2(os.open(path, mode, 0o600), descriptor)
    sys.argv = argv
    sys.path[0] = os.path.dirname(argv[0])  # noqa: PTH120 as Python itself puts it there
    try:
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


def main() -> None:
    """Answer until stdin ends."""
    # Loads what the same call with True needs, which takes over a second.
    torch.use_deterministic_algorithms(False)
    # A collection in a fork would copy every page that it visits.
    gc.freeze()
    for line in sys.stdin:
        child = os.fork()
        if not child:
            status = run_script(**json.loads(line))
            sys.stdout.flush()
            sys.stderr.flush()
            # An ordinary end would visit all that torch made, for seconds.
            os._exit(status)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
