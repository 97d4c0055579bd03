"""Fixtures of tests that create reports, imported by the conftests that need them."""

import pytest

from analysis.figures.drawing.render import Drawing


@pytest.fixture
def no_figure_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make reports write the page with its figures, but no figure files, which take most of the time of a small report.

    For tests of the page's text. ``test_figures`` draws the files; ``test_confound`` and ``test_object_root`` check
    that they are beside a page.
    """
    monkeypatch.setattr(Drawing, "save", lambda drawing, directory: [])
