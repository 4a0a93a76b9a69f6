"""render_claims.py: text and figures follow from the numbers, and a mistake leaves nothing."""

import base64
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest

import render_claims
from distillation.arguments import run
from distillation.claim_figures import FIGURES
from distillation.measurements import NUMBERS, Key
from distillation.results import COLOURS
from measured import DESCRIPTION, Changes, comparison, networks, write_experiment
from shell import ROOT

STYLE = ROOT / "workflow/scripts/figures.mplstyle"
ALL_OF_THEM = ("baseline", "kd", "at", "at_kd", "fading_at", "sum_at", "late_at", "early_at")


def rendered(
    folder: Path,
    inputs: list[str],
    *more: str,
    figures: Mapping[str, Callable] | None = None,
    title: str = "Digits",
) -> str:
    """Render the claims into a folder and return the text.

    Figures are drawn only for tests about them: drawing takes seconds.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(render_claims, "FIGURES", figures or {})
        render_claims.main(
            [
                *inputs,
                *("--title", title, "--style", str(STYLE), "--dpi", "50"),
                *("--table", str(folder / "gathered.csv")),
                *("--markdown", str(folder / "claims.md")),
                *("--figures", str(folder / "figures"), *more),
            ]
        )
    return (folder / "claims.md").read_text()


@pytest.fixture
def inputs(tmp_path: Path) -> list[str]:
    """Return the flags of an experiment in which every claim holds."""
    (tmp_path / "inputs").mkdir()
    return write_experiment(tmp_path / "inputs", networks(), comparison())


def verdicts(text: str) -> list[str]:
    """Return the verdicts of the summary, in order."""
    return re.findall(r"^\| \d\. [^|]+ \| \*\*(.+?)\*\* \|", text, re.M)


def section(text: str, number: int) -> str:
    """Return what is said about one claim."""
    return re.split(r"^## \d\. ", text, flags=re.M)[number]


def test_text_follows_from_numbers(tmp_path: Path, inputs: list[str]) -> None:
    """A value that is changed in a CSV changes verdict, criterion and table of its claim alone."""
    before = rendered(tmp_path, inputs)
    assert verdicts(before) == ["holds"] * 6
    file = tmp_path / "inputs/metrics_0.csv"
    table = pd.read_csv(file)
    here = (table["metric"] == "effective_area") & (table["group"] == 3)
    table.loc[here, ["value", "low", "high"]] = [0.8, 0.79, 0.81]
    table.to_csv(file, index=False)
    after = rendered(tmp_path, inputs)
    assert verdicts(after) == ["does not hold", *["holds"] * 5]
    assert "0.100 (0.090 to 0.110)" in section(before, 1)
    assert "0.800 (0.790 to 0.810)" in section(after, 1)
    assert "no: above, above, above" in section(after, 1)
    assert all(section(before, number) == section(after, number) for number in range(2, 7))


def test_what_is_told(tmp_path: Path, inputs: list[str]) -> None:
    """Data, seeds, masks, values of trained and untrained networks, and sides are in the text."""
    text = rendered(tmp_path, inputs, "--object-mask", "above_zero")
    assert (
        "1,080 test images of Digits (digits, 32 x 32 pixels, grey, 10 classes; object: pixels "
        "above 0)"
    ) in text
    assert "Seeds: Teacher 1; Baseline 3; KD 3; AT 3; AT+KD 3." in text
    assert "| AT | 0.952 (0.940 to 0.964) |" in section(text, 5)
    assert "| untrained, as Baseline, KD, AT, AT+KD | 0.602 (0.590 to 0.614) |" in section(text, 5)
    assert "Teacher top and bottom; Baseline top and bottom" in section(text, 2)
    for number, name in enumerate(FIGURES, 1):
        assert f"](figures/{name}.png)" in section(text, number)


def test_other_maps(tmp_path: Path) -> None:
    """Where maps are made in another way, another verdict is told beside the first."""
    after: Changes = {Key("teacher", "effective_area", 3): 0.8}
    (tmp_path / "inputs").mkdir()
    flags = write_experiment(tmp_path / "inputs", networks(after=after), comparison())
    text = rendered(tmp_path, flags)
    assert verdicts(text)[0] == "holds"
    assert (
        "the same verdict with sum absolute before batch norm and ReLU. But **does not hold** with "
        "sum absolute after batch norm and ReLU; mean square after batch norm and ReLU."
    ) in section(text, 1)


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        ("below", "holds"), ("above", "does not hold"), ("not_distinguishable", "can't be said"),
        ("one_seed", "can't be said"),
    ],
)  # fmt: skip
def test_claim_about_accuracy(
    tmp_path: Path, inputs: list[str], verdict: str, expected: str
) -> None:
    """The last claim follows from comparison.csv and repeats its sentence."""
    sentence = "AT+KD, as seen in 3 seeds."
    (tmp_path / "inputs/comparison.csv").write_text(comparison(verdict, sentence))
    text = rendered(tmp_path, inputs)
    assert verdicts(text) == [*["holds"] * 5, expected]
    assert f"\n> {sentence}\n" in section(text, 6)


def test_methods_that_learn_attention(tmp_path: Path) -> None:
    """Only the named methods decide whether attention is learnt; by default all but the baseline.

    With none, it can't be said.
    """
    (tmp_path / "inputs").mkdir()
    changes: Changes = {Key("kd", "teacher_cosine", 3): 0.1}
    flags = write_experiment(tmp_path / "inputs", networks(changes), comparison())
    assert verdicts(rendered(tmp_path, flags))[4] == "holds in part"
    assert verdicts(rendered(tmp_path, flags, "--attention-methods", "at", "at_kd"))[4] == "holds"
    text = rendered(tmp_path, flags, "--attention-methods")
    assert verdicts(text)[4] == "can't be said"
    assert "No student of this experiment learns attention." in section(text, 5)


def test_gathered_table_is_lossless(tmp_path: Path, inputs: list[str]) -> None:
    """The table holds every row as it was written, digit by digit, in the order of the networks."""
    first = tmp_path / "inputs/metrics_0.csv"
    head, row, *rest = first.read_text().splitlines()
    cells = row.split(",")
    # More digits than a float keeps, no interval, and a number written as nobody's library would.
    cells[-6:] = ["0.60000000000000000001", "", "", "7e-1", "", ""]
    first.write_text("\n".join([head, ",".join(cells), *rest]) + "\n")
    rendered(tmp_path, inputs)
    files = inputs[1 : inputs.index("--comparison")]
    rows = [line for file in files for line in Path(file).read_text().splitlines()[1:]]
    assert (tmp_path / "gathered.csv").read_text().splitlines() == [head, *rows]


def test_little_is_there(tmp_path: Path) -> None:
    """One student, without pairs and without masks, is judged as far as its numbers reach."""
    (tmp_path / "inputs").mkdir()
    tables = [
        table.loc[~table["metric"].str.startswith(("object_", "pointing_"))]
        for table in networks(students=("at",))
    ]
    pairs = comparison().splitlines(keepends=True)[0]
    text = rendered(tmp_path, write_experiment(tmp_path / "inputs", tables, pairs))
    assert verdicts(text) == [
        "holds", "holds", "can't be said", "holds", "can't be said", "can't be said",
    ]  # fmt: skip
    assert "Object's energy ratio: not measured." in section(text, 3)
    assert "This pair wasn't compared." in section(text, 6)


@pytest.mark.parametrize("students", [("at",), ALL_OF_THEM])
def test_figures_of_each_claim(tmp_path: Path, students: tuple[str, ...]) -> None:
    """Each claim about maps has a PNG and an SVG, which shows each method in its colour."""
    (tmp_path / "inputs").mkdir()
    tables = networks(students=students)
    flags = write_experiment(tmp_path / "inputs", tables, comparison())
    rendered(tmp_path, flags, figures=FIGURES)
    names = {f"{name}.{kind}" for name in FIGURES for kind in ("png", "svg")}
    assert {file.name for file in (tmp_path / "figures").iterdir()} == names
    for name in FIGURES:
        assert (tmp_path / f"figures/{name}.png").read_bytes().startswith(b"\x89PNG")
        drawing = (tmp_path / f"figures/{name}.svg").read_text()
        for method in set(students) & set(COLOURS):
            assert COLOURS[method].lower() in drawing, (name, method)


def test_long_titles_fit(tmp_path: Path, inputs: list[str]) -> None:
    """A title that is wider than a figure goes on in another line, and isn't cut at the sides."""
    rendered(tmp_path, inputs, figures=FIGURES, title="An experiment of many words " * 4)
    for name in FIGURES:
        pixels = plt.imread(tmp_path / f"figures/{name}.png")
        # Not 1: a full line may end in the last pixel, with the faint side of a letter.
        assert (pixels[:, [0, -1], :3] > 0.5).all(), name


