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
    from entlaw.law.fit import fit
    from entlaw.law.forecast import forecast_at_step, predict_at_entropy
    from entlaw.law.results import Fit, Forecast, Interval
    from entlaw.runs.reader import Selection, read, scan
    from entlaw.runs.run import EntropyMeaning, Run

_WHERE = {
    "read": "entlaw.runs.reader",
    "scan": "entlaw.runs.reader",
    "Selection": "entlaw.runs.reader",
    "Run": "entlaw.runs.run",
    "EntropyMeaning": "entlaw.runs.run",
    "fit": "entlaw.law.fit",
    "Fit": "entlaw.law.results",
    "Forecast": "entlaw.law.results",
    "Interval": "entlaw.law.results",
    "predict_at_entropy": "entlaw.law.forecast",
    "forecast_at_step": "entlaw.law.forecast",
}

__all__ = ["__version__", *_WHERE]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'entlaw' has no attribute {name!r}")
