"""Contents of `make wheel`, which is all that a cluster's machines have of the project."""

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("package", ["deltasweep", "orchestrator", "jobs", "analysis"])
def test_every_file_of_a_package_that_is_no_module_is_declared(package: str) -> None:
    folder, declared = ROOT / package, PROJECT["tool"]["setuptools"]["package-data"][package]
    files = {path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    files -= {*folder.rglob("README.md")}  # for readers of the source
    assert files <= {path for pattern in declared for path in folder.glob(pattern)}
