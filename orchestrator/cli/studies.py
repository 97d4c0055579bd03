"""``deltasweep studies`` and ``deltasweep schema``: packaged studies, new ones, and the schema of study files."""

import re
import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.table import Column, Table

from jobs.errors import Code, InvalidRequest
from jobs.paths import expanded
from jobs.system.commands import command
from jobs.system.printable import one_line
from orchestrator.cli.options import Json, Quiet
from orchestrator.cli.output import notes, out, print_json, print_table
from orchestrator.study.packaged_studies import packaged_studies, packaged_text

studies = typer.Typer(help="List, show and write study files.", no_args_is_help=True)
verbs = typer.Typer()


@studies.command("list")
def list_studies(as_json: Json = False, quiet: Quiet = False) -> None:
    """List the packaged studies with their numbers of trials and what they ask."""
    from jobs.study.expand import expand
    from orchestrator.study.load import load_study

    listed = []
    for name in packaged_studies():
        study = load_study(name)
        listed.append({"study": name, "trials": len(expand(study)), "description": " ".join(study.description.split())})
    if as_json:
        print_json(listed)
        return
    table = Table(
        Column("study", no_wrap=True), Column("trials", justify="right"), Column("what it asks"), box=box.SIMPLE
    )
    for one in listed:
        table.add_row(str(one["study"]), f"{one['trials']:,}", _first_sentence(str(one["description"])))
    print_table(table)
    notes.print("To see one: deltasweep studies show NAME\nTo begin your own: deltasweep studies new NAME")


def _first_sentence(text: str) -> str:
    """Return the first sentence of a description, without the reference before its colon being mistaken for one."""
    return re.split(r"(?<=[.?!])\s+(?=[A-Z])(?<!et al\.\s)", text, maxsplit=1)[0]


@studies.command()
def show(
    name: Annotated[
        str, typer.Argument(help="Name of a packaged study.", metavar="NAME", autocompletion=packaged_studies)
    ],
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Print a packaged study: its YAML file."""
    from orchestrator.study.load import parse_study, unknown_study

    text = packaged_text(name)
    if text is None:
        raise unknown_study(name)
    if as_json:
        from jobs.study.expand import expand

        study = parse_study(text, f"{name}.yaml")
        described = " ".join(study.description.split())
        print_json({"study": name, "trials": len(expand(study)), "description": described, "yaml": text})
    else:
        out.print(text, end="")


@studies.command()
def new(
    target: Annotated[
        str, typer.Argument(help="Name of the study, or path of its file, ending in .yaml.", metavar="NAME|FILE")
    ],
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write a commented study file to begin with. An existing file is never replaced."""
    from jobs.specs.base import NAME_PATTERN
    from orchestrator.study.template import new_study

    is_path = target.endswith((".yaml", ".yml")) or "/" in target
    file = expanded(target, "NAME|FILE") if is_path else Path(f"{target}.yaml")
    if file.suffix not in (".yaml", ".yml"):
        raise _wrong(Code.WRONG_PLACE, f"expected a file that ends in .yaml; got {target}. Fix: add it", target)
    if re.fullmatch(NAME_PATTERN, file.stem) is None or len(file.stem) > 100:
        raise _wrong(
            Code.WRONG_NAME,
            f"expected a name of at most 100 lower-case letters, digits, '.', '_' and '-'; got {file.stem!r}. Fix: "
            "choose another name",
            target,
        )
    text = new_study(file.stem, one_line(shlex.quote(str(file))))
    try:
        with file.open("x", encoding="utf-8") as made:
            try:
                made.write(text)
                made.flush()
            except OSError:
                file.unlink(missing_ok=True)
                raise
    except FileExistsError as error:
        raise _wrong(
            Code.WRONG_PLACE, f"expected a new file; {file} exists. Fix: choose another name, or remove it", file
        ) from error
    except OSError as error:
        raise _wrong(
            Code.WRONG_PLACE,
            f"expected a folder that can be written; {file}: {error.strerror}. Fix: choose another",
            file,
        ) from error
    notes.print(f"Wrote {file}. Next: {command('plan', file)}")
    if as_json:
        print_json({"study": file.stem, "file": str(file)})


def _wrong(code: Code, message: str, file: object) -> InvalidRequest:
    return InvalidRequest(code, message, file=file, key="NAME|FILE")


@verbs.command()
def schema(as_json: Json = False, quiet: Quiet = False) -> None:
    """Print the JSON schema of study files, for editors.

    deltasweep schema > study.schema.json

    Then begin the study file with: # yaml-language-server: $schema=study.schema.json
    """
    from orchestrator.study.json_schema import study_schema

    print_json(study_schema())
