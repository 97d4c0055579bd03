"""Load study files: packaged ones by name, others by path. All mistakes are reported at once."""

import codecs
import difflib
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from jobs.catalog.architecture_card import Architecture
from jobs.catalog.builder_files import read_builders
from jobs.catalog.dataset_card import DatasetCard
from jobs.catalog.source_card import PUBLISHED_PATTERN, SourceCard
from jobs.errors import Code, InvalidRequest, Mistake, Place, first_lines
from jobs.kind import INSTALL_IT, NOT_INSTALLED, kinds
from jobs.paths import expanded
from jobs.provenance import code_version
from jobs.specs.optimizers import DOES_NOT_FIT
from jobs.specs.recipes import RECIPES
from jobs.study.model import Study, unknown_sections
from jobs.system import safe_yaml
from jobs.system.files import line_of, read_file
from jobs.system.printable import brief, one_line, shown
from jobs.system.similar import close_matches
from orchestrator.study import yaml_lines
from orchestrator.study.models import model_at
from orchestrator.study.own_architectures import card_files, in_its_file
from orchestrator.study.own_paths import with_absolute_paths
from orchestrator.study.packaged_studies import packaged_studies, packaged_text
from orchestrator.study.raw_values import KINDS, MOST_MISTAKES, Violation, counted, not_text
from orchestrator.study.validate import violations
from orchestrator.study.yaml_lines import Document, Location

_MOST_BYTES = 10_000_000
"""Largest size of a study file; its values are limited by ``jobs.system.safe_yaml``."""


def load_study(name_or_path: str, builders: Iterable[Path] | None = None) -> Study:
    """Load a packaged study by its name, or a study file by its path.

    Args:
        builders: builder files that the user has named, which architectures of the study use.

    Raises:
        InvalidRequest: if the file has mistakes; lists all of them, each with its key and line. Or if a builder file
            cannot be used.
    """
    return with_builders(_loaded(name_or_path), builders)


def with_builders(study: Study, builders: Iterable[Path] | None) -> Study:
    """Return a study with the builder files that the user has named, if any.

    Raises:
        InvalidRequest: if one cannot be read, or no architecture of the study uses it.
    """
    return study.with_builders(read_builders(builders)) if builders else study


def _loaded(name_or_path: str) -> Study:
    if is_path(name_or_path):
        path = expanded(name_or_path)
        if not path.exists():
            raise InvalidRequest(
                Code.NO_SUCH_FILE,
                f"study file {name_or_path} does not exist{_meant_files(path)}; packaged studies: {_names()}",
                file=name_or_path,
            )
        return parse_study(_text(path), name_or_path)
    if (text := packaged_text(name_or_path)) is None:
        raise unknown_study(name_or_path)
    return parse_study(text, f"{name_or_path}.yaml")


def _meant_files(path: Path) -> str:
    """Return a question about the study file beside a missing one whose name is most like its own."""
    try:
        beside = {file.name: file for file in path.parent.glob("*.y*ml")}
    except OSError:
        return ""
    meant = difflib.get_close_matches(path.name, beside, n=1, cutoff=0.75)
    return f" (did you mean {brief(str(beside[meant[0]]))}?)" if meant else ""


def unknown_study(name: str) -> InvalidRequest:
    """Return the error for a name that no packaged study has."""
    file = f"{name}.yaml"
    meant = [file] if _is_file(file) else close_matches(name, packaged_studies(), 1)
    hint = f" (did you mean {meant[0]}?)" if meant else ""
    return InvalidRequest(
        Code.UNKNOWN_NAME,
        f"unknown study {name!r}{hint}; packaged studies: {_names()}; to use your own file, give its path, ending in "
        ".yaml",
    )


def _is_file(path: str) -> bool:
    try:
        return Path(path).is_file()
    except (OSError, ValueError):  # not a path
        return False


def is_path(name_or_path: str) -> bool:
    """Whether this is the path of a study file rather than the name of a packaged study."""
    return Path(name_or_path).suffix in (".yaml", ".yml") or "/" in name_or_path


def _text(path: Path) -> str:
    try:
        data = read_file(path, _MOST_BYTES)
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise InvalidRequest(
                Code.UNREADABLE_FILE,
                f"expected a study file in UTF-8; {path} is in UTF-16. Fix: save it as UTF-8",
                file=path,
            )
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = line_of(error)
        raise InvalidRequest(
            Code.UNREADABLE_FILE,
            f"expected a study file in UTF-8; line {line} of {path} is in another encoding. Fix: save it as UTF-8",
            file=path,
            line=line,
        ) from error
    except OSError as error:
        raise InvalidRequest(
            Code.UNREADABLE_FILE,
            f"expected a study file; {path} cannot be read ({error}). Fix: check the path and its permissions",
            file=path,
        ) from error


