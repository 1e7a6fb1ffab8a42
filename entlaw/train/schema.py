"""The recipe of a training run: every setting, and all that is known of it. Nothing else in the trainer has defaults.

One frozen dataclass a table of the TOML file; a field is a setting, with its default, what it is, its range and unit,
when it has an effect, and what verl and others call it (:func:`entlaw.train.settings.setting`). The table of controls
is in :mod:`entlaw.train.controls`. :mod:`entlaw.train.recipe` reads, overrides and checks recipes. An RL step is one
rollout and the updates made on it; ratios and shares are fractions, never percent.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from entlaw.train import uses
from entlaw.train.advantages import ESTIMATORS, Estimator
from entlaw.train.controls import ClipCov, Controls, KlCov
from entlaw.train.losses import LOSSES, PolicyLoss
from entlaw.train.settings import IDLE, IN_THE_DATA, TRANSLATED, not_used, refused, setting, table

__all__ = ["ClipCov", "Controls", "KlCov"]

_NAMES = r"[A-Za-z0-9_.\-]+(\s*,\s*[A-Za-z0-9_.\-]+)*"
# Where verl has the settings of the trained model, of any model, and of sampling.
ACTOR, MODEL, ROLLOUT = "actor_rollout_ref.actor", "actor_rollout_ref.model", "actor_rollout_ref.rollout"


@dataclass(frozen=True)
class RunSettings:
    """What the run is called and how long it goes on."""

    name: str = setting("", "Free text; the folder's name if empty.", verl=TRANSLATED, resumes=True)
    seed: int = setting(
        0,
        "Seed of everything random in RL: prompts, sampling, order of the mini-batches, choice of tokens.",
        range="[0, 2**63)",
        verl=TRANSLATED,
    )
    steps: int = setting(
        240,
        "RL steps.",
        range="[1, inf)",
        unit="RL steps",
        aliases="max_steps, total_training_steps",
        verl="trainer.total_training_steps",
        resumes=True,
    )
    device: str = setting(
        "auto",
        "auto (CUDA where there is one), cpu, cuda, cuda:1 ...",
        text=(r"auto|cpu|(cuda|mps|xpu)(:\d+)?", "auto, cpu, cuda, cuda:1 ..."),
        verl=TRANSLATED,
        resumes=True,
    )
    threads: int = setting(
        1,
        "CPU threads of torch; 0 leaves torch's choice.",
        range="[0, 4096]",
        verl=not_used("Ray and verl divide the processors"),
        resumes=True,
    )


@dataclass(frozen=True)
class TaskSettings:
    """What is asked and what is rewarded."""

    name: str = setting(
        "arithmetic",
        "arithmetic (made-up sums), or data sets by name, several separated by commas; `entlaw data "
        "list` shows them.",
        text=(_NAMES, "arithmetic, or names of data sets, separated by commas"),
        verl=IN_THE_DATA,
    )
    operations: tuple[int, ...] = setting(
        (2, 3, 4, 5, 6),
        "Difficulty levels: numbers of operations in a sum, drawn uniformly.",
        range="[1, 1000]",
        filled=True,
        used=uses.SUMS,
        verl=IDLE,
    )
    operators: str = setting(
        "+-*|^&",
        "Drawn uniformly: sum, difference, product, distance, power, square of the first plus the second.",
        text=(r"[+*|^&-]+", "one or more of + - * | ^ &"),
        used=uses.SUMS,
        verl=IDLE,
    )
    train_operations: tuple[int, ...] = setting(
        (),
        "Numbers of operations in the sums that are trained on; empty: as validated, which is also "
        "what warm-up shows.",
        range="[1, 1000]",
        used=uses.SUMS,
        verl=IDLE,
    )
    train_operators: str = setting(
        "",
        "Operators of the sums that are trained on; empty: as validated.",
        text=(r"[+*|^&-]*", "some of + - * | ^ &, or nothing"),
        used=uses.SUMS,
        verl=IDLE,
    )
    reward: Literal["correct", "random"] = setting(
        "correct",
        "random: a coin flip, whatever the answer; it shows what the optimiser alone does.",
        verl=refused("coin-flip rewards are a control of `entlaw train`"),
    )
    validation: str = setting(
        "",
        "Data sets to validate on; empty: one training problem in ten is held out.",
        text=(rf"({_NAMES})?", "names of data sets, separated by commas"),
        used=uses.DATA_SET,
        verl=IN_THE_DATA,
    )
    template: str = setting(
        "",
        "How a data set's question is asked, {question} in it being the question; empty: as the data "
        "set's entry says.",
        used=uses.DATA_SET,
        verl=IN_THE_DATA,
    )
    data_dir: str = setting(
        "", "Folder that holds the data sets as files; empty: the hub.", used=uses.DATA_SET, verl=IN_THE_DATA
    )
    pass_rates: str = setting(
        "",
        "File of earlier pass rates (columns pass_rate and question or id): the difficulty filter "
        "before training.",
        used=uses.DATA_SET,
        verl=IN_THE_DATA,
    )
    pass_low: float = setting(
        0.0,
        "Problems with a pass rate up to this are dropped.",
        range="[0, 1]",
        used=(uses.DATA_SET, uses.PASS_RATES),
        verl=IN_THE_DATA,
    )
    pass_high: float = setting(
        1.0,
        "Problems with a pass rate from this are dropped.",
        range="[0, 1]",
        used=(uses.DATA_SET, uses.PASS_RATES),
        verl=IN_THE_DATA,
    )
    chat: bool = setting(
        False, "Put each prompt into the tokenizer's chat template, as a user's message.", verl=TRANSLATED
    )
    workers: int = setting(
        1, "Processes that check answers.", range="[1, 4096]", used=uses.DATA_SET, verl="reward.num_workers"
    )
    format: Literal["one-box", "box-last", "thought"] = setting(
        "one-box",
        "What task.format_weight rewards: exactly one box; a box at the end; one <think> part before "
        "the answer.",
        used=uses.FORMAT,
        verl=TRANSLATED,
    )
    format_weight: float = setting(
        0.0,
        "Weight of a reward for the form of a response; it is added to the training reward, never to "
        "an accuracy.",
        range="[0, 1]",
        used=uses.FORMAT,
        verl=TRANSLATED,
    )


@dataclass(frozen=True)
class Policy:
    """The language model that is trained."""

    path: str = setting(
        "",
        "Hub id or folder of a Hugging Face causal LM; empty: one of the ladder, built from scratch.",
        aliases="model",
        verl=f"{MODEL}.path",
    )
    size: Literal["xs", "s", "m", "l", "xl"] = setting(
        "m",
        "Rung of the ladder: about 18 k, 48 k, 134 k, 373 k, 1 M parameters.",
        used=uses.LADDER,
        verl=not_used("a model by path has its own"),
    )
    family: Literal["llama", "qwen2"] = setting(
        "llama",
        "Class of the ladder's models.",
        used=uses.LADDER,
        verl=not_used("a model by path has its own"),
    )
    seed: int = setting(
        0,
        "Seed of the initial weights and the warm-up: two runs with the same one start from the same "
        "base policy.",
        range="[0, 2**63)",
        used=uses.LADDER,
        verl=not_used("a model by path is not warmed up"),
    )
    dtype: Literal["float32", "bfloat16", "float64"] = setting(
        "float32", "Type of the weights; statistics are float32 at least, whatever this is.", verl=TRANSLATED
    )
    autocast: bool = setting(False, "Run matrix products in bfloat16 with float32 weights.", verl=TRANSLATED)
    gradient_checkpointing: bool = setting(
        False,
        "Compute activations again in the backward pass: less memory, more time.",
        verl=f"{MODEL}.enable_gradient_checkpointing",
    )


@table(used=uses.LADDER, verl=IDLE)
@dataclass(frozen=True)
class Warmup:
    """Supervised warm-up of a ladder model: first clean worked answers, then an unsure mixture."""

    clean_steps: int = setting(1400, "Steps of the first phase.", range="[0, inf)", unit="steps")
    clean_lr: float = setting(
        2e-3,
        "Learning rate of the first phase: rises over the first steps, then falls linearly to zero; "
        "one for all sizes.",
        range="(0, inf)",
    )
    noisy_steps: int = setting(150, "Steps of the second phase.", range="[0, inf)", unit="steps")
    noisy_lr: float = setting(1e-3, "Learning rate of the second phase.", range="(0, inf)")
    lr_warmup: int = setting(
        50, "Steps of rising learning rate in the first phase.", range="[0, inf)", unit="steps"
    )
    betas: tuple[float, float] = setting((0.9, 0.98), "AdamW's betas in the warm-up.", range="[0, 1)")
    batch_size: int = setting(64, "Demonstrations in each step.", range="[1, inf)")
    chain_share: float = setting(
        0.5,
        "In the second phase: share of demonstrations that are worked step by step; the others are "
        "bare answers.",
        range="[0, 1]",
    )
    slip: float = setting(
        0.1, "In the second phase: probability that a result is replaced by a random digit.", range="[0, 1]"
    )


@dataclass(frozen=True)
class Rollout:
    """How responses are sampled."""

    engine: Literal["hf", "vllm", "vllm-process"] = setting(
        "hf",
        "hf: the trained model itself; vllm: vLLM in this process; vllm-process: vLLM in one of its "
        "own, on GPUs of its own.",
        verl=TRANSLATED,
    )
    prompts: int = setting(
        64, "Prompts in each RL step.", range="[1, inf)", unit="prompts", verl="data.train_batch_size"
    )
    group_size: int = setting(
        8,
        "Responses to each prompt.",
        range="[1, inf)",
        unit="responses",
        aliases="num_generations, n",
        verl=f"{ROLLOUT}.n",
    )
    temperature: float = setting(
        1.0, "Sampling temperature.", range="(0, inf)", verl=f"{ROLLOUT}.temperature"
    )
    top_p: float = setting(
        1.0,
        "Sample from the most likely tokens that have this probability together; 1: from all.",
        range="(0, 1]",
        verl=f"{ROLLOUT}.top_p",
    )
    top_k: int = setting(
        0, "Sample from this many of the most likely tokens; 0: from all.", range="[0, inf)", verl=TRANSLATED
    )
    max_tokens: int = setting(
        6,
        "Longest response, end-of-sequence token included.",
        range="[1, inf)",
        unit="tokens",
        aliases="max_new_tokens, max_completion_length",
        verl="data.max_response_length",
    )
    stop: str = setting(
        "",
        "Text of one token that ends a response too, such as a line break.",
        verl=refused("verl's single-turn loop ends a response at the model's own end-of-sequence token"),
    )
    max_prompt_tokens: int = setting(
        0,
        "Prompts longer than this are dropped before training, with a count; 0: what the model's "
        "context leaves.",
        range="[0, inf)",
        unit="tokens",
        verl="data.max_prompt_length",
    )
    batch: int = setting(
        0,
        "Responses sampled at once; 0: all.",
        range="[0, inf)",
        unit="responses",
        verl=not_used("verl's engine chooses its own batches"),
    )


@table(used=uses.VLLM)
@dataclass(frozen=True)
class Vllm:
    """The vLLM engine, where rollout.engine names it."""

    dtype: Literal["auto", "bfloat16", "float32", "float16"] = setting(
        "auto",
        "Type of its copy of the weights; auto: bfloat16 with policy.autocast, else policy.dtype.",
        verl=TRANSLATED,
    )
    memory_share: float = setting(
        0.4,
        "Share of each GPU's memory for weights and key-value cache.",
        range="(0, 1]",
        verl=f"{ROLLOUT}.gpu_memory_utilization",
    )
    kv_cache_gb: float = setting(
        1.0,
        "Key-value cache on a CPU.",
        range="(0, inf)",
        unit="GB",
        verl=not_used("on a GPU the cache takes what vllm.memory_share leaves"),
    )
    tensor_parallel: int = setting(
        1,
        "GPUs a copy of the model is split over.",
        range="[1, 4096]",
        unit="GPUs",
        verl=f"{ROLLOUT}.tensor_model_parallel_size",
    )
    max_sequences: int = setting(
        256,
        "Most responses sampled at once.",
        range="[1, inf)",
        unit="responses",
        verl=f"{ROLLOUT}.max_num_seqs",
    )
    eager: bool = setting(
        True,
        "Neither compile nor capture graphs: starts in seconds, samples slower on a GPU.",
        verl=f"{ROLLOUT}.enforce_eager",
    )
    sleep: bool = setting(
        False,
        "Free the engine's GPU memory while the policy is updated (engine vllm).",
        verl=f"{ROLLOUT}.free_cache_engine",
    )
    devices: str = setting(
        "",
        "CUDA devices of engine vllm-process, as in CUDA_VISIBLE_DEVICES; empty: those behind the trainer's.",
        text=(r"(\d+(,\d+)*)?", "numbers of CUDA devices, separated by commas"),
        used=uses.VLLM_PROCESS,
        verl=refused("verl places its engines itself"),
    )
    sync: Literal["auto", "nccl", "file"] = setting(
        "auto",
        "How weights reach engine vllm-process; auto: nccl where both have a GPU, else a file in "
        "shared memory.",
        used=uses.VLLM_PROCESS,
        verl=refused("verl transfers weights in its own way"),
    )


@dataclass(frozen=True)
class Algorithm:
    """How rewards become advantages."""

    name: str = setting(
        "grpo",
        "How advantages are estimated.",
        choices=lambda: ESTIMATORS,
        aliases="adv_estimator",
        verl=TRANSLATED,
    )
    filter_groups: bool = setting(
        True,
        "Drop prompts whose responses are all right or all wrong from the update (not from the "
        "measurements).",
        verl=TRANSLATED,
    )
    max_refills: int = setting(
        0,
        "DAPO's dynamic sampling: at most this many further rollouts to replace dropped prompts.",
        range="[0, inf)",
        verl=TRANSLATED,
    )
    baseline: Literal["none", "batch-mean"] = setting(
        "batch-mean", "Baseline of REINFORCE.", used=uses.BASELINE, verl=TRANSLATED
    )
    gamma: float = setting(
        1.0, "Discount of later rewards.", range="[0, 1]", used=uses.GAMMA, verl="algorithm.gamma"
    )
    lam: float = setting(
        1.0,
        "Lambda of PPO's generalised advantage estimation.",
        range="[0, 1]",
        used=uses.CRITIC,
        verl="algorithm.lam",
    )
    whiten: bool = setting(
        True,
        "PPO: advantages to mean 0 and standard deviation 1 over the batch's tokens.",
        used=uses.CRITIC,
        verl=refused("verl whitens PPO's advantages always"),
    )


@table(used=uses.CRITIC)
@dataclass(frozen=True)
class CriticSettings:
    """PPO's value function: a copy of the base policy with a scalar head."""

    lr: float = setting(1e-3, "Learning rate of the critic.", range="(0, inf)", verl="critic.optim.lr")
    warmup_steps: int = setting(
        0,
        "RL steps in which only the critic learns.",
        range="[0, inf)",
        unit="RL steps",
        verl="trainer.critic_warmup",
    )
    value_clip: float = setting(
        0.5,
        "Largest move of a value away from the rollout's before its loss stops pulling; 0: none.",
        range="[0, inf)",
        verl="critic.cliprange_value",
    )
    epochs: int = setting(
        1, "Passes over each rollout to update the critic.", range="[1, inf)", verl="critic.ppo_epochs"
    )


