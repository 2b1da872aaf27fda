"""Write level_set_by_mpmath.json: radii of spherical noise with some ten digits.

Written from the formulas alone, with 40-digit arithmetic, integrals by mpmath's tanh-sinh
rule between the kinks of the integrand, and roots by the secant rule. The library under
test gives no more than the place to start from. Takes some ten minutes.
"""

import json
import sys
from pathlib import Path

import mpmath as mp
from scipy.special import ndtri

from rs4a import radii

mp.mp.dps = 40
PROBABILITIES = [0.5 + 1e-9, 0.999, 1 - 1e-12]
FEW = [1 - 1e-6]
# kind, dim, parameters, probabilities: d and then k, j or k, a.
QUERIES = [
    ("exp", 2, (2, 0), FEW),
    ("exp", 64, (2, 0), FEW),
    ("exp", 2, (1, 0), PROBABILITIES),
    ("exp", 2, (4, 0), FEW),
    ("exp", 2, (2, 1), PROBABILITIES),
    ("exp", 2, (0.5, 0.3), FEW),
    ("exp", 2, (1, 1.5), FEW),
    ("exp", 3, (2, 1.7), FEW),
    ("exp", 3, (0.3, 0), FEW),
    ("exp", 5, (8, 2), PROBABILITIES),
    ("exp", 10, (1, 8), FEW),
    ("exp", 10, (0.5, 0), FEW),
    ("exp", 30, (3, 20), FEW),
    ("exp", 64, (2, 60), PROBABILITIES),
    ("exp", 64, (1, 63), FEW),
    ("exp", 64, (10, 0), FEW),
    ("exp", 3072, (2, 3064), FEW),
    ("exp", 3072, (0.5, 0), FEW),
    ("pow", 2, (2, 2.5), PROBABILITIES),
    ("pow", 2, (1, 5), FEW),
    ("pow", 2, (2, 2.05), FEW),
    ("pow", 3, (4, 1.5), FEW),
    ("pow", 5, (1, 8), FEW),
    ("pow", 10, (2, 7), FEW),
    ("pow", 30, (0.5, 80), FEW),
    ("pow", 64, (2, 33.1), PROBABILITIES),
    ("pow", 64, (8, 100), FEW),
    ("pow", 3072, (2, 1600), FEW),
]


class Exp:
    """psi = r^k + j log r; x is log r throughout."""

    def __init__(self, dim, k, j):
        self.dim, self.k, self.j = dim, mp.mpf(k), mp.mpf(j)
        self.shape = (dim - self.j) / self.k
        self.scale = self.k / mp.gamma(self.shape)
        self.centre, self.low, self.high = mp.log(self.shape) / self.k, self.k, None

    def density(self, x):
        z = mp.exp(self.k * x)
        return self.scale * mp.exp(self.k * x * self.shape - z)

    def steepness(self, x):
        return self.j + self.k * mp.exp(self.k * x)

    def outward(self, x, t):
        z = mp.exp(self.k * x)
        if self.j == 0:
            return mp.log(z + t) / self.k
        q = min(t / (self.j + self.k * z), mp.log1p(t / z) / self.k)
        for _ in range(200):
            grown = z * mp.expm1(self.k * q)
            step = (self.j * q + grown - t) / (self.j + self.k * (grown + z))
            q -= step
            if abs(step) < mp.mpf("1e-34") * abs(q):
                break
        return x + q


class Pow:
    """psi = a log(1 + r^k)."""

    def __init__(self, dim, k, a):
        self.dim, self.k, self.a = dim, mp.mpf(k), mp.mpf(a)
        self.shape = dim / self.k
        self.scale = self.k / mp.beta(self.shape, self.a - self.shape)
        self.centre = mp.log(self.shape / (self.a - self.shape)) / self.k

    def density(self, x):
        z = mp.exp(self.k * x)
        return self.scale * mp.exp(self.k * x * self.shape - self.a * mp.log1p(z))

    def steepness(self, x):
        z = mp.exp(self.k * x)
        return self.a * self.k * z / (1 + z)

    def outward(self, x, t):
        z = mp.exp(self.k * x)
        return mp.log(z + mp.expm1(t / self.a) * (1 + z)) / self.k


def cap(h, dim):
    """Mass of the sphere's points with first coordinate above h."""
    if abs(h) >= 1:
        return mp.mpf(h < 0)
    if dim == 2:
        return mp.acos(h) / mp.pi
    if dim == 3:
        return (1 - h) / 2
    square, shape = h * h, mp.mpf(dim - 1) / 2
    first, x = (mp.mpf(1) / 2, square) if 2 * square < 1 else (shape, 1 - square)
    term = total = mp.mpf(1)
    n = 0
    while term > mp.mpf("1e-40") * total:
        term *= x * (shape + mp.mpf(1) / 2 + n) / (first + 1 + n)
        total += term
        n += 1
    beta = _beta(shape)
    total *= x**first * (1 - x) ** (shape + mp.mpf(1) / 2 - first) / (first * beta)
    if first == shape and dim != 2:
        return total / 2 if h > 0 else 1 - total / 2
    return mp.mpf(1) / 2 - mp.sign(h) * total / 2


def _beta(shape, known={}):  # noqa: B006
    if shape not in known:
        known[shape] = mp.beta(shape, mp.mpf(1) / 2)
    return known[shape]


