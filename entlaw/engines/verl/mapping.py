"""A recipe as verl's settings: each of ours is translated, reported as unused, or refused; none is dropped silently.

verl's names are those of ``verl/trainer/config/ppo_trainer.yaml`` at 0.9.1. What verl does otherwise, at a setting that
is translated, is a finding. Algorithm, loss, controls and optimiser are in ``settings_update``; all else is here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from entlaw.engines.verl import settings_update
from entlaw.engines.verl.names import TRAINER, all_named, named
from entlaw.errors import UsageError
from entlaw.findings import Finding
from entlaw.train.recipe import changes, settings, show
from entlaw.train.schema import MODEL, ROLLOUT, Recipe
from entlaw.train.uses import CRITIC

PLAIN = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
"""A chat template that is none, for base models: verl sends every prompt through one."""
DTYPES = {"float32": "fp32", "bfloat16": "bf16"}


@dataclass(frozen=True)
class Cluster:
    """The GPUs that verl is given."""

    nodes: int = 1
    gpus: int = 8
    """Of each node."""

    @property
    def total(self) -> int:
        """All GPUs."""
        return self.nodes * self.gpus


@dataclass(frozen=True)
class VerlRun:
    """A run of verl.

    Attributes
    ----------
    settings : mapping
        verl's setting to its value; a name with a ``+`` in front is not in verl's own configuration.
    environment : mapping
        Variables that the run's processes are given.
    findings : tuple of Finding
        What verl does otherwise.
    """

    settings: Mapping[str, Any]
    environment: Mapping[str, str] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()


def plan(
    recipe: Recipe, cluster: Cluster, folder: Path, data: tuple[Path, Path | None], adds_bos: bool | None
) -> VerlRun:
    """Translate a recipe.

    Parameters
    ----------
    folder : Path
        Of the run: checkpoints go there.
    data : (Path, Path or None)
        Parquet files of :func:`entlaw.engines.verl.prepare.prepare`.
    adds_bos : bool or None
        Whether the model's tokenizer puts a beginning-of-sequence token in front of plain text; None: not known.

    Raises
    ------
    UsageError
        Everything that verl cannot do, in one message.
    """
    refuse(recipe, cluster)
    out: dict[str, Any] = dict(_run(recipe, cluster, folder))
    out |= dict(_rollout(recipe, data, adds_bos))
    out |= dict(settings_update.translate(recipe, cluster.total))
    out |= {name: value for name, value in all_named(recipe) if name not in out}
    found = [*unused_settings(recipe), *_findings(recipe, adds_bos), *settings_update.findings(recipe)]
    environment = {"WANDB_MODE": "offline"} if recipe.log.wandb == "offline" else {}
    if recipe.log.wandb != "off" and recipe.log.wandb_group:
        environment["WANDB_RUN_GROUP"] = recipe.log.wandb_group
    if recipe.log.tensorboard:
        environment["TENSORBOARD_DIR"] = str(folder / "tensorboard")
    if environment:
        # The trainer is a Ray actor, maybe on another node.
        out["+ray_kwargs.ray_init.runtime_env.env_vars"] = environment
    return VerlRun(out, environment, tuple(found))


def refuse(recipe: Recipe, cluster: Cluster) -> None:
    """Say what verl cannot do.

    Raises
    ------
    UsageError
        Everything in one message.
    """
    problems = [
        *refusals(recipe),
        *_rollout_refusals(recipe),
        *settings_update.refusals(recipe, cluster.total),
    ]
    if problems:
        listed = "".join(f"\n  {what}" for what in problems) if len(problems) > 1 else f" {problems[0]}"
        raise UsageError(
            f"verl cannot run this recipe:{listed}",
            hint="change these with --set, or run it by `entlaw train` (several GPUs: torchrun, or --ray)",
        )


def refusals(recipe: Recipe) -> Iterator[str]:
    """Settings without a counterpart that are not at their default; a critic's, where there is one."""
    for key, value in changes(recipe).items():
        s = settings()[key]
        if s.verl.how == "refused" and (CRITIC not in s.used or CRITIC.used(recipe)):
            yield f"{key} = {show(value)}: {s.verl.text}"


def unused_settings(recipe: Recipe) -> Iterator[Finding]:
    """Settings without a meaning that are not at their default; last those that mean nothing to us either."""
    changed = [(settings()[key], value) for key, value in changes(recipe).items()]
    for s, value in sorted(changed, key=lambda item: not item[0].has_effect(recipe)):
        if s.verl.how == "unused":
            yield Finding("verl-not-used", "info", f"{s.key} = {show(value)} is not used: {s.verl.text}")


def _rollout_refusals(recipe: Recipe) -> Iterator[str]:
    """What verl cannot do with model, data and rollout, one sentence each."""
    task, policy, rollout = recipe.task, recipe.policy, recipe.rollout
    if task.name == "arithmetic":
        yield 'task.name = "arithmetic": made-up sums are for the small models of `entlaw train`; name data sets'
    if not policy.path:
        yield "policy.path is empty: verl trains models of the hub or of a folder, not ours of the ladder"
    if policy.dtype == "float64":
        yield 'policy.dtype = "float64": verl\'s engines take float32 and bfloat16'
    if rollout.engine != "vllm":
        yield f'rollout.engine = "{rollout.engine}": verl samples by servers of its own; set rollout.engine="vllm"'
    if not rollout.max_prompt_tokens:
        yield "rollout.max_prompt_tokens = 0: verl wants a number; set it to the longest prompt, such as 2048"
    if not (recipe.run.device == "auto" or recipe.run.device == "cuda"):
        yield f'run.device = "{recipe.run.device}": verl places itself on all GPUs it is given'


