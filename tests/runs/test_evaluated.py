"""The entropy that an evaluation measures: which key it is, whose score it belongs to, and what both series are for."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import entlaw
from entlaw.cli.__main__ import main
from entlaw.errors import UsageError
from entlaw.law.entropy_curve import entropy_at
from entlaw.law.result import examine
from entlaw.law.summary import summary
from entlaw.points import Points
from entlaw.report.picture import law_panel, steps_panels
from entlaw.runs.evaluated import entropy_of_scores
from entlaw.runs.prepare import Selection, to_run
from entlaw.runs.run import Provenance, RawRun
from entlaw.watch.watcher import Watcher

A, B = 0.2, 0.9
EVERY, STEPS = 5, 60


def policy(t):
    """Entropy of the policy after update t."""
    return 0.1 + 1.0 * np.exp(-np.asarray(t, dtype=float) / 15)


def rows(
    score="val/accuracy",
    entropy="val/entropy",
    batch="actor/entropy",
    *,
    level=1.0,
    at_zero=True,
    every=EVERY,
    more=None,
):
    """Records of a trainer that evaluates after some updates; the score follows the law of the evaluation's entropy."""
    noise = np.random.default_rng(0)
    told = []
    for t in range(STEPS + 1):
        if t and batch is not None:
            told.append(
                {"step": t, batch: policy(t - 1) * (1 + 0.05 * noise.standard_normal()), **(more or {})}
            )
        if t % every == 0 and (t or at_zero):
            h = level * policy(t)
            told.append({"step": t, score: B - A * np.exp(h)} | ({} if entropy is None else {entropy: h}))
    return told


def run_of(told, **selection):
    config = selection.pop("config", {})
    frame = pd.DataFrame(told, dtype=float)
    return to_run(RawRun("made", frame, config, Provenance("made", "jsonl")), Selection(**selection))


def chosen(run, what):
    return next(c for c in run.choices if c.what == what)


# Score, entropy of its evaluation, entropy of the batch: spellings of trainers, and of nobody's.
SPELLINGS = [
    ("val/accuracy", "val/entropy", "actor/entropy"),
    ("eval_reward", "eval_entropy", "entropy"),
    ("eval/reward", "eval/entropy", "train/entropy"),
    ("val-core/openai/gsm8k/acc/mean@8", "val-core/openai/gsm8k/entropy/mean@8", "actor/entropy"),
    ("val-core/openai/gsm8k/acc/mean@8", "val-aux/openai/gsm8k/entropy/mean@8", "actor/entropy_loss"),
    ("val/test_score/openai/gsm8k", "val/entropy", "actor/entropy"),
    ("eval/aime24/avg@16", "eval/aime24/entropy", "entropy/all/mean"),
    ("test/env/all/correct", "test/env/all/entropy", "optim/entropy"),
    ("test_accuracy", "test_entropy", "policy_entropy"),
    ("validation/score", "validation/policy_entropy", "entropy"),
    ("Eval/Accuracy", "Eval/Mean_Token_Entropy", "entropy"),
    ("eval.accuracy", "entropy.eval", "entropy"),
    ("val_acc", "val_entropy_mean", "train_entropy"),
]


@pytest.mark.parametrize(("score", "entropy", "batch"), SPELLINGS)
@pytest.mark.parametrize("evaluated_first", [False, True])
def test_a_validation_takes_the_entropy_of_its_own_evaluation(score, entropy, batch, evaluated_first):
    told = rows(score, entropy, batch)
    if evaluated_first:  # the order in which keys are first seen decides nothing
        told = [{"step": 0, entropy: np.nan, score: np.nan, batch: np.nan}, *told]
    run = run_of(told, on="val")
    assert (run.entropy.key, run.entropy.of, run.align) == (entropy, "evaluation", "same")
    assert run.entropy_log.key == batch and run.entropy_log.of != "evaluation"
    points = run.points
    assert points["step"].tolist() == points["entropy_step"].tolist() == list(range(0, STEPS + 1, EVERY))
    assert np.allclose(points["performance"], B - A * np.exp(points["entropy"]), atol=1e-12)
    assert chosen(run, "entropy").chosen == entropy and batch in chosen(run, "entropy").alternatives
    assert chosen(run, "entropy log").chosen == batch
    step, log = run.entropy_series()
    assert step.tolist() == list(range(1, STEPS + 1)) and len(log) == STEPS


@pytest.mark.parametrize(
    "entropy",
    [
        "eval/aime25/entropy",  # other problems
        "test/entropy",  # another evaluation
        "eval/aime24/semantic_entropy",
        "eval/aime24/attn_entropy",
        "eval/aime24/entropy_loss",
        "eval/aime24/entropy_std",
        "eval/aime24/cross_entropy",
        "retrieval/entropy",
    ],
)
def test_what_is_no_entropy_of_this_evaluation_is_not_taken(entropy):
    run = run_of(rows("eval/aime24/avg@16", entropy, "actor/entropy"))
    assert (run.entropy.key, run.entropy_log, run.align) == ("actor/entropy", None, "next")
    assert run.entropy.of == "batch"


