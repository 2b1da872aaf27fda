"""The noise of docs/how_to/add_a_noise.md keeps the contract, with the page's own test."""

import re
import sys
from pathlib import Path
from types import ModuleType

import mpmath
import pytest

PAGE = Path(__file__).parents[1] / "docs/how_to/add_a_noise.md"


def module_of_page(name):
    block = re.search(
        rf"```python\n# {name}\.py\n(.*?)```", PAGE.read_text(), flags=re.DOTALL
    )
    module = sys.modules[name] = ModuleType(name)  # where pickle looks for the class
    exec(compile(block[1], str(PAGE), "exec"), vars(module))
    return module


Logistic = module_of_page("logistic").Logistic
TestLogistic = module_of_page("test_logistic").TestLogistic


@pytest.mark.parametrize("rho", [0.5 + 1e-15, 0.500001, 0.75, 0.99, 1 - 1e-12, 1 - 2**-53])
def test_radius_is_the_logit(rho):
    radius = float(Logistic(lambd=1.0).radius(rho, norm=1, dim=64))
    with mpmath.workdps(40):
        true = mpmath.log(mpmath.mpf(rho) / (1 - mpmath.mpf(rho)))
        assert 0 <= true - mpmath.mpf(radius) <= mpmath.mpf("1e-13") * true
