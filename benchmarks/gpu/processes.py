"""New processes that compute at once on the device. None of them outlives the call that started it."""

import multiprocessing
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

_END_SECONDS = 10.0
"""How long a process may take to exit, after its result or after it was killed."""

FoundT = TypeVar("FoundT")


def at_once(work: Callable[..., FoundT], arguments: Sequence[tuple[Any, ...]], seconds: float) -> list[FoundT]:
    """Call a function in a new process for each of its arguments, and return the results, in their order.

    Args:
        seconds: how long all of them may take.

    Raises:
        RuntimeError: at the first process that fails; the others, which may wait for it, are killed.
        TimeoutError: if they take longer.
    """
    context, until = multiprocessing.get_context("spawn"), time.monotonic() + seconds
    processes: dict[Connection, BaseProcess] = {}
    found: dict[Connection, FoundT] = {}
    try:
        for given in arguments:
            receiving, sending = context.Pipe(duplex=False)
            processes[receiving] = context.Process(target=_answer, args=(sending, work, given), daemon=True)
            processes[receiving].start()
            sending.close()
        while len(found) < len(processes):
            ready = wait(processes.keys() - found.keys(), timeout=max(0.0, until - time.monotonic()))
            if not ready:
                raise TimeoutError(f"expected {len(processes)} processes to end within {seconds:.0f} s; they did not")
            found |= {
                receiving: _received(receiving, processes[receiving]) for receiving in processes if receiving in ready
            }
        for process in processes.values():
            process.join(_END_SECONDS)
        return [found[receiving] for receiving in processes]
    finally:
        for receiving, process in processes.items():
            if process.pid is not None:
                process.kill()
                process.join(_END_SECONDS)
            receiving.close()


def _answer(sending: Connection, work: Callable[..., object], given: tuple[Any, ...]) -> None:
    """Send the result of a call, or the text of its error, to the process that started this one."""
    try:
        answer = work(*given), ""
    except Exception as error:  # noqa: BLE001  # it is raised in the other process
        answer = None, f"{type(error).__name__}: {error}"
    sending.send(answer)


def _received(receiving: Connection, process: BaseProcess) -> Any:
    try:
        result, problem = receiving.recv()
    except EOFError:
        process.join(_END_SECONDS)
        raise RuntimeError(f"a process ended with exit status {process.exitcode}, without a result") from None
    if problem:
        raise RuntimeError(problem)
    return result
