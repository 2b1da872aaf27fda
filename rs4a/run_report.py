"""Where, when and how votes were drawn, so that a number can be traced to its run."""

import platform
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import torch

__all__ = ["describe_run", "merge_runs"]

_PACKAGES = ("rs4a", "torch", "torchvision", "numpy", "scipy", "scikit-learn", "skorch")


def describe_run(
    *, device: torch.device, seed: int, votes: int, kept: int, seconds: float, workers: int
) -> dict[str, Any]:
    """What a record says about the run that drew its votes.

    Parameters
    ----------
    device : torch.device
        Where the net computed.

    seed : int
        Seed of the votes.

    votes : int
        Selection and estimation votes of the record.

    kept : int
        Estimation votes that were not drawn in this run, but found in `memory`.

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
        "votes": votes,
        "votes_from_memory": kept,
        "seconds": seconds,
        "workers": workers,
        "device": device.type,
        "device_name": _device_name(device),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "versions": {name: version(name) for name in _PACKAGES},
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
        Where runs differ, the list of what they have. Votes a second count those that
        were drawn, over the time of the runs one after the other.
    """
    totals = {
        name: sum(run[name] for run in runs)
        for name in ("votes", "votes_from_memory", "seconds")
    }
    drawn = totals["votes"] - totals["votes_from_memory"]
    report = {**totals, "votes_per_second": drawn / max(totals["seconds"], 1e-9)}
    for name in runs[0]:
        if name not in totals:
            values = [run[name] for run in runs]
            same = all(value == values[0] for value in values)
            report[name] = values[0] if same else values
    return report


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return platform.processor() or platform.machine()
