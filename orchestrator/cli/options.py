"""Arguments and options that several verbs share, each with its help text."""

from pathlib import Path
from typing import Annotated

import typer

from jobs.paths import RESULTS_VARIABLE
from orchestrator.cli import output
from orchestrator.study.packaged_studies import packaged_studies


def study_names(incomplete: str) -> list[str]:
    """Return what completes the name of a packaged study or the path of a study file in this folder."""
    files = sorted(str(file) for file in Path().glob("*.y*ml"))
    return [name for name in [*packaged_studies(), *files] if name.startswith(incomplete)]


def path(text: str) -> Path:
    """Return the path of an option. Empty text, as of an unset variable, would be the current directory."""
    if not text:
        raise typer.BadParameter("expected a path; got empty text")
    return Path(text)


StudyName = Annotated[
    str,
    typer.Argument(
        help="Name of a packaged study, or path to a study file.", metavar="STUDY", autocompletion=study_names
    ),
]
StudyOfRoot = Annotated[
    str | None, typer.Option("--study", help="A study recorded in this root; by default the last one launched.")
]
Root = Annotated[
    str,
    typer.Option(
        "--results",
        help="Results root: a directory, s3:// or gs://.",
        metavar="ROOT",
        envvar=RESULTS_VARIABLE,
    ),
]
MaybeRoot = Annotated[
    str | None,
    typer.Option(
        "--results",
        help="Results root; trials that are done there are not counted as work.",
        metavar="ROOT",
        envvar=RESULTS_VARIABLE,
    ),
]
Address = Annotated[
    str | None, typer.Option("--address", help="Address of a Ray cluster; by default Ray starts on this machine.")
]
Submit = Annotated[
    bool,
    typer.Option(
        "--submit", help="Run on the cluster's head node; --address is the URL of its dashboard (http://...)."
    ),
]
GpuName = Annotated[
    str, typer.Option("--gpu", help="GPU type for estimates: one that `deltasweep plan STUDY --compare all` lists.")
]
ClusterGpu = Annotated[
    str | None,
    typer.Option(
        "--gpu",
        metavar="NAME",
        help="GPU type of the cluster, for --max-cost and the live page: one that `deltasweep plan STUDY --compare "
        "all` lists; by default, --max-cost asks the cluster.",
    ),
]
Price = Annotated[float | None, typer.Option(help="US dollars per GPU-hour; by default a list price.")]
MaxCost = Annotated[
    float | None, typer.Option(help="Stop before the cluster has cost more than this during the launch, in US dollars.")
]
MaxHours = Annotated[
    float | None, typer.Option(help="Stop, with all progress saved, before this many hours have passed.")
]
HangAfter = Annotated[
    float,
    typer.Option(
        metavar="MINUTES",
        help="Kill an actor that makes no progress for this long (see docs/how-to/run-and-resume.md).",
    ),
]
AcceptNumerics = Annotated[
    list[str] | None,
    typer.Option(
        metavar="[KIND:]N",
        help="Count results of older numerics versions (of one kind) as done, from N on; may be repeated.",
    ),
]
Builders = Annotated[
    list[Path] | None,
    typer.Option(
        "--builder",
        parser=path,
        metavar="FILE",
        help="Run the code of this builder file, which an own architecture of the study names; may be repeated.",
    ),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print one JSON value on standard output, and errors as JSON on standard error.",
        callback=output.json_asked,
    ),
]
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet", help="Print only what was asked for, and errors; no progress.", callback=output.quiet_asked
    ),
]

LivePage = Annotated[
    bool | None,
    typer.Option(
        "--ui/--no-ui",
        help="Serve the live page to this machine, until 15 minutes after the last look.",
        show_default="served at a terminal",
    ),
]


def as_arguments(**options: object) -> list[str]:
    """Return options as command-line arguments: one per item of a list, none for None."""
    given = {f"--{name.replace('_', '-')}": value for name, value in options.items() if value is not None}
    listed = [(name, value if isinstance(value, list) else [value]) for name, value in given.items()]
    return [text for name, values in listed for value in values for text in (name, str(value))]
