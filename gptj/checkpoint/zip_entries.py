"""Uncompressed entries of a zip file, which can be memory-mapped."""

import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final
from zipfile import ZIP_STORED, ZipFile, ZipInfo

import numpy as np
import numpy.typing as npt

from gptj.checkpoint.memory_map import Region, map_array
from gptj.errors import CheckpointError
from gptj.system.file_kinds import foreign_kind

BLOCK_BYTES: Final = 2**24
"""Bytes that are checked at a time."""

_LOCAL_HEADER: Final = struct.Struct("<4s22xHH")
"""Signature, and the lengths of the name and of the extra field, which precede the data."""


@dataclass(frozen=True)
class Entry(Region):
    """A stored entry, with the checksum of its bytes."""

    name: str
    checksum: int
    checked: list[bool] = field(default_factory=list, init=False, compare=False)

    def map(self, dtype: np.dtype[Any], skip: int, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        """Return a map of an array that begins `skip` bytes into the entry.

        Raises:
            CheckpointError: if the bytes do not have their checksum.
        """
        self._check()
        return super().map(dtype, skip, shape)

    def head(self, size: int) -> bytes:
        """Return at most the first `size` bytes, unchecked."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return file.read(min(size, self.size))

    def read(self) -> bytes:
        """Return all bytes, checked."""
        return self.map(np.dtype(np.uint8), 0, (self.size,)).tobytes()

    def _check(self) -> None:
        """Compare the checksum, once."""
        if self.checked or not self.checksum:  # PyTorch can leave checksums out
            return
        content = map_array(self.path, np.dtype(np.uint8), self.offset, (self.size,))
        found = 0
        for start in range(0, self.size, BLOCK_BYTES):
            found = zlib.crc32(content[start : start + BLOCK_BYTES].data, found)
        if found != self.checksum:
            raise CheckpointError(
                f"{self.path} is damaged: {self.name} has the checksum {found:08x}, the file says "
                f"{self.checksum:08x}. Download or copy it again."
            )
        self.checked.append(True)


def stored_entries(path: Path) -> dict[str, Entry]:
    """Return the entries of a zip file by name.

    Raises:
        CheckpointError: if it is not a complete zip file, or an entry is compressed.
    """
    size = path.stat().st_size
    with path.open("rb") as start:
        about = None if start.read(4) == b"PK\3\4" else foreign_kind(path)
    if about is not None:
        raise CheckpointError(f"{path} is not a zip file of arrays: {about}")
    try:
        with ZipFile(path) as archive, path.open("rb") as file:
            return {info.filename: _entry(path, size, info, file) for info in archive.infolist()}
    except CheckpointError:
        raise
    except Exception as error:  # zipfile raises many kinds on damaged bytes
        raise CheckpointError(
            f"{path} is damaged, cut short or not a zip file: {error}. Download or copy it again."
        ) from error


def _entry(path: Path, size: int, info: ZipInfo, file: BinaryIO) -> Entry:
    file.seek(info.header_offset)
    signature, name, extra = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    offset = info.header_offset + _LOCAL_HEADER.size + name + extra
    if info.compress_type != ZIP_STORED or info.flag_bits & 1:
        raise CheckpointError(
            f"{path}: {info.filename} is compressed or encrypted, which weight files never are. "
            "If it is a packed folder, unpack it with unzip and give the folder; else save it "
            "again with the program that made it."
        )
    if signature != b"PK\3\4" or offset + info.file_size > size:
        raise CheckpointError(
            f"{path} is damaged or cut short: {info.filename} of {info.file_size} bytes is said "
            f"to lie at {offset} of {size}. Download or copy it again."
        )
    return Entry(path, offset, info.file_size, info.filename, info.CRC)


def write_stored(
    archive: ZipFile, name: str, content: bytes | memoryview, alignment: int = 1
) -> None:
    """Add an entry whose bytes start at a multiple of `alignment` in the file."""
    size = len(content)
    info = ZipInfo(name)  # dated 1980, so that equal weights are equal files
    info.file_size = size  # from which zipfile chooses the form of a large entry
    large = size * 1.05 > 2**31 - 1
    header = _LOCAL_HEADER.size + len(name.encode()) + 20 * large
    if alignment > 1:
        padding = -(archive.fp.tell() + header + 4) % alignment  # type: ignore[union-attr]
        info.extra = b"FB" + struct.pack("<H", padding) + bytes(padding)  # as PyTorch pads
    with archive.open(info, "w", force_zip64=large) as file:
        file.write(content)
