"""The writing half of `entlaw push`: what was assembled goes to the server, and is read back to be sure.

The SDK sends a summary whole (it reads it, changes it and replaces it), and an upload that fails may be told only
on stderr. So nothing is taken as written before the server gives it back.
"""

from __future__ import annotations

import base64
import hashlib
import json
import tempfile
import time
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from entlaw.errors import EntlawError, SourceNotFound, UsageError
from entlaw.report.wandb_push import (
    ARTIFACT_TYPE,
    DIGEST_KEY,
    FIGURES_KEY,
    JOB_TYPE,
    SCHEMA,
    SUMMARY_KEYS,
    TABLE_COLUMNS,
    TABLE_KEY,
    VALUES,
    Analysis,
    stale,
)
from entlaw.runs.wandb import client as patience
from entlaw.runs.wandb.client import Client
from entlaw.runs.wandb.sdk import ServerError, explain
from entlaw.runs.wandb.stored import Identity

LIVE = frozenset({"running", "pending", "preempting"})
WAIT = 300  # seconds for an artifact of some megabytes on a slow line
MOST_IMAGES = 100  # the SDK drops what is beyond 108 images of one key
Status = Literal["to write", "unchanged", "written", "partly written", "refused", "failed", "not tried"]


@dataclass(frozen=True)
class Write:
    """One thing to write, or what became of it.

    Attributes
    ----------
    what : {"summary", "analysis"}
    to : Identity
    status : str
    values : mapping
        Keys to what is to stand there; of an analysis run, what it holds.
    before : mapping
        What stands there now under the keys that will change.
    remove : tuple of str
        Keys of an earlier push that go.
    done : tuple of str
        Parts that are on the server.
    error : EntlawError or None
    """

    what: Literal["summary", "analysis"]
    to: Identity
    status: Status
    values: Mapping[str, Any] = field(default_factory=dict)
    before: Mapping[str, Any] = field(default_factory=dict)
    remove: tuple[str, ...] = ()
    done: tuple[str, ...] = ()
    error: EntlawError | None = None

    @property
    def where(self) -> str:
        """``entity/project/run_id``."""
        return str(self.to)

    def ended(self, status: Status, done: Iterable[str] = (), error: EntlawError | None = None) -> Write:
        """What became of it."""
        return replace(self, status=status, done=tuple(done), error=error)

    def as_dict(self) -> dict[str, Any]:
        """The same in schema ``entlaw.push/2``."""
        return {
            "what": self.what,
            "where": self.where,
            "status": self.status,
            "values": dict(self.values),
            "before": dict(self.before),
            "remove": list(self.remove),
            "done": list(self.done),
            "error": None if self.error is None else self.error.as_dict(),
        }


def plan_summary(client: Client, to: Identity, wanted: Mapping[str, Any], live: bool = False) -> Write:
    """What writing to a run's summary would change; asks, and writes nothing.

    Parameters
    ----------
    client : Client
    to : Identity
    wanted : mapping
        Of :func:`entlaw.report.wandb_push.summary`.
    live : bool
        Also when the run goes on.
    """
    try:
        run = client.run(to.entity, to.project, to.run_id)
        now = _summary(run)
    except SourceNotFound as error:
        error.hint = (
            "it was deleted, or its offline folder never synced (`wandb sync`); --to analysis needs no run"
        )
        return Write("summary", to, "failed", wanted, error=error)
    except EntlawError as error:
        return Write("summary", to, "failed", wanted, error=error)
    gone = tuple(stale(now, wanted))
    before = {key: now[key] for key in (*wanted, *gone) if key in now and now[key] != wanted.get(key)}
    if not gone and all(key in now and now[key] == value for key, value in wanted.items()):
        return Write("summary", to, "unchanged", wanted)
    if run.state in LIVE and not live:
        refused = UsageError(
            f"the run is {run.state}: its summary was not touched",
            where=str(to),
            why="its own process sends its summary whole, again and again, and removes what others have written",
            hint="push again when it has ended, use --to analysis, or write all the same with --even-running",
        )
        return Write("summary", to, "refused", wanted, before, gone, error=refused)
    return Write("summary", to, "to write", wanted, before, gone)


