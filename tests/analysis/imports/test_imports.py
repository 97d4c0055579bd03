"""Importing trials that ran elsewhere."""

import gzip
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pandas as pd
import pytest

import analysis
from analysis.imports import trials as imports
from analysis.imports.authors import tidy
from analysis.imports.trials import read
from jobs.errors import Code, InvalidRequest, Place
from jobs.kinds.finetune.spec import FinetuneSpec
from jobs.results import done, open_store, uncovered
from jobs.specs.recipes import Recipe
from tests.analysis.support import Build, Rows
from tests.support import refused

TIDY = """source,dataset,images,blocks,seed,epoch,test_accuracy,test_loss,train_accuracy,train_loss,seconds
natural,cifar10,100,3,20000000,1,10.5,2.3,11.0,2.4,41.01
natural,cifar10,100,3,20000000,100,48.5,1.9,99.0,0.1,290.5
l2_eps3,cifar10,100,3,20000000,1,15.25,2.2,12.0,2.1,40.0
l2_eps3,cifar10,100,3,20000000,100,51.5,1.8,99.5,0.1,288.0
random_init,cifar10,50000,-1,-1,150,95.25,-1,-1,-1,-1
"""
ROW = "natural,cifar10,100,3,20000000,1,"
"""The start of the first row."""
RAW_HEADER = (
    ",epoch,nat_prec1,adv_prec1,nat_loss,adv_loss,train_prec1,train_loss,time,"
    "source_eps,target_ds,num_training_images,unfrozen_blocks,seed\n"
)
RAW = (
    RAW_HEADER
    + """0,1,10.5,-1.0,2.3,-1.0,11.0,2.4,41.01,0,cifar10,100,3,20000000
1,100,48.5,-1.0,1.9,-1.0,99.0,0.1,290.5,0,cifar10,100,3,20000000
2,1,15.25,-1.0,2.2,-1.0,12.0,2.1,40.0,3,cifar10,100,3,20000000
3,100,51.5,-1.0,1.8,-1.0,99.5,0.1,288.0,3,cifar10,100,3,20000000
4,150,95.25,-1.0,-1,-1.0,-1,-1,-1,-1,cifar10,50000,-1,-1
"""
)


class Write(Protocol):
    """Return a function that writes a file of trials and returns its path."""

    def __call__(self, text: str, name: str = ...) -> Path: ...


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str, name: str = "trials.csv") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def test_a_tidy_file_becomes_results(write: Write, tmp_path: Path) -> None:
    counts = analysis.import_trials(write(TIDY), tmp_path / "root")
    assert (counts.rows, counts.trials, counts.new, counts.already_there, counts.conflicts) == (5, 3, 3, 0, 0)
    first = analysis.load(tmp_path / "root").to_pylist()
    natural = next(row for row in first if row["source"] == "natural" and row["epoch"] == 100)
    expected = {
        "origin": "imported",
        "recipe": "imported",
        "constraint": "none",
        "epochs": 100,
        "images_used": 100,
        "test_accuracy": 48.5,
        "train_loss": 0.1,
        "seconds": 290.5,
        "subset_sha256": None,
    }
    assert {name: natural[name] for name in expected} == expected


def test_both_formats_are_the_same_trials(write: Write) -> None:
    pd.testing.assert_frame_equal(
        read(write(TIDY)).sort_index(axis=1), read(write(RAW, "raw.csv")).sort_index(axis=1), check_dtype=False
    )


def test_whole_sets_and_unrecorded_values(write: Write, tmp_path: Path) -> None:
    analysis.import_trials(write(TIDY), tmp_path / "root")
    row = next(row for row in analysis.load(tmp_path / "root").to_pylist() if row["source"] == "random_init")
    assert (row["images"], row["images_used"], row["blocks"], row["seed"]) == (-1, 50000, -1, -1)
    assert (row["test_loss"], row["seconds"]) == (None, None)
    assert (row["constraint"], row["epsilon"]) == ("none", 0), "what the catalogue says of the name"


def test_importing_again_changes_nothing_and_other_numbers_are_kept_aside(write: Write, tmp_path: Path) -> None:
    root = tmp_path / "root"
    analysis.import_trials(write(TIDY), root)
    before = analysis.load(root)
    assert analysis.import_trials(write(TIDY), root).already_there == 3
    assert analysis.import_trials(write(TIDY.replace("48.5", "48.6")), root).conflicts == 1
    assert analysis.load(root).equals(before)


def test_order_of_rows_changes_nothing(write: Write, tmp_path: Path) -> None:
    analysis.import_trials(write(TIDY), tmp_path / "a")
    header, *lines = TIDY.splitlines()
    analysis.import_trials(write("\n".join([header, *reversed(lines)])), tmp_path / "b")
    assert analysis.load(tmp_path / "a").equals(analysis.load(tmp_path / "b"))


