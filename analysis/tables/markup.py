"""A table as CSV, Markdown or LaTeX."""

from collections.abc import Callable
from pathlib import Path

from analysis.output.formats import spreadsheet
from analysis.tables.model import Table

_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "_": r"\_",
        "%": r"\%",
        "&": r"\&",
        "#": r"\#",
        "$": r"\$",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
    }
)


def csv(table: Table) -> str:
    """Format for spreadsheets and programs: without emphasis, and without commas in numbers."""
    names = table.columns
    rows = (
        [_plain(value, name in table.numbers) for name, value in zip(names, row, strict=True)] for row in table.rows
    )
    return spreadsheet(names, rows)


def _plain(value: str, number: bool) -> str:
    return value.replace(",", "") if number else value


def markdown(table: Table) -> str:
    """Format as a GitHub table, with the best cells in bold and the notes below."""
    lines = [
        f"**{table.title}**",
        "",
        _line(_pipes(table.columns)),
        _line(tuple("---:" if name in table.numbers else ":---" for name in table.columns)),
        *(_line(_pipes(row)) for row in _emphasised(table, "**{}**", str)),
    ]
    return "\n".join([*lines, "", *(f"{note}  " for note in table.notes)]).rstrip() + "\n"


def latex(table: Table) -> str:
    """Format as a ``table`` with ``booktabs`` rules, the best cells in bold and the notes in the caption."""
    spec = "".join("r" if name in table.numbers else "l" for name in table.columns)
    header = " & ".join(_escaped(name) for name in table.columns)
    body = [" & ".join(row) + r" \\" for row in _emphasised(table, r"\textbf{{{}}}", _escaped)]
    caption = _escaped(" ".join([f"{table.title}.", *table.notes]))
    lines = [
        r"\begin{table}",
        rf"\caption{{{caption}}}",
        rf"\label{{tab:{table.name}}}",
        rf"\begin{{tabular}}{{{spec}}}",
        r"\toprule",
        header + r" \\",
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


WRITERS: dict[str, Callable[[Table], str]] = {"csv": csv, "md": markdown, "tex": latex}
"""File extension -> writer."""


def save(table: Table, directory: Path) -> list[Path]:
    """Write ``table`` into ``directory``, one file per format, named after the table."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = [directory / f"{table.name}.{ending}" for ending in WRITERS]
    for path in paths:
        path.write_text(WRITERS[path.suffix[1:]](table), encoding="utf-8")
    return paths


def _emphasised(table: Table, bold: str, prepare: Callable[[str], str]) -> list[tuple[str, ...]]:
    return [
        tuple(
            bold.format(prepare(value)) if (index, name) in table.best else prepare(value)
            for name, value in zip(table.columns, row, strict=True)
        )
        for index, row in enumerate(table.rows)
    ]


def _escaped(value: str) -> str:
    return value.translate(_LATEX)


def _pipes(row: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(value.replace("|", "\\|") for value in row)


def _line(row: tuple[str, ...]) -> str:
    return f"| {' | '.join(row)} |"
