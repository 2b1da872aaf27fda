"""Level-set radii against adaptive quadrature that knows nothing of kinks: none is above.

By weak duality any threshold t proves a probability at which a radius holds, so that an
excess over the truth shows up at the best t, which need not be known exactly.

CI draws 60 random laws; ``RS4A_PARTS=20 pytest -m slow`` on this file draws 300, after a
change to the level sets.
"""

import os

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import betainc, betaln, expit, gammaln

from rs4a import radii

#: Kronrod's rule with 15 nodes and, at every second one of them, Gauss's with 7.
NODES = np.array([
    0.991455371120812639206854697526329, 0.949107912342758524526189684047851,
    0.864864423359769072789712788640926, 0.741531185599394439863864773280788,
    0.586087235467691130294144691693132, 0.405845151377397166906606412076961,
    0.207784955007898467600689403773245, 0.0,
])  # fmt: skip
KRONROD = np.array([
    0.022935322010529224963732008058970, 0.063092092629978553290700663189204,
    0.104790010322250183839876322541518, 0.140653259715525918745189590510238,
    0.169004726639267902826583426598550, 0.190350578064785409913256402421014,
    0.204432940075298892414161999234649, 0.209482141084727828012999174891714,
])  # fmt: skip
GAUSS = np.array([
    0.129484966168869693270611432679082, 0.279705391489276667901467771423780,
    0.381830050505118944950369775488975, 0.417959183673469387755102040816327,
])  # fmt: skip
NODES = np.concatenate([-NODES, NODES[-2::-1]])
KRONROD = np.concatenate([KRONROD, KRONROD[-2::-1]])
GAUSS = np.concatenate([GAUSS, GAUSS[-2::-1]])
MOST_SPLITS, MOST_PANELS = 60, 20_000


def integral(function, edges, tolerance):
    """Integral and its measured error, from two sets of panels.

    A jump beyond the last node of a panel is not noticed: hardly in both of them.
    """
    others = np.concatenate([edges[:1], edges[:-1] + 0.37 * np.diff(edges), edges[-1:]])
    value, error = halved(function, edges, tolerance)
    other, other_error = halved(function, others, tolerance)
    return value, error + other_error + abs(value - other)


def halved(function, edges, tolerance):
    """Integral and its estimated error, by halving panels until each is exact."""
    low, high = edges[:-1], edges[1:]
    value = error = 0.0
    for _ in range(MOST_SPLITS):
        half = 0.5 * (high - low)
        at = function(0.5 * (low + high)[:, None] + half[:, None] * NODES)
        by_kronrod, by_gauss = half * (at @ KRONROD), half * (at[:, 1::2] @ GAUSS)
        off = np.abs(by_kronrod - by_gauss)
        done = off <= tolerance
        value, error = value + by_kronrod[done].sum(), error + off[done].sum()
        if done.all():
            return value, error
        if (~done).sum() > MOST_PANELS:  # rounding, which no halving mends
            break
        low, high = low[~done], high[~done]
        middle = 0.5 * (low + high)
        low, high = np.concatenate([low, middle]), np.concatenate([middle, high])
    return value + by_kronrod[~done].sum(), error + off[~done].sum()


class Exp:
    """psi = r^k + j log r; x is log r."""

    def __init__(self, dim, k, j):
        self.dim, self.k, self.j = dim, k, j
        self.power = dim - j
        self.centre = np.log(self.power / k) / k
        self.norm = np.log(k) - gammaln(self.power / k)

    def log_density(self, x):
        return self.norm + self.power * x - np.exp(np.minimum(self.k * x, 600.0))

    def growth(self, x, q):
        """psi(r e^q) - psi(r)."""
        # The larger of both powers times what is left: neither power may underflow alone.
        larger = np.exp(np.minimum(self.k * np.maximum(x, x + q), 600.0))
        return self.j * q - np.sign(q) * larger * np.expm1(-self.k * np.abs(q))


class Pow:
    """psi = a log(1 + r^k)."""

    def __init__(self, dim, k, a):
        self.dim, self.k, self.a = dim, k, a
        low, high = dim / k, a - dim / k
        self.centre = np.log(low / high) / k
        self.norm = np.log(k) - betaln(low, high)

    def log_density(self, x):
        return self.norm + self.dim * x - self.a * np.logaddexp(0.0, self.k * x)

    def growth(self, x, q):
        change = expit(self.k * x) * np.expm1(np.clip(self.k * q, -1.0, 1.0))
        far = np.logaddexp(0.0, self.k * (x + q)) - np.logaddexp(0.0, self.k * x)
        return self.a * np.where(np.abs(self.k * q) < 1.0, np.log1p(change), far)


def step_to(law, x, t, sign):
    """log(s / r) for psi(s) = psi(r) +- t, by bisection."""
    low, high = np.full_like(x, -705.0), np.full_like(x, 13.0)
    for _ in range(62):
        middle = 0.5 * (low + high)
        with np.errstate(invalid="ignore", divide="ignore"):
            below = sign * law.growth(x, sign * np.exp(middle)) < t
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return sign * np.exp(0.5 * (low + high))


def density_and_belt(law, x, log_e, t, sign):
    """Density of log r, and P(0 < u < height)."""
    q = step_to(law, x, t, sign)
    with np.errstate(over="ignore"):
        gap = np.exp(np.minimum(x - log_e, 600.0)) * np.expm1(np.minimum(2.0 * q, 100.0))
    h = np.clip(0.5 * (np.exp(np.minimum(log_e - x, 600.0)) - gap), -1.0, 1.0)
    return np.exp(law.log_density(x)), h


