"""Votes in a folder, found again by all that they depend on."""

import contextlib
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rs4a.utils.files import seal, unseal, whole_file
from rs4a.utils.user_warnings import warn_user

__all__ = ["VoteStore", "store_folder"]


class VoteStore:
    """Folder of votes, a file an input, which several runs may use at once.

    A file appears whole or not at all, and ends with a digest of its name and content: one
    that was cut short or changed is not trusted, and its votes are drawn again. Where the
    folder cannot be written to, votes are drawn and not kept, with a warning.

    Parameters
    ----------
    folder : Path
        It need not exist yet.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._broken = False

    def load(self, key: str, shape: tuple[int, ...]) -> NDArray[np.int64] | None:
        """Read what was saved under a key.

        Parameters
        ----------
        key : str
            Hexadecimal digits that tell all that the votes depend on.

        shape : tuple of int
            Shape of the votes.

        Returns
        -------
        votes : ndarray of that shape, int64, or None
            None if there is nothing, or nothing whole.

        Warns
        -----
        CertificationWarning
            If there is a file, but damaged.
        """
        path = self._path(key)
        try:
            content = unseal(path.read_bytes(), key)
        except OSError:
            return None
        if content is not None:
            return np.frombuffer(content, dtype="<i8").reshape(shape).astype(np.int64)
        warn_user(f"{path} is damaged: its votes are drawn again.")
        return None

    def save(self, key: str, votes: NDArray[np.int64]) -> bool:
        """Keep votes under a key.

        Parameters
        ----------
        key : str
            As for `load`.

        votes : ndarray of int64
            Votes.

        Returns
        -------
        saved : bool
            Whether they are in the folder now.

        Warns
        -----
        CertificationWarning
            At the first time that the folder cannot be written to.
        """
        if self._broken:
            return False
        content, path = votes.astype("<i8").tobytes(), self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(path) as partial:
                partial.write_bytes(seal(content, key))
        except OSError as error:
            self._broken = True
            warn_user(
                f"memory cannot be written to ({error}): votes are drawn, but not kept."
            )
        return not self._broken

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.votes"


def store_folder(memory: Any) -> Path | None:
    """Folder that the parameter `memory` means: its own, inside a joblib.Memory's.

    Parameters
    ----------
    memory : str, path-like, joblib.Memory or None
        As users give it.

    Returns
    -------
    folder : Path or None
        None where nothing is to be kept.

    Raises
    ------
    ValueError
        If it is anything else.
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
