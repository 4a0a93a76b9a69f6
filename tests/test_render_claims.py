"""render_claims.py: text and figures follow from the numbers, and a mistake leaves nothing."""

import base64
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import pytest

import render_claims
from distillation.reporting import claim_figures
from distillation.reporting.claim_figures import FIGURES
from distillation.reporting.claim_text import told
from distillation.reporting.claims import OPEN, PAIRS, judge_pairs
from distillation.reporting.measurements import Key, Method
from distillation.reporting.results import colours
from distillation.settings.arguments import run
from measured import DESCRIPTION, SEEDS, Changes, comparison, networks, write_experiment
from shell import ROOT

STYLE = ROOT / "workflow/scripts/figures.mplstyle"
PAIR = ("--claimed-below", "at_kd", "baseline", "--label", "at_kd", "AT+KD")


@pytest.fixture
def inputs(tmp_path: Path) -> list[str]:
    """Return the flags of an experiment in which every claim is shown."""
    return written(tmp_path)


def written(folder: Path, changes: Changes | None = None, **how: Any) -> list[str]:
    """Write an experiment into a folder's inputs and return its flags."""
    (folder / "inputs").mkdir()
    return write_experiment(folder / "inputs", networks(changes, **how), comparison())


def rendered(folder: Path, flags: Sequence[str], *more: str, figures: Any = None) -> str:
    """Render the claims into a folder and return the text.

    Figures are drawn only for tests about them: drawing takes seconds.
    """
    outputs = {"table": "gathered.csv", "provenance": "gathered.json", "markdown": "claims.md",
               "figures": "figures", "style": STYLE}  # fmt: skip
    named = [text for flag, file in outputs.items() for text in (f"--{flag}", str(folder / file))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(claim_figures, "FIGURES", figures or {})
        render_claims.main([*flags, "--title", "Digits", "--dpi", "50", *named, *more])
    return (folder / "claims.md").read_text()


def change(file: Path, metric: str, values: Sequence[float], of: str = "") -> None:
    """Write other numbers of a metric into the last stage of all networks, or of one."""
    table = pd.read_csv(file)
    here = (table["metric"] == metric) & (table["stage"] == 3)
    table.loc[here & ((table["method"] == of) | (not of)), ["value", "low", "high"]] = values
    table.to_csv(file, index=False)


def verdicts(text: str) -> list[str]:
    """Return the verdicts of the summary, in order."""
    return re.findall(r"^\| \d\. [^|]+ \| \*\*(.+?)\*\* \|", text, re.M)


def section(text: str, number: int) -> str:
    """Return what is said about one claim."""
    return re.split(r"^## \d\. ", text, flags=re.M)[number]


def test_text_follows_from_numbers(tmp_path: Path, inputs: list[str]) -> None:
    """A value that is changed in a CSV changes verdict, criterion and table of its claim alone."""
    before = rendered(tmp_path, inputs, *PAIR)
    assert verdicts(before) == ["Shown"] * 6
    for seed in SEEDS:
        change(tmp_path / f"inputs/seed_{seed}.csv", "effective_area", [0.8, 0.79, 0.81], "teacher")
    after = rendered(tmp_path, inputs, *PAIR)
    assert verdicts(after) == ["Refuted", *["Shown"] * 5]
    assert "| Teacher | 0.602 (0.591 to 0.613) |" in section(before, 1)
    assert "| 0.102 (0.091 to 0.113) |" in section(before, 1)
    assert "| 0.800 (0.790 to 0.810) |" in section(after, 1)
    assert "| refuted: +0.550 (+0.537 to +0.563) |" in section(after, 1)
    assert "**Refuted.**" in section(after, 1)
    assert all(section(before, number) == section(after, number) for number in range(2, 7))


def test_what_is_told(tmp_path: Path, inputs: list[str]) -> None:
    """Data, seeds, masks, values, smallest differences and how many images are in the text."""
    names = ("--label", "at", "AT", "--label", "baseline", "Labels alone")
    more = ("--object-mask", "above_zero", "--smallest-difference", "border", "0.2")
    text = rendered(tmp_path, inputs, *more, *names)
    assert (
        "1,080 test images of Digits (digits, 32 x 32 pixels, grey, 10 classes; object: pixels "
        "above 0)"
    ) in text
    assert "Seeds: Teacher 3; Labels alone 3; kd 3; AT 3; at_kd 3." in text
    assert "- IoU: 0.05, a twentieth of the range.\n" in text
    assert "- border ratio: 0.2, chosen in place of 0.1.\n" in text
    assert "that of an even map. | 0.2 | shown: " in section(text, 2)
    assert "Deletion and insertion are of 50 images, each with random orders" in section(text, 4)
    assert "| AT | 0.802 (0.791 to 0.813) |" in section(text, 5)
    assert "| untrained, as Labels alone, kd, AT, at_kd | 0.402 (" in section(text, 5)
    for number, name in enumerate(FIGURES, 1):
        assert f"](figures/{name}.png)" in section(text, number)
    description = json.dumps({**DESCRIPTION, "held_out": True})
    (tmp_path / "inputs/data.json").write_text(description)
    assert "1,080 held-out training images of Digits" in rendered(tmp_path, inputs)


def test_one_teacher(tmp_path: Path) -> None:
    """Where there is one teacher, every verdict is about it, and of teachers none can be."""
    text = rendered(tmp_path, written(tmp_path, teachers=(0,)))
    assert verdicts(text) == ["Can't be said", *["Shown, for this teacher"] * 4]
    assert "There is one teacher." in text
    assert "; this teacher alone: shown)" in section(text, 1)


def test_other_maps(tmp_path: Path) -> None:
    """Where maps are made in another way, another verdict is told beside the first."""
    text = rendered(tmp_path, written(tmp_path, after={Key("teacher", "effective_area", 3): 0.8}))
    assert verdicts(text)[0] == "Shown"
    assert (
        "the same verdict with sum absolute before the activation. But **refuted** with "
        "sum absolute after the activation; mean square after the activation."
    ) in section(text, 1)


def test_claims_about_pairs(tmp_path: Path) -> None:
    """Claims about pairs follow from their rows in comparison.csv, whose sentences they repeat."""
    names = ["teacher", "at_kd", "baseline", "at", "kd"]
    methods = {name: Method(name.upper(), "", 3) for name in names}
    file, sentence = tmp_path / "comparison.csv", "AT+KD, as seen in 3 seeds."
    for verdict, expected in PAIRS.items():
        file.write_text(comparison(verdict, sentence))
        claim, other = judge_pairs(file, [["at_kd", "baseline"], ["at", "kd"]], methods)
        assert claim.sentence == "The AT_KD student comes out below the BASELINE student."
        assert (claim.verdict, claim.notes) == (expected, [f"> {sentence}"])
        (found,) = claim.criteria[0].comparisons["at_kd"]
        assert (claim.criteria[0].margin, told(found)) == (0.5, "-0.800 (-1.000 to -0.600)")
        assert (other.verdict, other.notes) == (OPEN, ["This pair wasn't compared."])


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [("above", "shown"), ("below", "refuted"), ("equivalent", "refuted"), ("open", OPEN)],
)
def test_a_pair_may_be_claimed_the_other_way_round(
    tmp_path: Path, verdict: str, expected: str
) -> None:
    """That the second of two that were compared is below the first follows from the same row."""
    methods = {name: Method(name, "black", 3) for name in ("teacher", "baseline", "at_kd")}
    file = tmp_path / "comparison.csv"
    file.write_text(comparison(verdict, "What was found."))
    (claim,) = judge_pairs(file, [["baseline", "at_kd"]], methods)
    assert claim.sentence == "The baseline student comes out below the at_kd student."
    assert (claim.verdict, claim.notes) == (expected, ["> What was found."])
    (found,) = claim.criteria[0].comparisons["baseline"]
    assert told(found) == "+0.800 (+0.600 to +1.000)"