def parse_study(text: str, path: str, *, recorded: bool = False) -> Study:
    """Parse the text of a study file.

    Args:
        path: for messages; relative paths in the file start in its folder.
        recorded: whether the text is a record of a results root rather than a user's file.

    Raises:
        InvalidRequest: if the text has mistakes; lists all of them, each with its key and line.
    """
    document = yaml_lines.parse(text, path, safe_yaml.Loader if recorded else safe_yaml.CoreLoader)
    if not isinstance(document.value, dict):
        raise InvalidRequest(
            Code.UNREADABLE_FILE,
            f"{path}: expected a mapping with the keys {', '.join(Study.model_fields)}; got "
            f"{KINDS.get(type(document.value), 'a list')}. Fix: begin with the line name: NAME; "
            "`deltasweep studies new` writes a file to begin with",
            file=path,
        )
    return _valid(document, recorded)


def study_from(values: Mapping[str, Any]) -> Study:
    """Return the study with these keys, whose values are those that a study file would have.

    Args:
        values: plain values: numbers, texts, lists and mappings. Relative paths start in the current directory.

    Raises:
        InvalidRequest: as ``load_study``, without files and lines.
    """
    return _valid(Document("", dict(values)))


def _valid(document: Document, recorded: bool = False) -> Study:
    folder = Path(document.path).parent
    mistakes: list[Violation] = [
        (location, Code.REPEATED, f"duplicate key (again in line {line})")
        for location, line in document.duplicates[:MOST_MISTAKES]
    ]
    files, unread = ({}, []) if recorded else card_files(document.value, folder)
    mistakes += unread
    study: Study | None = None
    try:
        study = Study.model_validate(document.value)
        study = study.model_copy(update=with_absolute_paths(study.sources, study.datasets, folder))
    except ValidationError as error:
        places = {location for location, _, _ in unread}
        mistakes += [mistake for mistake in _type_mistakes(error, document) if mistake[0] not in places]
    room = max(MOST_MISTAKES - len(mistakes), 0)
    mistakes += islice(violations(document.value, study, tuple(mistakes), folder, recorded), room)
    if mistakes or study is None:
        raise _refusal(document, mistakes, files)
    return study


def _refusal(document: Document, violations: list[Violation], files: Mapping[str, Document]) -> InvalidRequest:
    """Return the error with all mistakes, ordered by line, without duplicates; its message lists the first ones.

    Args:
        files: cards in files of their own, whose mistakes are at the line of their path.
    """
    by_line: dict[tuple[int, str, str], Mistake] = {}
    for location, code, about in violations[:MOST_MISTAKES]:
        message = brief(f"{in_its_file(location, files)}{about}")
        line, key = document.line(location), brief(_dotted(location))
        mistake = Mistake(code, Place(document.path, line, key), message)
        by_line.setdefault((line or 0, key or "study", message), mistake)
    ordered = sorted(by_line)
    lines = [f"  {f'line {line}: ' if line else ''}{key}: {message}" for line, key, message in ordered]
    mistakes = [by_line[place] for place in ordered]
    first = mistakes[0]
    head = f"{one_line(document.path) or 'the study'}: {counted(len(mistakes), len(violations))}"
    return InvalidRequest(
        first.code, "\n".join([head, *first_lines(lines)]), **first.place._asdict(), mistakes=mistakes
    )


def _type_mistakes(error: ValidationError, document: Document) -> list[Violation]:
    """Return pydantic's errors; of very many, the first ones.

    A value that matches none of several alternatives is one mistake, with all of them.
    """
    mistakes: dict[Location, tuple[Code, str]] = {}
    for details in map(dict, error.errors(include_url=False)):
        if details["type"] == "too_short" and details["input"]:
            continue  # its items have mistakes, which are reported themselves
        location, message = _in_file(details, document.value), _message(details, document)
        code = Code.WRONG_VALUE if _is_digest(details) else _CODES.get(str(details["type"]), Code.WRONG_VALUE)
        if location in mistakes:
            code, before = mistakes[location]
            message = f"{before.partition('; got ')[0]}, or {message}"
        elif len(mistakes) == MOST_MISTAKES:
            break
        mistakes[location] = code, brief(message)
    return [(location, code, message) for location, (code, message) in mistakes.items()]


def _in_file(error: dict[str, Any], value: Any) -> Location:
    """Return a mistake's location in the file: pydantic's without the names of alternatives, which files lack."""
    location: Location = tuple(error["loc"])
    for depth, step in enumerate(location):
        if isinstance(value, dict) and (known := _keys_as_text(value, step)):
            value = value[known[0]]
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            return location if error["type"] == "missing" else location[:depth]
    return location


def _keys_as_text(mapping: dict[Any, Any], step: int | str) -> list[Any]:
    """Return the keys of a mapping that pydantic calls ``step``: it converts some keys."""
    return [step] if isinstance(step, str) and step in mapping else [key for key in mapping if str(key) == str(step)]


_CODES = {
    "extra_forbidden": Code.UNKNOWN_KEY,
    "missing": Code.MISSING_KEY,
    "string_pattern_mismatch": Code.WRONG_NAME,
}
"""Error codes, by pydantic's types of errors."""


