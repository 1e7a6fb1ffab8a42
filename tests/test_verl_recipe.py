"""A recipe as verl's settings, its data and its rewards; the command line. Most of it needs no verl."""

import json
import os
import re
import signal
import sys
import threading

import pytest

pytest.importorskip("torch", reason="needs the train extra (torch)")
pytest.importorskip("transformers", reason="needs the train extra (transformers)")
hydra_parser = None
try:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    hydra_parser = OverridesParser.create()
except ImportError:
    pass

from dataclasses import replace  # noqa: E402

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from entlaw.cli.app import run as cli  # noqa: E402
from entlaw.engines.verl import launch, mapping, prepare  # noqa: E402
from entlaw.engines.verl.names import LossName, loss_names  # noqa: E402
from entlaw.errors import EntlawError, OutOfMemory, UsageError  # noqa: E402
from entlaw.train import recipe as recipes  # noqa: E402
from entlaw.train.catalogue import catalogue  # noqa: E402
from entlaw.train.recipe import settings as known_settings  # noqa: E402
from tests.conftest import wait_until  # noqa: E402

EIGHT = mapping.Cluster(1, 8)
needs_hydra = pytest.mark.skipif(hydra_parser is None, reason="needs verl's Hydra (`make test-verl`)")
needs_verl = pytest.mark.skipif(
    __import__("importlib.util").util.find_spec("verl") is None, reason="needs verl (`make test-verl`)"
)


def plan(name="qwen2.5-7b-clip-cov", *overrides, cluster=EIGHT, bos=False, folder=None):
    from pathlib import Path

    folder = folder or Path("/runs/one")
    recipe = recipes.load(Path(name), overrides)
    return mapping.plan(recipe, cluster, folder, prepare.paths(folder, recipe), bos)


def test_every_experiment_of_the_paper_is_translated_or_refused_by_name():
    names = [e.name for e in catalogue().values() if e.kind == "experiment"]
    refused = {}
    for name in names:
        try:
            found = plan(name, cluster=mapping.Cluster(4, 8) if "32b" in name else EIGHT)
        except UsageError as error:
            refused[name] = error.what
        else:
            assert found.settings["actor_rollout_ref.actor.policy_loss.loss_mode"] in loss_names(), name
    assert set(refused) == {"law-math-qwen2.5-7b-prime"} and "algorithm.name" in next(iter(refused.values()))
    assert len(names) > 30


def test_the_papers_settings_arrive():
    clip = plan().settings
    actor = "actor_rollout_ref.actor"
    assert clip[f"{actor}.policy_loss.loss_mode"] == "entlaw_ppo_clip_clip_cov"
    assert (clip[f"{actor}.policy_loss.clip_cov_ratio"], clip[f"{actor}.clip_ratio_high"]) == (2e-4, 1.0)
    assert clip["data.train_batch_size"] == 256 and clip[f"{actor}.ppo_mini_batch_size"] == 32
    assert clip["actor_rollout_ref.rollout.n"] == 8 and clip[f"{actor}.optim.lr"] == 5e-7
    kl = plan("qwen2.5-32b-kl-cov", cluster=mapping.Cluster(4, 8)).settings
    assert kl[f"{actor}.policy_loss.loss_mode"] == "entlaw_policy_gradient_kl_cov_abs"
    assert (kl[f"{actor}.policy_loss.kl_cov_ratio"], kl[f"{actor}.policy_loss.ppo_kl_coef"]) == (2e-4, 1.0)
    assert kl["trainer.nnodes"] == 4
    code = plan("qwen2.5-7b-kl-cov", "controls.reference_code=true", 'loss.kind="ppo_clip"').settings
    assert code[f"{actor}.policy_loss.loss_mode"] == "kl_cov", "the authors' code is verl's own loss"


