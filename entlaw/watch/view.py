"""The live view of ``entlaw watch``: one run with its curves and its verdict, several as a table with a line each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from entlaw.law.ahead import ForecastVerdict
from entlaw.law.summary import (
    describe_ceiling,
    describe_forecast,
    describe_gain,
    describe_window,
    format_interval,
    format_law,
    format_number,
)
from entlaw.watch.canvas import PlotSeries, draw
from entlaw.watch.course import Watched
from entlaw.watch.report import Alert, WatchReport

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

# Blue, orange, and reverse video: told apart without seeing red and green, and each has its word beside.
STYLES: dict[ForecastVerdict, str] = {
    "improving": "bold bright_blue",
    "plateau": "bold yellow",
    "uncertain": "bold",
    "refused": "bold reverse",
}
_SEEN, _FIT, _AHEAD, _CEILING = "cyan", "white", "bright_blue", "yellow"
_SIDE_BY_SIDE, _THREE = 76, 116
_LEAST_NAME = 8
_Range = tuple[float, float]


def draw_run(
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


def _header(watched: Watched, report: WatchReport | None, idle: float, width: int) -> Text:
    from rich.text import Text

    total = watched.watcher.total_steps
    step = "no step yet" if report is None else f"step {report.step:g}"
    if total is not None:
        # The last validation is complete with the entropy logged at the step after it.
        step = (f"step {min(report.step, total):g}" if report is not None else step) + f" of {total:g}"
    state = f"  {watched.status}" if watched.status else ""
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


def _verdict(report: WatchReport) -> Text:
    from rich.text import Text

    ahead, since = report.result.forecast, describe_since(report)
    chip = (f" {ahead.verdict.upper()} ", STYLES[ahead.verdict])
    return Text.assemble(chip, f" {since}: " if since else " ", describe_gain(ahead))


def describe_since(report: WatchReport) -> str:
    """Since when the forecast's verdict has been the same; empty for a run that is over and is asked of anew."""
    if report.since is not None:
        return f"since step {report.since:g}"
    return "" if report.result.state == "finished" else "new, not yet confirmed"


def _numbers(watched: Watched, report: WatchReport) -> list[Text]:
    from rich.text import Text

    def line(label: str, text: str, style: str = "") -> Text:
        return Text.assemble((f"{label:<10}", "bold"), (text, style))

    result = report.result
    points, law, ahead = result.points, result.law, result.forecast
    key = (
        f" ({result.run.entropy.key})"
        if result.run is not None and result.run.entropy_log is not None
        else ""
    )
    lines = [line("now", f"H {points.entropy[-1]:.3f}{key}   R {points.score[-1]:.3f}   ({points.n} points)")]
    if law is not None:
        window = describe_window(law.until_step)
        lines.append(line("law", f"{format_law(law)}   R² {format_number(law.r_squared, 2)}   {window}"))
    lines.append(line("ceiling", describe_ceiling(result), _CEILING))
    lines += [line("forecast", describe_forecast(one), _AHEAD) for one in ahead.at]
    target = watched.watcher.target
    if target is not None:
        there = ahead.ceiling
        beside = "" if there is None else f"{format_number(there.median)} {format_interval(there.interval)}"
        lines.append(
            line("target", format_number(target) + (f"; forecast at zero entropy {beside}" if beside else ""))
        )
    if report.stop is not None:
        s = report.stop
        p = "not known" if s.probability is None else f"P = {s.probability:.3f}"
        held = "FIRED" if s.fired else f"held {s.in_a_row} of {watched.watcher.patience} in a row"
        why = "" if s.fired or not s.why else f" ({s.why})"
        lines.append(line("rule", f"{s.rule}: {p}, {held}{why}", "bold reverse" if s.fired else ""))
    return lines


def _alert(alert: Alert) -> Text:
    from rich.text import Text

    return Text.assemble(("alert     ", "bold yellow"), (f"step {alert.step:g}: {alert.what}", "yellow"))


def _plots(watched: Watched, width: int, height: int, braille: bool) -> list[Text]:
    """Entropy and performance against the step, and one against the other: as many as there is room for."""
    report = watched.watcher.report
    assert report is not None
    result = report.result
    points, law = result.points, result.law
    step, h, r = points.step, points.entropy, points.score
    at = result.forecast.at
    forecast = None if not at or at[0].step is None else (at[0].step, at[0].median, at[0].entropy)
    end = max(watched.watcher.total_steps or 0.0, forecast[0] if forecast else 0.0, step[-1], step[0] + 1.0)
    x_range = (float(step[0]), float(end))
    entropy = [PlotSeries(step, h, _SEEN, "*", joined=True)]
    score: list[PlotSeries] = []
    seen, extra = r, []
    if forecast is not None:
        ahead = np.array([step[-1], forecast[0]])
        extra.append(forecast[1])
        entropy.append(PlotSeries(ahead, np.array([h[-1], forecast[2]]), _AHEAD, ".", joined=True))
        score.append(PlotSeries(ahead, np.array([r[-3:].mean(), forecast[1]]), _AHEAD, ".", joined=True))
    if law is not None:
        fitted = law.value_at(law.points.entropy)
        extra.append(law.ceiling)
        seen = np.concatenate([r, fitted])
        level = np.array([law.ceiling, law.ceiling])
        score.append(PlotSeries(np.array(x_range), level, _CEILING, "-", joined=True))
        score.append(PlotSeries(law.points.step, fitted, _FIT, "+", joined=True))
    score.append(PlotSeries(step, r, _SEEN, "*"))
    inside = np.array([*seen, *(value for value in extra if _near(value, seen))])
    low, high = float(inside.min()), float(inside.max())
    room = 0.05 * ((high - low) or 0.1)
    y_range = (low - room, high + room)
    shown = 3 if width >= _THREE and law is not None else 2 if width >= _SIDE_BY_SIDE else 1
    wide = (width - 2 * (shown - 1)) // shown

    def plot(
        legend: list[tuple[str, str]], series: list[PlotSeries], x: _Range, y: _Range | None
    ) -> list[Text]:
        drawn = draw(series, wide, height, x_range=x, y_range=y, braille=braille).rows
        return [_legend(legend, wide), *(_row(row) for row in drawn[1:])]

    marks = ("", "", "", "") if braille else (" *", " +", " -", " .")
    line = [("law" + marks[1], _FIT), ("ceiling" + marks[2], _CEILING)] if law is not None else []
    dotted = [("forecast" + marks[3], _AHEAD)] if forecast is not None else []
    panels = [plot([("score" + marks[0], _SEEN), *line, *dotted], score, x_range, y_range)]
    if shown > 1:
        panels.insert(0, plot([("entropy, nats/token" + marks[0], _SEEN), *dotted], entropy, x_range, None))
    if shown > 2 and law is not None:
        x = np.exp(h)
        # From H = 0, where the line is at the ceiling.
        across = np.array([1.0, max(np.ceil(100 * x.max()) / 100, 1.01)])
        drawn = PlotSeries(across, law.b - law.a * across, _FIT, "+", joined=True)
        legend = [("score against exp(H)" + marks[0], _SEEN), ("law" + marks[1], _FIT)]
        panels.append(plot(legend, [drawn, PlotSeries(x, r, _SEEN, "*")], (1.0, float(across[1])), y_range))
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