def test_no_teacher(tmp_path: Path) -> None:
    """An experiment without a common teacher has its claims as well, and their figures."""
    (tmp_path / "inputs").mkdir()
    tables = [
        table.loc[~table["method"].isin(["teacher", "untrained_teacher"])] for table in networks()
    ]
    flags = write_experiment(tmp_path / "inputs", tables, comparison())
    text = rendered(tmp_path, flags, *PAIR, figures=FIGURES)
    assert verdicts(text) == ["Can't be said", "Shown", "Shown", "Shown", *verdicts(text)[4:]]
    assert "this teacher" not in text
    assert {file.stem for file in (tmp_path / "figures").glob("*.png")} == {*FIGURES}


def test_who_is_judged(tmp_path: Path) -> None:
    """Only named methods decide whether attention is learnt; a further teacher isn't judged."""
    flags = written(tmp_path, {Key("kd", "teacher_spearman", 3): 0.1})
    assert verdicts(rendered(tmp_path, flags))[4] == "Refuted"
    assert verdicts(rendered(tmp_path, flags, "--attention-methods", "at", "at_kd"))[4] == "Shown"
    text = rendered(tmp_path, flags, "--teacher-model", "kd")
    assert verdicts(text)[4] == "Shown"
    assert "| Teacher | Baseline | at | at_kd |" in section(text, 1)
    assert ",kd," in (tmp_path / "gathered.csv").read_text()


