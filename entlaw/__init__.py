"""entlaw: where will this RL run end, and can I know it now?

>>> import entlaw
>>> run = entlaw.example()
>>> result = entlaw.fit(run)
>>> print(f"{result.ceiling:.3f} ({result.verdict})")
0.422 (passed)
>>> print(f"{entlaw.forecast(run, step=300).median:.2f}")
0.50

The names below load on first use, so that ``import entlaw`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from entlaw._version import __version__

if TYPE_CHECKING:
    from entlaw.api import backtest as backtest
    from entlaw.api import compare as compare
    from entlaw.api import fit as fit
    from entlaw.api import fit_all as fit_all
    from entlaw.api import forecast as forecast
    from entlaw.api import plan as plan
    from entlaw.api import read as read
    from entlaw.api import report as report
    from entlaw.api import scan as scan
    from entlaw.api import sizes as sizes
    from entlaw.api import watch as watch
    from entlaw.errors import EntlawError as EntlawError
    from entlaw.errors import FitRefused as FitRefused
    from entlaw.law.forecast import Forecast as Forecast
    from entlaw.law.result import Result as Result
    from entlaw.law.shapes import Fit as Fit
    from entlaw.law.shapes import Interval as Interval
    from entlaw.points import Points as Points
    from entlaw.runs.example import example as example
    from entlaw.runs.prepare import Selection as Selection
    from entlaw.runs.run import EntropyMeaning as EntropyMeaning
    from entlaw.runs.run import Run as Run
    from entlaw.watch.report import WatchReport as WatchReport
    from entlaw.watch.watcher import Watcher as Watcher

_WHERE = {
    **dict.fromkeys(
        ("read", "scan", "fit", "fit_all", "forecast", "compare", "sizes", "plan", "backtest"), "entlaw.api"
    ),
    "example": "entlaw.runs.example",
    "Run": "entlaw.runs.run",
    "EntropyMeaning": "entlaw.runs.run",
    "Selection": "entlaw.runs.prepare",
    "Points": "entlaw.points",
    "Result": "entlaw.law.result",
    "Fit": "entlaw.law.shapes",
    "Interval": "entlaw.law.shapes",
    "Forecast": "entlaw.law.forecast",
    "Watcher": "entlaw.watch.watcher",
    "WatchReport": "entlaw.watch.report",
    "EntlawError": "entlaw.errors",
    "FitRefused": "entlaw.errors",
}
# Verbs that are packages too, and can be called (entlaw.verb).
_PACKAGES = ("watch", "report")

__all__ = ["__version__", *_WHERE, *_PACKAGES]


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return importlib.import_module(f"entlaw.{name}")
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'entlaw' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
