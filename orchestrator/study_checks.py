"""Rules across the keys of a study, checked on the raw values so that they are reported beside other mistakes."""

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

from pydantic import ValidationError

from jobs import registry
from jobs.checks import beyond_features, no_training, undecidable, unknown_labels, weighing
from jobs.errors import Code, InvalidRequest
from jobs.registry import DatasetCard
from jobs.specs import ALL, MOST_DECOMPOSED, NAME_PATTERN
from jobs.study import Examine, Influence, Visualize
from orchestrator.contrast_checks import contrasts
from orchestrator.raw_values import Found, items, repeated

_CODES = {
    "extra_forbidden": Code.UNKNOWN_KEY,
    "missing": Code.MISSING_KEY,
    "string_pattern_mismatch": Code.WRONG_NAME,
}
"""By pydantic's names for what is wrong."""


def code_of(kind: str) -> Code:
    """The code of an error that pydantic calls so."""
    return _CODES.get(kind, Code.WRONG_VALUE)


def problems(raw: dict[str, Any], examining: Mapping[str, type[Examine]], recorded: bool = False) -> Found:
    """Every broken rule with its place and code. Values of the wrong type are left to the model's own checks.

    Args:
        examining: the sections that examine networks, by kind.
        recorded: it is a record of a results root. What it declared beforehand stands: a rule of contrasts that came
            later makes no trials of a study unreachable.
    """
    of_sources = [kind for kind, section in examining.items() if "source" in section.model_fields]
    yield from _parts(raw, of_sources)
    yield from _own_cards(raw)
    yield from _known(raw, ("grid", "source"), [*registry.sources(), *_mapping(raw, "sources")])
    yield from _known(raw, ("grid", "dataset"), [*registry.datasets(), *_mapping(raw, "datasets")])
    yield from _known(raw, ("pretrain", "source"), [*registry.sources(), *_mapping(raw, "sources")])
    yield from repeated(items(raw, ("pretrain", "source")))
    yield from _trainable(raw)
    for kind in examining:
        yield from _examined(raw, kind)
    for kind in of_sources:
        yield from _sources_examined(raw, kind)
    yield from _attacked(raw)
    yield from _weighed(raw)
    yield from _decided(raw)
    yield from _visualized(raw)
    for path in (*(("grid", key) for key in ("source", "dataset", "blocks")), *_varied(raw)):
        yield from repeated(items(raw, path))
    yield from _sizes(raw)
    yield from _depths(raw)
    if not recorded:
        yield from contrasts(raw)


def _parts(raw: dict[str, Any], of_sources: Sequence[str]) -> Found:
    """A study fine-tunes (grid and schedule), makes sources (pretrain), examines networks, or several of these."""
    absent = [key for key in ("grid", "schedule") if not raw.get(key)]
    if len(absent) == 2 and any(raw.get(key) for key in ("pretrain", *of_sources)):
        return
    for key in absent:
        if key not in raw or raw[key] is None:
            said = "this key is required (a study that only makes or examines sources has neither grid nor schedule)"
            yield (key,), Code.MISSING_KEY, said
        else:
            yield (key,), Code.WRONG_VALUE, f"this must not be empty; it is {raw[key]!r}"


def _mapping(raw: dict[str, Any], key: str) -> dict[str, Any]:
    value = raw.get(key)
    return value if isinstance(value, dict) else {}


def _known(raw: dict[str, Any], path: tuple[str, str], names: list[str]) -> Found:
    for location, name in items(raw, path):
        if isinstance(name, str) and name not in names:
            yield location, Code.UNKNOWN_NAME, f"unknown {path[1]} {name!r}; known: {', '.join(dict.fromkeys(names))}"


def _varied(raw: dict[str, Any]) -> list[tuple[str, ...]]:
    """The places of the lists of choices that a recipe's variants differ in."""
    return [("grid", "recipe", str(key)) for key in _mapping(_mapping(raw, "grid"), "recipe")]


