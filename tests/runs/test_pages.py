"""HTML tables in notebooks and on saved pages."""

import html
import pprint

import pandas as pd
import pytest

from entlaw.errors import UnreadableSource
from entlaw.runs.reader import read, read_raw
from entlaw.runs.source import ReadOptions
from entlaw.runs.sources import page, sources
from tests.runs.test_console import codes, head_of, verl_text
from tests.runs.test_notebook import write_notebook

N = 40
STEPS = list(range(1, N + 1))
ENTROPY = [round(1 / (1 + 0.05 * t), 6) for t in STEPS]
REWARD = [round(0.2 + 0.01 * t, 6) for t in STEPS]
FRAME = pd.DataFrame({"Step": STEPS, "Training Loss": 0.001, "reward": REWARD, "entropy": ENTROPY})


def progress_table(rows, evals=False):
    """What the Hugging Face trainers show in a notebook."""
    names = ["Step", "Training Loss", *(["Validation Loss"] if evals else []), "reward", "entropy"]
    head = "".join(f"<th>{n}</th>" for n in names)
    body = ""
    for t, h, r in rows:
        cells = [str(t), "No log", *(["0.5"] if evals else []), f"{r:.6f}", f"{h:.6f}"]
        body += f"<tr>\n      <td>{'</td><td>'.join(cells)}</td>\n    </tr>"
    bar = '<div><progress value="40" max="40"></progress>\n [40/40 05:11, Epoch 0/1]</div>\n'
    table = f'<table border="1" class="dataframe">\n<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table><p>'
    return bar + table


ROWS = list(zip(STEPS, ENTROPY, REWARD, strict=True))
TABLES = {
    "progress": progress_table(ROWS),
    "progress with evaluations": progress_table(ROWS, evals=True),
    "pandas": FRAME.to_html(),
    "pandas, index is the step": FRAME.set_index("Step").to_html(),
    "pandas, no index": FRAME.to_html(index=False),
    "tags left open": "<table><tr><th>step<th>entropy<th>reward"
    + "".join(f"<tr><td>{t}<td>{h}<td><b>{r}</b>" for t, h, r in ROWS)
    + "</table>",
    "capitals and attributes": "<TABLE><TR><TH scope=col>step</TH><TH>entropy</TH><TH>mean&nbsp;reward</TH></TR>"
    + "".join(f"<TR><TD>{t}</TD><TD>{h}</TD><TD>{r}</TD></TR>" for t, h, r in ROWS)
    + "</TABLE>",
    "unsloth": FRAME.rename(columns={"reward": "rewards / correctness / mean"}).to_html(index=False),
    "inside another table": f"<table><tr><td>layout</td><td>{FRAME.to_html(index=False)}</td></tr></table>",
    "percent": FRAME.assign(accuracy=[f"{100 * r:.4f}%" for r in REWARD])
    .drop(columns="reward")
    .to_html(index=False),
}


def output(text, kind="display_data"):
    return {
        "output_type": kind,
        "metadata": {},
        "data": {"text/html": text, "text/plain": ["<IPython.HTML object>"]},
    }


def check(run):
    assert run.points["step"].tolist() == STEPS
    assert run.points["entropy"].tolist() == ENTROPY
    assert run.points["performance"].tolist() == pytest.approx(REWARD)


@pytest.mark.parametrize("kind", ["display_data", "execute_result", "update_display_data"])
@pytest.mark.parametrize("table", TABLES)
def test_a_table_in_a_notebook(tmp_path, table, kind):
    text = TABLES[table] if kind == "display_data" else TABLES[table].splitlines(keepends=True)
    path = write_notebook(
        tmp_path / "run.ipynb", [("stdout", "Loading\n")], [("stderr", "x\n"), output(text, kind)]
    )
    (run,) = read(path)
    check(run)
    assert run.provenance.format == "html-table"
    assert run.provenance.details["notebook_cells"] == [{"cell": 2, "records": N}]


@pytest.mark.parametrize("table", TABLES)
def test_a_table_on_a_page(tmp_path, table):
    path = tmp_path / "run.html"
    style = "<style>td {color: red}</style><script>var a = '<table>';</script>"
    settings = "<table><tr><th>key</th><th>value</th></tr><tr><td>lr</td><td>1e-6</td></tr></table>"
    path.write_text(
        f"<!DOCTYPE html>\n<html><head>{style}</head><body>{settings}{TABLES[table]}</body></html>"
    )
    assert next(source.name for source in sources() if source.sniff(head_of(path))) == "page"
    check(read(path)[0])
    path.write_text(TABLES[table])
    check(read(path)[0])


def test_a_log_printed_on_a_page(tmp_path):
    text = verl_text(20)
    (tmp_path / "plain.log").write_text(text)
    path = tmp_path / "run.html"
    path.write_text(f"<html><body><div class=out><pre>{html.escape(text)}</pre></div></body></html>")
    pd.testing.assert_frame_equal(read_raw(path)[0].rows, read_raw(tmp_path / "plain.log")[0].rows)


def test_the_form_with_more_numbers_is_the_run(tmp_path):
    short = output(progress_table(ROWS[:3]))
    path = write_notebook(tmp_path / "run.ipynb", [("stdout", verl_text(20)), short])
    assert read_raw(path)[0].provenance.format == "verl-console"
    path = write_notebook(tmp_path / "run.ipynb", [("stdout", verl_text(2)), output(progress_table(ROWS))])
    (raw,) = read_raw(path)
    assert raw.provenance.format == "html-table" and "other-records" in codes(raw)


def test_tables_of_several_cells_are_one_log(tmp_path):
    cells = [[output(progress_table(ROWS[i : i + 10]))] for i in range(0, N, 10)]
    check(read(write_notebook(tmp_path / "run.ipynb", *cells))[0])


def test_rows_that_a_table_leaves_out_are_told(tmp_path):
    table = FRAME.to_html(max_rows=10, index=False)
    (raw,) = read_raw(write_notebook(tmp_path / "run.ipynb", [output(table)]))
    assert raw.rows["Step"].tolist() == [*STEPS[:5], *STEPS[-5:]] and "rows-elided" in codes(raw)


def test_the_value_of_a_cell_is_read_as_text(tmp_path):
    history = [{"loss": 0.1, "entropy": h, "reward": r, "reward_std": 0.25, "step": t} for t, h, r in ROWS]
    value = {
        "output_type": "execute_result",
        "data": {"text/plain": pprint.pformat(history, sort_dicts=False)},
    }
    check(read(write_notebook(tmp_path / "run.ipynb", [value]))[0])


@pytest.mark.parametrize(
    "text", ["<html></html>", "<html><table><tr><td>1</table>", "<!doctype html><p>step entropy"]
)
def test_a_page_without_a_log_is_a_clear_error(tmp_path, text):
    path = tmp_path / "run.html"
    path.write_text(text)
    with pytest.raises(UnreadableSource) as error:
        page.read(path, ReadOptions())
    assert error.value.why and error.value.hint and error.value.where == str(path)
