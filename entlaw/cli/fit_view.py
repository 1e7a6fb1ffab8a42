"""How results are shown: one run in full, several as a table with a row each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from entlaw.cli.output import console, print_findings
from entlaw.runs.ending import OVER, reported_status

if TYPE_CHECKING:
    from entlaw.findings import Finding
    from entlaw.law.examined import Examined
    from entlaw.law.result import Result

COLOURS = {"ok": "green", "caution": "yellow", "passed": "yellow", "refused": "red", "unreadable": "red"}
# Columns in the order in which a narrow terminal loses them: a number is left out, never cut short.
_DISPENSABLE = (
    *("because", "no change", "RMSE", "state", "last"),
    *("forecast interval", "forecast", "at step", "future", "law"),
)
_TEXT = ("run", "state", "law", "future", "because")
_FOLDED = 24  # characters to which names and reasons may shrink before a column goes


def show(examined: Sequence[Examined]) -> None:
    """One run: in full; several: a table with a row each."""
    if len(examined) == 1:
        show_one(examined[0])
    elif examined:
        _show_table(examined)


def show_one(e: Examined) -> None:
    """The answer, what it rests on, the findings."""
    if e.result is None:
        _show_unreadable(e)
    else:
        from entlaw.law.summary import headline, list_findings, list_rows

        r = e.result
        show_result(e.label, r, headline(r), list_rows(r), list_findings(r), describe_force(r))


def show_result(
    label: str,
    result: Result,
    answer: str,
    rows: Sequence[tuple[str, str]],
    findings: Sequence[Finding],
    force: str = "",
) -> None:
    """A result's answer, rows with labels in bold, findings, and what --force would do."""
    from rich.text import Text

    out = console()
    out.print(Text.assemble((label, "bold underline"), f": {answer}"))
    for name, text in rows:
        style = COLOURS[result.verdict] if name == "verdict" else ""
        out.print(Text.assemble((f"  {name:<10}", "bold"), (text, style)))
    print_findings(findings)
    if force:
        out.print(Text.assemble(("  next      ", "bold"), force))


def describe_force(result: Result) -> str:
    """What --force would show of a refused law; empty where there is nothing."""
    shown = result.refusal is not None and result.refusal.fit is not None
    return "--force shows the law all the same" if shown else ""


def _show_unreadable(e: Examined) -> None:
    from rich.text import Text

    out = console()
    assert e.error is not None
    answer = (f": {e.verdict}: {e.error.what}", COLOURS[e.verdict])
    out.print(Text.assemble((e.label, "bold underline"), answer))
    print_findings(e.findings)
    for name, text in (("why", e.error.why), ("next", e.error.hint)):
        if text:
            out.print(Text.assemble((f"  {name:<10}", "bold"), text))


def _show_table(examined: Sequence[Examined]) -> None:
    from rich.table import Table

    from entlaw.law.settings import Settings
    from entlaw.law.summary import describe_window

    settings = next((e.result.settings for e in examined if e.result is not None), Settings())
    level = settings.level
    examined = sorted(
        examined, key=lambda e: e.result is None
    )  # of a project's 200 runs the usable ones first
    rows = [_row(e) for e in examined]
    out = console()
    columns = _columns_that_fit(rows, out.width)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        foldable = column in ("run", "because")
        table.add_column(
            f"{level:.0%} interval" if "interval" in column else column,
            justify="left" if column in _TEXT else "right",
            no_wrap=not foldable,
            overflow="fold",
            min_width=None if foldable else max(len(column), *(len(r[column]) for r in rows)),
        )
    for e, row in zip(examined, rows, strict=True):
        table.add_row(*(row[c] for c in columns), style="dim" if e.failure is not None else None)
    out.print(table)
    windows = f"ceiling: {describe_window(settings.law_until)}"
    if "forecast" in columns:
        windows += f"; forecast: model {settings.model}, {describe_window(settings.forecast_until)}"
    out.print(windows, style="dim")
    if counts := _count_unreadable(examined):
        out.print(counts, markup=False)
    if "law" not in columns:  # a number without its verdict looks surer than it is
        for verdict in ("caution", "passed", "refused", "unreadable"):
            which = [e.label for e in examined if e.verdict == verdict]
            if which:
                out.print(f"{verdict}: {', '.join(which)}", markup=False)
    left_out = [f"{level:.0%} interval" if "interval" in c else c for c in rows[0] if c not in columns]
    if left_out:
        text = f"left out for want of width: {', '.join(left_out)} (wider terminal, or --json)"
        console(stderr=True).print(text, style="dim")


def _count_unreadable(examined: Sequence[Examined]) -> str:
    """How many runs cannot be read and why, the commonest reason first; empty for fewer than two."""
    reasons = Counter(e.error.what for e in examined if e.result is None and e.error is not None)
    if reasons.total() < 2:
        return ""
    shown = "; ".join(f"{n} {what}" for what, n in reasons.most_common(5))
    rest = f"; {len(reasons) - 5} other reasons" if len(reasons) > 5 else ""
    return f"{reasons.total()} of {len(examined)} runs cannot be read: {shown}{rest}"


def _columns_that_fit(rows: list[dict[str, str]], width: int) -> list[str]:
    """All columns, less those that a terminal of this width has no room for."""
    columns = list(rows[0])

    def needed() -> int:
        total = 2 * (len(columns) - 1)
        for c in columns:
            longest = max(len(c), *(len(r[c]) for r in rows))
            total += min(longest, _FOLDED) if c in ("run", "because") else longest
        return total

    for column in _DISPENSABLE:
        if needed() <= width:
            break
        columns.remove(column)
    return columns


def _describe_state(e: Examined) -> str:
    """The result's state; of a run that ended before its time the word of the source, such as ``crashed``."""
    raw = e.reading.raw
    status = reported_status(raw) if raw is not None else ""
    if e.result is None:
        return status or "-"
    return status if e.result.state == "finished" and status in OVER else e.result.state


def _row(e: Examined) -> dict[str, str]:
    """The cells of one run, by column."""
    from entlaw.law.summary import format_interval, format_number

    r = e.result
    codes = [f.code for f in e.findings if f.severity != "info"] if r is not None else []
    law, held, last = (None, None, None) if r is None else (r.law, r.held_out, r.last)
    first = None if r is None else next(iter(r.forecast.at), None)
    return {
        "run": e.label,
        "state": _describe_state(e),
        "last": format_number(last[1]) if last else "-",
        "ceiling": format_number(law.ceiling) if law else "-",
        "interval": format_interval(law.ceiling_interval) if law else "-",
        "forecast": format_number(first.median) if first else "-",
        "forecast interval": format_interval(first.interval) if first else "-",
        "at step": f"{first.step:g}" if first and first.step is not None else "-",
        "RMSE": format_number(held.rmse) if held else "-",
        "no change": format_number(held.rmse_baseline) if held else "-",
        "law": e.verdict,
        "future": r.forecast.verdict if r else "-",
        "because": ", ".join(codes[:3]) or (e.failure.what if e.failure is not None else ""),
    }
