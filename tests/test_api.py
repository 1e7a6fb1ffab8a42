"""The Python API: what it takes, what it gives, and that it speaks Python."""

import ast
import doctest
import importlib
import inspect
import json
import pickle
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import entlaw
from entlaw.errors import DataError, FitRefused, MissingSeries, SourceNotFound, UsageError
from entlaw.findings import Finding
from entlaw.law.library import calibrate_for, learn
from entlaw.wording import KEYWORDS, SWITCHES, reword, shorten
from tests.conftest import REPO, law_records, write_jsonl
from tests.law.common import A, B, as_run, law_arrays

N = 40
T = 4.0 * np.arange(N)


def scores(seed=0):
    _, h, r = law_arrays(n=N, seed=seed, noise=0.004)
    return h, r


def run_of(seed=0, **more):
    h, r = scores(seed)
    return as_run(T, h, r, **more)


def rising():
    h, r = scores()
    return T, h[::-1].copy(), r


# What there is ------------------------------------------------------------------------------------


def test_every_name_of_the_package_is_listed_typed_and_there():
    assert set(entlaw.__all__) == set(dir(entlaw))
    assert {
        "read",
        "fit",
        "fit_all",
        "forecast",
        "compare",
        "sizes",
        "plan",
        "backtest",
        "watch",
        "report",
        "example",
        "Run",
        "Points",
        "Result",
        "Forecast",
        "Fit",
        "Interval",
        "Selection",
        "Watcher",
        "WatchReport",
        "EntropyMeaning",
        "scan",
    } <= set(dir(entlaw))
    assert all(callable(getattr(entlaw, name)) for name in entlaw.__all__ if name != "__version__")
    tree = ast.parse(inspect.getsource(entlaw))
    typed = {a.asname for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for a in n.names if a.asname}
    assert typed >= set(entlaw.__all__) - {"__version__", "WatchReport"}
    with pytest.raises(AttributeError):
        _ = entlaw.nothing


@pytest.mark.parametrize("name", ["entlaw", "entlaw.api", "entlaw.wording"])
def test_the_examples_of_docstrings_are_true(name):
    tried = doctest.testmod(importlib.import_module(name))
    assert tried.attempted and not tried.failed


