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
from entlaw.train.settings import IDLE, IN_THE_DATA, TRANSLATED, refused, setting, table, told

__all__ = ["ClipCov", "Controls", "KlCov"]

_NAMES = r"[A-Za-z0-9_.\-]+(\s*,\s*[A-Za-z0-9_.\-]+)*"
# Where verl has the settings of the trained model, of any model, and of sampling.
ACTOR, MODEL, ROLLOUT = "actor_rollout_ref.actor", "actor_rollout_ref.model", "actor_rollout_ref.rollout"


@dataclass(frozen=True)
class Run:
    """What the run is called and how long it goes on."""

    name: str = setting("", verl=TRANSLATED, resumes=True)
    """Free text; the folder's name if empty."""
    seed: int = setting(0, "[0, 2**63)", verl=TRANSLATED)
    """Seed of everything random in RL: prompts, sampling, order of the mini-batches, choice of tokens."""
    steps: int = setting(
        240,
        "[1, inf)",
        unit="RL steps",
        aliases="max_steps, total_training_steps",
        verl="trainer.total_training_steps",
        resumes=True,
    )
    """RL steps."""
    device: str = setting(
        "auto",
        text=(r"auto|cpu|(cuda|mps|xpu)(:\d+)?", "auto, cpu, cuda, cuda:1 ..."),
        verl=TRANSLATED,
        resumes=True,
    )
    """auto (CUDA where there is one), cpu, cuda, cuda:1 ..."""
    threads: int = setting(1, "[0, 4096]", verl=told("Ray and verl divide the processors"), resumes=True)
    """CPU threads of torch; 0 leaves torch's choice."""


@dataclass(frozen=True)
class Task:
    """What is asked and what is rewarded."""

    name: str = setting(
        "arithmetic",
        text=(_NAMES, "arithmetic, or names of data sets, separated by commas"),
        verl=IN_THE_DATA,
    )
    """arithmetic (made-up sums), or data sets by name, several separated by commas; `entlaw data list` shows them."""
    operations: tuple[int, ...] = setting(
        (2, 3, 4, 5, 6), "[1, 1000]", filled=True, used=uses.SUMS, verl=IDLE
    )
    """Difficulty levels: numbers of operations in a sum, drawn uniformly."""
    operators: str = setting(
        "+-*|^&", text=(r"[+*|^&-]+", "one or more of + - * | ^ &"), used=uses.SUMS, verl=IDLE
    )
    """Drawn uniformly: sum, difference, product, distance, power, square of the first plus the second."""
    train_operations: tuple[int, ...] = setting((), "[1, 1000]", used=uses.SUMS, verl=IDLE)
    """Numbers of operations in the sums that are trained on; empty: as validated, which is also what warm-up shows."""
    train_operators: str = setting(
        "", text=(r"[+*|^&-]*", "some of + - * | ^ &, or nothing"), used=uses.SUMS, verl=IDLE
    )
    """Operators of the sums that are trained on; empty: as validated."""
    reward: Literal["correct", "random"] = setting(
        "correct", verl=refused("coin-flip rewards are a control of `entlaw train`")
    )
    """random: a coin flip, whatever was answered; it shows what the optimiser does by itself."""
    validation: str = setting(
        "",
        text=(rf"({_NAMES})?", "names of data sets, separated by commas"),
        used=uses.DATA_SET,
        verl=IN_THE_DATA,
    )
    """Data sets to validate on; empty: one training problem in ten is held out."""
    template: str = setting("", used=uses.DATA_SET, verl=IN_THE_DATA)
    """How a data set's question is asked, {question} in it being the question; empty: as the data set's entry says."""
    data_dir: str = setting("", used=uses.DATA_SET, verl=IN_THE_DATA)
    """Folder that holds the data sets as files; empty: the hub."""
    pass_rates: str = setting("", used=uses.DATA_SET, verl=IN_THE_DATA)
    """File of earlier pass rates (columns pass_rate and question or id): the difficulty filter before training."""
    pass_low: float = setting(0.0, "[0, 1]", used=(uses.DATA_SET, uses.PASS_RATES), verl=IN_THE_DATA)
    """Problems with a pass rate up to this are dropped."""
    pass_high: float = setting(1.0, "[0, 1]", used=(uses.DATA_SET, uses.PASS_RATES), verl=IN_THE_DATA)
    """Problems with a pass rate from this are dropped."""
    chat: bool = setting(False, verl=TRANSLATED)
    """Put each prompt into the tokenizer's chat template, as a user's message."""
    workers: int = setting(1, "[1, 4096]", used=uses.DATA_SET, verl="reward.num_workers")
    """Processes that check answers."""
    format: Literal["one-box", "box-last", "thought"] = setting("one-box", used=uses.FORMAT, verl=TRANSLATED)
    """What task.format_weight rewards: exactly one box; a box at the end; one <think> part before the answer."""
    format_weight: float = setting(0.0, "[0, 1]", used=uses.FORMAT, verl=TRANSLATED)
    """Weight of a reward for the form of a response; it is added to the training reward, never to an accuracy."""


