"""What README.md and the pages of docs/ show works as it is written."""

import importlib.util
import math
import re
import shlex
from pathlib import Path
from statistics import fmean

import pandas as pd
import pytest
import yaml

from shell import README, ROOT, section, shell_commands

CONFIG = yaml.safe_load((ROOT / "config.yaml").read_text())
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
BY_HAND = [
    command
    for text in (README, (DOCS / "export.md").read_text())
    for command in shell_commands(text)
    if command.startswith("python workflow")
]


def verdicts(text: str) -> list[str]:
    """List the lines of tables that say whether a method helps."""
    row = re.compile(r"\| (\S+ - \S+|Interaction of .+?) \| -?\d")
    return [line for line in text.splitlines() if row.match(line)]


def anchors(page: Path) -> set[str]:
    """Return what links may name of a page: its headings, as GitHub spells them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), flags=re.M)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_readme_is_short() -> None:
    """README.md has at most 150 lines and one figure."""
    assert len(README.splitlines()) <= 150
    assert README.count("![") == 1


def test_targets_of_make_exist() -> None:
    """Every make target that README.md shows is in the Makefile."""
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^make (\w+)", "\n".join(shell_commands(README)), flags=re.M)
    assert {"all", "test"} <= set(targets)
    for target in targets:
        assert re.search(rf"^{target}:", makefile, flags=re.M)


def test_experiments_exist() -> None:
    """Every experiment of the table is in config.yaml, and the other way."""
    table = section(README, "Other experiments")
    named = {name for row in re.findall(r"^\| (`.*?) \|", table, re.M) for name in row.split(", ")}
    assert {name.strip("`") for name in named} == set(CONFIG["experiments"])


@pytest.mark.parametrize("command", BY_HAND)
def test_steps_by_hand_have_these_flags(command: str) -> None:
    """A step that is shown as one runs it by hand takes the flags that it is shown with."""
    _, script, *arguments = shlex.split(command)
    specification = importlib.util.spec_from_file_location(Path(script).stem, ROOT / script)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    assert module.parse_args(arguments)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_files_named_exist(page: Path) -> None:
    """Every file and heading of the repository that a page links or names is there."""
    text = page.read_text()
    for name, anchor in re.findall(r"\]\(([\w./-]+\w)?(?:#([\w-]+))?\)", text):
        file = page.parent / name if name else page
        assert file.exists(), name
        assert not anchor or anchor in anchors(file), anchor
    for name in re.findall(r"`((?:workflow|profiles|benchmarks|tests)/[\w./-]+)`", text):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize(
    ("page", "head", "file"),
    [
        ("README.md", "| | Teacher", "docs/results/cifar10_brief/table.md"),
        ("docs/speed.md", "| | textbook", "docs/benchmarks/training_step_cpu*.md"),
    ],
)
def test_numbers_come_from_files(page: str, head: str, file: str) -> None:
    """Every row of a table of numbers is, letter by letter, one that a command has written."""
    text = (ROOT / page).read_text()
    tables = [each[0] for each in re.finditer(rf"^{re.escape(head)}.*\n(^\|.*\n)+", text, re.M)]
    files = sorted(ROOT.glob(file))
    assert len(tables) == len(files)
    for table, source in zip(tables, files, strict=True):
        rows = table.splitlines()
        assert len(rows) > 5
        assert set(rows) <= set(source.read_text().splitlines())
        # The page names where they stand.
        assert source.name in text


def test_verdicts_come_from_files() -> None:
    """Verdicts are, letter by letter, those of the table's study on the page of results."""
    _, _, study = (DOCS / "results.md").read_text().partition("\n## CIFAR-10 (JPEG copy), brief")
    written = verdicts(study.partition("### Does a method help?")[2].partition("Judged again")[0])
    assert len(written) == 7
    assert verdicts(README) == written
    overlay = yaml.safe_load((DOCS / "results/brief.yaml").read_text())
    assert "cifar10_brief" in overlay["experiments"]


