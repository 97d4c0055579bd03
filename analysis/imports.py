"""Importing trials that ran elsewhere: a CSV file becomes results of origin ``imported``.

Two formats are read and told apart by their columns: the tidy one (one column a name of ours) and the
one in which the paper's authors published their trials (``analysis.authors``). The whole file is checked
before the first result is written.
"""

import codecs
import csv
import gzip
import io
import warnings
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from analysis import authors
from analysis.words import counted
from jobs.errors import Code, DamagedFile, InvalidRequest, Mistake, Place
from jobs.files import open_file
from jobs.registry import datasets, sources
from jobs.results import Committed, begin, commit, compact, open_store, schema
from jobs.results.consistency import imported_id
from jobs.results.layout import NAME_BYTES
from jobs.specs import ALL, NAME_PATTERN

ORIGIN = "imported"
KEY = ("source", "dataset", "images", "blocks", "seed")
REQUIRED = (*KEY, "epoch", "test_accuracy")
OPTIONAL = ("test_loss", "train_accuracy", "train_loss", "seconds")
_NAMES = ("source", "dataset", "target_ds")  # of both formats; a name like 123 stays text
_HEADER_BYTES = 1 << 16
_LONGEST_HEADER = 2_000
_MOST_BYTES = 1 << 28
"""Unpacked; the rows of the paper's 14,400 trials take some 20 MB."""
_WRITERS = 16  # threads; a durable write waits for the disk most of its time
_LOWEST = {"images": ALL, "blocks": ALL, "seed": -1, "epoch": 1}
_PERCENT = ("test_accuracy", "train_accuracy")
_UNRECORDED = -1
"""The authors' mark, also in tidy files, for what was not recorded; it becomes null."""


class Imported(NamedTuple):
    """What became of an import."""

    rows: int
    trials: int
    new: int
    already_there: int
    conflicts: int
    """Trials that the root holds with other numbers, from another import: kept under ``conflicts/``."""


class _Problem(NamedTuple):
    """A rule that some of a file's rows break."""

    code: Code
    column: str
    message: str
    line: int | None
    """Of the first such row."""


def import_trials(file: str | Path, root: str | Path) -> Imported:
    """Put the trials of a CSV file into a results root, marked as imported.

    They have ids of their own (``imported-...``), so they never count as done in any study, and never pair with own
    trials. Importing a file again changes nothing. The index of the root then has them, so that queries stay quick.

    Raises:
        InvalidRequest: when the file is not of a known format or a value breaks a rule; nothing is written.
    """
    data = read(Path(file))
    trials = list(as_results(data))
    _require_storable(trials, Path(file))
    store = open_store(root)
    begin(store)
    with ThreadPoolExecutor(_WRITERS) as pool:
        outcomes = list(pool.map(lambda rows: commit(store, "finetune", rows), trials))
    with suppress(DamagedFile):  # whoever reads the root names it; what was imported is there
        compact(store, "finetune")
    count = {outcome: outcomes.count(outcome) for outcome in Committed}
    return Imported(
        len(data),
        len(outcomes),
        count[Committed.NEW],
        count[Committed.ALREADY_THERE],
        count[Committed.CONFLICT],
    )


def read(file: Path) -> pd.DataFrame:
    """The evaluations of a CSV file (``.csv``, ``.csv.gz``), tidy and checked, one row per trial and epoch.

    Raises:
        InvalidRequest: with the file's name and all problems found.
    """
    try:
        text = _text(file)
        _require_commas(file, text[:_HEADER_BYTES])
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # a first row longer than the header
            data = pd.read_csv(io.BytesIO(text), dtype=dict.fromkeys(_NAMES, str), index_col=False)
    except InvalidRequest:
        raise
    except (OSError, EOFError, ValueError, csv.Error, zlib.error, pd.errors.ParserWarning) as error:
        raise InvalidRequest(
            Code.NO_SUCH_FILE if isinstance(error, FileNotFoundError) else Code.UNREADABLE_FILE,
            f"trials are imported from a CSV file; {file} cannot be read as one ({error})",
            file=file,
        ) from error
    if authors.recognises(data):
        data = authors.tidy(data, file)
    _require_none(_problems(data), file)
    data = _normalized(data, file)
    _require_none(_duplicates(data), file)
    return data


def _text(file: Path) -> bytes:
    """What a regular file holds, unpacked.

    Raises:
        InvalidRequest: when it is more than any study has.
    """
    with open_file(file) as packed, gzip.open(packed) if file.suffix == ".gz" else packed as stream:
        text = stream.read(_MOST_BYTES + 1)
    if len(text) > _MOST_BYTES:
        raise _unreadable(
            file, f"it has more than {_MOST_BYTES:,} bytes, unpacked if it is packed. Fix: import it in parts"
        )
    return text


