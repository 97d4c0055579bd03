"""The live page in a real browser: no errors, axe, keyboard, phone width, updates that leave the reader in peace."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import uvicorn

from jobs.results import LocalStore
from orchestrator.live import watch as watching
from orchestrator.live.app import make_app
from orchestrator.live.watch import Watch
from tests.machine import module
from tests.orchestrator.live.roots import OTHER_KIND, TOKEN, TRAP, Sweep, listing, watched

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

WAIT = 60_000


@contextmanager
def served(watch: Watch) -> Iterator[str]:
    """Serve the live page; provide its address with the token."""
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    app = make_app(watch, TOKEN, {"localhost"})
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", ws="none", lifespan="off"))
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}/?token={TOKEN}"
    finally:
        watch.close()
        server.should_exit = True
        thread.join(60)
        listening.close()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("live") / "root"


@pytest.fixture(scope="module")
def sweep(root: Path) -> Sweep:
    """Two thirds of a study, with everything that the page can show."""
    made = Sweep(LocalStore(root))
    made.commit(*made.specs[:12])
    made.commit(*made.specs[12:14], device_kind=OTHER_KIND, host="worker-2")
    made.beat(*made.specs[14:17])
    made.checkpoint(made.specs[14])
    made.fail(made.specs[17], f"it broke {TRAP}", "line\n" * 100 + TRAP)
    made.store.create("trials/finetune/00/foreign.txt", b"")
    return made


@pytest.fixture(scope="module")
def address(sweep: Sweep) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watching, "_SOONEST", 0.1)
        patch.setattr(watching, "SHARE", 1.0)
        with served(watched(sweep.store)) as base:
            yield base


class Opened:
    """An opened page with all its console messages and requests."""

    def __init__(self, browser: "Browser", address: str, width: int = 1280, scheme: str = "light") -> None:
        self.context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme="dark" if scheme == "dark" else "light",
        )
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(WAIT)
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.base = address.partition("/?")[0]
        self.page.goto(address)
        self.updated()

    def go(self, path: str) -> None:
        self.page.goto(f"{self.base}{path}")
        self.updated()

    def updated(self, more: int = 1) -> None:
        """Wait until the page has received updates."""
        before = int(self.page.evaluate("Number(document.documentElement.dataset.updates ?? 0)"))
        self.page.wait_for_function(
            "least => Number(document.documentElement.dataset.updates ?? 0) >= least", arg=before + more
        )

    def seen(self, state: str) -> None:
        """Let the page be hidden or visible, as if another tab were in front of it, or not."""
        self.page.evaluate(
            "state => { Object.defineProperty(document, 'visibilityState', { value: state, configurable: true });"
            "  document.dispatchEvent(new Event('visibilitychange')); }",
            state,
        )

    def close(self) -> None:
        assert self.said == []
        assert {url.partition("//")[2].partition("/")[0] for url in self.asked} == {self.base.partition("//")[2]}
        self.context.close()


@pytest.fixture
def opened(browser: "Browser", address: str) -> Iterator[Opened]:
    made = Opened(browser, address)
    yield made
    made.close()


def paths(sweep: Sweep) -> list[str]:
    return ["/", "/failures", f"/trial/{sweep.specs[0].trial_id}", f"/trial/{sweep.specs[17].trial_id}"]


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "light"), (1280, "dark")])
def test_axe_finds_nothing(browser: "Browser", address: str, sweep: Sweep, width: int, scheme: str) -> None:
    axe = module(
        "axe_playwright_python.sync_playwright", "that the page is accessible", "`pip install axe-playwright-python`"
    )
    made = Opened(browser, address, width, scheme)
    for path in paths(sweep):
        made.go(path)
        for details in made.page.locator("details").all():
            details.evaluate("one => { one.open = true }")
        found = axe.Axe().run(made.page)
        assert found.violations_count == 0, found.generate_report()
    made.close()


def test_a_phone_scrolls_down_only(browser: "Browser", address: str, sweep: Sweep) -> None:
    made = Opened(browser, address, 390)
    for path in paths(sweep):
        made.go(path)
        assert made.page.evaluate("document.documentElement.scrollWidth") <= 390, path
    made.close()


def test_the_token_leaves_the_address_and_the_browser_remembers_it(opened: Opened) -> None:
    assert opened.page.url == f"{opened.base}/"
    assert opened.page.evaluate("document.cookie") == ""
    opened.go("/failures")
    assert opened.page.inner_text("h1") == "Failed attempts"


def test_by_keyboard_alone(opened: Opened) -> None:
    page = opened.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.locator(".map a[tabindex='0']").count() == 1
    page.locator(".map a[tabindex='0']").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#pointed").startswith("fmnist_natural, last 3 blocks, digits, 100 images: 0 of 3 done")
    page.keyboard.press("Tab")
    assert not page.evaluate("document.activeElement.matches('.map a')")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    page.wait_for_url("**/?cell=digits.100.3#curves-title")
    assert "Curves: digits, 100 images, last 3 blocks" in page.inner_text("#part-curves")


def test_choices_are_kept_in_the_address(opened: Opened) -> None:
    opened.go("/?cell=digits.100.3")
    opened.page.select_option("select[name=blocks]", "1")
    opened.page.wait_for_url("**/?cell=digits.100.3&blocks=1")
    assert "last block fine-tuned" in opened.page.inner_text("#part-deltas")


def test_text_of_strangers_runs_nothing(opened: Opened) -> None:
    for path in ("/", "/failures"):
        opened.go(path)
        assert TRAP in opened.page.inner_text("main")
        assert opened.page.evaluate("window.ran") is None


def test_the_page_grows_and_leaves_the_reader_in_peace(
    browser: "Browser", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is open, scrolled and focused stays so while parts are replaced."""
    monkeypatch.setattr(watching, "_SOONEST", 0.1)
    monkeypatch.setattr(watching, "SHARE", 1.0)
    sweep = Sweep(LocalStore(tmp_path / "root"))
    sweep.commit(*sweep.specs[:10])
    sweep.beat(*sweep.specs[10:12])
    with served(watched(sweep.store)) as address:
        made = Opened(browser, address)
        page = made.page
        page.click("summary:has-text('About this study')")
        page.locator(".map a[tabindex='0']").focus()
        page.keyboard.press("ArrowRight")
        focused = page.evaluate("document.activeElement.getAttribute('href')")
        page.evaluate("window.scrollTo(0, 300)")
        assert page.locator("path.mark.hollow").count() == 0
        spec = sweep.specs[10]
        sweep.checkpoint(spec)
        made.go(f"/?cell={spec.dataset}.{spec.images}.{spec.blocks}")
        page.wait_for_selector("polyline.dashed, path.mark.hollow")
        page.click("summary:has-text('About this study')")
        page.locator(f".map a[href*='{focused.partition('#')[0].partition('=')[2]}']").first.focus()
        before = page.evaluate("document.activeElement.textContent")
        sweep.commit(*sweep.specs[10:14])
        page.wait_for_selector(".tile:has-text('14of 24')")
        sweep.fail(sweep.specs[20], "it broke later")
        page.wait_for_selector("#part-lately:has-text('it broke later')")
        assert page.evaluate("document.querySelector('.about').open")
        assert page.evaluate("document.activeElement.matches('.map a')")
        assert page.evaluate("document.activeElement.textContent") != "" != before
        assert page.locator("path.mark.hollow").count() == 0
        made.close()


