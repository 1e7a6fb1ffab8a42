"""The watcher: the same from inside and from outside, blind to what comes later, and right about what is left."""

import gzip
import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

import entlaw
from entlaw.cli.output import plain
from entlaw.errors import UsageError
from entlaw.law.result import examine
from entlaw.law.settings import Settings
from entlaw.runs.ending import without_status
from entlaw.runs.prepare import to_run
from entlaw.runs.run import Provenance, RawRun
from entlaw.watch.report import VERDICT_CODES
from entlaw.watch.watcher import Watcher
from tests.conftest import REPO, law_records, write_jsonl

RULE = "P(gain > 1%) < 0.05"
SHIPPED = ["grpo-m-rl0", "entropy-bonus-0.1-m-rl0"]
VALIDATION = entlaw.Selection(on="val")


def shipped(name):
    folder = REPO / "runs" / name
    path = next(folder.glob("metrics.jsonl*"))
    data = path.read_bytes()
    text = gzip.decompress(data) if path.suffix == ".gz" else data
    records = [json.loads(line) for line in text.splitlines()]
    (run,) = entlaw.read(folder)
    return run, records


def as_text(report):
    """All of a report, but how the log was read."""
    told = {k: v for k, v in report.to_dict().items() if k not in ("format", "framework", "choices")}
    return json.dumps(plain(told))


@pytest.fixture(scope="module")
def replayed():
    """A shipped run, of which nothing says that it is over, and all reports on it, which are the dear part."""
    run = without_status(shipped("grpo-m-rl0")[0])
    return run, tuple(Watcher(240, name="x").replay(run))


@pytest.mark.parametrize("name", SHIPPED)
def test_inside_and_outside_say_the_same(name):
    run, records = shipped(name)
    # Up to a validation, which is complete with its own record: what is logged after it is heard with the next one.
    part = without_status(
        replace(run, points=run.points[run.points["entropy_step"] <= 128], metrics=run.metrics.loc[:128])
    )
    outside = Watcher(name=name, stop_when=RULE, selection=VALIDATION)
    outside.replay(part)
    inside = Watcher(name=name, stop_when=RULE, config=part.config, selection=VALIDATION)
    told = [
        r for r in (inside.observe(rec["step"], rec) for rec in records if rec["step"] < 129) if r is not None
    ]
    assert [as_text(r) for r in inside.reports] == [as_text(r) for r in outside.reports]
    # Each is told when it is complete; at the first, before any batch, there is no entropy log yet.
    assert [as_text(r) for r in told][1:] == [as_text(r) for r in outside.reports][1:]
    assert [r.result.points.n for r in told] == list(range(1, len(part.points) + 1))


@pytest.mark.parametrize("cut", [9, 30, 77])
def test_a_report_uses_nothing_later(replayed, cut):
    _, records = shipped("grpo-m-rl0")
    run, whole = replayed
    early = Watcher(240, name="x", config=run.config, selection=VALIDATION)
    for record in records[: cut + 1]:
        early.observe(record["step"], record)
    assert early.reports
    assert [as_text(r) for r in early.reports] == [as_text(r) for r in whole[: len(early.reports)]]
    assert early.reports[-1].step >= records[cut]["step"] - 8


def test_starting_late_or_looking_often_makes_no_difference(tmp_path):
    records = law_records(n=81, noise=0.004)
    often = Watcher(80, name="x", stop_when=RULE)
    for n in range(3, len(records) + 1, 5):
        for run in entlaw.read(write_jsonl(tmp_path / "a.jsonl", records[:n])) if n > 8 else []:
            often.look(run)
    (run,) = entlaw.read(write_jsonl(tmp_path / "a.jsonl", records))
    often.look(run)
    late = Watcher(80, name="x", stop_when=RULE)
    late.look(run)
    assert [as_text(r) for r in often.reports] == [as_text(r) for r in late.reports]


