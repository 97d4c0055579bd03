"""Safe loading of untrusted YAML: plain values only, with limits on sizes and numbers. Every error is a ``YAMLError``.

Files written by users are read with the core schema of YAML 1.2, as in other current tools: ``1e-3`` is a number,
``no`` and ``1:30`` are text. Files written by this program with PyYAML are read as PyYAML reads them, which is YAML
1.1.
"""

import re
from typing import Any

import yaml

from jobs.system.printable import brief, shown

MOST_CHARACTERS = 4_000_000
MOST_VALUES = 100_000
"""The limit with all aliases expanded. A few lines of nested aliases can expand to more than fits in memory."""
MOST_DIGITS = 1_000
"""The limit for characters of a number. Python has no text for integers of thousands of digits, and the time to read
numbers in base 60 (YAML 1.1) grows with the square of their length.
"""
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_MOST_REREAD = 100
_TOO_MANY = f"it has more than {MOST_VALUES:,} values after expanding aliases; use fewer"
_TOO_DEEP = "it is nested too deeply"


class Loader(yaml.SafeLoader):
    """Load plain values as PyYAML does, within the limits; a value that cannot be constructed is a ``YAMLError``."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._composed = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self._composed += 1
        if self._composed > MOST_VALUES:  # before they fill the memory
            raise yaml.YAMLError(_TOO_MANY)
        return super().compose_node(parent, index)

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> str:
        text = super().construct_scalar(node)
        if node.tag in _NUMBERS and len(text) > MOST_DIGITS:
            raise yaml.constructor.ConstructorError(
                None,
                None,
                f"expected a number of at most {MOST_DIGITS:,} characters; got one of {len(text):,}. Fix: shorten it, "
                "or quote it if it is text",
                node.start_mark,
            )
        return text

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError, TypeError, ArithmeticError) as error:
            kind = node.tag.rpartition(":")[2]
            got = f"; got {shown(node.value)}" if isinstance(node, yaml.ScalarNode) else ""
            why = f" ({brief(str(error), 200)})" if isinstance(error, ValueError) else ""
            raise yaml.constructor.ConstructorError(
                None,
                None,
                f"expected a value of the type {kind}{got}{why}",
                node.start_mark,
            ) from error


class CoreLoader(Loader):
    """Load plain values according to YAML 1.2's core schema, and ``<<``, which YAML readers commonly support."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  # as in PyYAML


def _integer(loader: CoreLoader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node)
    if led := re.fullmatch("([-+]?)0+([0-9]+)", text):
        sign, digits = led.groups()
        raise yaml.constructor.ConstructorError(
            None,
            None,
            f"expected a number without leading 0, which some YAML readers take as octal and others as decimal; got "
            f"{text}. Fix: write {sign}{digits}, or quote it if it is text",
            node.start_mark,
        )
    return int(text, _RADIX.get(text[:2], 10))


def _floating(loader: CoreLoader, node: yaml.ScalarNode) -> float:
    text = loader.construct_scalar(node)
    value = float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    if value == 0 and re.search("[1-9]", re.split("[eE]", text)[0]):
        raise yaml.constructor.ConstructorError(
            None,
            None,
            f"expected a number that is not rounded to 0; got {text}. Fix: write 0",
            node.start_mark,
        )
    return value


_RADIX = {"0o": 8, "0x": 16}
_CORE = (
    ("null", r"~|null|Null|NULL|", ("~", "n", "N", "")),
    ("bool", r"true|True|TRUE|false|False|FALSE", tuple("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", tuple("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        tuple("-+.0123456789"),
    ),
    ("merge", "<<", ("<",)),
)
for _tag, _form, _first in _CORE:
    CoreLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_form})$"), list(_first))
CoreLoader.add_constructor("tag:yaml.org,2002:int", _integer)
CoreLoader.add_constructor("tag:yaml.org,2002:float", _floating)


class _Dumper(yaml.SafeDumper):
    """Quote text that either version of YAML would not read as text."""


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    meant = any(re.fullmatch(form, text) for _, form, _ in _CORE)
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="'" if meant else None)


_Dumper.add_representer(str, _text)


def dump(value: object, *, width: int = 110, flow: bool | None = None) -> str:
    """Return plain values as YAML that versions 1.1 and 1.2 read identically.

    Args:
        width: where lines are broken, in characters.
        flow: whether collections are in brackets; None: those that contain no others are.
    """
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, default_flow_style=flow, width=width)
    return text


def otherwise_read(text: str) -> object:
    """Return how YAML 1.1 reads a plain value that is text in the core schema; the text itself if both agree.

    Long texts and collections are returned as they are: nobody means a number or a Boolean by them.
    """
    try:
        value = load(text) if len(text) <= _MOST_REREAD else text
    except yaml.YAMLError:
        return text
    return text if isinstance(value, dict | list | set) else value


def compose(text: str, loader: type[Loader] = Loader) -> yaml.Node | None:
    """Return the node tree of one YAML document; None for an empty one. Aliases share their node.

    Raises:
        yaml.YAMLError: if it is not YAML, has more than ``MOST_CHARACTERS``, or expands to more than ``MOST_VALUES``.
    """
    if len(text) > MOST_CHARACTERS:
        raise yaml.YAMLError(f"it has {len(text):,} characters; at most {MOST_CHARACTERS:,} are allowed")
    try:
        root = yaml.compose(text, Loader=loader)
        if root is not None:
            _count(root, {})
    except RecursionError as error:
        raise yaml.YAMLError(_TOO_DEEP) from error
    return root


def load(text: str, loader: type[Loader] = Loader) -> Any:
    """Return the values of one YAML document; tags for anything but plain values are refused.

    Args:
        text: the document.
        loader: ``CoreLoader`` for files written by users; the default is for files written by PyYAML.

    Raises:
        yaml.YAMLError: as ``compose``, or for an invalid plain value, such as a date that does not exist; it is marked
            with the place of the value.
    """
    root = compose(text, loader)
    constructor = loader("")  # a SafeLoader, which constructs plain values only
    try:
        return None if root is None else constructor.construct_document(root)
    except RecursionError as error:
        raise yaml.YAMLError(_TOO_DEEP) from error
    finally:
        constructor.dispose()


def load_packaged(text: str) -> Any:
    """Return the values of a YAML file of this package, by the C library if PyYAML has it: several times as fast."""
    return yaml.load(text, Loader=_FAST)


_FAST: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _count(node: yaml.Node, known: dict[int, int | None]) -> int:
    """Count the values that a node expands to; ``known`` has the counts of earlier nodes, None while being counted."""
    if id(node) in known:
        count = known[id(node)]
        if count is None:
            raise yaml.YAMLError("an alias (*name) refers to a value that contains it; write the value out instead")
        return count
    known[id(node)] = None
    inside = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
    count = 1 if isinstance(node, yaml.ScalarNode) else 1 + sum(_count(part, known) for part in inside)
    if count > MOST_VALUES:
        raise yaml.YAMLError(_TOO_MANY)
    known[id(node)] = count
    return count