@pytest.mark.parametrize(
    ("page", "study"),
    [
        ("README.md", "cifar10_brief"),
        ("docs/results/cifar10_brief.md", "cifar10_brief"),
        ("docs/results/fashion_mnist_brief.md", "fashion_mnist_brief"),
    ],
)
def test_costs_come_from_files(page: str, study: str) -> None:
    """Pages without a baseline of equal cost tell what it, the dearest and the teacher took.

    That is CPU time, or where that isn't known of all trainings, wall time.
    """
    folder = DOCS / "results" / study
    jobs = pd.read_csv(folder / "timings.csv").query("step.str.startswith('train_')")
    times: dict[str, list[float]] = {}
    for job in jobs.to_dict("records"):
        times.setdefault(job["model"], []).append(job["cpu_seconds"])
    took = {model: fmean(each) for model, each in times.items()}
    if any(map(math.isnan, took.values())):
        table = pd.read_csv(folder / "table.csv").query("quantity == 'Training time'")
        (row,) = table.to_dict("records")
        took = {model: row[f"{model}_mean"] for model in took}
    teacher = took.pop("teacher")
    expected = [took["baseline"], max(took.values()), teacher]
    words = " ".join((ROOT / page).read_text().split())
    _, _, told = words.partition("No baseline of equal cost was trained")
    # It ends where the first run is told of, or what follows from it.
    told = re.split("So methods|The small first run", told)[0]
    numbers = re.findall(r"\d[\d,]*", told)
    assert numbers == [f"{seconds:,.0f}" for seconds in expected]


def test_lines_of_the_cluster_are_in_its_profile() -> None:
    """The lines that docs/cluster.md says to change are there to be changed."""
    profile = (ROOT / "profiles/slurm/config.yaml").read_text()
    text = (DOCS / "cluster.md").read_text()
    block = text.partition("slurm_account")[2].partition("```")[0]
    lines = [line.partition("  #")[0] for line in f"slurm_account{block}".splitlines()]
    assert len(lines) == 3
    for line in lines:
        assert line in profile


def test_equal_cost_comes_from_files() -> None:
    """What README.md says of the first run's baseline of equal cost is so in its comparison."""
    table = pd.read_csv(DOCS / "results/digits/comparison.csv").set_index(["method", "reference"])
    (said,) = re.findall(r"KD is\s+([\d.]+) points below it", README)
    kd = table.loc["kd", "baseline_long"]
    assert f"{-kd.difference:.1f}" == said
    assert kd.verdict == "below"
    assert "above" not in {*table.xs("baseline_long", level="reference").verdict}


def test_counts_of_the_first_run_come_from_files() -> None:
    """How often repetitions of the first run came out in which way is what their tables say."""
    folder = DOCS / "results/first_run"
    overview = pd.read_csv(folder / "overview.csv")
    repeated = overview.query(f"experiment in {[f'repetition_{each}' for each in range(6, 11)]}")
    above = repeated[repeated.verdict == "above"].method.value_counts().to_dict()
    assert above == {"baseline_long": 5, "at_kd": 5, "at": 4, "kd": 1}
    before = pd.read_csv(folder / "without_equal_cost.csv")
    assert {*before.experiment} == {*repeated.experiment}
    above = before[before.verdict == "above"].method.value_counts().to_dict()
    assert above == {"at_kd": 5, "at": 5, "kd": 1}
    further = pd.read_csv(folder / "further_candidates.csv")
    kinds = further.method.str.replace("rate_", "baseline_").str.partition("_")[0]
    candidate = "experiment.str.startswith('candidate_') and experiment != 'candidate_clutter'"
    tried = overview.query(candidate)
    grouped = pd.concat([tried, further.assign(method=kinds)]).groupby("method")["mean"]
    assert {*grouped.nunique()} == {6}
    best = {method: round(max(means), 2) for method, means in grouped}
    told = (DOCS / "results.md").read_text().partition("That is no equal tuning")[2]
    numbers = [float(each) for each in re.findall(r"([\d.]+) %", told)[:5]]
    assert numbers == [best["baseline"], 63.46, *(best[name] for name in ("kd", "at", "at_kd"))]
    dear = pd.read_csv(folder / "equal_cost.csv")
    assert {*dear.experiment} == {*repeated.experiment}
    assert dear[dear.verdict == "below"].method.value_counts().to_dict() == {
        "kd": 3, "at": 1, "at_kd": 1,
    }  # fmt: skip
    assert {*dear.verdict} == {"below", "open"}
    gains = repeated.query("method == 'baseline_long'").difference
    assert (round(gains.min()), round(gains.max())) == (12, 16)
    for text in (CONFIG["experiments"]["digits"]["remark"], (DOCS / "results.md").read_text()):
        assert "AT in four" in text
        assert "above the baseline of equal cost" in text.replace("\n", " ")
