"""Every address of the live page: who is answered, what is escaped, that nothing is written, and updates to many."""

import json
import re
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from analysis import deltas, formats
from analysis.paired.names import sources_in
from jobs.errors import Code, InvalidRequest
from jobs.results import LocalStore, commit, open_store, record_study
from jobs.results.layout import launch_key, log_key, trial_key
from orchestrator.live import watch as watching
from orchestrator.live.access import cookie_name, is_loopback, names_of
from orchestrator.live.watch import Watch
from tests.analysis.examined import visualized
from tests.orchestrator.live.roots import OTHER_KIND, TOKEN, TRAP, Sweep, client, listing, watched
from tests.orchestrator.live.viewers import Tags, serving
from tests.support import refused


def addresses(sweep: Sweep) -> list[str]:
    trial, failed = sweep.specs[0].trial_id, sweep.specs[17].trial_id
    pages = ["/", "/failures", f"/failures?log={failed}/1", f"/trial/{trial}", f"/trial/{failed}", "/?cell=digits.50.3"]
    return [*pages, "/static/theme.css", "/static/live.css", "/static/live.js", "/static/icon.svg"]


def streams(sweep: Sweep) -> list[str]:
    return ["/events", "/events/failures", f"/events/trial/{sweep.specs[0].trial_id}"]


# --- who is answered ---


def test_nothing_is_shown_without_the_token(watch: Watch, sweep: Sweep) -> None:
    stranger = client(watch, authorized=False)
    for address in (*addresses(sweep), *streams(sweep), "/nothing"):
        for query in ({}, {"token": ""}, {"token": "another"}, {"token": "\u00e9"}):
            answer = stranger.get(address, params=query)
            assert answer.status_code == 403, address
            assert "small" not in answer.text
            assert "set-cookie" not in answer.headers
    stranger.cookies.set(cookie_name(TOKEN), "another")
    assert stranger.get("/").status_code == 403


def test_the_token_becomes_a_cookie_that_scripts_and_other_sites_do_not_get(watch: Watch) -> None:
    answer = client(watch, authorized=False).get("/", params={"token": TOKEN})
    assert answer.status_code == 200
    assert answer.headers["set-cookie"] == f"{cookie_name(TOKEN)}={TOKEN}; Path=/; HttpOnly; SameSite=Strict"
    assert TOKEN not in answer.text


def test_only_the_token_is_remembered(page: TestClient) -> None:
    for other in ("another", "", "\u00e9", "\u20ac", "\r\nx: y"):
        answer = page.get("/", params={"token": other})
        assert (answer.status_code, "set-cookie" in answer.headers) == (200, False), other


def test_pages_of_several_machines_behind_one_name_have_cookies_of_their_own() -> None:
    """As tunnels to them have, if they end at the same port of this machine one after the other."""
    assert cookie_name(TOKEN) != cookie_name(f"{TOKEN}x")
    assert TOKEN not in cookie_name(TOKEN)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8737", "127.0.0.1.evil.example", "", "[evil]:8737"])
def test_another_name_for_this_address_is_refused(page: TestClient, sweep: Sweep, host: str) -> None:
    for address in (*addresses(sweep), *streams(sweep)):
        answer = page.get(address, headers={"host": host})
        assert (answer.status_code, "Fix: use the address" in answer.text) == (421, True)


@pytest.mark.parametrize("host", ["127.0.0.1:8737", "localhost:1234", "LOCALHOST", "[::1]:8737", "[::1]", "192.0.2.7"])
def test_own_names_and_addresses_in_numbers_are_answered(page: TestClient, host: str) -> None:
    assert page.get("/", headers={"host": host, "cookie": f"{cookie_name(TOKEN)}={TOKEN}"}).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_nothing_can_be_changed(page: TestClient, sweep: Sweep, method: str) -> None:
    for address in (*addresses(sweep), *streams(sweep)):
        assert page.request(method, address).status_code == 405


def test_names_of_a_server() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "192.0.2.1", "example.org")))
    assert names_of("127.0.0.1") == {"localhost", "127.0.0.1"}
    assert names_of("0.0.0.0") >= {"localhost", socket.gethostname()}


