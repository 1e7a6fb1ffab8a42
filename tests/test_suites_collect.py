"""Sampling in chunks: complete, the same after any interruption, graded as in training."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entlaw.errors import EntlawError, UsageError
from entlaw.suites import definition, models, problems
from entlaw.suites.collect import Decoding, chunks, collect, prepare
from entlaw.suites.grade import Grader
from entlaw.suites.models import Model, Responder, chat_wrap
from entlaw.tasks import Problem
from entlaw.tasks.dataset_task import DataSetPart, DatasetTask
from entlaw.tasks.manifest import get
from entlaw.tasks.math import MathVerifier
from entlaw.train import recipe as recipes
from entlaw.train.rollout.hf import HFEngine, texts
from tests.suites_helpers import byte_policy, sums
from tests.train.common import tiny_policy

DECODING = Decoding(max_tokens=5, batch=6)


def model_of(policy, context=128):
    return Model("runs/a", "a", "runs/a", "weights", recipes.load(None), policy.tokenizer, context)


def responder_of(policy, fail_after=None):
    """The real engine; it may be killed in front of a generation."""
    engine, calls = HFEngine(policy), []

    class Failing:
        def generate(self, prompts, sampling, seed):
            calls.append((len(prompts), sampling, seed))
            if fail_after is not None and len(calls) > fail_after:
                raise KeyboardInterrupt
            return engine.generate(prompts, sampling, seed)

    return Responder(Failing(), lambda batch: texts(policy, batch)), calls


@settings(deadline=None, max_examples=200)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 50))
def test_chunks_hold_each_response_once_and_no_more_than_fit(n, k, batch):
    held = dataclasses.make_dataclass("P", ["id"])
    asked = [held(i) for i in range(n)]
    plan = chunks(n, k, batch)
    keys = [key for c in plan for key in c.keys(asked)]
    assert sorted(keys) == [(i, j) for i in range(n) for j in range(k)]
    assert all(len(c.keys(asked)) <= batch for c in plan)


def run(folder, fail_after=None, held=None, decoding=DECODING):
    policy = tiny_policy("float32")
    with Grader() as grader:
        job, findings = prepare(model_of(policy), held or sums(), decoding, grader, folder, None)
        responder, calls = responder_of(policy, fail_after)
        done = []
        try:
            collect(job, responder, grader, done.append)
        except KeyboardInterrupt:
            assert fail_after is not None
    return job, calls, done, findings


def test_an_interrupted_evaluation_goes_on_to_the_same_responses(tmp_path):
    whole, calls, done, _ = run(tmp_path / "whole")
    assert sum(done) == 48 and len(calls) == len(whole.plan) == 12
    for stop in (0, 1, 5, 11):
        cut = tmp_path / f"cut{stop}"
        run(cut, fail_after=stop)
        again, calls, _, _ = run(cut)
        assert len(calls) == 12 - stop
        assert again.file.path.read_bytes() == whole.file.path.read_bytes()
        assert np.array_equal(again.scores(), whole.scores())
    again, calls, _, _ = run(tmp_path / "whole")
    assert not calls and not again.missing


def test_a_responses_line_says_what_it_was_sampled_with(tmp_path):
    job, calls, _, _ = run(tmp_path)
    seeds = [item.seed for item in job.items()]
    assert seeds == [tuple(seed) for n, sampling, seed in calls for _ in range(n * sampling.samples)]
    assert len(set(seeds)) == len(calls)  # each chunk its own
    policy = tiny_policy("float32")
    first = job.plan[0]
    batch = HFEngine(policy).generate(
        list(job.prompts[first.first : first.last]), calls[0][1], list(seeds[0])
    )
    assert texts(policy, batch) == [i.response for i in job.items()][: len(batch)]


def test_scores_are_the_tasks_own(tmp_path):
    job, *_ = run(tmp_path)
    task, at = job.held.arithmetic, {p.id: p for p in job.held.problems}
    for item in job.items():
        problem = Problem(at[item.id].text, at[item.id].answer)
        assert item.reward == task.score(problem, item.response, item.finished)
        assert (item.verdict == "no-answer") == (task.extract(item.response, item.finished) is None)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"temperature": 0.5}, "temperature"),
        ({"samples": 3}, "samples"),
        ({"max_tokens": 6}, "max tokens"),
        ({"seed": 1}, "seed"),
        ({"batch": 7}, "batch"),
        ({"top_p": 0.9}, "top-p"),
        ({"engine": "vllm"}, "engine"),
    ],
)
def test_no_decoding_goes_on_with_anothers_responses(tmp_path, change, name):
    run(tmp_path)
    with pytest.raises(UsageError) as told:
        run(tmp_path, decoding=dataclasses.replace(DECODING, **change))
    assert name in told.value.why


def test_other_weights_and_other_data_do_not_go_on_either(tmp_path):
    run(tmp_path)
    policy = tiny_policy("float32")
    with Grader() as grader:
        trained = dataclasses.replace(model_of(policy), identity="other weights")
        with pytest.raises(UsageError, match="other settings") as told:
            prepare(trained, sums(), DECODING, grader, tmp_path, None)
        assert told.value.why == "weights was weights, is other weights"
        with pytest.raises(UsageError) as told:
            prepare(
                model_of(policy), dataclasses.replace(sums(), checksum="x"), DECODING, grader, tmp_path, None
            )
        assert "data checksum" in told.value.why


def test_greedy_is_one_response_whatever_was_asked_for():
    held = sums()
    greedy = dataclasses.replace(held, decode=dataclasses.replace(held.decode, temperature=0.0, samples=1))
    assert Decoding(5, samples=8).of(greedy) == (0.0, 1)
    assert Decoding(5, temperature=0.7, samples=8).of(greedy) == (0.7, 8)
    assert Decoding(5, temperature=0.7).of(greedy) == (0.7, 1)
    assert Decoding(5, temperature=0.0, samples=8).of(held) == (0.0, 1)
    assert Decoding(5).of(held) == (1.0, 4)


def test_out_of_memory_is_a_message_and_other_errors_pass(tmp_path):
    policy = tiny_policy("float32")
    for error, expected in (
        (RuntimeError("CUDA out of memory. Tried"), EntlawError),
        (RuntimeError("odd"), RuntimeError),
    ):

        class Broken:
            def generate(self, prompts, sampling, seed, error=error):
                raise error

        with Grader() as grader:
            job, _ = prepare(model_of(policy), sums(), DECODING, grader, tmp_path, None)
            with pytest.raises(expected) as told:
                collect(job, Responder(Broken(), list), grader, print)
        assert not isinstance(told.value, EntlawError) or "--batch" in told.value.hint


# Grades ------------------------------------------------------------------------------------------


def test_answers_are_graded_as_in_training_and_what_cannot_be_read_is_counted(tmp_path):
    rows = [
        f'{{"problem": "P{i}", "answer": "{a}", "solution": "", "level": 1}}'
        for i, a in enumerate(("\\\\frac{1}{2}", "7", "x+1", "4", "5"))
    ]
    (tmp_path / "math500.jsonl").write_text("\n".join(rows))
    (held,) = problems.load(definition.get("math-500"), tmp_path, None, 0)
    cases = [
        (0, r"so \boxed{0.5}", True, "right"),
        (0, r"\boxed{\frac{2}{4}}", True, "right"),
        (1, "it is 7", True, "no-answer"),
        (1, r"\boxed{7} and more", False, "right"),
        (1, r"\boxed{7", False, "no-answer"),
        (1, r"\boxed{8}", True, "wrong"),
        (2, r"\boxed{1+x}", True, "right"),
        (3, r"\boxed{\oint\clubsuit}", True, "undecided"),
        (4, "", True, "no-answer"),
    ]
    asked = [held.problems[i] for i, *_ in cases]
    responses, finished = [c[1] for c in cases], [c[2] for c in cases]
    with Grader() as grader:
        grades = grader.grade(held, asked, responses, finished)
    assert [g.verdict for g in grades] == [c[3] for c in cases]
    assert all(g.reward == (g.verdict == "right") for g in grades)
    with MathVerifier() as verifier:
        behind = [Problem(p.text, p.answer) for p in held.problems]
        task = DatasetTask([], [DataSetPart(get("math-500"), tuple(behind))], verifier)
        again = task.score_batch([behind[i] for i, *_ in cases], responses, finished)
    assert [g.reward for g in grades] == again


def test_programs_are_run_and_a_response_without_one_is_no_answer(tmp_path):
    from entlaw.errors import SandboxUnavailable

    test = "def check(candidate):\n    assert candidate(2) == 4\n"
    row = {
        "task_id": "t",
        "prompt": "def double(x):\n",
        "test": test,
        "entry_point": "double",
        "canonical_solution": "    return 2 * x\n",
    }
    import json

    (tmp_path / "humaneval.jsonl").write_text(json.dumps(row) + "\n")
    (held,) = problems.load(definition.get("humaneval"), tmp_path, None, 0)
    responses = [
        "```python\ndef double(x):\n    return 2 * x\n```",
        "```python\ndef double(x):\n    return x\n```",
        "",
    ]
    with Grader(workers=2) as grader:
        try:
            grader.need({"code"})
        except SandboxUnavailable as error:
            pytest.skip(f"no sandbox here: {error.what}")
        grades = grader.grade(held, [held.problems[0]] * 3, responses, [True] * 3)
    assert [g.verdict for g in grades] == ["right", "wrong", "no-answer"]


# Prompts -----------------------------------------------------------------------------------------


def test_chat_is_used_where_there_is_a_template_and_begins_once():
    policy = byte_policy()
    wrap = chat_wrap(policy.tokenizer, None)
    ids = policy.tokenizer(wrap("How?"))["input_ids"]
    assert policy.tokenizer.decode(ids) == "<bos><user>How?<assistant>"
    assert chat_wrap(policy.tokenizer, False) is None
    bare = byte_policy(chat=False).tokenizer
    assert chat_wrap(bare, None) is None
    with pytest.raises(UsageError, match="no chat template"):
        chat_wrap(bare, True)


def test_the_context_bounds_each_response_and_a_prompt_that_fills_it_is_a_message(tmp_path):
    held = sums()
    longest = max(len(p.text) for p in held.problems)
    policy = tiny_policy("float32")
    with Grader() as grader:
        with pytest.raises(UsageError, match="no room"):
            prepare(model_of(policy, longest), held, DECODING, grader, tmp_path, None)
        decoding = dataclasses.replace(DECODING, max_tokens=50)
        job, _ = prepare(model_of(policy, longest + 3), held, decoding, grader, tmp_path, None)
        responder, calls = responder_of(policy)
        collect(job, responder, grader, lambda n: None)
    room = dict(zip((p.id for p in held.problems), job.room, strict=True))
    assert min(room.values()) == 3 and all(item.tokens <= max(room.values()) for item in job.items())
    for chunk, (_, sampling, _) in zip(job.plan, calls, strict=True):
        assert sampling.max_tokens == min(job.room[chunk.first : chunk.last])


def test_weights_are_known_by_what_they_are(tmp_path, monkeypatch):
    def folder(name, weights, config=b"{}"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(weights)
        (tmp_path / name / "config.json").write_bytes(config)
        return models.weights_identity(tmp_path / name)

    data = bytes(range(256)) * 64
    first = folder("a", data)
    assert first == folder("b", data)
    assert (
        len({first, folder("c", data[:-1] + b"x"), folder("d", data, b'{"a": 1}'), folder("e", data + b"\0")})
        == 4
    )
    # Large files by blocks, the first and the last byte among them.
    monkeypatch.setattr(models, "_WHOLE", 100)
    monkeypatch.setattr(models, "_BLOCK", 16)
    monkeypatch.setattr(models, "_BLOCKS", 32)
    large = models.weights_identity(tmp_path / "a")
    assert large == models.weights_identity(tmp_path / "b")
    assert len({large, *(models.weights_identity(tmp_path / n) for n in "cde")}) == 4
    assert folder("f", b"y" + data[1:]) != large
