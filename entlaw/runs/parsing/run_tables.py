"""Tables with one row a run: a project's overview holds each run's last values, and no law can be fitted to that."""

from __future__ import annotations

import re

import numpy as np

from entlaw.errors import UnreadableSource
from entlaw.runs.axes import names_step
from entlaw.runs.keys import canonical
from entlaw.runs.parsing.columns import LOOK_AT, ColumnTable

# What trackers say of a run as a whole: W&B, MLflow, Neptune, ClearML, Comet, Optuna, Ray Tune.
_FACTS = frozenset(
    """
    state status created created_at creation_time createdat runtime running_time duration user owner hostname host
    sweep tags notes description start_time end_time started finished ended datetime_start datetime_complete commit
    git_commit source_type source_name job_type group project summary config lifecycle_stage experiment_id archived
    artifact_uri modification_time last_update num_iterations trial_name
    """.split()  # noqa: SIM905 - fifty quoted words are harder to read
)
_SURE = 4  # facts that no history has
_SURE_WITHOUT_STEPS = 3
_LIKELY = 2
_CALLS = "_step"  # W&B's count of log calls is as good as a step here
# A run's name is short. A time differs from row to row of a history too.
_LONGEST_NAME = 80
_TIME = re.compile(r"\d:\d\d|\d{4}-\d\d?-\d|\d{1,4}/\d{1,2}/\d{1,4}")
_NEAR = 0.9  # last steps of runs that were to have one length, the shortest by the longest


def check_history(table: ColumnTable) -> None:
    """Refuse a table that holds one row for each run.

    Raises
    ------
    UnreadableSource
    """
    names = [canonical(name).removeprefix("sys_") for name in table.names]
    facts = [name for name, short in zip(table.names, names, strict=True) if short in _FACTS]
    apart = table.run_at is not None and table.long is None and table.n_rows == table.n_runs
    sure = len(facts) >= (_SURE if any(map(names_step, table.names)) else _SURE_WITHOUT_STEPS)
    ends = _last_steps(table)
    if ends and not sure:
        raise _refused(table, ends)
    if sure or (apart and (table.n_rows > 1 or len(facts) >= _LIKELY)):
        seen = f"it has the columns {', '.join(facts[:5])}" if facts else "no run has a second row"
        raise _refused(table, seen)


def _refused(table: ColumnTable, seen: str) -> UnreadableSource:
    return UnreadableSource(
        "this is a table of runs, one row a run",
        where=str(table.path),
        why=f"{seen}; the law needs the history of a run: a row a step",
        hint="export the history instead: a chart's CSV, `entlaw pull ENTITY/PROJECT`, or the log of each run",
    )


def _last_steps(table: ColumnTable) -> str:
    """What shows that each row is another run's last; empty where nothing does.

    Each row has a name of its own, and the steps go nowhere: they are equal, or near each other and in no order. A
    history may have such names too, of checkpoints say, but its steps increase.
    """
    if table.long is not None:
        return ""
    named = next(
        (table.names[i] for i, texts in table.texts.items() if _are_names(texts, table.n_rows)), None
    )
    counts = (i for i, name in enumerate(table.names) if names_step(name) or name == _CALLS)
    steps = [table.values(i) for i in counts]
    if named is None or not steps or table.n_rows < 2:
        return ""
    for step in steps:
        if np.isnan(step).any() or (np.ptp(step) > 0 and not _are_near(step, canonical(named) == "id")):
            return ""
    low, high = min(map(np.min, steps)), max(map(np.max, steps))
    at = f"at step {low:g}" if low == high else f"between steps {low:g} and {high:g}"
    return f"all {table.n_rows} rows are {at}, each with its own {named!r}"


def _are_names(texts: list[str], n_rows: int) -> bool:
    """Whether the first rows' words are a name for each row."""
    whole = len(texts) == min(n_rows, LOOK_AT) and len(set(texts)) == len(texts)
    return whole and not any(len(text) > _LONGEST_NAME or _TIME.search(text) for text in texts)


def _are_near(step: np.ndarray, has_id: bool) -> bool:
    near = 0 < step.max() * _NEAR <= step.min()
    return bool(near and (has_id or not (np.diff(step) > 0).all()))
