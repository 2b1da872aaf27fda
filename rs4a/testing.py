"""One object of each class of the library, and checks for noises of your own.

The checks are pytest classes to inherit from; this module needs pytest.
"""

import copy
import itertools
import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone

from rs4a import bounds, noises, objectives
from rs4a.bounds import Bound
from rs4a.exceptions import UnsupportedNormError
from rs4a.noises import Noise
from rs4a.noises.capabilities import Soft
from rs4a.objectives import Objective
from rs4a.radii import conversion_factor
from rs4a.utils.params import known_classes

__all__ = [
    "AdditiveNoiseContract",
    "NoiseContract",
    "all_bounds",
    "all_noises",
    "all_objectives",
]

NORMS = (1.0, 2.0, math.inf)
#: From just above 1/2 to just below 1.
PROBABILITIES = 1.0 - np.concatenate(
    [0.5 - np.logspace(-9, -1, 20), np.logspace(-0.5, -12, 30)]
)

#: Arguments that `radius` refuses.
_WRONG: dict[str, list[Any]] = {
    "norm": [0, 1.5, "2", None, math.nan, -1],
    "prob_lower": [math.nan, -0.1, 1.1, [0.7, math.nan]],
    "dim": [0, -1, 2.5, None],
}


def all_noises(sigma: float = 0.5) -> list[Noise]:
    """One noise of each class of the library, with the default shape.

    Parameters
    ----------
    sigma : float, default=0.5
        Standard deviation of a coordinate, in units of X.

    Returns
    -------
    noises : list of Noise
        In alphabetical order; :class:`~rs4a.noises.Splitting` is deterministic.

    Examples
    --------
    >>> from rs4a.testing import all_noises
    >>> for noise in all_noises(sigma=0.25):
    ...     assert noise.radius(0.9, norm=1, dim=784) >= 0.0
    """
    return [kind(sigma=sigma) for kind in known_classes(noises).values()]


def all_objectives() -> list[Objective]:
    """One objective of each class of the library, with its default parameters.

    Returns
    -------
    objectives : list of Objective
        In the order of ``rs4a.objectives.__all__``.

    Examples
    --------
    >>> from rs4a.testing import all_objectives
    >>> "Stability()" in map(str, all_objectives())
    True
    """
    return [kind() for kind in known_classes(objectives).values()]


def all_bounds() -> list[Bound]:
    """One bound of each class of the library, with its default parameters.

    Returns
    -------
    bounds : list of Bound
        In alphabetical order.

    Examples
    --------
    >>> from rs4a.testing import all_bounds
    >>> "ClopperPearson()" in map(str, all_bounds())
    True
    """
    return [kind() for kind in known_classes(bounds).values()]