def test_dollars_are_no_formula(tmp_path: Path, inputs: list[str]) -> None:
    """A title with dollars is drawn as it is written, also where it would be no formula."""
    rendered(tmp_path, inputs, figures=FIGURES, title="US$_$ and A$")
    for name in FIGURES:
        assert "US$_$ and A$" in (tmp_path / f"figures/{name}.svg").read_text()


def test_figures_follow_from_numbers(tmp_path: Path) -> None:
    """The same numbers give the same figures; where nothing was measured, they say so."""
    (tmp_path / "inputs").mkdir()
    tables = networks(students=("at",))
    inputs = write_experiment(tmp_path / "inputs", tables, comparison())
    rendered(tmp_path, inputs, figures=FIGURES)
    first = {file.name: file.read_bytes() for file in (tmp_path / "figures").iterdir()}
    rendered(tmp_path, inputs, figures=FIGURES)
    assert {file.name: file.read_bytes() for file in (tmp_path / "figures").iterdir()} == first
    few = [table.loc[table["metric"] == "entropy"] for table in tables]
    rendered(tmp_path, write_experiment(tmp_path / "inputs", few, comparison()), figures=FIGURES)
    for name in FIGURES:
        assert "not measured" in (tmp_path / f"figures/{name}.svg").read_text()


