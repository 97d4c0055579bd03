"""The option `--study` of commands about sources and datasets: a study's own cards besides the packaged ones."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.errors import Code, InvalidRequest

if TYPE_CHECKING:
    from jobs.catalog.catalog import Catalog

Known = Annotated[
    str | None,
    typer.Option("--study", help="Also use this study's own sources, datasets and architectures.", metavar="STUDY"),
]


def known_catalog(study: str | None, builders: Iterable[Path] | None = None) -> "Catalog":
    """Return the packaged cards, and those of a study if one is named.

    Args:
        builders: builder files that the user has named, which architectures of the study use.

    Raises:
        InvalidRequest: when the study file has mistakes, with all of them, or a builder file cannot be used.
    """
    from jobs.catalog.catalog import PACKAGED
    from orchestrator.study.load import load_study

    if study is None and builders:
        raise InvalidRequest(
            Code.MISSING_KEY,
            "expected --study STUDY with --builder, because only the own architectures of a study have builder files",
            key="--study",
        )
    return PACKAGED if study is None else load_study(study, builders).catalog
