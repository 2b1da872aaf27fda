"""Files in a zip archive, for several processes to read."""

import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

__all__ = ["ZipMembers"]

_LOCAL_HEADER_BYTES = 30
#: Many times as much as any image of ImageNet has.
_MOST_BYTES = 2**28


class ZipMembers:
    """Some members of a zip archive by their place in it, read one by one.

    A :class:`zipfile.ZipFile` may not be shared by processes, and the directory of an
    archive of a million images is a gigabyte in memory. This keeps four numbers a member,
    and opens the archive for each read.

    Parameters
    ----------
    path : Path
        Archive.

    infos : sequence of ZipInfo
        Its members.

    Raises
    ------
    ValueError
        If a member is encrypted, compressed in another way than by deflation, or larger
        than 256 MiB; or, when it is read, if it does not have the size that it should.
    """

    def __init__(self, path: Path, infos: Sequence[zipfile.ZipInfo]):
        for info in infos:
            known = info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
            if not known or info.flag_bits & 0x1:
                raise ValueError(
                    f"{path} must be stored or deflated without encryption, got "
                    f"{info.filename} otherwise."
                )
            if max(info.file_size, info.compress_size) > _MOST_BYTES:
                raise ValueError(
                    f"{path} must have files of at most {_MOST_BYTES} bytes, got "
                    f"{info.filename} of {info.file_size}."
                )
        self.path = path
        self._offsets = np.array([info.header_offset for info in infos], dtype=np.int64)
        self._stored_sizes = np.array([i.compress_size for i in infos], dtype=np.int64)
        self._sizes = np.array([info.file_size for info in infos], dtype=np.int64)
        self._deflated = np.array(
            [info.compress_type == zipfile.ZIP_DEFLATED for info in infos], dtype=bool
        )

    def __getitem__(self, index: int) -> bytes:
        with self.path.open("rb") as file:
            file.seek(int(self._offsets[index]))
            header = file.read(_LOCAL_HEADER_BYTES)
            file.seek(sum(struct.unpack("<2H", header[-4:])), 1)  # name and extra field
            content = file.read(int(self._stored_sizes[index]))
        size = int(self._sizes[index])
        if self._deflated[index]:
            content = self._inflated(content, size + 1)
        if len(content) != size:
            raise ValueError(
                f"{self.path} is damaged: a file in it does not have the {size} bytes it "
                "should have."
            )
        return content

    def _inflated(self, content: bytes, max_length: int) -> bytes:
        try:
            return zlib.decompressobj(wbits=-15).decompress(content, max_length)
        except zlib.error as error:
            raise ValueError(f"{self.path} is damaged: {error}") from error
