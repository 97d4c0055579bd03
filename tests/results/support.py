"""Stores that tests create, break and inspect; invented results."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pyarrow as pa

from jobs.kinds.finetune.spec import FinetuneSpec
from jobs.results import Failure, FailureKind, Launch, Store
from jobs.results.object_store import Patience
from jobs.results.store import is_hidden
from jobs.specs.canonical import canonical_json
from jobs.specs.trial import recipe_digest
from tests.results.rows import result_rows

IMPATIENT = Patience(request_seconds=1.0, retries=4, total_seconds=10.0, first_pause=0.01, longest_pause=0.05)
KIND = "finetune"
FAILURE = Failure("x-1", 1, FailureKind.ERROR, "ValueError", "no", "here", "launch", "2026-01-01T00:00:00+00:00")
LAUNCH = Launch("l", "study", "d", "ada", "here", FAILURE.failed_at, "0", {"torch": "2"}, FAILURE.failed_at, ("x-1",))


def trial(number: int) -> str:
    """Return the id of a trial that never ran."""
    return spec(number).trial_id


def spec(number: int) -> FinetuneSpec:
    """Return a spec of two epochs on 20 digits; ``number`` is its seed."""
    values = {"source": "fmnist_l2_eps1", "dataset": "digits", "blocks": 3, "images": 20, "epochs": 2}
    return FinetuneSpec.model_validate({**values, "seed": number, "evaluate_every": 1, "recipe": {}})


def rows(number: int, **changes: object) -> list[dict[str, object]]:
    """Return the trial's rows, with invented numbers."""
    recipe = spec(number).recipe
    identity = {"recipe": recipe_digest(recipe), "recipe_json": canonical_json(recipe.model_dump(mode="json"))}
    return result_rows(trial(number), **{"seed": number, **identity, **changes})


def held(table: pa.Table) -> Counter[tuple[int, int]]:
    """Count how often each (number of a trial, epoch) is in a table."""
    return Counter(zip(table["seed"].to_pylist(), table["epoch"].to_pylist(), strict=True))


def once(numbers: set[int]) -> Counter[tuple[int, int]]:
    """Return the value of ``held`` for a table with each of these trials once."""
    return Counter((number, epoch) for number in numbers for epoch in (1, 2))


class MemoryStore(Store):
    """The simplest implementation of the store's contract."""

    uri = "memory"

    def __init__(self) -> None:
        self._objects: dict[str, bytes] = {}
        self._written: dict[str, datetime] = {}
        self._lock = threading.Lock()

    def create(self, key: str, data: bytes) -> bool:
        return self.swap(key, None, data)

    def replace(self, key: str, data: bytes, *, durable: bool = True) -> None:
        self.require_held()
        with self._lock:
            self._objects[key], self._written[key] = data, datetime.now(UTC)

    def swap(self, key: str, expected: bytes | None, data: bytes) -> bool:
        self.require_held()
        with self._lock:
            if self._objects.get(key) != expected:
                return False
            self._objects[key], self._written[key] = data, datetime.now(UTC)
            return True

    def read(self, key: str) -> bytes:
        try:
            return self._objects[key]
        except KeyError as error:
            raise FileNotFoundError(key) from error

    def written_at(self, key: str) -> datetime:
        self.read(key)
        return self._written[key]

    def keys(self, prefix: str) -> Iterator[str]:
        below = [key for key in list(self._objects) if not prefix or key.startswith(f"{prefix}/")]
        yield from (key for key in below if not is_hidden(key))

    def delete(self, key: str) -> None:
        self.require_held()
        self._objects.pop(key, None)


class Killed(BaseException):
    """The process ends here; no code may catch this."""


class DyingStore(Store):
    """Wraps a store and is killed right before or after operation number ``at`` (from 0)."""

    def __init__(self, inner: Store, at: int, after: bool) -> None:
        self._inner, self._at, self._after = inner, at, after
        self._count = -1
        self.uri = inner.uri

    def create(self, key: str, data: bytes) -> bool:
        with self._operation():
            return self._inner.create(key, data)

    def replace(self, key: str, data: bytes, *, durable: bool = True) -> None:
        with self._operation():
            self._inner.replace(key, data, durable=durable)

    def swap(self, key: str, expected: bytes | None, data: bytes) -> bool:
        with self._operation():
            return self._inner.swap(key, expected, data)

    def read(self, key: str) -> bytes:
        with self._operation():
            return self._inner.read(key)

    def written_at(self, key: str) -> datetime:
        with self._operation():
            return self._inner.written_at(key)

    def keys(self, prefix: str) -> Iterator[str]:
        with self._operation():
            found = list(self._inner.keys(prefix))
        return iter(found)

    def delete(self, key: str) -> None:
        with self._operation():
            self._inner.delete(key)

    def stale(self, age: timedelta) -> list[str]:
        with self._operation():
            return self._inner.stale(age)

    def _operation(self) -> "_Operation":
        self._count += 1
        self._before_each()
        mine = self._count == self._at
        return _Operation(before=mine and not self._after, after=mine and self._after)

    def _before_each(self) -> None:
        """Hook for subclasses that do something else before an operation."""


class InterruptedStore(DyingStore):
    """Wraps a store and makes something else happen before one of its operations."""

    def __init__(self, inner: Store, at: int, happens: Callable[[], None]) -> None:
        super().__init__(inner, at=-1, after=False)
        self._when, self._happens = at, happens

    def _before_each(self) -> None:
        if self._count == self._when:
            self._happens()


class _Operation:
    def __init__(self, before: bool, after: bool) -> None:
        self._before, self._after = before, after

    def __enter__(self) -> None:
        if self._before:
            raise Killed

    def __exit__(self, *_: object) -> None:
        if self._after:
            raise Killed
