"""The validator of studies: rules for the file, for its own cards, and the kinds' rules for its trials.

All mistakes are reported at once. Values with mistakes are left out, and the rest is validated.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from jobs.catalog.catalog import Catalog, packaged_datasets, packaged_sources, unknown
from jobs.catalog.source_card import SourceCard
from jobs.errors import Code, InvalidRequest, Mistake
from jobs.kind import kinds, source_trial
from jobs.kinds.finetune.problems import size_rule
from jobs.kinds.rules import in_words
from jobs.possible import problems
from jobs.specs.base import ALL, MOST
from jobs.specs.trial import TrialSpec
from jobs.study.expand import fine_tuned, section_trials
from jobs.study.model import ScheduleRow, Study
from jobs.system.printable import shown
from orchestrator.study.contrast_rules import contrast_violations
from orchestrator.study.equivalence_rules import equivalence_violations
from orchestrator.study.mistaken import Mistaken
from orchestrator.study.models import sections
from orchestrator.study.own_architectures import own_architectures_violations
from orchestrator.study.own_weights import own_weights_violations
from orchestrator.study.raw_values import MOST_MISTAKES, Violation, Violations, Written, items, mapping, repeated
from orchestrator.study.understand import STAND_IN, is_list, understood
from orchestrator.study.yaml_lines import Location


def violations(
    raw: dict[str, Any], study: Study | None, known: Sequence[Violation], folder: Path, recorded: bool = False
) -> Violations:
    """Yield every rule that a study breaks, except for the types of its values; if there are very many, some of them.

    Args:
        study: the values as a study, if their types are right.
        known: the mistakes in their types.
        folder: the folder of the study file.
        recorded: whether the study is a record of a results root. Rules for declarations, trials and files are not
            applied to records, because later versions may add rules, and all recorded trials must remain accessible.
    """
    yield from _repeated(raw)
    of_types = Mistaken(_locations(known))
    typed = study or understood(raw, of_types)
    rules = chain(
        _parts(raw),
        _unknown_names(raw),
        _impossible_sizes(raw),
        _repeated_sizes(raw, typed.catalog),
        _own_cards(raw, typed.catalog, recorded),
        own_architectures_violations(raw, typed.architectures, recorded),
        _misfits(typed, of_types),
        () if recorded else own_weights_violations(raw, folder),
    )
    broken = list(islice(rules, MOST_MISTAKES))
    yield from broken
    if recorded or len(broken) == MOST_MISTAKES:
        return
    mistaken = Mistaken(_locations([*known, *broken]))
    if mistaken or study is None:
        study = understood(raw, Mistaken([*mistaken, *_depending(raw, mistaken)]))
    if not study.beyond_limits():
        yield from (rule for rule in _of_trials(raw, study, mistaken) if STAND_IN not in rule[2])
    yield from contrast_violations(raw, typed.schedule, mistaken)
    yield from equivalence_violations(raw, typed.schedule, lambda: typed.recipes, mistaken)


def _locations(mistakes: Iterable[Violation]) -> list[Location]:
    """Return the locations of values that cannot be used; repeated values can."""
    return [location for location, code, _ in mistakes if code is not Code.REPEATED]


def _depending(raw: dict[str, Any], mistaken: Mistaken) -> Iterator[Location]:
    """Yield the locations of cards with mistakes in them, in their dataset or in their architecture, and of the names
    that refer to them.
    """
    broken = {place[:2] for place in mistaken if place[:1] in (("sources",), ("datasets",), ("architectures",))}
    for name in mapping(raw, "sources"):
        architecture = mapping(raw, "sources", name).get("architecture")
        if isinstance(architecture, str) and ("architectures", architecture) in broken:
            broken.add(("sources", name))
        datasets = [
            mapping(raw, "sources", name).get("trained_on"),
            mapping(raw, "sources", name, "expected").get("dataset"),
        ]
        if any(("datasets", dataset) in broken for dataset in datasets if isinstance(dataset, str)):
            broken.add(("sources", name))
    yield from broken
    yield from (location for location, key, name in _names(raw) if (f"{key}s", name) in broken)


# --- rules of the file ---


def _parts(raw: dict[str, Any]) -> Violations:
    """Check that a study fine-tunes (grid and schedule), trains sources, examines networks, or several of these."""
    absent = [key for key in ("grid", "schedule") if not raw.get(key)]
    of_sources = [name for name, section in sections().items() if "source" in section.model_fields]
    if len(absent) == 2 and any(raw.get(key) for key in of_sources):
        return
    for key in absent:
        if raw.get(key) is None:
            message = (
                "this key is required (a study that only trains or examines sources has neither grid nor schedule)"
            )
            yield (key,), Code.MISSING_KEY, message
        else:
            yield (key,), Code.WRONG_VALUE, f"expected at least one entry; got {shown(raw[key])}"


def _repeated(raw: dict[str, Any]) -> Violations:
    """Yield repeated values in lists, since each combination of values is one trial."""
    fields = {name: section.model_fields.items() for name, section in sections().items()}
    lists = [(name, key) for name, of in fields.items() for key, field in of if is_list(field.annotation)]
    for path in (*lists, *(("grid", "recipe", key) for key in mapping(raw, "grid", "recipe"))):
        yield from repeated(items(raw, path))


def _names(raw: dict[str, Any]) -> Iterator[tuple[Location, str, str]]:
    """Yield the names of sources and datasets in the sections: location, ``source`` or ``dataset``, and name."""
    for section in sections():
        for key in ("source", "dataset"):
            value = mapping(raw, section).get(key)
            for location, name in items(raw, (section, key)) or [((section, key), value)]:
                if isinstance(name, str):
                    yield location, key, name


def _unknown_names(raw: dict[str, Any]) -> Violations:
    known = {
        "source": {*packaged_sources(), *map(str, mapping(raw, "sources"))},
        "dataset": {*packaged_datasets(), *map(str, mapping(raw, "datasets"))},
    }
    for location, key, name in _names(raw):
        if name not in known[key]:
            yield location, Code.UNKNOWN_NAME, unknown(key, name, known[key])


def _sizes(raw: dict[str, Any]) -> list[tuple[Location, int]]:
    """Return the numbers of images in the schedule, with their locations."""
    rows = [location for location, _ in items(raw, ("schedule",))]
    return [item for row in rows for item in items(raw, (*row, "images")) if type(item[1]) is int]


def _impossible_sizes(raw: dict[str, Any]) -> Violations:
    """Yield numbers of images and blocks that no trial can have."""
    names = dict.fromkeys(name for _, name in items(raw, ("grid", "dataset")) if isinstance(name, str))
    cards = [packaged_datasets().get(name) for name in names]
    for location, images in _sizes(raw):
        if images != ALL and not 1 <= images <= MOST:
            rule = f"expected 1 to {MOST} images, or {ALL} for all; got {images}"
            for message in [size_rule(card, images) for card in cards if card is not None] or [rule]:
                yield location, Code.IMPOSSIBLE_TRIAL, message
    for location, blocks in items(raw, ("grid", "blocks")):
        if isinstance(blocks, int) and blocks > MOST:
            yield location, Code.IMPOSSIBLE_TRIAL, f"expected at most {MOST} blocks; got {blocks}"


def _misfits(study: Study, mistaken: Mistaken) -> Violations:
    """Yield the limit that a study exceeds, else choices of the recipe that do not go with each other, unless choices
    with mistakes may explain it.
    """
    found = study.beyond_limits()
    if not found and not any(place[:1] == ("recipe",) or place[:2] == ("grid", "recipe") for place in mistaken):
        found = study.misfits()
    for location, message in found.items():
        yield location, Code.WRONG_VALUE, message


def _repeated_sizes(raw: dict[str, Any], catalog: Catalog) -> Violations:
    """Yield repeated sizes, including a number of images that equals the whole set."""
    sizes = _sizes(raw)
    places: dict[int, list[int]] = {}
    for number, (_, images) in enumerate(sizes):
        places.setdefault(images, []).append(number)
    twice = [at for at in places.values() if len(at) > 1]
    names = (name for _, name in items(raw, ("grid", "dataset")) if isinstance(name, str) and name in catalog.datasets)
    for name in dict.fromkeys(names):
        whole = sorted([*places.get(ALL, ()), *places.get(catalog.dataset(name).train, ())])
        for at in twice if len(whole) < 2 else [*twice, whole]:
            for number in at[1:]:
                location, images = sizes[number]
                message = f"expected each size once; {images} images of {name} are in the schedule twice"
                yield location, Code.REPEATED, message


# --- rules of a study's own cards ---


def _own_cards(raw: dict[str, Any], catalog: Catalog, recorded: bool) -> Violations:
    """Check that own sources and datasets have unused names, and known architectures and datasets.

    A recorded study keeps its names, also those that a later release gave to cards of its own.
    """
    for key, packaged, own in (
        ("sources", packaged_sources(), catalog.own.sources),
        ("datasets", packaged_datasets(), catalog.own.datasets),
    ):
        for name in mapping(raw, key):
            if name in packaged and own.get(name) != packaged[name] and not recorded:
                message = f"{name} is the name of a packaged card. Fix: choose another name"
                yield (key, name), Code.WRONG_NAME, message
    for name in mapping(raw, "datasets"):
        variant_of = mapping(raw, "datasets", name).get("of")
        if isinstance(variant_of, str) and variant_of not in packaged_datasets():
            message = f"expected a packaged dataset, one of {', '.join(packaged_datasets())}; got {variant_of!r}"
            yield ("datasets", name, "of"), Code.UNKNOWN_NAME, message
    for name, source in catalog.own.sources.items():
        if name != STAND_IN:
            yield from _own_source(raw, name, source, catalog, recorded)
    if not recorded:  # versions up to 0.2.0 accepted any numbers
        for name, source in catalog.own.sources.items():
            yield from _of_pixels(("sources", name, "mean"), source.mean)
        for name, dataset in catalog.own.datasets.items():
            yield from _of_pixels(("datasets", name, "mean"), dataset.mean)
            yield from _of_pixels(("datasets", name, "std"), dataset.std)


def _of_pixels(place: Location, values: Sequence[float]) -> Violations:
    """Check that means or standard deviations are of pixels in [0, 1]; a source may scale its images by any number."""
    for channel, value in enumerate(values):
        if not 0 <= value <= 1:  # nor is it NaN
            fix = "divide mean and std by 255" if 1 < value <= 255 else "correct it"
            message = f"expected the {place[-1]} of pixels in [0, 1]; got {value:g}. Fix: {fix}"
            yield (*place, channel), Code.WRONG_VALUE, message


def _own_source(raw: dict[str, Any], name: str, card: SourceCard, catalog: Catalog, recorded: bool) -> Violations:
    place = ("sources", name)
    if card.architecture not in catalog.architectures and card.architecture not in mapping(raw, "architectures"):
        message = unknown("architecture", card.architecture, catalog.architectures)
        yield (*place, "architecture"), Code.UNKNOWN_NAME, message
    if card.pretrain is None:
        return
    if card.trained_on in catalog.datasets:
        statistics = catalog.dataset(card.trained_on).channel_statistics()
        for key, here, there in zip(("mean", "std"), (card.mean, card.std), statistics, strict=True):
            if here != there:  # a source keeps the normalizer of the dataset that it is trained on
                message = f"expected {name} to have the {key} of {card.trained_on}, {list(there)}; got {list(here)}"
                yield (*place, key), Code.IMPOSSIBLE_TRIAL, message
    elif card.trained_on not in mapping(raw, "datasets"):  # else its card has mistakes
        known = (name for name in catalog.datasets if name != STAND_IN)
        yield (*place, "trained_on"), Code.UNKNOWN_NAME, unknown("dataset", card.trained_on, known)
    if not recorded:
        yield from _impossible_training(raw, name, card, catalog)


def _impossible_training(raw: dict[str, Any], name: str, card: SourceCard, catalog: Catalog) -> Violations:
    """Yield choices of an own source with which no trial can train it, also if the study does not train it itself."""
    place = ("sources", name, "pretrain")
    try:
        source_trial(card, catalog)
    except ValidationError as error:
        for mistake in error.errors():
            key = str(mistake["loc"][0]) if mistake["loc"] else ""
            where = (*place, key) if key in mapping(raw, *place) else place
            got = f"; got {shown(mistake['input'])}" if key else ""  # a rule for several keys says what it got
            yield where, Code.WRONG_VALUE, f"{in_words(mistake)}{got}"


# --- rules of trials ---


def _of_trials(raw: dict[str, Any], study: Study, mistaken: Mistaken) -> Violations:
    """Yield the kinds' rules that sections and trials break, each at the value that breaks it."""
    once = study.model_copy(update={"schedule": [row.model_copy(update={"seeds": 1}) for row in study.schedule]})
    written = Written(raw)
    first = fine_tuned(once)  # no rule depends on the seed
    yield from _located(written, "grid", first, study.catalog)
    tuned = fine_tuned(study) if study.sections else []
    for name, section in study.sections.items():
        kind = kinds()[name]
        of_section = kind.section_problems(section, tuned, study.catalog)
        for mistake in of_section:
            location = _location(written, name, mistake.place.key, mistake.value)
            if location not in mistaken and not _unclear(written, name, mistake, mistaken):
                yield location, mistake.code, mistake.message
        try:
            yield from _located(written, name, section_trials(study, name, first), study.catalog)
        except (ValidationError, InvalidRequest) as error:
            if not of_section and not mistaken:  # no other mistake explains the missing trials
                messages = map(in_words, error.errors()) if isinstance(error, ValidationError) else [str(error)]
                yield (name,), Code.IMPOSSIBLE_TRIAL, "; ".join(messages)


