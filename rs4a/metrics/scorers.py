"""Scorers on certificates, for cross-validation and searches."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics._scorer import _Scorer
from sklearn.model_selection._search import BaseSearchCV
from sklearn.pipeline import Pipeline

from rs4a.inputs.arrays import as_array
from rs4a.metrics.predictions import CertifiedPredictions, check_average
from rs4a.metrics.scores import (
    abstention_rate,
    average_certified_radius,
    certified_accuracy_score,
)
from rs4a.utils.checks import check_norm
from rs4a.utils.user_warnings import warn_user

#: Steps of a pipeline that leave the inputs as they are.
_NOTHING = (None, "passthrough")
_AVERAGING = (certified_accuracy_score, average_certified_radius, abstention_rate)


def make_certified_scorer(
    score_func: Callable[..., float] = certified_accuracy_score,
    *,
    greater_is_better: bool = True,
    **kwargs: Any,
) -> Callable[..., float]:
    """Make a scorer that certifies the test inputs and scores the certification.

    Several such scorers in one `cross_validate` or search share one certification per
    fold. Of a search, the scorer takes the best estimator. It refuses a pipeline with a
    transformer: radii would be in units of the transformed inputs.

    Parameters
    ----------
    score_func : callable, default=certified_accuracy_score
        Score with the signature ``score_func(y_true, certification, **kwargs)``.

    greater_is_better : bool, default=True
        Whether a high score is good; if not, the scorer changes its sign.

    **kwargs : dict
        Further arguments of `score_func`, such as `radius`, `norm` and `average`. Give
        `norm` in a search over noises: without it, the score of each candidate is in the
        norm of its noise. With ``average="macro"``, classes of different sizes have the
        same weight.

    Returns
    -------
    scorer : callable
        Scorer with the signature ``scorer(estimator, X, y, sample_weight=None)``. It
        supports scikit-learn's metadata routing:
        ``scorer.set_score_request(sample_weight=True)``.

    Raises
    ------
    ValueError
        If `radius` is missing or negative, `norm` is none of 1, 2 and inf, or `average` is
        neither "micro" nor "macro".
    TypeError
        If `score_func` is no function.

    Warns
    -----
    CertificationWarning
        By the scorer, if all inputs get one label, and `y` holds several.

    Examples
    --------
    >>> from rs4a.metrics import average_certified_radius, make_certified_scorer
    >>> scoring = {f"r={r}": make_certified_scorer(radius=r, norm=1) for r in (0.5, 1)}
    >>> scoring["acr"] = make_certified_scorer(average_certified_radius, norm=1)
    """
    if not callable(score_func):
        raise TypeError(
            f"score_func must be a function, got {score_func!r}. A radius is given by "
            "name: make_certified_scorer(radius=0.5, norm=1)."
        )
    if score_func is certified_accuracy_score:
        radius = kwargs.get("radius")
        if not (isinstance(radius, Real) and float(radius) >= 0.0):
            raise ValueError(f"radius must be a float of at least 0, got {radius!r}.")
    if kwargs.get("norm") is not None:
        check_norm(kwargs["norm"])
    if score_func in _AVERAGING:
        check_average(kwargs.get("average", "micro"))
    # A search has the second method: it lets scikit-learn see, before any scoring, that
    # several scorers ask for the same response.
    methods = ["certify", "predict"]
    return _CertifiedScorer(score_func, 1 if greater_is_better else -1, kwargs, methods)


class _CertifiedScorer(_Scorer):
    """scikit-learn's scorer, with `certify` in place of `predict`.

    Several scorers share one certification by scikit-learn's cache of responses.
    """

    def _score(
        self,
        method_caller: Callable[..., Any],
        estimator: Any,
        X: ArrayLike,
        y_true: ArrayLike,
        **kwargs: Any,
    ) -> float:
        self._warn_overlap(
            "These arguments of the scorer are overridden by metadata that was passed.",
            kwargs,
        )
        classifier = certifiable(estimator)
        certification = method_caller(classifier, "certify", X, pos_label=None)
        y = as_array(y_true)
        score = self._score_func(y, certification, **{**self._kwargs, **kwargs})
        warn_of_one_answer(certification, y)
        return self._sign * score


def warn_of_one_answer(certification: CertifiedPredictions, y_true: Any) -> None:
    """Warn where all inputs get one label and are not of one class."""
    answers = set(certification.labels.tolist())
    if len(answers) == 1 and len(np.unique(y_true)) > 1:
        warn_user(
            f"Every answer under {certification.noise} is {answers.pop()!r}, but there are "
            "several true labels: certified accuracy is the share of that class. "
            'average="macro" gives all classes the same weight.'
        )


def certifiable(estimator: Any) -> Any:
    """Return the classifier, whose radii are in units of the inputs of a user."""
    if isinstance(estimator, BaseSearchCV):
        if not hasattr(estimator, "best_estimator_"):
            raise ValueError(
                f"A certified scorer needs a search with a best estimator, got refit="
                f"{estimator.refit!r}."
            )
        return certifiable(estimator.best_estimator_)
    if isinstance(estimator, Pipeline):
        *before, (_, last) = estimator.steps
        transformers = [f"{name}={step}" for name, step in before if step not in _NOTHING]
        if transformers:
            raise ValueError(
                f"A certified scorer cannot take a Pipeline with {', '.join(transformers)} "
                "in front of the classifier: its radii are in units of the transformed "
                "inputs and prove nothing about the original inputs. Put the "
                "transformation into the net, as its first layer, or smooth the pipeline: "
                "SmoothedClassifier(make_pipeline(transformer, classifier))."
            )
        return certifiable(last)
    if not hasattr(estimator, "certify"):
        raise TypeError(
            "A certified scorer needs a SmoothedClassifier, or a search over one, got "
            f"{type(estimator).__name__}."
        )
    return estimator
