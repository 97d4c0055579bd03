"""Write constraints.txt and constraints-test.txt: the versions that the tests passed with here, with hashes.

    python -m scripts.lock

Run it in the environment whose tests passed; it takes that environment's versions, and for other systems and Pythons
the newest that go with them. It needs uv (`pip install uv`), which resolves for all of them at once. No address of a
package index stands in the files.

    python -m scripts.lock --oldest FOLDER

makes an environment with the oldest versions that pyproject.toml allows, of this Python, in FOLDER (CONTRIBUTING.md
says what fails there). It takes several gigabytes.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES = {"constraints.txt": (), "constraints-test.txt": ("--extra", "test")}
"""What runs alone, and with what tests need."""
_HEAD = (
    "# Written by `python -m scripts.lock`: what the tests passed with. Install with: pip install --no-deps -r {name}\n"
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
    """An environment with the oldest versions that are allowed, in which the project itself is editable."""
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
