"""Helpers for all tests."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import pytest

from jobs.errors import Code, DeltaSweepError
from jobs.kinds.finetune.spec import FinetuneSpec
from jobs.specs.trial import TrialSpec

T = TypeVar("T")


def present(value: T | None) -> T:
    """Return a value that must not be None."""
    assert value is not None
    return value


def finetune_specs(specs: Iterable[TrialSpec]) -> list[FinetuneSpec]:
    """Return the trials, all of which must be fine-tuning trials."""
    found = []
    for spec in specs:
        assert isinstance(spec, FinetuneSpec)
        found.append(spec)
    return found


@contextmanager
def refused(
    code: Code,
    *values: object,
    kind: type[DeltaSweepError] = DeltaSweepError,
    file: object = None,
    line: int | None = None,
    key: str | None = None,
) -> Iterator[None]:
    """Require that the block ends with an expected error that has this code and place.

    The wording of messages may change; ``values`` are what they must contain: names, numbers, paths, commands.

    Args:
        file, line, key: The expected place; omitted parts are not checked.
    """
    with pytest.raises(kind) as caught:
        yield
    error = caught.value
    assert error.code is code, f"{error.code}: {error}"
    said = error.place
    expected = (
        said.file if file is None else str(file),
        said.line if line is None else line,
        said.key if key is None else key,
    )
    assert said == expected
    assert [value for value in values if str(value) not in str(error)] == [], str(error)
