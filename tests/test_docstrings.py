"""Public docstrings are complete numpydoc."""

import importlib
import inspect

import pytest
from numpydoc.validate import validate

MODULES = [
    "rs4a", "rs4a.attacks", "rs4a.bounds", "rs4a.callbacks", "rs4a.datasets",
    "rs4a.metrics", "rs4a.nets.inference", "rs4a.networks",
    "rs4a.noises", "rs4a.objectives", "rs4a.persistence", "rs4a.radii", "rs4a.records",
    "rs4a.testing", "rs4a.utils.rounding", "rs4a.voting.stopping",
]  # fmt: skip

# Order, spelling and sections of numpydoc; sections that not every object needs
# (See Also, Extended Summary) and the grammar of summaries are left to taste.
CHECKS = {
    "GL02", "GL03", "GL05", "GL06", "GL07", "GL08", "PR01", "PR02", "PR03", "PR04", "PR06",
    "PR07", "PR08", "PR09", "RT01", "RT03", "SS02", "SS03", "SS06",
}  # fmt: skip


def public_objects():
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        for name in module.__all__:
            thing = getattr(module, name)
            if not callable(thing) or not getattr(thing, "__module__", "").startswith(
                "rs4a"
            ):
                continue
            yield f"{thing.__module__}.{thing.__qualname__}"
            if inspect.isclass(thing):
                for method, function in inspect.getmembers_static(thing):
                    function = getattr(function, "__func__", function)
                    hidden = method.startswith(("_", "test_"))
                    if hidden or not inspect.isfunction(function):
                        continue
                    if function.__module__.startswith("rs4a"):  # by a base class, perhaps
                        yield f"{function.__module__}.{function.__qualname__}"


@pytest.mark.parametrize("name", sorted(set(public_objects())))
def test_docstring(name):
    errors = validate(name)["errors"]
    assert not [f"{code}: {text}" for code, text in errors if code in CHECKS]


CLASSES = [
    name for name in sorted(set(public_objects())) if name.rsplit(".", 1)[-1][0].isupper()
]
NO_EXAMPLE = {"Noise", "RadialNoise", "Bound", "Batch", "NoisyOutputs", "CertificationLog",
              "CertificationWarning", "StoppingRule", "TopVotes",
              "UnsupportedNormError"}  # fmt: skip


@pytest.mark.parametrize(
    "name", [c for c in CLASSES if c.rsplit(".", 1)[-1] not in NO_EXAMPLE]
)
def test_classes_have_an_example(name):
    module, attribute = name.rsplit(".", 1)
    assert ">>> " in getattr(importlib.import_module(module), attribute).__doc__


def signatures():
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        for name in module.__all__:
            thing = getattr(module, name)
            methods = vars(thing).values() if inspect.isclass(thing) else [thing]
            yield from (each for each in methods if inspect.isfunction(each))


@pytest.mark.parametrize("function", list(signatures()), ids=lambda each: each.__qualname__)
def test_help_fits_on_a_screen(function):
    """numpy's unions would print for a thousand characters."""
    assert len(str(inspect.signature(function))) < 700