@dataclass(frozen=True)
class Policy:
    """The language model that is trained."""

    path: str = setting("", aliases="model", verl=f"{MODEL}.path")
    """Hub id or folder of a Hugging Face causal LM; empty: one of the ladder, built from scratch."""
    size: Literal["xs", "s", "m", "l", "xl"] = setting(
        "m", used=uses.LADDER, verl=told("a model by path has its own")
    )
    """Rung of the ladder: about 18 k, 48 k, 134 k, 373 k, 1 M parameters."""
    family: Literal["llama", "qwen2"] = setting(
        "llama", used=uses.LADDER, verl=told("a model by path has its own")
    )
    """Class of the ladder's models."""
    seed: int = setting(0, "[0, 2**63)", used=uses.LADDER, verl=told("a model by path is not warmed up"))
    """Seed of the initial weights and the warm-up: two runs with the same one start from the same base policy."""
    dtype: Literal["float32", "bfloat16", "float64"] = setting("float32", verl=TRANSLATED)
    """Type of the weights; statistics are float32 at least, whatever this is."""
    autocast: bool = setting(False, verl=TRANSLATED)
    """Run matrix products in bfloat16 with float32 weights."""
    gradient_checkpointing: bool = setting(False, verl=f"{MODEL}.enable_gradient_checkpointing")
    """Compute activations again in the backward pass: less memory, more time."""


@table(used=uses.LADDER, verl=IDLE)
@dataclass(frozen=True)
class Warmup:
    """Supervised warm-up of a ladder model: first clean worked answers, then an unsure mixture."""

    clean_steps: int = setting(1400, "[0, inf)", unit="steps")
    """Steps of the first phase."""
    clean_lr: float = setting(2e-3, "(0, inf)")
    """Learning rate of the first phase: rises over the first steps, then falls linearly to zero; one for all sizes."""
    noisy_steps: int = setting(150, "[0, inf)", unit="steps")
    """Steps of the second phase."""
    noisy_lr: float = setting(1e-3, "(0, inf)")
    """Learning rate of the second phase."""
    lr_warmup: int = setting(50, "[0, inf)", unit="steps")
    """Steps of rising learning rate in the first phase."""
    betas: tuple[float, float] = setting((0.9, 0.98), "[0, 1)")
    """AdamW's betas in the warm-up."""
    batch_size: int = setting(64, "[1, inf)")
    """Demonstrations in each step."""
    chain_share: float = setting(0.5, "[0, 1]")
    """In the second phase: share of demonstrations that are worked step by step; the others are bare answers."""
    slip: float = setting(0.1, "[0, 1]")
    """In the second phase: probability that a result is replaced by a random digit."""


@dataclass(frozen=True)
class Rollout:
    """How responses are sampled."""

    engine: Literal["hf", "vllm", "vllm-process"] = setting("hf", verl=TRANSLATED)
    """hf: the trained model itself; vllm: vLLM in this process; vllm-process: vLLM in one of its own, on GPUs of its
    own."""
    prompts: int = setting(64, "[1, inf)", unit="prompts", verl="data.train_batch_size")
    """Prompts in each RL step."""
    group_size: int = setting(
        8, "[1, inf)", unit="responses", aliases="num_generations, n", verl=f"{ROLLOUT}.n"
    )
    """Responses to each prompt."""
    temperature: float = setting(1.0, "(0, inf)", verl=f"{ROLLOUT}.temperature")
    """Sampling temperature."""
    top_p: float = setting(1.0, "(0, 1]", verl=f"{ROLLOUT}.top_p")
    """Sample from the most likely tokens that have this probability together; 1: from all."""
    top_k: int = setting(0, "[0, inf)", verl=TRANSLATED)
    """Sample from this many of the most likely tokens; 0: from all."""
    max_tokens: int = setting(
        6,
        "[1, inf)",
        unit="tokens",
        aliases="max_new_tokens, max_completion_length",
        verl="data.max_response_length",
    )
    """Longest response, end-of-sequence token included."""
    stop: str = setting(
        "", verl=refused("verl's single-turn loop ends a response at the model's own end-of-sequence token")
    )
    """Text of one token that ends a response too, such as a line break."""
    max_prompt_tokens: int = setting(0, "[0, inf)", unit="tokens", verl="data.max_prompt_length")
    """Prompts longer than this are dropped before training, with a count; 0: what the model's context leaves."""
    batch: int = setting(0, "[0, inf)", unit="responses", verl=told("verl's engine batches by itself"))
    """Responses sampled at once; 0: all."""


