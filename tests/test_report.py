"""Snakemake's report, opened in a browser as a reader opens it."""

import os
import shlex
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from jobs import PICTURES, TINY, Snakemake
from shell import README, shell_commands

pytestmark = pytest.mark.workflow

CONFIGS = ["--configfile", TINY, PICTURES]
CATEGORIES = ["1. Results", "2. Curves", "3. Attention maps", "4. Claims"]
# Of one experiment, whatever its methods.
ITEMS = {
    *("table", "comparison", "comparison, drawn", "accuracy", "confusion"),
    *("curves students", "curves test", "claims"),
    *("attention mean square", "attention mean square overlay"),
}
# What the page shows, once it is there: its kind, and its width in pixels or its text's length.
SHOWN = """
const image = document.querySelector("img[src^='data:image/png']");
const page = document.querySelector("iframe");
if (image) return image.complete && ["image", image.naturalWidth];
return page ? ["page", page.src.length] : null;
"""


@pytest.fixture(scope="module")
def report(finished: Path, snakemake: Snakemake, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the report of the finished run, made by README's command."""
    file = tmp_path_factory.mktemp("report") / "report.html"
    (command,) = (line for line in shell_commands(README) if "--report report.html" in line)
    arguments = shlex.split(command.replace("report.html", shlex.quote(str(file))))[1:]
    done = snakemake(finished, *arguments, *CONFIGS)
    assert done.returncode == 0, done.stdout
    return file


@pytest.fixture(scope="module")
def browser(report: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """Yield headless Chromium at a laptop's size, with the report open.

    REQUIRE_BROWSER in the environment, which .ci/run sets, makes its absence a failure.
    """
    programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if not all(programs):
        without = pytest.fail if os.environ.get("REQUIRE_BROWSER") else pytest.skip
        without("chromium and chromedriver (Debian: chromium-driver) aren't installed")
    options = ChromeOptions()
    options.binary_location = str(programs[0])
    profile = tmp_path_factory.mktemp("profile")
    for flag in (
        *("headless=new", "disable-gpu", "no-first-run", "window-size=1280,800"),
        # A browser asks its maker's servers for news; nothing here needs a network.
        *("disable-background-networking", "disable-component-update", "disable-sync"),
        f"user-data-dir={profile}",
        # Chromium refuses to run in its sandbox as root.
        *(["no-sandbox"] if os.geteuid() == 0 else []),
    ):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options, Service(programs[1]))
    try:
        driver.get(report.as_uri())
        yield driver
    finally:
        driver.quit()


def open_category(browser: Chrome, name: str) -> None:
    """Open a category from the page's start."""
    browser.get(browser.current_url.partition("#")[0])
    WebDriverWait(browser, 60).until(
        lambda driver: driver.execute_script(
            "const link = [...document.querySelectorAll('nav a')].find("
            "a => a.textContent.trim() === arguments[0]); link?.click(); return link", name
        )
    )  # fmt: skip
    WebDriverWait(browser, 60).until(lambda driver: driver.find_elements(By.CSS_SELECTOR, "td"))


def test_report(browser: Chrome) -> None:
    """Every item of every category opens, figures render, and the console has no error."""
    seen: dict[str, set[str]] = {"tiny": set(), "pictures": set()}
    for category in CATEGORIES:
        open_category(browser, category)
        rows = browser.find_elements(By.CSS_SELECTOR, "nav tbody tr")
        for row in rows:
            experiment, name = (cell.text for cell in row.find_elements(By.TAG_NAME, "td")[:2])
            browser.execute_script(
                "arguments[0].click()", row.find_element(By.CSS_SELECTOR, "a[iconname=eye]")
            )
            kind, size = WebDriverWait(browser, 60).until(
                lambda driver: driver.execute_script(SHOWN)
            )
            assert size > 300, (experiment, name)
            page = name in ("table", "comparison", "claims")
            assert kind == ("page" if page else "image"), name
            assert name not in seen[experiment]
            seen[experiment].add(name)
            if page:
                browser.switch_to.frame(browser.find_element(By.TAG_NAME, "iframe"))
                assert browser.find_elements(By.TAG_NAME, "table"), name
                assert browser.find_element(By.TAG_NAME, "h1").text
                browser.switch_to.default_content()
            # The next item must not be taken for this one.
            browser.execute_script(
                "document.querySelectorAll('iframe, img[src^=\"data:image/png\"]')"
                ".forEach(shown => shown.removeAttribute('src'))"
            )
    for names in seen.values():
        assert names >= ITEMS
        assert len([name for name in names if name.endswith(", drawn")]) > 4
    severe = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert not severe


def test_captions(browser: Chrome) -> None:
    """Every item has a caption, rendered, that no two kinds of figures share."""
    captions = set()
    for category in CATEGORIES:
        open_category(browser, category)
        for number in range(len(browser.find_elements(By.CSS_SELECTOR, "nav tbody tr"))):
            open_category(browser, category)
            row = browser.find_elements(By.CSS_SELECTOR, "nav tbody tr")[number]
            button = row.find_element(By.CSS_SELECTOR, "a[iconname=information-circle]")
            browser.execute_script("arguments[0].click()", button)
            text = WebDriverWait(browser, 60).until(
                lambda driver: driver.find_element(By.TAG_NAME, "nav").text
            )
            caption = text.partition("DESCRIPTION")[2].partition("SIZE")[0].strip()
            assert len(caption) > 60, text
            assert "{" not in caption
            captions.add(caption)
    assert len(captions) > 12


def test_report_needs_no_network(browser: Chrome, report: Path) -> None:
    """The page loads nothing but itself, and holds the rule graph and the config."""
    open_category(browser, CATEGORIES[0])
    requests = [entry["message"] for entry in browser.get_log("performance")]
    sent = [message for message in requests if '"Network.requestWillBeSent"' in message]
    assert sent
    assert not [message for message in sent if '"url":"http' in message]
    text = report.read_text()
    for name in ("render_claims", "faithfulness_images", "learning_rate_decay"):
        assert name in text


def test_zip(finished: Path, snakemake: Snakemake, tmp_path: Path) -> None:
    """The report as a .zip has the same pages, each as a file."""
    done = snakemake(finished, "all", "--report", str(tmp_path / "report.zip"), *CONFIGS)
    assert done.returncode == 0, done.stdout
    names = zipfile.ZipFile(tmp_path / "report.zip").namelist()
    for name in ("table.html", "claims.html", "comparison.png", "attention_mean_square.png"):
        assert any(entry.endswith(name) for entry in names), name
