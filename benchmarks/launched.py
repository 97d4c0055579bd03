"""Launch stand-in trials through the real ``orchestrator.launching.launch``, in a separate process.

Usage: python -m benchmarks.launched STUDY_FILE ROOT OUT [first]

Requires the environment of ``stand_ins``. Writes JSON to OUT: Unix times of the first new trial's commit and of the
end. With ``first``, the launch interrupts itself after the first trial.
"""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

from rich.console import Console

from jobs.results import open_store
from orchestrator.launching.launch import launch
from orchestrator.study.load import load_study


def main(study_file: str, root: Path, out: Path, only_first: bool) -> None:
    before = time.time()
    if only_first:
        threading.Thread(target=_interrupt_after_first, args=(root, before), daemon=True).start()
    summary = launch(load_study(study_file), open_store(root), Console(quiet=True))
    ended = time.time()
    if summary.failed or (summary.left and not only_first):
        raise RuntimeError(f"{summary.left} trials remain, {len(summary.failed)} failed")
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
