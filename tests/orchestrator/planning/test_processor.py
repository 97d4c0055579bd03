"""What plans say of a processor that has no units for the precision of trials."""

from pathlib import Path

import pytest

from jobs.catalog.catalog import PACKAGED
from jobs.kinds.shape_bias.spec import ShapeBiasSpec
from jobs.specs.optimizers import Execution, Precision
from jobs.specs.trial import TrialSpec
from orchestrator.planning import processor
from orchestrator.planning.processor import without_units
from tests.jobs.support import finetune_spec


def trial(precision: Precision) -> TrialSpec:
    return finetune_spec({"precision": precision})


def examined(precision: Precision) -> TrialSpec:
    recipe = Execution(precision=precision)
    return ShapeBiasSpec(network="fmnist_natural", dataset="fmnist_conflict", seed=7, recipe=recipe)


@pytest.mark.parametrize(
    ("specs", "known", "expected"),
    [
        ([trial("float32")], {"avx2"}, []),
        ([trial("bfloat16")], {"avx512_bf16"}, []),
        ([trial("bfloat16")], {"avx2"}, ["no units for bfloat16"]),
        ([trial("float16"), trial("bfloat16")] * 2, {"avx2"}, ["no units for bfloat16", "no units for float16"]),
        ([trial("float16")], {"avx512_fp16"}, ["(avx512_fp16) do not compute the gradients"]),
        ([examined("float16")], {"avx512_fp16"}, []),
        ([examined("float16"), trial("float16")], {"avx512_fp16"}, ["(avx512_fp16) do not compute the gradients"]),
        ([trial("float16")], {"avx512_fp16", "amx_fp16"}, []),
        ([trial("float16")], set(), []),  # nothing is known
    ],
)
def test_what_is_said(
    specs: list[TrialSpec], known: set[str], expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "features", lambda: frozenset(known))
    said = without_units(specs, PACKAGED)
    assert len(said) == len(expected)
    assert all(words in sentence for words, sentence in zip(expected, said, strict=True))


def test_the_numbers_are_those_of_the_table_in_the_docs() -> None:
    page = (Path(__file__).parents[3] / "docs" / "how-to" / "precision.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in page.splitlines() if row.startswith("| ")]
    emulated = {form: row[1] for form in ("bfloat16", "float16") for row in rows if f"`{form}`" in row[0]}
    said = list(processor._sentences(dict.fromkeys(("bfloat16", "float16"), True), frozenset({"avx2"})))
    assert [f" {times} times " in line for times, line in zip(emulated.values(), said, strict=True)] == [True, True]
