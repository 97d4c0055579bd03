"""The report section of each kind of trial, as given by the record of each registered kind."""

from analysis.figures.exhibits import KindExhibits
from jobs.kind import kinds, load


def kind_sections() -> dict[str, str]:
    """Return the ``module:attribute`` of each kind's section, if it has one, in the order of the page."""
    return {name: kind.report_section for name, kind in kinds().items() if kind.report_section is not None}


def loaded(place: str) -> KindExhibits:
    """Load the section at ``module:attribute``; called only for kinds with trials.

    Raises:
        TypeError: when the attribute is not a section.
    """
    section = load(place)
    if not isinstance(section, KindExhibits):
        raise TypeError(f"expected a KindExhibits at {place!r}; got {type(section).__name__}")
    return section
