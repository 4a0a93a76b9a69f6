"""Command lines, as README.md and docs/ show them and as a user's shell runs them."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
VERSIONS = (ROOT / "docs/versions.md").read_text()

# The rules call plain `python`, which must be the one that runs the tests. A profile or settings of
# the user's own would change what runs.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "SNAKEMAKE_PROFILE"} | {
    "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
    **{f"GIT_{role}_NAME": "Test" for role in ("AUTHOR", "COMMITTER")},
    **{f"GIT_{role}_EMAIL": "test@localhost" for role in ("AUTHOR", "COMMITTER")},
}


def section(text: str, name: str) -> str:
    """Return a section of a page, without its heading."""
    return text.partition(f"\n## {name}\n")[2].partition("\n## ")[0]


def code_blocks(text: str, language: str) -> str:
    """Return the code in a language of a page, as one text."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.M | re.S)
    return str("".join(blocks))


def shell_commands(text: str) -> list[str]:
    """Return the command lines of the shell blocks of a page."""
    return code_blocks(text, "bash").replace("\\\n", " ").splitlines()


def run_in_shell(folder: Path, command: str, environment: dict[str, str] = ENVIRONMENT) -> str:
    """Run a command line in a folder, which must succeed, and return what it prints."""
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout
