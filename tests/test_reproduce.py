"""The scripts of the paper's experiments, run as a user runs them, also interrupted."""

import json
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt
from skorch.callbacks import LRScheduler

import rs4a.voting.plans
from rs4a import SmoothedClassifier
from rs4a.metrics import certified_accuracy_score
from rs4a.networks import make_network
from rs4a.records import read_results
from rs4a.voting.voters import Voters

FOLDER = Path(__file__).parents[1] / "examples" / "reproduce"
DIGITS = ["--dataset", "digits"]
TRAINING = ["--net", "MLP", "--net-params", '{"hidden": [64]}', "--epochs", "4"]
TRAINING += ["--lr", "0.05", "--train-skip", "2"]
VOTES = ["--n", "200", "--dataset-skip", "10", "--part", "20", "--radii", "0.1", "0.3"]


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """Run a script in an empty folder; return what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(FOLDER))

    def run_script(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        try:
            runpy.run_path(str(FOLDER / name), run_name="__main__")
        finally:
            for module in ("common", "train", "certify"):
                sys.modules.pop(module, None)
            plt.close("all")
        return capsys.readouterr().out

    return run_script


class Once:
    """Raise an error at the k-th call of a method, and never again."""

    def __init__(self, monkeypatch, owner, name, k, error=KeyboardInterrupt):
        original = getattr(owner, name)
        self.n_calls = 0

        def method(*args, **kwargs):
            self.n_calls += 1
            if self.n_calls == k:
                raise error
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, method)


def weights(folder):
    clf = SmoothedClassifier.load(Path(folder) / "classifier.safetensors")
    return clf.estimator_.module_.state_dict()


def assert_same_run(one, other):
    for name, value in weights(one).items():
        torch.testing.assert_close(value, weights(other)[name], rtol=0, atol=0)
    record, y = read_results(one)
    expected, labels = read_results(other)
    np.testing.assert_array_equal(record.counts, expected.counts)
    np.testing.assert_array_equal(y, labels)


def test_train_certify_attack_analyze(run):
    noise = ["--noise", "Uniform", "--sigma", "0.3"]
    assert "Saved in runs/digits_uniform_0.3" in run("train.py", *DIGITS, *noise, *TRAINING)
    assert "holds a trained net already" in run("train.py", *DIGITS, *noise, *TRAINING)
    for change in (["--lr", "0.06"], ["--objective", "Stability"], ["--epochs", "5"]):
        with pytest.raises(SystemExit, match=f"{change[0][2:]} was .*, is {change[1]}"):
            run("train.py", *DIGITS, *noise, *TRAINING, *change)
    printed = run("certify.py", *DIGITS, *noise, *VOTES)
    record, y = read_results("runs/digits_uniform_0.3")
    assert str(record.noise) == "Uniform(sigma=0.3)"
    assert len(record) == 45
    assert (record.n_votes == 200).all()
    accuracy = certified_accuracy_score(y, record, radius=[0.1, 0.3])
    assert accuracy[0] > 0.5
    scores = json.loads(Path("runs/digits_uniform_0.3/scores.json").read_text())
    assert list(scores["certified_accuracy"].values()) == accuracy.tolist()
    assert f"{accuracy[0]:.1%}" in printed
    assert scores["train_accuracy"] > 0.8

    attack = ["--steps", "4", "--attack-samples", "8"]
    run("attack.py", *DIGITS, *noise, *VOTES, *attack)
    parts = json.loads(Path("runs/digits_uniform_0.3/attack.json").read_text())["parts"]
    assert [part["images"] for part in parts] == [20, 20, 5]
    attacked = np.average([p["accuracy"] for p in parts], axis=0, weights=[20, 20, 5])
    assert (attacked >= accuracy).all()

    propagation = ["--propagation-sigma", "0.3", *DIGITS]
    run("analyze.py", "runs", "--radii", "0.1", "0.3", "--output", "out", *propagation)
    rounded_down = np.floor(1000 * accuracy[0] + 1e-6) / 10
    assert f"{rounded_down:.1f} (0.3)" in Path("out/table.md").read_text()
    assert r"\begin{tabular}" in Path("out/table.tex").read_text()
    assert {path.name for path in Path("out").iterdir()} == {
        "accuracies.csv", "accuracy_against_sigma.png", "distribution_prob_correct.png",
        "distribution_prob_lower.png", "distribution_radius.png", "envelope.png",
        "noise_propagation.png", "per_sigma.png", "table.md", "table.tex",
        "training_loss.png",
    }  # fmt: skip


@pytest.mark.parametrize("epoch", [1, 3, 4])
def test_interrupted_training_goes_on(run, monkeypatch, epoch):
    options = [*DIGITS, *TRAINING, "--objective", "Stability"]
    options += ["--objective-params", '{"weight": 2.0}']
    run("train.py", *options, "--name", "whole")
    with monkeypatch.context() as patch:
        Once(patch, LRScheduler, "on_epoch_end", k=epoch)
        with pytest.raises(SystemExit, match="Interrupted: run the same"):
            run("train.py", *options, "--name", "broken")
    assert not Path("runs/broken/classifier.safetensors").exists()
    run("train.py", *options, "--name", "broken")
    for name, value in weights("runs/whole").items():
        torch.testing.assert_close(value, weights("runs/broken")[name], rtol=0, atol=0)


@pytest.mark.parametrize("sequential", [[], ["--sequential"]])
def test_interrupted_certification_goes_on(run, monkeypatch, sequential):
    noise = ["--noise", "ExpInf:k=10,j=1", "--sigma", "0.3"]
    run("train.py", *DIGITS, *TRAINING, *noise)
    folder = Path("runs/digits_expinf_k10_j1_0.3")
    options = [*DIGITS, *noise, *VOTES, *sequential]
    run("certify.py", *options)
    whole, _ = read_results(folder)
    shutil.rmtree(folder / "memory")
    with monkeypatch.context() as patch:
        patch.setattr(rs4a.voting.plans, "_TASK_VOTES", 4000)
        Once(patch, Voters, "requested" if sequential else "fixed", k=4)
        with pytest.raises(SystemExit, match="Interrupted: run the same command"):
            run("certify.py", *options)
        kept = list((folder / "memory").rglob("*.votes"))
        assert kept
        run("certify.py", *options)
        assert set(kept) <= set((folder / "memory").rglob("*.votes"))
    record, _ = read_results(folder)
    np.testing.assert_array_equal(record.counts, whole.counts)
    assert record.report["votes_from_memory"] > 0
    run("certify.py", *options, "--alpha", "0.01")  # other certificates, not those saved
    assert read_results(folder)[0].alpha == 0.01


@pytest.mark.pages
def test_sweep(run, monkeypatch):
    options = [*DIGITS, *TRAINING, *VOTES, "--noises", "Uniform", "Gaussian"]
    options += ["--sigmas", "0.2", "0.3"]
    printed = run("sweep.py", *options, "--runs", "whole")
    assert "Gaussian(sigma=0.3)" in printed
    with monkeypatch.context() as patch:
        Once(patch, LRScheduler, "on_epoch_end", k=6)  # the second cell's second epoch
        with pytest.raises(SystemExit, match="Interrupted: run the same"):
            run("sweep.py", *options, "--runs", "broken")
    assert (
        printed.splitlines()[-4:]
        == (run("sweep.py", *options, "--runs", "broken").splitlines()[-4:])
    )
    for name in ("uniform_0.2", "uniform_0.3", "gaussian_0.2", "gaussian_0.3"):
        assert_same_run(f"whole/digits_{name}", f"broken/digits_{name}")
    table = run("analyze.py", "whole", "--radii", "0.1", "0.3", "--output", "out")
    assert "| Uniform" in table
    assert "| Gaussian" in table
    # The same as by hand.
    noise = ["--noise", "Uniform", "--sigma", "0.3"]
    run("train.py", *DIGITS, *TRAINING, *noise)
    run("certify.py", *DIGITS, *noise, *VOTES)
    assert_same_run("whole/digits_uniform_0.3", "runs/digits_uniform_0.3")


@pytest.mark.pages
def test_sweep_of_objectives_under_splitting(run):
    """Templates are kept with the nets, and a box enlarges what is drawn at random."""
    noises = ["Splitting:deterministic=true,levels=16", "Splitting:deterministic=false"]
    options = [*DIGITS, *TRAINING, *VOTES, "--noises", *noises, "--sigmas", "1.5"]
    run("sweep.py", *options, "--objectives", "NoiseAugmentation", "Stability")
    folders = {path.name for path in Path("runs").iterdir()}
    assert folders == {
        f"digits_splitting_{kind}_1.5{objective}"
        for kind in ("deterministictrue_levels16", "deterministicfalse")
        for objective in ("", "_stability")
    }
    folder = Path("runs/digits_splitting_deterministictrue_levels16_1.5")
    record, _ = read_results(folder)
    noise = json.loads((folder / "options.json").read_text())["noise"]
    assert record.deterministic
    assert record.noise.seed == noise["params"]["seed"]
    trained = ["--noise", noises[0], "--sigma", "1.5"]
    printed = run("train.py", *DIGITS, *TRAINING, *trained)
    assert "holds a trained net already" in printed
    run("certify.py", *DIGITS, *VOTES, "--name", folder.name)
    again, _ = read_results(folder)
    np.testing.assert_array_equal(again.counts, record.counts)
    plain = run("analyze.py", "runs", "--radii", "1", "2", "--output", "plain")
    assert "| Splitting(levels=16), Stability" in plain
    run("analyze.py", "runs", "--radii", "1", "2", "--box", "0", "1", "--output", "box")
    accuracy = [pd.read_csv(f"{name}/accuracies.csv") for name in ("plain", "box")]
    assert (accuracy[1]["accuracy"] >= accuracy[0]["accuracy"]).all()


# CIFAR-10, on made-up images in its format


@pytest.fixture
def cifar(tmp_path):
    """Folder of the binary version, with ten images a file."""
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]:
        records = rng.integers(256, size=(10, 3073), dtype=np.uint8)
        records[:, 0] = np.arange(10)
        (folder / f"{name}.bin").write_bytes(records.tobytes())
    return ["--dataset", "cifar10", "--data", folder]


def test_released_checkpoint(run, cifar):
    """The authors' layout: DataParallel around norm and model, log of the deviation."""
    torch.manual_seed(0)
    own = make_network("WideResNet", "cifar10").state_dict()
    released = {
        name.replace("norm.", "norm.module.").replace("model.", "model.module."): value
        for name, value in own.items()
    }
    released["norm.module.mu"] = released.pop("norm.module.mean")
    released["norm.module.log_sig"] = released.pop("norm.module.std").log()
    torch.save(released, "cifar_laplace_050.pt")
    few = ["--n", "20", "--n0", "8", "--dataset-skip", "5", "--train-accuracy-skip", "25"]
    run("certify.py", *cifar, "--checkpoint", "cifar_laplace_050.pt", *few)
    record, y = read_results("runs/cifar_laplace_050")
    assert str(record.noise) == "Laplace(sigma=0.5)"
    assert record.dim == 3072
    assert y.tolist() == [0, 5]


