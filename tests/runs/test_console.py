"""Console logs: verl lines and TRL dictionaries in any surroundings, and the independent readings of real ones."""

import gzip
import json
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from entlaw.errors import UnreadableSource
from entlaw.runs import lines
from entlaw.runs.lines.verl import verl_records
from entlaw.runs.parsing.config_dump import config_from_preamble
from entlaw.runs.parsing.literal import LiteralError, UnfinishedLiteral, parse_literal
from entlaw.runs.recognition import recognise
from entlaw.runs.source import HEAD_BYTES, Head, ReadOptions
from entlaw.runs.sources import console, jsonl, notebook, parquet, tabular, trl_state
from tests.conftest import SHARED, needs_shared

SOURCES = (parquet, tabular, notebook, trl_state, jsonl, console)
PREFIX = "\x1b[36m(TaskRunner pid=14640)\x1b[0m "


def head_of(path):
    with Path(path).open("rb") as handle:
        return Head(Path(path), handle.read(HEAD_BYTES), Path(path).stat().st_size)


def recognised(path):
    """The module of the source that takes the file."""
    source, _ = recognise(head_of(path))
    return sys.modules[source.read.__module__]


def read_text(tmp_path, text, name="train.log"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert recognised(path) is console
    (run,) = console.read(path, ReadOptions())
    return run


def codes(run):
    return {f.code for f in run.findings}


def verl_text(n=5, prefix=PREFIX):
    return "".join(
        f"{prefix}step:{t} - actor/entropy:{1 / t:.3f} - critic/score/mean:{t / 10:.3f}\n"
        for t in range(1, n + 1)
    )


def hf_text(n=6, every=5, total=None, buffered=0, evals=()):
    """What the Hugging Face progress callback prints: bar, blanks, record, bar anew.

    With ``buffered=k`` standard output reaches the file k records late, as when it is a pipe.
    """
    total = total or n * every
    out, held = [], []
    for step in range(1, n * every + 1):
        bar = f"\r{100 * step // total:3d}%|{'█' * 4:10s}| {step}/{total} [00:18<11:16,  3.47s/it]"
        out.append(bar)
        if step % every == 0:
            records = [{"loss": 0.1, "reward": step / total, "entropy": 1 / step, "epoch": 0.1}]
            if step in evals:
                records.append({"eval_loss": 0.5, "eval_reward": step / total, "epoch": 0.1})
            for record in records:
                out.append("\r" + " " * 50 + "\r")
                held.append(repr(record) + "\n")
                if len(held) > buffered:
                    out += held
                    held = []
                out.append(bar)
    return "".join(out + held + ["\n"])


# --- verl ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        PREFIX,
        "\x1b[2m\x1b[36m(main_task pid=64899, ip=10.0.0.1)\x1b[0m ",
        "2025-05-22 07:03:31,997 INFO trainer.py:12 -- ",
        "[rank0]: ",
        "\0\0\0",
        "🚀 ",
        "Training Progress:  23%|██        | 100/435 [10:00<33:00,  5.9s/it]\r",
        "[36m(TaskRunner pid=1)[0m ",
    ],
)
def test_any_prefix_reads_the_same(tmp_path, prefix):
    run = read_text(tmp_path, "some preamble\n" + verl_text(4, prefix))
    assert run.provenance.format == "verl-console" and run.provenance.framework == "verl"
    assert run.rows.columns.tolist() == ["step", "actor/entropy", "critic/score/mean"]
    np.testing.assert_array_equal(run.rows["step"], [1, 2, 3, 4])
    np.testing.assert_array_equal(run.rows["actor/entropy"], [1.0, 0.5, 0.333, 0.25])
    assert run.rows.dtypes.eq(float).all() and run.findings == ()


