"""The law inside verl: its real loop, loggers and configuration, with made-up metrics in place of GPUs' work."""

import json
import logging
import math
import re
import types

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra (torch)")
pytest.importorskip("verl", reason="needs verl in a venv of its own: `make test-verl`")
pytest.importorskip("transfer_queue", reason="needs TransferQueue (`make test-verl`)")

import numpy as np  # noqa: E402
from hydra import compose, initialize_config_module  # noqa: E402
from omegaconf import OmegaConf  # noqa: E402
from verl.trainer.ppo.v1 import trainer_base  # noqa: E402

import entlaw  # noqa: E402
from entlaw.engines.verl import launch  # noqa: E402
from entlaw.engines.verl.trainer import WholeBatchTrainer  # noqa: E402
from entlaw.engines.verl.watching import ENDED, JOURNAL, numbers, watch_of  # noqa: E402
from entlaw.errors import UsageError  # noqa: E402
from entlaw.train.observers import records  # noqa: E402
from entlaw.train.schema import Watch  # noqa: E402
from entlaw.watch.watcher import Watcher  # noqa: E402

RULE = "P(gain > 1%) < 0.05"
BASE = [
    "trainer.v1.trainer_mode=entlaw_sync",
    "actor_rollout_ref.rollout.name=vllm",
    "critic.enable=false",
    "algorithm.adv_estimator=grpo",
    "trainer.logger=[console,file]",
    "trainer.save_freq=4",
    "trainer.test_freq=2",
    "+trainer.v1.entlaw.watch.on=true",
]
pytestmark = pytest.mark.filterwarnings("default")


def metrics_at(step):
    """A run on the law whose entropy is gone early: little is left to gain."""
    noise = 0.002 * math.sin(7.0 * step)
    entropy = 0.02 + 1.5 * math.exp(-step / 4)
    return {"actor/entropy": np.float64(entropy), "critic/score/mean": 0.8 - 0.2 * math.exp(entropy) + noise}


def validation_at(step):
    """Of the policy that the next step's entropy is of."""
    return {"val-core/gsm8k/acc/mean@1": 0.8 - 0.2 * math.exp(metrics_at(step + 1)["actor/entropy"])}


class Loop(WholeBatchTrainer):
    """verl's ``fit`` with our hook, around steps that need no GPU."""

    def step(self, metrics, timing_raw):
        self.done.append(self.global_steps)
        metrics.update(metrics_at(self.global_steps))
        return types.SimpleNamespace(keys=[], tags=[], partition_id="none")

    def _validate(self):
        return validation_at(self.global_steps)

    def _save_checkpoint(self):
        self.saved.append(self.global_steps)

    def _compute_metrics(self, batch, metrics, *args, **kwargs):
        pass

    def _nothing(self, *args, **kwargs):
        pass

    _reissue_inflight_prompts = _start_profiling = _stop_profiling = _shutdown_dump_executor = _nothing
    on_step_end = on_sample_end = on_init_end = on_train_begin = _nothing


def loop(folder, *extra, steps=40, start=0, monkeypatch):
    """A trainer that verl's own constructor has made."""
    monkeypatch.setenv("VERL_FILE_LOGGER_PATH", str(folder / f"from-{start}.jsonl"))
    monkeypatch.setattr(trainer_base.tq, "kv_clear", lambda **kwargs: None)
    with initialize_config_module("verl.trainer.config", version_base=None):
        config = compose(
            "ppo_trainer", [*BASE, f"trainer.default_local_dir={folder / 'checkpoints'}", *extra]
        )
    t = object.__new__(Loop)
    t._build_replay_buffer = lambda: None
    Loop.__init__(t, config)
    t.done, t.saved = [], []
    t.global_steps, t.steps_per_epoch, t.total_training_steps = start, 1000, steps
    return t


def rows(folder, start=0):
    lines = (folder / f"from-{start}.jsonl").read_text().splitlines()
    return [{"step": row["step"], **row["data"]} for row in map(json.loads, lines)]


def with_law(log):
    return {row["step"]: {k: v for k, v in row.items() if k.startswith("entlaw/")} for row in log}


def test_the_law_goes_with_verls_metrics_to_all_its_loggers(tmp_path, monkeypatch, capsys):
    t = loop(tmp_path, monkeypatch=monkeypatch)
    t.fit(None)
    assert t.done == list(range(1, 41)), "without a rule nothing ends"
    log = rows(tmp_path)
    found = {step: row for step, row in with_law(log).items() if row}
    assert found and all("entlaw/verdict" in row for row in found.values())
    assert all(isinstance(v, float) for row in found.values() for v in row.values())
    last = found[max(found)]
    assert last["entlaw/ceiling_lo"] <= last["entlaw/ceiling"] <= last["entlaw/ceiling_hi"]
    assert last["entlaw/ceiling"] == pytest.approx(0.6, abs=0.02)
    printed = capsys.readouterr().out
    assert f"entlaw/ceiling:{last['entlaw/ceiling']}" in re.sub(r"np\.float64\(([^)]*)\)", r"\1", printed)
    # The same as a watcher that is handed the logged rows.
    alone = Watcher(
        40, name="alone", config=dict(entlaw_flat(t.config)), selection=entlaw.Selection(on="val")
    )
    for row in log:
        report = alone.observe(row["step"], {k: v for k, v in row.items() if k != "step"})
        said = {} if report is None else report.metrics()
        assert {k: v for k, v in said.items() if math.isfinite(v)} == with_law(log)[row["step"]]


