"""What came of one run given to a command that fits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from entlaw.errors import EntlawError

if TYPE_CHECKING:
    from entlaw.findings import Finding
    from entlaw.law.shapes import Fit, Holdout
    from entlaw.runs.reader import Reading


@dataclass(frozen=True)
class Outcome:
    """What came of one run: a fit (perhaps refused) or an error."""

    reading: Reading
    fit: Fit | None
    holdout: Holdout | None
    error: EntlawError | None

    @property
    def verdict(self) -> str:
        """One word for the table."""
        if self.error is not None:
            return "refused" if self.error.exit_code == 4 else "unusable"
        assert self.fit is not None
        severities = {f.severity for f in self.fit.findings}
        return (
            "forced" if "error" in severities else "with care" if "warning" in severities else "no objection"
        )

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Of the refusal, or else of the fit, worst first."""
        refused: tuple[Finding, ...] = getattr(self.error, "findings", ())
        return refused or (self.fit.findings if self.fit is not None else ())