# A value that differs from that of qwen2.5-7b-clip-cov, for each setting that verl has a word for.
CHANGED = {
    "run.name": '"other"',
    "run.seed": "5",
    "run.steps": "7",
    "task.chat": "true",
    "task.workers": "3",
    "task.format_weight": "0.25",
    "policy.path": '"other/model"',
    "policy.dtype": '"bfloat16"',
    "policy.autocast": "false",
    "policy.gradient_checkpointing": "false",
    "rollout.prompts": "512",
    "rollout.group_size": "16",
    "rollout.temperature": "0.9",
    "rollout.top_p": "0.9",
    "rollout.top_k": "20",
    "rollout.max_tokens": "100",
    "rollout.max_prompt_tokens": "100",
    "vllm.dtype": '"float16"',
    "vllm.memory_share": "0.3",
    "vllm.tensor_parallel": "2",
    "vllm.max_sequences": "64",
    "vllm.eager": "true",
    "vllm.sleep": "false",
    "algorithm.name": '"rloo"',
    "algorithm.filter_groups": "false",
    "algorithm.max_refills": "0",
    "algorithm.gamma": "0.9",
    "algorithm.lam": "0.9",
    "loss.kind": '"gspo"',
    "loss.clip_ratio_low": "0.3",
    "loss.clip_ratio_high": "0.3",
    "loss.clip_ratio_c": "3.0",
    "loss.aggregation": '"seq-mean-token-sum-norm"',
    "loss.mini_batches": "4",
    "loss.epochs": "2",
    "loss.micro_batch": "8",
    "loss.rollout_correction": '"token"',
    "controls.entropy_coeff": "0.01",
    "controls.kl_coef": "0.01",
    "controls.high_entropy_share": "0.2",
    "controls.clip_cov.ratio": "4e-4",
    "controls.clip_cov.lower": "0.5",
    "controls.clip_cov.upper": "6.0",
    "controls.reference_code": "true",
    "optimizer.lr": "1e-6",
    "optimizer.betas": "[0.8, 0.9]",
    "optimizer.eps": "1e-6",
    "optimizer.weight_decay": "0.1",
    "optimizer.grad_clip": "0.5",
    "optimizer.warmup_steps": "16",
    "validation.every": "8",
    "validation.samples": "3",
    "validation.temperature": "0.6",
    "validation.top_p": "0.9",
    "checkpoint.every": "3",
    "checkpoint.keep": "3",
    "log.wandb": '"online"',
    "log.wandb_project": '"other"',
    "log.tensorboard": "true",
    "log.covariance_shares": "[0.5]",
    "watch.on": "true",
}
# Together with another setting, without which it means nothing.
WITH = {
    "task.format": (["task.format_weight=0.1"], '"thought"'),
    "algorithm.baseline": (['algorithm.name="reinforce"'], '"none"'),
    "critic.lr": (['algorithm.name="ppo"', "algorithm.filter_groups=false"], "1e-5"),
    "critic.warmup_steps": (['algorithm.name="ppo"', "algorithm.filter_groups=false"], "3"),
    "critic.value_clip": (['algorithm.name="ppo"', "algorithm.filter_groups=false"], "0.25"),
    "critic.epochs": (['algorithm.name="ppo"', "algorithm.filter_groups=false"], "2"),
    "loss.rollout_cap": (['loss.rollout_correction="token"'], "3.0"),
    "controls.kl_kind": (["controls.kl_coef=0.1"], '"k2"'),
    "controls.kl_in": (["controls.kl_coef=0.1"], '"reward"'),
    "controls.kl_cov.ratio": (["controls.clip_cov.ratio=0.0", "controls.kl_cov.ratio=1e-3"], "2e-3"),
    "controls.kl_cov.coef": (["controls.clip_cov.ratio=0.0", "controls.kl_cov.ratio=1e-3"], "0.5"),
    "controls.kl_cov.penalty": (["controls.clip_cov.ratio=0.0", "controls.kl_cov.ratio=1e-3"], '"k2"'),
    "log.wandb_group": (['log.wandb="online"'], '"g"'),
    "watch.every": (["watch.on=true"], "2"),
    "watch.target": (["watch.on=true"], "0.7"),
    "watch.stop_when": (["watch.on=true"], '"P(gain > 1%) < 0.05"'),
    "watch.level": (["watch.on=true"], "0.9"),
    "watch.performance": (["watch.on=true"], '"val-core/math/acc/mean@1"'),
}
IN_THE_DATA = {
    "task.name",
    "task.validation",
    "task.template",
    "task.data_dir",
    "task.pass_rates",
    "task.pass_low",
    "task.pass_high",
    "validation.problems",
    "validation.seed",
}
REFUSED_ELSEWHERE = {"run.device", "rollout.engine"}


def test_no_setting_is_unaccounted_for():
    every = set(known_settings())
    accounted = set(CHANGED) | set(WITH) | IN_THE_DATA | REFUSED_ELSEWHERE
    accounted |= {key for key, s in known_settings().items() if s.verl.how in ("unused", "refused", "idle")}
    assert every - accounted == set(), "a new setting: translate it, refuse it, or tell of it"
    assert accounted - every == set()