def _require_commas(file: Path, start: bytes) -> None:
    """Refuse what pandas would read as something else than it is, by the first line.

    Raises:
        InvalidRequest: when values are not separated by commas, a column is there twice, or it is no text.
    """
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in start:
        raise _unreadable(file, "it is UTF-16, or no text at all. Fix: save it as CSV in UTF-8")
    lines = start.decode("utf-8-sig", errors="replace").splitlines()
    line = next((line for line in lines if line.strip()), "")
    if len(line) > _LONGEST_HEADER:
        raise _unreadable(file, f"its first line has more than {_LONGEST_HEADER:,} characters", line=1)
    if line.lower().startswith("sep="):
        raise _unreadable(file, f"its first line is {line!r}. Fix: remove it, and separate by commas", line=1)
    names = {
        separator: [name.strip() for name in next(csv.reader([line], delimiter=separator), [])] for separator in ",;\t|"
    }
    known = {*REQUIRED, *OPTIONAL, *authors.COLUMNS}
    separator = max(names, key=lambda one: (len(known & set(names[one])), one == ","))
    if separator != ",":
        found = {"\t": "tabs", ";": "semicolons", "|": "bars"}[separator]
        raise _unreadable(
            file, f"its values are separated by {found}. Fix: separate by commas, with a point in numbers", 1
        )
    if twice := [name for name in names[","] if name and names[","].count(name) > 1]:
        raise InvalidRequest(
            Code.REPEATED,
            f"a CSV file of trials has each column once; {file} has {twice[0]!r} {len(twice)} times. Fix: remove one",
            file=file,
            line=1,
            key=twice[0],
        )


def _unreadable(file: Path, why: str, line: int | None = None) -> InvalidRequest:
    return InvalidRequest(
        Code.UNREADABLE_FILE, f"trials are imported from a CSV file; {file} is none: {why}", file=file, line=line
    )


def _require_none(problems: list[_Problem], file: Path) -> None:
    if not problems:
        return
    mistakes = [Mistake(one.code, Place(str(file), one.line, one.column), one.message) for one in problems]
    raise InvalidRequest(
        mistakes[0].code,
        f"{file} cannot be imported, nothing was written:\n- " + "\n- ".join(one.message for one in mistakes),
        **mistakes[0].place._asdict(),
        mistakes=mistakes,
    )


def _require_storable(trials: list[list[dict[str, object]]], file: Path) -> None:
    """All trials as Arrow tables, and under names that a file can have, before the first is written."""
    for rows in trials:
        if len(f"{rows[0]['trial_id']}.parquet".encode()) > NAME_BYTES:
            raise InvalidRequest(
                Code.WRONG_NAME,
                f"a name on disk has at most {NAME_BYTES} bytes, and the trial {rows[0]['trial_id']} more; nothing was "
                "written. Fix: shorten its source or dataset",
                file=file,
                key="source",
            )
        try:
            pa.Table.from_pylist(rows, schema=schema("finetune")).validate(full=True)
        except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
            raise InvalidRequest(
                Code.WRONG_VALUE,
                f"the trial {rows[0]['trial_id']} cannot be stored, nothing was written: {error}",
                file=file,
            ) from error


def _problems(data: pd.DataFrame) -> list[_Problem]:
    missing = [name for name in REQUIRED if name not in data.columns]
    unknown = [name for name in data.columns if name not in (*REQUIRED, *OPTIONAL)]
    if missing or unknown:
        said = (
            f"the columns are {', '.join(REQUIRED)} and any of {', '.join(OPTIONAL)}; missing: "
            f"{', '.join(missing) or 'none'}, unknown: {', '.join(unknown) or 'none'}. Rename or remove them"
        )
        code = Code.MISSING_KEY if missing else Code.UNKNOWN_KEY
        return [_Problem(code, str([*missing, *unknown][0]), said, 1)]
    if data.empty:
        return [_Problem(Code.UNREADABLE_FILE, "", "there is no row under the header", None)]
    return [*_wrong_names(data), *_wrong_numbers(data)]


def _wrong_names(data: pd.DataFrame) -> list[_Problem]:
    problems = []
    for column in ("source", "dataset"):
        names = data[column].astype("string").fillna("")
        wrong = names[~names.str.fullmatch(NAME_PATTERN)]
        if not wrong.empty:
            found = sorted(set(wrong))[:5]
            said = f"{column} is a name like l2_eps3 (lower case, digits, _ . -); found {found}"
            problems.append(_Problem(Code.WRONG_NAME, column, said, _line(wrong)))
    return problems


def _wrong_numbers(data: pd.DataFrame) -> list[_Problem]:
    problems = []
    for column, lowest in _LOWEST.items():
        values = _numbers(data[column])
        highest = _highest(column, data[column])
        bad = data[~values.between(lowest, highest) | (values % 1 != 0)]
        if not bad.empty:
            rule = f"a whole number of at least {lowest} and at most {highest}"
            problems.append(_wrong(bad, column, rule))
    none = data[_numbers(data["images"]) == 0]
    if not none.empty:
        problems.append(_wrong(none, "images", "at least 1, or -1 for the whole set"))
    for column in ("test_accuracy", *(name for name in OPTIONAL if name in data.columns)):
        values = _numbers(data[column])
        highest_value = 100.0 if column in _PERCENT else float("inf")
        unrecorded = (data[column].isna() | (values == _UNRECORDED)) & (column != "test_accuracy")
        bad = data[~values.between(0, highest_value, inclusive="both") & ~unrecorded]
        if not bad.empty:
            rule = "a percentage from 0 to 100" if column in _PERCENT else "a number of at least 0"
            problems.append(_wrong(bad, column, rule))
    return problems


