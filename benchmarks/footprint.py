"""Memory of an update: what `entlaw train --check` predicts, what torch allocates, and 16 bytes a parameter.

Each case is a model of real classes with random weights on a CPU. Measured is the highest sum of torch's live
allocations during one optimiser step of our trainer (torch.profiler's memory events), plus what was there before:
weights and Adam's moments. 16 bytes a parameter (weights, gradients, two moments, all float32) is the rule of
thumb that `accelerate estimate-memory` prints for training with Adam; it knows nothing of activations.

``--process`` adds the peak resident memory of a process that makes two steps with SmolLM2-135M's shape.

Run: python benchmarks/footprint.py [--process] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

_KEYS = ("kind", "layers", "hidden", "heads", "kv_heads", "inner", "vocabulary", "tied", "head_dim")
SIZES: dict[str, dict[str, Any]] = {
    name: dict(zip(_KEYS, values, strict=True))
    for name, values in {
        "llama 5.9M": ("llama", 4, 256, 8, 4, 1024, 4096, False, None),
        "llama 8.1M tied": ("llama", 8, 256, 8, 2, 768, 8192, True, None),
        "qwen2 15.7M": ("qwen2", 2, 384, 6, 2, 1024, 16384, False, None),
        "mistral 11.5M": ("mistral", 6, 320, 4, 2, 1024, 4096, False, 128),
    }.items()
}
LENGTHS = ((8, 4, 32, 96), (8, 2, 64, 448), (8, 8, 16, 48))  # responses, micro-batch, prompt, response
MODES = {
    "": {},
    "checkpointing": {"gradient_checkpointing": True},
    "autocast": {"autocast": True},
    "both": {"gradient_checkpointing": True, "autocast": True},
}
STEP = """
import sys; sys.path.insert(0, sys.argv[1])
import benchmarks.footprint as b, json
print(json.dumps(b.process_case()))
"""


def build(
    kind: str,
    layers: int,
    hidden: int,
    heads: int,
    kv_heads: int,
    inner: int,
    vocabulary: int,
    tied: bool = False,
    head_dim: int | None = None,
) -> Any:
    """A model with random weights."""
    import transformers

    config_class, model_class = {
        "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
        "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
        "mistral": (transformers.MistralConfig, transformers.MistralForCausalLM),
    }[kind]
    more = {"head_dim": head_dim} if head_dim else {}
    config = config_class(
        num_hidden_layers=layers,
        hidden_size=hidden,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        intermediate_size=inner,
        vocab_size=vocabulary,
        tie_word_embeddings=tied,
        max_position_embeddings=4096,
        **more,
    )
    return model_class(config)


def peak(work: Callable[[], Any]) -> int:
    """Highest sum of torch's CPU allocations above where it began, bytes."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        work()
    events = seen.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    now = most = 0
    for _, size in changes:
        now += size
        most = max(most, now)
    return most


def recipe_of(settings: dict[str, bool], responses: int, micro: int, prompt: int, response: int) -> Any:
    """A recipe whose step is one mini-batch of these sizes."""
    from entlaw.train import recipe

    flags = [f"policy.{key}={str(value).lower()}" for key, value in settings.items()]
    return recipe.load(
        None,
        [
            *flags,
            f"rollout.prompts={responses}",
            "rollout.group_size=1",
            "loss.mini_batches=1",
            f"loss.micro_batch={micro}",
            f"rollout.max_prompt_tokens={prompt}",
            f"rollout.max_tokens={response}",
        ],
    )


def step_of(model: Any, recipe: Any, prompt: int, response: int) -> Callable[[], Any]:
    """One optimiser step on random responses of full length, as the trainer makes it, to be called again and again."""
    import torch

    from entlaw.train.batch import Batch
    from entlaw.train.policy import LanguageModel, checkpoint_activations
    from entlaw.train.update import update

    rows, vocabulary = recipe.rollout.prompts, model.config.vocab_size
    if recipe.policy.gradient_checkpointing:
        checkpoint_activations(model)
    model.train()
    policy = LanguageModel(model, None, (1,), 0, recipe.policy.autocast)  # type: ignore[arg-type]  # no text here
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)
    generator = torch.Generator().manual_seed(0)
    mask = torch.ones(rows, response)
    mask[1::2, -3:] = 0  # of a ragged batch, as they all are
    batch = Batch(
        torch.randint(2, vocabulary, (rows, prompt), generator=generator),
        torch.ones(rows, prompt, dtype=torch.bool),
        torch.randint(2, vocabulary, (rows, response), generator=generator),
        mask,
        torch.ones(rows, dtype=torch.bool),
        torch.arange(rows),
    )
    with torch.no_grad():
        parts = [policy.score(p).log_prob_BT for _, p in batch.pieces(recipe.loss.micro_batch)]
    advantages = torch.randn(rows, 1, generator=generator).expand(rows, response).contiguous()
    batch = replace(batch, log_prob_BT=torch.cat(parts), advantages_BT=advantages)
    return lambda: update(
        policy,
        optimizer,
        batch,
        recipe.loss,
        recipe.controls,
        temperature=1.0,
        entropy_coeff=0.0,
        grad_clip=1.0,
        norm_length=response,
        generator=generator,
    )


