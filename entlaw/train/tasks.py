"""The task that a recipe names: made-up sums, or data sets with their verifiers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from entlaw.errors import SourceNotFound, UsageError
from entlaw.findings import Finding
from entlaw.tasks import Problem, Task, manifest
from entlaw.tasks.arithmetic import Arithmetic
from entlaw.train.schema import TaskSettings as TaskSettings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from entlaw.tasks.dataset_task import Checker, DatasetTask
    from entlaw.train.policy import LanguageModel

Tell = Callable[[Finding], None]


def build_task(
    settings: TaskSettings,
    tokenizer: PreTrainedTokenizerBase | None = None,
    on_finding: Tell = lambda finding: None,
) -> Task:
    """The task, its data read.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerBase, optional
        Has the chat template; needed where the recipe sets ``task.chat``.
    on_finding : callable
        Called with what was left out of the data.

    Raises
    ------
    UsageError, SourceNotFound, UnreadableSource, MissingSeries, MissingExtra
        As :func:`entlaw.tasks.dataset_task.dataset_task`; no sandbox for programming problems.
    """
    if settings.name == "arithmetic":
        return Arithmetic(
            settings.operations, settings.operators, settings.train_operations, settings.train_operators
        )
    names = [n.strip() for n in f"{settings.name},{settings.validation}".split(",") if n.strip()]
    code = any(manifest.get(name).kind == "code" for name in names)
    task = named_sets(
        settings,
        chat_wrap(tokenizer) if settings.chat else None,
        code_checker(settings.workers) if code else None,
    )
    for finding in task.findings:
        on_finding(finding)
    return task


def named_sets(
    settings: TaskSettings, wrap: Callable[[str], str] | None = None, checker: Checker | None = None
) -> DatasetTask:
    """The data sets that a recipe names, asked as it says; ``wrap`` and ``checker`` as :func:`dataset_task` has them.

    Raises
    ------
    UsageError, SourceNotFound, UnreadableSource, MissingSeries, MissingExtra
        As :func:`entlaw.tasks.dataset_task.dataset_task`.
    """
    from entlaw.tasks.dataset_task import dataset_task

    for key, path in (("task.data_dir", settings.data_dir), ("task.pass_rates", settings.pass_rates)):
        if path and not Path(path).exists():
            raise SourceNotFound(
                f"{key} names nothing that is there",
                where=path,
                hint="paths in a recipe are taken from the folder that the command runs in",
            )
    return dataset_task(
        settings.name,
        settings.validation,
        Path(settings.data_dir) if settings.data_dir else None,
        pass_rates=Path(settings.pass_rates) if settings.pass_rates else None,
        low=settings.pass_low,
        high=settings.pass_high,
        template=settings.template,
        wrap=wrap,
        workers=settings.workers,
        checker=checker,
    )


def chat_wrap(tokenizer: PreTrainedTokenizerBase | None) -> Callable[[str], str]:
    """From a user's message to the text that a model with a chat template answers.

    Raises
    ------
    UsageError
        The tokenizer has no chat template.
    """
    if tokenizer is None or not tokenizer.chat_template:
        raise UsageError(
            "task.chat = true, and the model's tokenizer has no chat template",
            where="" if tokenizer is None else str(tokenizer.name_or_path),
            hint="set task.chat = false, as for a base model",
        )

    def wrap(message: str) -> str:
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": message}], tokenize=False, add_generation_prompt=True
        )
        # Tokenizing the text adds the beginning-of-sequence token again.
        return str(text).removeprefix(tokenizer.bos_token or "") if _adds_bos(tokenizer) else str(text)

    return wrap


def with_stop(policy: LanguageModel, text: str) -> LanguageModel:
    """The policy with one more token that ends a response.

    Raises
    ------
    UsageError
        The text is not one token.
    """
    if not text:
        return policy
    ids = policy.tokenizer(text, add_special_tokens=False)["input_ids"]
    if len(ids) != 1:
        raise UsageError(
            f"rollout.stop = {text!r} is {len(ids)} tokens of this model, and must be one",
            hint="a line break is one token of most tokenizers",
        )
    return replace(policy, stop_ids=tuple(dict.fromkeys((*policy.stop_ids, ids[0]))))


def _adds_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    ids = tokenizer("")["input_ids"]
    return bool(ids) and ids[0] == tokenizer.bos_token_id


def code_checker(workers: int) -> Callable[[Sequence[Problem], Sequence[str]], Sequence[float]]:
    """Rewards of programs, run in the sandbox."""
    from entlaw.tasks.code import CodeVerifier, tests_of

    verifier = CodeVerifier()

    def check(problems: Sequence[Problem], responses: Sequence[str]) -> list[float]:
        items = [(r, tests_of(p)) for p, r in zip(problems, responses, strict=True)]
        return [verdict.reward for verdict in verifier.verify_batch(items, workers)]

    return check
