"""Identification of file formats by their first bytes, for messages; untrusted files may be misnamed. No torch."""

from pathlib import Path

from jobs.system.files import NotAFile, open_file

_HEAD_BYTES = 1024
_ANNEX_POINTER = b"/annex/objects/"
_HEIC = "a HEIC image, the default of iPhones; convert it to JPEG"
_JPEG_2000 = "a JPEG 2000 image; convert it to PNG or JPEG"
_JPEG_XL = "a JPEG XL image; convert it to PNG or JPEG"
_MAGIC: tuple[tuple[bytes, int, str], ...] = (
    (b"\x1f\x8b", 0, "a gzip archive; unpack it first"),
    (b"BZh", 0, "a bzip2 archive; unpack it first"),
    (b"\xfd7zXZ\0", 0, "an xz archive; unpack it first"),
    (b"(\xb5/\xfd", 0, "a zstd archive; unpack it first"),
    (b"7z\xbc\xaf'\x1c", 0, "a 7z archive; unpack it first"),
    (b"Rar!\x1a\x07", 0, "a RAR archive; unpack it first"),
    (b"ustar", 257, "a tar archive; unpack it first"),
    (b"\x89HDF\r\n\x1a\n", 0, "an HDF5 file (Keras, TensorFlow)"),
    (b"\x93NUMPY", 0, "a NumPy array"),
    (b"pytorch\x1a", 4, "an ONNX model"),
    (b"GGUF", 0, "a GGUF file"),
    (b"TFL3", 4, "a TensorFlow Lite model"),
    (b"%PDF", 0, "a PDF document"),
    (b"\x89PNG\r\n\x1a\n", 0, "a PNG image"),
    (b"\xff\xd8\xff", 0, "a JPEG image"),
    (b"ftyphei", 4, _HEIC),
    (b"ftyphev", 4, _HEIC),
    (b"ftypmif1", 4, "a HEIC or AVIF image; convert it to JPEG"),
    (b"ftypmsf1", 4, "a HEIC or AVIF image sequence; convert an image of it to JPEG"),
    (b"ftypavi", 4, "an AVIF image; convert it to JPEG"),
    (b"\0\0\0\x0cjP  ", 0, _JPEG_2000),
    (b"\xff\x4f\xff\x51", 0, _JPEG_2000),
    (b"\0\0\0\x0cJXL ", 0, _JPEG_XL),
    (b"\xff\x0a", 0, _JPEG_XL),
    (b"8BPS", 0, "a Photoshop document; export it as PNG"),
    (b"\x7fELF", 0, "an executable"),
    (b"MZ", 0, "a Windows executable"),
    (b"SQLite format 3\0", 0, "an SQLite database"),
    (b"PAR1", 0, "a Parquet file"),
)


def what_it_is(path: Path) -> str | None:
    """Describe what is at a path, with its article, and how to get a usable file after ``; ``, where there is a way.

    None for unknown binary formats. Opens regular files only.
    """
    try:
        with open_file(path) as file:
            return _by_content(file.read(_HEAD_BYTES))
    except NotAFile as error:
        return error.what
    except FileNotFoundError:
        return "a link whose target does not exist" if path.is_symlink() else "missing"
    except OSError as error:
        return f"inaccessible ({error.strerror})"


def _by_content(head: bytes) -> str | None:
    if not head:
        return "an empty file"
    for magic, offset, words in _MAGIC:
        if head.startswith(magic, offset):
            return words
    if head.startswith(b"version https://git-lfs.github.com/spec/"):
        return "a Git LFS pointer; `git lfs pull` gets the actual file"
    if _ANNEX_POINTER in head.splitlines()[0]:
        return "a git-annex pointer; `git annex get` gets the actual file"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<body")) or b"<html" in text:
        return "an HTML page, probably a login or error page"
    if text.startswith((b"<?xml", b"<svg")):
        return "an XML document"
    if b"\0" not in head and (head[:1].isspace() or 0x20 <= head[0] < 0x7F):
        return _of_text(head, text)
    return None


def _of_text(head: bytes, text: bytes) -> str | None:
    try:
        head[:-3].decode()  # the last character may be truncated
    except UnicodeDecodeError:
        return None
    return "a JSON file" if text.startswith((b"{", b"[")) else "a text file"
