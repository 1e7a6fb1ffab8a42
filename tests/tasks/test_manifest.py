"""The manifest: complete, consistent with the paper, and able to be found however a name is spelled."""

from __future__ import annotations

import pytest

from entlaw.errors import UsageError
from entlaw.tasks import manifest

KNOWN = manifest.load()
TRAINING = ["gsm8k", "math", "dapo-math-17k", "eurus-2-rl-math", "eurus-2-rl-code", "acecode", "kodcode"]
EVALUATION = [
    "math-500",
    "aime24",
    "aime25",
    "amc",
    "olympiadbench",
    "omni-math",
    "minerva",
    "gsm8k-test",
    "svamp",
    "mawps",
    "asdiv",
    "humaneval",
]


@pytest.mark.parametrize("name", TRAINING + EVALUATION)
def test_every_data_set_of_the_paper_is_known(name):
    spec = manifest.get(name)
    assert spec.use == ("train" if name in TRAINING else "eval")
    assert spec.hub.count("/") == 1 and spec.split and spec.license and spec.layouts
    assert "{question}" in spec.template


def test_the_papers_decoding():
    """paper.md 2.2: temperature 0.6 and 32 samples for AIME and AMC, greedy elsewhere."""
    sampled = {n for n, s in KNOWN.items() if s.decode.temperature}
    assert sampled == {"aime24", "aime25", "amc"}
    assert all(KNOWN[n].decode == manifest.Decode(0.6, 32) for n in sampled)
    assert all(s.decode == manifest.Decode(0.0, 1) for n, s in KNOWN.items() if n not in sampled)


def test_row_counts_give_the_papers_average_weights():
    """8,844 rows without OMNI-MATH's 2,821 of 4,428 that rules can check (paper.md 1.2)."""
    rows = {
        n: KNOWN[n].rows * KNOWN[n].decode.samples
        for n in ("aime24", "aime25", "amc", "math-500", "olympiadbench", "minerva")
    }
    assert sum(rows.values()) + 2821 in (8843, 8844)


@pytest.mark.parametrize("spelled", ["MATH500", "math_500", "Math-500"])
def test_spelling_of_a_name(spelled):
    assert manifest.get(spelled).name == "math-500"


def test_an_unknown_name_says_which_are_near():
    with pytest.raises(UsageError, match="'gsm9k'") as caught:
        manifest.get("gsm9k")
    assert "gsm8k" in str(caught.value.hint)


def test_the_prompt_asks_for_a_box_and_leaves_braces_alone():
    prompt = manifest.get("math").prompt(r"Find $\{x\}$ {question}.")
    assert prompt.startswith(r"Find $\{x\}$ {question}.") and r"\boxed{}" in prompt


@pytest.mark.parametrize(
    "broken",
    [
        "typo = 1\ntemplate = 't'",
        "template = 'none'",
        "template = 't'\nlayouts = [{question = 'q', answer = 'a', take = 'magic'}]",
    ],
)
def test_a_defect_of_the_manifest_is_an_error(broken):
    head = "[templates]\nt = '{question}'\n[x]\ntitle='x'\nuse='eval'\nkind='math'\n"
    head += "hub='a/b'\nsplit='test'\nlicense='MIT'\nfiles=[]\n"
    if "layouts" not in broken:
        head += "layouts = [{question = 'q', answer = 'a'}]\n"
    with pytest.raises(ValueError, match="x: "):
        manifest.parse(head + broken)


def test_plain_data_for_json():
    import json

    assert (
        json.loads(json.dumps(KNOWN["humaneval"].as_dict()))["layouts"][0]["tests"]["entry_point"]
        == "entry_point"
    )
