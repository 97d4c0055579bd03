"""What `make wheel` packs: a cluster's machines have nothing else of the project."""

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE_DATA = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"][
    "package-data"
]


@pytest.mark.parametrize("package", ["orchestrator", "jobs", "analysis"])
def test_every_file_of_a_package_that_is_no_module_is_declared(package: str) -> None:
    folder = ROOT / package
    files = {path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert files <= {path for pattern in PACKAGE_DATA[package] for path in folder.glob(pattern)}
