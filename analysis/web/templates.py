"""The jinja2 environment of the pages: every value is printable and escaped, and an undefined value is an error."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from jobs.system.printable import printable


def environment(folder: Path) -> Environment:
    """Return an environment for the templates of a folder; the caller adds its filters, and keeps it."""
    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )


def _shown(value: object) -> object:
    """Escape marks of text direction and control characters in everything that is not HTML yet."""
    return value if hasattr(value, "__html__") else printable(str(value))
