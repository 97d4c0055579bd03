"""A launch of stand-ins through the real ``orchestrator.launch``, in a process of its own.

Usage: python -m benchmarks.launched STUDY_FILE ROOT OUT [first]; with ``environment`` as its environment. Writes JSON
to OUT: unix times of the first new trial's commit and of the end. ``first``: interrupts itself after the first one.
"""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

from rich.console import Console

from benchmarks.stand_ins import SECONDS_VARIABLE
from jobs.results import open_store
from orchestrator.launch import launch
from orchestrator.study_files import load_study

HERE = Path(__file__).parent


def environment(seconds_an_image: float = 0.0) -> dict[str, str]:
    """That of processes whose trials are stand-ins."""
    path = os.pathsep.join([str(HERE / "hook"), str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, SECONDS_VARIABLE: str(seconds_an_image)}


def main(study_file: str, root: Path, out: Path, only_first: bool) -> None:
    before = time.time()
    if only_first:
        threading.Thread(target=_interrupt_after_first, args=(root, before), daemon=True).start()
    summary = launch(load_study(study_file), open_store(root), Console(quiet=True))
    ended = time.time()
    if summary.failed or (summary.left and not only_first):
        raise RuntimeError(f"{summary.left} trials left, {len(summary.failed)} failed")
    out.write_text(json.dumps({"first": min(_commits(root, before)), "ended": ended}))


def _commits(root: Path, since: float) -> list[float]:
    times = [file.stat().st_mtime for file in (root / "trials").rglob("*.parquet")]
    return [at for at in times if at > since]


def _interrupt_after_first(root: Path, since: float) -> None:
    while not _commits(root, since):
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:] == ["first"])
