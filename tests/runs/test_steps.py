"""The step axis: whatever a trainer counts, the points stand at updates or rollouts."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entlaw import Selection, fit, read
from entlaw.errors import FitRefused
from entlaw.runs.assemble import assemble
from entlaw.runs.axes import axis_rule, count_of_total, is_axis
from entlaw.runs.epochs import count_epochs, goes_back, number_by_epoch
from entlaw.runs.steps import resolve_step


def h(t):
    return round(0.05 + 0.97**t, 6)


def r(t):
    return round(0.6 - 0.5 * h(t), 6)


def write(folder, records, name="run.jsonl"):
    path = folder / name
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def codes(run):
    return {f.code for f in run.findings}


STEPS = {
    "LLaMA-Factory": lambda t: {"current_steps": 5 * t, "total_steps": 200, "epoch": t / 40},
    "ms-swift": lambda t: {"global_step/max_steps": f"{5 * t}/200", "percentage": "2.5%"},
    "ms-swift, blanks": lambda t: {"global_step/max_steps": f" {5 * t} / 200 "},
    "a plan beside": lambda t: {"max_steps": 200, "num_updates": 40, "optimizer_step": 5 * t},
    "a constant of the name": lambda t: {"step": 0, "learner/step": 5 * t},
    "samples beside": lambda t: {"step": 512 * t, "update": 5 * t},
    "a size of the name": lambda t: {"update": 0.01 * t, "iteration": 5 * t},
    "the count of an epoch beside": lambda t: {"step": t % 10, "epoch": t // 10, "global_step": 5 * t},
    "no known name": lambda t: {"my_run/update_count": 5 * t, "steps_per_second": 0.3},
    "W&B's counter beside": lambda t: {"_step": 3 * t + 1, "trainer_step": 5 * t},
}


@pytest.mark.parametrize("name", STEPS)
def test_a_count_of_steps_is_found_by_name_and_data(tmp_path, name):
    records = [{**STEPS[name](t), "entropy": h(t), "reward": r(t)} for t in range(1, 41)]
    (run,) = read(write(tmp_path, records))
    assert run.points["step"].tolist() == [5.0 * t for t in range(1, 41)]
    assert "no-step" not in codes(run) and run.choices[0].what == "step axis"


def test_csv_and_console_lines_give_the_step_of_a_total(tmp_path):
    rows = [f"{t}/40,{h(t)},{r(t)}" for t in range(1, 41)]
    table = tmp_path / "a.csv"
    table.write_text("global_step/max_steps,entropy,accuracy\n" + "\n".join(rows) + "\n")
    console = tmp_path / "a.log"
    console.write_text(
        "".join(
            f"{{'loss': 0.1, 'entropy': {h(t)}, 'reward': {r(t)}, 'global_step/max_steps': '{t}/40'}}\n"
            for t in range(1, 41)
        )
    )
    for path in (table, console):
        (run,) = read(path)
        assert run.points["step"].tolist() == list(range(1, 41))


@pytest.mark.parametrize(
    "front",
    [
        "Global step {}: ",
        "2026-01-02 10:00:00 INFO trainer: Global step {}: ",
        "(PPOActor pid=12) step={}/400 metrics: ",
        "[iteration {}] ",
    ],
)
def test_the_step_in_front_of_a_dictionary_is_its_step(tmp_path, front):
    path = tmp_path / "train.log"
    lines = [front.format(7 * t) + str({"reward": r(t), "entropy": h(t), "kl": 0.01}) for t in range(1, 12)]
    path.write_text("starting\n" + "\n".join(lines) + "\n")
    (run,) = read(path)
    assert run.points["step"].tolist() == [7.0 * t for t in range(1, 12)]
    assert not {"step-by-order", "no-step"} & codes(run)


@pytest.mark.parametrize(
    "key", ["total_steps", "step_time", "eval/num_steps", "env/steps", "norm_over_optimizer_steps"]
)
def test_plans_and_lengths_are_no_axis(key):
    assert not is_axis(key) and axis_rule(key) is None
    assert count_of_total(key, "5/200") is None


def off_policy(k, coarse="grpo_step", fine="optimizer_step", every=4, start=1, n=20):
    """Rollouts of k optimiser steps, each with a row; an evaluation before training and after every 4th."""
    rows = [{"type": "eval", coarse: start - 1, "accuracy": 0.01}]
    for g in range(start, start + n):
        rows.append({"type": "rollout", coarse: g, "mean_reward": r(g), "format_reward": 0.9})
        for i in range(k):
            update = (g - start) * k + i + 1
            row = {"type": "train", coarse: g, fine: update, "entropy": h(g) - 0.01 * i, "loss": 0.1}
            rows.append(row)
        if (g - start + 1) % every == 0:
            rows.append({"type": "eval", coarse: g, "accuracy": r(g)})
    return rows


@pytest.mark.parametrize("k", [2, 4, 32])
@pytest.mark.parametrize(
    ("coarse", "fine"),
    [("grpo_step", "optimizer_step"), ("rollout/step", "global_step"), ("ppo_iteration", "train/step")],
)
def test_off_policy_steps_are_rollouts_with_their_first_entropy(tmp_path, k, coarse, fine):
    path = write(tmp_path, off_policy(k, coarse, fine))
    (run,) = read(path)
    assert run.points["step"].tolist() == list(range(1, 21))
    assert run.points["entropy"].tolist() == [h(g) for g in range(1, 21)]
    assert run.points["performance"].tolist() == [r(g) for g in range(1, 21)]
    assert "off-policy-steps" in codes(run) and "duplicate-step" not in codes(run)
    (named,) = read(path, Selection(step_key=coarse, on="eval/accuracy"))
    # The one before training is there and pairs with the first entropy, each other one with the next rollout's.
    assert named.points["step"].tolist() == [0, 4, 8, 12, 16]
    assert named.points["entropy"].tolist() == [h(1), h(5), h(9), h(13), h(17)]
    assert named.points["performance"].iloc[0] == 0.01


def test_the_optimisers_own_count_can_be_named(tmp_path):
    (run,) = read(write(tmp_path, off_policy(4)), Selection(step_key="optimizer_step"))
    steps, entropy = run.entropy_series()
    assert steps.tolist() == list(range(1, 81)) and entropy[1] == h(1) - 0.01
    assert run.points["step"].tolist() == list(
        range(1, 81, 4)
    )  # a rollout stands at its first optimiser step
    assert run.points["entropy"].tolist() == [h(g) for g in range(1, 21)]


def test_rows_of_one_rollout_that_count_nothing_else(tmp_path):
    rows = [{"grpo_step": g, "entropy": h(g) - 0.01 * i, "reward": r(g)} for g in range(20) for i in range(3)]
    (run,) = read(write(tmp_path, rows))
    assert run.points["entropy"].tolist() == [h(g) for g in range(20)]
    assert "off-policy-steps" in codes(run) and "duplicate-step" not in codes(run)


@pytest.mark.parametrize(
    ("main", "inner"), [("update", "ppo_epoch"), ("step", "epoch"), ("iteration", "minibatch")]
)
def test_passes_over_one_rollout_count_within_it(tmp_path, main, inner):
    rows = [
        {main: g, inner: i, "entropy": h(g) - 0.01 * i, "reward": r(g)} for g in range(20) for i in range(4)
    ]
    (run,) = read(write(tmp_path, rows))
    assert run.points["entropy"].tolist() == [h(g) for g in range(20)]
    assert "off-policy-steps" in codes(run) and "duplicate-step" not in codes(run)


@pytest.mark.parametrize("lag", [0, 1, 3])
def test_optimiser_steps_that_are_logged_late_find_their_rollout(tmp_path, lag):
    calls = []
    for g in range(30 + lag):
        if g < 30:
            calls.append({"rollout/step": g, "rollout/raw_reward": r(g)})
        if g >= lag:
            first = 4 * (g - lag)
            calls += [
                {"train/step": first + i, "train/entropy_loss": h(g - lag) - 0.01 * i} for i in range(4)
            ]
    (run,) = read(write(tmp_path, calls))
    assert run.points["step"].tolist() == list(range(30))
    assert run.points["entropy"].tolist() == [h(g) for g in range(30)]


def apart(sizes, coarse, fine, last, shared, base=0, name="reward"):
    """Rollouts in rows of their own, before or after the rows of their optimiser steps."""
    rows, update = [], base
    for g, k in enumerate(sizes):
        steps = [{fine: update + i, "entropy": round(h(g) - 0.005 * i, 6), "loss": 0.1} for i in range(k)]
        update += k
        rollout = {coarse: g + 1, name: r(g)}
        if shared:
            rollout[fine] = (steps[-1] if last else steps[0])[fine]
        rows += [*steps, rollout] if last else [rollout, *steps]
    return rows


@pytest.mark.parametrize("sizes", [[4] * 20, [2] * 20, [3, 4] * 10])
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(
    ("coarse", "fine", "base"),
    [
        ("rollout_step", "optimizer_step", 0),
        ("rollout", "opt_step", 1),
        ("orchestrator_step", "trainer_step", 2),
    ],
)
def test_a_rollout_has_its_first_entropy_wherever_its_row_stands(
    tmp_path, sizes, last, shared, coarse, fine, base
):
    (run,) = read(write(tmp_path, apart(sizes, coarse, fine, last, shared, base)))
    assert run.points["step"].tolist() == list(range(1, 21))
    assert run.points["entropy"].tolist() == [h(g) for g in range(20)]
    assert run.points["performance"].tolist() == [r(g) for g in range(20)]
    assert "off-policy-steps" in codes(run) and "duplicate-step" not in codes(run)


@pytest.mark.parametrize("cut", [1, 3])
def test_steps_of_a_rollout_that_was_not_logged_any_more_make_no_point(tmp_path, cut):
    rows = apart([4] * 20, "rollout_step", "optimizer_step", True, True)
    (run,) = read(write(tmp_path, rows[: -5 + cut]))
    assert run.points["step"].tolist() == list(range(1, 20))
    assert run.points["entropy"].tolist() == [h(g) for g in range(19)]


def test_a_count_of_rollouts_beside_steps_that_have_scores_is_no_axis(tmp_path):
    rows = []
    for t in range(40):
        rows.append({"step": t, "entropy": h(t), "reward": r(t)})
        if t % 4 == 3:
            rows.append({"step": t, "rollout_step": t // 4, "rollout/raw_reward": r(t)})
    (run,) = read(write(tmp_path, rows))
    assert len(run.entropy_series()[0]) == 40 and "off-policy-steps" not in codes(run)


def test_an_outer_loop_is_a_rollout_only_where_its_score_is_one(tmp_path):
    def records(score):
        return [
            {"iteration": g, "step": 4 * g + i, "entropy": h(4 * g + i), "reward": score(g, i)}
            for g in range(20)
            for i in range(4)
        ]

    (rollouts,) = read(write(tmp_path, records(lambda g, i: r(g))))
    (steps,) = read(write(tmp_path, records(lambda g, i: r(4 * g + i))))
    assert len(rollouts.points) == 20 and "off-policy-steps" in codes(rollouts)
    assert len(steps.points) == 80 and "off-policy-steps" not in codes(steps)


def several_axes(k, first_update=0):
    """One W&B run: rollouts, updates and evaluations in calls of their own, as slime logs them."""
    calls, update = [], first_update
    for g in range(30):
        calls.append({"rollout/step": g, "rollout/raw_reward": r(g), "rollout/entropy": h(g)})
        for _ in range(k):
            calls.append({"train/step": update, "train/loss": 0.1})
            update += 1
        if g % 3 == 0:
            calls.append({"eval/step": g, "eval/aime": r(g)})
    return [{"_step": i, **call} for i, call in enumerate(calls)]


@pytest.mark.parametrize("k", [1, 4])
def test_several_axes_of_one_run_are_brought_to_one(tmp_path, k):
    path = write(tmp_path, several_axes(k))
    (train,) = read(path, Selection(on="train"))
    assert train.points["step"].tolist() == list(range(30))
    assert train.points["entropy"].tolist() == [h(g) for g in range(30)]
    (val,) = read(path, Selection(on="val"))
    assert val.points["step"].tolist() == list(range(0, 30, 3))
    assert val.points["entropy"].tolist() == [h(g + 1) for g in range(0, 30, 3)]
    assert not {"duplicate-step", "no-step"} & codes(train)


@pytest.mark.parametrize(("rollouts", "updates"), [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("entropy_in_rollout", [True, False])
def test_one_rollout_is_one_step_whatever_its_axes_count_from(
    tmp_path, rollouts, updates, entropy_in_rollout
):
    calls = []
    for g in range(30):
        rollout = {"rollout/step": g + rollouts, "rollout/raw_reward": r(g)}
        update = {"train/step": g + updates, "train/loss": 0.1}
        (rollout if entropy_in_rollout else update)["train/entropy_loss"] = h(g)
        calls += [rollout, update]
    (run,) = read(write(tmp_path, calls))
    assert run.points["entropy"].tolist() == [h(g) for g in range(30)]
    assert run.points["performance"].tolist() == [r(g) for g in range(30)]
    assert ("axes-counted-apart" in codes(run)) == (rollouts != updates)


def test_evaluations_that_are_counted_stand_where_they_were_logged(tmp_path):
    rows = []
    for t in range(40):
        rows.append({"train_step": t, "entropy": h(t), "reward": r(t)})
        if t % 4 == 3:
            rows.append({"eval_step": t // 4, "eval/accuracy": r(t)})
    (run,) = read(write(tmp_path, rows), Selection(on="val"))
    assert run.points["step"].tolist() == list(range(3, 39, 4))


def test_late_evaluations_of_the_same_count_keep_their_number(tmp_path):
    rows = [{"train/step": t, "train/entropy": h(t), "train/reward": r(t)} for t in range(40)]
    for t in range(35, 0, -5):
        rows.insert(t + 3, {"eval/step": t, "eval/accuracy": r(t)})
    (run,) = read(write(tmp_path, rows), Selection(on="val"))
    assert run.points["step"].tolist() == list(range(5, 40, 5))
    assert run.points["entropy"].tolist() == [h(t + 1) for t in range(5, 40, 5)]


def test_calls_of_one_step_are_no_duplicates(tmp_path):
    rows = []
    for t in range(20):
        parts = [{"perf/tput": 1.0}, {"entropy/all/mean": h(t)}, {"time/step": 3.0}, {"reward/mean": r(t)}]
        rows += [
            {"_step": 4 * t + i, "_runtime": 4.0 * t + i, "step": t, **part} for i, part in enumerate(parts)
        ]
    (run,) = read(write(tmp_path, rows))
    assert len(run.points) == 20 and "duplicate-step" not in codes(run)


@pytest.mark.parametrize("outer", ["epoch", "train/epoch", "round", "iteration"])
@pytest.mark.parametrize("inner", ["step", "batch_idx", "iter"])
def test_a_step_that_starts_over_is_counted_through(tmp_path, outer, inner):
    rows = [
        {outer: e, inner: s, "entropy": h(10 * e + s), "accuracy": r(10 * e + s)}
        for e in range(4)
        for s in range(10)
    ]
    (run,) = read(write(tmp_path, rows))
    assert run.points["step"].tolist() == list(range(40)) and "step-within-epoch" in codes(run)
    assert run.points["entropy"].tolist() == [h(t) for t in range(40)]


def test_batches_that_start_over_with_nothing_are_no_step(tmp_path):
    rows = [{"batch": t % 10, "entropy": h(t), "accuracy": r(t)} for t in range(40)]
    (run,) = read(write(tmp_path, rows))
    assert len(run.points) == 40 and "no-step" in codes(run)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(2, 12), min_size=2, max_size=6),
    st.integers(1, 10),
    st.integers(0, 1),
    st.sampled_from(["whole", "end of batch", "start of batch"]),
)
def test_epochs_counted_through_equal_a_plain_count(lengths, every, base, kind):
    step, epoch, truth, passed = [], [], [], 0
    for e, n in enumerate(lengths):
        for s in range(n):
            step.append(every * (s + base))
            done = {"whole": 0.0, "end of batch": (s + 1) / n, "start of batch": s / n}[kind]
            epoch.append(e + done)
            truth.append(passed + every * (s + base))
        passed += every * n
    found = count_epochs(np.array(step, float), np.array(epoch, float))
    assert found is not None and found.tolist() == truth


def test_a_resume_within_an_epoch_is_a_resume():
    rows = [(0, s) for s in range(10)] + [(1, s) for s in range(6)] + [(1, s) for s in range(4, 10)]
    frame = pd.DataFrame([{"epoch": e, "step": s, "h": 100.0 * e + s + i} for i, (e, s) in enumerate(rows)])
    out = assemble(frame.astype(float))
    assert out.metrics.index.tolist() == list(range(20))
    assert "resumed" in [f.code for f in out.findings]


@pytest.mark.parametrize("stride", [64, 512, 1024, 8192])
def test_steps_that_count_samples_are_said_with_the_factor(tmp_path, stride):
    rows = [{"step": stride * t, "entropy": h(t), "accuracy": r(t)} for t in range(1, 41)]
    (run,) = read(write(tmp_path, rows))
    told = next(f for f in run.findings if f.code == "step-counts-samples")
    assert f"by {stride} " in told.what and f"until_step={36 * stride} " in told.hint
    assert told.value == stride
    with pytest.raises(FitRefused, match=f"go up by {stride} at a time"):
        fit(run)
    assert fit(run, until_step=36 * stride).law.n == 36


def test_tokens_go_up_unevenly_and_are_said_too_but_sparse_logs_are_not(tmp_path):
    tokens = np.cumsum(np.random.default_rng(0).integers(200_000, 400_000, 30))
    rows = [{"step": int(s), "entropy": h(t), "accuracy": r(t)} for t, s in enumerate(tokens)]
    assert "step-counts-samples" in codes(read(write(tmp_path, rows))[0])
    rows = [{"step": 20 * t, "entropy": h(t), "accuracy": r(t)} for t in range(30)]
    assert "step-counts-samples" not in codes(read(write(tmp_path, rows))[0])


EPOCHS = [*range(30), *range(20, 50)]  # trained to 30, resumed at 20


@pytest.mark.parametrize("counter", [{}, {"_step": None}])
def test_an_epoch_that_goes_back_is_a_resume(tmp_path, counter):
    rows = [
        {**dict.fromkeys(counter, i), "epoch": e / 100, "entropy": h(e) + i / 1e3, "reward": r(e)}
        for i, e in enumerate(EPOCHS)
    ]
    (run,) = read(write(tmp_path, rows))
    assert len(run.points) == 50 and "resumed" in codes(run)
    assert run.points["entropy"].tolist()[20] == h(20) + 30 / 1e3


def test_a_step_that_goes_on_while_the_epoch_goes_back_is_said(tmp_path):
    rows = [{"step": i, "epoch": e / 100, "entropy": h(e), "reward": r(e)} for i, e in enumerate(EPOCHS)]
    (run,) = read(write(tmp_path, rows))
    assert len(run.points) == 60 and "epoch-goes-back" in codes(run)


def test_epochs_of_a_rollout_are_no_restarts():
    assert not goes_back(np.tile([0.0, 1.0, 2.0, 3.0], 20))
    assert goes_back(np.array(EPOCHS, float))
    assert not goes_back(np.array([0.1, 0.2, np.nan, 0.2, 0.3]))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 15), min_size=1, max_size=5), st.integers(6, 20))
def test_numbers_by_epoch_follow_the_epoch(backs, length):
    epochs = [*range(length)]
    for back in backs:
        start = max(epochs[-1] - back, 0)
        epochs += range(start, start + length)
    number = number_by_epoch(np.arange(1.0, len(epochs) + 1), np.array(epochs) / 7)
    assert number.tolist() == [e + 1.0 for e in epochs]


def test_an_evaluation_before_the_first_step_is_kept(tmp_path):
    rows = [{"eval/accuracy": 0.1}]
    for t in range(1, 21):
        rows.append({"step": t, "entropy": h(t), "reward": r(t)})
        if t % 5 == 1:
            rows.append({"step": t, "eval/accuracy": r(t)})
    (run,) = read(write(tmp_path, rows), Selection(on="val"))
    assert run.points["step"].tolist() == [0, 1, 6, 11, 16]
    assert run.points["entropy"].tolist()[:2] == [h(1), h(2)]


@pytest.mark.parametrize("sample", [{"prompt": "2 + 2"}, {"sample_id": 3}, {"response": [1, 2]}, {}])
def test_rows_of_samples_are_left_out_and_those_of_batches_are_not(tmp_path, sample):
    rows = []
    for t in range(20):
        rows += [{"type": "rollout", "step": t, **sample, "reward": float(i % 2)} for i in range(4)]
        rows.append({"type": "train", "step": t, "entropy": h(t), "reward": r(t)})
    (run,) = read(write(tmp_path, rows))
    assert "sample-rows" in codes(run)
    assert run.points["performance"].tolist() == [r(t) for t in range(20)]


ANY = st.floats(-3, 3, allow_nan=False)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["step", "train/step", "rollout/step", "eval/step", "_step", "none"]),
            st.integers(0, 9),
            st.sampled_from(["entropy", "reward", "eval/accuracy"]),
            ANY,
        ),
        min_size=1,
        max_size=40,
    )
)
def test_no_value_is_invented_on_any_mixture_of_axes(records):
    rows = pd.DataFrame([{axis: float(s), key: v} for axis, s, key, v in records]).astype(float)
    found = resolve_step(rows)
    assert len(found.step) == len(rows)
    out = assemble(rows).metrics
    assert out.index.is_unique and out.index.is_monotonic_increasing
    for key in {"entropy", "reward", "eval/accuracy"} & set(out.columns):
        assert set(out[key].dropna()) <= {v for _, _, k, v in records if k == key}
