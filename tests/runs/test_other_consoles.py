"""Consoles of other trainers: pairs on a line, drawn tables, dictionaries behind a step or over several lines."""

import json
import pprint
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entlaw.errors import UnreadableSource
from entlaw.runs.reader import read, read_raw
from tests.runs.test_console import codes, verl_text

N = 40
STEPS = list(range(1, N + 1))
ENTROPY = [round(1 / (1 + 0.05 * t), 4) for t in STEPS]
REWARD = [round(0.2 + 0.01 * t, 4) for t in STEPS]
ROWS = list(zip(STEPS, ENTROPY, REWARD, strict=True))


def one_run(tmp_path, text, **keys):
    path = tmp_path / "run.log"
    path.write_text(text)
    (run,) = read(path)
    return run


def check(run, steps=STEPS, scale=1.0):
    assert run.points["step"].tolist() == steps
    assert run.points["entropy"].tolist() == pytest.approx(ENTROPY)
    assert run.points["performance"].tolist() == pytest.approx([r * scale for r in REWARD], abs=1e-9)


LINES = {
    "pipes": "[gsm8k]  {t:3d}/40 | loss=-4.6 | entropy={h} | reward={r}",
    "prime-rl": "10:02:03 SUCCESS Step {t} | Time: 31.61s | Loss: 0.0001 | Entropy: {h} | Reward: {r} | "
    "Grad. Norm: 0.1 | LR: 1.00e-06 | Throughput: 5000 tokens/s | MFU: 30.1%",
    "logging": "2026-01-01 10:00:00,123 - trainer - INFO - step {t}: entropy={h}, reward={r}, lr=1e-06",
    "nanogpt": "iter {t}: loss 0.5000, entropy {h}, reward {r}, time 123.45ms",
    "megatron": " iteration {t:8d}/      40 | consumed samples: 512 | policy entropy: {h} | mean reward: {r} |",
    "equals with step": "step={t} entropy={h} reward={r} kl=0.01",
    "colons": "(main pid=7) Step: {t}/40, Entropy: {h}, Reward: {r}",
    "brackets": "[Step {t}/40] entropy: {h} | reward: {r}",
    "two blanks": "train step {t}   entropy {h}   reward {r}   loss 0.1",
    "hash": "Update #{t}: mean_reward={r} entropy={h} kl=0.001",
    "global step": "global_step: {t} - policy/entropy: {h} - rollout/reward: {r} - loss: 0.25",
    "rollout": "INFO:root:Rollout {t} reward={r} (max 1.0) entropy={h}",
    "tabs": "step {t}\tentropy: {h}\treward: {r}",
    "semicolons": "epoch 1/1; step {t}; entropy = {h}; reward = {r}",
    "ansi": "\x1b[32mstep {t}\x1b[0m | \x1b[1mentropy\x1b[0m=\x1b[33m{h}\x1b[0m | reward={r}",
    "arrow": "Iteration {t} -> entropy={h} reward={r} len=303.5",
}


@pytest.mark.parametrize("kind", LINES)
def test_pairs_on_a_line(tmp_path, kind):
    text = "Loading the model\nstep by step\n" + "".join(
        LINES[kind].format(t=t, h=h, r=r) + "\n" for t, h, r in ROWS
    )
    run = one_run(tmp_path, text)
    check(run)
    assert run.provenance.format == "key-value-console"


BLOCKS = {
    "headed": "===== Step {t}/40 =====\n\n📊 Results:\n  • Loss: 0.1\n  • Entropy: {h}\n  • Avg Reward: {r}\n"
    "  • Time: 3.5s\n",
    "plain": "step: {t}\n  entropy: {h}\n  reward: {r}\n",
    "tree": "Iteration {t}\n├── entropy = {h}\n├── reward = {r}\n└── tokens = 512 (3.2 k/s)\nSaving a checkpoint\n",
    "dashes": "[2026-01-01 00:00:00] Train step {t}/40:\n- policy/entropy: {h}\n- rollout/reward: {r}\n\n",
}


@pytest.mark.parametrize("block", BLOCKS)
def test_pairs_on_lines_below_their_step(tmp_path, block):
    check(one_run(tmp_path, "Loading\n" + "".join(BLOCKS[block].format(t=t, h=h, r=r) for t, h, r in ROWS)))


@pytest.mark.parametrize(
    "block",
    [
        "[step {t}]\n    entropy     : {h}\n    mean_reward : {r}\n    kl          : 0.001\n",
        "[step {t}]\n  entropy     = {h}\n  mean_reward = {r}\n  kl =  0.001\n",
        "step {t} | entropy   :   {h} | reward :   {r}\n",
    ],
)
def test_aligned_colons(tmp_path, block):
    check(one_run(tmp_path, "".join(block.format(t=t, h=h, r=r) for t, h, r in ROWS)))


