"""What tests of every part need."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import pytest

from jobs.errors import Code, DeltaSweepError
from jobs.specs import AnySpec, FinetuneSpec

T = TypeVar("T")


def present(value: T | None) -> T:
    """A value that has to be there."""
    assert value is not None
    return value


def finetune_specs(specs: Iterable[AnySpec]) -> list[FinetuneSpec]:
    """The trials, all of which fine-tune."""
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
    """What is inside ends with an expected error of this code, about this place.

    Words of messages may get better; what a person must find in them are ``values``: names, numbers, paths, commands.

    Args:
        file, line, key: of the place; what is left out is not looked at.
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