def _dotted(location: Location) -> str:
    """Format a location, such as ``grid.source[0]``; empty for the whole file."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in location).removeprefix(".")


_LISTS = ("tuple_type", "list_type")
_MAPPINGS = ("model_type", "model_attributes_type", "dict_type", "mapping_type")


def _message(error: dict[str, Any], document: Document) -> str:
    location: Location = tuple(error["loc"])
    given, written = error["input"], document.written(location)
    if error["type"] in _LISTS:
        meant = "" if given is None or written is None else f". Fix: write [{written}]"
        got = "keys with values" if isinstance(given, dict) else f"{_as_yaml(given)}{meant}"
        return f"expected a list, in brackets or with a dash before each item; got {got}"
    if error["type"] in _MAPPINGS:
        of_section = location[:1] and location[0] in kinds() and location[1:] == ("recipe",)
        if of_section and isinstance(given, str) and given in RECIPES:
            return (
                f"expected keys such as {{precision: bfloat16}}; got the name {given!r}, which is for fine-tuning. "
                "Fix: write the keys that this section should have, too"
            )
        return f"expected keys with values; got {_as_yaml(given)}"
    if error["type"] == "string_type" and written and not isinstance(given, str | dict | list):
        return not_text(given, written)
    if error["type"] == "extra_forbidden":
        return _unknown_key(location, document)
    if error["type"] == "missing":
        return "this key is required"
    if _is_digest(error):
        return f"expected a sha256: 64 digits of 0-9 and a-f (its first digits as sha256_prefix); got {shown(given)}"
    if error["type"] == "string_pattern_mismatch" and error["ctx"]["pattern"] == PUBLISHED_PATTERN:
        return (
            "expected published weights, torchvision:NAME.WEIGHTS or timm:NAME.TAG@COMMIT, as `deltasweep models "
            f"fetch` prints them; got {shown(given)}"
        )
    if error["type"] == "string_pattern_mismatch":
        return f"expected a name of lower-case letters, digits, '.', '_' and '-'; got {shown(given)}"
    message = str(error["msg"]).removeprefix("Value error, ")
    message = f"{message[0].lower()}{message[1:]}"
    if not location or isinstance(given, dict) or error["type"] == DOES_NOT_FIT:  # said already, or a whole section
        return message
    return f"{message}; got {shown(given)}{_instead(given, error['type'])}{_unquoted(given, error['type'])}"


def _unquoted(given: object, wrong: str) -> str:
    """Return the fix for a quoted number."""
    try:
        numeric = wrong in ("float_type", "int_type") and isinstance(given, str) and float(given) is not None
    except ValueError:
        return ""
    return f". Fix: write {given} without quotes" if numeric else ""


def _is_digest(error: dict[str, Any]) -> bool:
    """Whether a text should be a digest, or the beginning of one."""
    return error["type"] == "string_pattern_mismatch" and str(error["ctx"]["pattern"]).startswith("^[0-9a-f]{")


def _as_yaml(value: object) -> str:
    return "nothing (null)" if value is None else shown(value)


_MEANT: dict[str, tuple[type, ...]] = {"int_type": (int,), "float_type": (int, float), "bool_type": (bool,)}
"""The types that a text may have been meant as, by pydantic's types of errors."""


def _instead(given: object, wrong: str) -> str:
    """Suggest a replacement for a text that some YAML parsers read as the needed type: ``1_000``, ``yes``, ``"5"``."""
    value = safe_yaml.otherwise_read(given) if isinstance(given, str) else None
    return f", a text. Fix: write {str(value).lower()}" if type(value) in _MEANT.get(wrong, ()) else ""


def _unknown_key(location: Location, document: Document) -> str:
    section = model_at(location[:-1])
    valid = [*(["base"] if location[:-1] == ("recipe",) else []), *section.model_fields]
    close = close_matches(str(location[-1]), valid, 1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    if not close and len(location) == 1 and (sections := _sections_of(document.value[location[0]])):
        return (
            f"unknown key; it has the keys of a card in the section {' or '.join(sections)}. Fix: indent it and its "
            f"lines, below the line {sections[0]}:"
        )
    message = f"unknown key{hint}; valid keys: {', '.join(valid)}"
    if not close and len(location) == 1 and location[0] in unknown_sections(document.value):
        message += f". Or it may be the section of a kind of trial {NOT_INSTALLED}. {INSTALL_IT}"
    elif not close:
        message += f". A version after DeltaSweep {code_version()} may have it"
    return message


def _sections_of(value: object) -> list[str]:
    """Return the sections whose cards have the keys of a mapping, and at least two of them."""
    cards: dict[str, type[BaseModel]] = {"datasets": DatasetCard, "sources": SourceCard, "architectures": Architecture}
    keys = value.keys() if isinstance(value, dict) else set()
    return [section for section, card in cards.items() if len(keys) > 1 and keys <= card.model_fields.keys()]


def _names() -> str:
    return ", ".join(packaged_studies())
