"""Responses to a data set's problems, a chunk at a time: sampled, graded, written, then the next.

Which problems and samples make a chunk depends on the settings alone, and so do its random numbers. What a resumed
evaluation adds is therefore what an undisturbed one would have added.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from entlaw.errors import OutOfMemory, UsageError
from entlaw.findings import Finding
from entlaw.suites.grade import Grader
from entlaw.suites.models import EngineName, Model, Responder, chat_wrap, lengths
from entlaw.suites.problems import ProblemSet, SuiteProblem
from entlaw.suites.store import ItemFile, StoredResponse, StoreSettings
from entlaw.train.rollout import Sampling


@dataclass(frozen=True)
class Decoding:
    """How responses are sampled; what is None is the data set's own."""

    max_tokens: int
    temperature: float | None = None
    samples: int | None = None
    """Of sampled sets; a greedy answer is always one."""
    top_p: float = 1.0
    seed: int = 12345
    batch: int = 32
    """Responses sampled, graded and saved at a time."""
    engine: EngineName = "hf"
    chat: bool | None = None

    def of(self, held: ProblemSet) -> tuple[float, int]:
        """Temperature and responses a problem of one set."""
        temperature = held.decode.temperature if self.temperature is None else self.temperature
        if temperature == 0:
            return 0.0, 1
        return temperature, self.samples or (held.decode.samples if held.decode.temperature else 1)


@dataclass(frozen=True)
class Chunk:
    """Problems ``first`` to ``last`` - 1, ``samples`` responses each, from number ``sample`` on."""

    first: int
    last: int
    sample: int
    samples: int

    def keys(self, problems: Sequence[SuiteProblem]) -> list[tuple[str, int]]:
        """Problem id and sample of each response, in the engine's order."""
        numbers = range(self.sample, self.sample + self.samples)
        return [(p.id, j) for p in problems[self.first : self.last] for j in numbers]


