"""Certified radii as functions of arrays: no noise objects, no votes.

Values are float64. Approximations are rounded towards the smaller radius.
"""

from rs4a.radii.box import uniform_l1_in_box
from rs4a.radii.closed_form import (
    gaussian_l2,
    gaussian_one_bound,
    laplace_l1,
    pareto_l1,
    uniform_ball_l2,
    uniform_l1,
    uniform_linf,
    uniform_one_bound,
)
from rs4a.radii.laplace_linf import laplace_linf
from rs4a.radii.level_set import exp_two_l2, pow_two_l2
from rs4a.radii.radial_score import exp_inf, exp_one_l1, expp_l1, pow_inf
from rs4a.radii.rounding import complement, conversion_factor, round_down
from rs4a.radii.special import log_gamma_ratio

__all__ = [
    "complement",
    "conversion_factor",
    "exp_inf",
    "exp_one_l1",
    "exp_two_l2",
    "expp_l1",
    "gaussian_l2",
    "gaussian_one_bound",
    "laplace_l1",
    "laplace_linf",
    "log_gamma_ratio",
    "pareto_l1",
    "pow_inf",
    "pow_two_l2",
    "round_down",
    "uniform_ball_l2",
    "uniform_l1",
    "uniform_l1_in_box",
    "uniform_linf",
    "uniform_one_bound",
]
