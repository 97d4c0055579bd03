"""Validate trials against the rules of their kind and the catalogue, before anything is loaded. No torch."""

from collections import Counter
from collections.abc import Iterable, Sequence

from jobs.catalog.catalog import Catalog
from jobs.errors import Code, InvalidRequest, Mistake, Place, first_lines
from jobs.kind import kind_of
from jobs.specs.base import NAME_BYTES
from jobs.specs.trial import TrialSpec
from jobs.system.printable import brief

_LONGEST_SUFFIX = ".safetensors"


def problems(spec: TrialSpec, catalog: Catalog) -> list[Mistake]:
    """Return every rule that the trial breaks, with the field that breaks it; an empty list means that it can run."""
    return _unnameable(spec) or kind_of(spec).problems(spec, catalog)


def _unnameable(spec: TrialSpec) -> list[Mistake]:
    """Report an id that is too long for a file name: ids contain the names of the trial's source and dataset."""
    if len(f"{spec.trial_id}{_LONGEST_SUFFIX}".encode()) <= NAME_BYTES:
        return []
    field, name = spec.subject
    message = (
        f"{field}: expected file names of at most {NAME_BYTES} bytes; those of a trial of {name!r} on "
        f"{spec.dataset!r} are longer. Fix: shorten one of the two names"
    )
    return [Mistake(Code.WRONG_NAME, Place(key=field), message)]


def require_possible(spec: TrialSpec, catalog: Catalog) -> None:
    """Refuse a trial that cannot exist.

    Raises:
        InvalidRequest: listing every rule that it breaks.
    """
    _refuse(f"trial {spec.trial_id} cannot be run", problems(spec, catalog))


def require_all_possible(specs: Iterable[TrialSpec], catalog: Catalog) -> None:
    """Refuse a set of trials if any of them cannot exist.

    Raises:
        InvalidRequest: listing every rule that any of them breaks.
    """
    broken = Counter(mistake for spec in specs for mistake in problems(spec, catalog))
    counted = [
        mistake._replace(message=f"{mistake.message} (trials affected: {count:,})") for mistake, count in broken.items()
    ]
    _refuse("the study has trials that cannot be run", counted)


def _refuse(rule: str, mistakes: Sequence[Mistake]) -> None:
    """Raise an error that lists the first mistakes, if there are any; its code and place are those of the first."""
    if mistakes:
        lines = "\n".join(first_lines([f"- {brief(mistake.message)}" for mistake in mistakes]))
        first = mistakes[0]
        raise InvalidRequest(first.code, f"{rule}:\n{lines}", key=first.place.key, mistakes=mistakes)
