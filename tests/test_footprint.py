"""The estimate of memory and time against torch: real classes, real allocations, counted operations."""

import importlib.util
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from entlaw.cli.app import run  # noqa: E402
from entlaw.dynamics import entropy  # noqa: E402
from entlaw.errors import EntlawError, OutOfMemory, UsageError  # noqa: E402
from entlaw.train import footprint, footprint_cost, footprint_memory  # noqa: E402
from entlaw.train import recipe as recipes  # noqa: E402
from entlaw.train.footprint_shapes import from_config, known, shape_of  # noqa: E402
from entlaw.train.policy import checkpoint_activations  # noqa: E402

REPO = Path(__file__).parents[1]
SMALL = {
    "kind": "llama",
    "layers": 4,
    "hidden": 256,
    "heads": 8,
    "kv_heads": 4,
    "inner": 1024,
    "vocabulary": 4096,
}
H100 = footprint_cost.named("h100", 8)


@pytest.fixture(scope="module")
def bench():
    """The benchmark's way of making and measuring a step."""
    spec = importlib.util.spec_from_file_location("footprint_benchmark", REPO / "benchmarks" / "footprint.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def on_meta(config):
    """Parameters of the real class, without memory."""
    from transformers import AutoConfig, AutoModelForCausalLM

    plain = {k: v for k, v in config.items() if k not in ("model_type", "parameters", "like")}
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(config["model_type"], **plain))
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", sorted(n for n in known() if "like" not in known()[n]))
def test_parameters_of_known_models_are_those_of_the_real_classes_and_as_published(name):
    config = known()[name]
    assert from_config(config).parameters == config["parameters"] == on_meta(config)


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen2", "qwen3"])
@pytest.mark.parametrize("tied", [True, False])
def test_parameters_of_any_shape_of_these_classes(kind, tied):
    config = {
        "model_type": kind,
        "num_hidden_layers": 3,
        "hidden_size": 96,
        "num_attention_heads": 6,
        "head_dim": 24,
        "num_key_value_heads": 2,
        "intermediate_size": 200,
        "vocab_size": 501,
        "tie_word_embeddings": tied,
    }
    assert from_config(config).parameters == on_meta(config)
    if kind == "llama":
        biased = config | {"attention_bias": True, "mlp_bias": True}
        assert from_config(biased).parameters == on_meta(biased) > on_meta(config)


def test_the_ladder_and_a_folder_have_their_shapes(tmp_path):
    from entlaw.train import ladder

    for flags in (["policy.size=xs"], ["policy.size=xl", "policy.family=qwen2"]):
        policy = recipes.load(None, flags).policy
        tokenizer = ladder.build_tokenizer()
        made = ladder.build_model(policy, len(tokenizer), tokenizer.eos_token_id, tokenizer.pad_token_id)
        assert shape_of(policy).parameters == sum(p.numel() for p in made.parameters())
    (tmp_path / "config.json").write_text(json.dumps(dict(known()["Qwen/Qwen2.5-0.5B"])))
    assert shape_of(replace(policy, path=str(tmp_path))) == from_config(known()["Qwen/Qwen2.5-0.5B"])
    (tmp_path / "config.json").write_text("{")
    assert shape_of(replace(policy, path=str(tmp_path))) is None
    (tmp_path / "config.json").write_text('{"model_type": "mamba"}')
    assert shape_of(replace(policy, path=str(tmp_path))) is None


def test_the_tiles_are_those_of_the_fused_head():
    assert (footprint_memory.CPU_TILE, footprint_memory.DEVICE_TILE) == (
        entropy.CPU_TILE,
        entropy.DEVICE_TILE,
    )


MODES = [
    {},
    {"gradient_checkpointing": True},
    {"autocast": True},
    {"gradient_checkpointing": True, "autocast": True},
]


