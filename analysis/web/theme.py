"""The style sheet that the report and the live page share."""

from functools import cache
from pathlib import Path

from analysis.figures.drawing.style import COLOURS, DARK_COLOURS


@cache
def theme() -> str:
    """Return ``theme.css`` and the colours of series: class ``s0`` sets ``--c`` to the first, and so on."""
    light, dark = (
        "".join(f"--s{number}:{colour};" for number, colour in enumerate(colours))
        for colours in (COLOURS, DARK_COLOURS)
    )
    classes = "".join(f".s{number}{{--c:var(--s{number})}}" for number in range(len(COLOURS)))
    series = f":root{{{light}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n{classes}\n"
    return (Path(__file__).parent / "theme.css").read_text(encoding="utf-8") + series
