"""What pages read when somebody looks at them: logs, outputs and results, once for all viewers."""

import operator
import os
import re
import shutil
import threading
from functools import partial
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from jobs.errors import Code, StorageFailure
from jobs.results import LocalStore, record_study, write_launch
from jobs.results.layout import log_key, output_key, trial_key
from orchestrator.live.once import Once
from orchestrator.live.pages import PAGES, Pages
from orchestrator.live.watch import Watch
from orchestrator.planning.trial_logs import attempts_of
from tests.orchestrator.live.roots import Counting, Sweep, client, study, watched
from tests.orchestrator.live.viewers import Tags, serving

LONG_AGO = "2026-01-01T00:00:00+00:00"
OTHER_STUDY = """\
name: other
grid: {source: [fmnist_natural], dataset: [digits], blocks: [3]}
schedule:
  - {images: [50], epochs: 5, seeds: 1, evaluate_every: 2}
"""


class Unsteady(LocalStore):
    """Does not respond while its owner says so, for some keys."""

    unreachable = "(none)"
    """How these keys begin."""
    held: threading.Event | None = None
    """What reads of them wait for."""

    def read_within(self, key: str, most: int) -> bytes:
        if key.startswith(self.unreachable):
            if self.held is None:
                raise StorageFailure(Code.STORAGE, "the storage does not respond")
            self.held.wait(60)
        return super().read_within(key, most)


# --- once ---


def test_a_value_is_computed_once_for_all_threads() -> None:
    once, computed, go = Once[str](10), list[int](), threading.Event()

    def compute() -> str:
        computed.append(1)
        go.wait(60)
        return "value"

    got: list[str] = []
    threads = [threading.Thread(target=lambda: got.append(once.get("key", compute))) for _ in range(5)]
    for thread in threads:
        thread.start()
    assert once.get("another", lambda: "at once") == "at once"
    go.set()
    for thread in threads:
        thread.join(60)
    assert (got, computed) == (["value"] * 5, [1])


