"""Files of huggingface.co, through the hub's own library: its cache, its login, its mirror (``HF_ENDPOINT``)."""

import importlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jobs.errors import Code, MissingData
from jobs.system.download import writing
from jobs.system.telemetry import disable_telemetry

_SHA256 = re.compile("[0-9a-f]{64}")


class HubFile(NamedTuple):
    """A file in the hub's cache on this machine."""

    path: Path
    url: str
    """Its address at the hub, with the commit."""
    commit: str
    sha256: str | None
    """Its digest as announced by the hub; None if the cache does not record it."""


def get_from_hub(repository: str, names: Sequence[str], commit: str | None, wanted: str) -> HubFile:
    """Return a file of a repository; it is downloaded unless it is in the hub's cache.

    Args:
        repository: owner and name.
        names: names that the file may have; the first one that is there is taken.
        commit: commit of the repository; None: the newest one.
        wanted: what the user asked for, for messages.

    Raises:
        MissingData: if the hub does not provide it: no network, offline mode, unknown, private, gated.
        StorageFailure: if the cache cannot be written.
    """
    hub = _library(wanted)
    for name in names[:-1]:
        try:
            return _get(hub, repository, name, commit, wanted)
        except _NotThere:
            continue
    try:
        return _get(hub, repository, names[-1], commit, wanted)
    except _NotThere as error:
        tree = f"{hub.constants.ENDPOINT}/{repository}/tree/{commit or 'main'}"
        raise _refusal(wanted, f"{tree} has none of the files {', '.join(names)}", "choose other weights") from error


class _NotThere(Exception):
    """The repository does not have a file of that name."""


def _get(hub: Any, repository: str, name: str, commit: str | None, wanted: str) -> HubFile:
    errors, page = hub.errors, f"{hub.constants.ENDPOINT}/{repository}"
    try:
        with writing(Path(hub.constants.HF_HUB_CACHE)):
            try:
                path = Path(hub.hf_hub_download(repository, name, revision=commit))
            except errors.GatedRepoError as error:
                fix = "accept the terms on that page, and log in with: hf auth login"
                raise _refusal(wanted, f"{page} requires that you accept its terms", fix) from error
            except errors.RepositoryNotFoundError as error:
                fix = "check the name; for a private repository, log in with: hf auth login"
                raise _refusal(wanted, f"there is no public repository {page}", fix) from error
            except errors.RevisionNotFoundError as error:
                raise _refusal(wanted, f"{page} has no commit {commit}", "correct the commit after @") from error
            except errors.LocalEntryNotFoundError as error:  # before its base class
                fix = (
                    "check the network; without one (HF_HUB_OFFLINE), download the file on a machine that has it, and "
                    "copy the hub's cache"
                )
                reason = f"{page} cannot be reached ({error.__cause__ or error}), and {name} is not in the hub's cache"
                raise _refusal(wanted, f"{reason}, {hub.constants.HF_HUB_CACHE}", fix) from error
            except errors.EntryNotFoundError as error:
                raise _NotThere from error
            except errors.HfHubHTTPError as error:
                raise _refusal(wanted, f"{page} answered: {error}", "run the command again later") from error
    except errors.HTTPError as error:  # of the library below, as for a proxy that refuses
        raise _refusal(wanted, f"{page} cannot be reached ({error})", "check the network, and HTTPS_PROXY") from error
    found = path.parent.name if commit is None else commit
    # not resolved: the blob may itself be a link, to a file with a name of another sort that repositories share
    blob = path.readlink().name if path.is_symlink() else ""
    return HubFile(path, f"{page}/resolve/{found}/{name}", found, blob if _SHA256.fullmatch(blob) else None)


def _refusal(wanted: str, reason: str, fix: str) -> MissingData:
    return MissingData(Code.NO_DOWNLOAD, f"{wanted} could not be fetched: {reason}. Fix: {fix}", key="NAME")


def _library(wanted: str) -> Any:
    disable_telemetry()
    try:
        library = importlib.import_module("huggingface_hub")
        importlib.import_module("huggingface_hub.errors")
    except ModuleNotFoundError as error:
        raise MissingData(
            Code.UNUSABLE_PACKAGE,
            f"expected huggingface_hub to be installed, which downloads {wanted}; it is not. Fix: pip install "
            "'deltasweep[timm]'",
            key="NAME",
        ) from error
    return library
