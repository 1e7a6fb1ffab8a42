"""The command line as a user meets it: output, JSON, exit codes, bad input."""

import gzip
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import entlaw
from entlaw.cli.__main__ import main
from entlaw.cli.options import FitFlags
from entlaw.law.forecast import Outlook
from entlaw.law.result import examine
from entlaw.law.settings import Settings
from tests.conftest import REPO, SHARED, law_records, needs_shared, write_jsonl


def run(capsys, *args):
    code = main([str(a) for a in args])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.out + captured.err
    return code, captured.out, captured.err


def test_fit_one_run(capsys, law_log):
    code, out, err = run(capsys, "fit", law_log)
    assert code == 0
    last = law_records()[60]["val/accuracy"]  # the last evaluation, at step 60
    first = out.splitlines()[0]
    assert f": Now {last:.3f} at step 60. At step 120: " in first
    assert "By step 120 (as long again), the chance of gaining more than 1 point is" in first
    assert "The law's ceiling from steps up to 36 is" in first
    assert "R = " in out and "baseline" in out and "verdict   law ok; forecast" in out
    assert err == ""


def test_fit_json_agrees_with_the_library(capsys, law_log):
    code, out, _ = run(capsys, "fit", law_log, "--json", "--method", "paper")
    told = json.loads(out)
    assert code == 0 and told["schema"] == "entlaw.fit/2"
    (entry,) = told["runs"]
    fitted = examine(entlaw.read(law_log)[0], Settings(method="paper"))
    assert entry["law"]["a"] == pytest.approx(fitted.a)
    assert entry["law"]["ceiling"] == pytest.approx(fitted.ceiling)
    assert entry["law"]["n"] == len(entry["law"]["points"]["step"]) == 10
    assert entry["held_out"]["n"] == len(entlaw.read(law_log)[0].points) - 10
    assert abs(entry["law"]["ceiling"] - 0.60) < 0.05  # what the log was made with


def test_fit_writes_plot_csv_and_json(capsys, law_log, tmp_path):
    for suffix in ("pdf", "svg", "png"):
        target = tmp_path / f"fit.{suffix}"
        code, _, err = run(capsys, "fit", law_log, "--plot", target, "-o", tmp_path / "fit.json")
        assert code == 0 and target.stat().st_size > 5000 and "wrote" in err
    rows = (tmp_path / "fit.csv").read_text().splitlines()
    assert rows[0] == "step,entropy_logged,entropy_used,performance,fitted,law" and len(rows) == 17
    assert json.loads((tmp_path / "fit.json").read_text())["schema"] == "entlaw.fit/2"


def test_the_suffix_of_the_file_says_what_is_written(capsys, law_log, tmp_path):
    write_jsonl(tmp_path / "other.jsonl", law_records(seed=1))
    target = tmp_path / "all.csv"
    logs = (law_log, tmp_path / "other.jsonl", tmp_path / "gone.jsonl")
    code, out, _ = run(capsys, "fit", *logs, "-o", target, "--json")
    told = {entry["label"]: entry for entry in json.loads(out)["runs"]}
    frame = pd.read_csv(target, index_col="run")
    assert code == 0 and list(frame.index) == list(told) and len(told) == 3
    for label, entry in told.items():
        assert frame.loc[label, "verdict"] == entry["verdict"]
        if entry["verdict"] != "unreadable":
            assert frame.loc[label, "ceiling"] == pytest.approx(entry["law"]["ceiling"])
            assert frame.loc[label, "forecast"] == pytest.approx(entry["forecast"]["at"][0]["median"])
    assert list(frame["verdict"]).count("unreadable") == 1 and frame["ceiling"].notna().sum() == 2
    code, _, err = run(capsys, "fit", law_log, "-o", tmp_path / "fit.txt")
    assert code == 2 and ".json" in err and ".csv" in err and not (tmp_path / "fit.txt").exists()


def test_figures_are_byte_stable(capsys, law_log, tmp_path):
    for name in ("one.pdf", "two.pdf", "one.svg", "two.svg", "one.png", "two.png"):
        assert run(capsys, "fit", law_log, "--plot", tmp_path / name)[0] == 0
    for suffix in ("pdf", "svg", "png"):
        assert (tmp_path / f"one.{suffix}").read_bytes() == (tmp_path / f"two.{suffix}").read_bytes()


