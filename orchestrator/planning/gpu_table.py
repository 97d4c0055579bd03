"""The table of GPUs: its entries, the packaged table, and a user's table merged over it. No torch."""

import datetime
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from jobs.errors import Code, InvalidRequest, Mistake, Place, first_lines
from jobs.paths import expanded
from jobs.system import safe_yaml
from jobs.system.files import read_file
from jobs.system.printable import brief, listing, one_line, shown
from orchestrator.study import yaml_lines
from orchestrator.study.raw_values import MOST_MISTAKES, Violation, Violations, counted, not_text
from orchestrator.study.yaml_lines import Document

Format: TypeAlias = Literal["float32", "tf32", "bfloat16", "float16"]
"""Number format of matrix products and convolutions: a recipe's precision, or ``tf32`` for float32 with ``tf32``."""

_MOST_BYTES = 1_000_000
"""Largest size of a user's table."""

_MEMORY = re.compile(r"-[0-9]+GB$")
"""What a name of the table has at its end to tell two sizes of memory apart."""

_SIZE = re.compile(r"[0-9]+gb")


def _day_or_month(value: object) -> object:
    """Check a date, such as 2026-11-30, or a month, such as 2021-03. A year alone is a number in YAML."""
    text = value if isinstance(value, str) else ""
    try:
        datetime.date.fromisoformat(text if text.count("-") == 2 else f"{text}-01")
    except ValueError as error:
        raise ValueError("expected a date such as 2026-11-30, or a month such as 2021-03") from error
    return value


Amount = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1)]
Day = Annotated[str, BeforeValidator(_day_or_month)]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)  # most commands use no table


class Measurement(_Entry):
    """A measurement of training: the whole ResNet-50 at 224 x 224 pixels on one GPU."""

    images_per_second: Amount
    source: Text
    date: Day


class Rate(_Entry):
    """How fast a GPU trains in one format: measured, or relative to the measured rate of another GPU."""

    images_per_second: Amount | None = Field(default=None, description="as in ``Measurement``")
    tflops: Amount | None = Field(default=None, description="10^12 FLOPs per second reached in training")
    of: Text | None = Field(default=None, description="another GPU, with a measured rate in the same format")
    times: Amount | None = Field(default=None, description="this rate as a multiple of the other GPU's")
    because: Text | None = Field(default=None, description="what the factor rests on")
    source: Text
    date: Day
    others: tuple[Measurement, ...] = Field(default=(), description="further measurements, which are only reported")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        factor = (self.of, self.times, self.because)
        ways = [self.images_per_second is not None, self.tflops is not None, any(part is not None for part in factor)]
        if sum(ways) != 1 or (ways[2] and None in factor):
            raise ValueError(
                f"expected one of images_per_second, tflops, or of with times and because; got "
                f"{', '.join(sorted(self.model_fields_set))}. Fix: give exactly one"
            )
        return self


class Price(_Entry):
    """A price of a cloud."""

    cloud: Text
    instance: Text
    gpus: Annotated[int, Field(ge=1, description="GPUs per instance")]
    kind: Literal["on-demand", "spot"]
    dollars: Annotated[Amount, Field(description="US dollars per hour of one GPU with its share of the machine")]
    source: Text
    date: Day


class GpuCard(_Entry):
    """A GPU: memory, rates and prices."""

    card: Text | None = Field(
        default=None, description="form factor that the rates are of, if it is sold in several, such as SXM5 or PCIe"
    )
    memory_gb: Amount = Field(description="10^9 bytes")
    fp32_tflops: Amount | None = Field(
        default=None, description="peak in float32 without tensor cores, in 10^12 FLOPs per second"
    )
    units: frozenset[Literal["tf32", "bfloat16", "float16"]] = Field(
        default=frozenset(("tf32", "bfloat16", "float16")), description="formats that its tensor cores compute"
    )
    rates: dict[Format, Rate]
    prices: tuple[Price, ...] = ()


Table: TypeAlias = Mapping[str, GpuCard]
_CARDS = TypeAdapter(dict[Text, GpuCard], config=ConfigDict(defer_build=True))


