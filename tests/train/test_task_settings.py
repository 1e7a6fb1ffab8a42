"""From a recipe's task settings to a task: data sets, wording, chat templates, stop tokens, pass rates."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from entlaw.errors import SourceNotFound, UsageError
from entlaw.tasks.dataset_task import problem_id
from entlaw.train.schema import TaskSettings
from entlaw.train.tasks import build_task, chat_wrap, with_stop
from tests.train.common import tiny_policy

ROWS = [{"question": f"What is {i} and one?", "answer": str(i + 1)} for i in range(40)]
SETTINGS = TaskSettings(name="gsm8k")


@pytest.fixture
def folder(tmp_path):
    rows = [{"question": r["question"], "answer": f"easy\n#### {r['answer']}"} for r in ROWS]
    (tmp_path / "gsm8k_train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path


def test_the_wording_of_a_recipe_replaces_the_data_sets(folder):
    own = build_task(replace(SETTINGS, data_dir=str(folder)))
    other = build_task(replace(SETTINGS, data_dir=str(folder), template="Q: {question}\nA:"))
    asked = {p.prompt for p in other.training(0, 0, 30)}
    assert asked <= {f"Q: {r['question']}\nA:" for r in ROWS} and len(asked) > 25
    assert all("boxed" in p.prompt for p in own.training(0, 0, 30))
    assert {p.prompt for p in other.validation(3, 0)}.isdisjoint(asked)


def test_pass_rates_choose_what_is_trained_on_and_not_what_is_validated_on(folder):
    rates = folder / "rates.csv"
    lines = [f"{problem_id(r['question'])},{(i % 4) / 3:.4f}" for i, r in enumerate(ROWS)]
    rates.write_text("\n".join(["id,pass_rate", *lines]))
    settings = replace(SETTINGS, data_dir=str(folder), template="{question}")
    everything, told = build_task(settings), []
    kept = build_task(replace(settings, pass_rates=str(rates)), on_finding=told.append)
    mixed = {r["question"] for i, r in enumerate(ROWS) if i % 4 in (1, 2)}
    trained = {p.prompt for p in everything.training(0, 0, len(everything))}
    assert {p.prompt for p in kept.training(0, 0, len(kept))} == trained & mixed
    n = len(ROWS) - len(everything)
    assert [p.prompt for p in kept.validation(n, 0)] == [p.prompt for p in everything.validation(n, 0)]
    assert "difficulty-filter" in {f.code for f in told}


@pytest.mark.parametrize("key", ["data_dir", "pass_rates"])
def test_a_path_that_is_not_there(folder, key):
    with pytest.raises(SourceNotFound) as caught:
        build_task(replace(SETTINGS, **{"data_dir": str(folder), key: str(folder / "nowhere")}))
    assert key in caught.value.what and caught.value.exit_code == 3


def test_a_chat_template_is_put_around_the_question_and_begins_once(folder):
    tokenizer = tiny_policy("float32").tokenizer
    with pytest.raises(UsageError, match="no chat template"):
        chat_wrap(tokenizer)
    with pytest.raises(UsageError):
        chat_wrap(None)
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    task = build_task(replace(SETTINGS, data_dir=str(folder), template="{question}", chat=True), tokenizer)
    assert {p.prompt for p in task.training(0, 0, 30)} <= {f"[user]{r['question']}[assistant]" for r in ROWS}


@pytest.mark.parametrize("adds", [True, False])
def test_a_prompt_has_one_beginning_whoever_writes_it(adds):
    """Llama's tokenizer writes the beginning by itself, and its chat template writes it as well."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.WordLevel({"<s>": 0, "<unk>": 1, "hello": 2}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    if adds:
        raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", unk_token="<unk>")
    tokenizer.chat_template = "{{ bos_token }}{% for m in messages %}{{ m['content'] }}{% endfor %}"
    assert tokenizer(chat_wrap(tokenizer)("hello"))["input_ids"] == [0, 2]


def test_a_stop_token(folder):
    policy = tiny_policy("float32")
    assert with_stop(policy, "") is policy
    stopped = with_stop(policy, "=")
    (token,) = set(stopped.stop_ids) - set(policy.stop_ids)
    assert policy.tokenizer.decode([token]) == "="
    assert with_stop(stopped, "=").stop_ids == stopped.stop_ids
    with pytest.raises(UsageError, match="2 tokens"):
        with_stop(policy, "12")