def test_imported_trials_never_count_as_done(write: Write, tmp_path: Path) -> None:
    analysis.import_trials(write(TIDY), tmp_path / "root")
    spec = FinetuneSpec(
        source="natural",
        dataset="cifar10",
        blocks=3,
        images=100,
        seed=20000000,
        epochs=100,
        evaluate_every=20,
        recipe=Recipe(),
    )
    ids = done(open_store(tmp_path / "root"), "finetune")
    assert spec.trial_id not in ids
    assert all(one.startswith("imported-") for one in ids)
    assert not spec.trial_id.startswith("imported-")


def test_they_stand_beside_own_trials_and_do_not_pair_with_them(build: Build, write: Write) -> None:
    root = build.root(build.arms([50, 51], [55, 57], source="l2_eps3"))
    analysis.import_trials(write(TIDY), root)
    rows = analysis.deltas(root).to_pylist()
    pairs = {(row["source"], row["origin"], row["dataset"]): row["n_pairs"] for row in rows if row["n_pairs"]}
    assert pairs == {("l2_eps3", "run", "digits"): 2, ("l2_eps3", "imported", "cifar10"): 1}


@pytest.mark.parametrize(
    ("old", "new", "code", "key", "line", "values"),
    [
        ("seconds", "duration", Code.UNKNOWN_KEY, "duration", 1, ["missing: none", "unknown: duration"]),
        (
            "test_accuracy",
            "accuracy",
            Code.MISSING_KEY,
            "test_accuracy",
            1,
            ["missing: test_accuracy", "unknown: accuracy"],
        ),
        (ROW, "Natural!,cifar10,100,3,20000000,1,", Code.WRONG_NAME, "source", 2, ["l2_eps3", "'Natural!'"]),
        ("1,10.5", "1,110.5", Code.WRONG_VALUE, "test_accuracy", 2, ["0 to 100", "1 row", "line 2", "110.5"]),
        ("1,10.5", "1,", Code.WRONG_VALUE, "test_accuracy", 2, ["0 to 100", "line 2"]),
        ("1,10.5", "1.5,10.5", Code.WRONG_VALUE, "epoch", 2, ["at least 1", "1.5"]),
        (ROW, "natural,cifar10,0,3,20000000,1,", Code.WRONG_VALUE, "images", 2, ["at least 1", "-1", "line 2"]),
        (ROW, "natural,cifar10,100,3,20000000,100,", Code.REPEATED, "epoch", 2, ["source natural", "epoch 100"]),
        ("random_init,cifar10,50000", "random_init,caltech,-1", Code.WRONG_VALUE, "images", 6, ["-1", "for caltech"]),
        (TIDY, TIDY.splitlines()[0], Code.UNREADABLE_FILE, "", None, ["header"]),
        (TIDY, "", Code.UNREADABLE_FILE, "", None, ["CSV"]),
    ],
)
def test_a_wrong_file_is_refused_whole(
    write: Write, tmp_path: Path, old: str, new: str, code: Code, key: str, line: int | None, values: list[object]
) -> None:
    file = write(TIDY.replace(old, new, 1))
    with refused(code, *values, kind=InvalidRequest, file=file, line=line, key=key):
        analysis.import_trials(file, tmp_path / "root")
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize(
    ("old", "new", "code", "key", "line", "values"),
    [
        (ROW, f"natural,cifar10,100,3,{10**20 - 1},1,", Code.WRONG_VALUE, "seed", 2, ["at least -1", "at most", "999"]),
        (ROW, "natural,cifar10,100,3,1e30,1,", Code.WRONG_VALUE, "seed", 2, ["at least -1", "1e+30"]),
        (ROW, "natural,cifar10,100,3,20000000,1e19,", Code.WRONG_VALUE, "epoch", 2, ["at least 1", "1e+19"]),
        (ROW, "natural,cifar10,100,True,20000000,1,", Code.WRONG_VALUE, "blocks", 2, ["at least -1", "True"]),
        (ROW + "10.5", ROW + "True", Code.WRONG_VALUE, "test_accuracy", 2, ["0 to 100", "True"]),
        ("41.01", "41.01,7", Code.UNREADABLE_FILE, "", None, ["CSV"]),
        ("290.5", "290.5,7", Code.UNREADABLE_FILE, "", None, ["CSV"]),
    ],
)
def test_numbers_that_cannot_be_kept_are_refused_whole(
    write: Write, tmp_path: Path, old: str, new: str, code: Code, key: str, line: int | None, values: list[object]
) -> None:
    test_a_wrong_file_is_refused_whole(write, tmp_path, old, new, code, key, line, values)


