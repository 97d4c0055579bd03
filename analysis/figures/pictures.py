"""Shared code for pictures of trials: file names, the images that they show, and drawing settings."""

import io
import re
from contextlib import AbstractContextManager
from functools import lru_cache

import matplotlib as mpl
from matplotlib.figure import Figure as Canvas

from analysis.figures.drawing.style import PLAIN_TEXT, SMALLEST_POINTS
from jobs.catalog.catalog import PACKAGED
from jobs.data.raw import Raw
from jobs.data.readers import read_raw
from jobs.errors import DamagedFile, MissingData

_OTHER = re.compile(r"[^a-z0-9_.-]+")
_LONGEST = 60  # characters of each part: a file name has at most 255 bytes


def picture_name(figure: str, number: int, *of: str) -> str:
    """Return a name such as ``figure6-1-digits-influence``; the number distinguishes parts that map to the same text.

    Args:
        of: what it shows. This may be untrusted text: anything but ``[a-z0-9_.-]`` becomes a dash.
    """
    return "-".join([figure, str(number), *(_OTHER.sub("-", part.lower())[:_LONGEST] for part in of)])


def drawn_pictures() -> AbstractContextManager[None]:
    """Return a context with the matplotlib settings for pictures."""
    return mpl.rc_context({**PLAIN_TEXT, "font.size": SMALLEST_POINTS, "figure.dpi": 200})


def png(canvas: Canvas) -> bytes:
    """Return the bytes of the PNG file."""
    buffer = io.BytesIO()
    canvas.savefig(buffer, format="png")
    return buffer.getvalue()


@lru_cache(maxsize=1)
def images_at_hand(dataset: str, sha256: str) -> Raw | None:
    """Return a dataset's images if exactly those that were used are available on this machine."""
    card = PACKAGED.datasets.get(dataset)
    try:
        raw = None if card is None else read_raw(card)
    except (MissingData, DamagedFile):
        return None
    if raw is None or card is None or card.altered or card.shown_digest(raw.sha256) != sha256:
        return None
    return raw
