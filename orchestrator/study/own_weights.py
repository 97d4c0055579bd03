"""A study's own checkpoint files: presence and digests. No torch; a file is read for its digest only."""

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from jobs.errors import Code
from jobs.models.weight_files import Standing, standing
from jobs.study.expand import sources_read
from jobs.study.model import Study
from jobs.system.file_kinds import what_it_is
from jobs.system.files import open_file
from jobs.system.printable import brief, shown
from orchestrator.study.own_paths import absolute
from orchestrator.study.raw_values import Violations, mapping
from orchestrator.study.yaml_lines import Location


def own_weights_violations(raw: dict[str, Any], folder: Path) -> Violations:
    """Check that each own checkpoint file has a digest, and the right one if the file is on this machine.

    A file is read once, however many sources name it.
    """
    digest = cache(_digest)
    for name in mapping(raw, "sources"):
        card = mapping(raw, "sources", name)
        weights, known = card.get("weights"), card.get("weights_sha256")
        if isinstance(weights, str) and weights and isinstance(known, str | None):
            yield from _of_file(absolute(weights, folder), known, ("sources", name), digest)


def absent_own_weights(study: Study) -> list[str]:
    """Describe the own checkpoint files that the study's trials read and that are not on this machine."""
    if all(card.weights is None for card in study.sources.values()):
        return []
    cards = [study.catalog.source(name) for name in sources_read(study)]
    return [
        brief(f"The weights of {card.name} are not on this machine: {card.weights} (sha256 {card.weights_sha256}).")
        for card in cards
        if card.weights is not None and standing(card) is Standing.MISSING
    ]


def _of_file(path: Path, known: str | None, place: Location, digest: Callable[[Path], str]) -> Violations:
    if (found := what_it_is(path)) is not None and found != "missing":
        message = f"expected a checkpoint file; {path} is {found}. Fix: name the right file"
        yield (*place, "weights"), Code.DAMAGED_WEIGHTS if path.is_file() else Code.NO_SUCH_FILE, message
    elif found is not None and known is None:
        message = (
            f"there is no file {path}. Fix: correct the path, which starts in the study file's folder; or, if the file "
            "is on other machines only, add its digest as weights_sha256 (of sha256sum FILE)"
        )
        yield (*place, "weights"), Code.NO_SUCH_FILE, message
    elif found is None:
        sha256 = digest(path.resolve())
        if known is None:
            message = (
                "this key is required with weights, so that every machine uses the same file. Fix: add the line "
                f"weights_sha256: {sha256}"
            )
            yield (*place, "weights_sha256"), Code.MISSING_KEY, message
        elif known != sha256:
            message = (
                f"expected the sha256 of {path}, {sha256}; got {shown(known)}. Fix: restore the file that the digest "
                "was taken of; or, if the present one is meant, write its digest and choose another name for the "
                "source, since a name stands for one set of weights in a results root"
            )
            yield (*place, "weights_sha256"), Code.OTHER_DIGEST, message


def _digest(path: Path) -> str:
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
