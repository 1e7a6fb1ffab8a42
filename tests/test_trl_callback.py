"""The law in the log of TRL's real trainer, and a rule that ends it; on a tiny model, on a CPU."""

import json
import math
import warnings
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the train extra (torch)")
pytest.importorskip("trl", reason="needs the dev extra (trl)")

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments  # noqa: E402
from trl import GRPOTrainer  # noqa: E402

from entlaw.engines.law_callback import EntlawCallback  # noqa: E402
from entlaw.errors import UsageError  # noqa: E402
from entlaw.law.result import examine  # noqa: E402
from entlaw.runs.reader import read  # noqa: E402
from entlaw.watch.watcher import Watcher  # noqa: E402
from tests.test_trl_adapter import trainer  # noqa: E402

pytestmark = pytest.mark.filterwarnings("default")  # what TRL and transformers warn of is theirs
torch.set_num_threads(1)
RULE = "P(gain > 1%) < 0.05"
ALWAYS = "step > 8"


@pytest.fixture(scope="module", autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def history(n, a=0.1, b=0.9, fast=12.0):
    """A run on the law, as TRL logs it."""
    rng = np.random.default_rng(0)
    rows = []
    for step in range(1, n + 1):
        entropy = 1.6 * math.exp(-step / fast) + 0.05
        score = b - a * math.exp(entropy) + 0.004 * rng.standard_normal()
        rows.append(
            {
                "entropy": entropy,
                "reward": score,
                "reward_std": 0.3,
                "loss": 0.0,
                "epoch": step / 100,
                "x": None,
            }
        )
    return rows


def played(callback, rows, folder, *, before=(), max_steps=100):
    """The trainer's own state and control, and its order of calls; returns the state and the step it stopped after."""
    args = TrainingArguments(output_dir=str(folder), report_to=[], use_cpu=True)
    state, control = TrainerState(max_steps=max_steps), TrainerControl()
    state.log_history = [dict(row) for row in before]
    callback.on_train_begin(args, state, control)
    for number, row in enumerate(rows, len(before) + 1):
        state.global_step = number
        callback.on_step_end(args, state, control)
        logs = dict(row)
        state.log_history.append({**logs, "step": number})
        callback.on_log(args, state, control, logs=logs)
        if control.should_training_stop:
            break
    return SimpleNamespace(history=state.log_history, step=state.global_step, control=control)


def law(row):
    return {k: v for k, v in row.items() if k.startswith("entlaw/")}


def test_what_it_logs_is_what_entlaw_fit_finds_in_the_trainers_state(tmp_path):
    callback = EntlawCallback()
    run = played(callback, history(40), tmp_path)
    assert run.step == 40 and callback.failed == ""
    (tmp_path / "trainer_state.json").write_text(json.dumps({"log_history": run.history}))
    (found,) = read(tmp_path / "trainer_state.json")
    alone = examine(found).law
    last = law(run.history[-1])
    assert alone.n == 36 and abs(alone.ceiling - 0.8) < 0.02
    assert last["entlaw/ceiling"] == alone.ceiling
    assert last["entlaw/ceiling_lo"] == alone.ceiling_interval.lo
    assert last["entlaw/ceiling_hi"] == alone.ceiling_interval.hi
    bare = [{k: v for k, v in row.items() if not k.startswith("entlaw/")} for row in run.history]
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "trainer_state.json").write_text(json.dumps({"log_history": bare}))
    (other,) = read(tmp_path / "bare" / "trainer_state.json")
    without = examine(other).law
    assert found.points.equals(other.points) and without.findings == alone.findings
    assert (without.a, without.b, without.ceiling_interval) == (alone.a, alone.b, alone.ceiling_interval)


def test_numbers_only_and_none_but_its_own(tmp_path):
    run = played(EntlawCallback(target=0.7), history(30), tmp_path)
    added = [law(row) for row in run.history]
    assert all(type(v) is float and math.isfinite(v) for row in added for v in row.values())
    assert set(added[-1]) >= {"entlaw/verdict", "entlaw/ceiling", "entlaw/ceiling_lo", "entlaw/ceiling_hi"}
    for row, given in zip(run.history, history(30), strict=True):
        assert {k: v for k, v in row.items() if k != "step" and not k.startswith("entlaw/")} == given