def test_a_resumed_run_is_judged_by_its_later_pass():
    """Steps 41 to 60 are done again with other numbers: what was said of them is said anew."""
    first = law_records(n=61, seed=0)
    again = [r for r in law_records(n=81, seed=5) if r["step"] > 40]
    watcher = Watcher(80, name="x")
    for record in first + again:
        watcher.observe(record["step"], record)
    alone = Watcher(80, name="x")
    for record in [r for r in first if r["step"] <= 40] + again:
        alone.observe(record["step"], record)
    assert [as_text(r) for r in watcher.reports[:-1]] == [as_text(r) for r in alone.reports[:-1]]
    last, other = (plain(w.report.to_dict()) for w in (watcher, alone))
    # The log tells of both passes.
    assert {key for key in last if last[key] != other[key]} <= {"findings", "choices"}
    assert {f["code"] for f in last["findings"]} - {f["code"] for f in other["findings"]} == {"resumed"}


def test_every_reports_less_often_and_the_same(replayed):
    run, each = replayed
    third = Watcher(240, every=3).replay(run)
    assert [r.result.points.n for r in third] == [r.result.points.n for r in each][2::3]
    assert [r.metrics() for r in third] == [r.metrics() for r in each][2::3]


def test_its_numbers_are_those_of_the_fit():
    run, _ = shipped("rloo-m-rl1")
    watcher = Watcher(240)
    report = watcher.look(run)
    alone = examine(run)
    numbers = watcher.metrics()
    assert numbers["entlaw/ceiling"] == alone.ceiling == report.result.ceiling
    assert numbers["entlaw/ceiling_lo"] == alone.ceiling_interval.lo
    assert numbers["entlaw/verdict"] == VERDICT_CODES[alone.forecast.verdict]
    assert "entlaw/final" not in numbers, "the planned end is reached"
    early = Watcher(480).look(run)
    (ahead,) = examine(run, Settings(total_steps=480.0)).forecast.at
    assert (ahead.step, early.final.step) == (480.0, 480.0)
    assert early.metrics()["entlaw/final"] == ahead.median
    assert early.metrics()["entlaw/final_hi"] == ahead.interval.hi
    assert all(isinstance(v, float) for v in numbers.values())


def test_the_log_is_not_read_anew_where_no_point_can_be_complete(monkeypatch):
    """A training score and an entropy at every step, a validation at every fifth: one reading a point, or two."""
    readings = []
    read = Watcher._read
    monkeypatch.setattr(Watcher, "_read", lambda self, run: readings.append(1) or read(self, run))
    watcher = Watcher(300, name="x", every=100, selection=VALIDATION)
    for record in law_records(n=251, every=5):
        watcher.observe(record["step"], record)
    assert watcher._points.n == 51
    assert len(readings) <= 2 * 51 + 251 // 100 + 2


def test_a_second_validation_that_outnumbers_the_first_is_found_from_inside_too():
    """Which of two scores is the run's may change while it goes on; both watchers go over to it."""
    records = law_records(n=260)
    for record in records:
        score = record.pop("val/accuracy", None)
        if score is not None:
            record["val-core/one/acc/mean@1" if record["step"] <= 20 else "val-core/two/acc/mean@1"] = score
    inside = Watcher(300, name="x", every=20)
    for record in records:
        inside.observe(record["step"], record)
    raw = RawRun("x", inside._record.frame(), {}, Provenance("x", "test"))
    outside = Watcher(300, name="x", every=20)
    outside.look(raw)
    assert outside._points.n > 50
    assert [as_text(r) for r in inside.reports] == [as_text(r) for r in outside.reports]


def test_own_numbers_in_the_log_change_nothing(tmp_path):
    records = law_records(n=61)
    plain = Watcher(80, name="x")
    with_own = Watcher(80, name="x")
    for record in records:
        plain.observe(record["step"], record)
        with_own.observe(
            record["step"], {**record, "entlaw/ceiling": 0.9, "entlaw/verdict": 1.0, "entlaw/final": 0.3}
        )
    assert [as_text(r) for r in plain.reports] == [as_text(r) for r in with_own.reports]
    logged = [{**r, "entlaw/ceiling": 0.9, "entlaw/entropy": 3.0, "entlaw/verdict": 1.0} for r in records]
    (one,), (two,) = (
        entlaw.read(write_jsonl(tmp_path / f"{i}.jsonl", rows)) for i, rows in enumerate((records, logged))
    )
    assert one.entropy.key == two.entropy.key and one.performance_key == two.performance_key
    assert one.points.equals(two.points)


