"""``entlaw train`` and ``entlaw eval`` as a user meets them, bad input included."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from entlaw.cli import train as train_command
from entlaw.cli.app import run
from entlaw.train import recipe as recipes
from tests.conftest import PATIENCE

pytest.importorskip("torch", reason="training needs torch")

SMALL = [
    "run.steps=2",
    "policy.size=xs",
    "warmup.clean_steps=20",
    "warmup.noisy_steps=5",
    "warmup.batch_size=16",
    "rollout.prompts=8",
    "rollout.group_size=4",
    "loss.mini_batches=2",
    "validation.every=1",
    "validation.problems=16",
]


def sets(*more):
    return [part for setting in (*SMALL, *more) for part in ("--set", setting)]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("ENTLAW_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "a"
    assert run(["train", *sets(), "-o", str(folder)]) == 0
    return folder


def test_train_says_what_it_did_and_what_is_next(tmp_path, capsys):
    assert run(["train", *sets(), "-o", str(tmp_path / "a")]) == 0
    out, err = capsys.readouterr()
    assert "finished at step 2" in out and "entropy" in out and "validation" in out
    assert f"next: entlaw fit {tmp_path / 'a'}" in err
    assert "step 1 of 2" in err and "step 1 of 2" not in out


def test_the_display_on_a_terminal(tmp_path):
    """Under a pseudo-terminal, which is where people are: warm-up, then training, then the result."""
    import pty

    read, write = pty.openpty()
    command = [
        sys.executable,
        "-m",
        "entlaw.cli",
        "train",
        *sets("warmup.clean_steps=21"),
        "-o",
        str(tmp_path / "a"),
    ]
    process = subprocess.Popen(command, stdout=write, stderr=write, stdin=write)
    os.close(write)
    seen = b""
    while True:
        try:
            part = os.read(read, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        seen += part
    os.close(read)
    assert process.wait(timeout=PATIENCE) == 0, seen[-2000:]
    text = seen.decode()
    assert text.index("warm-up") < text.index("training") < text.index("finished at step 2")
    assert "validation" in text and "Traceback" not in text


def test_train_json(tmp_path, capsys):
    assert run(["train", *sets(), "-o", str(tmp_path / "a"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["schema"] == "entlaw.train/1" and told["status"] == "finished" and told["step"] == 2
    assert told["last"]["actor/entropy"] > 0


def test_the_log_is_found_by_the_doctor(trained, capsys):
    assert run(["doctor", str(trained)]) == 0
    out = capsys.readouterr().out
    assert "keys as entlaw spells them" in out and "exact, nats/token" in out
    assert "tokenizer" not in out  # the models beside the log are no logs


def test_eval_of_a_run_a_checkpoint_and_a_model_agree(trained, tmp_path, capsys):
    checkpoint = next(trained.glob("checkpoint-*"))
    found = []
    for target in (trained, checkpoint):
        assert run(["eval", str(target), "--problems", "20", "--samples", "4", "--json"]) == 0
        found.append({**json.loads(capsys.readouterr().out), "checkpoint": ""})
    model = [str(checkpoint / "policy"), "--recipe", str(trained / "recipe.toml")]
    assert (
        run(["eval", *model, "--problems", "20", "--samples", "4", "--json", "-o", str(tmp_path / "e.json")])
        == 0
    )
    found.append({**json.loads(capsys.readouterr().out), "checkpoint": ""})
    assert found[0] == found[1] == found[2]
    assert found[0]["schema"] == "entlaw.eval/1" and set(found[0]["pass_at_k"]) == {"1", "2", "4"}
    assert json.loads((tmp_path / "e.json").read_text())["problems"] == 20
    assert run(["eval", str(trained), "--problems", "20", "--samples", "1", "--temperature", "0"]) == 0
    assert "mean@1" in capsys.readouterr().out


def test_a_new_folder_has_the_whole_name_of_its_recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for recipe, expected in (
        ("qwen2.5-7b-grpo", "train-qwen2.5-7b-grpo"),
        ("a/b.1.toml", "train-b.1"),
        (None, "train-arithmetic"),
    ):
        assert train_command._new_folder(recipe and Path(recipe)) == Path(expected)
    (tmp_path / "train-arithmetic").mkdir()
    assert train_command._new_folder(None) == Path("train-arithmetic-2")


def test_print_recipe_can_be_used_again(tmp_path, capsys):
    assert run(["train", "--set", "loss.clip_ratio_high=0.28", "--print-recipe"]) == 0
    (tmp_path / "r.toml").write_text(capsys.readouterr().out)
    assert recipes.load(tmp_path / "r.toml").loss.clip_ratio_high == 0.28


BAD = {
    "unknown key": (["train", "--set", "loss.clip_ratio_hgih=0.3"], 2, "clip_ratio_high"),
    "unknown table": (["train", "--set", "algoritm.name=rloo"], 2, "algorithm"),
    "wrong choice": (["train", "--set", "algorithm.name=gropo"], 2, "grpo"),
    "not a number": (["train", "--set", "optimizer.lr=fast"], 2, "optimizer.lr"),
    "out of range": (["train", "--set", "rollout.prompts=0"], 2, "rollout.prompts"),
    "no equals sign": (["train", "--set", "run.steps"], 2, "run.steps"),
    "no such recipe": (["train", "nowhere.toml"], 2, "nowhere.toml"),
    "impossible together": (
        ["train", "--set", "algorithm.max_refills=2", "--set", "algorithm.filter_groups=false"],
        2,
        "max_refills",
    ),
    "resume and output": (["train", "--resume", "a", "-o", "b"], 2, "--resume"),
    "resume nothing": (["train", "--resume", "nowhere"], 2, "no run to go on with"),
    "no such device": (["train", "--set", "run.device=cuda:9"], 2, "run.device"),
    "eval nothing": (["eval", "./nowhere"], 3, "no such folder"),
    "eval no tokens": (["eval", "nowhere", "--max-tokens", "0"], 2, "--max-tokens"),
    "eval negative seed": (["eval", "nowhere", "--seed", "-1"], 2, "--seed"),
    "eval no temperature": (["eval", "nowhere", "--temperature", "nan"], 2, "--temperature"),
    "eval no samples": (["eval", "nowhere", "--samples", "0"], 2, "--samples"),
    "eval top-p": (["eval", "nowhere", "--top-p", "1.5"], 2, "--top-p"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_a_message(name, tmp_path, monkeypatch, capsys):
    tokens, code, words = BAD[name]
    monkeypatch.chdir(tmp_path)
    into = [] if tokens[0] == "eval" or {"-o", "--resume"} & set(tokens) else ["-o", "out"]
    assert run([*tokens, *into]) == code
    out, err = capsys.readouterr()
    assert words in err and "Traceback" not in err and not out
    assert not list(tmp_path.glob("out/metrics.jsonl"))


def test_a_folder_that_holds_a_run_is_left_alone(trained, capsys):
    before = (trained / "metrics.jsonl").read_bytes()
    assert run(["train", *sets(), "-o", str(trained)]) == 2
    assert "--resume" in capsys.readouterr().err
    assert (trained / "metrics.jsonl").read_bytes() == before


def test_a_changed_recipe_on_resuming_is_shown(trained, capsys):
    assert run(["train", "--resume", str(trained), "--set", "rollout.prompts=16"]) == 2
    assert "rollout.prompts: was 8, is 16" in capsys.readouterr().err


def test_a_run_can_be_made_longer(trained, capsys):
    assert run(["train", "--resume", str(trained), "--set", "run.steps=3"]) == 0
    assert "finished at step 3" in capsys.readouterr().out


def test_a_model_without_a_tokenizer(trained, tmp_path, capsys):
    model = next(trained.glob("checkpoint-*")) / "policy"
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((model / name).read_bytes())
    assert run(["train", *sets(f"policy.path={tmp_path}"), "-o", str(tmp_path / "out")]) == 3
    assert "no tokenizer can be loaded" in capsys.readouterr().err


def test_a_model_by_path_is_trained(trained, tmp_path, capsys):
    model = next(trained.glob("checkpoint-*")) / "policy"
    assert run(["train", *sets(f"policy.path={model}"), "-o", str(tmp_path / "out")]) == 0
    assert not (tmp_path / "out" / "base").exists()


def test_without_torch_the_install_line_is_shown(monkeypatch, tmp_path, capsys):
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "torch" else real(name, *a)
    )
    for tokens in (["train", "-o", str(tmp_path / "a")], ["eval", "x"]):
        assert run(tokens) == 2
        assert "entlaw[train]" in capsys.readouterr().err


def test_a_full_disk_is_told_and_loses_nothing(tmp_path):
    """RLIMIT_FSIZE stands in for a full disk: no file may grow beyond 200 kB, and a checkpoint is larger."""
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "from entlaw.cli.app import run; from entlaw.train import runner;"
        "real = runner._Run.save;\n"
        "def save(self):\n"
        "    if self.done == 1: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))\n"
        "    real(self)\n"
        "runner._Run.save = save\n"
        "sys.exit(run(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "train", *sets(), "-o", str(tmp_path / "a")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert "checkpoint" in done.stderr
    assert [p.name for p in (tmp_path / "a").glob("checkpoint-*")] == ["checkpoint-00000000"]
    assert run(["train", "--resume", str(tmp_path / "a")]) == 0
