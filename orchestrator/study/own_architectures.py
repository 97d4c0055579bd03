"""A study's own architectures: cards in files of their own, and the rules of these cards. No torch."""

import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jobs.catalog.architecture_card import Architecture, Architectures
from jobs.catalog.builder_files import file_and_function
from jobs.errors import Code, InvalidRequest
from jobs.system.commands import command
from jobs.system.files import FileTooLarge, read_file
from jobs.system.printable import brief, shown
from orchestrator.study.own_paths import absolute
from orchestrator.study.raw_values import MOST_MISTAKES, Violation, Violations, mapping
from orchestrator.study.yaml_lines import Document, Location, parse

MOST_BYTES = 1_000_000
"""Largest size of an architecture's file, and of all files of one study together; a packaged card takes up to 17 kB."""
_OF_PACKAGES = re.compile(r"(deltasweep|torchvision|timm):[^\s:]+")


def card_files(raw: dict[str, Any], folder: Path) -> tuple[dict[str, Document], list[Violation]]:
    """Read the files that a study names instead of cards, and put their cards in place of the paths.

    Args:
        raw: the values of the study; its ``architectures`` are replaced.
        folder: the folder of the study file, in which relative paths start.

    Returns:
        The files by the name of the architecture, and the mistakes of files that cannot be read, at most
        ``MOST_MISTAKES``.
    """
    files: dict[str, Document] = {}
    mistakes: list[Violation] = []
    cards = dict(mapping(raw, "architectures"))
    read = _reader()
    for name, path in mapping(raw, "architectures").items():
        if isinstance(path, str) and len(mistakes) < MOST_MISTAKES:
            place = ("architectures", name)
            file = read(absolute(path, folder))
            if isinstance(file, InvalidRequest):
                mistakes.append((place, file.code, brief(str(file))))
                cards[name] = None
                continue
            files[name], cards[name] = file, file.value
            mistakes += [
                ((*place, *location), Code.REPEATED, f"duplicate key (again in line {line})")
                for location, line in file.duplicates
            ]
    if mapping(raw, "architectures"):
        raw["architectures"] = cards
    return files, mistakes


def _reader() -> Callable[[Path], Document | InvalidRequest]:
    """Return a function that reads the cards of one study, or says why one cannot be used.

    Each file is read once, and files only as long as all of them together are no larger than one may be.
    """
    room = MOST_BYTES

    @cache
    def read(path: Path) -> Document | InvalidRequest:
        nonlocal room
        try:
            data = read_file(path, room)
            room -= len(data)
            return _parsed(path, data)
        except InvalidRequest as error:
            return error
        except FileNotFoundError:
            again = command("models", "describe", "BUILDER", "--out", path)
            return InvalidRequest(
                Code.NO_SUCH_FILE,
                f"there is no file {path}. Fix: correct the path, which starts in the study file's folder, or write "
                f"the card with: {again}",
            )
        except FileTooLarge as error:
            return InvalidRequest(
                Code.UNREADABLE_FILE,
                f"expected cards of architectures in files of at most {MOST_BYTES:,} bytes, all together; {error}",
            )
        except (OSError, ValueError) as error:  # ValueError: not UTF-8, or no path
            return InvalidRequest(
                Code.UNREADABLE_FILE, f"expected an architecture's card in UTF-8; {path} cannot be read: {error}"
            )

    return read


def _parsed(path: Path, data: bytes) -> Document:
    """Parse a card.

    Raises:
        InvalidRequest: if it is not a mapping in YAML.
        UnicodeDecodeError: if it is not UTF-8.
    """
    file = parse(data.decode("utf-8"), str(path))
    if not isinstance(file.value, dict):
        raise InvalidRequest(
            Code.UNREADABLE_FILE,
            f"expected an architecture's card, as `deltasweep models describe` writes it; {path} is not a mapping",
        )
    return file


def in_its_file(location: Location, files: Mapping[str, Document]) -> str:
    """Return the beginning of a message about a mistake in a card's own file: its path and line; else nothing."""
    file = files.get(str(location[1])) if location[:1] == ("architectures",) and len(location) > 1 else None
    return "" if file is None else f"{file.path}:{file.line(location[2:])}: "


def own_architectures_violations(raw: dict[str, Any], cards: Mapping[str, Architecture], recorded: bool) -> Violations:
    """Check that own architectures have unused names, and builders of a known form."""
    packaged = Architectures()
    for name in mapping(raw, "architectures"):
        if name in packaged and cards.get(name) != packaged[name] and not recorded:
            message = f"{name} is the name of a packaged card. Fix: choose another name"
            yield ("architectures", name), Code.WRONG_NAME, message
    for name, card in cards.items():
        if file_and_function(card.builder) is None and _OF_PACKAGES.fullmatch(card.builder) is None:
            message = (
                "expected a builder such as torchvision:resnet18, timm:vit_small_patch16_224 or my_net.py:build (the "
                f"name of the file without its folder); got {shown(card.builder)}"
            )
            yield ("architectures", name, "builder"), Code.WRONG_VALUE, message
