"""The record of votes, its derivations and its files."""

import copy
import json
import math
import pickle
import zipfile
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rs4a import Certification, Inference, UnsupportedNormError
from rs4a.bounds import ClopperPearson, ConfidenceSequence
from rs4a.metrics import certified_accuracy_score
from rs4a.noises import Gaussian, Laplace, Uniform
from rs4a.records import Box, CertificationLog
from rs4a.testing import all_noises

VOTES = np.array([[995, 5, 0], [520, 470, 10], [0, 0, 1000], [400, 600, 0]])
SELECTION = np.array([[64, 0, 0], [30, 30, 4], [0, 0, 64], [40, 24, 0]])
LOG = Path(__file__).parent / "data/cohen_cifar10_resnet110_sigma_0.25.tsv"


def make(classes=("cat", "dog", "emu"), **kwargs):
    options = {
        "classes": np.array(classes),
        "selection_counts": SELECTION,
        "counts": VOTES,
        "noise": Uniform(sigma=0.5),
        "dim": 64,
        "bound": ClopperPearson(n=1000),
    }
    return Certification(**{**options, **kwargs})


def same(one, other):
    for name in (
        "labels",
        "counts",
        "selection_counts",
        "prob_lower",
        "abstained",
        "n_votes",
    ):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    for norm in (None, 1, 2, math.inf):
        np.testing.assert_array_equal(one.radius(norm), other.radius(norm))
    assert (one.alpha, one.norm, one.dim) == (other.alpha, other.norm, other.dim)
    assert repr(one) == repr(other)
    return True


def test_labels_are_the_selected_classes():
    # The estimation votes of the last input say otherwise: they do not choose.
    assert make().labels.tolist() == ["cat", "cat", "emu", "cat"]


def test_probabilities_are_bounds_on_the_selected_class():
    expected = ClopperPearson().prob_lower([995, 520, 1000, 400], 1000, 0.001)
    np.testing.assert_array_equal(make().prob_lower, expected)
    assert make().prob_lower.dtype == np.float64


def test_abstention_and_radius():
    certification = make()
    assert certification.abstained.tolist() == [False, True, False, True]
    radius = certification.radius(norm=1)
    assert ((radius > 0) == ~certification.abstained).all()
    expected = Uniform(sigma=0.5).radius(certification.prob_lower, norm=1, dim=64)
    np.testing.assert_array_equal(radius, expected)


@pytest.mark.parametrize(("noise", "own"), [(Gaussian, 2), (Laplace, 1), (Uniform, 1)])
def test_default_norm_is_the_noise_s_own(noise, own):
    certification = make(noise=noise(sigma=0.5))
    np.testing.assert_array_equal(certification.radius(), certification.radius(own))


def test_recompute_costs_no_votes():
    certification = make()
    other = certification.recompute(alpha=1e-6, norm=2)
    assert same(other, make(alpha=1e-6, norm=2))
    assert (other.prob_lower <= certification.prob_lower).all()
    assert certification.alpha == 0.001
    assert same(certification.recompute(), certification)


@pytest.mark.parametrize("alpha", [0, 1, -0.1, math.nan])
def test_recompute_refuses_bad_alpha(alpha):
    with pytest.raises(ValueError, match="alpha must be a float in the range"):
        make().recompute(alpha=alpha)


def test_recompute_refuses_bad_norm():
    with pytest.raises(UnsupportedNormError, match="norm must be 1, 2 or inf"):
        make().recompute(norm=3)
    with pytest.raises(UnsupportedNormError):
        make().radius(norm=0)


