"""The tensors in a checkpoint file, read without running anything that is in it.

``torch.load(weights_only=True)``, and beyond what that allows a few types that only hold values. Files are mapped, not
read: what memory they take follows from what is taken out of them.
"""

import argparse
import pickle
import pickletools
import re
import shlex
import struct
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.serialization import safe_globals

from jobs.errors import Code, DamagedFile, out_of_memory
from jobs.file_kinds import what_it_is
from jobs.files import open_file

_NUMPY_SCALAR = np.float64(0).__reduce__()[0]
_HOLD_VALUES_ONLY: list[Any] = [
    # what the robustness library saves beside the tensors: its arguments, and accuracies as numpy scalars
    argparse.Namespace,
    (argparse.Namespace, "cox.utils.Parameters"),  # read as a plain namespace; cox itself is not imported
    (_NUMPY_SCALAR, "numpy.core.multiarray.scalar"),
    (_NUMPY_SCALAR, "numpy._core.multiarray.scalar"),
    np.dtype,
    *(type(np.dtype(name)) for name in ("float32", "float64", "int32", "int64")),
]
_UNREADABLE = (
    RuntimeError,
    OSError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    OverflowError,
    struct.error,
    zipfile.BadZipFile,
)
"""What torch's reader raises on files that are cut off, or are something else."""

_ZIP = b"PK\x03\x04"
_PICKLE = "data.pkl"
_FILLS_MEMORY = "bytearray"
"""``weights_only`` calls it, and with a number it fills so many bytes; no tensor needs it."""
_LEGACY_PICKLES = 5  # before torch 1.6: a magic number, a version, the machine, the checkpoint, its keys
_DEEPEST = 4  # mappings in mappings that are looked into

_TENSORS_ALONE = (
    "import torch; c = torch.load({old!r}, map_location='cpu', weights_only=False); "
    "c = next((c[k] for k in ('model', 'state_dict', 'model_state_dict', 'net', 'ema') if k in c), c) "
    "if isinstance(c, dict) else c; torch.save(c if isinstance(c, dict) else c.state_dict(), {new!r})"
)
_SCRIPT = "import torch; torch.save(torch.jit.load({old!r}, map_location='cpu').state_dict(), {new!r})"


class Checkpoint(NamedTuple):
    """What a file holds."""

    sets: dict[str, dict[str, Tensor]]
    """Tensors by name, by where they stand in the file: ``""`` for the file itself, ``"model"``, ``"a.b"``; at least
    one set. A tensor may be of any layout, type and size: it takes no memory before its numbers are asked for."""
    is_safetensors: bool


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a regular file, by what is in it and not by its name.

    Raises:
        DamagedFile: when it holds no tensors by name, would run code, or is something else; saying what.
        StorageFailure: when this machine has not the memory.
    """
    with open_file(path) as file:
        head = file.read(9)
    try:
        if head[8:] == b"{":
            return Checkpoint({"": _safetensors(path)}, is_safetensors=True)
        if known := what_it_is(path):
            raise _no_checkpoint(path, known)
        if head.startswith(_ZIP):
            _require_torch_zip(path)
        return Checkpoint(_sets(_unpickled(path, mapped=head.startswith(_ZIP)), path), is_safetensors=False)
    except MemoryError as error:
        raise out_of_memory(error, path) from error


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
    except (SafetensorError, *_UNREADABLE) as error:
        raise DamagedFile(
            Code.DAMAGED_WEIGHTS, f"{path} is not a whole safetensors file ({error}); get it again", file=path
        ) from error


def _require_torch_zip(path: Path) -> None:
    """Refuse archives that ``torch.save`` did not write: it packs nothing, so that no file is larger inside.

    Raises:
        DamagedFile: saying what the archive is.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            inside = archive.infolist()
    except _UNREADABLE as error:
        raise _no_checkpoint(path) from error
    names = {entry.filename.rsplit("/", 1)[-1] for entry in inside}
    if "constants.pkl" in names:
        raise DamagedFile(
            Code.DAMAGED_WEIGHTS,
            f"{path} is a TorchScript archive, a program with weights; {_advice(_SCRIPT, path)}",
            file=path,
        )
    if _PICKLE not in names:
        raise _no_checkpoint(path, _other_archive(names))
    if packed := [entry for entry in inside if entry.compress_type != zipfile.ZIP_STORED]:
        raise _no_checkpoint(
            path,
            f"a zip archive whose files are packed ({packed[0].filename}: {packed[0].file_size:,} bytes in "
            f"{packed[0].compress_size:,}), which torch.save never does",
        )