def test_an_error_is_not_kept() -> None:
    once = Once[int](10)
    with pytest.raises(ZeroDivisionError):
        once.get("key", lambda: 1 // 0)
    assert once.get("key", lambda: 1) == 1
    once.forget("key", 7)
    assert once.get("key", lambda: 2) == 1
    once.forget("key", 1)
    assert once.get("key", lambda: 2) == 2


def test_what_was_asked_for_longest_ago_is_forgotten() -> None:
    once = Once[str](10, len)
    for key in ("a", "b", "a", "c", "a"):
        once.get(key, partial(operator.mul, key, 4))
    assert once.get("b", str) == "", "forgotten"
    assert once.get("a", str) == "aaaa"
    assert once.get("large", lambda: "x" * 99) == once.get("large", str) == "x" * 99


# --- each object once ---


def test_results_and_logs_are_read_once_for_all_views(sweep: Sweep, root: Path) -> None:
    done, failed = sweep.specs[20], sweep.specs[21]
    sweep.commit(done, finished_at=LONG_AGO)
    sweep.fail(failed, "it broke", "its log\n", at=LONG_AGO)
    sweep.store.create(output_key(failed.trial_id, 1), b"it said\n")
    store = Counting(root)
    watch = watched(store)
    page = client(watch)
    pages = ["/failures", f"/failures?log={failed.trial_id}/1", f"/trial/{done.trial_id}", f"/trial/{failed.trial_id}"]
    keys = [log_key(failed.trial_id, 1), output_key(failed.trial_id, 1), output_key(done.trial_id, 1)]
    before = store.read_keys[trial_key("finetune", done.trial_id)]
    for spec in sweep.specs[14:17]:
        for address in pages:
            assert page.get(address).status_code == 200
        sweep.commit(spec)  # so that the pages are made anew
    assert "its log" in page.get(pages[-1]).text
    assert [store.read_keys[key] for key in keys] == [1, 1, 1]
    assert store.read_keys[trial_key("finetune", done.trial_id)] == before + 1
    watch.close()


def test_a_result_that_was_computed_again_is_read_again(sweep: Sweep, root: Path, watch: Watch) -> None:
    spec, page = sweep.specs[0], client(watch)
    address = f"/trial/{spec.trial_id}"
    assert "worker-1" in page.get(address).text
    (root / trial_key("finetune", spec.trial_id)).unlink()
    assert "worker-1" not in page.get(address).text
    sweep.commit(spec, host="worker-9")
    assert "worker-9" in page.get(address).text


# --- storage that fails ---


def test_storage_that_does_not_respond_is_said_until_it_does(sweep: Sweep, root: Path) -> None:
    store = Unsteady(root)
    watch = watched(store)
    page = client(watch)
    done, failed = sweep.specs[0].trial_id, sweep.specs[17].trial_id
    texts = {"/failures": "line one", f"/trial/{failed}": "line one", f"/trial/{done}": "worker-1"}
    for prefix in ("trials/", "logs/"):
        store.unreachable = prefix
        for address in texts:
            answer = page.get(address)
            said = "the storage does not respond" in answer.text
            assert (answer.status_code, said) == (200, prefix == "logs/" or done in address), address
    store.unreachable = "(none)"
    for address, text in texts.items():
        answer = page.get(address)
        assert "the storage does not respond" not in answer.text
        assert text in answer.text
    watch.close()


@pytest.mark.usefixtures("quick")
def test_updates_go_on_after_storage_that_does_not_respond(sweep: Sweep, root: Path) -> None:
    store = Unsteady(root)
    watch = watched(store)
    with serving(watch) as view:
        viewer = view("/events/failures")
        viewer.waits_for("line one", "log")
        store.unreachable = "logs/"
        sweep.fail(sweep.specs[20], "another", "line two\n")
        viewer.waits_for("the storage does not respond", "log")
        store.unreachable = "(none)"
        viewer.waits_for("line two", "log")


def test_a_log_that_takes_long_delays_nobody_else(sweep: Sweep, root: Path) -> None:
    store = Unsteady(root)
    store.held, store.unreachable = threading.Event(), "logs/"
    watch = watched(store)
    pages = Pages(watch)
    overview, failures, _ = PAGES
    made: list[str] = []
    waiting = threading.Thread(target=lambda: made.append(pages.parts(failures, {}, {})["log"].html))
    waiting.start()
    assert "small" in pages.parts(overview, {}, {})["now"].html
    assert made == []
    store.held.set()
    waiting.join(60)
    assert "line one" in made[0]
    watch.close()


# --- what actors print ---


def test_pages_show_what_logs_prints(sweep: Sweep, page: TestClient) -> None:
    """Of failed attempts what the actor printed and the log, of the running and the finished one what it printed."""
    failed, done, running = sweep.specs[17].trial_id, sweep.specs[0].trial_id, sweep.specs[14].trial_id
    for trial, printed in (
        (failed, b"failing aloud\n"),
        (done, b"done <b>aloud</b>\n"),
        (running, b"running \x1b[1m\x07\n"),
    ):
        sweep.store.replace(output_key(trial, 1), printed)
    for address in ("/failures", f"/trial/{failed}"):
        text = Tags(page.get(address).text).text
        assert text.index("failing aloud") < text.index("line one"), address
        (attempt,) = attempts_of(sweep.store, failed)
        assert attempt.body.replace("\x1b[31m", "") in text
    assert "done <b>aloud</b>" in Tags(page.get(f"/trial/{done}").text).text
    assert "running \\u0007\n(checkpoint before batch 1 of epoch 2)" in Tags(page.get(f"/trial/{running}").text).text
    waiting = Tags(page.get(f"/trial/{sweep.specs[15].trial_id}").text).text
    assert "(no checkpoint yet; its output arrives every 10 s" in waiting


@pytest.mark.usefixtures("quick")
def test_the_output_of_a_running_trial_grows_while_nothing_else_changes(sweep: Sweep) -> None:
    trial = sweep.specs[14].trial_id
    sweep.fail(sweep.specs[14], at=LONG_AGO)
    sweep.store.replace(output_key(trial, 2), b"first\n")
    watch = watched(sweep.store)
    with serving(watch) as view:
        viewers = [view(f"/events/trial/{trial}") for _ in range(2)]
        for viewer in viewers:
            viewer.waits_for("first", "trial")
        sweep.store.replace(output_key(trial, 2), b"first\nsecond\n")
        for viewer in viewers:
            viewer.waits_for("second", "trial")
        seen = len(viewers[0].news)
        viewers[0].waits_for_news(seen + 3)
        assert [news["parts"] for news in viewers[0].news[seen + 1 :]].count({}) >= 2, "nothing new"


# --- roots that are replaced ---


def test_a_root_that_was_removed_and_made_again_is_shown(sweep: Sweep, page: TestClient, root: Path) -> None:
    """Also by the server that has shown the first one: the next launch finds it and starts no other."""
    assert "line one" in page.get("/failures").text
    shutil.rmtree(root)
    for _ in range(2):
        text = page.get("/").text
        assert "The results root could not be read" in text
        assert "<dd>14<small>of 24" in text, "the last view stays"
        root.mkdir(exist_ok=True)  # as where a disk was mounted
    again = Sweep(LocalStore(root))
    again.commit(*again.specs[:2])
    again.fail(again.specs[17], "it broke again", "line of the new root\n")
    text = page.get("/").text
    assert "The results root could not be read" not in text
    assert "<dd>2<small>of 24" in text
    log = page.get("/failures").text
    assert "line of the new root" in log
    assert "line one" not in log


@pytest.mark.usefixtures("quick")
def test_viewers_of_a_root_that_was_made_again_see_it(sweep: Sweep, root: Path) -> None:
    watch = watched(sweep.store)
    with serving(watch) as view:
        viewer = view()
        viewer.waits_for("<dd>14<small>of 24", "now")
        shutil.rmtree(root)
        again = Sweep(LocalStore(root))
        again.commit(again.specs[0])
        viewer.waits_for("<dd>1<small>of 24", "now")


# --- names that are no text ---


def test_the_path_of_a_root_need_not_be_text(tmp_path: Path) -> None:
    root = Path(os.fsdecode(os.fsencode(tmp_path) + b"/root \xff"))
    sweep = Sweep(LocalStore(root))
    sweep.commit(*sweep.specs[:2])
    sweep.fail(sweep.specs[2])
    log = root / log_key(sweep.specs[2].trial_id, 1)
    log.unlink()
    log.mkdir()
    watch = watched(sweep.store)
    page = client(watch)
    for address in ("/", "/failures", f"/trial/{sweep.specs[0].trial_id}", f"/trial/{sweep.specs[2].trial_id}"):
        answer = page.get(address)
        assert (answer.status_code, "root \\udcff" in answer.text) == (200, True)
    assert page.get("/trial/nothing").status_code == 404
    assert "root \\udcff" in page.get("/trial/nothing").text
    watch.close()


# --- what became of a failed attempt ---


def test_all_failures_say_what_became_of_the_trial(sweep: Sweep, page: TestClient) -> None:
    """In the study that plans it, whichever is launched last."""
    waiting, hopeless, done, running = (sweep.specs[at] for at in (17, 18, 0, 14))
    for spec, reason in ((hopeless, "the same"), (hopeless, "the same"), (done, "once"), (running, "once")):
        sweep.fail(spec, reason)
    other = study(OTHER_STUDY)
    record_study(sweep.store, other.name, other.digest, other.resolved())
    later = sweep.launch._replace(launch="20260102T000000Z-00000000", study=other.name, digest=other.digest)
    write_launch(sweep.store, later)
    rows = re.split("<tr[^>]*>", page.get("/failures").text)
    for spec, words in (
        (waiting, "waits for a retry"),
        (hopeless, "quarantined"),
        (done, "done since"),
        (running, "running again"),
    ):
        row = next(row for row in rows if f"/trial/{spec.trial_id}" in row)
        assert f"<td>{words}</td>" in row, row