def entlaw_flat(config):
    from entlaw.runs.table import flatten

    return flatten(OmegaConf.to_container(config, resolve=True))


def test_a_rule_ends_the_run_with_verls_own_last_step(tmp_path, monkeypatch, caplog):
    t = loop(tmp_path, f"+trainer.v1.entlaw.watch.stop_when='{RULE}'", monkeypatch=monkeypatch)
    with caplog.at_level(logging.WARNING):
        t.fit(None)
    last = t.done[-1]
    assert 4 < last < 40 and t.saved[-1] == last, "verl saves its last step whatever save_freq is"
    assert "val-core/gsm8k/acc/mean@1" in rows(tmp_path)[-1], "and validates it"
    (said,) = {r.getMessage() for r in caplog.records if "entlaw ends" in r.getMessage()}
    assert ENDED.search(said)[1] == str(last) and RULE in said


def test_a_run_that_goes_on_is_watched_from_its_beginning(tmp_path, monkeypatch):
    whole = loop(tmp_path / "whole", steps=24, monkeypatch=prepared(tmp_path / "whole", monkeypatch))
    whole.fit(None)
    cut = tmp_path / "cut"
    first = loop(cut, steps=24, monkeypatch=prepared(cut, monkeypatch))
    first.total_training_steps = 24
    real = first.step

    def killed(metrics, timing_raw):
        if first.global_steps == 15:
            raise KeyboardInterrupt
        return real(metrics, timing_raw)

    first.step = killed
    with pytest.raises(KeyboardInterrupt):
        first.fit(None)
    assert [r["step"] for r in records(cut / "checkpoints" / JOURNAL)] == list(range(15))
    second = loop(cut, "trainer.val_before_train=false", steps=24, start=12, monkeypatch=monkeypatch)
    second.fit(None)
    assert second.done == list(range(13, 25))
    expected = with_law(rows(tmp_path / "whole"))
    got = with_law(rows(cut, 12))
    assert got == {step: expected[step] for step in got} and any(got.values())
    kept = [r["step"] for r in records(cut / "checkpoints" / JOURNAL)]
    assert kept == list(range(25))


def prepared(folder, monkeypatch):
    folder.mkdir()
    return monkeypatch


def test_a_watcher_that_breaks_is_a_warning(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(Watcher, "observe", lambda *a: 1 / 0)
    t = loop(tmp_path, steps=6, monkeypatch=monkeypatch)
    with caplog.at_level(logging.WARNING):
        t.fit(None)
    assert t.done == list(range(1, 7))
    assert sum("ZeroDivisionError" in r.getMessage() for r in caplog.records) == 1


def test_without_the_switch_verls_loggers_are_verls(tmp_path, monkeypatch):
    t = loop(tmp_path, "trainer.v1.entlaw.watch.on=false", steps=3, monkeypatch=monkeypatch)
    t.fit(None)
    assert type(t.logger).__name__ == "Tracking" and not any(with_law(rows(tmp_path)).values())
    assert not (tmp_path / "checkpoints").exists()


def test_a_disk_that_takes_no_journal_is_a_warning(tmp_path, monkeypatch, caplog):
    (tmp_path / "checkpoints").write_text("a file where the folder should be")
    t = loop(tmp_path, steps=12, monkeypatch=monkeypatch)
    with caplog.at_level(logging.WARNING):
        t.fit(None)
    assert any(with_law(rows(tmp_path)).values()) and any(JOURNAL in r.getMessage() for r in caplog.records)


@pytest.mark.parametrize(
    "own, says",
    [
        ({"onn": True}, "onn"),
        ({"every": 0}, "watch.every"),
        ({"on": "yes"}, "watch.on"),
        ({"stop_when": RULE}, "watch.on"),
        ({"on": True, "stop_when": "when it is late"}, "stop_when"),
    ],
)
def test_what_cannot_be_is_said(own, says):
    with pytest.raises(UsageError, match=says):
        watch_of(own)
    assert watch_of({}) == Watch()


def test_numbers_of_verls_metrics():
    given = {
        "a": np.float32(0.5),
        "b": torch.tensor(2),
        "c": "text",
        "d": [1],
        "entlaw/x": 1.0,
        "e": True,
        "f": None,
    }
    assert numbers(given) == {"a": 0.5, "b": 2.0, "e": 1.0}


def test_the_end_by_a_rule_is_exit_code_5(tmp_path, monkeypatch, capfd):
    """verl's output as Ray forwards it, and a program of our own in place of verl."""
    line = "(TaskRunner pid=7) entlaw ends the run after step 12: P(gain > 1%) < 0.05 held"
    monkeypatch.setattr(launch, "command", lambda arguments: ["echo", *arguments])
    assert launch.launch([line], {}, tmp_path) == 5
    assert launch.launch(["step:12"], {}, tmp_path) == 0
    assert line in capfd.readouterr().err
    assert entlaw.__version__
