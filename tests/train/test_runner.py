"""Whole runs: what they leave behind, stopping and going on, and what is said when they cannot."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

import entlaw
from entlaw.errors import CheckpointError, DataError, UsageError
from entlaw.tasks.arithmetic import Arithmetic
from entlaw.train import checkpoint, runner
from entlaw.train import recipe as recipes
from entlaw.train.failure import TrainingFailed
from entlaw.train.schema import (
    Algorithm,
    Checkpoint,
    ClipCov,
    Controls,
    KlCov,
    Loss,
    Policy,
    Recipe,
    Rollout,
    RunSettings,
    TaskSettings,
    Validation,
    Warmup,
)
from tests.conftest import PATIENCE

SMALL = Recipe(
    run=RunSettings(steps=4),
    policy=Policy(size="xs"),
    warmup=Warmup(clean_steps=30, noisy_steps=5, batch_size=32),
    rollout=Rollout(prompts=8, group_size=4),
    loss=Loss(mini_batches=2),
    validation=Validation(every=2, problems=16, samples=2),
)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """One warm-up for all tests of this file."""
    patch = pytest.MonkeyPatch()
    patch.setenv("ENTLAW_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


def records(folder):
    """The log without what a clock decides."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in r.items() if not k.startswith(("time/", "perf/"))} for r in lines]


def weights(folder):
    return (checkpoint.latest(folder).path / "policy" / "model.safetensors").read_bytes()


def test_what_a_run_leaves_behind(tmp_path):
    outcome = runner.train(SMALL, tmp_path / "a")
    assert outcome.status == "finished" and outcome.step == 4
    log = records(tmp_path / "a")
    assert [r["step"] for r in log] == [0, 1, 2, 3, 4, 5]
    assert set(log[0]) >= {"val/accuracy", "val/problems"} and "actor/entropy" not in log[0]
    assert all("val/accuracy" in log[i] for i in (0, 2, 4)) and "val/accuracy" not in log[1]
    assert "actor/loss" not in log[5] and "actor/entropy" in log[5]  # the closing look does not learn
    for r in log[1:5]:
        assert r["actor/entropy_change"] == pytest.approx(
            r["actor/entropy_after"] - r["actor/entropy"], abs=2e-5
        )
    info = json.loads((tmp_path / "a" / "run.json").read_text())
    assert info["status"] == "finished" and info["recipe"]["rollout"]["prompts"] == 8
    assert info["entropy_meaning"]["when"] == "before-update"
    (run,) = entlaw.read(tmp_path / "a", entlaw.Selection(on="val"))
    assert run.entropy.estimator == "exact"
    assert (run.problems, run.samples) == (16, 2)


def test_two_runs_of_one_recipe_are_the_same_and_the_seed_matters(tmp_path):
    for name, recipe in (("a", SMALL), ("b", SMALL), ("c", replace(SMALL, run=replace(SMALL.run, seed=1)))):
        runner.train(recipe, tmp_path / name)
    assert records(tmp_path / "a") == records(tmp_path / "b")
    assert weights(tmp_path / "a") == weights(tmp_path / "b")
    assert weights(tmp_path / "a") != weights(tmp_path / "c")
    assert records(tmp_path / "a")[0] == records(tmp_path / "c")[0]  # one base policy, one test


CASES = {
    "grpo": SMALL,
    "ppo": replace(SMALL, algorithm=Algorithm(name="ppo")),
    "prime": replace(SMALL, algorithm=Algorithm(name="prime")),
    "kl and adaptive bonus": replace(
        SMALL,
        controls=Controls(kl_coef=0.1, entropy_target=5.0, entropy_step=0.01, clip_cov=ClipCov(ratio=0.05)),
    ),
    "refills": replace(SMALL, algorithm=Algorithm(max_refills=2)),
}


@pytest.mark.parametrize("name", CASES)
def test_stopping_and_going_on_is_the_same_as_not_stopping(tmp_path, name):
    recipe = replace(CASES[name], checkpoint=Checkpoint(every=3))
    runner.train(recipe, tmp_path / "whole")

    class Enough(Exception):
        pass

    def stop_at(step, record):
        if step == limit:
            raise Enough

    for limit in (1, 4):  # before the first checkpoint but one, and after the second
        with pytest.raises(Enough):
            runner.train(recipe, tmp_path / "cut", resume=limit != 1, on_record=stop_at)
    runner.train(recipe, tmp_path / "cut", resume=True)
    assert records(tmp_path / "cut") == records(tmp_path / "whole")
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")


