"""Two ranks (gloo, FSDP2) are one rank: gradients, choices, responses, whole runs; and what happens when one dies.

The ranks run tests/distributed_worker.py once for most of the tests, which then look at what it found.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from entlaw.errors import UsageError
from entlaw.train import checkpoint, runner
from entlaw.train.distributed import World, joined
from tests.distributed_worker import CONTROLS, RUNS
from tests.ranks import ranks

WORKER = Path(__file__).parent / "distributed_worker.py"
TIMED = ("time/", "perf/")


def log(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def same_log(one, two, tolerance=1e-4):
    """Every metric of every step; the files hold six digits, and RMSNorm rounds to float32 inside."""
    assert [r["step"] for r in one] == [r["step"] for r in two]
    for a, b in zip(one, two, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            if not key.startswith(TIMED):
                assert b[key] == pytest.approx(a[key], rel=tolerance, abs=1e-6), (a["step"], key)


def weights(folder):
    return load_file(checkpoint.latest(folder).path / "policy" / "model.safetensors")


def same_weights(one, two, tolerance=1e-6):
    a, b = weights(one), weights(two)
    assert a.keys() == b.keys()
    for name in a:
        assert (a[name] - b[name]).abs().max() <= tolerance * a[name].abs().max(), name


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with what one rank did in this process and two ranks did in theirs."""
    folder = tmp_path_factory.mktemp("ranks")
    patch = pytest.MonkeyPatch()
    patch.setenv("ENTLAW_CACHE", str(folder / "cache"))
    for name, recipe in RUNS.items():
        runner.train(recipe, folder / "one" / name)
    runner.train(RUNS["ppo"], folder / "from-one")
    longer = replace(RUNS["ppo"], run=replace(RUNS["ppo"].run, steps=6))
    runner.train(longer, folder / "one" / "longer")
    for code, told in ranks(WORKER, "everything", folder):
        assert code == 0, told
    yield folder
    patch.undo()


@pytest.fixture(scope="module")
def found(world):
    """What each rank found."""
    return [json.loads((world / f"found-{r}.json").read_text()) for r in (0, 1)]


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("what", ["collectives", "rollouts"])
def test_exchanges_and_responses(found, rank, what):
    wrong = [name for name, right in found[rank][what].items() if not right]
    assert found[rank][what] and not wrong


@pytest.mark.parametrize("micro_batch", [0, 3])
@pytest.mark.parametrize("name", CONTROLS)
def test_the_gradient_is_that_of_one_rank(found, name, micro_batch):
    """Over a choice of tokens too: another token would move it by far more than rounding."""
    gap, metric, size = found[0]["updates"][f"{name}, micro-batch {micro_batch}"]
    assert size > 1e-3
    assert gap < 1e-12 * max(size, 1) and metric < 1e-10


@pytest.mark.parametrize("name", ["critic", "prime"])
def test_the_helpers_learn_the_same(found, name):
    gap, metric, _ = found[0]["updates"][name]
    assert gap < 1e-9 and metric < 1e-9


@pytest.mark.parametrize("name", RUNS)
def test_a_whole_run_is_that_of_one_rank(world, name):
    same_log(log(world / "one" / name), log(world / name))
    same_weights(world / "one" / name, world / name)


def test_two_ranks_go_on_from_one(world):
    same_log(log(world / "one" / "longer")[4:], log(world / "from-one")[4:])
    same_weights(world / "one" / "longer", world / "from-one")


def test_one_rank_goes_on_from_two(world, tmp_path):
    longer = replace(RUNS["ppo"], run=replace(RUNS["ppo"].run, steps=6))
    shutil.copytree(world / "ppo", tmp_path / "ppo")  # other tests look at what two ranks have left
    runner.train(longer, tmp_path / "ppo", resume=True)
    same_log(log(world / "one" / "longer")[4:], log(tmp_path / "ppo")[4:])
    same_weights(world / "one" / "longer", tmp_path / "ppo")


def test_only_one_rank_writes(world):
    path = checkpoint.latest(world / "grpo").path
    names = sorted(p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file())
    assert {"manifest.json", "state.pt", "policy/config.json", "policy/model.safetensors"} <= set(names)
    assert {"shards/__0_0.distcp", "shards/__1_0.distcp", "shards/.metadata"} <= set(names)
    config = json.loads((path / "policy" / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    checkpoint.verify(path)


def test_a_rank_that_is_killed_ends_the_other_with_a_clear_word(tmp_path, monkeypatch):
    monkeypatch.setenv("ENTLAW_CACHE", str(tmp_path / "cache"))
    first, second = ranks(WORKER, "dying", tmp_path)
    assert second[0] == -9
    assert first[0] == 3, first
    told = json.loads((tmp_path / "dying.json").read_text())
    assert told["type"] == "RankLost" and "--resume" in told["what"]
    newest = checkpoint.latest(tmp_path / "dying").path
    assert newest is not None and newest.name == "checkpoint-00000001"
    assert json.loads((tmp_path / "dying" / "run.json").read_text())["status"] == "failed"


# One process ------------------------------------------------------------------------------------


def test_shares_cover_everything_once():
    for size in (1, 2, 3, 7):
        for n in (0, 1, 5, 7, 20):
            parts = [World(r, size).share(n) for r in range(size)]
            assert [i for part in parts for i in range(n)[part]] == list(range(n))
            counts = World(0, size).shares(n)
            assert sum(counts) == n and max(counts) - min(counts) <= 1


def test_every_rank_makes_as_many_passes():
    from tests.train.common import tiny_batch, tiny_policy

    batch = tiny_batch(tiny_policy(), groups=3, k=3)
    for size in (2, 4, 11):
        for micro_batch in (0, 1, 2, 4):
            cuts = [list(World(r, size).pieces(batch, micro_batch)) for r in range(size)]
            assert len({len(cut) for cut in cuts}) == 1
            rows = [i for cut in cuts for piece in cut for i in range(9)[piece.where]]
            assert rows == list(range(9))
            assert all(len(piece.batch) >= 1 for cut in cuts for piece in cut)
            limit = micro_batch or 9
            assert all(len(piece.batch) <= limit for cut in cuts for piece in cut)


def test_several_ranks_want_no_single_device(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="one device"), joined("cuda:1"):
        pass


def test_one_rank_needs_no_group(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    with joined("cpu") as world:
        assert world == World() and not world.many
    assert not torch.distributed.is_initialized()