def test_record_is_frozen():
    certification = make()
    with pytest.raises(FrozenInstanceError):
        certification.alpha = 0.5
    for name in ("counts", "selection_counts", "prob_lower", "classes"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(certification, name)[0] = 0


def test_record_does_not_share_the_caller_s_objects():
    votes, noise = VOTES.copy(), Uniform(sigma=0.5)
    certification = make(counts=votes, noise=noise)
    before = certification.radius()
    votes[:] = 0
    noise.set_params(sigma=99.0)
    np.testing.assert_array_equal(certification.radius(), before)


def test_copies():
    certification = make()
    assert same(pickle.loads(pickle.dumps(certification)), certification)
    assert same(copy.deepcopy(certification), certification)


def test_copies_are_read_only_too():
    for other in (pickle.loads(pickle.dumps(make())), copy.deepcopy(make())):
        assert not other.counts.flags.writeable


def test_frame():
    frame = make().to_frame()
    assert list(frame) == [
        "label", "abstained", "prob_lower", "n_votes",
        "radius_l1", "radius_l2", "radius_linf",
    ]  # fmt: skip
    np.testing.assert_array_equal(frame["radius_l2"], make().radius(2))
    assert len(make()) == len(frame) == 4


BAD = {
    "negative": ({"counts": -VOTES}, "counts must be an array of whole numbers"),
    "float": ({"counts": VOTES / 2}, "counts must be an array of whole numbers"),
    "shapes": (
        {"counts": VOTES[:2]},
        r"selection_counts must have shape \(2, 3\), got \(4, 3\)",
    ),
    "classes": ({"classes": np.array([0, 1])}, r"must have shape \(4, 2\), got \(4, 3\)"),
    "dim": ({"dim": 0}, "dim must be an int"),
    "alpha": ({"alpha": 7}, "alpha must be a float in the range"),
    "noise": ({"noise": Uniform()}, "exactly one of sigma and lambd"),
    "equal classes": ({"classes": np.array([0, 0, 1])}, "classes must differ"),
    "norm": ({"norm": 5}, "norm must be 1, 2 or inf"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_records(name):
    change, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        make(**change)


# Files


@pytest.mark.parametrize(
    "classes",
    [
        np.array(["cat", "dog", "emu"]),
        np.array(["cat", "dog", "emu"], dtype=object),
        np.array([3, 7, 12]),
        np.array([-1.5, 0.0, 2.0]),
    ],
    ids=["str", "object", "int", "float"],
)
@pytest.mark.parametrize("norm", [None, math.inf])
def test_save_and_load(tmp_path, classes, norm):
    certification = make(classes=classes, norm=norm, alpha=0.01, seconds=1.5)
    certification.save(tmp_path / "record")  # exactly this name, without .npz behind it
    assert [path.name for path in tmp_path.iterdir()] == ["record"]
    loaded = Certification.load(tmp_path / "record")
    assert same(loaded, certification)
    assert loaded.seconds == 1.5


def test_saved_file_holds_arrays_and_json_only(tmp_path):
    make().save(tmp_path / "record.npz")
    with np.load(tmp_path / "record.npz", allow_pickle=False) as archive:
        metadata = json.loads(str(archive["metadata"]))
    assert metadata["noise"] == {
        "class": "Uniform",
        "params": {"sigma": 0.5, "exact": False, "levels": 255, "lambd": None},
    }


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_truncated_file(tmp_path, share):
    path = tmp_path / "record.npz"
    make().save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"record\.npz is not a whole Certification"):
        Certification.load(path)


def test_any_flipped_byte_is_noticed_or_harmless(tmp_path):
    path = tmp_path / "record.npz"
    make().save(path)
    content = path.read_bytes()
    for position in range(0, len(content), 7):
        damaged = bytearray(content)
        damaged[position] ^= 0x10
        path.write_bytes(bytes(damaged))
        try:
            loaded = Certification.load(path)
        except ValueError:
            with pytest.raises(ValueError, match="is not a whole Certification"):
                Certification.load(path)
        else:
            assert same(loaded, make())


def test_other_files(tmp_path):
    path = tmp_path / "other.npz"
    np.savez(path, counts=VOTES)
    with pytest.raises(ValueError, match="is not a whole Certification"):
        Certification.load(path)
    np.savez(path, metadata=np.array([{"a": 1}], dtype=object))  # pickled: must not be read
    with pytest.raises(ValueError, match="is not a whole Certification"):
        Certification.load(path)
    with pytest.raises(FileNotFoundError):
        Certification.load(tmp_path / "absent.npz")


def test_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "record.npz"
    make().save(path)

    def full_disk(*args, **kwargs):
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full_disk)
    with pytest.raises(OSError, match="No space"):
        make(alpha=0.5).save(path)
    assert [path.name for path in tmp_path.iterdir()] == ["record.npz"]
    assert Certification.load(path).alpha == 0.001


class Mine(Uniform):
    """A user's own noise."""


def test_own_noise_is_given_at_load(tmp_path):
    certification = make(noise=Mine(sigma=0.5))
    certification.save(tmp_path / "record")
    with pytest.raises(ValueError, match="'Mine', which is none of.*noise="):
        Certification.load(tmp_path / "record")
    assert same(
        Certification.load(tmp_path / "record", noise=Mine(sigma=0.5)), certification
    )


@pytest.mark.parametrize("noise", all_noises(sigma=1.0), ids=str)
def test_every_noise_of_the_library_can_be_loaded(noise, tmp_path):
    if noise.deterministic:
        noise.set_params(deterministic=False)
    make(noise=noise).save(tmp_path / "record")
    loaded = Certification.load(tmp_path / "record").noise
    assert type(loaded) is type(noise)
    assert loaded.get_params() == noise.get_params()


def test_archive_is_compressed(tmp_path):
    make(
        counts=np.tile(VOTES, (1000, 1)), selection_counts=np.tile(SELECTION, (1000, 1))
    ).save(tmp_path / "record")
    with zipfile.ZipFile(tmp_path / "record") as archive:
        assert all(member.compress_type for member in archive.infolist())


# Logs in the field's format


def test_published_logs_open():
    log = Certification.from_tsv(LOG)
    frame = pd.read_csv(LOG, sep="\t")
    np.testing.assert_array_equal(log.index, frame["idx"])
    np.testing.assert_array_equal(log.y_true, frame["label"])
    np.testing.assert_array_equal(log.labels, frame["predict"])
    np.testing.assert_array_equal(log.radius(2), frame["radius"])
    np.testing.assert_array_equal(log.seconds, frame["time"])
    np.testing.assert_array_equal(log.abstained, frame["predict"] == -1)
    assert len(log) == 500
    assert log.abstained.sum() == 43


@pytest.mark.parametrize("classes", [("cat", "dog", "emu"), (3, 7, 12)])
def test_tsv_round_trip(tmp_path, classes):
    certification = make(classes=classes, seconds=8.0)
    y = np.array(classes)[[0, 0, 1, 2]]
    certification.to_tsv(tmp_path / "log.tsv", y)
    header = (tmp_path / "log.tsv").read_text().splitlines()[0]
    assert header == "idx\tlabel\tpredict\tradius\tcorrect\ttime\tnorm"
    log = Certification.from_tsv(tmp_path / "log.tsv")
    np.testing.assert_array_equal(log.y_true, y)
    np.testing.assert_array_equal(log.abstained, certification.abstained)
    np.testing.assert_array_equal(
        log.labels[~log.abstained], certification.labels[~log.abstained]
    )
    lost = certification.radius(1) - log.radius(1)
    assert ((lost >= 0.0) & (lost < 1e-10)).all()
    np.testing.assert_array_equal(log.seconds, 2.0)
    frame = pd.read_csv(tmp_path / "log.tsv", sep="\t")
    assert frame["correct"].tolist() == [1, 0, 0, 0]


def test_tsv_keeps_labels_that_look_like_something_else(tmp_path):
    votes = np.diag([990, 990, 990]) + 5
    for classes in (("NA", "null", "cat"), ("1", "2", "x"), (1.0, 2.0, 3.0)):
        certification = make(classes=classes, counts=votes, selection_counts=votes)
        y = np.array(classes)[[1, 0, 2]]
        certification.to_tsv(tmp_path / "log.tsv", y)
        log = Certification.from_tsv(tmp_path / "log.tsv", norm=1)
        assert log.labels.astype(str).tolist() == [str(name) for name in classes]
        assert certified_accuracy_score(log.y_true, log, radius=0.1) == pytest.approx(1 / 3)
    make(classes=(1.0, 2.0, 3.0)).to_tsv(tmp_path / "log.tsv", [1, 1, 2, 3])
    log = Certification.from_tsv(tmp_path / "log.tsv")
    assert certified_accuracy_score(log.y_true, log, radius=0.1) == 1 / 4


def test_times_as_python_prints_them(tmp_path):
    path = tmp_path / "log.tsv"
    path.write_text(
        "idx\tlabel\tpredict\tradius\tcorrect\ttime\n0\t3\t3\t0.378\t1\t0:00:15.4\n"
        "1\t3\t-1\t0.9\t0\t1:00:00\n"
    )
    log = Certification.from_tsv(path)
    np.testing.assert_allclose(log.seconds, [15.4, 3600])
    assert log.radius().tolist() == [0.378, 0.0]  # no radius where it abstained


def test_log_converts_norms_soundly():
    log = CertificationLog.from_tsv(LOG, norm=2, dim=100)
    np.testing.assert_array_equal(log.radius(1), log.radius(2))
    np.testing.assert_allclose(log.radius(math.inf), log.radius(2) / 10, rtol=1e-12)
    with pytest.raises(ValueError, match="dim is needed"):
        CertificationLog.from_tsv(LOG).radius(math.inf)


def test_bad_logs(tmp_path):
    path = tmp_path / "log.tsv"
    path.write_text("idx,label\n0,1\n")
    with pytest.raises(ValueError, match="must have the columns"):
        Certification.from_tsv(path)
    header = "idx\tlabel\tpredict\tradius\tcorrect\ttime\n"
    for radius in ("nan", "", "0,1"):
        path.write_text(f"{header}0\t3\t3\t{radius}\t1\t1.0\n")
        with pytest.raises(
            ValueError, match=r"log\.tsv, line 2, column radius: must be a num"
        ):
            Certification.from_tsv(path)


def test_tsv_refuses_labels_that_mean_abstention(tmp_path):
    with pytest.raises(ValueError, match="-1 means abstention"):
        make(classes=(-1, 0, 1)).to_tsv(tmp_path / "log.tsv", [0, 0, 1, 1])
    with pytest.raises(ValueError, match="y_true must have shape"):
        make().to_tsv(tmp_path / "log.tsv", ["cat"])


# Votes from elsewhere


def test_from_counts_is_the_record():
    certification = make(norm=1)
    again = Certification.from_counts(
        VOTES.tolist(),
        selection_counts=SELECTION.tolist(),
        noise=Uniform(sigma=0.5),
        dim=64,
        classes=["cat", "dog", "emu"],
        bound=ClopperPearson(n=1000),
        norm=1,
    )
    assert same(again, certification)


def test_from_counts_with_labels():
    options = {"noise": Gaussian(sigma=1.0), "dim": 10}
    certification = Certification.from_counts(VOTES, labels=[0, 1, 2, 1], **options)
    assert certification.labels.tolist() == [0, 1, 2, 1]
    assert certification.abstained.tolist() == [False, True, False, False]
    names = Certification.from_counts(
        VOTES, labels=["a", "b", "c", "b"], classes=["a", "b", "c"], **options
    )
    assert names.labels.tolist() == ["a", "b", "c", "b"]
    np.testing.assert_array_equal(names.radius(), certification.radius())


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({}, "exactly one of selection_counts and labels, .* got neither"),
        ({"labels": [0] * 4, "selection_counts": SELECTION}, "got both"),
        ({"labels": [0, 1]}, r"labels must be an array of shape \(4,\)"),
        ({"labels": [0, 1, 2, 3]}, r"entries in \[0, 1, 2\]"),
        ({"selection_counts": SELECTION[:2]}, r"must have shape \(4, 3\), got \(2, 3\)"),
        ({"labels": [0] * 4, "tokens": [1, 2, 3, 4]}, "tokens must be an array of uint64"),
    ],
)
def test_from_counts_refuses(chosen, message):
    with pytest.raises(ValueError, match=message):
        Certification.from_counts(VOTES, noise=Uniform(sigma=1.0), dim=3, **chosen)


