"""What the README shows is what happens: its table, its commands, its Python."""

import re
import shlex

import entlaw
from entlaw.cli.__main__ import main
from tests.conftest import REPO, law_records, write_jsonl


def test_python_example_runs(monkeypatch, capsys):
    monkeypatch.chdir(REPO)
    (code,) = re.findall(r"```python\n(.*?)```", (REPO / "README.md").read_text(), flags=re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})
    out = capsys.readouterr().out
    assert out.startswith("ceiling ") and "Interval(lo=" in out


def test_the_table_is_what_fit_prints(monkeypatch, capsys):
    monkeypatch.chdir(REPO)
    (table,) = re.findall(r"```\n(run  .*?)```", (REPO / "README.md").read_text(), flags=re.DOTALL)
    assert main(["fit", "runs/grpo-*-rl0"]) == 0
    shown, printed = table.strip().splitlines(), capsys.readouterr().out.strip().splitlines()
    number = re.compile(r"\d+\.(\d+)")
    assert [number.sub("#", row).split() for row in shown] == [
        number.sub("#", row).split() for row in printed
    ]
    for ours, theirs in zip(shown, printed, strict=True):
        for a, b in zip(number.finditer(ours), number.finditer(theirs), strict=True):
            # One unit in the last digit: another BLAS may round it the other way.
            assert abs(float(a[0]) - float(b[0])) <= 1.01 * 10.0 ** -len(a[1]), (ours, theirs)


def commands():
    return re.findall(r"^entlaw (.+?)(?:  +#.*)?$", (REPO / "README.md").read_text(), flags=re.MULTILINE)


def at_scale():
    """What the README shows for a lab's machines."""
    return [c for c in commands() if "cov" in c or "--list" in c or c.startswith("data") or "--suite" in c]


def on_a_server():
    """What the README shows for W&B runs: tests/wandb runs these commands."""
    return [c for c in commands() if "team/project" in c]


def test_commands_on_a_server_can_be_parsed():
    from entlaw.cli.app import app

    assert {c.split()[0] for c in on_a_server()} == {"fit", "pull", "push"}
    for command in on_a_server():
        app.parse_args(shlex.split(command), exit_on_error=False, print_error=False)


def test_commands_run(monkeypatch, capsys, law_log, tmp_path):
    found = [c for c in commands() if not c.startswith(("train", "eval")) and "my-run" not in c]
    found = [c for c in found if c not in at_scale() + on_a_server()]
    named = {c.split()[0] for c in found}
    assert named == {
        "demo",
        "doctor",
        "fit",
        "predict",
        "watch",
        "compare",
        "sizes",
        "plan",
        "backtest",
        "report",
        "figures",
    }
    (tmp_path / "sizes").mkdir()
    for i, size in enumerate(("1B", "2B", "4B")):
        write_jsonl(tmp_path / "sizes" / f"m-{size}.jsonl", law_records(seed=i))
    (tmp_path / "finished").mkdir()
    for i in range(6):
        write_jsonl(tmp_path / "finished" / f"seed{i}.jsonl", law_records(seed=10 + i))
    other = write_jsonl(tmp_path / "other.jsonl", law_records(seed=5))
    monkeypatch.chdir(tmp_path)
    more = {
        "watch": ["--once"],
        "plan": ["--replicates", "20", "--problems", "500"],
        "figures": ["--from", str(law_log)],
    }
    for command in found:
        name = command.split()[0]
        runs = str(tmp_path / "sizes" / "*") if name == "sizes" else str(law_log)
        swapped = {"LOG": str(law_log), "runs/*": runs, "A": str(law_log), "B": str(other)}
        words = [swapped.get(w, w) for w in shlex.split(command)]
        assert main([*words, *more.get(name, [])]) == 0, command


def test_training_commands_run(monkeypatch, capsys, tmp_path):
    found = [c for c in commands() if c.startswith(("train", "eval")) or "my-run" in c]
    found = [c for c in found if c not in at_scale()]
    assert [c.split()[0] for c in found] == ["train", "fit", "eval", "train"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ENTLAW_CACHE", str(tmp_path / "cache"))
    small = ["policy.size=xs", "warmup.clean_steps=30", "run.steps=1", "validation.problems=16"]
    for command in found:
        more = [part for s in small for part in ("--set", s)] if command.startswith("train") else []
        code = main([*command.split(), *more])
        assert code == (4 if command.startswith("fit") else 0), (
            command
        )  # one step is too little to fit, and said so


def test_commands_at_scale(monkeypatch, capsys, tmp_path):
    """Those that need no machine run; of the others, what they name is there."""
    from entlaw.suites import definition
    from entlaw.train import recipe as recipes

    monkeypatch.chdir(tmp_path)
    ran = 0
    for command in at_scale():
        words = command.split()
        if "--print" in words or "--list" in words or "--check" in words or words[0] == "data":
            assert main(words) == 0, command
            ran += 1
        elif words[0] == "eval":
            assert definition.get(words[words.index("--suite") + 1]).sets
        else:
            assert recipes.load(words[1]).rollout.engine == "vllm"
    assert ran >= 4


def test_training_docs_example_runs(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ENTLAW_CACHE", str(tmp_path / "cache"))
    (code,) = re.findall(r"```python\n(.*?)```", (REPO / "docs/training.md").read_text(), flags=re.DOTALL)
    exec(compile(code, "training.md", "exec"), {})
    assert capsys.readouterr().out.startswith("finished ")


OWN = re.compile(
    r"https://(?:raw\.githubusercontent\.com/entlaw/entlaw|github\.com/entlaw/entlaw/(?:blob|tree|raw))/main/([^)#\s]*)"
)


def test_links_point_at_files():
    """An absolute address of this repository is a file here, too."""
    for page in [REPO / "README.md", *REPO.glob("docs/*.md"), REPO / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if own := OWN.fullmatch(target):
                assert (REPO / own[1]).exists(), f"{page.name}: {target}"
            else:
                assert target.startswith("http") or (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_readme_reads_the_same_on_a_package_index():
    """There, a relative link leads nowhere and an image needs the raw file."""
    text = (REPO / "README.md").read_text()
    links = re.findall(r"(!?)\[[^\]]*\]\(([^)\s]+)\)", text)
    assert sum(bool(OWN.fullmatch(target)) for _, target in links) > 20
    for image, target in links:
        assert target.startswith("https://"), target
        assert not image or target.startswith("https://raw.githubusercontent.com/"), target
        if (own := OWN.fullmatch(target)) and not image:
            assert ("/tree/" in target) == (REPO / own[1]).is_dir(), target


def test_the_addresses_of_the_project_are_those_of_the_readme():
    import tomllib

    urls = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["urls"]
    assert set(urls) == {"Homepage", "Documentation", "Repository", "Changelog", "Issues"}
    for address in urls.values():
        assert address.startswith("https://github.com/entlaw/entlaw"), address
        if own := OWN.fullmatch(address):
            assert (REPO / own[1]).exists(), address


def test_version_is_one(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == entlaw.__version__
