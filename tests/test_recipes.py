"""Fine-tuning and self-training."""

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_net
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_validate
from skorch import NeuralNetClassifier
from torch import nn

from rs4a import SmoothedClassifier
from rs4a.networks import MLP, LeNet, WideResNet
from rs4a.noises import Uniform
from rs4a.training import replace_last_layer, with_pseudo_labels

# Fine-tuning


def tuning_net(module, lr):
    return NeuralNetClassifier(
        module, criterion=nn.CrossEntropyLoss, max_epochs=2, lr=lr, train_split=None,
        verbose=0, callbacks__print_log=None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (MLP((4,), 3), "layers.2"),
        (LeNet((1, 28, 28), 1000), "fc3"),
        (WideResNet(10, 1, n_classes=100), "fc"),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, nn.Module) else each,
)
def test_last_layer_is_new_and_the_rest_is_copied(module, name):
    before = {key: value.clone() for key, value in module.state_dict().items()}
    tuned = replace_last_layer(module, 7, random_state=0)
    assert tuned.get_submodule(name).out_features == 7
    for key, value in module.state_dict().items():
        assert torch.equal(value, before[key])
        if not key.startswith(name):
            assert torch.equal(value, tuned.state_dict()[key])
            assert value.data_ptr() != tuned.state_dict()[key].data_ptr()


def test_layer_keeps_dtype_and_bias_and_is_reproducible():
    module = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3, bias=False)).double()
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    one, two, other = (replace_last_layer(module, 6, random_state=s) for s in (0, 0, 1))
    assert torch.equal(torch.rand(1), expected)
    assert one[1].bias is None
    assert one[1].weight.dtype == torch.float64
    assert torch.equal(one[1].weight, two[1].weight)
    assert not torch.equal(one[1].weight, other[1].weight)


def test_layer_may_be_named_or_be_the_module():
    module = nn.ModuleDict({"head": nn.Linear(4, 3), "auxiliary": nn.Linear(4, 2)})
    tuned = replace_last_layer(module, 6, name="head")
    assert tuned["head"].out_features == 6
    assert tuned["auxiliary"].out_features == 2
    assert replace_last_layer(nn.Linear(4, 3), 5).out_features == 5


def test_frozen_layers_keep_their_weights_in_training(digits):
    X, _, y, _ = digits
    pretrained = MLP((1, 8, 8), 3, hidden=(16,))
    module = replace_last_layer(pretrained, 10, freeze=True, random_state=0)
    clf = SmoothedClassifier(tuning_net(module, lr=0.1), noise=Uniform(sigma=0.2))
    trained = clf.fit(X[:200], y[:200]).estimator_.module_
    assert torch.equal(trained.layers[0].weight, pretrained.layers[0].weight)
    assert not torch.equal(trained.layers[2].weight, module.layers[2].weight)


def test_fit_starts_from_the_copy_s_weights_every_time(digits):
    """So fine-tuning works in cross-validation, and the given module stays as it is."""
    X, _, y, _ = digits
    module = replace_last_layer(MLP((1, 8, 8), 3, hidden=(16,)), 10, random_state=0)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    clf = SmoothedClassifier(tuning_net(module, lr=1e-30), noise=Uniform(sigma=0.2))
    folds = cross_validate(clf, X[:200], y[:200], cv=3, return_estimator=True)["estimator"]
    clf.set_params(estimator__lr=0.1).fit(X[:200], y[:200])
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])
        for fold in folds:
            assert torch.equal(fold.estimator_.module_.state_dict()[name], value)
    assert not torch.equal(
        clf.estimator_.module_.layers[0].weight, before["layers.0.weight"]
    )


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((nn.ReLU(), 3), {}, r"must have a linear layer to replace, got ReLU"),
        ((MLP((4,), 3), 3), {"name": "fc"}, r"linear layer 'fc' .* \['layers.0', "),
        ((MLP((4,), 3), 1), {}, "n_classes must be at least 2, got 1"),
    ],
)
def test_what_cannot_be_replaced_is_refused(args, kwargs, message):
    with pytest.raises(ValueError, match=message):
        replace_last_layer(*args, **kwargs)


