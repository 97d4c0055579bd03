"""The JSON schema of a study file: what is valid passes a real validator, and typical mistakes do not."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from jobs.catalog.catalog import PACKAGED
from jobs.errors import DeltaSweepError
from jobs.specs.recipes import RECIPES
from jobs.system import safe_yaml
from orchestrator.study.json_schema import study_schema
from orchestrator.study.load import parse_study
from orchestrator.study.packaged_studies import packaged_studies, packaged_text
from orchestrator.study.template import new_study
from tests.documentation import PAGES, ROOT, blocks
from tests.orchestrator.support import Command

SCHEMA = study_schema()
VALIDATOR = Draft202012Validator(SCHEMA)


def complaints(values: object) -> list[str]:
    """Return what a validator says about the values of a study file."""
    plain = json.loads(json.dumps(values))  # as an editor sees them
    return [f"{error.json_path}: {error.message[:200]}" for error in VALIDATOR.iter_errors(plain)]


def loaded(text: str) -> Any:
    """Read YAML 1.2, as editors do."""
    return yaml.load(text, safe_yaml.CoreLoader)  # a safe loader


def without_required(schema: Any) -> Any:
    """Return the schema for parts of studies, in which required keys may be missing."""
    if isinstance(schema, dict):
        return {k: without_required(v) for k, v in schema.items() if not (k == "required" and isinstance(v, list))}
    return [without_required(inner) for inner in schema] if isinstance(schema, list) else schema


def examples() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the whole studies and the parts of studies in the documentation."""
    for page in PAGES:
        for block in blocks(page):
            if block.language != "yaml" or str(block.page).endswith("estimate-cost.md"):
                continue
            text = re.sub(r"\b[0-9a-f]{8}\.\.\.", "a" * 64, block.text)
            for part in re.split(r"\n(?=[\w-]+:)", text):
                values = loaded(part)
                if isinstance(values, dict) and values.keys() <= SCHEMA["properties"].keys():
                    yield f"{block.page}: {part[:60]!r}", values


EXAMPLES = list(examples())


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["required"] == ["name"]


def test_the_command_prints_it(deltasweep: Command) -> None:
    result = deltasweep("schema")
    assert (result.code, result.message) == (0, "")
    assert json.loads(result.out) == SCHEMA == json.loads(deltasweep("schema", "--json").out)


@pytest.mark.parametrize("name", packaged_studies())
def test_packaged_studies_pass(name: str) -> None:
    assert complaints(loaded(packaged_text(name) or "")) == []


@pytest.mark.parametrize("place", [place for place, _ in EXAMPLES], ids=range(len(EXAMPLES)))
def test_examples_of_the_documentation_pass(place: str) -> None:
    plain = json.loads(json.dumps(dict(EXAMPLES)[place]))
    assert [error.message for error in Draft202012Validator(without_required(SCHEMA)).iter_errors(plain)] == [], place


def test_there_are_examples_of_most_keys() -> None:
    assert len(EXAMPLES) > 20
    used = {key for _, values in EXAMPLES for key in values}
    assert used >= {"grid", "schedule", "recipe", "contrasts", "sources", "datasets", "architectures", "attack"}


@pytest.mark.parametrize("path", sorted((ROOT / "tests" / "roots").glob("*/studies/*/*.yaml")), ids=str)
def test_studies_that_releases_recorded_pass(path: Path) -> None:
    assert complaints(loaded(path.read_text(encoding="utf-8"))) == []


def test_a_new_study_passes() -> None:
    assert complaints(loaded(new_study("mine", "mine.yaml"))) == []


GRID = {"source": ["natural", "l2_eps3"], "dataset": ["cifar10"], "blocks": [3]}
ROW = {"images": [50], "epochs": 3, "seeds": 2, "evaluate_every": 1}
GOOD = {"name": "good", "grid": GRID, "schedule": [ROW]}


