"""What X is, decided once: float32 values, and the facts about X that float32 loses."""

from collections.abc import Callable
from typing import Any

import pandas as pd

from rs4a.inputs.arrays import check_inputs, lost_by_rounding


class Inputs:
    """Checked inputs beside the X that the user gave.

    Parameters
    ----------
    values : ndarray of shape (n, ...), float32, or LazyInputs
        Inputs, which may be read as needed.

    given : array-like or Dataset, default=None
        X as the user gave it. None: `values`.
    """

    def __init__(self, values: Any, given: Any = None):
        self.values = values
        self.given = values if given is None else given

    @classmethod
    def checked(
        cls, estimator: Any, X: Any, also: Callable[..., None] | None = None
    ) -> "Inputs":
        """Check X against the fit of an estimator.

        Parameters
        ----------
        estimator : BaseEstimator
            Fitted estimator, with the attributes that `check_inputs` sets.

        X : array-like of shape (n, ...), or Dataset
            Inputs.

        also : callable, default=None
            A further check of the values.

        Returns
        -------
        inputs : Inputs
            The inputs.
        """
        return cls(check_inputs(estimator, X, reset=False, also=also), X)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def dim(self) -> int:
        """Number of coordinates of one input."""
        return int(self.values[0].size)

    @property
    def index(self) -> pd.Index | None:
        """Index of a DataFrame, or None."""
        return self.given.index if isinstance(self.given, pd.DataFrame) else None

    def lost(self, order: float) -> tuple[float, float]:
        """How far float32 moves an input, in the norm of `order`, and one coordinate."""
        return lost_by_rounding(self.given, order)
