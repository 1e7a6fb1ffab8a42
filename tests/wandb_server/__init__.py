"""A loopback W&B server that the real client reads from and writes to, its Go core included, with faults to order.

    with WandbServer() as server:
        run = server.add_run("team/project", "abc123", rows=[{"loss": 1.0}], state="running", step_metric="global_step")
        server.fault("status", "HistoryPage", status=500, times=2, after=1)
        server.when("HistoryPage", lambda: run.log({"loss": 0.5}), after=1)  # it grows between two pages
        ...  # any use of wandb under server.environment()
        run.export(up_to=10)
        run.finish()
        assert server.count("HistoryPage") == 4

One idea a module: :mod:`runs` (a run and what befalls it), :mod:`history` (pages, samples, Parquet), :mod:`search`
(filters), :mod:`reading`, :mod:`writing` and :mod:`artifacts` (what each operation means), :mod:`faults`,
:mod:`wire` (HTTP), :mod:`server`. Operations are those of wandb 0.31.0; one that it does not know is answered by an
error and kept in ``server.unanswered``.
"""

from tests.wandb_server.faults import KINDS, Fault
from tests.wandb_server.runs import ServedRun, wait_for
from tests.wandb_server.server import Request, WandbServer
from tests.wandb_server.trouble import NotThere, Unanswered

__all__ = ["KINDS", "Fault", "NotThere", "Request", "ServedRun", "Unanswered", "WandbServer", "wait_for"]
