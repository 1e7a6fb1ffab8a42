"""Notebooks: the console log in the outputs of cells."""

import json

import pandas as pd
import pytest

from entlaw.errors import UnreadableSource
from entlaw.runs.source import ReadOptions
from entlaw.runs.sources import console, notebook
from tests.conftest import SHARED, needs_shared
from tests.runs.test_console import codes, hf_text, recognised, verl_text


def _output(output):
    if isinstance(output, dict):
        return output
    return {"output_type": "stream", "name": output[0], "text": output[1]}


def write_notebook(path, *cells, **extra):
    """Each cell is a list of outputs; an output is (stream, text) or a ready dictionary."""
    made = [{"cell_type": "markdown", "metadata": {}, "source": "# step:9 - a/x:1"}]
    made += [
        {
            "cell_type": "code",
            "metadata": {},
            "source": "print('step:8 - a/x:1.0')",
            "outputs": list(map(_output, o)),
        }
        for o in cells
    ]
    path.write_text(json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": made, **extra}))
    return path


def read_one(path):
    assert recognised(path) is notebook
    (run,) = notebook.read(path, ReadOptions())
    return run


@pytest.mark.parametrize("as_list", [True, False])
def test_equals_the_console_log_it_holds(tmp_path, as_list):
    text = verl_text(20)
    log = tmp_path / "a.log"
    log.write_text(text)
    (want,) = console.read(log, ReadOptions())
    cell = [("stdout", text.splitlines(keepends=True) if as_list else text)]
    run = read_one(write_notebook(tmp_path / "a.ipynb", [("stdout", "hello\n")], cell))
    pd.testing.assert_frame_equal(run.rows, want.rows)
    assert run.provenance.format == "verl-console"
    assert run.provenance.details["notebook_cells"] == [{"cell": 2, "records": 20}]


def test_lines_split_between_outputs_of_two_streams(tmp_path):
    first, second = verl_text(4, "")[:70], verl_text(4, "")[70:]
    assert not first.endswith("\n")
    path = write_notebook(
        tmp_path / "a.ipynb", [("stdout", first), ("stderr", "warning: x\n"), ("stdout", second)]
    )
    assert read_one(path).rows["step"].tolist() == [1, 2, 3, 4]


def test_progress_bars_of_the_other_stream_tell_the_step(tmp_path):
    outputs = []
    for part in hf_text(4, 5, total=500).split("{"):
        if outputs:
            record, rest = part.split("}\n", 1)
            outputs += [("stdout", "{" + record + "}\n"), ("stderr", rest)]
        else:
            outputs.append(("stderr", part))
    run = read_one(write_notebook(tmp_path / "a.ipynb", outputs))
    assert run.rows["step"].tolist() == [5, 10, 15, 20] and codes(run) == {"step-inferred"}


def test_interrupted_cell_and_the_next_one(tmp_path):
    cut = verl_text(3, "").rstrip("\n")[:-2]
    path = write_notebook(tmp_path / "a.ipynb", [("stdout", cut)], [("stdout", verl_text(2, ""))])
    run = read_one(path)
    assert run.rows["step"].tolist() == [1, 2, 3, 1, 2]
    assert pd.isna(run.rows["critic/score/mean"][2]) and "truncated-tail" in codes(run)


def test_only_outputs_count(tmp_path):
    path = write_notebook(
        tmp_path / "a.ipynb", [{"output_type": "execute_result", "data": {"text/plain": "1"}}]
    )
    with pytest.raises(UnreadableSource, match="no metric lines"):
        notebook.read(path, ReadOptions())


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"cells": 3}', '{"cells": [1, null]}', "not json", "[" * 100_000]
)
def test_broken_notebooks_are_clear_errors(tmp_path, text):
    path = tmp_path / "x.ipynb"
    path.write_text(text)
    with pytest.raises(UnreadableSource) as error:
        notebook.read(path, ReadOptions())
    assert error.value.hint


def test_huge_preamble_of_metadata_is_recognised_by_name(tmp_path):
    path = tmp_path / "a.ipynb"
    widgets = {"metadata": {"widgets": "x" * 200_000}}
    text = json.dumps({**widgets, "cells": [{"outputs": [{"output_type": "stream", "text": verl_text(2)}]}]})
    path.write_text(text)
    assert len(read_one(path).rows) == 2


@needs_shared
def test_the_real_notebook_names_its_cell():
    path = SHARED / "verl_notebook_ppo" / "raw" / "verl_getting_started.ipynb"
    assert read_one(path).provenance.details["notebook_cells"] == [{"cell": 15, "records": 61}]