def bulk(law):
    """Places where the density of x is 1e-45 of its largest, and some between."""
    peak = law.density(law.centre)

    def beyond(direction):
        step = mp.mpf(1)
        while law.density(law.centre + direction * step) < peak * mp.mpf("1e-45"):
            step /= 2
        while law.density(law.centre + direction * step) > peak * mp.mpf("1e-45"):
            step *= mp.mpf("1.2")
        return law.centre + direction * step

    return beyond(-1), beyond(1)


def expected_cap(law, log_e, t, shifted):
    """P(L > -t) if `shifted`, else P(L > t), both by the smaller of the two norms."""
    e = mp.exp(log_e)
    low, high = law.support

    def height(x):
        larger = law.outward(x, t)
        smaller_square, larger_square = mp.exp(2 * x), mp.exp(2 * larger)
        if shifted:
            return (smaller_square + e * e - larger_square) / (2 * e * mp.exp(x))
        return (larger_square + e * e - smaller_square) / (2 * e * mp.exp(larger))

    def integrand(x):
        mass = cap(height(x), law.dim)
        if mass == 0:
            return mass
        if shifted:
            return mass * law.density(x)
        larger = law.outward(x, t)
        stretch = law.steepness(x) / law.steepness(larger)
        return mass * stretch * law.density(larger)

    if not shifted:  # the larger norm in the support
        while law.outward(low, t) > law.support[0] and integrand(low) > mp.mpf("1e-40"):
            low -= 5 / law.k
    edges = kinks_and_more(law, log_e, t, height, low, high)
    value, error = mp.quad(integrand, edges, maxdegree=8, error=True)
    assert error < mp.mpf("1e-12") * value
    return value


def kinks_and_more(law, log_e, t, height, low, high):
    """Edges between which the integrand is smooth: where the height is -1 or 1."""
    grid = mp.linspace(low, high, 321)
    grid += [log_e + mp.mpf(i) / 12 for i in range(-24, 25)]
    if law.outward(low, t) < log_e < law.outward(high, t):  # the ball around v, if small
        at_v = _bisect(lambda x: law.outward(x, t) - log_e, low, high)
        width = mp.exp(min(at_v - log_e, 1)) / 10
        grid += [at_v + mp.mpf(i) / 12 for i in range(-24, 25)]
        grid += [at_v + width * i for i in range(-40, 41)]
    grid = sorted(x for x in grid if low <= x <= high)
    heights = [height(x) for x in grid]
    edges = [low, high, *grid[:: len(grid) // 20]]
    for a, b, at_a, at_b in zip(grid, grid[1:], heights, heights[1:], strict=False):
        for kink in (-1, 1):
            if (at_a - kink) * (at_b - kink) < 0:
                edges.append(_bisect(lambda x, kink=kink: height(x) - kink, a, b))
    return sorted(set(edges))


def _bisect(function, a, b):
    at_a = function(a)
    for _ in range(120):
        middle = (a + b) / 2
        if (function(middle) > 0) == (at_a > 0):
            a = middle
        else:
            b = middle
    return a


def threshold(law, log_e, log_t):
    """Log t with -t the median of L, by the secant rule."""

    def excess(log_t):
        return expected_cap(law, log_e, mp.exp(log_t), shifted=True) - mp.mpf(1) / 2

    x, y = log_t, log_t + mp.mpf("1e-3")
    at_x, at_y = excess(x), excess(y)
    while abs(y - x) > mp.mpf("1e-16"):
        step = max(min(-at_y * (y - x) / (at_y - at_x), mp.mpf(1)), mp.mpf(-1))
        x, at_x, y = y, at_y, y + step
        at_y = excess(y)
        if at_y == at_x:
            break
    return y


def radius(law, rho, guess):
    law.support = bulk(law)
    goal = mp.mpf(rho) - mp.mpf(1) / 2
    log_t = mp.log(mp.mpf(float(ndtri(rho))) ** 2 / 2)

    def lacking(log_e, log_t):  # log(p0 / (1/2 - p0)) is well-conditioned at both ends
        log_t = threshold(law, log_e, log_t)
        p0 = expected_cap(law, log_e, mp.exp(log_t), shifted=False)
        return mp.log(p0 / (mp.mpf(1) / 2 - p0)), log_t

    wanted = mp.log((mp.mpf(1) / 2 - goal) / goal)
    x = mp.log(guess)
    at_x, log_t = lacking(x, log_t)
    y = x + mp.mpf("1e-5")
    while True:
        at_y, log_t = lacking(y, log_t)
        step = (wanted - at_y) * (y - x) / (at_y - at_x)
        if abs(step) < mp.mpf("3e-5"):  # the curvature costs the square of this, at most
            return mp.exp(y + step), step
        x, at_x, y = y, at_y, y + step


def main(first=0, last=None):
    records = []
    for kind, dim, parameters, probabilities in QUERIES[first:last]:
        library = radii.exp_two_l2 if kind == "exp" else radii.pow_two_l2
        guesses = library(probabilities, dim, *parameters)
        for rho, guess in zip(probabilities, guesses.tolist(), strict=True):
            law = (Exp if kind == "exp" else Pow)(dim, *parameters)
            true, step = radius(law, rho, guess)
            record = {
                "noise": kind,
                "dim": dim,
                "parameters": parameters,
                "rho": rho,
                "radius": mp.nstr(true, 14),
            }
            print(record, mp.nstr(guess / true - 1, 5), file=sys.stderr, flush=True)
            records.append(record)
    return records


if __name__ == "__main__":
    path = Path(__file__).with_name("level_set_by_mpmath.json")
    lines = ",\n".join(json.dumps(record) for record in main())
    path.write_text(f"[\n{lines}\n]\n")
