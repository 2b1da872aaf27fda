"""Radii at difficult parameters against the same formulas in high-precision arithmetic."""

import json
import math
from itertools import pairwise
from pathlib import Path

import mpmath as mp
import numpy as np
import pytest
from scipy.special import betainc, expit, gammainc, gammaincc, gammaincinv, ndtri

from rs4a import radii

LEVEL_SETS = json.loads(
    (Path(__file__).parents[1] / "data/level_set_by_mpmath.json").read_text()
)
NEAR_HALF, NEAR_ONE = [0.5 + 1e-9, 0.500001], [1 - 1e-6, 1 - 1e-12, 1 - 2**-53]
RHO = [*NEAR_HALF, 0.6, 0.75, 0.93, 0.999, *NEAR_ONE]
CLOSED_FORM, INTEGRAL = mp.mpf("1e-9"), mp.mpf("1e-6")


def check(got, truth, tolerance):
    for value, true in zip(got.tolist(), truth, strict=True):
        assert value <= true
        assert true - mp.mpf(value) <= tolerance * true


def positive_series(x, top, bottom):
    """Sum over n of x^n (top)_n / (bottom)_n, without (top)_n if that is None."""
    one = 1 << 200
    x, bottom = int(mp.mpf(x) * one), int(mp.mpf(bottom) * one)
    term = total = one
    if top is None:
        while term:
            term = term * x // bottom
            bottom, total = bottom + one, total + term
    else:
        top = int(mp.mpf(top) * one)
        while term:
            term = (term * x >> 200) * top // bottom
            top, bottom, total = top + one, bottom + one, total + term
    return mp.mpf(total) / one


def gamma_below(shape, z):
    """Regularized lower incomplete gamma function, with fifty digits after the point."""
    if z > shape + 40 * mp.sqrt(shape) + 300:
        return mp.mpf(1)
    series = positive_series(z, None, shape + 1)
    return mp.exp(shape * mp.log(z) - z - mp.loggamma(shape + 1)) * series


def beta_below(a, b, u):
    """Regularized incomplete beta function I_u(a, b)."""
    if u > a / (a + b):
        return 1 - beta_below(b, a, 1 - u)
    log_first = a * mp.log(u) + b * mp.log1p(-u) - mp.log(a)
    log_beta = mp.loggamma(a) + mp.loggamma(b) - mp.loggamma(a + b)
    return mp.exp(log_first - log_beta) * positive_series(u, a + b, a + 1)


class GammaTopSets:
    """The score k r^(k-1) + j/r, r^k gamma distributed; x grows as the top set shrinks.

    z = r^k is below exp(-x) in the top set if k <= 1, above exp(x) if k > 1 and j = 0,
    and else outside of [z1, z2], where log r2/r1 = exp(x) and both have one score.
    """

    def __init__(self, dim, k, j):
        self.k, self.j = mp.mpf(k), mp.mpf(j)
        self.shape = (dim - self.j) / self.k
        parts = [(self.k, self.shape + 1 - 1 / self.k), (self.j, self.shape - 1 / self.k)]
        normed = mp.loggamma(self.shape)
        self.parts = [(c * mp.exp(mp.loggamma(s) - normed), s) for c, s in parts if c > 0]
        self.total = sum(weight for weight, _ in self.parts)
        shape = float(self.shape)
        low, high = -10 - 45 / shape, math.log(shape + 40 * math.sqrt(shape) + 300)
        self.range = (-high, -low) if k <= 1 else (low, high)
        self.outer = k > 1 and j > 0
        if self.outer:
            self.range = (-45.0, 6.0)

    def borders(self, x):
        """Z1 and z2 (0, infinity: none) and their derivatives by x."""
        if self.k <= 1:
            return mp.exp(-x), mp.inf, -mp.exp(-x), 0
        if not self.outer:
            return mp.mpf(0), mp.exp(x), 0, mp.exp(x)
        q = mp.exp(x)
        z1 = self.j / self.k * -mp.expm1(-q) / mp.expm1((self.k - 1) * q)
        by_q = 1 / mp.expm1(q) + (self.k - 1) / mp.expm1(-(self.k - 1) * q)
        z2 = z1 * mp.exp(self.k * q)
        return z1, z2, z1 * by_q * q, z2 * (by_q + self.k) * q

    def __call__(self, x):
        """Mass w of the top set, ES(w), and -dw/dx."""
        z1, z2, by_x1, by_x2 = self.borders(x)

        def mass(shape):
            below = gamma_below(shape, z1) if z1 > 0 else 0
            return below + (1 - gamma_below(shape, z2) if z2 < mp.inf else 0)

        def density(z):
            return mp.exp((self.shape - 1) * mp.log(z) - z - mp.loggamma(self.shape))

        lost = -by_x1 * density(z1) if by_x1 else 0
        lost += by_x2 * density(z2) if by_x2 else 0
        rate = sum(weight * mass(shape) for weight, shape in self.parts)
        return mass(self.shape), rate, lost

    def rough_mass(self, x):
        k, j, shape = float(self.k), float(self.j), float(self.shape)
        if k <= 1:
            return gammainc(shape, np.exp(-x))
        if not self.outer:
            return gammaincc(shape, np.exp(x))
        q = np.exp(x)
        z1 = j / k * -np.expm1(-q) / np.expm1((k - 1) * q)
        z2 = z1 * np.exp(k * q)
        return gammainc(shape, z1) + gammaincc(shape, z2)


