"""The live page of 14,400 trials while a launch writes into the root: time to the first view, and cost of updates.

A process writes a result every second, with checkpoints, heartbeats and failures, and trains nothing
(``benchmarks.live_root``). `deltasweep ui` serves the page to headless Chromium and to viewers that follow its updates.
The time to the first view is from navigation until the page has loaded, in a new browser context; the processor time
is that of the serving process, read from /proc, over some minutes.

Usage: python -m benchmarks.live [--trials 14400] [--repeats 7] [--minutes 2]
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from benchmarks.live_root import Continued, make_root
from benchmarks.rows import Row, at_most, beside, report
from jobs.results import FailureKind

_SETTLING = 45
"""Seconds until the plan's cost has been computed, which happens once."""


def waiting(minutes: float) -> int:
    """Return the number of trials that are left for the launch to finish, one a second: more than it will."""
    return 300 + 2 * int(_SETTLING + 60 * minutes)


@contextmanager
def writing(launch: Continued) -> Iterator[list[tuple[str, float]]]:
    """Let the launch write in a thread; provide the trials that it has finished, with the time."""
    over, finished = threading.Event(), list[tuple[str, float]]()

    def write() -> None:
        while not over.wait(1.0):
            finished.append((launch.step(), time.monotonic()))
            if len(finished) % 10 == 0:
                launch.beat()
            if len(finished) % 30 == 0:
                launch.fail(launch.running[-1], "CUDA out of memory", FailureKind.MEMORY)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield finished
    finally:
        over.set()
        thread.join()


@contextmanager
def serving(root: Path) -> Iterator[tuple[subprocess.Popen[str], str, float]]:
    """Run `deltasweep ui`; provide its process, the address with the token, and the seconds until it was printed."""
    command = "from orchestrator.entry import main; main()"
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", command, "ui", "--results", str(root), "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        address = next(found[0] for line in process.stdout if (found := re.search(r"http://\S+", line)))
        yield process, address, time.perf_counter() - begun
    finally:
        process.terminate()
        process.wait(60)


def seconds_to_view(browser: Browser, address: str) -> float:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    started = time.perf_counter()
    page.goto(address)
    page.wait_for_selector(".map td a")
    taken = time.perf_counter() - started
    context.close()
    return taken


def follow(address: str, viewers: int) -> list[int]:
    """Open streams of updates in threads; return a list to which each adds the bytes of each update."""
    updates: list[int] = []
    base, token = address.split("/?token=")

    def view() -> None:
        try:
            with urllib.request.urlopen(f"{base}/events?token={token}") as stream:
                updates.extend(len(line) for line in stream if line.startswith(b"data:"))
        except OSError:  # the server has ended
            return

    for _ in range(viewers):
        threading.Thread(target=view, daemon=True).start()
    return updates


def processor_seconds(process: subprocess.Popen[str]) -> float:
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cost_of_updates(root: Path, viewers: int, minutes: float) -> tuple[float, float]:
    """Return processor seconds a minute while some watch, and seconds between two updates."""
    with serving(root) as (process, address, _):
        updates = follow(address, viewers)
        time.sleep(_SETTLING)
        before, begun, seen = processor_seconds(process), time.monotonic(), len(updates)
        time.sleep(60 * minutes)
        passed = time.monotonic() - begun
        spent, came = processor_seconds(process) - before, (len(updates) - seen) / viewers
        return 60 * spent / passed, passed / max(came, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=14_400)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--minutes", type=float, default=2.0)
    given = parser.parse_args()
    name = f"live page of {given.trials:,} trials"
    made: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        launch = make_root(root, given.trials - waiting(given.minutes))
        with writing(launch):
            with serving(root) as (_, address, start), sync_playwright() as playwright:
                chromium = shutil.which("chromium") or shutil.which("chromium-browser")
                browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--headless"])
                views = [seconds_to_view(browser, address) for _ in range(given.repeats)]
                browser.close()
            made += [
                at_most(f"{name}: seconds to the first view", views, 2),
                beside(f"{name}: seconds to start", [start]),
            ]
            for viewers in (1, 20):
                cost, apart = cost_of_updates(root, viewers, given.minutes)
                made.append(at_most(f"{name}: processor seconds a minute, viewers: {viewers}", [cost], 1))
                made.append(beside(f"{name}: seconds between updates, viewers: {viewers}", [apart]))
    report(made)


if __name__ == "__main__":
    main()
