"""What the commands say, against what they said when it was recorded (``python -m tests.golden.record``).

``GOLDEN=exact`` compares every byte (with OMP_NUM_THREADS=1), ``GOLDEN=all`` runs the groups that take minutes too,
``GOLDEN=all,exact`` both.
"""

import os

import pytest

from tests.golden.answers import KEPT, MISSING, answer, compare, differences, load, sealed, show
from tests.golden.commands import GROUPS, RUNS

MODE = set(filter(None, os.environ.get("GOLDEN", "").split(",")))
assert not MODE - {"all", "exact"}, f"GOLDEN={os.environ['GOLDEN']}: give all, exact or all,exact"
assert "exact" not in MODE or os.environ.get("OMP_NUM_THREADS") == "1", (
    "GOLDEN=exact needs OMP_NUM_THREADS=1: several threads add in another order, and the last digits change"
)
_AT_ONCE = 12  # commands a test, so that several processes share the work
_MOST_SHOWN = 12


def parts():
    for name, group in GROUPS.items():
        marks = []
        if group.complete:
            marks.append(pytest.mark.slow)
            marks.append(pytest.mark.skipif("all" not in MODE, reason="takes minutes: GOLDEN=all runs it"))
        if group.shared and not group.commands:
            marks.append(pytest.mark.skip(reason="the public logs of ../shared/data are not here"))
        for start in range(0, max(len(group.commands), 1), _AT_ONCE):
            yield pytest.param(name, start, id=f"{name}-{start // _AT_ONCE}", marks=marks)


@pytest.mark.parametrize("name, start", list(parts()))
def test_the_commands_say_what_they_said(name, start):
    group, told = GROUPS[name], []
    for command in group.commands[start : start + _AT_ONCE]:
        found = compare(name, group, command, "exact" in MODE)
        if found:
            more = [f"  ... and {len(found) - _MOST_SHOWN} more"] if len(found) > _MOST_SHOWN else []
            told += [f"entlaw {command}", *(f"  {show(one)}" for one in found[:_MOST_SHOWN]), *more]
    if told:
        told.append(f"Meant? `python -m tests.golden.record {name}` records it, and lists all that changed.")
        pytest.fail("\n".join(["not what was recorded:", *told]), pytrace=False)


@pytest.mark.parametrize("name", [n for n, group in GROUPS.items() if group.commands])
def test_what_is_kept_is_what_is_asked_and_nothing_crashed(name):
    kept = load(KEPT / f"{name}.json.gz")
    assert set(kept) == set(GROUPS[name].commands), f"record it: python -m tests.golden.record {name}"
    assert not [command for command, told in kept.items() if told["exit"] not in (0, 2, 3, 4, 5)]


def test_every_file_is_of_a_group_and_they_are_small():
    files = list(KEPT.iterdir())
    assert {path.name for path in files} == {f"{name}.json.gz" for name in GROUPS}
    assert sum(path.stat().st_size for path in files) < 1_500_000
    assert len(RUNS) >= 81


@pytest.mark.parametrize(
    "old, new, path",
    [
        ({"a": 1.0}, {"a": 1.00001}, "a"),
        ({"a": 1.0}, {"a": 1}, "a"),
        ({"a": True}, {"a": 1}, "a"),
        ({"a": 0.0}, {"a": None}, "a"),
        ({"a": 1.0}, {"b": 1.0}, "a"),
        ({"a": [1.0, 2.0]}, {"a": [1.0]}, "a"),
        ({"a": [{"b": "so"}]}, {"a": [{"b": "no"}]}, "a[0].b"),
        ({"a": "leverage 0.97 of 61"}, {"a": "leverage 0.95 of 61"}, "a"),
        ({"a": "leverage 0.97 of 61"}, {"a": "leverage 0.97 of 62"}, "a"),
    ],
)
def test_a_difference_is_found(old, new, path):
    for exact in (False, True):
        assert next(differences(old, new, exact))[0] == path


def test_what_another_machine_may_change():
    old = {"a": 0.123456789012, "b": "leverage 0.975 of 61", "c": 1e-17}
    new = {"a": 0.123456789019, "b": "leverage 0.976 of 61", "c": -3e-16}
    assert not list(differences(old, new))
    assert [one[0] for one in differences(old, new, exact=True)] == ["a", "b", "c"]
    assert (
        sealed({"exit": 0, "sha256": "", "json": [0.123456789012]})["rounded"]
        == (sealed({"exit": 0, "sha256": "", "json": [0.123456789019]})["rounded"])
    )


def test_the_order_of_keys_is_a_matter_of_bytes():
    old, new = {"exit": 0, "sha256": "1", "json": [{"a": 1}]}, {"exit": 0, "sha256": "2", "json": [{"a": 1}]}
    assert not list(differences(old, new))
    assert [one[0] for one in differences(old, new, exact=True)] == ["stdout"]


def test_a_difference_is_shown_by_its_place():
    assert show(("json[0].fit.a", 0.25, MISSING)) == "json[0].fit.a: 0.25 -> (missing)"


def test_an_answer_holds_exit_code_output_and_messages():
    told = answer("fit runs/nothing-there --json")
    assert told["exit"] == 3 and told["json"][0]["schema"] == "entlaw.error/1" and told["stderr"]
    assert "text" in answer("doctor runs/grpo-m-rl0")