def test_fit_several_runs_is_a_table(capsys, tmp_path):
    for seed in (1, 2, 3):
        write_jsonl(tmp_path / f"seed{seed}.jsonl", law_records(seed=seed))
    code, out, _ = run(capsys, "fit", tmp_path, "--plot", tmp_path / "all.svg")
    assert code == 0
    assert all(f"seed{seed}" in out for seed in (1, 2, 3))
    heads = out.splitlines()[0].split()
    for head in ("state", "last", "ceiling", "forecast", "RMSE", "law", "future", "because"):
        assert head in heads
    assert sorted(p.name for p in tmp_path.glob("all-*.svg")) == [f"all-seed{s}.svg" for s in (1, 2, 3)]


def test_predict(capsys, law_log):
    code, out, _ = run(capsys, "predict", law_log, "--entropy", 0.1, "--step", 200, "--json")
    told = json.loads(out)
    (entry,) = told["runs"]
    given, ahead = entry["forecast"]["at"]
    assert code == 0 and told["schema"] == "entlaw.predict/2"
    assert (given["step"], given["entropy"], ahead["step"]) == (None, 0.1, 200)
    truth = 0.85 - 0.25 * np.exp(0.1)
    assert given["intervals"][1]["lo"] < truth < given["intervals"][1]["hi"]
    code, out, _ = run(capsys, "predict", law_log)
    assert code == 0 and "at step 120: " in out and "; entropy 0." in out


def test_every_predicted_number_says_its_model_and_what_it_used(capsys, law_log):
    # The log has 16 evaluations, 10 of them up to step 36 and 13 up to step 50.
    growth = "(model growth, 16 points, all steps)"
    law = "(model law, 10 points, steps up to 36)"
    for more, basis in (
        ([], growth),
        (["--model", "law"], law),
        (["--method", "paper"], law),
        (["--until-step", "50"], "(model growth, 13 points, steps up to 50)"),
        (["--until-step", "50", "--model", "law"], "(model law, 13 points, steps up to 50)"),
        (["--all", "--model", "law"], "(model law, 16 points, all steps)"),
    ):
        code, out, _ = run(capsys, "predict", law_log, "--step", 90, "--entropy", 0.1, *more)
        assert code == 0 and out.count(basis) == out.count("(model") == 2, (more, out)
        assert ("as --method paper implies" in out) == ("paper" in more)
    assert run(capsys, "predict", law_log, "--method", "paper", "--model", "growth")[0] == 2


def test_a_step_that_is_past_is_an_error_with_the_way_out(capsys, law_log, tmp_path):
    code, out, _ = run(capsys, "predict", law_log, "--step", 20)
    assert code == 2 and "step 20 is not after the last score, at step 60" in out and "--until-step" in out
    code, out, _ = run(capsys, "predict", law_log, "--step", 20, "--step", 90, "--json")
    ahead = json.loads(out)["runs"][0]["forecast"]
    assert code == 0 and [f["step"] for f in ahead["at"]] == [90]
    assert [error["what"][:7] for error in ahead["failures"]] == ["step 20"]
    assert run(capsys, "predict", law_log, "--step", 50, "--until-step", 36)[0] == 0


def test_exit_codes_of_a_refused_law_and_of_a_forecast(capsys, tmp_path):
    """A law may be refused where the forecast answers, and the other way round."""
    log = write_jsonl(
        tmp_path / "few.jsonl", law_records(n=121, every=15)
    )  # 3 evaluations by step 36: no law
    told = json.loads(run(capsys, "fit", log, "--on", "val", "--json")[1])["runs"][0]
    assert told["verdict"] == "refused" and told["law"] is None and told["forecast"]["at"]
    assert run(capsys, "fit", log, "--on", "val")[0] == 4
    assert run(capsys, "predict", log, "--on", "val")[0] == 0
    assert run(capsys, "predict", log, "--on", "val", "--model", "law")[0] == 4
    flat = write_jsonl(tmp_path / "flat.jsonl", law_records(entropy=0.3 + 0.02 * np.arange(63)))
    assert run(capsys, "predict", flat)[0] == 4