@pytest.mark.parametrize(
    "text, value",
    [
        ("0.5", 0.5),
        ("np.float64(0.5)", 0.5),
        ("tensor(0.5)", 0.5),
        ("tensor(0.5, device='cuda:0')", 0.5),
        ("5e-1", 0.5),
        ("-0.5", -0.5),
        ("nan", np.nan),
        ("inf", np.inf),
        ("1", 1.0),
        ("True", None),
        ("1_0", None),
        ("abc", None),
    ],
)
def test_spellings_of_values(text, value):
    ((keys, values),), unread = verl_records(f"step:3 - a/x:{text} - b/y:2.0")
    told = dict(zip(keys, values, strict=True))
    assert told.pop("step") == 3 and told.pop("b/y") == 2
    assert unread == (value is None)
    if value is not None:
        np.testing.assert_equal(told, {"a/x": value})


def test_keys_with_colons_brackets_and_blanks():
    ((keys, values),), unread = verl_records(
        "step:1 - critic/lr(1e-4):0.100 - val/my set:v2/acc:0.5 - val/a - b/acc:0.25 - np/x:np.float64(2.0)"
    )
    assert dict(zip(keys, values, strict=True)) == {
        "step": 1,
        "critic/lr(1e-4)": 0.1,
        "val/my set:v2/acc": 0.5,
        "val/a - b/acc": 0.25,
        "np/x": 2.0,
    }
    assert unread == 0


def test_step_inside_another_key_does_not_begin_a_record():
    line = "step:7 - training/global_step:7 - training/epoch:0 - timing_s/step:3 - perf/x:1.0"
    ((keys, values),), _ = verl_records(line)
    assert dict(zip(keys, values, strict=True))["timing_s/step"] == 3 and values[0] == 7
    assert verl_records("training/global_step:7 - training/epoch:0")[0] == []
    assert verl_records("global_step:7 - x:0")[0] == []


def test_prose_is_not_a_record():
    assert verl_records("step:1 - first we add: 5")[0] == []
    assert verl_records("Let us go step by step: 3 - 2 = 1")[0] == []


def test_two_processes_in_one_line_do_not_mix_steps():
    records, unread = verl_records("step:1 - a/x:0.5(TaskRunner pid=3) step:2 - a/x:0.25 - a/y:1.0")
    assert [dict(zip(*r, strict=True)) for r in records] == [{"step": 2, "a/x": 0.25, "a/y": 1.0}]
    records, unread = verl_records("step:1 - a/y:2.0 - a/x:0.5(TaskRunner pid=3) step:2 - a/x:0.25")
    assert [dict(zip(*r, strict=True)) for r in records] == [
        {"step": 1, "a/y": 2.0},
        {"step": 2, "a/x": 0.25},
    ]
    assert unread == 1


def test_lines_of_one_step_and_restarts_stay_in_logged_order(tmp_path):
    text = "step:0 - val/acc:0.1\n" + verl_text(3, "") + verl_text(2, "") + "step:2 - val/acc:0.2\n"
    run = read_text(tmp_path, text)
    assert run.rows["step"].tolist() == [0, 1, 2, 3, 1, 2, 2]
    assert run.rows["val/acc"].dropna().tolist() == [0.1, 0.2]


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_line_ends(tmp_path, newline):
    run = read_text(tmp_path, verl_text(5).replace("\n", newline).encode())
    assert run.rows["step"].tolist() == [1, 2, 3, 4, 5]


def test_utf16_of_a_windows_shell(tmp_path):
    run = read_text(tmp_path, verl_text(5, "").encode("utf-16"))
    pd.testing.assert_frame_equal(run.rows, read_text(tmp_path, verl_text(5, ""), "b.log").rows)


