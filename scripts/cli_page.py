"""Write docs/reference/cli.md: every command with its arguments and options, from the command line itself.

    python -m scripts.cli_page

A test checks that the page is current.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from orchestrator.cli.json_keys import KEYS
from orchestrator.cli.main import app

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "cli.md"
VALUES = {"str": "TEXT", "int": "INTEGER", "float": "NUMBER", "path": "PATH"}
"""Placeholders for values, by type, for options that do not name their value."""
_HEAD = """\
# Command line

<!-- Written by `python -m scripts.cli_page` from orchestrator/cli; change the help texts there. -->

`deltasweep COMMAND --help` prints the same. [Exit codes](exit-codes.md) are the same for every command. `ROOT` is a
results root: a directory, or an `s3://BUCKET/PREFIX` or `gs://BUCKET/PREFIX`. `STUDY` is the path of a study file, or
the name of a [packaged study](packaged-studies.md). `deltasweep --version` prints the versions of DeltaSweep, Python,
torch and Ray.

With `--json`, standard output has one JSON value and nothing else; progress and notes go to standard error, or nowhere
with `--quiet`. Errors are JSON on standard error, where the last line is the [error](errors.md), and standard output
is empty then. Keys are stable: a release may add some, but never removes or redefines one. `[]` stands for the objects
of a list.
"""


def page() -> str:
    """Return the whole page."""
    root: Any = typer.main.get_command(app)
    return _HEAD + "".join(_sections("deltasweep", root))


def commands(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    """Yield every command in a group, with its full name."""
    if hasattr(command, "commands"):
        for word, child in command.commands.items():
            yield from commands(f"{name} {word}", child)
    else:
        yield name, command


def _sections(name: str, root: Any) -> Iterator[str]:
    for words, command in commands(name, root):
        context = command.make_context(words, [], resilient_parsing=True)
        usage = re.sub(r"{(.+?)}\.*", lambda name: name[1].upper(), " ".join(command.collect_usage_pieces(context)))
        yield f"\n## {words}\n\n    {words} {usage}\n\n{_paragraphs(command.help)}\n"
        rows = [row for parameter in command.params if (row := _row(parameter, context)) is not None]
        if rows:
            yield "\n| argument or option | default | meaning |\n| --- | --- | --- |\n" + "".join(rows)
        keys = (f"| {f'`{key}`' if key else ''} | {_cell(meaning)} |\n" for key, meaning in KEYS[words].items())
        yield "\n| key of `--json` | meaning |\n| --- | --- |\n" + "".join(keys)


def _paragraphs(text: str | None) -> str:
    lines = (text or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in lines)


def _row(parameter: Any, context: Any) -> str | None:
    if parameter.name == "help" or getattr(parameter, "hidden", False):
        return None
    if parameter.param_type_name == "argument":
        name = parameter.metavar or parameter.name.upper()
        shown = name + ("..." if parameter.nargs != 1 and not name.endswith("...") else "")
    else:
        written: str = parameter.get_help_record(context)[0]
        shown = re.sub(r"<([^>]*)>", lambda kind: _value(kind[1]), written)
    default = "required" if parameter.required else _default(parameter)
    variable = f" Environment: `{parameter.envvar}`." if getattr(parameter, "envvar", None) else ""
    meaning = " ".join((getattr(parameter, "help", None) or "").split())
    return f"| `{shown}` | {default} | {_cell(meaning + variable)} |\n"


def _value(kind: str) -> str:
    """Format a type: `TEXT`, or the values of a choice."""
    if "|" in kind:
        return f"{{{kind.replace('|', ', ')}}}"
    return VALUES.get(kind.split()[0], kind.upper())


def _default(parameter: Any) -> str:
    if isinstance(said := getattr(parameter, "show_default", None), str):
        return said
    value = parameter.default
    if parameter.param_type_name == "option" and parameter.is_flag:
        assert value is not None, f"{parameter.name}: say with show_default what happens without the option"
        return "off" if not value else "on"
    if value is None or value == "" or value == [] or callable(value) or "UNSET" in repr(value):
        return ""
    return f"`{getattr(value, 'value', value)}`"


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