@table(used=uses.PRIME, verl=IDLE)
@dataclass(frozen=True)
class Prime:
    """PRIME's implicit process reward model: a copy of the base policy, trained online on outcomes."""

    lr: float = setting(
        6e-4,
        "Twice the policy's, as in the paper; slower, the policy learns to please a model that knows "
        "nothing yet.",
        range="(0, inf)",
    )
    beta: float = setting(
        0.05,
        "Scale of the process rewards: each is beta times the log-ratio to the base policy.",
        range="(0, inf)",
    )
    process_weight: float = setting(5.0, "Weight of the process rewards in the advantage.", range="[0, inf)")
    outcome_weight: float = setting(5.0, "Weight of the outcome rewards in the advantage.", range="[0, inf)")
    update: Literal["before", "after"] = setting(
        "before", "Whether the reward model learns from a rollout before or after it scores it."
    )


@dataclass(frozen=True)
class Loss:
    """The policy loss and how the batch is cut."""

    kind: str = setting(
        "ppo_clip",
        "Which policy loss; policy_gradient is importance-weighted, without any clip.",
        choices=lambda: LOSSES,
        verl=TRANSLATED,
    )
    clip_ratio_low: float = setting(
        0.2,
        "The clip keeps the probability ratio above 1 minus this.",
        range="[0, 1]",
        used=(uses.CLIP, uses.OWN_CLIP),
        verl=TRANSLATED,
    )
    clip_ratio_high: float = setting(
        0.2,
        "The clip keeps the probability ratio below 1 plus this. Larger than clip_ratio_low: clip-higher.",
        range="[0, inf)",
        used=(uses.CLIP, uses.OWN_CLIP),
        verl=TRANSLATED,
    )
    clip_ratio_c: float = setting(
        0.0,
        "Dual clip for negative advantages, above 1; 0: off.",
        range="[0, inf)",
        used=uses.OWN_CLIP,
        verl=f"{ACTOR}.clip_ratio_c",
    )
    aggregation: Literal[
        "token-mean", "seq-mean-token-mean", "seq-mean-token-sum", "seq-mean-token-sum-norm"
    ] = setting(
        "token-mean",
        "How the losses of the tokens become one number.",
        aliases="loss_agg_mode",
        verl=f"{ACTOR}.loss_agg_mode",
    )
    mini_batches: int = setting(
        4, "Optimiser steps in each epoch over a rollout.", range="[1, inf)", verl=TRANSLATED
    )
    epochs: int = setting(
        1,
        "Passes over each rollout to update the policy.",
        range="[1, inf)",
        aliases="ppo_epochs",
        verl=f"{ACTOR}.ppo_epochs",
    )
    micro_batch: int = setting(
        0,
        "Responses in each forward pass; 0: the whole mini-batch. Changes memory, not the result.",
        range="[0, inf)",
        unit="responses",
        verl=TRANSLATED,
    )
    rollout_correction: Literal["none", "token", "sequence"] = setting(
        "none",
        "Truncated importance sampling: weight the loss by min(p_trainer / p_engine, rollout_cap), a "
        "token's or its whole response's, where an engine of its own samples with other rounding.",
        verl=TRANSLATED,
    )
    rollout_cap: float = setting(
        2.0,
        "Largest importance weight.",
        range="(0, inf)",
        used=uses.CORRECTION,
        verl="algorithm.rollout_correction.rollout_is_threshold",
    )