@pytest.mark.parametrize("key", [*CHANGED, *WITH])
def test_each_setting_that_has_a_counterpart_changes_it(key):
    given_with, value = WITH.get(key, ([], CHANGED.get(key)))
    extra = ['loss.aggregation="token-mean"'] if key == "controls.entropy_coeff" else []
    before = plan("qwen2.5-7b-clip-cov", *given_with, *extra)
    after = plan("qwen2.5-7b-clip-cov", *given_with, *extra, f"{key}={value}")
    assert (before.settings, before.environment) != (after.settings, after.environment)


@pytest.mark.parametrize(
    "override, names",
    [
        ('task.reward="random"', "task.reward"),
        ('rollout.stop="x"', "rollout.stop"),
        ('rollout.engine="hf"', "rollout.engine"),
        ("rollout.max_prompt_tokens=0", "rollout.max_prompt_tokens"),
        ('run.device="cpu"', "run.device"),
        ('policy.dtype="float64"', "policy.dtype"),
        ('policy.path=""', "policy.path"),
        ('task.name="arithmetic"', "task.name"),
        ("controls.entropy_target=0.5", "controls.entropy_target"),
        ("controls.kl_cov.ratio=1e-3", "controls.kl_cov.ratio"),
        ("loss.mini_batches=7", "loss.mini_batches"),
        ("loss.micro_batch=5", "loss.micro_batch"),
        ("vllm.tensor_parallel=3", "vllm.tensor_parallel"),
        ("optimizer.warmup_steps=3", "optimizer.warmup_steps"),
        ('vllm.devices="1"', "vllm.devices"),
    ],
)
def test_what_verl_cannot_do_is_refused_by_name(override, names):
    with pytest.raises(UsageError) as caught:
        plan("qwen2.5-7b-clip-cov", override)
    assert names in caught.value.what and "--set" in (caught.value.hint or "")


def test_all_refusals_come_at_once_and_what_is_unused_is_told():
    with pytest.raises(UsageError) as caught:
        plan("qwen2.5-7b-clip-cov", 'rollout.engine="hf"', 'rollout.stop="x"', "loss.micro_batch=5")
    assert caught.value.what.count("\n") == 3
    told = {f.what.split(" ")[0] for f in plan().findings if f.code == "verl-not-used"}
    assert told == {"run.threads", "rollout.batch"}
    codes = {f.code for f in plan().findings}
    assert {"verl-refills", "verl-old-log-probs", "verl-entropy"} <= codes
    assert "verl-bos" in {f.code for f in plan(bos=None).findings} and "verl-bos" not in codes


def test_plain_prompts_keep_their_beginning_of_sequence_token():
    jinja = pytest.importorskip("jinja2")
    messages = [{"role": "user", "content": "What is {{ 1 + 1 }}? It's 'so'.\n"}]
    for bos, front in ((True, "<s>"), (False, "")):
        template = plan(bos=bos).settings["actor_rollout_ref.model.custom_chat_template"]
        assert (
            jinja.Template(template).render(messages=messages, bos_token="<s>")
            == front + messages[0]["content"].rstrip("\n") + "\n"
        )
    assert (
        "actor_rollout_ref.model.custom_chat_template"
        not in plan("qwen2.5-7b-clip-cov", "task.chat=true").settings
    )


@needs_hydra
@settings(deadline=None, max_examples=150)
@given(st.one_of(st.text(max_size=12), st.integers(), st.booleans(), st.none(), st.floats(allow_nan=False)))
def test_any_value_comes_out_of_hydra_as_it_went_in(plain):
    if isinstance(plain, str) and re.search(r"[\x00-\x1f\x7f]", plain):
        return  # no name, path or template of ours has control characters
    (parsed,) = hydra_parser.parse_overrides([f"a.b={launch.hydra_value(plain)}"])
    got = parsed.value()
    got = str(got) if isinstance(plain, str) and not isinstance(got, str) else got
    assert got == plain or (isinstance(plain, str) and "${" in plain)


@needs_hydra
def test_lists_tables_and_templates_come_out_too():
    for plain in (
        [0.0002, 0.5],
        ["console", "wandb"],
        {"eps": 1e-6},
        {"WANDB_RUN_GROUP": "it's"},
        "{{ bos_token }}{% if a %}'{% endif %}",
    ):
        (parsed,) = hydra_parser.parse_overrides([f"a={launch.hydra_value(plain)}"])
        got = parsed.value()
        assert {str(k): v for k, v in got.items()} == plain if isinstance(plain, dict) else got == plain