@pytest.mark.parametrize(
    "changes",
    [
        {"recipe": "as-released"},
        {"recipe": {"base": "as-released", "normalization": "target"}},
        {"recipe": {"learning_rate": 0.05}},
        {"grid": {**GRID, "recipe": {"frozen_batchnorm": ["batch", "source"], "learning_rate": [0.1, 0.01]}}},
        {"grid": {**GRID, "source": ["my-own"]}},
        {"architectures": {"mine": "cards/mine.yaml"}},
        {"attack": {"finetuned": {"images": [50], "seeds": 1}, "balls": []}},
        {
            "attack": {
                "finetuned": {"images": [50], "seeds": 1},
                "balls": [{"constraint": "linf", "epsilon": ["4/255", 0.1], "steps": 3}],
            }
        },
        {"datasets": {"mine": {"of": "caltech101", "low_pass": "32/224"}}},
        {"resources": {"gpu": 0, "cpu": 2}, "bundle": "blocks", "keep_weights": True},
    ],
    ids=repr,
)
def test_what_studies_may_say_passes(changes: dict[str, Any]) -> None:
    assert complaints({**GOOD, **changes}) == []


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"name": "Good Study"}, "$.name"),
        ({"grids": GRID}, "$"),
        ({"grid": {"source": ["natural"], "dataset": ["cifar10"]}}, "$.grid"),
        ({"grid": {**GRID, "blocks": "3"}}, "$.grid"),
        ({"grid": {**GRID, "blocks": 3}}, "$.grid"),
        ({"grid": {**GRID, "source": "natural"}}, "$.grid"),
        ({"grid": {**GRID, "recipe": {"learning_rate": 0.1}}}, "$.grid"),
        ({"grid": {**GRID, "recipe": {"learning_rat": [0.1]}}}, "$.grid"),
        ({"schedule": ROW}, "$.schedule"),
        ({"schedule": [{**ROW, "epoch": 3}]}, "$.schedule[0]"),
        ({"schedule": [{**ROW, "epochs": 0}]}, "$.schedule[0].epochs"),
        ({"schedule": [{**ROW, "seeds": "ten"}]}, "$.schedule[0].seeds"),
        ({"recipe": "as-publishd"}, "$.recipe"),
        ({"recipe": {"base": "papper"}}, "$.recipe"),
        ({"recipe": {"momentun": 0.5}}, "$.recipe"),
        ({"recipe": {"precision": "fp16"}}, "$.recipe"),
        ({"recipe": {"learning_rate": "fast"}}, "$.recipe"),
        ({"contrasts": [{"source": "l2_eps3", "blocks": [3]}]}, "$.contrasts[0]"),
        ({"resources": {"gpus": 1}}, "$.resources"),
        ({"bundle": True}, "$.bundle"),
        ({"keep_weights": "yes"}, "$.keep_weights"),
        ({"attack": {"balls": [{"constraint": "l3", "epsilon": [1], "steps": 3}]}}, "$.attack"),
        ({"sources": {"mine": {"architecture": "resnet50"}}}, "$.sources.mine"),
        ({"datasets": {"mine": {"train": 5}}}, "$.datasets.mine"),
        ({"datasets": {"My Images": {"of": "cifar10"}}}, "$.datasets"),
    ],
    ids=repr,
)
def test_typical_mistakes_fail_where_the_loader_refuses_them_too(changes: dict[str, Any], place: str) -> None:
    study = {**GOOD, **changes}
    found = complaints(study)
    assert any(complaint.startswith(f"{place}: ") for complaint in found), found
    with pytest.raises(DeltaSweepError):
        parse_study(yaml.safe_dump(study), "wrong.yaml")


def test_editors_are_offered_names() -> None:
    grid = SCHEMA["$defs"]["Grid"]["properties"]
    assert grid["source"]["items"]["anyOf"][0]["enum"] == sorted(PACKAGED.sources)
    assert SCHEMA["properties"]["recipe"]["anyOf"][0]["enum"] == list(RECIPES)
    without = [key for key, about in SCHEMA["properties"].items() if not about.get("description")]
    assert without == [], "every key is explained"
