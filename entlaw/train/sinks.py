"""Metrics to W&B and TensorBoard, beside ``metrics.jsonl``: the same numbers, and never a reason for a run to stop.

A sink that fails says so once, through :mod:`logging`, and is silent from then on. Nothing starts before the first
record, so that a run which is refused leaves no trace elsewhere.
"""

from __future__ import annotations

import json
import logging
import queue
import threading
import time
import uuid
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from entlaw.errors import MissingExtra
from entlaw.files import write_whole
from entlaw.train.record import line
from entlaw.train.run_info import shareable

if TYPE_CHECKING:
    from entlaw.train.schema import Recipe

_log = logging.getLogger(__name__)
_START_SECONDS = 60.0
_FINISH_SECONDS = 45.0
_CLOSE_SECONDS = 60.0
# Records that wait for a slow W&B. Beyond that it is taken for dead: a run must not fill the memory.
_MOST_WAITING = 100_000
_ID_FILE = "wandb-id"


class Sink(Protocol):
    """Something that takes metrics beside the file."""

    def write(self, step: int, record: Mapping[str, Any]) -> None:
        """Take the metrics of one RL step."""

    def close(self, status: str) -> None:
        """The run is over: finished, stopped or failed."""


def sinks_of(recipe: Recipe, folder: Path) -> tuple[Sink, ...]:
    """The sinks that a recipe asks for (its table ``log``).

    Raises
    ------
    MissingExtra
        One of them is not installed.
    """
    log, name = recipe.log, recipe.run.name or folder.name
    made: list[Sink] = []
    if log.wandb != "off":
        from dataclasses import asdict

        config = {"framework": "entlaw", "recipe": asdict(recipe)}
        made.append(
            WandbSink(
                folder,
                mode=log.wandb,
                project=log.wandb_project,
                group=log.wandb_group,
                name=name,
                config=config,
            )
        )
    if log.tensorboard:
        made.append(TensorBoardSink(folder / "tensorboard"))
    return tuple(made)


def as_logged(record: Mapping[str, Any]) -> dict[str, float]:
    """A record's numbers as ``metrics.jsonl`` has them; what is null or text there is left out."""
    plain = json.loads(line(record))
    return {key: value for key, value in plain.items() if isinstance(value, (int, float))}


def _installed(module: str, what: str, install: str) -> None:
    if find_spec(module) is None:
        raise MissingExtra(
            f"{what} is not installed", hint=f"{install}, or switch it off in the recipe (log.*)"
        )