def write_summary(client: Client, write: Write) -> Write:
    """Write the keys of a plan into the run's summary, and read them back.

    The summary is read again right before, so that what changed since the plan was made is kept.
    """
    to, path = write.to, write.where
    try:
        run = client.run(to.entity, to.project, to.run_id)
        before = _summary(run)
        # A fresh summary object: one that was made before the run was read again would send old values.
        run._summary = None
        for key in write.remove:
            if key in before:
                del run.summary[key]
        client.call("writing the summary", path, lambda: run.summary.update(dict(write.values)))
        run = client.run(to.entity, to.project, to.run_id)
        after = _summary(run)
    except EntlawError as error:
        return write.ended("failed", error=error)
    wrong = [k for k, v in write.values.items() if after.get(k) != v] + [
        k for k in write.remove if k in after
    ]
    if wrong:
        trouble = ServerError(
            f"the server does not hold what was written: {', '.join(wrong[:4])}",
            where=path,
            why="another process writes this run's summary"
            if run.state in LIVE
            else "the server did not keep it",
            hint="push again when the run has ended; `entlaw push` only changes what differs",
        )
        return write.ended("failed", error=trouble)
    lost = [k for k in before if k not in SUMMARY_KEYS and k not in after]
    if lost:
        trouble = ServerError(
            f"keys are gone from the summary: {', '.join(lost[:4])}",
            where=path,
            transient=False,
            why="another process wrote the same summary at the same moment",
            hint="the histories of these keys are untouched; the run's process may write them again",
        )
        return write.ended("partly written", write.values, trouble)
    return write.ended("written", write.values)


def _summary(run: Any) -> dict[str, Any]:
    found = run.summary_metrics
    return dict(found) if isinstance(found, Mapping) else {}


def plan_analysis(client: Client, made: Analysis) -> Write:
    """What pushing the analysis run would write; asks, and writes nothing."""
    holds = {
        "sources": len(made.rows),
        "table": TABLE_KEY,
        "figures": len(made.figures),
        "artifact": f"{made.artifact} ({ARTIFACT_TYPE})",
        "files": sorted(made.files),
    }
    try:
        known = client.run_or_none(made.to.entity, made.to.project, made.to.run_id)
    except EntlawError as error:
        return Write("analysis", made.to, "failed", holds, error=error)
    if known is None:
        return Write("analysis", made.to, "to write", holds)
    digest = _summary(known).get(DIGEST_KEY)
    status: Status = "unchanged" if digest == made.digest and known.state == "finished" else "to write"
    return Write("analysis", made.to, status, holds, {} if digest is None else {DIGEST_KEY: digest})


def write_analysis(client: Client, made: Analysis, write: Write) -> Write:
    """Make or go on with the analysis run: table, figures, artifact, and last of all the digest of the whole.

    A push that broke off has no digest, so the next one does it again: under the same id, and with an artifact
    whose version is new only if its files are.
    """
    done: list[str] = []
    try:
        with tempfile.TemporaryDirectory(prefix="entlaw-push-", ignore_cleanup_errors=True) as folder:
            _log(client, made, Path(folder), done)
        _confirm(client, made, done)
    except EntlawError as error:
        return write.ended("partly written" if done else "failed", done, error)
    return write.ended("written", done)


def _log(client: Client, made: Analysis, folder: Path, done: list[str]) -> None:
    wandb, to, where = client.sdk, made.to, str(made.to)
    run: Any = None

    def explained(error: BaseException, what: str) -> EntlawError:
        return error if isinstance(error, EntlawError) else explain(error, what, where, to.host)

    try:
        run = wandb.init(
            entity=to.entity,
            project=to.project,
            id=to.run_id,
            name=made.name,
            job_type=JOB_TYPE,
            config=json.loads(json.dumps(made.config)),
            resume="allow",
            reinit="create_new",
            dir=str(folder),
            mode="online",
            allow_val_change=True,
            settings=_settings(client, to.host),
        )
    except Exception as error:  # the SDK raises its own errors, requests' and OSError
        raise explained(error, "making the analysis run") from error
    done.append("run")
    failed: BaseException | None = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the SDK's own, about its own ways
            run.log(_logged(wandb, made, folder))
            done.append("table and figures")
            artifact = wandb.Artifact(
                made.artifact, ARTIFACT_TYPE, metadata={"schema": SCHEMA, "runs": len(made.rows)}
            )
            for name, data in made.files.items():
                with artifact.new_file(name, mode="wb") as out:
                    out.write(data)
            run.log_artifact(artifact).wait(timeout=WAIT)
            done.append("artifact")
    except Exception as error:
        failed = error
    try:
        run.finish(exit_code=1 if failed else 0)
    except Exception as error:
        failed = failed or error
    if failed is not None:
        raise explained(failed, "uploading the analysis") from failed


