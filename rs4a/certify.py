"""The procedure of certification: from a net, inputs and a noise to a record of votes."""

import time
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_scalar
from skorch import NeuralNet

from rs4a.bounds import Bound
from rs4a.inputs import Inputs
from rs4a.nets.inference import Inference
from rs4a.nets.provenance import describe_run
from rs4a.noises import Noise
from rs4a.noises.streams import stream_keys
from rs4a.records.box import Box, as_box, coordinate_reach
from rs4a.records.certification import Certification
from rs4a.utils.checks import check_norm, format_norm
from rs4a.utils.params import to_json
from rs4a.utils.user_warnings import warn_user
from rs4a.voting.batch_independence import ChangeDetector, check_batch_independence
from rs4a.voting.batch_size import find_batch_size
from rs4a.voting.plans import VoteBudget, Votes
from rs4a.voting.progress import VoteBar
from rs4a.voting.sequential import sequential_votes
from rs4a.voting.source import VoteSource
from rs4a.voting.stopping import StoppingRule
from rs4a.voting.store import VoteStore, store_folder
from rs4a.voting.voters import Voters
from rs4a.voting.workers import n_workers

#: Batch size that requests are planned by where a store keeps their votes. The store finds
#: votes by the request, so requests must not depend on the user's batch size.
_KEPT_BATCH = 1024


@dataclass(frozen=True)
class Procedure:
    """Settings of drawing and reading votes; see also the class `SmoothedClassifier`.

    Parameters
    ----------
    bound : Bound
        Bound on the probability of the top class; ignored under deterministic noise.

    n_selection : int
        Selection votes per input.

    alpha : float
        Probability with which the certificate of an input may be wrong.

    norm : {1, 2, inf} or None
        Norm of the adversary. None: the first norm of the noise.

    seed : int
        Key of the noise.

    box : tuple (low, high) or None
        Interval that inputs and attacks lie in.

    batch_size : int or "auto"
        Noisy copies per forward pass.

    inference : Inference or None
        Settings of the forward passes.

    n_jobs : int or None
        Number of workers, in joblib's sense.

    memory : str, path-like, joblib.Memory or None
        Folder in which votes are kept.

    verbose : int
        Whether a progress bar is shown.

    purpose : bytes
        Separates noise that chooses a net from noise that certifies a net.
    """

    bound: Bound
    n_selection: int
    alpha: float
    norm: float | None
    seed: int
    box: tuple[float, float] | None = None
    batch_size: int | str = 1024
    inference: Inference | None = None
    n_jobs: int | None = None
    memory: Any = None
    verbose: int = 0
    purpose: bytes = b""

    def norm_under(self, noise: Noise) -> float:
        """Norm of the adversary, as a number."""
        return noise.norms[0] if self.norm is None else check_norm(self.norm)