@dataclass(frozen=True)
class Optimizer:
    """AdamW."""

    lr: float = setting(
        3e-4,
        "The ladder's runs use 3e-4 * 64 / hidden size: wider models move further by the same step.",
        range="(0, inf)",
        aliases="learning_rate",
        verl=f"{ACTOR}.optim.lr",
    )
    betas: tuple[float, float] = setting(
        (0.9, 0.999), "AdamW's betas.", range="[0, 1)", verl=f"{ACTOR}.optim.betas"
    )
    eps: float = setting(1e-8, "AdamW's epsilon.", range="(0, inf)", verl=TRANSLATED)
    weight_decay: float = setting(
        0.0, "AdamW's weight decay.", range="[0, inf)", verl=f"{ACTOR}.optim.weight_decay"
    )
    grad_clip: float = setting(
        1.0,
        "Largest gradient norm; 0: no clipping.",
        range="[0, inf)",
        aliases="max_grad_norm",
        verl=TRANSLATED,
    )
    warmup_steps: int = setting(
        0,
        "Optimiser steps of linear warm-up of the learning rate.",
        range="[0, inf)",
        unit="optimiser steps",
        verl=TRANSLATED,
    )


@dataclass(frozen=True)
class Validation:
    """Measuring the policy on held-out problems, the same ones with the same random numbers every time."""

    every: int = setting(
        4,
        "RL steps between validations; also before the first and after the last. 0: never.",
        range="[0, inf)",
        unit="RL steps",
        aliases="test_freq",
        verl=TRANSLATED,
    )
    problems: int = setting(
        512,
        "How many of the held-out problems are asked.",
        range="[1, inf)",
        unit="problems",
        used=uses.VALIDATION,
        verl=IN_THE_DATA,
    )
    samples: int = setting(
        2,
        "Responses to each problem.",
        range="[1, inf)",
        unit="responses",
        used=uses.VALIDATION,
        verl=f"{ROLLOUT}.val_kwargs.n",
    )
    temperature: float = setting(
        1.0,
        "Sampling temperature; 0: greedy.",
        range="[0, inf)",
        used=uses.VALIDATION,
        verl=f"{ROLLOUT}.val_kwargs.temperature",
    )
    top_p: float = setting(
        1.0, "As in the rollout.", range="(0, 1]", used=uses.VALIDATION, verl=f"{ROLLOUT}.val_kwargs.top_p"
    )
    seed: int = setting(
        12345,
        "Seed of the problems and the sampling; not the run's seed, so that runs are compared on one test.",
        range="[0, 2**63)",
        used=uses.VALIDATION,
        verl=not_used("it chooses the problems; the sampling of a validation is seeded by verl"),
    )


