"""Change any cell of any column of any kind: ``verify`` reports it, or this file states why it cannot be detected."""

import math
import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from jobs.errors import Code, DamagedFile
from jobs.kinds.finetune.spec import FinetuneSpec
from jobs.results import LocalStore, Problem, kinds
from jobs.results.layout import trial_id_of, trials_prefix
from jobs.results.parquet import decode_trial, encode, signed
from jobs.results.problems import DamagedResult
from jobs.results.schema import ROWS_KEY, columns, numbering, varying
from jobs.verification.contradictions import contradictions, spec_of
from jobs.verification.verify import verify
from tests.support import refused

ROOT = Path(__file__).parents[1] / "roots" / "0.2.0"

_MEASURED = "differs from run to run"
_DATA = "follows from images or weights, which verify does not read; pins are compared with it"
_NUMBER = "any number may be right that its rule allows: bounds and shares of whole images are checked"
_CARD = "follows from the source's card, which a root need not have"
NOT_CHECKED: dict[str, str] = {
    **dict.fromkeys(
        ("seconds", "device_kind", "host", "attempt", "launch", "finished_at", "code_version", "packages"), _MEASURED
    ),
    **dict.fromkeys(
        (
            *("weights_sha256", "dataset_sha256", "subset_sha256", "network_sha256", "trained_sha256"),
            *("images_used", "test_images", "test_images_used", "network_labels", "image_size"),
        ),
        _DATA,
    ),
    **dict.fromkeys(
        (
            *("test_accuracy", "test_loss", "train_accuracy", "train_loss", "adversarial_accuracy"),
            *("accuracy", "robust_accuracy", "loss", "test_label", "predicted_label", "matrix_norm", "cells"),
            *("cell_labels", "train_images", "train_labels", "values", "shape", "texture", "decision"),
            *("activation_before", "activation_after", "distance", "image"),
        ),
        _NUMBER,
    ),
    **dict.fromkeys(("constraint", "epsilon", "source_constraint", "source_epsilon"), _CARD),
    "test_image": "of visualized images, which of them were drawn; elsewhere it is 0, 1, 2, ...",
}
"""Columns not checked in files from before 0.3.0, which have no digest of their rows.

Identity columns are checked in all files.
"""


def few(kind: str, table: pa.Table) -> pa.Table:
    """For kinds with a row per test image, return only as many rows as fewer images would give."""
    return table.slice(0, 12) if kind in ("influence", "shape_bias") else table


class CachedActivations:
    """The results of a release, with the specs needed to check each."""

    def __init__(self) -> None:
        store = LocalStore(ROOT)
        self.tables: dict[str, list[tuple[str, pa.Table]]] = {
            kind: [
                (trial_id_of(key), few(kind, decode_trial(store.read(key), kind, trial_id_of(key), key).table))
                for key in sorted(store.keys(trials_prefix(kind)))
                if not trial_id_of(key).startswith("imported")
            ]
            for kind in kinds()
        }
        self.tuned: dict[str, FinetuneSpec] = {}
        for trial, table in self.tables["finetune"]:
            spec = spec_of("finetune", table.to_pylist()[0], {})
            assert isinstance(spec, FinetuneSpec)
            self.tuned[trial] = spec


@pytest.fixture(scope="module")
def kept() -> CachedActivations:
    return CachedActivations()


def others(value: Any, kind: pa.DataType) -> Iterator[Any]:
    """Yield other values of a column's type: near ones, and ones that are never written."""
    if pa.types.is_string(kind):
        yield from ("", "other", f"{value or ''}x", "fmnist_l2_eps1", "none", "{}", "1999-01-01T00:00:00+00:00")
    elif pa.types.is_int64(kind):
        yield from (-7, -1, 0, 1, 2, 3, 10**9, 2**63 - 1, (value or 0) + 1, (value or 0) - 1)
    elif pa.types.is_float64(kind):
        yield from (-1.0, 0.0, 0.5, 12.5, 101.0, math.nan, math.inf, -math.inf, math.nextafter(value or 0.0, 1e9))
    elif pa.types.is_binary(kind):
        yield from (b"", value[:-1], bytes([value[0] ^ 1]) + value[1:])
    else:
        yield from ([], (value or [])[:-1], [*(value or []), *(value or [1])], [*(value or [])[:-1], -1])


def changed(table: pa.Table, name: str, everywhere: bool) -> Iterator[pa.Table]:
    """Yield the table with another value in one cell, or in all cells of a column."""
    field, values = table.schema.field(name), table[name].to_pylist()
    for other in (*others(values[0], field.type), *([None] if field.nullable else [])):
        if other == values[0] or (other != other and values[0] != values[0]):
            continue
        cells = [other] * len(values) if everywhere else [other, *values[1:]]
        yield table.set_column(table.column_names.index(name), field, pa.array(cells, field.type))


