"""What a report does not need is not loaded."""

import subprocess
import sys


def test_what_a_report_does_not_need_is_not_loaded() -> None:
    heavy = ("scipy.stats", "torch", "sklearn", "ray")
    code = f"import sys, analysis; analysis.report; print([one for one in {heavy} if one in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