@cache
def packaged_table() -> Table:
    """Return the packaged GPUs, by name."""
    text = resources.files(__package__).joinpath("gpus.yaml").read_text(encoding="utf-8")
    cards = _CARDS.validate_python(safe_yaml.load(text, safe_yaml.CoreLoader))
    assert not list(_wrong_references(cards, cards)), "the packaged table refers to GPUs without measured rates"
    return cards


class Device(NamedTuple):
    """A GPU of a machine."""

    name: str
    """Its name by its driver, such as ``NVIDIA A100-SXM4-80GB``."""
    memory: float
    """Its bytes."""


class GpusUnknown(Exception):
    """The GPUs of a cluster are not known, because of what the message says."""


def name_in(name: str, table: Iterable[str]) -> str:
    """Return how a table spells the name of a GPU, in whatever case it is written; as written if it has none such."""
    spelt = {one.casefold(): one for one in table}
    return name if name in spelt.values() else spelt.get(name.casefold(), name)


_ADD_NOTHING = re.compile(r"nvidia|tesla|geforce|quadro|amd|instinct|radeon|generation|hbm3e?")
"""Words in the names of devices that do not tell one GPU from another. Any other word besides a GPU's own name may name
a slower one: a slice (MIG), a share of a virtual machine (10C, 24Q), a laptop's, or another chip (Ti, D, Max-Q).
"""

_FORM_FACTOR = re.compile(r"sxm[0-9]?|pcie|nvl")


def named_after(device: str, memory: float, table: Table) -> str | None:
    """Return the GPU of a table that a device is, by their names; None if there is none.

    Of several with the longest such name, the one with the nearest memory: ``A100`` and ``A100-80GB``. A device with
    a form factor in its name is only a GPU with the same one in its name or ``card``; SXM also one without any.

    Args:
        device: its name by its driver, such as ``NVIDIA A100-SXM4-80GB``.
        memory: its bytes.
    """
    if device in table:
        return device
    words = [word for word in _words(device) if not _SIZE.fullmatch(word)]
    families = {name: "".join(_words(_MEMORY.sub("", name))) for name in table}
    fitting = [name for name, family in families.items() if _is_called(words, family, table[name].card)]
    longest = max((families[name] for name in fitting), key=len, default=None)
    alike = [name for name in fitting if families[name] == longest]
    return min(alike, key=lambda name: abs(1e9 * table[name].memory_gb - memory), default=None)


def _is_called(words: Sequence[str], family: str, card: str | None) -> bool:
    """Whether adjacent words are the name of a GPU, and the others tell it from no other GPU.

    Args:
        family: the name without spaces.
    """
    for start in range(len(words)):
        for end in range(start + 1, len(words) + 1):
            if "".join(words[start:end]) == family:
                return all(_adds_nothing(word, card) for word in (*words[:start], *words[end:]))
    return False


def _adds_nothing(word: str, card: str | None) -> bool:
    if _FORM_FACTOR.fullmatch(word):
        return word.startswith("sxm") if card is None else any(own.startswith(word) for own in _words(card))
    return _ADD_NOTHING.fullmatch(word) is not None


