"""Smoothing noises: parameter objects that sample and that know their radii."""

from rs4a.noises.additive import AdditiveNoise
from rs4a.noises.base import Noise
from rs4a.noises.by_name import make_noise
from rs4a.noises.clean import Clean
from rs4a.noises.iid import Expp, Gaussian, Laplace, Pareto, Uniform
from rs4a.noises.radial import Exp1, Exp2, ExpInf, Pow2, PowInf, RadialNoise, UniformBall
from rs4a.noises.splitting import Splitting

__all__ = [
    "AdditiveNoise",
    "Clean",
    "Exp1",
    "Exp2",
    "ExpInf",
    "Expp",
    "Gaussian",
    "Laplace",
    "Noise",
    "Pareto",
    "Pow2",
    "PowInf",
    "RadialNoise",
    "Splitting",
    "Uniform",
    "UniformBall",
    "make_noise",
]