def certify(
    net: NeuralNet,
    inputs: Inputs,
    noise: Noise,
    classes: NDArray,
    procedure: Procedure,
    *,
    max_votes: int | None = None,
    previous: Certification | None = None,
) -> Certification:
    """Draw the votes that certify every input, and record them.

    A procedure with a purpose only chooses a net: then the net needs no trial before the
    votes, and no comparison of its answers before and after.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialised net.

    inputs : Inputs
        Checked inputs.

    noise : Noise
        Smoothing noise.

    classes : ndarray of shape (n_classes,)
        Labels of the net's outputs.

    procedure : Procedure
        Settings of drawing and reading votes.

    max_votes : int, default=None
        Estimation votes for all inputs together. None: no limit.

    previous : Certification, default=None
        Record of earlier votes of the same stream.

    Returns
    -------
    certification : Certification
        Record of the votes.
    """
    X, dim = inputs.values, inputs.dim
    bound = _checked_bound(noise, procedure, max_votes, previous)
    _warn_of_rounding(inputs, noise, procedure)
    depends, digest, detector = False, None, None
    if not procedure.purpose:
        depends, digest = check_batch_independence(
            net, X, noise, len(classes), procedure.inference
        )
        detector = ChangeDetector(X, noise)
    box = as_box(procedure.box)
    if box is not None:
        box = replace(box, reach=coordinate_reach(X, box.interval, noise.scale(dim)))
    start = time.perf_counter()
    so_far = None
    with _source(net, X, noise, len(classes), procedure, detector) as source:
        if previous is not None:
            _check_previous(previous, source, classes, procedure, digest)
            so_far = np.array(previous.counts)
        votes = _votes(source, bound, box, procedure, max_votes, so_far)
    if votes.interrupted:
        warn_user(
            "certify was interrupted: inputs that were still undecided have fewer "
            "votes. What the record certifies holds. " + source.kept_in_words()
        )
    seconds = time.perf_counter() - start
    runs = () if previous is None else previous.runs
    if detector is not None:
        warned = {
            "the net's answer to an input changes with its batch": depends,
            "the net changed while it voted": not depends and detector.warn(),
        }
        n_selection = 0 if noise.deterministic else int(votes.selection.sum())
        n_before = 0 if so_far is None else int(so_far.sum())
        run = describe_run(
            net,
            X,
            seed=procedure.seed,
            votes=n_selection + int(votes.counts.sum()) - n_before,
            found=source.n_found,
            seconds=seconds,
            workers=n_workers(procedure.n_jobs),
        )
        run["warned"] = [reason for reason, is_so in warned.items() if is_so]
        runs = (*runs, run)
    return Certification(
        classes=classes,
        selection_counts=votes.selection,
        counts=votes.counts,
        noise=noise,
        dim=dim,
        bound=bound,
        alpha=procedure.alpha,
        norm=procedure.norm,
        seconds=seconds + (previous.seconds if previous else 0.0),
        adaptive=bound is not None and bound.anytime,
        tokens=None if bound is None else source.keys[:, 2],
        inference=procedure.inference,
        net_digest=digest,
        box=box,
        runs=runs,
        index=inputs.index,
    )


def selection_counts(
    net: NeuralNet, X: Any, noise: Noise, n_classes: int, procedure: Procedure
) -> NDArray[np.int64]:
    """Selection votes for every class; under deterministic noise all views vote.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialised net.

    X : ndarray of shape (n, ...), float32, or LazyInputs
        Inputs.

    noise : Noise
        Smoothing noise.

    n_classes : int
        Number of classes.

    procedure : Procedure
        Settings of drawing votes.

    Returns
    -------
    counts : ndarray of shape (n, n_classes), int64
        Votes for every class.
    """
    with _source(net, X, noise, n_classes, procedure) as source:
        return source.votes(_selection(noise, X[0].size, procedure)).selection


# Drawing


def _source(
    net: NeuralNet,
    X: Any,
    noise: Noise,
    n_classes: int,
    procedure: Procedure,
    detector: ChangeDetector | None = None,
) -> VoteSource:
    size, inference = procedure.batch_size, procedure.inference
    if isinstance(size, str):
        size = find_batch_size(net, noise, inference, X)
    voters = Voters(net, noise, inference, n_classes, int(size), detector)
    folder = store_folder(procedure.memory)
    store = VoteStore(None if folder is None else folder / "votes")
    keys = stream_keys(X, procedure.seed, purpose=procedure.purpose)
    return VoteSource(voters, X, keys, procedure.n_jobs, store)


def _selection(noise: Noise, dim: int, procedure: Procedure) -> VoteBudget:
    """Budget of the votes that choose a class."""
    if noise.deterministic:
        return VoteBudget(0, n_views=noise.n_views(dim))
    return VoteBudget(procedure.n_selection)


