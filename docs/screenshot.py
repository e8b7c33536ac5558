"""Draws docs/explorer.png: the explorer of a database in headless Chromium, brushed and clicked.

python docs/screenshot.py DB
"""

import subprocess
import sys
from pathlib import Path
from shutil import which

from playwright.sync_api import sync_playwright


def main() -> None:
    command = [Path(sys.executable).parent / "pyloric-db", "explore", sys.argv[1], "--no-browser"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        address = process.stdout.readline().split()[0]
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=which("chromium"), args=["--no-sandbox"]
            )
            page = browser.new_page(viewport={"width": 1320, "height": 1470})
            page.goto(address)
            page.wait_for_selector(".slick-row")
            for place, start, end in ((0, 62, 135), (1, 110, 180)):
                box = page.locator(".bk-Figure").nth(place).bounding_box()
                page.mouse.move(box["x"] + start, box["y"] + 90)
                page.mouse.down()
                page.mouse.move(box["x"] + end, box["y"] + 90, steps=10)
                page.mouse.up()
                page.wait_for_timeout(3000)
            page.locator(".slick-row").nth(1).click()
            page.wait_for_function(
                "() => Bokeh.documents[0].get_model_by_name('trace-lp')"
                ".renderers[0].data_source.data.V.length > 0",
                timeout=120_000,
            )
            page.wait_for_timeout(2000)
            page.screenshot(path=Path(__file__).parent / "explorer.png")
            browser.close()
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
