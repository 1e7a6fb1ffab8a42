"""Rows of single samples among rows of whole batches: known by what they hold, whatever they are called."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from entlaw.runs.axes import find_axes

# What one sample is made of, and what tells it from its neighbours.
_PARTS = re.compile(
    r"prompts?|completions?|responses?|generations?|questions?|answers?|outputs?|inputs?|messages?|texts?|solutions?|"
    r"conversations?|trajectory|problem|ground_truth|prediction|predicted|target|token_ids|tokens|content|turns"
)
_NAMES = re.compile(
    r"index|idx|uid|id|(sample|prompt|completion|rollout|episode|trajectory|group|example|problem|question|response|"
    r"generation|data|prompt_batch|train)_?(idx|index|id|uid|uuid|number|num|no)"
)
_LONG = 60  # characters; words that a batch is described by are shorter


def is_sample(record: Mapping[str, Any]) -> bool:
    """Whether a row shows one sample: its text, its tokens, or which one it is."""
    for key, value in record.items():
        name = str(key).lower().rpartition("/")[2]
        if isinstance(value, str):
            if len(value) > _LONG or _PARTS.fullmatch(name):
                return True
        elif isinstance(value, (list, tuple)) and _PARTS.fullmatch(name):
            return True
        if _NAMES.fullmatch(name):
            return True
    return False


def without_samples(rows: pd.DataFrame, doubtful: Sequence[int]) -> pd.DataFrame:
    """Leave out rows that may be samples where several of them share a step.

    Parameters
    ----------
    rows : pandas.DataFrame
        In logged order, index 0..n-1.
    doubtful : sequence of int
        Rows that are called samples and hold only numbers.
    """
    if not len(doubtful):
        return rows
    some = rows.iloc[list(doubtful)]
    axis = next((a for a in find_axes(some) if a.unit not in ("calls", "evaluation")), None)
    if axis is not None:
        shared = pd.Series(axis.count).dropna().value_counts().to_numpy()
    else:  # nothing counts: those that follow each other
        shared = np.diff(np.flatnonzero(np.diff(doubtful, prepend=-2, append=len(rows) + 1) != 1))
    if len(shared) and np.median(shared) <= 1:
        return rows
    return rows.drop(index=list(doubtful)).reset_index(drop=True)
