"""A key that was renamed while the run went on: the trainer was updated, and one series has two names."""

from __future__ import annotations

import re
from collections.abc import Hashable
from itertools import pairwise

import numpy as np
import pandas as pd

from entlaw.findings import Finding
from entlaw.runs.choose import entropy_candidates
from entlaw.runs.keys import canonical
from entlaw.runs.spellings import score_rule

# A rule with a part that is open, such as a data set's name, spells many things; its keys must differ in front only.
_OPEN = re.compile(r"\?P<|[.\])][+*]|\\d")
_FRONT = re.compile(r"^(train|training|val|actor)_")
# One number under spellings of several rules: the mean of the whole reward, and that of a term of it.
_REWARD = re.compile(r"((train|training)_)?(rewards?|(mean|avg|average)_rewards?|rewards?_(mean|avg))")
_TERM = re.compile(r"(train_)?(?P<eval>eval_)?rewards_(?P<term>.+?)(_mean)?")
_FEWEST = 2  # values under each name


def join_renamed(
    metrics: pd.DataFrame, first_row: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame, list[Finding]]:
    """Fill a key with what was logged under its older name.

    Only names that the registry knows for one thing, of which one ends where the other begins, or which are equal
    where both were logged. Names of a reward that follow two rules must never have been logged together.

    Parameters
    ----------
    metrics, first_row : pandas.DataFrame
        As in :class:`entlaw.runs.assemble.Assembled`.

    Returns
    -------
    metrics, first_row : pandas.DataFrame
        The later name holds the whole series; the older one stays.
    findings : list of Finding
    """
    findings: list[Finding] = []
    tests = [(names, _goes_on) for names in _one_thing(metrics).values()]
    tests += [(names, _follows) for names in _one_reward(metrics).values()]
    for names, goes_on in tests:
        if len(names) < 2:
            continue
        series = {n: metrics[n].dropna() for n in names}
        names = sorted(
            (n for n in names if len(series[n]) >= _FEWEST), key=lambda n: tuple(series[n].index[[0, -1]])
        )
        for old, new in pairwise(names):
            if not goes_on(metrics[old].dropna(), metrics[new].dropna()):
                continue
            findings.append(_renamed(old, new, float(series[new].index[0])))
            metrics = metrics.assign(**{new: metrics[new].fillna(metrics[old])})
            filled = first_row[new].where(first_row[new] >= 0, first_row[old])
            first_row = first_row.assign(**{new: filled})
    return metrics, first_row, findings


def _one_thing(metrics: pd.DataFrame) -> dict[Hashable, list[str]]:
    """Keys that the registry knows for one thing, by what it is."""
    groups: dict[Hashable, list[str]] = {}
    for key, rule in entropy_candidates(metrics):
        own = _open_name(key, rule.pattern) if not rule.by_name_only else canonical(key)
        meant = tuple(rule.meaning.get(k) for k in ("estimator", "unit", "averaging"))
        groups.setdefault(("entropy", rule.framework, meant, own), []).append(key)
    for key in map(str, metrics.columns):
        told = score_rule(key)
        if told is None:
            continue
        own = _open_name(key, told.pattern) if not told.by_name_only else canonical(key)
        thing = ("score", told.framework, told.kind, told.is_accuracy, own or told.pattern.pattern)
        groups.setdefault(thing, []).append(key)
    return groups


def _one_reward(metrics: pd.DataFrame) -> dict[Hashable, list[str]]:
    """Keys of the mean reward, or of one term of it, whichever rules they follow."""
    groups: dict[Hashable, list[str]] = {}
    for key in map(str, metrics.columns):
        told, name = score_rule(key), canonical(key)
        if told is None:
            continue
        if _REWARD.fullmatch(name):
            groups.setdefault((told.kind, "whole"), []).append(key)
        elif term := _TERM.fullmatch(name):
            groups.setdefault((told.kind, "term", term["eval"], term["term"]), []).append(key)
    return groups


def _open_name(key: str, pattern: re.Pattern[str]) -> str:
    """What tells a key from others of its rule; empty where all of them are one thing."""
    return _FRONT.sub("", canonical(key)) if _OPEN.search(pattern.pattern) else ""


def _goes_on(old: pd.Series, new: pd.Series) -> bool:
    """Whether one series ends where the other begins, or both hold the same where they overlap."""
    if new.index[-1] <= old.index[-1]:
        return False
    both = old.index.intersection(new.index)
    if len(both):
        return bool(np.array_equal(old[both], new[both])) and len(both) < min(len(old), len(new))
    return bool(old.index[-1] < new.index[0])


def _follows(old: pd.Series, new: pd.Series) -> bool:
    """Whether one series ends right where the other begins: no further apart than its own values are."""
    gap = new.index[0] - old.index[-1]
    widest = max(float(np.diff(s.index).max(initial=0.0)) for s in (old, new))
    return bool(0 < gap <= widest)


def _renamed(old: str, new: str, step: float) -> Finding:
    return Finding(
        "key-renamed",
        "info",
        f"{old!r} goes on as {new!r} from step {step:g}; both were read as one series",
        "a trainer that was updated while the run went on may log a number under another name",
        f"name {old!r} itself to see only what was logged under it",
    )
