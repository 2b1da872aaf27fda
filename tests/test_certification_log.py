"""What a log states is never more than what was proven."""

import json
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rs4a import Certification
from rs4a.exceptions import CertificationWarning
from rs4a.metrics import abstention_rate, certified_accuracy_score, noise_name
from rs4a.noises import Gaussian, Uniform
from rs4a.records import CertificationLog, common_images
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
    with pytest.raises(
        ValueError, match=f"log.tsv, line 2, column {column}: must be {wanted}"
    ):
        Certification.from_tsv(path)


def test_logs_of_two_norms_are_refused(tmp_path):
    path = tmp_path / "log.tsv"
    log_of([1.0, 0.5]).to_tsv(path)
    frame = pd.read_csv(path, sep="\t", dtype=str)
    frame.loc[1, "norm"] = "1"
    frame.to_csv(path, sep="\t", index=False)
    with pytest.raises(
        ValueError, match="line 3, column norm: must be '2' in all lines, got '1'"
    ):
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


# Logs of the field

DATA = Path(__file__).parent / "data"
HEAD = "idx\tlabel\tpredict\tradius\tcorrect\ttime\n"
FIRST = "0\t3\t3\t0.378\t1\t0:00:15.4\n"


@pytest.mark.parametrize(
    ("name", "n", "abstained", "accuracy", "largest", "seconds"),
    [
        ("cohen_imagenet_resnet50_sigma_0.25", 16, 1, 13 / 16, 0.978, 151.238689),
        ("salman_cifar10_resnet110_sigma_0.12", 12, 2, 9 / 12, 0.457, 14.114881),
        ("jeong_mnist_lenet_sigma_0.25", 19, 0, 18 / 19, 0.953, 0.579953),
    ],
)
def test_heads_of_published_logs(name, n, abstained, accuracy, largest, seconds, tmp_path):
    log = Certification.from_tsv(DATA / f"{name}_head.tsv")
    assert (len(log), log.abstained.sum(), log.radii.max()) == (n, abstained, largest)
    assert log.y_true.dtype == log.labels.dtype == np.int64
    assert certified_accuracy_score(log.y_true, log, radius=0) == accuracy
    assert log.seconds[0] == seconds
    log.to_tsv(tmp_path / "again.tsv")
    texts = [
        pd.read_csv(path, sep="\t", dtype=str)["radius"].tolist()
        for path in (DATA / f"{name}_head.tsv", tmp_path / "again.tsv")
    ]
    assert texts[0] == texts[1]


@pytest.mark.parametrize("end", ["\n", "", "\r\n"])
def test_a_whole_last_line_needs_no_end(end, tmp_path):
    path = tmp_path / "log.tsv"
    path.write_bytes((HEAD + FIRST + "20\t7\t7\t4.83e-05\t1\t0:00:15.4" + end).encode())
    log = Certification.from_tsv(path)
    assert log.radii.tolist() == [0.378, 4.83e-05]


def test_every_cut_of_a_certificate_is_refused(tmp_path):
    """Wherever the last line is cut, but within its time."""
    path = tmp_path / "log.tsv"
    last = "20\t7\t7\t4.83e-05\t1\t"
    for length in range(1, len(last) + 1):
        path.write_text(HEAD + FIRST + last[:length])
        with pytest.raises(ValueError, match=r"^log\.tsv, line 3, column (\w+): "):
            Certification.from_tsv(path)


@pytest.mark.parametrize(
    ("header", "line", "column"),
    [
        ("idx\tlabel\tpredict\tcorrect\ttime\tradius\n", "0\t3\t3\t1\t1\t0.37", "radius"),
        (HEAD[:-1] + "\tbox\n", "0\t3\t3\t0.1\t1\t1\t0 0.3", "box"),
    ],
)
def test_a_last_field_that_may_be_cut_is_refused(header, line, column, tmp_path):
    path = tmp_path / "log.tsv"
    path.write_text(header + line + "\n")
    Certification.from_tsv(path)
    path.write_text(header + line)
    with pytest.raises(ValueError, match=f"line 2, column {column}: must be followed by"):
        Certification.from_tsv(path)


@pytest.mark.parametrize(
    ("line", "column"),
    [
        ("CleanACC = 1/2 RACC = 1/4\n", "label"),
        (HEAD, "idx"),
        ("1.5\t7\t7\t0.4\t1\t1\n", "idx"),
        ("0\t7\t7\t0.4\t1\t1\n", "idx"),
        ("0.0\t7\t7\t0.4\t1\t1\n", "idx"),
        ("20\t\t7\t0.4\t0\t1\n", "label"),
        ("20\t7\t\t0.4\t0\t1\n", "predict"),
        ("20\t7\t7\t\t1\t1\n", "radius"),
        ("20\t7\t7\tnan\t1\t1\n", "radius"),
        ("20\t7\t7\t0.4\t0\t1\n", "correct"),
        ("20\t7\t5\t0.4\t1\t1\n", "correct"),
        ("20\t7\t-1\t0.0\t1\t1\n", "correct"),
        ("20\t7\t7\t0.4\tyes\t1\n", "correct"),
        ("20\t7\t7\t0.4\t1\t0:00\n", "time"),
        ("20\t7\t7\t0.4\t1\t\n", "time"),
        ("20\t7\t7\t0.4\t1\t1\t1\n", "time"),
    ],
)
def test_errors_name_file_line_and_column(line, column, tmp_path):
    path = tmp_path / "log.tsv"
    path.write_text(HEAD + "\n" + FIRST + line)
    with pytest.raises(ValueError, match=rf"^log\.tsv, line 4, .*column {column}\b"):
        Certification.from_tsv(path)