def test_importing_costs_nothing():
    code = (
        "import sys, entlaw; dir(entlaw)\n"
        "assert not (heavy := {'numpy', 'pandas', 'scipy'} & set(sys.modules)), heavy\n"
        "entlaw.fit; entlaw.Selection; heavy = {'matplotlib', 'torch', 'wandb', 'scipy.stats'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_verbs_that_are_packages_can_be_called_however_they_were_imported():
    code = (
        "import entlaw.watch.rule, entlaw.report.style, entlaw.watch as w\n"
        "assert callable(entlaw.watch) and callable(entlaw.report) and w is entlaw.watch\n"
        "from entlaw import watch; assert watch.rule is w.rule"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# One run ------------------------------------------------------------------------------------------


def test_a_run_points_a_frame_arrays_and_a_path_give_one_law(tmp_path):
    h, r = scores()
    run = run_of()
    frame = pd.DataFrame({"step": T, "entropy": h, "performance": r})
    log = frame.rename(
        columns={"step": "global_step", "entropy": "actor/entropy", "performance": "reward/mean"}
    )
    path = write_jsonl(tmp_path / "log.jsonl", log.to_dict("records"))
    given = [
        run,
        entlaw.Points.from_run(run),
        frame,
        frame.sample(frac=1, random_state=0),
        frame.set_index("step"),
        (T, h, r),
        path,
        str(path),
        [path],
        log,
        log.set_index("global_step"),
        log.drop(columns="global_step").set_index(T),
        entlaw.fit(run),
    ]
    found = [entlaw.fit(one) for one in given] + [entlaw.fit(T, h, r), entlaw.fit(list(T), list(h), list(r))]
    assert {type(one) for one in found} == {entlaw.Result}
    assert {(one.a, one.b, one.ceiling_interval.lo, one.law.until_step) for one in found} == {
        (found[0].a, found[0].b, found[0].ceiling_interval.lo, 36.0)
    }


def test_arrays_without_steps_are_all_used():
    h, r = scores()
    found = entlaw.fit(h, r)
    assert (found.law.n, found.law.until_step) == (N, None)
    assert entlaw.fit(h, r, method="paper").a == entlaw.fit(T, h, r, until_step=None, method="paper").a
    assert entlaw.fit(h, r, until_step=20).law.n == 21  # steps 0, 1, 2, ...


def test_a_frame_is_read_like_a_log_with_its_keys_and_choices():
    h, r = scores()
    rng = np.random.default_rng(1)
    log = pd.DataFrame(
        {
            "trainer/step": T,
            "actor/entropy": h,
            "my/entropy": h + 0.2,
            "reward/mean": r,
            "val/test_score": np.where(np.arange(N) % 2 == 0, 100 * r, np.nan),
            "noise": rng.standard_normal(N),
        }
    ).rename(columns={"trainer/step": "global_step"})
    plain = entlaw.fit(log)
    assert (plain.run.entropy.key, plain.run.performance_key) == ("actor/entropy", "val/test_score")
    assert plain.run.performance_scale == 0.01 and plain.points.n == N // 2
    train = entlaw.fit(log, on="train", entropy_key="my/entropy")
    assert (train.run.entropy.key, train.run.performance_key) == ("my/entropy", "reward/mean")
    with pytest.raises(MissingSeries, match="no key 'nothing'") as caught:
        entlaw.fit(log, entropy_key="nothing")
    assert "--" not in str(caught.value)


def test_the_entropies_between_the_scores_of_a_frame_are_its_log():
    h, r = scores()
    frame = pd.DataFrame({"step": T, "entropy": h, "performance": np.where(np.arange(N) % 4 == 0, r, np.nan)})
    points = entlaw.fit(frame, until_step=None).points
    assert (points.n, len(points.log_step)) == (N // 4, N)


def test_a_frame_with_many_runs_is_for_fit_all():
    h, r = scores()
    one = pd.DataFrame({"step": T, "actor/entropy": h, "reward/mean": r})
    both = pd.concat([one.assign(run="a"), one.assign(run="b")])
    with pytest.raises(UsageError, match="2 runs"):
        entlaw.fit(both)
    assert list(entlaw.fit_all(both).index) == ["a", "b"]


@pytest.mark.parametrize(
    "given",
    [
        (),
        (3,),
        ("a", "b"),
        ({"H": [1]},),
        (None,),
        ([1.0, 2.0],),
        (5, [0.1]),
        ([0.1], [0.2], [0.3], [0.4], [0.5]),
    ],
    ids=str,
)
def test_what_is_no_run_is_an_error_and_no_traceback(given):
    with pytest.raises((UsageError, DataError)) as caught:
        entlaw.fit(*given)
    assert caught.value.what and "--" not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"methd": "paper"},
        {"method": "magic"},
        {"level": 2},
        {"until_step": np.nan},
        {"problems": 0},
        {"samples": 2},
        {"total_steps": -1},
        {"on": "train"},
    ],
    ids=str,
)
def test_options_that_make_no_sense_are_usage_errors(options):
    with pytest.raises(UsageError) as caught:
        entlaw.fit(run_of(), **options)
    assert "--" not in str(caught.value)
    if "on" not in options:
        with pytest.raises(UsageError):
            entlaw.fit_all([run_of()], **options)


def test_a_refused_law_raises_with_the_result_beside_it():
    with pytest.raises(FitRefused) as caught:
        entlaw.fit(*rising())
    error = caught.value
    assert isinstance(error.result, entlaw.Result) and error.result.verdict == "refused"
    assert error.findings == error.result.findings and error.fit.n == 10 and error.exit_code == 4
    assert "force=True" in error.hint and "--" not in str(error)
    forced = entlaw.fit(*rising(), force=True)
    assert forced.verdict == "refused" and forced.ceiling == error.fit.ceiling
    assert pickle.loads(pickle.dumps(error)).result.name == error.result.name


# Many runs ----------------------------------------------------------------------------------------