def test_gzip_is_transparent_and_a_cut_one_is_told(tmp_path):
    text = verl_text(2000).encode()
    whole = gzip.compress(text, mtime=0)
    assert len(read_text(tmp_path, whole, "a.log.gz").rows) == 2000
    appended = whole + gzip.compress(
        verl_text(3).encode()
    )  # a resumed run's part: one file to every gzip tool
    assert read_text(tmp_path, appended, "c.log.gz").rows["step"].tolist()[1998:] == [1999, 2000, 1, 2, 3]
    path = tmp_path / "b.log.gz"
    path.write_bytes(whole[: len(whole) // 2])
    (run,) = console.read(path, ReadOptions())
    assert 0 < len(run.rows) < 2000 and "truncated-gzip" in codes(run)
    assert run.rows["step"].tolist() == list(range(1, len(run.rows) + 1))


def test_cut_number_is_never_taken_for_a_whole_one(tmp_path):
    text = verl_text(3, "").rstrip("\n")
    whole = read_text(tmp_path, text + "\n").rows
    last_line = len(text) - len(text.rsplit("\n", 1)[1])
    for cut in range(last_line + 1, len(text) + 1):
        run = read_text(tmp_path, text[:cut], f"{cut}.log")
        pd.testing.assert_frame_equal(run.rows.iloc[:2], whole.iloc[:2])
        tail = run.rows.iloc[2:].to_numpy().ravel()
        assert np.isin(tail[~np.isnan(tail)], whole.iloc[2]).all(), text[last_line:cut]
        if " - " in text[last_line:cut]:
            assert "truncated-tail" in codes(run)


# --- TRL ----------------------------------------------------------------------------------------------------------


def test_dictionaries_in_every_spelling(tmp_path):
    lines = [
        "{'loss': 0.1, 'entropy': 0.5, 'reward': nan, 'step': 1}",
        "  4%|4 | 2/200 [00:01<00:02] {'loss': np.float64(0.2), 'entropy': tensor(0.4), 'reward': 1, 'step': 2}",
        "{'loss': '0.3', 'entropy': '0.3', 'reward': '1e-1', 'step': '3'}",
        "INFO {'loss': 0.4, 'entropy': tensor(0.2, device='cuda:0'), 'reward': array(0.5), 'step': 4} done",
        '{"loss": 0.5, "entropy": 0.1, "reward": null, "step": 5}',
        "{'loss': 0.6, 'entropy': -inf, 'reward': None, 'step': 6, 'note': \"it's\", 'list': [1, 2]}",
    ]
    run = read_text(tmp_path, "\n".join(lines) + "\n")
    assert run.provenance.format == "trl-console" and run.provenance.framework == "trl"
    np.testing.assert_array_equal(run.rows["step"], [1, 2, 3, 4, 5, 6])
    np.testing.assert_array_equal(run.rows["loss"], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    np.testing.assert_array_equal(run.rows["entropy"], [0.5, 0.4, 0.3, 0.2, 0.1, -np.inf])
    np.testing.assert_array_equal(run.rows["reward"], [np.nan, 1, 0.1, 0.5, np.nan, np.nan])
    assert "note" not in run.rows and not codes(run) & {"step-inferred", "step-by-order"}


@pytest.mark.parametrize("buffered", [0, 3, 100])
@pytest.mark.parametrize("evals", [(), (10, 30)])
def test_step_from_the_bar_even_when_records_come_late(tmp_path, buffered, evals):
    run = read_text(tmp_path, hf_text(6, 5, total=1000, buffered=buffered, evals=evals))
    want = sorted([5, 10, 15, 20, 25, 30, *evals])
    assert run.rows["step"].tolist() == want
    np.testing.assert_array_equal(run.rows["entropy"].dropna(), [1 / s for s in range(5, 31, 5)])
    if evals:
        assert run.rows.loc[run.rows["eval_reward"].notna(), "step"].tolist() == list(evals)
    (finding,) = run.findings
    assert finding.code == "step-inferred" and finding.severity == "info"


def test_a_lagging_bar_does_not_shift_the_step(tmp_path):
    # tqdm skips redraws that come too fast: the counter before a record may be old, the one redrawn after is exact.
    text = "".join(
        f"\r  1%| | {s - 2}/1000 [00:01<00:02]\r{' ' * 40}\r{{'loss': 0.1, 'entropy': {s}.5}}\n"
        f"\r  1%| | {s}/1000 [00:01<00:02]"
        for s in range(10, 60, 10)
    )
    assert read_text(tmp_path, text).rows["step"].tolist() == [10, 20, 30, 40, 50]


def test_other_bars_are_not_the_trainers(tmp_path):
    text = "".join(f"\rMap:  5%|█ | {i}/7473 [00:00<00:00]" for i in range(0, 7473, 1000)) + "\n"
    for s in range(10, 60, 10):
        text += f"\r  1%| | {s}/1000 [00:01<00:02]"
        text += "".join(f"\r 50%|██ | {i}/4 [00:01<00:02]" for i in range(1, 5))
        text += f"\r{' ' * 40}\r{{'loss': 0.1, 'entropy': {s}.5}}\n\r  1%| | {s}/1000 [00:01<00:02]"
    assert read_text(tmp_path, text).rows["step"].tolist() == [10, 20, 30, 40, 50]


def test_no_bar_numbers_by_order_and_says_so(tmp_path):
    text = "".join(
        f"{{'loss': 0.1, 'entropy': {t}.5}}\n{{'eval_loss': 0.1, 'eval_reward': 1.0}}\n" for t in (1, 2, 3)
    )
    run = read_text(tmp_path, text)
    assert run.rows["step"].tolist() == [1, 1, 2, 2, 3, 3]
    (finding,) = run.findings
    assert finding.code == "step-by-order" and finding.severity == "warning"


def test_a_damaged_record_keeps_its_place(tmp_path):
    lines = [f"{{'loss': 0.1, 'reward': 0.5, 'entropy': {t}.5}}" for t in range(1, 6)]
    lines[2] = lines[2].replace("'reward': 0.5", "'reward' 0.5")
    run = read_text(tmp_path, "\n".join(lines) + "\n")
    assert run.rows["step"].tolist() == [1, 2, 4, 5] and "records-unread" in codes(run)


def test_cut_dictionary_keeps_its_whole_pairs(tmp_path):
    text = (
        "{'loss': 0.1, 'entropy': 0.5, 'step': 1}\n{'loss': 0.2, 'entropy': 0.4, 'reward': 0.75, 'step': 2}"
    )
    start = text.index("\n") + 1
    whole = read_text(tmp_path, text).rows
    assert codes(read_text(tmp_path, text)) == set()  # closed by its brace, newline or not
    for cut in range(start + 1, len(text)):
        run = read_text(tmp_path, text[:cut], f"{cut}.log")
        assert run.rows["loss"].iloc[0] == 0.1
        tail = run.rows.iloc[1:].drop(columns="step").to_numpy().ravel()
        assert np.isin(tail[~np.isnan(tail)], whole.iloc[1]).all()


def test_samples_and_configs_are_no_records(tmp_path):
    text = "Expected: {'A': 'true', 'B': 3}\n{'a': 1, 'b': 2}\n{\"answer\": 4, \"x\": 1}\n{}{{{\n"
    path = tmp_path / "x.log"
    path.write_text(text)
    with pytest.raises(UnreadableSource, match="no metric lines found") as error:
        console.read(path, ReadOptions())
    assert error.value.hint and "step:4" in str(error.value)
    (run,) = console.read(path, ReadOptions(entropy_key="a"))  # unless the user names the key
    assert run.rows["b"].tolist() == [2]


def test_verl_lines_win_over_the_dictionaries_that_repeat_them(tmp_path):
    text = (
        verl_text(5)
        + "\"Final validation metrics: {'test_score/openai/gsm8k': 0.5, 'reward': 1.0, 'epoch': 1}\"\n"
    )
    run = read_text(tmp_path, text)
    assert len(run.rows) == 5 and "other-records" in codes(run)


def test_json_records_among_other_lines(tmp_path):
    text = "starting\n" + "".join(
        f'INFO {{"step": {t}, "data": {{"actor/entropy": {t / 10}, "critic/score/mean": NaN}}}}\nnoise\n'
        for t in (1, 2, 3)
    )
    run = read_text(tmp_path, text)
    assert run.provenance.format == "json-console"
    assert run.rows["actor/entropy"].tolist() == [0.1, 0.2, 0.3]


@pytest.mark.parametrize("wrapper", ["data", "metrics", "scalars", "logs"])
@pytest.mark.parametrize("front", ["0: ", "2026-01-01T00:00:00Z ", "trainer-1  | "])
def test_a_record_wrapped_behind_a_prefix_is_one_level(tmp_path, wrapper, front):
    inner = '{"actor/entropy": 0.9, "critic/score/mean": 0.1, "step": 77}'
    text = "".join(f'{front}{{"step": {t}, "{wrapper}": {inner}}}\n' for t in (1, 2, 3))
    run = read_text(tmp_path, text)
    assert (
        run.rows["actor/entropy"].tolist() == [0.9] * 3
        and run.rows["critic/score/mean"].tolist() == [0.1] * 3
    )
    assert run.rows["step"].tolist() == [1, 2, 3]


# --- configuration ------------------------------------------------------------------------------------------------


def test_overrides_of_a_command_line():
    config = config_from_preamble(
        b"+ python3 -m verl.trainer.main_ppo data.train_batch_size=512 actor_rollout_ref.actor.entropy_coeff=0.001 "
        b"'trainer.logger=[console,wandb]' ++algorithm.use_kl_in_reward=True actor_rollout_ref.model.path=a/b \\\n"
        b"    trainer.resume_mode=null\nos.environ=1\n"
    )
    assert config["actor_rollout_ref.actor.entropy_coeff"] == 0.001
    assert config["data.train_batch_size"] == 512 and config["algorithm.use_kl_in_reward"] is True
    assert config["trainer.resume_mode"] is None and config["actor_rollout_ref.model.path"] == "a/b"
    assert "os.environ" not in config


def test_printed_config_between_lines_of_other_processes():
    import pprint

    tree = {
        "actor_rollout_ref": {
            "actor": {
                "clip_ratio_high": 0.28,
                "entropy_coeff": 0,
                "optim": {"lr": 1e-06, "betas": [0.9, 0.95]},
            },
            "model": {"path": "it's {a} long path " * 8, "external_lib": None},
        },
        "trainer": {"logger": ["console", "wandb"], "nnodes": 1, "resume": True},
    }
    lines = pprint.pformat(tree).split("\n")
    log = ["actor_rollout_ref.actor.entropy_coeff=0.5"]
    for i, line in enumerate(lines):
        log.append(PREFIX + line)
        if i % 3 == 0:
            log.append(
                "\x1b[36m(WorkerDict pid=99)\x1b[0m {'other': {'x': 1}} Flash Attention only supports ..."
            )
    config = config_from_preamble("\n".join(log).encode())
    assert config["actor_rollout_ref.actor.entropy_coeff"] == 0  # what was resolved, not what was asked for
    assert config["actor_rollout_ref.actor.optim.betas"] == [0.9, 0.95]
    assert config["actor_rollout_ref.model.path"] == tree["actor_rollout_ref"]["model"]["path"]
    assert config["trainer.logger"] == ["console", "wandb"] and config["trainer.resume"] is True
    lost = [
        line for line in log if "'external_lib'" not in line
    ]  # a lost line closes a section that stays open
    config = config_from_preamble("\n".join(lost).encode())
    assert config["trainer.nnodes"] == 1 and config["actor_rollout_ref.actor.optim.lr"] == 1e-06


@pytest.mark.parametrize(
    "text, value",
    [
        ("{'a': 1, 'b': {'c': -2.5e-3}}", {"a": 1, "b": {"c": -0.0025}}),
        ("('ab' \n 'cd')", "abcd"),
        ("(1,)", [1]),
        ("{'x': {1, 2}, 'y': ()}", {"x": [1, 2], "y": []}),
        (r"'a\n\x41\u00e9\''", "a\nAé'"),
        (
            "{'x': <Mode.A: 'a'>, 'y': Foo(a=(1, 2), b=')'), 'z': None}",
            {"x": "<Mode.A: 'a'>", "y": "Foo(a=(1, 2), b=')')", "z": None},
        ),
        ("[nan, -inf, True, 10, .5,]", ["nan", "-inf", True, 10, 0.5]),
    ],
)
def test_literals(text, value):
    assert parse_literal(text) == (value, len(text))


def test_hostile_literals():
    for text in ("{'a': ", "{'a'", "['x", "{'a': f("):
        with pytest.raises(UnfinishedLiteral):
            parse_literal(text)
    for text in ("{'a': 1 'b'}", "]", "{'a': 1]", "[" * 10_000, "{'a': ;}"):
        with pytest.raises(LiteralError):
            parse_literal(text)


def test_every_kind_of_line_is_found_with_a_place_of_its_own():
    files = {path.stem for path in Path(lines.__file__).parent.glob("*.py")} - {"__init__"}
    found = lines.kinds()
    assert {kind.__module__.rpartition(".")[2] for kind in found} == files
    assert len({kind.order for kind in found}) == len(found) and found[0].__module__.endswith("verl")
    rare = {kind.__module__.rpartition(".")[2]: {console._rare(n) for n in kind.needles} for kind in found}
    assert rare["verl"] == {b":"} and rare["dictionary"] == {b"{"}


# --- bad input and large input ------------------------------------------------------------------------------------


def test_binary_is_not_taken(tmp_path):
    path = tmp_path / "junk.bin"
    path.write_bytes(np.random.default_rng(0).bytes(100_000))
    assert recognise(head_of(path))[0] is None
    path.write_bytes(b"\0" * 1000)
    assert recognise(head_of(path))[0] is None


@pytest.mark.parametrize("source", SOURCES, ids=lambda s: s.SOURCE.name)
def test_empty_missing_and_folders_are_clear_errors(tmp_path, source):
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "blank").write_bytes(b"\n \n\r\n")
    (tmp_path / "gz").write_bytes(b"\x1f\x8bxxxx")
    for path in (tmp_path / "empty", tmp_path / "blank", tmp_path / "gz", tmp_path, tmp_path / "missing"):
        with pytest.raises(UnreadableSource) as error:
            source.read(path, ReadOptions())
        assert error.value.where == str(path) and error.value.hint


def test_memory_does_not_grow_with_the_file(tmp_path):
    """Four times the file, the same peak but for the numbers themselves (8 bytes each)."""

    def peak(steps):
        path = tmp_path / f"{steps}.log"
        with path.open("w") as handle:
            for t in range(steps):
                handle.write("Therefore, the total is 16 hours. \\boxed{16} #### 16 <|im_end|>\n" * 500)
                handle.write(f"{PREFIX}step:{t} - actor/entropy:0.500 - critic/score/mean:0.250\n")
        tracemalloc.start()
        (run,) = console.read(path, ReadOptions())
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(run.rows) == steps
        return most, path.stat().st_size

    small, _ = peak(300)
    large, size = peak(1200)
    assert size > 38e6
    assert large < small + 1e6 and large < 8e6


def test_a_line_without_end_is_skipped_in_bounded_memory(tmp_path):
    path = tmp_path / "x.log"
    with path.open("wb") as handle:
        handle.write(verl_text(2).encode())
        for _ in range(40):
            handle.write(b"x" * (1 << 20))
        handle.write(b"\n" + verl_text(4).encode())
    tracemalloc.start()
    (run,) = console.read(path, ReadOptions())
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert run.rows["step"].tolist() == [1, 2, 1, 2, 3, 4] and "long-lines-skipped" in codes(run)
    assert most < 16e6


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_block_bounds_do_not_matter(tmp_path, monkeypatch, size):
    from entlaw.runs.parsing import text as text_module

    text = hf_text(6, 5, total=1000, buffered=2, evals=(10,)).encode()
    whole = read_text(tmp_path, text, "whole.log")
    original = text_module.chunks
    monkeypatch.setattr(console, "chunks", lambda handle, notes: original(handle, notes, size))
    pieces = read_text(tmp_path, text, "pieces.log")
    pd.testing.assert_frame_equal(whole.rows, pieces.rows)
    assert whole.findings == pieces.findings


# --- the real logs ------------------------------------------------------------------------------------------------

ENTROPY = ("actor/entropy_loss", "optim/entropy", "entropy_avg", "entropy")


def real_logs():
    for meta in sorted(SHARED.glob("*/meta.json")):
        told = json.loads(meta.read_text())
        for entry in told if isinstance(told, list) else [told]:
            yield pytest.param(
                meta.parent / entry["raw"],
                meta.parent / entry["csv"],
                id=f"{meta.parent.name}-{entry['csv']}",
            )


@needs_shared
@pytest.mark.parametrize("raw, csv", list(real_logs()))
def test_rows_equal_the_independent_reading(raw, csv):
    (run,) = recognised(raw).read(raw, ReadOptions())
    want = pd.read_csv(csv, dtype=str).map(float).set_index("step")  # exact in any version of pandas
    by_step = run.rows.groupby("step")
    got = (
        by_step.last() if "rasbt" in str(raw) else by_step.first()
    )  # an aborted run precedes the real one there
    assert got.index.tolist() == want.index.tolist()
    entropy = next(key for key in ENTROPY if key in got)
    np.testing.assert_array_equal(got[entropy], want["entropy"])
    shared = [c for c in want.columns if c in got.columns]
    for column in shared:
        np.testing.assert_array_equal(got[column], want[column])
    score = {
        "bihan_verl_ppo": ("train_performance", "critic/score/mean"),
        "juncylu_trl": ("performance", "rewards/mc_idx_reward/mean"),
        "rasbt_ch07": ("train_performance", "reward_avg"),
        "sunshine_trl": ("performance", "reward"),
        "tinker_arith": ("performance", "env/all/correct"),
        "verl_data": ("train_performance", "critic/score/mean"),
        "verl_notebook_ppo": ("performance", "critic/score/mean"),
    }[raw.parts[-3]]
    np.testing.assert_array_equal(got[score[1]], want[score[0]])
    if "rasbt" in str(raw):
        # The csv carries the score of step 1 over from the aborted run, as does groupby().last().
        np.testing.assert_allclose(got["eval_acc"] / 100, want["performance"], rtol=1e-14)
    validation = {
        "verl_data": "val/test_score/openai/gsm8k",
        "bihan_verl_ppo": "val-core/openai/gsm8k/reward/mean@1",
    }
    if raw.parts[-3] in validation:
        scored = got[validation[raw.parts[-3]]]
        if "test_score/openai/gsm8k" in got:  # verl 0.1 logs the validation before training under this key
            scored = scored.combine_first(got["test_score/openai/gsm8k"])
        np.testing.assert_array_equal(scored, want["performance"])


@needs_shared
def test_output_log_of_wandb_with_its_model_samples():
    path = SHARED / "format_samples" / "logic_rl_wandb_output.log"
    (run,) = recognised(path).read(path, ReadOptions())
    assert run.rows["step"].tolist() == list(range(10))
    lines = [line for line in path.read_text().split("\n") if line.startswith("step:")]
    assert len(lines) == 10
    entropy = [float(line.split("actor/entropy_loss:")[1].split(" - ")[0]) for line in lines[1:]]
    assert run.rows["actor/entropy_loss"].dropna().tolist() == entropy
    assert run.rows["val/test_score/logic_assignment"].dropna().tolist() == [0.0]


@needs_shared
@pytest.mark.parametrize("name", ["bihan_verl_ppo", "verl_data", "verl_notebook_ppo"])
def test_config_of_real_logs(name):
    for raw in (SHARED / name / "raw").iterdir():
        (run,) = recognised(raw).read(raw, ReadOptions())
        want = 0 if name == "bihan_verl_ppo" else 0.001
        assert run.config["actor_rollout_ref.actor.entropy_coeff"] == want
        assert run.config["algorithm.kl_ctrl.kl_coef"] == 0.001
        assert {key.split(".")[0] for key in run.config} <= {
            "actor_rollout_ref",
            "algorithm",
            "critic",
            "data",
            "trainer",
            "reward_model",
            "custom_reward_function",
            "ray_init",
        }
