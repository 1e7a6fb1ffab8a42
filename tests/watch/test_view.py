"""The live view: everything in its place, in any size, with and without braille."""

import dataclasses
import io

import numpy as np
import pytest

import entlaw
from entlaw.watch import view
from entlaw.watch.canvas import Series, draw
from entlaw.watch.course import Watched
from entlaw.watch.report import VERDICT_CODES
from entlaw.watch.watcher import Watcher
from tests.conftest import REPO


@pytest.fixture(scope="module")
def watched():
    (run,) = entlaw.read(REPO / "runs" / "kl-cov-m-rl1", entlaw.Selection(on="val"))
    part = dataclasses.replace(run, points=run.points[run.points.step <= 60], metrics=run.metrics.loc[:61])
    watcher = Watcher(240, name="kl-cov-m-rl1", stop_when="P(gain > 1%) < 0.05", target=0.6)
    watcher.look(part)
    return Watched("k", "kl-cov-m-rl1", watcher, state="running")


@pytest.mark.parametrize("width", [20, 40, 80, 120, 200])
@pytest.mark.parametrize("height", [5, 12, 24, 50])
@pytest.mark.parametrize("braille", [True, False])
def test_it_fits_any_terminal(watched, width, height, braille):
    text = view.one(watched, width, height, idle=3.0, braille=braille)
    lines = text.plain.split("\n")
    assert len(lines) <= height
    assert all(len(line) <= width for line in lines)
    if not braille:
        assert text.plain.isascii()


def test_it_shows_what_the_report_says(watched):
    text = view.one(
        watched, 120, 30, idle=3.0, alerts=[a for r in watched.watcher.reports for a in r.alerts]
    ).plain
    report = watched.watcher.report
    for part in (
        "kl-cov-m-rl1", "step 61 of 240", "running", "3 s ago", view.WORDS[report.verdict],
        f"since step {report.since:g}",
        f"{report.fit.ceiling:.3f}", f"[{report.ceiling.lo:.3f}, {report.ceiling.hi:.3f}]",
        f"{report.final.performance:.3f}", "P(gain > 1%) < 0.05", "0.600", f"H {report.entropy:.3f}",
    ):  # fmt: skip
        assert part in text, part


def test_what_is_drawn_is_named_in_its_colour_and_without_colours_by_its_mark(watched):
    wide = view.one(watched, 120, 30)
    for word, style in (("forecast", view._AHEAD), ("ceiling", view._CEILING), ("score against", view._SEEN)):
        at = wide.plain.index(word)
        assert any(s.start <= at < s.end and style in str(s.style) for s in wide.spans), word
    plain = view.one(watched, 80, 24, braille=False).plain
    assert "ceiling -" in plain and "forecast ." in plain and "against" not in plain


def test_every_verdict_has_a_word_and_a_style():
    assert set(view.WORDS) == set(view.STYLES) == set(VERDICT_CODES)
    assert len(set(view.WORDS.values())) == len(set(view.STYLES.values())) == 4


def test_several_runs_keep_the_verdict_when_room_is_short(watched):
    from rich.console import Console

    for width in (50, 70, 100, 160):
        console = Console(width=width, record=True, file=io.StringIO())
        console.print(view.several([watched, watched], width))
        text = console.export_text()
        assert "…" not in text.replace("kl-", "").split("\n")[0]
        assert text.count(view.WORDS[watched.watcher.report.verdict]) == 2, width


def test_several_runs_in_plain_characters(watched):
    from rich.console import Console

    strange = dataclasses.replace(watched, name="läuft-mit-einem-recht-langen-namen")
    console = Console(width=60, record=True, file=io.StringIO())
    console.print(view.several([strange], 60, braille=False))
    assert console.export_text().isascii()


def test_a_line_for_a_log_file_has_no_control_characters(watched):
    line = view.plain_line(watched.watcher.report)
    assert line.isprintable() and "kl-cov-m-rl1 step 61" in line


def test_points_are_where_they_belong():
    """One dot in each corner, and nothing that lies outside."""
    s = Series(np.array([0.0, 1.0, 0.0, 1.0, 5.0]), np.array([0.0, 0.0, 1.0, 1.0, 5.0]), mark="x")
    plot = draw([s], 30, 10, x_range=(0, 1), y_range=(0, 1), braille=False).plain().split("\n")
    body = [line.split("|")[1] for line in plot[1:-1]]
    assert [(r, c) for r, line in enumerate(body) for c, ch in enumerate(line) if ch == "x"] == [
        (0, 0), (0, len(body[0]) - 1), (len(body) - 1, 0), (len(body) - 1, len(body[0]) - 1)
    ]  # fmt: skip


def test_a_line_has_no_holes():
    s = Series(np.array([0.0, 1.0]), np.array([0.0, 1.0]), mark="x", joined=True)
    plot = draw([s], 40, 12, x_range=(0, 1), y_range=(0, 1), braille=False).plain().split("\n")
    body = [line.split("|")[1] for line in plot[1:-1]]
    assert all("x" in line for line in body)
    assert all(any(line[c] == "x" for line in body) for c in range(len(body[0])))


def test_braille_has_two_by_four_dots_a_cell():
    x, y = np.meshgrid(np.linspace(0, 1, 200), np.linspace(0, 1, 200))
    full = draw([Series(x.ravel(), y.ravel())], 20, 8, x_range=(0, 1), y_range=(0, 1)).plain().split("\n")
    assert all(set(line.split("│")[1]) == {"⣿"} for line in full[1:-1])


@pytest.mark.parametrize("y", [[], [np.nan, np.inf], [0.5, 0.5]])
def test_nothing_or_a_constant_can_be_drawn(y):
    assert draw([Series(np.arange(len(y), dtype=float), np.array(y))], 20, 6).plain()


def test_a_run_without_a_point_has_a_view():
    empty = Watched("k", "new", Watcher(10))
    assert "no pair" in view.one(empty, 60, 10).plain
