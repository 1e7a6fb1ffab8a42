"""The law inside our own trainer: in its log, the same after a stop, and a rule that ends a run and says so."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra (torch)")

import entlaw  # noqa: E402
from entlaw.cli.app import run as main  # noqa: E402
from entlaw.cli.output import plain  # noqa: E402
from entlaw.errors import UsageError  # noqa: E402
from entlaw.law.result import examine  # noqa: E402
from entlaw.points import Points  # noqa: E402
from entlaw.train import observers, ray_train, runner  # noqa: E402
from entlaw.train import recipe as recipes  # noqa: E402
from entlaw.train.schema import Checkpoint, RunSettings, Validation, Watch  # noqa: E402
from entlaw.watch.report import VERDICT_CODES  # noqa: E402
from entlaw.watch.watcher import Watcher  # noqa: E402
from tests.train.test_observers import SMALL, cache, records, weights, without  # noqa: E402, F401

ALWAYS = "step > 8"  # holds from the validation at step 9 on, three of which must come in a row
# Steps large enough for entropy and score to move within 14 of them: of a run that stands still the law is refused.
WATCHED = replace(
    SMALL,
    run=RunSettings(steps=14),
    rollout=replace(SMALL.rollout, prompts=16),
    optimizer=replace(SMALL.optimizer, lr=3e-3),
    validation=Validation(every=1, problems=64, samples=2),
    watch=Watch(on=True, target=0.9),
)
SETTINGS = [
    "policy.size=xs",
    "warmup.clean_steps=30",
    "warmup.noisy_steps=5",
    "warmup.batch_size=32",
    "rollout.prompts=8",
    "rollout.group_size=4",
    "loss.mini_batches=2",
    "validation.every=1",
    "validation.problems=16",
    "run.steps=14",
    "watch.on=true",
    f"watch.stop_when={ALWAYS}",
]
SET = [word for setting in SETTINGS for word in ("--set", setting)]


def law(row):
    return {k: v for k, v in row.items() if k.startswith("entlaw/")}


@pytest.fixture(scope="module")
def watched(tmp_path_factory, cache):  # noqa: F811
    folder = tmp_path_factory.mktemp("watched") / "run"
    told = []
    runner.train(WATCHED, folder, on_finding=told.append)
    assert "observer-failed" not in {f.code for f in told}
    return folder


def test_the_report_comes_with_the_record_that_completes_a_point(watched):
    """A validation measures its own entropy: the last one's report does not wait for the closing look of step 15."""
    log = records(watched)
    with_law = [r["step"] for r in log if law(r)]
    assert log[-1]["step"] == 15 and with_law == list(range(with_law[0], 15))
    found = {r["step"]: law(r) for r in log if law(r)}
    assert all("entlaw/verdict" in row for row in found.values())
    assert all(isinstance(v, float) for row in found.values() for v in row.values())
    # Which numbers are there is what a watcher from outside says; of a refused law there are none.
    (run,) = entlaw.read(watched)
    outside = {r.step: r.metrics() for r in Watcher(total_steps=14, target=0.9).replay(run)}
    assert {step: set(row) for step, row in found.items()} == {step: set(outside[step]) for step in found}


def test_what_was_logged_is_what_entlaw_fit_finds_afterwards(watched):
    (run,) = entlaw.read(watched)
    # The closing look logs one more entropy of the batches, which came too late for the last report.
    points = Points.from_run(run)
    result = examine(run, points=points.first(points.n))
    assert (points.log_step[-1], result.points.log_step[-1]) == (15, 14)
    last = next(law(r) for r in reversed(records(watched)) if law(r))
    assert result.points.n == 15
    assert last["entlaw/verdict"] == VERDICT_CODES[result.forecast.verdict]
    fit = result.law
    expected = dict.fromkeys(("entlaw/ceiling", "entlaw/ceiling_lo", "entlaw/ceiling_hi"), math.nan)
    if fit is not None:  # of a refused law no number is logged
        ends = fit.ceiling_interval
        expected = dict(zip(expected, (fit.ceiling, ends.lo, ends.hi), strict=True))
    for key, value in expected.items():
        if math.isfinite(value):
            assert last[key] == pytest.approx(value, rel=1e-5)
        else:
            assert key not in last


def test_a_log_with_entlaw_keys_reads_and_fits_as_one_without(watched, tmp_path):
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "run.json").write_bytes((watched / "run.json").read_bytes())
    lines = [
        {k: v for k, v in json.loads(line).items() if not k.startswith("entlaw/")}
        for line in (watched / "metrics.jsonl").read_text().splitlines()
    ]
    (tmp_path / "bare" / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (one,), (other,) = entlaw.read(watched), entlaw.read(tmp_path / "bare")
    assert one.points.equals(other.points) and one.entropy == other.entropy
    assert (one.performance_key, one.align) == (other.performance_key, other.align)
    a, b = (plain(examine(replace(run, name="x")).to_dict()) for run in (one, other))
    assert all(a[key] == b[key] for key in ("law", "forecast", "verdict", "state", "findings"))


@pytest.mark.parametrize("missing", ["actor/entropy", "val/accuracy"])
def test_entlaw_keys_are_never_taken_for_entropy_or_performance(watched, tmp_path, missing):
    lines = [json.loads(line) for line in (watched / "metrics.jsonl").read_text().splitlines()]
    kept = [
        {
            k: v
            for k, v in r.items()
            if k == "step" or k.startswith("entlaw/") or k in {"actor/entropy", "val/accuracy"}
        }
        for r in lines
    ]
    for r in kept:
        r.pop(missing, None)
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in kept))
    with pytest.raises(entlaw.errors.MissingSeries):
        entlaw.read(tmp_path / "metrics.jsonl")


