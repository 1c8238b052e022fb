"""The ZIP archives that office documents and books are, checked before anything is unpacked.

Nothing is ever written to a disk and no archive inside an archive is opened.
"""

import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager

from lxml import etree  # type: ignore[import-untyped]

from planes.shared.errors import DocumentRejected

_COMPOUND_FILE = bytes.fromhex("d0cf11e0a1b11ae1")  # wraps encrypted and very old documents
_OLD_STREAMS = tuple(
    name.encode("utf-16-le") for name in ("WordDocument", "Workbook", "PowerPoint Document")
)
_ENCRYPTED_STREAM = "EncryptedPackage".encode("utf-16-le")
_MEMBERS = 10_000
_UNPACKED_BYTES = 256 << 20
_SUSPECT_BYTES = 32 << 20  # below this no ratio is dangerous
_RATIO = 200
_ENCRYPTED_FLAG = 1
_OUT_OF_BOUNDS = {etree.ErrorTypes.ERR_NO_MEMORY, etree.ErrorTypes.ERR_RESOURCE_LIMIT}


@contextmanager
def opened(content: bytes, *, what: str) -> Iterator[zipfile.ZipFile]:
    """Give the archive; what goes wrong with it inside the block is told as a rejection.

    Args:
        content: The file.
        what: Its format as a person calls it, for example `a Word document`.

    Raises:
        DocumentRejected: `encrypted`, `corrupt`, or `too-complex`: more than 10,000 members or
            256 MB unpacked, or packed 200 times.
    """
    if content.startswith(_COMPOUND_FILE):
        raise _reason_of_compound_file(content)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            _check(archive, len(content))
            yield archive
    except (zipfile.BadZipFile, etree.LxmlError, KeyError, ValueError) as error:
        if getattr(error, "code", None) in _OUT_OF_BOUNDS:
            raise MemoryError(str(error)) from error
        detail = f"The file is damaged or is not {what}, so it cannot be read."
        raise DocumentRejected("corrupt", detail) from error


def _check(archive: zipfile.ZipFile, packed_bytes: int) -> None:
    members = archive.infolist()
    if len(members) > _MEMBERS:
        detail = f"The file holds more than {_MEMBERS:,} parts. Split it into smaller ones."
        raise DocumentRejected("too-complex", detail)
    unpacked_bytes = sum(member.file_size for member in members)
    ratio = unpacked_bytes / packed_bytes
    if unpacked_bytes > _UNPACKED_BYTES or (unpacked_bytes > _SUSPECT_BYTES and ratio > _RATIO):
        detail = (
            f"The file unpacks to {unpacked_bytes / 1e6:,.0f} MB, {ratio:,.0f} times its size. At "
            f"most {_UNPACKED_BYTES >> 20} MB and {_RATIO} times are read. Split it into smaller "
            "ones."
        )
        raise DocumentRejected("too-complex", detail)
    if any(member.flag_bits & _ENCRYPTED_FLAG for member in members):
        raise _encrypted()


def _reason_of_compound_file(content: bytes) -> DocumentRejected:
    is_old = any(stream in content for stream in _OLD_STREAMS)
    if is_old and _ENCRYPTED_STREAM not in content:
        detail = "The file is in an Office format of before 2007. Save it in the present one."
        return DocumentRejected("corrupt", detail)
    return _encrypted()


def _encrypted() -> DocumentRejected:
    detail = "The document is protected by a password. Remove it and upload the file again."
    return DocumentRejected("encrypted", detail)