def test_released_files_by_folder_and_with_noise(run, cifar):
    """Every file of Cohen et al. has one name; noise may be given."""
    torch.manual_seed(0)
    cohen = "cifar10/resnet110/noise_0.25"
    for name in (cohen, "other"):
        Path(name).mkdir(parents=True)
        net = make_network("Linear", "cifar10").state_dict()
        torch.save(net, Path(name, "model_ckpt.torch"))
    few = ["--n", "20", "--n0", "8", "--dataset-skip", "5", "--train-accuracy-skip", "25"]
    run("certify.py", *cifar, "--checkpoint", f"{cohen}/model_ckpt.torch", *few)
    record, _ = read_results("runs/cifar10_resnet110_noise_0.25")
    assert str(record.noise) == "Gaussian(sigma=0.25)"
    given = ["--noise", "Uniform:lambd=1.5"]
    run("certify.py", *cifar, "--checkpoint", "other/model_ckpt.torch", *few, *given)
    assert str(read_results("runs/other")[0].noise) == "Uniform(lambd=1.5)"


@pytest.mark.pages
def test_two_objectives_of_one_noise_are_told_apart(run):
    for objective in ("NoiseAugmentation", "Stability"):
        options = [*DIGITS, "--name", objective]
        run("train.py", *options, *TRAINING, "--objective", objective)
        run("certify.py", *options, *VOTES)
    Path("runs/unfinished").mkdir()
    # What the votes are of counts, not the net that lies beside them later.
    for path in ("classifier.safetensors", "training.pt"):
        Path("runs/NoiseAugmentation", path).unlink()
    options = [*DIGITS, "--name", "NoiseAugmentation", "--objective", "Stability"]
    run("train.py", *options, *TRAINING)
    printed = run("analyze.py", "runs", "--radii", "0.1", "--output", "out")
    assert "| Uniform, Stability" in printed
    assert "unfinished is left out" in printed
    run("certify.py", *DIGITS, "--name", "NoiseAugmentation", *VOTES)
    with pytest.raises(SystemExit, match="are both Uniform, Stability with Uniform"):
        run("analyze.py", "runs", "--output", "out")
    run("certify.py", *DIGITS, "--name", "NoiseAugmentation", *VOTES, "--label", "again")
    assert "| Uniform, again" in run("analyze.py", "runs", "--radii", "0.1")


