"""TRL with whole-step Clip-Cov and KL-Cov: a ``GRPOTrainer`` whose loss stays TRL's own where no token was chosen.

Written for TRL 1.16, whose trainer has no registry: three of its methods are extended, ``_prepare_inputs``,
``_compute_loss`` and ``_get_per_token_logps_and_entropies``. The tokens are chosen before an optimiser step, over all
of its micro-batches and ranks, from the policy as it is then, by the functions of our own trainer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from entlaw.errors import UsageError

try:
    from trl import GRPOTrainer
except ImportError as _error:
    from entlaw.errors import MissingExtra

    raise MissingExtra("TRL is not installed", hint="pip install 'trl>=1.16,<2'") from _error

from entlaw.dynamics.covariance import token_covariance, top_share_means
from entlaw.engines.law_callback import EntlawCallback
from entlaw.train import losses
from entlaw.train.batch import Batch
from entlaw.train.choice import TokenChoice, choose
from entlaw.train.measure import token_mean
from entlaw.train.randomness import torch_generator
from entlaw.train.schema import Controls, Log, Loss

__all__ = ["CovGRPOTrainer", "EntlawCallback"]

_CHOSEN = "entlaw_chosen"
_LOSSES = ("grpo", "bnpo", "dr_grpo", "dapo")
_IMAGES = (
    "pixel_values",
    "image_grid_thw",
    "num_images",
    "pixel_attention_mask",
    "spatial_shapes",
    "num_tiles",
    "image_sizes",
    "token_type_ids",
    "mm_token_type_ids",
    "image_position_ids",
)


class CovGRPOTrainer(GRPOTrainer):
    """TRL's GRPO trainer with Clip-Cov or KL-Cov, and the covariance in its log.

    Parameters
    ----------
    controls : Controls, optional
        ``clip_cov`` and ``kl_cov`` are used; what TRL has settings of its own for (entropy bonus, reference KL,
        high-entropy filter) is refused here. Without, the loss is TRL's.
    covariance_shares : tuple of float
        Top shares of tokens whose mean covariance is logged.
    args, kwargs
        As TRL's. The clip range is TRL's ``epsilon`` and ``epsilon_high``: the paper's Clip-Cov has both at 1, its
        KL-Cov no clip at all (``epsilon=1.0, epsilon_high=1e9``).

    Raises
    ------
    UsageError
        Settings that cannot go together.

    Notes
    -----
    Logged beside TRL's keys, of every optimiser step: ``cov/mean`` and ``cov/top_*`` (paper, Eq. 10),
    ``clip_cov/effective_ratio`` or ``kl_cov/effective_ratio``.
    """

    def __init__(
        self,
        *args: Any,
        controls: Controls | None = None,
        covariance_shares: tuple[float, ...] = Log().covariance_shares,
        **kwargs: Any,
    ) -> None:
        self.controls, self.covariance_shares = controls or Controls(), covariance_shares
        self._seen: list[Batch] = []
        self._captured: Tensor | None = None
        super().__init__(*args, **kwargs)
        self._check()

    @property
    def chooses(self) -> bool:
        """Whether tokens are chosen."""
        return self.controls.clip_cov.on or self.controls.kl_cov.on

    def _check(self) -> None:
        c = self.controls
        used = Controls(clip_cov=c.clip_cov, kl_cov=c.kl_cov)
        if c != used:
            raise UsageError(
                "only clip_cov and kl_cov of the controls are used with TRL",
                hint="TRL's own: entropy_coef, beta, top_entropy_quantile",
            )
        if not self.chooses:
            return
        if self.loss_type not in _LOSSES or self.importance_sampling_level != "token":
            raise UsageError(
                f"Clip-Cov and KL-Cov are for token losses, not {self.loss_type} with importance sampling per "
                f"{self.importance_sampling_level}",
                hint=f"loss_type: {', '.join(_LOSSES)}; importance_sampling_level: token",
            )
        spread = self.args.steps_per_generation % self.args.gradient_accumulation_steps
        if spread:
            raise UsageError(
                "an optimiser step must not reach over two generations",
                why=f"steps_per_generation = {self.args.steps_per_generation}, "
                f"gradient_accumulation_steps = {self.args.gradient_accumulation_steps}",
                hint="make the first a multiple of the second",
            )

    # Before an optimiser step --------------------------------------------------------------------

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        inputs = super()._prepare_inputs(generation_batch)
        if self.chooses and self.model.training and self._step % self.args.gradient_accumulation_steps == 0:
            # The buffer holds this step's micro-batches, this one among them; TRL itself hands out views of it.
            first = self._step % self.args.steps_per_generation
            size = self.current_gradient_accumulation_steps
            self._choose(self._buffered_inputs[first : first + size])
        return inputs

    @torch.no_grad()
    def _choose(self, parts: list[dict[str, Any]]) -> None:
        """Choose over these micro-batches and all ranks; leave each its part."""
        batches = [self._as_batch(part, self._log_prob(part)) for part in parts]
        # The first optimiser step on a generation: log-probs that TRL took of the old policy are the current one's.
        on_policy = self._step % (self.args.steps_per_generation * self.num_iterations) == 0
        whole, mine = self._gathered(batches)
        loss = Loss(clip_ratio_low=self.epsilon_low, clip_ratio_high=self.epsilon_high)
        generator = torch_generator(self.args.seed, "selection", self.state.global_step)
        assert whole.rollout_log_prob_BT is not None
        choice = choose(whole.rollout_log_prob_BT, whole, loss, self.controls, generator)
        if on_policy:
            choice = choice.without_idle(self.controls)
        for key, value in choice.metrics(whole.mask_BT).items():
            self._metrics["train"][key].append(value)
        start = mine.start
        for part, batch in zip(parts, batches, strict=True):
            width = batch.mask_BT.shape[1]
            rows = slice(start, start + len(batch))
            part[_CHOSEN] = choice.map(lambda t, rows=rows, width=width: t[rows, :width])  # type: ignore[misc]
            start += len(batch)

    def _log_prob(self, part: Mapping[str, Any]) -> Tensor:
        """Of the policy as it is now, shape [B, T]."""
        ids = torch.cat([part["prompt_ids"], part["completion_ids"]], dim=1)
        attention = torch.cat([part["prompt_mask"], part["completion_mask"]], dim=1)
        images = {name: part[name] for name in _IMAGES if name in part}
        found = super()._get_per_token_logps_and_entropies(
            self.model, ids, attention, part["completion_ids"].size(1), **images
        )
        return found[0].detach()

    def _as_batch(self, part: Mapping[str, Any], log_prob_BT: Tensor) -> Batch:
        """A micro-batch as ours; ``rollout_log_prob_BT`` holds the current policy's log-probs."""
        mask_BT = _mask(part).float()
        advantages = part["advantages"]
        old = part.get("old_per_token_logps")
        return Batch(
            prompt_BP=part["prompt_ids"],
            prompt_mask_BP=part["prompt_mask"] > 0,
            response_BT=part["completion_ids"],
            mask_BT=mask_BT,
            finished_B=mask_BT.sum(-1) > 0,
            group_B=torch.zeros(len(mask_BT), dtype=torch.int64, device=mask_BT.device),
            log_prob_BT=(log_prob_BT if old is None else old).detach().float(),
            rollout_log_prob_BT=log_prob_BT.detach().float(),
            advantages_BT=(advantages[:, None] if advantages.dim() == 1 else advantages).expand_as(mask_BT)
            * mask_BT,
        )

    def _gathered(self, batches: list[Batch]) -> tuple[Batch, slice]:
        """The tokens of all micro-batches of all ranks, and which rows are this rank's."""
        width = max(batch.mask_BT.shape[1] for batch in batches)
        names = ("mask_BT", "log_prob_BT", "rollout_log_prob_BT", "advantages_BT")
        local = {
            name: torch.cat([_wide(getattr(batch, name), width) for batch in batches]).contiguous()
            for name in names
        }
        rows = len(local["mask_BT"])
        if self.accelerator.num_processes > 1:
            local = {name: self.accelerator.pad_across_processes(t, dim=1) for name, t in local.items()}
            local = {name: self.accelerator.gather(t) for name, t in local.items()}
        start = self.accelerator.process_index * rows
        first = batches[0]
        whole = replace(first, **local, prompt_BP=first.prompt_BP[:0], response_BT=first.response_BT[:0])
        return whole, slice(start, start + rows)

    # The loss ------------------------------------------------------------------------------------

    def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> Any:
        found = super()._get_per_token_logps_and_entropies(*args, **kwargs)
        self._captured = found[0]
        return found

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        training = self.model.training
        choice: TokenChoice = inputs.get(_CHOSEN, TokenChoice()) if training else TokenChoice()
        detached_BT, penalised_BT = choice.get("clip_cov"), choice.get("kl_cov")
        given = {key: value for key, value in inputs.items() if key != _CHOSEN}
        if detached_BT is not None:
            # TRL takes advantages per token on purpose. At 0 a token has no gradient; its value is put back below.
            advantages = given["advantages"]
            per_token = (advantages[:, None] if advantages.dim() == 1 else advantages).expand(
                detached_BT.shape
            )
            given["advantages"] = torch.where(detached_BT, torch.zeros_like(per_token), per_token)
        self._captured = None
        loss: Tensor = super()._compute_loss(model, given)
        log_prob_BT = self._captured
        if not training or log_prob_BT is None:
            return loss
        batch = self._as_batch(inputs, log_prob_BT)
        self._watch(batch)
        old_BT = inputs.get("old_per_token_logps")
        old_BT = log_prob_BT.detach() if old_BT is None else old_BT
        if detached_BT is not None:
            assert batch.advantages_BT is not None
            value_BT = -batch.advantages_BT * losses.log_ratio(log_prob_BT.detach(), old_BT).exp()
            loss = loss + self._reduced(
                torch.where(detached_BT, value_BT, torch.zeros_like(value_BT)), inputs
            )
        if penalised_BT is not None:
            kl = self.controls.kl_cov
            pull_BT = losses.kl_penalty(old_BT, log_prob_BT, kl.penalty)
            chosen_BT = torch.where(penalised_BT, pull_BT, torch.zeros_like(pull_BT))
            loss = loss + kl.coef * self._reduced(chosen_BT, inputs)
        return loss

    def _reduced(self, per_token_BT: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        """A loss per token as TRL's own of this ``loss_type`` is reduced, in training."""
        mask_BT = _mask(inputs)
        summed_B, length_B = (per_token_BT * mask_BT).sum(-1), mask_BT.sum(-1)
        steps = self.current_gradient_accumulation_steps
        if self.loss_type == "grpo":
            return (summed_B / length_B.clamp(min=1.0)).mean() / steps
        if self.loss_type == "bnpo":
            return summed_B.sum() / length_B.sum().clamp(min=1.0) / steps
        if self.loss_type == "dr_grpo":
            return summed_B.sum() / (len(mask_BT) * self.max_completion_length) / steps
        tokens = inputs["num_items_in_batch"].clamp(min=1.0) / self.accelerator.num_processes
        return summed_B.sum() / (tokens * steps / self.args.steps_per_generation)

    # What is logged ------------------------------------------------------------------------------

    @torch.no_grad()
    def _watch(self, batch: Batch) -> None:
        """Collect the micro-batches of a step; with its last one, log the covariance over all of its tokens."""
        self._seen.append(batch)
        if not self.accelerator.sync_gradients:
            return
        whole, _ = self._gathered(self._seen)
        self._seen = []
        mask_BT = whole.mask_BT.double()
        assert whole.rollout_log_prob_BT is not None and whole.advantages_BT is not None
        covariance_BT = token_covariance(
            whole.rollout_log_prob_BT.double(), whole.advantages_BT.double(), mask_BT
        )
        self._metrics["train"]["cov/mean"].append(token_mean(covariance_BT, mask_BT))
        for share, value in top_share_means(covariance_BT, mask_BT, self.covariance_shares).items():
            self._metrics["train"][f"cov/top_{share:g}"].append(value)


def _mask(part: Mapping[str, Any]) -> Tensor:
    mask: Tensor = part["completion_mask"]
    return mask * part["tool_mask"] if "tool_mask" in part else mask


def _wide(values_BT: Tensor, width: int) -> Tensor:
    return torch.nn.functional.pad(values_BT, (0, width - values_BT.shape[1]))
