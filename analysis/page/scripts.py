"""The script that draws the page's charts: a bundle of Vega, Vega-Lite and vega-embed, the same in every report."""

import hashlib
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory

from analysis.page.charts import VEGA_LITE
from jobs.paths import scripts_directory
from jobs.system.files import read_file

_MOST_BYTES = 8 << 20
"""Size limit of a cached script; the bundle takes about 1 MiB."""


@cache
def vega() -> str:
    """Return the bundle, which defines ``vegaEmbed`` and makes no network requests.

    Building it takes seconds of CPU time, so it is cached in ``jobs.paths.scripts_directory``, by the version of the
    package that builds it, with its digest in the first line. It is rebuilt if the digest does not match, and
    built every time if it cannot be cached.
    """
    path = scripts_directory() / f"vega-lite-{VEGA_LITE}-by-{metadata.version('vl-convert-python')}.js"
    kept = _kept(path)
    if kept is not None:
        return kept
    script = _made()
    with suppress(OSError):
        _keep(path, script)
    return script


def _made() -> str:
    import vl_convert  # 35 MB that are not needed where the script is cached

    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=VEGA_LITE))


def _kept(path: Path) -> str | None:
    try:
        head, _, script = read_file(path, _MOST_BYTES).partition(b"\n")
    except OSError:
        return None
    return script.decode() if head == _digest(script) else None


def _keep(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = script.encode()
    with TemporaryDirectory(dir=path.parent) as folder:
        part = Path(folder) / path.name
        part.write_bytes(_digest(data) + b"\n" + data)
        part.replace(path)


def _digest(script: bytes) -> bytes:
    return b"// sha256 " + hashlib.sha256(script).hexdigest().encode()
