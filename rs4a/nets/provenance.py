"""Where, when and how votes were drawn, so that a number can be traced to its run."""

import platform
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch

from rs4a.nets.outputs import net_device
from rs4a.utils.describe import installed_version

_PACKAGES = ("rs4a", "torch", "torchvision", "numpy", "scipy", "scikit-learn", "skorch")


def run_settings(net: Any) -> dict[str, Any]:
    """Device, and settings of torch that change the last bits of a forward pass.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialised net.

    Returns
    -------
    settings : dict
        As JSON can hold it.
    """
    device = net_device(net)
    name = platform.processor() or platform.machine()
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    return {
        "device": device.type,
        "device_name": name,
        "matmul_precision": torch.get_float32_matmul_precision(),
        "cudnn_tf32": _cudnn_tf32(),
        "default_dtype": str(torch.get_default_dtype()),
    }


def describe_run(
    net: Any,
    X: Any,
    *,
    seed: int,
    votes: int,
    found: int,
    seconds: float,
    workers: int,
) -> dict[str, Any]:
    """Entries of a record about the run that drew its votes.

    Parameters
    ----------
    net : skorch.NeuralNet
        The net that voted.

    X : ndarray of shape (n, ...), float32, or LazyInputs
        The inputs. The record keeps their shape and, of an array, their range.

    seed : int
        Seed of the votes.

    votes : int
        Selection and estimation votes of the record.

    found : int
        Votes of them that this run did not draw, but found in `memory`.

    seconds : float
        Time of the run.

    workers : int
        Number of joblib's workers.

    Returns
    -------
    run : dict
        As JSON can hold it.
    """
    return {
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": seed,
        "input_shape": list(X.shape[1:]),
        "input_range": _range(X),
        "votes": votes,
        "votes_from_memory": min(found, votes),
        "seconds": seconds,
        "workers": workers,
        **run_settings(net),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "versions": {name: installed_version(name) for name in _PACKAGES},
    }


def merge_runs(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Totals over the runs of a record, and entries that are common to all runs.

    Parameters
    ----------
    runs : list of dict
        From `describe_run`.

    Returns
    -------
    report : dict
        An entry in which runs differ is the list of all values. `warned` is the sorted list
        of all warnings. `votes_per_second` is the number of drawn votes over the sum of the
        times of the runs.
    """
    totals = {
        name: sum(run[name] for run in runs)
        for name in ("votes", "votes_from_memory", "seconds")
    }
    drawn = totals["votes"] - totals["votes_from_memory"]
    report = {**totals, "votes_per_second": drawn / max(totals["seconds"], 1e-9)}
    for name in dict.fromkeys(name for run in runs for name in run):
        if name not in totals:
            values = [run.get(name) for run in runs]
            alike = all(each == values[0] for each in values)
            report[name] = values[0] if alike else values
    warned = {reason for run in runs for reason in run.get("warned", ())}
    return {**report, "warned": sorted(warned)}


def _range(X: Any) -> list[float] | None:
    if not isinstance(X, np.ndarray) or not X.size:
        return None
    return [float(X.min()), float(X.max())]


def _cudnn_tf32() -> bool | None:
    """Whether convolutions may round to TF32; None where newer settings decide it."""
    try:
        return bool(torch.backends.cudnn.allow_tf32)
    except RuntimeError:
        return None
