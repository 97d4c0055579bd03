"""The digest of a table's rows, which each result's file contains."""

import hashlib
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc


def rows_digest(table: pa.Table) -> str:
    """Return the sha256 of a table's values, independent of their encoding and division into chunks.

    Only names and values are hashed: types follow from the schema, and versions of Arrow spell them differently.
    """
    hasher = hashlib.sha256()
    for name, column in zip(table.column_names, table.columns, strict=True):
        hasher.update(f"{name} {len(column)}\n".encode())
        for part in _content(column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()):
            hasher.update(part)
    return hasher.hexdigest()


def _content(array: pa.Array) -> Iterator[bytes | memoryview]:
    """Yield the validity of values, the lengths of variable-length values, and the values."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if array.null_count:
        yield array.is_valid().to_numpy(zero_copy_only=False).tobytes()
        array = array.drop_null()
    if pa.types.is_list(array.type):
        yield array.value_lengths().to_numpy().astype("<i8").tobytes()
        yield from _content(array.flatten())
    elif pa.types.is_string(array.type) or pa.types.is_binary(array.type):
        yield repr(pc.binary_length(array).to_pylist()).encode()
        yield _joined(array)
    else:
        values = array.to_numpy(zero_copy_only=False)
        yield values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()


def _joined(array: pa.Array) -> memoryview:
    """Return the bytes of all texts of an array in order. They are not copied: they may be as large as memory."""
    _, offsets, data = array.buffers()
    if not len(array) or data is None:
        return memoryview(b"")
    first, end = array.offset, array.offset + len(array)
    places = memoryview(offsets)[: 4 * (end + 1)].cast("i")
    return memoryview(data)[places[first] : places[end]]
