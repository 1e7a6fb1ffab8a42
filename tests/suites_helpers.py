"""A language model that can read and write any byte, for suites of questions in words; untrained, and quick."""

from __future__ import annotations

import functools
from pathlib import Path

from entlaw.suites.definition import SuiteColumn
from entlaw.suites.problems import ProblemSet, SuiteProblem
from entlaw.tasks.arithmetic import Arithmetic
from entlaw.tasks.manifest import Decode
from entlaw.train import policy as policies
from entlaw.train.policy import LanguageModel

SHARED = Path(__file__).parents[2] / "shared" / "data"
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def byte_policy(chat=True, context=4096, seed=0) -> LanguageModel:
    """One token a byte, <bos> put in front by the tokenizer as Llama's does."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {c: i for i, c in enumerate([*alphabet, "<bos>", "<eos>"])}
    core = Tokenizer(models.BPE(vocabulary, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", vocabulary["<bos>"])]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<bos>", eos_token="<eos>", model_max_length=context
    )
    if chat:
        tokenizer.chat_template = TEMPLATE
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=context,
        bos_token_id=256,
        eos_token_id=257,
        pad_token_id=257,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return policies.wrap(LlamaForCausalLM(config), tokenizer)


@functools.lru_cache(maxsize=8)
def _saved(folder: str, **kw) -> str:
    policies.save(byte_policy(**kw), Path(folder))
    return folder


def byte_model(folder: Path, **kw) -> str:
    """The same in a folder."""
    return _saved(str(folder), **kw)


def sums(n=12, samples=4, seed=3) -> ProblemSet:
    """Made-up sums as a column."""
    task = Arithmetic()
    drawn = task.validation(n, seed)
    problems = tuple(SuiteProblem(f"p{i}", i, p.prompt, p.answer) for i, p in enumerate(drawn))
    return ProblemSet(
        SuiteColumn("arithmetic", "arithmetic"),
        "arithmetic",
        problems,
        Decode(1.0, samples),
        "sum",
        n,
        "made up",
        arithmetic=task,
    )