def test_from_counts_refuses_the_votes_again():
    many = np.tile(VOTES, (5, 1))
    for votes in (many, many.tolist()):
        with pytest.raises(ValueError, match="must be other votes than counts"):
            Certification.from_counts(
                votes, selection_counts=votes, noise=Uniform(sigma=1.0), dim=3
            )
    for by_chance in ([[97, 3]], [[64, 0], [0, 64]] * 10):
        Certification.from_counts(
            by_chance, selection_counts=by_chance, noise=Uniform(sigma=1.0), dim=3
        )


@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_alpha_is_kept_in_double_precision(kind):
    certification = make(alpha=kind(0.001))
    assert type(certification.alpha) is float
    assert same(certification, make(alpha=float(kind(0.001))))


# Bounds, and how the votes were drawn


def test_votes_that_stopped_by_themselves_need_an_anytime_bound():
    anytime = make(bound=ConfidenceSequence(), adaptive=True)
    assert anytime.recompute(alpha=0.1).adaptive
    with pytest.raises(ValueError, match="fixed beforehand"):
        anytime.recompute(bound=ClopperPearson())
    with pytest.raises(ValueError, match="fixed beforehand"):
        make(adaptive=True)
    counts = Certification.from_counts(
        VOTES, labels=[0] * 4, noise=Uniform(1.0), dim=3, bound=ConfidenceSequence()
    )
    assert counts.adaptive