@table(used=uses.VLLM)
@dataclass(frozen=True)
class Vllm:
    """The vLLM engine, where rollout.engine names it."""

    dtype: Literal["auto", "bfloat16", "float32", "float16"] = setting("auto", verl=TRANSLATED)
    """Type of its copy of the weights; auto: bfloat16 with policy.autocast, else policy.dtype."""
    memory_share: float = setting(0.4, "(0, 1]", verl=f"{ROLLOUT}.gpu_memory_utilization")
    """Share of each GPU's memory for weights and key-value cache."""
    kv_cache_gb: float = setting(
        1.0, "(0, inf)", unit="GB", verl=told("on a GPU the cache takes what vllm.memory_share leaves")
    )
    """Key-value cache on a CPU."""
    tensor_parallel: int = setting(1, "[1, 4096]", unit="GPUs", verl=f"{ROLLOUT}.tensor_model_parallel_size")
    """GPUs a copy of the model is split over."""
    max_sequences: int = setting(256, "[1, inf)", unit="responses", verl=f"{ROLLOUT}.max_num_seqs")
    """Most responses sampled at once."""
    eager: bool = setting(True, verl=f"{ROLLOUT}.enforce_eager")
    """Neither compile nor capture graphs: starts in seconds, samples slower on a GPU."""
    sleep: bool = setting(False, verl=f"{ROLLOUT}.free_cache_engine")
    """Free the engine's GPU memory while the policy is updated (engine vllm)."""
    devices: str = setting(
        "",
        text=(r"(\d+(,\d+)*)?", "numbers of CUDA devices, separated by commas"),
        used=uses.VLLM_PROCESS,
        verl=refused("verl places its engines itself"),
    )
    """CUDA devices of engine vllm-process, as in CUDA_VISIBLE_DEVICES; empty: those behind the trainer's."""
    sync: Literal["auto", "nccl", "file"] = setting(
        "auto", used=uses.VLLM_PROCESS, verl=refused("verl hands weights over itself")
    )
    """How weights reach engine vllm-process; auto: nccl where both have a GPU, else a file in shared memory."""


@dataclass(frozen=True)
class Algorithm:
    """How rewards become advantages."""

    name: str = setting("grpo", choices=lambda: ESTIMATORS, aliases="adv_estimator", verl=TRANSLATED)
    """How advantages are estimated."""
    filter_groups: bool = setting(True, verl=TRANSLATED)
    """Drop prompts whose responses are all right or all wrong from the update (not from the measurements)."""
    max_refills: int = setting(0, "[0, inf)", verl=TRANSLATED)
    """DAPO's dynamic sampling: at most this many further rollouts to replace dropped prompts."""
    baseline: Literal["none", "batch-mean"] = setting("batch-mean", used=uses.BASELINE, verl=TRANSLATED)
    """Baseline of REINFORCE."""
    gamma: float = setting(1.0, "[0, 1]", used=uses.GAMMA, verl="algorithm.gamma")
    """Discount of later rewards."""
    lam: float = setting(1.0, "[0, 1]", used=uses.CRITIC, verl="algorithm.lam")
    """Lambda of PPO's generalised advantage estimation."""
    whiten: bool = setting(True, used=uses.CRITIC, verl=refused("verl whitens PPO's advantages always"))
    """PPO: advantages to mean 0 and standard deviation 1 over the batch's tokens."""


