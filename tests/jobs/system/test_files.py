"""Regular files are opened; all other path types are reported at once, without being read."""

import os
import socket
from pathlib import Path

import pytest

import analysis
from jobs.errors import Code, InvalidRequest
from jobs.system.files import FileTooLarge, NotAFile, open_file, read_file, write_files
from orchestrator.study.load import load_study
from tests.file_systems import IRREGULAR, PIPES, Disk
from tests.support import refused

WORDS = {
    "a link to a folder": "a folder",
    "a link whose target does not exist": None,
    "a link to itself": "a link whose target does not exist",
    "a link to endless zeros": "a device",
    "a named pipe": "a named pipe (FIFO)",
    "a socket": "a socket",
    "a folder": "a folder",
}
"""The description of each type; None if it is reported as missing. A link to a file counts as a file."""


@pytest.mark.parametrize("sort", WORDS)
def test_what_a_person_names_is_said_to_be_what_it_is(sort: str, tmp_path: Path) -> None:
    path = tmp_path / "named.yaml"
    IRREGULAR[sort](path)
    for opens in (open_file, read_file):
        with pytest.raises(FileNotFoundError if WORDS[sort] is None else NotAFile) as caught:
            opens(path)
        assert WORDS[sort] is None or f"{path} is {WORDS[sort]}" in str(caught.value)


@pytest.mark.parametrize("sort", IRREGULAR)
def test_in_a_folder_that_is_held_open_no_link_is_followed(sort: str, tmp_path: Path) -> None:
    IRREGULAR[sort](tmp_path / "name")
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(NotAFile, match=r"/shown/name is a") as caught:
            open_file("name", shown="/shown/name", folder=folder)
    finally:
        os.close(folder)
    assert caught.value.what.startswith("a link" if sort.startswith("a link") else sort)


def test_a_link_to_a_file_is_a_file_to_a_person(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"bytes")
    (tmp_path / "link").symlink_to("file")
    assert read_file(tmp_path / "link") == b"bytes"


def test_a_socket_that_somebody_listens_at_is_not_spoken_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # socket names are limited in length
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        with pytest.raises(NotAFile, match="a socket"):
            read_file("socket")


def test_a_device_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(NotAFile, match="/dev/zero is a device"):
        read_file("/dev/zero")


def test_more_than_a_file_of_its_sort_has_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(FileTooLarge, match=r"1,099,511,627,776 bytes; expected at most 1,000"):
        read_file(tmp_path / "sparse", 1_000)
    (tmp_path / "fits").write_bytes(bytes(1_000))
    assert len(read_file(tmp_path / "fits", 1_000)) == 1_000


@pytest.mark.parametrize("sort", [*PIPES, "a folder", "a link to endless zeros"])
def test_commands_refuse_what_is_no_file(sort: str, tmp_path: Path) -> None:
    study, trials = tmp_path / "study.yaml", tmp_path / "trials.csv"
    for path in (study, trials):
        IRREGULAR[sort](path)
    with refused(Code.UNREADABLE_FILE, study, str(WORDS[sort]), kind=InvalidRequest, file=study):
        load_study(str(study))
    with refused(Code.UNREADABLE_FILE, trials, str(WORDS[sort]), kind=InvalidRequest, file=trials):
        analysis.import_trials(trials, tmp_path / "root")
    assert not (tmp_path / "root").exists()


def test_a_study_without_end_is_not_read(tmp_path: Path) -> None:
    study = tmp_path / "study.yaml"
    with study.open("wb") as file:
        file.truncate(1 << 40)
    with refused(Code.UNREADABLE_FILE, study, "1,099,511,627,776", kind=InvalidRequest, file=study):
        load_study(str(study))


def test_a_disk_is_filled_and_taken_away(disk: Disk) -> None:
    disk.fill()
    with pytest.raises(OSError, match="No space left"):
        (disk.folder / "more").write_bytes(bytes(10_000))
    disk.take_away()
    assert list(disk.folder.iterdir()) == []


# --- writing ---


def test_files_that_are_written_together(tmp_path: Path) -> None:
    files = {tmp_path / "a": b"new", tmp_path / "b": b""}
    (tmp_path / "a").write_bytes(b"old")
    (tmp_path / "as-usual").touch()
    write_files(files)
    assert {path: path.read_bytes() for path in files} == files
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "as-usual", "b"]
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "as-usual").stat().st_mode, "readable by the same users"


def test_if_one_file_cannot_be_written_the_others_stay_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(FileNotFoundError):
        write_files({tmp_path / "a": b"new", tmp_path / "nowhere" / "b": b"new"})
    assert (tmp_path / "a").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_secrets_are_for_their_user_from_the_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modes, fsync = [], os.fsync

    def seen(handle: int) -> None:
        modes.append(os.fstat(handle).st_mode & 0o777)
        fsync(handle)

    monkeypatch.setattr(os, "fsync", seen)
    (tmp_path / "token").touch(0o644)
    write_files({tmp_path / "token": b"secret"}, mode=0o600)
    assert [*modes, (tmp_path / "token").stat().st_mode & 0o777] == [0o600, 0o600]


def test_another_process_may_write_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one with the same number, in another container: here it writes before the first has the file on the disk."""
    path, fsync = tmp_path / "a", os.fsync
    written: list[bytes] = []

    def interrupted(handle: int) -> None:
        monkeypatch.setattr(os, "fsync", fsync)
        write_files({path: b"other"})
        written.append(path.read_bytes())
        fsync(handle)

    monkeypatch.setattr(os, "fsync", interrupted)
    write_files({path: b"own"})
    assert (written, path.read_bytes()) == ([b"other"], b"own")
    assert list(tmp_path.iterdir()) == [path]
