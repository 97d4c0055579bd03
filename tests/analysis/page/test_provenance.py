"""Where numbers come from: rows of fine-tuning, and of trials that examined networks."""

from pathlib import Path

import pyarrow as pa
import pytest

import analysis
from analysis.evaluations.recipes import recipe_choices
from analysis.page.sections.provenance import examined, provenance
from jobs.results import LocalStore, commit, schema
from tests.analysis.support import Build

_NOTHING = {"string": "x", "int64": 1, "double": 1.0, "list<element: int64>": [1], "list<element: double>": [1.0]}


def look(root: Path, kind: str, name: str, rows: int = 1, **columns: object) -> None:
    """Commit one finished trial of a kind that examines networks, with several rows."""
    plain = {field.name: _NOTHING[str(field.type).replace("item", "element")] for field in schema(kind)}
    number = {"attack": "epsilon", "influence": "test_image"}[kind]
    shared = {**plain, "trial_id": f"{kind}-{name}-0123456789abcdef", "packages": '{"torch": "2.10"}', **columns}
    shared["recipe_json"] = '{"threads": 1}'
    commit(LocalStore(root), kind, [{**shared, number: row} for row in range(rows)])


def test_each_trial_counts_once_whatever_its_rows(build: Build) -> None:
    root = build.root([])
    look(root, "attack", "a", source="natural", finetuned=None, network_sha256="a" * 64, host="one")
    look(root, "attack", "b", source="natural", finetuned="finetune-1", network_sha256="b" * 64, host="two")
    for name in ("c", "e"):
        network = {"source": "l2", "finetuned": f"finetune-{name}"}
        look(root, "influence", name, rows=3, dataset="digits", dataset_sha256="d" * 64, **network)
    found = provenance(None, examined(LocalStore(root)))
    attack = [row[1:] for row in found if row[0] == "attack"]
    assert ("host", "one", "1") in attack
    assert ("host", "two", "1") in attack
    assert ("source, sha256", f"natural {'a' * 16}", "1") in attack
    assert ("fine-tuned from source", "natural", "1") in attack
    assert ("packages", "torch 2.10", "2") in attack
    influence = [row[1:] for row in found if row[0] == "influence"]
    assert ("dataset, sha256", f"digits {'d' * 16}", "2") in influence
    assert ("fine-tuned from source", "l2", "2") in influence
    assert ("recipe", "x: threads 1", "2") in influence
    assert not [row for row in influence if row[0] == "source, sha256"]


@pytest.mark.usefixtures("no_figure_files")
def test_trials_of_several_kinds_of_device_are_counted_and_named(build: Build) -> None:
    mixed = {"device_kind": "A <b> -> B", "packages": '{"torch": "2.10"} -> {"torch": "2.11"}'}
    root = build.root([build.trial("natural", 0, 50.0, **mixed), build.trial("l2", 0, 50.0)])
    page = analysis.report(root).read_text()
    assert "1 trial ran on several kinds of device" in page
    assert "<td>A &lt;b&gt; -&gt; B</td>" in page
    assert "<td>torch 2.10 -&gt; torch 2.11</td>" in page


@pytest.mark.usefixtures("no_figure_files")
def test_without_any_nothing_is_said_of_them(build: Build) -> None:
    assert "several kinds of device" not in analysis.report(build.root([build.trial("natural", 0, 50.0)])).read_text()


def test_fine_tuning_says_where_it_comes_from_as_before(build: Build) -> None:
    rows = build.trial("natural", 0, 50.0, host="here", weights_sha256="c" * 64)
    found = provenance(build.table([rows]), {})
    assert ("finetune", "host", "here", "1") in found
    assert ("finetune", "source, sha256", f"natural {'c' * 16}", "1") in found
    assert {row[0] for row in found} == {"finetune"}


@pytest.mark.usefixtures("no_figure_files")
def test_the_page_has_them_without_any_fine_tuning(build: Build) -> None:
    root = build.root([])
    assert 'id="provenance"' not in analysis.report(root).read_text()
    look(root, "attack", "a", finetuned=None, constraint="none", host="the host of the attack")
    assert "<td>the host of the attack</td>" in analysis.report(root).read_text()


def test_json_that_is_nested_too_deeply_is_text(build: Build) -> None:
    """Such JSON may come from untrusted results; the recipe's name is then its digest."""
    deep = '{"a":' * 100_000
    table = pa.Table.from_pylist([{**build.trial("natural", 0, 50.0)[0], "recipe_json": deep, "packages": deep}])
    assert ("finetune", "packages", deep, "1") in provenance(table, {})
    assert recipe_choices(table) == {}
