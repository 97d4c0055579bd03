"""What commands about sources and datasets know besides the registry: the cards of a study that they are given."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from jobs.study import Study

Known = Annotated[
    str | None, typer.Option("--study", help="Know this study's own sources and datasets, too.", metavar="STUDY")
]


@contextmanager
def knowing(study: str | None) -> "Iterator[Study | None]":
    """Know a study's own sources and datasets inside the block; None: the registry's alone.

    Raises:
        InvalidRequest: when it is no study, with every mistake in its file.
    """
    if study is None:
        yield None
        return
    from jobs import registry
    from orchestrator.study_files import load_study

    loaded = load_study(study)
    with registry.using(loaded.cards):
        yield loaded
