"""The script for a GPU machine: it runs here with few images, and needs nothing but what its requirements list."""

import json
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
REQUIREMENTS = ROOT / "benchmarks" / "gpu" / "requirements.txt"

IMPORTED = """
import sys
from importlib.machinery import PathFinder

class Without:
    def find_spec(self, name, path=None, target=None):
        return None if name in {refused} else PathFinder.find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Without()
import benchmarks.gpu.__main__
print(*sorted({{name.partition(".")[0] for name in sys.modules}}))
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def listed() -> set[str]:
    lines = REQUIREMENTS.read_text(encoding="utf-8").splitlines()
    return {line.replace("-", "_") for line in lines if line and not line.startswith("#")}


def required_by(distribution: str) -> set[str]:
    """Return the names of a distribution and of all that it requires here."""
    found, waiting = set[str](), [distribution]
    while waiting:
        name = waiting.pop().lower().replace("-", "_")
        if name not in found:
            found.add(name)
            try:
                needed = map(Requirement, requires(name) or [])
            except PackageNotFoundError:  # for another system
                continue
            waiting += [one.name for one in needed if one.marker is None or one.marker.evaluate({"extra": ""})]
    return found


def test_the_list_of_wheels_is_what_is_imported() -> None:
    """Nothing else can be imported: no Ray, no pandas."""
    there = listed() | required_by("torch") | required_by("torchvision")
    of = {
        module: {one.lower().replace("-", "_") for one in names} for module, names in packages_distributions().items()
    }
    refused = {module for module, names in of.items() if not names & (there | {"deltasweep"})}
    assert {"ray", "pandas", "cloudpickle"} <= refused
    done = run("-c", IMPORTED.format(refused=refused))
    assert done.returncode == 0, done.stderr
    imported = {name for module in done.stdout.split() for name in of.get(module, ())}
    assert listed() <= imported


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