class WandbSink:
    """W&B, online or offline, from a thread of its own: neither its start nor its network holds training up.

    A run that goes on continues the same W&B run, whose id is kept in the folder.

    Parameters
    ----------
    folder : Path
        Of the run; W&B writes into ``folder/wandb``.
    mode : {"online", "offline"}
    config : mapping
        The recipe as plain data.

    Raises
    ------
    MissingExtra
    """

    def __init__(
        self,
        folder: Path,
        *,
        mode: Literal["online", "offline"],
        project: str,
        name: str,
        config: Mapping[str, Any],
        group: str = "",
    ) -> None:
        _installed("wandb", "W&B", "pip install wandb")
        self._folder, self._mode = folder, mode
        self._project, self._name, self._group = project, name, group or None
        self._config = shareable(config)
        self._queue: queue.Queue[dict[str, float] | str] = queue.Queue(_MOST_WAITING)
        self._thread: threading.Thread | None = None
        self._off = threading.Event()

    def write(self, step: int, record: Mapping[str, Any]) -> None:
        """Hand a record over; returns at once."""
        if self._off.is_set():
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="entlaw-wandb", daemon=True)
            self._thread.start()
        try:
            self._queue.put_nowait({**as_logged(record), "step": step})
        except queue.Full:
            self._give_up(f"{_MOST_WAITING} records wait for it")
        except Exception as error:  # whatever it is, training goes on
            self._give_up(error)

    def close(self, status: str) -> None:
        """Give W&B what is left and a minute to take it."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        if not self._off.is_set():
            try:
                self._queue.put(status, timeout=1)
            except queue.Full:
                self._give_up(f"{_MOST_WAITING} records wait for it")
        thread.join(_CLOSE_SECONDS if not self._off.is_set() else 1.0)
        if thread.is_alive():
            self._give_up(f"it did not finish within {_CLOSE_SECONDS:.0f} s")
        self._off.set()

    def _work(self) -> None:
        run = None
        try:
            run = self._start()
            while not self._off.is_set():
                item = self._queue.get()
                if isinstance(item, str):
                    run.summary["status"] = item
                    run.finish(exit_code=1 if item == "failed" else 0)
                    return
                run.log(item)
        except BaseException as error:  # W&B raises SystemExit, too
            self._give_up(error)

    def _start(self) -> Any:
        import wandb

        chosen: dict[str, Any] = {
            "init_timeout": _START_SECONDS,
            "login_timeout": 1,  # nobody sits at a terminal to type a key
            "finish_timeout": _FINISH_SECONDS,  # what is not sent by then stays on the disk, for `wandb sync`
            "finish_timeout_raises": True,
            "console": "off",
            "silent": True,
        }
        known = {k: v for k, v in chosen.items() if k in wandb.Settings.model_fields}  # older W&B lacks some
        run = wandb.init(
            project=self._project,
            name=self._name,
            group=self._group,
            dir=self._folder,
            config=self._config,
            id=self._id(),
            resume="allow" if self._mode == "online" else None,  # an offline part is joined when it is synced
            mode=self._mode,
            settings=wandb.Settings(**known),
        )
        run.define_metric("step", hidden=True)
        run.define_metric("*", step_metric="step")
        return run

    def _id(self) -> str:
        kept = self._folder / _ID_FILE
        if kept.is_file() and (text := kept.read_text().strip()):
            return text
        made = uuid.uuid4().hex[:12]
        write_whole(kept, f"{made}\n".encode())
        return made

    def _give_up(self, why: object) -> None:
        if not self._off.is_set():
            self._off.set()
            _give_up("W&B", why)


class TensorBoardSink:
    """TensorBoard event files, one for each part of a run, flushed with every record.

    Parameters
    ----------
    folder : Path
        Where the event files go; made with the first record.

    Raises
    ------
    MissingExtra
    """

    def __init__(self, folder: Path) -> None:
        _installed("tensorboard", "TensorBoard", "pip install 'entlaw[tensorboard]'")
        self._folder = folder
        self._writer: Any = None
        self._off = False

    def write(self, step: int, record: Mapping[str, Any]) -> None:
        """Write a record's scalars (TensorBoard holds them in single precision)."""
        if self._off:
            return
        try:
            from tensorboard.compat.proto import event_pb2, summary_pb2

            if self._writer is None:
                self._writer = self._start(step)
            values = [
                summary_pb2.Summary.Value(tag=key, simple_value=float(value))
                for key, value in as_logged(record).items()
                if key != "step"
            ]
            event = event_pb2.Event(
                wall_time=time.time(), step=step, summary=summary_pb2.Summary(value=values)
            )
            self._writer.write(event.SerializeToString())
            self._writer.flush()
        except Exception as error:  # whatever it is, training goes on
            self._off = True
            _give_up("TensorBoard", error)

    def _start(self, step: int) -> Any:
        from tensorboard.compat.proto import event_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._folder.mkdir(parents=True, exist_ok=True)
        parts = len(list(self._folder.glob("events.out.tfevents.*")))
        # TensorBoard reads the files of a folder in order of their names; the time comes first in them.
        name = f"events.out.tfevents.{int(time.time()):010d}.{parts:04d}.entlaw"
        writer = RecordWriter(open(self._folder / name, "xb"))  # noqa: SIM115 - closed by close()
        writer.write(event_pb2.Event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString())
        if parts:  # steps that are done again replace the earlier ones
            began = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            writer.write(
                event_pb2.Event(wall_time=time.time(), step=step, session_log=began).SerializeToString()
            )
        return writer

    def close(self, status: str) -> None:
        """Close the file; TensorBoard has no place for the status."""
        writer, self._writer = self._writer, None
        if writer is not None:
            try:
                writer.close()
            except Exception as error:
                if not self._off:
                    _give_up("TensorBoard", error)
        self._off = True


def _give_up(what: str, why: object) -> None:
    _log.warning(
        "%s takes no more metrics of this run: %s (metrics.jsonl is complete)",
        what,
        why or type(why).__name__,
    )
