"""Launching from one's own machine: a cluster's head runs the driver as a Ray job, and this process only listens.

Closing it changes nothing: the driver is the head's, and what it does stands in the results root.
"""

import asyncio
import logging
import shlex
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

from jobs.errors import Code, InvalidRequest
from jobs.files import read_file
from jobs.provenance import code_version
from orchestrator.reaching import no_dashboard, of_cluster, require_dashboard

STUDY_FILE = "study.yaml"
"""What a study file is called in the job's working directory."""
_STOP_SECONDS = 90
"""From ``ray job stop`` to the driver's end by force, where Ray waits 3 s: longer than running trials may take to leave
(``orchestrator.watch.STOP_GRACE_SECONDS``).
"""


class Ending(Enum):
    """How listening to a job ended."""

    FINISHED = "finished"
    DETACHED = "detached"
    LOST = "lost"


class Heard(NamedTuple):
    """What is known of a job when listening ends."""

    ending: Ending
    exit_code: int | None = None
    """Of the driver, when it finished."""
    message: str = ""
    """Ray's, where the driver has no exit code."""


class Submission(NamedTuple):
    """A job that a cluster has accepted."""

    address: str
    job: str

    def logs_command(self) -> str:
        return f"ray job logs --follow --address {self.address} {self.job}"

    def stop_command(self) -> str:
        return f"ray job stop --address {self.address} {self.job}"


def require_submittable(address: str | None, results: str) -> str:
    """Check what a submission is given, before anything is contacted; returns the address.

    Raises:
        InvalidRequest: when either does not fit.
    """
    if address is None or not address.startswith(("http://", "https://")):
        raise InvalidRequest(
            Code.MISSING_KEY if address is None else Code.WRONG_VALUE,
            f"--submit needs the address of a cluster's dashboard: --address http://127.0.0.1:8265 after "
            f"`ray dashboard cluster.yaml`; it is {address}",
            file=address or "",
            key="--address",
        )
    if "://" not in results and not Path(results).is_absolute():
        raise InvalidRequest(
            Code.WRONG_PLACE,
            "with --submit the results root lies where the cluster's machines find it: s3://, gs:// or the full path "
            f"of a directory that they all share; it is {results}",
            file=results,
            key="--results",
        )
    return address


def submit(address: str, verb: str, options: list[str], study_file: Path | None = None) -> Submission:
    """Have a cluster's head run ``deltasweep VERB OPTIONS``.

    Args:
        study_file: sent along; it is the command's first argument.

    Raises:
        InvalidRequest: when the cluster does not answer, refuses the token, or runs another Ray.
    """
    client = _client(address)
    with tempfile.TemporaryDirectory(prefix="deltasweep-submit-") as folder, _explained(address):
        runtime_env: dict[str, object] = {
            "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(_STOP_SECONDS), "RAY_USAGE_STATS_ENABLED": "0"}
        }
        arguments = [verb, *options]
        if study_file is not None:
            Path(folder, STUDY_FILE).write_bytes(read_file(study_file))
            runtime_env["working_dir"] = folder
            arguments.insert(1, STUDY_FILE)
        job = client.submit_job(
            entrypoint=shlex.join(["deltasweep", *arguments]),
            runtime_env=runtime_env,
            metadata={"deltasweep": code_version()},
        )
    return Submission(address, job)


def listen(submission: Submission, write: Callable[[str], object]) -> Heard:
    """Hand on what the driver prints until it ends, the user interrupts, or the connection is lost."""
    client = _client(submission.address)

    async def follow() -> None:
        async for text in client.tail_job_logs(submission.job):
            write(text)

    try:
        asyncio.run(follow())
    except KeyboardInterrupt:
        return Heard(Ending.DETACHED)
    except (OSError, RuntimeError) as error:
        return Heard(Ending.LOST, message=str(error))
    try:
        details = client.get_job_info(submission.job)
    except (OSError, RuntimeError) as error:
        return Heard(Ending.LOST, message=str(error))
    if not details.status.is_terminal():
        return Heard(Ending.LOST, message="the log ended before the job did")
    return Heard(Ending.FINISHED, details.driver_exit_code, details.message or "")


def _client(address: str) -> Any:
    import ray
    from ray.job_submission import JobSubmissionClient

    for chatter in ("ray.dashboard.modules.dashboard_sdk", "ray._private.runtime_env.packaging"):
        logging.getLogger(chatter).setLevel(logging.WARNING)
    require_dashboard(address)  # Ray's client would wait for an answer for ever
    with _explained(address):
        client = JobSubmissionClient(address)
        theirs = client._server_ray_version
    if theirs != ray.__version__:
        raise InvalidRequest(
            Code.VERSIONS_DIFFER,
            f"the cluster at {address} runs Ray {theirs}, this machine has {ray.__version__}; install the same "
            "DeltaSweep and Ray on both",
            file=address,
            key="--address",
        )
    return client


@contextmanager
def _explained(address: str) -> Iterator[None]:
    """Ray's errors about a cluster that is not there or lets nobody in, as ours."""
    import requests

    try:
        with of_cluster(address):
            yield
    except (OSError, RuntimeError, requests.RequestException) as error:
        raise no_dashboard(address, error) from error
