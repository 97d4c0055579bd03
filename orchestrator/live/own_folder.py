"""The folder of one user's live pages on a machine: their addresses, which contain tokens, locks, and logs of servers.

It is ``$DELTASWEEP_HOME/live``; where that cannot be written or belongs to another user, as in a home that users share,
a folder in the temporary directory.
"""

import os
import stat
from contextlib import suppress
from pathlib import Path

from jobs.errors import InvalidRequest
from jobs.paths import live_directory, temporary_home
from jobs.system.files import words


def own_folder(*, make: bool = False) -> Path:
    """Return the folder, which is no link and belongs to this user.

    Args:
        make: create it if it does not exist.

    Raises:
        OSError: naming the folder in the temporary directory, if neither can be used.
    """
    with suppress(OSError, InvalidRequest):  # the latter: of the home of a user that this machine does not have
        return _usable(live_directory(), make)
    return _usable(temporary_home() / "live", make)


def _usable(folder: Path, make: bool) -> Path:
    """Return a folder if it is this user's, and so is the one around it in the temporary directory."""
    temporary = folder.parent == temporary_home()
    if make and not temporary:
        folder.parent.mkdir(parents=True, exist_ok=True)
    for one in (folder.parent, folder) if temporary else (folder,):
        if make:
            with suppress(FileExistsError):
                one.mkdir(mode=0o700)
        _require_own(one)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"expected a folder that can be written; {folder} cannot")
    return folder


def _require_own(folder: Path) -> None:
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise PermissionError(f"expected a folder; {folder} is {words(found.st_mode)}")
    if found.st_uid != os.getuid():
        raise PermissionError(f"expected a folder of this user; {folder} belongs to user {found.st_uid}")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(f"expected a folder that only this user can write; others can write {folder}")
