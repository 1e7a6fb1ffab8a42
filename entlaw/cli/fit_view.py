"""How fits are shown: one run in full, several as a table with a row each."""

from __future__ import annotations

from pathlib import Path

from entlaw.cli.doctor import names
from entlaw.cli.outcome import Outcome
from entlaw.cli.output import console, law_text, print_findings

# Columns in the order in which a narrow terminal loses them: a number is left out, never cut short.
_DISPENSABLE = ("because", "R^2", "a", "b", "H", "n", "last value", "RMSE later", "verdict")
_TEXT = ("run", "verdict", "because")
_FOLDED = 24  # characters to which names and reasons may shrink before a column goes


def show(outcomes: list[Outcome]) -> None:
    """One run: in full; several: a table with a row each."""
    if len(outcomes) == 1:
        _show_one(outcomes[0])
    elif outcomes:
        _show_table(outcomes)


def _show_one(o: Outcome) -> None:
    from rich.text import Text

    out = console()

    def line(label: str, text: str, style: str = "") -> None:
        out.print(Text.assemble((f"  {label:<11}", "bold"), (text, style)))

    out.print(Text(o.reading.name, style="bold underline"))
    run = o.reading.run
    if run is not None:
        line("read", f"{run.provenance.format} ({run.provenance.framework}); entropy {run.entropy.key}, performance "
             f"{run.performance_key} ({run.performance_kind}), paired {run.align}")  # fmt: skip
    if o.fit is not None and o.error is None:
        f, c = o.fit, o.fit.ceiling_interval
        line("law", law_text(f))
        interval = f"{c.level:.0%} interval {_interval(c.lo, c.hi)}"
        line("ceiling", f"{f.ceiling:.3f}  {interval}   (R at H = 0, b - a)", "bold")
        if o.holdout is not None:
            h = o.holdout
            ends = f"{h.final_error:+.4f} against {h.final_error_last_value:+.4f}"
            line("afterwards", f"{h.n} later points: RMSE of the law {h.rmse:.4f}, of 'the last value stays' "
                 f"{h.rmse_last_value:.4f}; at the end {ends}")  # fmt: skip
    colour = {"no objection": "green", "with care": "yellow"}.get(o.verdict, "red")
    line("verdict", o.verdict + (f": {o.error.what}" if o.error else ""), colour)
    print_findings(o.findings)
    if o.error is not None and not o.findings:
        for label, text in (("why", o.error.why), ("next", o.error.hint)):
            if text:
                line(label, text)
    elif o.error is not None and o.fit is not None:
        line("next", "--force reports the fit all the same")


def _show_table(outcomes: list[Outcome]) -> None:
    from rich.table import Table

    level = next((o.fit.ceiling_interval.level for o in outcomes if o.fit is not None), 0.95)
    short = names([o.reading.path for o in outcomes])
    rows = [_row(o, name, level) for o, name in zip(outcomes, short, strict=True)]
    out = console()
    columns = _columns_that_fit(rows, out.width)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        foldable = column in ("run", "because")
        table.add_column(
            column, justify="left" if column in _TEXT else "right", no_wrap=not foldable, overflow="fold",
            min_width=None if foldable else max(len(column), *(len(r[column]) for r in rows)),
        )  # fmt: skip
    for o, row in zip(outcomes, rows, strict=True):
        table.add_row(*(row[c] for c in columns), style="dim" if o.error is not None else None)
    out.print(table)
    if "verdict" not in columns:  # a number without its verdict looks surer than it is
        for verdict in ("with care", "forced", "refused", "unusable"):
            which = [row["run"] for row in rows if row["verdict"] == verdict]
            if which:
                out.print(f"{verdict}: {', '.join(which)}", markup=False)
    left_out = [c for c in rows[0] if c not in columns]
    if left_out:
        text = f"left out for want of width: {', '.join(left_out)} (wider terminal, or --json)"
        console(stderr=True).print(text, style="dim")


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


def _row(o: Outcome, name: str, level: float) -> dict[str, str]:
    """The cells of one run, by column."""
    codes = [f.code for f in o.findings if f.severity != "info"]
    because = ", ".join(codes[:3]) or (o.error.what if o.error else "")
    f, h = o.fit, o.holdout
    shown = f is not None and o.error is None
    interval = f"{level:.0%} interval"
    cells = {"run": _label(o, name), "n": "-", "H": "-", "a": "-", "b": "-", "R^2": "-", "ceiling": "-",
             interval: "-", "RMSE later": "-", "last value": "-", "verdict": o.verdict, "because": because}  # fmt: skip
    if shown and f is not None:
        lo, hi = f.entropy_range
        cells |= {"n": str(f.n), "H": f"{hi:.2f}..{lo:.2f}", "a": f"{f.a:.3f}", "b": f"{f.b:.3f}",
                  "R^2": f"{f.r_squared:.2f}", "ceiling": f"{f.ceiling:.3f}",
                  interval: _interval(f.ceiling_interval.lo, f.ceiling_interval.hi)}  # fmt: skip
    if shown and h is not None:
        cells |= {"RMSE later": f"{h.rmse:.3f}", "last value": f"{h.rmse_last_value:.3f}"}
    return cells


def _label(o: Outcome, name: str) -> str:
    """File name, with the run's own name where the file's says nothing or holds several runs."""
    if o.reading.raw is None or o.reading.name in Path(name).name:
        return name
    if Path(o.reading.path).name.split(".")[0] in ("metrics", "trainer_state"):
        return o.reading.path if o.reading.name in ("metrics", "trainer_state") else o.reading.name
    return f"{name} [{o.reading.name}]"


def _interval(lo: float, hi: float) -> str:
    """An interval of fractions, three decimals."""
    return f"[{lo:.3f}, {hi:.3f}]"