def test_gathered_table_is_lossless(tmp_path: Path, inputs: list[str]) -> None:
    """The table holds every row as it was written, digit by digit, and tells where it is from."""
    first = tmp_path / "inputs/seed_0.csv"
    head, row, *rest = first.read_text().splitlines()
    # More digits than a float keeps, and no interval.
    cells = [*row.split(",")[:-3], "0.60000000000000000001", "", ""]
    first.write_text("\n".join([head, ",".join(cells), *rest]) + "\n")
    rendered(tmp_path, inputs)
    files = [Path(file) for file in inputs[1 : inputs.index("--comparison")]]
    rows = [line for file in files for line in file.read_text().splitlines()[1:]]
    assert (tmp_path / "gathered.csv").read_text().splitlines() == [head, *rows]
    provenance = json.loads((tmp_path / "gathered.json").read_text())
    beside = [json.loads(file.with_suffix(".json").read_text()) for file in files]
    assert provenance["measurements"] == beside
    assert provenance["arguments"]["title"] == "Digits"


def test_little_is_there(tmp_path: Path) -> None:
    """One student without masks, of which a number is missing, is judged as far as it goes."""
    flags = written(tmp_path, students=("at",))
    for file in (tmp_path / "inputs").glob("seed_*.csv"):
        table = pd.read_csv(file)
        table[~table["metric"].str.startswith(("object_", "pointing_"))].to_csv(file, index=False)
    change(tmp_path / "inputs/seed_1.csv", "border", [float("nan")] * 3, "at")
    text = rendered(tmp_path, flags)
    assert verdicts(text) == ["Shown", *["Can't be said"] * 2, "Shown", "Can't be said"]
    assert "| can't be said: not measured |" in section(text, 2)
    assert "Object's energy ratio: not measured." in section(text, 3)


def test_figures(tmp_path: Path) -> None:
    """Each claim about maps has a PNG and an SVG, with each method in its colour, the same always.

    A title is written as it is, and goes on in another line where it is too wide.
    """
    students = ("at", "fading_at")
    flags = written(tmp_path, students=students)
    title = "An experiment that costs US$_$ and A$ " * 3

    def drawn() -> dict[str, bytes]:
        rendered(tmp_path, flags, "--title", title, figures=FIGURES)
        return {file.name: file.read_bytes() for file in (tmp_path / "figures").iterdir()}

    files = drawn()
    assert files.keys() == {f"{name}.{kind}" for name in FIGURES for kind in ("png", "svg")}
    for name in FIGURES:
        drawing = files[f"{name}.svg"].decode()
        assert all(colours(["teacher", *students])[each].lower() in drawing for each in students)
        assert "US$_$ and A$" in drawing
        pixels = plt.imread(tmp_path / f"figures/{name}.png")
        # Not 1: a full line may end in the last pixel, with the faint side of a letter.
        assert (pixels[:, [0, -1], :3] > 0.5).all(), name
    assert drawn() == files


def test_figures_without_numbers(tmp_path: Path) -> None:
    """Where nothing was measured, or one network has fewer stages, the figures say what is so."""
    flags = written(tmp_path, students=("at",))
    for file in (tmp_path / "inputs").glob("seed_*.csv"):
        table = pd.read_csv(file)
        few = table.loc[table["metric"] == "entropy"].copy()
        of_student = few["method"].isin(["at", "untrained_at"])
        few.loc[of_student, "stages"] = 2
        few.loc[~of_student | (few["stage"] < 3)].to_csv(file, index=False)
    rendered(tmp_path, flags, figures=FIGURES)
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
    assert content.count("<h2>") == text.count("\n## ") == 5
    images = [base64.b64decode(each) for each in re.findall(r"base64,([^\"]+)", content)]
    assert images == [(tmp_path / f"figures/{name}.png").read_bytes() for name in FIGURES]