def rows(n=40):
    return "".join(
        json.dumps({"question": f"What is {i} plus {i + 1}?", "answer": f"So. #### {2 * i + 1}"}) + "\n"
        for i in range(n)
    )


def test_data_is_what_our_own_trainer_would_train_and_validate_on(tmp_path):
    pytest.importorskip("math_verify", reason="needs the math extra")
    import pyarrow.parquet as pq

    from entlaw.tasks.dataset_task import dataset_task

    (tmp_path / "gsm8k.jsonl").write_text(rows())
    task = dataset_task("gsm8k", data_dir=tmp_path)
    n = len(task.held_out)
    base = recipes.load(
        None, ['task.name="gsm8k"', f'task.data_dir="{tmp_path}"', f"validation.problems={n}"]
    )
    found = prepare.prepare(base, tmp_path / "run")
    train, held_out = pq.read_table(found.train).to_pylist(), pq.read_table(found.validation).to_pylist()
    assert found.rows == (len(train), len(held_out)) == (len(task), n) and n > 0
    assert {r["prompt"][0]["content"] for r in train} == {p.prompt for p in task.training(0, 0, len(task))}
    assert {r["prompt"][0]["content"] for r in held_out}.isdisjoint(
        {r["prompt"][0]["content"] for r in train}
    )
    first = train[0]
    assert first["data_source"] == "gsm8k" and first["prompt"][0]["role"] == "user"
    assert first["reward_model"]["ground_truth"].isdigit() and first["extra_info"]["split"] == "train"
    assert (
        prepare.prepare(
            replace(base, validation=replace(base.validation, every=0)), tmp_path / "b"
        ).validation
        is None
    )


@pytest.fixture(autouse=True, scope="module")
def _verifier_ends():
    """A reward worker keeps its verifier as long as it lives; here its process is ended."""
    yield
    from entlaw.engines.verl import reward

    if reward._math_verifier.cache_info().currsize:
        reward._math_verifier().close()
        reward._math_verifier.cache_clear()


def test_rewards_are_our_verifiers():
    pytest.importorskip("math_verify", reason="needs the math extra")
    from entlaw.engines.verl.reward import compute_score

    assert compute_score("gsm8k", "So it is 7.", "7") == {"score": 1.0, "acc": 1.0}
    assert compute_score("gsm8k", r"\boxed{8}", "7", {"index": 3}, num_turns=1)["acc"] == 0.0
    assert compute_score("math-500", r"\boxed{\frac{2}{4}}", r"\frac{1}{2}")["score"] == 1.0
    assert compute_score("math-500", "1/2", r"\frac{1}{2}")["score"] == 0.0, "MATH wants a box"
    rewarded = compute_score("gsm8k", r"\boxed{7}", "7", format="box-last", format_weight=0.25)
    assert rewarded == {"score": 1.25, "acc": 1.0, "format": 1.0}
    with pytest.raises(UsageError):
        compute_score("no-such-set", "x", "y")


def test_programs_are_run_in_the_sandbox():
    from entlaw.engines.verl.reward import compute_score
    from entlaw.errors import SandboxUnavailable

    tests = json.dumps({"asserts": ["assert double(2) == 4"]})
    try:
        right = compute_score("acecode", "```python\ndef double(x):\n    return 2 * x\n```", tests)
    except SandboxUnavailable as error:
        pytest.skip(str(error))
    assert right["score"] == 1.0
    assert compute_score("acecode", "```python\ndef double(x):\n    return x\n```", tests)["score"] == 0.0


def test_the_ends_of_verl_for_people(tmp_path):
    gpus = ["x", "ValueError: Total available GPUs 0 is less than total desired GPUs 8"]
    error = launch.explained(gpus, 1, tmp_path)
    assert error.exit_code == 3 and error.what == "verl needs 8 GPUs and Ray has 0"
    assert isinstance(
        launch.explained(["torch.OutOfMemoryError: CUDA out of memory."], 1, tmp_path), OutOfMemory
    )
    other = launch.explained(["Traceback", "(TaskRunner pid=3) KeyError: 'a'"], 7, tmp_path)
    assert type(other) is EntlawError and "exit code 7" in other.what and "KeyError" in (other.why or "")


