"""entlaw: where will this RL run end, and can I know it now?

>>> import entlaw
>>> runs = entlaw.read("runs/")            # doctest: +SKIP
>>> fit = entlaw.fit(runs[0])              # doctest: +SKIP
>>> fit.ceiling, fit.ceiling_interval      # doctest: +SKIP

The names below load on first use, so that ``import entlaw`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from entlaw._version import __version__

if TYPE_CHECKING:
    from entlaw.law.fit import fit as fit
    from entlaw.law.forecast import Outlook as Outlook
    from entlaw.law.forecast import forecast_at_step as forecast_at_step
    from entlaw.law.forecast import predict_at_entropy as predict_at_entropy
    from entlaw.law.shapes import Fit as Fit
    from entlaw.law.shapes import Forecast as Forecast
    from entlaw.law.shapes import Interval as Interval
    from entlaw.points import Points as Points
    from entlaw.runs.example import example as example
    from entlaw.runs.prepare import Selection as Selection
    from entlaw.runs.reader import read as read
    from entlaw.runs.reader import scan as scan
    from entlaw.runs.run import EntropyMeaning as EntropyMeaning
    from entlaw.runs.run import Run as Run
    from entlaw.watch.report import WatchReport as WatchReport
    from entlaw.watch.watcher import Watcher as Watcher

_WHERE = {
    "read": "entlaw.runs.reader",
    "example": "entlaw.runs.example",
    "scan": "entlaw.runs.reader",
    "Selection": "entlaw.runs.prepare",
    "Run": "entlaw.runs.run",
    "EntropyMeaning": "entlaw.runs.run",
    "Points": "entlaw.points",
    "fit": "entlaw.law.fit",
    "Fit": "entlaw.law.shapes",
    "Forecast": "entlaw.law.shapes",
    "Interval": "entlaw.law.shapes",
    "predict_at_entropy": "entlaw.law.forecast",
    "forecast_at_step": "entlaw.law.forecast",
    "Outlook": "entlaw.law.forecast",
    "Watcher": "entlaw.watch.watcher",
    "WatchReport": "entlaw.watch.report",
}

__all__ = ["__version__", *_WHERE]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        module, _, inside = _WHERE[name].partition(":")
        return getattr(importlib.import_module(module), inside or name)
    raise AttributeError(f"module 'entlaw' has no attribute {name!r}")