def test_of_several_data_sets_each_score_has_its_own_entropy():
    told = rows("val-core/aime/acc/mean@1", "val-core/aime/entropy/mean@1")
    for record in told:
        if "val-core/aime/acc/mean@1" in record:
            h = 0.8 * policy(record["step"])
            record |= {"val-core/math/acc/mean@1": B - A * np.exp(h), "val-core/math/entropy/mean@1": h}
            record["val/entropy"] = 0.9 * policy(record["step"])
    for name in ("aime", "math"):
        run = run_of(told, on=f"val-core/{name}/acc/mean@1")
        assert run.entropy.key == f"val-core/{name}/entropy/mean@1"
        assert np.allclose(run.points["performance"], B - A * np.exp(run.points["entropy"]), atol=1e-12)
    # A mean over sets belongs to what was measured over all of them.
    assert run_of(told, on="val-core/*/acc/mean@1").entropy.key == "val/entropy"


def test_an_entropy_that_most_evaluations_did_not_log_is_not_taken():
    told = rows()
    for record in told:
        if record["step"] < 20:
            record.pop("val/entropy", None)
    run = run_of(told)
    assert run.entropy.key == "actor/entropy" and run.align == "next"
    assert "val/entropy" in chosen(run, "entropy").alternatives


def test_the_user_decides():
    told = rows()
    batch = run_of(told, entropy_key="actor/entropy")
    assert (batch.entropy.key, batch.entropy_log, batch.align) == ("actor/entropy", None, "next")
    assert batch.points["entropy_step"].tolist()[1:3] == [6, 11]
    evaluated = run_of(told, entropy_key="val/entropy")
    assert (evaluated.entropy.key, evaluated.entropy_log, evaluated.align) == ("val/entropy", None, "same")
    assert np.allclose(
        evaluated.points["performance"], B - A * np.exp(evaluated.points["entropy"]), atol=1e-12
    )
    # An alignment is about the run's log.
    assert run_of(told, align="same").entropy.key == "actor/entropy"
    with pytest.raises(UsageError, match="nearest"):
        run_of(told, align="nearest")


def test_where_the_entropy_was_measured_decides_in_the_configuration_too():
    told = rows(entropy="probe/entropy", batch="actor/entropy")
    batch = {"entropy_meaning.key": "probe/entropy", "entropy_meaning.of": "batch"}
    assert run_of(told, entropy_key="probe/entropy", config=batch).align == "next"
    meaning = {"entropy_meaning.key": "probe/entropy", "entropy_meaning.of": "evaluation"}
    assert run_of(told, entropy_key="probe/entropy", config=meaning).align == "same"
    after = {"entropy_meaning.key": "probe/entropy", "entropy_meaning.when": "after-update"}
    assert run_of(told, entropy_key="probe/entropy", config=after).align == "same"


@pytest.mark.parametrize("batch", [None, "critic/score/mean"])
def test_an_evaluations_entropy_is_the_log_where_there_is_no_other(batch):
    told = rows(batch=batch)  # the batches log a score or nothing
    run = run_of(told, on="val")
    assert (run.entropy.key, run.entropy_log, run.align) == ("val/entropy", None, "same")
    assert len(run.points) == STEPS // EVERY + 1


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("every", [1, 4, 10])
def test_a_training_score_beside_an_evaluations_entropy_pairs_with_the_one_before(first, every):
    """Of the policy after update t are the evaluation t and the batch that is sampled next."""
    told = []
    for t in range(41):
        # Counted from 0, the evaluations before any update and after the first one share a step.
        if t % every == 0 and (t or first or every > 1):
            told.append({"step": first + t - 1 if t else 0, "eval/entropy": policy(t), "eval/loss": 1.0})
        told.append({"step": first + t, "reward": B - A * np.exp(policy(t))})
    run = run_of(told)
    assert (run.entropy.key, run.align, run.performance_kind) == ("eval/entropy", "previous", "training")
    assert len(run.points) == 40 // every + (first or every > 1)
    assert np.allclose(run.points["performance"], B - A * np.exp(run.points["entropy"]), atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 12), st.booleans(), st.sampled_from(SPELLINGS), st.randoms(use_true_random=False))
def test_rows_in_any_order_of_logging_pair_alike(every, at_zero, spelling, random):
    told = rows(*spelling, every=every, at_zero=at_zero)
    split = [{"step": r["step"], key: value} for r in told for key, value in r.items() if key != "step"]
    by_step = sorted(split, key=lambda r: (r["step"], random.random()))
    one, two = run_of(told, on="val"), run_of(by_step, on="val")
    assert one.entropy == two.entropy and one.align == two.align == "same"
    pd.testing.assert_frame_equal(one.points, two.points)


