"""Five small language models built from scratch, with a character tokenizer and a supervised warm-up.

The classes are those of real models (Llama, Qwen2), so everything that runs here runs there. The warm-up makes a base
policy as pre-training does: it can half do the task and is unsure.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import cross_entropy

from entlaw.tasks.arithmetic import CHARACTERS, Arithmetic
from entlaw.train.randomness import numpy_generator
from entlaw.train.schema import Policy, Warmup

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

# hidden size, layers, heads, feed-forward size: about a factor 2.7 in parameters between rungs.
SIZES: dict[str, tuple[int, int, int, int]] = {
    "xs": (32, 2, 2, 48),
    "s": (48, 2, 4, 96),
    "m": (64, 3, 4, 144),
    "l": (96, 4, 4, 192),
    "xl": (128, 6, 4, 256),
}
_CONTEXT = 128


def build_tokenizer(characters: str = CHARACTERS) -> PreTrainedTokenizerFast:
    """One token a character, then ``<eos>`` and ``<pad>``."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {c: i for i, c in enumerate([*characters, "<eos>", "<pad>"])}
    core = Tokenizer(models.WordLevel(vocabulary))
    core.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    core.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<eos>", pad_token="<pad>", model_max_length=_CONTEXT
    )


def build_model(policy: Policy, vocabulary: int, eos: int, pad: int) -> PreTrainedModel:
    """A rung of the ladder with random weights that depend on ``policy.seed`` alone."""
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

    hidden, layers, heads, inner = SIZES[policy.size]
    config_class, model_class = {
        "llama": (LlamaConfig, LlamaForCausalLM),
        "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    }[policy.family]
    config = config_class(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=_CONTEXT,
        tie_word_embeddings=False,
        initializer_range=hidden**-0.5,  # the 0.02 of large models learns these widths slowly
        pad_token_id=pad,
        bos_token_id=None,
        eos_token_id=eos,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(policy.seed)
        return model_class(config).to(getattr(torch, policy.dtype))


def warm_up(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    task: Arithmetic,
    settings: Warmup,
    seed: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Next-token training on demonstrations of training problems: clean chains, then an unsure mixture.

    Parameters
    ----------
    progress : callable
        Called with (steps done, steps in all).
    """
    total = settings.clean_steps + settings.noisy_steps
    phases = (
        (settings.clean_steps, settings.clean_lr, settings.lr_warmup, 1.0, 0.0),
        (settings.noisy_steps, settings.noisy_lr, 0, settings.chain_share, settings.slip),
    )
    rng = numpy_generator(seed, "warmup")
    done = 0
    model.train()
    for steps, lr, rising, chain_share, slip in phases:
        optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=settings.betas, weight_decay=0.0)
        for i in range(steps):
            optimizer.param_groups[0]["lr"] = lr * (1 - i / steps) * min(1.0, (i + 1) / max(rising, 1))
            problems = [task.draw(rng, held_out=False) for _ in range(settings.batch_size)]
            texts = [task.demonstration(rng, p, chain_share, slip) for p in problems]
            loss = demonstration_loss(model, tokenizer, [p.prompt for p in problems], texts)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            done += 1
            progress(done, total)


def demonstration_loss(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, prompts: list[str], answers: list[str]
) -> torch.Tensor:
    """Mean negative log-prob of the answers' tokens, end of sequence included, given the prompts."""
    prompt_ids, answer_ids = tokenizer(prompts)["input_ids"], tokenizer(answers)["input_ids"]
    rows = [(p, [*a, tokenizer.eos_token_id]) for p, a in zip(prompt_ids, answer_ids, strict=True)]
    width = max(len(p) + len(a) for p, a in rows)
    tokens = torch.full((len(rows), width), int(tokenizer.pad_token_id))
    labels = torch.full((len(rows), width), -100)
    for i, (p, a) in enumerate(rows):
        tokens[i, : len(p) + len(a)] = torch.tensor(p + a)
        labels[i, len(p) : len(p) + len(a)] = torch.tensor(a)
    # Padded on the right: causal attention never looks at it, so no mask is needed.
    logits = model(tokens.to(model.device), use_cache=False).logits[:, :-1]
    return cross_entropy(logits.float().flatten(0, 1), labels[:, 1:].flatten().to(model.device))
