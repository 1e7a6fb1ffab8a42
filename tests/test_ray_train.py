"""Ray Train for real: a local cluster, two workers, one of them killed in the middle; and what is refused."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import warnings
from dataclasses import replace
from pathlib import Path

import pytest

from entlaw.errors import MissingExtra, SourceNotFound, UsageError
from entlaw.train import checkpoint, ray_train, runner
from entlaw.train.schema import Checkpoint
from tests.distributed_worker import SMALL
from tests.test_distributed import log, same_log, same_weights

RECIPE = replace(
    SMALL,
    run=replace(SMALL.run, steps=12),
    checkpoint=Checkpoint(every=1),
    validation=replace(SMALL.validation, every=4),
)


def descendants(pid):
    """Processes below one, with their command lines."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            fields = (path / "stat").read_text().rpartition(")")[2].split()
            parents[int(path.name)] = (
                int(fields[1]),
                (path / "cmdline").read_bytes().decode(errors="replace"),
            )
        except OSError:
            continue
    found, wave = {}, {pid}
    while wave:
        wave = {p for p, (parent, _) in parents.items() if parent in wave} - found.keys()
        found |= {p: parents[p][1] for p in wave}
    return found


def train_workers():
    """Process ids of the Ray Train workers that this process's cluster runs."""
    return sorted(p for p, what in descendants(os.getpid()).items() if "RayTrainWorker" in what)


def test_without_ray_the_install_line_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(ray_train, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra) as error:
        ray_train.launch(RECIPE, tmp_path / "run")
    assert error.value.hint == "pip install 'entlaw[ray]'"


class TestCluster:
    @pytest.fixture(scope="class", autouse=True)
    def cluster(self, tmp_path_factory):
        pytest.importorskip("ray.train", reason="Ray is not installed: pip install 'entlaw[ray]'")
        patch = pytest.MonkeyPatch()
        patch.setenv("ENTLAW_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
        import ray

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Ray's own, about its future
            ray.init(
                address="local",
                num_cpus=2,
                include_dashboard=False,
                log_to_driver=False,
                runtime_env={"env_vars": {"ENTLAW_CACHE": os.environ["ENTLAW_CACHE"]}},
            )
            yield
            ray.shutdown()
        patch.undo()

    @pytest.mark.filterwarnings("ignore")
    def test_more_workers_than_there_is_room_for_are_refused(self, tmp_path):
        with pytest.raises(UsageError, match="2 CPUs for 3 workers"):
            ray_train.launch(RECIPE, tmp_path / "run", workers=3)

    @pytest.mark.slow  # a minute of starting processes; test_distributed.py trains on two ranks in the default run
    @pytest.mark.filterwarnings("ignore")
    def test_two_workers_train_what_one_process_trains(self, tmp_path):
        recipe, folder, seen = replace(RECIPE, run=replace(RECIPE.run, steps=2)), tmp_path / "ray", []
        runner.train(recipe, tmp_path / "whole")
        outcome = ray_train.launch(
            recipe, folder, workers=2, on_record=lambda step, record: seen.append(step)
        )
        assert outcome.status == "finished" and outcome.step == 2
        same_log(log(tmp_path / "whole"), log(folder))
        same_weights(tmp_path / "whole", folder)
        assert (checkpoint.latest(folder).path / "shards" / "__1_0.distcp").exists()
        assert seen == [0, 1, 2, 3] and not (folder / ".ray").exists()
        with pytest.raises(UsageError, match="holds a run already"):
            ray_train.launch(recipe, folder, workers=2)

    @pytest.mark.slow
    @pytest.mark.filterwarnings("ignore")
    def test_a_killed_worker_changes_nothing(self, tmp_path):
        runner.train(RECIPE, tmp_path / "whole")
        folder, killed, seen = tmp_path / "ray", [], []

        def kill():
            while not killed:
                newest = checkpoint.latest(folder).path if folder.is_dir() else None
                workers = train_workers()
                if newest is not None and newest.name >= "checkpoint-00000003" and len(workers) == 2:
                    os.kill(workers[-1], signal.SIGKILL)
                    killed.append((newest.name, workers))
                time.sleep(0.01)

        thread = threading.Thread(target=kill, daemon=True)
        thread.start()
        outcome = ray_train.launch(
            RECIPE, folder, workers=2, on_record=lambda step, record: seen.append(step)
        )
        assert killed and killed[0][0] < "checkpoint-00000012"
        assert outcome.status == "finished" and outcome.step == 12
        same_log(log(tmp_path / "whole"), log(folder))
        same_weights(tmp_path / "whole", folder)
        assert seen[0] == 0 and seen[-1] == 13 and not (folder / ".ray").exists()
        print(json.dumps({"killed at": killed[0][0]}), file=sys.stderr)

    @pytest.mark.slow
    @pytest.mark.filterwarnings("ignore")
    def test_an_error_of_the_training_itself_is_told_at_once(self, tmp_path):
        broken = replace(RECIPE, policy=replace(RECIPE.policy, path=str(tmp_path / "no-model")))
        with pytest.raises(SourceNotFound, match="no such folder"):
            ray_train.launch(broken, tmp_path / "run", workers=1)
