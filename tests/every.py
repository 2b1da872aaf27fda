"""Noises, objectives and bounds that tests run over: new ones come in by themselves."""

from sklearn.base import clone

from rs4a.noises import AdditiveNoise, Clean, Exp1, Exp2, ExpInf, Expp, Pareto, Pow2, PowInf
from rs4a.testing import all_noises, all_objectives

#: Parameters that tell more than the default ones do, in d coordinates.
SHAPES = {
    Pareto: lambda d: [{"a": 3}],
    Expp: lambda d: [{"p": 0.5}, {"p": 4}],
    Exp1: lambda d: [{"k": 0.5}, {"k": 10}],
    Exp2: lambda d: [{"k": 1}, {"k": 2, "j": d - 1.5}],
    ExpInf: lambda d: [{"k": 10}, {"j": d - 1.5}, {"k": 2, "j": d / 3}],
    Pow2: lambda d: [{"a": d / 2 + 2}],
    PowInf: lambda d: [{"a": d + 4}],
}


def added_noises(dim, sigma=0.5):
    """Noise of every class that adds some, in `dim` coordinates."""
    return [
        clone(noise).set_params(**shape)
        for noise in all_noises(sigma)
        if isinstance(noise, AdditiveNoise) and not isinstance(noise, Clean)
        for shape in SHAPES.get(type(noise), lambda d: [{}])(dim)
    ]


def one_of_each(dim, sigma=0.5):
    """One noise of every class that adds some."""
    return list({type(noise): noise for noise in added_noises(dim, sigma)}.values())


def quick_objectives(**params):
    """One objective of each class, with those of the parameters that it has."""
    return [
        each.set_params(**{k: v for k, v in params.items() if k in each.get_params()})
        for each in all_objectives()
    ]
