"""docs/reference/cli.md is what the command line has."""

from typer.main import get_command

from orchestrator.cli.main import app
from scripts.cli_page import PAGE, commands, page


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m scripts.cli_page"


def test_every_command_has_a_section_and_every_option_a_row() -> None:
    text = page()
    for words, command in commands("deltasweep", get_command(app)):
        section = text.split(f"\n## {words}\n")[1].split("\n## ")[0]
        assert len(section.splitlines()[3]) > 20, words
        options = [name for parameter in command.params for name in parameter.opts if name.startswith("--")]
        assert [option for option in options if f"`{option}" not in section and option != "--help"] == []
