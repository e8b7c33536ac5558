"""A real browser, where the machine has one."""

import shutil
from contextlib import contextmanager

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@contextmanager
def chromium():
    """Headless Chromium, as the system has it; it keeps an event loop running while it is open."""
    pytest.importorskip("playwright")
    if CHROMIUM is None:
        # it is no Python package, which `make test` could install
        pytest.skip("no Chromium is installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()