def test_a_longer_run_goes_on_from_a_shorter_one(tmp_path):
    runner.train(SMALL, tmp_path / "a")
    longer = replace(SMALL, run=replace(SMALL.run, steps=6))
    runner.train(longer, tmp_path / "b")
    runner.train(longer, tmp_path / "a", resume=True)
    assert records(tmp_path / "a") == records(tmp_path / "b")


def test_a_finished_run_is_finished(tmp_path):
    runner.train(SMALL, tmp_path / "a")
    before = records(tmp_path / "a")
    assert runner.train(SMALL, tmp_path / "a", resume=True).status == "finished"
    assert records(tmp_path / "a") == before


def test_a_run_is_not_overwritten(tmp_path):
    runner.train(SMALL, tmp_path / "a")
    before = records(tmp_path / "a")
    with pytest.raises(UsageError, match="holds a run already"):
        runner.train(SMALL, tmp_path / "a")
    assert records(tmp_path / "a") == before


def test_a_start_that_failed_does_not_block_the_folder(tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    other = replace(SMALL, policy=Policy(size="xs", seed=1))
    with monkeypatch.context() as patch:
        patch.setattr(runner.Trainer, "__init__", killed)  # after its base policy was put into the folder
        with pytest.raises(KeyboardInterrupt):
            runner.train(other, tmp_path / "a")
    assert (tmp_path / "a" / "base").is_dir()
    runner.train(SMALL, tmp_path / "a")  # the recipe put right; its own base policy, not that of before
    runner.train(SMALL, tmp_path / "b")
    assert records(tmp_path / "a") == records(tmp_path / "b")


@pytest.mark.parametrize("below", ["file", "file/a"])
def test_a_folder_that_cannot_be_made_is_told(tmp_path, below):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be made") as error:
        runner.train(SMALL, tmp_path / below)
    assert "-o" in error.value.hint


def test_too_few_held_out_problems_are_told_before_anything_is_computed(tmp_path):
    few = replace(
        SMALL, task=TaskSettings(operations=(1,), operators="+"), validation=Validation(problems=17)
    )
    with pytest.raises(UsageError, match="fewer than 17 different problems") as error:
        runner.train(few, tmp_path / "a")
    assert "validation.problems" in error.value.hint and not (tmp_path / "a" / "base").exists()


def test_a_changed_recipe_is_refused_with_the_difference(tmp_path):
    runner.train(SMALL, tmp_path / "a")
    changed = replace(SMALL, loss=replace(SMALL.loss, clip_ratio_high=0.28))
    with pytest.raises(UsageError, match=r"loss\.clip_ratio_high: was 0\.2, is 0\.28"):
        runner.train(changed, tmp_path / "a", resume=True)


def test_resuming_nothing_is_said(tmp_path):
    with pytest.raises(UsageError, match="no run to continue"):
        runner.train(SMALL, tmp_path / "a", resume=True)


def test_a_recipe_cut_short_is_not_resumed_with_default_settings(tmp_path):
    folder = tmp_path / "a"
    recipe = replace(SMALL, rollout=replace(SMALL.rollout, temperature=0.9))
    runner.train(recipe, folder)
    kept = folder / "recipe.toml"
    whole, before = kept.read_text(), (folder / "metrics.jsonl").read_bytes()
    kept.write_text(whole[: whole.index("[rollout]")])
    with pytest.raises(UsageError, match=r"rollout\.temperature: was 0\.9, is 1\.0") as error:
        runner.train(recipes.load(kept), folder, resume=True)
    saved = next(path for path in folder.glob("checkpoint-*/run.toml"))
    assert (
        str(saved.parent.parent) in str(error.value.hint)
        and (folder / "metrics.jsonl").read_bytes() == before
    )
    kept.write_text(saved.read_text())  # as the hint says
    assert runner.train(recipes.load(kept), folder, resume=True).status == "finished"


def _flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def test_damaged_checkpoints_never_start_the_run_again_over_its_records(tmp_path):
    folder = tmp_path / "a"
    runner.train(SMALL, folder)
    before = (folder / "metrics.jsonl").read_bytes()
    _, newest = sorted(folder.glob("checkpoint-*"))  # two are kept
    _flip(newest / "state.pt")
    found = []
    assert runner.train(SMALL, folder, resume=True, on_finding=found.append).status == "finished"
    assert "checkpoint-damaged" in {f.code for f in found}
    assert (folder / "metrics.jsonl").read_bytes().splitlines()[0] == before.splitlines()[0]
    before = (folder / "metrics.jsonl").read_bytes()
    for path in folder.glob("checkpoint-*"):
        _flip(path / "state.pt")
    with pytest.raises(DataError, match="no checkpoint of this run can be used") as error:
        runner.train(SMALL, folder, resume=True)
    assert error.value.exit_code == 3 and "state.pt was changed" in error.value.why
    for path in folder.glob("checkpoint-*"):
        shutil.rmtree(path)
    with pytest.raises(DataError, match="its records would be replaced"):
        runner.train(SMALL, folder, resume=True)
    assert (folder / "metrics.jsonl").read_bytes() == before
    (folder / "metrics.jsonl").write_bytes(
        before.splitlines(keepends=True)[0]
    )  # killed before its first checkpoint
    assert runner.train(SMALL, folder, resume=True).status == "finished"


def test_a_loss_that_is_not_finite_stops_with_the_batch_saved(tmp_path, monkeypatch):
    from entlaw.train import loop

    real = loop.estimate.with_advantages
    calls = iter(range(10))

    def poisoned(*args):
        batch = real(*args)
        return replace(batch, advantages_BT=batch.advantages_BT * float("inf")) if next(calls) == 2 else batch

    monkeypatch.setattr(loop.estimate, "with_advantages", poisoned)
    with pytest.raises(TrainingFailed, match="step 3") as error:
        runner.train(SMALL, tmp_path / "a")
    saved = torch.load(tmp_path / "a" / "failure" / "batch.pt", weights_only=True)
    assert not torch.isfinite(saved["advantages_BT"]).all()
    assert str(tmp_path / "a" / "failure") in str(error.value)
    assert json.loads((tmp_path / "a" / "run.json").read_text())["status"] == "failed"
    monkeypatch.undo()
    assert (
        runner.train(SMALL, tmp_path / "a", resume=True).status == "finished"
    )  # step 3 again, this time sound


def test_nothing_to_learn_from_is_said(tmp_path, monkeypatch):
    from entlaw.train import loop

    monkeypatch.setattr(loop, "_PATIENCE", 2)
    monkeypatch.setattr(Arithmetic, "score", lambda *_: 0.0)
    with pytest.raises(TrainingFailed, match="no prompt was left to learn from in 2 steps"):
        runner.train(SMALL, tmp_path / "a")
    assert records(tmp_path / "a")[-1]["train/kept_groups"] == 0


def test_prompts_that_do_not_fit_are_left_out_and_none_at_all_is_said(tmp_path):
    some = replace(SMALL, rollout=replace(SMALL.rollout, max_prompt_tokens=8))  # three operations
    assert runner.train(replace(some, run=RunSettings(steps=1)), tmp_path / "a").status == "finished"
    levels = {k for r in records(tmp_path / "a") for k in r if k.startswith("reward/level_")}
    assert levels <= {"reward/level_2", "reward/level_3"} and levels
    assert records(tmp_path / "a")[1]["train/dropped_prompts"] > 0
    with pytest.raises(UsageError, match="no longer than 3 tokens"):
        runner.train(replace(SMALL, rollout=replace(SMALL.rollout, max_prompt_tokens=3)), tmp_path / "b")


def test_a_response_longer_than_the_context_is_said(tmp_path):
    with pytest.raises(UsageError, match="leaves no room for a prompt"):
        runner.train(replace(SMALL, rollout=replace(SMALL.rollout, max_tokens=128)), tmp_path / "a")


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    real, calls = torch.save, iter(range(100))

    def full(*args, **kwargs):
        if next(calls) == 2:
            raise OSError(28, "No space left on device")
        return real(*args, **kwargs)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(CheckpointError):
        runner.train(SMALL, tmp_path / "a")
    monkeypatch.setattr(torch, "save", real)
    assert checkpoint.latest(tmp_path / "a").path.name == "checkpoint-00000001"
    runner.train(SMALL, tmp_path / "a", resume=True)
    runner.train(SMALL, tmp_path / "b")
    assert records(tmp_path / "a") == records(tmp_path / "b")


def test_entropy_is_logged_at_both_temperatures(tmp_path):
    cool = replace(SMALL, run=RunSettings(steps=1), rollout=replace(SMALL.rollout, temperature=0.5))
    runner.train(cool, tmp_path / "a")
    runner.train(replace(SMALL, run=RunSettings(steps=1)), tmp_path / "b")
    first = records(tmp_path / "a")[1]
    assert first["actor/entropy_at_rollout_temperature"] < 0.9 * first["actor/entropy"]
    assert "actor/entropy_at_rollout_temperature" not in records(tmp_path / "b")[1]


def test_random_rewards_do_not_depend_on_answers(tmp_path):
    control = replace(
        SMALL,
        task=TaskSettings(reward="random"),
        rollout=Rollout(prompts=64, group_size=8),
        run=RunSettings(steps=2),
    )
    runner.train(control, tmp_path / "a")
    first = records(tmp_path / "a")[1]
    assert first["reward/mean"] == pytest.approx(0.5, abs=0.07)
    assert first["train/accuracy"] < 0.3


def test_dynamic_sampling_fills_the_batch(tmp_path):
    plain = replace(SMALL, run=RunSettings(steps=1), rollout=Rollout(prompts=16, group_size=4))
    runner.train(plain, tmp_path / "a")
    runner.train(replace(plain, algorithm=Algorithm(max_refills=8)), tmp_path / "b")
    kept = [records(tmp_path / n)[1]["train/kept_groups"] for n in "ab"]
    newest = [checkpoint.latest(tmp_path / n).path for n in "ab"]
    sampled = [torch.load(n / "state.pt", weights_only=True)["counters"]["drawn"] for n in newest]
    assert sampled[0] == 16 and sampled[1] > 16
    assert kept[1] * sampled[1] >= kept[0] * sampled[0]
    assert kept[1] * sampled[1] <= 16 + 1e-9


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_step_saves_and_says_how_to_go_on(tmp_path, number):
    command = [sys.executable, "-m", "entlaw.cli", "train", "-o", str(tmp_path / "a")]
    settings = [
        "policy.size=xs",
        "warmup.clean_steps=30",
        "warmup.noisy_steps=5",
        "warmup.batch_size=32",
        "run.steps=100000",
        "rollout.prompts=8",
        "rollout.group_size=4",
        "validation.every=1",
        "validation.problems=16",
    ]
    command += [part for setting in settings for part in ("--set", setting)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    for line in process.stderr:
        if line.startswith("step 2 "):
            process.send_signal(number)
            break
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + number
    assert f"go on with: entlaw train --resume {tmp_path / 'a'}" in err
    assert "stopping after this step" in err
    info = json.loads((tmp_path / "a" / "run.json").read_text())
    assert info["status"] == "stopped"
    steps = [r["step"] for r in records(tmp_path / "a")]
    assert steps == list(range(info["step"] + 1)) and "stopped at step" in out
    assert checkpoint.latest(tmp_path / "a").path.name == f"checkpoint-{info['step']:08d}"


def test_two_trainings_in_one_folder_are_kept_apart(tmp_path):
    def intrude(step, record):
        if step == 1:
            with pytest.raises(UsageError, match="another process is training"):
                runner.train(SMALL, tmp_path / "a", resume=True)

    runner.train(SMALL, tmp_path / "a", on_record=intrude)


METHODS = {
    "rloo": {"algorithm": Algorithm(name="rloo"), "loss": Loss(kind="policy_gradient", mini_batches=1)},
    "reinforce": {"algorithm": Algorithm(name="reinforce", filter_groups=False)},
    "reinforce++": {
        "algorithm": Algorithm(name="reinforce_plus_plus"),
        "controls": Controls(kl_coef=0.01, kl_in="reward"),
    },
    "reinforce++-baseline": {"algorithm": Algorithm(name="reinforce_plus_plus_baseline")},
    "dr_grpo": {"algorithm": Algorithm(name="dr_grpo"), "loss": Loss(aggregation="seq-mean-token-sum-norm")},
    "gspo": {
        "loss": Loss(
            kind="gspo", aggregation="seq-mean-token-mean", clip_ratio_low=3e-4, clip_ratio_high=4e-4
        )
    },
    "cispo": {"loss": Loss(kind="cispo", clip_ratio_low=1.0, clip_ratio_high=5.0)},
    "authors' KL-Cov": {"controls": Controls(kl_cov=KlCov(ratio=0.02), reference_code=True)},
    "80/20, qwen2": {
        "controls": Controls(high_entropy_share=0.2),
        "policy": Policy(size="xs", family="qwen2"),
    },
    "T 0.8": {"rollout": replace(SMALL.rollout, temperature=0.8, batch=8)},
}


@pytest.mark.parametrize("name", METHODS)
def test_every_method_changes_the_weights_and_logs_finite_numbers(tmp_path, name):
    runner.train(replace(SMALL, **METHODS[name], run=RunSettings(steps=2)), tmp_path / "a")
    log = records(tmp_path / "a")
    assert all(isinstance(v, (int, float)) for r in log for v in r.values())
    base = (tmp_path / "a" / "base" / "model.safetensors").read_bytes()
    assert weights(tmp_path / "a") != base