def test_doctor_explains_every_choice(capsys, law_log):
    code, out, _ = run(capsys, "doctor", law_log)
    assert code == 0
    for word in (
        "step axis",
        "entropy",
        "performance",
        "alignment",
        "pairs",
        "actor/entropy",
        "val/accuracy",
    ):
        assert word in out
    code, out, _ = run(capsys, "doctor", law_log, "--json")
    (entry,) = json.loads(out)["runs"]
    assert entry["pairs"] == 16 and entry["entropy"]["key"] == "actor/entropy"


# --- refusals ---------------------------------------------------------------------------------------------------------


def refused(capsys, path, *more):
    code, out, err = run(capsys, "fit", path, "--json", *more)
    (entry,) = json.loads(out)["runs"]
    assert code == 4, (out, err)
    assert entry["verdict"] == "refused" and any(f["severity"] == "error" for f in entry["findings"])
    return {f["code"] for f in entry["findings"] if f["severity"] == "error"}


def test_constant_entropy_is_refused(capsys, tmp_path):
    rng = np.random.default_rng(0)
    log = write_jsonl(
        tmp_path / "m.jsonl", law_records(entropy=0.5 + 0.002 * rng.standard_normal(63), noise=0.02)
    )
    refused(capsys, log)


def test_rising_entropy_is_refused(capsys, tmp_path):
    refused(capsys, write_jsonl(tmp_path / "m.jsonl", law_records(entropy=0.3 + 0.02 * np.arange(63))))


def test_three_points_are_refused(capsys, tmp_path):
    log = write_jsonl(tmp_path / "m.jsonl", law_records(n=61, every=15))
    assert any("few" in code or "evaluations" in code for code in refused(capsys, log, "--on", "val"))


def test_sequence_sum_entropy_is_refused(capsys, tmp_path):
    records = law_records()
    for r in records:
        if "actor/entropy" in r:
            r["objective/entropy"] = 120 * r.pop("actor/entropy")
    refused(capsys, write_jsonl(tmp_path / "m.jsonl", records))


def test_force_reports_a_refused_fit(capsys, tmp_path):
    log = write_jsonl(tmp_path / "m.jsonl", law_records(entropy=0.3 + 0.02 * np.arange(63)))
    code, out, _ = run(capsys, "fit", log, "--force")
    assert code == 0 and "R = " in out and "law refused" in out
    assert "R = " not in run(capsys, "fit", log)[1]
    told = json.loads(run(capsys, "fit", log, "--force", "--json")[1])["runs"][0]
    assert told["verdict"] == "refused" and told["law"]["ceiling"] is not None


def test_refusal_says_what_to_do(capsys, tmp_path):
    log = write_jsonl(tmp_path / "m.jsonl", law_records(entropy=0.3 + 0.02 * np.arange(63)))
    code, out, _ = run(capsys, "fit", log)
    assert code == 4 and "refused" in out and "why:" in out and "next:" in out


@needs_shared
@pytest.mark.parametrize(
    "log, code",
    [
        ("bihan_verl_ppo/raw/verl_demo.log", 4),  # resumed at step 101, entropy long gone
        ("format_samples/offline_run_without_history.wandb", 3),
    ],
)
def test_real_logs_that_must_be_refused(capsys, log, code):
    assert run(capsys, "fit", SHARED / log)[0] == code


@needs_shared
@pytest.mark.parametrize("more", [[], ["--all"], ["--on", "train", "--all"]])
def test_the_run_that_blows_up_is_refused(capsys, more):
    # The KL run's entropy falls at once, then climbs far above its start: no window makes it a falling entropy.
    log = SHARED / "rasbt_ch07/raw/7_5_plus_kl_metrics.csv"
    assert "entropy-exploded" in refused(capsys, log, *more)


# --- bad input --------------------------------------------------------------------------------------------------------