def _words(name: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", name.lower())


def table_with(path: str | Path | None) -> Table:
    """Return the packaged GPUs, with those of a user's table added or in place of those of the same name in any case.

    Args:
        path: the user's table, a YAML file of the form of ``gpus.yaml``; None: there is none.

    Raises:
        InvalidRequest: if the file cannot be read or has mistakes; lists all of them, each with its key and line.
    """
    if path is None:
        return packaged_table()
    path = expanded(path, "--gpus")
    document = yaml_lines.parse(_text(path), str(path))
    if not isinstance(document.value, dict):
        raise InvalidRequest(
            Code.UNREADABLE_FILE,
            f"expected GPUs by name, as in docs/how-to/estimate-cost.md; {path} has no keys. Fix: write the name of a "
            "GPU, with its keys indented below it",
            file=path,
        )
    found: list[Violation] = [
        (location, Code.REPEATED, f"expected each key once; it is again in line {line}. Fix: remove one")
        for location, line in document.duplicates[:MOST_MISTAKES]
    ]
    names = [str(key) for key in document.value]
    found += [
        ((name,), Code.REPEATED, f"expected each GPU once, in upper or lower case; got {same} above. Fix: remove one")
        for number, name in enumerate(names)
        if name not in names[:number] and (same := name_in(name, names[:number])) != name
    ][:MOST_MISTAKES]
    own: dict[str, GpuCard] = {}
    try:
        own = _CARDS.validate_python(document.value)
    except ValidationError as error:
        mistakes = error.errors(include_url=False)[:MOST_MISTAKES]
        found += [(tuple(details["loc"]), *_about(details, document)) for details in mistakes]
    packaged = packaged_table()
    table = {**packaged, **{name_in(name, packaged): card for name, card in own.items()}}
    if not found:
        found += islice(_wrong_references(own, table), MOST_MISTAKES)
    if found:
        raise _refusal(document, found)
    return table


def _text(path: str | Path) -> str:
    try:
        return read_file(path, _MOST_BYTES).decode("utf-8-sig")
    except FileNotFoundError as error:
        raise InvalidRequest(
            Code.NO_SUCH_FILE, f"expected a table of GPUs; {path} does not exist. Fix: check the path", file=path
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(
            Code.UNREADABLE_FILE,
            f"expected a table of GPUs, as YAML in UTF-8; {path} cannot be read ({error}). Fix: give a text file",
            file=path,
        ) from error


def _wrong_references(cards: Table, table: Table) -> Violations:
    """Yield the rates that are relative to a GPU without a measured rate in that format."""
    for name, card in cards.items():
        for form, rate in card.rates.items():
            if rate.of is None:
                continue
            other = table[rate.of].rates.get(form) if rate.of in table else None
            if other is None or other.of is not None:
                measured = [key for key, known in table.items() if form in known.rates and not known.rates[form].of]
                yield (
                    (name, "rates", form, "of"),
                    Code.UNKNOWN_NAME,
                    f"expected a GPU with a measured rate in {form}: {listing(measured)}; got {rate.of}. Fix: use "
                    "one of these, or give images_per_second or tflops",
                )


_VALID: Mapping[str, type[BaseModel]] = {"rates": Rate, "prices": Price, "others": Measurement}
"""Models by the key that has them as values or items."""


_OF_KEY = "[key]"
"""pydantic's last step in the location of a wrong key."""


def _about(details: Any, document: Document) -> tuple[Code, str]:
    """Return the code and message of one of pydantic's errors."""
    location, given = tuple(details["loc"]), details["input"]
    if details["type"] == "missing":
        return Code.MISSING_KEY, "expected this key; it is missing. Fix: add it"
    if details["type"] in ("extra_forbidden", "invalid_key"):
        sections = [step for step in location[:-1] if step in _VALID]
        valid = ", ".join((_VALID[str(sections[-1])] if sections else GpuCard).model_fields)
        return Code.UNKNOWN_KEY, f"expected one of the keys {valid}; got {location[-1]}. Fix: use one of these"
    if details["type"] in ("model_type", "dict_type"):
        return Code.WRONG_VALUE, f"expected keys with values, indented below it; got {shown(given)}. Fix: change it"
    written = str(given) if location[-1] == _OF_KEY else document.written(location)
    if details["type"] == "string_type" and written and not isinstance(given, dict | list):
        return Code.WRONG_VALUE, not_text(given, written)
    message = str(details["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")
    if message.startswith("expected"):
        return Code.WRONG_VALUE, message if "got " in message else f"{message}; got {shown(given)}. Fix: change it"
    return Code.WRONG_VALUE, f"expected {message}; got {shown(given)}. Fix: change it"


def _refusal(document: Document, found: list[Violation]) -> InvalidRequest:
    """Return the error with all mistakes, ordered by line; its message lists the first ones."""
    mistakes = [
        Mistake(
            code, Place(document.path, document.line(location), brief(".".join(map(str, location)))), brief(message)
        )
        for location, code, message in sorted(found, key=lambda one: document.line(one[0]) or 0)[:MOST_MISTAKES]
    ]
    lines = [f"  line {one.place.line}: {one.place.key}: {one.message}" for one in mistakes]
    head = f"{one_line(document.path)}: {counted(len(mistakes), len(found))}"
    first = mistakes[0]
    return InvalidRequest(
        first.code,
        "\n".join([head, *first_lines(lines)]),
        **first.place._asdict(),
        mistakes=mistakes if len(mistakes) > 1 else (),
    )