def _votes(
    source: VoteSource,
    bound: Bound | None,
    box: Box | None,
    procedure: Procedure,
    max_votes: int | None,
    so_far: NDArray[np.int64] | None,
) -> Votes:
    noise, n_classes = source.voters.noise, source.voters.n_classes
    n, dim = len(source.X), source.X[0].size
    budget = _selection(noise, dim, procedure)
    if bound is not None and not bound.anytime:
        budget = replace(budget, n_estimation=bound.votes_per_input)
    elif bound is not None:
        norm, reach = procedure.norm_under(noise), None if box is None else box.lengths
        alpha = float(procedure.alpha)
        rule = StoppingRule(bound, noise, norm, dim, alpha, n_classes, reach)
        budget = replace(budget, rule=rule)
    per_image = budget.n_views if bound is None else bound.votes_per_input
    with VoteBar(n, per_image, show=bool(procedure.verbose)) as bar:
        if max_votes is None:
            return source.votes(budget, so_far=so_far, bar=bar)
        # All inputs compete for the votes, round by round.
        selection = source.votes(replace(budget, rule=None)).selection
        in_memory = source.store.folder is None
        outcome = sequential_votes(
            source.requested,
            rule,
            selection.argmax(axis=1),
            counts=np.zeros_like(selection) if so_far is None else so_far,
            keys=source.keys,
            batch_size=source.voters.batch_size if in_memory else _KEPT_BATCH,
            max_votes=max_votes,
            progress=bar.show,
        )
        return Votes(selection, outcome.counts, outcome.interrupted)


# Checks


def _warn_of_rounding(inputs: Inputs, noise: Noise, procedure: Procedure) -> None:
    order = min(procedure.norm_under(noise), 2)
    distance, step = inputs.lost(order)
    std = noise.std(inputs.dim)
    # Fractions in [0, 1] lose at most 3e-8 per coordinate, however many there are.
    if 0.0 < std < min(1e3 * distance, 1e5 * step):
        warn_user(
            f"X is rounded to float32, which moves an input by up to {distance:.2g} in "
            f"{format_norm(order)} norm, where the noise has sigma={std:.3g}. "
            "Certificates are about the rounded inputs. Before fit and certify, subtract "
            "an offset, such as each column's mean, or scale wide columns."
        )


def _checked_bound(
    noise: Noise,
    procedure: Procedure,
    max_votes: int | None,
    previous: Certification | None,
) -> Bound | None:
    """The bound, if it fits the noise and the other arguments.

    None under deterministic noise, which needs no bound.
    """
    bound = None if noise.deterministic else procedure.bound
    for name, value in (("max_votes", max_votes), ("previous", previous)):
        if value is not None and not (bound is not None and bound.anytime):
            raise ValueError(
                f"{name} needs a bound that may stop, as ConfidenceSequence does, and "
                f"noise that is drawn, got bound={bound} and noise={noise}."
            )
    if bound is None:
        return None
    if max_votes is not None:
        check_scalar(max_votes, "max_votes", Integral, min_val=0)
    if bound.runner_up:
        noise.check_two_bounds()
    if not bound.can_certify(procedure.alpha):
        warn_user(
            f"bound={bound} with alpha={procedure.alpha} certifies nothing: not even a "
            "unanimous vote bounds a probability above 1/2. Draw more votes or take "
            "a larger alpha."
        )
    return bound


def _check_previous(
    previous: Any,
    source: VoteSource,
    classes: NDArray,
    procedure: Procedure,
    digest: str | None,
) -> None:
    """Refuse an earlier record with votes of another stream."""
    if not isinstance(previous, Certification):
        raise TypeError(f"previous must be a Certification, got {type(previous).__name__}.")
    n_selection = previous.selection_counts.sum(axis=1)
    same = {
        "sampling": previous.adaptive,
        "noise": to_json(previous.noise) == to_json(source.voters.noise),
        "classes": np.array_equal(previous.classes, classes),
        "inputs or seed": previous.tokens is not None
        and np.array_equal(previous.tokens, source.keys[:, 2]),
        "input shape": all(  # a token hashes the bytes of an input, not its shape
            run.get("input_shape") == list(source.X.shape[1:]) for run in previous.runs
        ),
        "selection votes": (n_selection == procedure.n_selection).all(),
        "inference": str(previous.inference) == str(procedure.inference),
        "net": previous.net_digest == digest,
    }
    other = [name for name, is_same in same.items() if not is_same]
    if other:
        raise ValueError(
            "previous must be a record of certify under a bound that may stop, of the "
            "same net, noise, inputs, n_selection and random_state, got a record with "
            f"other {', '.join(other)}."
        )
