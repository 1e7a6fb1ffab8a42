"""Log formats that another distribution brings: a real one on ``sys.path``, and ones that are wrong in every way."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from entlaw import scan
from entlaw.errors import MissingExtra, SourceNotFound
from entlaw.runs import sources as package
from entlaw.runs.source import Head, Source
from entlaw.runs.sources import built_in, plug_ins, sources
from tests.conftest import law_records

DOCS = Path(__file__).parents[2] / "docs" / "reading-logs.md"
(READER,) = re.findall(
    r"```python\n(# mylab_logs\.py\n.*?)```", DOCS.read_text(), re.DOTALL
)  # as users are shown it


def write_plugin(folder: Path, code: str, entry: str = "mylab_logs:SOURCE") -> Path:
    """A distribution as an installer leaves it: a module, its metadata, its entry point."""
    about = folder / "mylab_logs-0.3.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: mylab-logs\nVersion: 0.3\n")
    (about / "entry_points.txt").write_text(f"[entlaw.sources]\nmylab = {entry}\n")
    (folder / "mylab_logs.py").write_text(code)
    return folder


def write_log(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        ";".join([str(r.pop("step")), *(f"{k}={v}" for k, v in r.items())]) for r in law_records(seed=seed)
    ]
    path.write_text("mylab 1\n" + "\n".join(lines) + "\n")
    return path


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Put a plug-in on the path of this process, and take it off again."""

    def forget():
        plug_ins.cache_clear()
        sources.cache_clear()
        sys.modules.pop("mylab_logs", None)

    def put(code, entry="mylab_logs:SOURCE"):
        monkeypatch.syspath_prepend(write_plugin(tmp_path / "site", code, entry))
        forget()

    yield put
    monkeypatch.undo()
    forget()


def test_the_command_reads_a_file_and_a_folder_of_a_plug_ins_format(tmp_path):
    """In a process of its own, as a user has it."""
    plugin = write_plugin(tmp_path / "site", READER)
    first = write_log(tmp_path / "logs" / "one" / "a.mylab.bin")
    write_log(tmp_path / "logs" / "two" / "b.mylab.bin", seed=1)
    (tmp_path / "logs" / "weights.bin").write_bytes(b"\0\1" * 100)  # of that suffix, and of nobody's name
    root = str(Path(package.__file__).parents[3])
    env = {**os.environ, "PYTHONPATH": os.pathsep.join((root, str(plugin)))}
    for source, names in ((first, ["a.mylab"]), (tmp_path / "logs", ["a.mylab", "b.mylab"])):
        command = [sys.executable, "-m", "entlaw.cli", "doctor", str(source), "--json"]
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        runs = json.loads(done.stdout)["runs"]
        assert [(run["name"], run["format"], run["records"]) for run in runs] == [
            (n, "mylab", 62) for n in names
        ]
        assert all("plugin-failed" not in {f["code"] for f in run["findings"]} for run in runs)


def test_without_the_plug_in_its_files_are_no_logs(tmp_path):
    write_log(tmp_path / "logs" / "a.mylab.bin")
    with pytest.raises(SourceNotFound, match="no log"):
        list(scan(tmp_path / "logs"))


def test_a_file_of_a_plug_ins_name_that_cannot_be_read_is_told_of(tmp_path, install):
    install(READER)
    write_log(tmp_path / "logs" / "a.mylab.bin")
    (tmp_path / "logs" / "b.mylab.bin").write_text("mylab 1\n")
    good, bad = scan(tmp_path / "logs")
    assert good.raw.provenance.format == "mylab" and len(good.run.points) == 16
    assert bad.error.what == "no step was logged"