def test_headers_forbid_code_from_elsewhere_and_inline(page: TestClient, sweep: Sweep) -> None:
    for address in addresses(sweep):
        answer = page.get(address)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        if "html" in answer.headers["content-type"]:
            tags = Tags(answer.text).found
            assert not any("style" in attributes for _, attributes in tags)
            assert not any(name.startswith("on") for _, attributes in tags for name in attributes)
            assert [attributes["src"] for tag, attributes in tags if tag == "script"] == ["/static/live.js"]
            links = [value for _, of in tags for name in ("href", "src", "action") if (value := of.get(name))]
            assert all(value.startswith(("/", "?", "#")) and not value.startswith("//") for value in links), links


# --- what is shown ---


def test_the_first_page_says_what_runs(page: TestClient, sweep: Sweep) -> None:
    text = " ".join(Tags(page.get("/").text).text.split())
    for words in (
        "small running",
        "done14of 24 trials, 58.3 %",
        "running36 waiting",
        "failed1not done",
        "launch 20260101T000000Z-00000000 of study small by ada on head",
        "worker-7",
        f"seed {sweep.specs[14].seed}",
        "running, without a checkpoint so far",
        "fmnist_l2_eps1 minus fmnist_natural",
        "Deltas so far",
        "on processors, which the plan has no price for",
    ):
        assert words in text, text


def test_sources_have_the_looks_of_the_report(page: TestClient, sweep: Sweep) -> None:
    """They follow from all names in the root, in whatever order the study has them."""
    text = page.get("/").text
    keys = dict(re.findall(r'<th scope="row"><span class="key s(\d)">.*?</svg>(\w+)</span>', text))
    assert keys == {"0": "fmnist_l2_eps1", "1": "fmnist_natural"}
    assert [*sources_in(sweep.store)] == ["fmnist_l2_eps1", "fmnist_natural"]
    summary = re.search(r'<li><span class="key s(\d)">.*?</svg>fmnist_l2_eps1 minus', text)
    assert summary is not None
    assert summary[1] == "0"


def test_what_only_other_kinds_or_studies_name_has_a_look_as_in_the_report(sweep: Sweep) -> None:
    """Results of a source that only an older version of a study had, and a study that was never launched."""
    commit(sweep.store, "visualize", visualized("a-visualized-one"))
    commit(sweep.store, "visualize", visualized("fmnist_natural"))
    grid = {"source": ["b-planned-one"], "dataset": ["digits"], "blocks": [3]}
    rows = [{"images": [100], "epochs": 1, "seeds": 2, "evaluate_every": 1}]
    record_study(sweep.store, "mine", "d1", json.dumps({"name": "mine", "grid": grid, "schedule": rows, "recipe": {}}))
    record_study(sweep.store, "later", "d1", json.dumps({"name": "later", "nothing": "of this version"}))
    names = sources_in(sweep.store)
    assert names == ["a-visualized-one", "b-planned-one", "fmnist_l2_eps1", "fmnist_natural"]
    watch = watched(sweep.store)
    try:
        for _ in range(2):
            text = client(watch).get("/").text
            keys = dict(re.findall(r'<th scope="row"><span class="key s(\d)">.*?</svg>(\w+)</span>', text))
            assert keys == {str(names.index(name)): name for name in names[2:]}
        sweep.store.delete(trial_key("visualize", visualized("a-visualized-one")[0]["trial_id"]))
        watch._reader.look()
        contents = watch._reader.look()
        assert contents.sources == {"fmnist_l2_eps1", "fmnist_natural"}
    finally:
        watch.close()


def test_the_heat_map_counts_each_cell(page: TestClient, sweep: Sweep) -> None:
    text = page.get("/").text
    assert text.count("<span>3/3</span>") == 4
    assert "<span>2/3</span><b> 1 running</b>" in text
    assert "<b> 1 failed</b>" in text


def test_the_view_is_in_the_address(page: TestClient) -> None:
    chosen = page.get("/", params={"cell": "digits.100.1", "blocks": "1", "study": "small"}).text
    assert "Curves: digits, 100 images, last block" in Tags(chosen).text
    assert '<option value="1" selected>' in chosen
    assert "cell=digits.100.1" in chosen  # kept by the form of the deltas
    fallback = page.get("/", params={"cell": "nothing.1.1", "blocks": "x", "recipe": "y"})
    assert fallback.status_code == 200


