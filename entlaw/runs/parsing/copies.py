"""Records that are in a log more than once: printed by several processes, or logged again by a run started again."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd

from entlaw.findings import Finding
from entlaw.runs.parsing.progress import Inferred, find_starts

# What each process measures for itself.
_OWN = re.compile(r"time|second|memory|per_sec|throughput")
_MOST_SHARE = 0.9
_NEAR = 4  # records between two copies without a label; a run that is started again repeats from farther away


def find_copies(rows: pd.DataFrame, records: Sequence[int], labels: Sequence[str]) -> set[int]:
    """Records that another process printed as well, all but the first of each.

    Parameters
    ----------
    rows : DataFrame
    records : sequence of int, length n
        Row of each record in logged order, -1 for one that could not be read.
    labels : sequence of str, length n
        Label of the process that printed it, empty without one.

    Returns
    -------
    set of int
        Positions in ``records``. Empty unless nearly all records are there equally often, each time under another
        label or close to one another.
    """
    shared = rows.drop(columns=[c for c in rows.columns if _OWN.search(str(c))]).to_numpy()
    places: dict[bytes, list[int]] = {}
    for i, row in enumerate(records):
        if row >= 0:
            places.setdefault(shared[row].tobytes(), []).append(i)
    if not places:
        return set()
    times, _ = Counter(len(own) for own in places.values()).most_common(1)[0]
    copied = [own for own in places.values() if len(own) == times and _are_copies(own, labels)]
    if times < 2 or len(copied) < _MOST_SHARE * len(places):
        return set()
    return {i for own in places.values() for i in own[1:]}


def _are_copies(own: Sequence[int], labels: Sequence[str]) -> bool:
    return len({labels[i] for i in own}) == len(own) or own[-1] - own[0] <= _NEAR * len(own)


def repeated(n_copies: int, n_kept: int) -> list[Finding]:
    """What to say of copies; nothing without them."""
    if not n_copies:
        return []
    return [
        Finding(
            "records-repeated",
            "info",
            f"{n_copies} records are copies of others, as every node prints them; {n_kept} were read",
            "read twice, they would double the steps",
            "print from one process only (Hugging Face: log_on_each_node=False)",
            float(n_copies),
        )
    ]


def started_again(epoch: np.ndarray, found: Inferred) -> list[Finding]:
    """What to say where the epoch goes back; nothing where it does not."""
    starts = find_starts(epoch)
    if not starts:
        return []
    shown = ", ".join(f"{found.step[i]:g} (epoch {epoch[i]:g})" for i in starts[:5])
    return [
        Finding(
            "started-again",
            "warning" if found.how == "order" else "info",
            f"the epoch goes back {len(starts)} times: the run was resumed at step {shown}",
            "the steps after a checkpoint were trained twice; the later pass counts",
            "read trainer_state.json, which names the steps" if found.how == "order" else "",
            float(len(starts)),
        )
    ]
