"""A kind's record that the rest of the program could not work with is refused."""

from dataclasses import replace

import pytest

from jobs.kind import GRID_KIND, kinds
from jobs.kinds.finetune.spec import FinetuneSpec
from jobs.kinds.shape_bias.kind import KIND
from jobs.kinds.shape_bias.spec import ShapeBiasSpec
from jobs.specs.columns import EVERY_KIND


@pytest.mark.parametrize("name", ["Shape", "top5", "a-b", "a/b", "", "_a"])
def test_a_name_is_that_of_a_folder_and_a_key(name: str) -> None:
    spec = type("Named", (ShapeBiasSpec,), {"kind": name})
    with pytest.raises(ValueError, match=f"got {name!r}"):
        replace(KIND, spec=spec)


@pytest.mark.parametrize("name", [*EVERY_KIND, "host", "test_image"])
def test_rows_have_what_is_read_of_every_kind(name: str) -> None:
    columns = tuple(column for column in KIND.rows.columns if column.name != name)
    with pytest.raises(ValueError, match=f"missing: {name}$"):
        replace(KIND, rows=KIND.rows._replace(columns=columns))


def test_the_packaged_kinds_are_apart() -> None:
    """Kinds of other packages are compared with them on registration."""
    assert len({kind.rows.view for kind in kinds().values()}) == len(kinds())


def test_a_study_s_grid_declares_the_one_kind_without_a_section() -> None:
    assert [name for name, kind in kinds().items() if kind.section is None] == [GRID_KIND] == [FinetuneSpec.kind]
