"""The same training on a Ray cluster, through Ray Train: its workers are our ranks.

Each worker calls :func:`entlaw.train.runner.train`, unchanged, inside the process group that Ray Train made. The run's
folder must be on storage that all machines share: checkpoints and the log lie there and nowhere else. When a worker
dies, Ray Train ends the others and starts all anew, and they go on from the last checkpoint.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from entlaw.errors import EntlawError, MissingExtra, UsageError
from entlaw.files import write_whole
from entlaw.train import recipe as recipes
from entlaw.train.failure import RankLost, TrainingFailed, describe, revived
from entlaw.train.folder import has_records
from entlaw.train.schema import Recipe

if TYPE_CHECKING:
    from entlaw.train.runner import TrainingOutcome

# What workers on other machines need to find models, caches and the log's project; keys and tokens stay where they are.
_PASSED_ON = ("ENTLAW_", "HF_", "HUGGINGFACE_", "WANDB_", "TOKENIZERS_")
_SECRET = ("KEY", "TOKEN", "SECRET", "PASSWORD")
_PATIENCE_S = 3600


def launch(
    recipe: Recipe,
    folder: Path,
    address: str | None = None,
    workers: int = 2,
    *,
    resume: bool = False,
    restarts: int = 3,
    on_record: Callable[[int, dict[str, float]], None] = lambda step, record: None,
) -> TrainingOutcome:
    """Train as the recipe says on a Ray cluster, into a folder that all its machines share.

    Parameters
    ----------
    address : str, optional
        Of the cluster, as ``ray.init`` takes it (``auto``, ``ray://host:10001``, ``host:6379``); a Ray of this machine
        alone without one.
    workers : int
        Ranks; one GPU each where the cluster has GPUs and the recipe does not say cpu, else one CPU each.
    resume : bool
        Go on with the run in the folder; else it must hold none.
    restarts : int
        How often the workers are started anew when one of them dies.
    on_record : callable
        Called with each step and what was logged of it, as it appears in the folder.

    Raises
    ------
    MissingExtra, UsageError
        Ray is not installed; there is no cluster; it is too small; the folder holds a run already.
    TrainingFailed
        The training failed by itself, or workers died more than ``restarts`` times.
    """
    ray = _ray()
    if workers < 1:
        raise UsageError(f"--ray-workers {workers} is no number of workers", hint="give 1 or more")
    folder = folder.absolute()
    if not resume and has_records(folder):
        raise UsageError(
            "the folder holds a run already",
            where=str(folder),
            hint="continue it with --resume, or choose another folder with -o",
        )
    with _cluster(ray, address, workers):
        gpus = _resources(ray, recipe, workers)
        with _followed(folder / "metrics.jsonl", on_record):
            told = _fit(recipe, folder, workers, gpus=gpus, resume=resume, restarts=restarts)
    return _outcome(told, folder)


def _ray() -> Any:
    missing = [name for name in ("ray", "fsspec", "pydantic") if find_spec(name) is None]
    if missing:
        raise MissingExtra(
            f"training on a Ray cluster needs {' and '.join(missing)}", hint="pip install 'entlaw[ray]'"
        )
    # It reports home unless told not to; an own choice of the user's stays.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    return ray


@contextlib.contextmanager
def _cluster(ray: Any, address: str | None, workers: int) -> Iterator[None]:
    """A connection to the cluster, or a Ray of this machine, for the time of a run; one that is there is used."""
    if ray.is_initialized():
        yield
        return
    local = {} if address else {"num_cpus": max(workers, os.cpu_count() or 1), "include_dashboard": False}
    passed = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(_PASSED_ON) and not any(word in name for word in _SECRET)
    }
    try:
        ray.init(
            address=address or "local",
            log_to_driver=False,
            configure_logging=False,
            runtime_env={"env_vars": passed},
            **local,
        )
    except Exception as error:  # what cannot be reached is told in many ways
        raise UsageError(
            f"there is no Ray cluster to be used: {_first_line(error)}",
            where=address or "this machine",
            hint="give the address of a running one (`ray start --head` prints it), or none for this machine alone",
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _resources(ray: Any, recipe: Recipe, workers: int) -> bool:
    """Whether workers get GPUs; refuses what would wait for ever."""
    there = ray.cluster_resources()
    gpus = recipe.run.device != "cpu" and there.get("GPU", 0) > 0
    kind = "GPU" if gpus else "CPU"
    if there.get(kind, 0) < workers:
        raise UsageError(
            f"the cluster has {there.get(kind, 0):g} {kind}s for {workers} workers",
            hint=f"use --ray-workers {int(there.get(kind, 0))}, or add machines (`ray start --address ...`)",
        )
    return gpus


def _fit(
    recipe: Recipe, folder: Path, workers: int, *, gpus: bool, resume: bool, restarts: int
) -> dict[str, Any]:
    """Run the workers; returns what the first of them reported at its end."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    own = folder / ".ray"  # what Ray Train notes for itself; nothing of the run
    told = own / "outcome.json"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(own, ignore_errors=True)
    trainer = TorchTrainer(
        _work,
        train_loop_config={
            "recipe": recipes.to_dict(recipe),
            "folder": str(folder),
            "resume": resume,
            "told": str(told),
        },
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=gpus),
        run_config=RunConfig(
            name="train", storage_path=str(own), failure_config=FailureConfig(max_failures=restarts)
        ),
        torch_config=TorchConfig("cpu:gloo,cuda:nccl" if gpus else "gloo", timeout_s=_PATIENCE_S),
    )
    try:
        trainer.fit()
        found: dict[str, Any] = json.loads(told.read_text())
    except Exception as error:  # Ray Train's own wrappers around whatever happened
        raise TrainingFailed(
            f"the workers failed and were restarted {restarts} times at most: {_first_line(error)}",
            where=str(folder),
            why="a worker that dies again and again has a reason: memory, a machine, the code",
            hint="everything up to the last checkpoint is saved: continue with --resume",
        ) from error
    shutil.rmtree(own, ignore_errors=True)
    return found