def bad(tmp_path):
    rng = np.random.default_rng(1)
    records = law_records()
    no_entropy = [{k: v for k, v in r.items() if k != "actor/entropy"} for r in records]
    no_score = [{k: v for k, v in r.items() if k in ("step", "actor/entropy")} for r in records]
    mixed = [
        {
            **r,
            **(
                {"val/accuracy": 100 * r["val/accuracy"]}
                if r["step"] % 8 == 0 and "val/accuracy" in r
                else {}
            ),
        }
        for r in records
    ]
    nan = [{k: (v if k == "step" else float("nan")) for k, v in r.items()} for r in records]
    files = {
        "empty": b"",
        "junk": rng.integers(0, 256, 4000, dtype=np.uint8).tobytes(),
        "text": b"hello\nthis is no log\n" * 50,
    }
    logs = {
        "no_entropy": no_entropy,
        "no_score": no_score,
        "one_step": records[:2],
        "mixed": mixed,
        "nan": nan,
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    for name, rows in logs.items():
        write_jsonl(tmp_path / name, rows)
    (tmp_path / "folder").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    "name, code",
    [
        ("nowhere", 3),
        ("empty", 3),
        ("folder", 3),
        ("junk", 3),
        ("text", 3),
        ("no_entropy", 3),
        ("no_score", 3),
        ("one_step", 4),
        ("mixed", 4),
        ("nan", 3),
    ],
)
@pytest.mark.parametrize("command", ["fit", "predict"])
def test_bad_input_has_its_code_a_message_and_no_partial_file(capsys, tmp_path, name, code, command):
    path = bad(tmp_path) / name
    target = tmp_path / "out.json"
    extra = ["-o", target] if command == "fit" else []
    got, out, err = run(capsys, command, path, *extra)
    assert got == code, out + err
    assert "next" in out + err
    assert not list(tmp_path.glob(".out.json*"))


@pytest.mark.parametrize(
    "args",
    [
        ["fit"],
        ["fit", "x", "--method", "magic"],
        ["fit", "x", "--level", "2"],
        ["fit", "x", "--until-step", "soon"],
        ["fit", "x", "--samples", "4"],
        ["fit", "x", "--plot", "fig.docx"],
        ["fit", "x", "-o", "no/such/folder/f.json"],
        ["predict", "x", "--entropy", "-1"],
        ["frobnicate"],
        ["fit", "x", "--untl-step", "3"],
        ["fit", "x", "--until-step", "nan"],
        ["fit", "x", "--until-step=-4"],
        ["fit", "x", "--all", "--until-step", "20"],
        ["fit", "x", "--performance-key", "acc"],
        ["predict", "x", "--step=-5"],
        ["predict", "x", "--step", "inf"],
        ["fit", "x", "--plot", "f.png", "-o", "f.csv"],
        ["fit", "x", "--plot", "f.png", "-o", "f.png"],
        ["fit", "x", "--method", "paper", "--problems", "500"],
    ],
)
def test_usage_errors_are_2(capsys, args):
    code, _, err = run(capsys, *args)
    assert code == 2 and err.startswith("entlaw:")


@pytest.mark.parametrize("scale", ["0", "-1", "nan", "inf"])
@pytest.mark.parametrize("command", ["fit", "predict", "doctor"])
def test_a_scale_that_is_no_factor_is_a_usage_error(capsys, law_log, command, scale):
    code, _, err = run(capsys, command, law_log, f"--scale={scale}")
    assert code == 2 and "scale" in err


@pytest.mark.parametrize("given", [["--score-range=-1,1"], ["--score-range", "-1,1"]])
def test_a_score_range_that_begins_below_zero_is_taken(capsys, law_log, given):
    code, out, _ = run(capsys, "doctor", law_log, *given)
    assert code == 0 and "-1 to 1, as told" in out


@pytest.mark.parametrize("given", ["1,-1", "1", "a,b", "0,1,2", "0,inf"])
def test_a_score_range_that_is_none_is_a_usage_error(capsys, law_log, given):
    code, _, err = run(capsys, "fit", law_log, f"--score-range={given}")
    assert code == 2 and "range" in err


def test_one_missing_source_does_not_cost_the_others_their_answer(capsys, law_log):
    code, out, _ = run(capsys, "fit", law_log, "gone.jsonl")
    assert code == 0 and "no such file" in out and "0.6" in out
    assert run(capsys, "fit", "gone.jsonl", "away.jsonl")[0] == 3


