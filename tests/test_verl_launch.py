"""``entlaw verl`` for real, up to verl's own look for GPUs: data, checks, Ray, verl's driver."""

import json
import os
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra (torch)")
pytest.importorskip("verl", reason="needs verl in a venv of its own: `make test-verl`")
pytest.importorskip("math_verify", reason="needs the math extra")
if torch.cuda.is_available():
    pytest.skip("with a GPU the run would go on", allow_module_level=True)

from tokenizers import Tokenizer, models, pre_tokenizers  # noqa: E402
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast  # noqa: E402


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A small model and a data set, in folders."""
    folder = tmp_path_factory.mktemp("verl")
    words = ["<pad>", "<eos>", *(chr(c) for c in range(32, 127))]
    raw = Tokenizer(models.WordLevel({c: i for i, c in enumerate(words)}, unk_token="<pad>"))
    raw.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", eos_token="<eos>").save_pretrained(
        folder / "model"
    )
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(words),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            pad_token_id=0,
            eos_token_id=1,
            bos_token_id=None,
        )
    ).save_pretrained(folder / "model")
    lines = [{"question": f"What is {i} plus {i + 1}?", "answer": f"So. #### {2 * i + 1}"} for i in range(60)]
    (folder / "gsm8k.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_as_far_as_a_machine_without_gpus_goes(files):
    run = files / "run"
    call = [
        sys.executable,
        "-m",
        "entlaw.cli",
        "verl",
        "qwen2.5-7b-kl-cov",
        "--gpus-per-node",
        "2",
        "-o",
        str(run),
        "--set",
        f"policy.path={files / 'model'}",
        "--set",
        "task.name=gsm8k",
        "--set",
        "task.validation=",
        "--set",
        f"task.data_dir={files}",
        "--set",
        "validation.problems=2",
        "--set",
        "rollout.prompts=8",
        "--set",
        "rollout.group_size=4",
        "--set",
        "loss.mini_batches=2",
        "--set",
        "rollout.max_tokens=64",
        "--set",
        "rollout.max_prompt_tokens=256",
        "--",
        "data.dataloader_num_workers=0",
    ]
    env = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(call, capture_output=True, text=True, env=env, timeout=580)
    assert done.returncode == 3, done.stderr[-3000:]
    assert "verl needs 2 GPUs and Ray has 0" in done.stderr and done.stdout == ""
    log = (run / "console.log").read_text()
    assert "Total available GPUs" in log, "verl's own words"
    assert "'trainer_mode': 'sync'" in log or "entlaw_sync" in log
    assert "All configuration checks passed" in log
    assert "filter dataset len" in log, "verl has read our Parquet"
    assert sorted(p.name for p in run.iterdir() if p.suffix in (".sh", ".toml", ".log"))[:2] == [
        "command.sh",
        "console.log",
    ]
    assert (run / "recipe.toml").is_file() and (run / "data" / "train.parquet").is_file()


def test_every_node_of_a_cluster_is_asked():
    """Two Ray nodes on this machine."""
    from ray.cluster_utils import Cluster

    from entlaw.engines.verl import checks

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        found = checks.workers(cluster.address)
    finally:
        cluster.shutdown()
    assert len({told["pid"] for told in found}) == 2
    assert all(told["missing"] == [] and told["trainers"] == ["entlaw_sync"] for told in found)