def test_fit_all_has_a_row_for_every_run_whatever_becomes_of_it(tmp_path):
    good = write_jsonl(tmp_path / "good.jsonl", law_records())
    bad = write_jsonl(tmp_path / "bad.jsonl", [{"step": i, "loss": 1.0} for i in range(5)])
    refused = as_run(*rising())
    table = entlaw.fit_all(
        [
            good,
            bad,
            tmp_path / "nowhere",
            run_of(),
            entlaw.Points.from_arrays(*rising()),
            refused,
            pd.DataFrame({"x": ["a"]}),
            entlaw.fit(run_of(1)),
            3,
        ]
    )
    assert list(table["verdict"]) == [
        "ok",
        "unreadable",
        "unreadable",
        "ok",
        "refused",
        "refused",
        "unreadable",
        "ok",
        "unreadable",
    ]
    assert table["ceiling"].notna().tolist() == [v == "ok" for v in table["verdict"]]
    assert (table["error"] != "").tolist() == [v != "ok" for v in table["verdict"]]
    assert table.index.is_unique and table.index.name == "run"
    assert table["ceiling"].iloc[0] == entlaw.fit(good).ceiling
    assert len(entlaw.fit_all(tmp_path)) >= 1 and len(entlaw.fit_all(good)) == 1
    assert entlaw.fit_all([refused], force=True)["verdict"].tolist() == ["refused"]
    with pytest.raises(UsageError):
        entlaw.fit_all([])


def test_runs_of_a_folder_are_read_with_the_keywords(tmp_path):
    write_jsonl(tmp_path / "one.jsonl", law_records(seed=1))
    write_jsonl(tmp_path / "two.jsonl", law_records(seed=2))
    assert {run.performance_key for run in entlaw.read(tmp_path)} == {"val/accuracy"}
    train = entlaw.read(tmp_path, on="train")
    assert {run.performance_key for run in train} == {"reward/mean"} and len(train) == 2
    assert entlaw.read(tmp_path, entlaw.Selection(on="train"))[0].performance_key == "reward/mean"
    table = entlaw.fit_all(tmp_path, on="train", until_step=None)
    assert list(table["n"]) == [len(run.points) for run in train]
    with pytest.raises(UsageError, match="2 runs"):
        entlaw.fit(tmp_path)
    with pytest.raises(UsageError, match="no keyword 'onn'"):
        entlaw.read(tmp_path, onn="train")


# Forecasts ----------------------------------------------------------------------------------------


def test_a_forecast_is_the_results_own():
    run = run_of(config={"total_steps": 300})
    result = entlaw.fit(run)
    default = entlaw.forecast(run)
    assert default.step == 300.0 and default.to_dict() == result.forecast.at[0].to_dict()
    assert entlaw.forecast(result, step=300).to_dict() == entlaw.forecast(run, step=300).to_dict()
    many = entlaw.forecast(run, step=[200, 300])
    assert [one.step for one in many] == [200.0, 300.0] and many[1].median == default.median
    assert [one.step for one in entlaw.forecast(run, step=np.array([200.0]))] == [200.0]
    (there,) = entlaw.forecast(run, entropy=[0.05])
    assert (there.entropy, there.step, there.model) == (0.05, None, "growth")


def test_the_law_alone_is_a_model_by_name():
    run = run_of()
    one = entlaw.forecast(run, entropy=0.1, model="law", level=0.9)
    band = entlaw.fit(run).law.prediction_at(np.array([0.1]), 0.9)
    assert (one.interval.lo, one.interval.hi) == pytest.approx((band.lo[0], band.hi[0]), abs=1e-9)
    assert (one.model, one.until_step, one.n) == ("law", 36.0, 10)
    assert entlaw.forecast(run, step=300, model="law", until_step=80).until_step == 80
    with pytest.raises(FitRefused):
        entlaw.forecast(rising(), entropy=0.1, model="law")


def test_a_forecast_from_an_earlier_step_knows_nothing_later():
    t, h, r = T, *scores()
    late = t > 80
    other = (t, np.where(late, 2 * h, h), np.where(late, 0.5 * r, r))
    one, two = (entlaw.forecast(x, step=200, until_step=80) for x in ((t, h, r), other))
    assert one.to_dict() == two.to_dict() and one.until_step == 80


@pytest.mark.parametrize(
    "asked",
    [
        {"step": 10},
        {"step": np.nan},
        {"entropy": -1},
        {"step": 300, "entropy": 0.1},
        {"step": 300, "model": "magic"},
        {"step": 300, "level": 1.5},
        {"step": [300, 10]},
        {"step": "soon"},
    ],
    ids=str,
)
def test_questions_that_make_no_sense_are_usage_errors(asked):
    with pytest.raises(UsageError) as caught:
        entlaw.forecast(run_of(), **asked)
    assert "--" not in str(caught.value)