def _own_cards(raw: dict[str, Any]) -> Found:
    """Own sources and datasets: names that are not taken, networks and datasets that are known."""
    own = registry.cards_in_use()
    for key, packaged, cards in (
        ("sources", registry.packaged_sources(), own.sources),
        ("datasets", registry.packaged_datasets(), own.datasets),
    ):
        for name in _mapping(raw, key):
            if not re.fullmatch(NAME_PATTERN, str(name)):
                said = f"names are lower-case letters, digits, '.', '_' and '-'; it is {name!r}"
                yield (key, name), Code.WRONG_NAME, said
            if name in packaged and cards.get(name) != packaged[name]:
                said = f"{name} stands for something else in the registry; choose another name"
                yield (key, name), Code.WRONG_NAME, said
    for name, raw_card in _mapping(raw, "datasets").items():
        of = raw_card.get("of") if isinstance(raw_card, dict) else None
        if isinstance(of, str) and of not in registry.packaged_datasets():
            known = ", ".join(registry.packaged_datasets())
            said = f"a variant is of a packaged dataset, {known}; it is of {of!r}"
            yield ("datasets", name, "of"), Code.UNKNOWN_NAME, said
    for name, card in own.sources.items():
        if card.architecture not in registry.architectures():
            known = ", ".join(registry.architectures())
            said = f"unknown architecture {card.architecture!r}; known: {known}"
            yield ("sources", name, "architecture"), Code.UNKNOWN_NAME, said
        if card.pretrain is not None and card.trained_on not in registry.datasets():
            known = ", ".join(registry.datasets())
            said = f"unknown dataset {card.trained_on!r}; known: {known}"
            yield ("sources", name, "trained_on"), Code.UNKNOWN_NAME, said
        elif card.pretrain is not None:
            yield from _normaliser(name, card)


def _normaliser(name: str, card: registry.SourceCard) -> Found:
    """A source is trained behind its dataset's normaliser, and has to stay behind it."""
    for key, here, there in zip(
        ("mean", "std"),
        (card.mean, card.std),
        registry.dataset(card.trained_on).channel_statistics(),
        strict=True,
    ):
        if here != there:
            said = f"{name} is trained with the {key} of {card.trained_on}, {list(there)}; it is {list(here)}"
            yield ("sources", name, key), Code.IMPOSSIBLE_TRIAL, said


def _trainable(raw: dict[str, Any]) -> Found:
    """Sources to be made must say how, and not be part of the package already."""
    for location, name in items(raw, ("pretrain", "source")):
        card = registry.sources().get(name) if isinstance(name, str) else None
        if card is not None and card.bundled:
            said = f"the weights of {name} are part of the package; there is nothing to train"
            yield location, Code.IMPOSSIBLE_TRIAL, said
            continue
        if card is None:
            continue
        try:
            card.pretrain_spec()
        except InvalidRequest as error:
            yield location, error.code, str(error)
        except ValidationError as error:
            for mistake in error.errors():
                where = ".".join(map(str, mistake["loc"]))
                said = str(mistake["msg"]).removeprefix("Value error, ")
                said = f"{name}: {f'{where}: ' if where else ''}{said[0].lower()}{said[1:]}"
                yield location, code_of(mistake["type"]), said


def _examined(raw: dict[str, Any], kind: str) -> Found:
    """The fine-tuned trials that a section examines are the study's."""
    rows = [row for _, row in items(raw, ("schedule",)) if isinstance(row, dict)]
    sizes = [images for row in rows if isinstance(row.get("images"), list) for images in row["images"]]
    for (_, _, _, index), images in items(raw, (kind, "finetuned", "images")):
        if images not in sizes:
            yield (
                (kind, "finetuned", "images", index),
                Code.IMPOSSIBLE_TRIAL,
                f"no row of the schedule has {images} images; there are: {sizes}",
            )
    seeds = [row["seeds"] for row in rows if isinstance(row.get("seeds"), int)]
    asked = _mapping(_mapping(raw, kind), "finetuned").get("seeds")
    if isinstance(asked, int) and seeds and asked > max(seeds):
        said = f"the schedule has {max(seeds)} seeds at most; asked for {asked}"
        yield (kind, "finetuned", "seeds"), Code.IMPOSSIBLE_TRIAL, said


