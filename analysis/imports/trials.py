"""Importing trials that ran elsewhere: a CSV file becomes results of origin ``imported``.

Two formats are supported and distinguished by their columns: the tidy one (with DeltaSweep's column names) and the one
in which the paper's authors published their trials (``analysis.imports.authors``). The whole file is checked before
the first result is written.
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

from analysis.imports import authors
from analysis.words import counted
from jobs.catalog.catalog import PACKAGED
from jobs.errors import Code, DamagedFile, InvalidRequest, Mistake, Place
from jobs.kind import GRID_KIND
from jobs.results import Committed, begin, commit, compact, open_store, schema
from jobs.specs.base import ALL, NAME_BYTES, NAME_PATTERN
from jobs.system.files import line_of, open_file
from jobs.verification.contradictions import imported_id

ORIGIN = "imported"
KEY = ("source", "dataset", "images", "blocks", "seed")
REQUIRED = (*KEY, "epoch", "test_accuracy")
OPTIONAL = ("test_loss", "train_accuracy", "train_loss", "seconds")
_NAMES = ("source", "dataset", "target_ds")  # of both formats; read as text, so that a name like 123 stays one
_HEADER_BYTES = 1 << 16
_LONGEST_HEADER = 2_000
_MOST_BYTES = 1 << 28
"""Size limit after decompression; the rows of the paper's 14,400 trials take about 20 MB."""
_WRITERS = 16  # threads; a durable write spends most of its time waiting for the disk
_LOWEST = {"images": ALL, "blocks": ALL, "seed": -1, "epoch": 1}
_PERCENT = ("test_accuracy", "train_accuracy")
_UNRECORDED = -1
"""The authors' marker for values that were not recorded, also used in tidy files; stored as null."""


class Imported(NamedTuple):
    """The outcome of an import."""

    rows: int
    trials: int
    new: int
    already_there: int
    conflicts: int
    """Trials that the root already stores with other numbers, from another import; kept under ``conflicts/``."""


class _Problem(NamedTuple):
    """A rule that some rows of a file violate."""

    code: Code
    column: str
    message: str
    line: int | None
    """Line of the first such row."""


def import_trials(file: str | Path, root: str | Path) -> Imported:
    """Import the trials of a CSV file into a results root, marked as imported.

    Imported trials have their own ids (``imported-...``), so they never count as done in any study and never pair with
    the root's own trials. Importing a file again changes nothing. The root is compacted afterwards, so that queries
    stay fast.

    Raises:
        InvalidRequest: when the format of the file is unknown or a value violates a rule; nothing is written.
    """
    data = read(Path(file))
    trials = list(as_results(data))
    _require_storable(trials, Path(file))
    store = open_store(root)
    begin(store)
    with ThreadPoolExecutor(_WRITERS) as pool:
        outcomes = list(pool.map(lambda rows: commit(store, GRID_KIND, rows), trials))
    with suppress(DamagedFile):  # reported when the root is read; the imported trials are stored
        compact(store, GRID_KIND)
    count = {outcome: outcomes.count(outcome) for outcome in Committed}
    return Imported(
        len(data),
        len(outcomes),
        count[Committed.NEW],
        count[Committed.ALREADY_THERE],
        count[Committed.CONFLICT],
    )


def read(file: Path) -> pd.DataFrame:
    """Read the evaluations of a CSV file (``.csv``, ``.csv.gz``): tidy, checked, one row per trial and epoch.

    Raises:
        InvalidRequest: with the name of the file and all problems found.
    """
    try:
        text = _text(file)
        _require_commas(file, text[:_HEADER_BYTES])
        _require_utf8(file, text)
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # a first row longer than the header
            data = pd.read_csv(io.BytesIO(text), dtype=dict.fromkeys(_NAMES, str), index_col=False)
            data.index = _rows(text, len(data))
    except InvalidRequest:
        raise
    except (OSError, EOFError, ValueError, csv.Error, zlib.error, pd.errors.ParserWarning) as error:
        raise InvalidRequest(
            Code.NO_SUCH_FILE if isinstance(error, FileNotFoundError) else Code.UNREADABLE_FILE,
            f"expected a CSV file of trials; {file} cannot be read as one ({error})",
            file=file,
        ) from error
    if authors.recognises(data):
        data = authors.tidy(data, file)
    _require_none(_problems(data), file)
    data = _normalized(data, file)
    _require_none(_duplicates(data), file)
    return data


def _text(file: Path) -> bytes:
    """Return the content of a regular file, decompressed.

    Raises:
        InvalidRequest: when it is larger than the results of any study could be.
    """
    with open_file(file) as packed, gzip.open(packed) if file.suffix == ".gz" else packed as stream:
        text = stream.read(_MOST_BYTES + 1)
    if len(text) > _MOST_BYTES:
        raise _unreadable(
            file, f"it has more than {_MOST_BYTES:,} bytes, after decompression if compressed. Fix: import it in parts"
        )
    return text