@pytest.mark.parametrize("code", [0, 5])
def test_the_console_is_kept_and_shown(tmp_path, monkeypatch, capsys, code):
    script = (
        f"import os, sys; print('step:1 - a:1.0', os.environ['WANDB_MODE'], flush=True); sys.exit({code})"
    )
    monkeypatch.setattr(launch, "command", lambda arguments: [sys.executable, "-c", script, *arguments])
    if code:
        with pytest.raises(EntlawError, match="exit code 5"):
            launch.launch(["x"], {"WANDB_MODE": "offline"}, tmp_path / "r")
    else:
        assert launch.launch(["x"], {"WANDB_MODE": "offline"}, tmp_path / "r") == 0
    assert "step:1 - a:1.0 offline" in (tmp_path / "r" / "console.log").read_text()
    assert "step:1 - a:1.0 offline" in capsys.readouterr().err


def test_a_signal_reaches_verl_and_is_the_exit_code(tmp_path, monkeypatch):
    script = "import time; print('up', flush=True); time.sleep(1000)"
    monkeypatch.setattr(launch, "command", lambda arguments: [sys.executable, "-c", script])
    before = signal.getsignal(signal.SIGTERM)

    def end_it_once_it_is_up():
        console = tmp_path / "r" / "console.log"
        wait_until(lambda: console.is_file() and "up" in console.read_text())
        os.kill(os.getpid(), signal.SIGTERM)

    sender = threading.Thread(target=end_it_once_it_is_up)
    sender.start()
    assert launch.launch([], {}, tmp_path / "r") == 128 + signal.SIGTERM
    sender.join()
    assert signal.getsignal(signal.SIGTERM) is before


def test_entlaw_fit_reads_the_console(tmp_path):
    """Lines as verl's own console logger writes them, with what our trainer adds."""
    import numpy as np

    from entlaw.api import fit
    from entlaw.runs.reader import read

    lines = ["(TaskRunnerV1 pid=77) [validate_config] All configuration checks passed successfully!"]
    for step in range(41):
        entropy = 1.4 * 0.93**step + 0.1
        found = {
            "actor/entropy": np.float64(entropy),
            "critic/score/mean": 0.3,
            "cov/mean": 0.01,
            "cov/top_0.002": 3.2,
        }
        if step % 4 == 0:
            found |= {
                "val-core/gsm8k/acc/mean@1": 0.9 - 0.1 * np.exp(1.4 * 0.93 ** (step + 1) + 0.1),
                "val/accuracy": 0.9 - 0.1 * np.exp(1.4 * 0.93 ** (step + 1) + 0.1),
            }
        if step == 0:
            found = {k: v for k, v in found.items() if k.startswith("val")}
        text = " - ".join([f"step:{step}", *(f"{k}:{v!r}" for k, v in found.items())])
        lines.append(f"\x1b[36m(TaskRunnerV1 pid=77)\x1b[0m {text}")
    (tmp_path / "console.log").write_text("\n".join(lines) + "\n")
    (run,) = read(tmp_path / "console.log")
    assert run.performance_kind == "validation" and run.entropy.key == "actor/entropy"
    fitted = fit(run, until_step=None, force=True)
    assert fitted.law.n >= 9 and abs(fitted.ceiling - 0.8) < 0.01


def test_names_are_read_back():
    assert str(LossName("ppo_clip", "clip_cov")) == "entlaw_ppo_clip_clip_cov"
    assert all(
        str(name) == key
        for key, name in loss_names().items()
        if key not in ("entlaw_clip_cov", "entlaw_kl_cov")
    )


# The command line ---------------------------------------------------------------------------------


