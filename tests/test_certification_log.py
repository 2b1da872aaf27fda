"""What a log states is never more than what was proven."""

import json
import math
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

from rs4a import Certification
from rs4a.certification_log import CertificationLog
from rs4a.metrics import noise_name
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


# What the radii are about


@pytest.mark.parametrize("norm", [1, 2, math.inf])
@pytest.mark.parametrize("noise", [None, Uniform(sigma=0.5), Gaussian(sigma=0.5)])
def test_logs_state_the_norm_of_their_radii(tmp_path, norm, noise):
    log_of([1.0, 0.5], norm).to_tsv(tmp_path / "log.tsv")
    log = Certification.from_tsv(tmp_path / "log.tsv", noise=noise, dim=64)
    assert log.norm == norm
    np.testing.assert_array_equal(log.radius(norm), [1.0, 0.5])
    assert Certification.from_tsv(tmp_path / "log.tsv", norm=norm).norm == norm
    for other in {1, 2, math.inf} - {norm}:
        with pytest.raises(ValueError, match=f"norm must be that of log.tsv, {norm:g}"):
            Certification.from_tsv(tmp_path / "log.tsv", norm=other)


def without(columns, path):
    frame = pd.read_csv(path, sep="\t", dtype=str)
    frame.drop(columns=columns).to_csv(path, sep="\t", index=False)


def test_logs_of_other_codes_have_the_norm_of_the_noise(tmp_path):
    path = tmp_path / "log.tsv"
    log_of([1.0], norm=1).to_tsv(path)
    without(["norm"], path)
    assert Certification.from_tsv(path).norm == 2  # as in Cohen et al.
    assert Certification.from_tsv(path, noise=Uniform(sigma=0.5), dim=64).norm == 1
    assert Certification.from_tsv(path, noise=Gaussian(sigma=0.5), dim=64).norm == 2
    assert Certification.from_tsv(path, norm=math.inf).norm == math.inf


@pytest.mark.parametrize(
    ("column", "value", "wanted"),
    [("norm", "l2", "1, 2 or inf"), ("box", "0", "two numbers"), ("box", "a b", "two")],
)
def test_columns_of_another_meaning_are_refused(tmp_path, column, value, wanted):
    path = tmp_path / "log.tsv"
    log_of([1.0, 0.5]).to_tsv(path)
    frame = pd.read_csv(path, sep="\t", dtype=str)
    frame[column] = value
    frame.to_csv(path, sep="\t", index=False)
    with pytest.raises(ValueError, match=f"column {column} of log.tsv must be {wanted}"):
        Certification.from_tsv(path)


def test_logs_of_two_norms_are_refused(tmp_path):
    path = tmp_path / "log.tsv"
    log_of([1.0, 0.5]).to_tsv(path)
    frame = pd.read_csv(path, sep="\t", dtype=str)
    frame.loc[1, "norm"] = "1"
    frame.to_csv(path, sep="\t", index=False)
    with pytest.raises(ValueError, match=r"must state one norm, got \['2', '1'\]"):
        Certification.from_tsv(path)


def test_logs_keep_the_box(tmp_path):
    noise = Uniform(lambd=4.0)
    record = Certification.from_counts(
        [[990, 10]], labels=[0], noise=noise, dim=784, box=(0, 0.1 + 0.2)
    )
    record.to_tsv(tmp_path / "log.tsv", [0])
    log = Certification.from_tsv(tmp_path / "log.tsv", noise=noise, dim=784)
    assert log.box.interval == (0, 0.1 + 0.2)
    assert noise_name(log) == noise_name(record) != noise_name(noise)
    with pytest.raises(ValueError, match="box needs noise"):
        Certification.from_tsv(tmp_path / "log.tsv", noise=Gaussian(sigma=1.0), dim=784)
    log.to_tsv(tmp_path / "again.tsv")
    assert Certification.from_tsv(tmp_path / "again.tsv").box.interval == (0, 0.1 + 0.2)