@pytest.mark.parametrize("mode", MODES, ids=lambda m: "+".join(m) or "plain")
@pytest.mark.parametrize("tied", [False, True])
def test_an_update_allocates_what_is_predicted_and_never_more(bench, mode, tied):
    """Within 8 %, from above: an estimate that is too low is the one that costs a run."""
    found = bench.case(SMALL | {"tied": tied}, mode, (4, 2, 32, 96))
    assert found["measured"] <= found["predicted"] <= 1.08 * found["measured"], found


def test_one_micro_batch_needs_less_than_its_gradients_beside_its_activations(bench):
    found = bench.case(SMALL, {}, (4, 4, 32, 96))
    assert found["measured"] <= found["predicted"] <= 1.12 * found["measured"], found


def test_states_on_disk_and_in_memory_by_hand():
    """7B in float32: 30.5 GB of weights, twice that of moments; PRIME has two models and a frozen one."""
    shape, n = from_config(known()["Qwen/Qwen2.5-7B"]), 7_615_616_512
    grpo, prime = (recipes.load(Path(f"law+qwen2.5-7b{more}")) for more in ("", "+prime"))
    assert footprint_memory.resident(shape, grpo).total == 16 * n
    assert footprint_memory.resident(shape, prime).total == (16 + 16 + 4) * n
    assert footprint_memory.resident(shape, grpo, 8).total == 2 * n
    assert footprint_memory.checkpoint_bytes(shape, grpo) == 12 * n
    assert footprint_memory.checkpoint_bytes(shape, prime) == 24 * n
    # 28 layers x 4 heads x 128 x keys and values x 2 bytes, as vLLM's documentation has it for this model
    assert footprint_memory.cache_per_token(shape, 2) == 57_344


def test_operations_are_those_that_torch_counts(bench):
    """The body of the model by torch's own counter, forward and backward, with and without checkpointing."""
    from torch.utils.flop_counter import FlopCounterMode

    shape_of_small = from_config({**bench.build(**SMALL).config.to_dict()})
    rows, length = 3, 64
    for checkpointed, passes in ((False, 3), (True, 4)):
        model = bench.build(**SMALL).train()
        if checkpointed:
            checkpoint_activations(model)
        # The head on one token a row; eager attention, whose products the counter sees as they are.
        model.set_attn_implementation("eager")
        tokens = torch.randint(0, 4096, (rows, length))
        counter = FlopCounterMode(display=False)
        with counter:
            model.base_model(tokens, use_cache=False).last_hidden_state.sum().backward()
        expected = footprint_cost.forward_flops(shape_of_small, rows, length, 0)
        # A layer's last product needs not be made again for the layer's gradient, nor is it for the whole.
        assert counter.get_total_flops() == pytest.approx(passes * expected, rel=0.08)


def test_a_step_of_sampling_adds_up():
    """A group's prompt is read once; every token costs the matrices and what lies before it."""
    shape = from_config(known()["HuggingFaceTB/SmolLM2-135M"])
    lengths = footprint_cost.Lengths(10, 20)
    matrices = shape.layers * shape.layer_matrices + shape.head  # what every token is multiplied by
    token_by_token = sum(2 * matrices + 4 * shape.layers * shape.queries * (10 + t) for t in range(20))
    found = footprint_cost.generation_flops(shape, 1, 1, lengths)
    read = footprint_cost.forward_flops(shape, 1, 10, 1)
    assert found - read == pytest.approx(token_by_token, rel=0.002)
    more = footprint_cost.generation_flops(shape, 1, 8, lengths)
    assert more - read == pytest.approx(8 * (found - read))


def test_passes_follow_the_trainer():
    """Log-probs and the entropy after the update always; the choice before each update but the first; references."""

    def silent(*flags):
        return footprint_cost.passes(recipes.load(None, list(flags)))[0]

    assert silent() == 2
    assert silent("controls.kl_coef=0.1") == 3
    assert silent("rollout.temperature=0.7") == 3
    assert silent("controls.clip_cov.ratio=0.01", "loss.mini_batches=4") == 2.75
    assert silent("controls.clip_cov.ratio=0.01", "controls.reference_code=true") == 2
    assert footprint_cost.passes(recipes.load(None, ["algorithm.name=prime"])) == (4, 2)


