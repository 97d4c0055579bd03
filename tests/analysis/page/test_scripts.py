"""The page's charts are valid Vega-Lite, and the script that draws them is generated once per machine."""

import importlib
import subprocess
import sys
from pathlib import Path

import altair
import pytest

from analysis.page.charts import VEGA_LITE, charts
from analysis.page.scripts import vega

scripts = importlib.import_module("analysis.page.scripts")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without a script, where generating one is replaced by a stub that returns fixed text."""
    monkeypatch.setenv("DELTASWEEP_HOME", str(tmp_path))
    monkeypatch.setattr(scripts, "_made", lambda: "made()")
    return tmp_path


def kept(home: Path) -> Path:
    (one,) = (home / "scripts").iterdir()
    return one


def test_charts_are_valid_vega_lite() -> None:
    """Validated by altair's schema of the same version."""
    assert altair.SCHEMA_VERSION.removeprefix("v").startswith(f"{VEGA_LITE}.")
    for spec in charts(["digits", "mnist"], [50, 100]).values():
        altair.LayerChart.from_dict(spec)


def test_a_script_is_made_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert vega.__wrapped__() == "made()"
    assert VEGA_LITE in kept(home).name
    monkeypatch.setattr(scripts, "_made", lambda: "again()")
    assert vega.__wrapped__() == "made()"


@pytest.mark.parametrize("found", [b"", b"torn", b"// sha256 00\nother()", b"\xff\n\xff"])
def test_one_that_is_not_what_its_digest_says_is_made_anew(home: Path, found: bytes) -> None:
    vega.__wrapped__()
    kept(home).write_bytes(found)
    assert vega.__wrapped__() == "made()"
    assert kept(home).read_bytes().endswith(b"made()")


def test_without_a_home_that_can_be_written_it_is_made_each_time(home: Path) -> None:
    (home / "scripts").write_text("no folder")
    assert vega.__wrapped__() == "made()"
    assert (home / "scripts").read_text() == "no folder"


def test_what_a_report_does_not_need_is_not_loaded() -> None:
    heavy = ("scipy.stats", "altair", "vl_convert", "torch", "sklearn", "ray")
    code = f"import sys, analysis; analysis.report; print([one for one in {heavy} if one in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
