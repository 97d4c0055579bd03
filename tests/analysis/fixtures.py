"""Fixtures of tests that make reports. The conftests that want them import them."""

import pytest

from analysis.figures.render import Drawing


@pytest.fixture
def no_figure_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports write their page and its figures, and no files of figures beside it, which take most of a small report.

    For tests of the page's words. ``test_figures`` draws the files, ``test_confound`` and ``test_object_root`` find
    them beside a page.
    """
    monkeypatch.setattr(Drawing, "save", lambda drawing, directory: [])