def test_page_has_the_new_figures(tmp_path: Path, inputs: list[str]) -> None:
    """The page holds text and the figures of this run, though others lay there before."""
    (tmp_path / "figures").mkdir()
    for name in FIGURES:
        (tmp_path / f"figures/{name}.png").write_bytes(b"old")
    page = tmp_path / "pages/claims.html"
    text = rendered(tmp_path, inputs, "--page", str(page), figures=FIGURES)
    content = page.read_text()
    assert "<title>Digits: claims</title>" in content
    assert content.count("<h2>") == text.count("\n## ") == 6
    images = [base64.b64decode(each) for each in re.findall(r"base64,([^\"]+)", content)]
    assert images == [(tmp_path / f"figures/{name}.png").read_bytes() for name in FIGURES]
    assert b"old" not in images


def test_nothing_is_replaced_if_the_page_fails(
    tmp_path: Path, inputs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """If one output can't be made, here the page for want of figures, all stay as they were."""
    rendered(tmp_path, inputs)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*.*") if file.is_file()}
    (tmp_path / "inputs/comparison.csv").write_text(comparison("above"))
    before[tmp_path / "inputs/comparison.csv"] = comparison("above").encode()
    with pytest.raises(FileNotFoundError):
        rendered(tmp_path, inputs, "--page", str(tmp_path / "claims.html"))
    assert {file: file.read_bytes() for file in tmp_path.rglob("*.*") if file.is_file()} == before
    assert "above" not in capsys.readouterr().out


# What is written over an input, and what the line says. {0} is the file of the teacher.
HEAD = ",".join(networks(students=())[0].columns)
ROW = "WRN-16-1,teacher,0,3,mean_square,before_norm,entropy,0.5,0.4,0.6,0.5,0.4,0.6"
MISTAKES = {
    "empty": ("metrics_0.csv", "", "metrics_0.csv: lacks model, method"),
    "no rows": ("metrics_0.csv", f"{HEAD}\n", "holds 0 networks; expected one"),
    "short row": ("metrics_0.csv", f"{HEAD}\n{ROW}\na,b\n", "row 2 has 2 values; expected 13"),
    "long row": ("metrics_0.csv", f"{HEAD}\n{ROW}\n{ROW},1\n", "row 2 has 14 values; expected 13"),
    "column": ("metrics_0.csv", f"{HEAD},more\n{ROW},1\n", "has unknown more"),
    "quote": ("metrics_0.csv", f'{HEAD}\n"{ROW}\n', "damaged"),
    "column twice": ("metrics_0.csv", f"{HEAD},low\n{ROW},1\n", "has twice low"),
    "columns": ("metrics_0.csv", "model,method\na,b\n", "lacks seed, group"),
    "networks": (
        "metrics_0.csv", f"{HEAD}\n{ROW}\n{ROW.replace(',0,', ',1,', 1)}\n", "holds 2 networks",
    ),
    "group": ("metrics_0.csv", f"{HEAD}\n{ROW.replace(',3,', ',4,')}\n", "'4'; allowed: 1, 2, 3"),
    "point": (
        "metrics_0.csv", f"{HEAD}\n{ROW.replace('before_norm', 'between')}\n",
        "'between'; allowed: after_norm, before_norm",
    ),
    "seed": ("metrics_0.csv", f"{HEAD}\n{ROW.replace(',0,', ',first,', 1)}\n", "'first'; allowed"),
    "number": ("metrics_0.csv", f"{HEAD}\n{ROW[:-3]}high\n", "untrained_high is 'high'; allowed"),
    "infinite": ("metrics_0.csv", f"{HEAD}\n{ROW[:-3]}inf\n", "untrained_high is 'inf'; allowed"),
    "row twice": (
        "metrics_0.csv", f"{HEAD}\n{ROW}\n{ROW}\n",
        "has 3, mean_square, before_norm, entropy twice",
    ),
    "no teacher": (
        "metrics_0.csv", f"{HEAD}\n{ROW.replace('teacher', 'at')}\n", "expected: of a teacher",
    ),
    "other experiment": ("metrics_0.csv", f"{HEAD}\n{ROW}\n", "collapse of teacher, seed 0, is"),
    "comparison": ("comparison.csv", "method,reference\n", "compare_methods.py writes"),
    "verdict": ("comparison.csv", comparison("better"), "'better'; allowed: above, below"),
    "description": ("data.json", "{}", "data.json: not a description"),
    "no description": ("data.json", json.dumps({**DESCRIPTION, "images": []}), "not a description"),
}  # fmt: skip


def mistaken(tmp_path: Path, inputs: list[str], *more: str) -> str:
    """Return the line with which a mistake ends, once nothing but the inputs is left."""
    (tmp_path / "out").mkdir()
    page = ("--page", str(tmp_path / "out/claims.html"))
    with pytest.raises(SystemExit) as end:
        run(lambda: void(rendered(tmp_path / "out", inputs, *page, *more)))
    assert not list((tmp_path / "out").iterdir())
    line = str(end.value.code)
    assert "\n" not in line
    return line


def void(_: object) -> None:
    """Take a value and return nothing, as `run` wants it."""


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake(tmp_path: Path, inputs: list[str], mistake: str) -> None:
    """A damaged input ends with one line that names it and what is wrong, and leaves nothing."""
    name, content, said = MISTAKES[mistake]
    (tmp_path / "inputs" / name).write_text(content)
    assert said in mistaken(tmp_path, inputs)


@pytest.mark.parametrize("name", ["metrics_3.csv", "comparison.csv", "data.json"])
def test_missing_input(tmp_path: Path, inputs: list[str], name: str) -> None:
    """A file that isn't there is named."""
    (tmp_path / "inputs" / name).unlink()
    assert f"{name}: no such file" in mistaken(tmp_path, inputs)


@pytest.mark.parametrize("method", ["teacher", "sum_at"])
def test_unknown_method(tmp_path: Path, inputs: list[str], method: str) -> None:
    """A method that learns attention must be one of the students."""
    line = mistaken(tmp_path, inputs, "--attention-methods", "at", method)
    assert f"{method} isn't there; allowed: baseline, kd, at, at_kd" in line


def test_numbers_may_be_missing(tmp_path: Path, inputs: list[str]) -> None:
    """A row whose numbers are empty counts as not measured."""
    file = tmp_path / "inputs/metrics_1.csv"
    table = pd.read_csv(file)
    table.loc[table["metric"] == "border", list(NUMBERS)] = float("nan")
    table.to_csv(file, index=False)
    text = rendered(tmp_path, inputs)
    assert verdicts(text)[1] == "can't be said"
    assert "?: no numbers" in section(text, 2)
