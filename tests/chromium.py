"""Debian's Chromium, headless, for the tests that open pages as a reader does."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service


@contextmanager
def chromium(profile: Path) -> Iterator[Chrome]:
    """Yield the browser at a laptop's size; it ends with the block.

    REQUIRE_BROWSER in the environment, which .ci/run sets, makes its absence a failure.
    """
    programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if not all(programs):
        without = pytest.fail if os.environ.get("REQUIRE_BROWSER") else pytest.skip
        without("chromium and chromedriver (Debian: chromium-driver) aren't installed")
    options = ChromeOptions()
    options.binary_location = str(programs[0])
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
        yield driver
    finally:
        driver.quit()


def assert_quiet(browser: Chrome) -> None:
    """Assert that what was opened asked no network for anything, and had no error."""
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    requests = [entry["message"] for entry in browser.get_log("performance")]
    sent = [message for message in requests if '"Network.requestWillBeSent"' in message]
    assert sent
    assert not [message for message in sent if '"url":"http' in message]