TORN = {
    "equals": "step={t} entropy={h} reward={r}",
    "pipes": "Step {t} | Entropy: {h} | Reward: {r}",
    "logging": "2026-01-01 10:00:00,123 - trainer - INFO - step {t}: entropy={h}, reward={r}, lr=1e-06",
    "unread tail": "12:00:01 step {t} | reward={r} | entropy={h} | 123.45ms",
}


@pytest.mark.parametrize("rest", ["below", "behind", "lost", "alone"])
@pytest.mark.parametrize("kind", TORN)
def test_a_record_inside_another_one(tmp_path, kind, rest):
    """At each position: the rest of the outer record on the next line, in the same one, nowhere; or no inner one."""
    lines = [TORN[kind].format(t=t, h=h, r=r) + "\n" for t, h, r in ROWS]
    outer, inner = lines[18][:-1], lines[19][:-1]
    path = tmp_path / "run.log"
    # A number that is the last thing written and then nothing: only what precedes it can be told from a whole line.
    first, last = outer.lower().find("step"), re.search(r"[\d.]+(?:ms|e-06)?$", outer).start()
    for cut in range(first + 1, last if rest == "alone" else len(outer)):
        head, tail = outer[:cut], outer[cut:]
        torn = {
            "below": f"{head}{inner}\n{tail}\n",
            "behind": f"{head}{inner}{tail}\n\n",
            "lost": f"{head}{inner}\n",
            "alone": f"{head}\n{inner}\n",
        }[rest]
        path.write_text("".join([*lines[:18], torn, *lines[20:]]))
        (raw,) = read_raw(path)
        assert not wrong_values(raw.rows) and len(raw.rows) >= N - 2, (cut, torn)
        if rest != "alone":
            assert "records-broken" in [f.code for f in raw.findings], (cut, torn)


def wrong_values(rows):
    """The numbers of records that are none of their step's."""
    want = {t: (h, r) for t, h, r in ROWS}
    return [
        (row["step"], key)
        for _, row in rows.iterrows()
        for i, names in enumerate((("entropy", "Entropy"), ("reward", "Reward")))
        for key in names
        if key in row and row[key] == row[key] and row[key] != want[row["step"]][i]
    ]


@pytest.mark.parametrize("kind", ["equals", "pipes"])
def test_lines_cut_at_one_width(tmp_path, kind):
    """A number at the cut is never used, wherever in it the cut is."""
    lines = [TORN[kind].format(t=t, h=h, r=r) for t, h, r in ROWS]
    path = tmp_path / "run.log"
    for width in range(min(map(len, lines)) - 4, max(map(len, lines))):
        path.write_text("".join(line[:width] + "\n" for line in lines))
        (raw,) = read_raw(path)
        assert "lines-cut" in [f.code for f in raw.findings], width
        assert len(raw.rows) == N and not wrong_values(raw.rows), width


def test_records_in_fixed_columns_are_not_cut(tmp_path):
    text = "".join(
        f"Step {t:4d} | Entropy: {h:8.4f} | Reward: {r:8.4f} | Gain: {(-1) ** t * r:8.4f}\n"
        for t, h, r in ROWS
    )
    for end in ("", "   "):
        run = one_run(tmp_path, text.replace("\n", end + "\n"))
        check(run)
        assert not {"lines-cut", "records-broken", "lines-alone"} & set(codes(run))


def test_a_note_behind_a_record_tears_nothing(tmp_path):
    out = [TORN["pipes"].format(t=t, h=h, r=r) + f" | saved step {t}" * (t % 20 == 0) for t, h, r in ROWS]
    run = one_run(tmp_path, "\n".join(out) + "\n")
    check(run)
    assert "records-broken" not in codes(run)


def test_percent_and_evaluations_on_lines_of_their_own(tmp_path):
    out = []
    for t, h, r in ROWS:
        out.append(f"{t}/40 | entropy={h} | acc={100 * r:.2f}%")
        if t % 4 == 1:
            out.append(f"[eval] step {t}: accuracy={r / 2:.4f} loss=0.5")
    run = one_run(tmp_path, "\n".join(out) + "\n")
    assert run.performance_key == "eval/accuracy" and len(run.points) == 10
    path = tmp_path / "train.log"
    path.write_text("\n".join(line for line in out if "eval" not in line) + "\n")
    (run,) = read(path)
    check(run)


