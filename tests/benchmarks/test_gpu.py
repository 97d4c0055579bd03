"""The script for a GPU machine: it runs here with few images, and needs nothing but what its requirements list."""

import json
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from benchmarks.gpu.__main__ import in_table

ROOT = Path(__file__).parents[2]
REQUIREMENTS = ROOT / "benchmarks" / "gpu" / "requirements.txt"

IMPORTED = """
import sys
import benchmarks.gpu.__main__
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def listed() -> set[str]:
    lines = REQUIREMENTS.read_text(encoding="utf-8").splitlines()
    return {line.replace("-", "_") for line in lines if line and not line.startswith("#")}


def test_the_list_of_wheels_is_what_is_imported() -> None:
    """Without Ray or pandas. What torch itself imports where it finds it is left out."""
    by_torch = set(run("-c", "import sys, torch, torchvision; print(*sys.modules)").stdout.split())
    imported = set(run("-c", IMPORTED).stdout.split())
    assert "benchmarks" in imported
    known = packages_distributions()
    needed = {
        distribution.lower().replace("-", "_")
        for name in imported - {module.partition(".")[0] for module in by_torch}
        for distribution in known.get(name, [])
    }
    assert needed - {"deltasweep"} <= listed()
    # torch may bring the last two, but need not
    assert listed() <= needed | {"typing_extensions", "pyyaml"}


@pytest.mark.parametrize(
    ("name", "gigabytes", "known"),
    [
        ("NVIDIA A100-SXM4-80GB, sm_80", 85.1, "A100-80GB"),
        ("NVIDIA A100-SXM4-40GB, sm_80", 42.4, "A100"),
        ("NVIDIA A10G, sm_86", 24.1, "A10G"),
        ("NVIDIA A10, sm_86", 24.1, "A10"),
        ("NVIDIA H200, sm_90", 150.0, "H200"),
        ("NVIDIA H100 80GB HBM3, sm_90", 85.0, "H100"),
        ("Tesla T4, sm_75", 15.8, "T4"),
        ("Tesla V100-SXM2-16GB, sm_70", 16.9, "V100"),
        ("NVIDIA L4, sm_89", 23.6, "L4"),
        ("NVIDIA L40S, sm_89", 47.7, "L40S"),
        ("NVIDIA GeForce RTX 4090, sm_89", 25.4, "RTX4090"),
        ("NVIDIA RTX 6000 Ada Generation, sm_89", 51.0, "RTX6000-Ada"),
        ("NVIDIA B200, sm_100", 190.0, None),
    ],
)
def test_a_gpu_s_entry_in_the_table_of_plans(name: str, gigabytes: float, known: str | None) -> None:
    assert in_table(name, 1e9 * gigabytes) == known


@pytest.mark.slow(200)
def test_a_rehearsal_without_a_gpu(tmp_path: Path) -> None:
    """Every part runs, and what a processor can show holds: equal bits of runs, bundles, resumes and processes."""
    out = tmp_path / "gpu.json"
    done = run("-m", "benchmarks.gpu", "--rehearse", "--seconds", "3600", "--out", str(out))
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text(encoding="utf-8"))
    assert found["missing"] == {
        "peak_memory": "RuntimeError: only a GPU tells its memory",
        "starved": "RuntimeError: only a GPU's memory can be limited",
    }
    equal = {row["name"]: row["holds"] for row in found["rows"] if "equal" in row["name"] or "compute" in row["name"]}
    assert len(equal) == 3 * 2 + 4 + 3 + 1
    assert all(equal.values()), equal


def test_without_a_gpu_it_says_what_to_do() -> None:
    done = run("-m", "benchmarks.gpu")
    if "CUDA" not in done.stdout:
        assert done.returncode == 1
        assert "expected a GPU that torch sees; got none. Fix:" in done.stderr