def _work(config: dict[str, Any]) -> None:
    """What each worker does: train, from the last checkpoint if there is one."""
    from ray.train import get_context

    from entlaw.process import hush_deprecations
    from entlaw.train.runner import train

    hush_deprecations()
    folder, told = Path(config["folder"]), Path(config["told"])
    first = get_context().get_world_rank() == 0
    try:
        outcome = train(
            recipes.from_dict(config["recipe"]), folder, resume=config["resume"] or has_records(folder)
        )
        result = {**asdict(outcome), "folder": str(folder)}
    except RankLost:
        raise  # Ray Train starts all anew
    except EntlawError as error:  # all ranks have met it, and would again
        result = {"failed": describe(error)}
    gc.collect()  # Ray Train takes the process group down next: what holds on to it must be gone before
    if first:
        told.parent.mkdir(parents=True, exist_ok=True)
        write_whole(told, json.dumps(result).encode())


def _outcome(told: dict[str, Any], folder: Path) -> TrainingOutcome:
    from entlaw.train.runner import TrainingOutcome

    if "failed" in told:
        raise revived(told["failed"], 0)
    return TrainingOutcome(**{**told, "folder": folder})


@contextlib.contextmanager
def _followed(path: Path, on_record: Callable[[int, dict[str, float]], None]) -> Iterator[None]:
    """Each new line of a log given to ``on_record`` while the body runs; lines that are done again come again."""
    done = threading.Event()

    def follow() -> None:
        seen = path.stat().st_size if path.exists() else 0
        last = False
        while not last:
            last = done.wait(0.5)  # once more after the end, for the last lines
            with contextlib.suppress(OSError, ValueError):
                data = path.read_bytes()
                if len(data) < seen:  # cut at a checkpoint, by a restart
                    seen = len(data)
                whole = data[seen : data.rfind(b"\n") + 1]
                seen += len(whole)
                for line in whole.splitlines():
                    record = json.loads(line)
                    on_record(record.pop("step"), {k: v for k, v in record.items() if v is not None})

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
