"""Values that are computed once for all threads that ask for them."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class Once(Generic[T]):
    """Values by key: the first thread that asks computes one, the others wait for it. No lock is held meanwhile.

    The values that were asked for longest ago are forgotten.
    """

    def __init__(self, most: int, size: Callable[[T], int] = lambda _: 1) -> None:
        """
        Args:
            most: the largest sum of sizes that is kept, unless a single value is larger.
            size: of a value; by default values are counted.
        """
        self._most = most
        self._size = size
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, tuple[Future[T], int]] = OrderedDict()

    def get(self, key: Hashable, compute: Callable[[], T]) -> T:
        """Return the value; what ``compute`` raises is raised in all threads that wait for it, and not kept."""
        own: Future[T] = Future()
        with self._lock:
            future, _ = self._kept.setdefault(key, (own, 0))
            self._kept.move_to_end(key)
        if future is own:
            try:
                own.set_result(compute())
            except BaseException as error:
                self._forget(key, own)
                own.set_exception(error)
                raise
            self._weigh(key, own)
        return future.result()

    def forget(self, key: Hashable, value: T) -> None:
        """Let the next thread that asks compute the value, if this one is kept."""
        with self._lock:
            future, _ = self._kept.get(key, (None, 0))
        if future is not None and future.done() and future.exception() is None and future.result() is value:
            self._forget(key, future)

    def _forget(self, key: Hashable, future: "Future[T]") -> None:
        with self._lock:
            if key in self._kept and self._kept[key][0] is future:
                del self._kept[key]

    def _weigh(self, key: Hashable, future: "Future[T]") -> None:
        size = self._size(future.result())
        with self._lock:
            if key in self._kept and self._kept[key][0] is future:
                self._kept[key] = future, size
            total = sum(size for _, size in self._kept.values())
            while total > self._most and len(self._kept) > 1:
                _, (_, dropped) = self._kept.popitem(last=False)
                total -= dropped
