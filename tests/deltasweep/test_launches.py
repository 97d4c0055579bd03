"""Launches from Python: in the main thread, in others, and in a notebook."""

import os
import signal
import threading
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

import deltasweep as ds
from jobs.errors import Code, InvalidRequest, MissingData
from jobs.results import Failure, FailureKind, open_store, record_failure
from orchestrator.live import beside
from orchestrator.ray_tune import tuner
from tests.deltasweep.support import KEYS, small
from tests.jupyter import keep_files_in
from tests.support import refused


@pytest.mark.usefixtures("without_ray", "short_tests")
def test_a_launch_says_what_is_done_and_continues(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = small().launch(tmp_path, max_trials=3)
    assert (first.status, first.planned, first.done, first.failed, first.left) == ("done", 8, 3, 0, 5)
    assert (first.study, first.results, first.stop_reason) == ("small", str(tmp_path), None)
    assert repr(first) == "small: 3 of 8 trials are done, 0 failed, 5 left"
    assert 'aria-label="3 done, 5 pending"' in first._repr_html_()
    assert "done 3/8" in capsys.readouterr().out
    second = ds.launch(small(), tmp_path, quiet=True)
    assert capsys.readouterr().out == ""
    assert (second.done, second.left, second.ids("pending")) == (8, 0, [])
    assert set(first.ids("done")) < set(second.ids("done")) == set(small().trials["trial"].to_pylist())
    assert second.trials["state"].to_pylist() == ["done"] * 8
    with refused(Code.UNKNOWN_NAME, "pending", "'finished'", kind=InvalidRequest, key="state"):
        second.ids("finished")  # type: ignore[arg-type]  # what users may pass


@pytest.mark.usefixtures("without_ray", "short_tests")
def test_failed_trials_are_named(tmp_path: Path) -> None:
    bad, *_ = trials = small().trials["trial"].to_pylist()
    for attempt in (1, 2):
        failure = Failure(
            bad, attempt, FailureKind.ERROR, "ValueError: <b>", "no", "h", "l", "2026-01-01T00:00:00+00:00"
        )
        record_failure(open_store(tmp_path), failure, "log")
    ended = small().launch(tmp_path, quiet=True)
    assert (ended.status, ended.done, ended.failed) == ("failed", 7, 1)
    assert (ended.ids("failed"), ended.ids("done")) == ([bad], trials[1:])
    assert bad in ended._repr_html_()
    assert "retry-quarantined" in str(ended.trials["reason"][0])
    assert ds.status(tmp_path).ids("quarantined") == [bad]
    assert small().launch(tmp_path, retry_quarantined=True, quiet=True).status == "done"


@pytest.mark.usefixtures("without_ray", "short_tests")
def test_an_interrupted_launch_ends_cleanly_and_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a loop over studies, or Run All in a notebook, does not go on."""
    before, run_round = signal.getsignal(signal.SIGINT), tuner.run_round

    def interrupted(*arguments: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        run_round(*arguments)

    monkeypatch.setattr(tuner, "run_round", interrupted)
    with pytest.raises(KeyboardInterrupt, match=r"small: \d of 8 trials are done.*the same call continues"):
        small().launch(tmp_path, quiet=True)
    assert signal.getsignal(signal.SIGINT) is before
    monkeypatch.setattr(tuner, "run_round", run_round)
    assert small().launch(tmp_path, quiet=True).done == 8


@pytest.mark.usefixtures("without_ray", "short_tests")
def test_another_thread_changes_no_signal_handler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: pytest.fail("a handler was installed"))
    assert in_a_thread(tmp_path).status == "done"


@pytest.mark.usefixtures("without_ray", "short_tests")
def test_the_live_page_is_served_if_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(beside, "_serve", lambda *_: "http://127.0.0.1:1/?token=x")
    ds.launch(small(), tmp_path, max_trials=1)
    assert f"Live page: deltasweep ui --results {tmp_path}\n" in capsys.readouterr().out
    ds.launch(small(), tmp_path, ui=True)
    assert "Live page: http://127.0.0.1:1/?token=x\n" in capsys.readouterr().out
    assert ds.launch(small(), tmp_path, ui=True, quiet=True).left == 0, "nothing was left to run"
    assert "Live page: http://127.0.0.1:1/?token=x\n" in capsys.readouterr().out


def in_a_thread(root: Path) -> ds.Launched:
    """Launch the small study in another thread and return how it ended."""
    ended: list[ds.Launched] = []
    thread = threading.Thread(target=lambda: ended.append(small().launch(root, quiet=True)))
    thread.start()
    thread.join()
    return ended[0]


def test_what_cannot_be_launched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "root"
    with refused(Code.WRONG_VALUE, "-1", kind=InvalidRequest, key="--max-cost"):
        small().launch(root, max_cost=-1)
    for most in (-1, 0, 2.5, "many"):
        with refused(Code.WRONG_VALUE, most, kind=InvalidRequest, key="--max-trials"):
            small().launch(root, max_trials=most)  # type: ignore[arg-type]  # what users may pass
    with refused(Code.MISSING_WEIGHTS, "'natural'", kind=MissingData):
        small(grid={**KEYS["grid"], "source": ["natural"]}, contrasts=[]).launch(root, quiet=True)
    assert not root.exists()
    monkeypatch.delenv("DELTASWEEP_RESULTS", raising=False)
    with refused(Code.MISSING_KEY, "$DELTASWEEP_RESULTS", kind=InvalidRequest, key="results"):
        small().launch()


@pytest.mark.slow(60)
@pytest.mark.usefixtures("one_ray")
def test_another_thread_under_ray(tmp_path: Path) -> None:
    ended = in_a_thread(tmp_path)
    assert (ended.status, ended.done, len(ended.ids("done"))) == ("done", 8, 8)
    assert len(ds.deltas(tmp_path)) == 2


PROGRESS = """
from orchestrator.launching.progress import NOTEBOOK_SECONDS, ProgressView, Tallies
from orchestrator.process.notebook import console

screen = console(quiet={quiet})
screen.print("before")
tallies = Tallies(planned=3)
with ProgressView(tallies, screen) as view:
    for tallies.done in (1, 2):
        view._last -= NOTEBOOK_SECONDS
        view.update()
    tallies.done = 3
"""


def outputs(*cells: str) -> list[list[Any]]:
    """Execute a notebook, whose cells may raise, and return the outputs of each cell."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])  # type: ignore[no-untyped-call]  # untyped in nbformat
    NotebookClient(notebook, timeout=300, kernel_name="python3", allow_errors=True).execute()
    return [cell.outputs for cell in notebook.cells]


@pytest.fixture
def jupyter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep_files_in(tmp_path, monkeypatch)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


@pytest.mark.usefixtures("jupyter")
def test_progress_in_a_notebook_is_one_line() -> None:
    shown, quiet = outputs(PROGRESS.format(quiet=False), PROGRESS.format(quiet=True))
    before, line = shown
    assert before.text == "before\n"
    assert line.data["text/plain"].startswith("done 3/3 · failed 0")
    assert quiet == []


NOTEBOOK = """
import _thread, threading, time
import deltasweep as ds
study = ds.Study(**{keys!r})

def interrupt():
    while not ds.status({root!r}).ids("running"):
        time.sleep(0.5)
    _thread.interrupt_main()  # what the button of a notebook does

def launched_soon():
    try:
        interrupt()
    except ds.InvalidRequest:  # not launched yet
        time.sleep(0.5)
        launched_soon()

threading.Thread(target=launched_soon, daemon=True).start()
ds.launch(study, {root!r})
"""


@pytest.mark.slow(120)
@pytest.mark.usefixtures("one_ray", "jupyter")
def test_an_interrupted_cell_of_a_notebook(tmp_path: Path) -> None:
    """The launch stops as after Ctrl-C; its progress is one line; the next cell continues."""
    root, keys = str(tmp_path / "root"), KEYS | {"schedule": [{**KEYS["schedule"][0], "epochs": 200}]}
    interrupted, status, again = outputs(
        NOTEBOOK.format(keys=keys, root=root),
        f"ds.status({root!r})",
        f"ds.launch(study, {root!r}, max_trials=1)",
    )
    (error,) = [output for output in interrupted if output.output_type == "error"]
    assert (error.ename, "the same call continues" in error.evalue) == ("KeyboardInterrupt", True)
    said = "".join(output.get("text", "") for output in interrupted)
    assert "Live page: deltasweep ui" in said, "Tune clears nothing"
    assert "Stopping: running trials save and exit" in said
    assert "ipywidgets" not in said
    progress = [output for output in interrupted if "done " in output.get("data", {}).get("text/plain", "")]
    assert len(progress) == 1, "one line that was replaced"
    assert "8 trials: 0 done, 0 running, 8 pending" in status[0].data["text/html"]
    assert "1 of 8 trials are done" in again[-1].data["text/html"]