def _require_utf8(file: Path, text: bytes) -> None:
    try:
        text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = line_of(error)
        raise _unreadable(
            file, f"line {line} is in another encoding than UTF-8. Fix: save it as CSV in UTF-8", line
        ) from error


def _require_commas(file: Path, start: bytes) -> None:
    """Reject a file that pandas would misread, judged by its first line.

    Raises:
        InvalidRequest: when values are not separated by commas, a column is repeated, or the file is not text.
    """
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in start:
        raise _unreadable(file, "it is UTF-16, or not a text file. Fix: save it as CSV in UTF-8")
    lines = start.decode("utf-8-sig", errors="replace").splitlines()
    line = next((line for line in lines if line.strip()), "")
    if len(line) > _LONGEST_HEADER:
        raise _unreadable(file, f"its first line has more than {_LONGEST_HEADER:,} characters", line=1)
    if line.lower().startswith("sep="):
        raise _unreadable(file, f"its first line is {line!r}. Fix: remove it, and separate values by commas", line=1)
    names = {
        separator: [name.strip() for name in next(csv.reader([line], delimiter=separator), [])] for separator in ",;\t|"
    }
    known = {*REQUIRED, *OPTIONAL, *authors.COLUMNS}
    separator = max(names, key=lambda candidate: (len(known & set(names[candidate])), candidate == ","))
    if separator != ",":
        between = {"\t": "tabs", ";": "semicolons", "|": "bars"}[separator]
        raise _unreadable(
            file, f"its values are separated by {between}. Fix: use commas, with a point as the decimal separator", 1
        )
    if twice := [name for name in names[","] if name and names[","].count(name) > 1]:
        raise InvalidRequest(
            Code.REPEATED,
            f"expected each column once in a CSV file of trials; {file} has {twice[0]!r} {len(twice)} times. "
            "Fix: keep one",
            file=file,
            line=1,
            key=twice[0],
        )


def _unreadable(file: Path, why: str, line: int | None = None) -> InvalidRequest:
    return InvalidRequest(
        Code.UNREADABLE_FILE, f"expected a CSV file of trials; {file} is not one: {why}", file=file, line=line
    )


def _require_none(problems: list[_Problem], file: Path) -> None:
    if not problems:
        return
    places = [Place(str(file), problem.line, problem.column) for problem in problems]
    mistakes = [Mistake(what.code, place, what.message) for what, place in zip(problems, places, strict=True)]
    raise InvalidRequest(
        mistakes[0].code,
        f"{file} cannot be imported; nothing was written:\n- " + "\n- ".join(problem.message for problem in mistakes),
        **mistakes[0].place._asdict(),
        mistakes=mistakes,
    )


def _require_storable(trials: list[list[dict[str, object]]], file: Path) -> None:
    """Check that all trials fit the schema and have valid file names, before the first one is written."""
    for rows in trials:
        if len(f"{rows[0]['trial_id']}.parquet".encode()) > NAME_BYTES:
            raise InvalidRequest(
                Code.WRONG_NAME,
                f"expected names of at most {NAME_BYTES} bytes on disk; the name of the trial {rows[0]['trial_id']} is "
                "longer; nothing was written. Fix: shorten its source or dataset",
                file=file,
                key="source",
            )
        try:
            pa.Table.from_pylist(rows, schema=schema(GRID_KIND)).validate(full=True)
        except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
            raise InvalidRequest(
                Code.WRONG_VALUE,
                f"the trial {rows[0]['trial_id']} cannot be stored; nothing was written: {error}",
                file=file,
            ) from error


def _problems(data: pd.DataFrame) -> list[_Problem]:
    missing = [name for name in REQUIRED if name not in data.columns]
    unknown = [name for name in data.columns if name not in (*REQUIRED, *OPTIONAL)]
    if missing or unknown:
        message = (
            f"expected the columns {', '.join(REQUIRED)} and any of {', '.join(OPTIONAL)}; missing: "
            f"{', '.join(missing) or 'none'}; unknown: {', '.join(unknown) or 'none'}. Fix: rename or remove them"
        )
        code = Code.MISSING_KEY if missing else Code.UNKNOWN_KEY
        return [_Problem(code, str([*missing, *unknown][0]), message, 1)]
    if data.empty:
        return [_Problem(Code.UNREADABLE_FILE, "", "expected rows below the header; got none", None)]
    return [*_wrong_names(data), *_wrong_numbers(data)]