def _logged(wandb: Any, made: Analysis, folder: Path) -> dict[str, Any]:
    kinds = {"run": str, "path": str} | dict(VALUES)
    logged: dict[str, Any] = {
        TABLE_KEY: wandb.Table(
            columns=list(TABLE_COLUMNS),
            data=made.rows,
            dtype=[kinds[c] for c in TABLE_COLUMNS],
            optional=True,
        )
    }
    images = []
    for number, (name, data) in enumerate(made.figures.items()):
        path = folder / f"figure-{number}.png"
        path.write_bytes(data)
        images.append(wandb.Image(str(path), caption=name))
    for start in range(0, len(images), MOST_IMAGES):
        key = FIGURES_KEY if start == 0 else f"{FIGURES_KEY}-{start // MOST_IMAGES + 1}"
        logged[key] = images[start : start + MOST_IMAGES]
    return logged


def _settings(client: Client, host: str) -> Any:
    """A quiet run that looks at nothing of this machine and gives up after some tries."""
    timeout = client.timeout
    retries = {
        f"x_{what}_{name}": value
        for what in ("graphql", "file_stream", "file_transfer")
        for name, value in (
            ("retry_max", patience.RETRIES),
            ("retry_wait_min_seconds", patience.WAIT[0]),
            ("retry_wait_max_seconds", patience.WAIT[1]),
            ("timeout_seconds", 10 * timeout if what == "file_transfer" else timeout),
        )
    }
    # The key that the client chose for this server: the SDK alone would send that of the configured one.
    return client.sdk.Settings(
        base_url=host,
        api_key=client.api.api_key,
        silent=True,
        console="off",
        disable_git=True,
        save_code=False,
        disable_code=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
        init_timeout=4 * timeout + 20,
        **retries,
    )


def _confirm(client: Client, made: Analysis, done: list[str]) -> None:
    """Read the run, its files and its artifact back; then mark it as complete.

    Raises
    ------
    ServerError
        Something that was sent is not there.
    """
    to, where = made.to, str(made.to)
    missing = ["?"]
    for wait in (0.0, 1.0, 3.0):  # a server may list an upload a moment after it took it
        time.sleep(wait)
        run = client.run(to.entity, to.project, to.run_id)
        missing = client.call("reading the run's files back", where, lambda run=run: _missing(run, made))  # type: ignore[misc]
        if not missing:
            break
    else:
        raise ServerError(
            f"the analysis run misses {', '.join(missing[:4])}",
            where=where,
            why="the upload of some files failed",
            hint="push again: it goes on with the same run",
        )
    name = f"{to.entity}/{to.project}/{made.artifact}:latest"
    artifact = client.call(
        "reading the artifact back", name, lambda: client.api.artifact(name, ARTIFACT_TYPE)
    )
    entries = client.call("reading the artifact back", name, lambda: artifact.manifest.entries)
    lost = sorted(
        file for file, data in made.files.items() if file not in entries or entries[file].digest != _md5(data)
    )
    if lost:
        raise ServerError(f"the artifact misses {', '.join(lost[:4])}", where=name, hint="push again")
    run._summary = None
    client.call("marking the run as complete", where, lambda: run.summary.update({DIGEST_KEY: made.digest}))
    done.append("read back")


def _missing(run: Any, made: Analysis) -> list[str]:
    """What of the table and the figures is not among the run's files and summary."""
    names = [file.name for file in run.files()]
    missing = [] if TABLE_KEY in _summary(run) else ["the table"]
    # The SDK names a picture after its contents, so one of an earlier push is not taken for that of this one.
    lost = [
        stem for stem, data in made.figures.items() if not any(_sha256(data)[:20] in name for name in names)
    ]
    return missing + [f"the figure of {stem}" for stem in lost]


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _md5(data: bytes) -> str:
    """A file's digest as the manifests of artifacts have it."""
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
