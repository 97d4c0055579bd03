"""Unicode normalization forms: names that look the same, and are different to most file systems and to digests.

An accented letter is one character in NFC, and two (letter, accent) in NFD, which some versions of macOS write.
"""

import shlex
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

Form = Literal["NFC", "NFD"]
FORMS: tuple[Form, ...] = ("NFC", "NFD")


def in_form(names: Iterable[str], form: Form) -> list[str]:
    """Return names in a normalization form, in their order."""
    return [unicodedata.normalize(form, name) for name in names]


def is_in_form(names: Iterable[str], form: Form) -> bool:
    """Return whether all names are in a normalization form."""
    return all(unicodedata.is_normalized(form, name) for name in names)


def how_to_rename(folder: Path, form: Form = "NFC") -> str:
    """Return what is wrong, and the fix, for names that are the expected ones in another form."""
    return (
        f"The names are the same, but in another Unicode normalization form. Fix: rename folders and files to {form}: "
        f"convmv -r -f utf8 -t utf8 --{form.lower()} --notest {shlex.quote(str(folder))}"
    )
