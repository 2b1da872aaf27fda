"""Where, when and how votes were drawn, so that a number can be traced to its run."""

import platform
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch

from rs4a.nets.outputs import net_device
from rs4a.utils.describe import installed_version

__all__ = ["describe_run", "merge_runs", "run_settings"]

_PACKAGES = ("rs4a", "torch", "torchvision", "numpy", "scipy", "scikit-learn", "skorch")


def run_settings(net: Any) -> dict[str, Any]:
    """Device, and torch's settings that the last bits of a forward pass depend on.

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
    return {
        "device": device.type,
        "device_name": _device_name(device),
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
    kept: int,
    seconds: float,
    workers: int,
) -> dict[str, Any]:
    """What a record says about the run that drew its votes.

    Parameters
    ----------
    net : skorch.NeuralNet
        The net that voted.

    X : ndarray of shape (n, ...), float32, or LazyInputs
        The inputs, of which shape and range are kept, the range unless they are read as
        needed.

    seed : int
        Seed of the votes.

    votes : int
        Selection and estimation votes of the record.

    kept : int
        Those of them that were not drawn in this run, but found in `memory`.

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
        "votes_from_memory": min(kept, votes),
        "seconds": seconds,
        "workers": workers,
        **run_settings(net),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "versions": {name: installed_version(name) for name in _PACKAGES},
    }


def merge_runs(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Totals over the runs of a record, and what all of them have in common.

    Parameters
    ----------
    runs : list of dict
        From `describe_run`.

    Returns
    -------
    report : dict
        Where runs differ, the list of what they have; what any of them `warned` of, sorted.
        Votes a second count those that were drawn, over the time of the runs one after the
        other.
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
            same = all(value == values[0] for value in values)
            report[name] = values[0] if same else values
    warned = {reason for run in runs for reason in run.get("warned", ())}
    return {**report, "warned": sorted(warned)}


def _range(X: Any) -> list[float] | None:
    if not isinstance(X, np.ndarray) or not X.size:
        return None
    return [float(X.min()), float(X.max())]


def _cudnn_tf32() -> bool | None:
    """Whether convolutions may round to TF32; None where newer settings rule that."""
    try:
        return bool(torch.backends.cudnn.allow_tf32)
    except RuntimeError:
        return None


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return platform.processor() or platform.machine()
