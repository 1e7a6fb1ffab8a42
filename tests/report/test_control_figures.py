"""Figures of controls (9 to 12) and Table 2: intervals against other derivations, which runs are compared, what is
drawn against its table, the paper's averages, and logs with less in them."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entlaw.paper import controls, fig9_10, fig11, fig12, figure, numbers, reported, table2, typeset
from entlaw.paper.controls import LoggedSeries, Spread
from entlaw.paper.library import Library, NotEnoughRuns, RunFacts, library
from entlaw.runs import reader
from entlaw.runs.run import EntropyMeaning, Provenance, Run
from tests.conftest import REPO

FIGURES = ("fig9", "fig10", "fig11", "fig12", "table2")


def made(name, level=0.4, last=0.5, noise=0.0, seed=0, n=100, **columns):
    """A run whose entropy falls to a level and whose accuracy rises to a last value."""
    rng = np.random.default_rng(seed)
    step = np.arange(1, n + 1, dtype=float)
    h = level + (1.2 - level) * np.exp(-step / 10)
    r = last - (last - 0.1) * np.exp(-step / 15) + noise * rng.standard_normal(n)
    metrics = pd.DataFrame({"H": h, "R": r, **columns}, index=pd.Index(step, name="step"))
    metrics.loc[metrics.index % 4 != 0, "R"] = np.nan
    at = metrics["R"].dropna()
    paired = metrics.loc[at.index, "H"].to_numpy()
    points = pd.DataFrame(
        {"step": at.index, "entropy": paired, "performance": at.to_numpy(), "entropy_step": at.index}
    )
    return Run(
        name,
        metrics,
        points.astype(float).reset_index(drop=True),
        EntropyMeaning("H", "exact", "nats/token"),
        "R",
        "validation",
        1.0,
        "same",
        {},
        Provenance("memory", "made"),
    )


def facts(name, method="grpo", **more):
    return RunFacts(
        name, "grpo", method, **({"size": "m", "task": "sums", "start": "short", "base_seed": 0} | more)
    )


def world(*of):
    return Library(tuple(r for _, r in of), tuple(f for f, _ in of))


def arm(method, values, strength=None, coefficient=None, **more):
    names = [f"{method}-{strength}-{coefficient}-{i}" for i in range(len(values))]
    return [
        (
            facts(name, method, strength=strength, coefficient=coefficient, seed=i, **more),
            made(name, last=values[i], seed=i),
        )
        for i, name in enumerate(names)
    ]


@pytest.fixture(scope="module")
def shipped():
    wanted = "grpo-m entropy-bonus reference-kl clip-higher clip-cov kl-cov no-clip on-policy data-easy second-task-m"
    paths = sorted(p for w in wanted.split() for p in REPO.glob(f"runs/{w}*"))
    return library([run for path in paths for run in reader.read(path)])


@pytest.fixture(scope="module")
def drawn(shipped):
    return {name: figure.draw(name, shipped) for name in FIGURES}


# Numbers ------------------------------------------------------------------------------------------------------------

few = st.lists(st.floats(0, 1), min_size=2, max_size=6).filter(lambda v: np.std(v) > 1e-3)


@settings(deadline=None, max_examples=40)
@given(few, few)
def test_several_runs_are_compared_by_welchs_interval(a, b):
    from scipy.stats import ttest_ind

    one = controls.effect(np.array(a), np.array(b), Spread(99.0, 3))
    theirs = ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    assert (one.lo, one.hi) == pytest.approx((theirs.low, theirs.high), rel=1e-9, abs=1e-12)
    assert one.value == pytest.approx(np.mean(a) - np.mean(b), abs=1e-12)


def test_a_single_run_is_lent_the_spread_of_the_others():
    from scipy.stats import t

    groups = [np.array([0.1, 0.3]), np.array([0.5, 0.5, 0.8]), np.array([0.9])]
    spread = controls.pooled(groups)
    variance = (0.02 + 0.06) / 3  # sums of squares about the groups' means, over 1 + 2 degrees of freedom
    assert (spread.sd, spread.df) == (pytest.approx(np.sqrt(variance)), 3)
    one = controls.effect(groups[2], groups[1], spread)
    half = t.ppf(0.975, 3) * np.sqrt(variance * (1 + 1 / 3))
    assert (one.value, one.lo, one.hi) == pytest.approx((0.3, 0.3 - half, 0.3 + half))


def test_without_any_repeated_run_there_is_no_interval():
    e = controls.effect(np.array([0.4]), np.array([0.5]), controls.pooled([np.array([0.4]), np.array([0.5])]))
    assert e.value == pytest.approx(-0.1) and np.isnan([e.lo, e.hi]).all()


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(-5, 5), min_size=1, max_size=30), st.sampled_from([1, 3, 5, 9]))
def test_the_moving_mean_is_that_of_a_loop(values, window):
    half, n = window // 2, len(values)
    loop = []
    for i in range(n):
        after = min(half, n - 1 - i)
        if i < half:
            after = min(i, after)
        loop.append(np.mean(values[max(i - half, 0) : i + after + 1]))
    assert numbers.moving_mean(np.array(values), window) == pytest.approx(np.array(loop), abs=1e-12)


def test_the_mean_curve_takes_the_steps_that_all_runs_have():
    a = LoggedSeries(np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 2.0, 3.0, 4.0]))
    b = LoggedSeries(np.array([2.0, 4.0, 6.0]), np.array([4.0, 8.0, 0.0]))
    step, mean, sd = controls.mean_curve([a, b], 1)
    assert step.tolist() == [2, 4] and mean.tolist() == [3, 6]
    assert sd == pytest.approx([np.std([2, 4], ddof=1), np.std([4, 8], ddof=1)])


# Which runs are compared ----------------------------------------------------------------------------------------------


def test_the_runs_of_figure_11_are_one_strength_a_method_from_one_start(drawn):
    methods = ("grpo", "clip-higher", "clip-cov", "kl-cov", "no-clip")
    assert set(drawn["fig11"].runs) == {f"{m}-m-rl{s}" for m in methods for s in range(3)}
    assert drawn["table2"].runs == drawn["fig11"].runs


def test_the_ladders_are_every_strength_and_none_of_the_authors_variants(drawn):
    base = {f"grpo-m-rl{s}" for s in range(3)}
    assert set(drawn["fig9"].runs) == base | {
        f"entropy-bonus-{c}-m-rl0" for c in ("0.003", "0.01", "0.03", "0.1")
    }
    assert set(drawn["fig10"].runs) == base | {
        f"reference-kl-{c}-m-rl0" for c in ("0.01", "0.03", "0.1", "0.3")
    }
    assert {"kl-cov-coef-5-m-rl0", "clip-cov-0.05-m-rl0", "no-clip-m-rl2"} <= set(drawn["fig12"].runs)
    assert not [
        name
        for d in drawn.values()
        for name in d.runs
        if re.search("authors|on-policy|data|second|base", name)
    ]


@pytest.mark.parametrize(
    "other",
    [
        {"task": "other"},
        {"start": "long"},
        {"base_seed": 1},
        {"size": "l"},
        {"family": "qwen2"},
        {"reference_code": True},
    ],
)
def test_a_control_from_another_setting_is_compared_with_nothing(other):
    baseline = arm("grpo", [0.5, 0.52])
    assert (
        fig9_10.fig9(world(*baseline, *arm("entropy-bonus", [0.6], 0.01))).findings["accuracy_gain_0.01"] > 0
    )
    with pytest.raises(NotEnoughRuns):
        fig9_10.fig9(world(*baseline, *arm("entropy-bonus", [0.6], 0.01, **other)))


def test_a_run_with_too_few_validations_is_left_out():
    short = made("short", n=16)
    with pytest.raises(NotEnoughRuns, match="entropy-bonus"):
        fig9_10.fig9(world(*arm("grpo", [0.5]), (facts("short", "entropy-bonus", strength=0.1), short)))


# What they say --------------------------------------------------------------------------------------------------------


def test_accuracy_at_the_end_is_that_of_the_runs_table(drawn):
    """Against runs/RESULTS.md, made by other code."""
    rows = [
        line.split("|")
        for line in (REPO / "runs" / "RESULTS.md").read_text().splitlines()
        if line.startswith("| ")
    ]
    last = {r[1].strip(): float(r[4].split("→")[1]) for r in rows if "→ 0." in r[4]}
    grpo = np.mean([last[f"grpo-m-rl{s}"] for s in range(3)])
    for name in ("clip_higher", "clip_cov", "kl_cov", "no_clip"):
        mean = np.mean([last[f"{name.replace('_', '-')}-m-rl{s}"] for s in range(3)])
        assert drawn["fig11"].findings[f"accuracy_{name}"] == pytest.approx(mean, abs=6e-4)
        assert drawn["fig11"].findings[f"accuracy_gain_{name}"] == pytest.approx(mean - grpo, abs=1.1e-3)
    for c in ("0.003", "0.1"):
        gain = drawn["fig9"].findings[f"accuracy_gain_{c}"]
        assert gain == pytest.approx(last[f"entropy-bonus-{c}-m-rl0"] - grpo, abs=1.1e-3)


def test_effects_that_were_put_in_are_found():
    lib = world(
        *arm("grpo", [0.50, 0.52, 0.51]),
        *arm("clip-cov", [0.58, 0.6, 0.59], 0.01),
        *arm("no-clip", [0.4, 0.41]),
    )
    found = fig11.draw(lib).findings
    assert (
        found["accuracy_gain_clip_cov"] == pytest.approx(0.08, abs=2e-3)
        and found["accuracy_gain_clip_cov_lo"] > 0.05
    )
    assert found["accuracy_gain_no_clip_hi"] < -0.05
    assert found["entropy_ratio_clip_cov"] == pytest.approx(1)


def test_runs_that_began_elsewhere_are_named(drawn):
    named = re.search(r"\. ([^.]*(?:\.\d[^.]*)*) began from a policy", drawn["fig12"].caption)[1]
    assert (
        all(f"β = {c}" in named for c in ("0.1", "0.5", "5"))
        and "β = 1" not in named
        and "Clip-Cov" not in named
    )
    assert not any("began from" in drawn[name].caption for name in ("fig9", "fig10", "fig11", "table2"))


def test_a_level_that_rises_with_the_strength_is_said_to_and_one_that_does_not_is_not():
    def ladder(levels):
        return [(facts(f"c{s}", "clip-cov", strength=s), made(f"c{s}", level=v)) for s, v in levels.items()]

    base = [(facts("g", seed=0), made("g", level=0.3))]
    key = "rises with Clip-Cov, ratio r"
    assert fig12.draw(world(*base, *ladder({0.01: 0.4, 0.1: 0.5}))).findings[key] == "yes"
    assert fig12.draw(world(*base, *ladder({0.01: 0.5, 0.1: 0.4}))).findings[key] == "not throughout"


@pytest.mark.parametrize("name", ["fig9", "fig10", "fig11", "fig12"])
def test_the_curves_drawn_are_those_of_the_table(name, shipped):
    made_now = figure.draw(name, shipped)
    curves = made_now.table[made_now.table["kind"] == "curve"]
    groups = [(g["step"].to_numpy(), g["value"].to_numpy()) for _, g in curves.groupby(["panel", "series"])]
    assert len(groups) >= 8
    lines = [
        line.get_xydata()
        for ax in made_now.figure.axes
        for line in ax.get_lines()
        if len(line.get_xydata()) > 20
    ]
    assert len(lines) == len(groups)
    for step, value in groups:
        assert any(len(x) == len(step) and np.allclose(x, np.c_[step, value]) for x in lines)


def test_curves_begin_where_the_runs_do_in_percent_and_nats(drawn):
    table = drawn["fig11"].table
    first = table[(table["kind"] == "curve") & (table["series"] == "GRPO")].groupby("panel")["value"].first()
    assert first["accuracy"] == pytest.approx(17.2, abs=0.1) and first["entropy"] == pytest.approx(
        1.226, abs=1e-3
    )
    assert 3 < first["response length"] < 5


@pytest.mark.parametrize("name", FIGURES)
def test_captions_tell_of_small_models_and_of_the_paper(name, drawn):
    assert "small models" in drawn[name].caption and "paper" in drawn[name].caption
    for key, value in drawn[name].findings.items():
        if f"{key}_lo" in drawn[name].findings:
            assert drawn[name].findings[f"{key}_lo"] <= value <= drawn[name].findings[f"{key}_hi"], key


def test_figures_of_logs_without_lengths_sizes_or_second_seeds():
    lib = world(*arm("grpo", [0.5]), *arm("clip-higher", [0.55], 0.28), *arm("kl-cov", [0.6], 0.002))
    for name in ("fig11", "fig12"):
        found = figure.draw(name, lib)
        assert "small models" not in found.caption and "nan" not in found.caption
    assert figure.draw("fig11", lib).findings["accuracy_gain_kl_cov"] == pytest.approx(0.1, abs=1e-3)


@pytest.mark.parametrize("name", FIGURES)
def test_nothing_to_draw_is_an_error_that_helps(name):
    for lib in (world(), world(*arm("grpo", [0.5, 0.6])), world(*arm("clip-cov", [0.5], 0.1))):
        with pytest.raises(NotEnoughRuns) as caught:
            figure.draw(name, lib)
        assert caught.value.hint


# Table 2 --------------------------------------------------------------------------------------------------------------


def test_the_papers_averages_are_those_worked_out_beside_its_table():
    """Against the values in the file of reported numbers, worked out when it was made."""
    derived = reported.numbers("Table 2 (derived)")
    for backbone, of in reported.table2().groupby("backbone"):
        for row in table2._theirs(of):
            setting = row.label if row.label == "GRPO" else f"GRPO w. {row.label}"
            mine = derived[(derived["model"] == backbone) & (derived["setting"] == setting)]
            equal = mine[mine["item"].str.startswith("equal")]["value"].item()
            by_row = mine[mine["item"].str.startswith("row")]["value"].item()
            assert (row.equal, row.rows) == (
                pytest.approx(equal, abs=0.006),
                pytest.approx(by_row, abs=0.006),
            )


def test_the_papers_ranking_on_7b_turns_with_the_weights_and_that_on_32b_does_not(drawn):
    found = drawn["table2"].findings
    assert found["swaps_paper_Qwen2.5-7B"] == "Clip-Cov and KL-Cov"
    assert (found["best_paper_Qwen2.5-7B_equal"], found["best_paper_Qwen2.5-7B_rows"]) == (
        "Clip-Cov",
        "KL-Cov",
    )
    assert found["swaps_paper_Qwen2.5-32B"] == "none"
    assert found["paper_printed_less_by_row_largest"] < 0.11 < 1 < found["paper_printed_less_equal_largest"]


def test_row_weights_are_found_from_the_log_and_the_average_by_row_is_the_logged_total(drawn, shipped):
    found = controls.trials(shipped, ("no-clip",), lambda f: f.method)
    weights = table2.row_weights(found.baseline.trials, [f"val/level_{i}" for i in range(2, 7)])
    counts = 512 * weights
    assert np.abs(counts - counts.round()).max() < 0.01 and counts.sum() == pytest.approx(512)
    logged = [
        100 * t.run.metrics["val/accuracy"].dropna().to_numpy()[-5:].mean() for t in found.baseline.trials
    ]
    assert drawn["table2"].findings["rows_grpo"] == pytest.approx(np.mean(logged), abs=1e-3)
    assert drawn["table2"].findings["rows_grpo_standard_error"] == pytest.approx(
        np.std(logged, ddof=1) / 3**0.5, abs=1e-3
    )


def with_parts(seed, mix=(0.7, 0.3), noise=0.0):
    rng = np.random.default_rng(seed)
    parts = rng.uniform(0.2, 0.8, (100, 2))
    run = made("x", n=100, **{"val/level_1": parts[:, 0], "val/level_2": parts[:, 1]})
    total = parts @ np.array(mix) + noise * rng.standard_normal(100)
    return replace(run, metrics=run.metrics.assign(R=total))


def test_weights_that_do_not_give_the_total_are_not_given():
    lib = [(facts("a"), with_parts(0)), (facts("b", "no-clip"), with_parts(1))]
    found = controls.trials(world(*lib), ("no-clip",), lambda f: f.method)
    keys = ["val/level_1", "val/level_2"]
    assert table2.row_weights(found.baseline.trials, keys) == pytest.approx([0.7, 0.3], abs=1e-9)
    for bad in (with_parts(0, noise=0.01), with_parts(0, (0.9, 0.3)), with_parts(0, (1.2, -0.2))):
        found = controls.trials(world((facts("a"), bad), lib[1]), ("no-clip",), lambda f: f.method)
        assert table2.row_weights(found.baseline.trials, keys) is None
        shown = table2.draw(world((facts("a"), bad), lib[1]))
        assert "by row" not in shown.markdown.split("The paper")[0] and "does not state" in shown.caption


def test_the_error_by_problems_is_that_of_drawing_them_anew():
    rng = np.random.default_rng(0)
    drawn_anew = 100 * rng.binomial(80, 0.3, 40_000) / 80
    assert table2.problem_error(np.array([30.0]), np.array([80.0]))[0] == pytest.approx(
        drawn_anew.std(), rel=0.02
    )


def test_the_table_says_the_same_as_text_picture_and_csv(drawn):
    shown = drawn["table2"]
    row = shown.table[(shown.table["source"] == "ours") & (shown.table["method"] == "GRPO")].set_index(
        "benchmark"
    )
    cell = f"{row.loc['2', 'accuracy']:.1f} ± {row.loc['2', 'standard_error']:.1f}"
    told = {t.get_text() for ax in shown.figure.axes for t in ax.texts}
    assert cell in told and cell in shown.markdown and cell.replace("±", r"$\pm$") in shown.latex
    assert {"41.7", "41.1", "40.5", "40.6"} <= told
    assert shown.latex.count(r"\begin{tabular}") == shown.latex.count(r"\end{tabular}") == 3


def test_text_in_a_table_cannot_break_it():
    block = typeset.Block("t", ("a|b", "c_d"), (("x & y", "10 %"),), frozenset({(0, 1)}))
    assert typeset.markdown([block]).splitlines()[2] == r"| a\|b | c_d |"
    assert r"x \& y & \textbf{10 \%} \\" in typeset.latex([block]) and r"c\_d" in typeset.latex([block])
