"""The live view of ``entlaw watch``: one run with its curves and its verdict, several as a table with a line each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from entlaw.watch.canvas import Series, draw
from entlaw.watch.course import Watched
from entlaw.watch.report import Alert, Report

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

# Blue, orange, and reverse video: told apart without seeing red and green, and each has its word beside.
STYLES = {
    "keep-going": "bold bright_blue", "saturating": "bold yellow", "cannot-tell": "bold",
    "does-not-apply": "bold reverse",
}  # fmt: skip
WORDS = {
    "keep-going": "KEEP GOING", "saturating": "SATURATING", "cannot-tell": "CANNOT TELL YET",
    "does-not-apply": "LAW DOES NOT APPLY",
}  # fmt: skip
_SEEN, _FIT, _AHEAD, _CEILING = "cyan", "white", "bright_blue", "yellow"
_SIDE_BY_SIDE, _THREE = 76, 116
_LEAST_NAME = 8
_Range = tuple[float, float]


def one(
    watched: Watched,
    width: int,
    height: int,
    *,
    idle: float = 0.0,
    alerts: Sequence[Alert] = (),
    braille: bool = True,
) -> Text:
    """One run.

    Parameters
    ----------
    watched : Watched
    width, height : int
        Of the terminal, characters.
    idle : float
        Seconds since something new was seen.
    alerts : sequence of Alert
        To show, latest last.
    braille : bool
        False: plain ASCII.

    Returns
    -------
    Text
        At most ``height`` lines of at most ``width`` characters.
    """
    from rich.text import Text

    report = watched.watcher.report
    lines = [_header(watched, report, idle, width)]
    if report is None:
        lines.append(Text("no pair of entropy and performance yet", style="dim"))
        return _fitted(lines, width, height, braille)
    lines.append(_verdict(report))
    words = _numbers(watched, report) + [_alert(a) for a in alerts[-2:]]
    room = height - len(lines) - len(words)
    if room >= 6 and width >= 24:
        lines += _plots(watched, width, min(room, 14), braille)
    return _fitted(lines + words, width, height, braille)


def _fitted(lines: list[Text], width: int, height: int, braille: bool) -> Text:
    from rich.text import Text

    for line in lines:
        line.truncate(width, overflow="ellipsis" if braille else "crop")
        if not braille:
            line.plain = _ascii(line.plain)
    return Text("\n").join(lines[:height])


def _ascii(text: str) -> str:
    """As long as it was, for a terminal that knows nothing else."""
    return text.replace("²", "2").replace("…", "~").encode("ascii", "replace").decode()


def _header(watched: Watched, report: Report | None, idle: float, width: int) -> Text:
    from rich.text import Text

    total = watched.watcher.total_steps
    step = f"step {report.step:g}" if report is not None else "no step yet"
    if total is not None:
        # The last validation is complete with the entropy logged at the step after it.
        step = (
            f"step {min(report.step, total):g} of {total:g}" if report is not None else f"{step} of {total:g}"
        )
    state = f"  {watched.state}" if watched.state else ""
    right = f"{step}{state}  {_age(idle)}"
    name = watched.name
    room = max(width - len(right) - 2, 8)
    name = name if len(name) <= room else name[: room - 1] + "…"
    return Text.assemble((name.ljust(room + 2), "bold"), (right, ""))


def _age(seconds: float) -> str:
    if seconds < 1:
        return "now"
    if seconds < 120:
        return f"{seconds:.0f} s ago"
    return f"{seconds / 60:.0f} min ago" if seconds < 7200 else f"{seconds / 3600:.1f} h ago"


def _verdict(report: Report) -> Text:
    from rich.text import Text

    return Text.assemble(
        (f" {WORDS[report.verdict]} ", STYLES[report.verdict]),
        (f" since step {report.since:g}: ", ""),
        (report.why, ""),
    )


def _numbers(watched: Watched, report: Report) -> list[Text]:
    from rich.text import Text

    def line(label: str, text: str, style: str = "") -> Text:
        return Text.assemble((f"{label:<9}", "bold"), (text, style))

    lines = [line("now", f"H {report.entropy:.3f}   R {report.performance:.3f}   ({report.points} points)")]
    fit = report.fit
    if fit is not None:
        lines.append(line("law", f"R = {fit.b:.3f} - {fit.a:.3f} exp(H)   R² {fit.r_squared:.2f}"))
        c = report.ceiling
        if c is not None:
            lines.append(
                line("ceiling", f"{fit.ceiling:.3f}  [{c.lo:.3f}, {c.hi:.3f}]  {c.level:.0%}", _CEILING)
            )
    if report.final is not None:
        f = report.final
        lines.append(
            line(
                "final",
                f"{f.performance:.3f}  [{f.interval.lo:.3f}, {f.interval.hi:.3f}]  at step {f.target:g}",
                _AHEAD,
            )
        )
    if watched.watcher.target is not None:
        lines.append(line("target", f"{watched.watcher.target:.3f}"))
    if report.stop is not None:
        s = report.stop
        p = "cannot tell" if s.probability is None else f"P = {s.probability:.3f}"
        held = "FIRED" if s.fired else f"held {s.in_a_row} of {watched.watcher.patience} in a row"
        lines.append(line("rule", f"{s.rule}: {p}, {held}", "bold reverse" if s.fired else ""))
    return lines


def _alert(alert: Alert) -> Text:
    from rich.text import Text

    return Text.assemble(("alert    ", "bold yellow"), (f"step {alert.step:g}: {alert.what}", "yellow"))


def _plots(watched: Watched, width: int, height: int, braille: bool) -> list[Text]:
    """Entropy and performance against the step, and one against the other: as many as there is room for."""
    reports = watched.watcher.reports
    report = reports[-1]
    step = np.array([r.step for r in reports])
    h, r = np.array([x.entropy for x in reports]), np.array([x.performance for x in reports])
    end = watched.watcher.total_steps or step[-1]
    x_range = (float(step[0]), float(max(end, step[-1], step[0] + 1)))
    entropy = [Series(step, h, _SEEN, "*", joined=True)]
    score: list[Series] = []
    fit, final = report.fit, report.final
    if final is not None:
        ahead = np.array([step[-1], final.target])
        entropy.append(Series(ahead, np.array([h[-1], final.entropy]), _AHEAD, ".", joined=True))
        score.append(Series(ahead, np.array([r[-3:].mean(), final.performance]), _AHEAD, ".", joined=True))
    if fit is not None:
        level = np.array([fit.ceiling, fit.ceiling])
        score.append(Series(np.array(x_range), level, _CEILING, "-", joined=True))
        score.append(Series(fit.points.step, fit.value_at(fit.points.entropy), _FIT, "+", joined=True))
    score.append(Series(step, r, _SEEN, "*"))
    seen = np.concatenate([r, fit.value_at(fit.points.entropy)]) if fit is not None else r
    extra = [
        v for v in ([fit.ceiling] if fit else []) + ([final.performance] if final else []) if _near(v, seen)
    ]
    low, high = float(min(seen.min(), *extra, seen.max())), float(max(seen.max(), *extra, seen.min()))
    room = 0.05 * ((high - low) or 0.1)
    y_range = (low - room, high + room)
    shown = 3 if width >= _THREE and fit is not None else 2 if width >= _SIDE_BY_SIDE else 1
    wide = (width - 2 * (shown - 1)) // shown

    def plot(legend: list[tuple[str, str]], series: list[Series], x: _Range, y: _Range | None) -> list[Text]:
        drawn = draw(series, wide, height, x_range=x, y_range=y, braille=braille).rows
        return [_legend(legend, wide), *(_row(row) for row in drawn[1:])]

    marks = ("", "", "", "") if braille else (" *", " +", " -", " .")
    law = [("fit" + marks[1], _FIT), ("ceiling" + marks[2], _CEILING)] if fit is not None else []
    forecast = [("forecast" + marks[3], _AHEAD)] if final is not None else []
    panels = [plot([("score" + marks[0], _SEEN), *law, *forecast], score, x_range, y_range)]
    if shown > 1:
        panels.insert(0, plot([("entropy, nats/token" + marks[0], _SEEN), *forecast], entropy, x_range, None))
    if shown > 2 and fit is not None:
        x = np.exp(fit.points.entropy)
        # From H = 0, where the line is at the ceiling.
        across = np.array([1.0, max(np.ceil(100 * x.max()) / 100, 1.01)])
        line = Series(across, fit.b - fit.a * across, _FIT, "+", joined=True)
        dots = Series(x, fit.points.score, _SEEN, "*")
        legend = [("score against exp(H)" + marks[0], _SEEN), ("law" + marks[1], _FIT)]
        panels.append(plot(legend, [line, dots], (1.0, float(across[1])), y_range))
    return [_joined(rows) for rows in zip(*panels, strict=True)]


def _legend(parts: Sequence[tuple[str, str]], width: int) -> Text:
    """What is drawn, each in its colour."""
    from rich.text import Text

    text = Text("  ").join(Text(word, style=f"bold {style}") for word, style in parts)
    text.truncate(width, pad=True)
    return text


def _joined(rows: Sequence[Text]) -> Text:
    from rich.text import Text

    return Text("  ").join(rows)


def _near(value: float, seen: np.ndarray) -> bool:
    """Whether a value can be shown without flattening what was measured."""
    span = float(np.ptp(seen)) or 0.1
    return bool(np.isfinite(value) and seen.min() - 1.5 * span <= value <= seen.max() + 1.5 * span)


def _row(cells: tuple[tuple[str, str], ...]) -> Text:
    from rich.text import Text

    return Text.assemble(*cells)


def several(runs: Sequence[Watched], width: int, *, braille: bool = True) -> Table:
    """Several runs, a line each; columns go where there is no room, the verdict last."""
    from rich.table import Table
    from rich.text import Text

    rows = [_cells(w) for w in runs]
    if not braille:
        rows = [{key: _ascii(cell) for key, cell in row.items()} for row in rows]
    columns = ["run", "step", "R", "H", "ceiling", "final", "rule", "verdict"]
    wide = {c: max(len(c), *(len(row[c]) for row in rows)) for c in columns}
    for dispensable in (
        "rule",
        "final",
        "H",
        "R",
        "ceiling",
        "step",
    ):  # a number is left out, never cut short
        if sum(wide[c] + 2 for c in columns if c != "run") + _LEAST_NAME <= width:
            break
        columns.remove(dispensable)
    room = max(width - sum(wide[c] + 2 for c in columns if c != "run"), _LEAST_NAME)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(
            column, justify="left" if column in ("run", "verdict") else "right", no_wrap=True,
            overflow="ellipsis" if braille else "crop",
            min_width=None if column == "run" else wide[column], max_width=room if column == "run" else None,
        )  # fmt: skip
    for w, cells in zip(runs, rows, strict=True):
        report = w.watcher.report
        style = STYLES[report.verdict] if report is not None else "dim"
        table.add_row(*(Text(cells[c], style=style if c == "verdict" else "") for c in columns))
    return table


def _cells(w: Watched) -> dict[str, str]:
    report = w.watcher.report
    if report is None:
        return {"run": w.name, "step": "-", "R": "-", "H": "-", "ceiling": "-", "final": "-", "rule": "-",
                "verdict": "no point yet"}  # fmt: skip
    total = f"/{w.watcher.total_steps:g}" if w.watcher.total_steps is not None else ""
    c, f, s = report.ceiling, report.final, report.stop
    return {
        "run": w.name, "step": f"{report.step:g}{total}",
        "R": f"{report.performance:.3f}", "H": f"{report.entropy:.3f}",
        "ceiling": f"{report.fit.ceiling:.3f} [{c.lo:.3f}, {c.hi:.3f}]" if report.fit and c else "-",
        "final": f"{f.performance:.3f} [{f.interval.lo:.3f}, {f.interval.hi:.3f}]" if f else "-",
        "rule": "-" if s is None else "FIRED" if s.fired else "?" if s.probability is None else f"{s.probability:.3f}",
        "verdict": WORDS[report.verdict],
    }  # fmt: skip


def plain_line(report: Report) -> str:
    """A report in one line, for a log file."""
    parts = [f"{report.name} step {report.step:g}", f"H {report.entropy:.3f}", f"R {report.performance:.3f}"]
    if report.fit is not None and report.ceiling is not None:
        parts.append(f"ceiling {report.fit.ceiling:.3f} [{report.ceiling.lo:.3f}, {report.ceiling.hi:.3f}]")
    if report.final is not None:
        i = report.final.interval
        parts.append(f"final {report.final.performance:.3f} [{i.lo:.3f}, {i.hi:.3f}]")
    if report.stop is not None and report.stop.probability is not None:
        parts.append(f"P {report.stop.probability:.3f}" + (" FIRED" if report.stop.fired else ""))
    return "  ".join([*parts, f"{WORDS[report.verdict].lower()} since {report.since:g}: {report.why}"])
