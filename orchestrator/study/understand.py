"""The usable part of a study file with mistakes, so that the rest of the file is validated as well.

Values with mistakes are left out. A required value is replaced by a placeholder that breaks no rule by itself.
"""

from contextlib import suppress
from typing import Any, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from jobs.catalog.catalog import PACKAGED
from jobs.catalog.dataset_card import DatasetCard
from jobs.catalog.source_card import SourceCard
from jobs.specs.base import ALL
from jobs.study.model import Study
from orchestrator.study.mistaken import Mistaken
from orchestrator.study.models import type_of
from orchestrator.study.yaml_lines import Location

STAND_IN = "x-stands-in-x"
"""The placeholder for names of sources and datasets. Messages that contain it are dropped."""

_STAND_INS: list[Any] = [*(value for plain in (STAND_IN, ALL, 0, 1) for value in ([plain], plain)), {}]


def understood(raw: dict[str, Any], mistaken: Mistaken) -> Study:
    """Return the study without the values that have mistakes, and with cards for the placeholder names."""
    study: Study = usable(Study, raw, (), mistaken)
    statistics = {"name": STAND_IN, "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    source = {
        "architecture": next(iter(PACKAGED.architectures)),
        "trained_on": STAND_IN,
        "constraint": "none",
        "epsilon": 0,
        "release": {"file": STAND_IN, "format": "safetensors", "urls": []},
    }
    dataset = {"train": 1000, "test": 1000, "labels": 2, "colour": True, "folder": f"/{STAND_IN}"}
    sources = {**study.sources, STAND_IN: SourceCard.model_validate(source | statistics)}
    datasets = {**study.datasets, STAND_IN: DatasetCard.model_validate(dataset | statistics)}
    return study.model_copy(update={"sources": sources, "datasets": datasets})


def usable(annotation: Any, value: Any, location: Location, mistaken: Mistaken) -> Any:
    """Return the part of a value that has no mistakes.

    Raises:
        LookupError: if no part of it can be used.
    """
    of = type_of(annotation)
    with suppress(ValidationError):
        if not mistaken.within(location):
            return TypeAdapter(annotation).validate_python(value)
        if isinstance(value, dict) and get_origin(of) is dict and location not in mistaken:
            right_items = {key: item for key, item in value.items() if not mistaken.within((*location, key))}
            return TypeAdapter(annotation).validate_python(right_items)
    if isinstance(value, dict) and _is_model(of):
        return _usable_fields(of, value, location, mistaken)
    listed = (
        _usable_items(get_args(of)[0], value, location, mistaken) if isinstance(value, list) and is_list(of) else []
    )
    if not listed:
        raise LookupError(location)
    return tuple(listed)


def _usable_items(annotation: Any, values: list[Any], location: Location, mistaken: Mistaken) -> list[Any]:
    adapter = TypeAdapter(annotation)  # creating it takes longer than validating an item
    listed: list[Any] = []
    for index, item in enumerate(values):
        place = (*location, index)
        with suppress(LookupError):
            if not mistaken.within(place):
                with suppress(ValidationError):
                    listed.append(adapter.validate_python(item))
                    continue
            listed.append(usable(annotation, item, place, mistaken))
    return listed


def _usable_fields(model: type[BaseModel], values: dict[str, Any], location: Location, mistaken: Mistaken) -> BaseModel:
    fields = {}
    for key, field in model.model_fields.items():
        place = (*location, key)
        if key in values or field.is_required() or place in mistaken:
            try:
                fields[key] = usable(field.rebuild_annotation(), values.get(key), place, mistaken)
            except LookupError:
                fields[key] = _stand_in(field)
    return model.model_construct(**fields)


def _stand_in(field: FieldInfo) -> Any:
    """Return the field's default unless it is empty, else a value that is valid regardless of the other fields.

    Raises:
        LookupError: if there is no such value.
    """
    if not field.is_required() and field.default:
        return field.default
    for value in _STAND_INS:
        with suppress(ValidationError):
            return TypeAdapter(field.rebuild_annotation()).validate_python(value)
    of = type_of(field.annotation)
    model = get_args(of)[0] if is_list(of) else of
    with suppress(LookupError):
        if _is_model(model):
            part = _usable_fields(model, {}, (), Mistaken(()))
            return part if model is of else (part,)
    if field.is_required():
        raise LookupError
    return field.default


def is_list(of: Any) -> bool:
    """Whether a type is a list of any length."""
    return get_args(of)[1:] == (...,)


def _is_model(of: Any) -> bool:
    return isinstance(of, type) and issubclass(of, BaseModel)