class BetaTopSets:
    """The score a / (1 + r), r / (1 + r) beta distributed: r < exp(-x) in the top set."""

    def __init__(self, dim, a):
        self.dim, self.b = mp.mpf(dim), mp.mpf(a) - dim
        self.total = self.b
        self.range = (-70.0, 700.0 / dim + 20.0)

    def __call__(self, x):
        u, rest = 1 / (1 + mp.exp(x)), 1 / (1 + mp.exp(-x))
        lost = self.dim * mp.log(u) + self.b * mp.log(rest)
        lost -= mp.loggamma(self.dim) + mp.loggamma(self.b)
        lost += mp.loggamma(self.dim + self.b)
        rate = self.b * beta_below(self.dim, self.b + 1, u)
        return beta_below(self.dim, self.b, u), rate, mp.exp(lost)

    def rough_mass(self, x):
        return betainc(float(self.dim), float(self.b), expit(-x))


def integrals(top_sets, masses):
    """Integrals of dw / ES(w) from every mass to 1, by Gauss's rule on panels."""
    grid, progress = rough_progress(top_sets)
    masses_below_one = {mass for mass in masses if mass < 1}
    ends = {m: end_of(top_sets, m, grid, progress) for m in masses_below_one}
    edges = [*np.interp(np.arange(-7.5, 8.0), progress, grid).tolist(), *ends.values()]
    # Nearly all the mass: go on outwards, where less and less is.
    first = min(ends.values())
    top = min(first, mp.mpf(float(grid[0])))
    step = mp.mpf(float(grid[-1] - grid[0])) / 40
    while 1 - top_sets(top)[0] > mp.mpf("1e-13") * (1 - top_sets(first)[0]):
        edges.append(top)
        top -= step
    edges = sorted({mp.mpf(edge) for edge in edges} | {top})
    total, so_far = mp.mpf(0), {top: mp.mpf(0)}
    nodes, weights = np.polynomial.legendre.leggauss(12)
    for low, high in pairwise(edges):
        if low >= max(ends.values()):
            break
        for node, weight in zip(nodes.tolist(), weights.tolist(), strict=True):
            _, rate, lost = top_sets(low + (high - low) * (1 + mp.mpf(node)) / 2)
            total += mp.mpf(weight) * (high - low) / 2 * lost / rate
        so_far[high] = total
    return [so_far[ends[mass]] if mass < 1 else mp.mpf(0) for mass in masses]


def rough_progress(top_sets):
    """Parameters, and the normal quantile of what their top sets lack of the mass."""
    grid = np.linspace(*top_sets.range, 3001)
    for _ in range(2):
        with np.errstate(over="ignore", invalid="ignore"):
            mass = np.clip(top_sets.rough_mass(grid), 1e-30, 1 - 1e-16)
        progress = np.maximum.accumulate(-ndtri(mass))
        first, last = np.searchsorted(progress, [-8.2, 8.3])
        grid, progress = (
            grid[max(first - 1, 0) : last + 1],
            progress[max(first - 1, 0) : last + 1],
        )
        coarse, grid = grid, np.linspace(grid[0], grid[-1], 3001)
    return coarse, progress


def end_of(top_sets, mass, grid, progress):
    """The x at which the top set has this mass, by Newton's method."""
    x = mp.mpf(float(np.interp(-ndtri(float(mass)), progress, grid)))
    for _ in range(60):
        got, _, lost = top_sets(x)
        # On the scale where the mass, or what it lacks, is a power of exp(x).
        smaller = min(got, 1 - got)
        step = (got - mass) / lost
        limit = 2 * smaller / lost
        x += max(min(step, limit), -limit)
        if abs(got - mass) < mp.mpf("1e-20") * min(mass, 1 - mass):
            return x
    raise AssertionError(f"no top set of mass {mass} found")