def _sources_examined(raw: dict[str, Any], kind: str) -> Found:
    """Sources with weights, datasets that are known, and something to examine."""
    yield from _known(raw, (kind, "source"), [*registry.sources(), *_mapping(raw, "sources")])
    yield from _known(raw, (kind, "dataset"), [*registry.datasets(), *_mapping(raw, "datasets")])
    for key in ("source", "dataset"):
        yield from repeated(items(raw, (kind, key)))
    for location, name in items(raw, (kind, "source")):
        card = registry.sources().get(name) if isinstance(name, str) else None
        if card is not None and card.random:
            said = f"{name} is drawn from each trial's seed; examine trials that are fine-tuned from it"
            yield location, Code.IMPOSSIBLE_TRIAL, said
    section = _mapping(raw, kind)
    if section and not section.get("source") and not section.get("finetuned"):
        said = "nothing is examined: name source models (source), fine-tuned trials (finetuned), or both"
        yield (kind,), Code.MISSING_KEY, said


def _attacked(raw: dict[str, Any]) -> Found:
    """Images of labels that the sources know, and as many test images as there are."""
    yield from _labels_known(raw, "attack")
    yield from _mismatches(raw, "attack", _sources_know(raw, "attack"), unknown_labels)
    section = _mapping(raw, "attack")
    if section.get("dataset") and not section.get("source"):
        yield (
            ("attack", "dataset"),
            Code.IMPOSSIBLE_TRIAL,
            "these images are shown to source models (source); fine-tuned trials are shown their own test images",
        )
    asked = section.get("test_images", ALL)
    if asked == 0:
        yield ("attack", "test_images"), Code.WRONG_VALUE, f"at least one image is attacked, or {ALL} for all; it is 0"
    sources = [name for _, name in items(raw, ("attack", "source")) if isinstance(name, str)]
    shown = {name for _, name in items(raw, ("attack", "dataset")) if isinstance(name, str)}
    names = shown or {registry.sources()[name].test_dataset for name in sources if name in registry.sources()}
    if section.get("finetuned"):
        names |= {name for _, name in items(raw, ("grid", "dataset")) if isinstance(name, str)}
    for name in sorted(names & registry.datasets().keys()):
        most = registry.dataset(name).test
        if isinstance(asked, int) and asked > most:
            said = f"{name} has 1 to {most} test images, or {ALL} for all; it is {asked}"
            yield ("attack", "test_images"), Code.IMPOSSIBLE_TRIAL, said


def _weighed(raw: dict[str, Any]) -> Found:
    """As many training images as are kept of them, and matrices that can be held."""
    section = _mapping(raw, "influence")
    top, measures = section.get("top", Influence.model_fields["top"].default), section.get("measures", ["influence"])
    yield from repeated(items(raw, ("influence", "measures")))
    if not isinstance(top, int) or not isinstance(measures, list):
        return
    cards = [registry.sources()[name] for _, name in items(raw, ("grid", "source")) if name in [*registry.sources()]]
    sources = [card.name for card in cards if card.architecture in registry.architectures()]
    datasets = [name for _, name in items(raw, ("grid", "dataset")) if name in [*registry.datasets()]]
    cuts = [cut for _, cut in items(raw, ("influence", "cutoffs")) if isinstance(cut, dict)] or [section]
    asked = [cut.get("decomposition", "eigh") for cut in cuts]
    decompositions = [name for name in MOST_DECOMPOSED if name in asked] or ["eigh"]
    for location, images in items(raw, ("influence", "finetuned", "images")):
        if isinstance(images, int):
            for source, dataset, measure in product(sources, datasets, measures):
                for by in decompositions if measure == "pseudo-inverse" else decompositions[:1]:
                    for said in weighing(source, dataset, images, measure, top, by):
                        yield location, Code.IMPOSSIBLE_TRIAL, said


def _decided(raw: dict[str, Any]) -> Found:
    """Images of conflicting cues, between whose labels the networks can decide."""
    yield from _labels_known(raw, "shape_bias")
    known = _sources_know(raw, "shape_bias")
    if _mapping(raw, "shape_bias").get("finetuned"):
        known |= {name for _, name in items(raw, ("grid", "dataset")) if isinstance(name, str)}
    yield from _mismatches(raw, "shape_bias", known, undecidable)


def _labels_known(raw: dict[str, Any], kind: str) -> Found:
    """Sources whose labels are those of a known dataset."""
    for location, name in items(raw, (kind, "source")):
        card = registry.sources().get(name) if isinstance(name, str) else None
        if card is not None and not card.random and card.test_dataset not in registry.datasets():
            said = f"the labels of {name} are those of {card.test_dataset!r}, which is no known dataset"
            yield location, Code.UNKNOWN_NAME, said