def test_more_of_anything_never_needs_less():
    base = recipes.load(Path("law+qwen2.5-3b"))

    def peak(recipe, machine=H100):
        return footprint.estimate(recipe, machine).update_peak

    assert peak(base) < peak(replace(base, rollout=replace(base.rollout, max_tokens=16384)))
    assert peak(base) < peak(replace(base, loss=replace(base.loss, micro_batch=8)))
    assert peak(base) < peak(replace(base, policy=replace(base.policy, gradient_checkpointing=False)))
    assert peak(base) < peak(base, replace(H100, count=2))
    assert peak(base) < peak(recipes.load(Path("law+qwen2.5-3b+prime")))
    assert peak(base) < peak(replace(base, vllm=replace(base.vllm, sleep=False)))


def test_knobs_are_tried_and_do_what_they_say():
    recipe = recipes.load(Path("law+qwen2.5-7b"), ["policy.gradient_checkpointing=false"])
    found = footprint.estimate(recipe, H100)
    assert not found.fits and "the update needs" in found.problems[0]
    knobs = footprint.knobs(recipe, found)
    assert "policy.gradient_checkpointing = true" in knobs
    for knob in knobs:  # those that are one setting: apply and look again
        key, _, value = knob.partition(" = ")
        if " " not in knob.replace(" = ", "="):
            changed = recipes.load(
                Path("law+qwen2.5-7b"), ["policy.gradient_checkpointing=false", f"{key}={value}"]
            )
            assert footprint.estimate(changed, H100).fits, knob
    assert not any(
        k.startswith("loss.micro_batch")
        for k in footprint.knobs(
            recipes.load(Path("cov+qwen2.5-32b")),
            footprint.estimate(recipes.load(Path("cov+qwen2.5-32b")), H100),
        )
    )


def test_an_engine_without_room_for_one_response_is_told():
    recipe = recipes.load(Path("law+qwen2.5-7b"), ["vllm.memory_share=0.2"])
    found = footprint.estimate(recipe, H100)
    assert found.engine.sequences == 0 and any("vllm.memory_share" in p for p in found.problems)
    assert any(k.startswith("vllm.memory_share") for k in footprint.knobs(recipe, found))