@table(resumes=True)
@dataclass(frozen=True)
class Checkpoint:
    """Saving, to go on after a stop."""

    every: int = setting(
        1,
        "RL steps between checkpoints; what was done since the last one is done again after a kill.",
        range="[1, inf)",
        unit="RL steps",
        aliases="save_freq",
        verl="trainer.save_freq",
    )
    keep: int = setting(
        2,
        "How many checkpoints to keep, the newest ones; with one, a damaged file ends the run.",
        range="[1, inf)",
        verl="trainer.max_actor_ckpt_to_keep",
    )


@table(resumes=True)
@dataclass(frozen=True)
class Log:
    """Where metrics go beside metrics.jsonl."""

    wandb: Literal["off", "online", "offline"] = setting("off", "Log to Weights & Biases.", verl=TRANSLATED)
    wandb_project: str = setting("entlaw", "Project there.", used=uses.WANDB, verl="trainer.project_name")
    wandb_group: str = setting("", "Group there; empty: none.", used=uses.WANDB, verl=TRANSLATED)
    tensorboard: bool = setting(False, "Write files for TensorBoard.", verl=TRANSLATED)
    covariance_shares: tuple[float, ...] = setting(
        (0.0002, 0.002, 0.02, 0.2, 0.5),
        "Top shares of tokens whose mean covariance is logged (paper, Table 1).",
        range="(0, 1]",
        verl="+trainer.v1.entlaw.shares",
    )