@pytest.mark.parametrize("content", [b"\xff\xfei\x00d\x00", b"", b"\n\n"])
def test_files_that_are_no_logs(content, tmp_path):
    path = tmp_path / "log.tsv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"^log\.tsv must (be tab-sep|have the columns)"):
        Certification.from_tsv(path)


@pytest.mark.parametrize("abstention", ["-1", " -1", "-1.0", "-1.", "-1 "])
def test_abstentions_however_they_are_written(abstention, tmp_path):
    path = tmp_path / "log.tsv"
    path.write_text(HEAD + f"0\t3\t3.0\t0.3\tTrue\t1\n20\t7\t{abstention}\tnan\t0.0\t1\n")
    log = Certification.from_tsv(path)
    assert log.labels.tolist() == [3, -1]
    assert log.abstained.tolist() == [False, True]
    assert log.radii.tolist() == [0.3, 0.0]
    assert abstention_rate(log.y_true, log) == 0.5


def test_negative_radii_are_abstentions(tmp_path):
    path = tmp_path / "log.tsv"
    path.write_text(HEAD + FIRST + "20\t7\t7\t-0.01\t1\t1\n40\t7\t-1\t-0.2\t0\t1\n")
    with pytest.warns(
        CertificationWarning, match=r"log\.tsv has 1 negative radii, the first in line 3"
    ):
        log = Certification.from_tsv(path)
    assert log.abstained.tolist() == [False, True, True]
    assert certified_accuracy_score(log.y_true, log, radius=0) == pytest.approx(1 / 3)
    log.to_tsv(path)
    assert Certification.from_tsv(path).abstained.tolist() == [False, True, True]


@pytest.mark.parametrize(
    "classes",
    [("01", "1"), ("1.0", "2.0"), ("a\tb", 'say "x"'), ("NA", "é"), (3, 12), (1.0, 2.5)],
)
@pytest.mark.parametrize("suffix", ["tsv", "tsv.gz"])
def test_names_survive_and_the_bytes_too(classes, suffix, tmp_path):
    record = Certification.from_counts(
        [[1000, 0], [1000, 0], [510, 490]],
        classes=classes, labels=[classes[0]] * 3, noise=Gaussian(sigma=0.5), dim=4, norm=2,
    )  # fmt: skip
    y = np.array([classes[1], classes[0], classes[0]])
    record.to_tsv(tmp_path / f"1.{suffix}", y)
    for number in (1, 2):
        log = Certification.from_tsv(tmp_path / f"{number}.{suffix}")
        log.to_tsv(tmp_path / f"{number + 1}.{suffix}")
        assert log.y_true.astype(str).tolist() == y.astype(str).tolist()
        assert certified_accuracy_score(log.y_true, log, radius=0.1) == pytest.approx(1 / 3)
    if suffix == "tsv":
        first, *others = [(tmp_path / f"{n}.tsv").read_bytes() for n in (1, 2, 3)]
        assert others == [first, first]


@pytest.mark.parametrize("name", ["", " cat", "-1.0"])
def test_names_that_a_log_cannot_keep_are_refused(name, tmp_path):
    record = Certification.from_counts(
        [[1000, 0]], classes=[name, "dog"], labels=[name], noise=Gaussian(sigma=0.5), dim=4
    )
    with pytest.raises(ValueError, match="labels must survive a log"):
        record.to_tsv(tmp_path / "log.tsv", [name])
    assert list(tmp_path.iterdir()) == []


def test_other_radii_are_not_those_that_were_read(tmp_path):
    path = tmp_path / "log.tsv"
    path.write_text(HEAD + FIRST)
    object.__setattr__(log := Certification.from_tsv(path), "radii", np.array([0.25]))
    log.to_tsv(path)
    assert Certification.from_tsv(path).radii.tolist() == [0.25]


# Logs of some images


def test_common_images():
    log = Certification.from_tsv(DATA / "cohen_cifar10_resnet110_sigma_0.25.tsv", dim=3072)
    odd, backwards = log[1::2], log[::-1]
    first, second = common_images([odd, backwards])
    np.testing.assert_array_equal(first.index, odd.index)
    for name in ("index", "y_true", "labels", "radii", "abstained", "seconds"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    assert log.restrict([40, 0]).radii.tolist() == [log.radii[2], log.radii[0]]
    with pytest.raises(ValueError, match="got 1 other numbers, the first is 7"):
        log.restrict([0, 7])
    with pytest.raises(ValueError, match="images in common, got none"):
        common_images([log[:5], log[5:]])
    with pytest.raises(ValueError, match="at least one CertificationLog"):
        common_images([])
    shifted = log_of([1.0, 1.0, 1.0])
    with pytest.raises(ValueError, match="got two true labels for idx 0"):
        common_images([shifted, log])


def test_logs_with_an_image_twice_are_not_written(tmp_path):
    with pytest.raises(ValueError, match="every image once"):
        log_of([1.0, 0.5])[[0, 0]].to_tsv(tmp_path / "log.tsv")


def test_a_log_prints_what_it_claims():
    noise = Gaussian(sigma=0.25)
    log = Certification.from_tsv(
        DATA / "cohen_cifar10_resnet110_sigma_0.25.tsv", noise=noise, dim=3072
    )
    lines = str(log).splitlines()
    assert lines[0] == "500 inputs under Gaussian(sigma=0.25), as a log states them"
    assert "The log claims that no change" in lines[1]
    assert lines[-2] == "abstained: 43 of 500"
    assert lines[-1].startswith("l2 radius: median ")
    assert "norm=l2, abstained=43)" in repr(log)
    assert len(repr(log)) < 120
    assert str(log[:0]).startswith("0 inputs under")
