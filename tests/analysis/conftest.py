"""Small results roots made by hand, and the authors' published trials where they are at hand."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa
import pytest

from analysis import imports
from jobs.results import schema
from tests.analysis.fixtures import no_figure_files
from tests.analysis.support import Build
from tests.results.fixtures import bucket, s3

__all__ = ["bucket", "no_figure_files", "s3"]

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
PAPER = Path(__file__).parents[3] / "shared" / "paper"
"""Beside the checkout, never inside it: the authors' trials do not belong to this project."""


@pytest.fixture
def build(tmp_path: Path) -> Build:
    return Build(tmp_path)


@pytest.fixture(scope="session")
def paper() -> Path:
    """The folder with the published trials and Table 7."""
    if not (PAPER / "published_trials.csv.gz").is_file():
        pytest.skip(
            f"the authors' published trials are not at hand (looked for shared/paper beside {PAPER.parents[1]})"
        )
    return PAPER


@pytest.fixture(scope="session")
def published(paper: Path) -> pa.Table:
    """The published trials as imported results, without a results root around them."""
    trials = imports.as_results(imports.read(paper / "published_trials.csv.gz"))
    return pa.Table.from_pylist([row for rows in trials for row in rows], schema=schema("finetune"))


@pytest.fixture(scope="session")
def table7(paper: Path) -> pd.DataFrame:
    return pd.read_csv(paper / "table7_test_accuracy.csv")


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """Chromium, once for the tests of the page; each test opens a context of its own."""
    api = pytest.importorskip(
        "playwright.sync_api",
        reason="the page is tested with playwright (`pip install playwright`) and Debian's chromium",
    )
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("the page is tested in chromium: `apt-get install chromium`")
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield opened
        opened.close()
