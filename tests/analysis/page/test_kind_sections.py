"""The report's sections of kinds: one line per kind, including kinds from outside the package."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest

import analysis
from analysis.figures.exhibits import Exhibit, KindExhibits, Topic
from analysis.page.kind_sections import kind_sections, loaded
from analysis.tables.model import Table
from jobs.results import kinds, schema
from tests.analysis.support import Build

if TYPE_CHECKING:
    from playwright.sync_api import Browser

TITLE = "Why: <losses>"


def topics(rows: pd.DataFrame) -> Iterator[Topic]:
    numbers = rows[["epoch", "train_loss"]]
    name, columns = "losses", ("epoch", "loss")
    shown = Exhibit(
        like="nothing",
        name=name,
        title=name,
        caption="In nats.",
        numbers=numbers,
        columns=columns,
        right=frozenset(columns),
        png=b"a picture",
    )
    yield Topic(title=TITLE, exhibits=(shown,))


def tables(rows: pd.DataFrame, evaluations: pd.DataFrame) -> Iterator[Table]:
    counts = f"{len(rows)}", f"{len(evaluations)}"
    columns = "rows", "evaluations"
    yield Table(name="counts", title="Counts", columns=columns, rows=(counts,), numbers=frozenset(columns))


SECTION = KindExhibits(columns=("trial_id", "epoch", "train_loss"), topics=topics, tables=tables)
WITHOUT = None


@pytest.mark.parametrize("kind", kind_sections())
def test_a_section_reads_columns_that_its_kind_has(kind: str) -> None:
    assert kind in kinds()
    assert set(loaded(kind_sections()[kind]).columns) <= set(schema(kind).names)


@pytest.mark.usefixtures("no_figure_files")
def test_a_kind_from_elsewhere_brings_its_section(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analysis.page.results.kind_sections", lambda: {"pretrain": f"{__name__}:SECTION"})
    alone = analysis.report(build.pretrained()).read_text()
    assert "Why: &lt;losses&gt;</h2>" in alone
    assert "losses (cf. nothing)" in alone
    page = analysis.report(build.root([build.trial("natural", 0, 50.0)]))
    assert "<h3>Counts</h3>" in page.read_text()
    assert (page.parent / "counts.csv").read_text() == "rows,evaluations\n2,1\n"
    assert (page.parent / "losses.png").read_bytes() == b"a picture"
    assert (page.parent / "losses.csv").read_text().startswith("epoch,train_loss\n1,")
    assert "losses" not in analysis.report(build.root([], "without")).read_text()


@pytest.mark.usefixtures("no_figure_files")
def test_a_picture_is_downloaded_as_it_is(browser: "Browser", build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analysis.page.results.kind_sections", lambda: {"pretrain": f"{__name__}:SECTION"})
    page = browser.new_page(accept_downloads=True)
    page.goto(analysis.report(build.pretrained()).as_uri())
    assert page.locator("figure[data-name=losses] .saving button").count() == 1
    with page.expect_download() as caught:
        page.click("figure[data-name=losses] button.png")
    assert caught.value.suggested_filename == "losses.png"
    assert Path(caught.value.path()).read_bytes() == b"a picture"
    page.close()


def test_what_is_no_section_is_refused() -> None:
    with pytest.raises(TypeError, match=r"expected a KindExhibits at .*WITHOUT.*got NoneType"):
        loaded(f"{__name__}:WITHOUT")