def _numbers(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """The numbers of a column; NaN for everything else, truth values among them."""
    truths = column.map(lambda value: isinstance(value, bool | np.bool_)).astype(bool)
    return pd.to_numeric(column.astype(object).mask(truths), errors="coerce")


def _highest(name: str, column: "pd.Series[Any]") -> int:
    """The largest whole number that a column of results can keep, and that was read to the last digit."""
    kept: int = 2 ** (schema("finetune").field(name).type.bit_width - 1) - 1
    return min(kept, 2**53) if pd.api.types.is_float_dtype(column) else kept


def _duplicates(data: pd.DataFrame) -> list[_Problem]:
    twice = data[data.duplicated([*KEY, "epoch"], keep=False)]
    if twice.empty:
        return []
    what = ", ".join(f"{name} {twice.iloc[0][name]}" for name in (*KEY, "epoch"))
    said = f"a trial has one row an epoch; {len(twice)} rows share theirs with another, first: {what}"
    return [_Problem(Code.REPEATED, "epoch", said, _line(twice))]


def _wrong(bad: pd.DataFrame, column: str, rule: str) -> _Problem:
    """What rows with a wrong number say of the first of them."""
    rows = counted(len(bad), "row")
    verb = "breaks" if len(bad) == 1 else "break"
    found = bad.iloc[0][column]
    found = found.item() if isinstance(found, np.generic) else found
    said = f"{column} is {rule}; {rows} {verb} this, first in line {_line(bad)}: {found!r}"
    return _Problem(Code.WRONG_VALUE, column, said, _line(bad))


def _line(bad: "pd.DataFrame | pd.Series[Any]") -> int:
    """Where the first of ``bad`` stands in the file; line 1 is the header."""
    return int(bad.index[0]) + 2


def _normalized(data: pd.DataFrame, file: Path) -> pd.DataFrame:
    """Whole numbers as such, unrecorded values null, and whole sets -1 (design, section 1).

    ``images_used`` keeps the number of a whole set.
    """
    whole_numbers = {name: _numbers(data[name]).astype("int64") for name in _LOWEST}
    measured = {name: _numbers(data[name]) for name in ("test_accuracy", *OPTIONAL) if name in data.columns}
    recorded = {name: values.where(values != _UNRECORDED) for name, values in measured.items()}
    data = data.assign(**whole_numbers, **recorded)
    whole = data["dataset"].map({name: card.train for name, card in datasets().items()})
    all_of_it = (data["images"] == whole) | (data["images"] == ALL)
    unknown = data[all_of_it & whole.isna()]
    if not unknown.empty:
        raise InvalidRequest(
            Code.WRONG_VALUE,
            f"images -1 means the whole training set, whose size is known for {', '.join(sorted(datasets()))} only; "
            f"for {unknown.iloc[0]['dataset']} write the number",
            file=file,
            line=_line(unknown),
            key="images",
        )
    data = data.assign(
        images_used=data["images"].where(~all_of_it, whole).astype("int64"),
        images=data["images"].where(~all_of_it, ALL).astype("int64"),
    )
    return data.assign(epochs=data.groupby([*KEY])["epoch"].transform("max"))


def as_results(data: pd.DataFrame) -> Iterator[list[dict[str, object]]]:
    """The rows of each trial in the schema of results, from what ``read`` returns."""
    varying = ["epoch", "images_used", "test_accuracy", *(name for name in OPTIONAL if name in data.columns)]
    nothing = dict.fromkeys(schema("finetune").names)
    marks = {"recipe": ORIGIN, "origin": ORIGIN}
    for _, trial in data.sort_values("epoch").groupby(list(KEY), sort=True):
        identity = {name: _plain(trial.iloc[0][name]) for name in (*KEY, "epochs")}
        card = _card(str(identity["source"]))
        constants = {**nothing, **identity, "trial_id": imported_id(identity), **marks, **card}
        rows = trial[varying].astype(object).to_dict("records")
        yield [{**constants, **{str(name): _plain(value) for name, value in row.items()}} for row in rows]


def _card(source: str) -> dict[str, object]:
    """How a source of a known name was trained; nothing is claimed of others."""
    card = sources().get(source)
    return {} if card is None else {"constraint": card.constraint.value, "epsilon": card.epsilon}


def _plain(value: object) -> object:
    """numpy scalars as Python's; NaN as None."""
    item = getattr(value, "item", None)
    value = item() if callable(item) else value
    return None if isinstance(value, float) and value != value else value
