"""Tables of GPUs that strangers wrote: what is said about them has limits and is on lines of its own."""

from pathlib import Path

import pytest

from jobs.errors import MOST_LISTED, InvalidRequest
from orchestrator.planning.gpu_table import table_with
from orchestrator.study.raw_values import MOST_MISTAKES


def refusal(folder: Path, text: str) -> InvalidRequest:
    """Return the error for a table."""
    path = folder / "gpus.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidRequest) as caught:
        table_with(path)
    return caught.value


OF_NONE = "rates: {float32: {of: none, times: 2, because: a, source: a, date: 2026-11}}"


@pytest.mark.parametrize(
    "text",
    [
        "".join(f"GPU {number}:\n" for number in range(3_000)),
        "".join(f"GPU {number}: {{memory_gb: 1, {OF_NONE}}}\n" for number in range(1_000)),
        "GPU:\n" * 3_000,
    ],
    ids=["types", "references", "keys"],
)
def test_of_very_many_mistakes_the_first_are_told(text: str, tmp_path: Path) -> None:
    error = refusal(tmp_path, text)
    lines = str(error).splitlines()
    assert len(error.mistakes) == MOST_MISTAKES
    assert lines[0].endswith(f"at least {MOST_MISTAKES} mistakes; no others were looked for")
    assert len(lines) == 1 + MOST_LISTED + 1


def test_names_do_not_look_like_other_lines(tmp_path: Path) -> None:
    assert len(str(refusal(tmp_path, '"T4\\n  line 1: L4: correct": {memory_gb: 16}\n')).splitlines()) == 2


def test_values_are_shortened(tmp_path: Path) -> None:
    assert len(str(refusal(tmp_path, f"T4: {{memory_gb: {'x' * 500_000}, {OF_NONE}}}\n"))) < 2_000
