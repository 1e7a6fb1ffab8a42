"""verl's synchronous trainer with whole-batch Clip-Cov and KL-Cov, and our covariances in its log.

Registered as ``entlaw_sync``; chosen by ``trainer.v1.trainer_mode=entlaw_sync``. Between verl's advantages and its
update, the driver holds log-probs, advantages and masks of the whole rollout, and knows which responses will make up
which optimiser step: there the tokens are chosen, and the choice travels in ``rollout_is_weights``
(:mod:`entlaw.engines.whole_batch`), which verl hands to every policy loss.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
import transfer_queue as tq
from omegaconf import DictConfig, OmegaConf, open_dict
from tensordict import TensorDict
from torch import Tensor
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1.trainer_base import register_trainer
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync
from verl.workers.utils.padding import response_from_nested, response_to_nested

from entlaw.engines.verl.names import TRAINER
from entlaw.engines.verl.rollout_batch import all_record, kept_record, settings, to_batch, uniform_rows
from entlaw.engines.verl.watching import WatchedTrainer, watch_of
from entlaw.engines.whole_batch import choose_steps, step_rows
from entlaw.errors import UsageError
from entlaw.train.batch import Batch
from entlaw.train.measure import mean_over_updates
from entlaw.train.randomness import torch_generator

_FIELDS = [
    "uid",
    "data_source",
    "response_mask",
    "rm_scores",
    "old_log_probs",
    "entropy",
    "advantages",
    "ref_log_prob",
    "rollout_is_weights",
]


@register_trainer(TRAINER)
class WholeBatchTrainer(WatchedTrainer, PPOTrainerSync):
    """See the module. Settings of its own are entries of ``trainer.v1.entlaw`` (see :class:`WholeBatch`); its ``watch``
    is the table of that name of a recipe (:mod:`entlaw.engines.verl.watching`)."""

    def __init__(self, config: DictConfig) -> None:
        v1 = config.trainer.v1
        own = OmegaConf.to_container(v1.get("entlaw", OmegaConf.create({})), resolve=True)
        assert isinstance(own, dict)
        self.watch = watch_of(own.pop("watch", None) or {})
        self.whole_batch = settings(config.actor_rollout_ref.actor, {str(k): v for k, v in own.items()})
        correction = config.algorithm.get("rollout_correction", None)
        if correction is not None and correction.get("bypass_mode", False):
            raise UsageError(
                "bypass mode replaces the chosen policy loss by one of verl's",
                hint="set algorithm.rollout_correction.bypass_mode=false",
            )
        with open_dict(config):
            # verl compares the mode with "sync" in a dozen places, and takes any other name for an asynchronous one.
            v1.trainer_mode = "sync"
            if self._stepwise:
                config.actor_rollout_ref.actor.ppo_epochs = 1  # the epochs are gone through here
        super().__init__(config)

    @property
    def _stepwise(self) -> bool:
        return self.whole_batch.chooses and self.whole_batch.choose_from == "current"

    # What verl calls -----------------------------------------------------------------------------

    def _compute_advantage(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        temperature = float(self.config.actor_rollout_ref.rollout.temperature)
        self._nothing_to_learn = False
        if self.whole_batch.drop_uniform_groups:
            self._drop_uniform_groups(batch, metrics, temperature)
        batch = super()._compute_advantage(batch, metrics)
        rollout, levels, nested_mask = self._rollout(batch)
        if not self.whole_batch.drop_uniform_groups:
            metrics.update(all_record(rollout, temperature))
        metrics.update(kept_record(rollout, levels, self.whole_batch.shares, temperature))
        self._rollout_now = rollout
        if self.whole_batch.chooses and not self._stepwise and not self._nothing_to_learn:
            carried_BT, shares = choose_steps(
                rollout,
                self._steps(len(batch)),
                self.whole_batch.loss,
                self.whole_batch.controls,
                self._generator(),
                first_is_on_policy=self.whole_batch.loss.epochs == 1,
            )
            metrics.update(shares)
            _put(batch, rollout_is_weights=response_to_nested(carried_BT, nested_mask))
        return batch

    def _update_actor(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        if self._nothing_to_learn:
            # No prompt had responses of more than one reward: a mean over the tokens that are left is one over none.
            metrics["actor/skipped"] = 1.0
            return batch
        if not self._stepwise:
            return super()._update_actor(batch, metrics)
        self._update_stepwise(batch, metrics)
        return batch

    def _validate(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        found: dict[str, Any] = super()._validate(*args, **kwargs)
        accuracy = mean_accuracy(found, getattr(getattr(self, "val_dataset", None), "dataframe", None))
        return found if accuracy is None else found | {"val/accuracy": accuracy}

    # What is done there --------------------------------------------------------------------------

    def _drop_uniform_groups(self, batch: KVBatchMeta, metrics: dict[str, Any], temperature: float) -> None:
        rollout, _, nested_mask = self._rollout(batch)
        metrics.update(all_record(rollout, temperature))
        uniform_B = uniform_rows(rollout) & (rollout.mask_BT.sum(-1) > 0)
        metrics["train/groups_dropped_share"] = float(uniform_B.double().sum()) / max(
            float((rollout.mask_BT.sum(-1) > 0).sum()), 1.0
        )
        self._nothing_to_learn = bool(uniform_B[rollout.mask_BT.sum(-1) > 0].all())
        if self._nothing_to_learn:
            return  # verl does not take a rollout without a token
        rows = [
            torch.zeros_like(row) if drop else row
            for row, drop in zip(nested_mask.unbind(), uniform_B.tolist(), strict=True)
        ]
        mask = torch.nested.as_nested_tensor(rows, layout=torch.jagged)
        # Two names of one thing in verl: the first is of its advantages, the second of the count of a step's tokens.
        _put(batch, response_mask=mask, loss_mask=mask)

    def _rollout(self, batch: KVBatchMeta) -> tuple[Batch, list[str], Tensor]:
        """The rollout, each response's data source, and verl's mask."""
        data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=_FIELDS)
        nested_mask = data["response_mask"]
        uid = data.pop("uid").tolist()
        sources = [""] * len(uid)
        if "data_source" in data.keys():  # noqa: SIM118
            sources = [str(source) for source in data.pop("data_source").tolist()]
        if len(set(sources)) == 1:
            sources = [""] * len(uid)  # the levels of one data set are the whole
        return to_batch(data.to_padded_tensor(), uid), sources, nested_mask

    def _steps(self, n_rows: int) -> list[Tensor]:
        """Which rows make up each optimiser step: verl cuts them among ranks, then each rank into mini-batches."""
        actor = self.config.actor_rollout_ref.actor
        ranks = max(self.actor_rollout_wg._dispatch_info["actor"]) + 1  # asked for by _balance_batch before
        return step_rows(n_rows, ranks, actor.ppo_mini_batch_size * self.config.actor_rollout_ref.rollout.n)

    def _generator(self) -> torch.Generator:
        return torch_generator(self.whole_batch.seed, "selection", self.global_steps, self.local_trigger_step)

    def _update_stepwise(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> None:
        """One optimiser step after the other, each with a choice made from the policy as it is then."""
        rollout, generator, logged = self._rollout_now, self._generator(), []
        for epoch in range(self.whole_batch.loss.epochs):
            for number, rows in enumerate(self._steps(len(batch))):
                first = epoch == 0 and number == 0
                part = KVBatchMeta(
                    partition_id=batch.partition_id,
                    keys=[batch.keys[i] for i in rows],
                    tags=[batch.tags[i] for i in rows],
                    fields=batch.fields,
                    extra_info=copy.copy(batch.extra_info),
                )
                here = rollout.rows(rows)
                log_prob_BT = here.log_prob_BT if first else self._log_prob(part, here)
                carried_BT, shares = choose_steps(
                    here,
                    [torch.arange(len(rows))],
                    self.whole_batch.loss,
                    self.whole_batch.controls,
                    generator,
                    log_prob_BT=log_prob_BT,
                    first_is_on_policy=first,
                )
                mask = tq.kv_batch_get(
                    keys=part.keys, partition_id=part.partition_id, select_fields=["response_mask"]
                )["response_mask"]
                _put(part, rollout_is_weights=response_to_nested(carried_BT, mask))
                found: dict[str, Any] = {}
                super()._update_actor(part, found)
                logged.append(found | shares)
        metrics.update(mean_over_updates(logged))

    def _log_prob(self, part: KVBatchMeta, here: Batch) -> Tensor:
        """Of the policy as it is now, shape [B, T]."""
        part.extra_info.update(
            calculate_entropy=False,
            compute_loss=False,
            temperature=self.config.actor_rollout_ref.rollout.temperature,
        )
        self.actor_rollout_wg.compute_log_prob(part)
        data = tq.kv_batch_get(
            keys=part.keys, partition_id=part.partition_id, select_fields=["log_probs", "response_mask"]
        )
        nested = response_from_nested(data["log_probs"], data["response_mask"])
        padded_BT = nested.to_padded_tensor(0.0).float()
        return torch.nn.functional.pad(padded_BT, (0, here.mask_BT.shape[1] - padded_BT.shape[1]))


def _put(batch: KVBatchMeta, **fields: Tensor) -> None:
    """Fields of a batch's responses, written to verl's store, and named in the batch: workers fetch what is named."""
    tq.kv_batch_put(
        keys=batch.keys, partition_id=batch.partition_id, fields=TensorDict(fields, batch_size=len(batch))
    )
    if batch.fields is not None:
        batch.fields = list(dict.fromkeys([*batch.fields, *fields]))


def mean_accuracy(metrics: dict[str, Any], dataframe: Any) -> float | None:
    """Accuracy over all validation problems, from verl's means by data source and how many problems each has.

    None without a mean of ``acc`` for every source.
    """
    if dataframe is None or "data_source" not in dataframe.column_names:
        return None
    names, counts = np.unique(
        np.asarray(dataframe["data_source"], dtype=object).astype(str), return_counts=True
    )
    total = 0.0
    for name, count in zip(names, counts, strict=True):
        means = [v for k, v in metrics.items() if k.startswith(f"val-core/{name}/acc/mean@")]
        if len(means) != 1:
            return None
        total += float(means[0]) * int(count)
    return total / float(counts.sum())
