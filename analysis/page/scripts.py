"""The script that draws the page's charts: Vega, Vega-Lite and vega-embed in one, the same in every report."""

import hashlib
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory

from analysis.page.charts import VEGA_LITE
from jobs.files import read_file
from jobs.home import scripts_directory

_MOST_BYTES = 8 << 20
"""Of a script that is kept; it has one."""


@cache
def vega() -> str:
    """It sets ``vegaEmbed``, and asks for nothing over a network.

    Making it takes seconds of the processor, so it is kept in the machine's home, by the version of what makes it and
    under a line with its digest. One that is not what its digest says is made anew; where none can be kept, it is made
    each time.
    """
    path = scripts_directory() / f"vega-lite-{VEGA_LITE}-by-{metadata.version('vl-convert-python')}.js"
    kept = _kept(path)
    if kept is not None:
        return kept
    made = _made()
    with suppress(OSError):
        _keep(path, made)
    return made


def _made() -> str:
    import vl_convert  # 35 MB that are not needed where the script is kept

    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=VEGA_LITE))


def _kept(path: Path) -> str | None:
    try:
        said, _, script = read_file(path, _MOST_BYTES).partition(b"\n")
    except OSError:
        return None
    return script.decode() if said == _digest(script) else None


def _keep(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = script.encode()
    with TemporaryDirectory(dir=path.parent) as folder:
        part = Path(folder) / path.name
        part.write_bytes(_digest(data) + b"\n" + data)
        part.replace(path)


def _digest(script: bytes) -> bytes:
    return b"// sha256 " + hashlib.sha256(script).hexdigest().encode()
