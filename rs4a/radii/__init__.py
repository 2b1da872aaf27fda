"""Certified radii as plain numerics on arrays: no noise objects, no votes.

Values are float64. What is approximated is rounded towards the smaller radius.
"""

from rs4a.radii.closed_form import gaussian_l2, laplace_l1, uniform_l1, uniform_linf
from rs4a.radii.conversion import conversion_factor
from rs4a.radii.laplace_linf import laplace_linf
from rs4a.radii.rounding import complement, round_down

__all__ = [
    "complement",
    "conversion_factor",
    "gaussian_l2",
    "laplace_l1",
    "laplace_linf",
    "round_down",
    "uniform_l1",
    "uniform_linf",
]