def test_doctor_of_an_entropy_without_a_number_is_no_crash(capsys, tmp_path):
    log = write_jsonl(tmp_path / "log.jsonl", [{**r, "actor/entropy": float("nan")} for r in law_records()])
    code, out, _ = run(capsys, "doctor", log, "--entropy-key", "actor/entropy")
    assert code == 3 and "holds no number" in out


def test_predict_says_where_a_score_cannot_go(capsys, law_log):
    _, out, _ = run(capsys, "predict", law_log, "--entropy", "0.1", "--model", "law")
    assert "cannot go there" not in out
    _, out, _ = run(capsys, "predict", law_log, "--entropy", "3", "--model", "law")
    assert "cannot go there" in out


def test_the_default_windows():
    """The law has the paper's 36 steps, the forecast all; an option replaces both."""
    from entlaw.law.plan import Design

    plain, both = FitFlags().settings(), FitFlags(until_step=50).settings()
    assert (plain.law_until, plain.forecast_until) == (36.0, None) and Design(1, 1, 1).until_step == 36.0
    assert (both.law_until, both.forecast_until) == (50.0, 50.0)
    assert (FitFlags(all=True).settings().law_until, FitFlags(all=True).settings().forecast_until) == (
        None,
    ) * 2
    assert plain == Settings()


def test_a_hint_is_given_once(capsys, tmp_path):
    log = write_jsonl(tmp_path / "log.jsonl", law_records(n=9))
    _, out, _ = run(capsys, "fit", log, "--on", "val")
    assert out.count("or use the training score (--on train)") == 1 and "--force" in out


def test_json_mode_reports_errors_as_json(capsys):
    code, out, _ = run(capsys, "fit", "nowhere.log", "--json")
    assert code == 3 and json.loads(out)["schema"] == "entlaw.error/1"


def test_unwritable_target_leaves_nothing(capsys, law_log, tmp_path):
    (tmp_path / "taken.json").mkdir()
    code, _, err = run(capsys, "fit", law_log, "-o", tmp_path / "taken.json")
    assert code == 2 and "cannot write" in err
    assert list((tmp_path / "taken.json").iterdir()) == []
    assert not list(tmp_path.glob(".taken*"))


def test_duplicate_steps_with_different_values_are_told(capsys, tmp_path):
    records = law_records()
    records.insert(12, {**records[11], "actor/entropy": 0.123})
    _, out, _ = run(capsys, "fit", write_jsonl(tmp_path / "m.jsonl", records))
    assert "duplicate-step" in out


def test_reading_findings_reach_the_fit(capsys, tmp_path):
    records = [
        {("ent_entropy" if k == "actor/entropy" else k): v for k, v in r.items()} for r in law_records()
    ]
    _, out, _ = run(capsys, "fit", write_jsonl(tmp_path / "m.jsonl", records))
    assert "entropy-by-name" in out


def test_no_colour_when_piped(law_log):
    done = subprocess.run(
        [sys.executable, "-m", "entlaw.cli", "fit", str(law_log)],
        capture_output=True,
        text=True,
        cwd=REPO,
        check=False,
    )
    assert done.returncode == 0 and "\x1b[" not in done.stdout