def test_watching_changes_nothing_of_the_run(watched, tmp_path):
    runner.train(replace(WATCHED, watch=Watch()), tmp_path / "a")
    assert without(records(watched)) == records(tmp_path / "a")
    assert weights(watched) == weights(tmp_path / "a")


def test_stop_and_resume_equals_no_stop_entlaw_keys_included(watched, tmp_path):
    recipe = replace(WATCHED, checkpoint=Checkpoint(every=5))

    class Enough(Exception):
        pass

    def stop_at(step, record):
        if step == 12:  # behind the checkpoint of step 10: two steps are done again
            raise Enough

    with pytest.raises(Enough):
        runner.train(recipe, tmp_path / "cut", on_record=stop_at)
    runner.train(recipe, tmp_path / "cut", resume=True)
    assert records(tmp_path / "cut") == records(watched)


def test_every_other_validation(watched, tmp_path):
    runner.train(replace(WATCHED, watch=Watch(on=True, every=2, target=0.9)), tmp_path / "a")
    dense, sparse = records(watched), records(tmp_path / "a")
    with_law = [r["step"] for r in sparse if law(r)]
    assert with_law and all(b - a == 2 for a, b in pairwise(with_law))
    for one, other in zip(dense, sparse, strict=True):
        assert law(other).get("entlaw/ceiling") in (None, law(one).get("entlaw/ceiling"))


def test_the_rule_ends_the_run_by_exit_code_5_and_going_on_is_a_decision(tmp_path, capsys):
    folder = tmp_path / "run"
    assert main(["train", *SET, "-o", str(folder)]) == 5
    said = capsys.readouterr().err
    assert f"by the rule {ALWAYS}" in said and "watch.stop_when=" in said
    info = json.loads((folder / "run.json").read_text())
    assert info["status"] == "stopped" and ALWAYS in info["reason"]
    stopped = info["step"]
    assert 11 <= stopped < 14 and records(folder)[-1]["step"] == stopped
    assert main(["train", "--resume", str(folder), "--json"]) == 5
    told = capsys.readouterr()
    out = json.loads(told.out)
    assert (out["status"], out["step"]) == ("stopped", stopped) and ALWAYS in out["reason"]
    assert ALWAYS in told.err and records(folder)[-1]["step"] == stopped, "not a step more"
    assert main(["train", "--resume", str(folder), "--set", "watch.stop_when="]) == 0
    assert records(folder)[-1]["step"] == 15
    assert "reason" not in json.loads((folder / "run.json").read_text())


def test_a_law_that_breaks_is_a_warning(tmp_path, monkeypatch):
    monkeypatch.setattr(Watcher, "observe", lambda *a: 1 / 0)
    told = []
    outcome = runner.train(replace(WATCHED, run=RunSettings(steps=3)), tmp_path / "a", on_finding=told.append)
    assert outcome.status == "finished"
    assert [f.severity for f in told if "ZeroDivisionError" in f.what] == ["warning"]


def test_the_rule_may_name_the_target():
    rule = "P(ceiling > target) < 0.1"
    assert observers.explain_bad_rule(Watch(on=True, stop_when=rule, target=0.5)) is None
    what, _ = observers.explain_bad_rule(Watch(on=True, stop_when=rule))
    assert "target" in what
    with pytest.raises(UsageError, match=r"watch\.stop_when"):
        main_check = recipes.load(None, ["watch.on=true", f"watch.stop_when={rule}"])
        from entlaw.train.rules import check

        check(main_check)


def test_two_ranks_stop_at_the_same_step(tmp_path):
    """torchrun (gloo): the first rank watches, both stop."""
    call = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*call, "-m", "entlaw.cli", "train", *SET, "--set", "run.device=cpu", "-o", str(tmp_path / "run")],
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
    )
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    assert info["status"] == "stopped" and ALWAYS in info["reason"], done.stderr[-2000:]
    assert records(tmp_path / "run")[-1]["step"] == info["step"] < 14
    assert done.stderr.count(f"by the rule {ALWAYS}") == 1


def test_what_a_worker_tells_of_its_end_holds_the_reason(tmp_path):
    """As Ray Train's first worker writes it and the driver reads it."""
    outcome = runner.TrainingOutcome(tmp_path, "stopped", 12, 1.0, {"a": 1.0}, None, "the rule")
    told = json.loads(json.dumps({**asdict(outcome), "folder": str(tmp_path)}))
    assert ray_train._outcome(told, tmp_path) == outcome