def _findings(recipe: Recipe, adds_bos: bool | None) -> Iterator[Finding]:
    """What verl does otherwise there."""
    scaled = recipe.loss.aggregation in ("seq-mean-token-sum", "seq-mean-token-sum-norm")
    yield Finding(
        "verl-entropy",
        "warning" if scaled else "info",
        "verl's actor/entropy is at the rollout temperature and averaged as the loss is"
        + (", so that with this loss.aggregation it is not in nats per token" if scaled else ""),
        "entropies of other definitions are not comparable",
        "actor/entropy_kept, which the trainer adds, is a mean over tokens",
    )
    yield Finding(
        "verl-cut-responses",
        "info",
        "a truncated response is checked as it is: verl does not tell a reward function that it was truncated",
    )
    if not recipe.task.chat and adds_bos is None:
        yield Finding(
            "verl-bos",
            "warning",
            "the model's tokenizer is not available here, so prompts are written without a beginning-of-sequence token",
            "Llama and Mistral base models expect one; Qwen models have none",
            "put the model's folder into policy.path, or give access to the hub",
        )


def _run(recipe: Recipe, cluster: Cluster, folder: Path) -> Iterator[tuple[str, Any]]:
    """The trainer's frame: steps, logs, checkpoints, validation's rhythm, GPUs."""
    run, every = recipe.run, recipe.validation.every
    yield "trainer.v1.trainer_mode", TRAINER
    yield "+trainer.v1.entlaw.seed", run.seed
    yield from named(recipe, "log.covariance_shares")
    if recipe.watch.on:
        yield from named(recipe, *(key for key in settings() if key.startswith("watch.")))
    yield from named(recipe, "log.wandb_project")
    yield "trainer.experiment_name", run.name or folder.name
    loggers = ["console"] + ["wandb"] * (recipe.log.wandb != "off") + ["tensorboard"] * recipe.log.tensorboard
    yield "trainer.logger", loggers
    yield from named(recipe, "run.steps")
    # Also a limit, in passes through the data; the steps are to be the one that counts.
    yield "trainer.total_epochs", run.steps
    yield "trainer.nnodes", cluster.nodes
    yield "trainer.n_gpus_per_node", cluster.gpus
    yield "trainer.test_freq", every or -1
    yield "trainer.val_before_train", bool(every)
    yield from named(recipe, "checkpoint.every", "checkpoint.keep")
    yield "trainer.default_local_dir", str(folder / "checkpoints")
    yield "trainer.resume_mode", "auto"
    yield "hydra.run.dir", str(folder)
    yield "hydra.output_subdir", None


def _rollout(
    recipe: Recipe, data: tuple[Path, Path | None], adds_bos: bool | None
) -> Iterator[tuple[str, Any]]:
    """The settings of model, data, rollout and validation."""
    task, policy, rollout, vllm = recipe.task, recipe.policy, recipe.rollout, recipe.vllm
    train, validation = data
    yield "data.train_files", str(train)
    yield "data.val_files", str(validation or train)
    yield from named(recipe, "rollout.prompts", "rollout.max_prompt_tokens", "rollout.max_tokens")
    yield "data.filter_overlong_prompts", True
    yield "data.truncation", "error"
    yield "data.shuffle", True
    yield "data.seed", recipe.run.seed
    # Rewards
    yield "reward.custom_reward_function.path", "pkg://entlaw.engines.verl.reward"
    yield "reward.custom_reward_function.name", "compute_score"
    if task.format_weight:
        yield "+reward.custom_reward_function.reward_kwargs.format", task.format
        yield "+reward.custom_reward_function.reward_kwargs.format_weight", task.format_weight
    yield from named(recipe, "task.workers")
    # Model
    yield from named(recipe, "policy.path", "policy.gradient_checkpointing")
    if not task.chat:
        yield f"{MODEL}.custom_chat_template", ("{{ bos_token }}" if adds_bos else "") + PLAIN
    compute = "bfloat16" if policy.autocast or policy.dtype == "bfloat16" else "float32"
    for role in ("actor", "ref"):
        yield f"actor_rollout_ref.{role}.fsdp_config.model_dtype", DTYPES[policy.dtype]
        yield f"actor_rollout_ref.{role}.fsdp_config.dtype", compute
    # Sampling
    yield f"{ROLLOUT}.name", "vllm"
    yield from named(recipe, "rollout.group_size", "rollout.temperature", "rollout.top_p")
    yield f"{ROLLOUT}.top_k", rollout.top_k or -1
    yield f"{ROLLOUT}.seed", recipe.run.seed
    yield f"{ROLLOUT}.dtype", compute if vllm.dtype == "auto" else vllm.dtype
    yield from named(recipe, "vllm.memory_share", "vllm.tensor_parallel", "vllm.max_sequences")
    yield from named(recipe, "vllm.eager", "vllm.sleep")
    # Validation
    yield from named(recipe, "validation.samples", "validation.temperature", "validation.top_p")
    yield f"{ROLLOUT}.val_kwargs.do_sample", recipe.validation.temperature > 0
