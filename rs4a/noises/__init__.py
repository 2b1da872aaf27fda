"""Smoothing noises: parameter objects that sample and that know their radii."""

from rs4a.noises.base import Noise
from rs4a.noises.iid import Gaussian, Laplace, Uniform

__all__ = ["Gaussian", "Laplace", "Noise", "Uniform"]
