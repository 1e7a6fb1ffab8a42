"""The recipe of a training run: every setting, its default, its unit. Nothing else in the trainer has defaults.

One frozen dataclass a table of the TOML file; :mod:`entlaw.train.recipe` reads, overrides and checks them. An RL
step is one rollout and the updates made on it; ratios and shares are fractions, never percent.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Run:
    """What the run is called and how long it goes on."""

    name: str = ""
    """Free text; the folder's name if empty."""
    seed: int = 0
    """Of everything random in RL: prompts, sampling, order of the mini-batches, choice of tokens."""
    steps: int = 240
    """RL steps."""
    device: str = "auto"
    """auto (CUDA where there is one), cpu, cuda, cuda:1 ..."""
    threads: int = 1
    """CPU threads of torch; 0 leaves torch's choice."""


@dataclass(frozen=True)
class Task:
    """What is asked and what is rewarded."""

    name: str = "arithmetic"
    """arithmetic (made-up sums), or data sets by name, several separated by commas; `entlaw data list` shows them."""
    operations: tuple[int, ...] = (2, 3, 4, 5, 6)
    """Difficulty levels: numbers of operations in a sum, drawn uniformly."""
    operators: str = "+-*|^&"
    """Drawn uniformly: sum, difference, product, distance, power, square of the first plus the second."""
    train_operations: tuple[int, ...] = ()
    """Numbers of operations in the sums that are trained on; empty: as validated, which is also what warm-up shows."""
    train_operators: str = ""
    """Operators of the sums that are trained on; empty: as validated."""
    reward: Literal["correct", "random"] = "correct"
    """random: a fair coin whatever was answered, the control that shows what the optimiser does by itself."""
    validation: str = ""
    """Data sets to validate on; empty: one training problem in ten is held out."""
    template: str = ""
    """How a data set's question is asked, {question} in it being the question; empty: as the data set's entry says."""
    data_dir: str = ""
    """Folder that holds the data sets as files; empty: the hub."""
    pass_rates: str = ""
    """File of earlier pass rates (columns pass_rate and question or id): the difficulty filter before training."""
    pass_low: float = 0.0
    """Problems with a pass rate up to this are dropped."""
    pass_high: float = 1.0
    """Problems with a pass rate from this are dropped."""
    chat: bool = False
    """Put each prompt into the tokenizer's chat template, as a user's message."""
    workers: int = 1
    """Processes that check answers."""
    format: Literal["one-box", "box-last", "thought"] = "one-box"
    """What task.format_weight rewards: exactly one box; a box at the end; one <think> part before the answer."""
    format_weight: float = 0.0
    """Of a reward for the form of a response, added to the reward that is trained on, never to an accuracy."""


@dataclass(frozen=True)
class Policy:
    """The language model that is trained."""

    path: str = ""
    """Hub id or folder of a Hugging Face causal LM; empty: one of the ladder, built from scratch."""
    size: Literal["xs", "s", "m", "l", "xl"] = "m"
    """Rung of the ladder: about 18 k, 48 k, 134 k, 373 k, 1 M parameters."""
    family: Literal["llama", "qwen2"] = "llama"
    """Class of the ladder's models."""
    seed: int = 0
    """Of the initial weights and the warm-up: two runs with the same one start from the same base policy."""
    dtype: Literal["float32", "bfloat16", "float64"] = "float32"
    """Of the weights; statistics are float32 at least, whatever this is."""
    autocast: bool = False
    """Run matrix products in bfloat16 with float32 weights."""
    gradient_checkpointing: bool = False


@dataclass(frozen=True)
class Warmup:
    """Supervised warm-up of a ladder model: first clean worked answers, then an unsure mixture."""

    clean_steps: int = 1400
    clean_lr: float = 2e-3
    """Rises over the first steps and falls linearly to nought. One for all sizes: larger models learn more by it."""
    noisy_steps: int = 150
    noisy_lr: float = 1e-3
    lr_warmup: int = 50
    """Steps of rising learning rate in the first phase."""
    betas: tuple[float, float] = (0.9, 0.98)
    batch_size: int = 64
    chain_share: float = 0.5
    """In the second phase: share of demonstrations that are worked step by step; the others are bare answers."""
    slip: float = 0.1
    """In the second phase: probability that a result is replaced by a random digit."""


@dataclass(frozen=True)
class Rollout:
    """How responses are sampled."""

    engine: Literal["hf", "vllm", "vllm-process"] = "hf"
    """hf: the trained model itself; vllm: vLLM in this process; vllm-process: vLLM in one of its own, on GPUs of its
    own."""
    prompts: int = 64
    """Prompts a step."""
    group_size: int = 8
    """Responses a prompt."""
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    """0: all tokens."""
    max_tokens: int = 6
    """Longest response, end-of-sequence token included."""
    stop: str = ""
    """Text of one token that ends a response too, such as a line break."""
    max_prompt_tokens: int = 0
    """Prompts longer than this are dropped before training, with a count; 0: what the model's context leaves."""
    batch: int = 0
    """Responses sampled at once; 0: all."""


