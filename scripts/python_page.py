"""Write docs/reference/python.md: the package `deltasweep`, from its docstrings.

    python -m scripts.python_page

A test checks that the page is current.
"""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import deltasweep

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "python.md"
_HEAD = """\
# Python

<!-- Written by `python -m scripts.python_page` from the docstrings of deltasweep/; change them there. -->

The functions of `deltasweep` do what the commands do, under the same words ([how to use them in a
notebook](../how-to/notebooks.md)).

"""
_FIRST = (
    "Study",
    "plan",
    "Plan",
    "launch",
    "Launched",
    "status",
    "Status",
    "deltas",
    "query",
    "Table",
    "figure",
    "Figure",
)
"""Names in the order of the page; a function is followed by what it returns."""
_ERRORS = """
## Errors

Expected errors are those of the [command line](errors.md): `error.code`, `error.place` (file, line, key) and
`error.mistakes`. `ds.DeltaSweepError` catches all of them; the others are its subclasses. Options in a message, such as
`--results`, are the arguments of the same name.

| error | meaning |
| --- | --- |
"""


def page() -> str:
    """Return the whole page."""
    module = inspect.getdoc(deltasweep) or ""
    errors = [name for name in deltasweep.__all__ if name not in _FIRST]
    rows = [f"| `ds.{name}` | {_first_line(getattr(deltasweep, name))} |\n" for name in errors]
    return _HEAD + _markdown(module) + "\n" + "".join(map(_section, _FIRST)) + _ERRORS + "".join(rows)


def _section(name: str) -> str:
    thing = getattr(deltasweep, name)
    if inspect.isclass(thing):
        made = [*_documented(thing.__init__, f"ds.{name}")] if name in ("Study", "Table") else []
        return "".join([f"\n## {name}\n\n{_markdown(inspect.getdoc(thing) or '')}\n", *made, *_members(thing)])
    return "".join([f"\n## {name}\n", *_documented(thing, f"ds.{name}")])


def _documented(function: object, name: str) -> Iterator[str]:
    """Yield the signature of a function, its text and its arguments."""
    assert callable(function)
    yield f"\n```python\n{name}{_signature(function)}\n```\n"
    text, *sections = re.split(r"\n(Args|Returns|Raises):\n", inspect.getdoc(function) or "")
    if text and inspect.isfunction(function) and function.__name__ != "__init__":
        yield f"\n{_markdown(text.strip())}\n"
    for title, body in zip(sections[::2], sections[1::2], strict=True):
        if title == "Returns":
            yield f"\n{_markdown(inspect.cleandoc(body))}\n"
            continue
        heading = "argument" if title == "Args" else "error"
        yield f"\n| {heading} | meaning |\n| --- | --- |\n"
        yield from (f"| `{names}` | {_cell(meaning)} |\n" for names, meaning in _entries(body))


def _entries(body: str) -> Iterator[tuple[str, str]]:
    """Yield the names and meanings of a section of a docstring."""
    for entry in re.split(r"\n(?=\S)", inspect.cleandoc(body)):
        names, _, meaning = entry.partition(": ")
        yield names, " ".join(meaning.split())


def _signature(function: object) -> str:
    """Return the names and defaults of the arguments."""
    assert callable(function)
    signature = inspect.signature(function)
    kept = [
        one.replace(annotation=inspect.Parameter.empty) for name, one in signature.parameters.items() if name != "self"
    ]
    return str(signature.replace(parameters=kept, return_annotation=inspect.Signature.empty))


def _members(kind: type) -> Iterator[str]:
    """Yield the table of a class's public members."""
    rows = []
    for name, member in vars(kind).items():
        if name.startswith("_") and name not in ("__len__", "__getitem__"):
            continue
        if isinstance(member, property):
            shown = f".{name}"
        elif name == "__len__":
            shown = f"len({kind.__name__.lower()})"
        elif name == "__getitem__":
            shown = f"{kind.__name__.lower()}[column]"
        else:
            shown = f".{name}{_signature(member)}"
        if inspect.isfunction(member) and getattr(deltasweep, name, None) is member:
            rows.append(f"| `.{name}(...)` | [`ds.{name}`](#{name}) of this study. |\n")
        else:
            rows.append(f"| `{shown}` | {_first_line(member)} |\n")
    if rows:
        yield "\n| member | meaning |\n| --- | --- |\n" + "".join(rows)


def _first_line(thing: object) -> str:
    text = (inspect.getdoc(thing) or "").split("\n\n")[0]
    return _cell(" ".join(text.split()))


def _markdown(text: str) -> str:
    """Return a docstring as Markdown: an indented block after ``::`` is Python."""
    parts = []
    for part in re.split(r"\n\n", text):
        if part.startswith("    "):
            parts.append(f"```python\n{inspect.cleandoc(part)}\n```")
        elif part != "::":
            parts.append(part.replace("``", "`"))
    merged = "\n\n".join(parts)
    return merged.replace("\n```\n\n```python\n", "\n\n")


def _cell(text: str) -> str:
    return text.replace("``", "`").replace("|", r"\|")


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
