"""Every noise works in the classifier, and all of them in one search."""

import math

import numpy as np
import pytest
from conftest import make_net
from every import one_of_each
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from rs4a import SmoothedClassifier
from rs4a.bounds import ClopperPearson
from rs4a.metrics import make_certified_scorer
from rs4a.noises import Clean

ZOO = one_of_each(64)


@pytest.mark.parametrize("noise", ZOO, ids=str)
def test_every_noise_certifies(noise, digits):
    X_train, X_test, y_train, _ = digits
    clf = SmoothedClassifier(
        make_net(max_epochs=3),
        noise=clone(noise).set_params(sigma=0.3),
        bound=ClopperPearson(n=500),
        random_state=0,
    ).fit(X_train, y_train)
    certification = clf.certify(X_test[:20])
    certain = ~certification.abstained
    assert certain.mean() > 0.5
    for norm in (1, 2, math.inf):
        radius = certification.radius(norm)
        assert (radius[certain] > 0).all()
        assert (radius[~certain] == 0).all()
    assert np.isfinite(certification.radius()).all()
    again = clf.set_params(batch_size=37).certify(X_test[10:20])
    np.testing.assert_array_equal(again.counts, certification.counts[10:])


@pytest.mark.slow
def test_one_search_over_noises_of_different_kinds(digits):
    X_train, X_test, y_train, y_test = digits
    search = GridSearchCV(
        SmoothedClassifier(
            make_net(max_epochs=3), bound=ClopperPearson(n=200), random_state=0
        ),
        {"noise": [Clean(), *ZOO[::3]], "noise__sigma": [0.15, 0.4]},
        scoring={f"r={r}": make_certified_scorer(radius=r, norm=1) for r in (0.0, 0.3)},
        refit="r=0.3",
        cv=2,
        error_score="raise",
    ).fit(X_train[:200], y_train[:200])
    results = search.cv_results_
    certified = dict(
        zip(map(str, results["param_noise"]), results["mean_test_r=0.3"], strict=True)
    )
    assert len(results["params"]) == 2 * (1 + len(ZOO[::3]))
    assert not any(score for noise, score in certified.items() if "Clean" in noise)
    assert search.best_score_ > 0
    assert search.best_estimator_.noise.sigma in (0.15, 0.4)
    assert search.score(X_test[:50], y_test[:50]) > 0
