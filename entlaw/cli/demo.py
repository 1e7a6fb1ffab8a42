"""``entlaw demo``: the law of the sample run, and what to try next; needs no log, no network, no checkout."""

from __future__ import annotations

from entlaw.cli.options import FitFlags, ReadFlags
from entlaw.cli.output import console

_NEXT = (
    ("doctor LOG", "what is in a log, and what was chosen from it"),
    ("fit LOG --plot fit.png", "the law, the ceiling, a figure"),
    ("predict LOG --step 500", "the score at step 500"),
    ("watch LOG", "the same while a run is written"),
    ("report LOG -o report.html", "one page to pass around"),
)


def demo() -> int:
    """Fit the law to a sample run that ships with entlaw, and name the commands for a log of your own."""
    from entlaw.cli.fit import examine_sources
    from entlaw.cli.fit_view import show
    from entlaw.runs.example import folder

    sample = str(folder())
    out = console()
    out.print("A sample run: GRPO on sums, a model of 135 thousand parameters, trained by `entlaw train`.\n")
    show(examine_sources([sample], ReadFlags(), FitFlags().settings()))
    out.print("\nThe sample's log is in")
    out.print(f"  {sample}", soft_wrap=True)
    out.print("Next commands (LOG is your log: a file, a folder or a W&B run):")
    width = max(len(command) for command, _ in _NEXT)
    for command, what in _NEXT:
        out.print(f"  entlaw {command:<{width}}  # {what}", soft_wrap=True)
    return 0
