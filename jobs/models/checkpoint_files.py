"""Read the tensors of a checkpoint file without executing any code in it.

Uses ``torch.load(weights_only=True)``, extended by a few types that only hold values. Files are memory-mapped, so
memory is only used for the tensors that are read.
"""

import argparse
import pickle
import pickletools
import re
import shlex
import struct
import threading
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, _weights_only_unpickler
from torch.serialization import safe_globals

from jobs.errors import Code, DamagedFile, out_of_memory, reading_failure
from jobs.system.file_kinds import what_it_is
from jobs.system.files import open_file


class _Ignored:
    """In place of values that no weights depend on: paths, and numpy's scalars and arrays."""

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, _: object) -> None: ...


_IGNORED = (
    *(f"{module}.{kind}" for module in ("pathlib", "pathlib._local") for kind in ("PosixPath", "PurePosixPath")),
    *(f"{module}.{kind}" for module in ("pathlib", "pathlib._local") for kind in ("WindowsPath", "PureWindowsPath")),
    *(f"numpy.{core}.multiarray.{what}" for core in ("core", "_core") for what in ("scalar", "_reconstruct")),
    "numpy.ndarray",
    "numpy.dtype",
)
_HOLD_VALUES_ONLY: list[Any] = [
    # saved besides the tensors by the robustness library, Lightning, timm and others: arguments, paths, numpy's values
    argparse.Namespace,
    (argparse.Namespace, "cox.utils.Parameters"),  # read as a plain namespace; cox itself is not imported
    *((_Ignored, name) for name in _IGNORED),
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
"""Errors that torch's reader raises for files that are truncated or not checkpoints."""

_ZIP = b"PK\x03\x04"
_PICKLE = "data.pkl"
_LEGACY_PICKLES = 5  # before torch 1.6: a magic number, a version, the machine, the checkpoint, its keys
_DEEPEST = 4  # maximum depth of nested mappings that are searched

_TENSORS_ALONE = (
    "import torch; c = torch.load({old!r}, map_location='cpu', weights_only=False); "
    "c = next((c[k] for k in ('model', 'state_dict', 'model_state_dict', 'net', 'ema') if k in c), c) "
    "if isinstance(c, dict) else c; torch.save(c if isinstance(c, dict) else c.state_dict(), {new!r})"
)
_SCRIPT = "import torch; torch.save(torch.jit.load({old!r}, map_location='cpu').state_dict(), {new!r})"


def _no_bytearray(*_: object) -> None:
    """In place of ``bytearray``, which allocates as many bytes as a number says, and which no tensor needs."""
    raise pickle.UnpicklingError("function bytearray")


def _latin1_only(text: str, encoding: str = "") -> bytes:
    """In place of ``_codecs.encode``, by which pickles store bytes; other encodings expand text, or take hours."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError("function _codecs.encode")
    return text.encode("latin1")


_GUARDED: dict[str, Any] = {"builtins.bytearray": _no_bytearray, "_codecs.encode": _latin1_only}
_ONE_READER = threading.Lock()


@contextmanager
def _guarded() -> Iterator[None]:
    """Replace functions that ``weights_only`` allows, but that take memory and time out of all proportion to a file."""
    allowed = _weights_only_unpickler._get_allowed_globals()  # one dictionary, cached
    with _ONE_READER:
        own = {name: allowed[name] for name in _GUARDED}
        allowed.update(_GUARDED)
        try:
            yield
        finally:
            allowed.update(own)


class Checkpoint(NamedTuple):
    """The contents of a checkpoint file."""

    sets: dict[str, dict[str, Tensor]]
    """Sets of tensors by name, keyed by their location in the file: ``""`` for the file itself, ``"model"``, ``"a.b"``;
    at least one. Tensors may have any layout, type and size; they take no memory before their values are read."""
    is_safetensors: bool


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a regular file; its format is detected from its contents, not from its name.

    Raises:
        DamagedFile: if it has no named tensors, would execute code, or is another kind of file; the message says which.
        StorageFailure: if this machine has too little memory, or the disk fails.
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
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
    except (SafetensorError, *_UNREADABLE) as error:
        damaged = DamagedFile(
            Code.DAMAGED_WEIGHTS,
            f"expected a complete safetensors file; cannot read {path} ({error}). Fix: get it again",
            file=path,
        )
        raise reading_failure(error, path, damaged) from error


def _require_torch_zip(path: Path) -> None:
    """Refuse zip archives that ``torch.save`` did not write. It stores files uncompressed, so they cannot expand.

    Raises:
        DamagedFile: saying what the archive is.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            inside = archive.infolist()
    except _UNREADABLE as error:
        raise reading_failure(error, path, _no_checkpoint(path)) from error
    names = {entry.filename.rsplit("/", 1)[-1] for entry in inside}
    if "constants.pkl" in names:
        raise DamagedFile(
            Code.DAMAGED_WEIGHTS,
            f"{path} is a TorchScript archive, a program with weights. {_advice(_SCRIPT, path)}",
            file=path,
        )
    if _PICKLE not in names:
        raise _no_checkpoint(path, _other_archive(names))
    if packed := [entry for entry in inside if entry.compress_type != zipfile.ZIP_STORED]:
        raise _no_checkpoint(
            path,
            f"a zip archive with compressed files ({packed[0].filename}: {packed[0].file_size:,} bytes in "
            f"{packed[0].compress_size:,}), which torch.save never writes",
        )


def _other_archive(names: set[str]) -> str:
    if {"metadata.json", "config.json"} <= names:
        return "a Keras archive"
    if names and all(name.endswith(".npy") for name in names):
        return "an archive of numpy arrays (.npz)"
    if any(name in names for name in ("archive_format", "serialized_exported_program.json")):
        return "an archive of torch.export, a program with weights"
    return f"a zip archive without {_PICKLE}, with {some(sorted(names))}; unpack it first"


def _unpickled(path: Path, *, mapped: bool) -> object:
    asked = _globals(path, mapped=mapped)
    try:
        with _guarded(), safe_globals(_HOLD_VALUES_ONLY), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's warnings on files that are refused below or by the caller
            if path.suffix != ".safetensors":
                return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
            with open_file(path) as file:  # given a path with this suffix, torch assumes another format
                return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        refused = re.search(r"(?:GLOBAL|class|function) ([\w.]+)", str(error))
        if refused is None:
            raise _no_checkpoint(path) from error
        raise _would_run(path, refused[1], asked) from error
    except _UNREADABLE as error:
        if "not enough memory" in str(error) or "can't allocate memory" in str(error):
            raise MemoryError from error
        raise reading_failure(error, path, _no_checkpoint(path)) from error


def _globals(path: Path, *, mapped: bool) -> list[str]:
    """Return the functions and classes that a checkpoint's pickles refer to, in order, as far as they are readable: for
    messages only.
    """
    names = []
    try:
        with _zipped_pickle(path) if mapped else open_file(path) as file:
            for _ in range(_LEGACY_PICKLES):
                names += [
                    str(argument).replace(" ", ".")
                    for code, argument, _ in pickletools.genops(file)
                    if code.name == "GLOBAL"
                ]
    except _UNREADABLE:
        return names
    return names


def _zipped_pickle(path: Path) -> IO[bytes]:
    archive = zipfile.ZipFile(path)
    return archive.open(next(name for name in archive.namelist() if name.rsplit("/", 1)[-1] == _PICKLE))


def _would_run(path: Path, asked: str, all_asked: list[str]) -> DamagedFile:
    what = f"is a whole object, saved with its class {asked}. It " if all_asked[:1] == [asked] else ""
    return DamagedFile(
        Code.DAMAGED_WEIGHTS,
        f"{path} {what}needs {asked} when it is read, which could execute code on this machine; it was refused, and "
        f"nothing in it was executed. {_advice(_TENSORS_ALONE, path)}",
        file=path,
    )


def _advice(code: str, path: Path) -> str:
    new = path.with_name(f"{path.stem}-tensors.pt")
    command = shlex.quote(code.format(old=str(path), new=str(new)))
    return (
        "Fix: if you trust its author, extract its tensors where that can do no harm (a container without network "
        f"access, with the packages that wrote the file), and convert {new}:\npython -c {command}"
    )


def _no_checkpoint(path: Path, known: str | None = None) -> DamagedFile:
    what = f", but {known}" if known else ", or is truncated. Fix: get it again"
    return DamagedFile(Code.DAMAGED_WEIGHTS, f"{path} is not a torch checkpoint{what}", file=path)


def _sets(checkpoint: object, path: Path) -> dict[str, dict[str, Tensor]]:
    if found := dict(_tensor_sets(checkpoint, (), set())):
        return found
    if not isinstance(checkpoint, Mapping) or not checkpoint:
        what = "one tensor" if isinstance(checkpoint, Tensor) else f"a {type(checkpoint).__name__}"
        raise DamagedFile(
            Code.DAMAGED_WEIGHTS,
            f"expected named tensors, at the top level or under 'model' or 'state_dict'; {path} contains {what}. "
            "Fix: get the right file",
            file=path,
        )
    other = [key for key, value in checkpoint.items() if not (isinstance(key, str) and isinstance(value, Tensor))]
    raise DamagedFile(
        Code.DAMAGED_WEIGHTS,
        f"expected a set of tensors only, such as 'model' or 'state_dict'; {path} has other values among its "
        f"weights: {some(map(repr, other))}",
        file=path,
        key=str(other[0]),
    )


def _tensor_sets(value: object, where: tuple[str, ...], seen: set[int]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield mappings of names to tensors that contain nothing else, outermost first."""
    if not isinstance(value, Mapping) or not value or len(where) > _DEEPEST or id(value) in seen:
        return
    seen.add(id(value))
    if all(isinstance(key, str) and isinstance(tensor, Tensor) for key, tensor in value.items()):
        yield ".".join(where), dict(value)
        return
    for key, inner in value.items():
        yield from _tensor_sets(inner, (*where, str(key)), seen)


def some(names: Iterable[str], shown: int = 5) -> str:
    """List the first few names and the number of the others."""
    listed = list(names)
    more = len(listed) - shown
    return ", ".join(listed[:shown]) + (f" and {more} more" if more > 0 else "") if listed else "nothing"
