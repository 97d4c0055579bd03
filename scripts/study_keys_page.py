"""Write docs/reference/study-keys.md: every key that a study file may have, from the models that validate it.

    python -m scripts.study_keys_page

A test checks that the page is current and that every key has a description.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jobs.specs.recipes import RECIPES
from jobs.study.model import Study

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "study-keys.md"
TITLES = {
    "Study": "The study file",
    "Grid": "grid",
    "ScheduleRow": "schedule",
    "Recipe": "recipe",
    "Contrast": "contrasts",
    "Equivalence": "equivalences",
    "SourceCard": "sources.NAME",
    "Pretraining": "sources.NAME.pretrain",
    "PretrainRecipe": "sources.NAME.pretrain.recipe",
    "Release": "sources.NAME.release",
    "Expected": "sources.NAME.expected",
    "AttackAccuracy": "sources.NAME.expected.pgd",
    "DatasetCard": "datasets.NAME",
    "Architecture": "architectures.NAME",
    "Part": "architectures.NAME.stem and architectures.NAME.tail",
    "Place": "architectures.NAME.blocks and architectures.NAME.fc",
    "DataFile": "datasets.NAME.files and datasets.NAME.members",
    "Resources": "resources",
    "PretrainSection": "pretrain",
    "AttackSection": "attack",
    "Ball": "attack.balls",
    "InfluenceSection": "influence",
    "Cutoff": "influence.cutoffs",
    "ShapeBiasSection": "shape_bias",
    "VisualizeSection": "visualize",
    "Finetuned": "finetuned of attack, influence, shape_bias and visualize",
    "Execution": "recipe of attack, influence, shape_bias and visualize",
}
"""The heading of each model, in the order of the page."""
NOTES = {
    "Recipe": f"The name of a recipe ({', '.join(f'`{name}`' for name in RECIPES)}), or these keys.\n"
    "`base: NAME` takes the choices that are left out from a named recipe.\n\n",
    "SourceCard": "A source has exactly one of `pretrain`, `release`, `weights`, `published` and `random: true`.\n\n",
    "Architecture": "The card of a network, or the path of a file with these keys, relative to the study file.\n"
    "`deltasweep models describe BUILDER` writes it.\n\n",
    "DatasetCard": "`deltasweep data describe FOLDER` prints the card of an image folder. A variant has `of` and one\n"
    "of `low_resolution`, `low_pass` and `cue_conflict`; keys that it leaves out are those of the original.\n\n",
}
"""Text above the table of a model, by model."""
_HEAD = """\
# Study file keys

<!-- Written by `python -m scripts.study_keys_page` from the models in jobs/; change the descriptions there. -->

Every key of a study file (YAML 1.2). An unknown key, a missing required one and a value outside its range are errors,
reported all at once with their lines. [Study files](../how-to/study-files.md) shows how the keys are used, and
[recipes](recipes.md) compares the named recipes. Fractions such as `4/255` are allowed for radii (`epsilon`), bands and
`low_pass`. In the column "since", an empty cell means 0.1.0.

Only `grid`, `schedule`, `recipe`, the sections of the kinds of trial, and how a source is trained take part in the id
of a trial; the other keys decide where trials run and what is compared.
"""


def page() -> str:
    """Return the whole page."""
    return _HEAD + "".join(_sections())


def models() -> dict[str, dict[str, Any]]:
    """Return the JSON schema of every model with keys, by the model's name."""
    schema = Study.model_json_schema()
    found = {"Study": schema, **schema["$defs"]}
    return {name: model for name, model in found.items() if "properties" in model}


def keys() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield every key: the name of its model, its name, and its JSON schema."""
    for name, model in models().items():
        for key, about in model["properties"].items():
            yield name, key, about


def _sections() -> Iterator[str]:
    definitions = Study.model_json_schema()["$defs"]
    every = models()
    for name in [*TITLES, *(every.keys() - TITLES.keys())]:
        required = every[name].get("required", [])
        yield f"\n## {TITLES.get(name, name)}\n\n{NOTES.get(name, '')}"
        yield "| key | value | default | since | meaning |\n| --- | --- | --- | --- | --- |\n"
        for key, about in every[name]["properties"].items():
            if name in ("SourceCard", "DatasetCard", "Architecture") and key == "name":
                continue  # it is the key above the card
            default = "required" if key in required else _default(about)
            meaning = about.get("description", "").replace("|", r"\|")
            yield f"| `{key}` | {_value(about, definitions)} | {default} | {about.get('since', '')} | {meaning} |\n"


def _default(about: dict[str, Any]) -> str:
    value = about.get("default")
    if value is None or isinstance(value, dict) or value in ([], ""):
        return ""
    return f"`{json.dumps(value) if not isinstance(value, str) else value}`"


def _value(about: dict[str, Any], definitions: dict[str, Any]) -> str:
    """Describe the possible values of a key."""
    if "$ref" in about:
        name = about["$ref"].rpartition("/")[2]
        return _value(definitions[name], definitions) if "enum" in definitions[name] else _link(name)
    if "anyOf" in about:
        return " or ".join(_value(each, definitions) for each in about["anyOf"] if each.get("type") != "null")
    if "enum" in about:
        return ", ".join(f"`{json.dumps(each) if not isinstance(each, str) else each}`" for each in about["enum"])
    if "const" in about:
        return f"`{about['const']}`"
    match about.get("type"):
        case "array":
            if "prefixItems" in about:
                return f"list of {len(about['prefixItems'])} numbers"
            return f"list of {_value(about['items'], definitions)}" if about.get("items") else "list"
        case "object":
            by_name = about.get("patternProperties", {})
            values = next(iter(by_name.values())) if by_name else about["additionalProperties"]
            return f"by name: {_value(values, definitions)}"
        case "integer" | "number" as kind:
            return f"{kind}{_range(about)}"
        case "string":
            return "text"
        case "boolean":
            return "`true`, `false`"
        case _:
            return "any"


def _range(about: dict[str, Any]) -> str:
    low, high = about.get("minimum"), about.get("maximum")
    parts = [
        f">= {low}" if low is not None else "",
        f"> {about['exclusiveMinimum']}" if "exclusiveMinimum" in about else "",
        f"<= {high}" if high is not None and high != 2**31 - 1 else "",
        f"< {about['exclusiveMaximum']}" if "exclusiveMaximum" in about else "",
    ]
    said = [part for part in parts if part]
    return f" {' and '.join(said)}" if said else ""


def _link(name: str) -> str:
    heading = TITLES.get(name, name)
    anchor = heading.lower().replace(".", "").replace(",", "").replace(" ", "-")
    return f"[{heading}](#{anchor})"


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