PROSE = [
    "Step {a}: the reward is {b}, so the score = {c}.",
    "So step {a} gives accuracy = {b}",
    "{a}/{b} = {c}, hence the entropy = {c}",
    "We get x={a} and y={b} in step {c}",
    "entropy = {b} at temperature {c}, step {a}",
    "Step {a}: compute loss: {b}",
]


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 10**6))
def test_answers_of_a_model_are_no_records(tmp_path_factory, seed):
    """A trainer's lines among ten times as many lines of answers that look a little like them."""
    rng = random.Random(seed)
    for name, own in (
        ("verl", verl_text(40).splitlines()),
        ("pairs", [LINES["pipes"].format(t=t, h=h, r=r) for t, h, r in ROWS]),
    ):
        out = []
        for line in own:
            for _ in range(rng.randrange(20)):
                numbers = {k: rng.choice([rng.randrange(9), round(rng.random(), 2)]) for k in "abc"}
                out.append(rng.choice(PROSE).format(**numbers))
            out.append(line)
        folder = tmp_path_factory.mktemp("answers")
        (folder / "plain.log").write_text("\n".join(own) + "\n")
        (folder / "run.log").write_text("\n".join(out) + "\n")
        (want,), (run,) = read(folder / "plain.log"), read(folder / "run.log")
        assert run.provenance.format == want.provenance.format, name
        assert not {"records-broken", "lines-cut"} & codes(run), name
        for column in ("step", "entropy", "performance"):
            assert run.points[column].tolist() == want.points[column].tolist(), name


def test_answers_alone_are_no_log(tmp_path):
    rng = random.Random(0)
    path = tmp_path / "answers.txt"
    path.write_text(
        "".join(rng.choice(PROSE[:2]).format(a=rng.randrange(9), b=1, c=0) + "\n" for _ in range(300))
    )
    with pytest.raises((UnreadableSource, Exception)) as error:
        read(path)
    assert error.value.hint


def test_a_cut_last_line_gives_no_half_number(tmp_path):
    text = "".join(LINES["pipes"].format(t=t, h=h, r=r) + "\n" for t, h, r in ROWS)
    path = tmp_path / "run.log"
    for cut in range(len(text) - 120, len(text), 3):
        path.write_text(text[:cut])
        (raw,) = read_raw(path)
        for _, row in raw.rows.iterrows():
            t = int(row["step"])
            assert row.get("entropy") != row.get("entropy") or row["entropy"] == ENTROPY[t - 1]
            assert row.get("reward") != row.get("reward") or row["reward"] == REWARD[t - 1]


def areal(t, h, r):
    pairs = [
        ("timeperf/rollout", 89.0),
        ("ppo_actor/update/entropy/avg", h),
        ("ppo_actor/task_reward/avg", r),
    ]
    rows = [pairs[:2], [*pairs[2:], ("", "")]]
    cell = lambda k, v: f" {k:32s} │ {v:.4e} " if k else f" {'':32s} │ {'':10s} "  # noqa: E731
    body = "\n├──┼──┼──┼──┤\n".join("│" + "│".join(cell(k, v) for k, v in row) + "│" for row in rows)
    head = f"\x1b[37m20260101-00:00:01.000 StatsLogger INFO: Epoch 1/1 Step {t}/40 Train step {t}/40 done.\x1b[0m"
    return f"{head}\n╒══╤══╤══╤══╕\n{body}\n╘══╧══╧══╧══╛\n"


def rich_box(t, h, r):
    return (
        f"        Step {t}\n┏━━━━━━━━┳━━━━━━━┓\n┃ Metric ┃ Value ┃\n┡━━━━━━━━╇━━━━━━━┩\n"
        f"│ entropy │ {h} │\n│ reward │ {r} │\n│ loss │ 0.1 │\n└─────┴─────┘\n"
    )


def sb3(t, h, r):
    return (
        "---------------------------------\n| train/            |           |\n"
        f"|    iteration      | {t}        |\n|    entropy        | {h}     |\n|    reward | {r} |\n"
        "---------------------------------\n"
    )


def ascii_box(t, h, r):
    return (
        f"Training step {t}/40\n+-+-+\n| actor/entropy | {h} |\n+-+-+\n| critic/score/mean | {r} |\n+-+-+\n"
    )


@pytest.mark.parametrize("box", [areal, rich_box, sb3, ascii_box])
def test_boxes_of_keys_and_values(tmp_path, box):
    config = "┏━━┓\n┃ lr ┃ 1e-06 ┃\n┃ model ┃ qwen ┃\n┗━━┛\n"
    run = one_run(
        tmp_path, config + "".join(box(t, h, r) + "Step 3: an answer\n" * (box is areal) for t, h, r in ROWS)
    )
    assert run.points["step"].tolist() == STEPS
    assert run.points["entropy"].tolist() == pytest.approx(ENTROPY, rel=1e-4)
    assert run.points["performance"].tolist() == pytest.approx(REWARD, rel=1e-3)