def test_nets_for_other_data_are_refused(run):
    run("train.py", *DIGITS, *TRAINING, "--name", "a")
    with pytest.raises(SystemExit, match=r"under Uniform\(sigma=0.5\), got Laplace\("):
        run("certify.py", *DIGITS, "--name", "a", "--noise", "Laplace")
    with pytest.raises(SystemExit, match="is a net for digits, got --dataset mnist"):
        run("certify.py", "--dataset", "mnist", "--name", "a")
    torch.save(make_network("Linear", "cifar10").state_dict(), "svhn_uniform_050.pt")
    with pytest.raises(SystemExit, match="is a net for svhn, got --dataset cifar10"):
        run("certify.py", "--checkpoint", "svhn_uniform_050.pt")


def test_scores_go_with_their_votes(run, monkeypatch):
    run("train.py", *DIGITS, *TRAINING)
    run("certify.py", *DIGITS, *VOTES)
    with monkeypatch.context() as patch:
        Once(patch, SmoothedClassifier, "score", k=1)
        with pytest.raises(SystemExit, match="Interrupted: run the same"):
            run("certify.py", *DIGITS, *VOTES, "--n", "300")
    assert not Path("runs/digits_uniform_0.5/scores.json").exists()


def test_labels_that_training_lacks(run):
    """Every 60th training image of the digits has no 1."""
    run("train.py", *DIGITS, *TRAINING, "--train-skip", "60", "--epochs", "30")
    run("certify.py", *DIGITS, *VOTES, "--dataset-skip", "3")
    record, y = read_results("runs/digits_uniform_0.5")
    assert record.classes.tolist() == list(range(10))
    assert (record.labels == y).mean() > 0.3
    assert (record.labels == y + 1).mean() < 0.2


