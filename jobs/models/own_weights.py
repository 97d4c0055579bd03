"""A user's own checkpoint files (``weights`` in a source's card): converted when a machine first uses them."""

import socket
from pathlib import Path

from filelock import FileLock

from jobs.catalog.catalog import Catalog, how_to_get
from jobs.catalog.source_card import SourceCard
from jobs.errors import Code, MissingData
from jobs.models.conversion import convert_source
from jobs.models.weight_files import weights_path
from jobs.models.weights import SourceWeights, load_source
from jobs.system.download import writing


def load_any(card: SourceCard, catalog: Catalog) -> SourceWeights:
    """Load the weights of any source; those of an own file are converted first, unless they are on this machine.

    Raises:
        MissingData, DamagedFile: see ``load_source`` and ``convert_own``.
    """
    convert_own(card, catalog)
    return load_source(card)


def convert_own(card: SourceCard, catalog: Catalog, *, replace: bool = False) -> Path | None:
    """Convert the source's own file to weights of this machine; processes that do so at once wait for the first.

    Args:
        card: the card of any source.
        catalog: the datasets that it may be trained on.
        replace: convert the file again, because the weights that are present are damaged.

    Returns:
        The path of the weights if they were converted by this call. None if they were on this machine already, or if
        the source has no own file.

    Raises:
        MissingData: if the file is not on this machine, or another one is.
        DamagedFile: if it cannot be read without executing code, or does not match the card.
        StorageFailure: if the weights cannot be written.
    """
    target = weights_path(card)
    if card.weights is None or (target.is_file() and not replace):
        return None
    file = Path(card.weights)
    if not file.exists():
        raise MissingData(
            Code.MISSING_WEIGHTS,
            f"expected the weights of source {card.name!r} on {socket.gethostname()}; there is no file {file}, and "
            f"none was converted to {target}. Fix: copy the file with the sha256 {card.weights_sha256} there, or from "
            f"elsewhere with: {how_to_get(card)}",
            file=file,
        )
    lock = FileLock(target.with_suffix(".lock"))
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        return None if target.is_file() and not replace else convert_source(file, card.name, catalog, replace=replace)
    finally:
        lock.release()
