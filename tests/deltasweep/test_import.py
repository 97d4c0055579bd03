"""``import deltasweep``: what it costs, what it offers, and files of the user's that stand in its way."""

import subprocess
import sys
from pathlib import Path

import pytest

import deltasweep as ds
from jobs import errors

ROOT = Path(__file__).parents[2]


def python(code: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run code in a folder, as a script or a notebook in it would: its own files are found first."""
    begin = f"import sys; sys.path[:0] = ['', {str(ROOT)!r}]; "
    command = [sys.executable, "-P", *options, "-c", begin + code]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("code", "forbidden"),
    [
        ("pass", ("torch", "ray", "pyarrow", "pandas", "matplotlib", "duckdb", "pydantic", "polars", "IPython")),
        ("ds.Study('demo'); ds.plan", ("torch", "ray", "pandas", "matplotlib", "duckdb", "polars")),
        ("ds.launch", ("torch", "ray", "pandas", "matplotlib", "duckdb")),
        ("ds.deltas, ds.query, ds.status", ("torch", "ray", "matplotlib")),
        ("ds.figure", ("torch", "ray")),
    ],
)
def test_the_import_is_cheap(code: str, forbidden: tuple[str, ...], tmp_path: Path) -> None:
    done = python(f"import deltasweep as ds; {code}; print([n for n in {forbidden} if n in sys.modules])", tmp_path)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_every_name_exists_and_is_offered() -> None:
    assert [name for name in ds.__all__ if not hasattr(ds, name)] == []
    assert dir(ds) == ds.__all__ == sorted(ds.__all__)
    with pytest.raises(AttributeError, match=r"no attribute 'stduy'; it has .*Study"):
        _ = ds.stduy


def test_every_error_can_be_caught() -> None:
    tree = {name for name, thing in vars(errors).items() if isinstance(thing, type) and issubclass(thing, Exception)}
    assert tree <= set(ds.__all__)


@pytest.mark.parametrize("name", ["analysis", "jobs", "orchestrator"])
@pytest.mark.parametrize("before", ["", "import {name}; "])
def test_an_own_file_with_the_name_of_a_package_is_named(name: str, before: str, tmp_path: Path) -> None:
    """Also if it was imported before. It is not executed."""
    file = tmp_path / f"{name}.py"
    file.write_text("print('executed')\n", encoding="utf-8")
    done = python(f"{before.format(name=name)}import deltasweep", tmp_path)
    assert done.returncode == 1
    assert done.stdout == ("executed\n" if before else "")
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ImportError: deltasweep: expected")
    assert str(file) in last
    assert "Fix: rename it" in last


def test_an_own_package_is_named(tmp_path: Path) -> None:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "__init__.py").write_text("", encoding="utf-8")
    done = python("import deltasweep", tmp_path)
    assert str(tmp_path / "jobs" / "__init__.py") in done.stderr.splitlines()[-1]


def test_folders_of_data_are_in_nobodys_way(tmp_path: Path) -> None:
    """A folder without Python's ``__init__.py`` comes after an installed package."""
    for name in ("analysis", "jobs", "deltasweep"):
        (tmp_path / name).mkdir()
    done = python("import deltasweep as ds; print(ds.Study('demo').name)", tmp_path)
    assert (done.stdout, done.stderr) == ("demo\n", "")


@pytest.mark.parametrize("package", ["deltasweep", "orchestrator", "jobs", "analysis"])
def test_types_are_offered(package: str) -> None:
    """A checker ignores the types of a package without this file, and those that another one takes from it."""
    assert (ROOT / package / "py.typed").is_file()