BROKEN = {
    "import": ("import no_such_module_at_all\n", "mylab_logs:SOURCE", "no_such_module_at_all"),
    "exit": ("raise SystemExit(7)\n", "mylab_logs:SOURCE", "SystemExit"),
    "syntax": ("def read(:\n", "mylab_logs:SOURCE", "SyntaxError"),
    "no module": (READER, "elsewhere:SOURCE", "elsewhere"),
    "no object": (READER, "mylab_logs:LOGS", "LOGS"),
    "no source": (READER, "mylab_logs:read", "not an entlaw.runs.source.Source"),
    "our name": (READER.replace('Source("mylab"', 'Source("jsonl"'), "mylab_logs:SOURCE", "'jsonl'"),
    "bad pattern": (READER.replace("files=r", 'files="(" or r'), "mylab_logs:SOURCE", "("),
    "arguments": (READER.replace("reference=", "refers="), "mylab_logs:SOURCE", "refers"),
    "sniff": (READER.replace("return head.text", "return head.txt"), "mylab_logs:SOURCE", "txt"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_plug_in_is_named_and_costs_nobody_else(tmp_path, law_log, install, kind):
    code, entry, reason = BROKEN[kind]
    install(code, entry)
    (reading,) = scan(law_log)
    (told,) = [f for f in reading.run.findings if f.code == "plugin-failed"]
    assert reading.raw.provenance.format == "jsonl" and told.severity == "warning" and told.hint
    assert "mylab-logs 0.3" in told.what and reason in told.why
    (tmp_path / "other.bin").write_bytes(bytes(range(256)) * 10)
    (reading,) = scan(tmp_path / "other.bin")
    assert "not recognised" in reading.error.what and "mylab-logs 0.3" in reading.error.why


FAILING = {
    "raises": ("    raise RuntimeError('kaputt')", "kaputt"),
    "exits by a key": ("    return {}['x']", "KeyError"),
    "none": ("    return None", "NoneType"),
    "dicts": ("    return [{'step': 1}]", "not a list of RawRun"),
    "nothing": ("    return []", "no run"),
    "rows": ("    return [RawRun('x', [[1.0]], {}, Provenance(str(path), 'mylab'))]", "not a DataFrame"),
    "words": (
        "    import pandas\n"
        "    rows = pandas.DataFrame({'step': ['one', 'two']})\n"
        "    return [RawRun('x', rows, {}, Provenance(str(path), 'mylab'))]",
        "not numbers: step",
    ),
}


@pytest.mark.parametrize("kind", FAILING)
def test_a_plug_in_that_fails_on_its_own_file_is_named(tmp_path, install, kind):
    body, reason = FAILING[kind]
    install(READER.replace("    rows = RowBuilder()", body, 1))
    log = write_log(tmp_path / "a.mylab.bin")
    (reading,) = scan(log)
    assert reading.error.what == "the log source plug-in 'mylab' (of mylab-logs 0.3) failed"
    assert reason in reading.error.why and reading.error.where == str(log) and reading.error.hint
    assert reading.error.exit_code == 3


def test_what_a_plug_in_needs_is_said_before_it_fails(tmp_path, install):
    install(READER.replace('reference="our wiki"', 'reference="our wiki", needs=("no_such_module",)'))
    with pytest.raises(MissingExtra, match="pip install no_such_module"):
        list(scan(write_log(tmp_path / "a.mylab.bin")))


def test_the_registry_is_whole_and_in_order():
    """Every module of the package is a format with its own name and place, and says where it is described."""
    ours = built_in()
    files = {path.stem for path in Path(package.__file__).parent.glob("*.py")} - {"__init__"}
    assert {source.read.__module__.rpartition(".")[2] for source in ours} == files
    assert len({source.name for source in ours}) == len({source.order for source in ours}) == len(files)
    assert all(source.reference and not source.needs and not source.plugin for source in ours)
    asked = [source for source in sources() if not source.plugin]
    assert asked == sorted(ours, key=lambda source: source.order)
    assert [asked[0].name, asked[-1].name] == ["wandb-file", "console"]


def test_a_source_says_which_names_are_its_own():
    ours = {source.name: source for source in built_in()}
    assert ours["wandb-file"].names(Path("x/run-ab.wandb")) and not ours["console"].names(Path("a.log"))
    assert ours["jsonl"].names(Path("metrics.jsonl.gz")) and not ours["jsonl"].names(Path("other.jsonl"))
    with pytest.raises(Exception, match="unterminated"):
        Source("x", 1, lambda head: False, lambda path, options: [], "here", files="(")
    assert np.array_equal(Head(Path("x"), b"\xef\xbb\xbfab", 5).text, "ab")
