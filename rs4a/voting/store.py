"""Votes in a folder, under a name of all that they depend on."""

import contextlib
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rs4a.utils.files import seal, unseal, whole_file
from rs4a.utils.user_warnings import warn_user


class VoteStore:
    """Folder of votes, with one file per input, which several runs may use at once.

    A file appears whole or not at all, and ends with a digest of its name and content. A
    file that was cut short or changed is ignored, and its votes are drawn again. If the
    folder cannot be written to, votes are drawn and not kept, with a warning.

    Parameters
    ----------
    folder : Path or None
        It need not exist yet. None: a store that keeps nothing.
    """

    def __init__(self, folder: Path | None):
        self.folder = folder
        self._broken = False

    def load(self, name: str, shape: tuple[int, ...]) -> NDArray[np.int64] | None:
        """Read the votes under a name.

        Parameters
        ----------
        name : str
            Hexadecimal digest of all that the votes depend on; "" if they have no name.

        shape : tuple of int
            Shape of the votes.

        Returns
        -------
        votes : ndarray of that shape, int64, or None
            None if there is no file, or a damaged one.

        Warns
        -----
        CertificationWarning
            If the file is damaged.
        """
        if not name or self.folder is None:
            return None
        path = _path(self.folder, name)
        try:
            content = unseal(path.read_bytes(), name)
        except OSError:
            return None
        if content is not None:
            return np.frombuffer(content, dtype="<i8").reshape(shape).astype(np.int64)
        warn_user(f"{path} is damaged: its votes are drawn again.")
        return None

    def save(self, name: str, votes: NDArray[np.int64]) -> bool:
        """Keep votes under a name.

        Parameters
        ----------
        name : str
            As for `load`.

        votes : ndarray of int64
            Votes.

        Returns
        -------
        saved : bool
            Whether the votes are in the folder now.

        Warns
        -----
        CertificationWarning
            When the folder cannot be written to, once.
        """
        if not name or self.folder is None or self._broken:
            return False
        path = _path(self.folder, name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(path) as partial:
                partial.write_bytes(seal(votes.astype("<i8").tobytes(), name))
        except OSError as error:
            self._broken = True
            warn_user(
                f"memory cannot be written to ({error}): votes are drawn, but not kept."
            )
        return not self._broken


def _path(folder: Path, name: str) -> Path:
    return folder / name[:2] / f"{name}.votes"


def store_folder(memory: Any) -> Path | None:
    """Folder that the parameter `memory` means: a folder "rs4a" inside that of the user.

    Parameters
    ----------
    memory : str, path-like, joblib.Memory or None
        As users give it.

    Returns
    -------
    folder : Path or None
        None where nothing is kept.

    Raises
    ------
    ValueError
        If `memory` is anything else.
    """
    location = getattr(memory, "location", memory)
    if location is None:
        return None
    with contextlib.suppress(TypeError):
        if os.fspath(location):
            return Path(os.fspath(location)).expanduser() / "rs4a"
    raise ValueError(
        f"memory must be a folder, a joblib.Memory with a folder or None, got {memory!r}."
    )