def test_running_trials_are_dashed_from_their_checkpoint(page: TestClient, sweep: Sweep) -> None:
    spec = sweep.specs[14]
    text = page.get("/", params={"cell": f"{spec.dataset}.{spec.images}.{spec.blocks}"}).text
    assert "running: 31.2 % after epoch 1" in text
    sweep.commit(spec)
    assert "running: 31.2 %" not in page.get("/", params={"cell": f"{spec.dataset}.{spec.images}.{spec.blocks}"}).text


def test_the_page_of_a_trial(page: TestClient, sweep: Sweep) -> None:
    spec = sweep.specs[0]
    text = " ".join(Tags(page.get(f"/trial/{spec.trial_id}").text).text.split())
    for words in (spec.trial_id, "done", "seed20000000", "images50", "AMD EPYC, avx2", "torch 2.12.0", "hostworker-1"):
        assert words in text, text
    running = Tags(page.get(f"/trial/{sweep.specs[14].trial_id}").text).text
    assert "Epoch 2 of 5 after 2s, on worker-7" in running
    pending = page.get(f"/trial/{sweep.specs[-1].trial_id}")
    assert pending.status_code == 200
    assert "pending" in pending.text


def test_the_log_of_a_failure_follows_the_latest(page: TestClient, sweep: Sweep) -> None:
    first = sweep.specs[17].trial_id
    assert "line one" in page.get("/failures").text
    sweep.fail(sweep.specs[18], "another", "line two\n")
    latest = page.get("/failures").text
    assert "line two" in latest
    assert "line one" not in latest
    assert "line one" in page.get("/failures", params={"log": f"{first}/1"}).text


def test_a_damaged_result_is_shown_as_such(page: TestClient, sweep: Sweep, root: Path) -> None:
    trial = sweep.specs[2].trial_id
    (root / trial_key("finetune", trial)).write_bytes(b"PAR1")
    assert "1 file of this results root cannot be used" not in page.get("/").text  # read before, and never again
    fresh = watched(open_store(root))
    text = client(fresh).get("/").text
    assert "1 file of this results root cannot be used" in text
    assert trial in text
    about = client(fresh).get(f"/trial/{trial}").text
    assert "is not a readable Parquet file" in about
    assert '<span class="state damaged">' in about
    fresh.close()


def test_mixed_kinds_of_device_are_said_and_gpu_time_costs(sweep: Sweep) -> None:
    sweep.commit(sweep.specs[20], device_kind=OTHER_KIND)
    found = watched(sweep.store)
    text = " ".join(Tags(client(found).get("/").text).text.split())
    assert "Finished trials ran on 2 kinds of device" in text
    assert "money so far $0.00" in text
    assert "A10G at $1.01 an hour" in text
    found.close()


def test_data_that_differ_between_machines_are_said(sweep: Sweep) -> None:
    sweep.commit(sweep.specs[20], dataset_sha256="e" * 64)
    found = watched(sweep.store)
    page = client(found)
    assert "different data" not in page.get("/").text, "one digest, beside results that have none"
    sweep.commit(*sweep.specs[21:23], dataset_sha256="f" * 64)
    text = " ".join(Tags(page.get("/").text).text.split())
    assert "Finished trials read different data under one name" in text
    assert "2 on digits ffffffffffffffff" in text
    assert "1 on digits eeeeeeeeeeeeeeee" in text
    found.close()


def test_a_study_of_trials_that_ran_without_a_launch_is_shown(sweep: Sweep) -> None:
    sweep.store.delete(launch_key(sweep.launch.launch))
    found = watched(sweep.store)
    text = " ".join(Tags(client(found).get("/").text).text.split())
    assert "small no launch runs" in text
    assert "done14of 24 trials, 58.3 %" in text
    found.close()


