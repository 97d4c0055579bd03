"""Names of files in cards: whatever they are, the files stay in the folder that DeltaSweep has for them."""

import pytest

from jobs.catalog.catalog import PACKAGED
from jobs.catalog.dataset_card import DataFile
from jobs.catalog.source_card import Release


def data_file(name: str) -> DataFile:
    return DataFile(name=name, md5="0" * 32)


def release(file: str) -> Release:
    return Release(file=file, format="torchvision", urls=())


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/a",
        "/",
        "a/",
        "a//b",
        ".",
        "..",
        "./a",
        "a/.",
        "../a",
        "a/..",
        "a/../b",
        "a\\b",
        "..\\a",
        "a\0",
        "a\n",
        "a\x85",
    ],
)
def test_names_that_may_lead_elsewhere(name: str) -> None:
    with pytest.raises(ValueError, match=r"expected a relative path of a file: names joined by `/`"):
        data_file(name)
    with pytest.raises(ValueError, match=r"expected (a relative path|the name) of a file"):
        release(name)


@pytest.mark.parametrize("name", ["a", "a.pth.tar", "..a", "a..b", "...", ".a", "a (1) é.bin", "C:a", "~", "$HOME"])
def test_names_of_files(name: str) -> None:
    assert data_file(name).name == release(name).file == name


def test_members_of_archives_may_be_in_folders_and_releases_may_not() -> None:
    assert data_file("a/b/c").name == "a/b/c"
    with pytest.raises(ValueError, match="expected the name of a file, without folders"):
        release("a/b")


def test_packaged_cards() -> None:
    """Each is validated when it is read."""
    assert any(card.release for card in PACKAGED.sources.values())
    assert any("/" in file.name for card in PACKAGED.datasets.values() for file in card.members)
