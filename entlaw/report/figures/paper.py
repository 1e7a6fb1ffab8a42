"""The numbers that the paper reports or that were read off its figures, as they ship in ``data/paper``.

In percent as there, unless a function says otherwise. Sources and how sure each number is are columns of the file.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from entlaw.files import shipped

if TYPE_CHECKING:
    import pandas as pd


def folder() -> Path:
    """Where the paper's numbers are.

    Raises
    ------
    DataError
        They are not where they ship.
    """
    return shipped("paper", in_checkout="data/paper")


@cache
def _read(name: str) -> pd.DataFrame:
    import pandas as pd

    return pd.read_csv(folder() / name, comment="#")


def qwen_curves() -> pd.DataFrame:
    """The five Qwen2.5 law fits (math) read off Figure 1: model, params_billion, a, b, ceiling, entropy_first/last.

    a, b, ceiling in percent; reading errors about 0.2 points in R, 1-3 % in a and b.
    """
    return _read("qwen2.5_math_fit_curves.csv").copy()


def table2() -> pd.DataFrame:
    """Table 2: backbone, method, the seven benchmarks and the printed average, in percent."""
    return _read("main_table.csv").copy()


def numbers(source: str, **equal: str) -> pd.DataFrame:
    """Rows of the reported numbers whose ``source`` begins with a text (``Fig 8``) and whose columns equal others.

    Columns: source, item, model, setting, metric, value, unit, evidence, note.
    """
    rows = _read("reported_numbers.csv")
    rows = rows[rows["source"].str.match(re.escape(source) + r"(?!\d)")]
    for column, value in equal.items():
        rows = rows[rows[column] == value]
    return rows.reset_index(drop=True)
