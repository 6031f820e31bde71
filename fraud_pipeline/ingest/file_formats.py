"""The format of a file from its first bytes.

Belongs here: compression, encoding, formats. Must not be here: parsing. No message quotes a file's content.
"""

import io
import lzma
import re
import zipfile
from typing import Final

import pyarrow as pa

from fraud_pipeline.host.data_location import DataLocation
from fraud_pipeline.ingest.column_mapping import SourceError
from fraud_pipeline.storage.object_store import open_file, store_problem

SAMPLE_BYTES: Final = 1 << 17
_REMEDY: Final = "export it as CSV with a header line, or as Parquet"
_CODECS: Final = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2", b"\x04\x22\x4d\x18": "lz4"}
_BINARY: Final = (
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook"),
    (b"SQLite format 3\x00", "an SQLite database"),
    (b"Obj\x01", "an Avro file"),
    (b"ORC", "an ORC file"),
    (b"ARROW1", "an Arrow file"),
    (b"FEA1", "a Feather file"),
    (b"%PDF", "a PDF"),
    (b"\x89HDF", "an HDF5 file"),
    (b"PGDMP", "a PostgreSQL dump"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
)
_TEXTS: Final = (
    (re.compile(r"\s*[{\[]\s*[\"{\[\]}]"), "JSON"),
    (re.compile(r"\s*<[?!A-Za-z]"), "XML or HTML"),
    (re.compile(r"\s*(--|/\*|(INSERT|CREATE|COPY|SET|BEGIN|DROP|SELECT|USE|PRAGMA|LOCK)\s)", re.IGNORECASE), "SQL"),
)
_TAR_AT: Final = 257


def open_bytes(path: DataLocation) -> pa.NativeFile:
    """The content of a file, decompressed if needed. Raises SourceError for archives of several files and for damaged
    files.
    """
    with open_file(path) as file:
        start = file.read(8)
    if start.startswith(b"PK\x03\x04"):
        return pa.BufferReader(_only_member(path))
    if start.startswith(b"\xfd7zXZ\x00"):
        try:
            with open_file(path) as file:
                return pa.BufferReader(lzma.decompress(file.read()))
        except lzma.LZMAError as error:
            raise damaged(path, error) from None
    codec = next((codec for magic, codec in _CODECS.items() if start.startswith(magic)), None)
    return pa.input_stream(open_file(path), compression=codec)


def start_of(path: DataLocation) -> bytes:
    """The first bytes of a file's content. Raises SourceError."""
    try:
        with open_bytes(path) as file:
            start: bytes = file.read(SAMPLE_BYTES)
    except OSError as error:
        raise damaged(path, error) from None
    return start


def is_parquet(path: DataLocation, start: bytes) -> bool:
    """Whether a file is Parquet, by its content or its name."""
    return start.startswith(b"PAR1") or path.suffix.lower() in {".parquet", ".pq"}


def encoding_of(start: bytes) -> str:
    """The encoding of a text file: UTF-8, or UTF-16 by its byte order mark or its zeros. Raises SourceError for binary
    files.
    """
    for magic, kind in _BINARY:
        if start.startswith(magic):
            raise SourceError(f"the file is {kind}: {_REMEDY}")
    if start[_TAR_AT : _TAR_AT + 5] == b"ustar":
        raise SourceError("the file is a tar archive: unpack it, and give the directory")
    if start.startswith((b"\xff\xfe\x00\x00", b"\x00\x00\xfe\xff")):
        raise SourceError("the file is UTF-32 text: save it as CSV in UTF-8, or as Parquet")
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    zeros_at = {place % 2 for place, byte in enumerate(start[:1_000]) if byte == 0}
    if zeros_at == {1}:
        return "utf-16-le"
    if zeros_at == {0}:
        return "utf-16-be"
    if zeros_at:
        raise SourceError(f"the file is binary, of a format that is not read: {_REMEDY}")
    return "utf8"


def looks_like(text: str) -> str:
    """The likely format of a text without a header, in words, with a remedy."""
    for pattern, kind in _TEXTS:
        if pattern.match(text):
            return f"the file looks like {kind}: {_REMEDY}"
    return "the first line looks like data, or like no CSV at all: add a header line with the names of the columns"


def damaged(
    path: DataLocation, error: Exception, *, problem: str = "the file is cut off or damaged: copy or export it again"
) -> SourceError:
    """The error of a file that cannot be read to its end; it names the store where that is the cause."""
    return SourceError(store_problem(path, error) or problem)


def _only_member(path: DataLocation) -> bytes:
    try:
        with open_file(path) as file, zipfile.ZipFile(file) as archive:
            members = [
                member
                for member in archive.infolist()
                if not member.is_dir() and not re.search(r"(^|/)[._]|^__MACOSX", member.filename)
            ]
            if any(member.filename.startswith(("xl/", "word/", "content.xml")) for member in archive.infolist()):
                raise SourceError("the file is a workbook, not a table of text: save the sheet as CSV in UTF-8")
            if len(members) != 1:
                raise SourceError(f"the archive holds {len(members)} files: unpack it, and give the directory")
            return archive.read(members[0])
    except (zipfile.BadZipFile, io.UnsupportedOperation, NotImplementedError, RuntimeError, EOFError) as error:
        raise damaged(path, error) from None