def _other_archive(names: set[str]) -> str:
    if {"metadata.json", "config.json"} <= names:
        return "a Keras archive"
    if names and all(name.endswith(".npy") for name in names):
        return "an archive of numpy arrays (.npz)"
    if any(name in names for name in ("archive_format", "serialized_exported_program.json")):
        return "an archive of torch.export, a program with weights"
    return f"a zip archive without {_PICKLE}, of {_some(sorted(names))}; unpack it first"


def _unpickled(path: Path, *, mapped: bool) -> object:
    asked = _globals(path)
    if any(name.rsplit(".", 1)[-1] == _FILLS_MEMORY for name in asked):
        raise _would_run(path, _FILLS_MEMORY, asked)
    try:
        with safe_globals(_HOLD_VALUES_ONLY), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, of files that are refused below or by who asked for them
            if path.suffix != ".safetensors":
                return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
            with open_file(path) as file:  # by its name torch would take it for another format
                return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        refused = re.search(r"(?:GLOBAL|class|function) ([\w.]+)", str(error))
        if refused is None:
            raise _no_checkpoint(path) from error
        raise _would_run(path, refused[1], asked) from error
    except _UNREADABLE as error:
        if "not enough memory" in str(error) or "can't allocate memory" in str(error):
            raise MemoryError from error
        raise _no_checkpoint(path) from error


def _globals(path: Path) -> list[str]:
    """The functions and classes that the pickles in a checkpoint name, in order, as far as they can be read."""
    found = []
    try:
        with _pickles(path) as file:
            for _ in range(_LEGACY_PICKLES):
                found += [
                    str(argument).replace(" ", ".")
                    for code, argument, _ in pickletools.genops(file)
                    if code.name == "GLOBAL"
                ]
    except _UNREADABLE:
        return found
    return found


def _pickles(path: Path) -> IO[bytes]:
    if not zipfile.is_zipfile(path):
        return open_file(path)
    archive = zipfile.ZipFile(path)
    return archive.open(next(name for name in archive.namelist() if name.rsplit("/", 1)[-1] == _PICKLE))


def _would_run(path: Path, asked: str, all_asked: list[str]) -> DamagedFile:
    what = f"is a whole object, saved with its class {asked}, and " if all_asked[:1] == [asked] else ""
    return DamagedFile(
        Code.DAMAGED_WEIGHTS,
        f"{path} {what}wants {asked} when it is read, which could run code on this machine; it was refused, and "
        f"nothing in it was run. {_advice(_TENSORS_ALONE, path)}",
        file=path,
    )


def _advice(code: str, path: Path) -> str:
    new = path.with_name(f"{path.stem}-tensors.pt")
    command = shlex.quote(code.format(old=str(path), new=str(new)))
    return (
        "If you trust whoever made it, take its tensors out where it can do no harm (a container without network, "
        f"with the packages that it was made by), and convert {new}:\npython -c {command}"
    )


def _no_checkpoint(path: Path, known: str | None = None) -> DamagedFile:
    what = f", but {known}" if known else ", or is cut off; get it again"
    return DamagedFile(Code.DAMAGED_WEIGHTS, f"{path} is not a checkpoint of torch{what}", file=path)


def _sets(checkpoint: object, path: Path) -> dict[str, dict[str, Tensor]]:
    if found := dict(_tensor_sets(checkpoint, (), set())):
        return found
    if not isinstance(checkpoint, Mapping) or not checkpoint:
        what = "one tensor" if isinstance(checkpoint, Tensor) else f"a {type(checkpoint).__name__}"
        raise DamagedFile(
            Code.DAMAGED_WEIGHTS,
            f"{path} holds {what} and no tensors by name, alone or as 'model' or 'state_dict'; it is another file",
            file=path,
        )
    other = [key for key, value in checkpoint.items() if not (isinstance(key, str) and isinstance(value, Tensor))]
    raise DamagedFile(
        Code.DAMAGED_WEIGHTS,
        f"{path} has more than tensors among its weights, and no set of tensors alone such as 'model' or "
        f"'state_dict': {_some(map(repr, other))}",
        file=path,
        key=str(other[0]),
    )


def _tensor_sets(value: object, where: tuple[str, ...], seen: set[int]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Mappings of names to tensors and nothing else, the outermost first."""
    if not isinstance(value, Mapping) or not value or len(where) > _DEEPEST or id(value) in seen:
        return
    seen.add(id(value))
    if all(isinstance(key, str) and isinstance(tensor, Tensor) for key, tensor in value.items()):
        yield ".".join(where), dict(value)
        return
    for key, inner in value.items():
        yield from _tensor_sets(inner, (*where, str(key)), seen)


def _some(names: Iterable[str], shown: int = 5) -> str:
    """The first few names, and how many more there are."""
    listed = list(names)
    more = len(listed) - shown
    return ", ".join(listed[:shown]) + (f" and {more} more" if more > 0 else "") if listed else "nothing"
