"""Values from YAML that strangers may have written: plain ones, and not more than a file has room for.

What people write is read by YAML 1.2's core schema, as in every other tool of today: ``1e-3`` is a number, ``no`` and
``1:30`` are text. What this program has written, by PyYAML, is read as PyYAML reads it, which is YAML 1.1.
"""

import re
from typing import Any

import yaml

MOST_CHARACTERS = 4_000_000
MOST_VALUES = 100_000
"""With every alias written out. A few lines of aliases of aliases stand for more than any memory holds."""


class CoreLoader(yaml.SafeLoader):
    """Plain values by YAML 1.2's core schema, and ``<<``, which every reader knows."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  # as PyYAML has it


def _integer(loader: CoreLoader, node: yaml.ScalarNode) -> int:
    text = node.value
    if led := re.fullmatch("([-+]?)0+([0-9]+)", text):
        sign, digits = led.groups()
        raise yaml.constructor.ConstructorError(
            None,
            None,
            f"a number with a 0 in front is octal to some readers and decimal to others; it is {text}. Write "
            f"{sign}{digits}, or quote it if it is text",
            node.start_mark,
        )
    return int(text, _RADIX.get(text[:2], 10))


def _floating(loader: CoreLoader, node: yaml.ScalarNode) -> float:
    value = float(node.value.lower().replace(".inf", "inf").replace(".nan", "nan"))
    if value == 0 and re.search("[1-9]", re.split("[eE]", node.value)[0]):
        raise yaml.constructor.ConstructorError(
            None, None, f"a number this near to 0 would be read as 0; it is {node.value}. Write 0", node.start_mark
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
    """Quotes what either version of YAML would not read as text."""


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    meant = any(re.fullmatch(form, text) for _, form, _ in _CORE)
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="'" if meant else None)


_Dumper.add_representer(str, _text)


def dump(value: object) -> str:
    """Plain values as YAML that 1.1 and 1.2 read alike."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=110)
    return text


def otherwise_read(text: str) -> object:
    """What YAML 1.1 makes of a plain value that is text by the core schema; the text itself where it is one there."""
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        return text


def compose(text: str, loader: type[yaml.SafeLoader] = yaml.SafeLoader) -> yaml.Node | None:
    """The tree of one YAML document, None for an empty one. An alias shares its node.

    Raises:
        yaml.YAMLError: when it is not YAML, or stands for more than ``MOST_VALUES``.
    """
    if len(text) > MOST_CHARACTERS:
        raise yaml.YAMLError(f"it has {len(text):,} characters; at most {MOST_CHARACTERS:,} are read")
    try:
        root = yaml.compose(text, Loader=loader)
        if root is not None:
            _count(root, {})
    except RecursionError as error:
        raise yaml.YAMLError("it is nested too deeply") from error
    return root


def load(text: str, loader: type[yaml.SafeLoader] = yaml.SafeLoader) -> Any:
    """The values of one YAML document; a tag that asks for anything but a plain value is refused.

    Args:
        loader: ``CoreLoader`` for what people write; by default that of what PyYAML has written.

    Raises:
        yaml.YAMLError: as ``compose``.
        ValueError: for a plain value that cannot be, such as a date.
    """
    compose(text, loader)
    return yaml.load(text, Loader=loader)  # a SafeLoader: plain values alone


def _count(node: yaml.Node, known: dict[int, int | None]) -> int:
    """The values that a node stands for; ``known`` has those of the nodes seen before, None while they are counted."""
    if id(node) in known:
        count = known[id(node)]
        if count is None:
            raise yaml.YAMLError("an alias (*name) stands inside what it is an alias of; write it out")
        return count
    known[id(node)] = None
    inside = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
    count = 1 if isinstance(node, yaml.ScalarNode) else 1 + sum(_count(part, known) for part in inside)
    if count > MOST_VALUES:
        raise yaml.YAMLError(f"with its aliases written out it has more than {MOST_VALUES:,} values; use fewer")
    known[id(node)] = count
    return count
