"""``deltasweep completion``: the shell's completion, which typer provides."""

from typing import Annotated, Literal

import typer
from typer.completion import get_completion_script  # type: ignore[attr-defined]  # imported there for its users

from orchestrator.cli.options import Json, Quiet
from orchestrator.cli.output import out, print_json

verbs = typer.Typer()


@verbs.command()
def completion(
    shell: Annotated[Literal["bash", "zsh", "fish"], typer.Argument(help="The shell.", metavar="SHELL")],
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Print a script that completes verbs, options and studies: bash, zsh or fish.

    bash and zsh: eval "$(deltasweep completion bash)" in ~/.bashrc or ~/.zshrc.

    fish: deltasweep completion fish | source, in ~/.config/fish/config.fish.
    """
    script = get_completion_script(prog_name="deltasweep", complete_var="_DELTASWEEP_COMPLETE", shell=shell)
    if shell == "zsh":  # a shell without a configuration of its own has not loaded its completion
        script = script.replace(
            "\ncompdef ", "\n(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }\ncompdef "
        )
    if as_json:
        print_json({"shell": shell, "script": script})
    else:
        out.print(script)
