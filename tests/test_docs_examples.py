"""Examples in pages work: studies are valid, keys exist, queries run, Python runs, outputs belong to their inputs."""

import ast
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter

import analysis
import deltasweep
from jobs.results import schema
from jobs.study.model import Study
from jobs.system import safe_yaml
from orchestrator.planning.gpu_table import GpuCard
from orchestrator.study.load import parse_study
from scripts.schema_page import NEVER_AVERAGED
from tests.documentation import PAGES, ROOT, Block, blocks, name
from tests.orchestrator.support import Command

BLOCKS = [block for page in PAGES for block in blocks(page)]
RELEASES = ROOT / "tests" / "roots"


def of(language: str, page: str = "") -> list[Block]:
    return [block for block in BLOCKS if block.language == language and block.page.startswith(page)]


def numbered(found: list[Block]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("block", found, ids=[f"{block.page}-{place}" for place, block in enumerate(found)])


def unknown_keys(values: object, schema: dict[str, Any], definitions: dict[str, Any], place: str = "") -> Iterator[str]:
    """The keys in a part of a study file that its models do not have."""
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    for each in schema.get("anyOf", ()):
        if each.get("type") != "null":
            yield from unknown_keys(values, each, definitions, place)
    if isinstance(values, dict) and "properties" in schema:
        for key, value in values.items():
            if key in schema["properties"]:
                yield from unknown_keys(value, schema["properties"][key], definitions, f"{place}.{key}")
            elif not (key == "base" and place.endswith(".recipe")):
                yield f"{place}.{key}"
    elif isinstance(values, dict) and (named := {**schema.get("patternProperties", {})}):
        ((_, about),) = named.items()  # cards by name
        for key, value in values.items():
            yield from unknown_keys(value, about, definitions, f"{place}.{key}")
    elif isinstance(values, list) and isinstance(schema.get("items"), dict):
        for value in values:
            yield from unknown_keys(value, schema["items"], definitions, place)


def parts(text: str) -> Iterator[dict[str, Any]]:
    """The mappings of an example, one for each key at its left margin: some examples show a key several times."""
    for part in re.split(r"\n(?=[\w-]+:)", text):
        values = yaml.safe_load(part)
        assert isinstance(values, dict), part
        yield values


@numbered(of("yaml"))
def test_keys_of_yaml_exist(block: Block) -> None:
    schema = Study.model_json_schema()
    for values in parts(block.text):
        if all(isinstance(card, dict) and "memory_gb" in card for card in values.values()):
            TypeAdapter(dict[str, GpuCard]).validate_python(safe_yaml.load(block.text, safe_yaml.CoreLoader))
            continue
        whole = values if values.keys() <= schema["properties"].keys() else {"datasets": values}
        assert [*unknown_keys(whole, schema, schema["$defs"])] == []


def test_unknown_keys_are_found() -> None:
    schema = Study.model_json_schema()
    values = {"grid": {"sauce": 1}, "attack": {"balls": [{"norm": "l2"}]}, "contrast": 1, "datasets": {"x": {"y": 1}}}
    found = [*unknown_keys(values, schema, schema["$defs"])]
    assert found == [".grid.sauce", ".attack.balls.norm", ".contrast", ".datasets.x.y"]


STUDIES = [block for block in of("yaml") if block.text.startswith("name:")]


@numbered(STUDIES)
def test_whole_studies_are_valid(block: Block) -> None:
    assert parse_study(block.text, "study.yaml").grid is not None


def test_there_are_whole_studies() -> None:
    assert {block.page for block in STUDIES} >= {"README.md", "docs/tutorial/first-sweep.md"}


def test_the_first_sweep_is_the_same_everywhere() -> None:
    named = [parse_study(block.text, "study.yaml") for block in STUDIES if block.text.startswith("name: first\n")]
    first = {study.digest for study in named if study.grid is not None and study.grid.blocks == (3,)}
    assert len(first) == 1


_QUERY = re.compile(r"deltasweep query \"([^\"]+)\"")
QUERIES = [block for block in of("sql") if "query-cookbook" not in block.page] + [
    Block(name(page), "sql", sql)
    for page in PAGES
    for sql in _QUERY.findall(page.read_text(encoding="utf-8"))
    if "..." not in sql
]


@numbered(QUERIES)
def test_queries_run(block: Block) -> None:
    assert analysis.query(str(RELEASES / "0.2.0"), block.text).num_columns > 0


TEXTS = pytest.mark.parametrize(
    "page", [*PAGES, *sorted((ROOT / "examples").glob("*.ipynb"))], ids=lambda page: page.name
)
_AVERAGE = re.compile(
    r"SELECT ((?:(?!SELECT)[^;`])*?)\bavg\((?:best|test_accuracy|train_accuracy)\b([^;`]*?GROUP BY[^\n]*)"
)


def mixing(text: str) -> list[set[str]]:
    """The columns over which queries in a text average accuracies, but must not."""
    found = []
    for selected, rest in _AVERAGE.findall(text):
        kept = {*re.findall(r"\w+", selected), *re.findall(r"(\w+) = (?:\d+\b|'\w+')", rest)}
        found.append(set(NEVER_AVERAGED) - kept)
    return [missing for missing in found if missing]


@TEXTS
def test_no_query_averages_what_is_never_averaged(page: Path) -> None:
    assert mixing(page.read_text(encoding="utf-8")) == []


def test_averages_of_other_settings_are_found() -> None:
    assert mixing('"SELECT source,\n recipe, avg(test_accuracy) FROM trials GROUP BY ALL"') == [
        {"blocks", "epochs", "numerics"}
    ]
    every = "SELECT source, recipe, numerics, epochs{}, avg(test_accuracy) AS a FROM trials {} GROUP BY ALL"
    assert mixing(every.format(", blocks", "")) == mixing(every.format("", "WHERE blocks = 3")) == []
    assert mixing(every.format("", "WHERE epoch = epochs")) == [{"blocks"}]


def unequal_nulls(sql: str) -> set[str]:
    """The columns that may be null and by which a query joins as if null equalled null."""
    joined = ",".join(re.findall(r"USING \(([^)]*)\)", sql))
    compared = [left for left, right in re.findall(r"\w+\.(\w+) = \w+\.(\w+)", sql) if left == right]
    nullable = {field.name for field in schema("finetune") if field.nullable}
    return nullable & {*re.findall(r"\w+", joined), *compared}


@TEXTS
def test_no_query_joins_by_what_may_be_null(page: Path) -> None:
    assert unequal_nulls(page.read_text(encoding="utf-8")) == set()


def test_joins_by_what_may_be_null_are_found() -> None:
    assert unequal_nulls("JOIN trials AS b USING (seed, numerics)") == {"numerics"}
    assert unequal_nulls("ON a.numerics = b.numerics AND a.seed = b.seed") == {"numerics"}


@numbered(of("python"))
def test_python_compiles_and_names_what_exists(block: Block) -> None:
    if block.page == "docs/reference/python.md":
        return  # signatures, which are no Python; its own test compares them
    packages = {"analysis": analysis, "ds": deltasweep}
    used = {
        (node.value.id, node.attr)
        for node in ast.walk(ast.parse(block.text))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in packages
    }
    assert [word for word in used if not hasattr(packages[word[0]], word[1])] == []


@numbered(of("json"))
def test_json_is_json(block: Block) -> None:
    json.loads(block.text)


@numbered(of("toml"))
def test_toml_is_toml(block: Block) -> None:
    tomllib.loads(block.text)


def test_the_images_of_the_tutorial_have_the_card_that_it_shows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = "docs/tutorial/own-images.md"
    (script,) = of("python", page)
    card, study = of("yaml", page)
    deltasweep = Command(tmp_path, capsys, monkeypatch)
    monkeypatch.chdir(tmp_path)
    exec(script.text, {})  # the page's own words
    described = yaml.safe_load(deltasweep("data", "describe", "shapes").out)
    described["datasets"]["shapes"]["folder"] = "/home/you/shapes"
    assert described == yaml.safe_load(card.text)
    assert yaml.safe_load(study.text)["datasets"] == described["datasets"]