def _sources_know(raw: dict[str, Any], kind: str) -> set[str]:
    """The datasets whose labels the sources of a section know."""
    cards = [registry.sources().get(name) for _, name in items(raw, (kind, "source")) if isinstance(name, str)]
    return {card.test_dataset for card in cards if card is not None and not card.random}


def _mismatches(
    raw: dict[str, Any], kind: str, known: set[str], mismatch: Callable[[DatasetCard, DatasetCard], str | None]
) -> Found:
    """What a section would show to networks that cannot be asked about it.

    Args:
        known: datasets whose labels the networks know.
    """
    cards = registry.datasets()
    for location, name in items(raw, (kind, "dataset")):
        if isinstance(name, str) and name in cards:
            found = [mismatch(cards[one], cards[name]) for one in sorted(known & cards.keys())]
            yield from ((location, Code.IMPOSSIBLE_TRIAL, said) for said in dict.fromkeys(found) if said is not None)


def _visualized(raw: dict[str, Any]) -> Found:
    """Units that every network has, and as many seed images as there are."""
    section = _mapping(raw, "visualize")
    name, asked = section.get("dataset"), section.get("test_images", Visualize.model_fields["test_images"].default)
    if isinstance(name, str) and name not in registry.datasets():
        said = f"unknown dataset {name!r}; known: {', '.join(registry.datasets())}"
        yield ("visualize", "dataset"), Code.UNKNOWN_NAME, said
    elif isinstance(name, str) and isinstance(asked, int) and asked > registry.dataset(name).test:
        most = registry.dataset(name).test
        said = f"{name} has {most} test images to begin from; asked for {asked}"
        yield ("visualize", "test_images"), Code.IMPOSSIBLE_TRIAL, said
    yield from repeated(items(raw, ("visualize", "units")))
    sources = items(raw, ("visualize", "source"))
    sources += items(raw, ("grid", "source")) if section.get("finetuned") else []
    cards = [registry.sources()[source] for _, source in sources if source in [*registry.sources()]]
    known = {card.name for card in cards if card.architecture in registry.architectures()}
    for location, unit in items(raw, ("visualize", "units")):
        if isinstance(unit, int):
            for said in (said for source in sorted(known) for said in beyond_features(source, unit)):
                yield location, Code.IMPOSSIBLE_TRIAL, said


def _sizes(raw: dict[str, Any]) -> Found:
    """Sizes that some dataset cannot give, and sizes that come twice (as a number, or as the whole set)."""
    sizes = [
        (("schedule", row, "images", item), images)
        for (_, row), fields in items(raw, ("schedule",))
        if isinstance(fields, dict)
        for (_, item), images in items(fields, ("images",))
        if isinstance(images, int) and not isinstance(images, bool)
    ]
    names = [name for _, name in items(raw, ("grid", "dataset")) if isinstance(name, str)]
    for name in names:
        card = registry.datasets().get(name)
        if card is None:
            continue
        if not card.train:
            said = no_training(card).removeprefix("dataset: ")
            yield ("grid", "dataset", names.index(name)), Code.IMPOSSIBLE_TRIAL, said
            continue
        seen: set[int] = set()
        for place, images in sizes:
            if images != ALL and not card.labels <= images <= card.train:
                yield (
                    place,
                    Code.IMPOSSIBLE_TRIAL,
                    f"a subset of {name} has {card.labels} images (one a label) to {card.train}, or {ALL} for all; "
                    f"it is {images}",
                )
            size = ALL if images == card.train else images
            if size in seen:
                said = f"{images} images of {name} are in the schedule twice; one row has to decide"
                yield place, Code.REPEATED, said
            seen.add(size)


def _depths(raw: dict[str, Any]) -> Found:
    names = [name for _, name in items(raw, ("grid", "source")) if isinstance(name, str)]
    for location, blocks in items(raw, ("grid", "blocks")):
        if not isinstance(blocks, int) or isinstance(blocks, bool):
            continue
        if blocks < ALL:
            said = f"blocks are 0 or more, or {ALL} for the whole network; it is {blocks}"
            yield location, Code.WRONG_VALUE, said
        for name in names:
            card = registry.sources().get(name)
            network = registry.architectures().get(card.architecture) if card else None
            if card and network and blocks > network.blocks:
                most = network.blocks
                said = f"{name} ({card.architecture}) has {most} blocks; asked for {blocks}"
                yield location, Code.IMPOSSIBLE_TRIAL, said