MARKDOWN = "| Step | Training Loss | reward | entropy |\n|---:|:---|---|---|\n"


@pytest.mark.parametrize(
    ("head", "row"),
    [
        (MARKDOWN, "| {t} | 0.001 | {r} | {h} |\n"),
        ("|step|entropy|reward|\n|---|---|---|\n", "|{t}|{h}|{r}|\n"),
        (
            "Some text\n\n## Results\n\n| | step | entropy | reward |\n|---|---|---|---|\n",
            "| {t} | {t} | {h} | {r} |\n",
        ),
        (
            "+---+---+---+\n| step | entropy | reward |\n+===+===+===+\n",
            "| {t} | **{h}** | {r} |\n+---+---+---+\n",
        ),
        ("┏━━┳━━┳━━┓\n┃ step ┃ entropy ┃ reward ┃\n┡━━╇━━╇━━┩\n", "│ {t} │ {h} │ {r} │\n"),
        ("| step | note | entropy | reward |\n|--|--|--|--|\n", "| {t} | No Log | {h} | {r} |\n"),
    ],
)
@pytest.mark.parametrize("end", ["\n", "", "\nThe end.\n"])
def test_tables_with_a_header(tmp_path, head, row, end):
    text = head + "".join(row.format(t=t, h=h, r=r) for t, h, r in ROWS)
    for name in ("run.md", "run.log"):
        path = tmp_path / name
        path.write_text(text.rstrip("\n") + end)
        (run,) = read(path)
        check(run)


SLIME = (
    "[2026-01-01 00:00:01] INFO rollout.py:101 - rollout {t}: {{'rollout/lengths': 303.5, 'rollout/raw_reward': {r}}}\n"
    "[2026-01-01 00:00:02] INFO data.py:88 - perf {t}: {{'perf/train_time': 12.5, 'perf/step_time': 3.5}}\n"
)


@pytest.mark.parametrize("each", [1, 2, 4])
def test_slime(tmp_path, each):
    out = []
    for t, h, r in zip(range(N), ENTROPY, REWARD, strict=True):
        out.append(SLIME.format(t=t, r=r))
        for i in range(each):
            n = t * each + i
            record = {
                "train/loss": 0.1,
                "train/entropy_loss": h - 0.01 * i,
                "train/grad_norm": 0.5,
                "train/step": n,
            }
            out.append(f"(pid=3) step {n}: {record}\n")
    run = one_run(tmp_path, "".join(out))
    check(run, steps=list(range(N)))
    assert run.provenance.framework == "slime" and ("steps-a-rollout" in codes(run)) == (each > 1)


@pytest.mark.parametrize(
    "label", ["Global step {t}: ", "step {t}: ", "[Iteration {t}/40] ", "Step {t} | metrics: ", "update={t} "]
)
def test_a_step_in_front_of_a_dictionary(tmp_path, label):
    text = "".join(
        f"(x pid=1) {label.format(t=t)}{ {'policy_loss': 0.1, 'entropy': h, 'reward': r, 'kl': 0.01} }\n"
        for t, h, r in ROWS
    )
    check(one_run(tmp_path, text))


@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize("style", ["pprint", "json", "json4", "nested"])
def test_dictionaries_over_several_lines(tmp_path, style, labelled):
    out = ["{'config': {'lr': 1e-06,\n            'model': 'q'},\n 'seed': 1}\n"]
    for t, h, r in ROWS:
        record = {
            "loss": 0.1,
            "entropy": h,
            "reward": r,
            "completions/mean_length": 303.5,
            "completions/max": [1, 2, 3],
        }
        if not labelled:
            record["step"] = t
        if style == "nested":
            record = {"data": record, "note": "a, b"}
        printed = pprint.pformat(record, width=40, sort_dicts=False)
        if style.startswith("json"):
            printed = json.dumps(record, indent=4 if style == "json4" else 2)
        out.append(f"INFO some text {t}\n")
        out.append((f"step {t}: " if labelled else "") + printed + "\n")
    check(one_run(tmp_path, "".join(out)))


def test_a_torn_dictionary_over_several_lines_is_not_used(tmp_path):
    out = []
    for t, h, r in ROWS:
        lines = pprint.pformat(
            {"step": t, "entropy": h, "reward": r, "loss": 0.25, "note": "x" * 30}, width=30
        ).split("\n")
        out += lines[:2] if t == 20 else lines
    run = one_run(tmp_path, "\n".join(out) + "\n")
    assert run.points["step"].tolist() == [t for t in STEPS if t != 20]
    assert run.points["entropy"].tolist() == [h for t, h in zip(STEPS, ENTROPY, strict=True) if t != 20]
