"""Reading study files: packaged ones by name, others by path. All mistakes are reported at once."""

import codecs
import datetime
import difflib
from collections.abc import Iterable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from jobs import registry, yaml_values
from jobs.errors import Code, InvalidRequest, Mistake, Place
from jobs.files import read_file
from jobs.registry import Cards
from jobs.specs import Recipe
from jobs.study import Study, examining
from orchestrator import yaml_lines
from orchestrator.study_checks import code_of, problems
from orchestrator.yaml_lines import Document, Location

_MOST_BYTES = 10_000_000
"""Of a study file: its values are bounded, too (``jobs.yaml_values``)."""


def load_study(name_or_path: str) -> Study:
    """Load a packaged study by its name, or a study file by its path.

    Raises:
        InvalidRequest: with every mistake in the file, each with its key and line.
    """
    path = Path(name_or_path)
    if is_path(name_or_path):
        if not path.exists():
            raise InvalidRequest(
                Code.NO_SUCH_FILE,
                f"there is no study file {name_or_path}; packaged studies: {_names()}",
                file=name_or_path,
            )
        return parse_study(_text(path), name_or_path)
    packaged = resources.files("orchestrator").joinpath("studies", f"{name_or_path}.yaml")
    if not packaged.is_file():
        raise InvalidRequest(
            Code.UNKNOWN_NAME,
            f"unknown study {name_or_path!r}; packaged studies: {_names()}; a file of your own is named by its "
            "path, ending in .yaml",
        )
    return parse_study(packaged.read_text(encoding="utf-8"), f"{name_or_path}.yaml")


def is_path(name_or_path: str) -> bool:
    """Whether this names a study file rather than a packaged study."""
    return Path(name_or_path).suffix in (".yaml", ".yml") or "/" in name_or_path


def _text(path: Path) -> str:
    try:
        data = read_file(path, _MOST_BYTES)
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise InvalidRequest(
                Code.UNREADABLE_FILE,
                f"a study is a text file in UTF-8; {path} is in UTF-16: save it as UTF-8",
                file=path,
            )
        return data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(
            Code.UNREADABLE_FILE, f"a study is a text file in UTF-8; {path} cannot be read as one ({error})", file=path
        ) from error


def packaged_studies() -> list[str]:
    """The names of the studies in the package."""
    folder = resources.files("orchestrator").joinpath("studies")
    return sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml"))


def parse_study(text: str, path: str, *, recorded: bool = False) -> Study:
    """A study from the text of its file; ``path`` is for messages only.

    Args:
        recorded: it is a record of a results root, and not what a person wrote.
    """
    document = yaml_lines.parse(text, path, yaml.SafeLoader if recorded else yaml_values.CoreLoader)
    if not isinstance(document.value, dict):
        raise InvalidRequest(
            Code.UNREADABLE_FILE,
            f"{path}: a study is a mapping with the keys {', '.join(Study.model_fields)}",
            file=path,
        )
    found = [
        (location, Code.REPEATED, f"the key is there twice (again in line {line})")
        for location, line in document.duplicates
    ]
    study: Study | None = None
    try:
        study = Study.model_validate(document.value)
    except ValidationError as error:
        found += _one_a_place(
            (_in_file(dict(item), document.value), code_of(item["type"]), _message(dict(item), document))
            for item in error.errors()
            if not _echo(dict(item))
        )
    with registry.using(study.cards if study else _cards(document.value)):
        found += problems(document.value, examining(Study), recorded)
    if found or study is None:
        raise _refusal(document, found)
    return study


def _cards(raw: dict[str, Any]) -> Cards:
    """What can be understood of a study's own sources and datasets, when not all of the study can."""
    known = Cards()
    for key in ("sources", "datasets"):
        try:
            known = known.model_copy(update={key: getattr(Cards.model_validate({key: raw.get(key, {})}), key)})
        except ValidationError:
            continue
    return known


def _refusal(document: Document, found: list[tuple[Location, Code, str]]) -> InvalidRequest:
    """All mistakes in order of their lines, each once."""
    lines: dict[tuple[int, str, str], Mistake] = {}
    for location, code, message in found:
        line, key = document.line(location), _dotted(location)
        lines.setdefault((line, key or "study", message), Mistake(code, Place(document.path, line, key), message))
    told = sorted(lines)
    head = f"{document.path}: {len(told)} mistake{'s' if len(told) > 1 else ''}"
    text = "\n".join([head, *(f"  line {line}: {where}: {message}" for line, where, message in told)])
    mistakes = [lines[one] for one in told]
    first = mistakes[0]
    return InvalidRequest(first.code, text, **first.place._asdict(), mistakes=mistakes)