@dataclass(frozen=True)
class Vllm:
    """The vLLM engine, where rollout.engine names it."""

    dtype: Literal["auto", "bfloat16", "float32", "float16"] = "auto"
    """Of its copy of the weights; auto: bfloat16 with policy.autocast, else policy.dtype."""
    memory_share: float = 0.4
    """Share of each GPU's memory for weights and key-value cache."""
    kv_cache_gb: float = 1.0
    """Key-value cache on a CPU."""
    tensor_parallel: int = 1
    """GPUs a copy of the model is split over."""
    max_sequences: int = 256
    """Sampled at once at most."""
    eager: bool = True
    """Neither compile nor capture graphs: starts in seconds, samples slower on a GPU."""
    sleep: bool = False
    """Free the engine's GPU memory while the policy is updated (engine vllm)."""
    devices: str = ""
    """CUDA devices of engine vllm-process, as in CUDA_VISIBLE_DEVICES; empty: those behind the trainer's."""
    sync: Literal["auto", "nccl", "file"] = "auto"
    """How weights reach engine vllm-process; auto: nccl where both have a GPU, else a file in shared memory."""


@dataclass(frozen=True)
class Algorithm:
    """How rewards become advantages."""

    name: Literal[
        "reinforce",
        "grpo",
        "dr_grpo",
        "rloo",
        "reinforce_plus_plus",
        "reinforce_plus_plus_baseline",
        "ppo",
        "prime",
    ] = "grpo"
    filter_groups: bool = True
    """Drop prompts whose responses are all right or all wrong from the update (not from the measurements)."""
    max_refills: int = 0
    """DAPO's dynamic sampling: at most so many further rollouts to replace dropped prompts."""
    baseline: Literal["none", "batch-mean"] = "batch-mean"
    """Of REINFORCE."""
    gamma: float = 1.0
    lam: float = 1.0
    """Of PPO's generalised advantage estimation."""
    whiten: bool = True
    """PPO: advantages to mean 0 and standard deviation 1 over the batch's tokens."""


@dataclass(frozen=True)
class Critic:
    """PPO's value function: a copy of the base policy with a scalar head."""

    lr: float = 1e-3
    warmup_steps: int = 0
    """RL steps in which only the critic learns."""
    value_clip: float = 0.5
    """Largest move of a value away from the rollout's before its loss stops pulling; 0: none."""
    epochs: int = 1


@dataclass(frozen=True)
class Prime:
    """PRIME's implicit process reward model: a copy of the base policy, trained online on outcomes."""

    lr: float = 6e-4
    """Twice the policy's, as in the paper; slower, the policy learns to please a model that knows nothing yet."""
    beta: float = 0.05
    process_weight: float = 5.0
    outcome_weight: float = 5.0
    update: Literal["before", "after"] = "before"
    """Whether the reward model learns from a rollout before or after it scores it."""


@dataclass(frozen=True)
class Loss:
    """The policy loss and how the batch is cut."""

    kind: Literal["ppo_clip", "policy_gradient", "gspo", "cispo"] = "ppo_clip"
    """policy_gradient: importance-weighted, without any clip."""
    clip_ratio_low: float = 0.2
    clip_ratio_high: float = 0.2
    """Above clip_ratio_low: clip-higher."""
    clip_ratio_c: float = 0.0
    """Dual clip for negative advantages, above 1; 0: off."""
    aggregation: Literal[
        "token-mean", "seq-mean-token-mean", "seq-mean-token-sum", "seq-mean-token-sum-norm"
    ] = "token-mean"
    mini_batches: int = 4
    """Optimiser steps a rollout and epoch."""
    epochs: int = 1
    micro_batch: int = 0
    """Responses a forward pass; 0: the whole mini-batch. Changes memory, not the result."""
    rollout_correction: Literal["none", "token", "sequence"] = "none"
    """Truncated importance sampling: weight the loss by min(p_trainer / p_engine, rollout_cap), a token's or its whole
    response's, where an engine of its own samples with other rounding."""
    rollout_cap: float = 2.0
    """Largest weight."""


@dataclass(frozen=True)
class ClipCov:
    """Clip-Cov (paper, Eq. 11-12): detach random tokens of high covariance."""

    ratio: float = 0.0
    """Share of the response tokens of an optimiser step; 0: off. The paper: 2e-4."""
    lower: float = 1.0
    upper: float = 5.0