@table(resumes=True, used=uses.WATCH)
@dataclass(frozen=True)
class Watch:
    """The law, fitted to the run so far after each validation and logged as entlaw/*; it may end the run."""

    on: bool = setting(
        False,
        "Whether to watch. Off by default, so that logs keep their keys; each evaluation takes tens of milliseconds.",
        verl="+trainer.v1.entlaw.watch.on",
    )
    every: int = setting(
        1,
        "Validations between fits.",
        range="[1, inf)",
        unit="validations",
        verl="+trainer.v1.entlaw.watch.every",
    )
    target: float = setting(
        0.0,
        "Target performance; the verdict states whether the ceiling is below it. 0: none.",
        range="[0, 1]",
        verl="+trainer.v1.entlaw.watch.target",
    )
    stop_when: str = setting(
        "",
        "Rule that ends the run, as in P(gain > 1%) < 0.05; empty: none.",
        verl="+trainer.v1.entlaw.watch.stop_when",
    )
    level: float = setting(
        0.95, "Level of the intervals.", range="(0, 1)", verl="+trainer.v1.entlaw.watch.level"
    )
    performance: str = setting(
        "",
        "Key that is taken for the performance; empty: as `entlaw fit` chooses.",
        verl="+trainer.v1.entlaw.watch.performance",
    )


