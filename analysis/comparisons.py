"""Which source is compared with which: what was asked for, what a study declared, or what is obvious."""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from jobs.errors import InvalidRequest
from jobs.results import StudyRecord
from jobs.specs import Constraint, Contrast


class Comparison(NamedTuple):
    """``source`` minus ``baseline``."""

    source: str
    baseline: str


class Declared(NamedTuple):
    """The contrasts that studies declared before their trials ran."""

    studies: tuple[str, ...]
    contrasts: tuple[Contrast, ...]


def declared(records: Sequence[StudyRecord], study: str | None = None) -> Declared:
    """The distinct contrasts of all recorded studies, or of the one named ``study``.

    Raises:
        InvalidRequest: for a study that the root has not seen.
    """
    names = sorted({record.name for record in records})
    if study is not None and study not in names:
        known = f"it has seen {', '.join(names)}" if names else "it has seen none"
        raise InvalidRequest(f"the results root has seen no study {study!r}; {known}")
    chosen = [record for record in records if record.contrasts and study in (None, record.name)]
    contrasts = {contrast.model_dump_json(): contrast for record in chosen for contrast in record.contrasts}
    return Declared(
        tuple(sorted({record.name for record in chosen})), tuple(contrasts[key] for key in sorted(contrasts))
    )


def comparisons(data: pd.DataFrame, asked: str | None, known: Declared) -> list[Comparison]:
    """All sources against the baselines: that asked for, else those of the contrasts, else the natural source.

    Where two sources are each other's baseline by contrasts, only the declared direction is kept.

    Raises:
        InvalidRequest: for an unknown baseline, or when none follows from the data.
    """
    sources = sorted(set(data["source"]))
    if asked is not None:
        return _against(sources, [_known_baseline(asked, sources)])
    directed = {(contrast.source, contrast.baseline) for contrast in known.contrasts}
    bases = sorted({contrast.baseline for contrast in known.contrasts} & set(sources))
    pairs = _against(sources, bases or [_natural(data, sources)])
    return [pair for pair in pairs if (pair.baseline, pair.source) not in directed or pair in directed]


def natural_sources(data: pd.DataFrame) -> list[str]:
    """The sources trained without a constraint, in order of name."""
    return sorted(set(data.loc[data["constraint"] == Constraint.NONE.value, "source"]))


def _against(sources: Sequence[str], baselines: Sequence[str]) -> list[Comparison]:
    return [Comparison(source, base) for base in baselines for source in sources if source != base]


def _known_baseline(asked: str, sources: Sequence[str]) -> str:
    if asked not in sources:
        raise InvalidRequest(
            f"the baseline must be a source with results; {asked!r} is not among: {', '.join(sources)}"
        )
    return asked


def _natural(data: pd.DataFrame, sources: Sequence[str]) -> str:
    natural = natural_sources(data)
    if len(natural) != 1:
        found = "none is" if not natural else f"{len(natural)} are ({', '.join(natural)})"
        raise InvalidRequest(
            f"without --baseline it is the study's contrasts' or the only source with constraint none; {found}. "
            f"Name one with --baseline, of: {', '.join(sources)}"
        )
    return natural[0]
