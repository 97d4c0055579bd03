"""Where a report goes."""

import pytest

import analysis
from jobs.errors import InvalidRequest


@pytest.mark.parametrize("out", ["file", "file/below"])
def test_an_out_that_is_no_directory_is_refused(build, out):
    root = build.root([])
    (build.folder / "file").write_text("kept")
    with pytest.raises(InvalidRequest, match=r"cannot be made one .*Name another with --out"):
        analysis.report(root, build.folder / out)
    assert (build.folder / "file").read_text() == "kept"


def test_an_out_below_nothing_is_made(build):
    assert analysis.report(build.root([]), build.folder / "new" / "deep").is_file()
