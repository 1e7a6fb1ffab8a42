"""What each of two ranks does for tests/test_distributed.py; started with RANK, WORLD_SIZE and a folder."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import torch

from entlaw.errors import CheckpointError, UsageError
from entlaw.tasks.arithmetic import Arithmetic
from entlaw.train import critic as value
from entlaw.train import prime, runner
from entlaw.train.distributed import World, joined
from entlaw.train.distributed_model import ranked, shard_module, sharded, whole_parameters
from entlaw.train.rollout import Sampling
from entlaw.train.rollout.hf import HFEngine
from entlaw.train.schema import (
    Algorithm,
    Checkpoint,
    ClipCov,
    Controls,
    KlCov,
    Loss,
    Policy,
    Recipe,
    Rollout,
    RunSettings,
    Validation,
    Warmup,
)
from entlaw.train.update import backward, clip_gradient
from tests.train.common import tiny_batch, tiny_policy

CPU = torch.device("cpu")
CONTROLS = {
    "plain": Controls(),
    "clip_cov": Controls(clip_cov=ClipCov(ratio=0.1, lower=-0.5, upper=5.0)),
    "kl_cov": Controls(kl_cov=KlCov(ratio=0.1, coef=1.0)),
    "kl": Controls(kl_coef=0.3, kl_kind="k3"),
    "80/20": Controls(high_entropy_share=0.2),
}
SMALL = Recipe(
    run=RunSettings(steps=3, device="cpu"),
    policy=Policy(size="xs", dtype="float64"),
    warmup=Warmup(clean_steps=30, noisy_steps=5, batch_size=32),
    rollout=Rollout(prompts=5, group_size=4),
    loss=Loss(mini_batches=2),
    algorithm=Algorithm(filter_groups=False),
    validation=Validation(every=3, problems=7, samples=2),
    checkpoint=Checkpoint(every=3),
)
RUNS = {
    "grpo": replace(
        SMALL,
        loss=Loss(mini_batches=2, micro_batch=3),
        controls=Controls(
            entropy_coeff=0.01,
            kl_coef=0.05,
            clip_cov=ClipCov(ratio=0.05, lower=0.05),
            kl_cov=KlCov(ratio=0.05),
        ),
    ),
    "ppo": replace(SMALL, algorithm=Algorithm(name="ppo")),
    "prime": replace(SMALL, algorithm=Algorithm(name="prime", filter_groups=False)),
}


def collectives(world: World) -> dict[str, bool]:
    """Every exchange against what it must give."""
    rank = world.rank
    found: dict[str, bool] = {}
    for n in (0, 1, 2, 5, 8):
        rows = torch.arange(2 * n).reshape(n, 2)
        found[f"gather {n}"] = torch.equal(world.gather(rows[world.share(n)], world.shares(n)), rows)
        flags = torch.arange(n) % 2 == 0
        found[f"gather bool {n}"] = torch.equal(world.gather(flags[world.share(n)], world.shares(n)), flags)
    found["same"] = world.same(torch.tensor([float(rank)])).item() == 0 and not world.same(
        torch.tensor(rank > 0)
    )
    found["total"] = world.total({"a": rank + 1.0}) == {"a": 3.0}
    found["of_first"] = world.of_first("first" if rank == 0 else "second") == "first"
    found["first_does"] = world.first_does(lambda: os.getpid()) == world.each(os.getpid())[0]
    found["largest"] = world.largest(rank * 7) == 7
    for failing in (0, 1):
        try:
            with world.together():
                if rank == failing:
                    raise UsageError("this cannot be", where="here", why="so", hint="try that")
        except UsageError as error:
            found[f"error of rank {failing}"] = (error.what, error.where, error.why, error.hint) == (
                "this cannot be",
                "here",
                "so",
                "try that",
            )
    try:
        with world.together():
            if rank == 1:
                raise ZeroDivisionError("oh")
    except ZeroDivisionError:
        found["foreign error"] = rank == 1
    except Exception as error:
        found["foreign error"] = rank == 0 and "rank 1" in str(error) and "oh" in str(error)
    return found


def gradients(model: torch.nn.Module) -> torch.Tensor:
    """All gradients, gathered, as one vector."""
    parts = []
    for p in model.parameters():
        grad = torch.zeros_like(p) if p.grad is None else p.grad
        parts.append((grad.full_tensor() if hasattr(grad, "full_tensor") else grad).detach().flatten())
    return torch.cat(parts)


def updates(world: World) -> dict[str, list[float]]:
    """[largest difference of a gradient, of a metric, largest gradient] of two ranks against one, float64."""
    alone, found = tiny_policy(), {}
    batch = tiny_batch(alone, groups=5)
    spread = sharded(tiny_policy(), world, CPU)
    for name, controls in CONTROLS.items():
        for micro_batch in (0, 3):
            got = []
            for policy, ranks in ((alone, World()), (spread, world)):
                policy.model.zero_grad()
                metrics = backward(
                    policy,
                    batch,
                    Loss(micro_batch=micro_batch),
                    controls,
                    temperature=1.0,
                    entropy_coeff=0.01,
                    norm_length=6.0,
                    generator=torch.Generator().manual_seed(3),
                    world=ranks,
                )
                metrics["norm"] = float(clip_gradient(policy.model, 0.0))
                got.append((gradients(policy.model), metrics))
            (one, a), (two, b) = got
            assert a.keys() == b.keys()
            found[f"{name}, micro-batch {micro_batch}"] = [
                float((one - two).abs().max()),
                max(abs(a[k] - b[k]) for k in a),
                float(one.abs().max()),
            ]
    found |= helpers(world)
    return found


def helpers(world: World) -> dict[str, list[float]]:
    """The same for PPO's critic and PRIME's reward model, one optimiser step each."""
    found = {}
    base = tiny_policy()
    batch = tiny_batch(base, groups=5)
    noise = torch.randn(batch.mask_BT.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    batch = replace(batch, value_BT=noise * 0.1 * batch.mask_BT, return_BT=noise.flip(0) * batch.mask_BT)
    weights, numbers = [], []
    for ranks in (World(), world):
        critic = value.Critic(base)
        if ranks.many:
            shard_module(critic, critic.body, ranks, CPU, autocast=False)
        optimizer = torch.optim.AdamW([p for p in critic.parameters() if p.requires_grad], lr=1e-2)
        numbers += [value.update(critic, optimizer, batch, 0.5, 3, 1.0, ranks) for _ in range(2)]
        weights.append(dict(whole_parameters(critic)))
    found["critic"] = _difference(weights, numbers, 2)
    weights, numbers = [], []
    for ranks in (World(), world):
        model = sharded(base.trainable_copy(), ranks, CPU)
        optimizer = torch.optim.AdamW(model.model.parameters(), lr=1e-2)
        numbers += [prime.update(model, optimizer, batch, 0.5, 1.0, 3, 1.0, ranks) for _ in range(2)]
        weights.append(dict(whole_parameters(model.model)))
    found["prime"] = _difference(weights, numbers, 2)
    return found


def _difference(weights, numbers, n) -> list[float]:
    one, two = weights
    gap = max(float((one[k] - two[k]).abs().max()) for k in one)
    return [gap, max(abs(a[k] - b[k]) for a, b in zip(numbers[:n], numbers[n:], strict=True) for k in a), 1.0]


def rollouts(world: World) -> dict[str, bool]:
    """Responses of two ranks are those of one, with fewer prompts than ranks too, and after the weights moved."""
    found = {}
    alone, spread = tiny_policy(), sharded(tiny_policy(), world, CPU)
    engine = ranked(HFEngine(spread), spread, world)
    for prompts in (1, 2, 5):
        asked = [p.prompt for p in Arithmetic().training(0, 0, prompts)]
        for moved in (False, True):
            if moved:
                with torch.no_grad():
                    for model in (alone.model, spread.model):
                        for p in model.parameters():
                            p.mul_(1.01)
                engine.rest()
                engine.sync()
            one = HFEngine(alone).generate(asked, Sampling(3, 6), [1])
            two = engine.generate(asked, Sampling(3, 6), [1])
            for name in ("prompt_BP", "prompt_mask_BP", "response_BT", "mask_BT", "finished_B", "group_B"):
                found[f"{prompts} prompts, moved {moved}, {name}"] = torch.equal(
                    getattr(one, name), getattr(two, name)
                )
    return found


def full_disk(world: World, folder: Path) -> bool:
    """A checkpoint that one rank cannot write ends the run on both, with the last one intact."""
    import torch.distributed.checkpoint as dcp

    real, calls = dcp.save, [0]

    def save(*arguments, **more):
        calls[0] += 1
        if calls[0] > 1 and world.rank == 1:
            raise OSError(28, "No space left on device")
        return real(*arguments, **more)

    dcp.save = save
    recipe = replace(SMALL, checkpoint=Checkpoint(every=1), validation=Validation(every=0))
    try:
        runner.train(recipe, folder)
    except CheckpointError:
        return True
    except Exception as error:
        print(type(error), error, file=sys.stderr)
        return False
    finally:
        dcp.save = real
    return False


def everything(out: Path) -> None:
    """One process group for all that does not end it."""
    with joined("cpu") as world:
        found = {"collectives": collectives(world), "updates": updates(world), "rollouts": rollouts(world)}
        for name, recipe in RUNS.items():
            runner.train(recipe, out / name)
        # On from a checkpoint of one rank.
        if (out / "from-one").is_dir():
            longer = replace(RUNS["ppo"], run=replace(RUNS["ppo"].run, steps=6))
            runner.train(longer, out / "from-one", resume=True)
        world.each(found)
        (out / f"found-{world.rank}.json").write_text(json.dumps(found))


def dying(out: Path) -> None:
    """The second rank is killed in the middle of the second step."""
    from entlaw.train import loop

    real = loop.Trainer.update_policy

    def update_policy(self, batch, t, coeff):
        if t == 2 and self.world.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(self, batch, t, coeff)

    loop.Trainer.update_policy = update_policy
    recipe = replace(SMALL, checkpoint=Checkpoint(every=1), validation=Validation(every=0))
    try:
        runner.train(recipe, out / "dying")
    except Exception as error:
        (out / "dying.json").write_text(json.dumps({"type": type(error).__name__, "what": str(error)}))
        os._exit(3)


if __name__ == "__main__":
    torch.set_num_threads(1)
    {"everything": everything, "dying": dying}[sys.argv[1]](Path(sys.argv[2]))
