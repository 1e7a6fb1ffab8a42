"""Right digits of our least squares on NIST's StRD linear problems, beside numpy's and statsmodels' on the same data.

The problems and their certified values are those of tests/law/test_certified.py; told is the worst coefficient.

Run: python benchmarks/certified.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import statsmodels.api as sm

sys.path.insert(0, str(Path(__file__).parents[1]))

from entlaw.law.meta import meta_regression
from tests.law.test_certified import _case, digits

PROBLEMS = ("Longley", "Pontius", "Wampler1", "Wampler2", "Wampler3", "Wampler4", "Wampler5")


def main() -> None:
    """Print the table."""
    print(
        f"{'problem':<10}{'entlaw':>8}{'numpy':>8}{'statsmodels':>13}   right digits of the worst coefficient"
    )
    for name in PROBLEMS:
        x, y, beta, _, sd = _case(name)
        ours = meta_regression(y, np.full(len(y), sd**2), x).beta
        peers = np.linalg.lstsq(x, y, rcond=None)[0], sm.OLS(y, x).fit().params
        print(
            f"{name:<10}{digits(ours, beta):>8.1f}{digits(peers[0], beta):>8.1f}{digits(peers[1], beta):>13.1f}"
        )


if __name__ == "__main__":
    main()
