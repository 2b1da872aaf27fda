"""The bar that shows how far a certification is."""

import threading
from types import TracebackType
from typing import Self

from tqdm.auto import tqdm

__all__ = ["VoteBar"]


class VoteBar:
    """Bar over images, with the votes spent, the images decided and the time left.

    Parameters
    ----------
    n_images : int
        Number of images.

    votes_per_image : int
        Estimation votes of an image, where they are fixed.

    show : bool
        Whether there is anything to see.
    """

    def __init__(self, n_images: int, votes_per_image: int, *, show: bool):
        self._bar = tqdm(total=n_images, unit="image", desc="certify", disable=not show)
        self._votes_per_image = votes_per_image
        self._votes = 0
        self._lock = threading.Lock()  # threads that classify report here

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.close()

    def add(self, votes: int) -> None:
        """Count votes that came, of images that all get the same number of them."""
        with self._lock:
            self._votes += votes
            self._show(self._votes // self._votes_per_image, self._votes)

    def advance(self, images: int, votes: int) -> None:
        """Count images that are decided, and their votes."""
        with self._lock:
            self._votes += votes
            self._show(int(self._bar.n) + images, self._votes)

    def show(self, decided: int, votes: int) -> None:
        """Set the number of images decided and of votes spent."""
        with self._lock:
            self._show(decided, votes)

    def _show(self, images: int, votes: int) -> None:
        self._bar.set_postfix_str(f"{votes:,} votes", refresh=False)
        self._bar.update(images - self._bar.n)
