"""Files in a zip archive, for several processes to read."""

import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

__all__ = ["ZipMembers"]

_LOCAL_HEADER_BYTES = 30


class ZipMembers:
    """Some members of a zip archive by their place in it, read one by one.

    A :class:`zipfile.ZipFile` may not be shared by processes, and the directory of an
    archive of a million images is a gigabyte in memory. This keeps three numbers a member,
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
        If a member is encrypted, or compressed in another way than by deflation.
    """

    def __init__(self, path: Path, infos: Sequence[zipfile.ZipInfo]):
        for info in infos:
            known = info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
            if not known or info.flag_bits & 0x1:
                raise ValueError(
                    f"{path} must be stored or deflated without encryption, got "
                    f"{info.filename} otherwise."
                )
        self.path = path
        self._offsets = np.array([info.header_offset for info in infos], dtype=np.int64)
        self._sizes = np.array([info.compress_size for info in infos], dtype=np.int64)
        self._deflated = np.array(
            [info.compress_type == zipfile.ZIP_DEFLATED for info in infos], dtype=bool
        )

    def __getitem__(self, index: int) -> bytes:
        with self.path.open("rb") as file:
            file.seek(int(self._offsets[index]))
            header = file.read(_LOCAL_HEADER_BYTES)
            file.seek(sum(struct.unpack("<2H", header[-4:])), 1)  # name and extra field
            content = file.read(int(self._sizes[index]))
        return zlib.decompress(content, wbits=-15) if self._deflated[index] else content
