"""The displays are one interface: parameters have the same names, order and defaults."""

import inspect

import pytest

from rs4a import metrics

DISPLAYS = [getattr(metrics, name) for name in metrics.__all__ if name.endswith("Display")]
#: Those that draw shares of inputs, which have bands.
SHARES = {
    "AttackDisplay", "CertifiedAccuracyDisplay", "EnvelopeDisplay", "PredictionDisplay",
    "SigmaCurvesDisplay",
}  # fmt: skip
#: What comes before what, wherever two of them are.
ORDER = [
    "attack", "target", "radii", "norm", "name", "names", "n_inputs", "undefended",
    "confidence", "ax", "kwargs",
]  # fmt: skip


def parameters(function):
    return inspect.signature(function).parameters


def constructors(display):
    return [getattr(display, name) for name in dir(display) if name.startswith("from_")]


@pytest.mark.parametrize("display", DISPLAYS)
def test_every_way_to_draw_takes_the_same(display):
    ways = [display.plot, *constructors(display)]
    assert len(ways) > 1
    for way in ways:
        taken = parameters(way)
        assert taken["ax"].default is None
        assert taken["kwargs"].kind is inspect.Parameter.VAR_KEYWORD
        assert ("confidence" in taken) == (display.__name__ in SHARES)
        if "confidence" in taken:
            assert taken["confidence"].default == 0.95
            assert taken["confidence"].kind is inspect.Parameter.KEYWORD_ONLY


@pytest.mark.parametrize("display", DISPLAYS)
def test_parameters_are_in_one_order(display):
    for function in (display, *constructors(display)):
        named = [name for name in parameters(function) if name in ORDER]
        assert named == sorted(named, key=ORDER.index)


@pytest.mark.parametrize("display", DISPLAYS)
def test_a_figure_knows_its_parts(display):
    attributes = inspect.getdoc(display).partition("Attributes\n")[2]
    names = {line.split(" : ")[0] for line in attributes.splitlines() if "_ : " in line}
    assert {"lines_", "figure_"} < names
    assert len({"ax_", "axes_"} & names) == 1
    assert ("bands_" in names) == (display.__name__ in SHARES)