def simulated(seed, total, tau, n=13, noise=0.004):
    """A run on the law, n points by step 12 (n - 1) / 3, and what it will have gained after them by ``total``."""
    rng = np.random.default_rng(seed)
    floor, first, a = 0.1, 1.0, 0.3
    step = 4.0 * np.arange(n)
    h = floor + (first - floor) * np.exp(-step / tau)
    gain = a * (np.exp(h[-1]) - np.exp(floor + (first - floor) * np.exp(-total / tau)))
    logged = h + 0.01 * rng.standard_normal(n)
    rows = [
        {"step": s, "actor/entropy": e, "val/accuracy": 0.9 - a * np.exp(t) + noise * rng.standard_normal()}
        for s, e, t in zip(step, logged, h, strict=True)
    ]
    return rows, float(gain)


def observed(rows, **how):
    watcher = Watcher(**how, selection=entlaw.Selection(align="same"))
    watcher.look(RawRun("sim", pd.DataFrame(rows, dtype=float), {}, Provenance("sim", "test")))
    return watcher


@pytest.mark.parametrize(("runs", "luck"), [(12, 2), pytest.param(24, 3, marks=pytest.mark.slow)])
def test_the_rule_is_seldom_wrong_where_its_assumptions_hold(runs, luck):
    """Of runs on the law that have more than a point to gain, no more are stopped than the rule's 5 % and some luck."""
    stopped = {"more": [], "nothing": []}
    for seed in range(runs):
        tau, n = ((18.0, 12), (30.0, 12), (60.0, 12), (6.0, 27))[seed % 4]
        rows, gain = simulated(seed, total=240.0, tau=tau, n=n)
        watcher = observed(rows, total_steps=240.0, stop_when=RULE)
        stopped["more" if gain > 0.01 else "nothing"].append(watcher.stopped is not None)
    assert len(stopped["more"]) == 3 * runs // 4 and len(stopped["nothing"]) == runs // 4
    assert sum(stopped["more"]) <= luck  # P(more than 2 of 9, or than 3 of 18, at 5 %) is 0.01
    assert sum(stopped["nothing"]) >= 1  # careful, but not silent where nothing is left


def test_chances_err_on_the_side_of_going_on():
    """On the law the future is known. A sure "nothing" or "more" is right; doubt is not: it reckons with growth that
    runs on the law do not have, so the chance of what really comes is too high, never too low."""
    rng = np.random.default_rng(1)
    nothing, more, truth = [], [], []
    for seed in range(100):
        tau, n = float(rng.choice([10, 18, 30, 60, 120])), int(rng.choice([10, 16, 30, 50]))
        total = float(rng.choice([1.3, 2.0, 4.0])) * 4 * n
        rows, gain = simulated(seed, total, tau, n, noise=float(rng.choice([0.004, 0.01])))
        raw = RawRun("sim", pd.DataFrame(rows, dtype=float), {}, Provenance("sim", "test"))
        run = to_run(raw, entlaw.Selection(align="same"))
        ahead = examine(run, Settings(total_steps=total)).forecast
        p = ahead.probability_above("gain", 0.01)
        (nothing if p < 0.2 else more if p > 0.95 else []).append(gain > 0.01)
        truth.append(ahead.probability_above("gain", gain))
        grid = [ahead.probability_above("gain", g) for g in (-0.1, 0.0, 0.01, 0.02, 0.1)]
        assert all(a >= b for a, b in pairwise(grid))
    assert len(nothing) >= 10 and np.mean(nothing) <= 0.2
    assert len(more) >= 30 and np.mean(more) >= 0.9
    assert np.mean(np.array(truth) < 0.05) <= 0.1  # P(13 or more of 100 at 5 %) is 0.001
    assert np.mean(np.array(truth) > 0.5) >= 0.5


