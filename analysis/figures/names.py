"""Names of pictures: of their files, and of their tables in the page."""

import re

_OTHER = re.compile(r"[^a-z0-9_.-]+")
_LONGEST = 60  # characters of each part: a file's name has at most 255 bytes


def picture_name(figure: str, number: int, *of: str) -> str:
    """Such as ``figure6-1-digits-influence``; the number keeps apart what is written alike.

    Args:
        of: what it shows. Strangers' results say what they like there: all but ``[a-z0-9_.-]`` becomes a dash.
    """
    return "-".join([figure, str(number), *(_OTHER.sub("-", part.lower())[:_LONGEST] for part in of)])