def test_the_random_bound_needs_random_numbers():
    random = ClopperPearson(n=1000, randomized=True)
    with pytest.raises(ValueError, match="needs one random number per input"):
        make(bound=random)
    ordinary = make().prob_lower
    smallest = make(bound=random, tokens=np.full(4, 2**48, dtype=np.uint64)).prob_lower
    largest = make(bound=random, tokens=np.full(4, 2**64 - 1, dtype=np.uint64)).prob_lower
    np.testing.assert_allclose(largest, ordinary, rtol=1e-9)
    assert (smallest > ordinary).all()
    assert (smallest < 1.0).all()


def test_two_bounds_need_a_noise_that_takes_them():
    two = ClopperPearson(n=1000, runner_up=True)
    assert make(bound=two).radius(1)[0] > 0
    with pytest.raises(ValueError, match="Splitting or Uniform has, got Laplace"):
        make(bound=two, noise=Laplace(sigma=1.0))


def test_two_bounds_in_figures():
    """alpha / 2 for the top class, a quarter for each of two others."""
    certification = make(
        bound=ClopperPearson(n=1000, runner_up=True), noise=Uniform(lambd=1)
    )
    one = ClopperPearson()
    lower = one.prob_lower(995, 1000, 0.0005)
    upper = min(one.prob_upper(5, 1000, 0.00025), 1 - lower)
    assert certification.prob_lower[0] == lower
    assert certification.prob_runner_up[0] == upper
    assert certification.radius(1)[0] == pytest.approx(lower - upper, rel=1e-12)
    assert certification.radius(1)[0] <= lower - upper


