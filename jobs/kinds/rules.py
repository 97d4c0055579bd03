"""Rules shared by several kinds: checked before a trial runs, with the catalogue alone. No torch."""

from collections.abc import Callable
from math import floor

from pydantic_core import ErrorDetails

from jobs.catalog.catalog import Catalog
from jobs.catalog.categories import same_labels
from jobs.catalog.dataset_card import DatasetCard
from jobs.errors import Code, InvalidRequest, Mistake, Place
from jobs.specs.threat_model import ThreatModel


def impossible(*messages: str) -> list[Mistake]:
    """Create mistakes about values that break a rule together; each message begins with the offending field's name."""
    return [Mistake(Code.IMPOSSIBLE_TRIAL, Place(key=message.partition(":")[0]), message) for message in messages]


def unknown_names(*lookups: tuple[Callable[[str], object], str]) -> list[Mistake]:
    """Report names that are not in the catalogue.

    Args:
        lookups: pairs of a catalogue method and the name to look up.
    """
    mistakes = []
    for lookup, name in lookups:
        try:
            lookup(name)
        except InvalidRequest as error:
            mistakes.append(Mistake(error.code, error.place, str(error)))
    return mistakes


def trainable(card: DatasetCard) -> list[Mistake]:
    """Require a dataset with training images of at least two labels."""
    if not card.train:
        return impossible(
            f"dataset: all {card.test} images of {card.name} are for testing. Fix: use a dataset with training images"
        )
    if card.labels < 2:
        return impossible(
            f"dataset: expected a dataset of at least two labels; {card.name} has {card.labels}. Fix: use another "
            "dataset, or correct labels in its card"
        )
    return []


def within_band(threat: ThreatModel, architecture: str, catalog: Catalog) -> list[Mistake]:
    """Require a band that contains an integer number of cycles, so that some perturbation of the images lies in it."""
    half = catalog.architecture(architecture).image_size / 2
    if threat.band is None or threat.band[0] == 0 or floor(threat.band[1] * half) > floor(threat.band[0] * half):
        return []
    return impossible(
        f"band: images of {2 * half:.0f} pixels have no frequency above {threat.band[0] * half:g} and up to "
        f"{threat.band[1] * half:g} cycles, the limits of the band {list(threat.band)}"
    )


def within_test_set(dataset: str, asked: int, catalog: Catalog) -> list[Mistake]:
    """Require at least as many test images as requested."""
    card = catalog.datasets.get(dataset)
    if card is not None and asked > card.test:
        return impossible(f"test_images: the test set of {dataset} allows 1 to {card.test}; got {asked}")
    return []


def unknown_labels(known: DatasetCard, shown: DatasetCard) -> str | None:
    """Return why a network with the labels of one dataset has no accuracy on another's images; None if it has one."""
    if same_labels(known, shown):
        return None
    theirs = str(shown.labels) if known.labels != shown.labels else "other label names (`label_names`)"
    return (
        f"expected images with the labels that the network knows, the {known.labels} of {known.name}; "
        f"{shown.name} has {theirs}"
    )


def in_words(mistake: ErrorDetails) -> str:
    """Return pydantic's message about a value, after the value's key."""
    where, message = ".".join(map(str, mistake["loc"])), str(mistake["msg"]).removeprefix("Value error, ")
    return f"{where}: " * bool(where) + f"{message[0].lower()}{message[1:]}"