def unnoticed(kept: CachedActivations, kind: str, name: str, everywhere: bool) -> list[object]:
    return [
        table[name].to_pylist()[0]
        for trial, original in kept.tables[kind]
        for table in changed(original, name, everywhere)
        if name != "trial_id" and not any(contradictions(kind, trial, table, kept.tuned))
    ]


def test_what_releases_wrote_contradicts_nothing(kept: CachedActivations) -> None:
    for kind, tables in kept.tables.items():
        assert tables, kind
        for trial, table in tables:
            assert list(contradictions(kind, trial, table, kept.tuned)) == []


@pytest.mark.parametrize("kind", kinds())
def test_every_identity_column_is_checked_against_the_id(kind: str, kept: CachedActivations) -> None:
    """Tested with a change of one cell, and of all rows at once."""
    for column in columns(kind, 1 if kind != "influence" else 2):
        if column.role.value == "identity" and not (kind == "visualize" and column.name == "test_image"):
            for everywhere in (True, False):
                if everywhere and column.name == numbering(kind) != "epsilon":
                    continue  # all rows would have the same number
                assert unnoticed(kept, kind, column.name, everywhere) == [], (column.name, everywhere)


@pytest.mark.parametrize("kind", kinds())
def test_what_is_not_checked_is_known(kind: str, kept: CachedActivations) -> None:
    for column in columns(kind):
        if column.role.value != "identity":
            found = unnoticed(kept, kind, column.name, everywhere=True)
            assert not found or column.name in NOT_CHECKED, (column.name, found)
        if column.name not in varying(kind) and column.role.value != "identity":
            for trial, table in kept.tables[kind]:
                if len(table) > 1:
                    for other in changed(table, column.name, everywhere=False):
                        assert any(contradictions(kind, trial, other, kept.tuned)), column.name


@pytest.mark.parametrize("kind", kinds())
def test_every_cell_of_what_is_written_now_is_checked_by_whoever_reads_it(kind: str, kept: CachedActivations) -> None:
    trial, table = kept.tables[kind][0]
    whole = signed(table, kind)
    read = decode_trial(encode(whole), kind, trial, "sound")
    assert read.table.equals(table.sort_by(numbering(kind)))
    for column in columns(kind):
        for other in islice(changed(whole, column.name, everywhere=False), 2):
            data = encode(other.replace_schema_metadata(whole.schema.metadata))
            with pytest.raises(DamagedResult):
                decode_trial(data, kind, trial, "changed")
    assert ROWS_KEY.encode() in whole.schema.metadata


def test_rows_that_are_gone_or_too_many_are_noticed(kept: CachedActivations) -> None:
    for kind, tables in kept.tables.items():
        for trial, table in tables:
            if kind != "attack" and len(table) > 1:
                for fewer in (table.slice(1), table.slice(0, len(table) - 1)):
                    if kind not in ("influence", "shape_bias") or fewer[numbering(kind)][0].as_py() != 0:
                        assert any(contradictions(kind, trial, fewer, kept.tuned)), kind


@pytest.mark.parametrize("kind", kinds())
@pytest.mark.parametrize("name", ["seed", "finished_at"])
def test_verify_names_the_file_and_the_column(kind: str, name: str, kept: CachedActivations, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(ROOT, root, ignore=shutil.ignore_patterns("compact", "conflicts"))
    store = LocalStore(root)
    assert [finding for finding in verify(store) if not finding.problem.harmless] == []
    trial, table = kept.tables[kind][0]
    (key,) = (key for key in store.keys(trials_prefix(kind)) if trial_id_of(key) == trial)
    value: object = {"seed": 5, "finished_at": "2999-01-01T00:00:00+00:00"}[name]
    field = table.schema.field(name)
    table = decode_trial(store.read(key), kind, trial, key).table
    other = table.set_column(table.column_names.index(name), field, pa.array([value] * len(table), field.type))
    store.replace(key, encode(other))
    (finding,) = [finding for finding in verify(store) if finding.key == key and not finding.problem.harmless]
    assert finding.problem is Problem.IMPOSSIBLE
    assert f"{store.uri}/{key}" in finding.advice
    assert name in finding.advice or "trial_id" in finding.advice
    whole = signed(table, kind)
    store.replace(key, encode(other.replace_schema_metadata(whole.schema.metadata)))
    file = f"{store.uri}/{key}"
    with refused(Code.DAMAGED_RESULT, file, kind=DamagedFile, file=file):
        decode_trial(store.read(key), kind, trial, file)
