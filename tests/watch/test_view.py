"""The live view: everything in its place, in any size, with and without braille."""

import dataclasses
import io
from types import SimpleNamespace

import numpy as np
import pytest

import entlaw
from entlaw.law.summary import FORECAST_VERDICTS, describe_ceiling, describe_forecast, describe_gain
from entlaw.runs.ending import without_status
from entlaw.watch import view
from entlaw.watch.canvas import PlotSeries, draw
from entlaw.watch.course import Watched
from entlaw.watch.report import VERDICT_CODES
from entlaw.watch.watcher import Watcher
from tests.conftest import REPO


@pytest.fixture(scope="module")
def watched():
    (run,) = entlaw.read(REPO / "runs" / "kl-cov-m-rl1", entlaw.Selection(on="val"))
    part = dataclasses.replace(
        without_status(run), points=run.points[run.points.step <= 60], metrics=run.metrics.loc[:61]
    )
    watcher = Watcher(240, name="kl-cov-m-rl1", stop_when="P(gain > 1%) < 0.05", target=0.6)
    watcher.look(part)
    return Watched("k", "kl-cov-m-rl1", watcher, status="running")


@pytest.mark.parametrize("width", [20, 40, 80, 120, 200])
@pytest.mark.parametrize("height", [5, 12, 24, 50])
@pytest.mark.parametrize("braille", [True, False])
def test_it_fits_any_terminal(watched, width, height, braille):
    text = view.draw_run(watched, width, height, idle=3.0, braille=braille)
    lines = text.plain.split("\n")
    assert len(lines) <= height
    assert all(len(line) <= width for line in lines)
    if not braille:
        assert text.plain.isascii()


def test_it_shows_what_the_report_says(watched):
    report = watched.watcher.report
    text = view.draw_run(
        watched, 200, 30, idle=3.0, alerts=[a for r in watched.watcher.reports for a in r.alerts]
    ).plain
    result = report.result
    (forecast,) = result.forecast.at
    for part in (
        "step 60 of 240",
        "running",
        "3 s ago",
        result.forecast.verdict.upper(),
        f"since step {report.since:g}",
        describe_gain(result.forecast),
        describe_ceiling(result),
        describe_forecast(forecast),
        "P(gain > 1%) < 0.05",
        "0.600",
        f"H {result.points.entropy[-1]:.3f}",
    ):
        assert part in text, part


def test_a_verdict_that_is_not_confirmed_is_shown_as_new(watched):
    last = watched.watcher.report
    new = dataclasses.replace(last, since=None)
    assert view.describe_since(last) == f"since step {last.since:g}"
    assert view.describe_since(new) == "new, not yet confirmed"
    assert f"{last.result.forecast.verdict}, new, not yet confirmed: " in view.format_line(new)
    # Of a run that is over it is asked what training on would bring: nothing before was asked that.
    over = dataclasses.replace(last, since=None, result=dataclasses.replace(last.result))
    over.result.__dict__["state"] = "finished"
    assert view.describe_since(over) == ""


def test_a_refused_law_has_no_number(watched):
    """Three points: the ceiling is refused, and said to be."""
    report = watched.watcher.reports[2]
    assert report.result.law is None
    fake = dataclasses.replace(
        watched, watcher=SimpleNamespace(report=report, total_steps=240, target=None, patience=3)
    )
    text = view.draw_run(fake, 200, 30).plain
    assert "The law gives no ceiling from steps up to 36: 3 evaluations" in text and "R =" not in text
    assert view._cells(fake)["law's ceiling"] == "refused"
    assert "law's ceiling refused" in view.format_line(report)


def test_what_is_drawn_is_named_in_its_colour_and_without_colours_by_its_mark(watched):
    wide = view.draw_run(watched, 120, 30)
    for word, style in (("forecast", view._AHEAD), ("ceiling", view._CEILING), ("score against", view._SEEN)):
        at = wide.plain.index(word)
        assert any(s.start <= at < s.end and style in str(s.style) for s in wide.spans), word
    plain = view.draw_run(watched, 80, 24, braille=False).plain
    assert "ceiling -" in plain and "forecast ." in plain and "against" not in plain


def test_every_verdict_has_a_style():
    assert set(view.STYLES) == set(VERDICT_CODES) == set(FORECAST_VERDICTS)
    assert len(set(view.STYLES.values())) == 4


def test_several_runs_keep_the_verdict_when_room_is_short(watched):
    from rich.console import Console

    for width in (50, 70, 100, 160):
        console = Console(width=width, record=True, file=io.StringIO())
        console.print(view.draw_table([watched, watched], width))
        text = console.export_text()
        assert "…" not in text.replace("kl-", "").split("\n")[0]
        assert text.count(watched.watcher.report.result.forecast.verdict.upper()) == 2, width


def test_several_runs_in_plain_characters(watched):
    from rich.console import Console

    strange = dataclasses.replace(watched, name="läuft-mit-einem-recht-langen-namen")
    console = Console(width=60, record=True, file=io.StringIO())
    console.print(view.draw_table([strange], 60, braille=False))
    assert console.export_text().isascii()


def test_a_line_for_a_log_file_has_no_control_characters(watched):
    line = view.format_line(watched.watcher.report)
    assert line.isprintable() and "kl-cov-m-rl1 step 60" in line


def test_points_are_where_they_belong():
    """One dot in each corner, and nothing that lies outside."""
    s = PlotSeries(np.array([0.0, 1.0, 0.0, 1.0, 5.0]), np.array([0.0, 0.0, 1.0, 1.0, 5.0]), mark="x")
    plot = draw([s], 30, 10, x_range=(0, 1), y_range=(0, 1), braille=False).plain().split("\n")
    body = [line.split("|")[1] for line in plot[1:-1]]
    assert [(r, c) for r, line in enumerate(body) for c, ch in enumerate(line) if ch == "x"] == [
        (0, 0),
        (0, len(body[0]) - 1),
        (len(body) - 1, 0),
        (len(body) - 1, len(body[0]) - 1),
    ]


def test_a_line_has_no_holes():
    s = PlotSeries(np.array([0.0, 1.0]), np.array([0.0, 1.0]), mark="x", joined=True)
    plot = draw([s], 40, 12, x_range=(0, 1), y_range=(0, 1), braille=False).plain().split("\n")
    body = [line.split("|")[1] for line in plot[1:-1]]
    assert all("x" in line for line in body)
    assert all(any(line[c] == "x" for line in body) for c in range(len(body[0])))


def test_braille_has_two_by_four_dots_a_cell():
    x, y = np.meshgrid(np.linspace(0, 1, 200), np.linspace(0, 1, 200))
    full = draw([PlotSeries(x.ravel(), y.ravel())], 20, 8, x_range=(0, 1), y_range=(0, 1)).plain().split("\n")
    assert all(set(line.split("│")[1]) == {"⣿"} for line in full[1:-1])


@pytest.mark.parametrize("y", [[], [np.nan, np.inf], [0.5, 0.5]])
def test_nothing_or_a_constant_can_be_drawn(y):
    assert draw([PlotSeries(np.arange(len(y), dtype=float), np.array(y))], 20, 6).plain()


def test_a_run_without_a_point_has_a_view():
    empty = Watched("k", "new", Watcher(10))
    assert "no pair" in view.draw_run(empty, 60, 10).plain