@pytest.mark.parametrize("every", [4, 10])
def test_an_unknown_entropy_that_is_logged_only_with_validations_was_measured_by_them(every):
    told = rows(entropy="policy_entropy", batch="lr", every=every)
    run = run_of(told, on="val")
    assert (run.entropy.key, run.entropy.of, run.align) == ("policy_entropy", "evaluation", "same")
    assert "only with the validations" in run.entropy.note
    assert np.allclose(run.points["performance"], B - A * np.exp(run.points["entropy"]), atol=1e-12)
    # Where nothing is logged in between, or the entropy is logged without a score too, nothing says so.
    assert run_of([r for r in told if "policy_entropy" in r], on="val").align == "next"
    lone = [{"step": 3, "policy_entropy": 0.9}]
    assert run_of(sorted([*told, *lone], key=lambda r: r["step"]), on="val").align == "next"
    # A trainer whose entropy is known to be the batch's logs it when it likes.
    assert run_of(rows(entropy="actor/entropy", batch="lr", every=every), on="val").align == "next"


# --- what both series are for ---


def apart(level=1.0):
    return run_of(rows(level=level))


def test_the_law_and_the_forecast_are_in_terms_of_the_scores_entropy():
    """At half the level of the batches the law is the same line, and the entropy ahead is at that level."""
    for level in (1.0, 0.5):
        result = examine(apart(level))
        assert (result.law.a, result.law.b) == pytest.approx((A, B), abs=0.02)
        points = result.points
        assert points.apart and len(points.log_step) == STEPS
        there = entropy_at(points, 90.0)
        assert there.median == pytest.approx(level * policy(90), abs=0.03 * level)
        # With the batch's curve, the entropy ahead would be at twice the level.
        assert entropy_at(replace(points, apart=False), 90.0).median == pytest.approx(policy(90), abs=0.03)


def test_a_part_of_the_points_stays_apart():
    points = Points.of(apart())
    for part in (points.until(30), points.first(5), points.after(20)):
        assert part.apart and np.array_equal(part.own_log[1], part.entropy)
    together = replace(points, apart=False)
    assert np.array_equal(together.own_log[0], points.log_step)


def test_levels_that_differ_are_said_and_those_that_do_not_are_not():
    def found(level):
        return [f for f in apart(level).findings if f.code == "entropy-levels-differ"]

    assert not found(1.0) and not found(1.1)
    for level in (0.5, 2.0):
        (one,) = found(level)
        assert one.severity == "info" and one.value == pytest.approx(level, rel=0.05)
        assert "val/entropy" in one.what and "actor/entropy" in one.what


def test_every_view_names_the_key_of_its_numbers(tmp_path, capsys):
    run = apart(0.5)
    result = examine(run)
    assert "entropy val/entropy (log: actor/entropy)" in summary(result)
    told = result.to_dict()
    assert told["entropy"]["key"] == "val/entropy" and told["entropy"]["of"] == "evaluation"
    assert told["entropy_log"]["key"] == "actor/entropy" and told["entropy_log"]["of"] == "batch"
    assert "val/entropy" in law_panel(result).x_label
    labels = {m.kind: m.label for m in steps_panels(result)[1].marks}
    assert (labels["entropy"], labels["smoothed"]) == ("H: actor/entropy", "H: val/entropy")
    log = tmp_path / "made.jsonl"
    log.write_text("".join(json.dumps(r) + "\n" for r in rows(level=0.5)), encoding="utf-8")

    assert main(["doctor", str(log)]) == 0
    shown = capsys.readouterr().out
    assert "actor/entropy: " in shown and "entropy (actor/entropy) " in shown and "val/entropy: " in shown


def test_a_run_with_one_series_names_one():
    result = examine(run_of(rows(entropy=None)))
    assert result.to_dict()["entropy_log"] is None and "(log:" not in summary(result)


def test_a_watcher_reports_an_evaluation_at_once_and_says_what_a_reader_says():
    told = rows()
    watcher = Watcher(200, selection=Selection(on="val"))
    at = [r["step"] for r in told if watcher.observe(r["step"], r) is not None and "val/accuracy" in r]
    assert at == list(range(0, STEPS + 1, EVERY))
    last = watcher.report.result
    assert last.to_dict()["law"] == examine(run_of(told), last.settings).to_dict()["law"]


def test_nothing_is_taken_for_a_score_that_is_not_there():
    frame = pd.DataFrame({"val/entropy": [1.0, 0.5]}, index=[0.0, 5.0])
    assert entropy_of_scores(frame, pd.Series([np.nan, np.nan], index=frame.index), ("val/accuracy",)) is None
    assert entropy_of_scores(frame, pd.Series([0.1, 0.2], index=frame.index), ("val/entropy",)) is None
    assert entlaw.EntropyMeaning("x").of == "unknown"