def test_a_root_without_launches_and_an_unreadable_study(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    empty = watched(open_store(tmp_path / "empty"))
    assert "Nothing has been launched here yet" in client(empty).get("/").text
    empty.close()
    sweep = Sweep(LocalStore(tmp_path / "other"))
    (tmp_path / "other/studies/small" / f"{sweep.study.digest}.yaml").write_text(
        "name: small\ngrid: {source: [nothing]}"
    )
    other = watched(open_store(tmp_path / "other"))
    text = client(other).get("/").text
    assert "The study cannot be read" in text
    other.close()


def test_a_root_that_is_not_there_yet_is_waited_for_and_not_made(tmp_path: Path) -> None:
    watch = watched(open_store(tmp_path / "later"))
    page = client(watch)
    assert "Waiting for this results root" in page.get("/").text
    assert str(tmp_path / "later") in page.get("/").text
    assert page.get("/failures").status_code == 200
    assert list(tmp_path.iterdir()) == []
    sweep = Sweep(LocalStore(tmp_path / "later"))
    sweep.commit(*sweep.specs[:3])
    text = page.get("/").text
    assert "Waiting for this results root" not in text
    assert "<dd>3<small>of 24" in text
    watch.close()


# --- strangers ---


@pytest.mark.parametrize(
    "address",
    [
        "/trial/nothing",
        "/trial/..%2f..%2froot.json",
        "/trial/../root.json",
        "/trial/%2e%2e/%2e%2e/etc/passwd",
        "/events/trial/nothing",
        "/failures?log=../../root.json",
        "/failures?log=x/1",
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2f..%2fserve.py",
        "/?study=nothing",
        "/nothing",
    ],
)
def test_what_is_not_there_is_not_found(page: TestClient, root: Path, address: str) -> None:
    (root / "root.json.log").write_text("secret")
    answer = page.get(address)
    assert answer.status_code == 404
    assert "secret" not in answer.text
    assert "import" not in answer.text


def test_text_of_strangers_is_text(sweep: Sweep, root: Path) -> None:
    """Names, errors, logs and records may contain anything; none of it is markup, and no name leaves the root."""
    trial = f"finetune-{TRAP}-0123456789abcdef"
    sweep.commit(sweep.specs[20], host=TRAP, device_kind=TRAP, packages=json.dumps({TRAP: TRAP}), code_version=TRAP)
    sweep.beat(*sweep.specs[14:17], user=TRAP, host=TRAP)
    sweep.store.create(f"failures/{TRAP.replace('/', '')}/1.json", b"{}")
    sweep.store.create("trials/finetune/01/<b>.parquet", b"")
    sweep.checkpoint(sweep.specs[15], host=TRAP, history=[[TRAP], ["{}"]])
    found = watched(open_store(root))
    page = client(found)
    for address in (*addresses(sweep), f"/trial/{sweep.specs[20].trial_id}", f"/trial/{sweep.specs[15].trial_id}"):
        text = page.get(address).text
        if address.startswith("/static"):
            continue
        tags = Tags(text).found
        assert not any(tag in ("img", "b") and attributes for tag, attributes in tags), address
        assert not any("onerror" in attributes for _, attributes in tags)
        assert "\x1b" not in text
    assert TRAP in Tags(page.get("/").text).text
    assert TRAP in Tags(page.get("/failures").text).text
    assert page.get(f"/trial/{trial}").status_code == 404
    found.close()


def test_a_stranger_in_place_of_a_log_is_named(sweep: Sweep, root: Path) -> None:
    path = root / log_key(sweep.specs[17].trial_id, 1)
    path.unlink()
    path.symlink_to("/etc/hostname")
    found = watched(open_store(root))
    text = client(found).get("/failures").text
    assert "expected a file" in text or "a link" in text
    assert Path("/etc/hostname").read_text().strip() not in Tags(text).text.replace(str(root), "")
    found.close()


def test_a_recorded_study_runs_no_code(tmp_path: Path) -> None:
    """Neither tags of YAML nor builders of its own architectures."""
    sweep = Sweep(LocalStore(tmp_path))
    ran = tmp_path / "ran"
    record = tmp_path / "studies/small" / f"{sweep.study.digest}.yaml"
    record.write_text(f"name: !!python/object/apply:os.mkdir [{ran}]\n")
    found = watched(open_store(tmp_path))
    assert client(found).get("/").status_code == 200
    assert not ran.exists()
    found.close()


# --- never writes ---


def test_nothing_is_written(page: TestClient, sweep: Sweep, root: Path) -> None:
    before = listing(root)
    for address in addresses(sweep):
        assert page.get(address).status_code == 200
    assert listing(root) == before


def test_a_root_that_fails_is_said_and_the_last_view_stays(page: TestClient, root: Path) -> None:
    hidden = root.with_name("hidden")
    root.rename(hidden)
    text = page.get("/").text
    assert "The results root could not be read" in text
    assert "14" in Tags(text).text
    hidden.rename(root)
    assert "The results root could not be read" not in page.get("/").text


# --- updates ---


@pytest.mark.usefixtures("quick")
def test_all_viewers_see_what_a_launch_writes(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: set[int] = set()
    watch = watched(sweep.store)
    original = watch._reader.look

    def look() -> Any:
        threads.add(threading.get_ident())
        return original()

    monkeypatch.setattr(watch._reader, "look", look)
    with serving(watch) as view:
        viewers = [view() for _ in range(6)]
        other = view("/events/failures")
        for at, spec in enumerate(sweep.specs[14:17]):
            sweep.commit(spec)
            for viewer in viewers:
                viewer.waits_for(f"<dd>{15 + at}<small>of 24", "now")
        sweep.fail(sweep.specs[19], "news", "the log of the news\n")
        other.waits_for("the log of the news", "log")
        for viewer in (*viewers, other):
            assert not any(news["trouble"] for news in viewer.news)
        assert len(threads) == 1, "one thread looks for all viewers"
        viewers[0].close()
        sweep.commit(sweep.specs[20])
        viewers[1].waits_for("<dd>18<small>of 24", "now")
        until = time.monotonic() + 30
        while len(watch._viewers) > 6:
            assert time.monotonic() < until
            time.sleep(0.05)


@pytest.mark.usefixtures("quick")
def test_only_parts_that_changed_are_sent(sweep: Sweep) -> None:
    watch = watched(sweep.store)
    with serving(watch) as view:
        viewer = view()
        viewer.waits_for("small", "now")
        assert viewer.news[0]["parts"].keys() >= {"now", "map", "machines", "deltas", "curves", "lately"}
        sweep.fail(sweep.specs[21], "only a failure")
        viewer.waits_for("only a failure", "lately")
        last = next(news for news in viewer.news if "only a failure" in news["parts"].get("lately", ""))
        assert "deltas" not in last["parts"]
        assert "curves" not in last["parts"]


@pytest.mark.usefixtures("quick")
def test_who_connects_again_gets_what_has_changed_since(sweep: Sweep) -> None:
    """A browser connects again to the first address, whose digests are old by then, with the id of its last event."""
    watch = watched(sweep.store)
    with serving(watch) as view:
        viewer = view()
        viewer.waits_for_news(1)
        seen = viewer.ids[0]
        assert re.fullmatch(r"(\w+:[0-9a-f]{12},?)+", seen)
        old = re.sub(r"(deltas|curves):\w+", r"\1:old", seen)
        for address, last_event, sent in (
            (f"/events?seen={old}", seen, False),
            (f"/events?seen={seen}", old, True),
            (f"/events?seen={seen}", "", False),
            (f"/events?seen={old}", "", True),
        ):
            again = view(address, last_event)
            again.waits_for_news(1)
            assert ({"deltas", "curves"} <= again.news[0]["parts"].keys()) == sent


def test_nobody_watches_nobody_looks(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_SOONEST", 0.01)
    watch = watched(sweep.store)
    number = watch.moment.number
    time.sleep(0.3)
    assert watch.moment.number == number
    client(watch).get("/")
    assert watch.moment.number > number
    watch.close()


def test_a_stream_of_what_is_not_there_is_not_found(watch: Watch) -> None:
    with serving(watch) as view:
        assert view("/events/trial/nothing").status == 404
        assert view("/events/failures").status == 200


def test_one_arm_alone_and_one_pair_are_no_answer_yet(root: Path) -> None:
    made = Sweep(LocalStore(root))
    first = {spec.source: spec for spec in reversed(made.specs) if (spec.blocks, spec.images) == (3, 50)}
    robust, natural = first["fmnist_l2_eps1"], first["fmnist_natural"]
    assert robust.seed == natural.seed
    made.commit(robust)
    watch = watched(made.store)
    try:
        text = client(watch).get("/").text
        assert "No pair yet: no trial of fmnist_natural has finished." in text
        with refused(Code.NO_ANSWER, "fmnist_natural has none yet", "deltasweep status", kind=InvalidRequest):
            deltas(root)
        made.commit(natural)
        text = client(watch).get("/").text
        assert "no interval yet, which takes two pairs" in text
        words = f"2 of {len(made.specs)} trials of small are done: its deltas, intervals and p-values are not final"
        assert words in formats.text(deltas(root), "table")
        made.commit(*made.specs)
        assert "not final" not in formats.text(deltas(root), "table")
    finally:
        watch.close()
