"""What is drawn of one run: the same marks in every plot, and none of a law that is refused."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from entlaw.errors import DataError
from entlaw.law.result import examine
from entlaw.law.settings import Settings
from entlaw.points import Points
from entlaw.report.picture import entropy_used, fitted_points, law_panel, steps_panels
from entlaw.report.plots import draw_all, draw_result, result_figure
from entlaw.runs.reader import scan

from ..conftest import law_records, write_jsonl


def read(folder, **kw):
    return next(scan(str(write_jsonl(folder / "run.jsonl", law_records(**kw))))).run


@pytest.fixture
def result(tmp_path):
    return examine(read(tmp_path, n=120, noise=0.002), Settings(total_steps=400))


@pytest.fixture
def refused(tmp_path):
    found = examine(read(tmp_path, n=120, entropy=0.7 + 0.001 * np.sin(np.arange(123))))
    assert found.verdict == "refused"
    return found


def marks(panel):
    return {m.kind: m for m in panel.marks}


def test_the_law_s_panel_is_the_law_its_ceiling_and_all_points(result):
    found = marks(law_panel(result))
    curve, ceiling = found["law"], found["ceiling"]
    np.testing.assert_allclose(curve.y, result.b - result.a * np.exp(curve.x), rtol=1e-12)
    assert ceiling.x[0] == 0 and ceiling.y[0] == result.b - result.a
    assert (ceiling.lo[0], ceiling.hi[0]) == (result.ceiling_interval.lo, result.ceiling_interval.hi)
    band = result.law.line_at(curve.x, 0.95)
    np.testing.assert_allclose(found["line"].lo, band.lo)
    fitted, later = found["fitted"], found["later"]
    assert (result.points.step[fitted.at] <= 36).all() and (result.points.step[later.at] > 36).all()
    assert sorted([*fitted.at, *later.at]) == list(range(result.points.n))
    np.testing.assert_array_equal(later.x, result.points.entropy[later.at])
    np.testing.assert_array_equal(later.y, result.points.score[later.at])


def test_the_panels_over_steps_hold_what_is_predicted(result):
    score, entropy = steps_panels(result)
    found = marks(score)
    [made] = result.forecast.at
    assert found["ahead"].x[0] == made.step == 400 and found["ahead"].y[0] == made.median
    assert (found["early"].x[0], found["early"].y[0]) == (result.last[0], result.early.median)
    assert (found["early"].lo[0], found["early"].hi[0]) == (
        result.early.interval.lo,
        result.early.interval.hi,
    )
    assert found["level"].y[0] == result.ceiling and found["window"].x[0] == 36
    assert score.x_range == entropy.x_range == (0.0, 400.0)
    used = entropy_used(result)
    np.testing.assert_allclose(found["implied"].y, result.b - result.a * np.exp(used), rtol=1e-12)


def test_points_of_one_step_keep_each_its_own_entropy():
    """Two evaluations at every step: the entropy that the law used is a point's own, not its step's."""
    step = np.repeat(np.arange(0.0, 40.0, 2.0), 2)
    entropy = np.exp(-step / 20) + np.tile([0.0, 0.05], 20)
    points = Points.from_arrays(step, entropy, 0.8 - 0.2 * np.exp(entropy))
    result = examine(points, Settings(method="paper", until_step=20, force=True))
    used = entropy_used(result)
    np.testing.assert_array_equal(used, result.points.entropy)
    assert fitted_points(result).sum() == result.law.n == 22


def test_nothing_of_a_refused_law_is_drawn(refused):
    assert set(marks(law_panel(refused))) == {"later"}
    assert not set(marks(steps_panels(refused)[0])) & {"implied", "level", "window", "fitted"}
    forced = examine(refused.run, Settings(force=True))
    assert {"law", "ceiling", "fitted"} <= set(marks(law_panel(forced)))


def test_the_figure_of_fit_and_plot_draw_the_same(result):
    figure = Figure()
    draw_all(figure, result)
    whole = figure.axes[0]
    ax = result.plot(Figure().subplots())
    assert ax.get_title() == whole.get_title() and "law: " in ax.get_title()
    assert len(ax.lines) == len(whole.lines) and len(ax.collections) == len(whole.collections)
    for one, other in zip(ax.lines, whole.lines, strict=True):
        np.testing.assert_array_equal(one.get_xydata(), other.get_xydata())
    assert (ax.get_xlim(), ax.get_ylim()) == (whole.get_xlim(), whole.get_ylim())
    told = [t.get_text() for t in ax.get_legend().get_texts()]
    assert any(t.startswith("held out, n = ") for t in told) and any("steps up to 36" in t for t in told)


def test_plot_without_axes_makes_a_figure_and_without_points_says_why(result):
    before = matplotlib.get_backend()
    matplotlib.use("agg")
    try:
        from matplotlib import pyplot

        ax = draw_result(result)
        assert ax.figure.number in pyplot.get_fignums()
        pyplot.close(ax.figure)
    finally:
        matplotlib.use(before)
    empty = examine(Points.from_arrays([], [], []))
    with pytest.raises(DataError, match="no point to draw"):
        empty.plot()


@pytest.mark.parametrize(("format", "magic"), [("pdf", b"%PDF"), ("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_figures_are_the_same_bytes_again(result, refused, format, magic):
    for one in (result, refused):
        made = result_figure(one, format)
        assert made.startswith(magic) and made == result_figure(one, format)