# Self-training


@pytest.fixture(scope="module")
def teacher(digits):
    X, _, y, _ = digits
    return LogisticRegression(max_iter=2000).fit(X[:100].reshape(100, -1), y[:100])


def test_extra_inputs_get_the_teacher_s_labels(digits, teacher):
    X, _, y, _ = digits
    flat = X.reshape(len(X), -1)
    X_all, y_all = with_pseudo_labels(teacher, flat[:100], y[:100], flat[100:300])
    np.testing.assert_array_equal(X_all, flat[:300])
    np.testing.assert_array_equal(y_all[:100], y[:100])
    np.testing.assert_array_equal(y_all[100:], teacher.predict(flat[100:300]))


def test_doubtful_inputs_are_left_out(digits, teacher):
    X, _, y, _ = digits
    flat = X.reshape(len(X), -1)
    share = teacher.predict_proba(flat[100:300]).max(axis=1)
    limit = float(np.median(share))
    X_all, y_all = with_pseudo_labels(
        teacher, flat[:100], y[:100], flat[100:300], min_share=limit
    )
    np.testing.assert_array_equal(X_all[100:], flat[100:300][share >= limit])
    assert len(y_all) == len(X_all)
    X_all, _ = with_pseudo_labels(teacher, flat[:100], y[:100], flat[100:], min_share=1.0)
    np.testing.assert_array_equal(X_all, flat[:100])


def test_smoothed_classifiers_teach_images_with_labels_of_any_kind(digits):
    X, _, y, _ = digits
    names = np.array([f"digit {each}" for each in y])
    teacher = SmoothedClassifier(make_net(), noise=Uniform(sigma=0.1), random_state=0)
    teacher.fit(X[:200], names[:200])
    X_all, y_all = with_pseudo_labels(
        teacher, torch.from_numpy(X[:200]), names[:200], X[200:400], min_share=0.5
    )
    assert 300 < len(X_all) <= 400
    assert set(y_all) <= set(names)
    student = SmoothedClassifier(make_net(), noise=Uniform(sigma=0.3), random_state=0)
    assert student.fit(X_all, y_all).score(X[400:600], names[400:600]) > 0.7


def test_teachers_see_extra_inputs_as_they_were_given(digits):
    """With the names of columns, or scikit-learn warns."""
    X, y = digits[0][:150].reshape(150, -1), digits[2][:150]
    frame = pd.DataFrame(X, columns=[f"pixel {i}" for i in range(64)])
    teacher = LogisticRegression(max_iter=2000).fit(frame[:100], y[:100])
    X_all, y_all = with_pseudo_labels(
        teacher, frame[:100], y[:100], frame[100:], min_share=0.5
    )
    assert X_all.shape == (len(y_all), 64)


def test_frozen_normalisations_keep_their_statistics(digits):
    X, _, y, _ = digits
    pretrained = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.Linear(16, 3)
    )
    module = replace_last_layer(pretrained, 10, freeze=True, random_state=0)
    clf = SmoothedClassifier(tuning_net(module, lr=0.1), noise=Uniform(sigma=0.2))
    trained = clf.fit(X[:200], y[:200]).estimator_.module_
    assert torch.equal(trained[2].running_mean, torch.zeros(16))
    assert torch.equal(trained[2].running_var, torch.ones(16))
    assert pretrained[2].momentum == 0.1


def test_bad_arguments_are_refused(digits, teacher):
    X = digits[0][:10]
    flat, y = X.reshape(10, -1), np.arange(10)
    with pytest.raises(ValueError, match=r"min_share must be in \[0, 1\], got 2"):
        with_pseudo_labels(teacher, flat, y, flat, min_share=2)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        with_pseudo_labels(teacher, flat, y[:9], flat)
    with pytest.raises(ValueError, match="teacher must give labels as y has them"):
        with_pseudo_labels(teacher, flat, y.astype(str), flat)
    with pytest.raises(ValueError, match=r"X_extra .* X's, \(64,\), got \(1, 8, 8\)"):
        with_pseudo_labels(teacher, flat, y, X)