def test_new_fields_survive_a_file(tmp_path):
    certification = make(
        bound=ConfidenceSequence(radii=[0.5, 1.0], runner_up=True),
        adaptive=True,
        tokens=np.array([0, 1, 2**63, 2**64 - 1], dtype=np.uint64),
        inference=Inference(dtype="bfloat16", compile=True),
        net_digest="0123",
    )
    certification.save(tmp_path / "votes")
    loaded = Certification.load(tmp_path / "votes")
    assert same(loaded, certification)
    assert loaded.adaptive
    assert loaded.bound.radii == [0.5, 1.0]
    np.testing.assert_array_equal(loaded.tokens, certification.tokens)
    assert loaded.tokens.dtype == np.uint64
    assert repr(loaded.inference) == repr(certification.inference)
    assert loaded.net_digest == "0123"
    assert same(pickle.loads(pickle.dumps(loaded)), certification)
    assert same(copy.deepcopy(loaded), certification)


def test_files_of_format_1_open(tmp_path):
    """They had none of the new fields."""
    certification = make()
    certification.save(tmp_path / "new")
    with np.load(tmp_path / "new") as archive:
        arrays = {name: archive[name] for name in archive.files}
    metadata = json.loads(str(arrays["metadata"]))
    metadata["format"] = 1
    for name in ("inference", "net_digest", "adaptive"):
        del metadata[name]
    arrays["metadata"] = np.array(json.dumps(metadata))
    np.savez(tmp_path / "old.npz", **arrays)
    assert same(Certification.load(tmp_path / "old.npz"), certification)


@pytest.mark.parametrize("stated", [True, False])
def test_records_that_state_a_former_parameter_open(tmp_path, stated):
    """Inference had fold_batch_norm in 0.1.0."""
    certification = make(inference=Inference(dtype="bfloat16"))
    certification.save(tmp_path / "new")
    with np.load(tmp_path / "new") as archive:
        arrays = {name: archive[name] for name in archive.files}
    metadata = json.loads(str(arrays["metadata"]))
    metadata["inference"]["params"]["fold_batch_norm"] = stated
    arrays["metadata"] = np.array(json.dumps(metadata))
    np.savez(tmp_path / "old.npz", **arrays)
    assert same(Certification.load(tmp_path / "old.npz"), certification)

    metadata["inference"]["params"]["fold"] = stated
    arrays["metadata"] = np.array(json.dumps(metadata))
    np.savez(tmp_path / "other.npz", **arrays)
    with pytest.raises(ValueError, match=r"parameters that it does not have: \['fold'\]"):
        Certification.load(tmp_path / "other.npz")