def _wrong_names(data: pd.DataFrame) -> list[_Problem]:
    problems = []
    for column in ("source", "dataset"):
        names = data[column].astype("string").fillna("")
        wrong = names[~names.str.fullmatch(NAME_PATTERN)]
        if not wrong.empty:
            examples = sorted(set(wrong))[:5]
            message = f"expected {column} to be a name like l2_eps3 (lower case, digits, _ . -); got {examples}"
            problems.append(_Problem(Code.WRONG_NAME, column, message, _line(wrong)))
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
    """Return the numbers of a column; anything else, Booleans included, becomes NaN."""
    truths = column.map(lambda value: isinstance(value, bool | np.bool_)).astype(bool)
    return pd.to_numeric(column.astype(object).mask(truths), errors="coerce")


def _highest(name: str, column: "pd.Series[Any]") -> int:
    """Return the largest integer that the results column can store and that was read exactly."""
    kept: int = 2 ** (schema(GRID_KIND).field(name).type.bit_width - 1) - 1
    return min(kept, 2**53) if pd.api.types.is_float_dtype(column) else kept


def _duplicates(data: pd.DataFrame) -> list[_Problem]:
    twice = data[data.duplicated([*KEY, "epoch"], keep=False)]
    if twice.empty:
        return []
    what = ", ".join(f"{name} {twice.iloc[0][name]}" for name in (*KEY, "epoch"))
    message = f"expected one row per trial and epoch; {len(twice)} rows are repeated, the first: {what}"
    return [_Problem(Code.REPEATED, "epoch", message, _line(twice))]


def _wrong(bad: pd.DataFrame, column: str, rule: str) -> _Problem:
    """Describe the rows whose number violates a rule, quoting the first one."""
    rows = counted(len(bad), "row")
    verb = "violates" if len(bad) == 1 else "violate"
    value = bad.iloc[0][column]
    value = value.item() if isinstance(value, np.generic) else value
    message = f"expected {column} to be {rule}; {rows} {verb} this rule, the first in line {_line(bad)}: {value!r}"
    return _Problem(Code.WRONG_VALUE, column, message, _line(bad))


def _rows(text: bytes, rows: int) -> pd.Index:
    """Number a file's rows by their lines, of which pandas skips the empty ones; the line after the header is 0."""
    _, *lines = (number for number, line in enumerate(text.splitlines(), 1) if line.strip())
    return pd.Index([line - 2 for line in lines]) if len(lines) == rows else pd.RangeIndex(rows)


def _line(bad: "pd.DataFrame | pd.Series[Any]") -> int:
    """Return the line number of the first of the ``bad`` rows; the header is line 1."""
    return int(bad.index[0]) + 2


def _normalized(data: pd.DataFrame, file: Path) -> pd.DataFrame:
    """Convert whole numbers to integers, unrecorded values to null, and sizes equal to the whole training set to -1.

    ``images_used`` keeps the number of images of a whole set.
    """
    whole_numbers = {name: _numbers(data[name]).astype("int64") for name in _LOWEST}
    measured = {name: _numbers(data[name]) for name in ("test_accuracy", *OPTIONAL) if name in data.columns}
    recorded = {name: values.where(values != _UNRECORDED) for name, values in measured.items()}
    data = data.assign(**whole_numbers, **recorded)
    whole = data["dataset"].map({name: card.train for name, card in PACKAGED.datasets.items()})
    all_of_it = (data["images"] == whole) | (data["images"] == ALL)
    unknown = data[all_of_it & whole.isna()]
    if not unknown.empty:
        raise InvalidRequest(
            Code.WRONG_VALUE,
            "images -1 means the whole training set, whose size is known only for "
            f"{', '.join(sorted(PACKAGED.datasets))}. Fix: give the number of images for {unknown.iloc[0]['dataset']}",
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
    """Yield the rows of each trial in the schema of results, from the frame that ``read`` returns."""
    varying = ["epoch", "images_used", "test_accuracy", *(name for name in OPTIONAL if name in data.columns)]
    nothing = dict.fromkeys(schema(GRID_KIND).names)
    marks = {"recipe": ORIGIN, "origin": ORIGIN}
    for _, trial in data.sort_values("epoch").groupby(list(KEY), sort=True):
        identity = {name: _plain(trial.iloc[0][name]) for name in (*KEY, "epochs")}
        card = _card(str(identity["source"]))
        constants = {**nothing, **identity, "trial_id": imported_id(identity), **marks, **card}
        rows = trial[varying].astype(object).to_dict("records")
        yield [{**constants, **{str(name): _plain(value) for name, value in row.items()}} for row in rows]


def _card(source: str) -> dict[str, object]:
    """Return how a source with a known name was trained; empty for other sources."""
    card = PACKAGED.sources.get(source)
    return {} if card is None else {"constraint": card.constraint.value, "epsilon": card.epsilon}


def _plain(value: object) -> object:
    """Convert numpy scalars to Python's and NaN to None."""
    item = getattr(value, "item", None)
    value = item() if callable(item) else value
    return None if isinstance(value, float) and value != value else value
