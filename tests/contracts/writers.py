"""Code that another process runs; it is spawned, so this module imports little."""

from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier

from jobs.results import open_store


def create_in_another_process(root: str, key: str, writer: int, start: Barrier, won: SimpleQueue[int]) -> None:
    store = open_store(root)
    start.wait()
    if store.create(key, f"writer {writer}".encode() * 1000):
        won.put(writer)