def test_a_library_sets_the_width_of_forecasts_at_a_step():
    library = [replace(run_of(seed), name=f"past {seed}") for seed in range(1, 8)]
    plain, calibrated = (entlaw.forecast(run_of(), step=300, library=x) for x in (None, library))
    factor = calibrate_for(
        entlaw.Points.from_run(run_of()), learn(map(entlaw.Points.from_run, library))
    ).factor
    ratio = calibrated.interval_at(0.5).width / plain.interval_at(0.5).width
    assert factor != 1.0 and ratio == pytest.approx(factor, rel=0.1)
    assert calibrated.median == pytest.approx(plain.median, abs=1e-3)
    with pytest.raises(DataError, match="library has 2 runs") as caught:
        entlaw.forecast(run_of(), step=300, library=library[:2])
    assert "--" not in str(caught.value)
    with pytest.raises(UsageError):
        entlaw.forecast(run_of(), entropy=0.1, library=library, model="law")


# The other verbs ----------------------------------------------------------------------------------


def test_compare_takes_runs_results_and_paths(tmp_path):
    path = write_jsonl(tmp_path / "b.jsonl", law_records(b=0.95, n=160))
    found = entlaw.compare(run_of(), path)
    table = found.to_frame()
    assert list(table.index) == [d.quantity for d in found.differences]
    assert table.loc["final", "b_is"] == "better" and table.loc["final", "difference"] == pytest.approx(
        0.1, abs=0.03
    )
    groups = entlaw.compare([run_of(1), entlaw.fit(run_of(2))], [run_of(3), run_of(4)]).to_frame()
    assert groups.loc["final", "b_is"] == "noise" and groups.loc["final", "n"] == 4
    # A refused law has no ceiling, and what else can be compared is.
    assert "ceiling" not in entlaw.compare(run_of(), as_run(*rising())).to_frame().index
    with pytest.raises(UsageError, match="both sides"):
        entlaw.compare(run_of(), run_of())
    with pytest.raises(SourceNotFound):
        entlaw.compare(run_of(), tmp_path / "nowhere")


def test_sizes_of_models_from_names_configurations_and_the_user():
    runs = [replace(run_of(i), name=f"Qwen-{n}B") for i, n in enumerate((1, 3, 7, 14))]
    found = entlaw.sizes(runs)
    assert list(found.lines["ceiling"].parameters) == [1e9, 3e9, 7e9, 14e9]
    value, interval = found.at(30e9).values["ceiling"]  # noqa: PD011
    assert interval.lo < value < interval.hi
    same = entlaw.sizes(
        [replace(r, name=f"run {i}") for i, r in enumerate(runs)],
        size={"run 0": "1B", "run 1": 3e9, "run 2": "7B", "run 3": "14B"},
    )
    assert same.lines["a"].slope == found.lines["a"].slope
    with pytest.raises(DataError) as caught:
        entlaw.sizes([run_of()])
    assert "size" in str(caught.value) and "--" not in str(caught.value)
    with pytest.raises(UsageError, match="no model size"):
        entlaw.sizes(runs, size={"*": "large"})


def test_a_plan_is_a_table_of_designs():
    table = entlaw.plan(problems=[100, 4000], samples=[1], every=[4], replicates=20, margin=0.05)
    assert list(table["answers"]) == [1000, 40_000] and table["half_width"].is_monotonic_decreasing
    assert table["cheapest"].sum() <= 1
    like = entlaw.plan(like=run_of(), problems=[100], samples=[1], every=[4], replicates=20)
    assert len(like) == 1
    with pytest.raises(UsageError):
        entlaw.plan(problems=[0])


def test_a_backtest_is_a_table_of_forecasters(tmp_path):
    path = write_jsonl(tmp_path / "log.jsonl", law_records(n=200))
    table = entlaw.backtest([path, run_of(), entlaw.fit(run_of(2))], origin=[0.5])
    assert {"entlaw", "last value"} <= set(table.index) and (table["forecasts"] > 0).all()
    assert "regime" in entlaw.backtest([run_of()], origin=[0.5], by="regime", rivals=False).index.names
    with pytest.raises(DataError):
        entlaw.backtest(tmp_path / "nowhere")


