"""Snakemake's report, opened in a browser as a reader opens it."""

import shlex
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from chromium import assert_quiet, chromium
from jobs import MORE, TINY, Snakemake
from shell import README, ROOT, shell_commands

pytestmark = pytest.mark.workflow

CONFIGS = ["--configfile", TINY, MORE]
CATEGORIES = ["1. Results", "2. Curves", "3. Attention maps", "4. Claims"]
# Of one experiment, whatever its methods.
ITEMS = {
    *("table", "comparison", "comparison, drawn", "metrics", "confusion"),
    *("curves students", "curves test", "claims"),
    *("attention mean square", "attention mean square overlay"),
}
# Of the run, under the name that stands for an experiment's.
OVERVIEW = "all of the run"
# Files of items that are listed under another name.
SUFFIXES = {f"{name}, drawn": name for name in (
    "comparison", "abstraction", "border", "concentration", "object", "transfer",
)}  # fmt: skip
# What the page shows, once it is the file of this name: its kind, and its width in pixels or its
# text's length.
SHOWN = """
const file = `filename=${arguments[0]}.`;
const shown = [...document.querySelectorAll("iframe, img")].find(each => each.src.includes(file));
if (!shown) return null;
if (shown.tagName === "IFRAME") return ["page", shown.src.length];
return shown.complete && shown.naturalWidth ? ["image", shown.naturalWidth] : null;
"""


@pytest.fixture(scope="module")
def report(finished: Path, snakemake: Snakemake, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the report of the finished run and its overview, made by README's command."""
    folder = tmp_path_factory.mktemp("report")
    tree, file = shutil.copytree(finished, folder / "tree"), folder / "report.html"
    published = tree / "docs/results/published_pairs.csv"
    published.parent.mkdir(parents=True)
    shutil.copy2(ROOT / published.relative_to(tree), published)
    (command,) = (line for line in shell_commands(README) if "--report report.html" in line)
    arguments = shlex.split(command.replace("report.html", shlex.quote(str(file))))[1:]
    for flags in (["--cores", "1", "overview"], ["overview", *arguments]):
        done = snakemake(tree, *flags, *CONFIGS)
        assert done.returncode == 0, done.stdout
    return file


@pytest.fixture(scope="module")
def browser(report: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """Yield the browser with the report open."""
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        driver.get(report.as_uri())
        yield driver


def wait_for(browser: Chrome, script: str, *arguments: object) -> Any:
    """Run a script in the page until it returns something, and return that."""
    # The page is drawn anew at each click, so its elements are no use beyond a script.
    return WebDriverWait(browser, 60).until(
        lambda driver: driver.execute_script(script, *arguments)
    )


def open_category(browser: Chrome, name: str) -> list[list[str]]:
    """Open a category from the page's start; return its rows, experiment and name of the item."""
    browser.get(browser.current_url.partition("#")[0])
    wait_for(
        browser,
        "const link = [...document.querySelectorAll('nav a')].find("
        "a => a.textContent.trim() === arguments[0]); link?.click(); return Boolean(link)",
        name,
    )
    return wait_for(
        browser,
        "const rows = [...document.querySelectorAll('nav tbody tr')].map("
        "row => [...row.querySelectorAll('td')].slice(0, 2).map(cell => cell.textContent));"
        "return rows.length ? rows : null",
    )


def click(browser: Chrome, row: int, icon: str) -> None:
    """Click the button with an icon in a row of the open category."""
    wait_for(
        browser,
        "const row = document.querySelectorAll('nav tbody tr')[arguments[0]];"
        "const button = row?.querySelector(`a[iconname=${arguments[1]}]`);"
        "button?.click(); return Boolean(button)",
        row,
        icon,
    )


def test_report(browser: Chrome) -> None:
    """Every item of every category opens, figures render, and the console has no error."""
    seen: dict[str, set[str]] = {name: set() for name in ("tiny", "pictures", "sweep", OVERVIEW)}
    for category in CATEGORIES:
        for number, (experiment, name) in enumerate(open_category(browser, category)):
            click(browser, number, "eye")
            file = SUFFIXES.get(name, name.replace(" ", "_"))
            kind, size = wait_for(browser, SHOWN, "overview" if experiment == OVERVIEW else file)
            assert size > 100, (experiment, name)
            page = name in ("table", "comparison", "claims")
            assert kind == ("page" if page else "image"), name
            assert name not in seen[experiment]
            seen[experiment].add(name)
            if page:
                browser.switch_to.frame(browser.find_element(By.TAG_NAME, "iframe"))
                assert browser.find_elements(By.TAG_NAME, "table"), name
                assert browser.find_element(By.TAG_NAME, "h1").text
                browser.switch_to.default_content()
    assert seen.pop(OVERVIEW) == {"table", "figure"}
    for names in seen.values():
        assert names >= ITEMS
        assert len([name for name in names if name.endswith(", drawn")]) > 4
    assert_quiet(browser)


def test_opening(browser: Chrome, report: Path) -> None:
    """The report opens on the answer of each experiment, as its page has it."""
    browser.get(report.as_uri())
    text = wait_for(browser, "return document.querySelector('.answer') && document.body.innerText")
    for title in ("Tiny digits", "Pictures", "Sweep"):
        assert f"{title}: does a method help?" in text
    assert "Shown to be" in text or "shown to be above, below or equivalent to" in text
    answers = browser.find_elements(By.CLASS_NAME, "answer")
    assert len(answers) == 3
    # What is cut off at the top can't be reached.
    assert 0 < answers[0].rect["y"] < 400


def test_captions(browser: Chrome) -> None:
    """Every item has a caption, rendered, that no two kinds of figures share."""
    # The page puts captions, which are HTML, into its panel as they are.
    captions = wait_for(
        browser,
        "return Object.values(results).map(item => {"
        "const panel = document.createElement('div'); panel.innerHTML = item.caption;"
        "return [item.labels.experiment, item.labels.what, panel.textContent] })",
    )
    said = {(experiment, name): " ".join(text.split()) for experiment, name, text in captions}
    assert len(said) == len(captions)
    listed = 0
    for category in CATEGORIES:
        rows = open_category(browser, category)
        listed += len(rows)
        click(browser, 0, "information-circle")
        shown = wait_for(
            browser,
            "const said = document.querySelector('nav').innerText.toUpperCase();"
            "const start = said.indexOf('DESCRIPTION'), end = said.indexOf('SIZE', start);"
            "const text = document.querySelector('nav').innerText;"
            "return end < 0 ? null : text.slice(start + 11, end).trim()",
        )
        assert " ".join(shown.split()) == said[rows[0][0], rows[0][1]]
    assert listed == len(said)
    for caption in said.values():
        assert len(caption) > 60
        assert "{" not in caption
    assert len({*said.values()}) > 12


def test_report_needs_no_network(browser: Chrome, report: Path) -> None:
    """The report loads nothing but itself, and holds the rule graph."""
    open_category(browser, CATEGORIES[0])
    assert_quiet(browser)
    assert "render_claims" in report.read_text()


def test_zip(finished: Path, snakemake: Snakemake, tmp_path: Path) -> None:
    """The report as a .zip has the same pages, each as a file."""
    done = snakemake(finished, "all", "--report", str(tmp_path / "report.zip"), *CONFIGS)
    assert done.returncode == 0, done.stdout
    names = zipfile.ZipFile(tmp_path / "report.zip").namelist()
    for name in ("table.html", "claims.html", "comparison.png", "attention_mean_square.png"):
        assert any(entry.endswith(name) for entry in names), name