@pytest.mark.parametrize("args", [["--help"], ["fit", "--help"]])
def test_help_imports_nothing_heavy(args):
    code = (
        "import sys; from entlaw.cli.__main__ import main\n"
        f"main({args!r})\n"
        "heavy = {'torch', 'wandb', 'matplotlib', 'scipy', 'pandas', 'pyarrow', 'numpy'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_fit_imports_neither_torch_nor_wandb_nor_matplotlib(law_log):
    code = (
        "import sys; from entlaw.cli.__main__ import main\n"
        f"assert main(['fit', {str(law_log)!r}]) == 0\n"
        "heavy = {'torch', 'wandb', 'matplotlib', 'scipy.stats'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", ["fit", "doctor", "predict"])
def test_a_reader_that_goes_away_is_no_error(law_log, command):
    shell = f"'{sys.executable}' -m entlaw.cli {command} '{law_log}' | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, cwd=REPO, check=False)
    assert done.returncode == 0 and done.stderr == ""


@pytest.mark.parametrize("columns", [60, 80, 120, 200])
def test_a_narrow_terminal_loses_columns_never_digits(capsys, tmp_path, columns):
    for seed in (1, 2):
        write_jsonl(tmp_path / f"seed{seed}.jsonl", law_records(seed=seed))
    command = f"COLUMNS={columns} '{sys.executable}' -m entlaw.cli fit '{tmp_path}'"
    done = subprocess.run(
        ["script", "-qec", command, "/dev/null"], capture_output=True, text=True, cwd=REPO, check=False
    )
    told = json.loads(run(capsys, "fit", tmp_path, "--json")[1])
    (want,) = [r for r in told["runs"] if r["name"] == "seed1"]
    interval = want["law"]["ceiling_interval"]
    assert f"{want['law']['ceiling']:.3f}" in done.stdout
    assert f"[{interval['lo']:.3f}, {interval['hi']:.3f}]" in done.stdout
    assert ("left out for want of width" in done.stdout) == (columns < 150)


def test_figures_keep_names_in_any_script(capsys, tmp_path):
    for seed, name in enumerate(("実験 1", "実験 2")):
        write_jsonl(tmp_path / f"{name}.jsonl", law_records(seed=seed))
    assert run(capsys, "fit", tmp_path, "--plot", tmp_path / "f.svg")[0] == 0
    assert sorted(p.name for p in tmp_path.glob("f-*.svg")) == ["f-実験-1.svg", "f-実験-2.svg"]


def test_a_name_is_no_formula(capsys, tmp_path):
    log = write_jsonl(tmp_path / "lr$\\frac{1$.jsonl", law_records())
    assert run(capsys, "fit", log, "--plot", tmp_path / "f.svg")[0] == 0
    assert "lr$\\frac{1$ – law: ok" in (tmp_path / "f.svg").read_text()


def test_a_verdict_is_told_also_where_its_column_has_no_room(capsys, tmp_path, monkeypatch):
    from rich.console import Console

    from entlaw.cli import fit_view

    write_jsonl(tmp_path / "good.jsonl", law_records())
    write_jsonl(tmp_path / "short.jsonl", law_records(n=25, seed=1))  # 7 evaluations
    for width, below in ((200, False), (32, True)):
        monkeypatch.setattr(
            fit_view, "console", lambda stderr=False, w=width: Console(width=w, stderr=stderr)
        )
        code, out, _ = run(capsys, "fit", tmp_path, "--on", "val")
        assert code == 0 and ("law" in out.split()) != below
        assert ("caution: short" in out) == below


@pytest.mark.parametrize("name", ["run[bold]", "grpo [/red]", "a :smile: b"])
def test_names_are_shown_as_they_are(capsys, tmp_path, name):
    rows = ["step," + ",".join(f"{n} - actor/entropy,{n} - val/accuracy" for n in (name, "other"))]
    rows += [
        f"{r['step']}" + f",{r.get('actor/entropy', '')},{r.get('val/accuracy', '')}" * 2
        for r in law_records()
    ]
    (tmp_path / "export.csv").write_text("\n".join(rows) + "\n")
    for command in ("fit", "predict", "doctor"):
        code, out, err = run(capsys, command, tmp_path / "export.csv")
        assert code == 0 and name in out, (out, err)


def test_a_compressed_log_is_shown_by_its_runs_name(law_log, tmp_path, capsys):
    other = write_jsonl(tmp_path / "other.jsonl", law_records(seed=1))
    for name, log in (("first", law_log), ("second", other)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.jsonl.gz").write_bytes(gzip.compress(log.read_bytes()))
    code, out, _ = run(capsys, "fit", tmp_path / "first", tmp_path / "second")
    assert code == 0
    rows = out.splitlines()[1:3]
    assert [row.split()[0] for row in rows] == ["first", "second"]


def test_predict_at_a_step_is_the_outlooks(capsys):
    log = REPO / "runs" / "grpo-m-rl0"
    (run_,) = entlaw.read(log)
    code, out, _ = run(capsys, "predict", log, "--step", "240", "--until-step", "36", "--json")
    (told,) = json.loads(out)["runs"][0]["forecast"]["at"]
    alone = Outlook.of(run_, until_step=36).forecast(240.0)
    assert code == 0 and told["model"] == "growth" and told["n"] == 10
    assert told["median"] == pytest.approx(alone.median)
    assert told["intervals"][1]["hi"] == pytest.approx(alone.interval.hi)
    code, out, _ = run(capsys, "predict", log, "--step", "240", "--step", "20", "--method", "paper", "--json")
    laws = json.loads(out)["runs"][0]["forecast"]["at"]
    assert [f["model"] for f in laws] == ["law", "law"] and laws[0]["median"] < told["median"]


def test_predict_learns_widths_from_ones_own_runs(capsys, tmp_path):
    log, sources = REPO / "runs" / "grpo-m-rl0", []
    for name in ("grpo-m-rl0", "grpo-m-rl1", "grpo-m-rl2", "rloo-m-rl0", "rloo-m-rl1", "ppo-m-rl0"):
        sources += ["--library", REPO / "runs" / name]
    _, out, _ = run(capsys, "predict", log, "--step", "400", "--json")
    plain = json.loads(out)["runs"][0]["forecast"]["at"][0]
    code, out, _ = run(capsys, "predict", log, "--step", "400", *sources, "--json")
    (told,) = json.loads(out)["runs"]
    learned, wide = told["library"], told["forecast"]["at"][0]
    assert code == 0 and learned["runs"] == 5  # the run itself teaches nothing about itself
    assert wide["median"] == pytest.approx(plain["median"], abs=1e-3)
    stretch = [f["intervals"][1]["hi"] - f["intervals"][1]["lo"] for f in (wide, plain)]
    assert stretch[0] / stretch[1] == pytest.approx(learned["factor"], rel=0.1) and learned["factor"] != 1
    code, out, err = run(capsys, "predict", log, "--step", "400", *sources)
    assert code == 0 and "forecasts of 5 runs" in err and "library" not in out
    code, out, err = run(capsys, "predict", log, "--step", "400", *sources[:10])
    assert code == 3 and "4 runs to learn from" in err and out == ""
    write_jsonl(tmp_path / "short.jsonl", law_records()[:2])
    code, _, err = run(capsys, "predict", log, "--library", tmp_path / "short.jsonl")
    assert code == 3 and "0 runs to learn from" in err
    assert run(capsys, "predict", log, "--library", tmp_path / "none.jsonl")[0] == 3
    assert run(capsys, "predict", log, *sources, "--method", "paper")[0] == 2


def test_doctor_tells_the_regime_and_how_often_such_a_verdict_was_right(capsys):
    from entlaw.law.regimes import MEASURED

    run = str(REPO / "runs" / "grpo-m-rl0")
    assert main(["doctor", run, "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)["runs"]
    regime = told["regime"]
    assert regime["entropy"] == "falling"
    assert (regime["right"], regime["said"], regime["true"]) == MEASURED["falling"]
    assert main(["doctor", run]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"entropy (actor/entropy) falling since step {regime['since']:g}" in said
    assert f"right {regime['right']} of {regime['said']} times" in said


def test_doctor_tells_a_format_phase(capsys, tmp_path):
    """Scores grow at constant entropy, then the entropy falls."""
    n = 60
    entropy = np.where(np.arange(n) < 20, 0.9, 0.9 - 0.6 * (1 - np.exp(-(np.arange(n) - 20) / 12)))
    score = np.where(np.arange(n) < 20, 0.05 + 0.35 * np.arange(n) / 20, 0.4 + 0.2 * (0.9 - entropy) / 0.6)
    rng = np.random.default_rng(0)
    rows = [
        {
            "step": i,
            "actor/entropy": float(entropy[i] + 0.004 * rng.normal()),
            "critic/score/mean": float(score[i]),
        }
        for i in range(n)
    ]
    log = write_jsonl(tmp_path / "log.jsonl", rows)
    assert main(["doctor", str(log), "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)["runs"]
    phase = told["regime"]["format_phase"]
    assert phase is not None and not phase["measured"] and phase["end"] <= 30
    assert main(["doctor", str(log)]) == 0
    assert "inferred: scores grew before the entropy fell" in " ".join(capsys.readouterr().out.split())
