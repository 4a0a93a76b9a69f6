"""render_index.py: one page that opens with the answer, told to everybody who reads it."""

import html
import json
import re
import shutil
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

import compare_methods
import render_index
import render_table
from chromium import assert_quiet, chromium
from distillation.reporting import index_text
from distillation.reporting.results import Results
from made import mistake
from made_up import TERMS, a_run, write_runs
from measured import DESCRIPTION
from shell import ROOT

STYLE = ["--style", str(ROOT / "workflow/scripts/figures.mplstyle"), "--dpi", "50"]
PAIRS = ["--pair", "kd", "baseline", "--pair", "at", "baseline", "--pair", "at", "kd"]
FIGURES = ("curves_teacher", "curves_students", "curves_test", "metrics", "confusion",
           "attention_mean_square", "attention_mean_square_overlay")  # fmt: skip
CLAIMS = """\
# Made up: the claims, judged

| claim | verdict |
| --- | --- |
| 1. Maps fall on borders. | **Refuted** |

## 1. Maps fall on borders.

![Maps fall on borders.](figures/metrics.png)
"""

LABELS = {"teacher": "Teacher", "baseline": "Baseline", "kd": "KD"}
# The contrast of each text with what is behind it, as WCAG 2 counts it, where it is too low.
FAINT = """
const channels = colour => colour.match(/[\\d.]+/g).map(Number);
const light = colour => channels(colour).slice(0, 3).map(value => value / 255).map(
  value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4
).reduce((sum, value, place) => sum + value * [0.2126, 0.7152, 0.0722][place], 0);
const behind = element => {
  for (let each = element; each; each = each.parentElement) {
    const colour = getComputedStyle(each).backgroundColor;
    if (channels(colour)[3] !== 0) return colour;
  }
  return "rgb(255, 255, 255)";
};
const faint = [];
for (const element of document.querySelectorAll("main *")) {
  if (![...element.childNodes].some(node => node.nodeType === 3 && node.data.trim())) continue;
  const both = [light(getComputedStyle(element).color), light(behind(element))].sort();
  const ratio = (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
  if (ratio < 4.5) faint.push([element.tagName, ratio]);
}
return faint;
"""


