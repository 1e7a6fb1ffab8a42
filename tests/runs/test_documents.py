"""JSON documents of many shapes: the same history in each must give the same rows."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entlaw.errors import UnreadableSource
from entlaw.runs.assemble import assemble
from entlaw.runs.parsing.documents import histories
from entlaw.runs.parsing.json_pieces import values_in, whole_part
from entlaw.runs.reader import read, read_raw
from tests.runs.test_console import codes

N = 40
STEPS = list(range(5, 5 * N + 1, 5))
ENTROPY = [round(1 / (1 + 0.05 * i), 6) for i in range(N)]
REWARD = [round(0.2 + 0.01 * i, 6) for i in range(N)]
ROWS = list(zip(STEPS, ENTROPY, REWARD, strict=True))
RECORDS = [{"step": t, "entropy": h, "reward": r} for t, h, r in ROWS]
BY_METRIC = {"entropy": ENTROPY, "reward": REWARD}


def comet(name, values):
    return [
        {
            "metricName": name,
            "metricValue": str(v),
            "step": t,
            "epoch": None,
            "timestamp": 1767225600000 + t,
            "runContext": None,
        }
        for t, v in zip(STEPS, values, strict=True)
    ]


DOCUMENTS = {
    "by step": {str(t): {"entropy": h, "reward": r} for t, h, r in ROWS},
    "by step_": {f"step_{t}": {"entropy": h, "reward": r} for t, h, r in ROWS},
    "by checkpoint": {f"checkpoint-{t}": {"entropy": h, "reward": r} for t, h, r in ROWS},
    "by global step, nested": {
        "config": {"lr": 1e-6},
        "metrics": {f"global_step {t}": {"train": {"entropy": h, "reward": r}} for t, h, r in ROWS},
    },
    "metric by step": {k: dict(zip(map(str, STEPS), v, strict=True)) for k, v in BY_METRIC.items()},
    "columns in a section": {"run": "a", "results": {"step": STEPS, **BY_METRIC}},
    "points by metric": {
        k: [{"step": t, "value": x, "timestamp": 9.5} for t, x in zip(STEPS, v, strict=True)]
        for k, v in BY_METRIC.items()
    },
    "pairs by metric": {k: [[t, x] for t, x in zip(STEPS, v, strict=True)] for k, v in BY_METRIC.items()},
    "tensorboard triples": {
        f"train/{k}": [[1.5e9 + t, t, x] for t, x in zip(STEPS, v, strict=True)] for k, v in BY_METRIC.items()
    },
    "clearml scalars": {
        "train": {k: {"name": k, "x": STEPS, "y": v} for k, v in BY_METRIC.items()},
        ":monitor:gpu": {"gpu_0_utilization": {"name": "gpu_0_utilization", "x": [1, 2], "y": [99, 98]}},
    },
    "clearml raw": [
        {"metric": "train", "variant": k, "iter": t, "value": x, "timestamp": 1767225600}
        for k, v in BY_METRIC.items()
        for t, x in zip(STEPS, v, strict=True)
    ],
    "comet metrics": comet("entropy", ENTROPY) + comet("reward", REWARD),
    "comet chart": [
        {"experimentKey": "9f", "metricName": k, "steps": STEPS, "values": v, "timestamps": STEPS}
        for k, v in BY_METRIC.items()
    ],
    "comet charts by experiment": {
        "experiments": {
            "9f": {"metrics": [{"metricName": k, "steps": STEPS, "values": v} for k, v in BY_METRIC.items()]}
        }
    },
    "aim": [
        {"name": k, "context": {"subset": "train"}, "iters": STEPS, "values": v, "epochs": [0] * N}
        for k, v in BY_METRIC.items()
    ],
    "aim, no context": {
        "metrics": [{"name": k, "context": {}, "iters": STEPS, "values": v} for k, v in BY_METRIC.items()]
    },
    "plotly": {
        "data": [{"type": "scatter", "name": k, "x": STEPS, "y": v} for k, v in BY_METRIC.items()],
        "layout": {"title": "run"},
    },
    "swanlab": {
        k: {
            "sum": N,
            "list": [{"index": t, "data": x, "create_time": "2026"} for t, x in zip(STEPS, v, strict=True)],
        }
        for k, v in BY_METRIC.items()
    },
    "mlflow": {
        "metrics": [
            {"key": k, "value": x, "timestamp": 9, "step": t}
            for k, v in BY_METRIC.items()
            for t, x in zip(STEPS, v, strict=True)
        ]
    },
    "neptune": {
        f"metrics/{k}": [
            {"step": float(t), "value": x, "timestamp": "2026-01-01"} for t, x in zip(STEPS, v, strict=True)
        ]
        for k, v in BY_METRIC.items()
    },
    "a list of runs": [{"name": "a", "config": {"lr": 1e-6}, "history": RECORDS}],
    "runs in a section": {"runs": [{"id": "a", "history": {"step": STEPS, **BY_METRIC}}]},
    "train and eval": {
        "train": [{"step": t, "entropy": h, "reward": r} for t, h, r in ROWS],
        "eval": [{"step": t, "entropy": 9.0, "loss": 1.0} for t in STEPS[::10]],
    },
}
TEXTS = {
    "pretty, one after another": "\n".join(json.dumps(r, indent=2) for r in RECORDS),
    "pretty, blank lines": "\n\n".join(json.dumps(r, indent=4) for r in RECORDS) + "\n",
    "no newline between": "".join(json.dumps(r) for r in RECORDS),
    "commas between": ",\n".join(json.dumps(r, indent=1) for r in RECORDS),
    "record separators": "".join(f"\x1e{json.dumps(r, indent=1)}\n" for r in RECORDS),
    "lists one after another": "".join(json.dumps(RECORDS[i : i + 10]) + "\n" for i in range(0, N, 10)),
}


def one_run(tmp_path, text):
    path = tmp_path / "run.json"
    path.write_text(text)
    (run,) = read(path)
    return run


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("shape", DOCUMENTS)
def test_every_shape_gives_the_same_points(tmp_path, shape, indent):
    run = one_run(tmp_path, json.dumps(DOCUMENTS[shape], indent=indent))
    assert run.points["step"].tolist() == STEPS
    assert run.points["entropy"].tolist() == ENTROPY and run.points["performance"].tolist() == REWARD


@pytest.mark.parametrize("shape", TEXTS)
def test_documents_one_after_another(tmp_path, shape):
    run = one_run(tmp_path, TEXTS[shape])
    assert run.points["step"].tolist() == STEPS
    assert run.points["entropy"].tolist() == ENTROPY and run.points["performance"].tolist() == REWARD


def test_runs_of_a_document_stay_apart(tmp_path):
    half = [h / 2 for h in ENTROPY]
    for value in (
        {"a": {"step": STEPS, **BY_METRIC}, "b": {"step": STEPS, "entropy": half, "reward": REWARD}},
        {
            "a": DOCUMENTS["by step"],
            "b": {str(t): {"entropy": h, "reward": 0.5} for t, h in zip(STEPS, half, strict=True)},
        },
        [
            {"name": "a", "history": RECORDS},
            {"name": "b", "history": [{**r, "entropy": r["entropy"] / 2} for r in RECORDS]},
        ],
        {
            run: {
                k: [[t, x] for t, x in zip(STEPS, v, strict=True)]
                for k, v in (("entropy", h), ("reward", REWARD))
            }
            for run, h in (("a", ENTROPY), ("b", half))
        },
    ):
        path = tmp_path / "runs.json"
        path.write_text(json.dumps(value))
        runs = read(path)
        assert [r.name for r in runs] == ["a", "b"]
        assert [r.points["entropy"].tolist() for r in runs] == [ENTROPY, half]


def test_json_lines_keyed_by_their_step(tmp_path):
    text = "".join(json.dumps({f"step_{t}": {"entropy": h, "reward": r}}) + "\n" for t, h, r in ROWS)
    assert one_run(tmp_path, text).points["step"].tolist() == STEPS


def test_the_step_taken_from_the_keys_is_told(tmp_path):
    assert "step-from-keys" in codes(one_run(tmp_path, json.dumps(DOCUMENTS["by step"])))
    own = {str(i): {"step": t, "entropy": h, "reward": r} for i, (t, h, r) in enumerate(ROWS)}
    assert (
        one_run(tmp_path, json.dumps(own)).points["step"].tolist() == STEPS
    )  # its own step is surer than its key


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(DOCUMENTS)), st.floats(0.3, 0.999), st.sampled_from([None, 1]))
def test_a_cut_document_holds_no_wrong_value(tmp_path_factory, shape, where, indent):
    text = json.dumps(DOCUMENTS[shape], indent=indent)
    path = tmp_path_factory.mktemp("cut") / "run.json"
    path.write_text(text[: int(len(text) * where)])
    want = {t: (h, r) for t, h, r in ROWS}
    try:
        (raw,) = read_raw(path)
    except UnreadableSource as error:
        assert error.why and error.hint
        return
    table = assemble(raw.rows).metrics
    for at, (name, column) in ((0, ("entropy", None)), (1, ("reward", None))):
        for key in [c for c in table if str(c).endswith(name) and not str(c).startswith("eval")]:
            column = table[key].dropna()
            if column.index.isin(STEPS).all():
                assert np.allclose(column, [want[t][at] for t in column.index])
    assert {"truncated-tail", "records-unread"} & codes(raw)


@given(
    st.lists(
        st.dictionaries(st.text(max_size=4), st.integers() | st.text(max_size=9)), min_size=2, max_size=6
    )
)
def test_values_one_after_another_are_all_found(values):
    for between in ("\n", "", " ", ",\n", "\n\n\x1e"):
        assert values_in(between.join(json.dumps(v) for v in values)) == (values, 0)


@given(
    st.recursive(
        st.integers() | st.text('{}[]",\\', max_size=5), lambda v: st.lists(v, max_size=4), max_leaves=9
    )
)
def test_the_whole_part_of_a_whole_document_is_the_document(value):
    assert whole_part(json.dumps([value, [1]])) == [value, [1]]


@pytest.mark.parametrize(
    "value",
    [
        {"layers": {"0": {"dim": 5}, "1": {"dim": 6}}},
        {"1": {"text": "entropy"}},
        {"model": {"name": "q", "sizes": [[1, 2], [3, 4]]}},
        {"points": [{"x": 1, "y": 2}, {"x": 2, "y": 3}][:1]} | {"note": "no run"},
    ],
)
def test_numbers_of_other_things_are_no_history(value):
    assert all("entropy" not in str(records) for records in histories(value).values())
    assert not any(name in ("layers", "a", "model") for name in histories(value))
