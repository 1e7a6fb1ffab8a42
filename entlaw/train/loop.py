"""Reinforcement learning with verifiable rewards: one step on one screen (:meth:`Trainer.step`)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from entlaw.errors import UsageError
from entlaw.tasks import Problem, Task, score_batch
from entlaw.tasks.answers import FORMATS
from entlaw.train import critic as value
from entlaw.train import estimate, measure, prime
from entlaw.train.batch import Batch, concatenate
from entlaw.train.controls import EntropyBonus
from entlaw.train.distributed import ALONE, World
from entlaw.train.distributed_model import ranked, shard_module, sharded
from entlaw.train.failure import TrainingFailed
from entlaw.train.measure import Metrics
from entlaw.train.policy import LanguageModel
from entlaw.train.randomness import torch_generator
from entlaw.train.rollout import Engine, Sampling
from entlaw.train.rollout.hf import encode, texts
from entlaw.train.schema import Recipe
from entlaw.train.update import update

# Steps in a row without a mixed group: by then the policy is all right, all wrong, or the task does not fit it.
_PATIENCE = 50


class Trainer:
    """A policy, what helps it learn, and the step that improves it.

    Attributes
    ----------
    policy, reference, critic, process
        The trained policy; the frozen base policy where a penalty or PRIME needs it; PPO's critic; PRIME's model.
    world : World
        The ranks that train together. Each has the whole batch and a share of the models and of their passes.
    drawn : int
        Training problems taken from the task's stream so far.
    too_long : int
        Of those drawn for the last rollout, how many had a prompt that does not fit.
    entropy_coeff : float
        Of the entropy bonus; moves when it is adaptive.
    """

    def __init__(
        self,
        recipe: Recipe,
        task: Task,
        base: LanguageModel,
        engine: Engine | None = None,
        world: World = ALONE,
        device: torch.device | None = None,
    ) -> None:
        from entlaw.train.rollout.hf import HFEngine

        self.recipe, self.task, self.world = recipe, task, world
        reference = base.frozen_copy() if recipe.needs_reference else None
        self.critic = value.Critic(base) if recipe.estimator.critic else None
        process = base.trainable_copy() if recipe.estimator.reward_model else None
        # Spread over the ranks only now: what is spread cannot be copied.
        device = device or base.device
        self.policy = sharded(base, world, device)
        self.reference = sharded(reference, world, device) if reference is not None else None
        self.process = sharded(process, world, device) if process is not None else None
        if self.critic is not None and world.many:
            shard_module(self.critic, self.critic.body, world, device, autocast=base.autocast)
        # Only models in training mode checkpoint their activations; nothing else depends on it (no dropout).
        for model in (self.critic, self.process.model if self.process is not None else None):
            if model is not None:
                model.train()
        self.engine: Engine = engine or HFEngine(self.policy)
        if world.many:
            self.engine = ranked(self.engine, self.policy, world)
        self.optimizers = {"policy": self._adamw(self.policy.model.parameters(), recipe.optimizer.lr)}
        if self.critic is not None:
            self.optimizers["critic"] = self._adamw(self.critic.parameters(), recipe.critic.lr)
        if self.process is not None:
            self.optimizers["process"] = self._adamw(self.process.model.parameters(), recipe.prime.lr)
        self.drawn = self.updates = self.idle_steps = self.too_long = 0
        self.entropy_coeff = recipe.controls.entropy_coeff
        self.longest_prompt = recipe.rollout.max_prompt_tokens or base.context - recipe.rollout.max_tokens
        if self.longest_prompt < 1:
            raise UsageError(
                f"rollout.max_tokens = {recipe.rollout.max_tokens} leaves no room for a prompt",
                why=f"the model's context is {base.context} tokens",
                hint="shorten rollout.max_tokens",
            )

    def _adamw(self, parameters: Iterator[torch.nn.Parameter], lr: float) -> torch.optim.AdamW:
        o = self.recipe.optimizer
        trainable = [p for p in parameters if p.requires_grad]
        # Fused: one pass over the weights, 9 times faster on a CPU than tensor by tensor and without temporary copies.
        return torch.optim.AdamW(
            trainable, lr=lr, betas=o.betas, eps=o.eps, weight_decay=o.weight_decay, fused=True
        )

    def step(self, t: int) -> Metrics:
        """RL step ``t``: roll out, measure, turn rewards into advantages, update; returns what is logged."""
        recipe, clock = self.recipe, Clock()
        self.policy.model.train()
        batch, levels = self.collect(t, clock)
        self.engine.rest()
        record = measure.rollout_record(batch, levels) | measure.mismatch_record(batch)
        if self.too_long:
            record["train/dropped_prompts"] = float(self.too_long)

        rows = self.learning_rows(batch)
        n_groups = len(torch.unique(batch.group_B))
        record["train/kept_groups"] = len(torch.unique(batch.group_B[rows])) / n_groups
        self.watch_idle(rows)
        updates: list[Metrics] = []
        if len(rows):
            kept, kept_levels = batch.rows(rows), [levels[i] for i in rows.tolist()]
            process_BT, process_records = self.process_reward(kept, t)
            kept = estimate.with_advantages(kept, recipe.algorithm, recipe.controls, recipe.prime, process_BT)
            kept = kept.map(self.world.same)
            record |= measure.update_record(kept, kept_levels, recipe.log.covariance_shares)
            updates += process_records + self.update_critic(kept, t)
            if t > (recipe.critic.warmup_steps if self.critic is not None else 0):
                updates += self.update_policy(kept, t, self.bonus(record))
        record |= measure.mean_over_updates(updates)
        record["time/update_s"] = clock.lap()
        self.engine.sync()
        record["time/sync_s"] = clock.lap()

        entropy_after = self.entropy(batch)
        record["actor/entropy_after"] = entropy_after
        record["actor/entropy_change"] = entropy_after - record["actor/entropy"]
        record["time/score_s"] = clock.seconds.get("score", 0.0) + clock.lap()
        record["time/rollout_s"] = clock.seconds.get("rollout", 0.0)
        record["time/step_s"] = clock.total()
        record["perf/tokens_per_s"] = float(batch.mask_BT.sum()) / record["time/step_s"]
        return record

    def measure_only(self, t: int) -> Metrics:
        """Roll out as step ``t`` would and measure, but do not learn."""
        drawn = self.drawn
        batch, levels = self.collect(t, Clock())
        self.drawn = drawn
        return measure.rollout_record(batch, levels)

    # Rolling out ---------------------------------------------------------------------------------

    def collect(self, t: int, clock: Clock) -> tuple[Batch, list[str]]:
        """Responses of the current policy with rewards, log-probs, entropies; and each one's difficulty group.

        With dynamic sampling further prompts are drawn until enough groups are mixed (DAPO).
        """
        recipe, rollout = self.recipe, self.recipe.rollout
        sampling = Sampling(
            rollout.group_size,
            rollout.max_tokens,
            rollout.temperature,
            rollout.top_p,
            rollout.top_k,
            rollout.batch,
        )
        parts: list[Batch] = []
        problems: list[Problem] = []
        self.too_long = 0
        for refill in range(1 + recipe.algorithm.max_refills):
            drawn = self.draw(rollout.prompts)
            part = self.engine.generate([p.prompt for p in drawn], sampling, [recipe.run.seed, 1, t, refill])
            clock.lap("rollout")
            parts.append(replace(part, group_B=part.group_B + len(problems)))
            problems += drawn
            parts[-1] = self.reward(parts[-1], problems, t, refill)
            mixed = sum(len(torch.unique(b.group_B[estimate.mixed_groups(b)])) for b in parts)
            if mixed >= rollout.prompts:
                break
        batch = concatenate(parts, self.policy.pad_id)
        batch = self.score(batch)
        clock.lap("score")
        return batch, [problems[int(g)].level for g in batch.group_B]

    def draw(self, n: int) -> list[Problem]:
        """The next ``n`` training problems whose prompts fit."""
        found: list[Problem] = []
        looked = 0
        while len(found) < n:
            problems = self.task.training(self.recipe.run.seed, self.drawn, n - len(found))
            self.drawn += len(problems)
            looked += len(problems)
            lengths = encode(self.policy, [p.prompt for p in problems])[1].sum(1).tolist()
            fitting = [
                p for p, length in zip(problems, lengths, strict=True) if length <= self.longest_prompt
            ]
            found += fitting
            self.too_long += len(problems) - len(fitting)
            if looked > 100 * n:
                raise UsageError(
                    f"of {looked} prompts only {len(found)} are no longer than {self.longest_prompt} tokens",
                    hint="raise rollout.max_prompt_tokens, or take a model with a longer context",
                )
        return found

    def reward(self, batch: Batch, problems: list[Problem], t: int, refill: int) -> Batch:
        """The batch with scores, and with what is optimised."""
        settings, device = self.recipe.task, batch.mask_BT.device
        mine = self.world.share(len(batch))
        with self.world.together():
            part = batch.at(mine)
            responses, finished = texts(self.policy, part), part.finished_B.tolist()
            asked = [problems[g] for g in part.group_B.tolist()]
            scores = score_batch(self.task, asked, responses, finished)
            form = [FORMATS[settings.format](text) for text in responses] if settings.format_weight else []
        shares = self.world.shares(len(batch))
        correct_B = self.world.gather(torch.tensor(scores, dtype=torch.float32, device=device), shares)
        reward_B = correct_B
        if settings.format_weight:
            form_B = self.world.gather(torch.tensor(form, dtype=torch.float32, device=device), shares)
            reward_B = reward_B + settings.format_weight * form_B
        if self.recipe.task.reward == "random":
            generator = torch_generator(self.recipe.run.seed, "reward", t, refill)
            reward_B = torch.randint(0, 2, correct_B.shape, generator=generator).to(correct_B)
        return replace(batch, correct_B=correct_B, reward_B=reward_B)

    @torch.no_grad()
    def score(self, batch: Batch) -> Batch:
        """The batch with log-probs of the rollout policy (and of the base policy), entropies, and values."""
        temperature, names = self.recipe.rollout.temperature, list[str]()

        def passes(part: Batch) -> list[Tensor]:
            own = self.policy.score(part, temperature)
            found = {"log_prob_BT": own.log_prob_BT, "entropy_BT": own.entropy_BT}
            if temperature != 1:
                plain = self.policy.score(part)
                found |= {"entropy_BT": plain.entropy_BT, "sampling_entropy_BT": own.entropy_BT}
            if self.reference is not None:
                found["ref_log_prob_BT"] = self.reference.score(part, temperature).log_prob_BT
            if self.critic is not None:
                found["value_BT"] = self.critic(part)
            names[:] = found
            return list(found.values())

        tensors = self.world.by_rows(batch, self.recipe.loss.micro_batch, passes)
        scored = replace(batch, **dict(zip(names, tensors, strict=True)))
        return replace(scored, rollout_weight_BT=estimate.rollout_weight(scored, self.recipe.loss))

    @torch.no_grad()
    def entropy(self, batch: Batch) -> float:
        """Token-mean entropy of the policy as it is now, in front of the tokens of ``batch``, at temperature 1."""
        (entropy_BT,) = self.world.by_rows(
            batch, self.recipe.loss.micro_batch, lambda part: [self.policy.score(part).entropy_BT]
        )
        return measure.token_mean(entropy_BT, batch.mask_BT)

    # Learning ------------------------------------------------------------------------------------

    def learning_rows(self, batch: Batch) -> Tensor:
        """The responses that take part in the update."""
        if not self.recipe.algorithm.filter_groups:
            return torch.arange(len(batch), device=batch.group_B.device)
        rows = estimate.mixed_groups(batch)
        return rows[estimate.whole_groups(batch.group_B[rows], self.recipe.rollout.prompts)]

    def watch_idle(self, rows: Tensor) -> None:
        """Give up when no group has been mixed for a long time."""
        self.idle_steps = 0 if len(rows) else self.idle_steps + 1
        if self.idle_steps >= _PATIENCE:
            raise TrainingFailed(
                f"no prompt was left to learn from in {_PATIENCE} steps in a row",
                why="all responses of every group were right, or all were wrong",
                hint="change the difficulty (task.*), or sample more responses (rollout.group_size)",
            )

    def mini_batches(self, batch: Batch, t: int, epochs: int) -> Iterator[Batch]:
        """The batch cut into mini-batches of whole groups, in a random order that depends on the step alone."""
        groups = torch.unique(batch.group_B)
        for epoch in range(epochs):
            generator = torch_generator(self.recipe.run.seed, "order", t, epoch)
            order = groups[torch.randperm(len(groups), generator=generator).to(groups.device)]
            for part in order.chunk(min(self.recipe.loss.mini_batches, len(order))):
                yield batch.rows(torch.cat([(batch.group_B == g).nonzero()[:, 0] for g in part])).trimmed()

    def process_reward(self, batch: Batch, t: int) -> tuple[Tensor | None, list[Metrics]]:
        """PRIME's reward of every token, and what its model learned from this rollout."""
        model = self.process
        if model is None:
            return None, []
        p, o, loss = self.recipe.prime, self.recipe.optimizer, self.recipe.loss
        temperature = self.recipe.rollout.temperature

        def learn() -> list[Metrics]:
            optimizer = self.optimizers["process"]
            return [
                prime.update(
                    model, optimizer, m, p.beta, temperature, loss.micro_batch, o.grad_clip, self.world
                )
                for m in self.mini_batches(batch, t, 1)
            ]

        records = learn() if p.update == "before" else []
        reward_BT = prime.score(model, batch, p.beta, temperature, loss.micro_batch, self.world)
        return reward_BT, records or learn()

    def update_critic(self, batch: Batch, t: int) -> list[Metrics]:
        """PPO's value function learns the returns."""
        if self.critic is None:
            return []
        c, loss = self.recipe.critic, self.recipe.loss
        assert batch.value_BT is not None and batch.return_BT is not None
        explained = value.explained_variance(batch.value_BT, batch.return_BT, batch.mask_BT)
        grad_clip = self.recipe.optimizer.grad_clip
        return [
            value.update(
                self.critic,
                self.optimizers["critic"],
                m,
                c.value_clip,
                loss.micro_batch,
                grad_clip,
                self.world,
            )
            | {"critic/explained_variance": explained}
            for m in self.mini_batches(batch, t, c.epochs)
        ]

    def update_policy(self, batch: Batch, t: int, entropy_coeff: float) -> list[Metrics]:
        """The mini-batches of one rollout, one optimiser step each."""
        recipe, records = self.recipe, list[Metrics]()
        selection = torch_generator(recipe.run.seed, "selection", t)
        for i, part in enumerate(self.mini_batches(batch, t, recipe.loss.epochs)):
            self.warm_learning_rate()
            metrics = update(
                self.policy,
                self.optimizers["policy"],
                part,
                recipe.loss,
                recipe.controls,
                temperature=recipe.rollout.temperature,
                entropy_coeff=entropy_coeff,
                grad_clip=recipe.optimizer.grad_clip,
                norm_length=recipe.rollout.max_tokens,
                generator=selection,
                on_policy=i == 0,
                world=self.world,
            )
            if metrics["actor/loss"] != metrics["actor/loss"]:
                raise TrainingFailed(
                    f"the loss or its gradient is not finite in mini-batch {i + 1} of step {t}",
                    why="no weight was changed by it",
                    hint="lower optimizer.lr, or use float32 weights; continue from the last checkpoint",
                    batch=part,
                )
            self.updates += 1
            records.append(metrics)
        return records

    def warm_learning_rate(self) -> None:
        """Linear warm-up of the policy's learning rate over the first optimiser steps."""
        o = self.recipe.optimizer
        if o.warmup_steps:
            share = min(1.0, (self.updates + 1) / o.warmup_steps)
            self.optimizers["policy"].param_groups[0]["lr"] = o.lr * share

    def bonus(self, record: Metrics) -> float:
        """This step's entropy coefficient: fixed, or adaptive."""
        if self.recipe.controls.entropy_target <= 0:
            return self.entropy_coeff
        adaptive = EntropyBonus(self.recipe.controls)
        self.entropy_coeff, now = adaptive.moved(self.entropy_coeff, record["actor/entropy"])
        record["actor/entropy_coeff"] = now
        return now


class Clock:
    """Seconds since the last lap, summed by name."""

    def __init__(self) -> None:
        self.start = self.last = time.perf_counter()
        self.seconds: dict[str, float] = {}

    def lap(self, name: str | None = None) -> float:
        """Seconds since the last lap; added up under ``name``."""
        now = time.perf_counter()
        passed, self.last = now - self.last, now
        if name is not None:
            self.seconds[name] = self.seconds.get(name, 0.0) + passed
        return passed

    def total(self) -> float:
        """Seconds since the clock was made."""
        return time.perf_counter() - self.start