@pytest.fixture(scope="module")
def flags(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return the flags of a made-up experiment, with tables as they are and blank figures."""
    folder = tmp_path_factory.mktemp("made up") / "results"
    runs = write_runs(folder, TERMS, "")
    compared = write_runs(folder, TERMS, "predictions.npz")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "__main__", render_table)
        outputs = {"csv": "table.csv", "markdown": "table.md", "page": "table.html",
                   "summary": "summary.json", "provenance": "provenance.json"}  # fmt: skip
        render_table.main([*runs, *places(folder, outputs)])
    outputs = {"comparison": "comparison.csv", "seeds": "seeds.csv", "fidelity": "fidelity.csv",
               "markdown": "comparison.md", "page": "comparison.html", "figure": "comparison.png",
               "figure-svg": "comparison.svg"}  # fmt: skip
    settings = [*STYLE, "--resamples", "100", *PAIRS]
    compare_methods.main([*compared, *settings, *places(folder, outputs)])
    (folder / "figures").mkdir()
    for name in FIGURES:
        Image.new("RGB", (1600, 400), (200, 200, 200)).save(folder / f"figures/{name}.png")
    (folder / "figures.json").write_text(json.dumps({f"{name}.png": "" for name in FIGURES}))
    (folder / "claims.md").write_text(CLAIMS)
    (folder / "data.json").write_text(json.dumps(DESCRIPTION))
    return [
        *runs, *("--results", str(folder), "--data-description", str(folder / "data.json")),
        *("--command", "snakemake --cores 2 'my own'", "--index", str(folder / "index.html")),
    ]  # fmt: skip


def places(folder: Path, outputs: dict[str, str]) -> list[str]:
    """Return the flags of outputs in a folder."""
    return [text for flag, name in outputs.items() for text in (f"--{flag}", str(folder / name))]


@pytest.fixture(scope="module")
def page(flags: list[str]) -> Path:
    """Return the page."""
    render_index.main(flags)
    return Path(flags[-1])


@pytest.fixture(scope="module")
def browser(page: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """Yield the browser with the page open."""
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        driver.get(page.as_uri())
        yield driver


def verdicts(folder: Path, *chosen: str) -> str:
    """Return the answer about the three pairs, with these verdicts."""
    findings = pd.read_csv(folder / "comparison.csv").assign(verdict=chosen)
    return index_text.answer(findings, LABELS | {"at": "at"}, "few images")


@pytest.mark.parametrize(
    ("chosen", "first", "second"),
    [
        (("above", "open", "open"),
         "Shown to be above the baseline, for this teacher: KD. It can't be said, which is no "
         "equality, of at.",
         "at isn't shown to be above, below or equivalent to KD, for this teacher."),
        (("above", "above", "below"),
         "Shown to be above the baseline, for this teacher: KD and at.",
         "Shown to be below KD, for this teacher: at."),
        (("below", "equivalent", "one_seed"),
         "Shown to be below the baseline, for this teacher: KD. Shown to be equivalent to the "
         "baseline, for this teacher: at.",
         "at isn't shown to be above, below or equivalent to KD, for this teacher."),
    ],
)  # fmt: skip
def test_answer(page: Path, chosen: tuple[str, ...], first: str, second: str) -> None:
    """The answer names each method under its verdict, the baseline first, and nothing as equal."""
    # With the baseline's numbers, as comparison.csv says them.
    told = pd.read_csv(page.parent / "comparison.csv").query("reference == 'baseline'")["sentence"]
    assert verdicts(page.parent, *chosen).splitlines() == [
        *(f"**{first}**", "", *(f"- {sentence}." for sentence in told), ""),
        *(second, "", "Measured on few images, at the last epoch."),
    ]


def test_references_beside_which_nothing_is_shown(page: Path) -> None:
    """They share a line, after those beside which something is."""
    findings = pd.read_csv(page.parent / "comparison.csv").assign(verdict="open")
    others = findings.query("reference != 'baseline'")
    several = [
        findings,
        others.assign(reference="at"),
        others.assign(reference="c", verdict="above"),
    ]
    said = index_text.answer(pd.concat(several), LABELS | {"at": "at", "c": "c"}, "few images")
    assert said.splitlines()[-5:-2] == [
        "Shown to be above c, for this teacher: at.", "",
        "at isn't shown to be above, below or equivalent to KD or at, for this teacher.",
    ]  # fmt: skip


def test_agreement_and_networks(page: Path) -> None:
    """What was trained, and how well students match the teacher, is said in words as well."""
    runs = [a_run(model, seed) for model in TERMS for seed in (0, 1)[: 1 + (model != "teacher")]]
    results = Results("Made up", runs, {model: LABELS.get(model, model) for model in TERMS})
    said = index_text.networks(results)
    assert said == "Teacher: WRN-16-1, 1 seed. Baseline, KD, at: WRN-10-1, 2 seeds."
    fidelity = pd.read_csv(page.parent / "fidelity.csv")
    matched = index_text.agreement(fidelity, results, 0.9)
    assert matched.startswith("Agreement with the teacher, with 90 % intervals: Baseline 99.25 % (")
    assert index_text.agreement(fidelity.head(0), results, 0.9) == ""


def test_opens(browser: Chrome) -> None:
    """The page asks no network, runs no script, and has no error."""
    assert_quiet(browser)
    assert not browser.find_elements(By.CSS_SELECTOR, "script, link, [src^=http]")


@pytest.mark.parametrize("size", [(390, 844), (1280, 800)])
def test_first_screen(browser: Chrome, size: tuple[int, int]) -> None:
    """The first screen has the answer, on a telephone too, and nothing is wider than it."""
    resize(browser, *size)
    (answer,) = browser.find_elements(By.CSS_SELECTOR, ".answer > p:first-child strong")
    assert answer.text
    assert answer.rect["y"] + answer.rect["height"] < size[1] / 2
    rows = browser.find_elements(By.CSS_SELECTOR, ".answer > ul:first-of-type > li")
    assert len(rows) == 2
    assert all(row.rect["y"] + row.rect["height"] < size[1] for row in rows)
    for opened in (False, True):
        unfold(browser, opened)
        width = browser.execute_script("return document.documentElement.scrollWidth")
        assert width <= size[0]


def test_reading(browser: Chrome) -> None:
    """Headings are in order, pictures told, tables named with heads; all is English."""
    unfold(browser, True)
    levels = [int(each.tag_name[1]) for each in browser.find_elements(By.CSS_SELECTOR, "h1,h2,h3")]
    assert levels[:2] == [1, 2]
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    told = [
        each.get_dom_attribute("alt") or "" for each in browser.find_elements(By.TAG_NAME, "img")
    ]
    assert len(told) == len({*told}) == 1 + len(FIGURES) + 1
    assert all(len(text) > 20 for text in told)
    tables = browser.find_elements(By.TAG_NAME, "table")
    assert len(tables) > 4
    for table in tables:
        assert table.find_element(By.TAG_NAME, "caption").get_attribute("textContent")
        heads = table.find_elements(By.TAG_NAME, "th")
        assert {head.get_dom_attribute("scope") for head in heads} == {"col", "row"}
    assert browser.find_element(By.TAG_NAME, "html").get_dom_attribute("lang") == "en"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(browser: Chrome, scheme: str) -> None:
    """Every text stands out from what is behind it, by 4.5 to 1, as WCAG asks."""
    unfold(browser, True)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    assert browser.execute_script(FAINT) == []


def test_keyboard(browser: Chrome) -> None:
    """Sections are reached and unfolded by keyboard alone."""
    unfold(browser, False)
    browser.execute_script("document.activeElement.blur()")
    browser.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    focused = browser.switch_to.active_element
    assert focused.tag_name == "summary"
    focused.send_keys(Keys.ENTER)
    assert browser.find_element(By.TAG_NAME, "details").get_dom_attribute("open") is not None


def test_paper(browser: Chrome) -> None:
    """On paper nothing is folded away."""
    unfold(browser, False)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        tables = browser.find_elements(By.TAG_NAME, "table")
        assert all(table.rect["height"] > 10 for table in tables)
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_how_it_was_made(page: Path) -> None:
    """The page has the command, the data's digest, and every argument of each model's training."""
    text = html.unescape(re.sub(r"<[^>]*>", " ", page.read_text()))
    assert "snakemake --cores 2 'my own'" in text
    for word in ("sha256 data", "term.kd.temperature", "network.wrn.depth", "torch 2.9.0"):
        assert word in text


def test_remark(flags: list[str], tmp_path: Path) -> None:
    """What the config says of the experiment stands beside the answer, as text."""
    index = tmp_path / "index.html"
    render_index.main([*flags[:-1], str(index), "--remark", "Chosen to <show> an effect."])
    answer = index.read_text().partition("</section>")[0]
    assert "Chosen to &lt;show&gt; an effect." in answer


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("comparison.png", "comparison.png: no such image"),
        ("figures/metrics.png", "figures/metrics.png: no such file; `--forcerun render_figures`"),
    ],
)
def test_missing_figure(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, said: str
) -> None:
    """What isn't there is named in one line, and no page is written."""
    folder = shutil.copytree(Path(flags[-1]).parent, tmp_path / "copy")
    (folder / "index.html").unlink()
    (folder / name).unlink()
    moved = [text.replace(str(Path(flags[-1]).parent), str(folder)) for text in flags]
    assert said in mistake(capsys, render_index.main, moved)
    assert not list(folder.glob("*index*"))


def resize(browser: Chrome, width: int, height: int) -> None:
    """Give the page a size in pixels; a window can't be as narrow as a telephone."""
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": True},
    )


def unfold(browser: Chrome, opened: bool) -> None:
    """Unfold all sections, or fold them."""
    browser.execute_script(
        "document.querySelectorAll('details').forEach(each => { each.open = arguments[0] })", opened
    )
