"""Write constraints.txt and constraints-test.txt: the package versions that passed the tests, with hashes.

    python -m scripts.lock

Run it in the environment in which the tests passed. It uses that environment's versions, and for other systems and
versions of Python the newest compatible ones. It requires uv (`pip install uv`), which resolves for all of them at
once. The files contain no addresses of package indexes.

    python -m scripts.lock --oldest FOLDER

Create an environment in FOLDER with this version of Python and the oldest versions that pyproject.toml allows (see
CONTRIBUTING.md for what fails there). It takes several gigabytes.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES = {"constraints.txt": (), "constraints-test.txt": ("--extra", "test", "--extra", "docs")}
"""Extras of each file: none for running DeltaSweep, and those for its tests and documentation site."""
_HEAD = (
    "# Written by `python -m scripts.lock`: versions that passed the tests. Install: pip install --no-deps -r {name}\n"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--oldest", type=Path, metavar="FOLDER")
    oldest: Path | None = parser.parse_args().oldest
    if oldest is not None:
        make_oldest(oldest)
        return
    frozen = _pip("freeze", "--exclude-editable")
    versions = [line for line in frozen.splitlines() if "==" in line and not line.startswith("deltasweep")]
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder, "here.txt")
        here.write_text("\n".join(versions), encoding="utf-8")
        for name, extra in FILES.items():
            lock = ("--universal", "--python-version", "3.11", "--generate-hashes", "--no-emit-index-url")
            text = _compile(*extra, *lock, "--constraint", str(here))
            (ROOT / name).write_text(_HEAD.format(name=name) + text, encoding="utf-8")


def make_oldest(folder: Path) -> None:
    """Create an environment with the oldest allowed versions and an editable install of the project."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = str(folder / "bin" / "python")
    with tempfile.TemporaryDirectory() as made:
        oldest = Path(made, "oldest.txt")
        oldest.write_text(_compile("--extra", "test", "--resolution", "lowest-direct", "--python", python), "utf-8")
        install = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--compile-bytecode", "--python", python]
        subprocess.run([*install, "--requirement", str(oldest)], check=True)
        subprocess.run([*install, "--no-deps", "--editable", str(ROOT)], check=True)


def _compile(*options: str) -> str:
    command = ["uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--no-sources"]
    done = subprocess.run(
        [sys.executable, "-m", *command, *options, str(ROOT / "pyproject.toml")],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return done.stdout


def _pip(*arguments: str) -> str:
    command = [sys.executable, "-m", "pip", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()
