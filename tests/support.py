"""What tests of every part need."""

from collections.abc import Iterable
from typing import TypeVar

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
