"""Tables with one row a run: a project's overview holds each run's last values, and no law can be fitted to that."""

from __future__ import annotations

from entlaw.errors import UnreadableSource
from entlaw.runs.axes import names_step
from entlaw.runs.keys import canonical
from entlaw.runs.parsing.columns import ColumnTable

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
    if sure or (apart and (table.n_rows > 1 or len(facts) >= _LIKELY)):
        seen = f"it has the columns {', '.join(facts[:5])}" if facts else "no run has a second row"
        raise UnreadableSource(
            "this is a table of runs, one row a run",
            where=str(table.path),
            why=f"{seen}; the law needs the history of a run: a row a step",
            hint="export the history instead: a chart's CSV, `entlaw pull ENTITY/PROJECT`, or the log of each run",
        )
