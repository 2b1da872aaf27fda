"""The bar that shows the progress of a certification."""

import threading
from typing import Self

from tqdm.auto import tqdm


class VoteBar:
    """Bar over images, with the votes spent, the images decided and the time left.

    Parameters
    ----------
    n_images : int
        Number of images.

    votes_per_image : int
        Estimation votes per image, where their number is fixed.

    show : bool
        Whether the bar is visible.
    """

    def __init__(self, n_images: int, votes_per_image: int, *, show: bool):
        self._bar = tqdm(total=n_images, unit="image", desc="certify", disable=not show)
        self._votes_per_image = votes_per_image
        self._votes = 0
        self._lock = threading.Lock()  # threads that classify call these methods

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def add(self, votes: int) -> None:
        """Count new votes, of images that all get the same number of votes."""
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
