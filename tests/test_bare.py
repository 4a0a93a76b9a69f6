"""Training and measuring run on a machine for that alone, without what other steps need."""

import subprocess
import sys

from distillation.record.provenance import installed
from shell import ENVIRONMENT, ROOT

# What a machine that has torch, numpy, scipy, pydantic and safetensors may lack.
MISSING = ("PIL", "dvc", "matplotlib", "pandas", "sklearn", "snakemake", "torchvision", "yaml")
PROGRAMS = (
    "benchmarks/gpu_check.py",
    *(
        f"workflow/scripts/{name}.py"
        for name in ("train_teacher", "train_student", "train_students", "tabulate_targets",
                     "evaluate", "measure_attention")
    ),
)  # fmt: skip
PROBE = """\
import runpy, sys
programs, missing = sys.argv[1].split(), sys.argv[2].split()
sys.modules.update(dict.fromkeys(missing))
for program in programs:
    sys.path.insert(0, program.rpartition("/")[0])
    runpy.run_path(program)
"""


def test_programs_start_without_other_packages() -> None:
    """What trains and measures, and the check of a card, import none of these packages."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, " ".join(PROGRAMS), " ".join(MISSING)],
        cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_packages_that_are_not_installed_are_left_out() -> None:
    """Provenance has the versions of what is installed, and says nothing of the rest."""
    assert installed(["no-such-package", "numpy"]).keys() == {"numpy"}