def draw_table(runs: Sequence[Watched], width: int, *, braille: bool = True) -> Table:
    """Several runs, a line each; columns go where there is no room, the forecast's verdict last."""
    from rich.table import Table
    from rich.text import Text

    rows = [_cells(w) for w in runs]
    if not braille:
        rows = [{key: _ascii(cell) for key, cell in row.items()} for row in rows]
    columns = ["run", "step", "R", "H", "law's ceiling", "forecast", "rule", "verdict"]
    wide = {c: max(len(c), *(len(row[c]) for row in rows)) for c in columns}
    # A number is left out, never cut short. Older versions of rich pad the last column too, by one.
    width -= 1
    for dispensable in ("rule", "law's ceiling", "H", "R", "forecast", "step"):
        if sum(wide[c] + 2 for c in columns if c != "run") + _LEAST_NAME <= width:
            break
        columns.remove(dispensable)
    room = max(width - sum(wide[c] + 2 for c in columns if c != "run"), _LEAST_NAME)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(
            column,
            justify="left" if column in ("run", "verdict") else "right",
            no_wrap=True,
            overflow="ellipsis" if braille else "crop",
            min_width=None if column == "run" else wide[column],
            max_width=room if column == "run" else None,
        )
    for w, cells in zip(runs, rows, strict=True):
        report = w.watcher.report
        style = STYLES[report.result.forecast.verdict] if report is not None else "dim"
        table.add_row(*(Text(cells[c], style=style if c == "verdict" else "") for c in columns))
    return table


def _cells(w: Watched) -> dict[str, str]:
    report = w.watcher.report
    if report is None:
        empty = ("step", "R", "H", "law's ceiling", "forecast", "rule")
        return {"run": w.name, **dict.fromkeys(empty, "-"), "verdict": "no point yet"}
    total = f"/{w.watcher.total_steps:g}" if w.watcher.total_steps is not None else ""
    points, s = report.result.points, report.stop
    return {
        "run": w.name,
        "step": f"{report.step:g}{total}",
        "R": f"{points.score[-1]:.3f}",
        "H": f"{points.entropy[-1]:.3f}",
        "law's ceiling": _ceiling(report),
        "forecast": _forecast(report) or "-",
        "rule": "-"
        if s is None
        else "FIRED"
        if s.fired
        else "?"
        if s.probability is None
        else f"{s.probability:.3f}",
        "verdict": report.result.forecast.verdict.upper(),
    }


def _ceiling(report: WatchReport) -> str:
    """The law's ceiling and its verdict, without which it is not to be read."""
    law, verdict = report.result.law, report.result.verdict
    if law is None:
        return verdict
    interval = f"{law.ceiling_interval.level:.0%} {format_interval(law.ceiling_interval)}"
    return f"{format_number(law.ceiling)}, {interval} {verdict}"


def _forecast(report: WatchReport) -> str:
    """The first predicted score, its interval and where it is."""
    ahead = report.result.forecast.at
    if not ahead:
        return ""
    one = ahead[0]
    interval = f"{one.level:.0%} {format_interval(one.interval)}"
    return f"{format_number(one.median)}, {interval} at step {one.step:g}"


def format_line(report: WatchReport) -> str:
    """A report in one line, for a log file."""
    result = report.result
    points = result.points
    parts = [
        f"{result.name} step {report.step:g}",
        f"H {points.entropy[-1]:.3f}",
        f"R {points.score[-1]:.3f}",
        f"law's ceiling {_ceiling(report)}",
    ]
    if ahead := _forecast(report):
        parts.append(f"forecast {ahead}")
    if report.stop is not None and report.stop.probability is not None:
        parts.append(f"P {report.stop.probability:.3f}" + (" FIRED" if report.stop.fired else ""))
    since = describe_since(report)
    verdict = f"{result.forecast.verdict}, {since}" if since else result.forecast.verdict
    return "  ".join([*parts, f"{verdict}: {describe_gain(result.forecast)}"])
