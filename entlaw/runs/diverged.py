"""A run that blew up: from some step on its entropy, its score or its gradient is no number any more."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType

import numpy as np
import pandas as pd

from entlaw.findings import Finding
from entlaw.runs.axes import is_axis
from entlaw.runs.keys import ENTROPY_RULES, canonical

# A key goes along with another when it is there at so large a share of the other's steps.
_ALONG = 0.9
# Beyond this many of its usual intervals a series has ended; fewer missing values may be chance.
_INTERVALS = 2
_COUNTER = re.compile(r"(.*_)?(step|epoch|iteration|episode)")
# Settings are logged by evaluations too: neither says that training goes on.
_ASIDE = re.compile(r"(.*_)?(lr|learning_rate|coef|coeff|.*time.*)|(val|eval|test|validation)_.*")
_HEALTH = re.compile(r"(.*_)?(grad_norm|loss)")


def lost_from(metrics: pd.DataFrame, key: str) -> tuple[float, int] | None:
    """The step from which a series holds no number while the records go on, and how many steps that is.

    Parameters
    ----------
    metrics : pandas.DataFrame
        One row a step (:class:`entlaw.runs.assemble.Assembled`).
    key : str

    Returns
    -------
    step, n : float, int
        None where the series goes on to the end, or ends with the other keys of its records.
    """
    names = [str(c) for c in metrics.columns]
    finite = np.isfinite(metrics.to_numpy(float))
    there = finite[:, names.index(key)]
    if not there.any():
        return None
    kinds = np.array([_kind(canonical(name)) for name in names])
    share = finite[there].mean(axis=0)
    along = (kinds == "metric") & (share >= _ALONG)
    along[names.index(key)] = False
    empty = ~finite[:, kinds != "counter"].any(axis=1)
    record = there | finite[:, along].any(axis=1) | empty
    places = np.flatnonzero(there[record])
    usual = int(np.median(np.diff(places))) if len(places) > 1 else 1
    after = int(record.sum()) - 1 - int(places[-1])
    if after < _INTERVALS * usual:
        return None
    steps = metrics.index.to_numpy(float)[record]
    return float(steps[places[-1] + 1]), after


@lru_cache(maxsize=65536)
def _kind(name: str) -> str:
    if is_axis(name) or _COUNTER.fullmatch(name):
        return "counter"
    return "aside" if _ASIDE.fullmatch(name) else "metric"


def find_divergence(
    metrics: pd.DataFrame,
    entropy_key: str,
    score_keys: Iterable[str],
    nan: Mapping[str, int] = MappingProxyType({}),
) -> Finding | None:
    """Says from which step on the run is no run any more; ``value`` is that step.

    Parameters
    ----------
    metrics : pandas.DataFrame
    entropy_key : str
    score_keys : iterable of str
    nan : mapping
        How often NaN was logged under a key, where the reader tells (``attrs["nan"]`` of its frame): a loss or a norm
        of gradients that is merely missing says nothing.
    """
    health = [key for key in nan if _HEALTH.fullmatch(canonical(key))]
    lost = _first_lost(metrics, [entropy_key, *score_keys]) or _first_lost(metrics, health)
    if lost is None:
        return None
    key, step, n = lost
    infinite = np.isinf(metrics.loc[metrics.index >= step, key].to_numpy(float)).any()
    what = "is NaN" if nan.get(key) else "is infinite" if infinite else ""
    if key == entropy_key and _goes_on_elsewhere(metrics, key, step):
        return None
    return Finding(
        "diverged",
        "warning",
        f"{key!r} {what or 'holds no number'} from step {step:g} on, for {n} steps, while records go on: the run "
        f"diverged at step {step:g}" + ("" if what else ", or stopped logging it"),
        "after a blow-up (NaN or infinite numbers) the policy is broken; scores from there on say nothing of the law",
        f"look at the gradients before step {step:g}; --until-step {_before(metrics, step):g} leaves the rest out",
        step,
    )


def _first_lost(metrics: pd.DataFrame, keys: list[str]) -> tuple[str, float, int] | None:
    found = [(key, *lost) for key in keys if key in metrics.columns and (lost := lost_from(metrics, key))]
    return min(found, key=lambda f: f[1]) if found else None


def _goes_on_elsewhere(metrics: pd.DataFrame, key: str, step: float) -> bool:
    """Whether another key of an entropy begins where this one ends: it was renamed."""
    rules = [r for r in ENTROPY_RULES if not r.by_name_only]
    later = metrics.index >= step
    for column in metrics.columns:
        name = canonical(str(column))
        if str(column) != key and any(r.pattern.fullmatch(name) for r in rules):
            there = np.isfinite(metrics[column].to_numpy(float))
            if there[later].any() and not there[~later].any():
                return True
    return False


def _before(metrics: pd.DataFrame, step: float) -> float:
    earlier = metrics.index[metrics.index < step]
    return float(earlier[-1]) if len(earlier) else step
