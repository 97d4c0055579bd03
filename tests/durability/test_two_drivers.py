"""Two concurrent launches on one results root: the same results, each once, and a warning."""

from pathlib import Path

import pytest

from tests.durability.sweep import SMALL, Rows, Sweep

pytestmark = [pytest.mark.slow(110), pytest.mark.timeout(1200)]


@pytest.mark.sample
@pytest.mark.parametrize("sweep", [SMALL], indirect=True, ids=["small"])
def test_two_drivers_on_one_root(sweep: Sweep, folder: Path, reference: Rows) -> None:
    """Each has a separate Ray, as two users on two machines would."""
    for number in (1, 2):
        (folder / f"ray{number}").mkdir()
    first = sweep.start("launch", temporary=folder / "ray1")
    first.wait_until(lambda: list((sweep.root / "launches").glob("*.json")), "the first launch says that it lives")
    second = sweep.start("launch", temporary=folder / "ray2")
    assert first.wait() == 0, first.text
    assert second.wait() == 0, second.text
    assert "runs the same trials" in second.text  # the first says so, too, if the second begins before its first trial
    assert f"{len(sweep.specs)} of {len(sweep.specs)} trials are done" in first.text
    assert f"{len(sweep.specs)} of {len(sweep.specs)} trials are done" in second.text
    sweep.require_same_as(reference)
    assert not list((sweep.root / "failures").rglob("*.json"))
    print(sweep.summary())