def case(size: dict[str, Any], mode: dict[str, bool], lengths: tuple[int, int, int, int]) -> dict[str, float]:
    """Measured and predicted bytes of one update, weights and moments included."""
    import torch

    from entlaw.train import footprint_memory as memory
    from entlaw.train.footprint import working
    from entlaw.train.footprint_shapes import from_config

    torch.manual_seed(0)
    responses, micro, prompt, response = lengths
    model, recipe = build(**size), recipe_of(mode, *lengths)
    step = step_of(model, recipe, prompt, response)
    step()  # the moments come into being
    for parameter in model.parameters():
        parameter.grad = None
    shape = from_config(model.config.to_dict())
    assert shape is not None and shape.parameters == sum(p.numel() for p in model.parameters())
    resident = memory.resident(shape, recipe)
    states = resident.weights + resident.moments
    rows = min(micro, responses)
    one = memory.one_pass(
        shape, recipe, responses=rows, prompt=prompt, response=response, devices=1, cpu=True
    )
    return {
        "parameters": shape.parameters,
        "measured": states + peak(step),
        "predicted": states + resident.gradients + working(one, resident, rows >= responses),
        "naive": 16 * shape.parameters,
    }


def process_case() -> dict[str, float]:
    """Peak resident memory of this process over two steps with SmolLM2-135M's shape, and what --check predicts."""
    import resource

    import torch

    from entlaw.train.footprint import estimate
    from entlaw.train.footprint_cost import here
    from entlaw.train.footprint_shapes import from_config, known

    torch.set_num_threads(1)
    shape = from_config(known()["HuggingFaceTB/SmolLM2-135M"])
    assert shape is not None
    recipe = recipe_of({}, 8, 4, 64, 128)
    model = build(
        "llama",
        shape.layers,
        shape.hidden,
        shape.heads,
        shape.kv_heads,
        shape.inner,
        shape.vocabulary,
        shape.tied,
    )
    step = step_of(model, recipe, 64, 128)
    step()
    step()
    found = estimate(recipe, here("cpu"), shape=shape)
    assert found is not None
    measured = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "parameters": shape.parameters,
        "measured": measured,
        "predicted": found.update_peak,
        "naive": 16 * shape.parameters,
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--process", action="store_true", help="also a whole process at 135 M parameters")
    parser.add_argument("--json", type=Path, help="write the rows here")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    head = ("measured", "predicted", "ratio", "16 B/par.", "ratio")
    print(f"{'MB':<16}{'mode':<15}{'micro x tokens':>15}" + "".join(map("{:>11}".format, head)))
    for name, size in SIZES.items():
        for mode, settings in MODES.items():
            for lengths in LENGTHS:
                shown = f"{lengths[1]} x {lengths[2]}+{lengths[3]}"
                rows.append({"model": name, "mode": mode, "case": shown, **case(size, settings, lengths)})
                _print(rows[-1])
    if options.process:
        root = str(Path(__file__).resolve().parent.parent)
        done = subprocess.run([sys.executable, "-c", STEP, root], check=True, capture_output=True, text=True)
        rows.append(
            {"model": "SmolLM2-135M", "mode": "process", "case": "4 x 64+128", **json.loads(done.stdout)}
        )
        _print(rows[-1])
    ratios = [r["predicted"] / r["measured"] for r in rows if r["mode"] != "process"]
    naive = [r["naive"] / r["measured"] for r in rows if r["mode"] != "process"]
    print(
        f"predicted / measured: {min(ratios):.3f} to {max(ratios):.3f}; 16 bytes: {min(naive):.3f} to {max(naive):.3f}"
    )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


def _print(row: dict[str, Any]) -> None:
    measured, predicted, naive = (row[key] / 1e6 for key in ("measured", "predicted", "naive"))
    numbers = [f"{measured:.1f}", f"{predicted:.1f}", f"{predicted / measured:.3f}"]
    numbers += [f"{naive:.1f}", f"{naive / measured:.3f}"]
    print(
        f"{row['model']:<16}{row['mode']:<15}{row['case']:>15}" + "".join(map("{:>11}".format, numbers)),
        flush=True,
    )


if __name__ == "__main__":
    main()