@pytest.mark.parametrize("value", ["True", "99999999999999999999"])
def test_a_whole_column_of_wrong_numbers_is_refused(write: Write, tmp_path: Path, value: str) -> None:
    text = TIDY.replace(",3,20000000,", f",3,{value},").replace(",-1,-1,150,", f",-1,{value},150,")
    test_a_wrong_file_is_refused_whole(write, tmp_path, TIDY, text, Code.WRONG_VALUE, "seed", 2, [value])


def test_one_trial_under_two_sizes_is_refused(write: Write, tmp_path: Path) -> None:
    row = "random_init,cifar10,50000,-1,-1,150,95.25,-1,-1,-1,-1\n"
    text = row + row.replace("50000", "-1")
    values: list[object] = ["2 rows", "source random_init"]
    test_a_wrong_file_is_refused_whole(write, tmp_path, row, text, Code.REPEATED, "epoch", 6, values)


def test_epochs_of_one_trial_under_two_sizes_are_one_trial(write: Write, tmp_path: Path) -> None:
    row = "random_init,cifar10,50000,-1,-1,150,95.25,-1,-1,-1,-1\n"
    text = TIDY + row.replace("50000", "-1").replace(",150,", ",1,")
    assert analysis.import_trials(write(text), tmp_path / "root").trials == 3


def test_names_of_digits_are_names(write: Write, tmp_path: Path) -> None:
    text = TIDY.replace("natural", "123").replace("l2_eps3", "007").replace("random_init", "9")
    analysis.import_trials(write(text), tmp_path / "root")
    assert set(analysis.load(tmp_path / "root")["source"].to_pylist()) == {"123", "007", "9"}


def test_whole_numbers_written_with_a_point_are_the_same_trials(write: Write, tmp_path: Path) -> None:
    analysis.import_trials(write(TIDY), tmp_path / "root")
    text = TIDY.replace(",20000000,", ",20000000.0,")
    assert analysis.import_trials(write(text), tmp_path / "root").already_there == 3


def test_nothing_is_written_when_a_trial_cannot_be_stored(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = imports.as_results

    def spoilt(data: pd.DataFrame) -> Iterator[Rows]:
        *good, last = plain(data)
        return iter([*good, [{**row, "seed": 2**70} for row in last]])

    monkeypatch.setattr(imports, "as_results", spoilt)
    file = write(TIDY)
    with refused(Code.WRONG_VALUE, "imported-", "-s", kind=InvalidRequest, file=file):
        analysis.import_trials(file, tmp_path / "root")
    assert not (tmp_path / "root").exists()


def test_all_problems_are_told_at_once(write: Write, tmp_path: Path) -> None:
    file = write(TIDY.replace("1,10.5", "0,110.5"))
    with pytest.raises(InvalidRequest) as caught:
        analysis.import_trials(file, tmp_path / "root")
    wrong = Code.WRONG_VALUE
    assert [(one.code, one.place) for one in caught.value.mistakes] == [
        (wrong, Place(str(file), 2, "epoch")),
        (wrong, Place(str(file), 2, "test_accuracy")),
    ]
    assert [one.message in str(caught.value) for one in caught.value.mistakes] == [True, True]
    assert (caught.value.code, caught.value.place) == (wrong, Place(str(file), 2, "epoch"))


def test_the_authors_format_is_checked_too() -> None:
    raw, file = pd.read_csv(io.StringIO(RAW)), Path("theirs.csv")
    with refused(Code.MISSING_KEY, "missing: ['seed']", kind=InvalidRequest, file=file, line=1, key="seed"):
        tidy(raw.drop(columns="seed"), file)
    with refused(Code.UNKNOWN_NAME, "source_eps", "got [5]", kind=InvalidRequest, file=file, key="source_eps"):
        tidy(raw.assign(source_eps=5), file)


def test_no_such_file(tmp_path: Path) -> None:
    file = tmp_path / "nowhere.csv"
    with refused(Code.NO_SUCH_FILE, file, kind=InvalidRequest, file=file):
        analysis.import_trials(file, tmp_path / "root")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TIDY.replace(",", ";"), "semicolons"),
        (TIDY.replace(".", "*").replace(",", ";").replace("*", ","), "semicolons"),
        (TIDY.replace(",", "\t"), "tabs"),
        (TIDY.replace(",", "|"), "bars"),
        (RAW.replace(",", ";"), "semicolons"),
        ("sep=;\n" + TIDY.replace(",", ";"), "sep=;"),
        ("\n\n" + TIDY.replace(",", "\t"), "tabs"),
    ],
)
def test_what_is_not_separated_by_commas_is_told_so(text: str, said: str, write: Write, tmp_path: Path) -> None:
    file = write(text)
    with refused(Code.UNREADABLE_FILE, file, said, "commas", kind=InvalidRequest, file=file, line=1):
        analysis.import_trials(file, tmp_path / "root")
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-16-le", "utf-32"])
def test_another_encoding_is_named(encoding: str, tmp_path: Path) -> None:
    file = tmp_path / "trials.csv"
    file.write_bytes(TIDY.encode(encoding))
    with refused(Code.UNREADABLE_FILE, file, "UTF-8", kind=InvalidRequest, file=file):
        read(file)


