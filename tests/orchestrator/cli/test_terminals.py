"""Commands and the environments they run in: streams of every kind, signals, threads, exit codes."""

import asyncio
import errno
import json
import os
import re
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import ray
from rich.console import Console

from jobs.errors import Code, DeltaSweepError, InvalidRequest, StorageFailure
from jobs.kinds.pretrain import train_source
from jobs.results import done, open_store, write_launch
from jobs.results.local_store import LocalStore
from jobs.study.expand import expand
from orchestrator.cli import main
from orchestrator.cli.exit_codes import ExitCode
from orchestrator.failures.outcomes import StopCause
from orchestrator.launching import launch
from orchestrator.launching.budget import TimeLimit
from orchestrator.launching.heartbeat import new_launch
from orchestrator.launching.launch_state import LaunchState
from orchestrator.planning import status, trial_logs
from orchestrator.process import streams
from orchestrator.ray_tune import tuner
from orchestrator.study import load
from orchestrator.study.load import parse_study
from tests.streams import Kind, standard_streams
from tests.support import refused

pytestmark = pytest.mark.usefixtures("short_tests", "without_ray")

STUDY = """
name: mini
grid: {source: [fmnist_natural, fmnist_l2_eps1], dataset: [digits], blocks: [0]}
contrasts: [{source: fmnist_l2_eps1, baseline: fmnist_natural, blocks: [0]}]
schedule: [{images: [20], epochs: 1, seeds: 2, evaluate_every: 1}]
"""
TRIALS = [spec.trial_id for spec in expand(parse_study(STUDY, "mini.yaml"))]
SQL = "SELECT source, test_accuracy, NULL AS nothing FROM trials"
READING = (
    ("models", "list"),
    ("data", "list"),
    ("plan", "mini.yaml"),
    ("plan", "mini.yaml", "--json"),
    ("status", "--results", "root"),
    ("status", "--results", "root", "--json"),
    ("query", SQL, "--results", "root"),
    ("query", SQL, "--results", "root", "--format", "csv"),
    ("query", SQL, "--results", "root", "--format", "json"),
    ("query", SQL, "--results", "root", "--format", "parquet"),
    ("deltas", "--results", "root"),
    ("verify", "--results", "root"),
    ("compact", "--results", "root"),
)
WORKING = (("launch", "mini.yaml", "--results", "new"), ("run", "mini.yaml", "--trial", TRIALS[0], "--results", "new"))


class AttemptResult(NamedTuple):
    code: int
    out: bytes
    err: str