def radial(top_sets, rho):
    return integrals(top_sets, [2 * (1 - mp.mpf(p)) for p in rho])


def cubical_l1(top_sets, dim, rho):
    p0 = [1 - mp.mpf(p) for p in rho]
    beyond = integrals(top_sets, [min(2 * dim * p, mp.mpf(1)) for p in p0])
    half = mp.mpf(1) / 2
    flat = [(half - max(p, half / dim)) * 2 * dim / top_sets.total for p in p0]
    return [a + b for a, b in zip(flat, beyond, strict=True)]


@pytest.fixture(autouse=True)
def _sixty_digits():
    with mp.workdps(60):
        yield


EXP_INF = [
    *[(2, 1, 0), (2, 2, 0), (2, 0.5, 0), (2, 1, 0.5), (2, 2, 0.5), (2, 3, 0.9)],
    *[(2, 10, 0.1), (2, 0.3, 0.99), (3, 1.01, 1.9), (3, 0.2, 1.5), (64, 2, 62.9)],
    *[(64, 50, 0), (64, 0.1, 0), (64, 20, 40), (3072, 2, 0), (3072, 0.5, 0)],
    *[(3072, 2, 3000), (3072, 1, 3070.5), (150_528, 2, 0), (150_528, 1, 150_520)],
    (150_528, 2, 150_500),
]


@pytest.mark.parametrize(("dim", "k", "j"), EXP_INF)
def test_exp_inf_against_linf(dim, k, j):
    truth = radial(GammaTopSets(dim, k, j), RHO)
    check(radii.exp_inf(RHO, math.inf, dim, k, j), truth, INTEGRAL)


def around_the_border(dim):
    """Where 2 d p0 is 1, and both branches of the l1 radius."""
    border = 1 - 1 / (2 * dim)
    return [0.5 + 1e-9, 0.5 + border / 4, border - 1e-12, border, border + 1e-12, *NEAR_ONE]


@pytest.mark.parametrize(
    ("dim", "k", "j"),
    [(2, 1, 0), (2, 3, 0.9), (3, 0.2, 1.5), (64, 2, 62.9), (64, 20, 40), (3072, 0.5, 0)]
    + [(150_528, 1, 150_520)],
)
def test_exp_inf_against_l1(dim, k, j):
    rho = around_the_border(dim)
    truth = cubical_l1(GammaTopSets(dim, k, j), dim, rho)
    check(radii.exp_inf(rho, 1, dim, k, j), truth, INTEGRAL)