def chunks(problems: int, samples: int, batch: int) -> list[Chunk]:
    """All responses in pieces of at most ``batch``: several problems with all their samples, or a part of one's."""
    at_once = max(batch // samples, 1)
    step = min(samples, batch)
    return [
        Chunk(first, min(first + at_once, problems), start, min(step, samples - start))
        for first in range(0, problems, at_once)
        for start in range(0, samples, step)
    ]


@dataclass(frozen=True)
class Job:
    """One model on one data set.

    Attributes
    ----------
    prompts : tuple of str
        The problems as the engine gets them.
    room : tuple of int
        Tokens that the model's context leaves for each response.
    file : ItemFile
    """

    model: Model
    held: ProblemSet
    decoding: Decoding
    prompts: tuple[str, ...]
    room: tuple[int, ...]
    file: ItemFile

    @property
    def plan(self) -> list[Chunk]:
        """All chunks."""
        return chunks(len(self.held.problems), self.decoding.of(self.held)[1], self.decoding.batch)

    @property
    def missing(self) -> list[Chunk]:
        """Chunks that are not on the disk."""
        return [c for c in self.plan if any(k not in self.file.items for k in c.keys(self.held.problems))]

    def scores(self) -> np.ndarray:
        """Rewards, shape [problems, k]."""
        k = self.decoding.of(self.held)[1]
        found = [[self.file.items[p.id, j].reward for j in range(k)] for p in self.held.problems]
        return np.asarray(found, dtype=np.float64)

    def items(self) -> Iterator[StoredResponse]:
        """Responses in the problems' order."""
        for chunk in self.plan:
            for key in chunk.keys(self.held.problems):
                yield self.file.items[key]


def prepare(
    model: Model,
    held: ProblemSet,
    decoding: Decoding,
    grader: Grader,
    folder: Path,
    limit: int | None,
) -> tuple[Job, list[Finding]]:
    """A job with what is already there of it, and what there is to say, before anything is sampled.

    Raises
    ------
    UsageError
        The responses in ``folder`` were made under other settings; a prompt does not fit the model's context.
    UnreadableSource
        The file of responses is damaged.
    """
    wrap = chat_wrap(model.tokenizer, decoding.chat) if held.kind != "arithmetic" else None
    prompts = tuple(wrap(p.text) if wrap else p.text for p in held.problems)
    room = tuple(model.context - n for n in lengths(model, prompts))
    if room and min(room) < 1:
        i = int(np.argmin(room))
        raise UsageError(
            f"{held.member.name}, row {held.problems[i].row}: a prompt of {model.context - room[i]} tokens leaves "
            f"no room in a context of {model.context}",
            where=model.checkpoint,
            hint="leave this data set out of --suite for this model",
        )
    findings = []
    if held.kind != "arithmetic" and (short := sum(r < decoding.max_tokens for r in room)):
        what = (
            f"{model.label}, {held.member.name}: {short} of {len(room)} responses may not be {decoding.max_tokens} "
            f"tokens long, as the context of {model.context} leaves less"
        )
        findings.append(Finding("context-shortens", "info", what, value=short))
    file = ItemFile(
        folder / model.folder / f"{held.member.name}.jsonl",
        settings_of(model, held, decoding, grader, prompts, wrap is not None, limit),
    )
    plan = chunks(len(held.problems), decoding.of(held)[1], decoding.batch)
    file.keep([chunk.keys(held.problems) for chunk in plan])
    return Job(model, held, decoding, prompts, room, file), findings


def settings_of(
    model: Model,
    held: ProblemSet,
    decoding: Decoding,
    grader: Grader,
    prompts: Sequence[str],
    chat: bool,
    limit: int | None,
) -> StoreSettings:
    """All that a response and its reward depend on, by the names that error messages use."""
    temperature, samples = decoding.of(held)
    return {
        "model": str(Path(model.path).resolve()) if Path(model.path).exists() else model.path,
        "weights": model.identity,
        "data set": held.member.name,
        "part": held.member.part,
        "data checksum": held.checksum,
        "data revision": held.revision,
        "limit": limit if limit is not None and limit < held.total else "all",
        "prompt template": held.template,
        "chat template": "yes" if chat else "no",
        "prompts checksum": _checksum(prompts),
        "temperature": temperature,
        "samples": samples,
        "top-p": decoding.top_p,
        "max tokens": decoding.max_tokens,
        "stop": model.recipe.rollout.stop,
        "seed": decoding.seed,
        "batch": decoding.batch,
        "engine": decoding.engine,
        "dtype": model.recipe.policy.dtype,
        "checked by": grader.version(held.kind),
    }


def _checksum(texts: Sequence[str]) -> str:
    held = hashlib.blake2b(digest_size=12)
    for text in texts:
        held.update(text.encode("utf-8", "surrogatepass") + b"\0")
    return held.hexdigest()


def collect(job: Job, responder: Responder, grader: Grader, progress: Callable[[int], None]) -> None:
    """Sample, grade and write what is missing.

    Parameters
    ----------
    progress : callable
        Called with the number of responses of each chunk once it is on the disk.

    Raises
    ------
    CheckpointError
        A chunk could not be written.
    OutOfMemory
        The engine did.
    """
    with job.file.appending() as out:
        for chunk in job.missing:
            items = _sampled(job, chunk, responder, grader)
            job.file.append(out, items)
            progress(len(items))


def _sampled(job: Job, chunk: Chunk, responder: Responder, grader: Grader) -> list[StoredResponse]:
    held, decoding = job.held, job.decoding
    temperature, _ = decoding.of(held)
    asked = held.problems[chunk.first : chunk.last]
    limit = min(decoding.max_tokens, *job.room[chunk.first : chunk.last])
    sampling = Sampling(chunk.samples, limit, temperature, decoding.top_p)
    seed = (decoding.seed, zlib.crc32(held.member.name.encode()), chunk.first, chunk.sample)
    try:
        batch = responder.engine.generate(job.prompts[chunk.first : chunk.last], sampling, seed)
        responses = responder.decode(batch)
    except (RuntimeError, MemoryError) as error:
        raise _explained(error, job) from error
    finished = [bool(f) for f in batch.finished_B.tolist()]
    tokens = [int(n) for n in (batch.mask_BT > 0).sum(1).tolist()]
    behind = [p for p in asked for _ in range(chunk.samples)]
    grades = grader.grade(held, behind, responses, finished)
    keys = chunk.keys(held.problems)
    rows: list[Any] = list(zip(keys, behind, responses, finished, tokens, grades, strict=True))
    return [
        StoredResponse(key[0], p.row, key[1], text, ended, n, g.answer, g.verdict, g.reward, seed)
        for key, p, text, ended, n, g in rows
    ]


def _explained(error: BaseException, job: Job) -> BaseException:
    from entlaw.train.footprint import is_out_of_memory

    if not is_out_of_memory(error):
        return error
    return OutOfMemory(
        f"out of memory with {job.decoding.batch} responses at a time",
        where=f"{job.model.checkpoint}, {job.held.member.name}",
        why=str(error).splitlines()[0][:200] if str(error) else None,
        hint="a smaller --batch or --max-tokens needs less, as does --dtype bfloat16; what is done so far is kept, but "
        "belongs to these settings: give another -o with them",
    )
