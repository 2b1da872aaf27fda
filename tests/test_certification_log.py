"""What a log states is never more than what was proven."""

import json
import math
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

from rs4a import Certification
from rs4a.certification_log import CertificationLog
from rs4a.noises import Gaussian, Uniform
from rs4a.utils.rounding import format_radius


def log_of(radii, norm=2.0):
    n = len(radii)
    return CertificationLog(
        index=np.arange(n),
        y_true=np.zeros(n, dtype=np.int64),
        labels=np.zeros(n, dtype=np.int64),
        radii=np.asarray(radii, dtype=np.float64),
        abstained=np.zeros(n, dtype=bool),
        seconds=np.zeros(n),
        norm=norm,
    )


def test_radii_are_rounded_down(tmp_path):
    rng = np.random.default_rng(0)
    random = rng.exponential(size=300) * 10.0 ** rng.integers(-9, 4, size=300)
    special = [0.0, 0.3, 0.5, 0.1 + 0.2, 1e-10, 1e-11, 5e-324, 123456789.98765432]
    radii = [*random.tolist(), *special]
    log_of(radii).to_tsv(tmp_path / "log.tsv")
    written = pd.read_csv(tmp_path / "log.tsv", sep="\t", dtype=str)["radius"]
    read = Certification.from_tsv(tmp_path / "log.tsv").radius()
    for radius, text, again in zip(radii, written, read, strict=True):
        decimals = Fraction(text)
        assert decimals <= Fraction(radius) < decimals + Fraction(1, 10**10)
        assert len(text.split(".")[1]) == 10
        assert radius - 1e-10 <= again <= radius
    assert written.tolist()[300:304] == [
        "0.0000000000", "0.2999999999", "0.5000000000", "0.3000000000"
    ]  # fmt: skip


def test_infinite_radii_stay_infinite(tmp_path):
    log_of([1.0, math.inf]).to_tsv(tmp_path / "log.tsv")
    assert "\tinf\t" in (tmp_path / "log.tsv").read_text()
    assert Certification.from_tsv(tmp_path / "log.tsv").radius().tolist() == [1.0, math.inf]


@pytest.mark.parametrize("digits", [0, 2, 12])
def test_format_radius(digits):
    for radius in (0.0, 0.999999, 2.675, np.float64(1e300), 1e-300, 1.7976931348623157e308):
        text = format_radius(radius, digits)
        below = Fraction(float(radius)) - Fraction(text)
        assert 0 <= below < Fraction(1, 10**digits)
        assert len(text.partition(".")[2]) == digits
    assert format_radius(np.inf, digits) == "inf"


@pytest.mark.parametrize("kind", [Gaussian, Uniform])
def test_records_that_say_nothing_of_exact_noise_are_of_plain_noise(kind, tmp_path):
    """As all are that were saved before there was any."""
    counts = np.array([[990, 10], [0, 1000]])
    record = Certification.from_counts(
        counts, noise=kind(sigma=0.5), dim=64, labels=np.array([0, 1])
    )
    record.save(tmp_path / "new.npz")
    with np.load(tmp_path / "new.npz") as archive:
        arrays = dict(archive)
    metadata = json.loads(str(arrays["metadata"]))
    del metadata["noise"]["params"]["exact"], metadata["noise"]["params"]["levels"]
    arrays["metadata"] = np.array(json.dumps(metadata))
    np.savez(tmp_path / "old.npz", **arrays)
    old = Certification.load(tmp_path / "old.npz")
    assert old.noise.get_params() == kind(sigma=0.5).get_params()
    np.testing.assert_array_equal(old.radius(), record.radius())


def test_exact_noise_is_saved_with_its_levels(tmp_path):
    noise = Uniform(sigma=0.5, exact=True, levels=np.int64(16))
    record = Certification.from_counts([[990, 10]], noise=noise, dim=64, labels=[0])
    record.save(tmp_path / "record.npz")
    again = Certification.load(tmp_path / "record.npz")
    assert repr(again.noise) == "Uniform(exact=True, levels=16, sigma=0.5)"
    assert (
        again.radius()
        == record.radius()
        < Uniform(sigma=0.5).radius(record.prob_lower, norm=1, dim=64)
    )
