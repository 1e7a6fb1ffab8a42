"""``entlaw compare A B``: better, or noise?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from entlaw.cli.fit import examine_sources, print_gathered
from entlaw.cli.options import FitFlags, JsonFlag, ReadFlags
from entlaw.cli.output import console, print_findings, print_json
from entlaw.errors import UsageError

if TYPE_CHECKING:
    from entlaw.law.compare import Comparison, Difference, Track
    from entlaw.law.examined import Examined
    from entlaw.law.settings import Settings


def compare(
    a: Annotated[str, Parameter(help="The runs of one side: a file, a folder, or a quoted glob.")],
    b: Annotated[str, Parameter(help="The runs of the other side.")],
    /,
    *,
    paired: Annotated[
        bool, Parameter(help="Pair runs of equal seed, where every run has its partner.")
    ] = True,
    read: ReadFlags = ReadFlags(),  # noqa: B008 - frozen
    how: FitFlags = FitFlags(),  # noqa: B008
    json: JsonFlag = False,
) -> int:
    """Compare the final score, the ceiling, and the entropy's cost of two runs or two groups of seeds.

    Final is the mean over the last quarter of the steps; ceilings are as of `entlaw fit` (--all for all points),
    refused ones with --force only. One run against one: the noise of these two; groups of seeds: the run is the unit.
    """
    from entlaw.law.compare import compare as compare_tracks

    settings = how.settings()
    sides = [tracks(examine_sources([one], read, settings, ahead=False), one, paired) for one in (a, b)]
    found = compare_tracks(sides[0], sides[1], how.level)
    if json:
        print_json(_as_dict(found, sides, how.level))
    else:
        _show(found, sides, settings)
    return 0


def tracks(examined: list[Examined], source: str, paired: bool) -> list[Track]:
    """The usable runs of one side.

    Raises
    ------
    EntlawError
        The first run's error when none is usable.
    """
    from entlaw.law.compare import track_of

    found = []
    if len(examined) == 1:  # of several it was said where they were read
        print_gathered([e.reading for e in examined])
    for e in examined:
        result, why = e.result, "" if e.failure is None else e.failure.what
        if result is None:
            console(stderr=True).print(f"left out: {e.label}: {why}", style="dim")
            continue
        if result.law is None:
            console(stderr=True).print(f"no ceiling of {e.label}: {why} (--force)", style="dim")
        found.append(track_of(result, paired=paired))
    if not found:
        error = next((e.error for e in examined if e.error is not None), None)
        raise error or UsageError("no run", where=source)
    return found


def _as_dict(found: Comparison, sides: list[list[Track]], level: float) -> dict[str, Any]:
    return {
        "schema": "entlaw.compare/1",
        "level": level,
        "a": [t.name for t in sides[0]],
        "b": [t.name for t in sides[1]],
        "differences": [
            {**d.__dict__, "interval": d.interval.__dict__ if d.interval else None, "verdict": d.verdict}
            for d in found.differences
        ],
        "findings": [f.as_dict() for f in found.findings],
    }


def _show(found: Comparison, sides: list[list[Track]], settings: Settings) -> None:
    from rich.table import Table

    from entlaw.law.summary import describe_window

    out = console()
    for label, side in zip("AB", sides, strict=True):
        names = ", ".join(t.name for t in side[:4]) + (f" and {len(side) - 4} more" if len(side) > 4 else "")
        out.print(f"{label}: {names}")
    table = Table(box=None, pad_edge=False, header_style="bold")
    columns = ("", "A", "B", "B - A", f"{settings.level:.0%} interval", "p", "B is", "counted")
    for column in columns:
        table.add_column(column, justify="left" if column in ("", "B is", "counted") else "right")
    for d in found.differences:
        table.add_row(*_row(d))
    out.print(table)
    out.print(f"ceiling, at equal entropy: the law from {describe_window(settings.law_until)}", style="dim")
    print_findings(found.findings)


def _row(d: Difference) -> list[str]:
    interval = f"[{d.interval.lo:+.4f}, {d.interval.hi:+.4f}]" if d.interval else "-"
    return [
        d.quantity,
        f"{d.a:.4f}",
        f"{d.b:.4f}",
        f"{d.difference:+.4f}",
        interval,
        f"{d.p_value:.3f}" if d.p_value == d.p_value else "-",
        d.verdict,
        f"{d.n} {d.unit.removesuffix('s') if d.n == 1 else d.unit}",
    ]
