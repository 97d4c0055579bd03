"""Where a study file has mistakes, so that rules about the same values do not repeat them."""

from collections.abc import Iterable, Iterator

from orchestrator.study.yaml_lines import Location


class Mistaken:
    """The locations of mistakes in a file. Rules ask about each of its values, so nothing here searches them all."""

    def __init__(self, places: Iterable[Location]) -> None:
        self._places = dict.fromkeys(places)
        self._around = {_as_text(place[:end]) for place in self._places for end in range(len(place) + 1)}

    def __contains__(self, location: object) -> bool:
        """Whether there is a mistake at exactly this location."""
        return location in self._places

    def __iter__(self) -> Iterator[Location]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def within(self, location: Location) -> bool:
        """Whether there is a mistake at or below a location. Steps are compared as text: pydantic converts keys."""
        return _as_text(location) in self._around


def _as_text(location: Location) -> tuple[str, ...]:
    return tuple(map(str, location))