# Words --------------------------------------------------------------------------------------------

OPTION = re.compile(r"--([a-z][a-z-]*)")


def texts(folder):
    """Every text of a package that names an option, docstrings and lists of options' names left out."""
    for path in sorted((REPO / "entlaw" / folder).rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        blocks = [n for n in ast.walk(tree) if isinstance(n, (ast.Module, ast.ClassDef, ast.FunctionDef))]
        docs = {id(n.body[0].value) for n in blocks if isinstance(n.body[0], ast.Expr)}
        for node in ast.walk(tree):
            text = node.value if isinstance(node, ast.Constant) and id(node) not in docs else None
            if isinstance(text, str) and OPTION.search(text):
                yield path.name, text


def test_every_option_that_a_finding_or_an_error_names_has_a_keyword():
    found = [*texts("law"), *texts("runs")]
    assert len(found) > 20
    for name, text in found:
        bare = re.sub(r"`[^`]*`?", "", text)  # a command to type stays one
        for option in OPTION.findall(bare):
            assert option in KEYWORDS or option in SWITCHES, f"{name}: {text}"
        assert "--" not in reword(bare), f"{name}: {text}"
        assert "=True" not in text and "until_step=" not in text, f"{name}: Python's words for a shell"


@pytest.mark.parametrize(
    ("shell", "python"),
    [
        ("a longer window (--until-step, --all)", "a longer window (until_step=..., or None for all steps)"),
        ("--force shows the fit all the same", "force=True shows the fit all the same"),
        ("choose another key (--on KEY)", "choose another key (on=KEY)"),
        ("use --method careful", "use method='careful'"),
        ("as told by --align previous: x", "as told by align='previous': x"),
        ("say --scale 0.01", "say scale=0.01"),
        ("with --on 'glob*'.", "with on='glob*'."),
        ("give --problems and --samples", "give problems and samples"),
        ("see `entlaw doctor --help` for more", "see `entlaw doctor --help` for more"),
        ("a - b -- c", "a - b -- c"),
    ],
)
def test_a_hint_in_pythons_words(shell, python):
    assert reword(shell) == python and reword(python) == python


def test_findings_of_reader_law_and_forecast_name_keywords(tmp_path):
    rows = [{"actor/entropy": 0.5, "reward/mean": 0.1 + 0.001 * i} for i in range(6)]
    path = write_jsonl(tmp_path / "log.jsonl", rows)
    (run,) = entlaw.read(path)
    assert {"no-step"} <= {f.code for f in run.findings}
    with pytest.raises(FitRefused) as caught:
        entlaw.fit(run)
    result = caught.value.result
    told = [*run.findings, *result.findings, *result.forecast.findings, *run.choices]
    assert len(told) > 4 and any("until_step" in str(f) for f in told)
    assert not [f for f in told if "--" in str(f)] and "--" not in result.summary()
    (reading,) = entlaw.scan(path)
    assert reading.run.findings == run.findings


def test_the_command_line_keeps_its_own_words(tmp_path, capsys):
    from entlaw.law.fit import fit_law

    with pytest.raises(FitRefused) as caught:
        fit_law(entlaw.Points.from_arrays(*rising()))
    assert "--force" in caught.value.hint and "force=True" not in caught.value.hint


# Shapes that are seen -----------------------------------------------------------------------------


def objects():
    run = run_of()
    result = entlaw.fit(run)
    (reading,) = entlaw.scan(REPO / "runs" / "grpo-m-rl0")
    return {
        "run": run,
        "raw": reading.raw,
        "reading": reading,
        "points": result.points,
        "result": result,
        "law": result.law,
        "fitted points": result.law.points,
        "posterior": result.law.posterior,
        "ahead": result.forecast,
        "forecast": result.forecast.at[0],
        "outlook": result.forecast.outlook,
        "distribution": result.forecast.at[0].distribution,
        "comparison": entlaw.compare(run, run_of(1)),
        "provenance": reading.run.provenance,
        "interval": result.ceiling_interval,
    }


@pytest.mark.parametrize("name", objects())
def test_objects_are_short_equal_to_themselves_hashable_and_pickled(name):
    one = objects()[name]
    assert "\n" not in repr(one) and (len(repr(one)) < 120 or name == "reading")
    assert one == one and one != object() and one in {one}
    copy = pickle.loads(pickle.dumps(one))
    assert repr(copy) == repr(one) and isinstance(one == copy, bool)
    if name == "result":
        assert copy.to_dict() == one.to_dict()


def test_a_long_name_keeps_a_repr_short():
    run = replace(run_of(), name="x" * 500, performance_key="y" * 500)
    assert all(len(repr(one)) < 120 for one in (run, entlaw.fit(run), entlaw.Points.from_run(run)))
    assert shorten("abcdefghij", 7) == "ab...ij" and shorten("abc", 7) == "abc"


def test_what_a_log_says_is_escaped_in_a_notebook():
    evil = "<script>alert(1)</script>"
    run = replace(
        run_of(), name=evil, performance_key=evil, findings=(Finding("code", "warning", evil, evil, evil),)
    )
    for text in (run._repr_html_(), entlaw.fit(run)._repr_html_()):
        assert "<script" not in text and "&lt;script&gt;" in text


def test_a_result_is_plain_data_and_a_row():
    result = entlaw.fit(run_of())
    assert json.loads(json.dumps(result.to_dict(), allow_nan=False))["law"]["ceiling"] == result.ceiling
    assert result.to_frame().loc["made", "ceiling"] == result.ceiling == pytest.approx(B - A, abs=0.03)
    wide = result.at_level(0.99)
    assert wide.law.posterior is result.law.posterior
    assert wide.ceiling_interval.width > result.ceiling_interval.width


def test_what_scripts_of_others_use_stays():
    run = entlaw.read(REPO / "runs" / "grpo-m-rl0")[0]
    fitted = entlaw.fit(run, until_step=None)
    assert {"step", "entropy", "performance"} <= set(run.points) and run.entropy.key == "val/entropy"
    assert run.performance_key == "val/accuracy" and isinstance(run.findings, tuple)
    assert isinstance(fitted.findings, tuple) and entlaw.Selection(join=True).join


# Watching and reporting ----------------------------------------------------------------------------------------------


def test_watching_yields_a_report_for_every_point(tmp_path):
    path = write_jsonl(tmp_path / "log.jsonl", law_records(n=40))
    reports = list(entlaw.watch(path, once=True, total_steps=100))
    assert reports and all(isinstance(one, entlaw.WatchReport) for one in reports)
    whole = entlaw.fit(path, total_steps=100, on="val")
    assert reports[-1].result.to_dict()["law"] == whole.to_dict()["law"]
    assert reports[-1].result.forecast.at[0].median == whole.forecast.at[0].median
    with pytest.raises(UsageError):
        entlaw.watch(path, stop_when="nonsense")  # at the call, before anything is read
    with pytest.raises(UsageError):
        entlaw.watch(path, every=0)
    with pytest.raises(DataError):
        list(entlaw.watch(tmp_path / "nowhere", once=True))


def test_a_watch_ends_where_its_rule_fires(tmp_path):
    path = write_jsonl(tmp_path / "log.jsonl", law_records(n=80))
    *_, last = entlaw.watch(path, every=0.01, stop_when="P(gain > 90%) < 0.5", patience=2)
    assert last.stop.fired


@pytest.mark.parametrize("suffix", ["html", "pdf", "md", "tex", "csv"])
def test_a_report_is_written_as_its_suffix_says(tmp_path, suffix):
    path = write_jsonl(tmp_path / "log.jsonl", law_records())
    made = entlaw.report(
        [path, run_of(), tmp_path / "nowhere"], tmp_path / f"all.{suffix}", title="A <title>"
    )
    assert made == tmp_path / f"all.{suffix}" and made.stat().st_size > 100
    again = entlaw.report(
        [path, run_of(), tmp_path / "nowhere"], tmp_path / f"two.{suffix}", title="A <title>"
    )
    if suffix == "html":
        assert "A &lt;title&gt;" in made.read_text(encoding="utf-8")
    if suffix in ("md", "tex", "csv"):
        assert again.read_bytes() == made.read_bytes()


@pytest.mark.parametrize("name", ["report.docx", "report", "nowhere/report.html"])
def test_a_report_that_cannot_be_written_is_a_usage_error(tmp_path, name):
    with pytest.raises(UsageError):
        entlaw.report(run_of(), tmp_path / name)