def test_verdicts_of_runs_whose_future_is_plain():
    early = observed(simulated(3, 1000.0, tau=200.0, n=20, noise=0.002)[0], total_steps=1000.0).report
    assert early.result.forecast.verdict == "improving" and early.final.step == 1000.0
    rows = law_records(n=201, tau=12.0, noise=0.003)
    late = Watcher(220)
    for record in rows:
        late.observe(record["step"], record)
    assert late.report.result.forecast.verdict == "plateau" and late.report.since < 200
    flat = law_records(n=81, entropy=np.full(83, 0.4) + 0.001 * np.sin(np.arange(83)))
    stuck = Watcher(200, selection=VALIDATION)
    for record in flat:
        stuck.observe(record["step"], record)
    assert stuck.report.result.forecast.verdict == "refused"
    assert stuck.report.metrics()["entlaw/verdict"] == -1.0
    assert stuck.reports[2].result.forecast.verdict == "uncertain"


def test_accuracy_that_grows_at_constant_entropy_is_not_saturated():
    """The law alone would say that nothing is left; the scores say otherwise and are heard."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(40):
        t = 4 * i
        h = 0.1 + 0.9 * np.exp(-t / 12)
        score = 0.8 - 0.2 * np.exp(h) + 0.0012 * t + 0.004 * rng.standard_normal()
        rows.append({"step": t, "actor/entropy": h, "val/accuracy": score})
    watcher = observed(rows, total_steps=320.0, stop_when=RULE)
    assert watcher.stopped is None
    assert watcher.report.stop.probability > 0.5


def test_alerts_are_raised_once():
    h = np.concatenate([np.linspace(1.0, 0.02, 60), np.full(40, 0.02)])
    watcher = Watcher(100, target=0.95)
    for record in law_records(n=98, entropy=h, noise=0.002):
        watcher.observe(record["step"], record)
    codes = [a.code for r in watcher.reports for a in r.alerts]
    assert codes.count("entropy-collapsed") == 1
    assert codes.count("ceiling-below-target") == 1  # b - a = 0.6
    first = next(r for r in watcher.reports if any(a.code == "entropy-collapsed" for a in r.alerts))
    assert first.result.points.entropy[-1] < 0.05


def test_nothing_to_say_before_there_is_a_point():
    watcher = Watcher(10)
    assert watcher.report is None and watcher.metrics() == {} and watcher.stopped is None
    assert watcher.observe(1, {"loss": 0.3, "note": "text"}) is None
    assert watcher.observe(1, {"actor/entropy": 0.9}) is None
    assert watcher.observe(2, {"actor/entropy": float("nan"), "val/accuracy": None}) is None


def test_numbers_of_other_libraries_are_numbers():
    torch = pytest.importorskip("torch")
    plain, strange = Watcher(80, name="x"), Watcher(80, name="x")
    for record in law_records(n=41):
        plain.observe(record["step"], record)
        odd = {
            k: torch.tensor(v, dtype=torch.float64) if k == "actor/entropy" else np.float64(v)
            for k, v in record.items()
        }
        strange.observe(record["step"], odd)
    assert [as_text(r) for r in plain.reports] == [as_text(r) for r in strange.reports]


@pytest.mark.parametrize(
    "bad",
    [
        {"total_steps": 0},
        {"total_steps": np.nan},
        {"every": 0},
        {"level": 1.0},
        {"patience": 0},
        {"target": np.inf},
    ],
)
def test_options_that_cannot_be(bad):
    with pytest.raises(UsageError):
        Watcher(**bad)


def test_the_rule_needs_patience_and_points():
    records = law_records(n=101, tau=12.0, noise=0.003)

    def fired_at(**how):
        watcher = Watcher(220, stop_when="step > 1", selection=VALIDATION, **how)
        for record in records:
            watcher.observe(record["step"], record)
            if watcher.report and watcher.report.stop.fired:
                return watcher.report.result.points.n
        return None

    assert fired_at(patience=1, least_points=1) == 2  # the first point is that of step 0
    assert fired_at(patience=3, least_points=1) == 4
    assert fired_at(patience=1, least_points=20) == 20
    assert fired_at(patience=3, least_points=20) == 22


def test_frozen():
    report = observed(simulated(0, total=240.0, tau=18.0)[0], total_steps=240.0).report
    assert isinstance(report, entlaw.WatchReport) and entlaw.Watcher is Watcher
    with pytest.raises(AttributeError):
        report.since = 3.0
    assert replace(report, since=None).since is None
