"""Which logs are worth comparing: those that share values, found without comparing all pairs."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from entlaw.runs.trace import Trace

_MOST_CODES = 4_000_000
_NEIGHBOURS = 3
_MOST_TRIED = 4


def likely_pairs(traces: Sequence[Trace]) -> list[list[int]]:
    """For each trace the others that share values with it, the likeliest first.

    A value of a key at a step is a code; traces with a code in common are neighbours in the sorted codes. Few
    neighbours of each code count, so that the cost is linear in the number of traces.
    """
    n = len(traces)
    votes: dict[tuple[int, int], float] = {}
    total = sum(t.table.size for t in traces)
    keep = 1 + total // _MOST_CODES
    for by_order in (False, True):
        if by_order and len({t.axis for t in traces}) == 1 and traces[0].axis is not None:
            continue
        for digits, weight in ((6, 100.0), (3, 1.0)):
            coded = [_codes(t, digits, by_order, keep) for t in traces]
            codes = np.concatenate([c for c in coded if len(c)] or [np.zeros(0, dtype=np.uint64)])
            runs = np.repeat(np.arange(n), [len(c) for c in coded])
            order = np.lexsort((runs, codes))
            codes, runs = codes[order], runs[order]
            for off in range(1, _NEIGHBOURS + 1):
                hit = (codes[off:] == codes[:-off]) & (runs[off:] != runs[:-off])
                pairs, counts = np.unique(runs[:-off][hit] * n + runs[off:][hit], return_counts=True)
                for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True):
                    at = (pair // n, pair % n)
                    votes[at] = votes.get(at, 0.0) + weight * count
    likely: list[list[tuple[float, int]]] = [[] for _ in traces]
    for (i, j), score in votes.items():
        likely[i].append((-score, j))
        likely[j].append((-score, i))
    by_digest: dict[bytes, int] = {}
    for i, trace in enumerate(traces):
        if trace.digest is not None and (twin := by_digest.setdefault(trace.digest, i)) != i:
            likely[i].append((-np.inf, twin))
            likely[twin].append((-np.inf, i))
    return [[j for _, j in sorted(found)[:_MOST_TRIED]] for found in likely]


def _codes(trace: Trace, digits: int, by_order: bool, keep: int) -> np.ndarray:
    """A number for each value of a key at a step (or at its turn): equal values have equal numbers."""
    if not trace.names or (trace.axis is None and not by_order):
        return np.zeros(0, dtype=np.uint64)
    out = []
    for i, name in enumerate(trace.names):
        v = trace.table[:, i]
        at = np.flatnonzero(np.isfinite(v) & (v != 0))
        place = np.arange(len(at), dtype=np.uint64) if by_order else trace.step[at].view(np.uint64)
        mixed = place * np.uint64(0x9E3779B97F4A7C15) ^ np.uint64(zlib.crc32(name.encode()))
        mixed ^= mixed >> np.uint64(29)
        if keep > 1:
            chosen = mixed % np.uint64(keep) == 0
            at, mixed = at[chosen], mixed[chosen]
        size = np.floor(np.log10(np.abs(v[at])))
        mantissa = np.round(v[at] * 10.0 ** (digits - 1 - size)).astype(np.int64).view(np.uint64)
        code = mixed * np.uint64(0xBF58476D1CE4E5B9) ^ (mantissa * np.uint64(0x94D049BB133111EB))
        out.append(code)
    return np.concatenate(out)
