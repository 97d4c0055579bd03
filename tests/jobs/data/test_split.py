"""Dividing a folder of labels into training and test images."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from jobs.data.split import split
from jobs.errors import Code, DamagedFile, DeltaSweepError, InvalidRequest
from tests.jobs.data import made
from tests.support import refused

LABELS = ("ant", "bee")


def photographs(count: int, first: int = 0) -> dict[str, bytes]:
    """Different images."""
    return {
        f"{label}/{i}.jpg": made.image_bytes(3, 3, seed=1000 * number + i)
        for number, label in enumerate(LABELS)
        for i in range(first, first + count)
    }


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def in_part(files: Mapping[str, bytes], part: str) -> dict[str, bytes]:
    return {name.removeprefix(f"{part}/"): data for name, data in files.items() if name.startswith(f"{part}/")}


def test_each_image_is_copied_to_one_part(tmp_path: Path) -> None:
    files = photographs(100)
    folder = made.write(tmp_path / "photos", files | {".DS_Store": b"x", "ant/Thumbs.db": b"x"})
    told = []
    parts = split(folder, tmp_path / "a/divided", 0.3, lambda *numbers: told.append(numbers))
    divided = contents(tmp_path / "a/divided")
    train, test = (in_part(divided, part) for part in ("train", "test"))
    assert {**train, **test} == files
    assert len(train) + len(test) == len(divided) == 200
    for label in LABELS:
        assert sorted(f"{label}/{path.name}" for path in parts["test"][label]) == sorted(
            name for name in test if name.startswith(label)
        )
        assert 15 <= len(parts["test"][label]) <= 45
    assert told[-1] == (200, 200)
    assert contents(folder) == files | {".DS_Store": b"x", "ant/Thumbs.db": b"x"}, "the folder stays as it is"
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["divided"]


def test_added_images_move_no_others(tmp_path: Path) -> None:
    folder = made.write(tmp_path / "photos", photographs(30))
    split(folder, tmp_path / "first", 0.3)
    made.write(folder, photographs(30, first=30))
    split(folder, tmp_path / "second", 0.3)
    split(folder, tmp_path / "again", 0.3)
    first, second = contents(tmp_path / "first"), contents(tmp_path / "second")
    assert first.items() <= second.items()
    assert second == contents(tmp_path / "again")
    split(folder, tmp_path / "larger", 0.5)
    tested, larger = (in_part(contents(tmp_path / name), "test") for name in ("second", "larger"))
    assert tested.items() < larger.items(), "a larger share only adds test images"


def test_equal_files_are_in_the_same_part(tmp_path: Path) -> None:
    files = photographs(40)
    twice = {f"bee/again-{i}.jpg": files[f"ant/{i}.jpg"] for i in range(40)}
    split(made.write(tmp_path / "photos", files | twice), tmp_path / "divided", 0.5)
    train, test = (set(in_part(contents(tmp_path / "divided"), part).values()) for part in ("train", "test"))
    assert train
    assert test
    assert not train & test


@pytest.mark.parametrize(
    ("strange", "share", "out", "code", "words"),
    [
        ({}, 0.3, "there", Code.WRONG_PLACE, "exists"),
        ({}, 0.3, "photos/divided", Code.WRONG_PLACE, "would be a label"),
        ({}, 0.0, "new", Code.WRONG_VALUE, "between 0 and 1"),
        ({}, 1.0, "new", Code.WRONG_VALUE, "between 0 and 1"),
        ({}, float("nan"), "new", Code.WRONG_VALUE, "between 0 and 1"),
        ({"train/ant/0.jpg": b"x"}, 0.3, "new", Code.WRONG_VALUE, "divided already"),
        ({"cat/0.jpg": made.image_bytes(3, 3, seed=9)}, 0.3, "new", Code.WRONG_VALUE, "cat would have"),
        ({"ant/a.heic": b"x"}, 0.3, "new", Code.DAMAGED_DATA, "JPEG"),
        ({"notes.txt": b"x"}, 0.3, "new", Code.DAMAGED_DATA, "one per label"),
    ],
)
def test_what_is_refused_leaves_nothing(
    tmp_path: Path, strange: dict[str, bytes], share: float, out: str, code: Code, words: str
) -> None:
    folder = made.write(tmp_path / "photos", photographs(20) | strange)
    (tmp_path / "there").mkdir()
    before = sorted(tmp_path.rglob("*"))
    kind: type[DeltaSweepError] = DamagedFile if code is Code.DAMAGED_DATA else InvalidRequest
    with refused(code, words, kind=kind):
        split(folder, tmp_path / out, share)
    assert sorted(tmp_path.rglob("*")) == before


def test_an_interrupted_copy_leaves_nothing(tmp_path: Path) -> None:
    folder = made.write(tmp_path / "photos", photographs(20))

    def interrupt(done: int, total: int) -> None:
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        split(folder, tmp_path / "divided", 0.3, interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_what_is_no_image_is_not_copied(tmp_path: Path) -> None:
    """A link in a stranger's folder may lead to anything."""
    (tmp_path / "secret").write_text("a key")
    made.write(
        tmp_path / "photos", {f"{label}/{i}.png": made.image_bytes(9, 9, seed=i) for label in "ab" for i in range(9)}
    )
    for label in "ab":
        (tmp_path / "photos" / label / "x.png").symlink_to(tmp_path / "secret")
    with pytest.raises(DamagedFile) as caught:
        split(tmp_path / "photos", tmp_path / "out", 0.2)
    assert [Path(one.place.file).name for one in caught.value.mistakes] == ["x.png", "x.png"]
    assert not (tmp_path / "out").exists()
