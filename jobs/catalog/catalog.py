"""The catalogue: cards of sources, datasets and architectures, packaged or defined by a study. No torch.

A card contains enough to check and plan a study on a machine that has neither the weights nor the images. Code that
needs cards receives a ``Catalog``; there is no global one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, Field, TypeAdapter

from jobs.catalog.architecture_card import Architecture, Architectures
from jobs.catalog.card import Card
from jobs.catalog.dataset_card import DatasetCard
from jobs.catalog.source_card import SourceCard
from jobs.errors import Code, InvalidRequest
from jobs.paths import weights_directory
from jobs.specs.base import NAME_PATTERN
from jobs.specs.canonical import digest
from jobs.specs.growth import later
from jobs.system.commands import command
from jobs.system.printable import listing, shown
from jobs.system.safe_yaml import load_packaged
from jobs.system.similar import close_matches

T = TypeVar("T")


@cache
def _read(file: str) -> dict[str, Any]:
    text = resources.files(__package__).joinpath(file).read_text(encoding="utf-8")
    return dict(load_packaged(text))


def _named(cards: object) -> object:
    """Set each card's name to its key in the mapping."""
    return (
        {n: {**c, "name": n} if isinstance(c, dict) else c for n, c in cards.items()}
        if isinstance(cards, dict)
        else cards
    )


def _whole(cards: object) -> object:
    """Fill unset fields of variants from the packaged card named by ``of``."""

    def whole(card: object) -> object:
        if not isinstance(card, dict) or "of" not in card:
            return card
        return {**_read("datasets.yaml").get(str(card["of"]), {}), **card}

    return {name: whole(card) for name, card in cards.items()} if isinstance(cards, dict) else cards


Name = Annotated[str, Field(pattern=NAME_PATTERN)]
SourceCards = Annotated[dict[Name, SourceCard], BeforeValidator(_named)]
DatasetCards = Annotated[dict[Name, DatasetCard], BeforeValidator(_named), BeforeValidator(_whole)]
ArchitectureCards = Annotated[dict[Name, Architecture], BeforeValidator(_named)]


class Cards(Card):
    """Source models, datasets and architectures that a study defines, besides the packaged ones."""

    sources: SourceCards = Field(default={})
    datasets: DatasetCards = Field(default={})
    architectures: ArchitectureCards = later({}, since="0.3.0")


@cache
def packaged_sources() -> dict[str, SourceCard]:
    return {name: SourceCard(name=name, **card) for name, card in _read("sources.yaml")["sources"].items()}


@cache
def packaged_datasets() -> dict[str, DatasetCard]:
    return TypeAdapter(DatasetCards).validate_python(_read("datasets.yaml"))


_NONE = Cards()


@dataclass(frozen=True)
class Catalog:
    """The packaged cards, extended by those that a study defines."""

    own: Cards = _NONE
    builders: Mapping[str, str] = field(default_factory=dict)
    """Texts of the builder files that the user has named, by file name."""

    @cached_property
    def sources(self) -> Mapping[str, SourceCard]:
        """All known source models, by name."""
        return packaged_sources() | self.own.sources if self.own.sources else packaged_sources()

    @cached_property
    def datasets(self) -> Mapping[str, DatasetCard]:
        """All known datasets, by name."""
        return packaged_datasets() | self.own.datasets if self.own.datasets else packaged_datasets()

    @cached_property
    def architectures(self) -> Mapping[str, Architecture]:
        """All known architectures, by name; own ones with the code of their builder file, if the user has named it."""
        return Architectures({name: card.with_code(self.builders) for name, card in self.own.architectures.items()})

    def source(self, name: str) -> SourceCard:
        """Return the card of a source.

        Raises:
            InvalidRequest: if the name is unknown; it lists the known names.
        """
        return _card(self.sources, "source", name)

    def dataset(self, name: str) -> DatasetCard:
        """Return the card of a dataset.

        Raises:
            InvalidRequest: if the name is unknown; it lists the known names.
        """
        return _card(self.datasets, "dataset", name)

    def architecture(self, name: str) -> Architecture:
        """Return an architecture.

        Raises:
            InvalidRequest: if the name is unknown; it lists the known names.
        """
        return _card(self.architectures, "architecture", name)

    def architecture_of(self, source: str) -> Architecture:
        """Return the architecture of a source's network."""
        return self.architecture(self.source(source).architecture)

    def image_size(self, source: str) -> int:
        """Return the input size of a source's network, in pixels per side."""
        return self.architecture_of(source).image_size

    def own_digests(
        self, sources: Iterable[str], datasets: Iterable[str], architectures: Iterable[str] = ()
    ) -> list[tuple[str, str, str]]:
        """Return digests of the study's own cards and builder files, over what changes numbers.

        Weights and images have pins of their own.

        Args:
            architectures: besides those of the sources.

        Returns:
            (card type as used in pins, name, sha256) for each given name that the study itself defines. Trial ids
            depend only on the names, so these digests detect changed cards.
        """
        sources = list(sources)
        networks = [self.sources[name].architecture for name in sources if name in self.sources]
        own = [name for name in dict.fromkeys([*networks, *architectures]) if name in self.own.architectures]
        return [
            *(
                ("cards/sources", name, _source_digest(self.own.sources[name]))
                for name in sources
                if name in self.own.sources
            ),
            *(
                ("cards/datasets", name, digest(card.model_dump(mode="json", include={"colour", "mean", "std"})))
                for name in datasets
                if (card := self.own.datasets.get(name)) is not None
            ),
            *dict.fromkeys(pin for name in own for pin in self.architecture(name).own_digests),
        ]


PACKAGED = Catalog()
"""Only the packaged cards."""


def how_to_get(source: SourceCard) -> str:
    """Return the command that gets a source's weights; for a study's own source it has the placeholder STUDY.

    For own weights that are not on this machine, it has the placeholder FILE: a copy of the checkpoint.
    """
    of_study = [] if source.name in packaged_sources() else ["--study", "STUDY"]
    if source.pretrain:
        return command("models", "train", source.name, *of_study, "--out", weights_directory())
    if source.weights and not Path(source.weights).is_file():
        return command("models", "convert", "FILE", "--as", source.name, *of_study)
    return command("models", "fetch", source.name, *of_study)


def how_to_fetch(dataset: DatasetCard) -> str:
    """Return the command that fetches a dataset; for a study's own dataset it has the placeholder STUDY."""
    of_study = [] if dataset.name in packaged_datasets() else ["--study", "STUDY"]
    return command("data", "fetch", dataset.name, *of_study)


def _source_digest(card: SourceCard) -> str:
    parts = {"architecture", "constraint", "epsilon", "mean", "std", "random"} | ({"band"} if card.band else set())
    numbers = card.model_dump(mode="json", include=parts)
    return digest({**numbers, "carries_normaliser": card.carries_normalizer})


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """Return the message for a name that no card has.

    Args:
        what: source, dataset or architecture.
        known: the names that could have been meant.
    """
    names = sorted(known)
    near = close_matches(name, names)
    hint = f" (did you mean {' or '.join(near)}?)" if near else ""
    listed = f"for all names: {_LISTS[what]}" if what in _LISTS else f"known: {listing(names)}"
    return f"unknown {what} {shown(name)}{hint}; {listed}"


_LISTS = {"source": "deltasweep models list", "dataset": "deltasweep data list"}


def _card(cards: Mapping[str, T], what: str, name: str) -> T:
    if name not in cards:
        raise InvalidRequest(Code.UNKNOWN_NAME, unknown(what, name, cards), key=what)
    return cards[name]