@table(used=uses.CRITIC)
@dataclass(frozen=True)
class Critic:
    """PPO's value function: a copy of the base policy with a scalar head."""

    lr: float = setting(1e-3, "(0, inf)", verl="critic.optim.lr")
    """Learning rate of the critic."""
    warmup_steps: int = setting(0, "[0, inf)", unit="RL steps", verl="trainer.critic_warmup")
    """RL steps in which only the critic learns."""
    value_clip: float = setting(0.5, "[0, inf)", verl="critic.cliprange_value")
    """Largest move of a value away from the rollout's before its loss stops pulling; 0: none."""
    epochs: int = setting(1, "[1, inf)", verl="critic.ppo_epochs")
    """Passes over each rollout to update the critic."""


@table(used=uses.PRIME, verl=IDLE)
@dataclass(frozen=True)
class Prime:
    """PRIME's implicit process reward model: a copy of the base policy, trained online on outcomes."""

    lr: float = setting(6e-4, "(0, inf)")
    """Twice the policy's, as in the paper; slower, the policy learns to please a model that knows nothing yet."""
    beta: float = setting(0.05, "(0, inf)")
    """Scale of the process rewards: each is beta times the log-ratio to the base policy."""
    process_weight: float = setting(5.0, "[0, inf)")
    """Weight of the process rewards in the advantage."""
    outcome_weight: float = setting(5.0, "[0, inf)")
    """Weight of the outcome rewards in the advantage."""
    update: Literal["before", "after"] = setting("before")
    """Whether the reward model learns from a rollout before or after it scores it."""


@dataclass(frozen=True)
class Loss:
    """The policy loss and how the batch is cut."""

    kind: str = setting("ppo_clip", choices=lambda: LOSSES, verl=TRANSLATED)
    """Which policy loss; policy_gradient is importance-weighted, without any clip."""
    clip_ratio_low: float = setting(0.2, "[0, 1]", used=(uses.CLIP, uses.OWN_CLIP), verl=TRANSLATED)
    """The clip keeps the probability ratio above 1 minus this."""
    clip_ratio_high: float = setting(0.2, "[0, inf)", used=(uses.CLIP, uses.OWN_CLIP), verl=TRANSLATED)
    """The clip keeps the probability ratio below 1 plus this. Larger than clip_ratio_low: clip-higher."""
    clip_ratio_c: float = setting(0.0, "[0, inf)", used=uses.OWN_CLIP, verl=f"{ACTOR}.clip_ratio_c")
    """Dual clip for negative advantages, above 1; 0: off."""
    aggregation: Literal[
        "token-mean", "seq-mean-token-mean", "seq-mean-token-sum", "seq-mean-token-sum-norm"
    ] = setting("token-mean", aliases="loss_agg_mode", verl=f"{ACTOR}.loss_agg_mode")
    """How the losses of the tokens become one number."""
    mini_batches: int = setting(4, "[1, inf)", verl=TRANSLATED)
    """Optimiser steps in each epoch over a rollout."""
    epochs: int = setting(1, "[1, inf)", aliases="ppo_epochs", verl=f"{ACTOR}.ppo_epochs")
    """Passes over each rollout to update the policy."""
    micro_batch: int = setting(0, "[0, inf)", unit="responses", verl=TRANSLATED)
    """Responses in each forward pass; 0: the whole mini-batch. Changes memory, not the result."""
    rollout_correction: Literal["none", "token", "sequence"] = setting("none", verl=TRANSLATED)
    """Truncated importance sampling: weight the loss by min(p_trainer / p_engine, rollout_cap), a token's or its whole
    response's, where an engine of its own samples with other rounding."""
    rollout_cap: float = setting(
        2.0, "(0, inf)", used=uses.CORRECTION, verl="algorithm.rollout_correction.rollout_is_threshold"
    )
    """Largest importance weight."""


@dataclass(frozen=True)
class Optimizer:
    """AdamW."""

    lr: float = setting(3e-4, "(0, inf)", aliases="learning_rate", verl=f"{ACTOR}.optim.lr")
    """The ladder's runs use 3e-4 * 64 / hidden size: wider models move further by the same step."""
    betas: tuple[float, float] = setting((0.9, 0.999), "[0, 1)", verl=f"{ACTOR}.optim.betas")
    """AdamW's betas."""
    eps: float = setting(1e-8, "(0, inf)", verl=TRANSLATED)
    """AdamW's epsilon."""
    weight_decay: float = setting(0.0, "[0, inf)", verl=f"{ACTOR}.optim.weight_decay")
    """AdamW's weight decay."""
    grad_clip: float = setting(1.0, "[0, inf)", aliases="max_grad_norm", verl=TRANSLATED)
    """Largest gradient norm; 0: no clipping."""
    warmup_steps: int = setting(0, "[0, inf)", unit="optimiser steps", verl=TRANSLATED)
    """Optimiser steps of linear warm-up of the learning rate."""