class NoiseContract:
    """Checks that every smoothing noise passes; inherit to check a noise of your own.

    Define a fixture `noise` that returns the noise to check, or several by `params`. The
    parameters must be good in every dimension in `dims`. Noise that is added to the input
    inherits from :class:`AdditiveNoiseContract`, which checks more.

    Examples
    --------
    >>> import pytest
    >>> from rs4a.noises import Splitting
    >>> from rs4a.testing import NoiseContract
    >>> class TestSplitting(NoiseContract):
    ...     @pytest.fixture(params=[Splitting(sigma=0.5, deterministic=False)], ids=str)
    ...     def noise(self, request):
    ...         return request.param
    """

    #: Numbers of coordinates in which the noise is checked.
    dims: tuple[int, ...] = (2, 64, 3072)
    #: Types of inputs that the noise takes.
    dtypes: tuple[torch.dtype, ...] = (torch.float32, torch.float64, torch.bfloat16)

    def inputs(self, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Inputs for which the noise is defined; override this for other inputs.

        Parameters
        ----------
        *shape : int
            Shape of the tensor.

        dtype : torch.dtype, default=torch.float32
            Its type.

        Returns
        -------
        inputs : torch.Tensor
            Uniform on [0, 1].
        """
        return torch.rand(shape, generator=generator(0)).to(dtype)

    def test_is_a_parameter_object(self, noise: Noise) -> None:
        """The constructor only stores, and every copy is equal."""
        params = noise.get_params()
        assert vars(noise) == params
        for each in (clone(noise), pickle.loads(pickle.dumps(noise)), copy.deepcopy(noise)):
            assert each is not noise
            assert each.get_params() == params
        assert _rescaled(noise, sigma=2.0).sigma == 2.0

    def test_repr_shows_what_was_given(self, noise: Noise) -> None:
        """The text makes the noise again."""
        assert repr(noise).startswith(f"{type(noise).__name__}(")
        name = "sigma" if noise.sigma is not None else "lambd"
        assert f"{name}={getattr(noise, name)}" in repr(noise)

    def test_scale_and_std_are_inverse(self, noise: Noise) -> None:
        """A lambda means a sigma, and that sigma means the lambda."""
        for dim in self.dims:
            by_sigma = _rescaled(noise, sigma=noise.std(dim))
            assert by_sigma.scale(dim) == pytest.approx(noise.scale(dim), rel=1e-12)
            assert _rescaled(noise, lambd=noise.scale(dim)).std(dim) == pytest.approx(
                noise.std(dim), rel=1e-12
            )

    def test_sample_keeps_shape_dtype_and_input(self, noise: Noise) -> None:
        """A noisy copy has the type of the input, and the input does not change."""
        shapes = ((100, 4), (20, 3, 8, 8), (1, 4), (0, 5))
        for dtype, shape in itertools.product(self.dtypes, shapes):
            x = self.inputs(*shape, dtype=dtype)
            before = x.clone()
            noisy = noise.sample(x, generator=generator(0))
            assert (noisy.shape, noisy.dtype, noisy.device) == (x.shape, dtype, x.device)
            assert torch.equal(x, before)
            assert noisy.isfinite().all()

    def test_sample_is_repeatable(self, noise: Noise) -> None:
        """The generator decides everything; torch's default one is the default."""
        x = torch.zeros(10, 64)
        first = noise.sample(x, generator(3))
        assert torch.equal(noise.sample(x, generator(3)), first)
        assert not torch.equal(noise.sample(x, generator(4)), first)
        with torch.random.fork_rng():
            torch.manual_seed(3)
            assert torch.equal(noise.sample(x), first)

    def test_sample_writes_where_it_is_told(self, noise: Noise) -> None:
        """`out` receives the result, contiguous or not; `x` itself is refused."""
        x = self.inputs(4, 64)
        wanted = noise.sample(x, generator(1))
        for out in (torch.empty(4, 64), torch.empty(64, 4).T):
            assert noise.sample(x, generator(1), out=out) is out
            assert torch.equal(out, wanted)
        with pytest.raises(ValueError, match="out must be other memory than x"):
            noise.sample(x, out=x)

    def test_image_and_vector_get_the_same_noise(self, noise: Noise) -> None:
        """The draws depend on the number of coordinates, not on their arrangement."""
        image = noise.sample(torch.zeros(30, 4, 4, 4), generator(6))
        assert torch.equal(
            image.flatten(1), noise.sample(torch.zeros(30, 64), generator(6))
        )

    @pytest.mark.parametrize("norm", NORMS)
    def test_radius_grows_with_the_probability(self, noise: Noise, norm: float) -> None:
        """The radius is 0 up to probability 1/2, never negative, and never NaN."""
        for dim in self.dims:
            radius = noise.radius(PROBABILITIES, norm=norm, dim=dim)
            assert ((radius >= 0.0) & np.isfinite(radius)).all()
            assert (np.diff(radius) >= -1e-9 * radius[1:]).all()
            nothing = noise.radius([0.0, 0.3, 0.5], norm=norm, dim=dim)
            np.testing.assert_array_equal(nothing, 0.0)
            assert not np.signbit(nothing).any()

    def test_radii_of_different_norms_agree(self, noise: Noise) -> None:
        """l1 >= l2 >= linf, and each is at least the radius that another one implies."""
        for dim in self.dims:
            radii = {n: noise.radius(PROBABILITIES, norm=n, dim=dim) for n in NORMS}
            assert (radii[1.0] >= radii[2.0] * (1 - 1e-9)).all()
            assert (radii[2.0] >= radii[math.inf] * (1 - 1e-9)).all()
            for source in noise.norms:
                for target in NORMS:
                    implied = radii[source] * conversion_factor(source, target, dim)
                    assert (radii[target] >= implied * (1 - 1e-9)).all()

    def test_radius_is_float64_of_the_same_shape(self, noise: Noise) -> None:
        """Scalars, lists and arrays are taken."""
        for prob_lower in (0.7, [0.6, 0.7], np.full((2, 3), 0.9)):
            for norm in NORMS:
                radius = noise.radius(prob_lower, norm=norm, dim=self.dims[0])
                assert radius.dtype == np.float64
                assert radius.shape == np.shape(prob_lower)

    def test_guarantee_says_where_a_radius_comes_from(self, noise: Noise) -> None:
        """The direct norms are those in `norms`."""
        assert set(noise.norms) <= set(NORMS)
        for norm in NORMS:
            assert noise.guarantee(norm).startswith("direct") == (norm in noise.norms)

    def test_soft_radius_is_the_radius_and_grows(self, noise: Noise) -> None:
        """The check is skipped for noise without a soft radius."""
        if not isinstance(noise, Soft):
            return
        dim = self.dims[-1]
        prob = torch.linspace(0.51, 0.999, 50, dtype=torch.float64, requires_grad=True)
        soft = noise.soft_radius(prob, 1.0 - prob, dim=dim)
        exact = noise.radius(prob.detach().numpy(), norm=noise.norms[0], dim=dim)
        np.testing.assert_allclose(soft.detach().numpy(), exact, rtol=1e-6)
        (slope,) = torch.autograd.grad(soft.sum(), prob)
        assert (slope > 0.0).all()

    def test_radius_refuses_wrong_arguments(self, noise: Noise) -> None:
        """A radius is never silently wrong."""
        for name, values in _WRONG.items():
            for value in values:
                good = {"prob_lower": 0.9, "norm": 1, "dim": self.dims[0]}
                with pytest.raises(ValueError, match=f"{name} must be"):
                    noise.radius(**{**good, name: value})
        with pytest.raises(UnsupportedNormError):
            noise.radius(0.9, norm=3, dim=self.dims[0])

    @pytest.mark.parametrize("name", ["sigma", "lambd"])
    def test_refuses_a_bad_scale(self, noise: Noise, name: str) -> None:
        """At use, since the constructor only stores."""
        for value in (0, 0.0, -1.0, math.nan, math.inf, "0.5", [1.0]):
            bad = _rescaled(noise, **{name: value})
            message = rf"{name} of \w+ must be a float in the range"
            with pytest.raises(ValueError, match=message):
                bad.radius(0.9, norm=1, dim=self.dims[0])
            with pytest.raises(ValueError, match=message):
                bad.sample(torch.zeros(2, self.dims[0]))

    def test_takes_exactly_one_of_sigma_and_lambd(self, noise: Noise) -> None:
        """Neither and both are refused."""
        for given, word in (({}, "neither"), ({"sigma": 1.0, "lambd": 1.0}, "both")):
            with pytest.raises(ValueError, match=f"sigma and lambd, got {word}"):
                _rescaled(noise, **given).scale(self.dims[0])

    def test_refuses_to_sample_into_what_is_no_float_tensor(self, noise: Noise) -> None:
        """Integers and numpy arrays are no place for noise."""
        for x in (np.zeros((2, 3)), torch.zeros(2, 3, dtype=torch.int64)):
            with pytest.raises(TypeError, match=r"floating-point torch\.Tensor"):
                noise.sample(x)  # type: ignore[arg-type]


class AdditiveNoiseContract(NoiseContract):
    """Checks that noise passes that is added to the input.

    Define a fixture `noise` that returns the noise to check, or several by `params`. The
    parameters must be good in every dimension in `dims`.

    Notes
    -----
    The checks do not know the density: prove by theory, or by the Neyman-Pearson lemma on a
    grid, that the radius holds for it. But `test_no_half_space_refutes_the_radius` draws
    the noise and looks for a half-space that refutes the radius.

    Examples
    --------
    >>> import pytest
    >>> from rs4a.noises import Laplace
    >>> from rs4a.testing import AdditiveNoiseContract
    >>> class TestLaplace(AdditiveNoiseContract):
    ...     @pytest.fixture(params=[Laplace(sigma=0.5), Laplace(lambd=2.0)], ids=str)
    ...     def noise(self, request):
    ...         return request.param
    """

    def test_gradients_flow_through(self, noise: Noise) -> None:
        """D noisy / d x is 1, and gradients change no draw."""
        x = torch.rand(4, 64, generator=generator(0)).requires_grad_()
        noisy = noise.sample(x, generator(1))
        assert torch.equal(noisy, noise.sample(x.detach(), generator(1)))
        (gradient,) = torch.autograd.grad(noisy.sum(), x)
        assert torch.equal(gradient, torch.ones_like(x))

    def test_sample_takes_inputs_that_share_memory(self, noise: Noise) -> None:
        """Rows of an expanded tensor get noise of their own."""
        x = torch.rand(1, 64, generator=generator(0))
        noisy = noise.sample(x.expand(50, 64), generator(1))
        assert torch.equal(noisy, noise.sample(x.repeat(50, 1), generator(1)))
        assert len(noisy.unique(dim=0)) == 50

    def test_sigma_is_the_standard_deviation(self, noise: Noise) -> None:
        """E||e||^2 / d is sigma^2, to within five standard errors."""
        for dim in self.dims:
            rows = max(200, 300_000 // dim)
            draws = noise.sample(torch.zeros(rows, dim), generator(5)).double()
            mean_square = (draws / noise.std(dim)).pow(2).mean(dim=1)
            error = 5.0 * mean_square.std().item() / math.sqrt(rows)
            assert mean_square.mean().item() == pytest.approx(1.0, abs=max(error, 1e-3))
            assert abs(draws.mean().item()) < 1e-2 * noise.std(dim)

    @pytest.mark.parametrize("norm", NORMS)
    def test_radius_is_equivariant_in_sigma(self, noise: Noise, norm: float) -> None:
        """Twice the sigma, twice the radius."""
        for dim in self.dims:
            unit = _rescaled(noise, sigma=1.0).radius(PROBABILITIES, norm=norm, dim=dim)
            for sigma in (1e-3, 7.3):
                np.testing.assert_allclose(
                    _rescaled(noise, sigma=sigma).radius(PROBABILITIES, norm=norm, dim=dim),
                    sigma * unit,
                    rtol=1e-12,
                )

    @pytest.mark.parametrize("norm", NORMS)
    def test_no_half_space_refutes_the_radius(self, noise: Noise, norm: float) -> None:
        """For a classifier <x, u> <= c of probability p, the boundary is that far away.

        The distance of a half-space in l_p is its l2 distance over the dual norm of u. It
        is estimated from draws at p plus five standard errors.
        """
        rows = 20_000
        for dim in (d for d in self.dims if d <= 64):
            draws = noise.sample(torch.zeros(rows, dim), generator(8)).double()
            directions = np.eye(1, dim)[0], np.ones(dim), np.linspace(0.1, 1.0, dim)
            for u in directions:
                dual = np.linalg.norm(u, {1.0: math.inf, 2.0: 2.0, math.inf: 1.0}[norm])
                along = np.sort(np.abs(draws.numpy() @ u))
                for p in (0.55, 0.7, 0.9, 0.99):
                    share = 2.0 * p - 1.0  # noise is symmetric: P(|<e, u>| <= c)
                    error = 5.0 * math.sqrt(share * (1.0 - share) / rows)
                    place = min(rows - 1, math.ceil(rows * (share + error)))
                    limit = along[place] / dual
                    assert float(noise.radius(p, norm=norm, dim=dim)) <= limit

    def test_refuses_more_than_the_dtype_can_hold(self, noise: Noise) -> None:
        """Otherwise draws would be infinite."""
        with pytest.raises(ValueError, match=r"too much for torch\.float32"):
            _rescaled(noise, sigma=1e36).sample(torch.zeros(2, self.dims[0]))


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _rescaled(noise: Noise, **scale: Any) -> Noise:
    """Copy with another scale: `sigma` or `lambd`."""
    return clone(noise).set_params(**{"sigma": None, "lambd": None, **scale})