def edges_for(law, log_e):
    def end(direction):
        step = 1e-3
        peak = law.log_density(law.centre)
        while law.log_density(law.centre + direction * step) > peak - 70.0:
            step *= 1.1
        return law.centre + direction * step

    low, high = end(-1), end(1)
    # A ball around the shift may be small: it must not lie between the first nodes.
    grades = np.geomspace(1e-12, 12.0, 61)
    grades = np.concatenate([-grades, [0.0], grades])
    places = [log_e + grades, np.linspace(low, high, 65)]
    places.append(law.centre + np.linspace(-12.0, 12.0, 97) / law.k)
    return np.unique(np.clip(np.concatenate(places), low, high))


def excess(law, rho, radius):
    """By how much rho - 1/2 is too small for the radius, and the error, relatively."""
    log_e = np.log(radius)
    edges = edges_for(law, log_e)
    small = min(rho - 0.5, 1.0 - rho)
    shape = 0.5 * (law.dim - 1)

    def median_excess(log_t, accuracy=1e-9, integral=integral):
        def belt(x):
            density, h = density_and_belt(law, x, log_e, np.exp(log_t), 1)
            return 0.5 * density * np.copysign(betainc(0.5, shape, h * h), h)

        return integral(belt, edges, accuracy * small / len(edges))

    log_t = brentq(lambda x: median_excess(x, 1e-6, halved)[0], -680.0, 5.0, rtol=1e-6)

    def tail(x):
        density, h = density_and_belt(law, x, log_e, np.exp(log_t), -1)
        if rho < 0.75:
            return 0.5 * density * np.copysign(betainc(0.5, shape, h * h), h)
        return 0.5 * density * betainc(shape, 0.5, 1.0 - np.maximum(h, 0.0) ** 2)

    of_tail, error = integral(tail, edges, 1e-9 * small / len(edges))
    of_median, median_error = (np.exp(-np.exp(log_t)) * v for v in median_excess(log_t))
    if rho < 0.75:  # 1/2 - P(L > t), plus what the median lacks
        above = of_tail + of_median - (rho - 0.5)
    else:
        above = (1.0 - rho) - (of_tail - of_median)
    return above / small, (error + median_error) / small + 2e-12 / np.sqrt(small)


def radius_of(law, rho):
    if isinstance(law, Exp):
        return radii.exp_two_l2(rho, law.dim, law.k, law.j)
    return radii.pow_two_l2(rho, law.dim, law.k, law.a)


def worst(law, rhos):
    """Largest excess beyond its own error, over the probabilities; and that error."""
    found = [
        excess(law, rho, radius)
        for rho, radius in zip(rhos, radius_of(law, rhos).tolist(), strict=True)
        if radius > 0.0
    ]
    return max((above - error for above, error in found), default=-1.0), max(
        (error for _, error in found), default=0.0
    )


NAMED = [
    (Exp(3, 2.0, 1.0), 0.75),
    (Exp(3, 76.74064505162679, 2.4546132663481144), 0.75),
    (Exp(4, 16.891659796197086, 3.9592126708212185), 0.9999),
    (Exp(5, 49.73056984099809, 4.945128804947737), 0.9),
    (Exp(6, 55.8147396297658, 5.966217156454458), 0.75),
    (Exp(4, 25.98630701051766, 3.9593298453519186), 0.75),
]


@pytest.mark.parametrize(
    ("law", "rho"),
    [*NAMED[:2], *(pytest.param(*each, marks=pytest.mark.slow) for each in NAMED[2:])],
)
def test_radii_once_above_the_truth(law, rho):
    above, error = worst(law, [rho])
    assert above <= 0.0
    assert error < 1e-7


def test_the_evaluation_notices_a_radius_that_is_slightly_too_large():
    law = Exp(3, 2.0, 0.0)
    radius = np.sqrt(0.5) * 0.6744897501960817  # Gaussian noise
    assert excess(law, 0.75, radius * (1 - 1e-9))[0] < 0.0
    above, error = excess(law, 0.75, radius * (1 + 1e-7))
    assert above > error


def random_law(rng):
    dim = int(rng.integers(2, 25))
    k = float(np.exp(rng.uniform(np.log(0.1), np.log(200.0))))
    if rng.random() < 0.35:
        return Pow(dim, k, dim / k * (1.0 + 10.0 ** rng.uniform(-3.0, 1.0)))
    near = dim - 10.0 ** rng.uniform(-3.0, np.log10(dim))
    return Exp(dim, k, [0.0, near, near][rng.integers(3)])


def random_rho(rng):
    if rng.random() < 0.4:
        return 0.5 + 10.0 ** rng.uniform(-6.0, -0.7)
    return 1.0 - 10.0 ** rng.uniform(-9.0, -0.5)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(int(os.environ.get("RS4A_PARTS", "4"))))
def test_no_radius_is_above_the_truth(part):
    """15 laws per part, for the workers of the test."""
    rng = np.random.default_rng([18, part])
    for _ in range(15):
        law, rho = random_law(rng), random_rho(rng)
        above, _ = worst(law, [rho])
        assert above <= 0.0, (vars(law), rho, above)