Started = Callable[..., AttemptResult]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, without_ray: None) -> Path:
    """A folder with a study file and a root in which the study is done."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "mini.yaml").write_text(STUDY, encoding="utf-8")
    launch.launch(parse_study(STUDY, "mini.yaml"), open_store(folder / "root"), Console(quiet=True))
    return folder


@pytest.fixture
def start(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Started:
    """Return a function that runs the command with its own standard streams."""
    for name in ("mini.yaml", "root"):
        (tmp_path / name).symlink_to(finished / name)
    monkeypatch.chdir(tmp_path)

    def started(*arguments: str, out: Kind = "file", err: Kind = "file", encoding: str = "utf-8") -> AttemptResult:
        monkeypatch.setattr(sys, "argv", ["deltasweep", *arguments])
        (tmp_path / "out").write_bytes(b"")
        (tmp_path / "err").write_bytes(b"")
        with standard_streams(tmp_path, out, err, encoding), pytest.raises(SystemExit) as caught:
            main.main()
        said = (tmp_path / "err").read_text(encoding=encoding)
        return AttemptResult(int(caught.value.code or 0), (tmp_path / "out").read_bytes(), said)

    return started


# --- streams ---


@pytest.mark.parametrize(
    ("command", "out"),
    [*((command, "left") for command in READING + WORKING), *((command, "closed") for command in WORKING)],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_a_command_that_nobody_reads_does_its_work_and_says_nothing(
    command: tuple[str, ...], out: Kind, start: Started, tmp_path: Path
) -> None:
    ended = start(*command, out=out)
    assert (ended.code, ended.out, ended.err) == (0, b"", "")
    if command[0] in ("launch", "run"):
        assert len(done(open_store(tmp_path / "new"), "finetune")) == (4 if command[0] == "launch" else 1)


@pytest.mark.parametrize("command", READING + WORKING, ids=" ".join)
def test_a_full_disk_under_standard_output_is_told_after_the_work(
    command: tuple[str, ...], start: Started, tmp_path: Path
) -> None:
    ended = start(*command, out="full")
    assert (ended.code, ended.err.count("\n")) == (3, 1)
    assert os.strerror(errno.ENOSPC) in ended.err
    if command[0] in ("launch", "run"):
        assert done(open_store(tmp_path / "new"), "finetune")


@pytest.mark.parametrize("err", ["left", "closed", "full"])
@pytest.mark.parametrize(("command", "code"), [(("plan", "mini.yaml"), 0), (("plan", "nothing-of-this-name"), 2)])
def test_standard_error_may_be_anything(command: tuple[str, ...], code: int, err: Kind, start: Started) -> None:
    assert start(*command, err=err).code == code


@pytest.mark.parametrize(
    ("command", "encoding"),
    [
        *((command, "ascii") for command in READING + WORKING),
        *(
            (command, encoding)
            for encoding in ("latin-1", "cp437", "utf-16")
            for command in (("query", SQL, "--results", "root"), ("deltas", "--results", "root"), WORKING[0])
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_a_stream_that_has_not_all_characters_gets_others(
    command: tuple[str, ...], encoding: str, start: Started
) -> None:
    ended = start(*command, encoding=encoding)
    assert ended.code == 0, ended.err
    if "parquet" in command:
        return
    text = ended.out.decode(encoding)
    assert not re.search(r"\\u[0-9a-f]{4}|\\x[0-9a-f]{2}", text), "plain characters, and no escapes"
    if "--json" in command:
        json.loads(text)


def test_names_that_the_stream_cannot_show_are_escaped(start: Started, tmp_path: Path) -> None:
    ended = start("plan", "\N{GREEK SMALL LETTER ALPHA}-\N{MIDDLE DOT}-\udcff", encoding="ascii")
    assert ended.code == 2
    assert r"\u03b1-" in ended.err
    assert r"\udcff" in ended.err
    assert start("plan", "\udcff").code == 2, "bytes that are no text, on a stream that has all characters"


def test_a_closed_stream_is_given_to_no_file(start: Started, tmp_path: Path) -> None:
    """Python would give the next opened file the number 1, and output printed by C code would go into it."""
    root = tmp_path / "new"
    assert start("run", "mini.yaml", "--trial", TRIALS[0], "--results", str(root), out="closed", err="closed").code == 0
    assert start("verify", "--results", str(root)).code == 0


def test_watching_ends_when_nobody_looks(start: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "_WATCH_SECONDS", 0.01)
    assert start("status", "--watch", "--results", "root", out="left").code == 0


def test_following_ends_when_the_reader_has_gone_and_nothing_more_is_printed(
    start: Started, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with `| head`: a write would find out, but a trial may print nothing for hours."""
    monkeypatch.setattr(trial_logs, "_FOLLOW_SECONDS", 0.01)
    write_launch(open_store(tmp_path / "alive"), new_launch("mini", "0" * 16)._replace(in_flight=(TRIALS[0],)))
    assert start("logs", TRIALS[0], "--follow", "--results", "alive", out="left").code == 0
    reader, writer = os.pipe()
    assert not streams._reader_is_gone(writer)
    os.close(reader)
    assert streams._reader_is_gone(writer)
    os.close(writer)


# --- signals ---

STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture
def handlers() -> Iterator[None]:
    """Require that signal handlers are unchanged afterwards.

    During the test they are the default ones, even if the tests run under nohup.
    """
    began = {number: signal.getsignal(number) for number in STOP}
    if began[signal.SIGHUP] is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    before = {number: signal.getsignal(number) for number in STOP}
    yield
    after = {number: signal.getsignal(number) for number in STOP}
    for number, handler in began.items():
        signal.signal(number, handler)
    assert after == before


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("number", STOP)
@pytest.mark.parametrize(
    "command",
    [
        ("plan", "mini.yaml", "--results", "root"),
        ("status", "--results", "root", "--json"),
        ("query", SQL, "--results", "root"),
        ("deltas", "--results", "root"),
        ("report", "--results", "root", "--out", "page"),
        ("verify", "--results", "root"),
        ("compact", "--results", "root"),
        ("logs", TRIALS[0], "--results", "root"),
        ("merge", "root", "--results", "new"),
        ("run", "mini.yaml", "--trial", TRIALS[0], "--results", "root"),
    ],
    ids=" ".join,
)
def test_a_signal_ends_any_command_with_one_line(
    command: tuple[str, ...], number: signal.Signals, start: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*_: object, **__: object) -> bytes:
        send(number)
        raise AssertionError("the signal was not heeded")

    monkeypatch.setattr(LocalStore, "read", asked)
    monkeypatch.setattr(LocalStore, "keys", asked)
    assert start(*command) == (130, b"", "deltasweep: interrupted\n")


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("number", STOP)
def test_a_signal_while_a_launch_starts_ends_it_at_once(
    number: signal.Signals, start: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before any trial runs there is nothing to save."""
    monkeypatch.setattr(tuner, "connect", lambda _: send(number))
    ended = start("launch", "mini.yaml", "--results", "new")
    assert (ended.code, ended.err) == (130, "")
    assert b"deltasweep resume --results new --study mini" in ended.out
    assert json.loads(next(Path("new/launches").iterdir()).read_text())["ended_at"], "it says that it ended"


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("number", STOP)
@pytest.mark.parametrize("times", [1, 2])
def test_a_signal_while_trials_run_lets_them_leave_and_a_second_does_not(
    times: int, number: signal.Signals, start: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = list[LaunchState]()

    def run_round(bundles: object, job: object, share: object, state: LaunchState) -> None:
        seen.append(state)
        for _ in range(times):
            send(number)

    monkeypatch.setattr(tuner, "run_round", run_round)
    ended = start("launch", "mini.yaml", "--results", "new")
    assert (ended.code, ended.err) == (130, "")
    assert seen[0].stop == (StopCause.INTERRUPTED, number.name)
    assert (b"Interrupted; committed" in ended.out) is (times == 2)
    assert b"deltasweep resume" in ended.out


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("number", STOP)
@pytest.mark.parametrize("times", [1, 2])
def test_a_signal_while_a_launch_stops_at_a_limit_lets_trials_leave_and_a_second_does_not(
    times: int, number: signal.Signals, start: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one is that of a user who does not know that the launch is stopping."""

    def run_round(bundles: object, job: object, share: object, state: LaunchState) -> None:
        state.started("a run", ("a trial",), lambda: None)
        state.request_stop(StopCause.LIMIT, "the limit was reached.")
        state.tick()
        for _ in range(times):
            send(number)

    monkeypatch.setattr(tuner, "run_round", run_round)
    ended = start("launch", "mini.yaml", "--results", "new")
    assert (ended.code, ended.err) == (1 if times == 1 else 130, "")
    assert ended.out.count(b"Stopping: the limit was reached. Running trials save and exit") == 1
    assert b"Repeat to exit at once" in ended.out
    assert (b"Interrupted; committed" in ended.out) is (times == 2)


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("number", STOP)
def test_a_signal_that_is_ignored_stays_ignored(
    number: signal.Signals, start: Started, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As under nohup, at each stage of a launch."""
    monkeypatch.setattr(tuner, "connect", lambda _: send(number))
    run_round = tuner.run_round

    def with_signal(*given: Any) -> None:
        send(number)
        run_round(*given)

    monkeypatch.setattr(tuner, "run_round", with_signal)
    before = signal.signal(number, signal.SIG_IGN)
    try:
        assert start("launch", "mini.yaml", "--results", "new").code == 0
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("number", STOP)
@pytest.mark.parametrize("ignored", [False, True])
def test_training_of_a_source_saves_at_a_signal_that_is_not_ignored(
    ignored: bool, number: signal.Signals, start: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(name: str, folder: Path, catalog: object, results: object, data: object, *running: Any) -> Any:
        send(number)
        _, stop, _ = running
        return None if stop() else folder / "weights"

    monkeypatch.setattr(train_source, "train_source", train)
    before = signal.signal(number, signal.SIG_IGN if ignored else signal.getsignal(number))
    try:
        ended = start("models", "train", "fmnist_natural", "--out", "made")
    finally:
        signal.signal(number, before)
    assert (ended.code, ended.err) == (0 if ignored else 130, "")
    assert (b"Weights: " if ignored else b"Interrupted; a checkpoint was saved.") in ended.out


# --- outside the command line ---


def _in_thread(call: Callable[[], launch.Summary]) -> launch.Summary:
    found = list[launch.Summary]()
    thread = threading.Thread(target=lambda: found.append(call()))
    thread.start()
    thread.join()
    return found[0]


async def _awaited(call: Callable[[], launch.Summary]) -> launch.Summary:
    return call()


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("place", [_in_thread, lambda call: asyncio.run(_awaited(call))], ids=["thread", "loop"])
def test_a_launch_runs_anywhere(place: Callable[..., launch.Summary], tmp_path: Path) -> None:
    """In a thread of a program, and in a notebook with a running event loop."""
    store = open_store(tmp_path / "root")
    summary = place(lambda: launch.launch(parse_study(STUDY, "mini.yaml"), store, Console(quiet=True)))
    assert (summary.done, summary.left) == (4, 0)


def test_a_launch_uses_the_ray_that_its_caller_has_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "init", lambda *_, **__: pytest.fail("it was joined again"))
    monkeypatch.setattr(ray, "shutdown", lambda: pytest.fail("it was left, and is not ours"))
    with tuner.connected(None):
        REQUIRE_ANSWER(None)
    with refused(Code.WRONG_VALUE, "10.0.0.1:6379", "ray.shutdown()", kind=InvalidRequest, key="--address"):
        REQUIRE_ANSWER("10.0.0.1:6379")


def test_launches_of_one_process_share_a_ray_until_the_last_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """With two threads, the first launch to end does not affect the other's trials."""
    said = list[str]()
    monkeypatch.setattr(ray, "is_initialized", lambda: len(said) % 2 == 1)
    monkeypatch.setattr(tuner, "connect", lambda _: said.append("joined"))
    monkeypatch.setattr(ray, "shutdown", lambda: said.append("left"))
    for _ in range(2):
        first, second = tuner.connected(None), tuner.connected(None)
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert said == ["joined"]
        second.__exit__(None, None, None)
        assert said == ["joined", "left"]
        said.clear()


def test_a_thread_that_started_ray_outlives_the_launches_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux ends Ray's processes together with the thread that started them."""
    said = list[str]()
    monkeypatch.setattr(ray, "is_initialized", lambda: len(said) % 2 == 1)
    monkeypatch.setattr(tuner, "connect", lambda _: said.append("joined"))
    monkeypatch.setattr(ray, "shutdown", lambda: said.append("left"))
    in_it = threading.Event()

    def briefly() -> None:
        with tuner.connected(None):
            in_it.set()
            assert may_end.wait(60)

    may_end = threading.Event()
    starter = threading.Thread(target=briefly)
    starter.start()
    assert in_it.wait(60)
    with tuner.connected(None):
        may_end.set()
        starter.join(0.2)
        assert starter.is_alive()
        assert said == ["joined"]
    starter.join(60)
    assert not starter.is_alive()
    assert said == ["joined", "left"]


def test_a_ray_that_does_not_start_is_left_and_the_next_launch_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    said = list[str]()

    def fail(_: object) -> None:
        said.append("joined")
        raise InvalidRequest(Code.NO_CLUSTER, "none")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(tuner, "connect", fail)
    monkeypatch.setattr(ray, "shutdown", lambda: said.append("left"))
    for _ in range(2):
        with refused(Code.NO_CLUSTER, "none", kind=InvalidRequest), tuner.connected(None):
            pass
    assert said == ["joined", "left"] * 2


REQUIRE_ANSWER = tuner.require_answer


# --- exit codes ---


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidRequest(Code.WRONG_VALUE, "no"), ExitCode.WRONG_REQUEST),
        (StorageFailure(Code.STORAGE, "no"), ExitCode.TRY_AGAIN),
        (InvalidRequest(Code.NO_CLUSTER, "no"), ExitCode.TRY_AGAIN),
        (OSError(errno.ENOSPC, "no", "file"), ExitCode.TRY_AGAIN),
        (OSError(errno.EMFILE, "no"), ExitCode.TRY_AGAIN),
        (OSError(errno.EIO, "no"), ExitCode.TRY_AGAIN),
        (PermissionError(errno.EACCES, "no", "file"), ExitCode.TRY_AGAIN),
        (ConnectionResetError(errno.ECONNRESET, "no"), ExitCode.TRY_AGAIN),
        (MemoryError(), ExitCode.TRY_AGAIN),
        (OSError(errno.ENAMETOOLONG, "no", "x" * 300), ExitCode.WRONG_REQUEST),
        (FileNotFoundError(errno.ENOENT, "no", "ours"), ExitCode.BUG),
        (KeyError("no"), ExitCode.BUG),
        (RecursionError("no"), ExitCode.BUG),
        (DeltaSweepError(Code.INTERNAL, "no"), ExitCode.BUG),
    ],
    ids=repr,
)
@pytest.mark.parametrize(
    "command",
    [
        ("plan", "mini.yaml"),
        ("launch", "mini.yaml", "--results", "new"),
        ("run", "mini.yaml", "--trial", "x", "--results", "new"),
    ],
    ids=" ".join,
)
def test_what_ends_a_command_decides_its_exit_code(
    command: tuple[str, ...], error: Exception, code: ExitCode, start: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(load, "load_study", fail)
    ended = start(*command)
    assert (ended.code, ended.out) == (code, b"")
    assert ended.err.startswith("deltasweep: ")
    assert "Traceback" not in ended.err
    assert ended.err.count("\n") == 1
    if code is ExitCode.BUG and not isinstance(error, DeltaSweepError):
        kept = Path(present_match(r"traceback is in (\S+)\.", ended.err))
        assert type(error).__name__ in kept.read_text(encoding="utf-8")
        kept.unlink()


CODES = {
    StopCause.INTERRUPTED: ExitCode.INTERRUPTED,
    StopCause.TUNE: ExitCode.TRY_AGAIN,
    StopCause.LIMIT: ExitCode.SOME_FAILED,
    StopCause.FAILING: ExitCode.SOME_FAILED,
    StopCause.MACHINE: ExitCode.TRY_AGAIN,
    StopCause.STORAGE: ExitCode.TRY_AGAIN,
}


@pytest.mark.parametrize("cause", StopCause)
def test_what_stops_a_launch_decides_its_exit_code(
    cause: StopCause, start: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuner, "run_round", lambda *given: given[-1].request_stop(cause, "the reason"))
    ended = start("launch", "mini.yaml", "--results", "new")
    assert (ended.code, ended.err) == (CODES[cause], "")
    assert b"Stopped: the reason." in ended.out


def present_match(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    assert found is not None, text
    return found[1]


def test_a_bug_is_json_where_it_was_asked_for(start: Started, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "load_study", lambda *_: {"yes": 1}["no"])
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ended = start("plan", "mini.yaml", "--json")
    assert (ended.code, json.loads(ended.err)["error"]["code"]) == (70, "internal")


@pytest.mark.parametrize(
    "command",
    [
        ("plan", "a" * 300),
        ("plan", f"{'a' * 300}/mini.yaml"),
        ("status", "--results", "a" * 300),
        ("status", "--results", "a/" * 3000),
        ("launch", "mini.yaml", "--results", f"new/{'a' * 300}"),
        ("import-trials", "a" * 300, "--results", "root"),
        ("report", "--results", "root", "--out", "a" * 300),
        ("query", SQL, "--results", "a" * 300),
    ],
    ids=lambda command: command[0],
)
def test_a_name_that_is_too_long_is_one_message(command: tuple[str, ...], start: Started) -> None:
    ended = start(*command)
    assert ended.code in (2, 3), ended.err
    assert ended.err.count("deltasweep: ") == 1
    assert "Traceback" not in ended.err
    assert "bug" not in ended.err


def test_a_directory_that_is_gone_is_one_message(
    start: Started, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    ended = start("plan", "demo")
    assert (ended.code, ended.err.count("\n")) == (2, 1)


# --- limits ---


@pytest.mark.parametrize("verb", ["launch", "resume"])
def test_a_launch_has_ended_by_its_hours(verb: str, start: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first trial uses up the time: finished trials are kept, and the rest is left for a later launch."""
    hours = list[float]()

    class AtOnce(TimeLimit):
        def __init__(self, most: float, ending_seconds: float) -> None:
            now = [0.0]
            super().__init__(most, ending_seconds, lambda: now[0])
            hours.append(most)
            now[0] = most * 3600

    study = ["mini.yaml"] if verb == "launch" else []
    if verb == "resume":
        assert start("launch", "mini.yaml", "--results", "new", "--max-trials", "1").code == 0
    monkeypatch.setattr(launch, "TimeLimit", AtOnce)
    ended = start(verb, *study, "--results", "new", "--max-hours", "1.5")
    assert (ended.code, hours, ended.err) == (1, [1.5], "")
    assert b"Stopped: the time limit was reached: --max-hours 1.5" in ended.out
    assert b"To resume: deltasweep resume --results new --study mini" in ended.out


@pytest.mark.parametrize(("option", "value"), [("--max-hours", "0"), ("--max-hours", "nan"), ("--hang-after", "-1")])
def test_a_limit_that_is_none_is_refused_before_anything_is_written(option: str, value: str, start: Started) -> None:
    ended = start("launch", "mini.yaml", "--results", "new", option, value)
    assert (ended.code, ended.err.startswith("deltasweep: "), option in ended.err) == (2, True, True)
    assert not Path("new").exists()


@pytest.mark.parametrize("verb", ["launch", "resume"])
def test_limits_are_submitted(verb: str, start: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = list[list[str]]()

    def submit(address: str, verb: str, options: list[str], *_: object) -> None:
        sent.append(options)
        raise InvalidRequest(Code.NO_CLUSTER, "none")

    monkeypatch.setattr("orchestrator.ray_tune.submit.submit", submit)
    study = ["mini.yaml"] if verb == "launch" else []
    where = ["--submit", "--address", "http://127.0.0.1:8265", "--results", "s3://bucket/root"]
    start(verb, *study, *where, "--max-hours", "3", "--hang-after", "90")
    start(verb, *study, *where)
    assert "--max-hours 3.0 --hang-after 90.0" in " ".join(sent[0])
    assert not {"--max-hours", "--hang-after"} & set(sent[1])