@dataclass(frozen=True)
class Recipe:
    """A whole run."""

    run: RunSettings = field(default_factory=RunSettings)
    task: TaskSettings = field(default_factory=TaskSettings)
    policy: Policy = field(default_factory=Policy)
    warmup: Warmup = field(default_factory=Warmup)
    rollout: Rollout = field(default_factory=Rollout)
    vllm: Vllm = field(default_factory=Vllm)
    algorithm: Algorithm = field(default_factory=Algorithm)
    critic: CriticSettings = field(default_factory=CriticSettings)
    prime: Prime = field(default_factory=Prime)
    loss: Loss = field(default_factory=Loss)
    controls: Controls = field(default_factory=Controls)
    optimizer: Optimizer = field(default_factory=Optimizer)
    validation: Validation = field(default_factory=Validation)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    log: Log = field(default_factory=Log)
    watch: Watch = field(default_factory=Watch)

    @property
    def estimator(self) -> Estimator:
        """The advantage estimator that it names."""
        return ESTIMATORS[self.algorithm.name]

    @property
    def policy_loss(self) -> PolicyLoss:
        """The policy loss that it names."""
        return LOSSES[self.loss.kind]

    @property
    def needs_reference(self) -> bool:
        """Whether the base policy's log-probs are needed: by a control, or by PRIME's reward model."""
        return self.estimator.reward_model or any(c.needs_reference for c in self.controls.active())