def test_from_counts_wants_fixed_numbers_confirmed():
    counts = [[90, 10, 0], [400, 100, 0]]
    options = {"labels": [0, 0], "noise": Uniform(sigma=1.0), "dim": 3}
    with pytest.raises(ValueError, match="from 100 to 500 votes"):
        Certification.from_counts(counts, **options)
    confirmed = Certification.from_counts(counts, adaptive=False, **options)
    assert not confirmed.adaptive
    assert Certification.from_counts(counts, bound=ConfidenceSequence(), **options).adaptive


def test_tokens_fill_their_64_bits():
    random = ClopperPearson(n=1000, randomized=True)
    rng = np.random.default_rng(0)
    make(bound=random, tokens=rng.integers(2**64, size=4, dtype=np.uint64))
    with pytest.raises(ValueError, match=r"uniform on all of \[0, 2\^64\)"):
        make(bound=random, tokens=rng.integers(2**32, size=4, dtype=np.uint64))


@pytest.mark.parametrize("bound", [ClopperPearson(n=-5), ConfidenceSequence(rtol=2)])
def test_bad_bounds_are_refused(bound):
    with pytest.raises(ValueError, match="parameter of"):
        make(bound=bound)


# Records in parts


def part(votes, **kwargs):
    options = {
        "noise": Uniform(lambd=1.0),
        "dim": 64,
        "labels": np.zeros(len(votes), dtype=int),
        "tokens": np.full(len(votes), 2**63, dtype=np.uint64),
    }
    return Certification.from_counts(votes, **{**options, **kwargs})


def test_parts_make_the_whole():
    votes = np.array([[990, 10], [700, 300], [600, 400], [400, 600]])
    whole = part(votes)
    joined = Certification.concatenate([part(votes[:1]), part(votes[1:3]), part(votes[3:])])
    np.testing.assert_array_equal(joined.counts, whole.counts)
    np.testing.assert_array_equal(joined.selection_counts, whole.selection_counts)
    np.testing.assert_array_equal(joined.tokens, whole.tokens)
    np.testing.assert_array_equal(joined.radius(1), whole.radius(1))
    timed = [part(votes[:1]), part(votes[1:])]
    for record, seconds in zip(timed, (1.5, 2.0), strict=True):
        object.__setattr__(record, "seconds", seconds)
    assert Certification.concatenate(timed).seconds == 3.5


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"noise": Uniform(lambd=2.0)}, "noise"),
        ({"noise": Laplace(lambd=1.0)}, "noise"),
        ({"alpha": 0.01}, "alpha"),
        ({"dim": 65}, "dim"),
        ({"norm": 2}, "norm"),
        ({"bound": ConfidenceSequence()}, "adaptive, bound"),
        ({"classes": [1, 2], "labels": [1]}, "classes"),
        ({"tokens": None}, "tokens"),
    ],
)
def test_parts_of_different_runs_are_refused(change, named):
    votes = [[990, 10]]
    with pytest.raises(ValueError, match=f"records that differ in {named}\\."):
        Certification.concatenate([part(votes), part(votes, **change)])


def test_no_parts():
    with pytest.raises(ValueError, match="at least one Certification, got none"):
        Certification.concatenate([])


def test_classes_with_the_name_of_another_one(tmp_path):
    """A file could not tell them apart, and the radii would be others."""

    class Uniform(Laplace):
        pass

    votes = [[990, 10]]
    mine = part(votes, noise=Uniform(lambd=1.0))
    with pytest.raises(ValueError, match="another name than rs4a's Uniform to be saved"):
        mine.save(tmp_path / "record.npz")
    with pytest.raises(ValueError, match="records that differ in noise"):
        Certification.concatenate([part(votes), mine])


# Records of some inputs