POW_INF = [
    *[(2, 4.01), (2, 50), (64, 66.01), (3072, 1e4)],
    pytest.param(150_528, 160_000, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("dim", "a"), POW_INF)
def test_pow_inf(dim, a):
    truth = radial(BetaTopSets(dim, a), RHO)
    check(radii.pow_inf(RHO, math.inf, dim, a), truth, INTEGRAL)
    rho = around_the_border(dim)
    truth = cubical_l1(BetaTopSets(dim, a), dim, rho)
    check(radii.pow_inf(rho, 1, dim, a), truth, INTEGRAL)


@pytest.mark.parametrize(
    ("dim", "k"),
    [(1, 0.5), (2, 10), (2, 0.1), (2, 60), (64, 50), (3072, 1.0), (150_528, 2)],
)
def test_exp_one(dim, k):
    truth = radial(GammaTopSets(dim, k, 0), RHO)
    check(radii.exp_one_l1(RHO, dim, k), truth, INTEGRAL)


@pytest.mark.parametrize("p", [1.0, 1.001, 1.5, 2, 4, 22, 30, 50, 100, 200, 1000])
def test_expp_is_a_quantile(p):
    # With a large p slopes of the score fall below the smallest normal float.
    rhos = [*RHO, 0.5000001597941918, 0.5002926053020335, 0.5106557583141286]
    for rho, radius in zip(rhos, radii.expp_l1(rhos, p).tolist(), strict=True):
        for end, sign in ((radius, -1), (radius * (1 + CLOSED_FORM), 1)):
            mass = gamma_below(1 / mp.mpf(p), mp.mpf(end) ** p)
            assert sign * (mass - (2 * mp.mpf(rho) - 1)) >= 0


@pytest.mark.parametrize("p", [0.05, 0.5, 0.9])
def test_expp_below_one(p):
    inverse = 1 / mp.mpf(p)
    truth = []
    for rho in RHO:
        p0 = 1 - mp.mpf(rho)
        y = mp.mpf(float(gammaincinv(1 / p, float(2 * p0))))
        for _ in range(4):
            density = y ** (inverse - 1) * mp.exp(-y) / mp.gamma(inverse)
            y -= (gamma_below(inverse, y) - 2 * p0) / density
        edges = [y * 2**i for i in range(300) if y * 2**i < 200] + [200 + y, 1000 + y]
        with mp.workdps(25):
            total = mp.quad(lambda y: y ** (inverse - 1) / mp.expm1(y), edges)
        truth.append(total / p)
    check(radii.expp_l1(RHO, p), truth, INTEGRAL)


@pytest.mark.parametrize("a", [0.01, 1, 2.001, 3, 10, 1e3, 1e6])
def test_pareto(a):
    truth = []
    for rho in RHO:
        q, c = 2 * mp.mpf(rho) - 1, mp.mpf(a) / (mp.mpf(a) + 1)
        truth.append(q / a * mp.hyp2f1(1, c, 1 + c, q ** (1 / c)))
    check(radii.pareto_l1(RHO, a), truth, CLOSED_FORM)


@pytest.mark.parametrize("dim", [1, 2, 3, 64, 3072, 150_528])
def test_uniform_ball(dim):
    half = mp.mpf(1) / 2
    rho = [*RHO, 1.0]
    for p, radius in zip(rho, radii.uniform_ball_l2(rho, dim).tolist(), strict=True):
        for end, sign in ((radius, -1), (radius * (1 + CLOSED_FORM), 1)):
            mass = beta_below(half, mp.mpf(dim + 1) / 2, mp.mpf(end) ** 2 / 4)
            assert sign * (mass - (mp.mpf(p) - half)) >= 0


@pytest.mark.parametrize("dim", [2, 3, 64, 3072, 150_528])
def test_direct_formulas(dim):
    """The callers of these round down; done here."""
    rho, half = [mp.mpf(p) for p in RHO], mp.mpf(1) / 2
    gaussian = [mp.sqrt(2) * mp.erfinv(2 * p - 1) for p in rho]
    laplace = [-mp.log(2 * (1 - p)) for p in rho]
    uniform_linf = [2 * (1 - (3 * half - p) ** (1 / mp.mpf(dim))) for p in rho]
    check(radii.round_down(radii.gaussian_l2(RHO)), gaussian, CLOSED_FORM)
    check(radii.round_down(radii.laplace_l1(RHO)), laplace, CLOSED_FORM)
    check(radii.round_down(radii.uniform_linf(RHO, dim)), uniform_linf, CLOSED_FORM)
    uniform = [2 * p - 1 for p in rho]
    check(radii.round_down(radii.uniform_l1(RHO)), uniform, CLOSED_FORM)


@pytest.mark.parametrize("dim", [2, 3, 64, 3072, 150_528])
def test_laplace_against_linf(dim):
    truth = []
    m = dim // 2 + 1
    weight = mp.binomial(dim, m) / mp.mpf(2) ** dim
    points = [(m, weight)]
    while weight > mp.mpf("1e-40") and m < dim:
        weight *= mp.mpf(dim - m) / (m + 1)
        m += 1
        points.append((m, weight))
    lines, mass = [], mp.mpf(0)  # from the lower end: slope, mass and Phi there, upper end
    phi = mp.mpf(0)
    for m, weight in reversed(points):
        lines.append((2 * m - dim, mass, phi, mass + weight))
        mass, phi = mass + weight, m * weight
    lines.append((0, mass, phi, mp.mpf(1) / 2))
    for rho in RHO:
        p0, total = 1 - mp.mpf(rho), mp.mpf(0)
        for slope, low, rate, high in lines:
            start = max(low, p0)
            if start < high:
                at_start = rate + slope * (start - low)
                width = (high - start) / at_start
                total += mp.log1p(slope * width) / slope if slope else width
        truth.append(total)
    check(radii.laplace_linf(RHO, dim), truth, CLOSED_FORM)


#: Each of the laws with one record, at this probability, needs a table of its own.
LEVEL_SETS = [
    pytest.param(record, marks=pytest.mark.slow if record["rho"] == 0.999999 else ())
    for record in LEVEL_SETS
]


@pytest.mark.parametrize("record", LEVEL_SETS, ids=str)
def test_level_sets(record):
    functions = {"exp": radii.exp_two_l2, "pow": radii.pow_two_l2}
    function = functions[record["noise"]]
    got = function([record["rho"]], record["dim"], *record["parameters"])
    check(got, [mp.mpf(record["radius"])], INTEGRAL)