@dataclass(frozen=True)
class Validation:
    """Measuring the policy on held-out problems, the same ones with the same random numbers every time."""

    every: int = setting(4, "[0, inf)", unit="RL steps", aliases="test_freq", verl=TRANSLATED)
    """RL steps between validations; also before the first and after the last. 0: never."""
    problems: int = setting(512, "[1, inf)", unit="problems", used=uses.VALIDATION, verl=IN_THE_DATA)
    """How many of the held-out problems are asked."""
    samples: int = setting(
        2, "[1, inf)", unit="responses", used=uses.VALIDATION, verl=f"{ROLLOUT}.val_kwargs.n"
    )
    """Responses to each problem."""
    temperature: float = setting(
        1.0, "[0, inf)", used=uses.VALIDATION, verl=f"{ROLLOUT}.val_kwargs.temperature"
    )
    """Sampling temperature; 0: greedy."""
    top_p: float = setting(1.0, "(0, 1]", used=uses.VALIDATION, verl=f"{ROLLOUT}.val_kwargs.top_p")
    """As in the rollout."""
    seed: int = setting(
        12345,
        "[0, 2**63)",
        used=uses.VALIDATION,
        verl=told("it chooses the problems; the sampling of a validation is seeded by verl"),
    )
    """Seed of the problems and the sampling; not the run's seed, so that runs are compared on one test."""


@table(resumes=True)
@dataclass(frozen=True)
class Checkpoint:
    """Saving, to go on after a stop."""

    every: int = setting(1, "[1, inf)", unit="RL steps", aliases="save_freq", verl="trainer.save_freq")
    """RL steps between checkpoints; what was done since the last one is done again after a kill."""
    keep: int = setting(1, "[1, inf)", verl="trainer.max_actor_ckpt_to_keep")
    """How many checkpoints to keep, the newest ones."""


@table(resumes=True)
@dataclass(frozen=True)
class Log:
    """Where metrics go beside metrics.jsonl."""

    wandb: Literal["off", "online", "offline"] = setting("off", verl=TRANSLATED)
    """Log to Weights & Biases."""
    wandb_project: str = setting("entlaw", used=uses.WANDB, verl="trainer.project_name")
    """Project there."""
    wandb_group: str = setting("", used=uses.WANDB, verl=TRANSLATED)
    """Group there; empty: none."""
    tensorboard: bool = setting(False, verl=TRANSLATED)
    """Write files for TensorBoard."""
    covariance_shares: tuple[float, ...] = setting(
        (0.0002, 0.002, 0.02, 0.2, 0.5), "(0, 1]", verl="+trainer.v1.entlaw.shares"
    )
    """Top shares of tokens whose mean covariance is logged (paper, Table 1)."""


@table(resumes=True, used=uses.WATCH)
@dataclass(frozen=True)
class Watch:
    """The law, fitted to the run so far after each validation and logged as entlaw/*; it may end the run."""

    on: bool = setting(False, verl="+trainer.v1.entlaw.watch.on")
    """Whether to watch. Off by default, so that logs keep their keys; a look takes tens of milliseconds."""
    every: int = setting(1, "[1, inf)", unit="validations", verl="+trainer.v1.entlaw.watch.every")
    """Validations between fits."""
    target: float = setting(0.0, "[0, 1]", verl="+trainer.v1.entlaw.watch.target")
    """Performance that is wanted; the verdict says whether the ceiling lies below it. 0: none."""
    stop_when: str = setting("", verl="+trainer.v1.entlaw.watch.stop_when")
    """Rule that ends the run, as in P(gain > 1%) < 0.05; empty: none."""
    level: float = setting(0.95, "(0, 1)", verl="+trainer.v1.entlaw.watch.level")
    """Level of the intervals."""
    performance: str = setting("", verl="+trainer.v1.entlaw.watch.performance")
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