@pytest.mark.parametrize(
    "data",
    [
        b"PK\x03\x04\0\0a spreadsheet",
        b"\x1f\x8b\0\0no gzip",
        b"\xff\xfe",
        b"a,b\n\xe9\xff\n",
        b'source,"dataset\n1,2\n',
        b"",
    ],
)
@pytest.mark.parametrize("name", ["trials.csv", "trials.csv.gz"])
def test_what_is_no_csv_is_one_error(data: bytes, name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_bytes(data)
    with pytest.raises(InvalidRequest) as caught:
        read(file)
    assert caught.value.place.file == str(file)


def test_a_mark_of_byte_order_and_quotes_change_nothing(write: Write) -> None:
    expected = read(write(TIDY))
    quoted = "\n".join(",".join(f'"{value}"' for value in line.split(",")) for line in TIDY.splitlines())
    for number, text in enumerate(["\N{ZERO WIDTH NO-BREAK SPACE}" + TIDY, quoted, TIDY.replace("\n", "\r\n")]):
        pd.testing.assert_frame_equal(read(write(text, f"{number}.csv")), expected)


def test_a_column_that_is_there_twice(write: Write) -> None:
    """pandas would name the second one seed.1."""
    lines = [f"{line},{line.split(',')[4]}" for line in TIDY.splitlines()]
    file = write("\n".join(lines))
    with refused(Code.REPEATED, file, "'seed'", kind=InvalidRequest, file=file, line=1, key="seed"):
        read(file)


def test_imported_trials_are_in_the_index(write: Write, tmp_path: Path) -> None:
    """Compacted imports keep queries fast; a damaged result does not prevent an import."""
    store = open_store(tmp_path / "root")
    analysis.import_trials(write(TIDY), tmp_path / "root")
    assert uncovered(store, "finetune") == 0
    (first, *_) = store.keys("trials/finetune")
    store.replace(first, b"torn")
    more = TIDY.replace("20000000", "20100000")
    assert analysis.import_trials(write(more, "more.csv"), tmp_path / "root").new == 2


@pytest.mark.parametrize("name", ["n" * 200, "n" * 1000])
def test_a_name_that_no_file_can_have_is_refused_whole(name: str, write: Write, tmp_path: Path) -> None:
    file = write(TIDY.replace("l2_eps3", name))
    with refused(Code.WRONG_NAME, "255", kind=InvalidRequest, file=file, key="source"):
        analysis.import_trials(file, tmp_path / "root")
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_more_than_any_study_has_is_not_read(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "_MOST_BYTES", 100_000)
    text = (TIDY + "\n" * 1_000_000).encode()
    file = tmp_path / f"large{suffix}"
    file.write_bytes(gzip.compress(text) if suffix.endswith(".gz") else text)
    with refused(Code.UNREADABLE_FILE, "100,000", kind=InvalidRequest, file=file):
        read(file)


def test_a_first_line_without_end_is_not_repeated(write: Write) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(write("0" * 1_000_000))
    assert caught.value.place.line == 1
    assert len(str(caught.value)) < 1_000


def test_lines_are_counted_with_empty_ones(write: Write) -> None:
    """pandas skips empty lines; an editor counts them."""
    lines = TIDY.replace("48.5", "-4").splitlines()
    text = "\n".join(["", lines[0], "", *lines[1:3], "", *lines[3:]])
    assert text.splitlines()[4].startswith("natural,cifar10,100,3,20000000,100,-4")
    with refused(Code.WRONG_VALUE, "line 5", kind=InvalidRequest, line=5, key="test_accuracy"):
        read(write(text))


def test_another_encoding_is_told_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "trials.csv"
    file.write_bytes(TIDY.replace("random_init", "r\N{LATIN SMALL LETTER E WITH ACUTE}ndom").encode("latin-1"))
    with refused(Code.UNREADABLE_FILE, "line 6", "Fix: save it as CSV in UTF-8", kind=InvalidRequest, line=6):
        read(file)
