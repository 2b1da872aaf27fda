"""Inputs: float32 values, and the facts about X that float32 loses."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from rs4a.inputs.arrays import lost_by_rounding


@dataclass(frozen=True, eq=False)
class Inputs:
    """Checked inputs beside the X of the user.

    Parameters
    ----------
    values : ndarray of shape (n, ...), float32, or LazyInputs
        Inputs, from `check_inputs`.

    given : array-like or Dataset
        X as the user gave it.
    """

    values: Any
    given: Any

    @property
    def dim(self) -> int:
        """Number of coordinates of one input."""
        return int(self.values[0].size)

    @property
    def index(self) -> pd.Index | None:
        """Index of a DataFrame, or None."""
        return self.given.index if isinstance(self.given, pd.DataFrame) else None

    def lost(self, order: float) -> tuple[float, float]:
        """Largest norm of what float32 takes from an input, and from a coordinate."""
        return lost_by_rounding(self.given, order)
