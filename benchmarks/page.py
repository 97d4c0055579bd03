"""Size of the report page of 14,400 trials, and the time to open it in headless Chromium.

Uses synthetic fine-tuning rows only. Opening is timed from navigation until all charts are drawn, without the start of
the browser.

Usage: python -m benchmarks.page [--trials 14400] [--repeats 7]
"""

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa
from playwright.sync_api import Browser, sync_playwright

import analysis
from benchmarks.query import trials
from benchmarks.rows import at_most, beside, report
from jobs.results import Store, read_trials


def make(folder: Path, count: int) -> Path:
    """Write the report of ``count`` trials that only exist in memory."""
    analysis.report  # noqa: B018  # loads the module that is patched below
    table = trials(count)

    def read(store: Store, kind: str, *args: Any, **kwargs: Any) -> pa.Table:
        return table if kind == "finetune" else read_trials(store, kind, *args, **kwargs)

    with patch.object(sys.modules["analysis.page.results"], "read_trials", read):
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
        times = [seconds_to_open(browser, path) for _ in range(given.repeats)]
        browser.close()
        size = path.stat().st_size / 1e6
    name = f"page of {given.trials:,} trials"
    report(
        [
            at_most(f"{name}: MB", [size], 3),
            at_most(f"{name}: seconds to open", times, 2),
            beside(f"{name}: seconds to write", [made]),
        ]
    )


if __name__ == "__main__":
    main()