def alike(one, other):
    """Everything but the time, which is summed."""
    assert same(one, other)
    for name in ("tokens", "adaptive", "runs", "net_digest", "bound"):
        np.testing.assert_equal(repr(getattr(one, name)), repr(getattr(other, name)))
    assert one.seconds == pytest.approx(other.seconds)
    pd.testing.assert_frame_equal(one.to_frame(), other.to_frame())


def whole_record():
    rng = np.random.default_rng(0)
    reach = -np.sort(-rng.uniform(0.5, 1.0, size=(4, 3)), axis=1)
    return make(
        seconds=3.0,
        tokens=rng.integers(2**64, size=4, dtype=np.uint64),
        box=Box(0.0, 1.0, reach),
        runs=({"seed": 3, "votes": 4000, "votes_from_memory": 0, "seconds": 3.0},),
        index=pd.Index(["a", "b", "c", "d"], name="patient"),
    )


def test_slices_joined_are_the_whole():
    whole = whole_record()
    for cut in range(5):
        joined = Certification.concatenate([whole[:cut], whole[cut:]])
        alike(joined, whole)
        np.testing.assert_array_equal(joined.box.reach, whole.box.reach)
        assert joined.report == whole.report


@pytest.mark.parametrize(
    ("rows", "at"),
    [
        (slice(1, 3), [1, 2]),
        (slice(None, None, -2), [3, 1]),
        ([True, False, False, True], [0, 3]),
        ([3, -4], [3, 0]),
        (2, [2]),
        ([], []),
        (np.array([2, 2]), [2, 2]),
        (pd.Series([False, True, True, False], index=[7, 5, 3, 1]), [1, 2]),
    ],
    ids=str,
)
def test_subscripts_take_the_rows_of_everything(rows, at):
    whole, at = whole_record(), np.array(at, dtype=int)
    some = whole[rows]
    for name in (
        "counts",
        "selection_counts",
        "tokens",
        "labels",
        "prob_lower",
        "abstained",
    ):
        np.testing.assert_array_equal(getattr(some, name), getattr(whole, name)[at])
    np.testing.assert_array_equal(some.radius(), whole.radius()[at])
    np.testing.assert_array_equal(some.box.reach, whole.box.reach[at])
    assert some.to_frame().index.tolist() == whole.index[at].tolist()
    again, all_again = some.recompute(alpha=0.01), whole.recompute(alpha=0.01)
    np.testing.assert_array_equal(again.radius(), all_again.radius()[at])
    assert not some.counts.flags.writeable


@pytest.mark.parametrize("rows", ["a", 1.0, (0, 1), [0.5], [[0]], None, np.array([])])
def test_other_subscripts_are_refused(rows):
    with pytest.raises(TypeError, match="takes a slice, a mask of bools, or whole numbers"):
        make()[rows]


def test_subscripts_out_of_range():
    for rows in (4, [-5], [0, 9]):
        with pytest.raises(IndexError, match="out of bounds for axis 0 with size 4"):
            make()[rows]
    with pytest.raises(IndexError, match="boolean"):  # in words of numpy's version
        make()[[True, False, True]]
    assert [len(record) for record in make()] == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("index", "kept"),
    [
        (pd.Index([30, 10, 20, 0]), True),
        (pd.RangeIndex(4, name="row"), True),
        (pd.Index(["d", "b", "a", "c"], name="patient"), True),
        (pd.date_range("2020-01-01", periods=4), False),
        (pd.MultiIndex.from_product([[0, 1], ["a", "b"]]), False),
    ],
    ids=str,
)
def test_index_of_a_frame_in_files_and_copies(index, kept, tmp_path):
    record = make(index=index)
    record.save(tmp_path / "record.npz")
    for again in (pickle.loads(pickle.dumps(record)), record.recompute(norm=2)):
        assert again.to_frame().index.equals(index)
    loaded = Certification.load(tmp_path / "record.npz").to_frame().index
    assert loaded.equals(index if kept else pd.RangeIndex(4))
    assert loaded.name == (index.name if kept else None)


def test_index_must_fit():
    with pytest.raises(ValueError, match=r"index must have shape \(4,\), got \(3,\)"):
        make(index=pd.RangeIndex(3))
    joined = Certification.concatenate([make(index=pd.RangeIndex(4)), make()])
    assert joined.index is None  # it is not known of all
