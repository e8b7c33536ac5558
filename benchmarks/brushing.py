"""How long a move of the explorer's brush takes in a browser, from the pointer to the picture.

    python benchmarks/brushing.py DB [--moves 60]

Serves a database as `pyloric-db explore` does and drags over its histograms in headless Chromium,
which draws without a GPU. A move ends with the frame after the last histogram was drawn.
Moves wait for each other; so it is what a hand feels that stops.
"""

import argparse
import subprocess
import sys
from pathlib import Path
from shutil import which
from typing import Any

import numpy as np
from playwright.sync_api import Page, sync_playwright

#: Notes when the pointer moved last, and the frame after a histogram was drawn last, ms.
WATCH = """() => {
    window.moved = window.drawn = performance.now();
    document.addEventListener('pointermove', () => { window.moved = performance.now() }, true);
    const note = () => { window.drawn = performance.now() };
    for (const place of [0, 1, 2, 3, 4, 5, 6, 7]) {
        const figure = Bokeh.documents[0].get_model_by_name(`histogram-${place}`);
        const view = Bokeh.index.find_one(figure);
        const paint = view.paint.bind(view);
        view.paint = () => { paint(); requestAnimationFrame(() => setTimeout(note, 0)) };
    }
}"""
#: Time for a slow machine between two moves, ms.
PAUSE_MS = 400


def drag(page: Page, place: int, moves: int) -> list[float]:
    """Milliseconds from each move over one histogram until all are drawn."""
    box: Any = page.locator(".bk-Figure").nth(place).bounding_box()
    left, width, y = box["x"] + 60, box["width"] - 75, box["y"] + 90
    page.mouse.move(left + 0.2 * width, y)
    page.wait_for_timeout(3_000)  # the first touch counts this column against all others
    page.mouse.down()
    page.mouse.move(left + 0.25 * width, y)
    page.wait_for_timeout(1_000)
    found = []
    for share in np.linspace(0.26, 0.9, moves):
        page.mouse.move(left + share * width, y)
        page.wait_for_timeout(PAUSE_MS)
        found.append(page.evaluate("() => window.drawn - window.moved"))
    page.mouse.up()
    page.wait_for_timeout(1_000)
    return [ms for ms in found if ms > 0]  # nothing was drawn for the others


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("db")
    parser.add_argument("--moves", type=int, default=60, help="over each of three histograms")
    arguments = parser.parse_args()
    command = [Path(sys.executable).parent / "pyloric-db", "explore", arguments.db, "--no-browser"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        address = server.stdout.readline().split()[0]
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=which("chromium"), args=["--no-sandbox"]
            )
            page = browser.new_page(viewport={"width": 1320, "height": 1450})
            page.goto(address)
            page.wait_for_selector(".slick-row", timeout=120_000)
            page.evaluate(WATCH)
            found = [ms for place in (1, 2, 4) for ms in drag(page, place, arguments.moves)]
            words = page.evaluate("() => Bokeh.documents[0].get_model_by_name('selected').text")
            browser.close()
    finally:
        server.terminate()
        server.wait()
    print(
        f"{words.split('circuits')[0]}\n{len(found)} moves, ms from the "
        f"pointer to the picture: {np.median(found):.0f} median, {np.quantile(found, 0.9):.0f} for "
        f"90%, {max(found):.0f} at most"
    )


if __name__ == "__main__":
    main()