def test_nothing_is_replaced_if_the_page_fails(
    tmp_path: Path, inputs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """If one output can't be made, here the page for want of figures, all stay as they were."""
    rendered(tmp_path, inputs)
    change(tmp_path / "inputs/seed_0.csv", "border", [0.8, 0.79, 0.81])
    before = {file: file.read_bytes() for file in tmp_path.rglob("*.*") if file.is_file()}
    capsys.readouterr()
    with pytest.raises(FileNotFoundError):
        rendered(tmp_path, inputs, "--page", str(tmp_path / "claims.html"))
    assert {file: file.read_bytes() for file in tmp_path.rglob("*.*") if file.is_file()} == before
    assert not capsys.readouterr().out


# What is written over an input, and what the line says.
HEAD = ",".join(networks(students=("at",))[0].columns)
ROW = "WRN-16-1,teacher,0,3,3,mean_square,before_activation,entropy,0.5,0.4,0.6"
AT = "WRN-10-1,at,0,3,3,mean_square,before_activation,entropy,0.5,0.4,0.6"
MISTAKES = [
    ("seed_0.csv", "", "seed_0.csv: damaged"),
    ("seed_0.csv", f"{HEAD}\n", "seed_0.csv: has no rows"),
    ("seed_0.csv", f"{HEAD}\n{ROW}\na,b\n", "seed_0.csv: damaged"),
    ("seed_0.csv", f"{HEAD}\n{ROW}\n{ROW},1\n", "seed_0.csv: damaged"),
    ("seed_0.csv", f"{HEAD},more\n{ROW},1\n", "found the columns"),
    ("seed_0.csv", "model,method\na,b\n", "lacks stages, seed"),
    ("seed_0.csv", f"{HEAD}\n{ROW.replace(',3,', ',4,', 1)}\n", "stage is 4; allowed: 1 to"),
    ("seed_0.csv", f"{HEAD}\n{ROW.replace('before_', 'in_')}\n", "point is in_activation; allowed"),
    ("seed_0.csv", f"{HEAD}\n{ROW.replace(',0,', ',first,', 1)}\n", "damaged: invalid .* 'first'"),
    ("seed_0.csv", f"{HEAD}\n{ROW[:-3]}inf\n", "high is inf; allowed"),
    ("seed_0.csv", f"{HEAD}\n{ROW}\n{ROW}\n", "has teacher, 0, 3, mean_square"),
    ("seed_0.csv", f"{HEAD}\n{ROW}\n{AT}\n", "had collapse 'mean_square'"),
    ("seed_1.json", "{}", "seed_1.json: lacks controls"),
    ("seed_1.json", '{"controls": {}, "arguments": {}}', "lacks faithfulness_images"),
    ("comparison.csv", "method,reference\n", "comparison.csv: lacks verdict"),
    ("comparison.csv", comparison("better"), "verdict is better; allowed: below, above"),
    ("data.json", "{}", "data.json: not a description"),
    ("data.json", json.dumps({**DESCRIPTION, "images": []}), "not a description"),
    *((name, None, f"{name}: no such file")
      for name in ("seed_2.csv", "seed_2.json", "comparison.csv", "data.json")),
]  # fmt: skip


def test_mistakes(tmp_path: Path) -> None:
    """A damaged or missing input, or a wrong flag, ends with one line, and leaves nothing.

    A claim is about students, and a smallest difference is of a measure that is judged.
    """
    (tmp_path / "inputs").mkdir()
    few = [table.query("metric == 'entropy'") for table in networks()]
    flags = write_experiment(tmp_path / "inputs", few, comparison())

    def check(said: str, *more: str) -> None:
        page = ("--page", str(tmp_path / "out/claims.html"))
        with pytest.raises(SystemExit, match=said) as end:
            run(lambda: print(rendered(tmp_path / "out", flags, *page, *more)))
        assert "\n" not in str(end.value)
        assert not (tmp_path / "out").exists()

    for name, content, said in MISTAKES:
        file = tmp_path / "inputs" / name
        before = file.read_text()
        file.unlink() if content is None else file.write_text(content)
        check(said)
        file.write_text(before)
    students = "; allowed: baseline, kd, at, at_kd"
    check(f"--attention-methods: found 'teacher'{students}", "--attention-methods", "at", "teacher")
    check(f"--claimed-below: found 'sum_at'{students}", "--claimed-below", "at", "sum_at")
    flag = "--smallest-difference"
    check(f"{flag}: unknown key 'beauty'; allowed: effective_area", flag, "beauty", "1")
    check(f"{flag}.border: found 0; allowed: a number above 0", flag, "border", "0")