@dataclass(frozen=True)
class KlCov:
    """KL-Cov (paper, Eq. 13-14): penalise leaving the rollout policy on the tokens of highest covariance."""

    ratio: float = 0.0
    """Share of the response tokens of an optimiser step; 0: off. The paper: 2e-3 (7B), 2e-4 (32B)."""
    coef: float = 1.0
    penalty: Literal["abs", "k1", "k2", "k3"] = "abs"
    """Estimator of the divergence on a chosen token; the authors' code uses |log ratio|."""


@dataclass(frozen=True)
class Controls:
    """What acts on the entropy, beside the policy gradient."""

    entropy_coeff: float = 0.0
    """Weight of the mean entropy of the batch's tokens, subtracted from the loss."""
    entropy_target: float = 0.0
    """Above 0: the coefficient adapts, up while the entropy is below the target and off above (nats per token)."""
    entropy_step: float = 1e-3
    """By how much the adaptive coefficient moves a step."""
    entropy_max: float = 1.0
    """Its upper limit."""
    kl_coef: float = 0.0
    """Weight of the divergence from the base policy."""
    kl_kind: Literal["k1", "k2", "k3", "abs"] = "k3"
    kl_in: Literal["loss", "reward"] = "loss"
    high_entropy_share: float = 1.0
    """Only this share of tokens, those of highest entropy, carries the policy gradient; 1: all."""
    clip_cov: ClipCov = field(default_factory=ClipCov)
    kl_cov: KlCov = field(default_factory=KlCov)
    reference_code: bool = False
    """As the authors' code: quotas and covariance within each micro-batch, the clip widened to [0, 2] with Clip-Cov and
    absent with KL-Cov."""


@dataclass(frozen=True)
class Optimizer:
    """AdamW."""

    lr: float = 3e-4
    """The ladder's runs use 3e-4 * 64 / hidden size: wider models move further by the same step."""
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    grad_clip: float = 1.0
    """Largest gradient norm; 0: no clipping."""
    warmup_steps: int = 0
    """Optimiser steps of linear warm-up of the learning rate."""


@dataclass(frozen=True)
class Validation:
    """Measuring the policy on held-out problems, the same ones with the same random numbers every time."""

    every: int = 4
    """RL steps between validations; also before the first and after the last. 0: never."""
    problems: int = 512
    samples: int = 2
    """Responses a problem."""
    temperature: float = 1.0
    """0: greedy."""
    top_p: float = 1.0
    seed: int = 12345
    """Of the problems and the sampling; not the run's seed, so that runs are compared on one test."""


@dataclass(frozen=True)
class Checkpoint:
    """Saving, to go on after a stop."""

    every: int = 1
    """RL steps between checkpoints; what was done since the last one is done again after a kill."""
    keep: int = 1
    """How many to keep; the newest."""


@dataclass(frozen=True)
class Log:
    """Where metrics go beside metrics.jsonl."""

    wandb: Literal["off", "online", "offline"] = "off"
    wandb_project: str = "entlaw"
    wandb_group: str = ""
    tensorboard: bool = False
    covariance_shares: tuple[float, ...] = (0.0002, 0.002, 0.02, 0.2, 0.5)
    """Top shares of tokens whose mean covariance is logged (paper, Table 1)."""


@dataclass(frozen=True)
class Watch:
    """The law, fitted to the run so far after each validation and logged as entlaw/*; it may end the run."""

    on: bool = False
    """Off, so that the log holds what it always held; a look takes some tens of milliseconds."""
    every: int = 1
    """Fit at every so many validations."""
    target: float = 0.0
    """Performance that is wanted; the verdict says whether the ceiling lies below it. 0: none."""
    stop_when: str = ""
    """Rule that ends the run, as in P(gain > 1%) < 0.05; empty: none."""
    level: float = 0.95
    """Of the intervals."""
    performance: str = ""
    """Key that is taken for the performance; empty: as `entlaw fit` chooses."""


@dataclass(frozen=True)
class Recipe:
    """A whole run."""

    run: Run = field(default_factory=Run)
    task: Task = field(default_factory=Task)
    policy: Policy = field(default_factory=Policy)
    warmup: Warmup = field(default_factory=Warmup)
    rollout: Rollout = field(default_factory=Rollout)
    vllm: Vllm = field(default_factory=Vllm)
    algorithm: Algorithm = field(default_factory=Algorithm)
    critic: Critic = field(default_factory=Critic)
    prime: Prime = field(default_factory=Prime)
    loss: Loss = field(default_factory=Loss)
    controls: Controls = field(default_factory=Controls)
    optimizer: Optimizer = field(default_factory=Optimizer)
    validation: Validation = field(default_factory=Validation)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    log: Log = field(default_factory=Log)
    watch: Watch = field(default_factory=Watch)