def test_a_rule_ends_the_training_and_saves(tmp_path):
    rows = history(60, fast=4.0)
    with pytest.warns(UserWarning, match="entlaw ends the training at step"):
        run = played(EntlawCallback("P(gain > 5%) < 0.2"), rows, tmp_path)
    assert run.step < 60 and run.control.should_training_stop and run.control.should_save
    assert run.history[-1]["entlaw/p_gain"] < 0.2
    assert played(EntlawCallback(), rows, tmp_path).step == 60, "only if told"


def test_going_on_from_a_checkpoint_is_as_if_never_stopped(tmp_path):
    rows = history(30)
    whole = played(EntlawCallback(), rows, tmp_path).history
    again = played(EntlawCallback(), rows[17:], tmp_path, before=whole[:17]).history
    assert again == whole


def test_a_run_that_the_rule_ended_ends_again_unless_the_rule_is_gone(tmp_path):
    rows = history(40)
    with pytest.warns(UserWarning, match=ALWAYS):
        first = played(EntlawCallback(ALWAYS), rows, tmp_path)
    with pytest.warns(UserWarning, match=ALWAYS):
        second = played(EntlawCallback(ALWAYS), rows[first.step :], tmp_path, before=first.history)
    assert second.step == first.step + 1
    assert played(EntlawCallback(), rows[first.step :], tmp_path, before=first.history).step == 40


def test_a_watcher_that_breaks_is_a_warning(tmp_path, monkeypatch):
    monkeypatch.setattr(Watcher, "observe", lambda *a: 1 / 0)
    callback = EntlawCallback(RULE)
    with pytest.warns(UserWarning, match="training continues: ZeroDivisionError") as told:
        run = played(callback, history(12), tmp_path)
    assert run.step == 12 and "ZeroDivisionError" in callback.failed
    assert sum("training continues" in str(w.message) for w in told) == 1
    assert not any(law(row) for row in run.history)


@pytest.mark.parametrize(
    "settings, says",
    [
        ({"stop_when": "when it is late"}, "stop_when"),
        ({"level": 1.5}, "level"),
        ({"every": 0}, "every"),
        ({"target": 80}, "target"),
    ],
)
def test_what_cannot_be_is_said_at_once(settings, says):
    with pytest.raises(UsageError, match=says):
        EntlawCallback(**settings)


class Reporter(TrainerCallback):
    """Keeps what it is given."""

    def __init__(self):
        self.seen = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.seen.append(dict(logs or {}))


def test_in_a_real_grpo_run(tmp_path):
    reporter = Reporter()
    t = trainer(GRPOTrainer, steps=12, folder=tmp_path, callbacks=[reporter])
    callback = EntlawCallback().add_to(t)
    t.train()
    assert t.state.global_step == 12 and callback.failed == "" and callback.report is not None
    logged = [(row["step"], law(row)) for row in t.state.log_history if law(row)]
    assert logged and logged[-1][0] == 12
    assert [law(row) for row in reporter.seen if law(row)] == [row for _, row in logged], "reporters see them"


def test_a_rule_ends_a_real_grpo_run_with_a_checkpoint(tmp_path):
    t = trainer(GRPOTrainer, steps=20, folder=tmp_path, options={"save_strategy": "steps", "save_steps": 500})
    EntlawCallback(ALWAYS).add_to(t)
    with pytest.warns(UserWarning, match="entlaw ends the training"):
        t.train()
    end = t.state.global_step
    assert 8 < end < 20
    assert (tmp_path / f"checkpoint-{end}" / "trainer_state.json").is_file()
    more = trainer(GRPOTrainer, steps=end + 2, folder=tmp_path)
    callback = EntlawCallback().add_to(more)
    more.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{end}"))
    rows = [row for row in more.state.log_history if "entropy" in row]
    assert [row["step"] for row in rows] == list(
        range(1, end + 3)
    ) and callback.report.result.points.n == end + 2
