"""What an epoch tells of steps: where a step starts over with it, and where a run was resumed."""

from __future__ import annotations

from bisect import bisect_left

import numpy as np
import pandas as pd

_ENOUGH = 0.8
# Passes shorter than this, or of fewer epochs, are the inner epochs of a rollout and not restarts.
_SHORTEST_PASS, _FEWEST_EPOCHS = 5, 3


def goes_back(epoch: np.ndarray) -> bool:
    """Whether an epoch goes back as it does when a run is resumed or started again.

    Parameters
    ----------
    epoch : ndarray, shape (n,)
        In logged order; NaN where a row has none.

    Returns
    -------
    bool
        False for epochs that start over with every rollout.
    """
    held = epoch[np.isfinite(epoch)]
    drops = int((np.diff(held) < 0).sum())
    if not drops:
        return False
    passes = drops + 1
    return len(held) >= _SHORTEST_PASS * passes and len(np.unique(held)) >= _FEWEST_EPOCHS


def number_by_epoch(number: np.ndarray, epoch: np.ndarray) -> np.ndarray:
    """Numbers that go on through restarts, set back where the epoch goes back.

    Parameters
    ----------
    number : ndarray, shape (n,)
        Never falling.
    epoch : ndarray, shape (n,)
        NaN where a row has none.

    Returns
    -------
    ndarray, shape (n,)
        A row that goes back gets the number of the first row at or after its epoch.
    """
    out = number.astype(float).copy()
    epochs: list[float] = []  # of the pass so far, and the number of each
    numbers: list[float] = []
    shift = 0.0
    for i, (n, e) in enumerate(zip(number.tolist(), epoch.tolist(), strict=True)):
        if e == e and epochs and e < epochs[-1]:
            at = bisect_left(epochs, e)
            shift = numbers[at] - n
            del epochs[at:], numbers[at:]
        out[i] = n + shift
        if e == e and n == n:
            epochs.append(e)
            numbers.append(out[i])
    return out


def count_epochs(step: np.ndarray, epoch: np.ndarray) -> np.ndarray | None:
    """One count of steps that start over with each epoch.

    Parameters
    ----------
    step, epoch : ndarray, shape (n,)
        In logged order; NaN where a row has none.

    Returns
    -------
    ndarray, shape (n,), or None
        None where the step does not start over whenever the epoch goes up.
    """
    there = np.flatnonzero(np.isfinite(step))
    at = pd.Series(epoch).ffill().bfill().to_numpy()[there]
    if len(there) < 2 or not np.isfinite(at).all():
        return None
    held = step[there]
    falls = np.diff(held) < 0
    if not falls.any():
        return None
    for whole in (np.floor(at), np.ceil(at) - 1):
        ups = np.diff(whole) > 0
        both = int((ups & falls).sum())
        resumed = int(falls.sum()) - both
        if both >= _ENOUGH * max(int(ups.sum()), 1) and resumed <= max(1, both // 2):
            out = np.full(len(step), np.nan)
            out[there] = held + _offsets(held, whole)
            return out
    return None


def _offsets(step: np.ndarray, epoch: np.ndarray) -> np.ndarray:
    """What to add in each epoch so that its first step follows the last one of the epoch before."""
    gaps = np.diff(np.unique(step))
    stride = float(np.median(gaps)) if len(gaps) else 1.0
    names, at = np.unique(epoch, return_inverse=True)
    low, high = np.full(len(names), np.inf), np.full(len(names), -np.inf)
    np.minimum.at(low, at, step)
    np.maximum.at(high, at, step)
    offset = np.concatenate([[0.0], np.cumsum(high[:-1] + stride - low[1:])])
    return offset[at]
