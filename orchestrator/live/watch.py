"""One thread that looks at the results root for all viewers, as often as its share of a processor allows."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple

from analysis.paired.names import sources_of
from jobs.errors import DeltaSweepError, RootGone
from jobs.results import LocalStore, Store, StudyRecord, open_store
from jobs.results.root_record import is_begun
from orchestrator.live.contents import Contents
from orchestrator.live.objects import Objects
from orchestrator.live.progress import Work, work_of
from orchestrator.live.reading import Reader
from orchestrator.live.studies import Planned, Recorded, planned
from orchestrator.planning.gpus import Gpu

SHARE = 0.012
"""Of one core, for looking at the root and updating all viewers: 0.7 s a minute."""
_SOONEST, _SOONEST_IN_BUCKETS = 2.0, 15.0
"""Least seconds between two looks. Listings of buckets cost money: one request for each 1,000 objects."""
_LATEST = 120.0
"""Most seconds between two looks while somebody watches."""
_FRESH = 10.0
"""A page that is opened shows what was seen at most so many seconds ago, if the root answers."""
_PATIENCE = 20.0
"""Seconds that a request waits for a look before it shows what is known."""


class Moment(NamedTuple):
    """What was seen at the last look."""

    number: int
    """Of the look, from 1; 0: there was none."""
    stamp: tuple[int, ...]
    """Differs whenever anything that is shown may differ."""
    contents: Contents | None
    """None: the root could not be read yet."""
    trouble: str
    """Why the last look failed; empty if it did not. The contents are then older."""


class Watch:
    """Looks at a root while anybody watches, or when a page is asked for; tells all viewers at once."""

    def __init__(self, store: Store, gpu: Gpu) -> None:
        """
        Args:
            gpu: the GPU whose rates and price the plan assumes.
        """
        self.store = store
        self.gpu = gpu
        self.closed = False
        self.objects = Objects(store)
        self._reader = Reader(store)
        self._soonest = _SOONEST if isinstance(store, LocalStore) else _SOONEST_IN_BUCKETS
        self._moment = Moment(0, (), None, "")
        self._changed = threading.Condition()
        self._asked = False
        self._viewers: dict[object, Callable[[], object]] = {}
        self._at_look = self._elsewhere = 0.0
        """Processor seconds of this process when the last look began, and those spent since then on other things than
        updates: pages that were opened, and plans."""
        self._looked = 0.0
        self._left_at = time.monotonic()
        """When a page was opened last, or the last viewer left."""
        self._plans: dict[tuple[str, str], Planned | str] = {}
        self._works: dict[tuple[str, str], Work | None] = {}
        self._sources: dict[tuple[str, str], frozenset[str]] = {}
        self._planning = threading.Lock()
        self._later = ThreadPoolExecutor(1, thread_name_prefix="plan")
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        """Look for the first time, then go on in a thread.

        Raises:
            DeltaSweepError: if the root cannot be read.
        """
        self._moment = self._look(self._reader.look())
        self._looked, self._at_look = time.monotonic(), time.process_time()
        self._thread.start()

    def close(self) -> None:
        """End the thread, and all streams of updates."""
        with self._changed:
            self.closed = True
            self._changed.notify_all()
            for wake in self._viewers.values():
                wake()
        self._later.shutdown(wait=False, cancel_futures=True)

    @property
    def moment(self) -> Moment:
        return self._moment

    @property
    def watched_at(self) -> float:
        """When somebody watched last, by ``time.monotonic``."""
        with self._changed:
            return time.monotonic() if self._viewers else self._left_at

    def fresh(self) -> Moment:
        """Return what is known, after a look at the root unless the last one was a moment ago."""
        with self._changed:
            self._left_at = time.monotonic()
            young = time.monotonic() - self._looked < max(self._soonest, _FRESH)
            if self.closed or (young and self._viewers):
                return self._moment
            before = self._moment.number
            self._asked = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._moment.number > before or self.closed, _PATIENCE)
            return self._moment

    @contextmanager
    def elsewhere(self) -> Iterator[None]:
        """Do not count the processor time of this thread as that of an update."""
        begun = time.thread_time()
        try:
            yield
        finally:
            with self._changed:
                self._elsewhere += time.thread_time() - begun

    @contextmanager
    def viewer(self) -> Iterator[asyncio.Event]:
        """Provide an event that is set after each look, and when the watch is closed. Called in an event loop."""
        loop, news = asyncio.get_running_loop(), asyncio.Event()
        with self._changed:
            self._viewers[news] = lambda: loop.call_soon_threadsafe(news.set)
            self._changed.notify_all()
        try:
            yield news
        finally:
            with self._changed:
                del self._viewers[news]
                self._left_at = time.monotonic()

    def plan(self, record: Recorded) -> Planned | str:
        """Return a study's trials, or why they are unknown."""
        key = record.name, record.digest
        with self._planning:
            if key not in self._plans:
                self._plans[key] = planned(record, self.store.uri)
            return self._plans[key]

    def sources(self, record: StudyRecord) -> frozenset[str]:
        """Return the sources that a study names."""
        key = record.name, record.digest
        with self._planning:
            if key not in self._sources:
                self._sources[key] = sources_of(record)
            return self._sources[key]

    def work(self, record: Recorded) -> Work | None:
        """Return the planned work of a study; None while it is being computed, in the background."""
        key, plan = (record.name, record.digest), self.plan(record)
        with self._planning:
            if key not in self._works and isinstance(plan, Planned) and not self.closed:
                self._works[key] = None
                self._later.submit(self._compute, key, plan)
            return self._works.get(key)

    def _compute(self, key: tuple[str, str], plan: Planned) -> None:
        with self.elsewhere():
            work = work_of(plan, self.gpu)
        with self._planning:
            self._works[key] = work
        with self._changed:
            self._moment = self._moment._replace(stamp=(*self._moment.stamp[:-1], self._moment.stamp[-1] + 1))
            self._tell()

    def _run(self) -> None:
        while self._wait():
            with self._changed:
                self._looked, self._at_look, self._elsewhere = time.monotonic(), time.process_time(), 0.0
            try:
                moment = self._look(self._contents())
            except DeltaSweepError as error:
                moment = self._failed(str(error))
            except Exception as error:  # noqa: BLE001  # the page must say so, and go on with the next look
                moment = self._failed(f"{type(error).__name__}: {error}")
            with self._changed:
                self._moment = moment
                self._asked = False
                self._tell()

    def _wait(self) -> bool:
        """Wait until it is time for the next look; return whether there is one."""
        with self._changed:
            while not self.closed:
                spent = time.process_time() - self._at_look - self._elsewhere
                pause = min(max(self._soonest, spent / SHARE), _LATEST)
                left = self._looked + pause - time.monotonic()
                behind = self._moment.contents is not None and self._moment.contents.unread > 0
                if self._asked or (self._viewers and (left <= 0 or (behind and not self._moment.trouble))):
                    return True
                self._changed.wait(min(left, 1.0) if self._viewers and left > 0 else None)
            return False

    def _contents(self) -> Contents:
        """Read what is new. A root that was removed is read anew once another one has been begun in its place.

        Raises:
            DeltaSweepError: if it cannot be read.
        """
        try:
            return self._reader.look()
        except RootGone:
            store = open_store(self.store.uri)
            if not is_begun(store):
                raise
            reader = Reader(store)
            contents = reader.look()
            self.store, self.objects, self._reader = store, Objects(store), reader
            return contents

    def _look(self, contents: Contents) -> Moment:
        before = self._moment
        later = before.stamp[-1] if before.stamp else 0
        if before.contents is None or before.trouble or contents.shown != before.contents.shown:
            later += 1
        minute = int(contents.at.timestamp() // 60)
        return Moment(before.number + 1, (minute, later), contents, "")

    def _failed(self, trouble: str) -> Moment:
        before = self._moment
        stamp = before.stamp if before.trouble == trouble else (*before.stamp[:-1], (before.stamp or (0,))[-1] + 1)
        return before._replace(number=before.number + 1, stamp=stamp, trouble=trouble)

    def _tell(self) -> None:
        self._changed.notify_all()
        for wake in self._viewers.values():
            wake()