def test_the_fewest_gpus_is_the_fewest():
    recipe = recipes.load(Path("qwen2.5-7b-kl-cov"))
    found = footprint.estimate(recipe, H100)
    n = footprint.smallest(recipe, found)
    assert footprint.estimate(recipe, replace(H100, count=n)).fits
    assert n == 1 or not footprint.estimate(recipe, replace(H100, count=n // 2)).fits


# Running out -----------------------------------------------------------------------------------------


def test_a_run_that_this_machine_cannot_hold_is_warned_of_and_one_it_can_is_not(monkeypatch):
    tiny = recipes.load(None, ["run.device=cpu"])
    assert footprint.foresee(tiny) is None
    monkeypatch.setattr(
        footprint, "here", lambda device: footprint_cost.Machine("cpu", 1, 4e9, cpu=True, free=3e9)
    )
    large = recipes.load(
        Path("smollm2-135m"), ["run.device=cpu", "loss.micro_batch=64", "loss.mini_batches=1"]
    )
    told = footprint.foresee(large)
    assert told.code == "memory-short" and told.severity == "warning" and "GB" in told.what and told.value > 1
    assert footprint.foresee(tiny) is None


def real_oom():
    """An allocation that no machine can serve, as torch reports it."""
    try:
        torch.empty(2**60, dtype=torch.uint8)
    except RuntimeError as error:
        return error
    pytest.skip("this machine gives an exabyte")


def test_an_error_of_torch_that_says_so_becomes_one_that_names_a_setting():
    recipe = recipes.load(Path("smollm2-135m"), ["run.device=cpu"])
    for error in (
        real_oom(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        MemoryError(),
    ):
        told = footprint.explain_oom(error, recipe)
        assert (
            isinstance(told, OutOfMemory | MemoryError)
            and isinstance(told, EntlawError)
            and told.exit_code == 1
        )
        assert "loss.micro_batch" in told.hint or "gradient_checkpointing" in told.hint
        assert "--resume" in told.hint and "estimate" in told.why
        assert footprint.explain_oom(told, recipe) is None  # told already


def test_other_errors_are_left_alone():
    recipe = recipes.load(None)
    for error in (RuntimeError("shapes do not fit"), ValueError("out of memory"), KeyboardInterrupt()):
        assert footprint.explain_oom(error, recipe) is None


def test_memory_that_ran_out_below_another_error_is_found():
    try:
        try:
            raise torch.OutOfMemoryError("CUDA out of memory")
        except RuntimeError as cause:
            raise RuntimeError("the engine died") from cause
    except RuntimeError as error:
        assert footprint.is_out_of_memory(error)


# The command -----------------------------------------------------------------------------------------


def check(capsys, *arguments):
    assert run(["train", *arguments, "--check", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_check_prints_the_parts_and_the_whole(capsys):
    told = check(capsys, "qwen2.5-7b-kl-cov", "--gpus", "8", "--gpu", "h100")
    assert told["schema"] == "entlaw.check/1" and told["model"]["parameters"] == 7_615_616_512
    assert told["fits"] and told["changes"]["controls.kl_cov.ratio"] == 0.002
    m = told["memory"]
    parts = m["weights"] + m["gradients"] + m["moments"] + m["copies"] + m["batch"] + m["micro_batch"]["peak"]
    assert parts == pytest.approx(m["update_peak"])
    assert 0 < told["cost"]["seconds"][0] < told["cost"]["seconds"][1]
    assert run(["train", "qwen2.5-7b-kl-cov", "--check", "--gpus", "8"]) == 0
    text = capsys.readouterr().out
    for said in (
        "GPU-hours",
        "fits",
        "controls.kl_cov.ratio = 0.002",
        "assumed",
        "a checkpoint",
        "Adam's two moments",
    ):
        assert said in text


def test_check_says_what_would_fit(capsys):
    told = check(capsys, "qwen2.5-32b-grpo", "--gpus", "8")
    assert not told["fits"] and told["problems"] and told["knobs"] and told["smallest_gpus"] > 8
    less = check(capsys, "qwen2.5-7b-kl-cov", "--gpus", "8", "--gpu-memory", "40")
    assert not less["fits"]


def test_shorter_responses_cost_less_time_and_the_same_memory(capsys):
    a, b = (check(capsys, "law+qwen2.5-3b", "--gpus", "8", "--response-tokens", n) for n in ("500", "2000"))
    assert a["cost"]["seconds"][0] < b["cost"]["seconds"][0] and a["memory"] == b["memory"] | {
        "engine": a["memory"]["engine"]
    }


def test_check_here_needs_no_gpu(capsys):
    told = check(capsys, "smollm2-135m", "--set", "run.device=cpu")
    assert told["machine"]["cpu"] and told["cost"]["seconds"] == [None, None]
    assert math.isclose(told["memory"]["weights"], 4 * 134_515_008)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--check", "--gpus", "0"], "--gpus"),
        (["--check", "--gpu", "h1000"], "h100"),
        (["--check", "--gpu-memory", "-1"], "--gpu-memory"),
        (["--gpus", "8"], "--check"),
        (["--check", "--response-tokens", "7"], "rollout.max_tokens"),
        (["--check", "--set", "loss.mini_batches=9999"], "mini_batches"),
    ],
)
def test_bad_options_are_usage_errors(arguments, said, capsys):
    assert run(["train", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_an_unknown_gpu_in_the_library():
    with pytest.raises(UsageError):
        footprint_cost.named("abacus", 1)