def test_print_needs_no_verl_and_says_what_differs(capsys):
    assert (
        cli(
            [
                "verl",
                "qwen2.5-7b-clip-cov",
                "--print",
                "--gpus-per-node",
                "8",
                "-o",
                "/runs/x",
                "--",
                "trainer.device=cuda",
            ]
        )
        == 0
    )
    told = capsys.readouterr()
    assert told.out.startswith("python3 -m verl.trainer.main_ppo") and told.out.rstrip().endswith(
        "trainer.device=cuda"
    )
    assert "max_refills" in told.err
    assert cli(["verl", "qwen2.5-7b-clip-cov", "--print", "--json", "--ray", "10.0.0.1:6379"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (
        data["schema"] == "entlaw.verl/1"
        and "+ray_kwargs.ray_init.address='10.0.0.1:6379'" in data["overrides"]
    )


@pytest.mark.parametrize(
    "arguments, code, says",
    [
        (["qwen2.5-7b-clip-cov", "--", "colour"], 2, "no override"),
        (["qwen2.5-7b-clip-cov", "--gpus-per-node", "0"], 2, "at least 1"),
        (["law-math-qwen2.5-7b-prime", "--print"], 2, "algorithm.name"),
        (["no-such-recipe", "--print"], 2, "no such recipe"),
    ],
)
def test_wrong_calls(arguments, code, says, capsys):
    assert cli(["verl", *arguments]) == code
    assert says in capsys.readouterr().err


@pytest.mark.skipif(
    __import__("importlib.util").util.find_spec("verl") is not None, reason="verl is installed here"
)
def test_without_verl_the_install_line_is_named(capsys):
    assert cli(["verl", "qwen2.5-7b-clip-cov", "--check"]) == 2
    assert "pip install 'entlaw[verl]'" in capsys.readouterr().err


@needs_verl
def test_every_experiment_is_accepted_by_verls_own_configuration(tmp_path, monkeypatch):
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import LlamaConfig, PreTrainedTokenizerFast

    from entlaw.engines.verl import checks

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    for name in (
        "qwen2.5-7b-grpo",
        "qwen2.5-7b-clip-cov",
        "qwen2.5-7b-kl-cov",
        "law-math-qwen2.5-7b-rloo",
        "reference-kl-0.01-qwen2.5-7b",
        "entropy-loss-0.005-qwen2.5-7b",
        "law-code-qwen2.5-0.5b",
    ):
        config = checks.configuration(launch.overrides(plan(name).settings))
        assert config["trainer"]["v1"]["trainer_mode"] == "entlaw_sync", name
    LlamaConfig(
        hidden_size=8,
        num_attention_heads=2,
        intermediate_size=8,
        num_hidden_layers=1,
        architectures=["LlamaForCausalLM"],
    ).save_pretrained(tmp_path)
    raw = Tokenizer(WordLevel({"<pad>": 0, "<eos>": 1}, unk_token="<pad>"))
    PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", eos_token="<eos>").save_pretrained(
        tmp_path
    )
    ppo = plan(
        "qwen2.5-7b-grpo",
        'algorithm.name="ppo"',
        "algorithm.filter_groups=false",
        "optimizer.eps=1e-6",
        'log.wandb="offline"',
        'log.wandb_group="it\'s"',
        f"policy.path={tmp_path}",
    )
    config = checks.configuration(launch.overrides(ppo.settings))
    assert config["critic"]["optim"]["override_optimizer_config"] == {"eps": 1e-6}
    template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    assert config["actor_rollout_ref"]["model"]["custom_chat_template"] == template
    with pytest.raises(UsageError, match="does not accept"):
        checks.configuration([*launch.overrides(plan().settings), "trainer.no_such=1"])
    with pytest.raises(UsageError, match="does not accept"):
        checks.configuration(
            [*launch.overrides(plan().settings), "actor_rollout_ref.actor.ppo_mini_batch_size=1024"]
        )


@needs_verl
def test_verl_finds_the_reward_function():
    from omegaconf import OmegaConf
    from verl.trainer.ppo.reward import get_custom_reward_fn

    from entlaw.engines.verl import checks

    config = checks.configuration(
        launch.overrides(plan("qwen2.5-7b-grpo", "task.format_weight=0.5").settings)
    )
    score = get_custom_reward_fn(OmegaConf.create(config))
    found = score(
        data_source="gsm8k", solution_str=r"\boxed{7}", ground_truth="7", extra_info={"num_turns": 2}
    )
    assert found == {"score": 1.5, "acc": 1.0, "format": 1.0}


@needs_verl
@pytest.mark.parametrize(
    "address", ["127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1:99999999", "no such host:6379"]
)
def test_a_cluster_that_is_not_there_is_said_at_once(address):
    from entlaw.engines.verl import checks

    with pytest.raises(EntlawError, match="no Ray cluster answers"):
        checks.workers(address)


@needs_verl
def test_another_version_is_a_warning_and_a_missing_piece_an_error(monkeypatch):
    from entlaw.engines.verl import checks
    from entlaw.errors import MissingExtra

    assert checks.need_verl() == []
    monkeypatch.setattr(checks.importlib.metadata, "version", lambda name: "0.9.7")
    (told,) = checks.need_verl()
    assert told.severity == "warning" and "0.9.7" in told.what
    real = checks.importlib.util.find_spec
    monkeypatch.setattr(
        checks.importlib.util, "find_spec", lambda name: None if name == "uvicorn" else real(name)
    )
    with pytest.raises(MissingExtra, match="uvicorn"):
        checks.need_verl()
