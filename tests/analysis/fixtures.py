"""Fixtures of tests that create pages, imported by the conftests that need them."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from analysis.figures.drawing.render import Drawing
from tests.machine import chromium, module

if TYPE_CHECKING:
    from playwright.sync_api import Browser

FLAGS = [
    "--no-sandbox",
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture
def no_figure_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make reports write the page with its figures, but no figure files, which take most of the time of a small report.

    For tests of the page's text. ``test_figures`` draws the files; ``test_confound`` and ``test_object_root`` check
    that they are beside a page.
    """
    monkeypatch.setattr(Drawing, "save", lambda drawing, directory: [])


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """Chromium, started once for the tests of the page; each test opens its own context."""
    api = module("playwright.sync_api", "what a browser makes of the page", "`pip install playwright`")
    command = chromium()
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=command, args=FLAGS)
        yield opened
        opened.close()