@pytest.mark.parametrize(
    ("script", "options", "message"),
    [
        ("train.py", ["--noise", "Gauss"], "noise must be one of"),
        ("train.py", ["--noise", "ExpInf:k=10"], "ExpInf noise takes"),
        ("sweep.py", ["--noises", "Uniform:x=1"], "Uniform noise takes"),
        ("train.py", ["--noise", "Uniform:sigma=1"], "sigma is given by --sigma"),
        ("certify.py", ["--dataset", "digits"], "train.py makes it"),
        ("train.py", ["--dataset", "mnist", "--tiny-images", "x"], "go with --dataset"),
    ],
)
def test_bad_options_end_with_a_word(run, capsys, script, options, message):
    with pytest.raises(SystemExit) as error:
        run(script, *options)
    assert message in f"{error.value}{capsys.readouterr().err}"


def test_large_sets_are_read_as_needed(run, cifar):
    options = [*cifar, "--net", "Linear", "--epochs", "2"]
    run("train.py", *options)
    run("certify.py", *cifar, *VOTES, "--dataset-skip", "2", "--train-accuracy-skip", "10")
    record, y = read_results("runs/cifar10_uniform_0.5")
    assert y.tolist() == [0, 2, 4, 6, 8]
    swept = [*options, *VOTES, "--dataset-skip", "2", "--train-accuracy-skip", "10"]
    run("sweep.py", *swept, "--noises", "Uniform", "--sigmas", "0.5", "--runs", "swept")
    assert_same_run("swept/cifar10_uniform_0.5", "runs/cifar10_uniform_0.5")