def test_a_viewer_is_told_when_the_root_or_the_server_is_gone(
    browser: "Browser", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_SOONEST", 0.1)
    monkeypatch.setattr(watching, "SHARE", 1.0)
    sweep = Sweep(LocalStore(tmp_path / "root"))
    sweep.commit(*sweep.specs[:3])
    with served(watched(sweep.store)) as address:
        made = Opened(browser, address)
        (tmp_path / "root").rename(tmp_path / "hidden")
        made.page.wait_for_selector("#trouble:has-text('could not be read')")
        (tmp_path / "hidden").rename(tmp_path / "root")
        made.page.wait_for_selector("#trouble", state="hidden")
    made.page.wait_for_selector("#trouble:has-text('does not answer; trying again')")
    assert "late" in (made.page.get_attribute(".seen", "class") or "").split()
    made.context.close()


def test_a_page_that_nobody_sees_holds_no_connection(
    browser: "Browser", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Browsers allow six connections to one server, for all of their tabs."""
    monkeypatch.setattr(watching, "_SOONEST", 0.1)
    monkeypatch.setattr(watching, "SHARE", 1.0)
    sweep = Sweep(LocalStore(tmp_path / "root"))
    sweep.commit(*sweep.specs[:3])
    watch = watched(sweep.store)
    with served(watch) as address:
        made = Opened(browser, address)
        made.page.wait_for_selector(".tile:has-text('3of 24')")
        made.seen("hidden")
        until = time.monotonic() + 60
        while watch._viewers:
            assert time.monotonic() < until
            time.sleep(0.05)
        sweep.commit(sweep.specs[3])
        made.seen("visible")
        made.page.wait_for_selector(".tile:has-text('4of 24')")
        assert made.page.is_hidden("#trouble")
        made.context.clear_cookies()  # as if another server had taken the port
        made.seen("hidden")
        made.seen("visible")
        made.page.wait_for_selector("#trouble:has-text('This page has ended')")
        made.context.close()


def test_looking_writes_nothing(opened: Opened, sweep: Sweep, root: Path) -> None:
    before = listing(root)
    for path in paths(sweep):
        opened.go(path)
    assert listing(root) == before
