"""The JSON schema of a study file, for editors and other programs. No torch.

It accepts everything that a valid study file may contain, and describes what stands in one place: names of keys, types,
ranges and choices. Rules that connect several places (names of own cards, choices that go with each other, possible
trials) are left to ``deltasweep plan``.
"""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from jobs.catalog.catalog import PACKAGED
from jobs.specs.recipes import RECIPES
from jobs.study.model import Study

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_FRACTION = {"type": "string", "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*(/\s*[0-9]+\s*)?$"}
_RADII = ("epsilon", "band", "low_pass", "step_size")
"""Keys whose numbers may be written as fractions, such as 4/255 (``jobs.catalog.card.Radius``)."""
_LIMITS = {"gt": "exclusiveMinimum", "lt": "exclusiveMaximum", "ge": "minimum", "le": "maximum"}
"""Pydantic leaves these words of its own where a validator precedes the number."""

Schema = dict[str, Any]


def study_schema() -> Schema:
    """Return the JSON schema of a study file."""
    made = Study.model_json_schema()
    definitions: Schema = made.pop("$defs")
    _each_schema([made, definitions], _corrected)
    _each_schema([made, definitions], _with_fractions)
    _recipes(made, definitions)
    _cards(made, definitions)
    _names(definitions)
    return {"$schema": DIALECT, **made, "title": "DeltaSweep study", "$defs": definitions}


def _each_schema(value: object, change: Callable[[Schema], None]) -> None:
    """Call ``change`` with every mapping in a value, the outer ones first."""
    if isinstance(value, dict):
        change(value)
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _each_schema(inner, change)


def _corrected(schema: Schema) -> None:
    """Remove what editors would show without need, and use the words of JSON schema."""
    if isinstance(schema.get("title"), str) and "type" in schema | {"type": 0}:
        del schema["title"]
    if isinstance(since := schema.pop("since", None), str):
        schema["description"] = f"{schema.get('description', '')} (since {since})".strip()
    for word, proper in _LIMITS.items():
        if isinstance(schema.get(word), int | float):
            schema[proper] = schema.pop(word)


def _with_fractions(schema: Schema) -> None:
    for key in _RADII:
        if isinstance(found := schema.get("properties", {}).get(key), dict):
            _allow_fractions(found)


def _allow_fractions(schema: Schema) -> None:
    """Allow text such as 4/255 wherever the schema of a key asks for a number."""
    if schema.get("type") == "number":
        limits = {word: schema.pop(word) for word in ("type", *_LIMITS.values()) if word in schema}
        schema["anyOf"] = [limits, _FRACTION]
        return
    inner = [*schema.get("anyOf", ()), *schema.get("prefixItems", ())]
    for each in [*inner, schema["items"]] if isinstance(schema.get("items"), dict) else inner:
        _allow_fractions(each)


def _recipes(study: Schema, definitions: Schema) -> None:
    """Allow a recipe's name and ``base``; in the grid, lists of the values of each choice."""
    name = {"enum": list(RECIPES), "description": "name of a recipe"}
    recipe = deepcopy(definitions["Recipe"])
    choices = dict(recipe["properties"])
    recipe["properties"] = {"base": {**name, "description": "the recipe that has the choices left out here"}, **choices}
    definitions["Recipe"] = recipe
    described = study["properties"]["recipe"]["description"]
    study["properties"]["recipe"] = {"anyOf": [name, {"$ref": "#/$defs/Recipe"}], "description": described}
    varied = definitions["Grid"]["properties"]["recipe"]
    varied["additionalProperties"] = False
    varied["properties"] = {
        key: {"type": "array", "minItems": 1, "items": _without_default(choice)} for key, choice in choices.items()
    }


def _without_default(choice: Schema) -> Schema:
    return {word: value for word, value in choice.items() if word != "default"}


def _cards(study: Schema, definitions: Schema) -> None:
    """Name cards by their keys, refuse other names, and allow what loading a study file fills in."""
    for key in ("sources", "datasets", "architectures"):
        study["properties"][key]["additionalProperties"] = False
    for card in ("SourceCard", "DatasetCard", "Architecture"):
        definitions[card]["required"].remove("name")
    whole = definitions["DatasetCard"].pop("required")
    definitions["DatasetCard"]["anyOf"] = [{"required": ["of"]}, {"required": whole}]
    path = {"type": "string", "pattern": r"\.ya?ml$", "description": "path of a card"}
    for pattern, card in study["properties"]["architectures"]["patternProperties"].items():
        study["properties"]["architectures"]["patternProperties"][pattern] = {"anyOf": [card, path]}


def _names(definitions: Schema) -> None:
    """Offer the packaged sources and datasets to editors; names of own ones are as good."""
    grid = definitions["Grid"]["properties"]
    for key, names in (("source", PACKAGED.sources), ("dataset", PACKAGED.datasets)):
        grid[key]["items"] = {"anyOf": [{"enum": sorted(names)}, {"type": "string"}]}
