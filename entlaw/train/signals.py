"""Stopping politely: the first Ctrl-C or SIGTERM lets the step finish, a second one does not wait."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from entlaw.findings import Finding

STOPPING = Finding(
    "stopping",
    "warning",
    "stopping after this step",
    "so that nothing that was done is lost",
    "press it again to stop at once; the last checkpoint is kept",
)


class StopRequest:
    """Whether a stop was requested, and how.

    Attributes
    ----------
    signal_number : int or None
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None

    def __bool__(self) -> bool:
        return self.signal_number is not None


@contextmanager
def stop_on_signals(
    on_request: Callable[[], None] = lambda: None, *, patient: bool = False
) -> Iterator[StopRequest]:
    """Catch SIGINT and SIGTERM for the time of a run; outside the main thread nothing is caught.

    Parameters
    ----------
    on_request : callable
        Called when the first one comes, to tell that it was heard.
    patient : bool
        Further ones change nothing: a launcher passes on what its processes were sent already, so that a single
        Ctrl-C comes twice; it ends by force itself those who take too long.
    """
    request = StopRequest()

    def ask(number: int, frame: FrameType | None) -> None:
        if request and not patient:
            raise KeyboardInterrupt
        request.signal_number = number
        on_request()

    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {s: signal.signal(s, ask) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