def _in_file(error: dict[str, Any], value: Any) -> Location:
    """Where a mistake is, without the names of the alternatives that a value was tried as, which no file has."""
    location: Location = tuple(error["loc"])
    for depth, step in enumerate(location):
        if isinstance(value, dict) and (known := [key for key in value if str(key) == str(step)]):
            value = value[known[0]]
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            return location if error["type"] == "missing" else location[:depth]
    return location


def _one_a_place(found: Iterable[tuple[Location, Code, str]]) -> list[tuple[Location, Code, str]]:
    """A value that is none of several alternatives is one mistake: what each of them asks for, then what it is."""
    told: dict[Location, tuple[Code, str]] = {}
    for location, code, message in found:
        if location in told:
            code, before = told[location]
            message = f"{before.partition('; it is ')[0]}, or {message}"
        told[location] = (code, message)
    return [(location, *of) for location, of in told.items()]


def _dotted(location: Location) -> str:
    """A place in a study file as it is written; empty: all of the file."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in location).removeprefix(".")


def _echo(error: dict[str, Any]) -> bool:
    """A list counted as too short only because its items have mistakes, which are reported themselves."""
    return bool(error["type"] == "too_short" and error["input"])


_LISTS = ("tuple_type", "list_type")
_MAPPINGS = ("model_type", "model_attributes_type", "dict_type", "mapping_type")


def _message(error: dict[str, Any], document: Document) -> str:
    location: Location = tuple(error["loc"])
    given, written = error["input"], document.written(location)
    if error["type"] in _LISTS:
        meant = "" if given is None or written is None else f": write [{written}]"
        is_what = "keys with values" if isinstance(given, dict) else f"{_as_yaml(given)}{meant}"
        return f"a list is needed here, in brackets or with a dash before each item; it is {is_what}"
    if error["type"] in _MAPPINGS:
        return f"keys with values are needed here; it is {_as_yaml(given)}"
    if error["type"] == "string_type" and written and not isinstance(given, str | dict | list):
        return f"a text is needed here, and {written} is {_KINDS.get(type(given), 'none')}; quote it: '{written}'"
    if error["type"] == "extra_forbidden":
        return _unknown_key(location)
    if error["type"] == "missing":
        return "this key is required"
    if error["type"] == "string_pattern_mismatch":
        return f"names are lower-case letters, digits, '.', '_' and '-'; it is {error['input']!r}"
    message = str(error["msg"]).removeprefix("Value error, ")
    message = f"{message[0].lower()}{message[1:]}"
    shown = location and not isinstance(given, dict)  # a whole section is there to be read in the file
    return f"{message}; it is {given!r}{_instead(given, error['type'])}" if shown else message


_KINDS = {int: "a number", float: "a number", bool: "true or false", type(None): "nothing", datetime.date: "a date"}


def _as_yaml(value: object) -> str:
    return "nothing (null)" if value is None else repr(value)


_MEANT: dict[str, tuple[type, ...]] = {"int_type": (int,), "float_type": (int, float), "bool_type": (bool,)}
"""By pydantic's names for what is wrong: what a text may stand for."""


def _instead(given: object, wrong: str) -> str:
    """What to write for a text that some readers of YAML take for what is needed: ``1_000``, ``yes``, ``"5"``."""
    value = yaml_values.otherwise_read(given) if isinstance(given, str) else None
    return f", a text: write {str(value).lower()}" if type(value) in _MEANT.get(wrong, ()) else ""


def _unknown_key(location: Location) -> str:
    section = _section(location[:-1])
    valid = [*(["base"] if location[:-1] == ("recipe",) else []), *section.model_fields]
    close = difflib.get_close_matches(str(location[-1]), valid, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return f"unknown key{hint}; valid keys: {', '.join(valid)}"


def _section(location: Location) -> type[BaseModel]:
    """The model that a place in a study file is checked by."""
    if location == ("grid", "recipe"):  # there each choice has a list
        return Recipe
    section: type[BaseModel] = Study
    named = False
    for key in location:
        if named or isinstance(key, int):  # the name of a card, or an item of a list
            named = False
            continue
        annotation = section.model_fields[key].annotation
        section, named = next(_models(annotation), section), get_origin(annotation) is dict
    return section


def _models(annotation: object) -> Iterator[type[BaseModel]]:
    """Those that a field may have, in its lists and mappings, too."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


def _names() -> str:
    return ", ".join(packaged_studies())