def _unclear(written: Written, section: str, mistake: Mistake, mistaken: Mistaken) -> bool:
    """Whether a section may satisfy a rule once other mistakes are fixed: those in the schedule or grid that the rule
    refers to, or in the value itself.
    """
    key, value = mistake.place.key, mistake.value
    rows = [place[2:3] for place in mistaken if place[:1] == ("schedule",)]
    unsure = ("grid",) in mistaken or () in rows or (key,) in rows
    stands_in = value is not None and _place(written, section, key, value) is None
    return bool(mistaken) and (stands_in or (unsure and key in ScheduleRow.model_fields))


def _located(written: Written, section: str, specs: Iterable[TrialSpec], catalog: Catalog) -> Violations:
    """Yield the mistakes of a section's trials, without duplicates."""
    seen = set()
    for spec in specs:
        for mistake in problems(spec, catalog):
            if mistake not in seen:
                seen.add(mistake)
                key = mistake.place.key
                parts = (spec, getattr(spec, "threat", None), spec.trial_read)  # the value may be in a part of the spec
                value = next((getattr(part, key) for part in parts if hasattr(part, key)), None)
                message = mistake.message.removeprefix(f"{key}: ")
                yield _location(written, section, key, value), mistake.code, message


def _location(written: Written, section: str, key: str, value: Any) -> Location:
    """Return the location of a value that breaks a rule: in the section itself, or in the grid or the schedule, which
    declare the fine-tuning trials; otherwise the section.
    """
    for part in (section, "grid", "schedule"):
        if (place := _place(written, part, key, value)) is not None:
            return place
    return (section, key) if written.has(section, key) else (section,)


def _place(written: Written, part: str, key: str, value: Any) -> Location | None:
    """Return the first location of a spec field's value in a part of a study: its name, its plural or ``source``."""
    return written.first(part, {key, f"{key}s", "source" if key == "network" else key}, value)
