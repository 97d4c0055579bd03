"""How large the page of a report of 14,400 trials is, and how long it takes to open, in headless Chromium.

    python -m benchmarks.page [--trials 14400] [--repeats 7]

Synthetic rows. Opening is from the navigation to the moment when all charts are drawn; the start of the
browser aside. The load of the machine is printed, since it decides about times.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from unittest.mock import patch

from playwright.sync_api import Browser, sync_playwright

import analysis
from benchmarks.query import trials


def make(folder: Path, count: int) -> Path:
    """The report of ``count`` trials that lie nowhere."""
    analysis.report  # noqa: B018  # loads the module that is patched below
    table = trials(count)
    with patch.object(sys.modules["analysis.page.report"], "read_trials", lambda *_: table):
        return analysis.report(folder)


def seconds_to_open(browser: Browser, path: Path) -> float:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    started = time.perf_counter()
    page.goto(path.as_uri())
    page.wait_for_selector("body[data-ready=yes]")
    taken = time.perf_counter() - started
    context.close()
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=14_400)
    parser.add_argument("--repeats", type=int, default=7)
    given = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        started = time.perf_counter()
        path = make(Path(folder), given.trials)
        made = time.perf_counter() - started
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--headless"])
        times = sorted(seconds_to_open(browser, path) for _ in range(given.repeats))
        browser.close()
        size = path.stat().st_size / 1e6
    print(f"report of {given.trials:,} trials: written in {made:.0f} s, index.html {size:.2f} MB (target below 3)")
    print(f"opens in {times[len(times) // 2]:.2f} s (best {times[0]:.2f}, worst {times[-1]:.2f}; target below 2)")
    one, five, _ = os.getloadavg()
    print(f"load of the machine, over 1 and 5 minutes: {one:.1f}, {five:.1f}; {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
