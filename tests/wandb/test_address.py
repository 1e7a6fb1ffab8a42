"""What SOURCE strings mean, and the small syntax of --filter: text in, plain data out."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entlaw.errors import UsageError
from entlaw.runs.files import on_server
from entlaw.runs.wandb.address import HOSTED, Address, parse, parse_filters
from entlaw.runs.wandb.listing import mongo

plain = st.text("abcxyzABC0189_-", min_size=1, max_size=12).filter(lambda s: s[0].isalnum())
shown = st.text(
    st.characters(exclude_characters="/\\#?%:*[]", exclude_categories=["Cc", "Cs", "Zs", "Zl", "Zp"]),
    min_size=1,
    max_size=12,
)
tails = st.sampled_from(["", "/", "/overview", "/logs", "/workspace?nw=nwuserx", "?workspace=user", "#x"])


@settings(deadline=None)
@given(plain, plain, plain)
def test_three_names_are_a_run_and_two_are_left_to_the_server(entity, project, run):
    assert parse(f"{entity}/{project}/{run}") == Address("run", project, run, entity, bare=True)
    assert parse(f"wandb:{entity}/{project}/{run}") == Address("run", project, run, entity)
    assert parse(f"{entity}/{project}") == Address("project", project, entity=entity, either=True, bare=True)


@settings(deadline=None)
@given(shown, shown, shown, tails)
def test_urls_give_back_the_names_they_were_made_of(entity, project, name, tail):
    base = f"https://wandb.ai/{quote(entity, safe='')}/{quote(project, safe='')}"
    one = quote(name, safe="")
    assert parse(f"{base}/runs/{one}{tail}") == Address("run", project, name, entity, HOSTED)
    assert parse(f"{base}/sweeps/{one}{tail}") == Address("sweep", project, name, entity, HOSTED)
    assert parse(f"{base}/groups/{one}{tail}") == Address(
        "project", project, entity=entity, host=HOSTED, group=name
    )
    assert parse(f"{base}{tail if tail[:2] != '/o' and tail[:2] != '/l' else ''}") == Address(
        "project", project, entity=entity, host=HOSTED
    )


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("https://wandb.example.org/e/p/runs/x", "https://wandb.example.org"),
        ("http://10.0.0.7:8080/e/p/runs/x/overview?nw=1", "http://10.0.0.7:8080"),
        ("wandb:https://wandb.example.org/e/p/runs/x", "https://wandb.example.org"),
        ("https://wandb.ai/e/p/runs/x", HOSTED),
        ("https://www.wandb.ai/e/p/runs/x", HOSTED),
        ("https://forge.coreweave.com/wandb/e/p/runs/x", HOSTED),
    ],
)
def test_a_url_names_its_server(text, host):
    assert parse(text) == Address("run", "p", "x", "e", host)


def test_a_report_is_known_by_the_id_behind_its_title():
    url = "https://wandb.ai/e/p/reports/Entropy--collapse--again--Vmlldzo0Mg"
    assert parse(url) == Address("report", "p", "Vmlldzo0Mg", "e", HOSTED)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "run",
        "./a/b",
        "../a/b",
        "~/a/b",
        "/a/b/c",
        "a/b/",
        "a/b/c/d",
        "a/*/c",
        "a/b/metrics.jsonl",
        "a/run.wandb",
        "a/b c",
        "a/b/events.out.tfevents.1.host",
        "logs/x.jsonl.gz",
        "a//b",
        "file.csv",
        "C:/a/b",
        " a/b",
        "a/[bc]/d",
    ],
)
def test_paths_globs_and_log_files_are_no_addresses(text):
    assert parse(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "wandb:run",
        "wandb:",
        "wandb:a/b/c/d",
        "wandb:a/*",
        "https://wandb.ai/e",
        "https:///x/y",
        "https://h:port/e/p",
        "https://wandb.ai/e/a%2Fb",
    ],
)
def test_a_forced_reading_that_cannot_be_is_a_usage_error(text):
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert caught.value.hint and caught.value.exit_code == 2


@settings(deadline=None)
@given(st.text(max_size=40))
def test_any_text_is_an_address_or_none_or_a_usage_error(text):
    try:
        address = parse(text)
    except UsageError:
        return
    assert address is None or (address.project and (address.kind == "project" or address.id))


def test_what_is_here_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert on_server("team/proj/run1") == Address("run", "proj", "run1", "team", bare=True)
    (tmp_path / "team").mkdir()
    assert on_server("team/proj/run1") is None  # its first part is a folder here: the rest was misspelt
    assert on_server("team/proj") is None
    assert on_server("wandb:team/proj/run1") == Address("run", "proj", "run1", "team")
    assert on_server(tmp_path / "nothing") is None
    (tmp_path / "wandb:a").mkdir()
    (tmp_path / "wandb:a" / "b").touch()
    assert on_server("wandb:a/b") is None


@pytest.mark.parametrize(
    ("texts", "meant"),
    [
        ([], None),
        (["state=finished"], {"state": "finished"}),
        (["config.lr<=1e-6"], {"config.lr": {"$lte": 1e-6}}),
        (["config.use_kl = true"], {"config.use_kl": True}),
        (["config.seed='1'"], {"config.seed": "1"}),
        (["config.trainer.nnodes!=1|2"], {"config.trainer.nnodes": {"$nin": [1, 2]}}),
        (["name~^grpo.*7b$"], {"display_name": {"$regex": "^grpo.*7b$"}}),
        (
            ["summary.val/acc>0.5, tag=paper"],
            {"$and": [{"summary_metrics.val/acc": {"$gt": 0.5}}, {"tags": "paper"}]},
        ),
        (["id=a|b", "job_type=train"], {"$and": [{"name": {"$in": ["a", "b"]}}, {"jobType": "train"}]}),
        (['{"config.x": {"$exists": true}}'], {"config.x": {"$exists": True}}),
        (["config.note='a, b'"], {"config.note": "a, b"}),
    ],
)
def test_filters(texts, meant):
    assert parse_filters(texts) == meant


@pytest.mark.parametrize(
    "text", ["lr=1", "config.=1", "state", "state=", "=x", "{bad json}", "name~[", "config.a 1"]
)
def test_a_filter_that_is_none_says_what_one_looks_like(text):
    with pytest.raises(UsageError) as caught:
        parse_filters([text])
    assert caught.value.hint


@settings(deadline=None)
@given(
    st.sampled_from(["=", "!=", ">", ">=", "<", "<="]),
    st.floats(allow_nan=False, allow_infinity=False) | st.booleans(),
)
def test_values_come_through_as_they_were_written(operator, value):
    found = parse_filters([f"config.a.b{operator}{json.dumps(value)}"])["config.a.b"]
    assert (found if operator == "=" else next(iter(found.values()))) == value


def test_the_filter_of_a_report_as_the_browser_keeps_it():
    told = {
        "op": "OR",
        "filters": [
            {
                "op": "AND",
                "filters": [
                    {"key": {"section": "run", "name": "state"}, "op": "=", "value": "finished"},
                    {"key": {"section": "config", "name": "lr.value"}, "op": "<=", "value": 1e-6},
                    {"key": {"section": "tags", "name": "paper"}, "op": "=", "value": True},
                    {"key": {"section": "run", "name": "group"}, "op": "=", "value": "x", "disabled": True},
                ],
            }
        ],
    }
    assert mongo(told) == {
        "$and": [{"state": "finished"}, {"config.lr.value": {"$lte": 1e-6}}, {"tags": "paper"}]
    }
